//! `matrix_factorization`: customers and products as vectors, learned from what customers did or said.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::Float64Array;
use datafusion::arrow::datatypes::{DataType, Fields, Float32Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::frame::{Artefact, Keys, Side, matrix_rows, rows_matrix};
use crate::kernels::als::{self, explicit};
use crate::kernels::csr::Csr;
use crate::kernels::topk;
use crate::models::history::field;
use crate::models::{
    Algorithm, Ask, EventLearner, Explanation, FitContext, History, Learner, Model, Names, Opt, Options, PredictAsk,
    Range, Recipe, Recommender, Signature, Task, Taste, Value,
};

pub struct MatrixFactorization;

#[derive(Debug)]
struct MatrixFactorizationModel {
    history: History,
    learned: Learned,
    /// The products' vectors, arranged to be searched.
    items: topk::Items,
    signature: Signature,
}

/// What was learned, and what solving a new customer starts from.
#[derive(Debug)]
enum Learned {
    /// From what customers did.
    Evidence { factors: als::Factors, options: als::Options, solver: als::Solver },
    /// From what they said.
    Opinions { ratings: explicit::Ratings, regularization: f32 },
}

impl Algorithm for MatrixFactorization {
    fn name(&self) -> &'static str {
        "matrix_factorization"
    }

    fn doc(&self) -> &'static str {
        "Learns a vector for each customer and each product so that their product says how likely the customer is to \
         take it: implicit alternating least squares (Hu, Koren & Volinsky 2008). What a customer did counts with \
         confidence 1 + alpha · rating; a usual rating is count(*), how often they did it, and amounts are best taken \
         as ln(1 + x). The regularization is added as it is: factors, regularization, alpha and iterations mean what \
         they mean in the library implicit where this is given confidences 1 + alpha · rating. With feedback_type = \
         'explicit' ratings are opinions and are foretold: score is the rating that the customer would give, by means, \
         biases and vectors (Zhou et al. 2008; Koren, Bell & Volinsky 2009), and predict() gives it for any pair. After a hold-out was evaluated, the model \
         learns from all rows. A new customer is solved from what they did on the spot."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL taste OPTIONS (model_type = 'matrix_factorization', num_factors = 32, seed = 1) AS\n\
         SELECT customer_id, product_id, count(*) AS rating, max(event_ts) AS last_ts\n\
         FROM interactions WHERE event_type = 'purchase' GROUP BY customer_id, product_id"
    }

    fn task(&self) -> Task {
        Task::Recommend
    }

    fn options(&self) -> &'static [Opt] {
        &[
            Opt {
                name: "feedback_type",
                aliases: &[],
                range: Range::Choice(&["implicit", "explicit"]),
                default: Some("implicit"),
                doc: "implicit: ratings are counts or amounts of what customers did. explicit: they are opinions, such as \
                      stars; a customer's ratings of one product are averaged, and any number is one.",
            },
            Opt {
                name: "num_factors",
                aliases: &["factors"],
                range: Range::Whole { min: 1, max: 1024 },
                default: Some("64"),
                doc: "Length of the vectors.",
            },
            Opt {
                name: "max_iterations",
                aliases: &["iterations"],
                range: Range::Whole { min: 1, max: 1000 },
                default: Some("10"),
                doc: "Rounds of solving all customers, then all products.",
            },
            Opt {
                name: "l2_reg",
                aliases: &["regularization"],
                range: Range::Number { min: 1e-6, max: 1e6 },
                default: None,
                doc: "Pulls vectors towards zero (λ). Unless given it is found from the data, and ml.model_options shows \
                      the value: 0.7 · (√(S / products) + √(S / customers)), where S is the sum of \
                      (1 + alpha · rating)² over all pairs of customer and product. More data want more of it. Of \
                      explicit ratings it counts once for each rating (Zhou et al. 2008), and is a tenth of the ratings' \
                      standard deviation unless given.",
            },
            Opt {
                name: "wals_alpha",
                aliases: &["alpha"],
                range: Range::Number { min: 1e-6, max: 1e6 },
                default: Some("1"),
                doc: "How much confidence one unit of rating adds: c = 1 + alpha · rating. Of explicit ratings it says \
                      nothing.",
            },
            Opt {
                name: "frequency_scaling",
                aliases: &["regularization_exponent"],
                range: Range::Number { min: 0.0, max: 1.0 },
                default: Some("0"),
                doc: "How much more the vectors are regularized of who and what has more rows: 0, the same for all, to 1, \
                      in proportion (Rendle, Krichene, Zhang & Koren 2022). l2_reg is then the mean.",
            },
            Opt {
                name: "warm_start",
                aliases: &[],
                range: Range::Bool,
                default: Some("false"),
                doc: "CREATE OR REPLACE MODEL goes on from the vectors of the version there is, as REFRESH MODEL does.",
            },
        ]
    }

    fn learner(&self) -> Learner {
        Learner::Events(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let history = History::load(artefact)?;
        let factors = stored_factors(artefact)?;
        if factors.users.nrows() != history.users.len() || factors.items.nrows() != history.items.len() {
            return Err(Error::corrupt("the model's factors do not fit its history"));
        }
        let regularization: f32 = artefact.value("regularization")?;
        let learned = match history.names.recipe.explicit {
            true => {
                let ratings = explicit::Ratings { mean: artefact.value("mean")?, factors };
                Learned::Opinions { ratings, regularization }
            }
            false => {
                let options = als::Options {
                    factors: factors.items.ncols(),
                    iterations: 0,
                    regularization,
                    alpha: artefact.value("alpha")?,
                    frequency_scaling: artefact.value("frequency_scaling")?,
                };
                Learned::evidence(factors, options, &history)
            }
        };
        Ok(Arc::new(MatrixFactorizationModel::new(history, learned)))
    }
}

