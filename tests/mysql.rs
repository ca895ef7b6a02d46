//! Tables of a real MariaDB, read over the real wire.

mod mariadb;

use mysql_async::prelude::Queryable;

use self::mariadb::MariaDb;
use crate::server::{Connection, TestServer, eventually};

const SHOP: &str = "
CREATE TABLE numbers (n INT PRIMARY KEY);
INSERT INTO numbers WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) SELECT n FROM n;
CREATE TABLE customers (
    id INT PRIMARY KEY, name VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci,
    city VARCHAR(40) CHARACTER SET latin1, code CHAR(5), feeling ENUM('sad', 'ok', 'happy'), marks SET('a', 'b'),
    born DATE, vip TINYINT(1), small TINYINT, points BIGINT UNSIGNED, nr INT UNSIGNED, balance DECIMAL(12, 2),
    score DOUBLE, ratio FLOAT, joined DATETIME(6), seen TIMESTAMP NULL, doc JSON, picture BLOB, bits BIT(10), at TIME,
    founded YEAR, place POINT);
INSERT INTO customers
SELECT n, CASE WHEN n % 7 = 0 THEN NULL ELSE CONCAT(ELT(n % 7, 'Ännchen', 'bob', 'Bob', 'Zoë', '客户', 'o''Neil'), n % 20) END,
    ELT(1 + n % 3, 'Köln', 'KÖLN', 'Bonn'), CONCAT('c', n % 4), ELT(1 + n % 3, 'sad', 'ok', 'happy'), 'a,b',
    CASE WHEN n % 9 = 0 THEN '0000-00-00' WHEN n % 9 = 1 THEN '2024-00-10' ELSE DATE '1970-01-01' + INTERVAL n * 37 DAY END,
    n % 3, n % 100 - 50, 18446744073709551615 - n, 4294967295 - n, n * 13.37 - 500, SIN(n) * 100, COS(n),
    TIMESTAMP '2024-01-01 00:00:00' + INTERVAL n * 7 HOUR + INTERVAL 13000021 MICROSECOND,
    CASE WHEN n % 11 = 0 THEN NULL ELSE TIMESTAMP '2024-03-30 21:30:00' + INTERVAL n DAY END,
    CONCAT('{\"n\": ', n, '}'), UNHEX(MD5(n)), n, SEC_TO_TIME(n * 60), 1990 + n % 30, POINT(n, n)
FROM numbers WHERE n <= 300;
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer_id INT, amount DECIMAL(10, 2), price DOUBLE, made DATETIME, buyer VARCHAR(80));
INSERT INTO orders
SELECT n, CASE WHEN n % 50 = 0 THEN NULL ELSE n % 400 END, CASE WHEN n % 11 = 0 THEN NULL ELSE n * 0.17 - 20 END,
    n * 0.25, TIMESTAMP '2024-01-01 00:00:00' + INTERVAL n HOUR, CONCAT('BOB', n % 20)
FROM numbers;
CREATE VIEW totals AS SELECT customer_id, SUM(amount) AS total FROM orders GROUP BY customer_id;
CREATE TABLE `Größe \"x\"` (`Ünï cödé` TEXT, `select` INT);
INSERT INTO `Größe \"x\"` VALUES ('ja', 1), (NULL, 2);
CREATE TABLE shapes (p POINT);
CREATE USER locked@localhost IDENTIFIED BY 'swordfish';
GRANT SELECT ON shop.orders TO locked@localhost;
ANALYZE TABLE customers, orders";

async fn imported(mariadb: &MariaDb) -> (TestServer, Connection) {
    mariadb.run(SHOP).await;
    let server = TestServer::start().await;
    let session = server.connect().await;
    let host = mariadb.socket();
    session
        .run(&format!(
            "CREATE SERVER shop FOREIGN DATA WRAPPER mysql OPTIONS (host '{host}', dbname 'shop');
             CREATE USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (user 'root');
             CREATE SCHEMA shop;
             IMPORT FOREIGN SCHEMA shop FROM SERVER shop INTO shop"
        ))
        .await;
    (server, session)
}

