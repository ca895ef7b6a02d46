//! The demo shop: a generated, seeded web shop with planted truths, so that a fresh machine needs no download.
//!
//! How a shop comes to be, in the order of the files:
//!  1. `calendar`: two years, 2024-01-01 to 2026-01-01, with busy and quiet hours, weekdays and months.
//!  2. `products`: a catalogue in twelve categories; each product leans on six latent factors.
//!  3. `customers`: people with names, a segment, a buying rate, a budget and a taste over the same factors.
//!  4. `purchases`: each buys and drops out (BG/NBD), spends (gamma-gamma) and chooses by taste; some goods go back.
//!  5. `fraud`: a few thieves buy as well.
//!  6. `sessions`: what they looked at before they bought, and when they only looked.
//!  7. `reviews` and `payments`: what they wrote, how they paid.
//!
//! Whatever was planted is written down in the `demo.truth_*` tables, so that any claim about the data can be checked.

mod calendar;
mod columns;
mod customers;
mod fraud;
mod names;
mod payments;
mod phrases;
mod products;
mod purchases;
mod random;
mod reviews;
mod sessions;
mod words;

#[cfg(test)]
mod promises;

pub use columns::Table;

use crate::error::{Error, Result};

/// The seed of the shop that `cohort serve --demo` opens.
pub const SEED: u64 = 2026;

/// The largest scale that is generated in memory: half a million customers, 3.7 million orders.
/// Generating takes about 0.1 GB of memory and a second for each unit of scale.
pub const MAX_SCALE: f64 = 100.0;

/// Customers of a shop of scale 1.
const CUSTOMERS: f64 = 5_000.0;

/// Generates the shop. `scale` 1 is 5,000 customers, some 37,000 orders and 300 products; the same scale and seed give
/// the same bits.
pub fn shop(scale: f64, seed: u64) -> Result<Vec<Table>> {
    // Written so that NaN fails it, too.
    if !(scale > 0.0 && scale <= MAX_SCALE) {
        return Err(Error::invalid(format!("demo scale {scale} is not above 0 and at most {MAX_SCALE}")));
    }
    let n_customers = (CUSTOMERS * scale).round().max(1.0) as usize;

    let catalogue = products::Catalogue::stock(scale, seed)?;
    let customers = customers::Customer::sign_up(n_customers, seed)?;
    let ledger = purchases::Ledger::open(&customers, &catalogue, seed)?;
    let traffic = sessions::Traffic::watch(&customers, &catalogue, &ledger, seed)?;

    let mut tables = customers::tables(&customers, &ledger)?;
    tables.extend(catalogue.tables()?);
    tables.extend(ledger.tables(&customers, &catalogue)?);
    tables.extend(traffic.tables(&ledger)?);
    tables.extend(reviews::tables(&customers, &catalogue, &ledger, seed)?);
    tables.extend(payments::tables(&customers, &ledger, seed)?);
    Ok(tables)
}
