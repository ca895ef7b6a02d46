//! `popularity`: what most customers had. The baseline of every recommender, and the answer for strangers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::Fields;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::frame::{Artefact, Side};
use crate::kernels::csr::Csr;
use crate::kernels::popularity;
use crate::models::recommender::popular_of;
use crate::models::{
    Algorithm, Ask, EventLearner, FitContext, History, Learner, Model, Opt, Options, Range, Recipe, Recommender,
    Signature, Task, Taste,
};

pub struct Popularity;

#[derive(Debug)]
struct PopularityModel {
    history: History,
    /// What is popular in each segment, where customers have such.
    segments: Option<Segments>,
    signature: Signature,
}

impl Algorithm for Popularity {
    fn name(&self) -> &'static str {
        "popularity"
    }

    fn doc(&self) -> &'static str {
        "Recommends to everyone the products that most customers had. The baseline that any other recommender has \
         to beat. The score is the share of customers who had the product. With window_days only what happened lately \
         counts, and the share is of the customers of that time. With segment_col each customer is answered with what \
         is popular in their segment, scored by its share there; what nobody there had follows in the order of all, \
         with a score of 0."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL bestsellers OPTIONS (model_type = 'popularity') AS\n\
         SELECT customer_id, product_id FROM interactions WHERE event_type = 'purchase'"
    }

    fn task(&self) -> Task {
        Task::Recommend
    }

    fn answers(&self) -> &'static [&'static str] {
        &["recommend", "recommend_users", "similar_items", "similar_users", "lookalike", "evaluate", "evaluate_ranking"]
    }

    fn options(&self) -> &'static [Opt] {
        &[
            Opt {
                name: "window_days",
                aliases: &["window"],
                range: Range::Number { min: 1e-3, max: 1e6 },
                default: None,
                doc: "Only rows of so many days before the last row count; it needs a timestamp. What a customer had \
                      earlier is still not recommended to them again.",
            },
            Opt {
                name: "segment_col",
                aliases: &["segment"],
                range: Range::Text,
                default: None,
                doc: "The column with the customer's segment: country, tier, age group. A customer with several is of \
                      each of them; one without is answered like strangers, with what is popular among all.",
            },
        ]
    }

    fn learner(&self) -> Learner {
        Learner::Events(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(PopularityModel::new(History::load(artefact)?)?))
    }
}

impl EventLearner for Popularity {
    fn recipe(&self, options: &Options) -> Recipe {
        Recipe {
            half_life: options.given_number("half_life"),
            window_days: options.given_number("window_days"),
            ..Recipe::default()
        }
    }

    fn traits(&self, options: &Options) -> Vec<(Side, String)> {
        options.text("segment_col").map(|column| (Side::User, column.to_owned())).into_iter().collect()
    }

    fn fit(
        &self,
        cx: &FitContext,
        history: History,
        _options: &Options,
        _before: Option<&Artefact>,
    ) -> Result<Arc<dyn Model>> {
        let model = PopularityModel::new(history)?;
        if !(cx.progress)(crate::kernels::Step { done: 1, total: 1, loss: None }) {
            return Err(Error::cancelled());
        }
        Ok(Arc::new(model))
    }
}

/// What the customers of each segment had.
#[derive(Debug)]
struct Segments {
    /// segments × products: how many had it.
    counts: Csr,
    /// How many customers each has.
    sizes: Vec<f32>,
    /// For each its products, the most popular first, with the share of its customers who had it.
    popular: Vec<Vec<(u32, f32)>>,
}

impl Segments {
    /// `members` is customers × segments. `counted` is what customers had; who had nothing is nobody's share.
    fn of(counted: &Csr, members: &Csr) -> Result<Self> {
        let counts = popularity::counts_by_segment(counted, members)?;
        let mut sizes = vec![0.0; members.n_cols];
        for user in (0..members.n_rows).filter(|user| counted.row(*user).1.iter().any(|weight| *weight > 0.0)) {
            members.row(user).0.iter().for_each(|segment| sizes[*segment as usize] += 1.0);
        }
        let mut segments = Self { counts, sizes, popular: Vec::new() };
        segments.popular = (0..members.n_cols as u32).into_par_iter().map(|one| segments.popular_in(&[one])).collect();
        Ok(segments)
    }

    /// What is popular among the customers of these segments together, whoever is in two of them counting twice.
    fn popular_in(&self, segments: &[u32]) -> Vec<(u32, f32)> {
        let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
        for segment in segments {
            let (items, had) = self.counts.row(*segment as usize);
            items.iter().zip(had).for_each(|(item, had)| *counts.entry(*item).or_default() += had);
        }
        let size: f32 = segments.iter().map(|segment| self.sizes[*segment as usize]).sum();
        let mut popular: Vec<(u32, f32)> = counts.into_iter().map(|(item, had)| (item, had / size)).collect();
        // Stable: of equals the one that is more usual among all comes first.
        popular.sort_by(|a, b| b.1.total_cmp(&a.1));
        popular
    }
}

impl PopularityModel {
    fn new(history: History) -> Result<Self> {
        let counted = history.recent.as_ref().unwrap_or(&history.seen);
        let members = history.traits.iter().find(|traits| traits.side == Side::User);
        let segments = members.map(|members| Segments::of(counted, &members.matrix)).transpose()?;
        let signature = Signature { inputs: history.names.inputs.clone(), label: None, outputs: Fields::empty() };
        Ok(Self { history, segments, signature })
    }

