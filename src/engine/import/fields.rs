//! Where the fields of a piece of CSV end, found 64 bytes at a time.

use std::borrow::Cow;

const QUOTE: u8 = b'"';

/// Records that all have the same number of fields.
pub(super) struct Fields<'a> {
    text: &'a str,
    n_columns: usize,
    /// Where each field ends, record after record.
    ends: Vec<u32>,
}

impl<'a> Fields<'a> {
    /// `text` begins where a record does, and ends where one does. `None` where a record has another number of fields or
    /// a quote is left open: whoever reads it must look closer.
    ///
    /// A quote has a meaning at the beginning of a field and up to the one that closes it; `\r`, `\n` and both together
    /// end a record outside of quotes; lines with nothing in them are no records.
    pub(super) fn of(text: &'a str, delimiter: u8, n_columns: usize) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let bytes = text.as_bytes();
        let stops = [delimiter, b'\n', b'\r', QUOTE];
        let mut index =
            Index { ends: Vec::with_capacity(bytes.len() / 6), start: 0, column: 0, quoted: false, second: 0 };
        let (chunks, tail) = bytes.as_chunks::<CHUNK>();
        let mut last = [0; CHUNK];
        last[..tail.len()].copy_from_slice(tail);
        for (n, chunk) in chunks.iter().chain([&last]).enumerate() {
            let mut stops = mask(chunk, stops);
            while stops != 0 {
                let at = n * CHUNK + stops.trailing_zeros() as usize;
                stops &= stops - 1;
                index.stop(bytes, at, delimiter, n_columns)?;
            }
        }
        if index.quoted {
            return None;
        }
        // The last record may want its newline.
        if index.column > 0 || index.start < bytes.len() {
            index.end_record(bytes.len(), n_columns)?;
        }
        Some(Self { text, n_columns, ends: index.ends })
    }

    pub(super) fn n_rows(&self) -> usize {
        self.ends.len() / self.n_columns
    }

    /// Gives `take` the values of a column, without the quotes around them, up to the first that it gives nothing for.
    #[inline(always)] // Two calls a value would take as long as reading it.
    pub(super) fn each(&self, column: usize, mut take: impl FnMut(&str) -> Option<()>) -> Option<()> {
        let mut at = column;
        while at < self.ends.len() {
            let start = if at == 0 { 0 } else { self.ends[at - 1] as usize + 1 };
            // Fields end at letters of one byte, so there is always one.
            let mut field = self.text.get(start..self.ends[at] as usize).unwrap_or_default();
            if column == 0 {
                field = behind_line_ends(field);
            }
            match field.as_bytes().first() {
                Some(&QUOTE) => take(&unquoted(&field[1..]))?,
                _ => take(field)?,
            }
            at += self.n_columns;
        }
        Some(())
    }
}

/// Before the first field of a record may be the rest of a line's end, and lines with nothing in them.
#[inline(always)]
fn behind_line_ends(field: &str) -> &str {
    let mut start = 0;
    while let Some(b'\r' | b'\n') = field.as_bytes().get(start) {
        start += 1;
    }
    &field[start..]
}

/// What has been found so far.
struct Index {
    ends: Vec<u32>,
    /// Where the field at hand begins.
    start: usize,
    /// Its place in its record.
    column: usize,
    quoted: bool,
    /// The second of two quotes that stand for one.
    second: usize,
}

impl Index {
    #[inline(always)]
    fn stop(&mut self, bytes: &[u8], at: usize, delimiter: u8, n_columns: usize) -> Option<()> {
        let byte = bytes[at];
        if byte == QUOTE {
            self.quote(bytes, at);
        } else if self.quoted {
            // Part of the value.
        } else if byte == delimiter {
            self.ends.push(at as u32);
            self.column += 1;
            self.start = at + 1;
        } else if self.column == 0 && self.start == at {
            self.start = at + 1;
        } else {
            self.end_record(at, n_columns)?;
        }
        Some(())
    }

    fn quote(&mut self, bytes: &[u8], at: usize) {
        if !self.quoted {
            self.quoted = at == self.start;
        } else if self.second == at && at > 0 {
            self.second = 0;
        } else if bytes.get(at + 1) == Some(&QUOTE) {
            self.second = at + 1;
        } else {
            self.quoted = false;
        }
    }

    #[inline(always)]
    fn end_record(&mut self, at: usize, n_columns: usize) -> Option<()> {
        self.ends.push(at as u32);
        self.start = at + 1;
        (std::mem::take(&mut self.column) + 1 == n_columns).then_some(())
    }
}

/// A value from behind its first quote: two quotes stand for one, and what comes after a single one is as it is.
fn unquoted(field: &str) -> Cow<'_, str> {
    let mut value = match field.split_once('"') {
        Some((value, "")) => return Cow::Borrowed(value),
        _ => String::with_capacity(field.len()),
    };
    let mut rest = field;
    while let Some((inside, after)) = rest.split_once('"') {
        value.push_str(inside);
        match after.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => {
                rest = after;
                break;
            }
        }
    }
    value.push_str(rest);
    Cow::Owned(value)
}

/// Bytes that are looked at together: a bit each of a word.
const CHUNK: usize = 64;

/// Which bytes are one of these. The compiler makes vector instructions of it.
#[inline(always)]
fn mask(chunk: &[u8; CHUNK], [a, b, c, d]: [u8; 4]) -> u64 {
    let mut found = [0; CHUNK];
    for (found, byte) in found.iter_mut().zip(chunk) {
        *found = u8::from(*byte == a) | u8::from(*byte == b) | u8::from(*byte == c) | u8::from(*byte == d);
    }
    let mut mask = 0;
    for (n, word) in found.as_chunks::<8>().0.iter().enumerate() {
        // Bit 0 of byte i becomes bit i of the highest byte; no two of the products meet.
        let bits = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= bits << (8 * n);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, n_columns: usize) -> Option<Vec<Vec<String>>> {
        let fields = Fields::of(text, b',', n_columns)?;
        let mut rows = vec![Vec::new(); fields.n_rows()];
        for column in 0..n_columns {
            let mut row = rows.iter_mut();
            fields.each(column, |value| row.next().map(|row| row.push(value.to_owned()))).unwrap();
        }
        Some(rows)
    }

    #[test]
    fn quotes_and_ends_of_lines_are_told_apart() {
        let text = "a,b\r\n\"1,\n\"\"2\"\"\",x\"y\n\n\"q\"r\"s,\"\"\n,\rlast,\u{fc}";
        let expected = [["a", "b"], ["1,\n\"2\"", "x\"y"], ["qr\"s", ""], ["", ""], ["last", "\u{fc}"]];
        assert_eq!(rows(text, 2).unwrap(), expected);
        assert_eq!(rows("", 2).unwrap(), Vec::<Vec<String>>::new());
        assert_eq!(rows("\n\"\"\n\n", 1).unwrap(), [[""]]);
    }

    #[test]
    fn what_must_be_looked_at_closer_is_none() {
        for text in ["a\n", "a,b,c\n", "a,b\nc", "a,\"b", "a,\"b\"\"", "\"", "a,b\n\"\n,\n"] {
            assert!(rows(text, 2).is_none(), "{text}");
        }
    }

    #[test]
    fn every_byte_has_its_bit() {
        for at in 0..CHUNK {
            let mut chunk = [b'x'; CHUNK];
            chunk[at] = b'\n';
            chunk[CHUNK - 1 - at] = b';';
            assert_eq!(mask(&chunk, [b';', b'\n', b'\r', QUOTE]), 1 << at | 1 << (CHUNK - 1 - at));
        }
    }
}
