//! DELETE, UPDATE and INSERT … RETURNING as queries, and those INSERTs that DataFusion's planner gets wrong.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::sql::sqlparser::ast::{
    self, Assignment, AssignmentTarget, Expr, FromTable, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SetExpr, TableAlias, TableFactor, TableObject, TableWithJoins, UpdateTableFromKind, Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::parser::Parser;

use super::{RowChange, What, target};
use crate::engine::dialect::DIALECT;
use crate::engine::statement::{folded, syntax};
use crate::engine::{Session, parameters, postgres_sql};
use crate::error::{Error, Kind, Result};
use crate::storage::{Object, Privilege, ROW_NUMBER, Relation};

pub(super) fn delete(session: &Session, delete: &mut ast::Delete) -> Result<(RowChange, Query)> {
    refuse(!delete.order_by.is_empty() || delete.limit.is_some(), "ORDER BY and LIMIT in DELETE")?;
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &mut delete.from;
    let [table] = from.as_mut_slice() else {
        return Err(Error::new(Kind::Syntax, "DELETE is of one table").hint("DELETE FROM t USING other WHERE …"));
    };
    refuse(!table.joins.is_empty() || !delete.tables.is_empty(), "a join in DELETE FROM")?;
    let (relation, alias) = numbered(session, &mut table.relation, "delete from")?;
    let mut select = skeleton()?;
    select.from = std::iter::once(table.clone()).chain(delete.using.take().into_iter().flatten()).collect();
    select.selection = delete.selection.take();
    select.projection = vec![number_of(&alias)];
    let returned = delete.returning.take();
    let returning = returned.map(|items| returning(&mut select, items, &relation, &alias));
    let query = in_query(select);
    Ok((change(&relation, What::Delete, returning, vec![(Privilege::Delete, Vec::new())]), query))
}

pub(super) fn update(session: &Session, update: &mut ast::Update) -> Result<(RowChange, Query)> {
    refuse(!update.order_by.is_empty() || update.limit.is_some(), "ORDER BY and LIMIT in UPDATE")?;
    refuse(!update.table.joins.is_empty(), "a join in UPDATE")?;
    let (relation, alias) = numbered(session, &mut update.table.relation, "update")?;
    let mut select = skeleton()?;
    select.from = vec![update.table.clone()];
    match update.from.take() {
        Some(UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from)) => select.from.extend(from),
        None => {}
    }
    select.selection = update.selection.take();
    let mut assigned = assignments(&relation, &mut update.assignments)?;
    for (at, value) in &mut assigned {
        *value = or_default(session, std::mem::replace(value, null()), &relation, *at)?;
    }
    let columns: Vec<usize> = assigned.iter().map(|(at, _)| *at).collect();
    let needs = vec![(Privilege::Update, columns.clone())];
    let Some(items) = update.returning.take() else {
        let value = |(at, expr): (usize, Expr)| named(typed(expr, relation.columns.field(at)), &value_name(at));
        select.projection = std::iter::once(number_of(&alias)).chain(assigned.into_iter().map(value)).collect();
        return Ok((change(&relation, What::Update(columns), None, needs), in_query(select)));
    };
    // What is returned reads the new row.
    let mut new_row: Vec<Option<Expr>> = relation.columns.fields().iter().map(|_| None).collect();
    for (at, expr) in assigned {
        new_row[at] = Some(typed(expr, relation.columns.field(at)));
    }
    let fields = relation.columns.fields();
    let new_row = new_row
        .into_iter()
        .zip(fields)
        .map(|(expr, field)| named(expr.unwrap_or_else(|| column(&alias, field.name())), field.name()));
    select.projection = std::iter::once(number_of(&alias)).chain(new_row).collect();
    let mut outer = over(select, &alias)?;
    let value = |at: &usize| named(column(&alias, fields[*at].name()), &value_name(*at));
    outer.projection = std::iter::once(number_of(&alias)).chain(columns.iter().map(value)).collect();
    let returning = returning(&mut outer, items, &relation, &alias);
    Ok((change(&relation, What::Update(columns), Some(returning), needs), in_query(outer)))
}

