//! Tables that are partitioned: each of their files has rows of one value of some columns, and a query that asks for other
//! values does not even look at it.
//!
//! The columns are in the files too; the values are what the catalog and the Delta log know of a file beforehand.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{cast, take, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};

use super::relation::{DataFile, Relation};
use crate::error::{Error, Kind, Result};

/// What all rows of a file have in the columns that its table is partitioned by, in their order, as texts that Delta knows.
/// Nothing where the table is not partitioned. Readers of Delta take an empty text for NULL.
pub(super) type Partition = Arc<[Option<String>]>;

/// The columns that a table is partitioned by, by their places.
#[derive(Debug, Clone, Default)]
pub struct Partitioning {
    columns: Vec<usize>,
}

impl Partitioning {
    /// The columns of these names, if a table can be partitioned by them.
    pub fn of(names: &[String], columns: &Schema) -> Result<Self> {
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            let Ok(at) = columns.index_of(name) else {
                let message = format!("column \"{name}\" named in partition key does not exist");
                let known = columns.fields().iter().map(|field| field.name().as_str());
                return Err(Error::new(Kind::UnknownColumn, message).suggest(name, known));
            };
            if places.contains(&at) {
                let message = format!("column \"{name}\" appears more than once in partition key");
                return Err(Error::new(Kind::DuplicateColumn, message));
            }
            must_part(name, columns.field(at).data_type())?;
            places.push(at);
        }
        if !places.is_empty() && places.len() == columns.fields().len() {
            return Err(Error::invalid("a table cannot be partitioned by all of its columns")
                .hint("leave out those whose values are many"));
        }
        Ok(Self { columns: places })
    }

    /// The rows of each partition, in the order that they had. Partitions come by their values.
    pub(super) fn split(&self, rows: RecordBatch) -> Result<Vec<(Partition, RecordBatch)>> {
        if self.columns.is_empty() {
            return Ok(vec![(Partition::default(), rows)]);
        }
        let columns: Vec<ArrayRef> = self.columns.iter().map(|at| Arc::clone(rows.column(*at))).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let keys = RowConverter::new(fields)?.convert_columns(&columns)?;
        let key = |row: &u32| keys.row(*row as usize);
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let groups: Vec<&[u32]> = order.chunk_by(|a, b| key(a) == key(b)).collect();
        let firsts = UInt32Array::from_iter_values(groups.iter().map(|group| group[0]));
        let texts = |column: &ArrayRef| Ok(cast(&take(column, &firsts, None)?, &DataType::Utf8)?);
        let texts: Vec<ArrayRef> = columns.iter().map(texts).collect::<Result<_>>()?;
        let mut parts = Vec::with_capacity(groups.len());
        for (at, group) in groups.iter().enumerate() {
            let texts = texts.iter().map(|texts| texts.as_string::<i32>());
            let partition = texts.map(|texts| texts.iter().nth(at).flatten().map(str::to_owned)).collect();
            // Rows of their own, so that a part that waits for more does not hold on to all others.
            let part = match groups.len() {
                1 => rows.clone(),
                _ => take_record_batch(&rows, &UInt32Array::from_iter_values(group.iter().copied()))?,
            };
            parts.push((partition, part));
        }
        Ok(parts)
    }
}

/// Types of few values, whose texts other readers understand.
fn must_part(name: &str, data_type: &DataType) -> Result<()> {
    let can = data_type.is_integer()
        || data_type.is_decimal()
        || matches!(data_type, DataType::Boolean | DataType::Utf8 | DataType::Date32);
    if can {
        return Ok(());
    }
    let error = Error::unsupported(format!("a table cannot be partitioned by column \"{name}\""));
    Err(match data_type {
        DataType::Timestamp(..) => error.hint(format!("add a column of its day: {name}::date")),
        _ => error.hint("partition by a text, a whole number, a boolean or a date"),
    })
}

impl Relation {
    /// What is known of the values in a file without opening it.
    pub(super) fn statistics_by_partition(&self, file: &DataFile) -> Statistics {
        let mut known = Statistics::new_unknown(&self.columns);
        let rows = usize::try_from(file.rows).unwrap_or(usize::MAX);
        known.num_rows = Precision::Exact(rows);
        for (name, value) in self.rules.partitioned_by.iter().zip(file.partition.iter()) {
            let Ok(at) = self.columns.index_of(name) else { continue };
            let column = &mut known.column_statistics[at];
            match value {
                None => column.null_count = Precision::Exact(rows),
                Some(text) => {
                    let Ok(value) = ScalarValue::try_from_string(text.clone(), self.columns.field(at).data_type())
                    else {
                        continue;
                    };
                    column.null_count = Precision::Exact(0);
                    column.min_value = Precision::Exact(value.clone());
                    column.max_value = Precision::Exact(value);
                }
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{BooleanArray, Date32Array, Decimal128Array, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Field;
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    fn rows() -> RecordBatch {
        let days = Date32Array::from(vec![Some(20_000), None, Some(20_000), Some(1)]);
        let prices = Decimal128Array::from(vec![150, 150, 150, 2]).with_precision_and_scale(5, 2).unwrap();
        RecordBatch::try_from_iter([
            ("day", Arc::new(days) as ArrayRef),
            ("price", Arc::new(prices) as _),
            ("shop", Arc::new(StringArray::from(vec![Some("Köln"), Some(""), Some("Köln"), None])) as _),
            ("open", Arc::new(BooleanArray::from(vec![true, false, true, true])) as _),
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as _),
        ])
        .unwrap()
    }

    fn split(names: &[&str]) -> Vec<(Vec<Option<String>>, Vec<i64>)> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let parts = Partitioning::of(&names, &rows().schema()).unwrap().split(rows()).unwrap();
        let numbers = |part: RecordBatch| {
            part.column(4).as_primitive::<datafusion::arrow::datatypes::Int64Type>().values().to_vec()
        };
        parts.into_iter().map(|(partition, part)| (partition.to_vec(), numbers(part))).collect()
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn rows_are_split_by_value_and_keep_their_order() {
        assert_eq!(split(&[]), [(vec![], vec![1, 2, 3, 4])]);
        let by_day =
            [(vec![None], vec![2]), (vec![text("1970-01-02")], vec![4]), (vec![text("2024-10-04")], vec![1, 3])];
        assert_eq!(split(&["day"]), by_day);
        let by_shop = [
            (vec![None, text("true")], vec![4]),
            (vec![text(""), text("false")], vec![2]),
            (vec![text("Köln"), text("true")], vec![1, 3]),
        ];
        assert_eq!(split(&["shop", "open"]), by_shop);
        assert_eq!(split(&["price"]), [(vec![text("0.02")], vec![4]), (vec![text("1.50")], vec![1, 2, 3])]);
    }

    #[test]
    fn what_cannot_part_a_table_is_refused() {
        let columns = Schema::new(vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("price", DataType::Float64, true),
            Field::new("shop", DataType::Utf8, true),
        ]);
        let of = |names: &[&str], columns: &Schema| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            Partitioning::of(&names, columns).map(|_| ()).unwrap_err()
        };
        assert_eq!(of(&["shops"], &columns).kind, Kind::UnknownColumn);
        assert_eq!(of(&["shop", "shop"], &columns).kind, Kind::DuplicateColumn);
        assert_eq!(of(&["at"], &columns).hint.unwrap(), "add a column of its day: at::date");
        assert_eq!(of(&["price"], &columns).kind, Kind::Unsupported);
        assert_eq!(of(&["shop"], &columns.project(&[2]).unwrap()).kind, Kind::Invalid);
    }
}
