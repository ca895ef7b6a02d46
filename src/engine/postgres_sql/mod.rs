//! What Postgres' SQL has and the planner lacks, said in words that the planner knows. Tools write it, above all in
//! their queries of the catalog.

mod catalog;
mod clauses;
mod memberships;
pub mod set_returning;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, FunctionArguments, GroupByExpr, Ident,
    Interval, LimitClause, ObjectName, ObjectNamePart, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor,
    UnaryOperator, Value, Visit, visit_expressions,
};
use datafusion::sql::sqlparser::parser::Parser;

pub use catalog::system_columns;
use catalog::{is_catalog_array, look_up};
pub use clauses::{fetch, relation, sort_by_column};
pub use memberships::among_columns;

use crate::engine::dialect::DIALECT;
use crate::engine::{array_text, interval_text, pg_catalog};

/// Schemas whose functions are called with and without them.
const SYSTEM_SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

/// Collations that compare as we do: byte by byte.
const COLLATIONS: [&str; 4] = ["default", "C", "POSIX", "ucs_basic"];

/// Names that are calls without parentheses.
const KEYWORDS: [(&str, &str); 2] = [("current_schema", "current_schema()"), ("current_role", "current_user")];

/// Functions that the planner has under another name.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("gen_random_uuid", "uuid"),
    ("clock_timestamp", "now"),
    ("statement_timestamp", "now"),
    ("transaction_timestamp", "now"),
    ("char_length", "character_length"),
];

/// Rewrites one expression; those inside it come after it.
pub fn expression(expr: &mut Expr) {
    while let Expr::Collate { expr: inner, collation } = expr {
        let known = last(collation).is_some_and(|name| COLLATIONS.contains(&name.value.as_str()));
        if !known {
            return;
        }
        *expr = *inner.clone();
    }
    look_up(expr);
    match expr {
        Expr::Cast { expr: inner, data_type, .. } => {
            if let Some(replaced) = cast(inner, data_type) {
                *expr = replaced;
            }
        }
        Expr::Interval(interval) => plain_interval(interval),
        Expr::TypedString(typed) if matches!(typed.data_type, DataType::Timestamp(..)) => {
            if let Value::SingleQuotedString(text) = &mut typed.value.value {
                with_seconds(text);
            }
        }
        Expr::Function(call) => {
            unqualify(&mut call.name);
            if let Some((_, other)) = last(&call.name)
                .and_then(|name| OTHER_NAMES.iter().find(|(known, _)| name.value.eq_ignore_ascii_case(known)))
            {
                call.name = ObjectName::from(vec![Ident::new(*other)]);
            }
            if let Some(replaced) = call_of(call) {
                *expr = replaced;
            }
        }
        Expr::Identifier(name) if name.quote_style.is_none() => {
            let known = KEYWORDS.iter().find(|(keyword, _)| name.value.eq_ignore_ascii_case(keyword));
            if let Some((_, call)) = known {
                replace(expr, call);
            }
        }
        // `a && b`: arrays with an item in common.
        Expr::BinaryOp { left, op: BinaryOperator::PGOverlap, right } => {
            let call = format!("array_has_any({left}, {right})");
            replace(expr, &call);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } => {
            // `polroles = '{0}'`
            if let (Expr::Identifier(_) | Expr::CompoundIdentifier(_), Some(text)) = (left.as_ref(), literal(right))
                && is_catalog_array(left)
                && let Some(array) = array_text::items(text).and_then(|items| parsed(&numbers_of(&items)))
            {
                **right = array;
            }
        }
        // `d->-1`: Postgres ends an operator before a sign.
        Expr::BinaryOp { op: op @ BinaryOperator::Custom(_), right, .. } => {
            let arrow = match op {
                BinaryOperator::Custom(name) if name == "->-" => BinaryOperator::Arrow,
                BinaryOperator::Custom(name) if name == "->>-" => BinaryOperator::LongArrow,
                _ => return,
            };
            *op = arrow;
            **right = Expr::UnaryOp { op: UnaryOperator::Minus, expr: right.clone() };
        }
        // `OPERATOR(pg_catalog.~)`
        Expr::BinaryOp { op, .. } => {
            if let BinaryOperator::PGCustomBinaryOperator(path) = op
                && let [schema, name] = path.as_slice()
                && schema == "pg_catalog"
                && let Some(known) = operator(name)
            {
                *op = known;
            }
        }
        Expr::Like { .. } | Expr::ILike { .. } => escape_by_backslash(expr),
        // In 55.2 the planner forgets what stands around a query when it comes to the items of an array, though not to
        // the arguments of a function.
        Expr::Array(array) if array.elem.iter().any(names_something) => {
            let items: Vec<String> = array.elem.iter().map(ToString::to_string).collect();
            replace(expr, &format!("make_array({})", items.join(", ")));
        }
        Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
            if let Some(text) = literal(right)
                && let Some(array) = array_text::items(text).and_then(|items| parsed(&array_of(&items)))
            {
                **right = array;
            }
        }
        // `(x).n`
        Expr::CompoundFieldAccess { root, access_chain } => {
            if let ([AccessExpr::Dot(Expr::Identifier(field))], Expr::Nested(_)) =
                (access_chain.as_slice(), root.as_ref())
            {
                let field = crate::engine::statement::folded(field).replace('\'', "''");
                let taken = format!("get_field({root}, '{field}')");
                replace(expr, &taken);
            }
        }
        _ => {}
    }
}

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(ObjectNamePart::as_ident)
}

