//! What queries take of the catalog beside its columns: they look something up for each row, ask for the relation that a
//! row is of, and read arrays that are always empty.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Query, Select, SelectItem, SetExpr, TableFactor, visit_expressions_mut,
};

use super::{holds, last, parsed, replace};
use crate::engine::pg_catalog;

/// Rewrites a query that looks something up in the catalog for each row of the one around it.
///
/// The planner wants such a query to give one row by its form, which `max` does. What is looked up of defaults, keys,
/// sequences and the like is NULL: there are none. So is what only a list can hold.
pub fn look_up(expr: &mut Expr) {
    if let Expr::Function(Function { args: FunctionArguments::Subquery(inner), .. }) = &*expr
        && let Some(gathered) = gathered(inner)
    {
        replace(expr, &gathered);
        return;
    }
    if let Expr::Function(Function { args: FunctionArguments::Subquery(inner), .. }) = &*expr
        && let Some(options) = options_read(inner)
    {
        replace(expr, &options);
        return;
    }
    let (inner, nothing) = match &mut *expr {
        Expr::Subquery(inner) => (inner, "NULL"),
        Expr::Function(Function { args: FunctionArguments::Subquery(inner), .. }) => (inner, "CAST(NULL AS TEXT[])"),
        _ => return,
    };
    let calls = calls_for_each(inner);
    let recurses = inner.with.is_some();
    if !(reads_catalog(inner) || calls) || !looks_outside(inner) {
        return;
    }
    if nothing != "NULL" || calls || recurses || reads_nothing(inner) || !one_row(inner) {
        replace(expr, nothing);
    } else if gathers_types(inner) {
        // The numbers of types are numbers of objects in an array, too. Quoted, the aggregate is not looked at again.
        let typed = format!("CAST({} AS oid[])", expr.to_string().replacen("array_agg(", "\"array_agg\"(", 1));
        replace(expr, &typed);
    }
}

/// The array whose options `ARRAY(SELECT … FROM pg_options_to_table(array))` shows: it is shown as it is, `name=value`.
fn options_read(inner: &Query) -> Option<String> {
    let SetExpr::Select(select) = inner.body.as_ref() else { return None };
    let mut read = factors(select).filter_map(|factor| match factor {
        TableFactor::Table { name, args: Some(args), .. } => Some((name, args.args.as_slice())),
        TableFactor::Function { name, args, .. } => Some((name, args.as_slice())),
        _ => None,
    });
    match read.next()? {
        (name, [options]) if last(name)?.value.eq_ignore_ascii_case("pg_options_to_table") => Some(options.to_string()),
        _ => None,
    }
}

/// What `ARRAY(SELECT …)` looks up of memberships and of columns' rights, as a query that gives one array.
fn gathered(inner: &Query) -> Option<String> {
    let SetExpr::Select(select) = inner.body.as_ref() else { return None };
    let known = ["pg_auth_members", "pg_attribute"];
    let of_roles = relations_of(select).iter().any(|name| known.contains(&name.as_str()));
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice()
    else {
        return None;
    };
    let plain = inner.order_by.is_none() && inner.with.is_none() && inner.limit_clause.is_none();
    if !of_roles || !plain || calls_for_each(inner) || !looks_outside(inner) {
        return None;
    }
    let mut select = select.clone();
    select.projection = vec![SelectItem::UnnamedExpr(parsed(&format!("array_agg({item})"))?)];
    Some(format!("({select})"))
}

/// Rewrites what a select takes of the catalog's relations beside their columns: which relation a row is of, and when it
/// was written.
pub fn system_columns(select: &mut Select) {
    let relations: Vec<(String, String)> = factors(select)
        .filter_map(|factor| match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let relation = last(name)?.value.to_lowercase();
                let alias = alias.as_ref().map_or_else(|| relation.clone(), |alias| alias.name.value.clone());
                pg_catalog::has_relation(&relation).then_some((alias, relation))
            }
            _ => None,
        })
        .collect();
    if relations.is_empty() {
        return;
    }
    let _ = visit_expressions_mut(select, |expr| {
        let (alias, column) = match &*expr {
            Expr::CompoundIdentifier(path) => match path.as_slice() {
                [.., alias, column] => (Some(alias.value.as_str()), column),
                _ => return ControlFlow::<()>::Continue(()),
            },
            Expr::Identifier(column) if relations.len() == 1 => (None, column),
            _ => return ControlFlow::Continue(()),
        };
        let found = relations.iter().find(|(known, _)| alias.is_none_or(|alias| alias == known));
        let replaced = match (found, column.value.as_str()) {
            (Some((_, relation)), "tableoid") => format!("regclassin('pg_catalog.{relation}')"),
            (Some(_), "xmin") => "1".to_owned(),
            _ => return ControlFlow::Continue(()),
        };
        replace(expr, &replaced);
        ControlFlow::Continue(())
    });
}

