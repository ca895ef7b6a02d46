//! The columns of a table, read from the fields of a file.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanBuilder, Date32Array, PrimitiveArray, PrimitiveBuilder, StringArray,
    StringBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};

use super::fields::Fields;
use super::moments::{DateOrder, Written};
use super::values;
use crate::error::Result;
use crate::frame::sql_name;

/// A column of the table and where the file has it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) place: usize,
    pub(super) field: Arc<Field>,
    /// Of dates and moments.
    pub(super) order: Option<DateOrder>,
}

impl Wanted {
    /// The column of well-formed records. `None` where one of its values must be refused.
    pub(super) fn quick(&self, fields: &Fields<'_>) -> Result<Option<ArrayRef>> {
        let column = match self.as_mostly_written(fields) {
            Some(column) => column,
            None => {
                let texts = texts(fields, self.place);
                let column = self.read(&texts)?;
                if (0..texts.len()).any(|row| column.is_null(row) && self.refusal(&texts, row).is_some()) {
                    return Ok(None);
                }
                column
            }
        };
        Ok((self.field.is_nullable() || column.null_count() == 0).then_some(column))
    }

    /// The column where all its values are written as such values mostly are.
    fn as_mostly_written(&self, fields: &Fields<'_>) -> Option<ArrayRef> {
        let written = |text: &str| Written::read(text.trim());
        Some(match (self.field.data_type(), self.order) {
            (DataType::Utf8, _) => Arc::new(texts(fields, self.place)),
            (DataType::Int64, _) => Arc::new(self.numbers::<Int64Type>(fields, |text| values::whole(text.as_bytes()))?),
            (DataType::Int32, _) => Arc::new(self.numbers::<Int32Type>(fields, |text| {
                values::whole(text.as_bytes()).and_then(|number| number.try_into().ok())
            })?),
            (DataType::Float64, _) => {
                Arc::new(self.numbers::<Float64Type>(fields, |text| values::decimal(text.as_bytes()))?)
            }
            (DataType::Boolean, _) => {
                let mut truths = BooleanBuilder::with_capacity(fields.n_rows());
                fields.each(self.place, |text| {
                    match text.is_empty() {
                        true => truths.append_null(),
                        false => truths.append_value(values::truth(text.as_bytes())?),
                    }
                    Some(())
                })?;
                Arc::new(truths.finish())
            }
            (DataType::Date32, Some(order)) => Arc::new(self.numbers::<Date32Type>(fields, |text| {
                values::day(text.as_bytes()).or_else(|| day(written(text)?, order))
            })?),
            (DataType::Timestamp(_, zone), Some(order)) => {
                let moments = self.numbers::<TimestampMicrosecondType>(fields, |text| {
                    values::moment(text.as_bytes()).or_else(|| written(text)?.microseconds(order))
                });
                Arc::new(moments?.with_timezone_opt(zone.clone()))
            }
            _ => return None,
        })
    }

    #[inline(always)]
    fn numbers<T: ArrowPrimitiveType>(
        &self,
        fields: &Fields<'_>,
        read: impl Fn(&str) -> Option<T::Native>,
    ) -> Option<PrimitiveArray<T>> {
        let mut numbers = PrimitiveBuilder::<T>::with_capacity(fields.n_rows());
        fields.each(self.place, |text| {
            match text.is_empty() {
                true => numbers.append_null(),
                false => numbers.append_value(read(text)?),
            }
            Some(())
        })?;
        Some(numbers.finish())
    }

    /// The column in its type; what cannot be read as one is NULL.
    pub(super) fn read(&self, texts: &StringArray) -> Result<ArrayRef> {
        let data_type = self.field.data_type();
        let lenient = CastOptions { safe: true, ..Default::default() };
        let written = || texts.iter().map(|text| Written::read(text?.trim()));
        match (data_type, self.order) {
            (data_type, _) if data_type.is_string() => Ok(cast_with_options(texts, data_type, &lenient)?),
            (DataType::Date32, Some(order)) => {
                Ok(Arc::new(written().map(|written| day(written?, order)).collect::<Date32Array>()))
            }
            (DataType::Timestamp(_, zone), Some(order)) => {
                let micros = written().map(|written| written?.microseconds(order));
                Ok(Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone())))
            }
            _ => {
                let trimmed = match texts.iter().flatten().any(|text| text.trim().len() < text.len()) {
                    true => Arc::new(texts.iter().map(|text| text.and_then(not_blank)).collect::<StringArray>()),
                    false => Arc::new(texts.clone()) as ArrayRef,
                };
                Ok(cast_with_options(&trimmed, data_type, &lenient)?)
            }
        }
    }

    /// Why a NULL of the column stands where it must not; `None`: it may.
    pub(super) fn refusal(&self, texts: &StringArray, row: usize) -> Option<String> {
        let (name, wanted) = (self.field.name(), sql_name(self.field.data_type()));
        match texts.is_valid(row).then(|| texts.value(row)).and_then(not_blank) {
            Some(text) => Some(format!("column \"{name}\": invalid input syntax for type {wanted}: \"{text}\"")),
            None if self.field.is_nullable() => None,
            None => Some(format!("column \"{name}\": null value violates not-null constraint")),
        }
    }
}

/// Days since 1970. A moment within a day is no date, and would be cut down to one.
fn day(written: Written, order: DateOrder) -> Option<i32> {
    if written.has_time() {
        return None;
    }
    Some(written.date(order)?.signed_duration_since(chrono::NaiveDate::default()).num_days() as i32)
}

/// A column as it is written; nothing is NULL.
fn texts(fields: &Fields<'_>, place: usize) -> StringArray {
    let mut texts = StringBuilder::with_capacity(fields.n_rows(), fields.n_rows() * 16);
    fields.each(place, |text| {
        match text.is_empty() {
            true => texts.append_null(),
            false => texts.append_value(text),
        }
        Some(())
    });
    texts.finish()
}

/// What is written of a value that is no text; blanks are nothing.
fn not_blank(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}
