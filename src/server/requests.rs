//! What clients ask, read strictly.
//!
//! pgwire's own decoders trust the counts inside a message and panic when it ends early, so client messages are read
//! here: a message that does not say what it claims is an error of the client's, never of ours.

use bytes::{Buf, Bytes};
use pgwire::api::Type;

use super::encode::Format;
use super::failure::Failure;
use crate::error::{Error, Kind};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Query(String),
    Parse {
        statement: String,
        sql: String,
        declared: Vec<Option<Type>>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        max_rows: Option<u64>,
    },
    Close(Target),
    Flush,
    Sync,
    Terminate,
    /// Data of a copy that is over: a client may send it before it hears that the copy failed.
    Stray,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub portal: String,
    pub statement: String,
    pub formats: Vec<Format>,
    pub values: Vec<Option<Bytes>>,
    pub results: Vec<Format>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement(String),
    Portal(String),
}

impl Request {
    /// Reads the message `letter` from its body.
    pub(super) fn read(letter: u8, body: Bytes) -> Result<Self, Failure> {
        let mut body = Body(body);
        let request = match letter {
            b'Q' => Self::Query(body.text()?),
            b'P' => Self::Parse { statement: body.text()?, sql: body.text()?, declared: body.types()? },
            b'B' => Self::Bind(Bind {
                portal: body.text()?,
                statement: body.text()?,
                formats: body.formats()?,
                values: body.values()?,
                results: body.formats()?,
            }),
            b'D' => Self::Describe(body.target()?),
            b'E' => Self::Execute { portal: body.text()?, max_rows: body.max_rows()? },
            b'C' => Self::Close(body.target()?),
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => return Ok(Self::Terminate),
            b'd' | b'c' | b'f' => return Ok(Self::Stray),
            b'F' => return Err(Error::unsupported("function calls by message are not supported").into()),
            other => {
                let message = format!("invalid frontend message type {other}");
                return Err(Failure::Fatal(Error::new(Kind::Protocol, message)));
            }
        };
        if body.0.has_remaining() { Err(malformed()) } else { Ok(request) }
    }

    /// After an error these are skipped until Sync; everything else is answered with `ReadyForQuery` at once.
    pub(super) fn is_extended(letter: u8) -> bool {
        matches!(letter, b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S')
    }
}

fn malformed() -> Failure {
    Failure::protocol("invalid message format")
}

/// What is left of a message.
struct Body(Bytes);

impl Body {
    fn text(&mut self) -> Result<String, Failure> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.into()).map_err(|_| not_utf8().into())
    }

    fn word(&mut self) -> Result<u16, Failure> {
        self.0.try_get_u16().map_err(|_| malformed())
    }

    fn long(&mut self) -> Result<i32, Failure> {
        self.0.try_get_i32().map_err(|_| malformed())
    }

    /// A counted list. Its items are read one by one, so that a large count without them takes no memory.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
        let count = self.word()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Declared parameter types: those we do not know are left to the statement, like those not declared.
    fn types(&mut self) -> Result<Vec<Option<Type>>, Failure> {
        self.list(|body| Ok(Type::from_oid(body.long()?.cast_unsigned())))
    }

    fn formats(&mut self) -> Result<Vec<Format>, Failure> {
        self.list(|body| match body.word()? {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(Error::invalid(format!("unsupported format code: {}", other.cast_signed())).into()),
        })
    }

    fn values(&mut self) -> Result<Vec<Option<Bytes>>, Failure> {
        self.list(|body| match usize::try_from(body.long()?) {
            Ok(length) if length <= body.0.len() => Ok(Some(body.0.split_to(length))),
            Ok(_) => Err(malformed()),
            Err(_) => Ok(None),
        })
    }

    fn target(&mut self) -> Result<Target, Failure> {
        match self.0.try_get_u8() {
            Ok(b'S') => Ok(Target::Statement(self.text()?)),
            Ok(b'P') => Ok(Target::Portal(self.text()?)),
            _ => Err(malformed()),
        }
    }

    /// Zero and less stand for all rows.
    fn max_rows(&mut self) -> Result<Option<u64>, Failure> {
        Ok(u64::try_from(self.long()?).ok().filter(|rows| *rows > 0))
    }
}

pub(super) fn not_utf8() -> Error {
    Error::new(Kind::InvalidText, "invalid byte sequence for encoding \"UTF8\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(letter: u8, body: &[u8]) -> Result<Request, Failure> {
        Request::read(letter, Bytes::copy_from_slice(body))
    }

    #[test]
    fn requests_are_read() {
        assert_eq!(read(b'Q', b"SELECT 1\0").unwrap(), Request::Query("SELECT 1".into()));
        let parse = read(b'P', b"s\0SELECT $1\0\0\x02\0\0\0\x17\0\0\0\0").unwrap();
        let declared = vec![Some(Type::INT4), None];
        assert_eq!(parse, Request::Parse { statement: "s".into(), sql: "SELECT $1".into(), declared });
        let bind = read(b'B', b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0").unwrap();
        assert_eq!(
            bind,
            Request::Bind(Bind {
                portal: String::new(),
                statement: "s".into(),
                formats: vec![Format::Binary],
                values: vec![Some(Bytes::from_static(b"x")), None],
                results: vec![],
            })
        );
        assert_eq!(read(b'D', b"Pp\0").unwrap(), Request::Describe(Target::Portal("p".into())));
        let all = Request::Execute { portal: String::new(), max_rows: None };
        assert_eq!(read(b'E', b"\0\0\0\0\0").unwrap(), all);
        assert_eq!(read(b'E', b"\0\xff\xff\xff\xff").unwrap(), all);
    }

    #[test]
    fn what_ends_early_or_late_is_refused() {
        for (letter, body) in [
            (b'Q', &b"SELECT 1"[..]),
            (b'Q', b"a\0b"),
            (b'Q', b"\xff\0"),
            (b'P', b"\0a\0\xff\xff"),
            (b'B', b"\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"),
            (b'B', b"\0\0\0\x01\0\x02\0\0\0\0"),
            (b'D', b"X\0"),
            (b'E', b"\0\0"),
        ] {
            assert!(matches!(read(letter, body), Err(Failure::Error(_))), "{} {body:?}", letter as char);
        }
        assert!(matches!(read(b'?', b""), Err(Failure::Fatal(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_can_make_us_panic(letter in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(letter, &body);
        }
    }
}
