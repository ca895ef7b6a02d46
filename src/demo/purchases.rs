//! Buying: when people order, when they stop, what goes into the basket, and what comes back.

use rand_chacha::ChaCha8Rng;

use super::calendar::{DAY, END, MINUTE, Moment, SECOND, Season, is_sale};
use super::columns::{Table, counts, keys, money, times};
use super::customers::{Customer, ORDER_SHAPE};
use super::fraud::{self, Pattern};
use super::products::Catalogue;
use super::random::{Concern, below, between, chance, gamma, stream, wait};
use crate::error::Result;

/// How strongly taste decides what is bought, in the exponent.
const TASTE: f64 = 5.5;
/// How far from a customer's usual price an item may be, in standard deviations of its logarithm.
const PRICE_SPREAD: f64 = 0.9;
/// Share of the items that anybody might have bought: by popularity alone.
const WHIM: f64 = 0.18;
/// Probability that a planted partner comes along.
const PARTNER: f64 = 0.45;
const MAX_LINES: usize = 8;
const DISCOUNTS: [i64; 4] = [10, 15, 20, 30];

/// One product in an order.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Its place in the catalogue.
    pub product: usize,
    pub quantity: i32,
    /// Price paid for one, in cents.
    pub unit_price: i64,
    /// When it came back, if it did.
    pub returned: Option<Moment>,
}

impl Line {
    pub(super) fn amount(&self) -> i64 {
        i64::from(self.quantity) * self.unit_price
    }
}

/// One purchase.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// The customer's place in the list.
    pub customer: usize,
    pub moment: Moment,
    pub lines: Vec<Line>,
    /// Set when a thief bought.
    pub fraud: Option<Pattern>,
}

impl Order {
    /// What was paid, in cents.
    pub(super) fn amount(&self) -> i64 {
        self.lines.iter().map(Line::amount).sum()
    }
}

/// All orders in the order of time, and when each customer left.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The key of an order is its place here, from 1.
    pub orders: Vec<Order>,
    /// By customer: when they left for good; [`END`] or later if they did not.
    pub left: Vec<Moment>,
}

impl Ledger {
    /// Lets every customer buy for two years.
    pub(super) fn open(customers: &[Customer], catalogue: &Catalogue, seed: u64) -> Result<Self> {
        let (usual, gifts) = (Season::of_the_shop(), Season::of_gifts());
        let mut orders = Vec::new();
        let mut left = Vec::with_capacity(customers.len());
        for (place, customer) in customers.iter().enumerate() {
            if customer.rate == 0.0 {
                left.push(END);
                continue;
            }
            let season = if customer.segment.gifts { &gifts } else { &usual };
            let likes = Likes::of(customer, catalogue);
            let mut rng = stream(seed, Concern::Purchases, place);
            let (moments, end) = purchase_times(customer, season, &mut rng);
            let first = orders.len();
            for moment in moments {
                let lines = basket(customer, &likes, catalogue, moment, &mut rng)?;
                orders.push(Order { customer: place, moment, lines, fraud: None });
            }
            left.push(end);
            fraud::strike(place, customer, &likes, catalogue, &mut orders, first, seed)?;
        }
        orders.sort_by_key(|order| (order.moment, order.customer));
        Ok(Self { orders, left })
    }

    /// By customer, in cents: what all orders cost less the lines that came back.
    pub(super) fn lifetime_values(&self, n_customers: usize) -> Vec<i64> {
        let mut values = vec![0; n_customers];
        for order in &self.orders {
            let kept = order.lines.iter().filter(|line| line.returned.is_none());
            values[order.customer] += kept.map(Line::amount).sum::<i64>();
        }
        values
    }

    /// Every line with the key of its order.
    pub(super) fn lines(&self) -> impl Iterator<Item = (i64, &Order, &Line)> {
        let orders = self.orders.iter().zip(1..);
        orders.flat_map(|(order, id)| order.lines.iter().map(move |line| (id, order, line)))
    }

    /// `orders` and `order_lines`.
    pub(super) fn tables(&self, customers: &[Customer], catalogue: &Catalogue) -> Result<Vec<Table>> {
        Ok(vec![
            Table::of_shop(
                "orders",
                "Who ordered when, and for how much; keys ascend in time",
                vec![
                    keys("order_id", (1..).take(self.orders.len())),
                    keys("customer_id", self.orders.iter().map(|order| customers[order.customer].id)),
                    times("order_ts", self.orders.iter().map(|order| order.moment)),
                    money("amount", self.orders.iter().map(Order::amount))?,
                ],
            )?,
            Table::of_shop(
                "order_lines",
                "What was in an order; unit_price is what was paid for one, so that quantity * unit_price sums to amount",
                vec![
                    keys("order_id", self.lines().map(|(id, _, _)| id)),
                    keys("product_id", self.lines().map(|(_, _, line)| catalogue.products[line.product].id)),
                    counts("quantity", self.lines().map(|(_, _, line)| line.quantity)),
                    money("unit_price", self.lines().map(|(_, _, line)| line.unit_price))?,
                ],
            )?,
        ])
    }
}

