//! The names of a result's columns, as Postgres gives them: clients look columns up by them.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{self, Expr, SelectItem, SetExpr, VisitMut, VisitorMut};

use crate::engine::pg_catalog;

/// Of a column's name what begins here is for the planner alone.
pub(super) const HIDDEN: char = '\0';

/// What stands over the columns of a query: from the left up to its wildcard, if it has one, and from the right.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Headings {
    left: Vec<Option<String>>,
    wildcard: bool,
    right: Vec<Option<String>>,
}

impl Headings {
    /// Reads the headings off a query, and gives names of their own to columns that it has twice: the planner wants
    /// names to be unique, clients do not.
    pub fn of(query: &mut ast::Query) -> Self {
        let Some(select) = first_select(&mut query.body) else { return Self::default() };
        let headings = Self::of_items(&mut select.projection);
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.projection.iter_mut().for_each(small_literal);
        }
        headings
    }

    fn of_items(items: &mut [SelectItem]) -> Self {
        let mut headings = Self::default();
        let is_wildcard =
            |item: &&SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        let n_wildcards = items.iter().filter(is_wildcard).count();
        let mut seen = HashSet::new();
        for (at, item) in items.iter_mut().enumerate() {
            let heading = match item {
                SelectItem::UnnamedExpr(expr) => {
                    let heading = heading(expr);
                    let again = planned_names(expr).into_iter().filter(|name| !seen.insert(name.clone())).count() > 0;
                    if again || (n_wildcards > 0 && is_column(expr)) {
                        *item = renamed(expr, &heading, at);
                    }
                    Some(heading)
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let heading = folded(alias);
                    if let Some((shown, _)) = heading.split_once(HIDDEN).filter(|(shown, _)| !shown.is_empty()) {
                        Some(shown.to_owned())
                    } else if seen.insert(heading.clone()) {
                        None
                    } else {
                        *item = renamed(expr, &heading, at);
                        Some(heading)
                    }
                }
                _ => {
                    headings.wildcard = true;
                    continue;
                }
            };
            if headings.wildcard { headings.right.push(heading) } else { headings.left.push(heading) }
        }
        // How many columns each of two wildcards stands for cannot be seen here.
        if n_wildcards > 1 { Self::default() } else { headings }
    }

    /// The columns under their headings.
    pub fn over(&self, columns: SchemaRef) -> SchemaRef {
        let (n, named) = (columns.fields().len(), self.left.len() + self.right.len());
        if named > n || (!self.wildcard && named != n) {
            return columns;
        }
        let heading = |at: usize| match self.left.get(at) {
            Some(heading) => heading.as_ref(),
            None => self.right.get((at + self.right.len()).checked_sub(n)?)?.as_ref(),
        };
        let field = |(at, field): (usize, &Arc<Field>)| match heading(at) {
            Some(name) => Arc::new(field.as_ref().clone().with_name(name)),
            None => Arc::clone(field),
        };
        let fields: Vec<_> = columns.fields().iter().enumerate().map(field).collect();
        Arc::new(Schema::new_with_metadata(fields, columns.metadata().clone()))
    }
}

/// Gives names of their own to columns that any query inside has twice: nobody can name them, and clients see only those
/// of the query around it. `from` is the depth of the first query that may be changed: what CREATE TABLE AS reads is of
/// depth 1, and names the columns of the table.
pub fn tell_apart(inside: &mut impl VisitMut, from: usize) {
    struct TellApart {
        from: usize,
        depth: usize,
    }
    impl VisitorMut for TellApart {
        type Break = ();

        fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
            if self.depth >= self.from {
                let _ = Headings::of_items(&mut select.projection);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = inside.visit(&mut TellApart { from, depth: 0 });
}

/// The select that names the columns: of a UNION it is the first.
fn first_select(body: &mut SetExpr) -> Option<&mut ast::Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&mut query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn first_select_of(body: &SetExpr) -> Option<&ast::Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select_of(&query.body),
        SetExpr::SetOperation { left, .. } => first_select_of(left),
        _ => None,
    }
}

/// A whole number that a query gives is an integer if it fits one; the planner takes it for a bigint.
fn small_literal(item: &mut SelectItem) {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return };
    let number = match &*expr {
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => expr.as_ref(),
        expr => expr,
    };
    let is_small = matches!(number, Expr::Value(value)
        if matches!(&value.value, ast::Value::Number(digits, _) if digits.parse::<i32>().is_ok()));
    if is_small {
        let number = std::mem::replace(expr, Expr::Value(ast::Value::Null.into()));
        *expr = Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(number),
            data_type: ast::DataType::Integer(None),
            array: false,
            format: None,
        };
    }
}

