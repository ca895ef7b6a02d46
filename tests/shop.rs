//! Whole shops: the generated one, whose truth is known, and a real one where its file is at hand.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cohort::demo;
use cohort::engine::Engine;
use cohort::functions::FUNCTIONS;
use cohort::models::ALGORITHMS;
use cohort::server::{Options, Server};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::process::{Process, done};
use crate::server::{Connection, config};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A server on the generated shop, with one model of each kind; made once, for all tests of this file.
fn demo_shop() -> SocketAddr {
    static SHOP: OnceLock<SocketAddr> = OnceLock::new();
    *SHOP.get_or_init(|| {
        let (ready, address) = std::sync::mpsc::channel();
        // Each test has a runtime of its own, which ends with it; the shop's must outlive them all.
        std::thread::spawn(move || {
            let data = place();
            let engine = Engine::open(&config(&data)).unwrap();
            for table in demo::shop(1.0, demo::SEED).unwrap() {
                engine.create_table_from(table.schema, table.name, table.comment, &table.batches).unwrap();
            }
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let options = Options { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Options::default() };
                let server = Server::bind(engine, options).await.unwrap();
                let address = server.local_addr();
                let serving = tokio::spawn(server.run(CancellationToken::new()));
                let connection = Connection::open(address).await;
                for algorithm in ALGORITHMS {
                    connection.run(algorithm.example()).await;
                }
                // What is open stays readable; nothing is left when the tests are over.
                let _ = ready.send(address);
                let _ = serving.await;
            });
        });
        address.recv().unwrap()
    })
}

/// A folder for this run; those of earlier runs, whose processes are gone, are cleared away.
fn place() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shops");
    fs::create_dir_all(&parent).unwrap();
    for entry in fs::read_dir(&parent).unwrap().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    parent.join(std::process::id().to_string())
}

