//! `array_or_empty(array)`: what `ARRAY(SELECT …)` gives, which of no rows is an empty array and not NULL.

use std::sync::Arc;

use datafusion::arrow::array::UInt64Array;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, GenericListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

use crate::error::Error;

pub fn register(context: &SessionContext) {
    let signature = Signature::any(1, Volatility::Immutable);
    context.register_udf(ScalarUDF::new_from_impl(ArrayOrEmpty { signature }));
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayOrEmpty {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayOrEmpty {
    fn name(&self) -> &str {
        "array_or_empty"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> DataFusionResult<DataType> {
        args.first().cloned().ok_or_else(|| Error::internal("an array is wanted").into())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [value] = args.args.as_slice() else { return Err(Error::internal("an array is wanted").into()) };
        Ok(match value {
            ColumnarValue::Scalar(scalar) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&filled(&scalar.to_array()?)?, 0)?)
            }
            ColumnarValue::Array(array) => ColumnarValue::Array(filled(array)?),
        })
    }
}

/// The lists with empty ones in the place of NULL.
fn filled(array: &ArrayRef) -> DataFusionResult<ArrayRef> {
    let (Some(lists), DataType::List(item)) = (array.as_list_opt::<i32>(), array.data_type()) else {
        return Ok(Arc::clone(array));
    };
    if lists.null_count() == 0 {
        return Ok(Arc::clone(array));
    }
    let offsets = lists.offsets();
    let kept = (0..lists.len()).filter(|at| lists.is_valid(*at));
    let items: UInt64Array =
        kept.flat_map(|at| offsets[at].cast_unsigned()..offsets[at + 1].cast_unsigned()).map(u64::from).collect();
    let lengths =
        (0..lists.len()).map(|at| if lists.is_valid(at) { lists.value_length(at).cast_unsigned() as usize } else { 0 });
    let items = take(lists.values(), &items, None)?;
    let lists = GenericListArray::<i32>::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), items, None)?;
    Ok(Arc::new(lists))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::ListArray;
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn null_becomes_empty() {
        let lists =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![Some(2)])]);
        let found = filled(&(Arc::new(lists) as ArrayRef)).unwrap();
        let expected = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![]),
            Some(vec![Some(2)]),
        ]);
        assert_eq!(found.as_list::<i32>(), &expected);
    }
}
