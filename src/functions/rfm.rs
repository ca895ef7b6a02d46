//! `rfm`: orders in, one row a customer out: recency, frequency, monetary value, their scores and the tier.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::Column;
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_aggregate::expr_fn::{count, max, min, sum};
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_window::expr_fn::percent_rank;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::expr_fn::{cast, when};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, WindowFunctionDefinition, lit,
};

use crate::error::{Error, Kind, Result};
use crate::frame::sql_name;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::nodes::col;
use crate::functions::{Call, Planner};
use crate::kernels::rfm;
use crate::models::Registry;

pub struct Rfm;

impl Function for Rfm {
    fn name(&self) -> &'static str {
        "rfm"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "One row for each customer of a query of orders: how recently, how often and for how much they \
                      bought, each also as a score from 1 to bins (5 is best; equal values get equal scores), and the \
                      tier that the scores stand for. Rows without customer or time are left out.",
            syntax: &["rfm((SELECT customer, ts, amount …) [, as_of => timestamp] [, bins => 5])"],
            arguments: &[
                ("query", "three columns in this order: customer, time of the order, amount"),
                ("as_of", "the moment looked from; the latest time in the query by default. Later rows are left out"),
                ("bins", "how many scores, 2 to 100; 5 by default"),
            ],
            returns: &[
                ("<customer column>", "as in the query"),
                ("recency", "days from the last order to as_of"),
                ("frequency", "number of orders"),
                ("monetary_value", "sum of the amounts"),
                ("t", "days from the first order to as_of: the customer's age"),
                ("first_ts, last_ts", "times of the first and the last order"),
                ("r_score, f_score, m_score", "1 … bins"),
                ("tier", "its name: Champions, Loyal Customers, At Risk, …"),
            ],
            example: "SELECT tier, count(*) AS customers, round(avg(monetary_value)) AS mean_value\n\
                      FROM rfm((SELECT customer_id, order_ts, amount FROM orders)) GROUP BY tier ORDER BY mean_value DESC",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }

    fn scalars(&self, _registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![tier_function()]
    }
}

const SECONDS_A_DAY: f64 = 86_400.0;

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let input = call.relation(planner, "query")?.ok_or_else(|| {
        Error::invalid("rfm() wants a query of orders").hint("rfm((SELECT customer_id, order_ts, amount FROM orders))")
    })?;
    let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
    let as_of = call.option(planner, "as_of", &moment)?;
    let bins = match call.option(planner, "bins", &DataType::Int64)? {
        None => 5,
        Some(Expr::Literal(bins, _)) => match bins.to_string().parse::<i64>() {
            Ok(bins) if (2..=100).contains(&bins) => bins,
            _ => return Err(Error::invalid(format!("bins must be from 2 to 100, not {bins}"))),
        },
        Some(_) => return Err(Error::invalid("bins must be a number that stands in the query")),
    };
    call.finish(&["as_of", "bins"])?;
    let [customer, ts, amount] = columns(&input)?;
    let name = customer.name.clone();

    let mut orders = LogicalPlanBuilder::from(input).project(vec![
        Expr::Column(customer).alias("customer"),
        cast(Expr::Column(ts), moment).alias("ts"),
        cast(Expr::Column(amount), DataType::Float64).alias("amount"),
    ])?;
    orders = orders.filter(col("customer").is_not_null().and(col("ts").is_not_null()))?;
    if let Some(as_of) = &as_of {
        orders = orders.filter(col("ts").lt_eq(as_of.clone()))?;
    }
    let customers = orders.aggregate(
        vec![col("customer")],
        vec![
            max(col("ts")).alias("last_ts"),
            min(col("ts")).alias("first_ts"),
            count(lit(1i64)).alias("frequency"),
            sum(col("amount")).alias("monetary_value"),
        ],
    )?;
    let as_of = match as_of {
        Some(as_of) => as_of,
        None => {
            let latest = WindowFunctionDefinition::AggregateUDF(max_udaf());
            WindowFunction::new(latest, vec![col("last_ts")]).into()
        }
    };
    let days = |from: &str| {
        let seconds = |expr: Expr| cast(cast(expr, DataType::Int64), DataType::Float64) / lit(1e6);
        (seconds(col("as_of")) - seconds(col(from))) / lit(SECONDS_A_DAY)
    };
    let mut with_as_of =
        vec![col("customer"), col("first_ts"), col("last_ts"), col("frequency"), col("monetary_value")];
    let measured = vec![
        col("customer"),
        days("last_ts").alias("recency"),
        col("frequency"),
        col("monetary_value"),
        days("first_ts").alias("t"),
        col("first_ts"),
        col("last_ts"),
    ];
    let customers = match as_of {
        window @ Expr::WindowFunction(_) => {
            let window = window.alias("as_of");
            with_as_of.push(col("as_of"));
            customers.window(vec![window])?.project(with_as_of)?
        }
        constant => {
            with_as_of.push(constant.alias("as_of"));
            customers.project(with_as_of)?
        }
    };
    let measured = customers.project(measured)?;
    // The share of customers that are worse decides the score, so equal values get equal scores. One window node a
    // rank: a node has one order.
    let rank = |by: Expr, ascending: bool, name: &str| {
        Ok::<_, Error>(vec![percent_rank().order_by(vec![by.sort(ascending, ascending)]).build()?.alias(name)])
    };
    let ranked = measured
        .window(rank(col("recency"), false, "r")?)?
        .window(rank(col("frequency"), true, "f")?)?
        .window(rank(col("monetary_value"), true, "m")?)?;
    let score = |rank: &str| -> Result<Expr> {
        let step = cast(col(rank) * lit(bins as f64), DataType::Int64) + lit(1i64);
        Ok(when(step.clone().gt(lit(bins)), lit(bins)).otherwise(step)?)
    };
    let mut scored: Vec<Expr> =
        ["customer", "recency", "frequency", "monetary_value", "t", "first_ts", "last_ts"].map(col).to_vec();
    scored.extend([score("r")?.alias("r_score"), score("f")?.alias("f_score"), score("m")?.alias("m_score")]);
    let tier = tier_function().call(vec![col("r_score"), col("f_score"), col("m_score"), lit(bins)]);
    let mut named = vec![col("customer").alias(name)];
    named.extend(
        ["recency", "frequency", "monetary_value", "t", "first_ts", "last_ts", "r_score", "f_score", "m_score"]
            .map(col),
    );
    named.push(tier.alias("tier"));
    Ok(ranked.project(scored)?.project(named)?.build()?)
}

