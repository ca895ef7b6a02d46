//! A JSON document (RFC 8259) as the text that it is, taken apart without making anything of its values.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::engine::array_text;
use crate::error::{Error, Kind, Result};

/// So deep objects and arrays may stand inside each other.
const MOST_DEPTH: usize = 1_000;

/// A step into a value: to the member of that name if it is an object, to that item if it is an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step<'a> {
    name: Option<Cow<'a, str>>,
    /// From 0; from the end if it is negative.
    place: Option<i64>,
}

impl<'a> Step<'a> {
    pub(super) fn name(name: &'a str) -> Self {
        Self { name: Some(Cow::Borrowed(name)), place: None }
    }

    pub(super) fn place(place: i64) -> Self {
        Self { name: None, place: Some(place) }
    }

    /// A step of a path, which is text and may mean either.
    pub(super) fn either(step: impl Into<Cow<'a, str>>) -> Self {
        let name = step.into();
        Self { place: name.trim().parse().ok(), name: Some(name) }
    }

    /// The steps of a path as Postgres writes arrays; `None`: one of them is NULL, and leads nowhere.
    pub(super) fn path(written: &str) -> Result<Option<Vec<Step<'static>>>> {
        let items = array_text::items(written)
            .ok_or_else(|| Error::new(Kind::InvalidText, format!("malformed array literal: \"{written}\"")))?;
        Ok(items.into_iter().map(|item| item.map(Step::either)).collect())
    }
}

/// What the steps lead to, as it is written in the document; `None`: nothing is there.
pub(super) fn find<'a>(document: &'a str, path: &[Step]) -> Result<Option<&'a str>> {
    let mut found = whole(document)?;
    for step in path {
        match inner(found, step)? {
            Some(value) => found = value,
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

fn inner<'a>(value: &'a str, step: &Step) -> Result<Option<&'a str>> {
    let mut found = None;
    match (value.as_bytes().first(), step) {
        // Of members of the same name the last one counts.
        (Some(b'{'), Step { name: Some(name), .. }) => members(value, |key, value| {
            if text_of(key)? == *name {
                found = Some(value);
            }
            Ok(())
        })?,
        (Some(b'['), Step { place: Some(place), .. }) => {
            let items = items(value)?;
            let place = if *place < 0 { *place + items.len() as i64 } else { *place };
            found = usize::try_from(place).ok().and_then(|place| items.get(place).copied());
        }
        _ => {}
    }
    Ok(found)
}

/// A value as text: a string without quotes, JSON's null as NULL.
pub(super) fn text(value: &str) -> Result<Option<Cow<'_, str>>> {
    match value.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => text_of(value).map(Some),
        _ => Ok(Some(Cow::Borrowed(value))),
    }
}

/// `object`, `array`, `string`, `number`, `boolean` or `null`.
pub(super) fn type_of(document: &str) -> Result<&'static str> {
    Ok(match whole(document)?.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    })
}

/// The items of an array, as they are written; `None`: it is something else.
pub(super) fn array(document: &str) -> Result<Option<Vec<&str>>> {
    let value = whole(document)?;
    if value.starts_with('[') { items(value).map(Some) } else { Ok(None) }
}

/// The keys of an object, each once, as they come.
pub(super) fn keys(document: &str) -> Result<Vec<Cow<'_, str>>> {
    let value = whole(document)?;
    if !value.starts_with('{') {
        let of = if value.starts_with('[') { "an array" } else { "a scalar" };
        return Err(Error::invalid(format!("cannot call json_object_keys on {of}")));
    }
    let (mut keys, mut seen) = (Vec::new(), HashSet::new());
    members(value, |key, _| {
        let key = text_of(key)?;
        if seen.insert(key.clone()) {
            keys.push(key);
        }
        Ok(())
    })?;
    Ok(keys)
}

fn items(array: &str) -> Result<Vec<&str>> {
    let mut items = Vec::new();
    Scanner { text: array, at: 0 }.array(0, &mut |item| items.push(item))?;
    Ok(items)
}

/// Calls with the key, in its quotes, and the value of each member of an object.
fn members<'a>(object: &'a str, mut on: impl FnMut(&'a str, &'a str) -> Result<()>) -> Result<()> {
    let mut failed = Ok(());
    Scanner { text: object, at: 0 }.object(0, &mut |key, value| {
        if failed.is_ok() {
            failed = on(key, value);
        }
    })?;
    failed
}

/// The value that a document is, without the space around it. All of it is checked.
pub(super) fn whole(document: &str) -> Result<&str> {
    let mut scanner = Scanner { text: document, at: 0 };
    let value = scanner.value(0)?;
    scanner.space();
    if scanner.at == document.len() { Ok(value) } else { Err(scanner.wrong()) }
}

fn text_of(string: &str) -> Result<Cow<'_, str>> {
    if !string.contains('\\') {
        return Ok(Cow::Borrowed(&string[1..string.len() - 1]));
    }
    let text = serde_json::from_str::<String>(string);
    Ok(Cow::Owned(text.map_err(|_| invalid(&format!("the string {string} has a \\u that is no character")))?))
}

