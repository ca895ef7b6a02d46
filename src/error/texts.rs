//! What DataFusion and Arrow say in words only: they have few error codes of their own. The rest is told by its text, and
//! by nothing but these functions.

use super::{Error, Kind};

/// What the system says through whatever writer there is between it and us.
pub(super) fn is_disk_full(message: &str) -> bool {
    message.contains("No space left on device") || message.contains("Disk quota exceeded")
}

/// DataFusion and Arrow have few error codes of their own: the rest is told by its text, and by nothing but these
/// functions.
pub(super) fn from_text(message: &str, otherwise: Kind) -> Error {
    if is_disk_full(message) {
        return Error::disk_full();
    }
    if let Some(error) = of_a_filter(message) {
        return error;
    }
    let message = unwrapped(message);
    if let Some(error) = about_names(message).or_else(|| about_types(message)).or_else(|| about_values(message)) {
        return error;
    }
    // What follows tells users to write to the makers of a library.
    let message = message.split("\nThis issue was likely caused by a bug").next().unwrap_or(message);
    let kinds = [
        ("declared as non-nullable but contains null", Kind::NullNotAllowed),
        ("table '", Kind::UnknownTable),
        ("failed to resolve schema", Kind::UnknownSchema),
        ("There is no UDF", Kind::UnknownFunction),
        ("could not be resolved from available columns", Kind::NotGrouped),
        ("Cannot coerce", Kind::WrongType),
        ("Cannot infer common argument type", Kind::WrongType),
        ("Cannot cast", Kind::InvalidText),
        ("already exists", Kind::TableExists),
        ("ivide by zero", Kind::DivisionByZero),
        ("not implemented", Kind::Unsupported),
        ("nsupported", Kind::Unsupported),
    ];
    let kind = kinds.iter().find(|(text, _)| message.contains(text)).map_or(otherwise, |(_, kind)| *kind);
    Error::new(kind, uncapitalised(&in_sql(message)))
}

/// The message without the names of the errors that were put around it.
fn unwrapped(mut message: &str) -> &str {
    const AROUND: [&str; 12] = [
        "Error during planning: ",
        "Execution error: ",
        "Internal error: ",
        "This feature is not implemented: ",
        "Optimizer rule 'simplify_expressions' failed\ncaused by\n",
        "Arrow error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "External error: ",
        "Invalid argument error: ",
        "type_coercion\ncaused by\n",
    ];
    while let Some(rest) = AROUND.iter().find_map(|around| message.strip_prefix(around)) {
        message = rest;
    }
    message
}

/// `Cannot do` as `cannot do`, but `LIMIT must` as it is.
fn uncapitalised(message: &str) -> String {
    let mut letters = message.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => message.to_owned(),
    }
}

/// What stands between two pieces of a message.
fn between<'a>(message: &'a str, before: &str, after: &str) -> Option<&'a str> {
    message.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

/// Names that do not exist, are given twice, or stand where they may not.
fn about_names(message: &str) -> Option<Error> {
    // `table 'cohort.public.nope' not found`: a person typed only the last name.
    if let Some(name) = message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
        // A session with temporary tables looks in two schemas, of which people know the second.
        let name =
            name.rsplit_once('\0').map_or(name, |(_, lasting)| lasting.strip_prefix("public.").unwrap_or(lasting));
        let short = name.strip_prefix("cohort.public.").or_else(|| name.strip_prefix("cohort.")).unwrap_or(name);
        return Some(Error::new(Kind::UnknownTable, format!("relation \"{short}\" does not exist")));
    }
    let unknown = |name: &str| Error::new(Kind::UnknownFunction, format!("function {name} does not exist"));
    if let Some(call) = between(message, "the given name and argument types '", "'") {
        return Some(unknown(&in_sql(call)).hint("no function of this name takes arguments of these types; cast them"));
    }
    if let Some(name) = message.strip_prefix("Invalid function '").or_else(|| message.strip_prefix("table function '"))
    {
        return Some(unknown(name.split('\'').next().unwrap_or(name)));
    }
    if let Some(name) = between(message, "Projections require unique expression names but the expression \"", "\" at ")
    {
        let name = name.rsplit('.').next().unwrap_or(name);
        return Some(
            Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once"))
                .hint("give one of them another name: … AS other_name"),
        );
    }
    if let Some(column) = between(message, "column \"", "\" must appear in the GROUP BY") {
        let message =
            format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function");
        return Some(Error::new(Kind::NotGrouped, message));
    }
    if message.starts_with("Aggregate functions are not allowed in the WHERE clause") {
        return Some(
            Error::new(Kind::NotGrouped, "aggregate functions are not allowed in WHERE")
                .hint("conditions on aggregates stand in HAVING, after GROUP BY"),
        );
    }
    let statement = message.strip_prefix("Unsupported SQL statement: ")?;
    let words: Vec<&str> = statement.split_whitespace().take(2).collect();
    let of_things = ["TABLE", "VIEW", "SCHEMA", "INDEX", "FUNCTION", "ROLE", "USER", "DATABASE", "SEQUENCE", "TYPE"];
    let verb = match words.as_slice() {
        [verb, thing] if of_things.contains(thing) => format!("{verb} {thing}"),
        [verb, ..] => (*verb).to_owned(),
        [] => "this statement".to_owned(),
    };
    Some(Error::unsupported(format!("{verb} is not supported")))
}

