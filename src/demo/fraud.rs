//! Theft: a few orders that the customer never made, or will never pay for.

use super::calendar::{DAY, END, MINUTE, Moment, SECOND, at_hour};
use super::customers::Customer;
use super::products::Catalogue;
use super::purchases::{Likes, Line, Order, fill};
use super::random::{Concern, below, between, chance, stream};
use crate::error::Result;

/// How a fraud was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// A new account buys dear things at night with somebody else's card.
    StolenCard,
    /// A known account suddenly spends several times its usual, on what sells well elsewhere.
    Takeover,
    /// Small orders within minutes, to see whether a card works.
    CardTesting,
    /// An ordinary order whose payment is called back: nothing gives it away.
    Chargeback,
}

impl Pattern {
    pub(super) fn name(self) -> &'static str {
        match self {
            Pattern::StolenCard => "stolen_card",
            Pattern::Takeover => "account_takeover",
            Pattern::CardTesting => "card_testing",
            Pattern::Chargeback => "chargeback",
        }
    }

    /// Whether the thief made the order, rather than an honest order going wrong.
    #[cfg(test)]
    pub(super) fn is_planted_order(self) -> bool {
        self != Pattern::Chargeback
    }
}

/// Lets thieves at one customer, whose orders are `orders[first..]`.
pub(super) fn strike(
    place: usize,
    customer: &Customer,
    likes: &Likes,
    catalogue: &Catalogue,
    orders: &mut Vec<Order>,
    first: usize,
    seed: u64,
) -> Result<()> {
    let rng = &mut stream(seed, Concern::Fraud, place);
    for order in &mut orders[first..] {
        if chance(rng, 0.000_4) {
            order.fraud = Some(Pattern::Chargeback);
        }
    }
    // An account that was opened to steal: its only order, within hours of signing up.
    if orders.len() == first + 1 && chance(rng, 0.085) {
        let budget = likes.usual_price * between(rng, 6.0, 20.0);
        let night = at_hour(customer.signup, below(rng, 6) as i64, below(rng, 3_600) as i64 * SECOND);
        let moment = if night > customer.signup + 5 * MINUTE { night } else { night + DAY };
        let moment = if chance(rng, 0.7) { moment } else { orders[first].moment };
        if moment < END {
            let lines = loot(budget, likes, catalogue, rng);
            orders[first] = Order { customer: place, moment, lines, fraud: Some(Pattern::StolenCard) };
        }
    }
    let orders_before = orders.len() - first;
    if orders_before > 0 && chance(rng, 0.018) {
        let budget = customer.spend * between(rng, 2.5, 7.0);
        let day = between(rng, 2.0, 400.0) as i64 * DAY;
        let hour = if chance(rng, 0.7) { below(rng, 6) } else { below(rng, 24) } as i64;
        let moment = at_hour(orders[first].moment + day, hour, below(rng, 3_600) as i64 * SECOND);
        if moment < END {
            let lines = loot(budget, likes, catalogue, rng);
            orders.push(Order { customer: place, moment, lines, fraud: Some(Pattern::Takeover) });
        }
    }
    if orders_before > 0 && chance(rng, 0.002_5) {
        let mut moment = orders[first].moment + between(rng, 1.0, 300.0) as i64 * DAY;
        for _ in 0..3 + below(rng, 4) {
            moment += between(rng, 1.0, 9.0) as Moment * MINUTE + below(rng, 60) as i64 * SECOND;
            if moment < END {
                let lines = fill(900.0, likes, catalogue, rng);
                orders.push(Order { customer: place, moment, lines, fraud: Some(Pattern::CardTesting) });
            }
        }
    }
    Ok(())
}

/// What thieves take: known goods that sell again, and two of the dear ones.
fn loot(budget: f64, likes: &Likes, catalogue: &Catalogue, rng: &mut rand_chacha::ChaCha8Rng) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut left = budget;
    for _ in 0..12 {
        let product = likes.choose_by_fame(rng);
        let unit_price = catalogue.products[product].price;
        let is_new = lines.iter().all(|line| line.product != product);
        if is_new && unit_price >= 4_000 && (lines.is_empty() || unit_price as f64 <= left) {
            let quantity = if chance(rng, 0.4) { 2 } else { 1 };
            left -= unit_price as f64 * f64::from(quantity);
            lines.push(Line { product, quantity, unit_price, returned: None });
        }
        if left <= 0.0 || lines.len() == 4 {
            break;
        }
    }
    if lines.is_empty() { fill(budget, likes, catalogue, rng) } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::purchases::Ledger;

    #[test]
    fn every_pattern_happens_and_stays_rare() -> Result<()> {
        let customers = Customer::sign_up(5_000, 9)?;
        let catalogue = Catalogue::stock(1.0, 9)?;
        let ledger = Ledger::open(&customers, &catalogue, 9)?;
        let count = |pattern| ledger.orders.iter().filter(|order| order.fraud == Some(pattern)).count();
        let counts = [Pattern::StolenCard, Pattern::Takeover, Pattern::CardTesting, Pattern::Chargeback].map(count);
        assert!(counts.iter().all(|n| *n >= 5), "{counts:?}");
        let share = counts.iter().sum::<usize>() as f64 / ledger.orders.len() as f64;
        assert!((0.005..=0.01).contains(&share), "{share}: {counts:?}");
        Ok(())
    }
}
