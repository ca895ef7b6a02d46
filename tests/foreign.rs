//! Tables of a real PostgreSQL, read over the real wire.

mod postgres;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_postgres::error::SqlState;

use self::postgres::Postgres;
use crate::server::{Connection, TestServer, eventually};

const SHOP: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE DOMAIN email AS varchar(80) CHECK (VALUE LIKE '%@%');
    CREATE TABLE customers (
        id integer PRIMARY KEY, key uuid, name text, mail email, feeling mood, code char(5), born date,
        vip boolean, balance numeric(12, 2), score double precision, ratio real, free numeric,
        joined timestamp, seen timestamptz, doc jsonb, picture bytea, tags text[], ranks integer[], at time, small smallint,
        span interval, place point, words tsvector);
    INSERT INTO customers
    SELECT n, md5(n::text)::uuid,
        CASE WHEN n % 7 = 0 THEN NULL ELSE (ARRAY['Ännchen', 'bob', 'Bob', 'Zoë', '客户', 'o''Neil', 'a\\b'])[n % 7] || n % 20 END,
        'c' || n || '@shop.example', (ARRAY['sad', 'ok', 'happy'])[1 + n % 3]::mood, 'c' || n % 4,
        date '1970-01-01' + n * 37, n % 3 = 0, n * 13.37 - 500, sin(n) * 100, cos(n)::real, n / 7.0,
        timestamp '2024-01-01' + n * interval '7 hours 13.000021 seconds', timestamptz '2024-03-30 23:30:00+02' + n * interval '1 day',
        jsonb_build_object('n', n), decode(md5(n::text), 'hex'),
        CASE WHEN n % 5 = 0 THEN NULL WHEN n % 5 = 1 THEN '{}' ELSE ARRAY['a' || n, NULL, 'ü'] END,
        ARRAY[n, NULL, -n], time '08:00' + n * interval '1 minute', (n % 100)::smallint - 50, n * interval '1 day 2 hours',
        point(n, n), to_tsvector('a b')
    FROM generate_series(1, 300) AS n;
    CREATE TABLE orders (id bigint PRIMARY KEY, customer_id integer, amount numeric(10, 2), price double precision, made timestamp);
    INSERT INTO orders
    SELECT n, CASE WHEN n % 50 = 0 THEN NULL ELSE n % 400 END, CASE WHEN n % 11 = 0 THEN NULL ELSE n * 0.17 - 20 END,
        n * 0.25, timestamp '2024-01-01' + n * interval '1 hour'
    FROM generate_series(1, 2000) AS n;
    CREATE VIEW totals AS SELECT customer_id, sum(amount) AS total FROM public.orders GROUP BY customer_id;
    CREATE TABLE \"Größe \"\"x\"\"\" (\"Ünï cödé\" text, \"select\" integer);
    INSERT INTO \"Größe \"\"x\"\"\" VALUES ('ja', 1), (NULL, 2);
    CREATE TABLE parts (id integer, day date) PARTITION BY RANGE (day);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    INSERT INTO parts VALUES (1, '2024-05-05');
    CREATE TABLE shapes (p point);
    CREATE ROLE locked LOGIN PASSWORD 'swordfish';
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO locked;
    ANALYZE";

/// The shop's tables, imported into the schema `shop`, and copies of two of them beside.
async fn imported(postgres: &Postgres) -> (TestServer, Connection) {
    postgres.run(SHOP).await;
    let server = TestServer::start().await;
    let session = server.connect().await;
    let host = postgres.socket();
    session
        .run(&format!(
            "CREATE SERVER shop FOREIGN DATA WRAPPER postgres OPTIONS (host '{host}', dbname 'shop');
             CREATE USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (user 'postgres');
             CREATE SCHEMA shop;
             IMPORT FOREIGN SCHEMA public FROM SERVER shop INTO shop"
        ))
        .await;
    (server, session)
}

