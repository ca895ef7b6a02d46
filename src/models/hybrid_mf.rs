//! `hybrid_mf`: customers and products as sums of what is known of them, so that new ones are known by their features.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Fields, Float32Type};
use ndarray::{Array1, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frame::{Artefact, Side, matrix_rows};
use crate::kernels::csr::Csr;
use crate::kernels::newcomer::{Rivals, Shelf};
use crate::kernels::warp;
use crate::models::vectors::{Earlier, Vectors, column_stored, stored_column, stored_matrix, told};
use crate::models::{
    Algorithm, Ask, EventLearner, FitContext, History, Learner, Model, Opt, Options, Range, Recipe, Recommender,
    Signature, Task, Taste,
};

pub struct HybridMf;

#[derive(Debug)]
struct HybridModel {
    history: History,
    settings: Settings,
    embeddings: warp::Embeddings,
    /// The sums of the embeddings.
    vectors: Vectors,
    biases: Array1<f32>,
    /// What the products of new customers are held against: those that somebody had.
    rivals: Rivals,
    signature: Signature,
}

/// What a model has to know of how it was trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Settings {
    regularization: f32,
    /// Whether everybody and everything has an embedding of its own, after those of all features.
    use_identities: bool,
}

/// Draws in search of a product that scores too high.
const DRAWS: usize = 10;

impl Algorithm for HybridMf {
    fn name(&self) -> &'static str {
        "hybrid_mf"
    }

    fn doc(&self) -> &'static str {
        "Learns an embedding for every value of every feature of customers and products, and for each customer and product \
         itself; who or what it is about is the sum of its embeddings (Kula 2015, the model of LightFM). What nobody had \
         yet is recommended by its features, and so is anything to a customer who had nothing yet: give such rows to the \
         training query, with NULL for the product or the customer that is missing, for instance by a FULL JOIN. The loss \
         is WARP (Weston, Bengio & Usunier 2011): it makes the top of each customer's ranking right. Ratings only say \
         whether a pair counts. A feature is a column of any type that can be a key; each of its distinct values is one \
         feature, so numbers are best cut into ranges. A customer or product may have several values of a feature, in \
         different rows, and NULL is none. Training runs on all threads and gives the same model on any number of them. \
         What a customer did since the training, or a basket, moves their vector from where their features put it to \
         where it ranks those products best. REFRESH MODEL starts from the embeddings that there are."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL by_features OPTIONS (model_type = 'hybrid_mf', item_features = ARRAY['category'], num_factors = 16)\n\
         AS SELECT i.customer_id, p.product_id, p.category FROM products p\n\
         LEFT JOIN interactions i ON i.product_id = p.product_id AND i.event_type = 'purchase'"
    }

    fn task(&self) -> Task {
        Task::Recommend
    }

    /// Its scores are made of features, not of what somebody had.
    fn answers(&self) -> &'static [&'static str] {
        &[
            "recommend",
            "recommend_users",
            "similar_items",
            "similar_users",
            "lookalike",
            "embed",
            "factors",
            "evaluate",
            "evaluate_ranking",
        ]
    }

    fn options(&self) -> &'static [Opt] {
        &[
            Opt {
                name: "user_features",
                aliases: &[],
                range: Range::Texts,
                default: None,
                doc: "Columns that say something about the customer: ARRAY['segment', 'country'].",
            },
            Opt {
                name: "item_features",
                aliases: &[],
                range: Range::Texts,
                default: None,
                doc: "Columns that say something about the product: ARRAY['category', 'brand'].",
            },
            Opt {
                name: "use_identities",
                aliases: &[],
                range: Range::Bool,
                default: Some("true"),
                doc: "Whether each customer and product has an embedding of its own besides those of its features. \
                      Without, those with the same features are the same, and both sides need features.",
            },
            Opt {
                name: "num_factors",
                aliases: &["factors", "no_components"],
                range: Range::Whole { min: 1, max: 1024 },
                default: Some("64"),
                doc: "Length of the vectors.",
            },
            Opt {
                name: "max_iterations",
                aliases: &["iterations", "epochs"],
                range: Range::Whole { min: 1, max: 10_000 },
                default: Some("20"),
                doc: "Iterations, each of as many draws as there are pairs of a customer and a product they had.",
            },
            Opt {
                name: "learn_rate",
                aliases: &["learning_rate"],
                range: Range::Number { min: 1e-6, max: 10.0 },
                default: Some("0.05"),
                doc: "Length of the first steps; later ones get shorter by themselves (Adagrad).",
            },
            Opt {
                name: "l2_reg",
                aliases: &["regularization"],
                range: Range::Number { min: 1e-6, max: 100.0 },
                default: Some("0.15"),
                doc: "Pulls the embeddings that a step moves towards zero (λ). From 0.05 to 0.3 is usual, the more the \
                      fewer rows there are.",
            },
        ]
    }

    fn learner(&self) -> Learner {
        Learner::Events(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let (history, settings) = (History::load(artefact)?, artefact.value("settings")?);
        let embeddings = stored_embeddings(artefact, &history, settings)?;
        Ok(Arc::new(HybridModel::new(history, embeddings, settings)?))
    }
}

