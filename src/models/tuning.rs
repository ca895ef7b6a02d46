//! A search for options: models are trained on a part of the training rows and judged on the rest of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::kernels::Step;
use crate::models::{Algorithm, FitContext, Metrics, Options, Range, Search, Value};

/// The options that say how to search; a fitted model has none of them.
pub const SEARCH_OPTIONS: [&str; 3] = ["num_trials", "hparam_tuning_objectives", "hparam_tuning_algorithm"];

/// The metric that is made best where none is named: the first of these that the model is judged by.
const USUAL: [&str; 5] =
    ["root_mean_squared_error", "ndcg_at_10", "log_loss", "mean_squared_error", "davies_bouldin_index"];

/// Trials where their number is not given.
const USUAL_TRIALS: usize = 10;

/// More combinations than anyone waits for.
const MAX_TRIALS: usize = 1_000;

/// One training run of a search, for `trial_info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// From 1.
    pub trial_id: usize,
    pub hyperparameters: BTreeMap<String, Value>,
    /// The metrics on the rows that it was judged on.
    pub evaluation: Metrics,
    /// The one of them that is made best.
    pub objective: Option<f64>,
    pub training_seconds: f64,
    pub is_optimal: bool,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What is searched, and how.
pub(super) struct Tuning {
    trials: Vec<BTreeMap<String, Value>>,
    objective: Option<String>,
}

impl Tuning {
    /// What these options ask for; `None`: no search. Fails where it cannot be done.
    pub fn of(algorithm: &dyn Algorithm, options: &Options) -> Result<Option<Self>> {
        let mut space = Vec::new();
        for (name, search) in options.searches() {
            let own = algorithm.options().iter().find(|option| option.name == name);
            let Some(option) = own.filter(|option| !matches!(option.range, Range::Text | Range::Texts)) else {
                return Err(Error::invalid(format!("option \"{name}\" cannot be searched"))
                    .hint(format!("options of {} with numbers, choices or truths can", algorithm.name())));
            };
            let is_whole = matches!(option.range, Range::Whole { .. });
            space.push(Dimension { name: name.to_owned(), search: search.clone(), is_whole });
        }
        let given = options.whole("num_trials").ok();
        if space.is_empty() {
            return match SEARCH_OPTIONS.iter().find(|name| options.iter().any(|(given, _)| given == **name)) {
                None => Ok(None),
                Some(name) => Err(Error::invalid(format!("{name} is given, and nothing to search")).hint(
                    "say what to try: l2_reg = hparam_range(0.1, 100), num_factors = hparam_candidates(ARRAY[16, 32])",
                )),
            };
        }
        let is_grid = options.text("hparam_tuning_algorithm").is_some_and(|algorithm| algorithm.starts_with("grid"));
        let trials = if is_grid {
            all_combinations(&space, given.unwrap_or(MAX_TRIALS))?
        } else {
            draws(&space, given.unwrap_or(USUAL_TRIALS), options.whole("seed")? as u64)
        };
        Ok(Some(Self { trials, objective: options.text("hparam_tuning_objectives").map(str::to_owned) }))
    }

    /// Tries all; `judge` trains with options and says how good that was. Gives the options of the best trial and what
    /// came of each. Of equal ones the first is the best.
    ///
    /// A trial that cannot be trained is noted as failed, and the others go on.
    pub fn search(
        &self,
        options: &Options,
        cx: &FitContext,
        judge: &dyn Fn(&Options) -> Result<Metrics>,
    ) -> Result<(Options, Vec<Trial>)> {
        let mut trials: Vec<Trial> = Vec::with_capacity(self.trials.len());
        let mut best: Option<(usize, f64)> = None;
        let mut failure = None;
        for (at, hyperparameters) in self.trials.iter().enumerate() {
            if !(cx.progress)(Step::QUESTION) {
                return Err(Error::cancelled());
            }
            let started = Instant::now();
            let tried = judge(&with(options, hyperparameters));
            let mut trial = Trial {
                trial_id: at + 1,
                hyperparameters: hyperparameters.clone(),
                evaluation: Vec::new(),
                objective: None,
                training_seconds: started.elapsed().as_secs_f64(),
                is_optimal: false,
                error: None,
            };
            match tried {
                Err(error) if error.kind == Kind::Cancelled => return Err(error),
                Err(error) => {
                    trial.error = Some(error.to_string());
                    failure = Some(error);
                }
                Ok(evaluation) => {
                    let (metric, value) = self.objective(&evaluation)?;
                    let better = |best: f64| if is_loss(metric) { value < Some(best) } else { value > Some(best) };
                    if let Some(value) = value.filter(|_| best.is_none_or(|(_, best)| better(best))) {
                        best = Some((at, value));
                    }
                    trial.objective = value;
                    trial.error = value.is_none().then(|| format!("{metric} is not defined on the rows held out"));
                    trial.evaluation = evaluation;
                }
            }
            (cx.notice)(self.told(&trial, best));
            trials.push(trial);
        }
        let Some((best, _)) = best else {
            return Err(failure.map_or_else(
                || Error::invalid("no trial of the search could be judged"),
                |error| Error { message: format!("every trial of the search failed: {}", error.message), ..error },
            ));
        };
        trials[best].is_optimal = true;
        Ok((with(options, &self.trials[best]), trials))
    }