/// Types that do not go together.
fn about_types(message: &str) -> Option<Error> {
    let operator = |operation: &str| {
        Error::new(Kind::UnknownFunction, format!("operator does not exist: {}", in_sql(operation)))
            .hint("no operator of this name takes arguments of these types; cast one of them")
    };
    if let Some(operation) = between(message, "Cannot coerce arithmetic expression ", " to valid types") {
        return Some(operator(operation));
    }
    if let Some(operation) = between(message, "Cannot get result type for temporal operation ", ": ") {
        return Some(operator(operation));
    }
    if let Some((_, operation)) = message.split_once("Cannot infer common argument type for comparison operation ") {
        return Some(operator(operation));
    }
    if let Some((_, found)) = message
        .strip_prefix("Cannot create filter with non-boolean predicate '")
        .and_then(|rest| rest.split_once("' returning "))
    {
        let message = format!("argument of WHERE must be type boolean, not type {}", in_sql(found));
        return Some(Error::new(Kind::WrongType, message));
    }
    if let Some(rest) = message.strip_prefix("Unsupported ast node in sqltorel: ") {
        if let Some(collation) = rest.strip_prefix("Collate ").and_then(|rest| between(rest, "Ident { value: \"", "\""))
        {
            let message = format!("collation \"{collation}\" for encoding \"UTF8\" does not exist");
            return Some(
                Error::new(Kind::UnknownSetting, message)
                    .hint("texts are compared byte by byte, as COLLATE \"C\" does"),
            );
        }
        let node = rest.split([' ', '(', '{']).next().unwrap_or(rest);
        return Some(Error::unsupported(format!("expressions of the kind {node} are not supported")));
    }
    if let Some(name) = message.strip_prefix("Unsupported SQL type ") {
        return Some(Error::unsupported(format!("type {} is not supported", name.to_lowercase())));
    }
    message
        .contains("queries have different number of columns")
        .then(|| Error::new(Kind::Syntax, "each UNION query must have the same number of columns"))
}

/// Values that cannot be read, or do not fit.
fn about_values(message: &str) -> Option<Error> {
    if message.starts_with("Scalar subquery returned more than one row") {
        return Some(Error::new(Kind::TooManyRows, "more than one row returned by a subquery used as an expression"));
    }
    let cast = |rest: &str, end: &str| -> Option<Error> {
        let (value, of) = rest.rsplit_once("' to value of ")?;
        Some(unreadable(value, &in_sql(of.strip_suffix(end)?)))
    };
    if let Some(rest) =
        message.strip_prefix("Cannot cast string '").or_else(|| message.strip_prefix("Cannot cast value '"))
    {
        return cast(rest, " type");
    }
    if let Some((value, of)) = message.strip_prefix("Can't cast value ").and_then(|rest| rest.rsplit_once(" to type "))
    {
        return Some(out_of_range(value, &in_sql(of)));
    }
    let text = between(message, "Error parsing timestamp from '", "': ")?;
    Some(unreadable(text, "timestamp"))
}

/// In the words of Postgres: a number that is too large for its type is readable, and does not fit.
fn unreadable(value: &str, of: &str) -> Error {
    let is_integer = matches!(of, "smallint" | "integer" | "bigint");
    let digits = value.trim().strip_prefix(['-', '+']).unwrap_or(value.trim());
    if is_integer && !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return out_of_range(value, of);
    }
    let kind = if of == "date" || of.starts_with("time") { Kind::InvalidTime } else { Kind::InvalidText };
    // The digits of a numeric are of no interest for what is no number.
    let of = of.split('(').next().unwrap_or(of);
    Error::new(kind, format!("invalid input syntax for type {of}: \"{value}\""))
}