fn unqualify(name: &mut ObjectName) {
    if let [schema, _] = name.0.as_slice()
        && schema.as_ident().is_some_and(|schema| SYSTEM_SCHEMAS.contains(&schema.value.to_lowercase().as_str()))
    {
        name.0.remove(0);
    }
}

fn operator(name: &str) -> Option<BinaryOperator> {
    Some(match name {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        ">" => BinaryOperator::Gt,
        "<=" => BinaryOperator::LtEq,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        Expr::Nested(inner) => literal(inner),
        _ => None,
    }
}

/// A cast that the planner does not know.
fn cast(inner: &Expr, to: &DataType) -> Option<Expr> {
    let name = match to {
        DataType::Regclass => Some("regclass".to_owned()),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => last(name).map(|name| name.value.to_lowercase()),
        _ => None,
    };
    if let Some(input) = name.as_deref().and_then(pg_catalog::is_reg_type) {
        return parsed(&format!("{input}({inner})"));
    }
    let text = literal(inner)?;
    if let DataType::Timestamp(..) = to {
        let mut longer = text.to_owned();
        with_seconds(&mut longer);
        return (longer != text).then(|| parsed(&format!("CAST('{longer}' AS {to})")))?;
    }
    match to {
        // `'{1,2}'::int[]`
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) => {
            let items = array_text::items(text)?;
            let written = items.iter().map(|value| match value {
                Some(value) => format!("CAST('{}' AS {item})", value.replace('\'', "''")),
                None => format!("CAST(NULL AS {item})"),
            });
            let written = written.collect::<Vec<_>>().join(", ");
            if items.is_empty() { empty_array(item) } else { parsed(&format!("ARRAY[{written}]")) }
        }
        // `'\x0a'::bytea`
        DataType::Bytea => {
            let hex = text.strip_prefix("\\x")?;
            let is_hex = hex.len().is_multiple_of(2) && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex.then(|| Expr::Value(Value::HexStringLiteral(hex.to_owned()).into()))
        }
        DataType::Interval { .. } => {
            let plain = interval_text::Interval::parse(text)?.plain();
            parsed(&format!("INTERVAL '{plain}'"))
        }
        _ => None,
    }
}

/// `2024-01-01 06:00` as a time with seconds, which the planner wants.
fn with_seconds(text: &mut String) {
    let trimmed = text.trim();
    let shape = trimmed.bytes().map(|letter| if letter.is_ascii_digit() { b'9' } else { letter });
    if [b"9999-99-99 99:99".as_slice(), b"9999-99-99T99:99"].contains(&shape.collect::<Vec<_>>().as_slice()) {
        *text = format!("{trimmed}:00");
    }
}

