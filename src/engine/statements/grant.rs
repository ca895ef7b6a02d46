//! `GRANT` and `REVOKE`: what roles may do with what there is, and which roles are in which.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::definitions::resolve;
use crate::engine::fitted::must_get_model;
use crate::engine::rights::{Rights, denied, spoken};
use crate::engine::statement::{self, Own, at_words, folded, model_name, syntax, take_words};
use crate::engine::statements::create_role::{must_admit_to, names};
use crate::engine::statements::drop_role::role_named;
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::models::ModelName;
use crate::storage::{Grant as Granted, Membership, ModelRow, Object, Privilege, Relation, RelationType, RoleId};

pub struct Grammar;
pub struct RevokeGrammar;

/// Either statement: what is given, or taken.
#[derive(Debug)]
struct Grant {
    what: What,
    roles: Vec<String>,
    /// WITH GRANT OPTION, WITH ADMIN OPTION; or GRANT OPTION FOR, ADMIN OPTION FOR.
    option: bool,
    revoke: bool,
}

#[derive(Debug)]
enum What {
    Roles(Vec<String>),
    Privileges { wanted: Vec<Wanted>, on: On },
}

/// A privilege as it is written, and the columns it is about.
#[derive(Debug)]
struct Wanted {
    /// `None`: all that there are of such an object.
    privilege: Option<String>,
    columns: Vec<String>,
}

#[derive(Debug)]
enum On {
    Relations(Vec<TableReference>),
    RelationsIn(Vec<String>),
    Models(Vec<ModelName>),
    ModelsIn(Vec<String>),
    Schemas(Vec<String>),
    Databases(Vec<String>),
    /// Of these there are none.
    Nothing,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "GRANT"
    }

    fn doc(&self) -> &'static str {
        "Lets roles do something: read or write tables and views, or some columns of a table; ask a model; use a schema's \
         names or make something in it. Or makes roles members of others. Who owns something needs no grant, and may grant \
         it; superusers need none at all. To whom a model is granted may ask it without being allowed to read what it was \
         trained on. To reach anything in a schema a role needs USAGE of the schema; of public everybody has it."
    }

    fn syntax(&self) -> &'static str {
        "GRANT { SELECT [(column, …)] | INSERT | UPDATE | DELETE | TRUNCATE | ALL } [, …]\n\
         \x20 ON { [TABLE] name [, …] | ALL TABLES IN SCHEMA schema [, …] } TO role [, …] [WITH GRANT OPTION]\n\
         GRANT { USAGE | ALL } ON { MODEL name [, …] | ALL MODELS IN SCHEMA schema [, …] } TO role [, …] [WITH GRANT OPTION]\n\
         GRANT { USAGE | CREATE | ALL } [, …] ON SCHEMA schema [, …] TO role [, …] [WITH GRANT OPTION]\n\
         GRANT { CREATE | CONNECT | TEMPORARY | ALL } [, …] ON DATABASE name TO role [, …]\n\
         GRANT role [, …] TO role [, …] [WITH ADMIN OPTION]\n\
         role: name | PUBLIC | CURRENT_USER | SESSION_USER"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["GRANT"]) {
            return Ok(None);
        }
        let what = what(parser)?;
        expect(parser, "TO")?;
        let roles = grantees(parser)?;
        let option =
            take_words(parser, &["WITH", "GRANT", "OPTION"]) || take_words(parser, &["WITH", "ADMIN", "OPTION"]);
        granted_by(parser)?;
        Ok(Some(Arc::new(Grant { what, roles, option, revoke: false })))
    }
}

impl statement::Grammar for RevokeGrammar {
    fn name(&self) -> &'static str {
        "REVOKE"
    }

    fn doc(&self) -> &'static str {
        "Takes back what GRANT gave. What the same role was given by other names, as PUBLIC or through a role that it is in, \
         stays. Queries that run go on; the next one is refused."
    }

    fn syntax(&self) -> &'static str {
        "REVOKE [GRANT OPTION FOR] privilege [, …] ON object FROM role [, …] [CASCADE | RESTRICT]\n\
         REVOKE [ADMIN OPTION FOR] role [, …] FROM role [, …] [CASCADE | RESTRICT]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["REVOKE"]) {
            return Ok(None);
        }
        let option = take_words(parser, &["GRANT", "OPTION", "FOR"]) || take_words(parser, &["ADMIN", "OPTION", "FOR"]);
        let what = what(parser)?;
        expect(parser, "FROM")?;
        let roles = grantees(parser)?;
        granted_by(parser)?;
        let _ = take_words(parser, &["CASCADE"]) || take_words(parser, &["RESTRICT"]);
        Ok(Some(Arc::new(Grant { what, roles, option, revoke: true })))
    }
}

