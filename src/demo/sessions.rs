//! The click log: visits, what was looked at in them, and the interactions a recommender learns from.

use rand_chacha::ChaCha8Rng;

use super::calendar::{DAY, END, MINUTE, Moment, SECOND, Season};
use super::columns::{Table, counts, keys, money, some_keys, texts, times};
use super::customers::Customer;
use super::products::Catalogue;
use super::purchases::{Ledger, Likes};
use super::random::{Concern, below, chance, pick, stream, wait};
use crate::error::Result;

const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];

/// What somebody did on the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Click {
    Home,
    Search,
    View,
    Cart,
    Purchase,
}

impl Click {
    fn name(self) -> &'static str {
        match self {
            Click::Home => "home",
            Click::Search => "search",
            Click::View => "view",
            Click::Cart => "cart",
            Click::Purchase => "purchase",
        }
    }
}

#[derive(Debug)]
struct Event {
    moment: Moment,
    /// The session's place in [`Traffic::sessions`].
    session: usize,
    click: Click,
    /// The product's place in the catalogue; none on the home page and in searches.
    product: Option<usize>,
    /// Pieces, for carts and purchases; 1 for views.
    quantity: i32,
}

#[derive(Debug)]
struct Session {
    customer: usize,
    started: Moment,
    ended: Moment,
    device: &'static str,
    n_events: i32,
}

/// All visits and clicks, each in the order of time.
#[derive(Debug)]
pub(super) struct Traffic {
    sessions: Vec<Session>,
    events: Vec<Event>,
    /// Keys of the customers and products, by place.
    customer_ids: Vec<i64>,
    product_ids: Vec<i64>,
}

impl Traffic {
    /// Writes down how every order was arrived at, and the visits that led to none.
    pub(super) fn watch(customers: &[Customer], catalogue: &Catalogue, ledger: &Ledger, seed: u64) -> Result<Self> {
        let mut orders_of: Vec<Vec<usize>> = vec![Vec::new(); customers.len()];
        for (place, order) in ledger.orders.iter().enumerate() {
            orders_of[order.customer].push(place);
        }
        let season = Season::of_the_shop();
        let (mut sessions, mut events) = (Vec::new(), Vec::new());
        for (place, customer) in customers.iter().enumerate() {
            let rng = &mut stream(seed, Concern::Sessions, place);
            let likes = Likes::of(customer, catalogue);
            let favourite = pick(rng, &["mobile", "mobile", "mobile", "desktop", "desktop", "tablet"]);
            let mut log =
                Log { customer: place, likes: &likes, favourite, sessions: &mut sessions, events: &mut events };
            for order in &orders_of[place] {
                log.buy(customer, ledger, *order, rng);
            }
            // Whoever has left still looks in for a while.
            let until = END.min(ledger.left[place].saturating_add(20 * DAY));
            let days_between = 365.0 / customer.segment.visits;
            let mut next = season.after(customer.signup, days_between * wait(rng));
            while let Some(moment) = next.filter(|moment| *moment < until) {
                log.browse(moment, rng);
                next = season.after(moment + 30 * MINUTE, days_between * wait(rng));
            }
        }
        let mut traffic = Self {
            sessions,
            events,
            customer_ids: customers.iter().map(|customer| customer.id).collect(),
            product_ids: catalogue.products.iter().map(|product| product.id).collect(),
        };
        traffic.sort();
        Ok(traffic)
    }

