//! Parameters of a statement, $1, $2, …: what types they have, and how their values are written into its text.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Statement as PlannedStatement};
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast::{
    self, ArrayElemTypeDef, CastKind, ExactNumberInfo, TimezoneInfo, Value, Visit, VisitMut, visit_expressions,
    visit_expressions_mut,
};

use crate::error::{Error, Kind, Result};

/// The plan of a statement and the types of its parameters: as the client declared them, else as the statement implies
/// them, else text.
///
/// What a query returns depends on the types of its parameters, `SELECT $1` most of all. So they are found first, and
/// then the statement is planned with them.
pub async fn plan(
    state: &SessionState,
    sql: Sql,
    declared: &[Option<DataType>],
) -> Result<(LogicalPlan, Vec<DataType>)> {
    let statement = match sql {
        Sql::Statement(statement) if declared.iter().any(Option::is_some) => statement,
        other => {
            let plan = state.statement_to_plan(other).await?;
            let types = types(&plan, declared)?;
            return Ok((plan, types));
        }
    };
    let wanted = count(&*statement)?.max(declared.len());
    let all_declared = wanted <= declared.len() && declared.iter().all(Option::is_some);
    let found = if all_declared {
        declared.iter().flatten().cloned().collect()
    } else {
        let untyped = state.statement_to_plan(Sql::Statement(statement.clone())).await?;
        types(&untyped, declared)?
    };
    let Some(named) = found.iter().map(sql_type).collect::<Option<Vec<_>>>() else {
        let plan = state.statement_to_plan(Sql::Statement(statement)).await?;
        return Ok((plan, found));
    };
    let prepare = ast::Statement::Prepare { name: ast::Ident::new("typed"), data_types: named, statement };
    match state.statement_to_plan(Sql::Statement(Box::new(prepare))).await? {
        LogicalPlan::Statement(PlannedStatement::Prepare(prepare)) => {
            let plan = std::sync::Arc::unwrap_or_clone(prepare.input);
            let types = types(&plan, declared)?;
            Ok((plan, types))
        }
        other => Err(Error::internal(format!("PREPARE was planned as {}", other.display()))),
    }
}

/// What the client declared, else what the plan implies, else text.
fn types(plan: &LogicalPlan, declared: &[Option<DataType>]) -> Result<Vec<DataType>> {
    let implied = plan.get_parameter_types()?;
    let by_place = types_by_place(plan)?;
    let mut count = declared.len();
    for id in implied.keys() {
        count = count.max(number(id)?);
    }
    Ok((1..=count)
        .map(|n| {
            let id = format!("${n}");
            let implied = implied.get(&id).cloned().flatten().or_else(|| by_place.get(&id).cloned());
            declared.get(n - 1).cloned().flatten().or(implied).unwrap_or(DataType::Utf8)
        })
        .collect())
}

/// The types that parameters must have where they stand, beyond what the planner sees: `$1::bigint` and `LIMIT $1`
/// want a bigint, `customer_id = ANY($1)` an array of what the customer is.
fn types_by_place(plan: &LogicalPlan) -> Result<HashMap<String, DataType>> {
    let mut types = HashMap::new();
    let mut note = |expr: &Expr, of: DataType| {
        if let Expr::Placeholder(Placeholder { id, field: None }) = expr {
            types.entry(id.clone()).or_insert(of);
        }
    };
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for bound in [&limit.skip, &limit.fetch].into_iter().flatten() {
                note(bound, DataType::Int64);
            }
        }
        let inputs = node.inputs();
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Cast(cast) => note(&cast.expr, cast.field.data_type().clone()),
                    Expr::ScalarFunction(call) if call.name() == "array_has" => {
                        if let [array, item] = call.args.as_slice()
                            && let Some(of) = inputs.iter().find_map(|input| item.get_type(input.schema()).ok())
                        {
                            note(array, DataType::new_list(of, true));
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(types)
}

/// How many parameters a text wants: the highest number among them.
pub fn count(text: &impl Visit) -> Result<usize> {
    let mut highest = Ok(0);
    let _ = visit_expressions(text, |expr| {
        if let (Some(id), Ok(found)) = (placeholder(expr), &highest) {
            highest = number(id).map(|n| n.max(*found));
        }
        ControlFlow::<()>::Continue(())
    });
    highest
}

/// Writes the values in place of the parameters.
pub fn fill(text: &mut impl VisitMut, values: &[ScalarValue]) -> Result<()> {
    let mut outcome = Ok(());
    let _ = visit_expressions_mut(text, |expr| {
        if let Some(id) = placeholder(expr) {
            match value_of(id, values).and_then(literal) {
                Ok(literal) => *expr = literal,
                Err(error) => outcome = Err(error),
            }
        }
        ControlFlow::<()>::Continue(())
    });
    outcome
}

/// The value of the parameter `$n`.
pub fn value_of<'a>(id: &str, values: &'a [ScalarValue]) -> Result<&'a ScalarValue> {
    let at = number(id)?;
    values.get(at - 1).ok_or_else(|| Error::new(Kind::UnknownParameter, format!("there is no parameter {id}")))
}

fn placeholder(expr: &ast::Expr) -> Option<&str> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            Value::Placeholder(id) => Some(id),
            _ => None,
        },
        _ => None,
    }
}

/// The n of `$n`.
pub fn number(id: &str) -> Result<usize> {
    match id.strip_prefix('$').unwrap_or(id).parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(Error::new(Kind::Syntax, format!("\"{id}\" is not a parameter")).hint("parameters are $1, $2, …")),
    }
}

