//! `item_knn`: products that the same customers had, and for each customer what is nearest to theirs.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float32Array, UInt32Array};
use datafusion::arrow::datatypes::{Fields, Float32Type};
use datafusion::arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frame::{Artefact, Side};
use crate::kernels::item_knn::{self, Before, Neighbors, Similarity};
use crate::kernels::topk;
use crate::models::history::{numbers_in, row_lengths, stored_rows};
use crate::models::{
    Algorithm, Ask, EventLearner, Explanation, FitContext, Had, History, Learner, Model, Opt, Options, Range,
    Recommender, Signature, Task, Taste, likeness,
};

pub struct ItemKnn;

#[derive(Debug)]
struct ItemKnnModel {
    history: History,
    settings: Settings,
    neighbors: Neighbors,
    signature: Signature,
}

/// The options that decide which neighbors a product has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Settings {
    similarity: String,
    neighbors: usize,
    shrinkage: f32,
    bm25_k1: f32,
    bm25_b: f32,
    beta: f32,
}

impl Algorithm for ItemKnn {
    fn name(&self) -> &'static str {
        "item_knn"
    }

    fn doc(&self) -> &'static str {
        "Finds for each product the products that the same customers had, and recommends what is near to what a customer \
         had: nearest neighbors of items (Sarwar et al. 2001; Deshpande & Karypis 2004). The score of a product is the \
         sum, over those that the customer had, of rating · similarity. The similarities and their defaults are those \
         of the library implicit, which counts the product itself among its K. Products without a score are not \
         recommended. REFRESH MODEL searches only the products that new rows changed, and comes out as a new training \
         would; with bm25, with half_life, and with tfidf when the number of products changes, everything changes and all \
         are searched."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL bought_together OPTIONS (model_type = 'item_knn', similarity = 'cosine', num_neighbors = 50) AS\n\
         SELECT customer_id, product_id, count(*) AS rating FROM interactions\n\
         WHERE event_type = 'purchase' GROUP BY customer_id, product_id"
    }

    fn task(&self) -> Task {
        Task::Recommend
    }

    /// It has no vectors.
    fn answers(&self) -> &'static [&'static str] {
        &[
            "recommend",
            "recommend_users",
            "similar_items",
            "similar_users",
            "lookalike",
            "explain_recommendation",
            "evaluate",
            "evaluate_ranking",
        ]
    }

    fn options(&self) -> &'static [Opt] {
        &[
            Opt {
                name: "similarity",
                aliases: &[],
                range: Range::Choice(&["cosine", "tfidf", "bm25", "rp3beta"]),
                default: Some("cosine"),
                doc: "What makes two products alike. cosine: the angle between their columns of ratings. tfidf: the \
                      same of √rating · ln(products / (1 + those the customer had)), by which customers of few \
                      products tell more. bm25: Okapi BM25, which stops growing with the rating; it has no upper \
                      bound. rp3beta: the chance of a random walk from the product to one of its customers and on to \
                      one of theirs, over popularity to the power of rp3_beta (Paudel et al. 2017).",
            },
            Opt {
                name: "num_neighbors",
                aliases: &["neighbors", "k_neighbors"],
                range: Range::Whole { min: 1, max: 10_000 },
                default: Some("20"),
                doc: "How many of the most similar products are kept for each. similar_items() gives no more.",
            },
            Opt {
                name: "shrinkage",
                aliases: &["shrink"],
                range: Range::Number { min: 0.0, max: 1e6 },
                default: Some("0"),
                doc: "Of a pair of products that n customers had, n / (n + shrinkage) of the similarity counts.",
            },
            Opt {
                name: "bm25_k1",
                aliases: &["k1"],
                range: Range::Number { min: 0.0, max: 1e6 },
                default: Some("1.2"),
                doc: "How far a rating goes on to count, for bm25: a larger one levels off later.",
            },
            Opt {
                name: "bm25_b",
                aliases: &["b"],
                range: Range::Number { min: 0.0, max: 1.0 },
                default: Some("0.75"),
                doc: "How much less a rating counts for a product that has many, for bm25: 0 no less.",
            },
            Opt {
                name: "rp3_beta",
                aliases: &["beta"],
                range: Range::Number { min: 0.0, max: 10.0 },
                default: Some("0.6"),
                doc: "How much less a popular product is found, for rp3beta: 0 no less.",
            },
        ]
    }

    fn learner(&self) -> Learner {
        Learner::Events(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let settings: Settings = artefact.value("settings")?;
        let history = History::load(artefact)?;
        let neighbors = stored_neighbors(artefact, history.items.len())?;
        Ok(Arc::new(ItemKnnModel::new(history, settings, neighbors)))
    }
}