/// The SQL files of a folder, by name.
fn scripts(folder: &str) -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(Path::new(ROOT).join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    paths.sort();
    assert!(!paths.is_empty(), "{folder} has no SQL");
    paths.into_iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

async fn every_script_answers(folder: &str) {
    let connection = Connection::open(demo_shop()).await;
    for (file, script) in scripts(folder) {
        assert!(script.starts_with("-- "), "{file} does not say what it asks");
        assert!(!connection.rows(&script).await.is_empty(), "{file} answers nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_segment_script_answers() {
    every_script_answers("sql/segments").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_report_answers() {
    every_script_answers("sql/reports").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_the_manual_answers() {
    let connection = Connection::open(demo_shop()).await;
    for algorithm in ALGORITHMS {
        let trained = format!(
            "SELECT count(*) > 0 FROM ml.models WHERE model_type = '{}' AND status = 'READY'",
            algorithm.name()
        );
        assert_eq!(connection.value(&trained).await, "t", "{}", algorithm.name());
    }
    for function in FUNCTIONS {
        let rows = connection.rows(function.doc().example).await;
        assert!(!rows.is_empty(), "the example of {} answers nothing", function.name());
    }
}

/// Behaviour that the segments were planted by: how often, for how much, when and at which price people buy.
const BEHAVIOUR: &str = "
    CREATE TABLE behaviour AS
    WITH bought AS (
        SELECT customer_id, count(*) AS orders, avg(CAST(amount AS double)) AS basket,
               avg(CASE WHEN date_part('month', order_ts) IN (11, 12) THEN 1.0 ELSE 0 END) AS in_gift_season
        FROM orders GROUP BY customer_id
    ),
    discounted AS (
        SELECT o.customer_id, avg(CASE WHEN l.unit_price < p.price THEN 1.0 ELSE 0 END) AS at_discount
        FROM orders o JOIN order_lines l ON l.order_id = o.order_id JOIN products p ON p.product_id = l.product_id
        GROUP BY o.customer_id
    )
    SELECT c.customer_id, ln(1 + coalesce(b.orders, 0)) AS orders, coalesce(ln(1 + b.basket), 0) AS basket,
           coalesce(b.in_gift_season, 0) AS in_gift_season, coalesce(d.at_discount, 0) AS at_discount
    FROM customers c
    LEFT JOIN bought b ON b.customer_id = c.customer_id
    LEFT JOIN discounted d ON d.customer_id = c.customer_id;

    CREATE MODEL planted OPTIONS (model_type = 'kmeans', num_clusters = 6, n_init = 10, id_col = 'customer_id', seed = 1) AS
    SELECT * FROM behaviour;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_agree_with_the_planted_segments() {
    let connection = Connection::open(demo_shop()).await;
    connection.run(BEHAVIOUR).await;
    let cells = connection
        .rows(
            "SELECT t.segment, s.segment, count(*) FROM segment('planted', (SELECT * FROM behaviour)) s \
             JOIN demo.truth_customers t ON t.customer_id = s.customer_id GROUP BY t.segment, s.segment",
        )
        .await;
    let cells: Vec<(&str, &str, f64)> =
        cells.iter().map(|row| (row[0].as_str(), row[1].as_str(), row[2].parse().unwrap())).collect();
    let index = adjusted_rand_index(&cells);
    println!("adjusted Rand index of k-means and the planted segments: {index:.3}");
    assert!(index >= 0.4, "{index}");
}

/// Agreement of two groupings, 1 if they are the same and 0 if they are unrelated (Hubert & Arabie 1985): the pairs
/// together in both, less those expected by chance, over the most there can be less the same.
fn adjusted_rand_index(cells: &[(&str, &str, f64)]) -> f64 {
    let pairs = |n: f64| n * (n - 1.0) / 2.0;
    let of_groups = |group: fn(&(&'_ str, &'_ str, f64)) -> String| -> f64 {
        let mut sizes = std::collections::BTreeMap::<String, f64>::new();
        for cell in cells {
            *sizes.entry(group(cell)).or_default() += cell.2;
        }
        sizes.into_values().map(pairs).sum()
    };
    let both: f64 = cells.iter().map(|cell| pairs(cell.2)).sum();
    let (first, second) = (of_groups(|cell| cell.0.to_owned()), of_groups(|cell| cell.1.to_owned()));
    let expected = first * second / pairs(cells.iter().map(|cell| cell.2).sum());
    (both - expected) / ((first + second) / 2.0 - expected)
}

#[test]
fn the_adjusted_rand_index_of_a_hand_worked_table() {
    assert_eq!(adjusted_rand_index(&[("a", "x", 3.0), ("b", "y", 2.0)]), 1.0);
    // {1,2,3},{4,5} against {1,2},{3,4,5}: 2 pairs in both of 4 and 4, 1.6 expected: 0.4 / 2.4.
    let index = adjusted_rand_index(&[("a", "x", 2.0), ("a", "y", 1.0), ("b", "y", 2.0)]);
    assert!((index - 1.0 / 6.0).abs() < 1e-12, "{index}");
}

/// What the model gives beyond the popular products, on rows it has not seen: ndcg and recall, both must.
async fn beats_popularity(connection: &Connection, model: &str, later: &str) {
    let query = format!(
        "SELECT metric, round(value, 4), round(ci_low, 4), round(ci_high, 4), round(baseline, 4), n_users, value > baseline \
         FROM evaluate_ranking('{model}', ({later}), k => 10) WHERE metric IN ('ndcg', 'recall') ORDER BY metric"
    );
    let rows = connection.rows(&query).await;
    assert_eq!(rows.len(), 2);
    for row in rows {
        println!(
            "{model}: {}@10 {} [{}, {}], popularity {}, {} customers",
            row[0], row[1], row[2], row[3], row[4], row[5]
        );
        assert_eq!(row[6], "t", "{row:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn factors_beat_popularity_on_what_was_bought_later() {
    let connection = Connection::open(demo_shop()).await;
    connection
        .run(
            "CREATE MODEL taste_in_september OPTIONS (model_type = 'matrix_factorization', num_factors = 32, seed = 1, \
             data_split_method = 'NO_SPLIT') AS SELECT customer_id, product_id, count(*) AS rating FROM interactions \
             WHERE event_type = 'purchase' AND event_ts < '2025-10-01' GROUP BY customer_id, product_id",
        )
        .await;
    let later = "SELECT customer_id, product_id FROM interactions WHERE event_type = 'purchase' AND event_ts >= '2025-10-01' \
                 AND customer_id IN (SELECT customer_id FROM interactions WHERE event_type = 'purchase' AND event_ts < '2025-10-01')";
    beats_popularity(&connection, "taste_in_september", later).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_fraud_is_found() {
    let connection = Connection::open(demo_shop()).await;
    let found =
        "SELECT roc_auc > 0.7, accuracy >= baseline_accuracy, log_loss < baseline_log_loss FROM evaluate('fraud')";
    assert_eq!(connection.rows(found).await, [["t", "t", "t"]]);
}

/// The UCI file, beside the project; it may not be passed on, so not everybody has it.
const ONLINE_RETAIL: &str = "../shared/data/online-retail/online_retail.csv.gz";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_shop_from_its_file_to_recommendations() {
    let file = Path::new(ROOT).join(ONLINE_RETAIL);
    if !file.exists() {
        println!("skipped: {} is not here; docs say where to get it", file.display());
        return;
    }
    let data = TempDir::new().unwrap();
    let said =
        done(&["import", "online_retail_raw", file.to_str().unwrap(), "--data-dir", data.path().to_str().unwrap()]);
    assert!(said.contains("541909 rows"), "{said}");

    let server = Process::serve(data.path());
    let connection = server.connect().await;
    for (script, sql) in scripts("sql/online_retail") {
        assert!(!connection.rows(&sql).await.is_empty(), "{script} answers nothing");
    }
    // Every line of the file is accounted for.
    assert_eq!(connection.value("SELECT sum(n_rows) FROM cleaning_report").await, "541909");
    let later = "SELECT customer_id, product_id FROM interactions WHERE event_type = 'purchase' AND event_ts >= '2011-09-01' \
                 AND customer_id IN (SELECT customer_id FROM interactions WHERE event_type = 'purchase' AND event_ts < '2011-09-01')";
    beats_popularity(&connection, "taste_in_august", later).await;

    // The demo's segments and reports ask for no more than both shops have.
    for folder in ["sql/segments", "sql/reports"] {
        for (script, sql) in scripts(folder) {
            match connection.client.simple_query(&sql).await {
                Ok(_) => {}
                // Columns that only the generated shop has.
                Err(error) if error.code().is_some_and(|code| ["42703", "42P01"].contains(&code.code())) => {
                    println!("{script} needs more than this shop has");
                }
                Err(error) => panic!("{script}: {}", crate::server::told(&error)),
            }
        }
    }
}