/// A value as one would write it.
fn literal(value: &ScalarValue) -> Result<ast::Expr> {
    let plain = |value: Value| ast::Expr::Value(value.into());
    let of = value.data_type();
    if let ScalarValue::List(lists) = value
        && !value.is_null()
    {
        let items = lists.value(0);
        let items = (0..items.len()).map(|at| literal(&ScalarValue::try_from_array(&items, at)?));
        let array = ast::Expr::Array(ast::Array { elem: items.collect::<Result<_>>()?, named: true });
        return Ok(match sql_type(&of) {
            Some(data_type) => cast(array, data_type),
            None => array,
        });
    }
    let written = if value.is_null() {
        plain(Value::Null)
    } else {
        let text = text_of(value)?;
        match &of {
            DataType::Boolean => return Ok(plain(Value::Boolean(text == "true"))),
            DataType::Int64 => return Ok(plain(Value::Number(text, false))),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                return Ok(plain(Value::SingleQuotedString(text.replace('\'', "''"))));
            }
            _ => plain(Value::SingleQuotedString(text)),
        }
    };
    if of == DataType::Null {
        return Ok(written);
    }
    let data_type = sql_type(&of)
        .ok_or_else(|| Error::unsupported("a parameter of this type is not supported in this statement"))?;
    Ok(cast(written, data_type))
}

/// A value as text, as a cast to text gives it.
pub fn text_of(value: &ScalarValue) -> Result<String> {
    let text = value.cast_to(&DataType::Utf8)?.to_array()?;
    Ok(text.as_string_opt::<i32>().map(|text| text.value(0).to_owned()).unwrap_or_default())
}

/// `CAST(expr AS type)`.
pub fn cast(expr: ast::Expr, data_type: ast::DataType) -> ast::Expr {
    ast::Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// The name by which the planner knows a type.
pub fn sql_type(of: &DataType) -> Option<ast::DataType> {
    let digits = |precision: u8, scale: i8| {
        ast::DataType::Numeric(ExactNumberInfo::PrecisionAndScale(u64::from(precision), i64::from(scale)))
    };
    let fraction = |unit: &TimeUnit| {
        Some(match unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => 3,
            TimeUnit::Microsecond => 6,
            TimeUnit::Nanosecond => 9,
        })
    };
    Some(match of {
        DataType::Boolean => ast::DataType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => ast::DataType::SmallInt(None),
        DataType::Int32 | DataType::UInt16 => ast::DataType::Integer(None),
        DataType::Int64 | DataType::UInt32 => ast::DataType::BigInt(None),
        DataType::UInt64 => digits(20, 0),
        DataType::Float16 | DataType::Float32 => ast::DataType::Real,
        DataType::Float64 => ast::DataType::DoublePrecision,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => digits(*precision, *scale),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ast::DataType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ast::DataType::Bytea,
        DataType::Date32 | DataType::Date64 => ast::DataType::Date,
        DataType::Time32(_) | DataType::Time64(_) => ast::DataType::Time(None, TimezoneInfo::None),
        DataType::Timestamp(unit, None) => ast::DataType::Timestamp(fraction(unit), TimezoneInfo::None),
        DataType::Timestamp(unit, Some(_)) => ast::DataType::Timestamp(fraction(unit), TimezoneInfo::WithTimeZone),
        DataType::Interval(_) | DataType::Duration(_) => ast::DataType::Interval { fields: None, precision: None },
        DataType::Dictionary(_, values) => sql_type(values)?,
        DataType::List(item) | DataType::LargeList(item) => {
            let item = Box::new(sql_type(item.data_type())?);
            ast::DataType::Array(ArrayElemTypeDef::SquareBracket(item, None))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn query(sql: &str) -> ast::Statement {
        Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0)
    }

    #[test]
    fn parameters_are_counted_by_their_highest_number() {
        assert_eq!(count(&query("SELECT $2 FROM f(k => $3) WHERE a IN (SELECT $1) LIMIT $2")).unwrap(), 3);
        assert_eq!(count(&query("SELECT 1")).unwrap(), 0);
        assert_eq!(count(&query("SELECT $0")).unwrap_err().kind, Kind::Syntax);
    }

    #[test]
    fn values_are_written_as_literals() {
        let mut statement = query("SELECT $1, $2, $3, $4, $5 FROM t LIMIT $6");
        let items = ScalarValue::new_list(&[ScalarValue::Int32(Some(1))], &DataType::Int32, true);
        let values = [
            ScalarValue::Utf8(Some("it's".into())),
            ScalarValue::Decimal128(Some(-125), 12, 2),
            ScalarValue::Date32(Some(19_723)),
            ScalarValue::Float64(None),
            ScalarValue::List(items),
            ScalarValue::Int64(Some(7)),
        ];
        fill(&mut statement, &values).unwrap();
        assert_eq!(
            statement.to_string(),
            "SELECT 'it''s', CAST('-1.25' AS NUMERIC(12,2)), CAST('2024-01-01' AS DATE), \
             CAST(NULL AS DOUBLE PRECISION), CAST(ARRAY[CAST('1' AS INTEGER)] AS INTEGER[]) FROM t LIMIT 7"
        );
        assert_eq!(fill(&mut query("SELECT $2"), &values[..1]).unwrap_err().kind, Kind::UnknownParameter);
    }
}