/// Privileges on something, or roles.
fn what(parser: &mut Parser) -> Result<What> {
    let mut words = Vec::new();
    loop {
        let word = parser.parse_identifier().map_err(syntax)?;
        let all = word.quote_style.is_none() && word.value.eq_ignore_ascii_case("all");
        if all {
            let _ = take_words(parser, &["PRIVILEGES"]);
        }
        let columns = match parser.peek_token().token {
            Token::LParen => {
                parser.parse_parenthesized_column_list(datafusion::sql::sqlparser::parser::IsOptional::Mandatory, false)
            }
            _ => Ok(Vec::new()),
        };
        let columns: Vec<String> = columns.map_err(syntax)?.iter().map(folded).collect();
        words.push((folded(&word), all, columns));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    if !take_words(parser, &["ON"]) {
        return Ok(What::Roles(words.into_iter().map(|(word, ..)| word).collect()));
    }
    let wanted = words.into_iter().map(|(word, all, columns)| Wanted { privilege: (!all).then_some(word), columns });
    Ok(What::Privileges { wanted: wanted.collect(), on: on(parser)? })
}

fn on(parser: &mut Parser) -> Result<On> {
    if take_words(parser, &["ALL", "TABLES", "IN", "SCHEMA"]) {
        Ok(On::RelationsIn(names(parser)?))
    } else if take_words(parser, &["ALL", "MODELS", "IN", "SCHEMA"]) {
        Ok(On::ModelsIn(names(parser)?))
    } else if take_words(parser, &["ALL", "SEQUENCES", "IN", "SCHEMA"])
        || take_words(parser, &["ALL", "FUNCTIONS", "IN", "SCHEMA"])
    {
        names(parser)?;
        Ok(On::Nothing)
    } else if take_words(parser, &["SCHEMA"]) {
        Ok(On::Schemas(names(parser)?))
    } else if take_words(parser, &["DATABASE"]) {
        Ok(On::Databases(names(parser)?))
    } else if take_words(parser, &["MODEL"]) {
        let mut models = vec![model_name(parser)?];
        while parser.consume_token(&Token::Comma) {
            models.push(model_name(parser)?);
        }
        Ok(On::Models(models))
    } else if let Some(kind) =
        ["FUNCTION", "SEQUENCE", "TYPE", "LANGUAGE"].iter().find(|kind| at_words(parser, &[kind]))
    {
        Err(Error::unsupported(format!("GRANT ON {kind} is not supported"))
            .hint("rights are about schemas, tables, views and models"))
    } else {
        let _ = take_words(parser, &["TABLE"]);
        let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false)).map_err(syntax)?;
        Ok(On::Relations(names.iter().map(table_reference).collect::<Result<_>>()?))
    }
}

/// A table's name as it is looked up: with its schema where one is given.
pub(super) fn table_reference(name: &ObjectName) -> Result<TableReference> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
    match <[String; 1]>::try_from(parts) {
        Ok([name]) => Ok(TableReference::bare(name)),
        Err(parts) => match <[String; 2]>::try_from(parts) {
            Ok([schema, name]) => Ok(TableReference::partial(schema, name)),
            Err(_) => Err(Error::new(Kind::Syntax, format!("\"{name}\" is not the name of a table"))
                .hint("write name or schema.name")),
        },
    }
}

fn grantees(parser: &mut Parser) -> Result<Vec<String>> {
    let _ = take_words(parser, &["GROUP"]);
    names(parser)
}

fn granted_by(parser: &mut Parser) -> Result<()> {
    if take_words(parser, &["GRANTED", "BY"]) {
        parser.parse_identifier().map_err(syntax)?;
    }
    Ok(())
}

fn expect(parser: &mut Parser, word: &str) -> Result<()> {
    match take_words(parser, &[word]) {
        true => Ok(()),
        false => parser.expected(word, parser.peek_token()).map_err(syntax),
    }
}