/// Queries whose answer must be that of a copy of the tables, and a part of the query that the server must be sent.
const SAME: &[(&str, &str)] = &[
    ("SELECT id, name FROM customers WHERE id = 7", "WHERE (\"id\" = 7)"),
    ("SELECT id FROM customers WHERE name = 'bob2'", "(\"name\" = 'bob2' AND CAST(CONVERT("),
    ("SELECT id FROM customers WHERE name <> 'bob2'", "<> CAST("),
    ("SELECT id FROM customers WHERE NOT (name = 'bob2')", "CONVERT("),
    ("SELECT id FROM customers WHERE name = 'Ännchen1' OR name = 'o''Neil6'", "'Ännchen1'"),
    ("SELECT id FROM customers WHERE city = 'Köln'", "CONVERT(\"city\" USING utf8mb4)"),
    ("SELECT id FROM customers WHERE city = '客户'", "CONVERT("),
    ("SELECT id FROM customers WHERE name < 'Zz'", "< CAST("),
    ("SELECT id FROM customers WHERE name LIKE 'b%'", "LIKE CAST("),
    ("SELECT id FROM customers WHERE name LIKE 'bo_2'", "FROM \"shop\".\"customers\""),
    ("SELECT id FROM customers WHERE name ILIKE 'B%'", "FROM \"shop\".\"customers\""),
    ("SELECT id FROM customers WHERE name IN ('bob2', 'BOB9', 'Zoë4')", "'BOB9'"),
    ("SELECT id FROM customers WHERE feeling = 'ok' AND marks = 'a,b'", "\"feeling\" = 'ok'"),
    ("SELECT id FROM customers WHERE code = 'c1'", "\"code\" = 'c1'"),
    ("SELECT id, born FROM customers WHERE born < DATE '1980-01-01'", "(\"born\" < DATE '1980-01-01' AND"),
    ("SELECT id FROM customers WHERE NOT (born < DATE '1980-01-01')", "CASE WHEN MONTH"),
    ("SELECT id FROM customers WHERE born IS NULL", "IS NULL"),
    ("SELECT id FROM customers WHERE born BETWEEN DATE '1980-01-01' AND DATE '1990-01-01'", "\"born\" >= DATE"),
    ("SELECT min(born), max(born), count(born) FROM customers", "min("),
    ("SELECT id FROM customers WHERE vip", "<> 0"),
    ("SELECT id FROM customers WHERE vip = true AND small > -10", "\"small\" > (-10)"),
    ("SELECT id FROM customers WHERE points > 18446744073709551500", "18446744073709551500."),
    ("SELECT id FROM customers WHERE nr = 4294967290", "4294967290"),
    ("SELECT id FROM customers WHERE balance > 100.5 AND balance <= 2000", "100.5"),
    ("SELECT id FROM customers WHERE score > 99.5", "9.95e1"),
    ("SELECT id FROM customers WHERE ratio > 0.5", "FROM \"shop\".\"customers\""),
    (
        "SELECT id FROM customers WHERE joined >= '2024-02-01' AND joined < '2024-02-03 04:05:06.7'",
        "TIMESTAMP '2024-02-01",
    ),
    ("SELECT id, seen FROM customers WHERE seen > '2024-06-01 00:00:00+02'", "TIMESTAMP '2024-05-31 22:00:00"),
    ("SELECT id FROM customers WHERE seen IS NOT DISTINCT FROM NULL", "FROM"),
    ("SELECT id FROM customers WHERE id + 1 = 8", "FROM"),
    ("SELECT id / 2, id % 3 FROM customers WHERE id < 5", "\"id\" < 5"),
    ("SELECT c.id, o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id < 20", "JOIN"),
    ("SELECT c.id, o.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.amount > 100", "LEFT JOIN"),
    ("SELECT c.id, o.id FROM customers c JOIN orders o ON o.buyer = c.name", "JOIN"),
    ("SELECT c.id, o.id FROM customers c FULL JOIN orders o ON o.customer_id = c.id", "FROM"),
    (
        "SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.price > 200)",
        "EXISTS (SELECT 1 FROM",
    ),
    ("SELECT id FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)", "NOT EXISTS"),
    ("SELECT customer_id, count(*), sum(amount), min(made), max(price) FROM orders GROUP BY customer_id", "GROUP BY 1"),
    ("SELECT sum(id), sum(customer_id), sum(amount), count(amount), count(DISTINCT customer_id) FROM orders", "SUM("),
    ("SELECT count(*) FROM orders WHERE amount IS NULL", "COUNT(1)"),
    ("SELECT count(*) FILTER (WHERE amount > 50), sum(amount) FILTER (WHERE customer_id = 3) FROM orders", "CASE WHEN"),
    ("SELECT buyer, count(*) FROM orders GROUP BY buyer", "FROM \"shop\".\"orders\""),
    ("SELECT count(DISTINCT city), min(city) FROM customers", "FROM \"shop\".\"customers\""),
    ("SELECT avg(amount), avg(price) FROM orders", "FROM \"shop\".\"orders\""),
    ("SELECT count(*) FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.amount > 0", "COUNT(1)"),
    ("SELECT id, amount FROM orders ORDER BY amount DESC NULLS LAST, id LIMIT 5", "LIMIT 5"),
    ("SELECT id, amount FROM orders ORDER BY amount DESC, id LIMIT 5", "IS NULL) DESC"),
    ("SELECT id, amount FROM orders ORDER BY amount NULLS FIRST, id LIMIT 100", "LIMIT 100"),
    ("SELECT id, buyer FROM orders ORDER BY buyer, id LIMIT 5", "FROM \"shop\".\"orders\""),
    ("SELECT total FROM totals WHERE customer_id = 3", "\"totals\""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_answers_as_on_a_copy_and_is_done_over_there() {
    let Some(mariadb) = MariaDb::start().await else { return };
    let (_server, session) = imported(&mariadb).await;
    session.run("CREATE SCHEMA copy").await;
    for table in ["customers", "orders", "totals"] {
        session.run(&format!("CREATE TABLE copy.{table} AS SELECT * FROM shop.{table}")).await;
    }
    let mut wrong = Vec::new();
    for (query, sent) in SAME {
        session.run("SET search_path = copy").await;
        let mut expected = session.rows(query).await;
        session.run("SET search_path = shop").await;
        let mut found = session.rows(query).await;
        expected.sort();
        found.sort();
        if found != expected {
            let differing = found.iter().zip(&expected).find(|(found, expected)| found != expected);
            wrong.push(format!("{query}\n{} rows, not {}: {differing:?}", found.len(), expected.len()));
        }
        let plan = session.rows(&format!("EXPLAIN {query}")).await;
        let scans: Vec<&str> =
            plan.iter().flat_map(|row| row[1].lines()).filter(|line| line.contains("ForeignScanExec")).collect();
        if !scans.iter().any(|scan| scan.contains(sent)) {
            wrong.push(format!("{query}\nis not sent with {sent}: {scans:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_all_types_come_as_they_are() {
    let Some(mariadb) = MariaDb::start().await else { return };
    let (_server, mut session) = imported(&mariadb).await;
    session.notices.saying("column \"place\" of \"customers\" is left out: values of type point cannot be read").await;
    session.notices.saying("\"shapes\" has no column that can be read, skipping").await;
    let columns = "id, name, city, code, feeling, marks, born, vip, small, points, nr, balance, joined, seen, doc, \
                   encode(picture, 'hex'), encode(bits, 'hex'), at, founded";
    let row = session.rows(&format!("SELECT {columns} FROM shop.customers WHERE id = 5")).await;
    let expected = [
        "5",
        "客户5",
        "Bonn",
        "c1",
        "happy",
        "a,b",
        "1970-07-05",
        "t",
        "-45",
        "18446744073709551610",
        "4294967290",
        "-433.15",
        "2024-01-02 11:00:13.000021",
        "2024-04-04 21:30:00+00",
        "{\"n\": 5}",
        "e4da3b7fbbce2345d7772b0674a318d5",
        "0005",
        "00:05:00",
        "1995",
    ];
    assert_eq!(row[0], expected);
    let nulls = session.rows("SELECT name, born, seen FROM shop.customers WHERE id IN (77, 9, 10) ORDER BY id").await;
    assert_eq!(
        nulls,
        [
            ["bob9", "NULL", "2024-04-08 21:30:00+00"],
            ["Bob10", "NULL", "2024-04-09 21:30:00+00"],
            ["NULL", "1977-10-20", "NULL"]
        ]
    );
    assert_eq!(session.value("SELECT round(ratio::numeric, 5) FROM shop.customers WHERE id = 5").await, "0.28366");
    let types = session
        .rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'shop' AND table_name = 'customers' AND column_name IN ('vip', 'points', 'nr', 'seen', 'bits', 'at') ORDER BY 1")
        .await;
    assert_eq!(
        types,
        [
            ["at", "time without time zone"],
            ["bits", "bytea"],
            ["nr", "bigint"],
            ["points", "numeric"],
            ["seen", "timestamp with time zone"],
            ["vip", "boolean"]
        ]
    );
    let odd = session.rows("SELECT \"Ünï cödé\", \"select\" FROM shop.\"Größe \"\"x\"\"\" ORDER BY 2").await;
    assert_eq!(odd, [["ja", "1"], ["NULL", "2"]]);
    // What does not fit is said, and nothing that was sent could have written.
    mariadb.run("CREATE TABLE odd (t TIME, d DECIMAL(60, 2));\nINSERT INTO odd VALUES ('-12:00:00', 1e50)").await;
    session.run("IMPORT FOREIGN SCHEMA shop LIMIT TO (odd) FROM SERVER shop INTO shop").await;
    for column in ["t", "d"] {
        let error = session.refusal(&format!("SELECT {column} FROM shop.odd")).await;
        assert_eq!(error.code().code(), "22003", "{error}");
    }
    assert!(mariadb.log().contains("SET SESSION TRANSACTION READ ONLY"));
    session.run("CREATE FOREIGN TABLE buyers (nr integer OPTIONS (column_name 'id'), name text) SERVER shop OPTIONS (table_name 'customers')").await;
    assert_eq!(session.value("SELECT name FROM buyers WHERE nr = 2").await, "bob2");
    assert_eq!(session.refusal("IMPORT FOREIGN SCHEMA Shop FROM SERVER shop INTO shop").await.code().code(), "42P07");
    assert_eq!(
        session.refusal("IMPORT FOREIGN SCHEMA nowhere FROM SERVER shop INTO shop").await.code().code(),
        "3F000"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_read_what_and_no_secret_is_shown() {
    let Some(mariadb) = MariaDb::start().await else { return };
    let (server, session) = imported(&mariadb).await;
    session
        .run("CREATE USER ann; GRANT USAGE ON SCHEMA shop TO ann; GRANT SELECT ON shop.orders, shop.customers TO ann")
        .await;
    session.run("CREATE USER MAPPING FOR ann SERVER shop OPTIONS (user 'locked', password 'swordfish')").await;
    let ann = Connection::as_user(server.address, "user=ann").await;
    assert_eq!(ann.value("SELECT count(*) FROM shop.orders").await, "1000");
    assert_eq!(ann.refusal("SELECT count(*) FROM shop.customers").await.code().code(), "42501");
    let shown = format!(
        "{:?}{:?}",
        session.rows("SELECT * FROM ml.servers").await,
        session.rows("SELECT * FROM pg_user_mappings").await
    );
    assert!(shown.contains("mysql") && !shown.contains("swordfish"), "{shown}");
    session.run("ALTER USER MAPPING FOR ann SERVER shop OPTIONS (SET password 'sword-2')").await;
    let refused = ann.refusal("SELECT count(*) FROM shop.orders").await;
    assert_eq!(refused.code().code(), "08001");
    assert!(
        refused.message().contains("Access denied for user 'locked'") && !format!("{refused:?}").contains("sword-2")
    );
    assert_eq!(session.refusal("ALTER SERVER shop OPTIONS (nonsense 'x')").await.code().code(), "22023");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_scans_of_a_query_begin_together() {
    let Some(mariadb) = MariaDb::start().await else { return };
    let (_server, session) = imported(&mariadb).await;
    // upper() is not sent, so that there are two scans.
    let two = "SELECT (SELECT max(upper(name)) FROM shop.customers) = (SELECT max(upper(buyer)) FROM shop.orders)";
    for _ in 0..5 {
        assert_eq!(session.value(two).await, "f");
    }
    assert!(mariadb.log().contains("START TRANSACTION WITH CONSISTENT SNAPSHOT"));
    assert!(mariadb.log().contains("COMMIT"));
    // A query may end before a scan of it has been asked at all.
    assert_eq!(session.rows("SELECT 1 FROM shop.customers a, shop.orders b LIMIT 1").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_said_so_and_is_found_again() {
    let Some(mut mariadb) = MariaDb::start().await else { return };
    let (_server, session) = imported(&mariadb).await;
    let count = "SELECT count(*) FROM shop.orders";
    assert_eq!(session.value(count).await, "1000");
    mariadb.down();
    let away = session.refusal(count).await;
    assert_eq!(away.code().code(), "08001", "{away:?}");
    assert!(away.message().starts_with("could not connect to server \"shop\"") && away.hint().is_some(), "{away:?}");
    mariadb.up().await;
    assert_eq!(session.value(count).await, "1000");
    // A connection that was left is no longer one after a restart, and nobody notices.
    mariadb.down();
    mariadb.up().await;
    assert_eq!(session.value(count).await, "1000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_query_ends_over_there_too() {
    let Some(mariadb) = MariaDb::start().await else { return };
    let (_server, session) = imported(&mariadb).await;
    mariadb.run("CREATE VIEW stuck AS SELECT n, SLEEP(600) AS x FROM numbers").await;
    session.run("IMPORT FOREIGN SCHEMA shop LIMIT TO (stuck) FROM SERVER shop INTO shop").await;
    let busy = || async {
        let mut there = mariadb.connect().await;
        let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'";
        there.query_first::<i64, _>(sql).await.unwrap().unwrap()
    };
    let cancel = session.client.cancel_token();
    let (cancelled, ()) = tokio::join!(session.refusal("SELECT * FROM shop.stuck"), async {
        eventually(|| async { busy().await == 1 }).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!(cancelled.code().code(), "57014");
    eventually(|| async { busy().await == 0 }).await;
    assert_eq!(session.value("SELECT count(*) FROM shop.orders").await, "1000");
}
