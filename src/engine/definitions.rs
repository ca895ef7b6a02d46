//! CREATE and DROP of schemas, tables and views.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{ResolvedTableReference, SchemaReference, TableReference};
use datafusion::logical_expr::{CreateMemoryTable, CreateView, DdlStatement};
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, ObjectNamePart, VisitMut, VisitorMut};

use crate::engine::catalog::CATALOG;
use crate::engine::rights::Rights;
use crate::engine::statement::{folded, parse_sql};
use crate::engine::system_tables::SystemTables;
use crate::engine::temporary::AtCommit;
use crate::engine::{Answer, Run, Session, rules, temporary};
use crate::error::{Error, Kind, Result};
use crate::storage::{IfExists, Partitioning, Relation, RelationKind, RelationType, Rules, Store, TableId, fill};

/// Runs a definition. `view` is the query of a CREATE VIEW as it was written; `table` what a CREATE TABLE says that
/// DataFusion does not know: its rules, and what becomes of a temporary one.
pub async fn run(
    session: &Session,
    definition: DdlStatement,
    view: Option<&str>,
    table: (&Rules, Option<AtCommit>),
    run: &Run,
) -> Result<Answer> {
    let (store, rights) = (&session.store(), session.rights()?);
    let object = object(&definition);
    let tag = match definition {
        // CREATE TABLE, with or without AS.
        DdlStatement::CreateMemoryTable(new) => {
            let (rules, temporary) = table;
            let answer = create_table(session, new, rules, temporary, run).await?;
            session.audit("CREATE TABLE", &object);
            return Ok(answer);
        }
        // CREATE VIEW
        DdlStatement::CreateView(definition) => {
            create_view(session, definition, view.unwrap_or_default())?;
            "CREATE VIEW"
        }
        // CREATE SCHEMA
        DdlStatement::CreateCatalogSchema(schema) => {
            let name = schema.schema_name.rsplit('.').next().unwrap_or_default().trim_matches('"');
            if is_virtual(name) {
                return Err(Error::new(Kind::SchemaExists, format!("schema \"{name}\" already exists")));
            }
            if name.starts_with("pg_") {
                return Err(Error::invalid(format!("unacceptable schema name \"{name}\""))
                    .hint("the prefix \"pg_\" is reserved for system schemas"));
            }
            rights.must_create_schemas()?;
            if !store.create_schema(name, schema.if_not_exists, rights.role())? {
                run.notice(format!("schema \"{name}\" already exists, skipping"));
            }
            "CREATE SCHEMA"
        }
        // DROP TABLE
        DdlStatement::DropTable(table) => {
            drop_relation(session, &table.name, RelationType::Table, table.if_exists, run)?;
            "DROP TABLE"
        }
        // DROP VIEW
        DdlStatement::DropView(view) => {
            drop_relation(session, &view.name, RelationType::View, view.if_exists, run)?;
            "DROP VIEW"
        }
        // DROP SCHEMA
        DdlStatement::DropCatalogSchema(schema) => {
            let name = match &schema.name {
                SchemaReference::Bare { schema } | SchemaReference::Full { schema, .. } => schema.to_string(),
            };
            refuse_virtual(&name)?;
            rights.must_own_schema(&name)?;
            let models = store.models()?;
            if !store.drop_schema(&name, schema.if_exists, schema.cascade)? {
                run.notice(format!("schema \"{name}\" does not exist, skipping"));
            }
            for model in models.iter().filter(|model| model.schema == name) {
                session.sight().registry.forget(model.id);
            }
            "DROP SCHEMA"
        }
        // CREATE INDEX: tools that write tables make indexes as well.
        DdlStatement::CreateIndex(index) => {
            let on = resolve(session, &index.table);
            if let Some(relation) = store.relation(&on.schema, &on.table)? {
                rights.must_own(&relation)?;
            }
            let twice = if index.unique { "; values may be there twice" } else { "" };
            run.warning(
                format!("no index was made: tables are read without{twice}"),
                "tables are stored by column, each part with its least and greatest values",
            );
            "CREATE INDEX"
        }
        other => return Err(Error::unsupported(format!("{} is not supported", spoken(other.name())))),
    };
    session.audit(tag, &object);
    Ok(Answer::Done(tag.to_owned()))
}