fn numbers_of(items: &[Option<String>]) -> String {
    let numbers =
        items.iter().map(|item| format!("CAST('{}' AS INTEGER)", item.as_deref().unwrap_or("0").replace('\'', "")));
    format!("ARRAY[{}]", numbers.collect::<Vec<_>>().join(", "))
}

/// `'{}'::int[]`: an array of one NULL, without it.
fn empty_array(item: &DataType) -> Option<Expr> {
    parsed(&format!("array_resize(ARRAY[CAST(NULL AS {item})], 0)"))
}

fn array_of(items: &[Option<String>]) -> String {
    let written = items.iter().map(|item| match item {
        Some(item) => format!("'{}'", item.replace('\'', "''")),
        None => "NULL".to_owned(),
    });
    format!("ARRAY[{}]", written.collect::<Vec<_>>().join(", "))
}

/// `INTERVAL '1 day 02:00:00'` in the units that the planner reads.
fn plain_interval(interval: &mut Interval) {
    if interval.leading_field.is_some() || interval.last_field.is_some() {
        return;
    }
    let plain = literal(&interval.value).and_then(interval_text::Interval::parse);
    if let Some(plain) = plain {
        *interval.value = Expr::Value(Value::SingleQuotedString(plain.plain()).into());
    }
}

/// A call that the planner does not know.
fn call_of(call: &Function) -> Option<Expr> {
    let name = last(&call.name)?.value.to_lowercase();
    match (name.as_str(), &call.args) {
        ("array", FunctionArguments::Subquery(query)) => array_subquery(query),
        ("current_catalog", _) => parsed("current_database()"),
        ("localtimestamp", _) => parsed("CAST(now() AS TIMESTAMP)"),
        ("localtime", _) => parsed("CAST(now() AS TIME)"),
        // Of keys and indexes there are none, so that there is nothing in the arrays of their columns.
        ("unnest", _) if is_of_key(call) => parsed("CAST(NULL AS SMALLINT)"),
        ("generate_subscripts", _) if is_of_key(call) => parsed("CAST(NULL AS INTEGER)"),
        ("generate_subscripts", FunctionArguments::List(list)) => {
            let array = list.args.first()?;
            parsed(&format!("unnest(range(1, CAST(coalesce(array_length({array}), 0) AS BIGINT) + 1))"))
        }
        ("_pg_expandarray", _) => parsed("named_struct('x', CAST(NULL AS SMALLINT), 'n', CAST(NULL AS INTEGER))"),
        _ => None,
    }
}

fn is_of_key(call: &Function) -> bool {
    const ARRAYS: [&str; 7] = ["conkey", "confkey", "indkey", "indclass", "indoption", "indcollation", "prattrs"];
    let args = call.args.to_string();
    args.split([',', ')']).next().is_some_and(|first| ARRAYS.iter().any(|array| first.ends_with(array)))
}

/// `ARRAY(SELECT a FROM t ORDER BY b)` as `(SELECT array_agg(a ORDER BY b) FROM t)`.
fn array_subquery(of: &Query) -> Option<Expr> {
    if let Some(array) = unnested(of) {
        return Some(array);
    }
    let gathered = gathered(of)?;
    // Of no rows the aggregate gives NULL.
    parsed(&format!("array_or_empty({gathered})"))
}

