//! The wire as drivers use it: parameters, portals, cancelling, notices, errors and tags.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::server::{Connection, PATIENCE, Raw, TestServer, letters};

/// Even customers like even products, odd ones odd products, with holes to fill.
const BOARD: &str = "CREATE TABLE had AS SELECT u AS customer_id, i AS product_id \
     FROM generate_series(1, 40) AS a(u), generate_series(1, 20) AS b(i) \
     WHERE (u + i) % 2 = 0 AND (u * 7 + i * 3) % 5 <> 0; \
     CREATE MODEL taste OPTIONS (model_type = 'matrix_factorization', num_factors = 4, l2_reg = 0.1, seed = 1) AS \
     SELECT customer_id, product_id FROM had;";

/// Would run for hours.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 10000000) AS a(i), generate_series(1, 10000000) AS b(j) WHERE i * j % 7 = 8";

/// Makes a table on which training takes minutes, so that there is something to cancel.
const MANY: &str = "CREATE TABLE many AS SELECT u AS customer_id, (u * 31 + i * 17) % 997 AS product_id \
     FROM generate_series(1, 4000) AS a(u), generate_series(1, 25) AS b(i)";
const LONG_TRAINING: &str = "CREATE MODEL slow OPTIONS (model_type = 'matrix_factorization', num_factors = 64, \
     max_iterations = 1000) AS SELECT customer_id, product_id FROM many";

/// A plan reads the state that it was made for: what was prepared before a commit is planned anew after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_prepared_sees_later_commits() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run(BOARD).await;
    let client = &connection.client;
    let count = client.prepare("SELECT count(*) FROM had WHERE customer_id = $1").await.unwrap();
    let recommended =
        client.prepare("SELECT product_id FROM recommend('taste', $1, k => 1, fresh => true)").await.unwrap();
    let had = client.query_one(&count, &[&7i64]).await.unwrap().get::<_, i64>(0);
    let first = client.query_one(&recommended, &[&7i64]).await.unwrap().get::<_, i64>(0);

    // From another connection, as a shop would.
    let insert = format!("INSERT INTO had (customer_id, product_id) VALUES (7, {first})");
    server.connect().await.run(&insert).await;
    assert_eq!(client.query_one(&count, &[&7i64]).await.unwrap().get::<_, i64>(0), had + 1);
    let next = client.query(&recommended, &[&7i64]).await.unwrap();
    assert!(next.iter().all(|row| row.get::<_, i64>(0) != first), "{first} is recommended though it was bought");

    // Another version of the model is another answer, also of a plan that has run before.
    let plain = client.prepare("SELECT product_id FROM recommend('taste', $1, k => 1, fresh => false)").await.unwrap();
    let mut before = 0;
    for _ in 0..4 {
        before = client.query_one(&plain, &[&7i64]).await.unwrap().get::<_, i64>(0);
    }
    let only_one = "CREATE OR REPLACE MODEL taste OPTIONS (model_type = 'popularity') AS SELECT customer_id, product_id + 1000 AS \
                    product_id FROM had";
    server.connect().await.run(only_one).await;
    let after = client.query_one(&plain, &[&7i64]).await.unwrap().get::<_, i64>(0);
    assert!(before < 1000 && after >= 1000, "{before} and {after}");

    // What it returns stays what was promised.
    server.connect().await.run("CREATE OR REPLACE TABLE had AS SELECT 'x' AS customer_id, 1 AS product_id").await;
    let error = client.query(&count, &[&7i64]).await.unwrap_err();
    assert!(error.code().is_some(), "{error}");
}