/// What a definition is about, for the audit log.
fn object(definition: &DdlStatement) -> String {
    match definition {
        DdlStatement::CreateMemoryTable(table) => table.name.to_string(),
        DdlStatement::CreateView(view) => view.name.to_string(),
        DdlStatement::CreateCatalogSchema(schema) => schema.schema_name.clone(),
        DdlStatement::DropTable(table) => table.name.to_string(),
        DdlStatement::DropView(view) => view.name.to_string(),
        DdlStatement::DropCatalogSchema(schema) => schema.name.to_string(),
        DdlStatement::CreateIndex(index) => index.table.to_string(),
        other => other.name().to_owned(),
    }
}

/// Whether the session may make a relation of that name, or put one in the place of `there`.
pub(super) fn check_create(rights: &Rights, schema: &str, there: Option<&Relation>, replace: bool) -> Result<()> {
    rights.must_create_in(schema)?;
    match there.filter(|_| replace) {
        Some(there) => rights.must_own(there),
        None => Ok(()),
    }
}

async fn create_table(
    session: &Session,
    table: CreateMemoryTable,
    rules: &Rules,
    temporary: Option<AtCommit>,
    run: &Run,
) -> Result<Answer> {
    if !table.constraints.is_empty() {
        run.warning(
            "PRIMARY KEY and UNIQUE are not enforced",
            "check with SELECT key, count(*) … GROUP BY key HAVING count(*) > 1",
        );
    }
    let name = match temporary {
        Some(_) => session.temporary_name(&table.name)?,
        None => new_name(session, &table.name),
    };
    writable(&name)?;
    let exists = match (table.or_replace, table.if_not_exists) {
        (true, _) => IfExists::Replace,
        (false, true) => IfExists::Keep,
        (false, false) => IfExists::Error,
    };
    let store = session.store();
    let there = store.relation(&name.schema, &name.table)?;
    let rights = session.rights()?;
    if temporary.is_none() {
        check_create(&rights, &name.schema, there.as_ref(), exists == IfExists::Replace)?;
    }
    let owner = rights.role();
    if there.is_some() && exists == IfExists::Keep {
        run.notice(format!("relation \"{}\" already exists, skipping", name.table));
        return Ok(Answer::Done("CREATE TABLE".to_owned()));
    }
    if there.is_some() && exists == IfExists::Error {
        return Err(Error::new(Kind::TableExists, format!("relation \"{}\" already exists", name.table))
            .hint("CREATE OR REPLACE TABLE replaces it"));
    }
    let with_rows = !matches!(table.input.as_ref(), datafusion::logical_expr::LogicalPlan::EmptyRelation(_));
    let state = session.context.state();
    let columns = stored(table.input.schema().inner());
    rules::validate(&state, rules, &columns)?;
    let partitioning = Partitioning::of(&rules.partitioned_by, &columns)?;
    let writer = store.writer(Arc::new(rules.beside(&columns)?))?.partitioned(partitioning);
    let plan = Arc::unwrap_or_clone(table.input);
    let created = name.table.to_string();
    let rows = session
        .in_turn(run, |cancel| async move {
            let writer = fill(writer, Session::stream(state, plan, &cancel).await?).await?;
            let rows = writer.rows();
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            store.create_table(&name.schema, &name.table, writer, exists, owner)?;
            Ok(rows)
        })
        .await?;
    if let Some(does) = temporary {
        session.at_commit(&created, does)?;
    }
    Ok(Answer::Done(if with_rows { format!("SELECT {rows}") } else { "CREATE TABLE".to_owned() }))
}

