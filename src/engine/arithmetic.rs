//! Arithmetic as Postgres does it, where DataFusion does it otherwise: integers that overflow are an error, and numbers
//! multiply intervals.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Datum, IntervalMonthDayNanoArray};
use datafusion::arrow::compute::kernels::numeric::{add, mul, sub};
use datafusion::arrow::datatypes::{
    DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::engine::expressions::rewrite_expressions;
use crate::error::{Error, Kind, Result, in_sql};

/// Makes the sessions that start from this one count as Postgres does.
pub fn register(context: &mut SessionContext) -> Result<()> {
    context.add_analyzer_rule(Arc::new(CheckedIntegers));
    context.register_expr_planner(Arc::new(IntervalsByNumbers))?;
    Ok(())
}

/// Puts a function that refuses to overflow in the place of `+`, `-` and `*` of integers, which wrap silently.
#[derive(Debug)]
struct CheckedIntegers;

impl AnalyzerRule for CheckedIntegers {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        rewrite_expressions(plan, checked)
    }

    fn name(&self) -> &str {
        "checked_integers"
    }
}

fn checked(expr: Expr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus | Operator::Multiply), right }) =
        expr
    else {
        return Ok(Transformed::no(expr));
    };
    // By now both sides are of one type, if they are integers.
    if !left.get_type(schema).is_ok_and(|of| of.is_integer()) || !right.get_type(schema).is_ok_and(|of| of.is_integer())
    {
        return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
    }
    let function = ScalarUDF::new_from_impl(Checked { op, signature: Signature::any(2, Volatility::Immutable) });
    Ok(Transformed::yes(function.call(vec![*left, *right])))
}

/// `a + b`, `a - b` or `a * b` of two integers of one type; shown as it was written.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: Operator,
    signature: Signature,
}

