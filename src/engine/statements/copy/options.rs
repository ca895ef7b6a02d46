//! The options of COPY, as they are written since PostgreSQL 9 and as they were before.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::copy::{Chosen, CopyFormat, CopyOptions, Header};
use crate::engine::import::OnError;
use crate::engine::statement::{folded, syntax, take_words};
use crate::error::{Error, Kind, Result};
use crate::storage::Format;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    To,
    From,
}

/// How a file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// As Postgres writes and reads it.
    Text(CopyOptions),
    /// In a format that names columns and types itself.
    Data(Format),
}

/// What was given; what was not depends on the format.
#[derive(Default)]
struct Given {
    format: Option<Written>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<Header>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<Chosen>,
    force_not_null: Option<Chosen>,
    force_null: Option<Chosen>,
    on_error: Option<OnError>,
    reject_limit: Option<u64>,
}

/// What FORMAT says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Text(CopyFormat),
    Data(Format),
}

/// Reads the options up to the end of the statement. `binary`: the statement began with COPY BINARY. `path` is that of a
/// file of the server, whose name may say the format.
pub(super) fn options(parser: &mut Parser, direction: Direction, binary: bool, path: Option<&str>) -> Result<How> {
    let mut given = Given { format: binary.then_some(Written::Text(CopyFormat::Binary)), ..Given::default() };
    take_words(parser, &["WITH"]);
    if parser.consume_token(&Token::LParen) {
        loop {
            given.option(parser)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen).map_err(syntax)?;
    } else {
        while given.old_option(parser)? {}
    }
    if take_words(parser, &["WHERE"]) {
        return Err(Error::unsupported("COPY … WHERE is not supported")
            .hint("copy into a table of its own, and INSERT … SELECT … WHERE from there"));
    }
    if given.format.is_none() {
        given.format = path.map(format_of).transpose()?.flatten();
    }
    match given.format {
        Some(Written::Data(format)) => given.checked_data(format, direction, path).map(How::Data),
        _ => given.checked(direction).map(How::Text),
    }
}

/// The format that a name says: text where it says nothing.
fn format_of(path: &str) -> Result<Option<Written>> {
    match Format::of_file(path) {
        Some((_, options)) if options.contains_key("compression") => {
            Err(Error::unsupported("COPY of compressed text is not supported")
                .hint("CREATE EXTERNAL TABLE … STORED AS CSV reads compressed files"))
        }
        Some((Format::Csv, options)) => Ok(options.is_empty().then_some(Written::Text(CopyFormat::Csv))),
        Some((format, _)) => Ok(Some(Written::Data(format))),
        None => Ok(None),
    }
}

impl Given {
    /// `NAME [value]`, between parentheses.
    fn option(&mut self, parser: &mut Parser) -> Result<()> {
        let name = folded(&parser.parse_identifier().map_err(syntax)?);
        match name.as_str() {
            "format" => set(&mut self.format, &name, format(parser)?),
            "delimiter" => set(&mut self.delimiter, &name, text(parser)?),
            "null" => set(&mut self.null, &name, text(parser)?),
            "header" => set(&mut self.header, &name, header(parser)?),
            "quote" => set(&mut self.quote, &name, text(parser)?),
            "escape" => set(&mut self.escape, &name, text(parser)?),
            "force_quote" => set(&mut self.force_quote, &name, chosen(parser)?),
            "force_not_null" => set(&mut self.force_not_null, &name, chosen(parser)?),
            "force_null" => set(&mut self.force_null, &name, chosen(parser)?),
            "encoding" => encoding(&text(parser)?),
            // Every COPY is frozen here.
            "freeze" => switch(parser).map(|_| ()),
            "on_error" => set(&mut self.on_error, &name, on_error(parser)?),
            "reject_limit" => set(&mut self.reject_limit, &name, limit(parser)?),
            // What was left out is counted in any case.
            "log_verbosity" => text(parser).map(|_| ()),
            _ => Err(Error::new(Kind::Syntax, format!("option \"{name}\" not recognized")).suggest(
                &name,
                [
                    "format",
                    "delimiter",
                    "null",
                    "header",
                    "quote",
                    "escape",
                    "force_quote",
                    "force_not_null",
                    "force_null",
                    "encoding",
                    "on_error",
                    "reject_limit",
                ],
            )),
        }
    }

