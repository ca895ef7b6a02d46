//! Models: ways to learn, what they leave behind, and where the fitted ones are found by name.

mod audience;
mod bpr;
mod cross_validation;
mod ease;
mod explanation;
#[cfg(test)]
mod fake;
mod history;
mod hybrid_mf;
mod item_knn;
mod kmeans;
mod likeness;
mod live;
mod logistic_reg;
mod matrix_factorization;
mod model;
mod options;
mod popularity;
mod ranking;
mod ratings;
mod recommender;
mod registry;
mod reserve;
mod rfm;
mod selection;
mod split;
mod train;
mod tuning;
mod vectors;

pub use crate::kernels::Step;
pub use audience::{AudienceAsk, lookalike, ranked_fields, recommend_users, similar};
pub use cross_validation::{FoldResult, cross_validate};
pub use explanation::{explain, explanation_fields};
pub use history::{History, Names, Recipe, Traits};
pub use live::LIVE_FIELDS;
pub use model::{Algorithm, EventLearner, FitContext, Input, Learner, Model, PredictAsk, RowLearner, Signature, Task};
pub use options::{Opt, Options, Range, Search, Value};
pub use ranking::{By, RankingMetric, STORED_K, Taken, evaluate_ranking};
pub use recommender::{
    Ask, Basket, Explanation, Had, MAX_K, Recommender, Taste, recommend, recommend_baskets, recommendation_fields,
};
pub use registry::{Fitted, ModelName, ModelStore, Registry, Resolved};
pub use selection::{Cap, Selection};
pub use split::Strategy;
pub use train::{Intake, Metrics, Trained, TrainingStep, common_options, declared_options, train};
pub use tuning::{SEARCH_OPTIONS, Trial};

/// Every way to learn. Parsing, option checks, the manual and the conformance tests read this list.
pub const ALGORITHMS: &[&dyn Algorithm] = &[
    &bpr::Bpr,
    &ease::Ease,
    &hybrid_mf::HybridMf,
    &item_knn::ItemKnn,
    &kmeans::KMeans,
    &logistic_reg::LogisticReg,
    &matrix_factorization::MatrixFactorization,
    &popularity::Popularity,
    &rfm::Rfm,
];

/// The algorithm with that `model_type`.
pub fn algorithm(name: &str) -> crate::error::Result<&'static dyn Algorithm> {
    let wanted = name.to_lowercase();
    ALGORITHMS.iter().copied().find(|algorithm| algorithm.name() == wanted).ok_or_else(|| {
        let names: Vec<&str> = ALGORITHMS.iter().map(|algorithm| algorithm.name()).collect();
        let error = crate::error::Error::invalid(format!("unknown model type \"{name}\""));
        match crate::error::nearest(&wanted, names.iter().copied()) {
            Some(near) => error.hint(format!("did you mean \"{near}\"?")),
            None => error.hint(format!("model_type is one of {}", names.join(", "))),
        }
    })
}

/// The model types that a function takes, in words: `'matrix_factorization' or 'popularity'`.
pub fn types_for(function: &str) -> String {
    let takes = |algorithm: &&&dyn Algorithm| algorithm.answers().contains(&function);
    let mut names: Vec<String> = ALGORITHMS.iter().filter(takes).map(|one| format!("'{}'", one.name())).collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} or {last}", names.join(", ")),
        None => "(none)".to_owned(),
    }
}