impl EventLearner for MatrixFactorization {
    fn recipe(&self, options: &Options) -> Recipe {
        let explicit = options.text("feedback_type") == Some("explicit");
        Recipe { explicit, half_life: options.given_number("half_life"), ..Recipe::default() }
    }

    fn fit(
        &self,
        cx: &FitContext,
        history: History,
        options: &Options,
        before: Option<&Artefact>,
    ) -> Result<Arc<dyn Model>> {
        let (factors, iterations) = (options.whole("num_factors")?, options.whole("max_iterations")?);
        let seen = &history.seen;
        (cx.reserve)(als::bytes(seen.n_rows, seen.n_cols, seen.nnz(), factors))?;
        let earlier = before.map(|before| Earlier::of(before, &history, factors, cx)).transpose()?.flatten();
        let start = earlier.as_ref().map(Earlier::start);
        let learned = match history.names.recipe.explicit {
            true => {
                let regularization =
                    options.given_number("l2_reg").unwrap_or_else(|| usual_l2_of_opinions(seen)) as f32;
                let settings = explicit::Options { factors, iterations, regularization };
                let ratings = explicit::fit(seen, &settings, start, cx.seed, cx.progress)?;
                Learned::Opinions { ratings, regularization }
            }
            false => {
                let alpha = options.number("wals_alpha")?;
                let regularization = options.given_number("l2_reg").unwrap_or_else(|| usual_l2(seen, alpha)) as f32;
                let frequency_scaling = options.number("frequency_scaling")? as f32;
                let settings =
                    als::Options { factors, iterations, regularization, alpha: alpha as f32, frequency_scaling };
                let factors = als::fit(seen, &settings, start, cx.seed, cx.progress)?;
                Learned::evidence(factors, settings, &history)
            }
        };
        if let Some(earlier) = &earlier {
            (cx.notice)(earlier.drift(learned.factors()));
        }
        Ok(Arc::new(MatrixFactorizationModel::new(history, learned)))
    }
}

