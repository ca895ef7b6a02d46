//! Clients' queries of `pg_catalog`, made plannable where only their form is in the way.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Query, Select, SelectItem, SetExpr, Statement, TableFactor, Value, VisitMut, VisitorMut,
    visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Rewrites what the planner cannot read.
///
/// In the columns of a query, a sub-query that looks something up for each row becomes NULL: clients ask so for
/// defaults, comments, sequences and collations, and there are none. There are no keys and indexes either, so that there
/// is nothing in the arrays of their columns. Patterns may have another escape character.
pub fn simplify(statement: &mut Statement) {
    let _ = statement.visit(&mut LookUps);
    let _ = visit_expressions_mut(statement, |expr| {
        escape_by_backslash(expr);
        empty_key(expr);
        absent_column(expr);
        ControlFlow::<()>::Continue(())
    });
}

struct LookUps;

impl VisitorMut for LookUps {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            for item in &mut select.projection {
                let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
                let _ = visit_expressions_mut(expr, |expr| {
                    if matches!(expr, Expr::Subquery(query) if looks_outside(query)) {
                        *expr = Expr::Value(Value::Null.into());
                    }
                    ControlFlow::<()>::Continue(())
                });
            }
        }
        ControlFlow::Continue(())
    }
}

/// Whether a query names a table that it does not read.
fn looks_outside(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let own = tables(select);
    let outside = visit_expressions(query, |expr| match expr {
        Expr::CompoundIdentifier(path) => match path.as_slice() {
            [.., table, _] if !own.contains(&table.value) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    });
    outside.is_break()
}

/// The names by which a select knows its tables.
fn tables(select: &Select) -> HashSet<String> {
    let joined = select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    joined
        .filter_map(|factor| match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. } => Some(alias.name.value.clone()),
            TableFactor::Table { name, .. } => Some(name.0.last()?.as_ident()?.value.clone()),
            _ => None,
        })
        .collect()
}

/// `x LIKE 'pg/_%' ESCAPE '/'` as `x LIKE replace('pg/_%', '/', '\\')`.
fn escape_by_backslash(expr: &mut Expr) {
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else { return };
    let other = match escape_char.as_ref().map(|escape| &escape.value) {
        Some(Value::SingleQuotedString(escape)) if escape != "\\" && escape.chars().count() == 1 => escape.clone(),
        _ => return,
    };
    let text = format!("replace({pattern}, '{}', '\\')", other.replace('\'', "''"));
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).and_then(|mut parser| parser.parse_expr());
    if let Ok(replaced) = parsed {
        **pattern = replaced;
        *escape_char = None;
    }
}

/// The columns of a key, taken out of an array, as NULL.
fn empty_key(expr: &mut Expr) {
    const ARRAYS: [&str; 6] = ["conkey", "confkey", "indkey", "indclass", "indoption", "indcollation"];
    let Expr::Function(call) = &*expr else { return };
    let Some(name) = call.name.0.last().and_then(|part| part.as_ident()) else { return };
    let of_a_key = || {
        call.args
            .to_string()
            .split([',', ')'])
            .next()
            .is_some_and(|first| ARRAYS.iter().any(|array| first.ends_with(array)))
    };
    let nothing = match name.value.as_str() {
        "unnest" if of_a_key() => "CAST(NULL AS SMALLINT)",
        "generate_subscripts" => "CAST(NULL AS INTEGER)",
        "_pg_expandarray" => "named_struct('x', CAST(NULL AS SMALLINT), 'n', CAST(NULL AS INTEGER))",
        _ => return,
    };
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(nothing).and_then(|mut parser| parser.parse_expr());
    if let Ok(nothing) = parsed {
        *expr = nothing;
    }
}

/// Columns of `pg_class` that the catalog at hand lacks, and fields of keys' columns, as what they would hold.
fn absent_column(expr: &mut Expr) {
    const ABSENT: [&str; 2] = ["reloptions", "relacl"];
    // Clients take apart only what `_pg_expandarray` gives.
    if let Expr::CompoundFieldAccess { access_chain, .. } = &*expr
        && matches!(access_chain.as_slice(), [AccessExpr::Dot(_)])
    {
        *expr = Expr::Value(Value::Null.into());
    } else if let Expr::CompoundIdentifier(path) = &*expr
        && path.last().is_some_and(|column| ABSENT.contains(&column.value.as_str()))
    {
        *expr = Expr::Value(Value::Null.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simplified(sql: &str) -> String {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        simplify(&mut statement);
        statement.to_string()
    }

    #[test]
    fn what_is_looked_up_for_each_row_is_null() {
        let sql = "SELECT CASE WHEN a THEN (SELECT t.b FROM s.t AS t WHERE t.c = u.c) END, (SELECT max(t.b) FROM t) \
                   FROM u WHERE u.b IN (SELECT t.b FROM t WHERE t.c = u.c)";
        let expected = "SELECT CASE WHEN a THEN NULL END, (SELECT max(t.b) FROM t) \
                        FROM u WHERE u.b IN (SELECT t.b FROM t WHERE t.c = u.c)";
        assert_eq!(simplified(sql), expected);
    }

    #[test]
    fn keys_have_no_columns() {
        assert_eq!(
            simplified("SELECT unnest(con.conkey) AS a, generate_subscripts(con.conkey, 1) AS b, unnest(c) FROM con"),
            "SELECT CAST(NULL AS SMALLINT) AS a, CAST(NULL AS INTEGER) AS b, unnest(c) FROM con"
        );
    }

    #[test]
    fn columns_that_are_missing_hold_nothing() {
        assert_eq!(simplified("SELECT c.relname, c.relacl, (k.n).x FROM c"), "SELECT c.relname, NULL, NULL FROM c");
    }

    #[test]
    fn patterns_are_escaped_by_backslashes() {
        assert_eq!(
            simplified("SELECT a FROM t WHERE a NOT LIKE $1 || '%' ESCAPE '/'"),
            "SELECT a FROM t WHERE a NOT LIKE replace($1 || '%', '/', '\\')"
        );
    }
}