/// As the audit log tells it.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| names.join(", ");
        match self {
            What::Roles(roles) => f.write_str(&list(roles)),
            What::Privileges { wanted, on } => {
                let wanted: Vec<String> = wanted.iter().map(Wanted::to_string).collect();
                write!(f, "{} ON ", list(&wanted))?;
                match on {
                    On::Relations(names) => {
                        f.write_str(&list(&names.iter().map(ToString::to_string).collect::<Vec<_>>()))
                    }
                    On::RelationsIn(schemas) => write!(f, "ALL TABLES IN SCHEMA {}", list(schemas)),
                    On::Models(names) => {
                        write!(f, "MODEL {}", list(&names.iter().map(ToString::to_string).collect::<Vec<_>>()))
                    }
                    On::ModelsIn(schemas) => write!(f, "ALL MODELS IN SCHEMA {}", list(schemas)),
                    On::Schemas(names) => write!(f, "SCHEMA {}", list(names)),
                    On::Databases(names) => write!(f, "DATABASE {}", list(names)),
                    On::Nothing => f.write_str("nothing"),
                }
            }
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.privilege.as_deref().unwrap_or("all").to_uppercase())?;
        match self.columns.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.columns.join(", ")),
        }
    }
}

#[async_trait]
impl Own for Grant {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let (store, rights) = (&session.engine.store, session.rights()?);
        let (verb, tag) = match (self.revoke, &self.what) {
            (false, What::Roles(_)) => ("GRANT", "GRANT ROLE"),
            (true, What::Roles(_)) => ("REVOKE", "REVOKE ROLE"),
            (false, _) => ("GRANT", "GRANT"),
            (true, _) => ("REVOKE", "REVOKE"),
        };
        match &self.what {
            What::Roles(roles) => {
                let memberships = self.memberships(session, &rights, roles)?;
                match self.revoke {
                    true => store.remove_members(&memberships, self.option)?,
                    false => store.add_members(&memberships)?,
                }
            }
            What::Privileges { wanted, on } => {
                let mut grants = Vec::new();
                for target in targets(session, &rights, on)? {
                    self.grants(session, &rights, wanted, &target, &mut grants)?;
                }
                match self.revoke {
                    true => store.revoke(&grants, self.option)?,
                    false => store.grant(&grants)?,
                }
            }
        }
        session.audit(
            verb,
            &format!("{:?} {} {}", self.what, if self.revoke { "from" } else { "to" }, self.roles.join(", ")),
        );
        Ok(Answer::Done(tag.to_owned()))
    }
}

impl Grant {
    fn memberships(&self, session: &Session, rights: &Rights, roles: &[String]) -> Result<Vec<Membership>> {
        let mut memberships = Vec::new();
        for role in roles {
            let role = rights.access().must_find(role)?.id;
            must_admit_to(rights, role)?;
            for member in &self.roles {
                let member = role_named(session, rights, member)?.id;
                memberships.push(Membership { role, member, admin: self.option });
            }
        }
        Ok(memberships)
    }

    /// All that the statement says of one object.
    fn grants(
        &self,
        session: &Session,
        rights: &Rights,
        wanted: &[Wanted],
        target: &Target,
        grants: &mut Vec<Granted>,
    ) -> Result<()> {
        let mut grantees = Vec::new();
        for role in &self.roles {
            grantees.push(match role.as_str() {
                "public" => RoleId::PUBLIC,
                role => role_named(session, rights, role)?.id,
            });
        }
        for wanted in wanted {
            let columns = target.columns(wanted)?;
            for privilege in target.privileges(wanted)? {
                if !rights.may_grant(target.object, target.owner, privilege) {
                    return Err(denied(target.kind, &target.name));
                }
                for (column, grantee) in columns.iter().flat_map(|column| grantees.iter().map(move |to| (column, *to)))
                {
                    let (object, grantable) = (target.object, self.option);
                    grants.push(Granted { object, column: column.clone(), grantee, privilege, grantable });
                }
            }
        }
        Ok(())
    }
}

/// Something that rights are about.
struct Target {
    object: Object,
    owner: RoleId,
    /// How it is called: table, model …
    kind: &'static str,
    name: String,
    /// The privileges that there are of it.
    all: &'static [Privilege],
    columns: Vec<String>,
}

impl Target {
    fn privileges(&self, wanted: &Wanted) -> Result<Vec<Privilege>> {
        let all = if wanted.columns.is_empty() { self.all } else { Privilege::ON_COLUMNS };
        let Some(name) = &wanted.privilege else { return Ok(all.to_vec()) };
        let Some(privilege) = Privilege::parse(name) else {
            return Err(Error::new(Kind::Syntax, format!("unrecognized privilege type \"{name}\""))
                .suggest(name, all.iter().map(|privilege| privilege.name())));
        };
        match all.contains(&privilege) {
            true => Ok(vec![privilege]),
            false if wanted.columns.is_empty() => Err(Error::new(
                Kind::InvalidGrant,
                format!("invalid privilege type {} for {}", privilege.name(), self.kind),
            )),
            false => Err(Error::unsupported(format!("{} of single columns is not supported", privilege.name()))),
        }
    }