/// The array of `SELECT x FROM unnest(array) AS t(x)`.
fn unnested(of: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = of.body.as_ref() else { return None };
    let ([SelectItem::UnnamedExpr(Expr::Identifier(_))], [from]) =
        (select.projection.as_slice(), select.from.as_slice())
    else {
        return None;
    };
    let call = match &from.relation {
        TableFactor::UNNEST { array_exprs, .. } => {
            return if array_exprs.len() == 1 { array_exprs.first().cloned() } else { None };
        }
        TableFactor::Table { name, args: Some(args), .. } if select.selection.is_none() => (name, args.args.as_slice()),
        TableFactor::Function { name, args, .. } if select.selection.is_none() => (name, args.as_slice()),
        _ => return None,
    };
    match call {
        (name, [array]) if last(name).is_some_and(|name| name.value.eq_ignore_ascii_case("unnest")) => {
            parsed(&array.to_string())
        }
        _ => None,
    }
}

/// The rows of a query of one column as one list.
fn gathered(of: &Query) -> Option<Expr> {
    let mut inner = of.clone();
    let bounded = inner
        .limit_clause
        .as_ref()
        .is_some_and(|limit| !matches!(limit, LimitClause::LimitOffset { limit: None, offset: None, .. }));
    if let SetExpr::Select(select) = inner.body.as_mut()
        && select.distinct.is_none()
        && select.having.is_none()
        && !bounded
        && inner.fetch.is_none()
        && let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_slice()
        && !is_grouped(select)
    {
        let order = match inner.order_by.as_ref().map(|order| &order.kind) {
            None => String::new(),
            Some(OrderByKind::Expressions(by)) => {
                // A number is the place of the one column.
                let by = by.iter().map(|by| match &by.expr {
                    Expr::Value(_) => by.to_string().replacen(&by.expr.to_string(), &expr.to_string(), 1),
                    _ => by.to_string(),
                });
                format!(" ORDER BY {}", by.collect::<Vec<_>>().join(", "))
            }
            Some(OrderByKind::All(_)) => return None,
        };
        let gathered = parsed(&format!("array_agg({expr}{order})"))?;
        select.projection = vec![SelectItem::UnnamedExpr(gathered)];
        inner.order_by = None;
        return Some(Expr::Subquery(Box::new(inner)));
    }
    parsed(&format!("(SELECT array_agg(item) FROM ({of}) AS items(item))"))
}

fn is_grouped(select: &Select) -> bool {
    match &select.group_by {
        GroupByExpr::Expressions(by, _) => !by.is_empty(),
        GroupByExpr::All(_) => true,
    }
}

/// `x LIKE 'pg/_%' ESCAPE '/'` as `x LIKE replace('pg/_%', '/', '\\')`.
fn escape_by_backslash(expr: &mut Expr) {
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else { return };
    let other = match escape_char.as_ref().map(|escape| &escape.value) {
        Some(Value::SingleQuotedString(escape)) if escape != "\\" && escape.chars().count() == 1 => escape.clone(),
        _ => return,
    };
    let text = format!("replace(replace({pattern}, '\\', '\\\\'), '{}', '\\')", other.replace('\'', "''"));
    if let Some(replaced) = parsed(&text) {
        **pattern = replaced;
        *escape_char = None;
    }
}

fn replace(expr: &mut Expr, by: &str) {
    if let Some(parsed) = parsed(by) {
        *expr = parsed;
    }
}

fn parsed(text: &str) -> Option<Expr> {
    Parser::new(&DIALECT).try_with_sql(text).and_then(|mut parser| parser.parse_expr()).ok()
}

/// Whether one of the expressions within is such a one.
fn holds(within: &impl Visit, is: impl Fn(&Expr) -> bool) -> bool {
    let found = |expr: &Expr| if is(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    visit_expressions(within, found).is_break()
}

/// What stands in FROM.
pub fn factor(text: &str) -> Option<TableFactor> {
    Parser::new(&DIALECT).try_with_sql(text).and_then(|mut parser| parser.parse_table_factor()).ok()
}

/// Whether an expression names a column.
pub fn names_something(expr: &Expr) -> bool {
    holds(expr, |expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)))
}

