//! Expressions of a plan as SQL for a MySQL: those that mean the same over there, and no others.
//!
//! What this file cannot write stays here. Texts are compared by the collation of their column there, which takes many for
//! the same: so they are compared as bytes of UTF-8, whose order is that of code points. There is no arithmetic: that of
//! MySQL has wider integers, other quotients, and NULL where the engine has an error.
//!
//! The connection has `sql_mode` set so that names stand between double quotes and no letter is an escape.

use chrono::{DateTime, Datelike, NaiveDate};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, Cast, InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::foreign::types::{RemoteType, Scalar};
use crate::foreign::wrapper::{Scope, Written};

/// What MySQL is told.
pub struct Words<'a>(pub &'a Scope<'a>);

fn scalar(sql: String, scalar: Scalar) -> Written {
    Written::new(sql, RemoteType::scalar(scalar))
}

fn truth(sql: String) -> Written {
    scalar(sql, Scalar::Bool)
}

/// Whether values are numbers with all their digits.
pub fn is_exact(of: RemoteType) -> bool {
    matches!(of.scalar, Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Numeric { .. })
}

impl Words<'_> {
    /// The expression over there; `None`: it has to be computed here.
    pub fn write(&self, expr: &Expr) -> Option<Written> {
        match expr {
            Expr::Alias(alias) => self.write(&alias.expr),
            Expr::Column(column) => self.0.column(column),
            Expr::Literal(value, _) => literal(value),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                Some(truth(format!("({} AND {})", self.truth(left)?, self.truth(right)?)))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Some(truth(format!("({} OR {})", self.truth(left)?, self.truth(right)?)))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.comparison(*op, left, right).map(truth),
            Expr::Not(inner) => Some(truth(format!("(NOT {})", self.truth(inner)?))),
            Expr::IsNull(inner) => Some(truth(format!("({} IS NULL)", self.write(inner)?.sql))),
            Expr::IsNotNull(inner) => Some(truth(format!("({} IS NOT NULL)", self.write(inner)?.sql))),
            Expr::IsTrue(inner) => Some(truth(format!("({} IS TRUE)", self.truth(inner)?))),
            Expr::IsFalse(inner) => Some(truth(format!("({} IS FALSE)", self.truth(inner)?))),
            Expr::IsUnknown(inner) => Some(truth(format!("({} IS UNKNOWN)", self.truth(inner)?))),
            Expr::IsNotTrue(inner) => Some(truth(format!("({} IS NOT TRUE)", self.truth(inner)?))),
            Expr::IsNotFalse(inner) => Some(truth(format!("({} IS NOT FALSE)", self.truth(inner)?))),
            Expr::IsNotUnknown(inner) => Some(truth(format!("({} IS NOT UNKNOWN)", self.truth(inner)?))),
            Expr::Between(Between { expr, negated, low, high }) => {
                let low = self.comparison(Operator::GtEq, expr, low)?;
                let high = self.comparison(Operator::LtEq, expr, high)?;
                Some(truth(format!("({}({low} AND {high}))", if *negated { "NOT " } else { "" })))
            }
            Expr::InList(list) => self.in_list(list),
            Expr::Like(like) => self.like(like),
            Expr::Cast(cast) => self.cast(cast),
            _ => None,
        }
    }

    /// A condition over there.
    pub fn truth(&self, expr: &Expr) -> Option<String> {
        let written = self.write(expr)?;
        (written.of == RemoteType::scalar(Scalar::Bool)).then_some(written.sql)
    }

    /// `left = right`, or another comparison, of values that the plan compares.
    pub fn comparison(&self, op: Operator, left: &Expr, right: &Expr) -> Option<String> {
        let plain = [left, right].into_iter().find_map(ascii);
        let (left, right) = (self.write(left)?, self.write(right)?);
        if class(left.of)? != class(right.of)? {
            return None;
        }
        let (l, r) = (bytes(&left), bytes(&right));
        Some(match op {
            // What is the same byte for byte is the same to any collation, by which an index finds it.
            Operator::Eq if left.of.scalar == Scalar::Text && plain.is_some() => {
                format!("({} = {} AND {l} = {r})", left.sql, right.sql)
            }
            Operator::Eq => format!("({l} = {r})"),
            Operator::NotEq => format!("({l} <> {r})"),
            Operator::Lt => format!("({l} < {r})"),
            Operator::LtEq => format!("({l} <= {r})"),
            Operator::Gt => format!("({l} > {r})"),
            Operator::GtEq => format!("({l} >= {r})"),
            Operator::IsNotDistinctFrom => format!("({l} <=> {r})"),
            Operator::IsDistinctFrom => format!("(NOT ({l} <=> {r}))"),
            _ => return None,
        })
    }

    fn in_list(&self, InList { expr, list, negated }: &InList) -> Option<Written> {
        let value = self.write(expr)?;
        let items = list.iter().map(|item| self.write(item)).collect::<Option<Vec<Written>>>()?;
        if items.is_empty() || items.iter().any(|item| class(item.of) != class(value.of)) || class(value.of).is_none() {
            return None;
        }
        let exact: Vec<String> = items.iter().map(bytes).collect();
        let op = if *negated { "NOT IN" } else { "IN" };
        let exact = format!("{} {op} ({})", bytes(&value), exact.join(", "));
        let is_found = !negated && value.of.scalar == Scalar::Text && list.iter().all(|item| ascii(item).is_some());
        Some(truth(match is_found {
            true => {
                let items: Vec<&str> = items.iter().map(|item| item.sql.as_str()).collect();
                format!("({} IN ({}) AND {exact})", value.sql, items.join(", "))
            }
            false => format!("({exact})"),
        }))
    }

    /// A pattern that is matched byte by byte: `_` would match a part of a letter.
    fn like(&self, Like { negated, expr, pattern, escape_char, case_insensitive }: &Like) -> Option<Written> {
        let Expr::Literal(value, _) = pattern.as_ref() else { return None };
        let pattern = value.try_as_str().flatten()?;
        if *case_insensitive || escape_char.is_some() || pattern.contains(['\\', '_']) {
            return None;
        }
        let text = self.write(expr)?;
        (text.of == RemoteType::scalar(Scalar::Text)).then_some(())?;
        let op = if *negated { "NOT LIKE" } else { "LIKE" };
        let pattern = bytes(&scalar(quoted(pattern), Scalar::Text));
        Some(truth(format!("({} {op} {pattern})", bytes(&text))))
    }

    /// Casts that lose nothing: to MySQL integers are wide, and decimals have all their digits.
    fn cast(&self, Cast { expr, field }: &Cast) -> Option<Written> {
        if matches!(field.data_type(), DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _)) {
            return None;
        }
        let to = RemoteType::of(field.data_type())?;
        let inner = self.write(expr)?;
        if inner.of == to {
            return Some(inner);
        }
        let is_same = match (inner.of.scalar, to.scalar) {
            (Scalar::Json, Scalar::Text) => return Some(inner),
            (Scalar::Int2, Scalar::Int4 | Scalar::Int8) | (Scalar::Int4, Scalar::Int8) => true,
            (Scalar::Int2 | Scalar::Int4 | Scalar::Int8, Scalar::Numeric { precision, scale }) => {
                i32::from(precision) - i32::from(scale) >= 19
            }
            (Scalar::Numeric { precision, scale }, Scalar::Numeric { precision: wider, scale: finer }) => {
                finer >= scale && i32::from(wider) - i32::from(finer) >= i32::from(precision) - i32::from(scale)
            }
            // A sum that begins with a float is one of floats, in all versions.
            (Scalar::Int2 | Scalar::Int4 | Scalar::Int8, Scalar::Float8) => {
                return Some(Written::new(format!("({} + 0e0)", inner.sql), to));
            }
            (Scalar::Date, Scalar::Timestamp) => {
                return Some(Written::new(format!("CAST({} AS DATETIME(6))", inner.sql), to));
            }
            _ => false,
        };
        is_same.then(|| Written::new(inner.sql, to))
    }
}

