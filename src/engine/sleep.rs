//! `pg_sleep(seconds)`: a query that waits, and ends when it is stopped, without keeping a thread.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

use crate::error::Error;

pub fn register(context: &SessionContext) {
    let sleep = Sleep { signature: Signature::any(1, Volatility::Volatile) };
    context.register_udf(AsyncScalarUDF::new(Arc::new(sleep)).into_scalar_udf());
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep {
    signature: Signature,
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &'static str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// It answers nothing, which clients see as an empty text.
    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        Err(Error::internal("pg_sleep is waited for").into())
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let n_rows = args.number_rows;
        let [seconds] = args.args.as_slice() else {
            return Err(Error::internal("pg_sleep takes one argument").into());
        };
        let seconds: ArrayRef = cast(&seconds.to_array(n_rows)?, &DataType::Float64)?;
        for seconds in seconds.as_primitive::<Float64Type>().iter().flatten() {
            // Longer than anybody waits; less than nothing is nothing.
            let seconds = seconds.clamp(0.0, 1e9);
            tokio::time::sleep(Duration::from_secs_f64(if seconds.is_nan() { 0.0 } else { seconds })).await;
        }
        let slept: StringArray = (0..n_rows).map(|row| seconds.is_valid(row).then_some("")).collect();
        Ok(ColumnarValue::Array(Arc::new(slept)))
    }
}
