//! Expressions of a plan as SQL for a PostgreSQL: those that mean the same over there, and no others.
//!
//! What this file cannot write stays here. So it is a list of what is known to agree: comparisons, their connectives, plain
//! arithmetic. Text is equal over there when it is here, but sorts by the collation of the database; so `<` and ORDER BY
//! ask for the collation "C", the order of code points.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, Case, Cast, InList, Like, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

use crate::foreign::postgres::types::sql as sql_type;
use crate::foreign::types::{RemoteType, Scalar};
use crate::foreign::wrapper::{Scope, Written};

/// What PostgreSQL is told.
pub struct Words<'a>(pub &'a Scope<'a>);

fn scalar(sql: String, scalar: Scalar) -> Written {
    Written::new(sql, RemoteType::scalar(scalar))
}

fn truth(sql: String) -> Written {
    scalar(sql, Scalar::Bool)
}

/// The same as text: a uuid is one to the engine.
fn text(value: Written) -> Written {
    match value.of {
        RemoteType { scalar: Scalar::Uuid, list: false } => scalar(format!("({}::text)", value.sql), Scalar::Text),
        _ => value,
    }
}

impl Words<'_> {
    /// The expression over there; `None`: it has to be computed here.
    pub fn write(&self, expr: &Expr) -> Option<Written> {
        match expr {
            Expr::Alias(alias) => self.write(&alias.expr),
            Expr::Column(column) => self.0.column(column),
            Expr::Literal(value, _) => literal(value),
            Expr::BinaryExpr(binary) => self.binary(binary),
            Expr::Not(inner) => Some(truth(format!("(NOT {})", self.truth(inner)?))),
            Expr::IsNull(inner) => Some(truth(format!("({} IS NULL)", self.write(inner)?.sql))),
            Expr::IsNotNull(inner) => Some(truth(format!("({} IS NOT NULL)", self.write(inner)?.sql))),
            Expr::IsTrue(inner) => Some(truth(format!("({} IS TRUE)", self.truth(inner)?))),
            Expr::IsFalse(inner) => Some(truth(format!("({} IS FALSE)", self.truth(inner)?))),
            Expr::IsUnknown(inner) => Some(truth(format!("({} IS UNKNOWN)", self.truth(inner)?))),
            Expr::IsNotTrue(inner) => Some(truth(format!("({} IS NOT TRUE)", self.truth(inner)?))),
            Expr::IsNotFalse(inner) => Some(truth(format!("({} IS NOT FALSE)", self.truth(inner)?))),
            Expr::IsNotUnknown(inner) => Some(truth(format!("({} IS NOT UNKNOWN)", self.truth(inner)?))),
            Expr::Negative(inner) => {
                let inner = self.write(inner)?;
                is_number(inner.of).then(|| Written::new(format!("(- {})", inner.sql), inner.of))
            }
            Expr::Between(between) => self.between(between),
            Expr::InList(list) => self.in_list(list),
            Expr::Like(like) => self.like(like),
            Expr::Case(case) => self.case(case, expr),
            Expr::Cast(cast) => self.cast(cast),
            Expr::ScalarFunction(function) => self.function(function, expr),
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
        let (left, right) = self.alike(left, right)?;
        let sign = match op {
            Operator::Eq => "=",
            Operator::NotEq => "<>",
            Operator::Lt => "<",
            Operator::LtEq => "<=",
            Operator::Gt => ">",
            Operator::GtEq => ">=",
            Operator::IsDistinctFrom => "IS DISTINCT FROM",
            Operator::IsNotDistinctFrom => "IS NOT DISTINCT FROM",
            _ => return None,
        };
        let sorts = matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
        Some(match sorts && left.of.scalar == Scalar::Uuid {
            true => format!("({} {sign} {})", Self::sorted(&left)?, text(right).sql),
            false if sorts => format!("({} {sign} {})", Self::sorted(&left)?, right.sql),
            false => format!("({} {sign} {})", left.sql, right.sql),
        })
    }

    /// A value in the order that the engine has it in; `None`: the orders differ.
    pub fn sorted(value: &Written) -> Option<String> {
        if value.of.list {
            return None;
        }
        match value.of.scalar {
            Scalar::Text | Scalar::Uuid => Some(format!("{} COLLATE \"C\"", text(value.clone()).sql)),
            Scalar::Json | Scalar::Interval => None,
            _ => Some(value.sql.clone()),
        }
    }

    fn binary(&self, BinaryExpr { left, op, right }: &BinaryExpr) -> Option<Written> {
        match op {
            Operator::And => Some(truth(format!("({} AND {})", self.truth(left)?, self.truth(right)?))),
            Operator::Or => Some(truth(format!("({} OR {})", self.truth(left)?, self.truth(right)?))),
            Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                self.arithmetic(*op, left, right)
            }
            _ => self.comparison(*op, left, right).map(truth),
        }
    }

    /// Sums and products of numbers; quotients of integers only, which are cut off here as there. Those of decimals have
    /// other scales, and a float that is divided by zero is infinite here.
    fn arithmetic(&self, op: Operator, left: &Expr, right: &Expr) -> Option<Written> {
        let sign = match op {
            Operator::Plus => '+',
            Operator::Minus => '-',
            Operator::Multiply => '*',
            Operator::Divide => '/',
            _ => '%',
        };
        let whole = BinaryExpr { left: Box::new(left.clone()), op, right: Box::new(right.clone()) };
        let of = RemoteType::of(&Expr::BinaryExpr(whole).get_type(self.0.schema).ok()?)?;
        let (left, right) = (self.write(left)?, self.write(right)?);
        let both = |is: fn(RemoteType) -> bool| is(left.of) && is(right.of) && is(of);
        let known = match op {
            Operator::Divide | Operator::Modulo => both(is_integer),
            _ => both(is_integer) || both(is_float) || both(is_decimal),
        };
        // The type of a literal is not always what the plan has; that of the whole must be.
        known.then(|| Written::new(format!("(({} {sign} {})::{})", left.sql, right.sql, sql_type(of)), of))
    }

    /// Two sides of a comparison that the server compares as the engine does.
    fn alike(&self, left: &Expr, right: &Expr) -> Option<(Written, Written)> {
        let (left, right) = (self.write(left)?, self.write(right)?);
        if left.of.list || right.of.list {
            return None;
        }
        let is_uuid = |side: &Written| side.of.scalar == Scalar::Uuid;
        match (is_uuid(&left), is_uuid(&right)) {
            (true, true) => Some((left, right)),
            // An index on a uuid is of no use to its text. One spelling of many is that of the engine.
            (true, false) => match canonical_uuid(&right.sql) {
                Some(right) => Some((left, right)),
                None => self.same_class(text(left), right),
            },
            (false, true) => match canonical_uuid(&left.sql) {
                Some(left) => Some((left, right)),
                None => self.same_class(left, text(right)),
            },
            (false, false) => self.same_class(left, right),
        }
    }

    fn same_class(&self, left: Written, right: Written) -> Option<(Written, Written)> {
        let class = |of: Scalar| match of {
            Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid => Some(Scalar::Int8),
            Scalar::Float4 | Scalar::Float8 => Some(Scalar::Float8),
            Scalar::Numeric { .. } => Some(Scalar::Numeric { precision: 38, scale: 0 }),
            // A document is text to the engine, and the server may order its keys otherwise; an interval is a length of
            // time to the server, and three numbers to the engine.
            Scalar::Json | Scalar::Interval => None,
            other => Some(other),
        };
        let (of_left, of_right) = (class(left.of.scalar)?, class(right.of.scalar)?);
        (of_left == of_right).then_some((left, right))
    }

    fn between(&self, Between { expr, negated, low, high }: &Between) -> Option<Written> {
        let low = self.comparison(Operator::GtEq, expr, low)?;
        let high = self.comparison(Operator::LtEq, expr, high)?;
        Some(truth(format!("({}({low} AND {high}))", if *negated { "NOT " } else { "" })))
    }

    fn in_list(&self, InList { expr, list, negated }: &InList) -> Option<Written> {
        let mut items = Vec::with_capacity(list.len());
        let mut left = None;
        for item in list {
            let (this, item) = self.alike(expr, item)?;
            if left.replace(this.sql.clone()).is_some_and(|before| before != this.sql) {
                return None;
            }
            items.push(item.sql);
        }
        let op = if *negated { "NOT IN" } else { "IN" };
        Some(truth(format!("({} {op} ({}))", left?, items.join(", "))))
    }

    fn like(&self, Like { negated, expr, pattern, escape_char, case_insensitive }: &Like) -> Option<Written> {
        let Expr::Literal(value, _) = pattern.as_ref() else { return None };
        let pattern = value.try_as_str().flatten()?;
        // Which letters are the same but for their case is a matter of the collation.
        if *case_insensitive || escape_char.is_some() || pattern.contains('\\') {
            return None;
        }
        let subject = text(self.write(expr)?);
        (subject.of == RemoteType::scalar(Scalar::Text)).then_some(())?;
        let op = if *negated { "NOT LIKE" } else { "LIKE" };
        Some(truth(format!("({} {op} {})", subject.sql, quoted(pattern)?)))
    }

    fn case(&self, case: &Case, whole: &Expr) -> Option<Written> {
        let of = RemoteType::of(&whole.get_type(self.0.schema).ok()?)?;
        let mut sql = "(CASE".to_owned();
        for (when, then) in &case.when_then_expr {
            let when = match &case.expr {
                Some(expr) => self.comparison(Operator::Eq, expr, when)?,
                None => self.truth(when)?,
            };
            sql.push_str(&format!(" WHEN {when} THEN {}", self.value(then)?));
        }
        if let Some(otherwise) = &case.else_expr {
            sql.push_str(&format!(" ELSE {}", self.value(otherwise)?));
        }
        Some(bracketed(Written::new(format!("{sql} END)::{}", sql_type(of)), of)))
    }

    /// A value among others of its type.
    fn value(&self, expr: &Expr) -> Option<String> {
        let value = text(self.write(expr)?);
        (value.of.scalar != Scalar::Json).then_some(value.sql)
    }

    /// Casts that lose nothing, or lose the same on both sides.
    fn cast(&self, Cast { expr, field }: &Cast) -> Option<Written> {
        if matches!(field.data_type(), DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _)) {
            return None;
        }
        let to = RemoteType::of(field.data_type())?;
        let inner = self.write(expr)?;
        if inner.of == to {
            return Some(inner);
        }
        if inner.of.list || to.list {
            return None;
        }
        let is_same = match (inner.of.scalar, to.scalar) {
            // Only another layout in memory, or a finer unit of time.
            (Scalar::Uuid | Scalar::Json, Scalar::Text) => return Some(inner),
            (Scalar::Int2, Scalar::Int4 | Scalar::Int8) | (Scalar::Int4, Scalar::Int8) => true,
            (Scalar::Int2 | Scalar::Int4 | Scalar::Int8, Scalar::Float8 | Scalar::Text) => true,
            (Scalar::Int2, Scalar::Float4) | (Scalar::Float4, Scalar::Float8) => true,
            (Scalar::Int2 | Scalar::Int4 | Scalar::Int8, Scalar::Numeric { precision, scale }) => {
                i32::from(precision) - i32::from(scale) >= 19
            }
            (Scalar::Numeric { .. }, Scalar::Float8) => true,
            (Scalar::Numeric { precision, scale }, Scalar::Numeric { precision: wider, scale: finer }) => {
                finer >= scale && i32::from(wider) - i32::from(finer) >= i32::from(precision) - i32::from(scale)
            }
            (Scalar::Date, Scalar::Timestamp) => true,
            _ => false,
        };
        is_same.then(|| Written::new(format!("({}::{})", inner.sql, sql_type(to)), to))
    }

    fn function(&self, function: &ScalarFunction, whole: &Expr) -> Option<Written> {
        match (function.func.name(), function.args.as_slice()) {
            // What the engine puts in the place of `+`, `-` and `*` of integers.
            ("integer_add", [left, right]) => self.arithmetic(Operator::Plus, left, right),
            ("integer_subtract", [left, right]) => self.arithmetic(Operator::Minus, left, right),
            ("integer_multiply", [left, right]) => self.arithmetic(Operator::Multiply, left, right),
            ("coalesce", args) => {
                let of = RemoteType::of(&whole.get_type(self.0.schema).ok()?)?;
                let args = args.iter().map(|arg| self.value(arg)).collect::<Option<Vec<_>>>()?;
                Some(bracketed(Written::new(format!("COALESCE({})::{}", args.join(", "), sql_type(of)), of)))
            }
            ("date_trunc", [Expr::Literal(unit, _), moment]) => {
                let unit = unit.try_as_str().flatten()?.to_lowercase();
                let known = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"];
                let moment = self.write(moment)?;
                // With a time zone the day begins where the session says.
                let is_plain = moment.of == RemoteType::scalar(Scalar::Timestamp);
                (is_plain && known.contains(&unit.as_str()))
                    .then(|| scalar(format!("date_trunc('{unit}', {})", moment.sql), Scalar::Timestamp))
            }
            _ => None,
        }
    }
}