fn query(text: &str) -> Option<Box<Query>> {
    Parser::new(&DIALECT).try_with_sql(text).and_then(|mut parser| parser.parse_query()).ok()
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::{Statement, VisitMut, VisitorMut};

    use super::*;

    struct All;

    impl VisitorMut for All {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            expression(expr);
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            relation(factor);
            ControlFlow::Continue(())
        }

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            fetch(query);
            sort_by_column(query);
            ControlFlow::Continue(())
        }

        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            system_columns(select);
            set_returning::among_columns(select);
            set_returning::in_from(select);
            among_columns(select);
            ControlFlow::Continue(())
        }
    }

    fn rewritten(sql: &str) -> String {
        let mut statement: Statement = Parser::parse_sql(&DIALECT, sql).unwrap().remove(0);
        let _ = VisitMut::visit(&mut statement, &mut All);
        statement.to_string()
    }

    #[test]
    fn what_the_catalog_is_asked_for_each_row_gives_one_row() {
        assert_eq!(
            rewritten(
                "SELECT (SELECT d.adbin FROM pg_attrdef d WHERE d.adrelid = a.attrelid), \
                 (SELECT n.nspname FROM pg_namespace n WHERE n.oid = a.b), (SELECT max(t.b) FROM t) FROM a"
            ),
            "SELECT NULL, (SELECT max(n.nspname) FROM pg_catalog.pg_namespace n WHERE n.oid = a.b), \
             (SELECT max(t.b) FROM t) FROM a"
        );
    }

    #[test]
    fn types_of_names_are_functions() {
        assert_eq!(
            rewritten("SELECT 'a'::regclass::oid, c::pg_catalog.regtype"),
            "SELECT oidin(regclassin('a')), regtypein(c)"
        );
    }

    #[test]
    fn questions_about_queries_are_counted_among_the_columns() {
        assert_eq!(
            rewritten("SELECT EXISTS (SELECT 1 FROM t WHERE t.a = o.a) FROM o"),
            "SELECT (SELECT count(*) FROM t WHERE t.a = o.a) > 0 AS \"exists\" FROM o"
        );
        assert_eq!(
            rewritten("SELECT EXISTS (SELECT a FROM t LIMIT 1)"),
            "SELECT (SELECT count(*) FROM (SELECT a FROM t LIMIT 1) AS \"queried\") > 0 AS \"exists\""
        );
        assert_eq!(
            rewritten("SELECT 1 FROM o WHERE a IN (SELECT b FROM t)"),
            "SELECT 1 FROM o WHERE a IN (SELECT b FROM t)"
        );
        assert!(rewritten("SELECT a NOT IN (SELECT b FROM t) FROM o").ends_with("AS \"?column?\" FROM o"));
    }

    #[test]
    fn literals_are_read() {
        assert_eq!(rewritten(r"SELECT '\x0aFF'::bytea"), "SELECT X'0aFF'");
        assert_eq!(rewritten("SELECT '{1,NULL}'::int[]"), "SELECT ARRAY[CAST('1' AS INT), CAST(NULL AS INT)]");
        assert_eq!(
            rewritten("SELECT interval '1 day 02:00', '1h'::interval"),
            "SELECT INTERVAL '0 months 1 days 7200.000000 seconds', INTERVAL '0 months 0 days 3600.000000 seconds'"
        );
        assert_eq!(rewritten("SELECT 'a' = ANY('{a,b}')"), "SELECT 'a' = ANY(ARRAY['a', 'b'])");
        assert_eq!(rewritten("SELECT ARRAY[1, 2], ARRAY[a, 2] FROM t"), "SELECT ARRAY[1, 2], make_array(a, 2) FROM t");
        assert_eq!(rewritten("SELECT d->-1, d->>-2 FROM t"), "SELECT d -> -1, d ->> -2 FROM t");
    }

    #[test]
    fn arrays_of_queries_are_aggregates() {
        assert_eq!(
            rewritten(
                "SELECT ARRAY(SELECT a FROM t ORDER BY b DESC), ARRAY(SELECT a FROM t ORDER BY 1), ARRAY(SELECT 1 LIMIT 1)"
            ),
            "SELECT array_or_empty((SELECT array_agg(a ORDER BY b DESC) FROM t)), \
             array_or_empty((SELECT array_agg(a ORDER BY a) FROM t)), \
             array_or_empty((SELECT array_agg(item) FROM (SELECT 1 LIMIT 1) AS items (item)))"
        );
        assert_eq!(rewritten("SELECT ARRAY(SELECT x FROM unnest(c) AS t(x)) FROM t"), "SELECT c FROM t");
    }

    #[test]
    fn clauses_are_said_in_other_words() {
        assert_eq!(rewritten("SELECT a FROM t FETCH FIRST 2 ROWS ONLY"), "SELECT a FROM t LIMIT 2");
        assert_eq!(
            rewritten("SELECT i FROM generate_series(1, 3) AS i"),
            "SELECT i FROM generate_series(1, 3) AS i (i)"
        );
        assert_eq!(
            rewritten("SELECT generate_series(1, 2), array_length(generate_series(1, 2)) FROM t"),
            "SELECT unnest(generate_series(1, 2)) AS generate_series, array_length(generate_series(1, 2)) FROM t"
        );
        assert_eq!(
            rewritten("SELECT json_object_keys(d), e.value FROM t, jsonb_array_elements_text(t.d) AS e"),
            "SELECT unnest(json_keys(d)) AS json_object_keys, e.value FROM t, UNNEST(json_item_texts(t.d)) AS e (value)"
        );
        assert_eq!(rewritten("SELECT x FROM unnest(ARRAY[1]) x"), "SELECT x FROM UNNEST(ARRAY[1]) AS x (x)");
        assert_eq!(
            rewritten("SELECT * FROM pg_catalog.unnest(ARRAY[1]) WITH ORDINALITY AS u(item, n)"),
            "SELECT * FROM UNNEST(ARRAY[1], generate_series(1, greatest(CAST(coalesce(array_length(ARRAY[1]), 0) AS BIGINT)))) \
             AS u (item, n)"
        );
        assert_eq!(
            rewritten("SELECT a FROM t ORDER BY CASE WHEN a = (SELECT 1) THEN 0 ELSE 1 END DESC, 1 LIMIT 2"),
            "SELECT a FROM (SELECT a, CASE WHEN a = (SELECT 1) THEN 0 ELSE 1 END AS \"order by #1\" FROM t) AS sorted \
             ORDER BY \"order by #1\" DESC, 1 LIMIT 2"
        );
        assert_eq!(
            rewritten("SELECT timestamp '2024-01-01 06:00', '2024-01-01 06:00'::timestamp"),
            "SELECT TIMESTAMP '2024-01-01 06:00:00', CAST('2024-01-01 06:00:00' AS TIMESTAMP)"
        );
        assert_eq!(
            rewritten("SELECT c.tableoid, c.xmin FROM pg_class c"),
            "SELECT regclassin('pg_catalog.pg_class'), 1 FROM pg_catalog.pg_class c"
        );
    }

    #[test]
    fn what_is_the_systems_is_found_with_and_without_its_schema() {
        assert_eq!(
            rewritten(
                "SELECT pg_catalog.version(), a OPERATOR(pg_catalog.~) 'x' COLLATE pg_catalog.default FROM pg_class, orders"
            ),
            "SELECT version(), a ~ 'x' FROM pg_catalog.pg_class, orders"
        );
        assert_eq!(rewritten("SELECT s.name FROM pg_settings s"), "SELECT s.name FROM pg_show_all_settings() AS s");
    }

    #[test]
    fn patterns_are_escaped_by_backslashes() {
        assert_eq!(
            rewritten("SELECT a FROM t WHERE a NOT LIKE $1 || '%' ESCAPE '/'"),
            r"SELECT a FROM t WHERE a NOT LIKE replace(replace($1 || '%', '\', '\\'), '/', '\')"
        );
    }

    #[test]
    fn fields_of_rows_are_taken_out() {
        assert_eq!(rewritten("SELECT (r).n FROM t"), "SELECT get_field((r), 'n') FROM t");
    }
}