pub(super) fn insert(session: &Session, insert: &mut ast::Insert) -> Result<(RowChange, Query)> {
    refuse(insert.on.is_some(), "ON CONFLICT")?;
    refuse(insert.overwrite, "INSERT OVERWRITE … RETURNING")?;
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::unsupported("INSERT into a function is not supported"));
    };
    let relation = target(session, name, "insert into")?;
    let alias = insert.table_alias.take().map_or_else(|| quoted(&relation.name), |alias| alias.alias);
    let fields = relation.columns.fields();
    let mut given = columns_named(&relation, &insert.columns)?;
    if let Some(column) = given_twice(given.iter().copied(), &relation) {
        return Err(Error::new(Kind::DuplicateColumn, format!("column \"{column}\" specified more than once")));
    }
    let mut source = match insert.source.take() {
        Some(source) => *source,
        // DEFAULT VALUES
        None => {
            given.clear();
            in_query(skeleton()?)
        }
    };
    if let SetExpr::Values(values) = source.body.as_mut() {
        for row in &mut values.rows {
            let n = row.content.len();
            if n > given.len() {
                return Err(Error::new(Kind::Syntax, "INSERT has more expressions than target columns"));
            }
            for (expr, at) in row.content.iter_mut().zip(&given) {
                let value = std::mem::replace(expr, null());
                *expr = typed(or_default(session, value, &relation, *at)?, &fields[*at]);
            }
        }
    }
    let n_given = match source.body.as_ref() {
        SetExpr::Values(values) => values.rows.first().map_or(0, |row| row.content.len()),
        _ => given.len(),
    };
    let given_names: Vec<Ident> = (0..n_given).map(|n| Ident::with_quote('"', format!("\0given{n}"))).collect();
    let mut inner = skeleton()?;
    inner.from = vec![derived(
        source,
        TableAlias {
            explicit: true,
            name: quoted("\0given"),
            columns: given_names
                .iter()
                .map(|name| ast::TableAliasColumnDef { name: name.clone(), data_type: None })
                .collect(),
            at: None,
        },
    )];
    let mut projection = Vec::with_capacity(fields.len());
    for (at, field) in fields.iter().enumerate() {
        let value = match given.iter().take(n_given).position(|given| *given == at) {
            Some(n) => Expr::Identifier(given_names[n].clone()),
            None => session.default_of(&relation, at)?.unwrap_or_else(null),
        };
        projection.push(named(typed(value, field), field.name()));
    }
    inner.projection = projection;
    let mut outer = over(inner, &alias)?;
    let value = |(at, field): (usize, &FieldRef)| named(column(&alias, field.name()), &value_name(at));
    outer.projection = fields.iter().enumerate().map(value).collect();
    let items = insert.returning.take();
    let returning = items.map(|items| returning(&mut outer, items, &relation, &alias));
    let needs = vec![(Privilege::Insert, given.into_iter().take(n_given).collect())];
    Ok((change(&relation, What::Insert, returning, needs), in_query(outer)))
}