impl EventLearner for HybridMf {
    /// Who had nothing yet, and what nobody had, is what features are for.
    fn recipe(&self, options: &Options) -> Recipe {
        Recipe { half_life: options.given_number("half_life"), keeps_strangers: true, ..Recipe::default() }
    }

    fn traits(&self, options: &Options) -> Vec<(Side, String)> {
        let named = |option: &str, side: Side| {
            let names = options.texts(option).unwrap_or_default();
            names.iter().map(|name| (side, name.clone())).collect::<Vec<_>>()
        };
        [named("user_features", Side::User), named("item_features", Side::Item)].concat()
    }

    fn fit(
        &self,
        cx: &FitContext,
        history: History,
        options: &Options,
        before: Option<&Artefact>,
    ) -> Result<Arc<dyn Model>> {
        let settings = Settings {
            regularization: options.number("l2_reg")? as f32,
            use_identities: options.truth("use_identities"),
        };
        let has_features = |side: Side| history.traits.iter().any(|one| one.side == side);
        let is_told_apart = settings.use_identities || (has_features(Side::User) && has_features(Side::Item));
        if !is_told_apart {
            return Err(Error::invalid("without identities both customers and products need features")
                .hint("name columns in user_features and item_features, or leave use_identities out"));
        }
        let kernel = warp::Options {
            iterations: options.whole("max_iterations")?,
            learn_rate: options.number("learn_rate")? as f32,
            regularization: settings.regularization,
            draws: DRAWS,
        };
        let n_factors = options.whole("num_factors")?;
        let (users, items) = (values(&history, Side::User, settings)?, values(&history, Side::Item, settings)?);
        let traits = warp::Traits { users: &users, items: &items };
        (cx.reserve)(warp::bytes(&traits, history.seen.nnz(), n_factors))?;
        let mut start = warp::Embeddings::random(&traits, n_factors, cx.seed);
        let before = before.and_then(|before| Before::of(before, &history, n_factors, settings));
        if let Some(before) = &before {
            before.put_into(&mut start);
        }
        let embeddings = warp::fit(&history.seen, &traits, start, &kernel, cx.seed, cx.progress)?;
        drop((users, items));
        let model = HybridModel::new(history, embeddings, settings)?;
        if let Some(Before { users, items, .. }) = &before {
            (cx.notice)(told(users, items, &model.vectors));
        }
        Ok(Arc::new(model))
    }
}

/// What is known of each customer or product: the values of one feature after the other, then its identity.
fn values(history: &History, side: Side, settings: Settings) -> Result<Csr> {
    let n = history.keys(side).len();
    let matrices: Vec<&Csr> = history.traits.iter().filter(|one| one.side == side).map(|one| &one.matrix).collect();
    let features: usize = matrices.iter().map(|matrix| matrix.n_cols).sum();
    let n_cols = features + if settings.use_identities { n } else { 0 };
    if u32::try_from(n_cols).is_err() {
        return Err(Error::invalid(format!("{n_cols} values of features and identities are too many to learn")));
    }
    let (mut offsets, mut columns) = (vec![0], Vec::new());
    for owner in 0..n {
        let mut first = 0;
        for matrix in &matrices {
            columns.extend(matrix.row(owner).0.iter().map(|value| first + value));
            first += matrix.n_cols as u32;
        }
        columns.extend(settings.use_identities.then_some(first + owner as u32));
        offsets.push(columns.len());
    }
    Ok(Csr { n_rows: n, n_cols, values: vec![1.0; columns.len()], offsets, columns })
}

/// An earlier version to start from.
struct Before {
    /// By what they have in common: a feature, or the identities of one side.
    shared: Vec<Shared>,
    /// The sums, for customers and for products.
    users: Earlier,
    items: Earlier,
}

/// The embeddings of one feature's values, or of the identities of one side, then and now.
struct Shared {
    side: Side,
    /// Where they begin now.
    first: usize,
    rows: Earlier,
    biases: Option<Earlier>,
}

impl Before {
    /// `None`: its vectors are of another length, or its keys of another type.
    fn of(artefact: &Artefact, now: &History, n_factors: usize, settings: Settings) -> Option<Self> {
        let then_settings: Settings = artefact.value("settings").ok()?;
        let then = History::load(artefact).ok()?;
        let embeddings = stored_embeddings(artefact, &then, then_settings).ok()?;
        if embeddings.items.ncols() != n_factors {
            return None;
        }
        let mut shared = Vec::new();
        for side in [Side::User, Side::Item] {
            let rows = if side == Side::User { &embeddings.users } else { &embeddings.items };
            let mut take = |at: usize, n: usize, first: usize, then: &_, now: &_| {
                let rows = Earlier::of(rows.slice(s![at..at + n, ..]).to_owned(), then, now)?;
                let biases = match side {
                    Side::User => None,
                    Side::Item => {
                        let biases = embeddings.biases.slice(s![at..at + n]).insert_axis(Axis(1));
                        Some(Earlier::of(biases.to_owned(), then, now)?)
                    }
                };
                shared.push(Shared { side, first, rows, biases });
                Some(())
            };
            let mut first = 0;
            for one in now.traits.iter().filter(|one| one.side == side) {
                let mut at = 0;
                for known in then.traits.iter().filter(|known| known.side == side) {
                    // A feature whose values are of another type by now is a new one.
                    if known.name == one.name {
                        take(at, known.values.len(), first, &known.values, &one.values);
                    }
                    at += known.values.len();
                }
                first += one.values.len();
            }
            if then_settings.use_identities && settings.use_identities {
                let n = then.keys(side).len();
                take(rows.nrows() - n, n, first, then.keys(side), now.keys(side))?;
            }
        }
        let model = HybridModel::new(then, embeddings, then_settings).ok()?;
        let HybridModel { history: then, vectors: Vectors { users, items, .. }, .. } = model;
        Some(Self {
            shared,
            users: Earlier::of(users, &then.users, &now.users)?,
            items: Earlier::of(items, &then.items, &now.items)?,
        })
    }