fn bracketed(written: Written) -> Written {
    Written::new(format!("({})", written.sql), written.of)
}

fn is_integer(of: RemoteType) -> bool {
    !of.list && matches!(of.scalar, Scalar::Int2 | Scalar::Int4 | Scalar::Int8)
}

fn is_float(of: RemoteType) -> bool {
    !of.list && matches!(of.scalar, Scalar::Float4 | Scalar::Float8)
}

fn is_decimal(of: RemoteType) -> bool {
    !of.list && matches!(of.scalar, Scalar::Numeric { .. })
}

pub fn is_number(of: RemoteType) -> bool {
    is_integer(of) || is_float(of) || is_decimal(of)
}

/// Text as SQL reads it; `None`: no text over there can hold it.
fn quoted(text: &str) -> Option<String> {
    // The connection has standard_conforming_strings on: a backslash is one.
    (!text.contains('\0')).then(|| format!("'{}'", text.replace('\'', "''")))
}

/// The uuid that a literal of text is, if it is spelled as the engine spells it.
fn canonical_uuid(sql: &str) -> Option<Written> {
    let text = sql.strip_prefix('\'')?.strip_suffix('\'')?;
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    let is_canonical = text.len() == 36 && text.bytes().enumerate().all(fits);
    is_canonical.then(|| scalar(format!("{sql}::uuid"), Scalar::Uuid))
}