    /// The name and the value of what is made best.
    fn objective<'a>(&self, evaluation: &'a [(String, Option<f64>)]) -> Result<(&'a str, Option<f64>)> {
        let find = |name: &str| evaluation.iter().find(|(metric, _)| metric.eq_ignore_ascii_case(name));
        let found = match &self.objective {
            Some(name) => find(name),
            None => USUAL.iter().find_map(|name| find(name)),
        };
        match (found, &self.objective) {
            (Some((name, value)), _) => Ok((name, value.filter(|value| value.is_finite()))),
            (None, name) => {
                let names: Vec<&str> = evaluation.iter().map(|(metric, _)| metric.as_str()).collect();
                let named = name.as_deref().unwrap_or_default();
                Err(Error::invalid(format!("hparam_tuning_objectives: the model is not judged by \"{named}\""))
                    .hint(format!("it is judged by {}", names.join(", "))))
            }
        }
    }

    fn told(&self, trial: &Trial, best: Option<(usize, f64)>) -> String {
        let tried: Vec<String> =
            trial.hyperparameters.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let outcome = match (trial.objective, &trial.error) {
            (Some(value), _) => match best {
                Some((at, _)) if at + 1 == trial.trial_id => format!("{value:.4}, the best so far"),
                _ => format!("{value:.4}"),
            },
            (None, Some(error)) => format!("failed: {error}"),
            (None, None) => "failed".to_owned(),
        };
        format!("trial {} of {}: {}: {outcome}", trial.trial_id, self.trials.len(), tried.join(", "))
    }
}

/// Whether less of a metric is better.
fn is_loss(metric: &str) -> bool {
    ["loss", "error", "rmse", "mae", "distance", "davies_bouldin", "stability"].iter().any(|part| metric.contains(part))
}

/// The options with those of a trial, and without those that say how to search.
fn with(options: &Options, hyperparameters: &BTreeMap<String, Value>) -> Options {
    let options = SEARCH_OPTIONS.iter().fold(options.clone(), |options, name| options.without(name));
    hyperparameters.iter().fold(options, |options, (name, value)| options.with(name, value.clone()))
}

/// One option that is searched.
struct Dimension {
    name: String,
    search: Search,
    is_whole: bool,
}

impl Dimension {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Value {
        match &self.search {
            Search::Candidates(candidates) => candidates[rng.random_range(0..candidates.len() as u32) as usize].clone(),
            Search::Range { low, high } => {
                // A whole number stands for what is rounded to it.
                let half = if self.is_whole { 0.5 } else { 0.0 };
                let (from, to) = (low - half, high + half);
                let share = rng.random::<f64>();
                // Over more than a decade small values deserve as many trials as large ones.
                let drawn = if *low > 0.0 && high / low > 10.0 {
                    (from.ln() + share * (to.ln() - from.ln())).exp()
                } else {
                    from + share * (to - from)
                };
                match self.is_whole {
                    true => Value::Whole(drawn.round().clamp(*low, *high) as i64),
                    false => Value::Number(shortened(drawn).clamp(*low, *high)),
                }
            }
        }
    }
}

