//! `bpr`: customers and products as vectors that put what somebody had before what they had not.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Fields, Float32Type};
use ndarray::{Array1, ArrayView2};

use crate::error::Result;
use crate::frame::{Artefact, Side, matrix_rows};
use crate::kernels::bpr;
use crate::kernels::newcomer::{Rivals, Shelf};
use crate::models::vectors::{Earlier, Vectors, column_stored, stored_column, stored_matrix, told};
use crate::models::{
    Algorithm, Ask, EventLearner, Explanation, FitContext, History, Learner, Model, Opt, Options, Range, Recommender,
    Signature, Task, Taste,
};

pub struct Bpr;

#[derive(Debug)]
struct BprModel {
    history: History,
    vectors: Vectors,
    biases: Array1<f32>,
    /// What the products of new customers are held against.
    rivals: Rivals,
    regularization: f32,
    signature: Signature,
}

impl Algorithm for Bpr {
    fn name(&self) -> &'static str {
        "bpr"
    }

    fn doc(&self) -> &'static str {
        "Learns a vector for each customer and each product, and a bias for each product, so that what a customer had \
         scores above what they had not: Bayesian personalized ranking (Rendle et al. 2009). Only the order of scores \
         means something. That a customer had a product counts, not how often; ratings only say whether it counts at \
         all. In every iteration each such pair meets one product that the customer had not, drawn evenly from all. \
         Training runs on all threads and gives the same model on any number of them. A new customer's vector is the one \
         that ranks their basket best, with the products as they are. explain_recommendation() takes that vector apart: \
         each product has its share in it, by how hard it still pulls; the bias, and what training has not settled, is \
         left. REFRESH MODEL starts from the vectors that there are."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL wanted_first OPTIONS (model_type = 'bpr', num_factors = 32, seed = 1) AS\n\
         SELECT customer_id, product_id FROM interactions WHERE event_type = 'purchase'"
    }

    fn task(&self) -> Task {
        Task::Recommend
    }

    fn options(&self) -> &'static [Opt] {
        &[
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
                range: Range::Whole { min: 1, max: 10_000 },
                default: Some("50"),
                doc: "Passes over all pairs of a customer and a product they had. Steps get shorter from pass to pass, so \
                      half as many are not the first half.",
            },
            Opt {
                name: "learn_rate",
                aliases: &["learning_rate"],
                range: Range::Number { min: 1e-6, max: 10.0 },
                default: Some("0.1"),
                doc: "Length of a step in the first pass; it falls evenly to zero.",
            },
            Opt {
                name: "l2_reg",
                aliases: &["regularization"],
                range: Range::Number { min: 1e-6, max: 100.0 },
                default: Some("0.05"),
                doc: "Pulls the vectors and biases that a step moves towards zero (λ). From 0.02 to 0.1 is usual.",
            },
        ]
    }

    fn learner(&self) -> Learner {
        Learner::Events(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let history = History::load(artefact)?;
        let (factors, regularization) = (stored_factors(artefact, &history)?, artefact.value("regularization")?);
        Ok(Arc::new(BprModel::new(history, factors, regularization)?))
    }
}

impl EventLearner for Bpr {
    fn fit(
        &self,
        cx: &FitContext,
        history: History,
        options: &Options,
        before: Option<&Artefact>,
    ) -> Result<Arc<dyn Model>> {
        let (n_users, n_items, n_factors) = (history.users.len(), history.items.len(), options.whole("num_factors")?);
        let settings = bpr::Options {
            iterations: options.whole("max_iterations")?,
            learn_rate: options.number("learn_rate")? as f32,
            regularization: options.number("l2_reg")? as f32,
        };
        (cx.reserve)(bpr::bytes(n_users, n_items, history.seen.nnz(), n_factors))?;
        let mut start = bpr::Factors::random(n_users, n_items, n_factors, cx.seed);
        let earlier = before.and_then(|before| Before::of(before, &history, n_factors));
        if let Some(earlier) = &earlier {
            earlier.put_into(&mut start);
        }
        let factors = bpr::fit(&history.seen, start, &settings, cx.seed, cx.progress)?;
        let model = BprModel::new(history, factors, settings.regularization)?;
        if let Some(Before { users, items, .. }) = &earlier {
            (cx.notice)(told(users, items, &model.vectors));
        }
        Ok(Arc::new(model))
    }
}

