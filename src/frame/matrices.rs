//! Matrices as tables of an artefact: one column of lists, one row each.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, PrimitiveArray};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, Field};
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::{Array1, Array2};

use crate::error::{Error, Result};

/// The rows of a matrix as a table of one column, `name`.
pub fn matrix_rows<T: ArrowPrimitiveType>(name: &str, matrix: &Array2<T::Native>) -> Result<RecordBatch> {
    let values = matrix.as_standard_layout();
    let values: Vec<T::Native> = values.as_slice().map_or_else(|| matrix.iter().copied().collect(), <[_]>::to_vec);
    let values: ArrayRef = Arc::new(PrimitiveArray::<T>::new(values.into(), None));
    let element = Arc::new(Field::new_list_field(T::DATA_TYPE, false));
    let lists = FixedSizeListArray::try_new(element, matrix.ncols() as i32, values, None)?;
    Ok(RecordBatch::try_from_iter([(name, Arc::new(lists) as ArrayRef)])?)
}

/// The matrix that [`matrix_rows`] was given.
pub fn rows_matrix<T: ArrowPrimitiveType>(rows: &RecordBatch) -> Result<Array2<T::Native>> {
    let damaged = || Error::corrupt("a matrix of the model is damaged");
    if rows.num_columns() != 1 {
        return Err(damaged());
    }
    let lists = rows.column(0).as_fixed_size_list_opt().ok_or_else(damaged)?;
    let values = lists.values().as_primitive_opt::<T>().ok_or_else(damaged)?;
    let flat = Array1::from_vec(values.values().to_vec());
    flat.into_shape_with_order((lists.len(), lists.value_length() as usize)).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Float64Type;
    use ndarray::array;

    use super::*;

    #[test]
    fn a_matrix_comes_back_bit_for_bit() {
        let matrix = array![[0.1, f64::MIN_POSITIVE], [-0.0, 1e300], [1.0 / 3.0, 0.0]];
        let rows = matrix_rows::<Float64Type>("weights", &matrix).unwrap();
        assert_eq!(rows_matrix::<Float64Type>(&rows).unwrap(), matrix);
        assert!(rows_matrix::<datafusion::arrow::datatypes::Float32Type>(&rows).is_err());
    }
}