/// What can be compared with what; `None`: with nothing.
fn class(of: RemoteType) -> Option<Scalar> {
    if of.list {
        return None;
    }
    match of.scalar {
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => Some(Scalar::Int8),
        Scalar::Numeric { .. } => Some(Scalar::Numeric { precision: 38, scale: 0 }),
        known @ (Scalar::Float8
        | Scalar::Text
        | Scalar::Bool
        | Scalar::Date
        | Scalar::Timestamp
        | Scalar::Timestamptz) => Some(known),
        _ => None,
    }
}

/// A value as it is compared: text as its bytes in UTF-8.
fn bytes(value: &Written) -> String {
    match value.of.scalar {
        Scalar::Text => format!("CAST(CONVERT({} USING utf8mb4) AS BINARY)", value.sql),
        _ => value.sql.clone(),
    }
}

/// A literal of letters that every character set has.
fn ascii(expr: &Expr) -> Option<&str> {
    let Expr::Literal(value, _) = expr else { return None };
    value.try_as_str().flatten().filter(|text| text.is_ascii())
}

/// Text as SQL reads it. The client takes a backslash for an escape, whatever it is to the server.
fn quoted(text: &str) -> String {
    if text.contains(['\\', '\0']) {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        return format!("_utf8mb4 X'{hex}'");
    }
    format!("'{}'", text.replace('\'', "''"))
}