fn literal(value: &ScalarValue) -> Option<Written> {
    let of = match value {
        // A NULL that nobody gave a type, as in `x = NULL`, is a truth that is not known.
        ScalarValue::Null => return Some(truth("NULL::boolean".to_owned())),
        ScalarValue::Int8(_) | ScalarValue::UInt8(_) => RemoteType::scalar(Scalar::Int2),
        ScalarValue::UInt16(_) => RemoteType::scalar(Scalar::Int4),
        ScalarValue::UInt32(_) => RemoteType::scalar(Scalar::Int8),
        other => RemoteType::of(&other.data_type())?,
    };
    if value.is_null() {
        return Some(Written::new(format!("NULL::{}", sql_type(of)), of));
    }
    let sql = match value {
        ScalarValue::Boolean(Some(value)) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
        ScalarValue::Int8(_) | ScalarValue::Int16(_) | ScalarValue::Int32(_) | ScalarValue::Int64(_) => {
            let digits = value.to_string();
            if digits.starts_with('-') { format!("({digits})") } else { digits }
        }
        ScalarValue::UInt8(_) | ScalarValue::UInt16(_) | ScalarValue::UInt32(_) => value.to_string(),
        ScalarValue::Float32(Some(value)) => format!("'{value}'::real"),
        ScalarValue::Float64(Some(value)) => format!("'{value}'::double precision"),
        ScalarValue::Decimal128(Some(units), _, scale) => format!("{}::numeric", decimal(*units, *scale)?),
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            quoted(text)?
        }
        ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes)) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("'\\x{hex}'::bytea")
        }
        ScalarValue::Date32(Some(days)) => {
            let date = NaiveDate::from_epoch_days(*days)?;
            format!("'{}'::date", date_text(date)?)
        }
        ScalarValue::TimestampSecond(Some(at), zone) => moment(at.checked_mul(1_000_000)?, zone.is_some())?,
        ScalarValue::TimestampMillisecond(Some(at), zone) => moment(at.checked_mul(1_000)?, zone.is_some())?,
        ScalarValue::TimestampMicrosecond(Some(at), zone) => moment(*at, zone.is_some())?,
        // A moment between two microseconds is none over there.
        ScalarValue::TimestampNanosecond(Some(at), zone) if at % 1_000 == 0 => moment(at / 1_000, zone.is_some())?,
        ScalarValue::Time64Microsecond(Some(at)) => time(*at)?,
        _ => return None,
    };
    Some(Written::new(sql, of))
}

