//! How orders were paid, and which payments were fraud.

use rand_chacha::ChaCha8Rng;

use super::calendar::{DAY, END, Moment, SECOND};
use super::columns::{Table, flags, keys, money, some_texts, texts, times};
use super::customers::Customer;
use super::fraud::Pattern;
use super::names::COUNTRIES;
use super::purchases::{Ledger, Order};
use super::random::{Concern, below, between, chance, stream, weighted};
use crate::error::Result;

const METHODS: [&str; 5] = ["card", "paypal", "wallet", "bank_transfer", "invoice"];
const CARD: &str = METHODS[0];

#[derive(Debug)]
struct Payment {
    method: &'static str,
    paid: Moment,
    /// Where the card is from; none for the other methods.
    card_country: Option<&'static str>,
}

impl Payment {
    fn of(order: &Order, customer: &Customer, rng: &mut ChaCha8Rng) -> Self {
        let thief = order.fraud.is_some_and(|pattern| pattern != Pattern::Chargeback);
        let home = customer.country.map(|country| country.code);
        let usual = match home {
            Some("DE" | "NL" | "SE") => [0.25, 0.32, 0.08, 0.10, 0.25],
            Some("US" | "GB" | "IE") => [0.62, 0.22, 0.15, 0.01, 0.0],
            _ => [0.52, 0.22, 0.12, 0.10, 0.04],
        };
        let shares = if thief { [0.80, 0.06, 0.12, 0.01, 0.01] } else { usual };
        let method = METHODS[weighted(rng, shares.into_iter())];
        let slow = match method {
            "bank_transfer" => between(rng, 0.2, 3.0),
            "invoice" => between(rng, 1.0, 12.0),
            _ => 0.0,
        };
        let promptly = order.moment + (3 + below(rng, 50) as i64) * SECOND;
        let paid = promptly + (slow * DAY as f64) as i64 / SECOND * SECOND;
        // What would be paid only after today was paid by card instead: every order has its payment.
        let (method, paid) = if paid < END { (method, paid) } else { (CARD, promptly.min(END - SECOND)) };
        let abroad = chance(rng, if thief { 0.55 } else { 0.04 });
        let elsewhere = COUNTRIES[weighted(rng, COUNTRIES.iter().map(|country| country.share.sqrt()))].code;
        let card_country = (method == CARD).then_some(if abroad { elsewhere } else { home.unwrap_or(elsewhere) });
        Self { method, paid, card_country }
    }
}

/// `payments`, one for each order, and what was wrong with some of them.
pub(super) fn tables(customers: &[Customer], ledger: &Ledger, seed: u64) -> Result<Vec<Table>> {
    let rng = &mut stream(seed, Concern::Payments, 0);
    let mut payments: Vec<(i64, &Order, Payment)> = ledger
        .orders
        .iter()
        .zip(1..)
        .map(|(order, id)| (id, order, Payment::of(order, &customers[order.customer], rng)))
        .collect();
    payments.sort_by_key(|(id, _, payment)| (payment.paid, *id));
    let frauds = || payments.iter().zip(1..).filter_map(|((_, order, _), id)| Some((id, order.fraud?)));
    Ok(vec![
        Table::of_shop(
            "payments",
            "How each order was paid; card_country is where the card is from",
            vec![
                keys("payment_id", (1..).take(payments.len())),
                keys("order_id", payments.iter().map(|(order, _, _)| *order)),
                money("amount", payments.iter().map(|(_, order, _)| order.amount()))?,
                texts("method", payments.iter().map(|(_, _, payment)| payment.method)),
                some_texts("card_country", payments.iter().map(|(_, _, payment)| payment.card_country)),
                times("paid_ts", payments.iter().map(|(_, _, payment)| payment.paid)),
                flags("is_fraud", payments.iter().map(|(_, order, _)| order.fraud.is_some())),
            ],
        )?,
        Table::of_truth(
            "truth_payments",
            "How the fraudulent payments came about: stolen_card, account_takeover, card_testing or chargeback",
            vec![
                keys("payment_id", frauds().map(|(id, _)| id)),
                texts("fraud_pattern", frauds().map(|(_, pattern)| pattern.name())),
            ],
        )?,
    ])
}