/// Customer, time and amount: exactly three columns of fitting types.
fn columns(input: &LogicalPlan) -> Result<[Column; 3]> {
    let found = input.schema().columns();
    let n = found.len();
    let [customer, ts, amount] = <[Column; 3]>::try_from(found).map_err(|_| {
        Error::invalid(format!("rfm() wants a query of three columns, not {n}: customer, time, amount"))
            .hint("rfm((SELECT customer_id, order_ts, amount FROM orders))")
    })?;
    let type_of = |at: usize| input.schema().field(at).data_type();
    if !matches!(type_of(1), DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64) {
        return Err(Error::new(
            Kind::WrongType,
            format!("rfm(): the second column must be a timestamp or date, not {}", sql_name(type_of(1))),
        )
        .hint("the second column is the time of the order; cast it: order_ts::timestamp"));
    }
    if !type_of(2).is_numeric() {
        return Err(Error::new(
            Kind::WrongType,
            format!("rfm(): the third column must be a number, not {}", sql_name(type_of(2))),
        )
        .hint("the third column is the amount of the order"));
    }
    Ok([customer, ts, amount])
}

/// `rfm_segment(r_score, f_score, m_score, bins)`: the name of the tier.
fn tier_function() -> ScalarUDF {
    ScalarUDF::new_from_impl(Tier { signature: Signature::exact(vec![DataType::Int64; 4], Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Tier {
    signature: Signature,
}

impl ScalarUDFImpl for Tier {
    fn name(&self) -> &str {
        "rfm_segment"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let whole = arrays.iter().map(|array| cast_array(array, &DataType::Int64)).collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<_> = whole.iter().map(|array| array.as_primitive::<Int64Type>()).collect();
        let rows = columns[0].iter().zip(columns[1]).zip(columns[2]).zip(columns[3]);
        let tiers: StringArray = rows.map(|(((r, f), m), bins)| tier_name(r?, f?, m?, bins?)).collect();
        Ok(ColumnarValue::Array(Arc::new(tiers) as ArrayRef))
    }
}

/// `None` for scores that are none.
fn tier_name(r: i64, f: i64, m: i64, bins: i64) -> Option<&'static str> {
    let score = |value: i64| u32::try_from(value).ok().filter(|value| (1..=bins).contains(&i64::from(*value)));
    Some(rfm::TIERS[rfm::tier(score(r)?, rfm::combined(score(f)?, score(m)?), usize::try_from(bins).ok()?)])
}