fn decimal(units: i128, scale: i8) -> Option<String> {
    let scale = usize::try_from(scale).ok()?;
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, decimals) = digits.split_at(digits.len() - scale);
    let sign = if units < 0 { "-" } else { "" };
    Some(if decimals.is_empty() { format!("({sign}{whole})") } else { format!("({sign}{whole}.{decimals})") })
}

/// Years that both sides write alike.
fn date_text(date: NaiveDate) -> Option<String> {
    (1..=9999).contains(&date.year()).then(|| date.format("%Y-%m-%d").to_string())
}

fn moment(micros: i64, with_zone: bool) -> Option<String> {
    let at: NaiveDateTime = DateTime::from_timestamp_micros(micros)?.naive_utc();
    let (date, time) = (date_text(at.date())?, at.format("%H:%M:%S%.6f"));
    Some(match with_zone {
        true => format!("'{date} {time}+00'::timestamptz"),
        false => format!("'{date} {time}'::timestamp"),
    })
}

fn time(micros: i64) -> Option<String> {
    let day = DateTime::from_timestamp_micros(micros).filter(|_| (0..86_400_000_000).contains(&micros))?;
    Some(format!("'{}'::time", day.format("%H:%M:%S%.6f")))
}

/// What a computed value is asked for as, so that it comes as the plan has it.
pub fn asked_as(written: &Written, plan: &DataType) -> Option<RemoteType> {
    let of = RemoteType::of(plan)?;
    let is_text = |of: RemoteType| matches!(of.scalar, Scalar::Text | Scalar::Uuid | Scalar::Json);
    let stays = is_text(of) && is_text(written.of) && of.list == written.of.list;
    Some(if stays { written.of } else { of })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::prelude::{col, lit};

    use super::*;
    use crate::foreign::definition::identifier;

    fn written(expr: &Expr) -> Option<String> {
        let types = [("n", Scalar::Int8), ("t", Scalar::Text), ("u", Scalar::Uuid), ("j", Scalar::Json)];
        let fields = types.map(|(name, scalar)| Field::new(name, RemoteType::scalar(scalar).arrow(), true));
        let schema = DFSchema::try_from(Schema::new(fields.to_vec())).unwrap();
        let column = |(name, of)| scalar(identifier(name), of);
        let scope = Scope { schema: &schema, columns: types.map(column).to_vec() };
        Words(&scope).write(expr).map(|written| written.sql)
    }

    #[test]
    fn values_cannot_break_out_of_their_quotes() {
        let quotes = written(&col("t").eq(lit("a'; DROP TABLE x; --\\")));
        assert_eq!(quotes.as_deref(), Some("(\"t\" = 'a''; DROP TABLE x; --\\')"));
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(written(&col("t").eq(lit("a\0b"))), None);
        assert_eq!(written(&col("n").eq(lit(i64::MIN))).as_deref(), Some("(\"n\" = (-9223372036854775808))"));
    }

    #[test]
    fn what_means_something_else_over_there_stays_here() {
        assert_eq!(written(&col("t").gt(lit("a"))).as_deref(), Some("(\"t\" COLLATE \"C\" > 'a')"));
        assert_eq!(written(&col("t").ilike(lit("a%"))), None);
        assert_eq!(written(&col("t").like(lit("a\\%"))), None);
        assert_eq!(written(&col("j").eq(lit("{}"))), None);
        assert!(written(&col("j").is_null()).is_some());
        assert_eq!(written(&(col("n") / lit(2.0))), None);
        let uuid = "c4ca4238-a0b9-2382-0dcc-509a6f75849b";
        assert_eq!(written(&col("u").eq(lit(uuid))), Some(format!("(\"u\" = '{uuid}'::uuid)")));
        assert_eq!(written(&col("u").eq(lit("x"))).as_deref(), Some("((\"u\"::text) = 'x')"));
    }

    #[test]
    fn decimals_are_written_with_all_their_digits() {
        assert_eq!(decimal(-5, 2).as_deref(), Some("(-0.05)"));
        assert_eq!(decimal(1_234, 0).as_deref(), Some("(1234)"));
        assert_eq!(decimal(i128::MIN, 38).as_deref(), Some("(-1.70141183460469231731687303715884105728)"));
        assert_eq!(decimal(5, -2), None);
    }
}