impl Checked {
    fn shown(&self, args: &[Expr], show: impl Fn(&Expr) -> String) -> String {
        match args {
            [left, right] => format!("{} {} {}", show(left), self.op, show(right)),
            _ => self.name().to_owned(),
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.op {
            Operator::Plus => "integer_add",
            Operator::Minus => "integer_subtract",
            _ => "integer_multiply",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> DataFusionResult<DataType> {
        args.first().cloned().ok_or_else(|| Error::internal("arithmetic without numbers").into())
    }

    fn display_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        Ok(self.shown(args, ToString::to_string))
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        Ok(self.shown(args, |arg| arg.schema_name().to_string()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return Err(Error::internal("arithmetic takes two numbers").into());
        };
        let compute: fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError> = match self.op {
            Operator::Plus => add,
            Operator::Minus => sub,
            _ => mul,
        };
        let of = left.data_type();
        let out_of_range = |error: ArrowError| match error {
            ArrowError::ArithmeticOverflow(_) => {
                Error::new(Kind::OutOfRange, format!("{} out of range", in_sql(&of.to_string())))
            }
            other => Error::from(other),
        };
        let run = |left: &dyn Datum, right: &dyn Datum| compute(left, right).map_err(out_of_range);
        Ok(match (left, right) {
            (ColumnarValue::Array(left), ColumnarValue::Array(right)) => ColumnarValue::Array(run(left, right)?),
            (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => {
                ColumnarValue::Array(run(left, &right.to_scalar()?)?)
            }
            (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => {
                ColumnarValue::Array(run(&left.to_scalar()?, right)?)
            }
            (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => {
                let one = run(&left.to_scalar()?, &right.to_scalar()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?)
            }
        })
    }
}

/// Plans `n * interval`, `interval * n` and `interval / n`.
#[derive(Debug)]
struct IntervalsByNumbers;

impl ExprPlanner for IntervalsByNumbers {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        let divides = match expr.op {
            BinaryOperator::Multiply => false,
            BinaryOperator::Divide => true,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let is_interval = |of: &DataType| matches!(of, DataType::Interval(_));
        let is_number = |of: &DataType| of.is_numeric() || *of == DataType::Null;
        let (interval, number) = if is_interval(&left) && is_number(&right) {
            (expr.left, expr.right)
        } else if is_number(&left) && is_interval(&right) && !divides {
            (expr.right, expr.left)
        } else {
            return Ok(PlannerResult::Original(expr));
        };
        let types = vec![DataType::Interval(IntervalUnit::MonthDayNano), DataType::Float64];
        let signature = Signature::exact(types, Volatility::Immutable);
        let function = ScalarUDF::new_from_impl(IntervalByNumber { divides, signature });
        Ok(PlannerResult::Planned(function.call(vec![interval, number])))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalByNumber {
    divides: bool,
    signature: Signature,
}

impl ScalarUDFImpl for IntervalByNumber {
    fn name(&self) -> &str {
        if self.divides { "interval_div" } else { "interval_mul" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [intervals, numbers] = arrays.as_slice() else {
            return Err(Error::internal("an interval and a number are wanted").into());
        };
        let intervals = intervals.as_primitive_opt::<IntervalMonthDayNanoType>();
        let numbers = numbers.as_primitive_opt::<Float64Type>();
        let (Some(intervals), Some(numbers)) = (intervals, numbers) else {
            return Err(Error::internal("an interval and a number are wanted").into());
        };
        let scaled = intervals.iter().zip(numbers).map(|pair| match pair {
            (Some(_), Some(0.0)) if self.divides => Err(Error::new(Kind::DivisionByZero, "division by zero")),
            (Some(interval), Some(number)) if self.divides => scaled(interval, 1.0 / number).map(Some),
            (Some(interval), Some(number)) => scaled(interval, number).map(Some),
            _ => Ok(None),
        });
        let scaled: IntervalMonthDayNanoArray = scaled.collect::<Result<Vec<_>>>()?.into();
        Ok(ColumnarValue::Array(Arc::new(scaled)))
    }
}

/// An interval times a number. What is left of a month goes into its days, of which it has 30, and what is left of a
/// day into its hours (PostgreSQL, `interval_mul`).
fn scaled(interval: IntervalMonthDayNano, by: f64) -> Result<IntervalMonthDayNano> {
    const DAY: f64 = 86_400e9;
    let out_of_range = || Error::new(Kind::OutOfRange, "interval out of range");
    let fits = |value: f64, most: f64| if value.abs() <= most { Ok(value) } else { Err(out_of_range()) };
    let months = fits(f64::from(interval.months) * by, f64::from(i32::MAX))?;
    // A month in fractions is seldom exact; Postgres rounds what is left to microseconds, too.
    let left = ((months - months.trunc()) * 30.0 * 86_400e6).round() / 86_400e6;
    let days = fits(f64::from(interval.days) * by, f64::from(i32::MAX))?;
    let left_of_day = days - days.trunc() + left - left.trunc();
    let whole_days = fits(days.trunc() + left.trunc() + left_of_day.trunc(), f64::from(i32::MAX))?;
    let nanos = interval.nanoseconds as f64 * by + (left_of_day - left_of_day.trunc()) * DAY;
    // Rounded to what Postgres can hold.
    let micros = fits((nanos / 1e3).round(), 9.2e15)?;
    Ok(IntervalMonthDayNano::new(months.trunc() as i32, whole_days as i32, micros as i64 * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_scaled_like_in_postgres() {
        let of = IntervalMonthDayNano::new;
        assert_eq!(scaled(of(0, 1, 0), 3.0).unwrap(), of(0, 3, 0));
        assert_eq!(scaled(of(1, 0, 0), 1.5).unwrap(), of(1, 15, 0));
        assert_eq!(scaled(of(0, 1, 0), 0.5).unwrap(), of(0, 0, 43_200_000_000_000));
        assert_eq!(scaled(of(0, 0, 3_600_000_000_000), -2.0).unwrap(), of(0, 0, -7_200_000_000_000));
        assert_eq!(scaled(of(i32::MAX, 0, 0), 2.0).unwrap_err().kind, Kind::OutOfRange);
        assert_eq!(scaled(of(0, 1, 0), f64::NAN).unwrap_err().kind, Kind::OutOfRange);
    }
}