/// Whether a query that an INSERT reads has VALUES inside, which the planner of INSERT would take for rows of the table.
pub(super) fn reads_values(insert: &ast::Insert) -> bool {
    struct Inside(usize);
    impl Visitor for Inside {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            self.0 += 1;
            match query.body.as_ref() {
                SetExpr::Values(_) if self.0 > 1 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    insert.on.is_none() && !insert.overwrite && insert.source.visit(&mut Inside(0)).is_break()
}

/// Whether there are policies for the rows that an INSERT of this session writes, or rights to some columns only.
pub(super) fn is_looked_at(session: &Session, insert: &ast::Insert) -> Result<bool> {
    let TableObject::TableName(name) = &insert.table else { return Ok(false) };
    // What is wrong with it is said where it is planned.
    let Ok(relation) = target(session, name, "insert into") else { return Ok(false) };
    let rights = session.rights()?;
    let object = Object::Relation(relation.id);
    let some_columns = || rights.granted(object, Privilege::Insert).any(|column| column.is_some());
    let whole = rights.has(object, relation.owner, Privilege::Insert);
    Ok(!rights.sees_all_rows(&relation) || (!whole && some_columns()))
}

pub(super) fn change(
    relation: &Relation,
    what: What,
    returning: Option<usize>,
    needs: Vec<(Privilege, Vec<usize>)>,
) -> RowChange {
    RowChange { schema: relation.schema.clone(), table: relation.name.clone(), what, returning, needs }
}

fn refuse(is_there: bool, what: &str) -> Result<()> {
    if is_there { Err(Error::unsupported(format!("{what} is not supported"))) } else { Ok(()) }
}

/// Makes the target of a statement the table with its rows' numbers, and answers by what name its columns are known.
pub(super) fn numbered(session: &Session, factor: &mut TableFactor, verb: &str) -> Result<(Relation, Ident)> {
    let TableFactor::Table { name, alias, .. } = factor else {
        return Err(Error::new(Kind::WrongObject, format!("cannot {verb} what is not a table")));
    };
    let relation = target(session, name, verb)?;
    let (schema, table) = (quoted(&relation.schema), quoted(&format!("{}{ROW_NUMBER}", relation.name)));
    *name = ObjectName(vec![ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(table)]);
    let known_as = alias.as_ref().map_or_else(|| quoted(&relation.name), |alias| alias.name.clone());
    *alias = Some(TableAlias { explicit: true, name: known_as.clone(), columns: Vec::new(), at: None });
    Ok((relation, known_as))
}

/// The columns that are assigned to and their new values, in the table's order.
pub(super) fn assignments(relation: &Relation, given: &mut [Assignment]) -> Result<Vec<(usize, Expr)>> {
    let mut assigned = Vec::new();
    for Assignment { target, value } in given {
        match (target, std::mem::replace(value, null())) {
            (AssignmentTarget::ColumnName(name), value) => assigned.push((column_named(relation, name)?, value)),
            (AssignmentTarget::Tuple(names), Expr::Tuple(values)) if names.len() == values.len() => {
                for (name, value) in names.iter().zip(values) {
                    assigned.push((column_named(relation, name)?, value));
                }
            }
            (AssignmentTarget::Tuple(_), _) => {
                return Err(Error::unsupported("this assignment to several columns is not supported")
                    .hint("write SET (a, b) = (x, y), or SET a = x, b = y"));
            }
        }
    }
    if let Some(column) = given_twice(assigned.iter().map(|(at, _)| *at), relation) {
        return Err(Error::new(Kind::Syntax, format!("multiple assignments to same column \"{column}\"")));
    }
    assigned.sort_by_key(|(at, _)| *at);
    Ok(assigned)
}

/// The first column that is among them more than once.
fn given_twice(columns: impl Iterator<Item = usize>, relation: &Relation) -> Option<&str> {
    let mut seen = HashSet::new();
    let mut columns = columns;
    columns.find(|at| !seen.insert(*at)).map(|at| relation.columns.field(at).name().as_str())
}

/// The columns that an INSERT names; all where it names none.
pub(super) fn columns_named(relation: &Relation, names: &[ObjectName]) -> Result<Vec<usize>> {
    match names.is_empty() {
        true => Ok((0..relation.columns.fields().len()).collect()),
        false => names.iter().map(|name| column_named(relation, name)).collect(),
    }
}

/// Which column of the table a name means; it may have the table's name before it.
fn column_named(relation: &Relation, name: &ObjectName) -> Result<usize> {
    let column = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
    relation.columns.index_of(&column).map_err(|_| {
        let message = format!("column \"{column}\" of relation \"{}\" does not exist", relation.name);
        let known = relation.columns.fields().iter().map(|field| field.name().as_str());
        Error::new(Kind::UnknownColumn, message).suggest(&column, known)
    })
}

/// The value, or what the column has where DEFAULT stands.
pub(super) fn or_default(session: &Session, value: Expr, relation: &Relation, at: usize) -> Result<Expr> {
    match &value {
        Expr::Identifier(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default") => {
            Ok(session.default_of(relation, at)?.unwrap_or_else(null))
        }
        _ => Ok(value),
    }
}

/// Puts the returned columns behind those that are there, and answers where they begin.
fn returning(select: &mut Select, items: Vec<SelectItem>, relation: &Relation, alias: &Ident) -> usize {
    let from = select.projection.len();
    for item in items {
        match item {
            SelectItem::Wildcard(_) => {
                let columns = relation.columns.fields().iter();
                select.projection.extend(columns.map(|field| SelectItem::UnnamedExpr(column(alias, field.name()))));
            }
            item => select.projection.push(item),
        }
    }
    from
}

/// `SELECT` with nothing in it yet.
pub(super) fn skeleton() -> Result<Select> {
    let parsed = Parser::new(&DIALECT).try_with_sql("SELECT 1").and_then(|mut parser| parser.parse_select());
    parsed.map_err(syntax)
}

pub(super) fn in_query(mut select: Select) -> Query {
    postgres_sql::among_columns(&mut select);
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// `SELECT … FROM (inner) AS alias`.
pub(super) fn over(inner: Select, alias: &Ident) -> Result<Select> {
    let mut outer = skeleton()?;
    let alias = TableAlias { explicit: true, name: alias.clone(), columns: Vec::new(), at: None };
    outer.from = vec![derived(in_query(inner), alias)];
    Ok(outer)
}

fn derived(query: Query, alias: TableAlias) -> TableWithJoins {
    let relation = TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: Some(alias), sample: None };
    TableWithJoins { relation, joins: Vec::new() }
}

/// `CAST(value AS the column's type)`, which also tells the type of a parameter.
pub(super) fn typed(value: Expr, field: &datafusion::arrow::datatypes::Field) -> Expr {
    match parameters::sql_type(field.data_type()) {
        Some(data_type) if *field.data_type() != DataType::Null => parameters::cast(value, data_type),
        _ => value,
    }
}

pub(super) fn number_of(alias: &Ident) -> SelectItem {
    named(column(alias, ROW_NUMBER), ROW_NUMBER)
}

pub(super) fn column(alias: &Ident, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![alias.clone(), quoted(name)])
}

pub(super) fn named(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: quoted(name) }
}

/// A name that no column of the user's has.
pub(super) fn value_name(at: usize) -> String {
    format!("\0value{at}")
}

pub(in crate::engine) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

pub(super) fn null() -> Expr {
    Expr::Value(Value::Null.into())
}
