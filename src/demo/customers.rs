//! The people: when they signed up, which planted segment they belong to, and what they like.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::calendar::{DAYS, END, Moment, START, Season};
use super::columns::{Table, flags, floats, keys, money, some_texts, texts, times};
use super::names::{COUNTRIES, Country};
use super::purchases::Ledger;
use super::random::{Concern, beta, chance, gamma, stream, weighted};
use super::words::{FACTORS, N_FACTORS};
use crate::error::Result;

/// A planted group of customers, told apart by how often, how much and how long they buy.
#[derive(Debug)]
pub(super) struct Segment {
    pub name: &'static str,
    /// Share of the customers.
    share: f64,
    /// Orders a year while a customer: λ ~ Gamma with this mean and shape.
    rate: f64,
    rate_shape: f64,
    /// Probability to leave after an order: p ~ Beta(a, b).
    leave: (f64, f64),
    /// Mean order value in whole money; customers differ by an inverse gamma of this shape.
    spend: f64,
    spend_shape: f64,
    /// Probability that a line is bought at a discount.
    pub discount: f64,
    /// True if they buy when gifts are bought.
    pub gifts: bool,
    /// Visits a year beside those that end in an order.
    pub visits: f64,
}

/// The groups; `window_shoppers` signed up and never buy.
pub(super) const SEGMENTS: [Segment; 6] = [
    Segment {
        name: "champions",
        share: 0.1,
        rate: 21.0,
        rate_shape: 12.0,
        leave: (1.0, 160.0),
        spend: 210.0,
        spend_shape: 30.0,
        discount: 0.08,
        gifts: false,
        visits: 8.0,
    },
    Segment {
        name: "loyal_regulars",
        share: 0.21,
        rate: 7.5,
        rate_shape: 12.0,
        leave: (1.0, 80.0),
        spend: 65.0,
        spend_shape: 30.0,
        discount: 0.12,
        gifts: false,
        visits: 5.0,
    },
    Segment {
        name: "bargain_hunters",
        share: 0.2,
        rate: 5.0,
        rate_shape: 12.0,
        leave: (1.0, 50.0),
        spend: 14.0,
        spend_shape: 30.0,
        discount: 0.72,
        gifts: false,
        visits: 7.0,
    },
    Segment {
        name: "gift_buyers",
        share: 0.18,
        rate: 1.8,
        rate_shape: 10.0,
        leave: (1.0, 30.0),
        spend: 240.0,
        spend_shape: 30.0,
        discount: 0.12,
        gifts: true,
        visits: 2.0,
    },
    Segment {
        name: "one_time_buyers",
        share: 0.24,
        rate: 2.0,
        rate_shape: 4.0,
        leave: (24.0, 1.0),
        spend: 32.0,
        spend_shape: 30.0,
        discount: 0.15,
        gifts: false,
        visits: 1.5,
    },
    Segment {
        name: "window_shoppers",
        share: 0.07,
        rate: 0.0,
        rate_shape: 1.0,
        leave: (1.0, 1.0),
        spend: 0.0,
        spend_shape: 14.0,
        discount: 0.0,
        gifts: false,
        visits: 6.0,
    },
];

/// How strongly the rest of a taste stands beside its leading factor: below 1, most customers have one passion.
const TASTE_SHAPE: f64 = 0.35;

/// Shape of one customer's order values around their own mean.
pub(super) const ORDER_SHAPE: f64 = 8.0;

/// Somebody who signed up.
#[derive(Debug)]
pub(super) struct Customer {
    pub id: i64,
    name: String,
    /// None for the few who never said.
    pub country: Option<&'static Country>,
    pub signup: Moment,
    pub segment: &'static Segment,
    /// λ: orders a year while a customer.
    pub rate: f64,
    /// p: probability to leave after an order.
    pub leave: f64,
    /// E(z): mean order value in cents.
    pub spend: f64,
    /// Weights over [`FACTORS`] that sum to 1.
    pub taste: [f64; N_FACTORS],
}

impl Customer {
    /// All customers in the order they signed up: three in five in the opening months, the rest over the two years.
    pub(super) fn sign_up(n: usize, seed: u64) -> Result<Vec<Self>> {
        let season = Season::of_the_shop();
        let rng = &mut stream(seed, Concern::Signups, 0);
        let mut signups: Vec<Moment> = (0..n)
            .map(|_| {
                let days = if chance(rng, 0.6) { 150.0 } else { DAYS as f64 };
                season.at(days * rng.random::<f64>()).unwrap_or(START)
            })
            .collect();
        signups.sort_unstable();
        let customers = signups.into_iter().enumerate();
        customers.map(|(place, signup)| Self::new(place, signup, &mut stream(seed, Concern::Customer, place))).collect()
    }