impl EventLearner for ItemKnn {
    fn fit(
        &self,
        cx: &FitContext,
        history: History,
        options: &Options,
        before: Option<&Artefact>,
    ) -> Result<Arc<dyn Model>> {
        let settings = Settings::of(options)?;
        let n_items = history.items.len();
        // Weights by customer and by product, now and before.
        let lists = item_knn::most_neighbors(&history.seen, settings.neighbors);
        (cx.reserve)(16 * lists + 32 * history.seen.nnz())?;
        let known = before.and_then(|before| Known::of(before, &history, &settings));
        let neighbors = match known {
            Some(known) => {
                let found = item_knn::refit(&known.before(), &history.seen, &settings.kernel(), cx.progress)?;
                if found.n_searched < n_items {
                    (cx.notice)(format!(
                        "searched the neighbors of {} of {n_items} products; the others have those they had",
                        found.n_searched
                    ));
                }
                found.neighbors
            }
            None => item_knn::fit(&history.seen, &settings.kernel(), cx.progress)?,
        };
        Ok(Arc::new(ItemKnnModel::new(history, settings, neighbors)))
    }
}

impl Settings {
    fn of(options: &Options) -> Result<Self> {
        Ok(Self {
            similarity: options.text("similarity").unwrap_or("cosine").to_owned(),
            neighbors: options.whole("num_neighbors")?,
            shrinkage: options.number("shrinkage")? as f32,
            bm25_k1: options.number("bm25_k1")? as f32,
            bm25_b: options.number("bm25_b")? as f32,
            beta: options.number("rp3_beta")? as f32,
        })
    }

    fn kernel(&self) -> item_knn::Options {
        let similarity = match self.similarity.as_str() {
            "tfidf" => Similarity::TfIdf,
            "bm25" => Similarity::Bm25 { k1: self.bm25_k1, b: self.bm25_b },
            "rp3beta" => Similarity::Rp3Beta { beta: self.beta },
            _ => Similarity::Cosine,
        };
        item_knn::Options { similarity, neighbors: self.neighbors, shrinkage: self.shrinkage }
    }
}

/// An earlier version, and what its numbers are now.
struct Known {
    history: History,
    neighbors: Neighbors,
    users: Vec<Option<u32>>,
    items: Vec<Option<u32>>,
}

impl Known {
    /// `None`: it was learned in another way, or its keys are of another type.
    fn of(artefact: &Artefact, now: &History, settings: &Settings) -> Option<Self> {
        if artefact.value::<Settings>("settings").ok()? != *settings {
            return None;
        }
        let history = History::load(artefact).ok()?;
        let neighbors = stored_neighbors(artefact, history.items.len()).ok()?;
        let users = now.users.codes(history.users.values()).ok()?;
        let items = now.items.codes(history.items.values()).ok()?;
        Some(Self { history, neighbors, users, items })
    }

    fn before(&self) -> Before<'_> {
        Before { interactions: &self.history.seen, neighbors: &self.neighbors, users: &self.users, items: &self.items }
    }
}

fn neighbors_stored(neighbors: &Neighbors, artefact: Artefact) -> Result<Artefact> {
    let Neighbors { matrix, beyond } = neighbors;
    let items: [(&str, ArrayRef); 2] =
        [("n_neighbors", Arc::new(row_lengths(matrix))), ("beyond", Arc::new(Float32Array::from(beyond.clone())))];
    let neighbors: [(&str, ArrayRef); 2] = [
        ("item", Arc::new(UInt32Array::from(matrix.columns.clone()))),
        ("similarity", Arc::new(Float32Array::from(matrix.values.clone()))),
    ];
    Ok(artefact
        .with_part("neighbor_lists", RecordBatch::try_from_iter(items)?)
        .with_part("neighbors", RecordBatch::try_from_iter(neighbors)?))
}

