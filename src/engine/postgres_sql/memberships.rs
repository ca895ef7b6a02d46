//! `x IN (SELECT …)` and `EXISTS (SELECT …)` among the columns of a query: the planner takes them only as conditions, and
//! counts for each row what it can join.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, UnaryOperator, visit_expressions_mut,
};

use super::{holds, parsed, replace};

/// Rewrites them, inside of functions too.
pub fn among_columns(select: &mut Select) {
    let (mut asked, is_grouped) = (0, is_grouped(select));
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = &mut *item else { continue };
        if !asks(expr) {
            tell_apart(expr, is_grouped, &mut asked);
            continue;
        }
        // What Postgres puts over it.
        let heading = match &*expr {
            Expr::Exists { negated: false, .. } => Some("exists"),
            Expr::Exists { .. } | Expr::InSubquery { .. } | Expr::UnaryOp { op: UnaryOperator::Not, .. } => {
                Some("?column?")
            }
            _ => None,
        };
        let _ = visit_expressions_mut(expr, |expr| {
            if let Some(counted) = counted(expr) {
                replace(expr, &counted);
            }
            ControlFlow::<()>::Continue(())
        });
        tell_apart(expr, is_grouped, &mut asked);
        if let (Some(heading), SelectItem::UnnamedExpr(expr)) = (heading, &*item) {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', heading) };
        }
    }
}

/// Makes queries in aggregates and in what is grouped by look different from each other: the planner names such a thing with
/// `<subquery>` for each of them, and would find two the same.
fn tell_apart(expr: &mut Expr, is_grouped: bool, asked: &mut usize) {
    if is_grouped {
        let _ = visit_expressions_mut(expr, |expr| number(expr, asked));
        return;
    }
    let _ = visit_expressions_mut(expr, |expr| {
        if let Expr::Function(call) = expr {
            let _ = visit_expressions_mut(call, |inner| number(inner, asked));
        }
        ControlFlow::<()>::Continue(())
    });
}

fn number(expr: &mut Expr, asked: &mut usize) -> ControlFlow<()> {
    if matches!(expr, Expr::Subquery(_)) {
        *asked += 1;
        let numbered = format!("CASE WHEN {asked} = {asked} THEN {expr} END");
        replace(expr, &numbered);
    }
    ControlFlow::Continue(())
}

fn asks(expr: &Expr) -> bool {
    holds(expr, |expr| matches!(expr, Expr::InSubquery { .. } | Expr::Exists { .. }))
}

fn counted(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Exists { subquery, negated } => {
            let rows = match plain(subquery) {
                Some(select) => {
                    let mut select = select.clone();
                    select.projection = vec![SelectItem::UnnamedExpr(parsed("count(*)")?)];
                    select.to_string()
                }
                None => format!("SELECT count(*) FROM ({subquery}) AS \"queried\""),
            };
            Some(format!("({rows}) {} 0", if *negated { "=" } else { ">" }))
        }
        Expr::InSubquery { expr, subquery, negated } => {
            let (queried, value) = (format!("({subquery}) AS \"?queried?\"(\"?value?\")"), "\"?queried?\".\"?value?\"");
            // No column of the query's has that name. NULL is equal to nothing, and perhaps to anything.
            let found = format!("(SELECT count(*) FROM {queried} WHERE {value} = ({expr})) > 0");
            let empty = format!("(SELECT count(*) FROM {queried}) = 0");
            let unknown = format!("(SELECT count(*) FROM {queried} WHERE {value} IS NULL) > 0");
            let is_in = format!(
                "CASE WHEN {found} THEN true WHEN {empty} THEN false WHEN ({expr}) IS NULL OR {unknown} THEN NULL ELSE \
                 false END"
            );
            Some(if *negated { format!("NOT ({is_in})") } else { is_in })
        }
        _ => None,
    }
}

/// A query whose rows are those that its FROM and WHERE give.
fn plain(query: &Query) -> Option<&Select> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let bare = query.with.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let aggregates = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            holds(expr, |expr| matches!(expr, Expr::Function(_)))
        }
        _ => false,
    });
    let keeps = select.distinct.is_none() && select.having.is_none() && !aggregates && !select.from.is_empty();
    (!is_grouped(select) && bare && keeps).then_some(select)
}

fn is_grouped(select: &Select) -> bool {
    !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty())
}