fn invalid(detail: &str) -> Error {
    Error::new(Kind::InvalidText, format!("invalid input syntax for type json: {detail}"))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// The value that comes, as it is written.
    fn value(&mut self, depth: usize) -> Result<&'a str> {
        self.space();
        let from = self.at;
        match self.peek() {
            Some(b'{') => self.object(depth, &mut |_, _| {})?,
            Some(b'[') => self.array(depth, &mut |_| {})?,
            Some(b'"') => drop(self.string()?),
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => self.number()?,
        }
        Ok(&self.text[from..self.at])
    }

    fn object(&mut self, depth: usize, on: &mut dyn FnMut(&'a str, &'a str)) -> Result<()> {
        self.open(b'{', depth)?;
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.must(b':')?;
            on(key, self.value(depth + 1)?);
            self.space();
            if self.take(b'}') {
                return Ok(());
            }
            self.must(b',')?;
        }
    }

    fn array(&mut self, depth: usize, on: &mut dyn FnMut(&'a str)) -> Result<()> {
        self.open(b'[', depth)?;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            on(self.value(depth + 1)?);
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            self.must(b',')?;
        }
    }

    fn open(&mut self, bracket: u8, depth: usize) -> Result<()> {
        if depth == MOST_DEPTH {
            let message = format!("a JSON document is more than {MOST_DEPTH} levels deep");
            return Err(Error::new(Kind::LimitExceeded, message));
        }
        self.must(bracket)
    }

    /// A string in its quotes.
    fn string(&mut self) -> Result<&'a str> {
        let from = self.at;
        self.must(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                // Anything but control characters.
                Some(b' '..) => self.at += 1,
                _ => return Err(self.wrong()),
            }
        }
        self.at += 1;
        Ok(&self.text[from..self.at])
    }

    fn escape(&mut self) -> Result<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.wrong());
                }
                self.at += 5;
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong());
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > from { Ok(()) } else { Err(self.wrong()) }
    }

    fn must(&mut self, byte: u8) -> Result<()> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong()) }
    }

    fn wrong(&self) -> Error {
        match self.text[self.at..].chars().next() {
            Some(letter) => {
                let place = self.text[..self.at].chars().count() + 1;
                invalid(&format!("\"{}\" at character {place}", letter.escape_default()))
            }
            None => invalid("the document ends too early"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn at<'a>(document: &'a str, path: &[Step]) -> Option<&'a str> {
        find(document, path).unwrap()
    }

    #[test]
    fn steps_lead_into_objects_and_arrays() {
        let document = r#" {"a": {"b": [1, 2.50, "x\"y"]}, "ä": null, "a ": true, "d": 1, "d": 2 } "#;
        assert_eq!(at(document, &[Step::name("a"), Step::name("b"), Step::place(1)]), Some("2.50"));
        assert_eq!(at(document, &[Step::name("a"), Step::name("b"), Step::place(-1)]), Some(r#""x\"y""#));
        assert_eq!(at(document, &[Step::name("a"), Step::place(0)]), None);
        assert_eq!(at(document, &[Step::name("a"), Step::name("b"), Step::name("0")]), None);
        assert_eq!(at(document, &[Step::name("a"), Step::name("b"), Step::either("0")]), Some("1"));
        assert_eq!(at(document, &[Step::name("a"), Step::name("b"), Step::place(3)]), None);
        assert_eq!(at(document, &[Step::name("ä")]), Some("null"));
        assert_eq!(at(document, &[Step::name("d")]), Some("2"));
        assert_eq!(at(document, &[]), Some(document.trim()));
        assert_eq!(text(r#""x\"y""#).unwrap().as_deref(), Some("x\"y"));
        assert_eq!(text("null").unwrap(), None);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for wrong in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\"}",
            "{a:1}",
            "01",
            "1.",
            "-",
            "+1",
            "nul",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "[1] 2",
            "\"\n\"",
            "{\"a\":1,}",
            "'a'",
            "NaN",
            "1e",
            "ä",
        ] {
            assert!(find(wrong, &[]).is_err(), "{wrong}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(find(&deep, &[]).is_err());
        assert!(find(&format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000)), &[]).is_ok());
        // A half of a pair of surrogates is well written and no text.
        assert!(text(at("[\"\\ud800\"]", &[Step::place(0)]).unwrap()).is_err());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Every value is found where it is, however the document is laid out.
        #[test]
        fn what_is_found_is_what_a_parser_finds(value in values(), pretty in any::<bool>()) {
            let document = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let document = document.unwrap();
            prop_assert_eq!(whole(&document).unwrap(), document.as_str());
            // The parser does not give back every digit of a number that it wrote.
            let value: Value = serde_json::from_str(&document).unwrap();
            if let Value::Object(members) = &value {
                for (key, member) in members {
                    let found = at(&document, &[Step::name(key)]).unwrap();
                    prop_assert_eq!(&serde_json::from_str::<Value>(found).unwrap(), member);
                }
            }
            if let Value::Array(items) = &value {
                prop_assert_eq!(array(&document).unwrap().unwrap().len(), items.len());
                for (place, item) in items.iter().enumerate() {
                    let found = at(&document, &[Step::place(place as i64)]).unwrap();
                    prop_assert_eq!(&serde_json::from_str::<Value>(found).unwrap(), item);
                }
            }
        }

        /// What is accepted is what a parser accepts.
        #[test]
        fn accepts_what_a_parser_accepts(text in "[\\[\\]{}\",:0-9a-eE.tfnrul \\\\-]{0,12}") {
            prop_assert_eq!(whole(&text).is_ok(), serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok());
        }
    }
}