fn literal(value: &ScalarValue) -> Option<Written> {
    let of = match value {
        ScalarValue::Null => return Some(truth("NULL".to_owned())),
        ScalarValue::Int8(_) | ScalarValue::UInt8(_) => RemoteType::scalar(Scalar::Int2),
        ScalarValue::UInt16(_) => RemoteType::scalar(Scalar::Int4),
        ScalarValue::UInt32(_) => RemoteType::scalar(Scalar::Int8),
        other => RemoteType::of(&other.data_type())?,
    };
    if value.is_null() {
        return Some(Written::new("NULL".to_owned(), of));
    }
    let sql = match value {
        ScalarValue::Boolean(Some(value)) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
        ScalarValue::Int8(_) | ScalarValue::Int16(_) | ScalarValue::Int32(_) | ScalarValue::Int64(_) => {
            let digits = value.to_string();
            if digits.starts_with('-') { format!("({digits})") } else { digits }
        }
        ScalarValue::UInt8(_) | ScalarValue::UInt16(_) | ScalarValue::UInt32(_) => value.to_string(),
        ScalarValue::Float64(Some(value)) if value.is_finite() => format!("({value:e})"),
        ScalarValue::Decimal128(Some(units), _, scale @ 0..=30) => decimal(*units, *scale)?,
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            quoted(text)
        }
        ScalarValue::Date32(Some(days)) => format!("DATE '{}'", date(NaiveDate::from_epoch_days(*days)?)?),
        ScalarValue::TimestampSecond(Some(at), _) => moment(at.checked_mul(1_000_000)?)?,
        ScalarValue::TimestampMillisecond(Some(at), _) => moment(at.checked_mul(1_000)?)?,
        ScalarValue::TimestampMicrosecond(Some(at), _) => moment(*at)?,
        // A moment between two microseconds is none over there.
        ScalarValue::TimestampNanosecond(Some(at), _) if at % 1_000 == 0 => moment(at / 1_000)?,
        _ => return None,
    };
    Some(Written::new(sql, of))
}

fn decimal(units: i128, scale: i8) -> Option<String> {
    let scale = usize::try_from(scale).ok()?;
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, decimals) = digits.split_at(digits.len() - scale);
    let sign = if units < 0 { "-" } else { "" };
    // Without a point it would be an integer, and one too large for those is a float.
    Some(format!("({sign}{whole}.{decimals})"))
}

/// Years that both sides write alike.
fn date(date: NaiveDate) -> Option<String> {
    (1..=9999).contains(&date.year()).then(|| date.format("%Y-%m-%d").to_string())
}

/// The connection's time zone is UTC, for moments with a time zone and without.
fn moment(micros: i64) -> Option<String> {
    let at = DateTime::from_timestamp_micros(micros)?.naive_utc();
    Some(format!("TIMESTAMP '{} {}'", date(at.date())?, at.format("%H:%M:%S%.6f")))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::prelude::{col, lit};

    use super::*;
    use crate::foreign::definition::identifier;

    fn written(expr: &Expr) -> Option<String> {
        let types = [("n", Scalar::Int8), ("t", Scalar::Text), ("d", Scalar::Date), ("f", Scalar::Float4)];
        let fields = types.map(|(name, scalar)| Field::new(name, RemoteType::scalar(scalar).arrow(), true));
        let schema = DFSchema::try_from(Schema::new(fields.to_vec())).unwrap();
        let column = |(name, of)| scalar(identifier(name), of);
        let scope = Scope { schema: &schema, columns: types.map(column).to_vec() };
        Words(&scope).write(expr).map(|written| written.sql)
    }

    #[test]
    fn values_cannot_break_out_of_their_quotes() {
        let quotes = written(&col("t").not_eq(lit("a'; DROP TABLE x; --"))).unwrap();
        assert!(quotes.contains("CONVERT('a''; DROP TABLE x; --' USING utf8mb4)"), "{quotes}");
        let escapes = written(&col("t").not_eq(lit("\\' OR 1"))).unwrap();
        assert!(escapes.contains("CONVERT(_utf8mb4 X'5c27204f522031' USING utf8mb4)"), "{escapes}");
        assert_eq!(written(&col("n").eq(lit(i64::MIN))).as_deref(), Some("(\"n\" = (-9223372036854775808))"));
    }

    #[test]
    fn texts_are_compared_as_bytes() {
        let bytes = |sql: &str| format!("CAST(CONVERT({sql} USING utf8mb4) AS BINARY)");
        let (t, a, z) = (bytes("\"t\""), bytes("'a'"), bytes("'Zoë'"));
        assert_eq!(written(&col("t").eq(lit("a"))), Some(format!("(\"t\" = 'a' AND {t} = {a})")));
        assert_eq!(written(&col("t").eq(lit("Zoë"))), Some(format!("({t} = {z})")));
        assert_eq!(written(&col("t").lt(lit("a"))), Some(format!("({t} < {a})")));
        assert_eq!(written(&col("t").like(lit("a_"))), None);
        assert_eq!(written(&col("t").ilike(lit("a%"))), None);
    }

    #[test]
    fn what_means_something_else_over_there_stays_here() {
        assert_eq!(written(&(col("n") + lit(1_i64)).gt(lit(2_i64))), None);
        assert_eq!(written(&col("f").eq(lit(0.1_f32))), None);
        assert_eq!(written(&col("n").eq(lit("1"))), None);
        assert_eq!(decimal(-5, 2).as_deref(), Some("(-0.05)"));
        assert_eq!(decimal(1_234, 0).as_deref(), Some("(1234.)"));
    }
}