/// When a customer orders, and when they leave: [`END`] if they do not.
///
/// BG/NBD (Fader, Hardie & Lee 2005, "Counting Your Customers" the Easy Way): orders come as a Poisson process of rate
/// λ, and after each the customer leaves with probability p. As in the modified model of Batislam, Denizel & Filiztekin
/// (2007) they may leave after the very first.
fn purchase_times(customer: &Customer, season: &Season, rng: &mut ChaCha8Rng) -> (Vec<Moment>, Moment) {
    let mut moments = Vec::new();
    // Most sign up in order to buy; the others come back within days.
    let mut next = if chance(rng, 0.65) {
        Some(customer.signup + between(rng, 5.0, 45.0) as i64 * MINUTE)
    } else {
        season.after(customer.signup, 8.0 * wait(rng))
    };
    let days_between = 365.0 / customer.rate;
    while let Some(moment) = next.filter(|moment| *moment < END) {
        // Two orders are never at one moment, nor before the customer was known.
        let earliest = moments.last().map_or(customer.signup + 5 * MINUTE, |last: &i64| last + 10 * MINUTE);
        let moment = moment.max(earliest) + below(rng, 60) as i64 * SECOND;
        if moment >= END {
            break;
        }
        moments.push(moment);
        if chance(rng, customer.leave) {
            return (moments, moment);
        }
        next = season.after(moment, days_between * wait(rng));
    }
    (moments, END)
}

/// What a customer tends to buy: a distribution over the catalogue.
#[derive(Debug)]
pub(super) struct Likes {
    /// Sums of the weights up to each product: taste, price and popularity together.
    by_taste: Vec<f64>,
    /// The same by popularity alone.
    by_fame: Vec<f64>,
    /// What this customer usually pays for one item, in cents.
    pub usual_price: f64,
}

impl Likes {
    /// Softmax of taste · factors, times popularity, times how well the price fits.
    pub(super) fn of(customer: &Customer, catalogue: &Catalogue) -> Self {
        let usual_price = (customer.spend / 2.2).clamp(800.0, 9_000.0);
        let mut by_taste = Vec::with_capacity(catalogue.products.len());
        let mut by_fame = Vec::with_capacity(catalogue.products.len());
        let (mut taste_sum, mut fame_sum) = (0.0, 0.0);
        for product in &catalogue.products {
            let off = (product.price as f64 / usual_price).ln() / PRICE_SPREAD;
            taste_sum += product.popularity * (TASTE * fit(customer, &product.factors) - 0.5 * off * off).exp();
            fame_sum += product.popularity;
            by_taste.push(taste_sum);
            by_fame.push(fame_sum);
        }
        Self { by_taste, by_fame, usual_price }
    }

    /// A product that this customer takes, by its place in the catalogue.
    pub(super) fn choose(&self, rng: &mut ChaCha8Rng) -> usize {
        let sums = if chance(rng, WHIM) { &self.by_fame } else { &self.by_taste };
        draw(sums, rng)
    }

    /// A product that anybody might take.
    pub(super) fn choose_by_fame(&self, rng: &mut ChaCha8Rng) -> usize {
        draw(&self.by_fame, rng)
    }
}

fn draw(sums: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let at = between(rng, 0.0, sums.last().copied().unwrap_or(0.0));
    sums.partition_point(|sum| *sum <= at).min(sums.len().saturating_sub(1))
}

/// How well a product suits a customer: taste · factors, mostly between 0 and 1.5.
pub(super) fn fit(customer: &Customer, factors: &[f64]) -> f64 {
    customer.taste.iter().zip(factors).map(|(taste, factor)| taste * factor).sum()
}