    /// `CSV HEADER DELIMITER AS ';'`, one after the other; `false` at the end.
    fn old_option(&mut self, parser: &mut Parser) -> Result<bool> {
        let mut takes = |words: &[&str]| take_words(parser, words);
        if takes(&["BINARY"]) {
            set(&mut self.format, "format", Written::Text(CopyFormat::Binary))?;
        } else if takes(&["CSV"]) {
            set(&mut self.format, "format", Written::Text(CopyFormat::Csv))?;
        } else if takes(&["HEADER"]) {
            set(&mut self.header, "header", Header::Present)?;
        } else if takes(&["FREEZE"]) {
        } else if takes(&["DELIMITER"]) || takes(&["USING", "DELIMITERS"]) || takes(&["DELIMITERS"]) {
            set(&mut self.delimiter, "delimiter", old_text(parser)?)?;
        } else if takes(&["NULL"]) {
            set(&mut self.null, "null", old_text(parser)?)?;
        } else if takes(&["QUOTE"]) {
            set(&mut self.quote, "quote", old_text(parser)?)?;
        } else if takes(&["ESCAPE"]) {
            set(&mut self.escape, "escape", old_text(parser)?)?;
        } else if takes(&["FORCE", "QUOTE"]) {
            set(&mut self.force_quote, "force_quote", old_chosen(parser)?)?;
        } else if takes(&["FORCE", "NOT", "NULL"]) {
            set(&mut self.force_not_null, "force_not_null", old_chosen(parser)?)?;
        } else if takes(&["FORCE", "NULL"]) {
            set(&mut self.force_null, "force_null", old_chosen(parser)?)?;
        } else if takes(&["ENCODING"]) {
            encoding(&old_text(parser)?)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn leaves_out(&self) -> bool {
        self.on_error.is_some_and(|on_error| on_error != OnError::Abort)
    }

    /// A format of data needs no options, and a file of the server.
    fn checked_data(&self, format: Format, direction: Direction, path: Option<&str>) -> Result<Format> {
        let name = format.name();
        for (option, given) in [
            ("DELIMITER", self.delimiter.is_some()),
            ("NULL", self.null.is_some()),
            ("HEADER", self.header.is_some()),
            ("QUOTE", self.quote.is_some()),
            ("ESCAPE", self.escape.is_some()),
            ("FORCE_QUOTE", self.force_quote.is_some()),
            ("FORCE_NOT_NULL", self.force_not_null.is_some()),
            ("FORCE_NULL", self.force_null.is_some()),
            ("ON_ERROR", self.leaves_out()),
            ("REJECT_LIMIT", self.reject_limit.is_some()),
        ] {
            if given {
                return Err(Error::new(Kind::Syntax, format!("cannot specify {option} with FORMAT {name}")));
            }
        }
        if path.is_none() {
            return Err(Error::unsupported(format!("COPY with FORMAT {name} is for files of the server"))
                .hint("clients send and get text, csv and binary"));
        }
        match (format, direction) {
            (Format::Avro, Direction::To) => {
                Err(Error::unsupported("files of avro are not written").hint("write parquet, json or arrow"))
            }
            _ => Ok(format),
        }
    }

    /// Each option where it has a meaning, and no two that contradict each other, as Postgres wants it.
    fn checked(self, direction: Direction) -> Result<CopyOptions> {
        let format = match self.format {
            Some(Written::Text(format)) => format,
            _ => CopyFormat::Text,
        };
        let csv = format == CopyFormat::Csv;
        if format == CopyFormat::Binary {
            for (name, given) in [
                ("DELIMITER", self.delimiter.is_some()),
                ("NULL", self.null.is_some()),
                ("HEADER", self.header.is_some_and(|header| header != Header::Absent)),
                ("ON_ERROR", self.leaves_out()),
            ] {
                if given {
                    return Err(Error::new(Kind::Syntax, format!("cannot specify {name} in BINARY mode")));
                }
            }
        }
        for (name, given) in [
            ("QUOTE", self.quote.is_some()),
            ("ESCAPE", self.escape.is_some()),
            ("FORCE_QUOTE", self.force_quote.is_some()),
            ("FORCE_NOT_NULL", self.force_not_null.is_some()),
            ("FORCE_NULL", self.force_null.is_some()),
        ] {
            if given && !csv {
                return Err(
                    Error::unsupported(format!("COPY {name} is available only in CSV mode")).hint("add FORMAT csv")
                );
            }
        }
        let wrong_way = [
            ("FORCE_QUOTE", self.force_quote.is_some(), Direction::To),
            ("FORCE_NOT_NULL", self.force_not_null.is_some(), Direction::From),
            ("FORCE_NULL", self.force_null.is_some(), Direction::From),
            ("ON_ERROR", self.on_error.is_some(), Direction::From),
            ("REJECT_LIMIT", self.reject_limit.is_some(), Direction::From),
            ("HEADER match", self.header == Some(Header::Match), Direction::From),
        ];
        for (name, given, of) in wrong_way {
            if given && direction != of {
                let where_to = if of == Direction::To { "COPY TO" } else { "COPY FROM" };
                return Err(Error::unsupported(format!("COPY {name} is available only in {where_to}")));
            }
        }
        if self.reject_limit.is_some() && !self.leaves_out() {
            return Err(Error::invalid("COPY REJECT_LIMIT requires ON_ERROR to be set to IGNORE").hint("or to skip"));
        }
        let quote = byte("quote", self.quote.as_deref().unwrap_or("\""))?;
        let options = CopyOptions {
            format,
            delimiter: byte("delimiter", self.delimiter.as_deref().unwrap_or(if csv { "," } else { "\t" }))?,
            null: self.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() }),
            header: self.header.unwrap_or(Header::Absent),
            quote,
            escape: self.escape.map_or(Ok(quote), |escape| byte("escape", &escape))?,
            force_quote: self.force_quote.unwrap_or(Chosen::NONE),
            force_not_null: self.force_not_null.unwrap_or(Chosen::NONE),
            force_null: self.force_null.unwrap_or(Chosen::NONE),
            on_error: self.on_error.unwrap_or(OnError::Abort),
            reject_limit: self.reject_limit,
        };
        check_letters(&options)?;
        Ok(options)
    }
}