/// An earlier version to start from.
struct Before {
    users: Earlier,
    items: Earlier,
    biases: Earlier,
}

impl Before {
    /// `None`: its vectors are of another length, or its keys of another type.
    fn of(artefact: &Artefact, now: &History, n_factors: usize) -> Option<Self> {
        let then = History::load(artefact).ok()?;
        let bpr::Factors { users, items, biases } = stored_factors(artefact, &then).ok()?;
        if items.ncols() != n_factors {
            return None;
        }
        Some(Self {
            users: Earlier::of(users, &then.users, &now.users)?,
            items: Earlier::of(items, &then.items, &now.items)?,
            biases: Earlier::of(biases.insert_axis(ndarray::Axis(1)), &then.items, &now.items)?,
        })
    }

    fn put_into(&self, start: &mut bpr::Factors) {
        self.users.put_into(&mut start.users.view_mut());
        self.items.put_into(&mut start.items.view_mut());
        self.biases.put_into(&mut start.biases.view_mut().insert_axis(ndarray::Axis(1)));
    }
}

fn stored_factors(artefact: &Artefact, history: &History) -> Result<bpr::Factors> {
    let users = stored_matrix(artefact, "user_factors", history.users.len(), None)?;
    let items = stored_matrix(artefact, "item_factors", history.items.len(), Some(users.ncols()))?;
    Ok(bpr::Factors { users, items, biases: stored_column(artefact, "item_biases", history.items.len())? })
}

impl BprModel {
    fn new(history: History, factors: bpr::Factors, regularization: f32) -> Result<Self> {
        let signature = Signature { inputs: history.names.inputs.clone(), label: None, outputs: Fields::empty() };
        let bpr::Factors { users, items, biases } = factors;
        let all: Vec<u32> = (0..items.nrows() as u32).collect();
        let rivals = Rivals::of(items.view(), biases.view(), &all);
        let vectors = Vectors::new(users, items, Some(biases.view()))?;
        Ok(Self { history, vectors, biases, rivals, regularization, signature })
    }

    fn shelf(&self) -> Shelf<'_> {
        Shelf {
            vectors: self.vectors.of(Side::Item),
            biases: self.biases.view(),
            rivals: &self.rivals,
            regularization: self.regularization,
        }
    }
}

impl Model for BprModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn artefact(&self) -> Result<Artefact> {
        let artefact =
            self.history.save(Artefact::new(serde_json::json!({ "regularization": self.regularization })))?;
        Ok(artefact
            .with_part("user_factors", matrix_rows::<Float32Type>("factors", &self.vectors.users)?)
            .with_part("item_factors", matrix_rows::<Float32Type>("factors", &self.vectors.items)?)
            .with_part("item_biases", column_stored("bias", self.biases.view())?))
    }

    fn recommender(&self) -> Option<&dyn Recommender> {
        Some(self)
    }
}

impl Recommender for BprModel {
    fn history(&self) -> &History {
        &self.history
    }

    fn source(&self) -> &'static str {
        "bpr"
    }

    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        self.vectors.rank(&self.history, tastes, ask, |_, basket| self.shelf().fold_in(basket, None))
    }

    fn vectors(&self, side: Side) -> Option<ArrayView2<'_, f32>> {
        Some(self.vectors.of(side))
    }

    fn explain(&self, taste: Taste, item: u32) -> Result<Explanation> {
        let (items, ratings) = taste.had(&self.history);
        let basket: Vec<(u32, f32)> = items.iter().copied().zip(ratings.iter().copied()).collect();
        let vector = match taste {
            Taste::Known(user) => self.vectors.users.row(user as usize).to_owned(),
            Taste::Changed(..) | Taste::Basket(_) => self.shelf().fold_in(&basket, None)?,
        };
        let score = vector.dot(&self.vectors.items.row(item as usize)) + self.biases[item as usize];
        let because = self.shelf().shares(vector.view(), &basket, item)?;
        let rest = f64::from(score) - because.iter().map(|(_, part)| f64::from(*part)).sum::<f64>();
        Ok(Explanation { score, because, rest: rest as f32 })
    }
}
