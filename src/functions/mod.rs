//! The SQL surface: functions of models and of customers, each planned as ordinary nodes.

mod ask;
mod call;
mod constant;
mod embed;
mod evaluate;
mod evaluate_ranking;
mod function;
mod gather;
mod live;
mod model_function;
mod model_table;
mod nodes;
mod predict;
mod recommend;
mod rfm;
mod segment;
mod similar_items;

pub use call::{Call, Planner};
pub use function::{Doc, Function, Relation};
pub use gather::Gather;

/// Every function. The planner, the registration, the manual and the tests read this list.
pub const FUNCTIONS: &[&dyn Function] = &[
    &model_table::Centroids,
    &embed::Embed,
    &evaluate::Evaluate,
    &evaluate_ranking::EvaluateRanking,
    &predict::Predict,
    &recommend::Recommend,
    &rfm::Rfm,
    &segment::Segment,
    &similar_items::SimilarItems,
    &model_table::Weights,
];

/// The function of that name, as it is written in FROM: bare, or in the schema `ml`; in any case, quoted or not.
pub fn function(name: &str) -> Option<&'static dyn Function> {
    let folded = name.to_lowercase().replace('"', "");
    let bare = folded.strip_prefix("ml.").unwrap_or(&folded);
    FUNCTIONS.iter().copied().find(|function| function.name() == bare)
}