fn stored_neighbors(artefact: &Artefact, n_items: usize) -> Result<Neighbors> {
    let damaged = || Error::corrupt("the model's neighbors do not fit its history");
    let numbers = |part: &RecordBatch, at: usize| -> Result<Vec<f32>> {
        let column = part.columns().get(at).and_then(|column| column.as_primitive_opt::<Float32Type>());
        Ok(column.ok_or_else(damaged)?.values().to_vec())
    };
    let (lists, entries) = (artefact.part("neighbor_lists")?, artefact.part("neighbors")?);
    let matrix = stored_rows(numbers_in(lists, 0)?, numbers_in(entries, 0)?, numbers(entries, 1)?, n_items)?;
    let beyond = numbers(lists, 1)?;
    if matrix.n_rows != n_items || beyond.len() != n_items { Err(damaged()) } else { Ok(Neighbors { matrix, beyond }) }
}

impl ItemKnnModel {
    fn new(history: History, settings: Settings, neighbors: Neighbors) -> Self {
        let signature = Signature { inputs: history.names.inputs.clone(), label: None, outputs: Fields::empty() };
        Self { history, settings, neighbors, signature }
    }
}

impl Model for ItemKnnModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn artefact(&self) -> Result<Artefact> {
        let artefact = Artefact::new(serde_json::json!({ "settings": self.settings }));
        neighbors_stored(&self.neighbors, self.history.save(artefact)?)
    }

    fn recommender(&self) -> Option<&dyn Recommender> {
        Some(self)
    }
}

impl Recommender for ItemKnnModel {
    fn history(&self) -> &History {
        &self.history
    }