fn out_of_range(value: &str, of: &str) -> Error {
    Error::new(Kind::OutOfRange, format!("value \"{value}\" is out of range for type {of}"))
}

/// A message with Arrow's names of types replaced by those of SQL; what is quoted stays as it is.
pub fn in_sql(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(letter) = rest.chars().next() {
        if matches!(letter, '"' | '\'')
            && let Some(end) = rest[1..].find(letter)
        {
            text.push_str(&rest[..end + 2]);
            rest = &rest[end + 2..];
        } else if letter.is_ascii_alphanumeric() || letter == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let (name, after) = sql_name(word, after).unwrap_or_else(|| (word.to_owned(), after));
            text.push_str(&name);
            rest = after;
        } else {
            text.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    text
}

/// The SQL name of the Arrow type that begins with `word`, and what comes after the type.
fn sql_name<'a>(word: &str, after: &'a str) -> Option<(String, &'a str)> {
    let plain = match word {
        "Boolean" => "boolean",
        "Int8" | "Int16" | "UInt8" => "smallint",
        "Int32" | "UInt16" => "integer",
        "Int64" | "UInt32" => "bigint",
        "UInt64" => "numeric",
        "Float16" | "Float32" => "real",
        "Float64" => "double precision",
        "Utf8" | "LargeUtf8" | "Utf8View" => "text",
        "Binary" | "LargeBinary" | "BinaryView" => "bytea",
        "Date32" | "Date64" => "date",
        _ => {
            let (inside, after) = parenthesised(after)?;
            let name = match word {
                "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => format!("numeric({inside})"),
                "Timestamp" if inside.contains('"') || inside.contains("Some") => "timestamp with time zone".to_owned(),
                "Timestamp" => "timestamp".to_owned(),
                "Time32" | "Time64" => "time".to_owned(),
                "Interval" | "Duration" => "interval".to_owned(),
                "FixedSizeBinary" => "bytea".to_owned(),
                "List" | "LargeList" | "FixedSizeList" => {
                    let item = inside.split_once(" x ").map_or(inside, |(_, item)| item);
                    format!("{}[]", in_sql(item.strip_prefix("non-null ").unwrap_or(item)))
                }
                "Dictionary" => in_sql(inside.split_once(", ")?.1),
                _ => return None,
            };
            return Some((name, after));
        }
    };
    Some((plain.to_owned(), after))
}

/// What stands in the parentheses that the text begins with, and what comes after them.
fn parenthesised(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('(')?;
    let mut depth = 1;
    for (at, letter) in inner.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&inner[..at], &inner[at + 1..]));
        }
    }
    None
}

/// The error that a condition failed with while a file was read. The reader of files writes it out as programmers see it, and
/// keeps no more of it than that text.
pub(super) fn of_a_filter(message: &str) -> Option<Error> {
    let (_, written) = message.split_once("Error evaluating filter predicate: ")?;
    if let Some((_, ours)) = written.split_once("Error { kind: ") {
        let (name, rest) = ours.split_once(", message: ")?;
        let kind = Kind::EACH.iter().find(|kind| format!("{kind:?}") == name)?;
        let (message, rest) = quoted(rest)?;
        let hint = rest.strip_prefix(", hint: Some(").and_then(quoted);
        let error = Error::new(*kind, message);
        return Some(hint.map_or(error.clone(), |(hint, _)| error.hint(hint)));
    }
    if written.contains("DivideByZero") {
        return Some(Error::new(Kind::DivisionByZero, "division by zero"));
    }
    let kinds = [
        ("CastError(", Kind::InvalidText),
        ("ParseError(", Kind::InvalidText),
        ("ArithmeticOverflow(", Kind::OutOfRange),
        ("NotImplemented(", Kind::Unsupported),
        ("NotYetImplemented(", Kind::Unsupported),
    ];
    let kind = kinds.iter().find(|(name, _)| written.contains(name)).map_or(Kind::Invalid, |(_, kind)| *kind);
    let (message, _) = quoted(&written[written.find('"')?..])?;
    Some(from_text(&message, kind))
}