    /// Puts sessions and events in the order of time, and tells the events where their sessions went.
    fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.sessions.len()).collect();
        order.sort_by_key(|place| (self.sessions[*place].started, self.sessions[*place].customer, *place));
        let mut place_of = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place_of[*old] = new;
        }
        let mut sessions: Vec<Option<Session>> = self.sessions.drain(..).map(Some).collect();
        self.sessions = order.iter().filter_map(|old| sessions[*old].take()).collect();
        for event in &mut self.events {
            event.session = place_of[event.session];
        }
        // A stable sort: the clicks of one second stay as they were made.
        self.events.sort_by_key(|event| (event.moment, event.session));
    }

    /// `sessions`, `events`, `interactions`, and which of these undo which purchase.
    pub(super) fn tables(&self, ledger: &Ledger) -> Result<Vec<Table>> {
        let (sessions, events) = (&self.sessions, &self.events);
        let customer_of = |event: &Event| self.customer_ids[sessions[event.session].customer];
        let mut tables = vec![
            Table::of_shop(
                "sessions",
                "Visits to the site; n_events counts the rows of events",
                vec![
                    keys("session_id", (1..).take(sessions.len())),
                    keys("customer_id", sessions.iter().map(|session| self.customer_ids[session.customer])),
                    times("started_ts", sessions.iter().map(|session| session.started)),
                    times("ended_ts", sessions.iter().map(|session| session.ended)),
                    texts("device", sessions.iter().map(|session| session.device)),
                    counts("n_events", sessions.iter().map(|session| session.n_events)),
                ],
            )?,
            Table::of_shop(
                "events",
                "Clicks: home, search, view, cart and purchase; the first two have no product",
                vec![
                    keys("event_id", (1..).take(events.len())),
                    keys("session_id", events.iter().map(|event| event.session as i64 + 1)),
                    keys("customer_id", events.iter().map(customer_of)),
                    some_keys("product_id", events.iter().map(|event| Some(self.product_ids[event.product?]))),
                    texts("event_type", events.iter().map(|event| event.click.name())),
                    times("event_ts", events.iter().map(|event| event.moment)),
                ],
            )?,
        ];
        tables.extend(self.interactions(ledger)?);
        Ok(tables)
    }

    /// The clicks that have a product, and the returns.
    fn interactions(&self, ledger: &Ledger) -> Result<Vec<Table>> {
        let mut deeds: Vec<Deed> = self
            .events
            .iter()
            .filter_map(|event| {
                Some(Deed {
                    moment: event.moment,
                    customer: self.sessions[event.session].customer,
                    product: event.product?,
                    name: event.click.name(),
                    quantity: event.quantity,
                    undoes: None,
                })
            })
            .collect();
        deeds.extend(ledger.lines().filter_map(|(id, order, line)| {
            Some(Deed {
                moment: line.returned?,
                customer: order.customer,
                product: line.product,
                name: "return",
                quantity: -line.quantity,
                undoes: Some((id, line.amount())),
            })
        }));
        deeds.sort_by_key(|deed| deed.moment);
        let returns = || deeds.iter().zip(1..).filter_map(|(deed, id)| Some((id, deed, deed.undoes?)));
        Ok(vec![
            Table::of_shop(
                "interactions",
                "What people did with products: view, cart, purchase (one for each order line) and return, which has a \
                 negative quantity",
                vec![
                    keys("interaction_id", (1..).take(deeds.len())),
                    keys("customer_id", deeds.iter().map(|deed| self.customer_ids[deed.customer])),
                    keys("product_id", deeds.iter().map(|deed| self.product_ids[deed.product])),
                    texts("event_type", deeds.iter().map(|deed| deed.name)),
                    times("event_ts", deeds.iter().map(|deed| deed.moment)),
                    counts("quantity", deeds.iter().map(|deed| deed.quantity)),
                ],
            )?,
            Table::of_truth(
                "truth_returns",
                "The order line that a return interaction undoes, and what it had cost",
                vec![
                    keys("interaction_id", returns().map(|(id, _, _)| id)),
                    keys("order_id", returns().map(|(_, _, (order, _))| order)),
                    keys("product_id", returns().map(|(_, deed, _)| self.product_ids[deed.product])),
                    counts("quantity", returns().map(|(_, deed, _)| -deed.quantity)),
                    money("amount", returns().map(|(_, _, (_, amount))| amount))?,
                ],
            )?,
        ])
    }
}

/// One interaction.
#[derive(Debug)]
struct Deed {
    moment: Moment,
    customer: usize,
    product: usize,
    name: &'static str,
    quantity: i32,
    /// For a return: the order's key and the cents that the line had cost.
    undoes: Option<(i64, i64)>,
}

/// The visits of one customer, written into the log of all.
struct Log<'a> {
    customer: usize,
    likes: &'a Likes,
    favourite: &'static str,
    sessions: &'a mut Vec<Session>,
    events: &'a mut Vec<Event>,
}