    fn put_into(&self, start: &mut warp::Embeddings) {
        for Shared { side, first, rows, biases } in &self.shared {
            let embeddings = if *side == Side::User { &mut start.users } else { &mut start.items };
            rows.put_into(&mut embeddings.slice_mut(s![*first.., ..]));
            if let Some(biases) = biases {
                biases.put_into(&mut start.biases.slice_mut(s![*first..]).insert_axis(Axis(1)));
            }
        }
    }
}

fn stored_embeddings(artefact: &Artefact, history: &History, settings: Settings) -> Result<warp::Embeddings> {
    let n_values = |side: Side| {
        let features = history.traits.iter().filter(|one| one.side == side).map(|one| one.values.len()).sum::<usize>();
        features + if settings.use_identities { history.keys(side).len() } else { 0 }
    };
    let users = stored_matrix(artefact, "user_embeddings", n_values(Side::User), None)?;
    let items = stored_matrix(artefact, "item_embeddings", n_values(Side::Item), Some(users.ncols()))?;
    Ok(warp::Embeddings { users, biases: stored_column(artefact, "item_biases", items.nrows())?, items })
}

impl HybridModel {
    fn new(history: History, embeddings: warp::Embeddings, settings: Settings) -> Result<Self> {
        let signature = Signature { inputs: history.names.inputs.clone(), label: None, outputs: Fields::empty() };
        let (of_users, of_items) = (values(&history, Side::User, settings)?, values(&history, Side::Item, settings)?);
        let biases = warp::sums(&of_items, embeddings.biases.view().insert_axis(Axis(1))).column(0).to_owned();
        let users = warp::sums(&of_users, embeddings.users.view());
        let items = warp::sums(&of_items, embeddings.items.view());
        let mut is_had = vec![false; history.items.len()];
        history.seen.columns.iter().for_each(|item| is_had[*item as usize] = true);
        let had: Vec<u32> = (0..history.items.len() as u32).filter(|item| is_had[*item as usize]).collect();
        let rivals = Rivals::of(items.view(), biases.view(), &had);
        let vectors = Vectors::new(users, items, Some(biases.view()))?;
        Ok(Self { history, settings, embeddings, vectors, biases, rivals, signature })
    }

    /// The vector of a customer of whom this is known, if anything, and who had this basket.
    ///
    /// The pull to where features put them is half of what it was in training: on validation splits of four data sets
    /// vectors then come out as long as those that were learned, and rank as well.
    fn solved(&self, user: Option<u32>, basket: &[(u32, f32)]) -> Result<Array1<f32>> {
        let shelf = Shelf {
            vectors: self.vectors.of(Side::Item),
            biases: self.biases.view(),
            rivals: &self.rivals,
            regularization: self.settings.regularization / 2.0,
        };
        let by_features = user.map(|user| {
            let whole = self.vectors.users.row(user as usize);
            if self.settings.use_identities {
                let identities = self.embeddings.users.nrows() - self.history.users.len();
                &whole - &self.embeddings.users.row(identities + user as usize)
            } else {
                whole.to_owned()
            }
        });
        shelf.fold_in(basket, by_features.as_ref().map(|vector| vector.view()))
    }
}

impl Model for HybridModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn artefact(&self) -> Result<Artefact> {
        let artefact = self.history.save(Artefact::new(serde_json::json!({ "settings": self.settings })))?;
        Ok(artefact
            .with_part("user_embeddings", matrix_rows::<Float32Type>("factors", &self.embeddings.users)?)
            .with_part("item_embeddings", matrix_rows::<Float32Type>("factors", &self.embeddings.items)?)
            .with_part("item_biases", column_stored("bias", self.embeddings.biases.view())?))
    }

    fn recommender(&self) -> Option<&dyn Recommender> {
        Some(self)
    }
}

impl Recommender for HybridModel {
    fn history(&self) -> &History {
        &self.history
    }

    fn source(&self) -> &'static str {
        "hybrid_mf"
    }

    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        self.vectors.rank(&self.history, tastes, ask, |user, basket| self.solved(user, basket))
    }

    fn vectors(&self, side: Side) -> Option<ArrayView2<'_, f32>> {
        Some(self.vectors.of(side))
    }
}
