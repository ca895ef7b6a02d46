//! The aggregate behind `impute` by regression: it takes all rows, and gives them back with their holes filled.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array};
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::AggregateUDF;

use crate::error::{Error, Kind, Result};
use crate::frame::{column, texts};
use crate::functions::gather::{AllRows, Finish, Gather, list_value};
use crate::kernels::imputation::{Draw, chained_equations};
use crate::models::Registry;

/// `imputed_rows(targets, imputations, seed, 'a', a, …)`: a list of all rows with the holes of the targets filled; with
/// imputations (not NULL) as often as they say, each row with their number in the last field.
pub fn imputed_rows(registry: &Arc<Registry>, fields: Fields) -> AggregateUDF {
    let gather = Gather { name: "imputed_rows", n_options: 3, finish: Finish::Rows(finish) };
    gather.udaf(registry, DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), true))))
}

fn finish(all: &AllRows) -> Result<ScalarValue> {
    let (targets, imputations, seed) = match all.options {
        [ScalarValue::List(targets), ScalarValue::Int64(imputations), ScalarValue::Int64(Some(seed))] => {
            (texts(&targets.value(0))?, *imputations, *seed as u64)
        }
        _ => return Err(Error::internal("imputed_rows: an option has a wrong type")),
    };
    let n_answers = imputations.unwrap_or(1) as usize;
    let n_rows: usize = all.batches.iter().map(RecordBatch::num_rows).sum();
    // A list counts its elements by 31 bits.
    if n_rows.saturating_mul(n_answers) > i32::MAX as usize {
        return Err(Error::unsupported(format!("cannot give {n_answers} × {n_rows} rows at once"))
            .hint("impute a sample, or fewer imputations"));
    }
    reserve(all, n_rows, n_answers)?;
    let rows = all.in_order()?;
    let schema = rows.schema();
    let targets = targets.iter().flatten().map(|name| column(&schema, name)).collect::<Result<Vec<_>>>()?;
    let (mut places, mut columns) = (Vec::new(), Vec::new());
    for (at, field) in schema.fields().iter().enumerate() {
        if field.data_type().is_numeric() || field.data_type() == &DataType::Boolean {
            places.push(at);
            columns.push(numbers(field.name(), rows.column(at))?);
        }
    }
    let mut answers = Vec::with_capacity(n_answers);
    for number in 0..n_answers {
        let draw = match imputations {
            Some(_) => Draw::Matched { seed, number: number as u32 },
            None => Draw::Expected,
        };
        // On the threads of the kernels: this one only waits.
        let mut found = None;
        rayon::scope(|_| found = Some(chained_equations(&columns, draw, &|_| all.work.go_on())));
        let found = found.ok_or_else(|| Error::internal("the imputing thread panicked"))??;
        let mut whole = rows.columns().to_vec();
        for at in &targets {
            if let Some(place) = places.iter().position(|place| place == at) {
                whole[*at] = filled(&whole[*at], &columns[place], &found[place])?;
            }
        }
        let mut fields = schema.fields().to_vec();
        if imputations.is_some() {
            fields.push(Arc::new(Field::new("imputation", DataType::Int64, true)));
            whole.push(Arc::new(Int64Array::from(vec![number as i64 + 1; rows.num_rows()])));
        }
        answers.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), whole)?);
    }
    match answers.first() {
        Some(first) => list_value(&concat_batches(&first.schema(), &answers)?),
        None => Err(Error::internal("imputed_rows: no answer is wanted")),
    }
}

/// Sets memory aside: the rows once more in order and in each answer, the numbers as columns and as rows.
fn reserve(all: &AllRows, n_rows: usize, n_answers: usize) -> Result<()> {
    let rows: usize = all.batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let numbers = n_rows * all.schema.fields().len() * size_of::<f64>();
    let bytes = rows.saturating_mul(1 + 2 * n_answers).saturating_add(3 * numbers);
    all.work.reserve(bytes).map_err(|_| {
        let wanted = bytes as f64 / f64::from(1 << 30);
        Error::new(
            Kind::OutOfMemory,
            format!("imputing {n_rows} rows needs about {wanted:.1} GiB of memory, more than is left"),
        )
        .hint("start the server with a larger --memory-limit, or impute fewer columns, rows or imputations")
    })
}

/// A column's numbers, NaN where it has none.
fn numbers(name: &str, column: &ArrayRef) -> Result<Vec<f64>> {
    let floats = cast(column, &DataType::Float64)?;
    let values: Vec<f64> = floats.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect();
    match values.iter().find(|value| value.is_infinite()) {
        Some(odd) => Err(Error::invalid(format!("column \"{name}\" holds {odd}, which is not a number to learn from"))
            .hint(format!("make it NULL to have it filled: nullif({name}, 'Infinity')"))),
        None => Ok(values),
    }
}

/// The column with its holes filled, in its own type.
fn filled(column: &ArrayRef, numbers: &[f64], holes: &[f64]) -> Result<ArrayRef> {
    let is_whole = column.data_type().is_integer();
    let mut holes = holes.iter();
    let fills = numbers.iter().map(|number| match number.is_nan() {
        true => holes.next().filter(|value| !value.is_nan()).map(|value| if is_whole { value.round() } else { *value }),
        false => None,
    });
    let fills: ArrayRef = Arc::new(fills.collect::<Float64Array>());
    // What a regression expects may be more than the type holds: such a hole stays one.
    let fills = cast_with_options(&fills, column.data_type(), &CastOptions { safe: true, ..Default::default() })?;
    let is_filled = BooleanArray::from((0..fills.len()).map(|row| fills.is_valid(row)).collect::<Vec<bool>>());
    Ok(zip(&is_filled, &fills, column)?)
}