/// An earlier version of the model, to go on from.
struct Earlier {
    factors: als::Factors,
    /// For each customer and product of now its row there.
    users: Vec<Option<u32>>,
    items: Vec<Option<u32>>,
}

impl Earlier {
    /// `None`, with a remark, where its vectors are of another kind.
    fn of(before: &Artefact, history: &History, factors: usize, cx: &FitContext) -> Result<Option<Self>> {
        let known = stored_factors(before)?;
        let explicit = before.manifest.get("mean").is_some();
        let width = factors + if history.names.recipe.explicit { 2 } else { 0 };
        if known.items.ncols() != width || explicit != history.names.recipe.explicit {
            (cx.notice)("the earlier version has vectors of another kind: starting anew".to_owned());
            return Ok(None);
        }
        let rows = |part: &str, keys: &Keys| Keys::stored(before.part(part)?.column(0))?.codes(keys.values());
        let (users, items) = (rows("users", &history.users)?, rows("items", &history.items)?);
        Ok(Some(Self { factors: known, users, items }))
    }

    fn start(&self) -> als::Start<'_> {
        als::Start { factors: &self.factors, users: &self.users, items: &self.items }
    }

    /// How far the products' vectors have moved, as a share of their length, on average; and how many are new.
    fn drift(&self, now: &als::Factors) -> String {
        let moved = |(row, before): (usize, &Option<u32>)| {
            let (now, before) = (now.items.row(row), self.factors.items.row((*before)? as usize));
            let length = before.dot(&before).sqrt();
            let gap = &now - &before;
            (length > 0.0).then(|| f64::from(gap.dot(&gap).sqrt() / length))
        };
        let moves: Vec<f64> = self.items.iter().enumerate().filter_map(moved).collect();
        let mean = moves.iter().sum::<f64>() / moves.len().max(1) as f64;
        let new = |rows: &[Option<u32>]| rows.iter().filter(|row| row.is_none()).count();
        format!(
            "went on from the earlier version: {} new customers, {} new products; the vectors of the others moved by \
             {:.1} % of their length on average",
            new(&self.users),
            new(&self.items),
            100.0 * mean
        )
    }
}

fn stored_factors(artefact: &Artefact) -> Result<als::Factors> {
    Ok(als::Factors {
        users: rows_matrix::<Float32Type>(artefact.part("user_factors")?)?,
        items: rows_matrix::<Float32Type>(artefact.part("item_factors")?)?,
    })
}

/// The regularization where none is given: `0.7 (√(S / n_items) + √(S / n_users))` with
/// `S = Σ (1 + alpha·r)²` over what was observed, to three digits.
///
/// The scale is that of the noise: a matrix of independent entries with these squares in all has a largest singular
/// value of about `√(S / n_items) + √(S / n_users)` (the edge of the law of Marchenko and Pastur), and what lies below
/// it is better forgotten.
/// The factor was tuned on three data sets, where it comes within a few percent of the best fixed value.
fn usual_l2(seen: &Csr, alpha: f64) -> f64 {
    let squares: f64 = seen.values.iter().map(|rating| (1.0 + alpha * f64::from(*rating)).powi(2)).sum();
    let side = |n: usize| (squares / n.max(1) as f64).sqrt();
    let l2 = (0.7 * (side(seen.n_cols) + side(seen.n_rows))).clamp(1e-6, 1e6);
    to_three_digits(l2)
}

/// The regularization of explicit ratings where none is given: a tenth of their standard deviation, to three digits. λ has
/// the unit of a rating.
fn usual_l2_of_opinions(ratings: &Csr) -> f64 {
    let n = ratings.nnz().max(1) as f64;
    let mean = ratings.values.iter().map(|rating| f64::from(*rating)).sum::<f64>() / n;
    let variance = ratings.values.iter().map(|rating| (f64::from(*rating) - mean).powi(2)).sum::<f64>() / n;
    to_three_digits((0.1 * variance.sqrt()).clamp(1e-6, 1e6))
}