/// The schema a table is kept with: plain text for what is only another layout of text in memory.
pub(super) fn stored(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
            DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
            DataType::Null => DataType::Utf8,
            // As fine as Postgres has them, and as other readers of the table's files do.
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            other => other.clone(),
        };
        Field::new(field.name(), data_type, field.is_nullable())
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn create_view(session: &Session, view: CreateView, query: &str) -> Result<()> {
    let name = match view.temporary {
        true => session.temporary_name(&view.name)?,
        false => new_name(session, &view.name),
    };
    writable(&name)?;
    let (query, reads_temporary) = with_schemas(session, query)?;
    if !view.temporary && reads_temporary {
        return Err(Error::unsupported(format!("view \"{}\" would read a temporary table or view", name.table))
            .hint("the view stays when what it reads goes: let it read others, or make it a temporary view"));
    }
    let (store, rights) = (&session.store(), session.rights()?);
    let there = store.relation(&name.schema, &name.table)?;
    if !view.temporary {
        check_create(&rights, &name.schema, there.as_ref(), view.or_replace)?;
    }
    refuse_circle(session, &name, &query)?;
    let columns = Arc::clone(view.input.schema().inner());
    store.create_view(&name.schema, &name.table, &query, columns, view.or_replace, rights.role())
}

/// The query with the schemas of its tables, where they are not those that it would be looked for in by itself; and
/// whether any of them is temporary.
fn with_schemas(session: &Session, query: &str) -> Result<(String, bool)> {
    let mut statement = parse_sql(query)?;
    let (store, default) = (session.store(), session.default_schema());
    let mut named = Named { store, default, scopes: Vec::new(), changed: false, temporary: false };
    if let Sql::Statement(parsed) = &mut statement {
        let _ = parsed.visit(&mut named);
    }
    Ok((if named.changed { statement.to_string() } else { query.to_owned() }, named.temporary))
}

/// Names relations by their schemas on its way through a query.
struct Named {
    store: Arc<Store>,
    default: String,
    /// The queries that the place is in.
    scopes: Vec<Scope>,
    changed: bool,
    temporary: bool,
}

/// What WITH has given names to in a query. Each is known from its end on, or everywhere if it is recursive.
struct Scope {
    names: Vec<String>,
    recursive: bool,
    known: usize,
}

impl Scope {
    fn knows(&self, name: &str) -> bool {
        let known = if self.recursive { self.names.len() } else { self.known };
        self.names[..known].iter().any(|known| known == name)
    }
}

impl VisitorMut for Named {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        let with = query.with.as_ref();
        let names = with.map(|with| with.cte_tables.iter().map(|cte| folded(&cte.alias.name)).collect());
        let recursive = with.is_some_and(|with| with.recursive);
        self.scopes.push(Scope { names: names.unwrap_or_default(), recursive, known: 0 });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.scopes.pop();
        // The first queries inside of one are those that it has named.
        if let Some(around) = self.scopes.last_mut() {
            around.known = (around.known + 1).min(around.names.len());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
        let schema = match parts.as_slice() {
            [table] if !self.scopes.iter().any(|scope| scope.knows(table)) => {
                let found = temporary::resolved(TableReference::bare(table.as_str()), &self.default, &self.store);
                let relation = self.store.relation(&found.schema, &found.table);
                relation.ok().flatten().map(|relation| relation.schema).filter(|schema| schema != "public")
            }
            [schema, _] => {
                self.temporary |= schema.starts_with(temporary::PREFIX);
                None
            }
            _ => None,
        };
        if let Some(schema) = schema {
            self.temporary |= schema.starts_with(temporary::PREFIX);
            name.0.insert(0, ObjectNamePart::Identifier(Ident::with_quote('"', schema)));
            self.changed = true;
        }
        ControlFlow::Continue(())
    }
}

/// A view that reads itself, through others too, could never be planned.
fn refuse_circle(session: &Session, view: &ResolvedTableReference, query: &str) -> Result<()> {
    let mut seen = HashSet::new();
    let mut queries = vec![query.to_owned()];
    while let Some(query) = queries.pop() {
        let statement = parse_sql(&query)?;
        for read in resolve_table_references(&statement, true)?.0 {
            let read = read.resolve(CATALOG, "public");
            if read.schema == view.schema && read.table == view.table {
                return Err(Error::invalid(format!("view \"{}\" would read itself", view.table))
                    .hint("give the new view another name"));
            }
            let relation = session.store().relation(&read.schema, &read.table)?;
            if let Some(RelationKind::View { sql }) = relation.map(|relation| relation.kind)
                && seen.insert(read.to_string())
            {
                queries.push(sql);
            }
        }
    }
    Ok(())
}