/// To four digits: as many as anyone wants to type again.
fn shortened(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Every combination of candidates, at most `most`.
fn all_combinations(space: &[Dimension], most: usize) -> Result<Vec<BTreeMap<String, Value>>> {
    let mut combinations = vec![BTreeMap::new()];
    for Dimension { name, search, .. } in space {
        let Search::Candidates(candidates) = search else {
            return Err(Error::invalid(format!("a grid cannot be made of a range: {name} = {search}"))
                .hint(format!("{name} = hparam_candidates(ARRAY[…]), or hparam_tuning_algorithm = 'random'")));
        };
        if combinations.len() * candidates.len() > most {
            return Err(Error::invalid(format!("the grid has more than {most} combinations"))
                .hint("raise num_trials, give fewer candidates, or hparam_tuning_algorithm = 'random'"));
        }
        let of_one = |combination: BTreeMap<String, Value>| {
            candidates.iter().map(move |candidate| {
                let mut combination = combination.clone();
                combination.insert(name.clone(), candidate.clone());
                combination
            })
        };
        combinations = combinations.into_iter().flat_map(of_one).collect();
    }
    Ok(combinations)
}

/// `n` combinations drawn by the seed, none twice; fewer where there are not so many.
fn draws(space: &[Dimension], n: usize, seed: u64) -> Vec<BTreeMap<String, Value>> {
    if let Ok(all) = all_combinations(space, n) {
        return all;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut drawn, mut shown) = (Vec::with_capacity(n), BTreeSet::new());
    // A range of few whole numbers may hold fewer combinations than are asked for.
    for _ in 0..n * 100 {
        let combination: BTreeMap<String, Value> =
            space.iter().map(|dimension| (dimension.name.clone(), dimension.draw(&mut rng))).collect();
        if shown.insert(format!("{combination:?}")) {
            drawn.push(combination);
        }
        if drawn.len() == n {
            break;
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::models::{algorithm, declared_options};

    fn options(given: &[(&str, Value)]) -> Result<Options> {
        let algorithm = algorithm("matrix_factorization")?;
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Options::check(algorithm.name(), declared_options(algorithm), given)
    }

    fn tuning(given: &[(&str, Value)]) -> Result<Option<Tuning>> {
        Tuning::of(algorithm("matrix_factorization")?, &options(given)?)
    }

    fn range(low: f64, high: f64) -> Value {
        Value::Search(Search::Range { low, high })
    }

    fn candidates(values: &[i64]) -> Value {
        Value::Search(Search::Candidates(values.iter().copied().map(Value::Whole).collect()))
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn a_grid_is_every_combination() {
        let space = [("num_factors", candidates(&[8, 16])), ("max_iterations", candidates(&[1, 2, 3]))];
        let grid = |more: &[(&str, Value)]| tuning(&[&space, more].concat());
        let found = grid(&[("hparam_tuning_algorithm", text("GRID_SEARCH"))]).unwrap().unwrap();
        assert_eq!(found.trials.len(), 6);
        // Drawn at random there are no more either.
        assert_eq!(grid(&[("num_trials", Value::Whole(50))]).unwrap().unwrap().trials, found.trials);
        assert!(grid(&[("hparam_tuning_algorithm", text("grid")), ("num_trials", Value::Whole(5))]).is_err());
        assert!(tuning(&[("l2_reg", range(1.0, 2.0)), ("hparam_tuning_algorithm", text("grid"))]).is_err());
    }

    #[test]
    fn draws_follow_the_seed_and_lie_in_range() {
        let given = |seed| {
            let space = [("num_factors", range(1.0, 3.0)), ("l2_reg", range(0.001, 1000.0))];
            [&space[..], &[("num_trials", Value::Whole(200)), ("seed", Value::Whole(seed))]].concat()
        };
        let trials = |seed| tuning(&given(seed)).unwrap().unwrap().trials;
        assert_eq!(trials(3), trials(3));
        assert_ne!(trials(3), trials(4));
        let small = |trial: &&BTreeMap<String, Value>| matches!(trial["l2_reg"], Value::Number(l2) if l2 < 1.0);
        let drawn = trials(3);
        assert_eq!(drawn.len(), 200);
        // Half of the decades lie below one.
        assert!((70..130).contains(&drawn.iter().filter(small).count()));
        for whole in 1..=3 {
            assert!(drawn.iter().filter(|trial| trial["num_factors"] == Value::Whole(whole)).count() > 40);
        }
        // Three whole numbers are three trials.
        let few = tuning(&[("num_factors", range(1.0, 3.0)), ("num_trials", Value::Whole(9))]).unwrap().unwrap();
        assert_eq!(few.trials.len(), 3);
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        assert!(tuning(&[]).unwrap().is_none());
        assert!(tuning(&[("num_trials", Value::Whole(3))]).is_err());
        assert!(tuning(&[("seed", candidates(&[1, 2]))]).is_err());
    }

    #[test]
    fn the_best_trial_wins_and_failures_are_told() {
        let given = [("num_factors", candidates(&[8, 16, 32, 64])), ("hparam_tuning_objectives", text("log_loss"))];
        let (options, tuning) = (options(&given).unwrap(), tuning(&given).unwrap().unwrap());
        let notices = Mutex::new(Vec::new());
        let notice = |text| notices.lock().unwrap().push(text);
        let cx = FitContext { seed: 0, progress: &|_| true, notice: &notice, reserve: &|_| Ok(()) };
        let judge = |options: &Options| match options.whole("num_factors")? {
            8 => Err(Error::invalid("too few")),
            16 => Ok(vec![("log_loss".to_owned(), Some(0.5))]),
            32 => Ok(vec![("log_loss".to_owned(), Some(0.25))]),
            _ => Ok(vec![("log_loss".to_owned(), None)]),
        };
        let (best, trials) = tuning.search(&options, &cx, &judge).unwrap();
        assert_eq!(best.whole("num_factors").unwrap(), 32);
        assert!(best.text("hparam_tuning_objectives").is_none());
        assert_eq!(trials.iter().map(|trial| trial.is_optimal).collect::<Vec<_>>(), [false, false, true, false]);
        assert_eq!(trials.iter().filter(|trial| trial.error.is_some()).count(), 2);
        assert!(notices.lock().unwrap()[2].ends_with("num_factors = 32: 0.2500, the best so far"));
        assert!(tuning.search(&options, &cx, &|_| Err(Error::invalid("never"))).is_err());
        let stopped = FitContext { progress: &|_| false, ..cx };
        assert_eq!(tuning.search(&options, &stopped, &judge).unwrap_err().kind, Kind::Cancelled);
    }
}
