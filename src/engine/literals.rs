//! Literals that take their type from what they stand beside, or have another than the planner thinks.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::error::{Error, Kind, Result};

/// Makes the sessions that start from this one read literals so.
pub fn register(context: &mut SessionContext) -> Result<()> {
    context.register_expr_planner(Arc::new(SmallLiterals))?;
    context.register_expr_planner(Arc::new(Booleans))?;
    Ok(())
}

/// Plans `2147483647 + 1` as the sum of two integers, which it is in Postgres: the planner takes every whole number for a
/// bigint.
#[derive(Debug)]
struct SmallLiterals;

impl ExprPlanner for SmallLiterals {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        let op = match expr.op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let small = |expr: &Expr| match expr {
            Expr::Literal(ScalarValue::Int64(Some(number)), _) => i32::try_from(*number).ok(),
            _ => None,
        };
        let (Some(left), Some(right)) = (small(&expr.left), small(&expr.right)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let literal = |number: i32| Expr::Literal(ScalarValue::Int32(Some(number)), None);
        Ok(PlannerResult::Planned(binary_expr(literal(left), op, literal(right))))
    }
}

/// Plans `active = 't'` as the comparison of two booleans.
#[derive(Debug)]
struct Booleans;

impl ExprPlanner for Booleans {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        if !matches!(expr.op, BinaryOperator::Eq | BinaryOperator::NotEq) {
            return Ok(PlannerResult::Original(expr));
        }
        let is_boolean = |of: &Expr| of.get_type(schema).is_ok_and(|of| of == DataType::Boolean);
        let boolean = |of: &Expr| match of {
            Expr::Literal(value, _) if value.data_type().is_string() => value.try_as_str().flatten().map(read),
            _ => None,
        };
        let literal = |value: Result<bool>| Ok::<_, Error>(Expr::Literal(ScalarValue::Boolean(Some(value?)), None));
        let RawBinaryExpr { op, left, right } = expr;
        let (left, right) = match (boolean(&left), boolean(&right)) {
            (None, Some(value)) if is_boolean(&left) => (left, literal(value)?),
            (Some(value), None) if is_boolean(&right) => (literal(value)?, right),
            _ => (left, right),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// What a text says as a boolean, in any of the ways that Postgres knows.
fn read(text: &str) -> Result<bool> {
    match text.trim().to_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Ok(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Ok(false),
        _ => Err(Error::new(Kind::InvalidText, format!("invalid input syntax for type boolean: \"{text}\""))),
    }
}
