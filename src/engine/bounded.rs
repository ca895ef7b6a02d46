//! Functions that make much out of little: `repeat('x', 2000000000)`. A batch of their values is not built when it
//! would be larger than a server can be asked for; no memory limit of the engine sees it, and running out ends the process.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use datafusion::prelude::SessionContext;

use crate::error::{Error, Kind, Result};
use crate::functions::list_bytes;

/// What one function may make for one batch of rows.
const MAX_BYTES: u64 = 256 << 20;

/// Rows in a batch, unless a constant is so large that fewer must do.
const BATCH_ROWS: usize = 8192;

/// Puts the bounded twins in the place of the functions.
pub(super) fn register(context: &SessionContext) -> Result<()> {
    let bounds: [(&str, Bound); 7] = [
        ("repeat", |args, row| size(args, 0, row).saturating_mul(number(args, 1, row))),
        ("lpad", |args, row| number(args, 1, row)),
        ("rpad", |args, row| number(args, 1, row)),
        ("array_repeat", |args, row| size(args, 0, row).max(8).saturating_mul(number(args, 1, row))),
        ("array_resize", |args, row| size(args, 2, row).max(8).saturating_mul(number(args, 1, row))),
        ("range", steps),
        ("generate_series", steps),
    ];
    for (name, bound) in bounds {
        let inner = context.udf(name)?;
        context.register_udf(ScalarUDF::from(Bounded { inner, bound }));
    }
    Ok(())
}

/// Rows that a batch may have beside the largest constant of the plan, which is repeated for each of them, and the longest
/// list that a function makes for each.
///
/// # Errors
/// 54000 if one row of it is too much already.
pub(super) fn batch_rows(plan: &LogicalPlan) -> Result<usize> {
    let mut largest = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Literal(value, _) => largest = largest.max(scalar_size(value)),
                    Expr::ScalarFunction(call) => largest = largest.max(list_bytes(call) as u64),
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if largest > MAX_BYTES {
        return Err(too_much("a constant", largest));
    }
    let rows = MAX_BYTES / 4 / largest.max(1);
    Ok(usize::try_from(rows).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS))
}

fn too_much(what: &str, bytes: u64) -> Error {
    let megabytes = bytes >> 20;
    Error::new(Kind::LimitExceeded, format!("{what} of {megabytes} MB is too large")).hint(format!(
        "the values that one function makes for a batch of up to {BATCH_ROWS} rows may take {} MB; make them shorter",
        MAX_BYTES >> 20
    ))
}

/// Bytes that a function makes for one row, at most or nearly.
type Bound = fn(&[Arg], usize) -> u64;

/// A function that looks at what it is asked for before it begins.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    bound: Bound,
}

/// A function has one bound, so the function tells them apart.
impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> DataFusionResult<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let read = args.args.iter().map(Arg::read).collect::<DataFusionResult<Vec<_>>>()?;
        // Constants only: one value, however many rows.
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { args.number_rows.min(1) } else { args.number_rows };
        let bytes = (0..rows).fold(0u64, |bytes, row| bytes.saturating_add((self.bound)(&read, row)));
        if bytes > MAX_BYTES {
            return Err(too_much(&format!("a result of {}()", self.name()), bytes).into());
        }
        self.inner.invoke_with_args(args)
    }
}

/// An argument, as far as it matters for how much is made of it.
struct Arg {
    /// Bytes of text or of the element.
    sizes: Values,
    /// Whole numbers; instants as nanoseconds.
    numbers: Values,
}

enum Values {
    Same(Option<i64>),
    Each(Vec<Option<i64>>),
}

impl Values {
    fn at(&self, row: usize) -> Option<i64> {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values.get(row).copied().flatten(),
        }
    }
}

impl Arg {
    fn read(value: &ColumnarValue) -> DataFusionResult<Self> {
        Ok(match value {
            ColumnarValue::Scalar(scalar) => {
                let size = if scalar.is_null() { None } else { i64::try_from(scalar_size(scalar)).ok() };
                let number = numbers(scalar.to_array()?.as_ref())?;
                Self { sizes: Values::Same(size), numbers: Values::Same(number.into_iter().next().flatten()) }
            }
            ColumnarValue::Array(array) => {
                let sizes = match array.data_type() {
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                        let lengths = cast(&length(array)?, &DataType::Int64)?;
                        lengths.as_primitive::<Int64Type>().iter().collect()
                    }
                    // Of anything else the mean.
                    _ => {
                        let mean = array.get_array_memory_size() / array.len().max(1);
                        vec![i64::try_from(mean).ok(); array.len()]
                    }
                };
                Self { sizes: Values::Each(sizes), numbers: Values::Each(numbers(array)?) }
            }
        })
    }
}

fn numbers(array: &dyn Array) -> DataFusionResult<Vec<Option<i64>>> {
    let whole = |array: &dyn Array| -> DataFusionResult<Vec<Option<i64>>> {
        Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().iter().collect())
    };
    match array.data_type() {
        of if of.is_integer() => whole(array),
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            whole(cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, None))?.as_ref())
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            const DAY: i64 = 86_400_000_000_000;
            let nanoseconds = array.as_primitive::<IntervalMonthDayNanoType>().iter().map(|interval| {
                interval.map(|interval| {
                    let days = i64::from(interval.months).saturating_mul(30).saturating_add(i64::from(interval.days));
                    days.saturating_mul(DAY).saturating_add(interval.nanoseconds)
                })
            });
            Ok(nanoseconds.collect())
        }
        _ => Ok(vec![None; array.len()]),
    }
}

fn scalar_size(value: &ScalarValue) -> u64 {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, |text| text.len() as u64)
        }
        ScalarValue::List(_) | ScalarValue::LargeList(_) | ScalarValue::Struct(_) | ScalarValue::FixedSizeList(_) => {
            value.size() as u64
        }
        _ => 8,
    }
}

fn size(args: &[Arg], at: usize, row: usize) -> u64 {
    args.get(at).and_then(|arg| arg.sizes.at(row)).and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

fn number(args: &[Arg], at: usize, row: usize) -> u64 {
    args.get(at).and_then(|arg| arg.numbers.at(row)).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

/// `range(stop)`, `range(start, stop)`, `range(start, stop, step)`: eight bytes an element.
fn steps(args: &[Arg], row: usize) -> u64 {
    let at = |n: usize| args.get(n).and_then(|arg| arg.numbers.at(row));
    let (start, stop, step) = match args.len() {
        1 => (Some(0), at(0), Some(1)),
        2 => (at(0), at(1), Some(1)),
        _ => (at(0), at(1), at(2)),
    };
    match (start, stop, step) {
        (Some(start), Some(stop), Some(step)) if step != 0 && (stop > start) == (step > 0) => {
            (stop.abs_diff(start) / step.unsigned_abs()).saturating_add(1).saturating_mul(8)
        }
        _ => 0,
    }
}