/// A delimiter that could be part of a value, or of what stands for NULL, would be misread.
fn check_letters(options: &CopyOptions) -> Result<()> {
    let CopyOptions { format, delimiter, null, quote, .. } = options;
    if matches!(delimiter, b'\n' | b'\r') {
        return Err(Error::invalid("COPY delimiter cannot be newline or carriage return"));
    }
    if null.contains(['\n', '\r']) {
        return Err(Error::invalid("COPY null representation cannot use newline or carriage return"));
    }
    let in_values = b"\\.abcdefghijklmnopqrstuvwxyz0123456789";
    if *format == CopyFormat::Text && in_values.contains(delimiter) {
        return Err(Error::invalid(format!("COPY delimiter cannot be \"{}\"", char::from(*delimiter))));
    }
    if *format == CopyFormat::Csv && delimiter == quote {
        return Err(Error::invalid("COPY delimiter and quote must be different"));
    }
    if *format != CopyFormat::Binary && null.as_bytes().contains(delimiter) {
        return Err(Error::invalid("COPY delimiter must not appear in the NULL specification"));
    }
    if *format == CopyFormat::Csv && null.as_bytes().contains(quote) {
        return Err(Error::invalid("CSV quote character must not appear in the NULL specification"));
    }
    Ok(())
}

