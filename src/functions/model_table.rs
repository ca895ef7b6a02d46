//! `weights` and `centroids`: what a model has learned, as a table.

use std::sync::Arc;

use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use crate::error::Result;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::{Call, Planner};

pub struct Weights;
pub struct Centroids;

impl Function for Weights {
    fn name(&self) -> &'static str {
        "weights"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The weights of a logistic_reg model on its standardised inputs: the larger, the more the input moves \
                      the log-odds of the class.",
            syntax: &["weights('model')"],
            arguments: &[("model", "name, or name@version")],
            returns: &[
                ("class", "the class that the weight speaks for; of two classes the positive one"),
                ("processed_input", "column, or column=level for categories; __INTERCEPT__ for the constant"),
                ("weight", "change of the log-odds for one standard deviation, or for being in the level"),
            ],
            example: "SELECT processed_input, weight > 0 AS raises FROM weights('fraud') ORDER BY abs(weight) DESC LIMIT 3",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(|call, planner| table(call, planner, "weights"))
    }
}

impl Function for Centroids {
    fn name(&self) -> &'static str {
        "centroids"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The middle of each cluster of a kmeans model, in the units of the query it was trained on.",
            syntax: &["centroids('model')"],
            arguments: &[("model", "name, or name@version")],
            returns: &[
                ("centroid_id", "number of the cluster, from 1 by falling size"),
                ("segment", "its name"),
                ("n_rows", "training rows in it"),
                ("feature", "column, or column=level"),
                ("value", "mean of the column in the cluster; share of the level for categories"),
            ],
            example: "SELECT centroid_id, feature, round(value, 2) AS value FROM centroids('groups') ORDER BY 1, 2 LIMIT 3",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(|call, planner| table(call, planner, "centroids"))
    }
}

fn table(mut call: Call, planner: &mut dyn Planner, part: &str) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    call.finish(&[])?;
    let rows = fitted.model.table(part)?;
    let provider = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
    Ok(LogicalPlanBuilder::scan(part, provider_as_source(Arc::new(provider)), None)?.build()?)
}
