//! `cross_validate`: how good a model's way to learn is on rows it has not seen, and how sure that is.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{Error, Result};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::gather::{AllRows, Finish, Gather, list_value};
use crate::functions::nodes::unnested;
use crate::functions::{Call, Planner};
use crate::models::{FitContext, Fitted, FoldResult, Intake, Registry, Strategy, algorithm, cross_validate};

pub struct CrossValidate;

const DEFAULT_FOLDS: i64 = 5;
const MAX_FOLDS: i64 = 100;

impl Function for CrossValidate {
    fn name(&self) -> &'static str {
        "cross_validate"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "How good a model's way to learn is, and how sure that is: its training query is run again, and for each \
                      fold a model with its options is trained on some of the rows and judged on others. One row for each \
                      fold and metric, then the mean over the folds and their standard deviation. The model itself stays \
                      as it is.",
            syntax: &["cross_validate('model' [, folds => 5] [, strategy => '…'] [, group => 'column'])"],
            arguments: &[
                ("model", "name, or name@version"),
                ("folds", "how many models are trained, 2 to 100; 5 by default"),
                (
                    "strategy",
                    "time: a fold learns from what came before the rows it holds out (default of recommenders with a \
                     timestamp; others are cut by data_split_col). leave_last: it holds out what each customer took last, \
                     the next fold what they took before that. stratified: classes are spread evenly (default where there \
                     is a label). random: by a hash of the row, of recommenders of the customer and the product. group: \
                     rows of one customer stay together, so that nobody is judged by what was learned of them",
                ),
                (
                    "group",
                    "the column whose rows stay together, and strategy group with it; of that strategy the model's id_col by \
                     default",
                ),
            ],
            returns: &[
                ("fold", "1, 2, …; then mean and std, the standard deviation between folds"),
                ("metric", "as evaluate() names it; baselines included"),
                ("value", "NULL where the metric is not defined on the fold's rows; the mean is over the others"),
                ("n_rows, n_eval_rows", "rows that the fold learned from, and rows that it held out"),
            ],
            example: "SELECT fold, round(value, 2) AS auc FROM cross_validate('fraud', folds => 3)\n\
                      WHERE metric = 'roc_auc' AND fold IN ('mean', 'std') ORDER BY fold",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let folds = call.option(planner, "folds", &DataType::Int64)?.unwrap_or_else(|| lit(DEFAULT_FOLDS));
    let strategy = call.option(planner, "strategy", &DataType::Utf8)?;
    let group = call.option(planner, "group", &DataType::Utf8)?;
    call.finish(&["folds", "strategy", "group"])?;
    let input = planner.training_query(&fitted)?;
    let [strategy, group] = [strategy, group].map(|text| text.unwrap_or_else(|| lit(ScalarValue::Utf8(None))));
    let mut args = vec![lit(fitted.name.to_string()), folds, strategy, group];
    for column in input.schema().columns() {
        args.extend([lit(column.name.clone()), Expr::Column(column)]);
    }
    let aggregate = fold_rows(planner.registry()).call(args).alias("__folds");
    let gathered = LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), vec![aggregate])?.build()?;
    let fields = fields();
    let parts: Vec<(&str, &str)> = fields.iter().map(|field| (field.name().as_str(), field.name().as_str())).collect();
    unnested(gathered, &[], Expr::Column("__folds".into()), &parts)
}

fn fields() -> Fields {
    Fields::from(vec![
        Field::new("fold", DataType::Utf8, true),
        Field::new("metric", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
        Field::new("n_rows", DataType::Int64, true),
        Field::new("n_eval_rows", DataType::Int64, true),
    ])
}

/// `fold_rows('m@3', folds, strategy, group, 'a', a, …)`: a list of metrics.
fn fold_rows(registry: &Arc<Registry>) -> AggregateUDF {
    let gather = Gather { name: "fold_rows", n_options: 3, finish: Finish::Model(finish) };
    gather.udaf(registry, DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields()), true))))
}

fn finish(fitted: &Fitted, all: &AllRows) -> Result<ScalarValue> {
    let (folds, strategy, group) = match all.options {
        [ScalarValue::Int64(Some(folds)), ScalarValue::Utf8(strategy), ScalarValue::Utf8(group)] => {
            (*folds, strategy.as_deref(), group.as_deref())
        }
        _ => return Err(Error::invalid("folds must be a whole number, strategy and group texts")),
    };
    if !(2..=MAX_FOLDS).contains(&folds) {
        return Err(Error::invalid(format!("folds must be from 2 to {MAX_FOLDS}, not {folds}")));
    }
    let strategy = Strategy::parse(strategy, group)?;
    let algorithm = algorithm(&fitted.model_type)?;
    let options = all.registry.options(fitted)?;
    let mut intake = Intake::new(algorithm, all.schema, &options)?;
    all.batches.iter().try_for_each(|batch| intake.push(batch.clone()))?;
    all.work.reserve(intake.bytes())?;
    let cx = FitContext {
        seed: options.whole("seed")? as u64,
        progress: &|_| all.work.go_on(),
        // What there was to remark was said when the model was trained.
        notice: &|_| (),
        reserve: &|bytes| all.work.reserve(bytes),
    };
    // On the threads of the kernels: this one only waits.
    let mut found = None;
    rayon::scope(|_| found = Some(cross_validate(algorithm, intake, &options, folds as usize, strategy, &cx)));
    let found = found.ok_or_else(|| Error::internal("the training thread panicked"))??;
    list_value(&table(&found)?)
}

fn table(folds: &[FoldResult]) -> Result<RecordBatch> {
    let (mut names, mut metrics, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (mut n_rows, mut n_eval_rows) = (Vec::new(), Vec::new());
    for (at, fold) in folds.iter().enumerate() {
        for (metric, value) in &fold.metrics {
            names.push((at + 1).to_string());
            metrics.push(metric.clone());
            values.push(*value);
            n_rows.push(Some(fold.n_rows as i64));
            n_eval_rows.push(Some(fold.n_eval_rows as i64));
        }
    }
    for (name, is_mean) in [("mean", true), ("std", false)] {
        for (at, (metric, _)) in folds.first().iter().flat_map(|fold| fold.metrics.iter().enumerate()) {
            let known: Vec<f64> = folds.iter().filter_map(|fold| fold.metrics.get(at)?.1).collect();
            names.push(name.to_owned());
            metrics.push(metric.clone());
            values.push(if is_mean { mean(&known) } else { deviation(&known) });
            n_rows.push(None);
            n_eval_rows.push(None);
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(names)),
        Arc::new(StringArray::from(metrics)),
        Arc::new(Float64Array::from(values)),
        Arc::new(Int64Array::from(n_rows)),
        Arc::new(Int64Array::from(n_eval_rows)),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns)?)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Of a sample: over n − 1.
fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_between_folds() {
        assert_eq!((mean(&[1.0, 3.0]), deviation(&[1.0, 3.0])), (Some(2.0), Some(2f64.sqrt())));
        assert_eq!((mean(&[]), deviation(&[1.0])), (None, None));
    }
}