fn byte(what: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(Error::unsupported(format!("COPY {what} must be a single one-byte character"))
            .hint("a tab is written E'\\t'")),
    }
}

fn set<T>(option: &mut Option<T>, name: &str, value: T) -> Result<()> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(Kind::Syntax, format!("conflicting or redundant options: {name}"))),
    }
}

fn format(parser: &mut Parser) -> Result<Written> {
    let name = text(parser)?;
    match name.to_lowercase().as_str() {
        "text" => Ok(Written::Text(CopyFormat::Text)),
        "csv" => Ok(Written::Text(CopyFormat::Csv)),
        "binary" => Ok(Written::Text(CopyFormat::Binary)),
        other => Format::named(other).map(Written::Data).ok_or_else(|| {
            Error::invalid(format!("COPY format \"{name}\" not recognized"))
                .hint("text, csv or binary; of files of the server parquet, json or arrow too")
        }),
    }
}

fn header(parser: &mut Parser) -> Result<Header> {
    if take_words(parser, &["MATCH"]) {
        return Ok(Header::Match);
    }
    Ok(if switch(parser)? { Header::Present } else { Header::Absent })
}

/// `true`, `off` … or nothing, which is `true`.
fn switch(parser: &mut Parser) -> Result<bool> {
    if matches!(parser.peek_token().token, Token::Comma | Token::RParen) {
        return Ok(true);
    }
    let given = text(parser)?;
    match given.to_lowercase().as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(Error::new(Kind::Syntax, format!("\"{given}\" is neither true nor false"))),
    }
}

/// Postgres knows the first two; the others are as `cohort import` has them.
fn on_error(parser: &mut Parser) -> Result<OnError> {
    let name = text(parser)?;
    match name.to_lowercase().as_str() {
        "stop" | "abort" => Ok(OnError::Abort),
        "ignore" => Ok(OnError::Ignore),
        "skip" => Ok(OnError::Skip),
        _ => Err(Error::invalid(format!("COPY ON_ERROR \"{name}\" not recognized")).hint("stop, ignore or skip")),
    }
}

fn limit(parser: &mut Parser) -> Result<u64> {
    let given = text(parser)?;
    given.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| {
        Error::invalid(format!("REJECT_LIMIT ({given}) must be greater than zero")).hint("a number of lines")
    })
}

fn encoding(name: &str) -> Result<()> {
    match name.to_uppercase().replace(['-', '_'], "").as_str() {
        "UTF8" | "UNICODE" | "SQLASCII" => Ok(()),
        _ => Err(Error::invalid(format!("encoding \"{name}\" is not supported")).hint("files are UTF8")),
    }
}

/// A text, quoted or as a bare word or number.
fn text(parser: &mut Parser) -> Result<String> {
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Ok(text),
        Token::Word(word) => Ok(word.value),
        Token::Number(digits, _) => Ok(digits),
        _ => parser.expected("a value", token).map_err(syntax),
    }
}

fn old_text(parser: &mut Parser) -> Result<String> {
    take_words(parser, &["AS"]);
    text(parser)
}

/// `*`, or columns in parentheses.
fn chosen(parser: &mut Parser) -> Result<Chosen> {
    if parser.consume_token(&Token::Mul) {
        return Ok(Chosen::All);
    }
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let chosen = old_chosen(parser)?;
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(chosen)
}

/// `*`, or columns without parentheses.
fn old_chosen(parser: &mut Parser) -> Result<Chosen> {
    if parser.consume_token(&Token::Mul) {
        return Ok(Chosen::All);
    }
    let columns: Vec<Ident> = parser.parse_comma_separated(|parser| parser.parse_identifier()).map_err(syntax)?;
    Ok(Chosen::Named(columns.iter().map(folded).collect()))
}
