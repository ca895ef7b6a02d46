//! Keys of customers and products: whatever the data has, numbered from zero.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options, take};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};

use crate::error::{Error, Kind, Result};
use crate::frame::{comparable, converted, sql_name};

/// The distinct keys of one column and their numbers `0..len`.
#[derive(Debug, Clone)]
pub struct Keys {
    values: ArrayRef,
    numbers: Index,
}

#[derive(Debug, Clone)]
enum Index {
    Whole(HashMap<i64, u32>),
    Text(HashMap<Box<str>, u32>),
}

impl Keys {
    /// The distinct non-NULL keys of a column, numbered in order of first appearance, and each row's number.
    pub fn of(column: &ArrayRef) -> Result<(Self, Vec<Option<u32>>)> {
        let column = normal(column)?;
        let mut numbers = Index::for_type(column.data_type());
        let mut firsts = Vec::new();
        let codes = numbers.visit(&column, |row, next| {
            firsts.push(row as u32);
            Some(next)
        })?;
        let values = take(&column, &UInt32Array::from(firsts), None)?;
        Ok((Self { values, numbers }, codes))
    }

    /// Keys as they were stored: distinct and without NULL.
    pub fn stored(values: &ArrayRef) -> Result<Self> {
        let (keys, _) = Self::of(values)?;
        if keys.len() == values.len() { Ok(keys) } else { Err(Error::corrupt("the model's keys are not distinct")) }
    }

    /// Each row's number; `None` for NULL and for an unknown key. A column of another kind of type is refused: that
    /// no text is among the numbers would be an answer, but not to what was asked.
    pub fn codes(&self, column: &ArrayRef) -> Result<Vec<Option<u32>>> {
        let (wanted, given) = (self.values.data_type(), column.data_type());
        if !comparable(wanted, given) {
            let (wanted, given) = (sql_name(wanted), sql_name(given));
            return Err(Error::new(Kind::WrongType, format!("the model knows keys of type {wanted}, not {given}"))
                .hint(format!("cast the key to {wanted}, its type in training")));
        }
        // Looking up never adds, so the index can be shared by threads.
        self.numbers.lookup(&converted(column, wanted)?)
    }

    /// The keys with these numbers, in that order.
    pub fn take(&self, codes: &[u32]) -> Result<ArrayRef> {
        Ok(take(&self.values, &UInt32Array::from(codes.to_vec()), None)?)
    }

    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    pub fn data_type(&self) -> &DataType {
        self.values.data_type()
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl Index {
    fn for_type(data_type: &DataType) -> Self {
        if data_type == &DataType::Int64 { Self::Whole(HashMap::new()) } else { Self::Text(HashMap::new()) }
    }

    /// Numbers each row; `unseen(row, next)` says whether a key seen first at `row` gets the number `next`.
    fn visit(
        &mut self,
        column: &ArrayRef,
        mut unseen: impl FnMut(usize, u32) -> Option<u32>,
    ) -> Result<Vec<Option<u32>>> {
        let mut codes = Vec::with_capacity(column.len());
        match self {
            Self::Whole(known) => {
                for (row, key) in column.as_primitive::<Int64Type>().iter().enumerate() {
                    codes.push(match key {
                        None => None,
                        Some(key) => match known.get(&key) {
                            Some(code) => Some(*code),
                            None => unseen(row, known.len() as u32).inspect(|code| {
                                known.insert(key, *code);
                            }),
                        },
                    });
                }
            }
            Self::Text(known) => {
                let texts = cast(column, &DataType::Utf8)?;
                for (row, key) in texts.as_string::<i32>().iter().enumerate() {
                    codes.push(match key {
                        None => None,
                        Some(key) => match known.get(key) {
                            Some(code) => Some(*code),
                            None => unseen(row, known.len() as u32).inspect(|code| {
                                known.insert(key.into(), *code);
                            }),
                        },
                    });
                }
            }
        }
        Ok(codes)
    }

    fn lookup(&self, column: &ArrayRef) -> Result<Vec<Option<u32>>> {
        Ok(match self {
            Self::Whole(known) => {
                let keys = column.as_primitive::<Int64Type>();
                keys.iter().map(|key| key.and_then(|key| known.get(&key).copied())).collect()
            }
            Self::Text(known) => {
                let texts = cast(column, &DataType::Utf8)?;
                texts.as_string::<i32>().iter().map(|key| key.and_then(|key| known.get(key).copied())).collect()
            }
        })
    }
}

/// One type per family, so that `int4` finds what `int8` stored.
fn normal(column: &ArrayRef) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..Default::default() };
    match column.data_type() {
        data_type if data_type.is_integer() => Ok(cast_with_options(column, &DataType::Int64, &strict)?),
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(_, _) => Ok(cast(column, &DataType::Utf8)?),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let floats = cast(column, &DataType::Float64)?;
            if floats.as_primitive::<Float64Type>().iter().flatten().any(|key| key.fract() != 0.0) {
                return Err(Error::new(Kind::WrongType, "a key must not have a fraction")
                    .hint("cast the key column to bigint or text"));
            }
            Ok(cast_with_options(&floats, &DataType::Int64, &strict)?)
        }
        DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(_, _) => Err(Error::new(
            Kind::WrongType,
            format!("a column of type {} cannot be a key", sql_name(column.data_type())),
        )
        .hint("use a number, text, uuid or date as the key")),
        _ => Ok(Arc::clone(column)),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Date32Array, Float64Array, Int32Array, Int64Array, StringViewArray};

    use super::*;

    #[test]
    fn keys_are_numbered_as_they_appear_and_found_again_in_any_width() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None, Some(3), Some(7)]));
        let (keys, codes) = Keys::of(&column).unwrap();
        assert_eq!(codes, [Some(0), None, Some(1), Some(0)]);
        let asked: ArrayRef = Arc::new(Int64Array::from(vec![3, 4]));
        assert_eq!(keys.codes(&asked).unwrap(), [Some(1), None]);
        let with_fractions: ArrayRef = Arc::new(Float64Array::from(vec![3.0, 3.5, f64::NAN]));
        assert_eq!(keys.codes(&with_fractions).unwrap(), [Some(1), None, None]);
    }

    #[test]
    fn keys_of_another_kind_are_refused() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7, 1]));
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec!["7", "x"]));
        let truths: ArrayRef = Arc::new(datafusion::arrow::array::BooleanArray::from(vec![true]));
        let error = Keys::of(&numbers).unwrap().0.codes(&texts).unwrap_err();
        assert_eq!(error.kind, Kind::WrongType);
        assert_eq!(error.message, "the model knows keys of type bigint, not text");
        assert!(Keys::of(&numbers).unwrap().0.codes(&truths).is_err());
        assert!(Keys::of(&texts).unwrap().0.codes(&numbers).is_err());
    }

    #[test]
    fn text_dates_and_whole_floats_are_keys_too() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec!["ä", "b", "ä"]));
        let (keys, codes) = Keys::of(&text).unwrap();
        assert_eq!((keys.len(), codes), (2, vec![Some(0), Some(1), Some(0)]));
        let dates: ArrayRef = Arc::new(Date32Array::from(vec![1, 2]));
        assert_eq!(Keys::of(&dates).unwrap().0.codes(&dates).unwrap(), [Some(0), Some(1)]);
        let whole: ArrayRef = Arc::new(Float64Array::from(vec![17850.0]));
        assert_eq!(Keys::of(&whole).unwrap().0.data_type(), &DataType::Int64);
        let fraction: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
        assert!(Keys::of(&fraction).is_err());
    }
}
