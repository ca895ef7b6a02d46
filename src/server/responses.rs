//! What the server says: errors, notices and the shape of rows, as pgwire messages.

use datafusion::arrow::datatypes::Schema;
use pgwire::messages::data::{FieldDescription, RowDescription};
use pgwire::messages::response::{CommandComplete, ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus};

use super::encode::Format;
use super::types::{modifier, size, wire_type};
use crate::engine::{Level, Notice, Transaction};
use crate::error::{Error, Kind, Result};

/// A row description counts its columns in sixteen bits, and drivers read them signed.
const MAX_COLUMNS: usize = i16::MAX as usize;

/// `severity` is `ERROR`, or `FATAL` when the connection ends.
pub(super) fn error(severity: &str, error: &Error) -> ErrorResponse {
    let mut fields = fields(severity, error.kind.sqlstate(), &error.message, error.hint.as_deref());
    fields.extend(error.position.map(|position| (b'P', position.to_string())));
    fields.extend(error.context.as_deref().map(|context| (b'W', clean(context))));
    ErrorResponse::new(fields)
}

pub(super) fn notice(notice: &Notice) -> NoticeResponse {
    let (severity, code) = match notice.level {
        Level::Notice => ("NOTICE", "00000"),
        Level::Warning => ("WARNING", "01000"),
    };
    NoticeResponse::new(fields(severity, code, &notice.message, notice.hint.as_deref()))
}

fn fields(severity: &str, code: &str, message: &str, hint: Option<&str>) -> Vec<(u8, String)> {
    let mut fields =
        vec![(b'S', severity.into()), (b'V', severity.into()), (b'C', code.into()), (b'M', clean(message))];
    fields.extend(hint.map(|hint| (b'H', clean(hint))));
    fields
}

/// A zero byte would end a field in its middle.
fn clean(text: &str) -> String {
    text.replace('\0', "")
}

/// Names, types and formats of the columns to come.
pub(super) fn row_description(schema: &Schema, format: impl Fn(usize) -> Format) -> Result<RowDescription> {
    if schema.fields().len() > MAX_COLUMNS {
        let message = format!("{} columns are more than the {MAX_COLUMNS} a client can receive", schema.fields().len());
        return Err(Error::new(Kind::LimitExceeded, message));
    }
    let describe = |(column, field): (usize, &std::sync::Arc<datafusion::arrow::datatypes::Field>)| {
        let of = wire_type(field)?;
        let format = match format(column) {
            Format::Text => 0,
            Format::Binary => 1,
        };
        let name = field.name().replace('\0', "");
        Ok(FieldDescription::new(name, 0, 0, of.oid(), size(&of), modifier(field.data_type()), format))
    };
    Ok(RowDescription::new(schema.fields().iter().enumerate().map(describe).collect::<Result<_>>()?))
}

/// The tag of a statement that gave rows.
pub(super) fn rows_complete(verb: &str, rows: u64) -> CommandComplete {
    CommandComplete::new(match verb {
        "INSERT" => format!("INSERT 0 {rows}"),
        "SELECT" | "FETCH" | "MOVE" | "UPDATE" | "DELETE" | "MERGE" | "COPY" => format!("{verb} {rows}"),
        _ => verb.to_owned(),
    })
}

pub(super) fn ready(transaction: Transaction) -> ReadyForQuery {
    ReadyForQuery::new(match transaction {
        Transaction::Idle => TransactionStatus::Idle,
        Transaction::Open => TransactionStatus::Transaction,
        Transaction::Failed => TransactionStatus::Error,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn an_error_says_what_where_and_what_now() {
        let said = error("ERROR", &Error::new(Kind::UnknownTable, "relation \"a\0\" does not exist").hint("see \\d"));
        let said: Vec<_> = said.fields.iter().map(|(field, text)| (*field as char, text.as_str())).collect();
        assert_eq!(
            said,
            [('S', "ERROR"), ('V', "ERROR"), ('C', "42P01"), ('M', "relation \"a\" does not exist"), ('H', "see \\d")]
        );
    }

    #[test]
    fn tags_count_rows_where_postgres_does() {
        assert_eq!(rows_complete("SELECT", 2).tag, "SELECT 2");
        assert_eq!(rows_complete("INSERT", 2).tag, "INSERT 0 2");
        assert_eq!(rows_complete("SHOW", 1).tag, "SHOW");
        assert_eq!(rows_complete("EXPLAIN", 9).tag, "EXPLAIN");
    }

    #[test]
    fn columns_are_described_with_type_size_and_modifier() {
        let schema = Schema::new(vec![Field::new("price", DataType::Decimal128(10, 2), true)]);
        let described = row_description(&schema, |_| Format::Binary).unwrap();
        let expected = FieldDescription::new("price".into(), 0, 0, 1700, -1, ((10 << 16) | 2) + 4, 1);
        assert_eq!(described.fields, [expected]);
    }
}
