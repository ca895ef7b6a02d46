//! How far the ratings that a model foretells are from those that were given.

use crate::error::Result;
use crate::frame::Events;
use crate::models::Recommender;

/// What an evaluation of explicit ratings holds besides the rankings. The baseline foretells each customer's own mean.
pub(super) const RATING_METRICS: [&str; 7] = [
    "root_mean_squared_error",
    "mean_absolute_error",
    "mean_squared_error",
    "r2_score",
    "baseline_root_mean_squared_error",
    "baseline_mean_absolute_error",
    "n_ratings",
];

/// The values of [`RATING_METRICS`] over the ratings for which `held_out` holds, or over all; `None` where the model
/// foretells no ratings or the events have none.
///
/// Every rating counts once, those of unknown customers and products too. The mean that r² compares with is that of these
/// ratings.
pub(super) fn rating_errors(
    model: &dyn Recommender,
    events: &Events,
    held_out: Option<&[bool]>,
) -> Result<Option<Vec<Option<f64>>>> {
    let history = model.history();
    let (true, Some(ratings)) = (history.names.recipe.explicit, &events.rating) else { return Ok(None) };
    let (users, items) = (history.users.codes(events.users.values())?, history.items.codes(events.items.values())?);
    let mean = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len().max(1) as f64;
    let overall = mean(&history.seen.values);
    let means: Vec<f64> =
        users.iter().map(|user| user.map_or(overall, |user| mean(history.seen.row(user as usize).1))).collect();

    let (mut n, mut ours, mut baseline, mut given) = (0.0, Errors::default(), Errors::default(), Errors::default());
    let judged = (0..events.len()).filter(|row| held_out.is_none_or(|held_out| held_out[*row]));
    for row in judged {
        let (user, item) = (events.user[row] as usize, events.item[row] as usize);
        let rating = f64::from(ratings[row]);
        n += 1.0;
        ours.add(rating - f64::from(model.foretell(users[user], items[item])?));
        baseline.add(rating - means[user]);
        given.add(rating);
    }
    let of = |sum: f64| (n > 0.0).then(|| sum / n);
    let variance = of(given.squares).zip(of(given.sum)).map(|(squares, mean)| squares - mean * mean);
    let squared = of(ours.squares);
    let explained =
        squared.zip(variance.filter(|variance| *variance > 0.0)).map(|(squared, variance)| 1.0 - squared / variance);
    Ok(Some(vec![
        squared.map(f64::sqrt),
        of(ours.absolute),
        squared,
        explained,
        of(baseline.squares).map(f64::sqrt),
        of(baseline.absolute),
        Some(n),
    ]))
}

#[derive(Default)]
struct Errors {
    sum: f64,
    absolute: f64,
    squares: f64,
}

impl Errors {
    fn add(&mut self, error: f64) {
        self.sum += error;
        self.absolute += error.abs();
        self.squares += error * error;
    }
}
