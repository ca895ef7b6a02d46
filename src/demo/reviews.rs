//! What people wrote: a rating from fit and quality, and words that follow the rating.

use rand_chacha::ChaCha8Rng;

use super::calendar::{DAY, END, Moment, SECOND};
use super::columns::{Table, counts, keys, some_texts, texts, times};
use super::customers::Customer;
use super::phrases::{ASPECTS, FOREIGN, GENERAL, NAMED, TITLES, Tone};
use super::products::{Catalogue, Product};
use super::purchases::{Ledger, Line, fit};
use super::random::{Concern, between, chance, normal, pick, stream, weighted};
use crate::error::Result;

/// Share of the order lines that are reviewed.
const REVIEWED: f64 = 0.13;
/// Share of the reviews whose words do not follow the rating.
const CONFUSED: f64 = 0.03;
/// Share of the reviews that are written in the customer's own language, where it is not English.
const AT_HOME: f64 = 0.25;

#[derive(Debug)]
struct Review {
    customer: usize,
    product: usize,
    moment: Moment,
    rating: i32,
    title: Option<String>,
    body: String,
    tone: Tone,
    aspect: &'static str,
}

/// `reviews`, and the sentiment and aspect that were planted in them.
pub(super) fn tables(customers: &[Customer], catalogue: &Catalogue, ledger: &Ledger, seed: u64) -> Result<Vec<Table>> {
    let rng = &mut stream(seed, Concern::Reviews, 0);
    let mut reviews = Vec::new();
    for (_, order, line) in ledger.lines() {
        // A few days to arrive, a few to be used.
        let moment = order.moment + (between(rng, 3.0, 32.0) * DAY as f64) as i64 / SECOND * SECOND;
        let writes = chance(rng, REVIEWED);
        if writes && moment < END && order.fraud.is_none() {
            let (customer, product) = (&customers[order.customer], &catalogue.products[line.product]);
            let rating = rate(customer, product, line, rng);
            reviews.push(write(order.customer, customer, line.product, product, moment, rating, rng));
        }
    }
    reviews.sort_by_key(|review| (review.moment, review.customer, review.product));
    let ids = || (1..).take(reviews.len());
    Ok(vec![
        Table::of_shop(
            "reviews",
            "What buyers wrote; rating is 1 to 5 stars, and some reviews have no title",
            vec![
                keys("review_id", ids()),
                keys("customer_id", reviews.iter().map(|review| customers[review.customer].id)),
                keys("product_id", reviews.iter().map(|review| catalogue.products[review.product].id)),
                counts("rating", reviews.iter().map(|review| review.rating)),
                some_texts("title", reviews.iter().map(|review| review.title.as_deref())),
                texts("body", reviews.iter().map(|review| &review.body)),
                times("review_ts", reviews.iter().map(|review| review.moment)),
            ],
        )?,
        Table::of_truth(
            "truth_reviews",
            "The sentiment of the words (positive, neutral, negative) and the aspect they are about",
            vec![
                keys("review_id", ids()),
                texts("sentiment", reviews.iter().map(|review| review.tone.name())),
                texts("aspect", reviews.iter().map(|review| review.aspect)),
            ],
        )?,
    ])
}

/// Stars: how well it suits, how good it is, and the mood of the day.
fn rate(customer: &Customer, product: &Product, line: &Line, rng: &mut ChaCha8Rng) -> i32 {
    let returned = if line.returned.is_some() { -1.6 } else { 0.0 };
    let suits = 1.1 * (fit(customer, &product.factors) - 0.6);
    let score = 4.2 + suits + 0.6 * product.quality + returned + normal(rng);
    score.round().clamp(1.0, 5.0) as i32
}

fn write(
    customer: usize,
    who: &Customer,
    product: usize,
    what: &Product,
    moment: Moment,
    rating: i32,
    rng: &mut ChaCha8Rng,
) -> Review {
    let felt = match rating {
        4.. => Tone::Positive,
        3 => Tone::Neutral,
        _ => Tone::Negative,
    };
    let tone = if chance(rng, CONFUSED) { pick(rng, &[Tone::Positive, Tone::Neutral, Tone::Negative]) } else { felt };
    let titled = chance(rng, 0.85);
    let review = |title: String, body, aspect| Review {
        customer,
        product,
        moment,
        rating,
        title: titled.then_some(title),
        body,
        tone,
        aspect,
    };

    let language = who.country.map_or("en", |country| country.language);
    let at_home = chance(rng, AT_HOME);
    if let Some(phrases) = FOREIGN.iter().find(|foreign| foreign.language == language).filter(|_| at_home) {
        let (title, body, aspect) = pick(rng, phrases.of(tone));
        return review(title.to_owned(), body.to_owned(), aspect);
    }
    let aspect = &ASPECTS[weighted(rng, ASPECTS.iter().map(|aspect| aspect.share))];
    let mut sentences = vec![pick(rng, aspect.of(tone)).replace("{item}", &what.noun)];
    if chance(rng, 0.75) {
        sentences.insert(0, pick(rng, NAMED.of(tone)).replace("{item}", &what.noun));
    }
    if chance(rng, 0.5) {
        sentences.push(pick(rng, GENERAL.of(tone)).to_owned());
    }
    let mut body = sentences.join(" ");
    if chance(rng, 0.08) {
        let emoji: &[&str] = match tone {
            Tone::Positive => &["😍", "👍", "❤️", "⭐⭐⭐⭐⭐", "🎉", "👨‍👩‍👧 approved"],
            Tone::Neutral => &["🤷", "😐", "🙂"],
            Tone::Negative => &["😡", "👎", "😞", "💔"],
        };
        body = format!("{body} {}", pick(rng, emoji));
    }
    if chance(rng, 0.03) {
        body = body.to_uppercase();
    }
    review(pick(rng, TITLES.of(tone)).to_owned(), body, aspect.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_slot_is_left_open_and_few_reviews_are_twins() -> Result<()> {
        let customers = Customer::sign_up(3_000, 6)?;
        let catalogue = Catalogue::stock(1.0, 6)?;
        let (customer, mut rng) = (&customers[0], stream(6, Concern::Reviews, 0));
        let bodies: Vec<String> = (0..3_000)
            .map(|i| {
                let product = i % catalogue.products.len();
                let rating = 1 + (i % 5) as i32;
                write(0, customer, product, &catalogue.products[product], 0, rating, &mut rng).body
            })
            .collect();
        assert!(bodies.iter().all(|body| !body.contains('{') && !body.is_empty()));
        let distinct: BTreeSet<_> = bodies.iter().collect();
        assert!(distinct.len() > 2_500, "{}", distinct.len());
        Ok(())
    }
}
