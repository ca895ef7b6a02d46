//! What the demo shop promises to every room that uses it, checked on the tables as they come out, at scale 1.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::record_batch::RecordBatch;
use rand_chacha::ChaCha8Rng;

use super::calendar::{DAY, END, START, hour};
use super::random::{Concern, below, stream, weighted};
use super::{MAX_SCALE, SEED, Table, shop};

static SHOP: LazyLock<Vec<Table>> = LazyLock::new(|| shop(1.0, SEED).unwrap());

/// A table of the shop as one batch.
fn table(name: &str) -> RecordBatch {
    let table = SHOP.iter().find(|table| table.name == name).unwrap();
    concat_batches(&table.batches[0].schema(), &table.batches).unwrap()
}

fn keys(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn counts(batch: &RecordBatch, name: &str) -> Vec<i32> {
    batch.column_by_name(name).unwrap().as_primitive::<Int32Type>().values().to_vec()
}

fn times(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

fn floats(batch: &RecordBatch, name: &str) -> Vec<f64> {
    batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

fn cents(batch: &RecordBatch, name: &str) -> Vec<i128> {
    batch.column_by_name(name).unwrap().as_primitive::<Decimal128Type>().values().to_vec()
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

fn flags(batch: &RecordBatch, name: &str) -> Vec<bool> {
    batch.column_by_name(name).unwrap().as_boolean().iter().map(Option::unwrap).collect()
}

fn ascends(values: &[i64]) -> bool {
    values.windows(2).all(|two| two[0] <= two[1])
}

// What the tables are.

#[test]
fn tables_have_the_columns_that_were_promised() {
    let (key, text, whole) = (DataType::Int64, DataType::Utf8, DataType::Int32);
    let money = DataType::Decimal128(12, 2);
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let (float, flag) = (DataType::Float64, DataType::Boolean);
    let promised: &[(&str, &[(&str, &DataType)])] = &[
        (
            "public.customers",
            &[
                ("customer_id", &key),
                ("name", &text),
                ("country", &text),
                ("signup_ts", &time),
                ("lifetime_value", &money),
            ],
        ),
        (
            "demo.truth_customers",
            &[
                ("customer_id", &key),
                ("segment", &text),
                ("purchase_rate", &float),
                ("dropout_probability", &float),
                ("alive", &flag),
                ("mean_spend", &float),
                ("taste", &text),
            ],
        ),
        ("demo.truth_tastes", &[("customer_id", &key), ("factor", &text), ("weight", &float)]),
        (
            "public.products",
            &[("product_id", &key), ("name", &text), ("category", &text), ("price", &money), ("description", &text)],
        ),
        ("demo.truth_products", &[("product_id", &key), ("factor", &text), ("weight", &float)]),
        ("demo.truth_quality", &[("product_id", &key), ("quality", &float), ("popularity", &float)]),
        ("demo.truth_pairs", &[("product_a", &key), ("product_b", &key)]),
        ("public.orders", &[("order_id", &key), ("customer_id", &key), ("order_ts", &time), ("amount", &money)]),
        (
            "public.order_lines",
            &[("order_id", &key), ("product_id", &key), ("quantity", &whole), ("unit_price", &money)],
        ),
        (
            "public.sessions",
            &[
                ("session_id", &key),
                ("customer_id", &key),
                ("started_ts", &time),
                ("ended_ts", &time),
                ("device", &text),
                ("n_events", &whole),
            ],
        ),
        (
            "public.events",
            &[
                ("event_id", &key),
                ("session_id", &key),
                ("customer_id", &key),
                ("product_id", &key),
                ("event_type", &text),
                ("event_ts", &time),
            ],
        ),
        (
            "public.interactions",
            &[
                ("interaction_id", &key),
                ("customer_id", &key),
                ("product_id", &key),
                ("event_type", &text),
                ("event_ts", &time),
                ("quantity", &whole),
            ],
        ),
        (
            "demo.truth_returns",
            &[
                ("interaction_id", &key),
                ("order_id", &key),
                ("product_id", &key),
                ("quantity", &whole),
                ("amount", &money),
            ],
        ),
        (
            "public.reviews",
            &[
                ("review_id", &key),
                ("customer_id", &key),
                ("product_id", &key),
                ("rating", &whole),
                ("title", &text),
                ("body", &text),
                ("review_ts", &time),
            ],
        ),
        ("demo.truth_reviews", &[("review_id", &key), ("sentiment", &text), ("aspect", &text)]),
        (
            "public.payments",
            &[
                ("payment_id", &key),
                ("order_id", &key),
                ("amount", &money),
                ("method", &text),
                ("card_country", &text),
                ("paid_ts", &time),
                ("is_fraud", &flag),
            ],
        ),
        ("demo.truth_payments", &[("payment_id", &key), ("fraud_pattern", &text)]),
    ];
    assert_eq!(SHOP.len(), promised.len());
    for (table, (name, columns)) in SHOP.iter().zip(promised) {
        assert_eq!(format!("{}.{}", table.schema, table.name), *name);
        for batch in &table.batches {
            let schema = batch.schema();
            let found: Vec<_> =
                schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
            assert_eq!(&found, columns, "{name}");
        }
        assert!(!table.comment.is_empty());
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let rows = |seed| shop(0.05, seed).unwrap().into_iter().map(|table| table.batches).collect::<Vec<_>>();
    assert_eq!(rows(1), rows(1));
    assert_ne!(rows(1), rows(2));
}

#[test]
fn any_scale_within_bounds_works_and_no_other() {
    for scale in [1e-9, 0.000_2, 0.01] {
        let tables = shop(scale, SEED).unwrap();
        assert_eq!(tables.len(), SHOP.len());
        assert!(tables[0].batches[0].num_rows() >= 1);
    }
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, MAX_SCALE * 1.01] {
        let error = shop(scale, SEED).unwrap_err();
        assert!(error.message.contains("demo scale"), "{}", error.message);
    }
}

#[test]
fn sizes_are_as_announced() {
    let rows = |name: &str| table(name).num_rows();
    assert_eq!(rows("customers"), 5_000);
    assert_eq!(rows("products"), 300);
    assert!((20_000..45_000).contains(&rows("orders")), "{}", rows("orders"));
    assert!((100_000..450_000).contains(&rows("events")), "{}", rows("events"));
    assert_eq!(rows("truth_pairs"), 12);
    let reviewed = rows("reviews") as f64 / rows("order_lines") as f64;
    assert!((0.10..0.15).contains(&reviewed), "{reviewed}");
}

#[test]
fn keys_ascend_in_time_within_the_window() {
    let clocks = [
        ("customers", "customer_id", "signup_ts"),
        ("orders", "order_id", "order_ts"),
        ("interactions", "interaction_id", "event_ts"),
        ("events", "event_id", "event_ts"),
        ("sessions", "session_id", "started_ts"),
        ("reviews", "review_id", "review_ts"),
        ("payments", "payment_id", "paid_ts"),
    ];
    for (name, key, time) in clocks {
        let batch = table(name);
        assert!(keys(&batch, key).into_iter().eq(1..=batch.num_rows() as i64), "{name}");
        let moments = times(&batch, time);
        assert!(ascends(&moments) && moments.iter().all(|moment| (START..END).contains(moment)), "{name}");
    }
}

#[test]
fn nulls_are_only_where_they_would_be() {
    let may = [("customers", "country"), ("events", "product_id"), ("reviews", "title"), ("payments", "card_country")];
    for here in SHOP.iter() {
        let batch = table(here.name);
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let expected = may.contains(&(here.name, field.name().as_str()));
            assert_eq!(column.null_count() > 0, expected, "{}.{}", here.name, field.name());
        }
    }
}

#[test]
fn names_and_reviews_are_of_many_scripts() {
    let names: Vec<_> = texts(&table("customers"), "name").into_iter().flatten().collect();
    assert!(names.iter().any(|name| name.contains('\'')));
    assert!(names.iter().any(|name| name.contains('ü')));
    assert!(names.iter().any(|name| name.chars().all(|letter| !letter.is_ascii())));
    let bodies: Vec<_> = texts(&table("reviews"), "body").into_iter().flatten().collect();
    assert!(bodies.iter().any(|body| body.contains('👍')) && bodies.iter().any(|body| body.contains('。')));
    let countries: HashSet<_> = texts(&table("customers"), "country").into_iter().flatten().collect();
    assert!(countries.len() >= 15);
}

// That the books balance.

#[test]
fn every_cent_is_accounted_for() {
    let (orders, lines, payments) = (table("orders"), table("order_lines"), table("payments"));
    let mut sums = vec![0; orders.num_rows()];
    let prices = cents(&lines, "unit_price");
    for ((order, quantity), price) in keys(&lines, "order_id").iter().zip(counts(&lines, "quantity")).zip(prices) {
        assert!(quantity > 0 && price > 0);
        sums[*order as usize - 1] += i128::from(quantity) * price;
    }
    let amounts = cents(&orders, "amount");
    assert_eq!(sums, amounts);

    let paid: BTreeMap<_, _> = keys(&payments, "order_id").into_iter().zip(cents(&payments, "amount")).collect();
    assert!(paid.into_iter().eq((1..).zip(amounts.iter().copied())));

    let buyers = keys(&orders, "customer_id");
    let mut values = vec![0; table("customers").num_rows()];
    for (customer, amount) in buyers.iter().zip(&amounts) {
        values[*customer as usize - 1] += amount;
    }
    let returns = table("truth_returns");
    for (order, amount) in keys(&returns, "order_id").iter().zip(cents(&returns, "amount")) {
        values[buyers[*order as usize - 1] as usize - 1] -= amount;
    }
    assert_eq!(values, cents(&table("customers"), "lifetime_value"));
    assert!(values.iter().filter(|value| **value == 0).count() > 100);
}

#[test]
fn every_line_is_an_interaction_and_every_return_undoes_one() {
    let (orders, lines, deeds) = (table("orders"), table("order_lines"), table("interactions"));
    let (buyers, moments) = (keys(&orders, "customer_id"), times(&orders, "order_ts"));
    let products = keys(&lines, "product_id");
    let sold = keys(&lines, "order_id").into_iter().zip(products).zip(counts(&lines, "quantity"));
    let mut sold: Vec<_> = sold
        .map(|((order, product), quantity)| {
            let order = order as usize - 1;
            (buyers[order], product, moments[order], quantity)
        })
        .collect();
    let kinds = texts(&deeds, "event_type");
    let (who, what) = (keys(&deeds, "customer_id"), keys(&deeds, "product_id"));
    let (when, pieces) = (times(&deeds, "event_ts"), counts(&deeds, "quantity"));
    let of = |kind: &str| {
        let rows = (0..kinds.len()).filter(|row| kinds[*row].as_deref() == Some(kind));
        rows.map(|row| (who[row], what[row], when[row], pieces[row])).collect::<Vec<_>>()
    };
    let mut bought = of("purchase");
    sold.sort_unstable();
    bought.sort_unstable();
    assert_eq!(sold, bought);

    let share = of("return").len() as f64 / bought.len() as f64;
    assert!((0.03..0.12).contains(&share), "{share}");
    for (customer, product, moment, quantity) in of("return").into_iter().take(300) {
        let undone = |b: &&(i64, i64, i64, i32)| (b.0, b.1, b.3) == (customer, product, -quantity) && b.2 < moment;
        assert!(bought.iter().any(|line| undone(&line)));
    }
}

// That there is something true to find.

/// By customer who ordered before `until`: days since the last order, orders, days since the first, money.
fn features(until: i64) -> BTreeMap<i64, [f64; 4]> {
    let orders = table("orders");
    let rows = keys(&orders, "customer_id").into_iter().zip(times(&orders, "order_ts")).zip(cents(&orders, "amount"));
    let mut features = BTreeMap::new();
    for ((customer, moment), amount) in rows.filter(|((_, moment), _)| *moment < until) {
        let days = (until - moment) as f64 / DAY as f64;
        let row = features.entry(customer).or_insert([days, 0.0, days, 0.0]);
        row[0] = days;
        row[1] += 1.0;
        row[3] += amount as f64 / 100.0;
    }
    features
}

fn standardise<const N: usize>(rows: &mut [[f64; N]]) {
    let n = rows.len() as f64;
    for column in 0..N {
        let mean = rows.iter().map(|row| row[column]).sum::<f64>() / n;
        let deviation = (rows.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>() / n).sqrt();
        rows.iter_mut().for_each(|row| row[column] = (row[column] - mean) / deviation);
    }
}

fn distance<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// Lloyd's k-means from the best of twenty k-means++ starts.
fn kmeans<const N: usize>(rows: &[[f64; N]], k: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let nearest = |centres: &[[f64; N]], row: &[f64; N]| {
        (0..centres.len()).min_by(|a, b| distance(&centres[*a], row).total_cmp(&distance(&centres[*b], row))).unwrap()
    };
    let runs = (0..20).map(|_| {
        let mut centres = vec![rows[below(rng, rows.len())]];
        while centres.len() < k {
            let far = rows.iter().map(|row| distance(row, &centres[nearest(&centres, row)]));
            centres.push(rows[weighted(rng, far)]);
        }
        for _ in 0..40 {
            let mut sums = vec![([0.0; N], 0.0); k];
            for row in rows {
                let sum = &mut sums[nearest(&centres, row)];
                sum.0.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                sum.1 += 1.0;
            }
            for (centre, (sum, n)) in centres.iter_mut().zip(sums).filter(|(_, (_, n))| *n > 0.0) {
                *centre = sum.map(|sum| sum / n);
            }
        }
        let inertia: f64 = rows.iter().map(|row| distance(row, &centres[nearest(&centres, row)])).sum();
        (inertia, rows.iter().map(|row| nearest(&centres, row)).collect())
    });
    runs.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
}

/// Agreement of two partitions beyond chance (Hubert & Arabie 1985).
fn adjusted_rand_index(a: &[usize], b: &[usize]) -> f64 {
    let pairs = |n: f64| n * (n - 1.0) / 2.0;
    let sizes = |labels: &mut dyn Iterator<Item = (usize, usize)>| {
        let mut sizes: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        labels.for_each(|label| *sizes.entry(label).or_default() += 1.0);
        sizes.values().map(|n| pairs(*n)).sum::<f64>()
    };
    let both = sizes(&mut a.iter().copied().zip(b.iter().copied()));
    let (in_a, in_b) = (sizes(&mut a.iter().map(|a| (*a, 0))), sizes(&mut b.iter().map(|b| (0, *b))));
    let expected = in_a * in_b / pairs(a.len() as f64);
    (both - expected) / (0.5 * (in_a + in_b) - expected)
}

#[test]
fn kmeans_finds_the_segments() {
    let truth = table("truth_customers");
    let segments = texts(&truth, "segment");
    let names: Vec<_> = segments.iter().flatten().collect::<BTreeSet<_>>().into_iter().collect();
    let features = features(END);
    let planted: Vec<usize> = features
        .keys()
        .map(|customer| names.iter().position(|name| segments[*customer as usize - 1].as_ref() == Some(name)).unwrap())
        .collect();
    // With and without the logarithm of recency: people do either.
    for curve in [f64::ln_1p, f64::abs] {
        let mut rows: Vec<[f64; 4]> = features
            .values()
            .map(|[recency, orders, _, money]| [curve(*recency), orders.ln(), money.ln(), (money / orders).ln()])
            .collect();
        standardise(&mut rows);
        // All segments but the window shoppers, who have no orders.
        let found = kmeans(&rows, names.len() - 1, &mut stream(1, Concern::Customer, 0));
        let agreement = adjusted_rand_index(&planted, &found);
        assert!(agreement > 0.5, "{agreement}");
    }
}

/// Probability that a positive is scored above a negative.
fn auc(scored: &mut [(f64, bool)]) -> f64 {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scored.iter().filter(|(_, yes)| *yes).count() as f64;
    let ranks: f64 = (1..).zip(scored.iter()).filter(|(_, (_, yes))| *yes).map(|(rank, _)| f64::from(rank)).sum();
    (ranks - positives * (positives + 1.0) / 2.0) / (positives * (scored.len() as f64 - positives))
}

/// Plain gradient descent on the logistic loss; rows are standardised.
fn logistic<const N: usize>(rows: &[[f64; N]], yes: &[bool]) -> [f64; N] {
    let mut weights = [0.0; N];
    let mut bias = 0.0;
    for _ in 0..400 {
        let mut gradient = [0.0; N];
        let mut bias_gradient = 0.0;
        for (row, yes) in rows.iter().zip(yes) {
            let logit = bias + row.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>();
            let off = f64::from(u8::from(*yes)) - 1.0 / (1.0 + (-logit).exp());
            gradient.iter_mut().zip(row).for_each(|(gradient, x)| *gradient += off * x);
            bias_gradient += off;
        }
        weights.iter_mut().zip(gradient).for_each(|(weight, g)| *weight += g / rows.len() as f64);
        bias += bias_gradient / rows.len() as f64;
    }
    weights
}

/// Recency, frequency and money at a moment, with who ordered within 30 days after it.
fn returning(cut: i64) -> (Vec<[f64; 3]>, Vec<bool>) {
    let orders = table("orders");
    let soon: HashSet<i64> = keys(&orders, "customer_id")
        .into_iter()
        .zip(times(&orders, "order_ts"))
        .filter(|(_, moment)| (cut..cut + 30 * DAY).contains(moment))
        .map(|(customer, _)| customer)
        .collect();
    let known = features(cut);
    let mut rows: Vec<_> =
        known.values().map(|[recency, n, _, money]| [(recency + 1.0).ln(), n.ln(), money.ln()]).collect();
    standardise(&mut rows);
    (rows, known.keys().map(|customer| soon.contains(customer)).collect())
}

#[test]
fn who_comes_back_can_be_foretold() {
    let (rows, yes) = returning(END - 120 * DAY);
    let weights = logistic(&rows, &yes);
    let (rows, yes) = returning(END - 60 * DAY);
    let score = |row: &[f64; 3]| row.iter().zip(&weights).map(|(x, w)| x * w).sum();
    let mut scored: Vec<_> = rows.iter().map(score).zip(yes).collect();
    let auc = auc(&mut scored);
    assert!(auc > 0.75, "{auc}");
    assert!(auc < 0.97, "too easy: {auc}");
}

#[test]
fn baskets_tell_more_than_popularity() {
    let deeds = table("interactions");
    let cut = START + 639 * DAY; // 2025-10-01
    let n_products = table("products").num_rows();
    let mut before: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
    let mut after: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
    let rows = keys(&deeds, "customer_id").into_iter().zip(keys(&deeds, "product_id"));
    for (((customer, product), moment), kind) in rows.zip(times(&deeds, "event_ts")).zip(texts(&deeds, "event_type")) {
        if kind.as_deref() == Some("purchase") {
            let side = if moment < cut { &mut before } else { &mut after };
            side.entry(customer).or_default().insert(product as usize - 1);
        }
    }
    let mut sold = vec![0.0_f64; n_products];
    let mut together = vec![0.0; n_products * n_products];
    for items in before.values() {
        for a in items {
            sold[*a] += 1.0;
            items.iter().for_each(|b| together[a * n_products + b] += 1.0);
        }
    }
    let top = |score: &dyn Fn(usize) -> f64, known: &BTreeSet<usize>| {
        let mut items: Vec<usize> = (0..n_products).filter(|item| !known.contains(item)).collect();
        items.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        items.truncate(10);
        items
    };
    let (mut popular, mut personal, mut n) = (0.0, 0.0, 0.0);
    for (customer, wanted) in &after {
        let Some(known) = before.get(customer) else { continue };
        let wanted: BTreeSet<usize> = wanted.difference(known).copied().collect();
        if wanted.is_empty() {
            continue;
        }
        let likeness = |item: usize| {
            let parts = known.iter().map(|b| together[item * n_products + b] / (sold[item] * sold[*b]).sqrt().max(1.0));
            parts.sum::<f64>()
        };
        let hits = |items: Vec<usize>| items.iter().filter(|item| wanted.contains(item)).count() as f64;
        let most = wanted.len().min(10) as f64;
        popular += hits(top(&|item| sold[item], known)) / most;
        personal += hits(top(&likeness, known)) / most;
        n += 1.0;
    }
    let (popular, personal) = (popular / n, personal / n);
    assert!(personal > 1.3 * popular, "{personal} against {popular}");
    assert!(personal < 0.6, "too easy: {personal}");
}

#[test]
fn planted_pairs_share_baskets() {
    let (pairs, lines) = (table("truth_pairs"), table("order_lines"));
    let mut baskets: HashMap<i64, HashSet<i64>> = HashMap::new();
    let mut sold: HashMap<i64, f64> = HashMap::new();
    for (order, product) in keys(&lines, "order_id").into_iter().zip(keys(&lines, "product_id")) {
        if baskets.entry(order).or_default().insert(product) {
            *sold.entry(product).or_default() += 1.0;
        }
    }
    for (a, b) in keys(&pairs, "product_a").into_iter().zip(keys(&pairs, "product_b")) {
        let both = baskets.values().filter(|basket| basket.contains(&a) && basket.contains(&b)).count() as f64;
        let lift = both * baskets.len() as f64 / (sold[&a] * sold[&b]);
        assert!(both >= 20.0 && lift > 5.0, "{a} and {b}: {both} times, lift {lift}");
    }
}

#[test]
fn words_follow_the_stars() {
    let ratings = counts(&table("reviews"), "rating");
    let sentiments = texts(&table("truth_reviews"), "sentiment");
    let agree = |(rating, sentiment): (&i32, &Option<String>)| {
        sentiment.as_deref() == Some(["negative", "negative", "neutral", "positive", "positive"][*rating as usize - 1])
    };
    let share = ratings.iter().zip(&sentiments).filter(|pair| agree(*pair)).count() as f64 / ratings.len() as f64;
    assert!((0.95..1.0).contains(&share), "{share}");
    for stars in 1..=5 {
        let share = ratings.iter().filter(|rating| **rating == stars).count() as f64 / ratings.len() as f64;
        assert!(share > 0.02, "{stars} stars: {share}");
    }
}

#[test]
fn good_products_have_more_stars() {
    let reviews = table("reviews");
    let quality = floats(&table("truth_quality"), "quality");
    let rows = keys(&reviews, "product_id").into_iter().zip(counts(&reviews, "rating"));
    let rows: Vec<_> = rows.map(|(product, rating)| (quality[product as usize - 1], f64::from(rating))).collect();
    let mean = |good: bool| {
        let stars: Vec<f64> = rows.iter().filter(|row| (row.0 > 0.0) == good).map(|row| row.1).collect();
        stars.iter().sum::<f64>() / stars.len() as f64
    };
    assert!(mean(true) > mean(false) + 0.5);
}

#[test]
fn fraud_is_rare_and_can_be_learnt_though_not_by_one_rule() {
    let (payments, orders, customers) = (table("payments"), table("orders"), table("customers"));
    let frauds = flags(&payments, "is_fraud");
    let share = frauds.iter().filter(|fraud| **fraud).count() as f64 / frauds.len() as f64;
    assert!((0.005..=0.01).contains(&share), "{share}");
    assert_eq!(frauds.iter().filter(|fraud| **fraud).count(), table("truth_payments").num_rows());

    let (buyers, ordered) = (keys(&orders, "customer_id"), times(&orders, "order_ts"));
    let (signups, countries) = (times(&customers, "signup_ts"), texts(&customers, "country"));
    let (methods, cards) = (texts(&payments, "method"), texts(&payments, "card_country"));
    let mut usual: HashMap<i64, (f64, f64)> = HashMap::new();
    for (buyer, amount) in buyers.iter().zip(cents(&orders, "amount")) {
        let sum = usual.entry(*buyer).or_default();
        *sum = (sum.0 + amount as f64, sum.1 + 1.0);
    }
    let paid = keys(&payments, "order_id").into_iter().zip(cents(&payments, "amount")).enumerate();
    let mut rows: Vec<[f64; 6]> = paid
        .map(|(row, (order, amount))| {
            let order = order as usize - 1;
            let (sum, n) = usual[&buyers[order]];
            let home = &countries[buyers[order] as usize - 1];
            let yes = |yes: bool| f64::from(u8::from(yes));
            [
                (amount as f64 / 100.0).ln(),
                (amount as f64 * n / sum).ln(),
                yes(hour(ordered[order]) < 6),
                yes(ordered[order] - signups[buyers[order] as usize - 1] < DAY),
                yes(cards[row].is_some() && home.is_some() && cards[row] != *home),
                yes(methods[row].as_deref() == Some("card")),
            ]
        })
        .collect();
    standardise(&mut rows);
    let score = |weights: &[f64; 6]| {
        let scores = rows.iter().map(|row| row.iter().zip(weights).map(|(x, w)| x * w).sum());
        auc(&mut scores.zip(frauds.iter().copied()).collect::<Vec<_>>())
    };
    let learnt = score(&logistic(&rows, &frauds));
    assert!((0.8..0.985).contains(&learnt), "{learnt}");
    for single in 0..6 {
        let mut rule = [0.0; 6];
        rule[single] = 1.0;
        assert!(score(&rule) < learnt - 0.02, "feature {single} alone: {}", score(&rule));
    }
}

#[test]
fn decembers_are_busier_than_februaries() {
    let moments = times(&table("orders"), "order_ts");
    let in_days = |from: i64, to: i64| {
        moments.iter().filter(|moment| (START + from * DAY..START + to * DAY).contains(moment)).count() as f64
    };
    // Second year: February, then December.
    assert!(in_days(700, 731) / 31.0 > 1.4 * in_days(397, 425) / 28.0);
}

#[test]
fn the_planted_process_is_the_measured_one() {
    let truth = table("truth_customers");
    let (rates, leave, alive) =
        (floats(&truth, "purchase_rate"), floats(&truth, "dropout_probability"), flags(&truth, "alive"));
    let spend = floats(&truth, "mean_spend");
    let features = features(END);
    let (mut measured, mut planted) = (0.0, 0.0);
    let (mut basket, mut budget) = (0.0, 0.0);
    for (customer, [_, n, since_first, money]) in &features {
        let place = *customer as usize - 1;
        if alive[place] && *since_first > 120.0 {
            measured += n - 1.0;
            planted += rates[place] * since_first / 365.0;
            basket += money / n;
            budget += spend[place];
        }
    }
    assert!((0.85..1.15).contains(&(measured / planted)), "{measured} of {planted}");
    assert!((0.8..1.2).contains(&(basket / budget)), "{basket} of {budget}");
    assert!(leave.iter().all(|p| (0.0..=1.0).contains(p)));
    let gone = alive.iter().filter(|alive| !**alive).count() as f64 / alive.len() as f64;
    assert!((0.2..0.8).contains(&gone), "{gone}");
}