fn renamed(expr: &Expr, heading: &str, at: usize) -> SelectItem {
    let alias = ast::Ident::with_quote('"', format!("{heading} #{}", at + 1));
    SelectItem::ExprWithAlias { expr: expr.clone(), alias }
}

/// The names that the planner gives an expression, near enough to tell which are the same: it does not mention casts.
fn planned_names(expr: &Expr) -> Vec<String> {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => planned_names(expr),
        Expr::Identifier(name) => vec![folded(name)],
        // The planner calls them all the same; once joined, each is called as its column is.
        Expr::Subquery(query) => {
            let column = first_select_of(&query.body).and_then(|select| match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => planned_names(expr).pop(),
                Some(SelectItem::ExprWithAlias { alias, .. }) => Some(folded(alias)),
                _ => None,
            });
            std::iter::once("(<subquery>)".to_owned()).chain(column).collect()
        }
        other => vec![other.to_string()],
    }
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

/// What Postgres puts over an expression without an alias (`FigureColname` in its `parse_target.c`).
pub(super) fn heading(expr: &Expr) -> String {
    own_name(expr).map(|(name, _)| name).unwrap_or_else(|| "?column?".to_owned())
}

/// A name, and whether it is a good one: that of a column or function, not just of a type.
fn own_name(expr: &Expr) -> Option<(String, bool)> {
    let good = |name: &str| Some((name.to_owned(), true));
    match expr {
        Expr::Identifier(name) => Some((folded(name), true)),
        Expr::CompoundIdentifier(path) => path.last().map(|name| (folded(name), true)),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(ast::AccessExpr::Dot(field)) => own_name(field),
            _ => own_name(root),
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => own_name(inner),
        Expr::Function(call) => match call.name.0.last()?.as_ident() {
            Some(name) => match cast_by_function(call) {
                Some((_, Some((name, true)))) => Some((name, true)),
                Some((of, _)) => Some((of, false)),
                // An array that names columns has become a call by now.
                None if name.value == "make_array" => good("array"),
                None => Some((folded(name), true)),
            },
            None => good(&call.name.to_string()),
        },
        Expr::Cast { expr, data_type, .. } => match own_name(expr) {
            Some((name, true)) => Some((name, true)),
            _ => Some((type_name(data_type), false)),
        },
        Expr::TypedString(typed) => Some((type_name(&typed.data_type), false)),
        Expr::Interval(_) => Some(("interval".to_owned(), false)),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(own_name) {
            Some((name, true)) => Some((name, true)),
            _ => Some(("case".to_owned(), false)),
        },
        Expr::Subquery(query) => subquery_name(&query.body),
        Expr::Exists { .. } => good("exists"),
        Expr::Array(_) => good("array"),
        Expr::Extract { .. } => good("extract"),
        Expr::AtTimeZone { .. } => good("timezone"),
        Expr::Substring { .. } => good("substring"),
        Expr::Position { .. } => good("position"),
        Expr::Trim { .. } => good("btrim"),
        Expr::Overlay { .. } => good("overlay"),
        Expr::Ceil { .. } => good("ceil"),
        Expr::Floor { .. } => good("floor"),
        Expr::Tuple(_) => good("row"),
        Expr::Value(value) if matches!(value.value, ast::Value::Boolean(_)) => Some(("bool".to_owned(), false)),
        _ => None,
    }
}

/// `'orders'::regclass` has become a call of `regclassin` by now: the name of the type, and of what is cast.
fn cast_by_function(call: &ast::Function) -> Option<(String, Option<(String, bool)>)> {
    let name = call.name.0.last()?.as_ident()?;
    let of = name.value.strip_suffix("in").filter(|of| pg_catalog::is_reg_type(of).is_some())?;
    let ast::FunctionArguments::List(given) = &call.args else { return None };
    match given.args.as_slice() {
        [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(inner))] => Some((of.to_owned(), own_name(inner))),
        _ => None,
    }
}

fn subquery_name(body: &SetExpr) -> Option<(String, bool)> {
    match first_select_of(body)?.projection.first()? {
        SelectItem::ExprWithAlias { alias, .. } => Some((folded(alias), true)),
        SelectItem::UnnamedExpr(expr) => own_name(expr),
        _ => None,
    }
}

