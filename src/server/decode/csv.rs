//! The csv format: fields between delimiters, quotes around what would be misread.

use super::lines::Field;
use super::malformed;
use crate::engine::CopyOptions;
use crate::error::Result;

/// Where the line ends: at a newline outside of quotes.
pub(super) fn newline(bytes: &[u8], options: &CopyOptions) -> Option<usize> {
    let CopyOptions { quote, escape, .. } = *options;
    let (mut quoted, mut at) = (false, 0);
    loop {
        at += memchr::memchr3(b'\n', quote, escape, &bytes[at..])?;
        match bytes[at] {
            b'\n' if !quoted => return Some(at),
            // An escape that is no quote takes the letter behind it along.
            byte if byte == escape && escape != quote && quoted => at += 1,
            // A quote that is doubled ends the quotes and begins them again.
            byte if byte == quote => quoted = !quoted,
            _ => {}
        }
        at += 1;
        if at > bytes.len() {
            return None;
        }
    }
}

/// The first field of what is left of a line, and what is left after it.
pub(super) fn field<'a>(
    line: &'a [u8],
    options: &CopyOptions,
    never_null: bool,
    null_if_quoted: bool,
    out: &mut Vec<u8>,
) -> Result<(Field, Option<&'a [u8]>)> {
    let CopyOptions { delimiter, quote, escape, .. } = *options;
    let null = options.null.as_bytes();
    let start = out.len();
    let (mut at, mut any_quotes) = (0, false);
    let rest = loop {
        let Some(stop) = memchr::memchr3(delimiter, quote, b'\r', &line[at..]) else {
            out.extend_from_slice(&line[at..]);
            break None;
        };
        out.extend_from_slice(&line[at..at + stop]);
        at += stop;
        match line[at] {
            byte if byte == delimiter => break Some(&line[at + 1..]),
            byte if byte == quote => {
                any_quotes = true;
                at = inside(line, at + 1, quote, escape, out)?;
            }
            _ => {
                return Err(malformed("unquoted carriage return found in data")
                    .hint("use quoted CSV field to represent carriage return"));
            }
        }
    };
    let is_null = &out[start..] == null && if any_quotes { null_if_quoted } else { !never_null };
    if is_null {
        out.truncate(start);
    }
    Ok((if is_null { Field::Null } else { Field::Text }, rest))
}

/// What is inside quotes, from behind the first; gives where it goes on behind the last.
fn inside(line: &[u8], mut at: usize, quote: u8, escape: u8, out: &mut Vec<u8>) -> Result<usize> {
    loop {
        let stop = memchr::memchr2(quote, escape, &line[at..]);
        let stop = stop.ok_or_else(|| malformed("unterminated CSV quoted field"))?;
        out.extend_from_slice(&line[at..at + stop]);
        at += stop;
        let next = line.get(at + 1).copied().filter(|next| *next == quote || *next == escape);
        match (line[at] == escape, next) {
            (true, Some(next)) => {
                out.push(next);
                at += 2;
            }
            _ if line[at] == quote => return Ok(at + 1),
            _ => {
                out.push(escape);
                at += 1;
            }
        }
    }
}

/// Values as a line; NULL is nothing at all.
pub(super) fn line<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> String {
    let value = |value: Option<&[u8]>| {
        let text = shown(value.unwrap_or_default());
        let needs_quotes = value.is_some() && (text.is_empty() || text.contains(['"', ',', '\n', '\r']));
        if needs_quotes { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    values.map(value).collect::<Vec<_>>().join(",")
}

/// What was sent, as a text that can be sent back.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}