    /// `None`: the whole.
    fn columns(&self, wanted: &Wanted) -> Result<Vec<Option<String>>> {
        if wanted.columns.is_empty() {
            return Ok(vec![None]);
        }
        if self.kind != "table" {
            return Err(Error::unsupported(format!("columns of a {} cannot be granted", self.kind))
                .hint("make a view of these columns and grant that"));
        }
        for column in &wanted.columns {
            if !self.columns.contains(column) {
                let message = format!("column \"{column}\" of relation \"{}\" does not exist", self.name);
                let known = self.columns.iter().map(String::as_str);
                return Err(Error::new(Kind::UnknownColumn, message).suggest(column, known));
            }
        }
        Ok(wanted.columns.iter().cloned().map(Some).collect())
    }

    fn relation(relation: &Relation) -> Self {
        Self {
            object: Object::Relation(relation.id),
            owner: relation.owner,
            kind: spoken(relation),
            name: relation.name.clone(),
            all: Privilege::ON_RELATIONS,
            columns: relation.columns.fields().iter().map(|field| field.name().clone()).collect(),
        }
    }

    fn model(model: &ModelRow) -> Self {
        let object = Object::Model(model.id);
        let (kind, all) = ("model", Privilege::ON_MODELS);
        Self { object, owner: model.owner, kind, name: model.name.clone(), all, columns: Vec::new() }
    }
}

fn targets(session: &Session, rights: &Rights, on: &On) -> Result<Vec<Target>> {
    let store = &session.engine.store;
    let mut targets = Vec::new();
    match on {
        On::Relations(names) => {
            for name in names {
                targets.push(Target::relation(&must_get_relation(session, rights, name)?));
            }
        }
        On::RelationsIn(schemas) => {
            for schema in schemas {
                must_get_schema(session, schema)?;
                targets.extend(store.relations(schema)?.iter().map(Target::relation));
            }
        }
        On::Models(names) => {
            for name in names {
                rights.must_use_schema(&name.schema)?;
                targets.push(Target::model(&must_get_model(store, name)?));
            }
        }
        On::ModelsIn(schemas) => {
            for schema in schemas {
                must_get_schema(session, schema)?;
                targets.extend(store.models()?.iter().filter(|model| model.schema == *schema).map(Target::model));
            }
        }
        On::Schemas(names) => {
            for name in names {
                let (id, owner) = must_get_schema(session, name)?;
                let (kind, all) = ("schema", Privilege::ON_SCHEMAS);
                let object = Object::Schema(id);
                targets.push(Target { object, owner, kind, name: name.clone(), all, columns: Vec::new() });
            }
        }
        On::Databases(names) => {
            for name in names {
                if name != crate::engine::catalog::CATALOG {
                    return Err(Error::new(Kind::UnknownDatabase, format!("database \"{name}\" does not exist")));
                }
                let (kind, all, owner) = ("database", Privilege::ON_DATABASE, RoleId::FIRST);
                let object = Object::Database;
                targets.push(Target { object, owner, kind, name: name.clone(), all, columns: Vec::new() });
            }
        }
        On::Nothing => {}
    }
    Ok(targets)
}

fn must_get_schema(session: &Session, name: &str) -> Result<(i64, RoleId)> {
    let found = session.engine.store.schema_owner(name);
    found.ok_or_else(|| Error::new(Kind::UnknownSchema, format!("schema \"{name}\" does not exist")))
}

/// The relation of that name, or the error that suggests one near it.
pub(super) fn must_get_relation(session: &Session, rights: &Rights, name: &TableReference) -> Result<Relation> {
    let store = &session.engine.store;
    let name = resolve(session, name);
    rights.must_use_schema(&name.schema)?;
    if let Some(relation) = store.relation(&name.schema, &name.table)? {
        return Ok(relation);
    }
    let relations = store.relations(&name.schema)?;
    Err(Error::new(Kind::UnknownTable, format!("relation \"{}\" does not exist", name.table))
        .suggest(&name.table, relations.iter().map(|relation| relation.name.as_str())))
}

/// The table of that name; a view is refused.
pub(super) fn must_get_table(session: &Session, rights: &Rights, name: &TableReference) -> Result<Relation> {
    let relation = must_get_relation(session, rights, name)?;
    match relation.kind.of() {
        RelationType::Table => Ok(relation),
        RelationType::View => Err(Error::new(Kind::WrongObject, format!("\"{}\" is not a table", relation.name))),
    }
}