/// Relations that are always empty, or that say of a column only what its type says already.
const NOTHING: [&str; 9] = [
    "pg_attrdef",
    "pg_sequence",
    "pg_index",
    "pg_constraint",
    "pg_trigger",
    "pg_inherits",
    "pg_collation",
    "pg_depend",
    "pg_rewrite",
];

fn reads_nothing(query: &Query) -> bool {
    relations(query).iter().any(|name| NOTHING.contains(&name.as_str()))
}

/// Whether a query reads a function of an array of the catalog, all of which are empty.
fn calls_for_each(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let mut args = factors(select).filter_map(|factor| match factor {
        TableFactor::Table { args: Some(args), .. } => Some(args.args.as_slice()),
        TableFactor::Function { args, .. } => Some(args.as_slice()),
        _ => None,
    });
    args.any(|args| {
        let of_array = |expr: &Expr| matches!(expr, Expr::CompoundIdentifier(_)) && is_catalog_array(expr);
        args.iter().any(|arg| holds(arg, of_array))
    }) || factors(select).any(|factor| match factor {
        TableFactor::UNNEST { array_exprs, .. } => array_exprs.iter().any(is_catalog_array),
        _ => false,
    })
}

/// Whether a query gathers the types of columns: `SELECT array_agg(a.atttypid …) …`.
fn gathers_types(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let [SelectItem::UnnamedExpr(Expr::Function(call)) | SelectItem::ExprWithAlias { expr: Expr::Function(call), .. }] =
        select.projection.as_slice()
    else {
        return false;
    };
    let FunctionArguments::List(list) = &call.args else { return false };
    call.name.to_string() == "array_agg"
        && list.args.first().is_some_and(|first| first.to_string().ends_with("atttypid"))
}

fn reads_catalog(query: &Query) -> bool {
    let mut found = relations(query);
    for table in query.with.iter().flat_map(|with| &with.cte_tables) {
        found.extend(relations(&table.query));
        if let SetExpr::SetOperation { left, .. } = table.query.body.as_ref()
            && let SetExpr::Select(select) = left.as_ref()
        {
            found.extend(relations_of(select));
        }
    }
    found.iter().any(|name| pg_catalog::has_relation(name))
}

/// The names of the relations that a query reads, without their schemas.
fn relations(query: &Query) -> Vec<String> {
    match query.body.as_ref() {
        SetExpr::Select(select) => relations_of(select),
        _ => Vec::new(),
    }
}

fn relations_of(select: &Select) -> Vec<String> {
    factors(select)
        .filter_map(|factor| match factor {
            TableFactor::Table { name, args: None, .. } => Some(last(name)?.value.to_lowercase()),
            _ => None,
        })
        .collect()
}

fn factors(select: &Select) -> impl Iterator<Item = &TableFactor> {
    select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)))
}

/// Whether a query names a table that it does not read.
fn looks_outside(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let own: HashSet<String> = factors(select)
        .filter_map(|factor| match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. } => Some(alias.name.value.clone()),
            TableFactor::Table { name, .. } => Some(last(name)?.value.clone()),
            _ => None,
        })
        .collect();
    holds(query, |expr| match expr {
        Expr::CompoundIdentifier(path) => matches!(path.as_slice(), [.., table, _] if !own.contains(&table.value)),
        _ => false,
    })
}

/// Makes a query of one column give one row, if it can be done.
fn one_row(query: &mut Query) -> bool {
    let SetExpr::Select(select) = query.body.as_mut() else { return false };
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_mut_slice()
    else {
        return false;
    };
    let aggregates = ["count", "max", "min", "sum", "array_agg", "string_agg", "bool_or", "bool_and", "avg"];
    let aggregated = matches!(expr, Expr::Function(call)
        if last(&call.name).is_some_and(|name| aggregates.contains(&name.value.to_lowercase().as_str())));
    if !aggregated {
        let Some(max) = parsed(&format!("max({expr})")) else { return false };
        *expr = max;
    }
    query.order_by = None;
    query.limit_clause = None;
    true
}

/// Whether a column is one of the arrays of the catalog.
pub fn is_catalog_array(column: &Expr) -> bool {
    let name = match column {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(path) => path.last(),
        _ => None,
    };
    name.is_some_and(|name| pg_catalog::is_array(&name.value.to_lowercase()))
}
