//! `ALTER … OWNER TO` and `REASSIGN OWNED`: who owns what.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::fitted::must_get_model;
use crate::engine::rights::{Rights, spoken};
use crate::engine::statement::{self, Own, at_words, folded, model_name, syntax, take_words};
use crate::engine::statements::create_role::names;
use crate::engine::statements::drop_role::role_named;
use crate::engine::statements::grant::{must_get_relation, table_reference};
use crate::engine::{Answer, Run, Session, definitions};
use crate::error::{Error, Kind, Result};
use crate::models::ModelName;
use crate::storage::{Object, Role};

pub struct Grammar;
pub struct ReassignGrammar;

#[derive(Debug)]
struct AlterOwner {
    of: Of,
    owner: String,
    tag: &'static str,
}

#[derive(Debug)]
enum Of {
    Relation(TableReference),
    Schema(String),
    Model(ModelName),
}

#[derive(Debug)]
struct Reassign {
    from: Vec<String>,
    to: String,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "ALTER OWNER"
    }

    fn doc(&self) -> &'static str {
        "Gives a table, view, schema or model to another owner. For its owner, who must be a member of the new one, and for \
         superusers. A view reads with its owner's rights from then on, and a model its training query."
    }

    fn syntax(&self) -> &'static str {
        "ALTER { TABLE | VIEW | SCHEMA | MODEL } name OWNER TO { role | CURRENT_USER | SESSION_USER }"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let kinds =
            [("TABLE", "ALTER TABLE"), ("VIEW", "ALTER VIEW"), ("SCHEMA", "ALTER SCHEMA"), ("MODEL", "ALTER MODEL")];
        let Some((kind, tag)) = kinds.into_iter().find(|(kind, _)| at_words(parser, &["ALTER", kind])) else {
            return Ok(None);
        };
        // Only the words after the name tell this statement from others that alter the same.
        let parsed = parser.maybe_parse(|parser| {
            parser.next_token();
            parser.next_token();
            let name = parser.parse_object_name(false)?;
            match take_words(parser, &["OWNER", "TO"]) {
                true => Ok((name, parser.parse_identifier()?)),
                false => parser.expected("OWNER TO", parser.peek_token()),
            }
        });
        let Some((name, owner)) = parsed.map_err(syntax)? else { return Ok(None) };
        let of = match kind {
            "MODEL" => Of::Model(model_name(&mut statement::parser(&name.to_string())?.parser)?),
            "SCHEMA" => Of::Schema(name.0.first().and_then(|part| part.as_ident()).map(folded).unwrap_or_default()),
            _ => Of::Relation(table_reference(&name)?),
        };
        Ok(Some(Arc::new(AlterOwner { of, owner: folded(&owner), tag })))
    }
}

impl statement::Grammar for ReassignGrammar {
    fn name(&self) -> &'static str {
        "REASSIGN OWNED"
    }

    fn doc(&self) -> &'static str {
        "Gives all that roles own to another role, so that they can be dropped."
    }

    fn syntax(&self) -> &'static str {
        "REASSIGN OWNED BY role [, …] TO role"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["REASSIGN", "OWNED", "BY"]) {
            return Ok(None);
        }
        let from = names(parser)?;
        if !take_words(parser, &["TO"]) {
            return parser.expected("TO", parser.peek_token()).map_err(syntax);
        }
        Ok(Some(Arc::new(Reassign { from, to: folded(&parser.parse_identifier().map_err(syntax)?) })))
    }
}

#[async_trait]
impl Own for AlterOwner {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let (store, rights) = (&session.store(), session.rights()?);
        let (object, name) = match &self.of {
            Of::Relation(name) => {
                let relation = must_get_relation(session, &rights, name)?;
                rights.must_own(&relation)?;
                let wanted = self.tag.rsplit(' ').next().unwrap_or_default().to_lowercase();
                if spoken(&relation) != wanted {
                    return Err(Error::new(Kind::WrongObject, format!("\"{}\" is not a {wanted}", relation.name)));
                }
                (Object::Relation(relation.id), name.to_string())
            }
            Of::Schema(name) => {
                definitions::refuse_virtual(name)?;
                rights.must_own_schema(name)?;
                let (id, _) = store
                    .schema_owner(name)
                    .ok_or_else(|| Error::new(Kind::UnknownSchema, format!("schema \"{name}\" does not exist")))?;
                (Object::Schema(id), name.clone())
            }
            Of::Model(name) => {
                let model = must_get_model(store, name)?;
                rights.must_own_model(&model)?;
                (Object::Model(model.id), name.to_string())
            }
        };
        let owner = role_named(session, &rights, &self.owner)?;
        must_be_member(&rights, &owner)?;
        store.set_owner(&[object], owner.id)?;
        session.audit(self.tag, &format!("{name} OWNER TO {}", owner.name));
        Ok(Answer::Done(self.tag.to_owned()))
    }
}

#[async_trait]
impl Own for Reassign {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let (store, rights) = (&session.store(), session.rights()?);
        let to = role_named(session, &rights, &self.to)?;
        must_be_member(&rights, &to)?;
        let mut objects = Vec::new();
        for name in &self.from {
            let from = role_named(session, &rights, name)?;
            if !rights.owns(from.id) {
                return Err(Error::new(Kind::Denied, "permission denied to reassign objects"));
            }
            objects.extend(store.owned_by(from.id));
        }
        store.set_owner(&objects, to.id)?;
        session.audit("REASSIGN OWNED", &format!("{} TO {}", self.from.join(", "), to.name));
        Ok(Answer::Done("REASSIGN OWNED".to_owned()))
    }
}

/// Nobody gives what they have to whom they could not be.
fn must_be_member(rights: &Rights, role: &Role) -> Result<()> {
    let is_member = rights.access().memberships_of(rights.role()).contains(&role.id);
    match is_member || rights.is_superuser() {
        true => Ok(()),
        false => Err(Error::new(Kind::Denied, format!("must be able to SET ROLE \"{}\"", role.name))),
    }
}