impl Log<'_> {
    /// A visit that ends in an order: look around, fill the cart, pay.
    fn buy(&mut self, customer: &Customer, ledger: &Ledger, order: usize, rng: &mut ChaCha8Rng) {
        let order = &ledger.orders[order];
        let mut clicks = self.arrive(rng);
        for _ in 0..below(rng, 2) {
            clicks.push((Click::View, Some(self.likes.choose(rng)), 1));
        }
        for line in &order.lines {
            if chance(rng, 0.6) {
                clicks.push((Click::View, Some(line.product), 1));
            }
            clicks.push((Click::Cart, Some(line.product), line.quantity));
        }
        let spread = (1 + clicks.len() as i64) * (20 + below(rng, 70) as i64) * SECOND;
        let started = (order.moment - spread).max(customer.signup);
        let n = clicks.len() as i64;
        let step = (order.moment - started) / (n + 1) / SECOND * SECOND;
        let session = self.sessions.len();
        for (i, (click, product, quantity)) in (0..).zip(clicks) {
            self.events.push(Event { moment: started + i * step, session, click, product, quantity });
        }
        for line in &order.lines {
            let (product, quantity) = (Some(line.product), line.quantity);
            self.events.push(Event { moment: order.moment, session, click: Click::Purchase, product, quantity });
        }
        let n_events = n as i32 + order.lines.len() as i32;
        let ended = (order.moment + (5 + below(rng, 90) as i64) * SECOND).min(END - SECOND);
        let device = if order.fraud.is_some() && chance(rng, 0.5) { "desktop" } else { self.device(rng) };
        self.sessions.push(Session { customer: self.customer, started, ended, device, n_events });
    }

    /// A visit without an order; now and then something is left in the cart.
    fn browse(&mut self, started: Moment, rng: &mut ChaCha8Rng) {
        let mut clicks = self.arrive(rng);
        for _ in 0..1 + below(rng, 3) {
            let product = Some(self.likes.choose(rng));
            clicks.push((Click::View, product, 1));
            if chance(rng, 0.08) {
                clicks.push((Click::Cart, product, 1));
            }
        }
        let session = self.sessions.len();
        let mut moment = started;
        let mut n_events = 0;
        for (click, product, quantity) in clicks {
            if moment < END {
                self.events.push(Event { moment, session, click, product, quantity });
                n_events += 1;
                moment += (8 + below(rng, 120) as i64) * SECOND;
            }
        }
        let (ended, device) = (moment.min(END - SECOND), self.device(rng));
        self.sessions.push(Session { customer: self.customer, started, ended, device, n_events });
    }

    /// By the front door, by a search, or straight to a product.
    fn arrive(&self, rng: &mut ChaCha8Rng) -> Vec<(Click, Option<usize>, i32)> {
        let mut clicks = Vec::new();
        if chance(rng, 0.55) {
            clicks.push((Click::Home, None, 1));
        }
        if chance(rng, 0.4) {
            clicks.push((Click::Search, None, 1));
        }
        clicks
    }

    fn device(&self, rng: &mut ChaCha8Rng) -> &'static str {
        if chance(rng, 0.85) { self.favourite } else { pick(rng, &DEVICES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_hold_their_events() -> Result<()> {
        let customers = Customer::sign_up(500, 4)?;
        let catalogue = Catalogue::stock(0.1, 4)?;
        let ledger = Ledger::open(&customers, &catalogue, 4)?;
        let traffic = Traffic::watch(&customers, &catalogue, &ledger, 4)?;
        let mut held = vec![0; traffic.sessions.len()];
        for event in &traffic.events {
            let session = &traffic.sessions[event.session];
            assert!(session.started <= event.moment && event.moment <= session.ended && session.ended < END);
            held[event.session] += 1;
        }
        assert!(held.iter().zip(&traffic.sessions).all(|(n, session)| *n == session.n_events && *n > 0));
        assert!(traffic.sessions.windows(2).all(|two| two[0].started <= two[1].started));
        assert!(traffic.events.windows(2).all(|two| two[0].moment <= two[1].moment));
        Ok(())
    }

    #[test]
    fn carts_come_before_purchases() -> Result<()> {
        let customers = Customer::sign_up(200, 4)?;
        let catalogue = Catalogue::stock(0.1, 4)?;
        let ledger = Ledger::open(&customers, &catalogue, 4)?;
        let traffic = Traffic::watch(&customers, &catalogue, &ledger, 4)?;
        for bought in traffic.events.iter().filter(|event| event.click == Click::Purchase) {
            assert!(traffic.events.iter().any(|cart| cart.click == Click::Cart
                && (cart.session, cart.product, cart.quantity) == (bought.session, bought.product, bought.quantity)
                && cart.moment < bought.moment));
        }
        Ok(())
    }
}
