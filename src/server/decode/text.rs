//! The text format: fields between delimiters, backslashes before what would be misread.

use super::lines::Field;
use super::malformed;
use crate::engine::CopyOptions;
use crate::error::Result;

/// Where the line ends: at a newline that no backslash stands before.
pub(super) fn newline(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find(|at| {
        let before = bytes[..*at].iter().rev().take_while(|byte| **byte == b'\\').count();
        before % 2 == 0
    })
}

/// The first field of what is left of a line, and what is left after it.
pub(super) fn field<'a>(line: &'a [u8], options: &CopyOptions, out: &mut Vec<u8>) -> Result<(Field, Option<&'a [u8]>)> {
    // Most fields have no backslash and are taken as they are.
    match memchr::memchr3(options.delimiter, b'\\', b'\r', line) {
        None => Ok((plain(line, options, out), None)),
        Some(at) if line[at] == options.delimiter => Ok((plain(&line[..at], options, out), Some(&line[at + 1..]))),
        Some(_) => escaped(line, options, out),
    }
}

fn plain(field: &[u8], options: &CopyOptions, out: &mut Vec<u8>) -> Field {
    if field == options.null.as_bytes() {
        return Field::Null;
    }
    out.extend_from_slice(field);
    Field::Text
}

fn escaped<'a>(line: &'a [u8], options: &CopyOptions, out: &mut Vec<u8>) -> Result<(Field, Option<&'a [u8]>)> {
    let start = out.len();
    let mut at = 0;
    while let Some(byte) = line.get(at).filter(|byte| **byte != options.delimiter) {
        at += 1;
        match byte {
            b'\\' => at += unescape(&line[at..], out),
            b'\r' => {
                return Err(
                    malformed("literal carriage return found in data").hint("use \"\\r\" to represent carriage return")
                );
            }
            byte => out.push(*byte),
        }
    }
    // What stands for NULL is looked for as it is written.
    if &line[..at] == options.null.as_bytes() {
        out.truncate(start);
        return Ok((Field::Null, line.get(at + 1..)));
    }
    Ok((Field::Text, line.get(at + 1..)))
}

/// What stands behind a backslash; gives the number of bytes it took.
fn unescape(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let octal = |byte: &&u8| matches!(byte, b'0'..=b'7');
    match rest {
        [] => {
            out.push(b'\\');
            0
        }
        [b'0'..=b'7', ..] => {
            let digits: Vec<u8> = rest.iter().take(3).take_while(octal).copied().collect();
            let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            out.push((value & 0xff) as u8);
            digits.len()
        }
        [b'x', high, after @ ..] if high.is_ascii_hexdigit() => {
            let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
            match after.first().filter(|low| low.is_ascii_hexdigit()) {
                Some(low) => {
                    out.push(digit(*high) * 16 + digit(*low));
                    3
                }
                None => {
                    out.push(digit(*high));
                    2
                }
            }
        }
        [letter, ..] => {
            out.push(match letter {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                other => *other,
            });
            1
        }
    }
}
