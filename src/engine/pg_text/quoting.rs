//! `quote_ident`, `quote_literal`, `quote_nullable` and `format`.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Volatility;
use datafusion::prelude::SessionContext;

use crate::engine::identifiers;
use crate::engine::pg_functions::{Answer, any, function, texts};
use crate::error::{Error, Kind, Result};

pub fn register(context: &SessionContext) {
    let of_one = |quote: fn(Option<&str>) -> Option<String>| {
        Answer::OfTexts(Arc::new(move |given| {
            Ok(ScalarValue::Utf8(quote(given.first().and_then(|text| text.as_deref()))))
        }))
    };
    let one: [(&'static str, Answer); 3] = [
        ("quote_ident", of_one(|name| name.map(identifiers::quoted))),
        ("quote_literal", of_one(|text| text.map(literal))),
        ("quote_nullable", of_one(|text| Some(text.map_or_else(|| "NULL".to_owned(), literal)))),
    ];
    for (name, answer) in one {
        context.register_udf(function(name, DataType::Utf8, texts(1, 1), Volatility::Immutable, answer));
    }
    let format = Answer::OfTexts(Arc::new(|given| {
        let Some((Some(pattern), values)) = given.split_first() else { return Ok(ScalarValue::Utf8(None)) };
        format(pattern, values).map(|text| ScalarValue::Utf8(Some(text)))
    }));
    context.register_udf(function("format", DataType::Utf8, any(), Volatility::Immutable, format));
}

/// A text as a literal of SQL.
fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') { format!("E'{}'", escaped.replace('\\', "\\\\")) } else { format!("'{escaped}'") }
}

/// `format('%I.%s', 'My Table', 1)`: `%s` a text, `%I` a name, `%L` a literal, `%%` itself; `%2$s` the second value,
/// `%-10s` ten wide at the left.
fn format(pattern: &str, values: &[Option<String>]) -> Result<String> {
    let wrong = |message: &str| Error::invalid(message.to_owned());
    let mut text = String::new();
    let mut next = 0;
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        if letters.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        let digits = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut number = String::new();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                number.push(digit);
            }
            number.parse::<usize>().ok()
        };
        let mut number = digits(&mut letters);
        if let Some(place) = number
            && letters.next_if_eq(&'$').is_some()
        {
            if place == 0 {
                return Err(wrong("format specifies argument 0, but arguments are numbered from 1"));
            }
            next = place - 1;
            number = None;
        }
        let left = number.is_none() && letters.next_if_eq(&'-').is_some();
        let width = number.or_else(|| digits(&mut letters)).unwrap_or(0);
        if width > 1_000_000 {
            return Err(Error::new(Kind::LimitExceeded, "a width of format() is too large").hint("at most 1000000"));
        }
        let Some(kind) = letters.next() else { return Err(wrong("unterminated format() type specifier")) };
        let value = values.get(next).ok_or_else(|| wrong("too few arguments for format()"))?;
        next += 1;
        let written = match (kind, value) {
            ('s', value) => value.clone().unwrap_or_default(),
            ('I', Some(name)) => identifiers::quoted(name),
            ('I', None) => return Err(wrong("null values cannot be formatted as an SQL identifier")),
            ('L', value) => value.as_deref().map_or_else(|| "NULL".to_owned(), literal),
            (other, _) => {
                return Err(wrong(&format!("unrecognized format() type specifier \"{other}\""))
                    .hint("for a single \"%\" use \"%%\""));
            }
        };
        text.push_str(&if left { format!("{written:width$}") } else { format!("{written:>width$}") });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(pattern: &str, values: &[&str]) -> Result<String> {
        format(pattern, &values.iter().map(|value| Some((*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn patterns_are_filled() {
        assert_eq!(formatted("%I.%I", &["public", "My Table"]).unwrap(), "public.\"My Table\"");
        assert_eq!(formatted("%s %% %L", &["a", "it's"]).unwrap(), "a % 'it''s'");
        assert_eq!(formatted("%2$s %1$s %s", &["a", "b"]).unwrap(), "b a b");
        assert_eq!(formatted("|%5s|%-5s|", &["a", "b"]).unwrap(), "|    a|b    |");
        assert!(formatted("%s %s", &["a"]).is_err());
        assert!(formatted("%d", &["1"]).is_err());
        assert_eq!(literal("a\\b'c"), "E'a\\\\b''c'");
    }
}