pub(super) fn drop_relation(
    session: &Session,
    name: &TableReference,
    kind: RelationType,
    if_exists: bool,
    run: &Run,
) -> Result<()> {
    let name = resolve(session, name);
    writable(&name)?;
    let mut kind = kind;
    if let Some(relation) = session.store().relation(&name.schema, &name.table)? {
        session.rights()?.must_be_allowed_to_drop(&relation)?;
        // DROP TABLE forgets where an external table is; its rows stay there.
        if kind == RelationType::Table && relation.kind.of() == RelationType::External {
            kind = RelationType::External;
        }
    }
    if !session.store().drop_relation(&name.schema, &name.table, kind, if_exists)? {
        run.notice(format!("relation \"{}\" does not exist, skipping", name.table));
    }
    Ok(())
}

/// The name with its schema: as written, or else the session's first that has such a relation.
pub(super) fn resolve(session: &Session, name: &TableReference) -> ResolvedTableReference {
    temporary::resolved(name.clone(), &session.default_schema(), &session.store())
}

/// The same of a relation that is to be made, and to stay.
pub(super) fn new_name(session: &Session, name: &TableReference) -> ResolvedTableReference {
    name.clone().resolve(CATALOG, temporary::lasting(&session.default_schema()))
}

/// The stored table of that name.
pub(super) fn the_table(session: &Session, name: &TableReference, verb: &str) -> Result<(TableId, Relation)> {
    let name = resolve(session, name);
    writable(&name)?;
    let Some(relation) = session.store().relation(&name.schema, &name.table)? else {
        let known = session.store().relations(&name.schema)?;
        return Err(Error::new(Kind::UnknownTable, format!("relation \"{}\" does not exist", name.table))
            .suggest(&name.table, known.iter().map(|relation| relation.name.as_str())));
    };
    match relation.kind {
        RelationKind::Table(table) => Ok((table, relation)),
        _ => {
            let message = format!("cannot {verb} {} \"{}\"", relation.kind.of(), relation.name);
            Err(Error::new(Kind::WrongObject, message).hint(format!("{verb} the table that it reads")))
        }
    }
}

/// Whether a schema is the system's.
pub(super) fn is_virtual(schema: &str) -> bool {
    [SystemTables::SCHEMA, "pg_catalog", "information_schema"].contains(&schema)
}

pub(super) fn writable(name: &ResolvedTableReference) -> Result<()> {
    refuse_virtual(&name.schema)
}

/// Nobody but the system makes or drops anything in its schemas.
pub(super) fn refuse_virtual(schema: &str) -> Result<()> {
    if is_virtual(schema) {
        return Err(Error::new(
            Kind::Denied,
            format!("schema \"{schema}\" is the system's: nothing can be created or dropped in it"),
        ));
    }
    Ok(())
}

/// Rows are inserted into tables only.
pub(super) fn check_insert(session: &Session, into: &TableReference) -> Result<()> {
    let name = resolve(session, into);
    if is_virtual(&name.schema) {
        return Err(Error::new(
            Kind::Denied,
            format!("\"{}.{}\" is the system's: nothing can be inserted into it", name.schema, name.table),
        ));
    }
    match session.store().relation(&name.schema, &name.table)?.map(|relation| relation.kind) {
        Some(RelationKind::View { .. }) => {
            Err(Error::new(Kind::WrongObject, format!("cannot insert into view \"{}\"", name.table)))
        }
        Some(RelationKind::External(external)) if external.foreign.is_some() => {
            let message = format!("cannot insert into foreign table \"{}\"", name.table);
            Err(Error::new(Kind::WrongObject, message).hint("another database has its rows, and they are only read"))
        }
        Some(RelationKind::External(_)) => {
            let message = format!("cannot insert into external table \"{}\"", name.table);
            Err(Error::new(Kind::WrongObject, message).hint("its rows are other programs' files, which are only read"))
        }
        _ => Ok(()),
    }
}

/// `CreateIndex` as one says it in SQL: `CREATE INDEX`.
pub(super) fn spoken(node: &str) -> String {
    let mut words = String::new();
    for letter in node.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_uppercase());
    }
    words
}
