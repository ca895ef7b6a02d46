//! `trial_info`: what a search for a model's options tried, as a table.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use crate::error::{Error, Kind, Result};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::{Call, Planner};
use crate::models::Trial;

pub struct TrialInfo;

impl Function for TrialInfo {
    fn name(&self) -> &'static str {
        "trial_info"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "What a search for a model's options tried, and how good each trial was on the part of the training rows \
                      that it was judged on. A search is asked for in CREATE MODEL: l2_reg = hparam_range(0.1, 100), \
                      num_factors = hparam_candidates(ARRAY[16, 32, 64]), num_trials = 20.",
            syntax: &["trial_info('model')"],
            arguments: &[("model", "name, or name@version")],
            returns: &[
                ("trial_id", "from 1, in the order of the trials"),
                ("hyperparameters", "the options that were tried, as JSON"),
                ("<metrics>", "as evaluate() names them, on the rows that trials are judged on"),
                ("objective", "the metric that the search makes best"),
                ("training_seconds", "how long the trial took"),
                ("is_optimal", "whether the model was trained with these options"),
                ("status", "SUCCEEDED or FAILED"),
                ("error_message", "why it failed"),
            ],
            example: "SELECT trial_id, hyperparameters, round(objective, 4) AS log_loss, is_optimal FROM trial_info('fraud') ORDER BY trial_id",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    call.finish(&[])?;
    let trials = planner.registry().trials(&fitted)?;
    if trials.is_empty() {
        return Err(Error::new(
            Kind::NotReady,
            format!("no options were searched when model \"{}\" was trained", fitted.asked),
        )
        .hint("in CREATE MODEL give an option as hparam_range(low, high) or hparam_candidates(ARRAY[…])"));
    }
    let rows = table(&trials)?;
    let provider = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
    Ok(LogicalPlanBuilder::scan("trial_info", provider_as_source(Arc::new(provider)), None)?.build()?)
}

fn table(trials: &[Trial]) -> Result<RecordBatch> {
    let hyperparameters: Vec<String> =
        trials.iter().map(|trial| Ok(serde_json::to_string(&trial.hyperparameters)?)).collect::<Result<_>>()?;
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("trial_id", Arc::new(Int64Array::from_iter_values(trials.iter().map(|trial| trial.trial_id as i64)))),
        ("hyperparameters", Arc::new(StringArray::from(hyperparameters))),
    ];
    let judged = trials.iter().find(|trial| !trial.evaluation.is_empty());
    for (at, (metric, _)) in judged.iter().flat_map(|trial| trial.evaluation.iter().enumerate()) {
        let values = trials.iter().map(|trial| trial.evaluation.get(at).and_then(|(_, value)| *value));
        columns.push((
            metric,
            match metric.starts_with("n_") {
                true => Arc::new(values.map(|value| value.map(|value| value as i64)).collect::<Int64Array>()),
                false => Arc::new(values.collect::<Float64Array>()),
            },
        ));
    }
    let status = |trial: &Trial| if trial.error.is_some() { "FAILED" } else { "SUCCEEDED" };
    columns.extend([
        ("objective", Arc::new(trials.iter().map(|trial| trial.objective).collect::<Float64Array>()) as ArrayRef),
        (
            "training_seconds",
            Arc::new(Float64Array::from_iter_values(trials.iter().map(|trial| trial.training_seconds))),
        ),
        ("is_optimal", Arc::new(BooleanArray::from_iter(trials.iter().map(|trial| Some(trial.is_optimal))))),
        ("status", Arc::new(StringArray::from_iter_values(trials.iter().map(status)))),
        ("error_message", Arc::new(trials.iter().map(|trial| trial.error.as_deref()).collect::<StringArray>())),
    ]);
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}