/// The text that stands in quotes, as `{:?}` has it, and what comes after it.
fn quoted(written: &str) -> Option<(String, &str)> {
    let mut letters = written.strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match letters.next()? {
            '"' => return Some((text, letters.as_str())),
            '\\' => match letters.next()? {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                '0' => text.push('\0'),
                'u' => {
                    let (digits, rest) = letters.as_str().strip_prefix('{')?.split_once('}')?;
                    text.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                    letters = rest.chars();
                }
                letter => text.push(letter),
            },
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::error::ArrowError;
    use datafusion::error::DataFusionError;

    use super::*;

    #[test]
    fn types_have_their_sql_names() {
        let sql = [
            ("Utf8 + Int64", "text + bigint"),
            ("sum(Utf8View)", "sum(text)"),
            ("List(Float64) of \"Int64\"", "double precision[] of \"Int64\""),
            ("Decimal128(12, 2), Boolean", "numeric(12, 2), boolean"),
            ("Timestamp(µs)", "timestamp"),
            ("Timestamp(ns, \"UTC\")", "timestamp with time zone"),
            ("Interval(MonthDayNano)", "interval"),
            ("a word", "a word"),
        ];
        for (arrow, expected) in sql {
            assert_eq!(in_sql(arrow), expected);
        }
    }

    #[test]
    fn texts_of_others_become_sentences_of_ours() {
        let told = |message: &str| {
            let error = from_text(message, Kind::Internal);
            format!("{}: {}", error.kind.sqlstate(), error.message)
        };
        let cases = [
            (
                "Internal error: Function 'sum' failed to match any signature.\nThis issue was likely caused by a bug in \
                 X. No function matches the given name and argument types 'sum(Utf8)'. You might",
                "42883: function sum(text) does not exist",
            ),
            (
                "Function 'sum' failed. No function matches the given name and argument types 'sum(Utf8)'. You might",
                "42883: function sum(text) does not exist",
            ),
            ("Invalid function 'roun'.\nDid you mean 'x'?", "42883: function roun does not exist"),
            ("table function 'nope' not found", "42883: function nope does not exist"),
            ("table 'cohort.public.nope' not found", "42P01: relation \"nope\" does not exist"),
            ("table 'cohort.\0pg_temp_1\0public.nope' not found", "42P01: relation \"nope\" does not exist"),
            ("Cannot cast string 'a' to value of Int64 type", "22P02: invalid input syntax for type bigint: \"a\""),
            (
                "Cannot cast string '99999999999999999999' to value of Int64 type",
                "22003: value \"99999999999999999999\" is out of range for type bigint",
            ),
            (
                "Cannot cast string '2024-13-01' to value of Date32 type",
                "22007: invalid input syntax for type date: \"2024-13-01\"",
            ),
            (
                "Cannot coerce arithmetic expression Utf8 + Int64 to valid types",
                "42883: operator does not exist: text + bigint",
            ),
            ("Unsupported SQL statement: ALTER TABLE t ADD x int", "0A000: ALTER TABLE is not supported"),
            ("IO error: No space left on device (os error 28)", "53100: no space left on the disk"),
            (
                "Projections require unique expression names but the expression \"t.i\" at position 0 and",
                "42701: column \"i\" specified more than once",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(told(message), expected);
        }
    }

    #[test]
    fn errors_of_conditions_are_read_again() {
        let told =
            |error: DataFusionError| of_a_filter(&format!("Error evaluating filter predicate: {error:?}")).unwrap();
        let ours = Error::new(Kind::InvalidText, "the \"text\" is\n'no' \\ number: \u{200b}ä").hint("look \"here\"");
        assert_eq!(told(DataFusionError::from(ours.clone())), ours);
        let plain = Error::new(Kind::OutOfRange, "bigint out of range");
        assert_eq!(told(DataFusionError::from(plain.clone()).context("there")), plain);
        let arrow = |error: ArrowError| told(DataFusionError::ArrowError(Box::new(error), None));
        assert_eq!(arrow(ArrowError::DivideByZero).kind, Kind::DivisionByZero);
        let cast = arrow(ArrowError::CastError("Cannot cast string 'a\"b' to value of Int64 type".to_owned()));
        assert_eq!(cast, Error::new(Kind::InvalidText, "invalid input syntax for type bigint: \"a\"b\""));
        assert_eq!(of_a_filter("something else"), None);
    }
}
