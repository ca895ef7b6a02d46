//! The aggregate that counts the different values of a column, of whatever type, and finds the one that occurs most.

use std::fmt::{self, Debug};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StructArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};

use crate::error::Error;
use crate::kernels::tally::Tally;

/// `tally(column)`: a struct of `n_distinct`, `is_exact`, `top` (of the column's type) and `top_count`. NULL is no value.
pub fn tally(column: Expr) -> Expr {
    AggregateUDF::new_from_impl(TallyFunction { signature: Signature::any(1, Volatility::Immutable) })
        .call(vec![column])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TallyFunction {
    signature: Signature,
}

fn fields(of: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("n_distinct", DataType::Int64, true),
        Field::new("is_exact", DataType::Boolean, true),
        Field::new("top", plain(of).clone(), true),
        Field::new("top_count", DataType::Int64, true),
    ])
}

/// The type in which values come back from their bytes.
fn plain(of: &DataType) -> &DataType {
    match of {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

impl AggregateUDFImpl for TallyFunction {
    fn name(&self) -> &str {
        "tally"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Struct(fields(&arg_types[0])))
    }

    fn state_fields(&self, _args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new("tally[counts]", DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let data_type = args.expr_fields[0].data_type().clone();
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Box::new(Counting { data_type, converter, tally: Tally::default() }))
    }
}

struct Counting {
    data_type: DataType,
    /// Values as bytes, which are in the order of the values.
    converter: RowConverter,
    tally: Tally,
}

impl Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tally({} values)", self.tally.distinct())
    }
}

impl Accumulator for Counting {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let nulls = values[0].logical_nulls();
        let rows = self.converter.convert_columns(&values[..1])?;
        for (at, row) in rows.iter().enumerate() {
            if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at)) {
                self.tally.add(row.data(), 1);
            }
        }
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::LargeBinary(Some(self.tally.to_bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        for state in states[0].as_binary::<i64>().iter().flatten() {
            let part = Tally::from_bytes(state).ok_or_else(|| Error::internal("tally: a state is damaged"))?;
            self.tally.merge(&part);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let (top, top_count) = match self.tally.top() {
            Some((key, count)) => {
                let parser = self.converter.parser();
                let values = self.converter.convert_rows([parser.parse(key)])?;
                (Arc::clone(&values[0]), Some(count as i64))
            }
            None => (new_null_array(plain(&self.data_type), 1), None),
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![self.tally.distinct() as i64])),
            Arc::new(BooleanArray::from(vec![self.tally.is_exact()])),
            top,
            Arc::new(Int64Array::from(vec![top_count])),
        ];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(&self.data_type), columns, None)?)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.tally.size() + self.converter.size()
    }
}
