//! A file in blocks that end where a record does, so that each can be read on its own.

use std::io::Read;

use crate::error::{Error, Kind, Result};

/// Blocks of about so many bytes.
pub(super) const BLOCK: usize = 1 << 20;
/// A record that does not end, for want of a quote, would take the rest of the file into memory.
pub(super) const MAX_RECORD: usize = 64 << 20;

/// Reads a file from the beginning of a record.
pub(super) struct Blocks<R> {
    file: R,
    delimiter: u8,
    /// Bytes of a block, unless a record is longer.
    size: usize,
    /// The beginning of the next block.
    rest: Vec<u8>,
}

impl<R: Read> Blocks<R> {
    pub(super) fn new(file: R, delimiter: u8, size: usize) -> Self {
        Self { file, delimiter, size, rest: Vec::new() }
    }

    /// The next block; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut block = Vec::with_capacity(self.size.max(self.rest.len()));
        block.append(&mut self.rest);
        let mut wanted = self.size.max(block.len() + 1);
        loop {
            let missing = (wanted - block.len()) as u64;
            if self.file.by_ref().take(missing).read_to_end(&mut block)? < missing as usize {
                return Ok((!block.is_empty()).then_some(block));
            }
            if let Some(end) = last_end(&block, self.delimiter) {
                self.rest.extend_from_slice(&block[end..]);
                block.truncate(end);
                return Ok(Some(block));
            }
            if block.len() > MAX_RECORD {
                return Err(too_long());
            }
            wanted = block.len() * 2;
        }
    }
}

pub(super) fn too_long() -> Error {
    let message = format!("a record is larger than {} MB", MAX_RECORD >> 20);
    Error::new(Kind::LimitExceeded, message).hint("a quote that is not closed may be the reason")
}

/// Behind the last record that surely ends in `bytes`, which begin where a record does.
fn last_end(bytes: &[u8], delimiter: u8) -> Option<usize> {
    let end_in = |from: usize, to| memchr::memrchr2(b'\n', b'\r', &bytes[from..to]).map(|at| from + at + 1);
    // What is not quoted begins at `plain`.
    let (mut end, mut plain, mut at) = (None, 0, 0);
    while let Some(found) = memchr::memchr(b'"', &bytes[at..]) {
        let quote = at + found;
        at = quote + 1;
        // Elsewhere in a field a quote is a letter.
        if quote == 0 || [delimiter, b'\n', b'\r'].contains(&bytes[quote - 1]) {
            end = end_in(plain, quote).or(end);
            at = match behind_quotes(bytes, at) {
                Some(behind) => behind,
                None => return end,
            };
            plain = at;
        }
    }
    end_in(plain, bytes.len()).or(end)
}

/// Where the quotes that were opened before `at` are closed; `None` where what comes after `bytes` must tell.
fn behind_quotes(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(b'"', bytes.get(at..)?)? + 1;
        match bytes.get(at)? {
            b'"' => at += 1,
            _ => return Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_where_records_do() {
        for (bytes, end) in [
            (&b"a,b\nc,d\ne"[..], Some(8)),
            (b"a,b\r\nc", Some(5)),
            (b"a,b\rc", Some(4)),
            (b"a,\"b\nc\",d\n\"e\n", Some(10)),
            (b"a,\"b\nc\"\"\n", None),
            (b"a\n\"b\"", Some(2)),
            (b"a\"b\n\"\"\nc", Some(7)),
            (b"a\n\"b\nc\"d", Some(2)),
            (b"abc", None),
            (b"", None),
        ] {
            assert_eq!(last_end(bytes, b','), end, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn nothing_is_lost_between_blocks() {
        let file = "1,\"a\nb\"\n\n2,c\r\n3,\"d\"\"\n\"\n4,e".repeat(5);
        for size in 1..80 {
            let mut blocks = Blocks::new(file.as_bytes(), b',', size);
            let mut all = Vec::new();
            while let Some(block) = blocks.next().unwrap() {
                assert!(!block.is_empty());
                all.extend(block);
            }
            assert_eq!(all, file.as_bytes(), "{size}");
        }
    }
}