fn to_three_digits(l2: f64) -> f64 {
    let digits = 10f64.powf(2.0 - l2.log10().floor());
    (l2 * digits).round() / digits
}

impl Learned {
    fn evidence(factors: als::Factors, options: als::Options, history: &History) -> Self {
        let solver = als::Solver::of(factors.items.view(), als::Ridge::of(&history.seen, &options));
        Self::Evidence { factors, options, solver }
    }

    /// Rows whose inner product is the score, but for the mean of explicit ratings.
    fn factors(&self) -> &als::Factors {
        match self {
            Self::Evidence { factors, .. } => factors,
            Self::Opinions { ratings, .. } => &ratings.factors,
        }
    }

    /// What the score is besides the inner product.
    fn mean(&self) -> f32 {
        match self {
            Self::Evidence { .. } => 0.0,
            Self::Opinions { ratings, .. } => ratings.mean,
        }
    }

    /// The row of a customer who had these.
    fn fold_in(&self, basket: &[(u32, f32)]) -> Result<ndarray::Array1<f32>> {
        match self {
            Self::Evidence { factors, solver, .. } => solver.fold_in(factors.items.view(), basket),
            Self::Opinions { ratings, regularization } => ratings.fold_in(basket, *regularization),
        }
    }

    /// What each of these adds to the score of a product, and what is left.
    fn explain(&self, basket: &[(u32, f32)], item: u32) -> Result<(Vec<f32>, f32)> {
        match self {
            Self::Evidence { factors, solver, .. } => Ok((solver.explain(factors.items.view(), basket, item)?, 0.0)),
            Self::Opinions { ratings, regularization } => ratings.explain(basket, *regularization, item),
        }
    }
}

impl MatrixFactorizationModel {
    fn new(history: History, learned: Learned) -> Self {
        let foretold = match &history.names {
            Names { rating, recipe: Recipe { explicit: true, .. }, .. } => {
                let name = format!("predicted_{}", rating.as_deref().unwrap_or("rating"));
                Fields::from(vec![field(&name, DataType::Float64)])
            }
            _ => Fields::empty(),
        };
        let signature = Signature { inputs: history.names.inputs.clone(), label: None, outputs: foretold };
        let items = topk::Items::of(learned.factors().items.view());
        Self { history, learned, items, signature }
    }

    /// A row for each taste: of a known customer the one that was learned, of others one that is solved for what they had.
    fn solved(&self, tastes: &[Taste]) -> Result<Array2<f32>> {
        let factors = self.learned.factors();
        let width = factors.items.ncols();
        let mut vectors = vec![0.0; tastes.len() * width];
        vectors.par_chunks_mut(width.max(1)).zip(tastes).try_for_each(|(vector, taste)| {
            let mut vector = ndarray::aview_mut1(vector);
            match taste {
                Taste::Known(user) => vector.assign(&factors.users.row(*user as usize)),
                Taste::Changed(_, basket) | Taste::Basket(basket) => vector.assign(&self.learned.fold_in(basket)?),
            }
            Ok::<(), Error>(())
        })?;
        Array2::from_shape_vec((tastes.len(), width), vectors).map_err(|error| Error::internal(error.to_string()))
    }
}