    fn new(place: usize, signup: Moment, rng: &mut ChaCha8Rng) -> Result<Self> {
        let country = &COUNTRIES[weighted(rng, COUNTRIES.iter().map(|country| country.share))];
        let name = country.name(rng);
        let segment = &SEGMENTS[weighted(rng, SEGMENTS.iter().map(|segment| segment.share))];
        let buys = segment.rate > 0.0;
        let rate = if buys { gamma(rng, segment.rate_shape, segment.rate)? } else { 0.0 };
        let leave = if buys { beta(rng, segment.leave.0, segment.leave.1)? } else { 1.0 };
        // Gamma-gamma: ν ~ Gamma(q, γ) and z ~ Gamma(p, ν), so that E(z) = p/ν is an inverse gamma with the mean γp/(q−1).
        let heterogeneity = gamma(rng, segment.spend_shape, segment.spend_shape)? / (segment.spend_shape - 1.0);
        let spend = 100.0 * segment.spend / heterogeneity;
        // A Dirichlet draw: gammas over their sum.
        let mut taste = [0.0; N_FACTORS];
        for weight in &mut taste {
            *weight = gamma(rng, TASTE_SHAPE, TASTE_SHAPE)?;
        }
        let sum = taste.iter().sum::<f64>();
        let country = (!chance(rng, 0.01)).then_some(country);
        let taste = taste.map(|weight| weight / sum.max(f64::MIN_POSITIVE));
        Ok(Self { id: place as i64 + 1, name, country, signup, segment, rate, leave, spend, taste })
    }

    /// The factor that this customer likes most.
    fn passion(&self) -> &'static str {
        let strongest = (0..N_FACTORS).max_by(|a, b| self.taste[*a].total_cmp(&self.taste[*b]));
        FACTORS[strongest.unwrap_or(0)]
    }
}

/// `customers`, and what was planted in them.
pub(super) fn tables(all: &[Customer], ledger: &Ledger) -> Result<Vec<Table>> {
    let by_factor = || all.iter().flat_map(|customer| (0..N_FACTORS).map(move |factor| (customer, factor)));
    let alive = all.iter().zip(&ledger.left).map(|(customer, left)| customer.rate > 0.0 && *left >= END);
    Ok(vec![
        Table::of_shop(
            "customers",
            "Who signed up; lifetime_value is what they paid for orders, less what they sent back",
            vec![
                keys("customer_id", all.iter().map(|customer| customer.id)),
                texts("name", all.iter().map(|customer| &customer.name)),
                some_texts("country", all.iter().map(|customer| customer.country.map(|country| country.code))),
                times("signup_ts", all.iter().map(|customer| customer.signup)),
                money("lifetime_value", ledger.lifetime_values(all.len()).into_iter())?,
            ],
        )?,
        Table::of_truth(
            "truth_customers",
            "The planted segment and buying process: orders a year while a customer, probability to leave after an \
             order, whether still a customer on 2026-01-01, mean order value, and the leading factor of the taste",
            vec![
                keys("customer_id", all.iter().map(|customer| customer.id)),
                texts("segment", all.iter().map(|customer| customer.segment.name)),
                floats("purchase_rate", all.iter().map(|customer| customer.rate)),
                floats("dropout_probability", all.iter().map(|customer| customer.leave)),
                flags("alive", alive),
                floats("mean_spend", all.iter().map(|customer| customer.spend / 100.0)),
                texts("taste", all.iter().map(Customer::passion)),
            ],
        )?,
        Table::of_truth(
            "truth_tastes",
            "How much a customer likes each latent factor; the weights of a customer sum to 1",
            vec![
                keys("customer_id", by_factor().map(|(customer, _)| customer.id)),
                texts("factor", by_factor().map(|(_, factor)| FACTORS[factor])),
                floats("weight", by_factor().map(|(customer, factor)| customer.taste[factor])),
            ],
        )?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_one() {
        assert!((SEGMENTS.iter().map(|segment| segment.share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((COUNTRIES.iter().map(|country| country.share).sum::<f64>() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn people_are_as_their_segment_says() -> Result<()> {
        let all = Customer::sign_up(20_000, 3)?;
        for segment in &SEGMENTS {
            let members: Vec<_> = all.iter().filter(|customer| customer.segment.name == segment.name).collect();
            let n = members.len() as f64;
            let rate = members.iter().map(|customer| customer.rate).sum::<f64>() / n;
            let spend = members.iter().map(|customer| customer.spend).sum::<f64>() / n / 100.0;
            assert!((n / 20_000.0 - segment.share).abs() < 0.02);
            assert!((rate - segment.rate).abs() <= 0.05 * segment.rate, "{}: {rate}", segment.name);
            assert!((spend - segment.spend).abs() <= 0.05 * segment.spend, "{}: {spend}", segment.name);
        }
        assert!(all.iter().all(|customer| (customer.taste.iter().sum::<f64>() - 1.0).abs() < 1e-9));
        assert!(all.windows(2).all(|two| two[0].signup <= two[1].signup));
        Ok(())
    }
}