/// Fills a basket until a budget is spent.
///
/// Gamma-gamma (Fader & Hardie 2013): the budget of an order is gamma around the customer's own mean.
fn basket(
    customer: &Customer,
    likes: &Likes,
    catalogue: &Catalogue,
    moment: Moment,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Line>> {
    let budget = gamma(rng, ORDER_SHAPE, customer.spend)?;
    let mut lines = fill(budget, likes, catalogue, rng);
    let eager = if is_sale(moment) { 0.25 } else { 0.0 };
    for line in &mut lines {
        let product = &catalogue.products[line.product];
        if chance(rng, customer.segment.discount + eager) {
            line.unit_price = product.price * (100 - DISCOUNTS[below(rng, DISCOUNTS.len())]) / 100;
        }
        // What does not suit or is not good goes back more often.
        let odds = product.category.returns * (1.6 - 0.6 * fit(customer, &product.factors)).max(0.4);
        let back = moment + (between(rng, 4.0, 24.0) * DAY as f64) as i64 / SECOND * SECOND;
        if chance(rng, odds * (-0.5 * product.quality).exp()) && back < END {
            line.returned = Some(back);
        }
    }
    Ok(lines)
}

/// Items at list price that cost about `budget` cents together; at least one.
pub(super) fn fill(budget: f64, likes: &Likes, catalogue: &Catalogue, rng: &mut ChaCha8Rng) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut left = budget;
    let mut add = |lines: &mut Vec<Line>, product: usize, quantity: i32| {
        let unit_price = catalogue.products[product].price;
        match lines.iter_mut().find(|line| line.product == product) {
            Some(line) => line.quantity += quantity,
            None => lines.push(Line { product, quantity, unit_price, returned: None }),
        }
        left -= unit_price as f64 * f64::from(quantity);
        left
    };
    let mut rest = budget;
    for _ in 0..3 * MAX_LINES {
        let wish = likes.choose(rng);
        let price = catalogue.products[wish].price as f64;
        // Too dear for what is left: look on. The first item may cost a little more than planned.
        let most = if lines.is_empty() { 1.25 * budget.max(700.0) } else { 1.15 * rest };
        if price > most {
            continue;
        }
        // Of cheap things one takes several.
        let several = if price < 0.2 * rest && chance(rng, 0.5) { 2 + below(rng, 2) as i32 } else { 1 };
        rest = add(&mut lines, wish, several);
        if let Some(partner) = catalogue.products[wish].partner
            && chance(rng, PARTNER)
        {
            rest = add(&mut lines, partner, 1);
        }
        if rest < 0.2 * budget || lines.len() >= MAX_LINES {
            break;
        }
    }
    if lines.is_empty() {
        // Nothing they like was cheap enough, so they take the cheapest of a few.
        let wishes: Vec<usize> = (0..12).map(|_| likes.choose_by_fame(rng)).collect();
        if let Some(cheapest) = wishes.into_iter().min_by_key(|wish| catalogue.products[*wish].price) {
            add(&mut lines, cheapest, 1);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Result<(Vec<Customer>, Catalogue, Ledger)> {
        let customers = Customer::sign_up(2_000, 5)?;
        let catalogue = Catalogue::stock(1.0, 5)?;
        let ledger = Ledger::open(&customers, &catalogue, 5)?;
        Ok((customers, catalogue, ledger))
    }

    #[test]
    fn orders_ascend_and_follow_the_signup() -> Result<()> {
        let (customers, _, ledger) = shop()?;
        assert!(ledger.orders.windows(2).all(|two| two[0].moment <= two[1].moment));
        for order in &ledger.orders {
            assert!(order.moment > customers[order.customer].signup && order.moment < END);
            assert!(!order.lines.is_empty() && order.amount() > 0);
        }
        Ok(())
    }

    #[test]
    fn baskets_cost_what_the_customer_spends() -> Result<()> {
        let (customers, _, ledger) = shop()?;
        let mut spent = vec![(0.0, 0.0); customers.len()];
        for order in ledger.orders.iter().filter(|order| order.fraud.is_none()) {
            spent[order.customer].0 += order.amount() as f64;
            spent[order.customer].1 += 1.0;
        }
        let ratios = customers.iter().zip(&spent).filter(|(_, (_, n))| *n >= 8.0);
        let ratios: Vec<f64> = ratios.map(|(customer, (sum, n))| sum / n / customer.spend).collect();
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        assert!((0.8..1.15).contains(&mean), "{mean}");
        assert!(ratios.iter().all(|ratio| (0.4..2.2).contains(ratio)));
        Ok(())
    }

    #[test]
    fn nobody_orders_after_they_left() -> Result<()> {
        let (_, _, ledger) = shop()?;
        let honest = ledger.orders.iter().filter(|order| order.fraud.is_none_or(|pattern| !pattern.is_planted_order()));
        assert!(honest.into_iter().all(|order| order.moment <= ledger.left[order.customer]));
        Ok(())
    }
}