    /// What is popular where this one belongs; `None`: nowhere in particular.
    fn at_home(&self, taste: &Taste) -> Option<Cow<'_, [(u32, f32)]>> {
        let (Taste::Known(user) | Taste::Changed(user, _), Some(segments)) = (taste, &self.segments) else {
            return None;
        };
        let members = self.history.traits.iter().find(|traits| traits.side == Side::User)?;
        match members.matrix.row(*user as usize).0 {
            [] => None,
            [one] => Some(Cow::Borrowed(&segments.popular[*one as usize])),
            several => Some(Cow::Owned(segments.popular_in(several))),
        }
    }
}

impl Model for PopularityModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn artefact(&self) -> Result<Artefact> {
        self.history.save(Artefact::new(serde_json::json!({})))
    }

    fn recommender(&self) -> Option<&dyn Recommender> {
        Some(self)
    }
}

impl Recommender for PopularityModel {
    fn history(&self) -> &History {
        &self.history
    }

    fn source(&self) -> &'static str {
        "popular"
    }

    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        let ranked = |taste: &Taste| {
            let without = if ask.exclude_seen { taste.seen(&self.history) } else { Cow::default() };
            let all = self.history.popular.iter().copied();
            let Some(at_home) = self.at_home(taste) else { return popular_of(all, &without, ask) };
            // Seldom is so much asked for that it comes to these.
            let elsewhere = std::iter::once_with(|| {
                let mut there: Vec<u32> = at_home.iter().map(|(item, _)| *item).collect();
                there.sort_unstable();
                all.filter(move |(item, _)| there.binary_search(item).is_err()).map(|(item, _)| (item, 0.0))
            });
            popular_of(at_home.iter().copied().chain(elsewhere.flatten()), &without, ask)
        };
        Ok(tastes.par_iter().map(ranked).collect())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampSecondArray};

    use super::*;
    use crate::models::{Intake, Value, declared_options, train};

    const DAY: i64 = 86_400;

    /// Of rows (customer, product, segment, day); day 0 for none.
    fn learned(rows: &[(i64, &str, Option<&str>, i64)], given: &[(&str, Value)]) -> Result<Arc<dyn Model>> {
        let columns: [(&str, ArrayRef); 4] = [
            ("customer", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))),
            ("product", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)))),
            ("segment", Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>())),
            (
                "at",
                Arc::new(rows.iter().map(|row| (row.3 > 0).then_some(row.3 * DAY)).collect::<TimestampSecondArray>()),
            ),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let options = Options::check("popularity", declared_options(&Popularity), given)?;
        let mut intake = Intake::new(&Popularity, &rows.schema(), &options)?;
        intake.push(rows)?;
        let cx = FitContext { seed: 0, progress: &|_| true, notice: &|_| {}, reserve: &|_| Ok(()) };
        train(&Popularity, intake, &options, None, &cx).map(|trained| trained.model)
    }

    const ROWS: [(i64, &str, Option<&str>, i64); 7] = [
        (1, "old", Some("de"), 1),
        (2, "old", Some("de"), 2),
        (3, "old", Some("fr"), 3),
        (1, "new", Some("de"), 60),
        (2, "new", Some("de"), 61),
        (4, "fresh", Some("fr"), 61),
        (4, "old", None, 0),
    ];

    fn ranked(model: &dyn Model, user: u32) -> Vec<(u32, f32)> {
        let recommender = model.recommender().unwrap();
        let ask = Ask { exclude_seen: false, ..Ask::default() };
        recommender.rank(&[Taste::Known(user)], &ask).unwrap().remove(0)
    }

    #[test]
    fn windows_and_segments_outlive_the_memory_that_they_were_made_in() {
        let both = [("window_days", Value::Number(10.0)), ("segment_col", Value::Text("segment".to_owned()))];
        let model = learned(&ROWS, &both).unwrap();
        let loaded = Popularity.load(&model.artefact().unwrap()).unwrap();
        assert_eq!(loaded.artefact().unwrap(), model.artefact().unwrap());
        // Products by number of rows: old, new, fresh. Of the two in de both had what is new, of the one in fr, who was
        // there in the window, all had what is fresh.
        for model in [model, loaded] {
            assert_eq!(ranked(&*model, 0), [(1, 1.0), (2, 0.0), (0, 0.0)]);
            assert_eq!(ranked(&*model, 2), [(2, 1.0), (1, 0.0), (0, 0.0)]);
            // Who bought what is fresh since then is still at home in fr.
            let since = Taste::Changed(2, &[(0, 1.0), (2, 1.0)]);
            let now = model.recommender().unwrap().rank(&[since], &Ask::default()).unwrap();
            assert_eq!(now, [[(1, 0.0)]]);
            let history = model.recommender().unwrap().history();
            assert_eq!(history.popular, [(1, 2.0 / 3.0), (2, 1.0 / 3.0), (0, 0.0)]);
            assert_eq!(history.seen_by(0), [0, 1]);
        }
    }

    #[test]
    fn a_window_without_a_moment_is_refused() {
        let timeless = ROWS.map(|(user, item, segment, _)| (user, item, segment, 0));
        let error = learned(&timeless, &[("window_days", Value::Number(10.0))]).unwrap_err();
        assert!(error.message.contains("window_days"), "{error}");
    }

    #[test]
    fn a_damaged_window_is_refused() {
        let mut artefact = learned(&ROWS, &[("window_days", Value::Number(10.0))]).unwrap().artefact().unwrap();
        artefact.parts.remove("recent");
        assert!(Popularity.load(&artefact).is_err());
    }
}
