//! The SQL surface: functions of models and of customers, each planned as ordinary nodes.

mod ask;
mod call;
mod constant;
mod cross_validate;
mod describe_data;
mod distribution;
mod drop_duplicates;
mod embed;
mod evaluate;
mod evaluate_ranking;
mod explain_recommendation;
mod factors;
mod function;
mod gather;
mod impute;
mod imputed_rows;
mod live;
mod lookalike;
mod model_function;
mod model_table;
mod nodes;
mod outliers;
mod predict;
mod recommend;
mod recommend_users;
mod rfm;
mod segment;
mod similar;
mod table_versions;
mod tally;
mod trial_info;
mod winsorize;

pub use call::{Call, Planner};
pub use function::{Doc, Function, Relation};
pub use gather::{Gather, Work};
pub use model_function::asked_model;
pub use nodes::{ANSWER, list_bytes};
pub use table_versions::Moment;

/// Every function. The planner, the registration, the manual and the tests read this list.
pub const FUNCTIONS: &[&dyn Function] = &[
    &model_table::Centroids,
    &cross_validate::CrossValidate,
    &describe_data::DescribeData,
    &drop_duplicates::DropDuplicates,
    &embed::Embed,
    &evaluate::Evaluate,
    &evaluate_ranking::EvaluateRanking,
    &explain_recommendation::ExplainRecommendation,
    &factors::Factors,
    &impute::Impute,
    &lookalike::Lookalike,
    &outliers::Outliers,
    &predict::Predict,
    &recommend::Recommend,
    &recommend_users::RecommendUsers,
    &rfm::Rfm,
    &segment::Segment,
    &similar::SimilarItems,
    &similar::SimilarUsers,
    &table_versions::TableAt,
    &table_versions::TableChanges,
    &table_versions::TableHistory,
    &trial_info::TrialInfo,
    &model_table::Weights,
    &winsorize::Winsorize,
];

/// The function of that name, as it is written in FROM: bare, or in the schema `ml`; in any case, quoted or not.
pub fn function(name: &str) -> Option<&'static dyn Function> {
    let folded = name.to_lowercase().replace('"', "");
    let bare = folded.strip_prefix("ml.").unwrap_or(&folded);
    FUNCTIONS.iter().copied().find(|function| function.name() == bare)
}
