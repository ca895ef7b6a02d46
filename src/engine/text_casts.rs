//! Casts between text and times or bytes, as Postgres writes and reads them: `2024-01-01 00:00:00+00`, `\x0aff`.

use std::fmt::Write;
use std::sync::Arc;

use chrono::{DateTime, Offset, Timelike};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;

use crate::engine::expressions::rewrite_expressions;
use crate::error::{Error, Kind, Result};

/// Makes the sessions that start from this one cast so.
pub fn register(context: &mut SessionContext) {
    context.add_analyzer_rule(Arc::new(TextCasts));
}

#[derive(Debug)]
struct TextCasts;

impl AnalyzerRule for TextCasts {
    fn name(&self) -> &str {
        "text_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        rewrite_expressions(plan, |expr, schema| Ok(replaced(expr, schema)))
    }
}

fn replaced(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let Expr::Cast(of) = &expr else { return Transformed::no(expr) };
    let Ok(from) = of.expr.get_type(schema) else { return Transformed::no(expr) };
    let to = of.field.data_type();
    let is_bytes = |of: &DataType| matches!(of, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let kind = match (&from, to) {
        (DataType::Timestamp(..), to) if to.is_string() => TextCast::Moment,
        (from, to) if is_bytes(from) && to.is_string() => TextCast::FromBytes,
        (from, to) if from.is_string() && is_bytes(to) => TextCast::ToBytes,
        _ => return Transformed::no(expr),
    };
    let call = ScalarUDF::new_from_impl(Function { kind, signature: Signature::any(1, Volatility::Stable) })
        .call(vec![of.expr.as_ref().clone()]);
    let plain = if kind == TextCast::ToBytes { DataType::Binary } else { DataType::Utf8 };
    Transformed::yes(if *to == plain { call } else { datafusion::logical_expr::cast(call, to.clone()) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TextCast {
    Moment,
    FromBytes,
    ToBytes,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    kind: TextCast,
    signature: Signature,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        match self.kind {
            TextCast::Moment => "timestamp_out",
            TextCast::FromBytes => "byteaout",
            TextCast::ToBytes => "byteain",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(if self.kind == TextCast::ToBytes { DataType::Binary } else { DataType::Utf8 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [value] = args.args.as_slice() else { return Err(Error::internal("one argument is wanted").into()) };
        let (array, constant) = match value {
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            ColumnarValue::Array(array) => (Arc::clone(array), false),
        };
        let answer: ArrayRef = match self.kind {
            TextCast::Moment => {
                let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
                Arc::new(moments(&array, zone)?)
            }
            TextCast::FromBytes => {
                let bytes = cast(&array, &DataType::Binary)?;
                Arc::new(bytes.as_binary::<i32>().iter().map(|bytes| bytes.map(hex)).collect::<StringArray>())
            }
            TextCast::ToBytes => {
                let texts = cast(&array, &DataType::Utf8)?;
                let read = texts.as_string::<i32>().iter().map(|text| text.map(bytes).transpose());
                let read = read.collect::<Result<Vec<_>>>()?;
                Arc::new(read.iter().map(Option::as_deref).collect::<BinaryArray>())
            }
        };
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?)
        } else {
            ColumnarValue::Array(answer)
        })
    }
}

/// Times as a client would see them: microseconds as far as there are any, and the zone's offset.
fn moments(array: &ArrayRef, zone: &str) -> Result<StringArray> {
    let zone: Tz = zone.parse().map_err(|_| Error::internal("the session has no time zone"))?;
    let zoned = match array.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let instants = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zoned.clone()))?;
    let written = |micros: i64| {
        let utc = DateTime::from_timestamp_micros(micros)?;
        let local = utc.with_timezone(&zone);
        let seconds = if zoned.is_some() { local.offset().fix().local_minus_utc() } else { 0 };
        let shown = if zoned.is_some() { local.naive_local() } else { utc.naive_utc() };
        let mut text = shown.format("%Y-%m-%d %H:%M:%S").to_string();
        let fraction = shown.nanosecond() / 1_000;
        if fraction > 0 {
            let _ = write!(text, "{}", format!(".{fraction:06}").trim_end_matches('0'));
        }
        if zoned.is_some() {
            let sign = if seconds < 0 { '-' } else { '+' };
            let _ = write!(text, "{sign}{:02}", seconds.abs() / 3_600);
            if seconds % 3_600 != 0 {
                let _ = write!(text, ":{:02}", seconds.abs() / 60 % 60);
            }
        }
        Some(text)
    };
    Ok(instants.as_primitive::<TimestampMicrosecondType>().iter().map(|micros| micros.and_then(written)).collect())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `\x0aff`, or plain letters with `\\` and `\ooo` among them.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let wrong = || Error::new(Kind::InvalidText, "invalid input syntax for type bytea").hint("write '\\x0aff'");
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
        if digits.len() % 2 == 1 {
            return Err(Error::new(Kind::InvalidText, "invalid hexadecimal data: odd number of digits"));
        }
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        };
        return digits.chunks(2).map(|pair| byte(pair).ok_or_else(wrong)).collect();
    }
    let mut read = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            read.push(*first);
            rest = after;
        } else if let Some(after) = after.strip_prefix(b"\\") {
            read.push(b'\\');
            rest = after;
        } else {
            let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
            read.push(octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).ok_or_else(wrong)?);
            rest = &after[3..];
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_both_forms() {
        assert_eq!(bytes("\\x0aFF").unwrap(), [10, 255]);
        assert_eq!(bytes("a\\\\b\\001").unwrap(), b"a\\b\x01");
        assert_eq!(bytes("").unwrap(), b"");
        for wrong in ["\\x0", "\\xzz", "\\9", "a\\"] {
            assert_eq!(bytes(wrong).unwrap_err().kind, Kind::InvalidText, "{wrong}");
        }
        assert_eq!(hex(&[10, 255]), "\\x0aff");
    }
}