/// Queries whose answer must be that of a copy of the tables, and a part of the query that the server must be sent.
const SAME: &[(&str, &str)] = &[
    ("SELECT id, name FROM customers WHERE id = 7", "WHERE (\"id\" = 7)"),
    ("SELECT id FROM customers WHERE name = 'bob2'", "WHERE (\"name\" = 'bob2')"),
    ("SELECT id FROM customers WHERE name < 'Zz'", "COLLATE \"C\" <"),
    ("SELECT id FROM customers WHERE name BETWEEN 'B' AND 'b'", "COLLATE \"C\" >="),
    ("SELECT id FROM customers WHERE name LIKE 'b%1'", "LIKE 'b%1'"),
    ("SELECT id FROM customers WHERE name NOT LIKE '%o%'", "NOT LIKE '%o%'"),
    ("SELECT id FROM customers WHERE name ILIKE 'B%'", "FROM \"public\".\"customers\""),
    ("SELECT id FROM customers WHERE name = 'o''Neil6' OR name = 'a\\b0' OR name = '客户5'", "'o''Neil6'"),
    ("SELECT id FROM customers WHERE name IS NULL AND vip", "IS NULL"),
    ("SELECT id FROM customers WHERE NOT vip OR name IS NOT NULL", "NOT"),
    ("SELECT id FROM customers WHERE id IN (1, 5, 9, 1000) AND id NOT IN (5, 6)", "\"id\" = 1000"),
    ("SELECT id FROM customers WHERE name IN ('bob2', 'Zoë4', NULL)", "'Zoë4'"),
    ("SELECT name FROM customers WHERE key = 'c4ca4238-a0b9-2382-0dcc-509a6f75849b'", "::uuid)"),
    ("SELECT name FROM customers WHERE key = 'C4CA4238-A0B9-2382-0DCC-509A6F75849B'", "::text"),
    ("SELECT id FROM customers WHERE key < '1'", "COLLATE \"C\" <"),
    ("SELECT id FROM customers WHERE feeling = 'ok'", "(\"feeling\"::text) = 'ok'"),
    ("SELECT id FROM customers WHERE feeling < 'ok'", "COLLATE \"C\" <"),
    ("SELECT id FROM customers WHERE code = 'c1'", "(\"code\"::text) = 'c1'"),
    ("SELECT id FROM customers WHERE code = 'c1   '", "(\"code\"::text) = 'c1   '"),
    ("SELECT id FROM customers WHERE balance > 1000.5 AND balance <= 2000", "\"balance\""),
    ("SELECT id FROM customers WHERE score > 99.5 OR ratio < -0.99", "\"score\""),
    ("SELECT id FROM customers WHERE born >= DATE '1990-01-01' AND born < DATE '1991-01-01'", "'1990-01-01'::date"),
    ("SELECT id FROM customers WHERE joined > TIMESTAMP '2024-02-01 12:00:00'", "'2024-02-01 12:00:00"),
    ("SELECT id FROM customers WHERE seen > TIMESTAMPTZ '2024-10-27 01:30:00+02'", "'2024-10-26 23:30:00.000000+00'"),
    ("SELECT id FROM customers WHERE picture = '\\xc4ca4238a0b923820dcc509a6f75849b'::bytea", "::bytea"),
    ("SELECT id FROM customers WHERE (id * 2 + 1) % 7 = 3 AND id - 10 > id / 3", "%"),
    ("SELECT id FROM customers WHERE small + 1 > 40", "\"small\""),
    ("SELECT id FROM customers WHERE vip IS NOT TRUE AND (name = 'bob2') IS UNKNOWN", "IS UNKNOWN"),
    ("SELECT id FROM customers WHERE CASE WHEN vip THEN name ELSE 'x' END = 'x'", "CASE WHEN"),
    ("SELECT id FROM customers WHERE coalesce(name, mail) = 'c7@shop.example'", "\"mail\""),
    ("SELECT id FROM customers WHERE name IS DISTINCT FROM 'bob2'", "IS DISTINCT FROM"),
    ("SELECT id FROM customers WHERE balance * 2 > 5000.00", "\"balance\""),
    ("SELECT id, key, name, code, born, vip, balance, ratio, free, doc, tags, ranks, at, small FROM customers", "FROM \"public\".\"customers\""),
    ("SELECT count(*) FROM customers", "count(*)"),
    ("SELECT count(*), count(name), count(DISTINCT name), min(name), max(name) FROM customers", "COLLATE \"C\""),
    ("SELECT vip, sum(balance), avg(balance), min(born), max(seen), sum(id) FROM customers GROUP BY vip", "GROUP BY 1"),
    ("SELECT name, count(*) FILTER (WHERE vip) FROM customers GROUP BY name HAVING count(*) > 3", "FILTER (WHERE"),
    ("SELECT feeling, code, avg(id) FROM customers GROUP BY feeling, code", "GROUP BY 1, 2"),
    ("SELECT DISTINCT feeling, vip FROM customers", "GROUP BY 1, 2"),
    ("SELECT date_trunc('month', made), sum(amount) FROM orders GROUP BY 1", "date_trunc('month'"),
    ("SELECT sum(amount), avg(amount), avg(id), max(price) FROM orders WHERE id < 0", "sum("),
    ("SELECT min(key), max(key) FROM customers", "min("),
    ("SELECT id, name FROM customers ORDER BY name DESC NULLS LAST, id LIMIT 10", "ORDER BY"),
    ("SELECT id FROM customers ORDER BY balance, id LIMIT 5 OFFSET 3", "LIMIT 8"),
    ("SELECT c.name, o.amount FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.amount > 200", " JOIN "),
    ("SELECT c.id, o.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.amount > 300", "LEFT JOIN"),
    ("SELECT c.id, o.id FROM customers c RIGHT JOIN orders o ON o.customer_id = c.id", "JOIN"),
    ("SELECT c.id, o.id FROM customers c FULL JOIN orders o ON o.customer_id = c.id", "FULL JOIN"),
    ("SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.amount > 300)", "EXISTS"),
    ("SELECT id FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)", "NOT EXISTS"),
    ("SELECT id FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE amount < 0)", "EXISTS"),
    ("SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders WHERE customer_id < 100)", "orders"),
    ("SELECT a.name, b.name FROM customers a JOIN customers b ON a.key = b.key AND a.id < 20", " JOIN "),
    (
        "SELECT c.feeling, count(*), sum(o.amount), count(DISTINCT c.id) FROM customers c JOIN orders o ON o.customer_id = c.id
         WHERE o.made >= DATE '2024-02-01' GROUP BY c.feeling",
        "GROUP BY 1",
    ),
    (
        "SELECT c.name, t.total FROM customers c
         JOIN (SELECT customer_id, sum(amount) AS total FROM orders GROUP BY customer_id ORDER BY 2 DESC, 1 LIMIT 5) t
         ON t.customer_id = c.id",
        "LIMIT 5",
    ),
    ("SELECT upper(name), count(*) FROM customers GROUP BY 1", "FROM \"public\".\"customers\""),
    ("SELECT id, row_number() OVER (ORDER BY id DESC) FROM customers WHERE id < 30", "(\"id\" < 30)"),
    ("SELECT sum(price * 2 + 1), sum(id * 2) FROM orders", "sum("),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_answers_as_on_a_copy_and_is_done_over_there() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, session) = imported(&postgres).await;
    session.run("CREATE SCHEMA copy; CREATE TABLE copy.customers AS SELECT id, key, name, mail, feeling, code, born, vip, balance, score, ratio, free, joined, seen, doc, picture, tags, ranks, at, small FROM shop.customers").await;
    session.run("CREATE TABLE copy.orders AS SELECT * FROM shop.orders").await;
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
    // What EXPLAIN shows is what was asked.
    assert!(
        postgres
            .log()
            .contains("COPY (SELECT \"id\"::integer AS c0 FROM \"public\".\"customers\" WHERE (\"name\" = 'bob2')")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_all_types_come_as_they_are() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, session) = imported(&postgres).await;
    let there = postgres.connect().await;
    there.batch_execute("SET timezone = 'UTC'").await.unwrap();
    let columns = "id, key, name, mail, feeling, code::text, born, vip, balance, score, ratio, joined, seen, doc, \
                   encode(picture, 'hex'), tags, ranks, at, small, span";
    for id in [1, 5, 7, 35, 299, 300] {
        let query = format!("SELECT {columns} FROM TABLE WHERE id = {id}");
        let found = session.rows(&query.replace("TABLE", "shop.customers")).await;
        let messages = there.simple_query(&query.replace("TABLE", "public.customers")).await.unwrap();
        let tokio_postgres::SimpleQueryMessage::Row(row) = &messages[1] else { panic!("{messages:?}") };
        let expected: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
        assert_eq!(found[0], expected);
    }
    assert_eq!(session.value("SELECT free FROM shop.customers WHERE id = 1").await, "0.1428571429");
    // Names may be anything, a partitioned table is one table, and what cannot be read is left out.
    let odd = session.rows("SELECT \"Ünï cödé\", \"select\" FROM shop.\"Größe \"\"x\"\"\" ORDER BY 2").await;
    assert_eq!(odd, [["ja", "1"], ["NULL", "2"]]);
    assert_eq!(session.value("SELECT count(*) FROM shop.parts").await, "1");
    let tables =
        session.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' ORDER BY 1").await;
    assert_eq!(tables.concat(), ["Größe \"x\"", "customers", "orders", "parts", "totals"]);
    assert!(session.refusal("SELECT place FROM shop.customers").await.message().contains("place"));

    postgres.run("CREATE TABLE odd (d date, n numeric, a integer[]); INSERT INTO odd VALUES ('infinity', 'NaN', '{{1},{2}}')").await;
    session.run("IMPORT FOREIGN SCHEMA public LIMIT TO (odd) FROM SERVER shop INTO shop").await;
    for (column, says) in [("d", "infinity"), ("n", "NaN"), ("a", "more than one dimension")] {
        let error = session.refusal(&format!("SELECT {column} FROM shop.odd")).await;
        assert!(error.message().contains(says), "{error}");
        assert_eq!(error.code().code(), "22003");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_name_what_they_leave_out_and_are_all_or_nothing() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, mut session) = imported(&postgres).await;
    session.notices.saying("column \"place\" of \"customers\" is left out: values of type point cannot be read").await;
    session.notices.saying("column \"words\" of \"customers\" is left out: values of type tsvector").await;
    session.notices.saying("\"shapes\" has no column that can be read, skipping").await;
    session
        .run("CREATE SCHEMA some; IMPORT FOREIGN SCHEMA public LIMIT TO (orders, nothing) FROM SERVER shop INTO some")
        .await;
    session.notices.saying("has no table \"nothing\", skipping").await;
    let refused = session.refusal("IMPORT FOREIGN SCHEMA public EXCEPT (customers) FROM SERVER shop INTO some").await;
    assert_eq!(refused.code(), &SqlState::DUPLICATE_TABLE);
    let count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'some'";
    assert_eq!(session.value(count).await, "1");
    let refused = session.refusal("IMPORT FOREIGN SCHEMA nowhere FROM SERVER shop INTO some").await;
    assert_eq!(refused.code(), &SqlState::INVALID_SCHEMA_NAME);

    session
        .run("CREATE FOREIGN TABLE buyers (nr integer OPTIONS (column_name 'id'), name text) SERVER shop OPTIONS (table_name 'customers')")
        .await;
    assert_eq!(session.value("SELECT name FROM buyers WHERE nr = 2").await, "bob2");
    let refused =
        session.refusal("CREATE FOREIGN TABLE b2 (id text) SERVER shop OPTIONS (table_name 'customers')").await;
    assert_eq!(refused.code(), &SqlState::DATATYPE_MISMATCH);
    let refused =
        session.refusal("CREATE FOREIGN TABLE b2 (nr integer) SERVER shop OPTIONS (table_name 'customers')").await;
    assert_eq!(refused.code(), &SqlState::UNDEFINED_COLUMN);
    let refused = session.refusal("INSERT INTO buyers VALUES (1, 'x')").await;
    assert_eq!(refused.code(), &SqlState::WRONG_OBJECT_TYPE);
    session.run("DROP FOREIGN TABLE buyers").await;
    // Nothing that was sent could have written.
    assert!(postgres.log().contains("default_transaction_read_only = on"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_rows_meet_local_ones_and_models_learn_from_them() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, session) = imported(&postgres).await;
    session
        .run("CREATE TABLE vips (customer_id int, level text); INSERT INTO vips VALUES (1, 'gold'), (2, 'silver')")
        .await;
    let rows = session
        .rows(
            "SELECT v.level, count(o.id) FROM vips v JOIN shop.orders o USING (customer_id)
             JOIN shop.customers c ON c.id = v.customer_id GROUP BY v.level ORDER BY 1",
        )
        .await;
    assert_eq!(rows, [["gold", "5"], ["silver", "5"]]);
    session
        .run(
            "CREATE MODEL tiers OPTIONS (model_type = 'kmeans', num_clusters = 2, seed = 1) AS
             SELECT id, balance, score FROM shop.customers",
        )
        .await;
    assert_eq!(
        session.value("SELECT count(*) FROM predict('tiers', (SELECT id, balance, score FROM shop.customers))").await,
        "300"
    );
    session.run("CREATE VIEW rich AS SELECT name, balance FROM shop.customers WHERE balance > 3000").await;
    assert_eq!(session.value("SELECT count(*) FROM rich").await, "39");
    session.run("CREATE TABLE kept AS SELECT * FROM shop.orders").await;
    let sum = |table: &str| format!("SELECT sum(amount) FROM {table}");
    assert_eq!(session.value(&sum("kept")).await, session.value(&sum("shop.orders")).await);
    // What happens over there is seen with the next query.
    postgres.run("DELETE FROM orders WHERE id > 1000").await;
    assert_eq!(session.value("SELECT count(*) FROM shop.orders").await, "1000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_scans_of_a_query_see_one_state() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, session) = imported(&postgres).await;
    postgres
        .run("CREATE TABLE a (n bigint); CREATE TABLE b (n bigint); INSERT INTO a VALUES (0); INSERT INTO b VALUES (0)")
        .await;
    session.run("IMPORT FOREIGN SCHEMA public LIMIT TO (a, b) FROM SERVER shop INTO shop").await;
    let writer = postgres.connect().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            writer.batch_execute("BEGIN; UPDATE a SET n = n + 1; UPDATE b SET n = n + 1; COMMIT").await.unwrap();
        }
    });
    for _ in 0..50 {
        // upper() is not sent, so that there are two scans.
        let same = "SELECT (SELECT max(upper(n::text)) FROM shop.a) = (SELECT max(upper(n::text)) FROM shop.b)";
        assert_eq!(session.value(same).await, "t");
    }
    stop.send(()).unwrap();
    writing.await.unwrap();
    assert!(postgres.log().contains("SET TRANSACTION SNAPSHOT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_read_what_and_as_whom() {
    let Some(postgres) = Postgres::start() else { return };
    let (server, session) = imported(&postgres).await;
    session.run("CREATE USER ann; GRANT USAGE ON SCHEMA shop TO ann; GRANT SELECT ON shop.orders TO ann").await;
    session.run("GRANT SELECT (id, name) ON shop.customers TO ann").await;
    let ann = Connection::as_user(server.address, "user=ann").await;
    let refused = ann.refusal("SELECT count(*) FROM shop.orders").await;
    assert_eq!((refused.code().code(), refused.message()), ("42704", "user mapping not found for \"ann\""));
    session.run("CREATE USER MAPPING FOR ann SERVER shop OPTIONS (user 'locked', password 'swordfish')").await;
    assert_eq!(ann.value("SELECT count(*) FROM shop.orders").await, "2000");
    assert_eq!(ann.value("SELECT name FROM shop.customers WHERE id = 2").await, "bob2");
    assert_eq!(ann.refusal("SELECT balance FROM shop.customers").await.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(ann.refusal("SELECT * FROM shop.totals").await.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    let join = "SELECT count(*) FROM shop.orders o JOIN shop.customers c ON c.id = o.customer_id WHERE c.balance > 0";
    assert_eq!(ann.refusal(join).await.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    for sql in [
        "CREATE SERVER s2 FOREIGN DATA WRAPPER postgres",
        "ALTER SERVER shop OPTIONS (SET host 'elsewhere')",
        "DROP SERVER shop CASCADE",
        "CREATE USER MAPPING FOR ann SERVER shop",
        "IMPORT FOREIGN SCHEMA public FROM SERVER shop INTO shop",
        "CREATE FOREIGN TABLE t SERVER shop OPTIONS (table_name 'orders')",
    ] {
        assert_eq!(ann.refusal(sql).await.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    // A policy stands between the rows and whatever a query asks of them.
    session.run("CREATE POLICY few ON shop.orders TO ann USING (id < 11); ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY").await;
    assert_eq!(ann.value("SELECT count(*) FROM shop.orders").await, "10");
    // A view reads as its owner, there too.
    session
        .run("CREATE VIEW shop.all_orders AS SELECT * FROM shop.orders; GRANT SELECT ON shop.all_orders TO ann")
        .await;
    assert_eq!(ann.value("SELECT count(*) FROM shop.all_orders").await, "2000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, session) = imported(&postgres).await;
    session
        .run("ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (SET user 'locked', password 'swordfish')")
        .await;
    assert_eq!(session.value("SELECT count(*) FROM shop.orders").await, "2000");
    session
        .run("CREATE SERVER other FOREIGN DATA WRAPPER postgres OPTIONS (host 'x', user 'u', password 'swordfish')")
        .await;
    session.run("CREATE SERVER third FOREIGN DATA WRAPPER postgres OPTIONS (host 'x', user 'u', password_env 'NOT_SET_HERE')").await;
    let mut shown = String::new();
    for sql in [
        "SELECT * FROM ml.servers",
        "SELECT * FROM pg_foreign_server",
        "SELECT * FROM pg_user_mapping",
        "SELECT * FROM pg_user_mappings",
        "SELECT * FROM pg_foreign_table",
        "SELECT * FROM pg_stat_activity",
        "EXPLAIN VERBOSE SELECT * FROM shop.orders",
    ] {
        shown.push_str(&format!("{:?}\n", session.rows(sql).await));
    }
    assert!(shown.contains("kept encrypted") && shown.contains("in the environment: NOT_SET_HERE"), "{shown}");
    session.run("ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (SET password 'sword''fish-2')").await;
    for sql in [
        "SELECT count(*) FROM shop.orders",
        "CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (password \"swordfish\")",
        "CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (password swordfish)",
        "CREATE SERVER x FOREIGN DATA WRAPPER postgres OPTIONS (password 'swordfish', nonsense 'x')",
        "IMPORT FOREIGN SCHEMA public FROM SERVER third INTO shop",
    ] {
        let error = session.refusal(sql).await;
        shown.push_str(&format!("{error:?}"));
    }
    assert!(shown.contains("password authentication failed for user \\\"locked\\\""), "{shown}");
    assert!(shown.contains("NOT_SET_HERE is not set"), "{shown}");
    assert!(!shown.contains("swordfish") && !shown.contains("fish-2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_said_so_and_is_found_again() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, session) = imported(&postgres).await;
    assert_eq!(session.value("SELECT count(*) FROM shop.orders").await, "2000");
    // In mid-query.
    postgres.run("CREATE VIEW slow AS SELECT g, pg_sleep(0.01)::text AS x FROM generate_series(1, 100000) AS g").await;
    session.run("IMPORT FOREIGN SCHEMA public LIMIT TO (slow) FROM SERVER shop INTO shop").await;
    let (killed, ()) = tokio::join!(session.refusal("SELECT max(upper(x)), count(g) FROM shop.slow"), async {
        eventually(|| async { postgres.log().contains("COPY (SELECT \"g\"") }).await;
        let data = postgres.data();
        tokio::task::block_in_place(|| postgres.down());
        assert!(!data.is_empty());
    });
    assert_eq!(killed.code().code(), "08006", "{killed:?}");
    assert!(killed.hint().is_some());
    let away = session.refusal("SELECT count(*) FROM shop.orders").await;
    assert_eq!(away.code().code(), "08001", "{away:?}");
    assert!(away.message().starts_with("could not connect to server \"shop\""), "{away:?}");
    assert!(away.hint().is_some());
    tokio::task::block_in_place(|| postgres.up());
    assert_eq!(session.value("SELECT count(*) FROM shop.orders").await, "2000");
    // A connection that was left is no longer one after a restart, and nobody notices.
    tokio::task::block_in_place(|| postgres.down());
    tokio::task::block_in_place(|| postgres.up());
    assert_eq!(session.value("SELECT count(*) FROM shop.orders").await, "2000");
    session.run("ALTER SERVER shop OPTIONS (SET host '/nowhere/at/all')").await;
    assert_eq!(session.refusal("SELECT count(*) FROM shop.orders").await.code().code(), "08001");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_query_ends_over_there_too() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, session) = imported(&postgres).await;
    postgres.run("CREATE VIEW stuck AS SELECT g, pg_sleep(600)::text AS x FROM generate_series(1, 10) AS g").await;
    session.run("IMPORT FOREIGN SCHEMA public LIMIT TO (stuck) FROM SERVER shop INTO shop").await;
    let there = postgres.connect().await;
    let busy = || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name = 'cohort'";
        there.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let cancel = session.client.cancel_token();
    let (cancelled, ()) = tokio::join!(session.refusal("SELECT * FROM shop.stuck"), async {
        eventually(|| async { busy().await == 1 }).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!(cancelled.code(), &SqlState::QUERY_CANCELED);
    eventually(|| async { busy().await == 0 }).await;
    // One that is given up for having enough ends, too.
    postgres.run("CREATE VIEW endless AS SELECT g AS n FROM generate_series(1, 1000000000) AS g").await;
    session.run("IMPORT FOREIGN SCHEMA public LIMIT TO (endless) FROM SERVER shop INTO shop").await;
    assert_eq!(session.rows("SELECT upper(n::text) FROM shop.endless LIMIT 3").await.len(), 3);
    eventually(|| async { busy().await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_dropped_with_what_is_theirs() {
    let Some(postgres) = Postgres::start() else { return };
    let (_server, mut session) = imported(&postgres).await;
    assert_eq!(session.refusal("DROP SERVER shop").await.code(), &SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    assert_eq!(
        session.refusal("CREATE SERVER shop FOREIGN DATA WRAPPER postgres").await.code(),
        &SqlState::DUPLICATE_OBJECT
    );
    session.run("CREATE SERVER IF NOT EXISTS shop FOREIGN DATA WRAPPER postgres_fdw").await;
    assert_eq!(
        session.refusal("CREATE SERVER s FOREIGN DATA WRAPPER oracle").await.code(),
        &SqlState::FEATURE_NOT_SUPPORTED
    );
    assert_eq!(session.refusal("ALTER SERVER shop OPTIONS (SET port 'x')").await.code().code(), "42704");
    assert_eq!(session.refusal("ALTER SERVER shop OPTIONS (ADD port 'x')").await.code().code(), "22023");
    assert_eq!(session.refusal("DROP SERVER shpo").await.code().code(), "42704");
    session.run("DROP SERVER IF EXISTS nothing, shop CASCADE").await;
    session.notices.saying("drop cascades to 5 foreign tables").await;
    assert_eq!(session.refusal("SELECT * FROM shop.orders").await.code(), &SqlState::UNDEFINED_TABLE);
    assert_eq!(session.value("SELECT count(*) FROM ml.servers").await, "0");
    session.run("DROP USER MAPPING IF EXISTS FOR PUBLIC SERVER shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_encrypted_as_asked() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(postgres) = Postgres::encrypted(port, &cert.pem(), &signing_key.serialize_pem()) else { return };
    postgres.run("CREATE VIEW how AS SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
    let authorities = postgres.path().join("ca.pem");
    std::fs::write(&authorities, cert.pem()).unwrap();
    let authorities = authorities.display();
    let server = TestServer::start().await;
    let session = server.connect().await;
    let tries = [
        ("localhost", "sslmode 'prefer'".to_owned(), true),
        ("localhost", "sslmode 'require'".to_owned(), true),
        ("localhost", "sslmode 'disable'".to_owned(), false),
        ("localhost", format!("sslmode 'verify-full', sslrootcert '{authorities}'"), true),
        ("127.0.0.1", format!("sslmode 'verify-full', sslrootcert '{authorities}'"), false),
        ("127.0.0.1", format!("sslmode 'verify-ca', sslrootcert '{authorities}'"), true),
    ];
    for (host, mode, let_in) in tries {
        let options = format!("host '{host}', port '{port}', dbname 'shop', user 'postgres', {mode}");
        session.run(&format!("CREATE SERVER s FOREIGN DATA WRAPPER postgres OPTIONS ({options})")).await;
        let create = "CREATE FOREIGN TABLE how SERVER s";
        match let_in {
            true => {
                session.run(create).await;
                assert_eq!(session.value("SELECT ssl FROM how").await, "t", "{mode}");
            }
            false => assert_eq!(session.refusal(create).await.code().code(), "08001", "{mode}"),
        }
        session.run("DROP SERVER s CASCADE").await;
    }
    // Certificates of somebody else.
    let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    std::fs::write(postgres.path().join("ca.pem"), other).unwrap();
    let options = format!(
        "host 'localhost', port '{port}', dbname 'shop', user 'postgres', sslmode 'verify-ca', sslrootcert '{authorities}'"
    );
    session.run(&format!("CREATE SERVER s FOREIGN DATA WRAPPER postgres OPTIONS ({options})")).await;
    assert_eq!(session.refusal("CREATE FOREIGN TABLE how SERVER s").await.code().code(), "08001");
}

#[cfg(not(feature = "mysql"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_this_program_was_built_without_is_said_so() {
    let server = TestServer::start().await;
    let session = server.connect().await;
    let refused = session.refusal("CREATE SERVER shop FOREIGN DATA WRAPPER mysql OPTIONS (host 'x')").await;
    assert_eq!(
        (refused.code().code(), refused.message()),
        ("0A000", "foreign-data wrapper \"mysql\" is not supported")
    );
    assert!(refused.hint().unwrap().contains("--features mysql"), "{refused:?}");
}