impl Model for MatrixFactorizationModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn found_options(&self) -> Vec<(&'static str, Value)> {
        // As typed by a user the same number has fewer digits than as a 32-bit float made longer.
        let regularization = match &self.learned {
            Learned::Evidence { options, .. } => options.regularization,
            Learned::Opinions { regularization, .. } => *regularization,
        };
        let typed = regularization.to_string().parse();
        typed.map(|l2| ("l2_reg", Value::Number(l2))).into_iter().collect()
    }

    fn artefact(&self) -> Result<Artefact> {
        let manifest = match &self.learned {
            Learned::Evidence { options: als::Options { alpha, regularization, frequency_scaling, .. }, .. } => {
                serde_json::json!({
                    "alpha": alpha, "regularization": regularization, "frequency_scaling": frequency_scaling
                })
            }
            Learned::Opinions { ratings, regularization } => {
                serde_json::json!({ "mean": ratings.mean, "regularization": regularization })
            }
        };
        let factors = self.learned.factors();
        let artefact = self.history.save(Artefact::new(manifest))?;
        Ok(artefact
            .with_part("user_factors", matrix_rows::<Float32Type>("factors", &factors.users)?)
            .with_part("item_factors", matrix_rows::<Float32Type>("factors", &factors.items)?))
    }

    /// Of explicit ratings, what each customer would give each product.
    fn predict(&self, rows: &RecordBatch, _ask: &PredictAsk) -> Result<RecordBatch> {
        let roles = self.history.names.roles(&rows.schema())?;
        let users = self.history.users.codes(rows.column(roles.user))?;
        let items = self.history.items.codes(rows.column(roles.item))?;
        let ratings = users.iter().zip(&items).map(|(user, item)| Ok(f64::from(self.foretell(*user, *item)?)));
        let ratings = ratings.collect::<Result<Float64Array>>()?;
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.signature.outputs.clone())), vec![Arc::new(ratings)])?)
    }

    fn recommender(&self) -> Option<&dyn Recommender> {
        Some(self)
    }
}

impl Recommender for MatrixFactorizationModel {
    fn history(&self) -> &History {
        &self.history
    }

    fn source(&self) -> &'static str {
        "als"
    }

    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        let vectors = self.solved(tastes)?;
        let seen: Vec<Cow<[u32]>> = tastes.iter().map(|taste| taste.seen(&self.history)).collect();
        let seen: Vec<&[u32]> = seen.iter().map(AsRef::as_ref).collect();
        let mut lists = topk::top_k(&topk::Query {
            users: vectors.view(),
            items: &self.items,
            k: ask.k,
            seen: ask.exclude_seen.then_some(&seen[..]),
            candidates: ask.candidates.as_deref(),
        })?;
        let mean = self.learned.mean();
        lists.iter_mut().flatten().for_each(|(_, score)| *score += mean);
        Ok(lists)
    }

    fn foretell(&self, user: Option<u32>, item: Option<u32>) -> Result<f32> {
        match &self.learned {
            Learned::Opinions { ratings, .. } => Ok(ratings.expected(user, item)),
            Learned::Evidence { .. } => Err(Error::unsupported("implicit evidence foretells no ratings")
                .hint("train with feedback_type = 'explicit'")),
        }
    }

    /// Without the biases, which say nothing of tastes.
    fn vectors(&self, side: Side) -> Option<ArrayView2<'_, f32>> {
        let factors = self.learned.factors();
        let rows = if side == Side::User { factors.users.view() } else { factors.items.view() };
        let biases = if self.history.names.recipe.explicit { 2 } else { 0 };
        let width = rows.ncols() - biases;
        Some(rows.slice_move(s![.., ..width]))
    }

    fn explain(&self, taste: Taste, item: u32) -> Result<Explanation> {
        let (items, ratings) = taste.had(&self.history);
        let had: Vec<(u32, f32)> = items.iter().copied().zip(ratings.iter().copied()).collect();
        let (shares, rest) = self.learned.explain(&had, item)?;
        let sum = shares.iter().sum::<f32>() + rest;
        let score = match taste {
            Taste::Known(user) => {
                let factors = self.learned.factors();
                factors.users.row(user as usize).dot(&factors.items.row(item as usize)) + self.learned.mean()
            }
            _ => sum,
        };
        // What was learned is what would be solved for the same history but for rounding, which the shares take.
        let scale = if sum == 0.0 || rest != 0.0 { 1.0 } else { score / sum };
        let because = items.iter().copied().zip(shares.iter().map(|share| share * scale)).collect();
        Ok(Explanation { score, because, rest })
    }
}