/// From its second run on the plan is one that was optimised without the values.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_statement_answers_alike_whenever_it_runs() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection
        .run(
            "CREATE TABLE t (i bigint, name text, at timestamp, price numeric(12, 2));
             INSERT INTO t SELECT i, 'name ' || i % 40, timestamp '2026-01-01' + i * interval '1 hour', i % 100
             FROM generate_series(1, 5000) AS g(i);
             INSERT INTO t VALUES (NULL, NULL, NULL, NULL)",
        )
        .await;
    let numbers = &["7", "4990", "-1", "NULL", "40"][..];
    for (parameter, sql, values) in [
        ("bigint", "SELECT count(*), min(name) FROM t WHERE i > $1", numbers),
        ("bigint", "SELECT name, count(*) FROM t WHERE i % 40 = $1 GROUP BY name ORDER BY name", numbers),
        ("bigint", "SELECT count(*) FROM t a JOIN t b ON a.i = b.i + $1 WHERE b.price > 50", numbers),
        ("bigint", "SELECT i + $1 FROM t WHERE i = (SELECT max(i) - $1 FROM t)", numbers),
        ("bigint", "SELECT $1, name FROM t WHERE $1 IS NULL OR i = $1 ORDER BY i LIMIT 2", numbers),
        ("bigint", "SELECT i FROM t WHERE i IN (SELECT i FROM t WHERE i < $1) ORDER BY i DESC LIMIT 3", numbers),
        ("bigint", "SELECT sum(price) FILTER (WHERE i > $1), $1 * 2 FROM t", numbers),
        ("bigint", "SELECT i FROM t ORDER BY i LIMIT $1", &["3", "0", "1"]),
        ("text", "SELECT count(*) FROM t WHERE name LIKE $1", &["'name 1%'", "'%9'", "NULL", "''"]),
        (
            "date",
            "SELECT count(*) FROM t WHERE at >= $1 - interval '2 days'",
            &["'2026-02-01'", "'2030-01-01'", "NULL"],
        ),
        ("numeric", "SELECT count(*) FROM t WHERE price BETWEEN $1 AND $1 + 1", &["3.5", "99", "NULL"]),
    ] {
        connection.run(&format!("PREPARE q ({parameter}) AS {sql}")).await;
        for value in values.iter().chain(values).chain(values) {
            let literal = sql.replace("$1", &format!("{value}::{parameter}"));
            let expected = connection.rows(&literal).await;
            assert_eq!(connection.rows(&format!("EXECUTE q ({value})")).await, expected, "{literal}");
        }
        connection.run("DEALLOCATE q").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_reach_functions_of_models() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run(BOARD).await;
    let client = &connection.client;

    let statement =
        client.prepare("SELECT customer_id, product_id FROM recommend('taste', $1, k => $2) ORDER BY rank").await;
    let statement = statement.unwrap();
    assert_eq!(statement.params(), [Type::INT8, Type::INT8]);
    assert_eq!(statement.columns()[0].name(), "customer_id");
    // From the second run on it is the plan for all values.
    for (customer, k) in [(7i64, 1i64), (8, 2), (10, 1), (9, 2)] {
        let rows = client.query(&statement, &[&customer, &k]).await.unwrap();
        assert_eq!(rows.len() as i64, k);
        for row in &rows {
            assert_eq!(row.get::<_, i64>(0), customer);
            assert_eq!((customer + row.get::<_, i64>(1)) % 2, 0);
        }
    }

    // Where a model is asked about the values and no more, the plan is kept to its last step, and the values change.
    for sql in [
        "SELECT customer_id, product_id, rank, score, source FROM recommend('taste', $1, k => 2) ORDER BY rank DESC",
        "SELECT product_id FROM recommend('taste', $1, k => 9) WHERE rank > 1 ORDER BY score DESC LIMIT 2",
        "SELECT $1 AS asked, product_id FROM recommend('taste', $1, k => 2) WHERE rank = 1",
        "SELECT rank, product_id FROM recommend('taste', 7, k => 1 + abs($1) % 3) ORDER BY rank",
        "SELECT count(*), max(score) FROM recommend('taste', $1)",
        "SELECT product_id FROM recommend('taste', $1, candidates => (SELECT product_id FROM had WHERE product_id > 3), k => 1)",
        "SELECT because_item FROM explain_recommendation('taste', (SELECT $1 AS customer_id, 4 AS product_id)) ORDER BY 1",
        "SELECT product_id, round(score::numeric, 4) FROM similar_items('taste', $1, k => 3) ORDER BY rank",
        "SELECT r.product_id, e.because_item FROM recommend('taste', $1, k => 2) r CROSS JOIN LATERAL \
         explain_recommendation('taste', r.customer_id, r.product_id, k => 1) e ORDER BY r.rank",
    ] {
        connection.run(&format!("PREPARE q (bigint) AS {sql}")).await;
        for value in ["7", "8", "2", "NULL", "9", "999", "-1", "4", "7", "8"] {
            let literal = sql.replace("$1", &format!("{value}::bigint"));
            let (expected, found) =
                (connection.attempt(&literal).await, connection.attempt(&format!("EXECUTE q ({value})")).await);
            assert_eq!(found, expected, "{literal}");
        }
        connection.run("DEALLOCATE q").await;
    }

    let query = "SELECT product_id FROM recommend('taste', items => $1, k => 3)";
    assert_eq!(client.query(query, &[&vec![2i64, 4]]).await.unwrap().len(), 3);
    let query = "SELECT DISTINCT customer_id FROM recommend('taste', (SELECT customer_id FROM had WHERE customer_id < $1), k => 1)";
    assert_eq!(client.query(query, &[&4i64]).await.unwrap().len(), 3);
    let query = "SELECT rank FROM similar_items('taste', $1, k => $2)";
    assert_eq!(client.query(query, &[&2i64, &4i64]).await.unwrap().len(), 4);
    let query = "SELECT embed('taste', $1::bigint)";
    let vector: Vec<f32> = client.query_one(query, &[&2i64]).await.unwrap().get(0);
    assert_eq!(vector.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_of_every_common_type() {
    let server = TestServer::start().await;
    let client = server.connect().await.client;
    let row = client
        .query_one(
            "SELECT $1::bigint + 1, $2::text || '!', NOT $3::boolean, $4::double precision / 2, $5::int, $6::text",
            &[&41i64, &"ä'\\", &false, &3.0f64, &7i32, &Option::<&str>::None],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 42);
    assert_eq!(row.get::<_, &str>(1), "ä'\\!");
    assert!(row.get::<_, bool>(2));
    assert_eq!(row.get::<_, f64>(3), 1.5);
    assert_eq!(row.get::<_, i32>(4), 7);
    assert_eq!(row.get::<_, Option<&str>>(5), None);

    client.batch_execute("CREATE TABLE t (a bigint, b text)").await.unwrap();
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
    for (a, b) in [(1i64, Some("x")), (2, None)] {
        assert_eq!(client.execute(&insert, &[&a, &b]).await.unwrap(), 1);
    }
    let rows = client.query("SELECT b FROM t WHERE a = $1", &[&2i64]).await.unwrap();
    assert_eq!(rows[0].get::<_, Option<&str>>(0), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parameter_has_the_type_that_its_client_declares() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run(BOARD).await;
    let client = &connection.client;
    // psycopg declares a small number as smallint, wherever it goes, and text as nothing.
    let statement = client.prepare_typed("SELECT $1, $2, $3", &[Type::INT2, Type::FLOAT8]).await.unwrap();
    let types: Vec<_> = statement.columns().iter().map(|column| column.type_().clone()).collect();
    assert_eq!(types, [Type::INT2, Type::FLOAT8, Type::TEXT]);
    let row = client.query_one(&statement, &[&5i16, &0.5f64, &"x"]).await.unwrap();
    assert_eq!((row.get::<_, i16>(0), row.get::<_, f64>(1), row.get::<_, &str>(2)), (5, 0.5, "x"));

    let query = "SELECT customer_id, rank FROM recommend('taste', $1, k => $2)";
    let statement = client.prepare_typed(query, &[Type::INT2, Type::INT2]).await.unwrap();
    assert_eq!(statement.columns()[0].type_(), &Type::INT8);
    assert_eq!(client.query(&statement, &[&7i16, &2i16]).await.unwrap().len(), 2);
    let query = "SELECT customer_id FROM recommend('taste', (SELECT DISTINCT customer_id FROM had WHERE customer_id < $1 LIMIT $3), k => $2)";
    let statement = client.prepare_typed(query, &[Type::INT2, Type::INT4, Type::INT2]).await.unwrap();
    assert_eq!(client.query(&statement, &[&9i16, &1i32, &3i16]).await.unwrap().len(), 3);
    let query = "SELECT product_id FROM recommend('taste', items => $1, k => 3)";
    let statement = client.prepare_typed(query, &[Type::INT2_ARRAY]).await.unwrap();
    assert_eq!(client.query(&statement, &[&vec![2i16, 4]]).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parameter_gets_the_type_of_its_place() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run(BOARD).await;
    let client = &connection.client;
    let statement =
        client.prepare("SELECT DISTINCT customer_id FROM had WHERE customer_id = ANY($1) ORDER BY 1 LIMIT $2").await;
    let statement = statement.unwrap();
    assert_eq!(statement.params(), [Type::INT8_ARRAY, Type::INT8]);
    assert_eq!(client.query(&statement, &[&vec![1i64, 2, 3], &2i64]).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_trained_with_parameters() {
    let server = TestServer::start().await;
    let mut connection = server.connect().await;
    connection.run(BOARD).await;
    let create = "CREATE OR REPLACE MODEL taste OPTIONS (model_type = 'matrix_factorization', num_factors = $1, l2_reg = $2) \
                  AS SELECT customer_id, product_id FROM had WHERE customer_id <= $3";
    let statement = connection.client.prepare(create).await.unwrap();
    assert_eq!(statement.params(), [Type::INT8, Type::FLOAT8, Type::INT8]);
    connection.client.execute(&statement, &[&3i64, &0.25f64, &30i64]).await.unwrap();
    connection.notices.saying("version 2: trained on").await;
    let kept = connection.rows("DESCRIBE MODEL taste").await.concat().join(" ");
    assert!(kept.contains("0.25"), "{kept}");
    assert_eq!(connection.value("SELECT length(embed('taste', 2)::text) > 0").await, "t");

    // Text is read as the option's type, and judged as if it were written there.
    let create = "CREATE MODEL groups OPTIONS (model_type = $1, k = $2) AS SELECT customer_id FROM had";
    let error = connection.client.execute(create, &[&"kmeans", &"none"]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22023");
    connection.client.execute(create, &[&"kmeans", &"2"]).await.unwrap();
    assert_eq!(connection.refusal(create).await.code().code(), "42P02");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_headed_as_clients_expect() {
    let server = TestServer::start().await;
    let client = server.connect().await.client;
    let sql = "SELECT count(*), 1, NULL::text, NULL::bigint, max(i)::int, i, i FROM generate_series(1, 3) AS t(i) GROUP BY i ORDER BY i";
    let expected = ["count", "?column?", "text", "int8", "max", "i", "i"];
    let statement = client.prepare(sql).await.unwrap();
    assert_eq!(statement.columns().iter().map(|column| column.name()).collect::<Vec<_>>(), expected);
    let rows = client.query(&statement, &[]).await.unwrap();
    assert_eq!(rows.len(), 3);
    let messages = client.simple_query(sql).await.unwrap();
    let SimpleQueryMessage::RowDescription(columns) = &messages[0] else { panic!("rows come after their description") };
    assert_eq!(columns.iter().map(|column| column.name()).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drivers_say_hello_in_their_own_ways() {
    let server = TestServer::start().await;
    // asyncpg quotes the encoding.
    let connection = Connection::with_options(server.address, "options='-c client_encoding=\\'utf-8\\''").await;
    assert_eq!(connection.value("SHOW client_encoding").await, "UTF8");
    assert_eq!(connection.value("SELECT current_setting('client_encoding')").await, "UTF8");
    assert_eq!(connection.value("SELECT set_config('statement_timeout', '5s', false)").await, "5s");
    assert_eq!(connection.value("SHOW statement_timeout").await, "5s");
    assert_eq!(connection.refusal("SELECT current_setting('no_such')").await.code().code(), "42704");
    assert_eq!(connection.value("SELECT current_setting('no_such', true)").await, "NULL");
    // SQLAlchemy and psycopg look for types of extensions.
    let hstore = connection.client.query(
        "SELECT typname AS name, oid, typarray AS array_oid FROM pg_type t WHERE t.oid = to_regtype($1) ORDER BY t.oid",
        &[&"hstore"],
    );
    assert!(hstore.await.unwrap().is_empty());
    assert_eq!(connection.value("SELECT typname FROM pg_type t WHERE t.oid = to_regtype('int4')").await, "int4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_reads_the_columns_of_a_table() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run("CREATE TABLE people (id bigint, name text)").await;
    // As SQLAlchemy asks: with look-ups of defaults, keys that are unnested, and an escape of its own.
    let columns = connection.rows(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
         CASE WHEN a.atthasdef THEN (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d \
         WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         WHERE c.relname = 'people' ORDER BY a.attnum",
    );
    assert_eq!(columns.await, [["id", "bigint", "NULL"], ["name", "text", "NULL"]]);
    let keys = "SELECT con.conname, unnest(con.conkey) AS attnum, generate_subscripts(con.conkey, 1) AS ord \
                FROM pg_catalog.pg_constraint con JOIN pg_catalog.pg_class c ON c.oid = con.conrelid \
                WHERE c.relname = 'people'";
    assert!(connection.rows(keys).await.is_empty());
    let schemas = "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname NOT LIKE 'pg/_%' ESCAPE '/' ORDER BY 1";
    assert!(connection.rows(schemas).await.concat().contains(&"public".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_is_read_in_pieces() {
    let server = TestServer::start().await;
    let mut client = server.connect().await.client;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT i FROM generate_series(1, 25000) AS t(i) ORDER BY i", &[]).await.unwrap();
    let mut next = 1i64;
    for wanted in [10, 1, 20_000, 10_000] {
        let rows = transaction.query_portal(&portal, wanted).await.unwrap();
        let there = (25_001 - next).min(i64::from(wanted));
        assert_eq!(rows.len() as i64, there);
        for row in rows {
            assert_eq!(row.get::<_, i64>(0), next);
            next += 1;
        }
    }
    assert!(transaction.query_portal(&portal, 10).await.unwrap().is_empty());
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_query_is_cancelled_and_the_connection_goes_on() {
    let server = TestServer::start().await;
    let mut connection = server.connect().await;
    let Connection { client, notices } = &mut connection;
    let token = client.cancel_token();
    // What runs before the endless query tells when it is its turn.
    let script = format!("CREATE SCHEMA IF NOT EXISTS public; {ENDLESS}");
    let (outcome, ()) = tokio::join!(client.batch_execute(&script), async {
        notices.saying("already exists").await;
        token.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(outcome.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(connection.value("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_stream_stops_in_its_middle() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let none: [&str; 0] = [];
    let rows = connection.client.query_raw("SELECT i FROM generate_series(1, 1000000000) AS t(i)", none).await.unwrap();
    let mut rows = std::pin::pin!(rows);
    assert!(rows.next().await.unwrap().is_ok());
    connection.client.cancel_token().cancel_query(NoTls).await.unwrap();
    let error = loop {
        match tokio::time::timeout(PATIENCE, rows.next()).await.unwrap() {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a billion rows came before the cancel request"),
        }
    };
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(connection.value("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_training_leaves_nothing() {
    let server = TestServer::start().await;
    let mut connection = server.connect().await;
    connection.run(MANY).await;
    let Connection { client, notices } = &mut connection;
    let token = client.cancel_token();
    let (outcome, ()) = tokio::join!(client.batch_execute(LONG_TRAINING), async {
        notices.saying("training matrix_factorization").await;
        token.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(outcome.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(connection.value("SELECT count(*) FROM ml.models").await, "0");
    // The name is free.
    connection
        .run("CREATE MODEL slow OPTIONS (model_type = 'popularity') AS SELECT customer_id, product_id FROM many")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_its_training_along() {
    let server = TestServer::start().await;
    let mut leaving = server.connect().await;
    leaving.run(MANY).await;
    {
        let Connection { client, notices } = &mut leaving;
        tokio::select! {
            outcome = client.batch_execute(LONG_TRAINING) => panic!("it ended by itself: {outcome:?}"),
            _ = notices.saying("training matrix_factorization") => {}
        }
    }
    drop(leaving);
    // Training and its memory are gone soon; meanwhile others are served, and the name is free.
    let other = server.connect().await;
    let quick = "CREATE MODEL slow OPTIONS (model_type = 'popularity') AS SELECT customer_id, product_id FROM many";
    other.run(quick).await;
    assert_eq!(other.value("SELECT model_type FROM ml.models").await, "popularity");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_tell_of_training_and_of_what_was_left_out() {
    let server = TestServer::start().await;
    let mut connection = server.connect().await;
    connection
        .run(
            "CREATE MODEL m OPTIONS (model_type = 'logistic_reg', label = 'y') AS \
             SELECT i * 37 % 401 AS x, CASE WHEN i % 4 <> 0 THEN i * 37 % 401 + i % 31 > 200 END AS y FROM generate_series(1, 400) AS t(i)",
        )
        .await;
    connection.notices.saying("read 400 rows").await;
    let skipped = connection.notices.saying("whose label is NULL").await;
    assert_eq!(skipped.parsed_severity(), Some(Severity::Notice));
    let summary = connection.notices.saying("model \"m\" version 1: trained on").await;
    assert!(summary.message().contains("roc_auc"), "{}", summary.message());
    assert!(summary.message().contains("rows held out"), "{}", summary.message());

    connection
        .run(
            "CREATE MODEL leak OPTIONS (model_type = 'logistic_reg', label = 'y') AS \
             SELECT i AS x, i > 200 AS y FROM generate_series(1, 400) AS t(i)",
        )
        .await;
    connection.notices.saying("column \"x\" alone tells the classes apart").await;

    connection.run("CREATE TABLE t (a int PRIMARY KEY)").await;
    let warning = connection.notices.saying("not enforced").await;
    assert_eq!(warning.parsed_severity(), Some(Severity::Warning));
    assert!(warning.hint().is_some());
    connection.run("DROP TABLE IF EXISTS nowhere").await;
    connection.notices.saying("relation \"nowhere\" does not exist, skipping").await;
    connection.run("DROP MODEL IF EXISTS nowhere").await;
    connection.notices.saying("model \"nowhere\" does not exist, skipping").await;
    connection.run("CREATE MODEL IF NOT EXISTS m OPTIONS (model_type = 'kmeans') AS SELECT 1.0 AS x").await;
    connection.notices.saying("model \"m\" already exists, skipping").await;
    connection.run("COMMIT").await;
    connection.notices.saying("there is no transaction in progress").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_a_code_and_a_hint_in_both_protocols() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run("CREATE MODEL churn OPTIONS (model_type = 'kmeans', k = 1) AS SELECT 1.0 AS recency").await;
    let refused = [
        ("SELECT * FROM predict('chrun', (SELECT 1.0 AS recency))", "42704", Some("did you mean \"churn\"?")),
        (
            "SELECT * FROM predict('churn', (SELECT 1.0 AS frequency))",
            "42703",
            Some("it was trained on recency; see DESCRIBE MODEL churn"),
        ),
        ("SELECT * FROM nowhere", "42P01", None),
        ("SELECT 1 / 0", "22012", None),
        ("SELEC 1", "42601", Some("expected an SQL statement at line: 1, column: 1")),
        (
            "CREATE MODEL churn OPTIONS (model_type = 'kmeans') AS SELECT 1",
            "42710",
            Some("CREATE OR REPLACE MODEL trains a new version of it"),
        ),
    ];
    for (sql, code, hint) in refused {
        let simple = connection.refusal(sql).await;
        let extended = connection.client.query(sql, &[]).await.unwrap_err();
        let extended = extended.as_db_error().unwrap();
        for error in [&simple, extended] {
            assert_eq!(error.code().code(), code, "{sql}");
            assert_eq!(error.hint(), hint, "{sql}");
            assert_eq!(error.severity(), "ERROR", "{sql}");
        }
        assert_eq!(simple.message(), extended.message());
    }
    assert_eq!(connection.value("SELECT 'still here'").await, "still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_do_not_wait_for_each_other() {
    let server = TestServer::start().await;
    let (busy, quick) = (server.connect().await, server.connect().await);
    busy.run("SET application_name = 'busy'").await;
    let token = busy.client.cancel_token();
    let (outcome, ()) = tokio::join!(busy.client.batch_execute(ENDLESS), async {
        for i in 0..20 {
            assert_eq!(quick.value(&format!("SELECT {i} + 1")).await, (i + 1).to_string());
        }
        // A login, too.
        assert_eq!(server.connect().await.value("SELECT 1").await, "1");
        quick.run("CREATE TABLE made_meanwhile (a int)").await;
        token.cancel_query(NoTls).await.unwrap();
    });
    assert!(outcome.is_err());
    // Settings are each session's own, tables everybody's.
    assert_ne!(quick.value("SHOW application_name").await, "busy");
    assert_eq!(busy.value("SELECT count(*) FROM made_meanwhile").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_that_make_one_name_leave_one_thing() {
    let server = TestServer::start().await;
    let (a, b) = (server.connect().await, server.connect().await);
    a.run("CREATE TABLE points AS SELECT i * 1.0 AS x FROM generate_series(1, 1000) AS t(i); CREATE TABLE sums (i bigint)").await;
    let create = "CREATE MODEL both OPTIONS (model_type = 'kmeans', k = 2) AS SELECT x FROM points";
    let (first, second) = tokio::join!(a.client.batch_execute(create), b.client.batch_execute(create));
    assert!(first.is_ok() != second.is_ok());
    let error = first.err().or(second.err()).unwrap();
    assert_eq!(error.code().unwrap().code(), "42710");
    assert_eq!(a.value("SELECT count(*) FROM ml.model_versions").await, "1");
    let insert = "INSERT INTO sums SELECT i FROM generate_series(1, 1000) AS t(i)";
    let (first, second) = tokio::join!(a.client.batch_execute(insert), b.client.batch_execute(insert));
    first.and(second).unwrap();
    assert_eq!(a.value("SELECT sum(i) FROM sums").await, "1001000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_of_ten_megabytes() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let long = "x".repeat(10 << 20);
    assert_eq!(connection.value(&format!("SELECT length('{long}')")).await, (10 << 20).to_string());
    let row = connection.client.query_one("SELECT length($1::text)", &[&long]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 10 << 20);

    connection.run("CREATE TABLE wide (id bigint, name text)").await;
    let values: Vec<String> =
        (0..20_000).map(|i| format!("({i}, 'a name that is {i} characters long, or so')")).collect();
    let started = Instant::now();
    connection.run(&format!("INSERT INTO wide VALUES {}", values.join(", "))).await;
    assert_eq!(connection.value("SELECT count(*) FROM wide").await, "20000");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_come_as_a_stream() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let none: [&str; 0] = [];
    let query = "SELECT i, 'row number ' || i AS name FROM generate_series(1, 1000000) AS t(i)";
    let rows = connection.client.query_raw(query, none).await.unwrap();
    let (n, sum) = rows
        .try_fold((0u64, 0i64), |(n, sum), row| async move { Ok((n + 1, sum + row.get::<_, i64>(0))) })
        .await
        .unwrap();
    assert_eq!((n, sum), (1_000_000, 500_000_500_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_seen_when_it_is_committed_and_only_then() {
    let server = TestServer::start().await;
    let (ours, others) = (server.connect().await, server.connect().await);
    ours.run("CREATE TABLE t (a int)").await;
    let count = "SELECT count(*) FROM t";
    // What was prepared before BEGIN belongs to the transaction as well.
    let add = ours.client.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
    ours.run("BEGIN").await;
    ours.client.execute(&add, &[&1]).await.unwrap();
    others.run("INSERT INTO t VALUES (10)").await;
    ours.client.execute(&add, &[&2]).await.unwrap();
    assert_eq!((ours.value(count).await, others.value(count).await), ("3".to_owned(), "1".to_owned()));
    ours.run("ROLLBACK").await;
    assert_eq!(ours.value(count).await, "1");
    ours.run("BEGIN").await;
    ours.client.execute(&add, &[&3]).await.unwrap();
    ours.run("COMMIT").await;
    assert_eq!(others.value(count).await, "2");

    // Whoever changes the same rows first wins.
    ours.run("BEGIN; UPDATE t SET a = a + 1").await;
    others.run("UPDATE t SET a = a + 100").await;
    assert_eq!(ours.refusal("COMMIT").await.code().code(), "40001");
    assert_eq!(ours.value("SELECT sum(a) FROM t").await, "213");
    // What is replaced is what was seen: no row of another is lost, and no table of another replaced.
    ours.run("BEGIN; CREATE OR REPLACE TABLE t AS SELECT a FROM t WHERE a > 100").await;
    others.run("INSERT INTO t VALUES (7)").await;
    assert_eq!(ours.refusal("COMMIT").await.code().code(), "40001");
    ours.run("BEGIN; CREATE OR REPLACE TABLE u AS SELECT 1 AS a").await;
    others.run("CREATE TABLE u AS SELECT 2 AS a").await;
    assert_eq!(ours.refusal("COMMIT").await.code().code(), "40001");
    assert_eq!(ours.value("SELECT a FROM u").await, "2");
    // Rows are held to constraints that came meanwhile.
    ours.run("BEGIN; INSERT INTO t VALUES (-1)").await;
    others.run("ALTER TABLE t ADD CONSTRAINT positive CHECK (a > 0)").await;
    assert_eq!(ours.refusal("COMMIT").await.code().code(), "40001");
    assert_eq!(ours.value(count).await, "3");

    // Who goes away has committed nothing.
    ours.run("BEGIN; DELETE FROM t").await;
    drop(ours);
    assert_eq!(others.value(count).await, "3");
    others.run("DELETE FROM t").await;
    assert_eq!(others.value(count).await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_tables_are_of_one_session() {
    let server = TestServer::start().await;
    let (ours, theirs) = (server.connect().await, server.connect().await);
    ours.run("CREATE TEMP TABLE t AS SELECT 1 AS a").await;
    theirs.run("CREATE TEMP TABLE t AS SELECT 2 AS a").await;
    assert_eq!((ours.value("SELECT a FROM t").await, theirs.value("SELECT a FROM t").await), ("1".into(), "2".into()));
    // Statements of drivers, too, and what was prepared when there was none.
    let count = ours.client.prepare("SELECT count(*) FROM u WHERE a > $1").await;
    assert!(count.is_err());
    ours.run("CREATE TABLE u AS SELECT 1 AS a").await;
    let count = ours.client.prepare("SELECT count(*) FROM u WHERE a > $1").await.unwrap();
    ours.run("CREATE TEMP TABLE u AS SELECT 1 AS a UNION ALL SELECT 2").await;
    assert_eq!(ours.client.query_one(&count, &[&0i64]).await.unwrap().get::<_, i64>(0), 2);
    drop(theirs);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pg_temp%'";
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ours.value(schemas).await != "1" {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the temporary tables of a session that has ended are still there"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_all_or_nothing() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let answers = connection
        .rows("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); SELECT a FROM t ORDER BY a; SELECT 'end'")
        .await;
    assert_eq!(answers, [["1"], ["2"], ["end"]]);
    let error = connection.refusal("INSERT INTO t VALUES (3); SELECT nothing FROM t; INSERT INTO t VALUES (4)").await;
    assert_eq!(error.code().code(), "42703");
    assert_eq!(connection.value("SELECT count(*) FROM t").await, "2");
    // Text that cannot be read at all does nothing.
    assert_eq!(connection.refusal("INSERT INTO t VALUES (5); SELEC 1").await.code().code(), "42601");
    assert_eq!(connection.value("SELECT count(*) FROM t").await, "2");
    connection.run("").await;
    connection.run(" ; ;").await;
}

/// Statements that a client sends before it asks for an answer, as drivers do with batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_one_sync_is_all_or_nothing() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run("CREATE TABLE t (a int)").await;
    let address = server.address;
    let talk = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::open(address);
        let statement = |raw: &mut Raw, sql: &str| {
            raw.message(b'P', format!("\0{sql}\0\0\0").as_bytes());
            raw.message(b'B', b"\0\0\0\0\0\0\0\0");
            raw.message(b'E', b"\0\0\0\0\0");
        };
        let mut said = Vec::new();
        for statements in [
            &["INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "SELECT sum(a) FROM t"][..],
            &["INSERT INTO t VALUES (10)", "SELECT 1 / 0", "INSERT INTO t VALUES (20)"],
            &["INSERT INTO t VALUES (100)", "BEGIN", "INSERT INTO t VALUES (200)"],
            &["ROLLBACK", "INSERT INTO t VALUES (1000)"],
            &["INSERT INTO t VALUES (10000)", "VACUUM t"],
        ] {
            statements.iter().for_each(|sql| statement(&mut raw, sql));
            raw.message(b'S', b"");
            let answers = raw.until_ready();
            let state = answers.last().map(|(_, body)| char::from(body[0])).unwrap_or_default();
            said.push(format!("{} {state}", letters(&answers)));
        }
        // One that is never asked to end has done nothing.
        statement(&mut raw, "INSERT INTO t VALUES (100000)");
        raw.message(b'H', b"");
        said
    });
    let said = talk.await.unwrap();
    assert_eq!(said, ["12C12C12DCZ I", "12C12EZ I", "12C12C12CZ T", "12C12CZ I", "12C12EZ I"]);
    assert_eq!(connection.value("SELECT sum(a) FROM t").await, "1003");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_block_answers_nothing_but_its_end() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run("BEGIN").await;
    assert_eq!(connection.refusal("SELECT 1 / 0").await.code().code(), "22012");
    assert_eq!(connection.refusal("SELECT 1").await.code().code(), "25P02");
    let error = connection.client.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25P02");
    connection.run("ROLLBACK").await;
    assert_eq!(connection.client.query_one("SELECT 1::int", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_statement_has_its_tag() {
    let server = TestServer::start().await;
    let client = server.connect().await.client;
    // tokio-postgres keeps of a tag only the number at its end.
    let counted = [
        ("CREATE TABLE t AS SELECT i FROM generate_series(1, 5) AS t(i)", 5),
        ("INSERT INTO t VALUES (6), (7)", 2),
        ("SELECT * FROM t", 7),
        ("CREATE MODEL m OPTIONS (model_type = 'kmeans', k = 2) AS SELECT i FROM t", 0),
        ("DROP MODEL m", 0),
        ("SET application_name = 'x'", 0),
        ("BEGIN", 0),
        ("COMMIT", 0),
    ];
    for (sql, expected) in counted {
        assert_eq!(complete(&client, sql).await, expected, "{sql}");
    }
    assert_eq!(client.execute("INSERT INTO t SELECT * FROM t", &[]).await.unwrap(), 7);
    assert_eq!(
        client.execute("CREATE MODEL m OPTIONS (model_type = 'kmeans', k = 2) AS SELECT i FROM t", &[]).await.unwrap(),
        0
    );
    // Statements of ours that answer rows describe them before they run.
    let described = client.prepare("DESCRIBE MODEL m").await.unwrap();
    assert_eq!(described.columns().len(), 2);
    assert!(!client.query(&described, &[]).await.unwrap().is_empty());
    assert_eq!(client.query("SHOW MODELS", &[]).await.unwrap().len(), 1);
    assert!(client.prepare("DROP MODEL m").await.unwrap().columns().is_empty());
}

/// The number in the tag of a single statement.
async fn complete(client: &Client, sql: &str) -> u64 {
    let messages = client.simple_query(sql).await.unwrap();
    let tags: Vec<u64> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::CommandComplete(count) => Some(*count),
            _ => None,
        })
        .collect();
    assert_eq!(tags.len(), 1, "{sql}");
    tags[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_says_where_it_is() {
    let server = TestServer::start().await;
    let connection =
        Connection::with_options(server.address, "options='-c statement_timeout=5s' application_name=tests").await;
    assert_eq!(connection.value("SHOW statement_timeout").await, "5s");
    assert_eq!(connection.value("SHOW application_name").await, "tests");
    let elsewhere = format!("host=127.0.0.1 port={} user=cohort dbname=elsewhere", server.address.port());
    let error = tokio_postgres::connect(&elsewhere, NoTls).await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "3D000");
}

/// What was prepared by message is executed by SQL as well, until it is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execute_runs_what_a_message_prepared() {
    let server = TestServer::start().await;
    let address = server.address;
    let talk = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::open(address);
        raw.message(b'P', b"named\0SELECT $1::int4 + 1\0\0\0");
        // One that would run itself.
        raw.message(b'P', b"again\0EXECUTE again\0\0\0");
        raw.message(b'S', b"");
        let mut said = vec![letters(&raw.until_ready())];
        for sql in
            ["EXECUTE named(41)", "PREPARE named AS SELECT 1", "DEALLOCATE named", "EXECUTE named(1)", "EXECUTE again"]
        {
            raw.query(sql);
            let messages = raw.until_ready();
            let text = |body: &[u8]| String::from_utf8_lossy(body).replace('\0', " ");
            let values = messages.iter().filter(|(letter, _)| matches!(letter, b'D' | b'E'));
            said.push(values.map(|(_, body)| text(body)).collect::<String>());
        }
        said
    });
    let said = talk.await.unwrap();
    assert_eq!(said[0], "11Z");
    assert!(said[1].ends_with("42"), "{}", said[1]);
    assert!(said[2].contains("42P05"), "{}", said[2]);
    assert_eq!(said[3], "");
    assert!(said[4].contains("26000"), "{}", said[4]);
    assert!(said[5].contains("26000"), "{}", said[5]);
}