/// The name a type has in Postgres' catalog.
fn type_name(of: &ast::DataType) -> String {
    use ast::DataType as T;
    let name = match of {
        T::Bool | T::Boolean => "bool",
        T::SmallInt(_) | T::Int2(_) => "int2",
        T::Int(_) | T::Integer(_) | T::Int4(_) => "int4",
        T::BigInt(_) | T::Int8(_) => "int8",
        T::Real | T::Float4 => "float4",
        T::Float(_) | T::Float8 | T::Double(_) | T::DoublePrecision => "float8",
        T::Numeric(_) | T::Decimal(_) | T::Dec(_) => "numeric",
        T::Varchar(_) | T::CharacterVarying(_) | T::CharVarying(_) => "varchar",
        T::Char(_) | T::Character(_) => "bpchar",
        T::Timestamp(_, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => "timestamptz",
        T::Timestamp(..) => "timestamp",
        T::Time(..) => "time",
        T::Interval { .. } => "interval",
        T::Array(ast::ArrayElemTypeDef::SquareBracket(item, _) | ast::ArrayElemTypeDef::AngleBracket(item)) => {
            return type_name(item);
        }
        T::Custom(name, _) => {
            return name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_else(|| name.to_string());
        }
        other => return other.to_string().to_lowercase(),
    };
    name.to_owned()
}

fn folded(name: &ast::Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn query(sql: &str) -> Box<ast::Query> {
        match Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0) {
            ast::Statement::Query(query) => query,
            other => panic!("{other}"),
        }
    }

    #[track_caller]
    fn check(expr: &str, expected: &str) {
        let headings = Headings::of(&mut query(&format!("SELECT {expr} FROM t")));
        assert_eq!(headings.left, [Some(expected.to_owned())], "{expr}");
    }

    #[test]
    fn headings_are_those_of_postgres() {
        check("count(*)", "count");
        check("pg_catalog.version()", "version");
        check("1", "?column?");
        check("a + 1", "?column?");
        check("Amount::int", "amount");
        check("1::bigint", "int8");
        check("'1'::numeric(12,2)", "numeric");
        check("round(a)::numeric", "round");
        check("'a'::varchar(3)", "varchar");
        check("CASE WHEN a THEN 1 END", "case");
        check("CASE WHEN a THEN 1 ELSE b END", "b");
        check("(SELECT max(a) FROM t)", "max");
        check("EXISTS (SELECT 1)", "exists");
        check("interval '1 day'", "interval");
        check("date '2024-01-01'", "date");
        check("current_date", "current_date");
        check("t.\"Name\"", "Name");
        check("extract(year FROM ts)", "extract");
        check("now() AT TIME ZONE 'UTC'", "timezone");
        check("ARRAY[1, 2]", "array");
        check("make_array(a, 2)", "array");
    }

    #[test]
    fn columns_given_twice_are_told_apart_for_the_planner_only() {
        let mut twice = query("SELECT NULL::text, NULL::bigint, i, i, 1 AS a, 2 AS a FROM t");
        let headings = Headings::of(&mut twice);
        assert_eq!(
            twice.to_string(),
            "SELECT NULL::TEXT, NULL::BIGINT AS \"int8 #2\", i, i AS \"i #4\", CAST(1 AS INTEGER) AS a, \
             CAST(2 AS INTEGER) AS \"a #6\" FROM t"
        );
        let planned: Vec<_> = (0..6).map(|at| Field::new(format!("c{at}"), DataType::Int64, true)).collect();
        let shown = headings.over(Arc::new(Schema::new(planned)));
        let names: Vec<_> = shown.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["text", "int8", "i", "i", "c4", "a"]);
    }

    #[test]
    fn a_wildcard_keeps_its_names() {
        let mut starred = query("SELECT 1, *, i, count(*) FROM t");
        let headings = Headings::of(&mut starred);
        assert_eq!(starred.to_string(), "SELECT CAST(1 AS INTEGER), *, i AS \"i #3\", count(*) FROM t");
        let planned: Vec<_> = (0..5).map(|at| Field::new(format!("c{at}"), DataType::Int64, true)).collect();
        let shown = headings.over(Arc::new(Schema::new(planned)));
        let names: Vec<_> = shown.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["?column?", "c1", "c2", "i", "count"]);
    }
}