    fn source(&self) -> &'static str {
        "item_knn"
    }

    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        let had: Vec<Had> = tastes.iter().map(|taste| taste.had(&self.history)).collect();
        let had: Vec<(&[u32], &[f32])> = had.iter().map(|(items, ratings)| (&items[..], &ratings[..])).collect();
        let seen: Vec<Cow<[u32]>> = tastes.iter().map(|taste| taste.seen(&self.history)).collect();
        let seen: Vec<&[u32]> = seen.iter().map(AsRef::as_ref).collect();
        item_knn::rank(&item_knn::Query {
            neighbors: &self.neighbors.matrix,
            had: &had,
            k: ask.k,
            seen: ask.exclude_seen.then_some(&seen[..]),
            candidates: ask.candidates.as_deref(),
        })
    }

    /// Of products those that are kept, by the similarity that the model learned; of customers by what they had.
    fn similar(&self, side: Side, code: u32, k: usize) -> Result<Vec<(u32, f32)>> {
        match side {
            Side::User => Ok(likeness::similar(&self.history, None, side, &[code], k)),
            Side::Item => {
                let (items, similarities) = self.neighbors.matrix.row(code as usize);
                Ok(topk::best(items.iter().copied().zip(similarities.iter().copied()), k))
            }
        }
    }

    fn explain(&self, taste: Taste, item: u32) -> Result<Explanation> {
        let (items, ratings) = taste.had(&self.history);
        let part = |(had, rating): (&u32, &f32)| {
            let (others, similarities) = self.neighbors.matrix.row(*had as usize);
            let at = others.binary_search(&item).ok()?;
            Some((*had, rating * similarities[at]))
        };
        let because: Vec<(u32, f32)> = items.iter().zip(ratings.iter()).filter_map(part).collect();
        // In the order in which the ranking sums: to the last bit the same.
        let score = because.iter().fold(0.0, |sum, (_, part)| sum + part);
        Ok(Explanation { score, because, rest: 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;
    use crate::models::{Intake, Value, declared_options, train};

    /// Customers `0..60` and products by number, those of one half of the shop never with those of the other.
    fn shop() -> Vec<(i64, i64)> {
        let pairs = (0..60i64).flat_map(|user| (0..40i64).map(move |item| (user, item)));
        pairs.filter(|(user, item)| (user + item) % 2 == 0 && (user * 7 + item * 13) % (3 + item / 4) == 0).collect()
    }

    fn learned(pairs: &[(i64, i64)], similarity: &str, before: Option<&Artefact>) -> (Arc<dyn Model>, Vec<String>) {
        let (users, items): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
        let items = StringArray::from_iter_values(items.iter().map(|item| format!("p{item}")));
        let columns: [(&str, ArrayRef); 2] =
            [("customer", Arc::new(Int64Array::from(users))), ("product", Arc::new(items))];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let given = [
            ("similarity", Value::Text(similarity.to_owned())),
            ("num_neighbors", Value::Whole(4)),
            ("data_split_method", Value::Text("NO_SPLIT".to_owned())),
        ];
        let given = given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let options = Options::check("item_knn", declared_options(&ItemKnn), given).unwrap();
        let mut intake = Intake::new(&ItemKnn, &rows.schema(), &options).unwrap();
        intake.push(rows).unwrap();
        let heard = Mutex::new(Vec::new());
        let notice = |remark: String| heard.lock().unwrap().push(remark);
        let cx = FitContext { seed: 0, progress: &|_| true, notice: &notice, reserve: &|_| Ok(()) };
        let model = train(&ItemKnn, intake, &options, before, &cx).unwrap().model;
        (model, heard.into_inner().unwrap())
    }

    #[test]
    fn a_refreshed_model_is_the_one_that_would_be_trained_anew() {
        let then = shop();
        let mut now = then.clone();
        now.retain(|(user, item)| *user != 8 && *item != 38);
        now.extend([(2, 36), (101, 36), (101, 40), (101, 42), (2, 2)]);
        for similarity in ["cosine", "tfidf", "bm25", "rp3beta"] {
            let before = learned(&then, similarity, None).0.artefact().unwrap();
            let (refreshed, heard) = learned(&now, similarity, Some(&before));
            let (anew, _) = learned(&now, similarity, None);
            let (refreshed, anew) = (refreshed.artefact().unwrap(), anew.artefact().unwrap());
            for part in ["neighbors", "seen", "users", "items"] {
                assert_eq!(refreshed.part(part).unwrap(), anew.part(part).unwrap(), "{similarity}: {part}");
            }
            let lengths = |artefact: &Artefact| numbers_in(artefact.part("neighbor_lists").unwrap(), 0).unwrap();
            assert_eq!(lengths(&refreshed), lengths(&anew), "{similarity}");
            // There is one product more: where weights depend on how many there are, all were searched.
            let partly = matches!(&heard[..], [only] if only.starts_with("searched the neighbors of "));
            assert_eq!(partly, matches!(similarity, "cosine" | "rp3beta"), "{similarity}: {heard:?}");

            // An earlier model that was learned in another way is no help, and no harm.
            let other = learned(&then, if similarity == "cosine" { "tfidf" } else { "cosine" }, None).0;
            let (again, heard) = learned(&now, similarity, Some(&other.artefact().unwrap()));
            assert_eq!((again.artefact().unwrap(), heard), (anew, vec![]), "{similarity}");
        }
    }

    #[test]
    fn an_explanation_sums_to_the_score() {
        let (model, _) = learned(&shop(), "tfidf", None);
        let recommender = model.recommender().unwrap();
        let basket = [(0, 2.0), (3, 1.0), (7, 0.5)];
        let known = (0..recommender.history().users.len() as u32).map(Taste::Known);
        let tastes: Vec<Taste> = known.chain([Taste::Basket(&basket)]).collect();
        let ask = Ask { k: 50, exclude_seen: false, ..Ask::default() };
        let mut explained = 0;
        for (taste, ranked) in tastes.iter().zip(recommender.rank(&tastes, &ask).unwrap()) {
            for (item, score) in ranked {
                let told = recommender.explain(*taste, item).unwrap();
                let had = taste.seen(recommender.history());
                assert!(told.because.iter().all(|(because, _)| had.contains(because) && *because != item));
                assert_eq!(told.because.iter().map(|(_, part)| part).sum::<f32>(), score);
                assert_eq!((told.score, told.rest), (score, 0.0));
                explained += 1;
            }
        }
        assert!(explained > 500, "{explained}");
        // What is near to nothing that was had has no score.
        let nothing = Explanation { score: 0.0, because: Vec::new(), rest: 0.0 };
        assert_eq!(recommender.explain(Taste::Basket(&[]), 0).unwrap(), nothing);
    }
}
