//! Preprocessing that is fitted once, stored with the model and replayed on every row it will ever see.

use std::collections::HashMap;

use chrono::{DateTime, Datelike, Timelike};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::frame::types::{is_date, is_moment, is_text};
use crate::frame::{column, exact, numbers, sql_name, texts};

/// Levels kept of one text column, the most frequent first. What is rarer counts as unseen.
const MAX_LEVELS: usize = 256;

/// How one column of the query becomes columns of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Feature {
    /// (x − mean) / scale; NULL becomes the mean, that is 0.
    Number {
        name: String,
        #[serde(with = "exact")]
        mean: f64,
        #[serde(with = "exact")]
        scale: f64,
    },
    /// One 0/1 column a level; NULL is a level of its own, an unseen level is all zeros.
    Category { name: String, levels: Vec<Option<String>> },
    /// Days since 1970, month, day of the week and hour, each as a number.
    Time { name: String, parts: Vec<Feature> },
}

/// The parts a timestamp is split into, in the order of [`Feature::Time`].
const TIME_PARTS: [&str; 4] = ["days", "month", "day_of_week", "hour"];

/// The fitted preprocessing of all columns of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Features {
    pub features: Vec<Feature>,
}

impl Features {
    /// Learns means, scales and levels of the named columns.
    pub fn fit(rows: &RecordBatch, names: &[String]) -> Result<Self> {
        if names.is_empty() {
            return Err(Error::invalid("the query gives no feature columns to learn from")
                .hint("select at least one column besides the label"));
        }
        let features = names.iter().map(|name| Feature::fit(rows, name)).collect::<Result<_>>()?;
        Ok(Self { features })
    }

    /// The query columns that the model wants, in order.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(Feature::name)
    }

    /// One name a matrix column: `recency`, `country=France`, `order_ts.month`.
    pub fn columns(&self) -> Vec<String> {
        self.features.iter().flat_map(Feature::columns).collect()
    }

    /// (mean, scale) of each matrix column: what turns a standardised value back into the column's own unit.
    pub fn scales(&self) -> Vec<(f64, f64)> {
        self.features.iter().flat_map(Feature::scales).collect()
    }

    /// The matrix of `rows`, n_rows × n_columns, standardised. Columns are found by name.
    pub fn matrix(&self, rows: &RecordBatch) -> Result<Array2<f64>> {
        let n_columns = self.features.iter().map(Feature::width).sum();
        let mut matrix = Array2::zeros((rows.num_rows(), n_columns));
        let mut at = 0;
        for feature in &self.features {
            feature.fill(rows, &mut matrix, at)?;
            at += feature.width();
        }
        Ok(matrix)
    }
}

impl Feature {
    fn fit(rows: &RecordBatch, name: &str) -> Result<Self> {
        let array = rows.column(column(&rows.schema(), name)?);
        match array.data_type() {
            DataType::Boolean
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Dictionary(_, _) => Ok(Self::fit_levels(name, texts(array)?)),
            DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => {
                let seconds = numbers(array)?;
                let parts = TIME_PARTS.iter().enumerate().map(|(part, part_name)| {
                    let values: Vec<Option<f64>> =
                        seconds.iter().map(|second| second.map(|second| time_part(second, part))).collect();
                    Self::fit_number(&format!("{name}.{part_name}"), &values)
                });
                Ok(Self::Time { name: name.to_owned(), parts: parts.collect::<Result<_>>()? })
            }
            data_type if data_type.is_numeric() => Self::fit_number(name, &numbers(array)?),
            // A column that is NULL in every row has no type to go by; it says nothing either way.
            DataType::Null => Ok(Self::Number { name: name.to_owned(), mean: 0.0, scale: 1.0 }),
            other => Err(Error::new(
                Kind::WrongType,
                format!("column \"{name}\" of type {} cannot be a feature", sql_name(other)),
            )
            .hint("leave it out of the query, or cast it to a number, text or timestamp")),
        }
    }

