//! Where in its text a statement is wrong: clients point at it.

use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::engine::dialect::DIALECT;
use crate::error::{Error, Kind};

/// The error with the place in `sql` of the name that it complains of: the first one that is written so.
#[must_use]
pub fn with_place(error: Error, sql: &str) -> Error {
    if error.position.is_some() {
        return error;
    }
    let position = match error.kind {
        Kind::Syntax => error.hint.as_deref().and_then(|hint| place_of_parser(hint, sql)),
        Kind::UnknownTable | Kind::UnknownColumn | Kind::UnknownFunction | Kind::AmbiguousColumn | Kind::NotGrouped => {
            complained_of(&error.message).and_then(|name| place_of_name(name, sql))
        }
        _ => None,
    };
    Error { position, ..error }
}

/// The parser says `… at line: 1, column: 8`.
fn place_of_parser(hint: &str, sql: &str) -> Option<usize> {
    let (_, place) = hint.rsplit_once("line: ")?;
    let (line, column) = place.split_once(", column: ")?;
    position(sql, line.trim().parse().ok()?, column.trim().parse().ok()?)
}

/// The last part of the name in a message: of `relation "shop.orders"` orders, of `function nope(bigint)` nope.
fn complained_of(message: &str) -> Option<&str> {
    let name = match message.strip_prefix("function ") {
        Some(call) => call.split(['(', ' ']).next()?,
        None => message.split('"').nth(1)?,
    };
    name.rsplit('.').next()
}

fn place_of_name(name: &str, sql: &str) -> Option<usize> {
    let tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location().ok()?;
    let named = |token: &Token| match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase() == name,
        Token::Word(word) => word.value == name,
        _ => false,
    };
    let mut at = tokens.iter().position(|token| named(&token.token))?;
    // Of `schema.name` the beginning.
    while at >= 2 && tokens[at - 1].token == Token::Period && matches!(tokens[at - 2].token, Token::Word(_)) {
        at -= 2;
    }
    let start = tokens[at].span.start;
    position(sql, start.line, start.column)
}

/// The number of a letter, counted from 1 as Postgres does it, of its line and column.
fn position(sql: &str, line: u64, column: u64) -> Option<usize> {
    let before = usize::try_from(line.checked_sub(1)?).ok()?;
    let lines = sql.split_inclusive('\n').take(before).map(|line| line.chars().count()).sum::<usize>();
    let position = lines + usize::try_from(column).ok()?;
    (position > 0 && position <= sql.chars().count() + 1).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: Kind, message: &str, sql: &str) -> Option<usize> {
        with_place(Error::new(kind, message), sql).position
    }

    #[test]
    fn names_are_found_in_the_text() {
        assert_eq!(place(Kind::UnknownTable, "relation \"nowhere\" does not exist", "SELECT * FROM nowhere"), Some(15));
        assert_eq!(
            place(Kind::UnknownTable, "relation \"shop.nowhere\" does not exist", "SELECT 'ä'\nFROM shop.Nowhere"),
            Some(17)
        );
        assert_eq!(place(Kind::UnknownColumn, "column \"t.b\" does not exist", "SELECT t.a, t.b FROM t"), Some(13));
        assert_eq!(place(Kind::UnknownFunction, "function nope(bigint) does not exist", "SELECT nope(1)"), Some(8));
        assert_eq!(place(Kind::UnknownTable, "relation \"x\" does not exist", "SELECT 1"), None);
        assert_eq!(place(Kind::DivisionByZero, "division by zero", "SELECT 1/0"), None);
    }

    #[test]
    fn the_parser_says_where_it_stopped() {
        let error = Error::new(Kind::Syntax, "syntax error at or near \"FROM\"");
        let error = error.hint("expected an expression at line: 2, column: 3");
        assert_eq!(with_place(error, "SELECT\n  FROM t").position, Some(10));
    }
}
