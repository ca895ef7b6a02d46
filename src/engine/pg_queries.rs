//! Clients' queries of `pg_catalog`, made plannable where only their form is in the way.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    ObjectName, Query, SelectItem, SetExpr, Statement, visit_expressions_mut,
};

/// Makes every sub-query that stands for a value an aggregate: clients know that it gives one row, as keys are unique,
/// and the planner wants to see it.
pub fn one_row_each(statement: &mut Statement) {
    let _ = visit_expressions_mut(statement, |expr| {
        if let Expr::Subquery(query) = expr {
            aggregate(query);
        }
        ControlFlow::<()>::Continue(())
    });
}

fn aggregate(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    let [item] = select.projection.as_mut_slice() else { return };
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return };
    if !ungrouped || select.from.is_empty() || is_aggregate(expr) {
        return;
    }
    let argument = FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()));
    let arguments = FunctionArgumentList { duplicate_treatment: None, args: vec![argument], clauses: vec![] };
    *expr = Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("max")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    });
    query.order_by = None;
    query.limit_clause = None;
    query.fetch = None;
}

fn is_aggregate(expr: &Expr) -> bool {
    const AGGREGATES: [&str; 8] = ["array_agg", "string_agg", "json_agg", "count", "max", "min", "sum", "bool_or"];
    match expr {
        Expr::Function(call) => {
            let name = call.name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase());
            name.is_some_and(|name| AGGREGATES.contains(&name.as_str()))
        }
        // An array is no value to take the greatest of.
        Expr::Array(_) => true,
        Expr::Cast { expr, .. } | Expr::Nested(expr) => is_aggregate(expr),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn values_are_aggregated_and_lists_stay() {
        let sql = "SELECT (SELECT a FROM t WHERE t.b = u.b LIMIT 1), (SELECT count(*) FROM t), (SELECT 1) FROM u \
                   WHERE u.b IN (SELECT b FROM t)";
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        one_row_each(&mut statement);
        assert_eq!(
            statement.to_string(),
            "SELECT (SELECT max(a) FROM t WHERE t.b = u.b), (SELECT count(*) FROM t), (SELECT 1) FROM u \
             WHERE u.b IN (SELECT b FROM t)"
        );
    }
}