    fn fit_number(name: &str, values: &[Option<f64>]) -> Result<Self> {
        let known: Vec<f64> = values.iter().copied().flatten().collect();
        if let Some(odd) = known.iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid(format!("column \"{name}\" holds {odd}, which is not a number to learn from"))
                .hint(format!("filter such rows out, or turn them into NULL with nullif({name}, '{odd}')")));
        }
        let n = known.len().max(1) as f64;
        let mean = known.iter().sum::<f64>() / n;
        let variance = known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
        if !variance.is_finite() {
            return Err(Error::invalid(format!(
                "column \"{name}\" holds numbers too large to be brought to one scale"
            ))
            .hint(format!("divide it, or take its logarithm: ln({name})")));
        }
        let scale = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        Ok(Self::Number { name: name.to_owned(), mean, scale })
    }

    fn fit_levels(name: &str, values: Vec<Option<String>>) -> Self {
        let mut counts: HashMap<Option<String>, usize> = HashMap::new();
        for value in values {
            *counts.entry(value).or_default() += 1;
        }
        let mut levels: Vec<_> = counts.into_iter().collect();
        levels.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        levels.truncate(MAX_LEVELS);
        Self::Category { name: name.to_owned(), levels: levels.into_iter().map(|(level, _)| level).collect() }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Number { name, .. } | Self::Category { name, .. } | Self::Time { name, .. } => name,
        }
    }

    /// How many matrix columns it fills.
    fn width(&self) -> usize {
        match self {
            Self::Number { .. } => 1,
            Self::Category { levels, .. } => levels.len(),
            Self::Time { parts, .. } => parts.len(),
        }
    }

    fn columns(&self) -> Vec<String> {
        match self {
            Self::Number { name, .. } => vec![name.clone()],
            Self::Category { name, levels } => {
                levels.iter().map(|level| format!("{name}={}", level.as_deref().unwrap_or("NULL"))).collect()
            }
            Self::Time { parts, .. } => parts.iter().map(|part| part.name().to_owned()).collect(),
        }
    }

    fn scales(&self) -> Vec<(f64, f64)> {
        match self {
            Self::Number { mean, scale, .. } => vec![(*mean, *scale)],
            Self::Category { levels, .. } => vec![(0.0, 1.0); levels.len()],
            Self::Time { parts, .. } => parts.iter().flat_map(Self::scales).collect(),
        }
    }

    fn fill(&self, rows: &RecordBatch, matrix: &mut Array2<f64>, at: usize) -> Result<()> {
        let array = rows.column(column(&rows.schema(), self.name())?);
        let given = array.data_type();
        // A cast that works is no proof that the column means the same: a timestamp can be counted in seconds.
        let (wanted, fits) = match self {
            Self::Number { .. } => ("a number", given.is_numeric()),
            Self::Category { .. } => ("a text or boolean", is_text(given) || given == &DataType::Boolean),
            Self::Time { .. } => ("a timestamp", is_moment(given) || is_date(given)),
        };
        if !fits && given != &DataType::Null {
            return Err(wrong_type(self.name(), wanted, given));
        }
        match self {
            Self::Number { mean, scale, .. } => fill_number(&numbers(array)?, *mean, *scale, matrix, at),
            Self::Category { levels, .. } => {
                let places: HashMap<&Option<String>, usize> = levels.iter().zip(at..).collect();
                for (row, value) in texts(array)?.iter().enumerate() {
                    if let Some(place) = places.get(value) {
                        matrix[[row, *place]] = 1.0;
                    }
                }
            }
            Self::Time { parts, .. } => {
                let seconds = numbers(array)?;
                for (part, feature) in parts.iter().enumerate() {
                    let Self::Number { mean, scale, .. } = feature else { continue };
                    let values: Vec<Option<f64>> =
                        seconds.iter().map(|second| second.map(|second| time_part(second, part))).collect();
                    fill_number(&values, *mean, *scale, matrix, at + part);
                }
            }
        }
        Ok(())
    }
}

fn fill_number(values: &[Option<f64>], mean: f64, scale: f64, matrix: &mut Array2<f64>, at: usize) {
    for (row, value) in values.iter().enumerate() {
        // What is missing or not finite counts as average.
        let value = value.filter(|value| value.is_finite()).unwrap_or(mean);
        matrix[[row, at]] = (value - mean) / scale;
    }
}

