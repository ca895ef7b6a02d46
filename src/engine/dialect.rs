//! The SQL we read: PostgreSQL's as sqlparser knows it, with the mistakes taken out that change what a query means.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

/// The dialect that everything is parsed in.
pub const DIALECT: CohortDialect = CohortDialect {};

const BASE: PostgreSqlDialect = PostgreSqlDialect {};

#[derive(Debug)]
pub struct CohortDialect {}

/// Methods that are PostgreSQL's.
macro_rules! as_postgres {
    ($($name:ident),* $(,)?) => {
        $(
            fn $name(&self) -> bool {
                BASE.$name()
            }
        )*
    };
}

impl Dialect for CohortDialect {
    /// sqlparser asks in some places whether it reads PostgreSQL.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    /// `a IS DISTINCT FROM b AND c` is `(a IS DISTINCT FROM b) AND c`; sqlparser 0.62 takes all that follows for the
    /// second operand.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        let not = match () {
            () if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) => false,
            () if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) => true,
            () => return None,
        };
        let left = Box::new(expr.clone());
        Some(parser.parse_subexpr(self.prec_value(Precedence::Is)).map(|right| match not {
            true => Expr::IsNotDistinctFrom(left, Box::new(right)),
            false => Expr::IsDistinctFrom(left, Box::new(right)),
        }))
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        BASE.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        BASE.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        BASE.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        BASE.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        BASE.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        BASE.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        BASE.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        BASE.prec_value(precedence)
    }

    as_postgres!(
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_alter_column_type_using,
        supports_array_typedef_with_brackets,
        supports_bitwise_shift_operators,
        supports_comma_separated_trim,
        supports_comment_on,
        supports_comment_optimizer_hint,
        supports_create_index_with_clause,
        supports_create_table_like_parenthesized,
        supports_empty_projections,
        supports_explain_with_utility_options,
        supports_factorial_operator,
        supports_filter_during_aggregation,
        supports_geometric_types,
        supports_group_by_expr,
        supports_insert_table_alias,
        supports_interval_options,
        supports_listen_notify,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_named_fn_args_with_expr_name,
        supports_nested_comments,
        supports_notnull_operator,
        supports_numeric_literal_underscores,
        supports_select_wildcard_with_alias,
        supports_set_names,
        supports_string_escape_constant,
        supports_unicode_string_literal,
        supports_xml_expressions,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(sql: &str) -> String {
        let mut parser = Parser::new(&DIALECT).try_with_sql(sql).unwrap();
        match parser.parse_expr().unwrap() {
            Expr::BinaryOp { left, op, right } => format!("[{left}] {op} [{right}]"),
            other => other.to_string(),
        }
    }

    #[test]
    fn is_distinct_from_binds_like_is() {
        assert_eq!(bound("a IS NOT DISTINCT FROM b AND c"), "[a IS NOT DISTINCT FROM b] AND [c]");
        assert_eq!(bound("a AND b IS DISTINCT FROM c + 1 OR d"), "[a AND b IS DISTINCT FROM c + 1] OR [d]");
        assert_eq!(bound("a IS DISTINCT FROM b"), "a IS DISTINCT FROM b");
        assert_eq!(bound("a IS NOT NULL AND b"), "[a IS NOT NULL] AND [b]");
    }
}
