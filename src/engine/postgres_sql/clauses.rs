//! Clauses of a query that the planner does not know, in those that it does.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, LimitClause, ObjectName, OrderByKind, Query, SelectItem, SetExpr, TableAliasColumnDef, TableFactor,
    Value,
};
use datafusion::sql::sqlparser::parser::Parser;

use super::{factor, holds, last, unqualify};
use crate::engine::dialect::DIALECT;
use crate::engine::pg_catalog;

/// Functions that give one value, and are read in FROM all the same.
const OF_ONE_VALUE: [&str; 6] =
    ["string_to_array", "current_schemas", "current_database", "current_schema", "current_setting", "version"];

/// `string_to_array('a,b', ',') AS s` as `(SELECT string_to_array('a,b', ',') AS s) AS s`.
fn one_value(relation: &mut TableFactor) {
    let (name, args, alias) = match &*relation {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, args.args.as_slice(), alias),
        TableFactor::Function { name, args, alias, .. } => (name, args.as_slice(), alias),
        _ => return,
    };
    let Some(bare) = last(name) else { return };
    let args = args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let alias = alias.as_ref().map_or(bare, |alias| alias.columns.first().map_or(&alias.name, |column| &column.name));
    if let Some(value) = factor(&format!("(SELECT {bare}({args}) AS {alias}) AS {alias}")) {
        *relation = value;
    }
}

/// Rewrites a relation: those of `pg_catalog` are found without it.
pub fn relation(relation: &mut TableFactor) {
    match relation {
        TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. }
            if last(name).is_some_and(|name| OF_ONE_VALUE.contains(&name.value.to_lowercase().as_str())) =>
        {
            one_value(relation);
        }
        TableFactor::Table { name, args: Some(_), alias, .. } | TableFactor::Function { name, alias, .. } => {
            unqualify(name);
            // `generate_series(1, 3) AS i` names its column, too.
            let of_one = last(name)
                .is_some_and(|name| ["generate_series", "range"].contains(&name.value.to_lowercase().as_str()));
            if let Some(alias) = alias.as_mut().filter(|alias| of_one && alias.columns.is_empty()) {
                alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
            }
        }
        TableFactor::Table { name, alias, args: None, .. } => {
            let path: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
            let found = match path.as_slice() {
                [name] => name,
                [schema, name] if schema.value.eq_ignore_ascii_case("pg_catalog") => name,
                _ => return,
            };
            let found = crate::engine::statement::folded(found);
            if found == "pg_settings" {
                let alias = alias.as_ref().map_or_else(|| "pg_settings".to_owned(), ToString::to_string);
                let shown = format!("pg_show_all_settings() AS {}", alias.trim_start_matches("AS "));
                if let Some(shown) = factor(&shown) {
                    *relation = shown;
                }
            } else if path.len() == 1 && pg_catalog::has_relation(&found) {
                *name = ObjectName::from(vec![Ident::new("pg_catalog"), Ident::new(found)]);
            }
        }
        _ => {}
    }
}

/// Moves what is sorted by out of ORDER BY where it holds a query, which the planner takes only among the columns: they
/// are selected once more from a query that has it as a column.
pub fn sort_by_column(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let Some(OrderByKind::Expressions(order)) = query.order_by.as_ref().map(|order| &order.kind) else { return };
    let is_query = |expr: &Expr| matches!(expr, Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. });
    if !order.iter().any(|by| holds(&by.expr, is_query)) || select.distinct.is_some() {
        return;
    }
    let names: Option<Vec<Ident>> = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => path.last().cloned(),
            _ => None,
        })
        .collect();
    let Some(names) = names else { return };
    let (mut hidden, mut outer) = (Vec::new(), Vec::new());
    for (at, by) in order.iter().enumerate() {
        let named = match &by.expr {
            Expr::Value(_) => None,
            Expr::Identifier(name) => Some(!names.contains(name)),
            _ => Some(true),
        };
        let mut by = by.clone();
        if named == Some(true) {
            let name = Ident::with_quote('"', format!("order by #{}", at + 1));
            hidden.push(format!("{} AS {name}", by.expr));
            by.expr = Expr::Identifier(name);
        }
        outer.push(by.to_string());
    }
    let mut inner = query.clone();
    (inner.order_by, inner.limit_clause, inner.fetch, inner.with) = (None, None, None, None);
    let SetExpr::Select(select) = inner.body.as_mut() else { return };
    for column in hidden {
        let item = Parser::new(&DIALECT).try_with_sql(&column).and_then(|mut parser| parser.parse_select_item());
        let Ok(item) = item else { return };
        select.projection.push(item);
    }
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT {names} FROM ({inner}) AS sorted ORDER BY {}", outer.join(", "));
    if let Some(mut sorted) = super::query(&sql) {
        sorted.with = query.with.take();
        sorted.limit_clause = query.limit_clause.take();
        *query = *sorted;
    }
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
pub fn fetch(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|fetch| !fetch.with_ties && !fetch.percent) else { return };
    let limit = fetch.quantity.unwrap_or_else(|| Expr::Value(Value::Number("1".to_owned(), false).into()));
    let (offset, limit_by) = match query.limit_clause.take() {
        Some(LimitClause::LimitOffset { offset, limit_by, .. }) => (offset, limit_by),
        _ => (None, Vec::new()),
    };
    query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(limit), offset, limit_by });
}