fn wrong_type(name: &str, wanted: &str, given: &DataType) -> Error {
    Error::new(Kind::WrongType, format!("the model wants {wanted} in column \"{name}\", not {}", sql_name(given)))
        .hint("cast the column to its type in training; DESCRIBE MODEL shows it")
}

/// One of [`TIME_PARTS`] of a moment in seconds since 1970, UTC.
fn time_part(seconds: f64, part: usize) -> f64 {
    let Some(time) = DateTime::from_timestamp(seconds as i64, 0) else { return f64::NAN };
    match part {
        0 => (seconds / 86_400.0).floor(),
        1 => f64::from(time.month()),
        2 => f64::from(time.weekday().number_from_monday()),
        _ => f64::from(time.hour()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};
    use ndarray::array;

    use super::*;

    fn rows(numbers: Vec<Option<f64>>, texts: Vec<Option<&str>>) -> RecordBatch {
        let columns: Vec<(&str, ArrayRef)> =
            vec![("spend", Arc::new(Float64Array::from(numbers))), ("country", Arc::new(StringArray::from(texts)))];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    #[test]
    fn null_is_the_mean_of_numbers_and_a_level_of_its_own() {
        let seen = rows(vec![Some(1.0), None, Some(3.0)], vec![Some("FR"), None, Some("FR")]);
        let features = Features::fit(&seen, &["spend".into(), "country".into()]).unwrap();
        assert_eq!(features.columns(), ["spend", "country=FR", "country=NULL"]);
        assert_eq!(features.matrix(&seen).unwrap(), array![[-1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]);
    }

    #[test]
    fn an_unseen_level_weighs_nothing_and_column_order_does_not_matter() {
        let seen = rows(vec![Some(1.0), Some(3.0)], vec![Some("FR"), Some("DE")]);
        let features = Features::fit(&seen, &["country".into(), "spend".into()]).unwrap();
        let other = rows(vec![Some(2.0)], vec![Some("日本")]);
        assert_eq!(features.matrix(&other).unwrap(), array![[0.0, 0.0, 0.0]]);
    }

    #[test]
    fn what_is_not_finite_is_refused_in_training() {
        let error = Features::fit(&rows(vec![Some(f64::NAN)], vec![None]), &["spend".into()]).unwrap_err();
        assert!(error.message.contains("spend") && error.message.contains("NaN"), "{error}");
    }

    #[test]
    fn huge_numbers_are_refused_rather_than_lost() {
        let error =
            Features::fit(&rows(vec![Some(1e300), Some(-1e300)], vec![None; 2]), &["spend".into()]).unwrap_err();
        assert!(error.message.contains("too large"), "{error}");
    }

    #[test]
    fn a_column_of_another_kind_is_refused() {
        let seen = rows(vec![Some(1.0), Some(3.0)], vec![Some("1"), Some("2")]);
        let features = Features::fit(&seen, &["spend".into(), "country".into()]).unwrap();
        let refused = |spend: ArrayRef, country: ArrayRef| {
            let asked = RecordBatch::try_from_iter([("spend", spend), ("country", country)]).unwrap();
            features.matrix(&asked).unwrap_err().message
        };
        let (numbers, texts) = (Arc::clone(seen.column(0)), Arc::clone(seen.column(1)));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 1]));
        assert_eq!(refused(times, Arc::clone(&texts)), "the model wants a number in column \"spend\", not timestamp");
        assert_eq!(refused(Arc::clone(&texts), texts), "the model wants a number in column \"spend\", not text");
        let message = "the model wants a text or boolean in column \"country\", not double precision";
        assert_eq!(refused(Arc::clone(&numbers), numbers), message);
    }

    #[test]
    fn a_timestamp_becomes_its_parts() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(86_400_000_000)]));
        let rows = RecordBatch::try_from_iter(vec![("at", times)]).unwrap();
        let features = Features::fit(&rows, &["at".into()]).unwrap();
        assert_eq!(features.columns(), ["at.days", "at.month", "at.day_of_week", "at.hour"]);
        assert_eq!(features.matrix(&rows).unwrap(), array![[-1.0, 0.0, -1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]);
    }
}
