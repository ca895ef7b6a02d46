//! Objects of S3 as tables: a store of our own stands in for it, and holds every request to its signature.

mod store;

use std::path::Path;
use std::sync::OnceLock;

use cohort::engine::Engine;
use cohort::server::Server;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::store::{KEY, OPEN, REGION, SECRET, Store};
use crate::process::Process;
use crate::server::{Connection, TestServer, config, eventually};

/// The rows as text: columns with commas between them, rows with spaces.
async fn rows(connection: &Connection, sql: &str) -> String {
    connection.rows(sql).await.iter().map(|row| row.join(",")).collect::<Vec<_>>().join(" ")
}

/// SQLSTATE, message and hint of a refusal.
async fn refused(connection: &Connection, sql: &str) -> (String, String, String) {
    let error = connection.refusal(sql).await;
    let hint = error.hint().unwrap_or_default().to_owned();
    for secret in [SECRET, "wrong-secret"] {
        assert!(!error.message().contains(secret) && !hint.contains(secret), "{error}");
    }
    (error.code().code().to_owned(), error.message().to_owned(), hint)
}

fn create(store: &Store, name: &str, format: &str, location: &str) -> String {
    let options = store.options();
    format!("CREATE EXTERNAL TABLE {name} STORED AS {format} LOCATION 's3://{location}' OPTIONS ({options})")
}

/// Where the store of the one test that reads the environment is.
static ENDPOINT: OnceLock<String> = OnceLock::new();

fn environment(name: &str) -> Option<String> {
    Some(match name {
        "AWS_ACCESS_KEY_ID" => KEY.to_owned(),
        "AWS_SECRET_ACCESS_KEY" => SECRET.to_owned(),
        "AWS_REGION" => REGION.to_owned(),
        "AWS_ENDPOINT_URL" => ENDPOINT.get()?.clone(),
        "AWS_ALLOW_HTTP" => "true".to_owned(),
        _ => return None,
    })
}

/// A server that is started in that environment.
async fn serve(data: &Path) -> (Connection, DropGuard) {
    let config = cohort::engine::Config { environment, ..config(data) };
    let server = Server::bind(Engine::open(&config).unwrap(), TestServer::options()).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    tokio::spawn(server.run(shutdown.clone()));
    (Connection::open(address).await, shutdown.drop_guard())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_patterns_and_objects_are_tables() {
    let (server, store) = (TestServer::start().await, Store::start().await);
    let connection = server.connect().await;
    for (key, text) in [
        ("in/y=2024/a.csv", "id,name\n1,ann\n"),
        ("in/y=2024/b b+&.csv", "id,name\n2,bob\n3,\n"),
        ("in/y=2025/S%C3%A3o ü.csv", "id,name\n4,\"Zoë\n2\"\n"),
        ("in/y=2025/_SUCCESS", ""),
        ("in/y=2025/notes.txt.md", "no table"),
        ("in/y=2026/empty.csv", ""),
        ("in/.hidden/e.csv", "nonsense"),
    ] {
        store.put(&format!("shop/{key}"), text);
    }
    connection.run(&create(&store, "t", "CSV", "shop/in/")).await;
    assert_eq!(
        rows(&connection, "SELECT * FROM t ORDER BY id").await,
        "1,ann,2024 2,bob,2024 3,NULL,2024 4,Zoë\n2,2025"
    );
    connection.run(&create(&store, "g", "CSV", "shop/in/y=*/[ab]*.csv")).await;
    assert_eq!(rows(&connection, "SELECT sum(id), count(*) FROM g WHERE y = 2024").await, "6,3");
    connection.run(&create(&store, "one", "CSV", "shop/in/y=2024/b b+&.csv")).await;
    assert_eq!(rows(&connection, "SELECT count(*) FROM one").await, "2");
    // Folders that cannot matter are not read: this one could not be.
    store.asked();
    assert_eq!(rows(&connection, "SELECT id FROM t WHERE y = 2025").await, "4");
    let asked = store.asked();
    assert!(!asked.is_empty(), "nothing was asked");
    // A new object is there at once; one that is gone is not.
    store.put("shop/in/y=2026/late.csv", "id,name\n9,late\n");
    assert_eq!(rows(&connection, "SELECT id FROM t WHERE y = 2026").await, "9");
    // One that names other columns is not one of the table's.
    store.put("shop/in/y=2026/other.csv", "name,id\nx,1\n");
    let (code, message, _) = refused(&connection, "SELECT * FROM t").await;
    assert!(code == "22P04" && message.contains("s3://shop/in/y=2026/other.csv"), "{code} {message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_by_copy_is_read_back() {
    let store = Store::start().await;
    let data = tempfile::tempdir().unwrap();
    ENDPOINT.set(format!("http://{}", store.address)).unwrap();
    let (connection, _serving) = serve(data.path()).await;
    let all = "SELECT value AS n, value % 7 AS week_day, 'name ' || value AS name FROM generate_series(1, 5000)";
    for format in ["parquet", "json", "arrow", "csv"] {
        let header = if format == "csv" { " WITH (HEADER)" } else { "" };
        let place = format!("s3://shop/out/Ünï {format}/all.{format}");
        connection.run(&format!("COPY ({all}) TO '{place}'{header}")).await;
        let read = format!("SELECT count(*), sum(n), max(name), count(DISTINCT week_day) FROM '{place}'");
        assert_eq!(rows(&connection, &read).await, "5000,12502500,name 999,7", "{format}");
        connection.run(&format!("CREATE TABLE {format} (n bigint, week_day bigint, name text)")).await;
        connection.run(&format!("COPY {format} FROM '{place}'{header}")).await;
        assert_eq!(rows(&connection, &format!("SELECT count(*), sum(n) FROM {format}")).await, "5000,12502500");
    }
    // An object may be empty, or larger than one part.
    connection.run("COPY (SELECT 1 AS n WHERE false) TO 's3://shop/none.csv'").await;
    assert_eq!(std::fs::read(store.dir.path().join("shop/none.csv")).unwrap(), b"");
    let wide = "SELECT value AS n, repeat('x', 4000) AS x FROM generate_series(1, 10000)";
    connection.run(&format!("COPY ({wide}) TO 's3://shop/wide.csv' WITH (HEADER)")).await;
    let asked = store.asked();
    assert!(asked.iter().filter(|asked| *asked == "PUT /shop/wide.csv").count() > 2, "{asked:?}");
    assert_eq!(rows(&connection, "SELECT count(*), sum(n) FROM 's3://shop/wide.csv'").await, "10000,50005000");
    // One whose query fails in the middle leaves nothing, and what was there stays.
    let failing = "SELECT repeat('y', 4000) AS x, 1 / (9000 - value) AS q FROM generate_series(1, 10000)";
    refused(&connection, &format!("COPY ({failing}) TO 's3://shop/wide.csv'")).await;
    eventually(|| async { store.unfinished() == 0 }).await;
    assert_eq!(rows(&connection, "SELECT count(*), sum(n) FROM 's3://shop/wide.csv'").await, "10000,50005000");
    // Rows of Parquet that cannot matter are skipped.
    connection.run("CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION 's3://shop/out/Ünï parquet'").await;
    assert_eq!(rows(&connection, "SELECT name FROM p WHERE n = 4321").await, "name 4321");
    let plan = rows(&connection, "EXPLAIN SELECT name FROM p WHERE n = 4321").await;
    assert!(plan.contains("pruning_predicate"), "{plan}");
    let (code, message, _) = refused(&connection, "COPY csv FROM 's3://shop/nowhere.csv'").await;
    assert_eq!((code.as_str(), message.as_str()), ("58030", "\"s3://shop/nowhere.csv\" does not exist"));
    assert_eq!(refused(&connection, "COPY csv TO 's3://shop/'").await.0, "22023");
    // Objects are files: for superusers.
    connection.run("CREATE ROLE eve LOGIN; GRANT SELECT ON csv TO eve; SET ROLE eve").await;
    assert_eq!(refused(&connection, "SELECT * FROM 's3://shop/wide.csv'").await.0, "42501");
    assert_eq!(refused(&connection, "COPY csv TO 's3://shop/eve.csv'").await.0, "42501");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_outlives_the_server_and_its_secret_is_nowhere() {
    let store = Store::start().await;
    store.put("shop/a.csv", "id\n1\n2\n");
    let data = tempfile::tempdir().unwrap();
    let process = Process::serve(data.path());
    let connection = process.connect().await;
    connection.run(&create(&store, "t", "CSV", "shop/a.csv")).await;
    let views = "SELECT ftoptions FROM pg_foreign_table";
    let shown = rows(&connection, views).await;
    assert!(shown.contains(KEY) && !shown.contains(SECRET), "{shown}");
    process.kill();
    for file in ["catalog.db", "catalog.db-wal"] {
        let bytes = std::fs::read(data.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|some| some == SECRET.as_bytes()), "{file}");
    }
    let process = Process::serve(data.path());
    let connection = process.connect().await;
    assert_eq!(rows(&connection, "SELECT sum(id) FROM t").await, "3");
    connection.run("ALTER TABLE t RENAME TO u").await;
    assert_eq!(rows(&connection, "SELECT sum(id) FROM u").await, "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_what_to_do() {
    let (server, store) = (TestServer::start().await, Store::start().await);
    let connection = server.connect().await;
    store.put("shop/a.csv", "id\n1\n");
    store.put("open/a.csv", "id\n1\n");
    let with = |location: &str, options: &str| {
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://{location}' OPTIONS ({options})")
    };
    let (anonymous, signed) = (store.anonymous(), store.options());
    let wrong_key = format!("{anonymous}, access_key_id 'AKNOBODY', secret_access_key '{SECRET}'");
    let (code, message, hint) = refused(&connection, &with("shop/a.csv", &wrong_key)).await;
    assert!(code == "42501" && message.starts_with("access to \"s3://shop/"), "{code} {message}");
    assert!(hint.contains("access_key_id, secret_access_key"), "{hint}");
    let wrong_secret = format!("{anonymous}, access_key_id '{KEY}', secret_access_key 'wrong-secret'");
    assert_eq!(refused(&connection, &with("shop/*.csv", &wrong_secret)).await.0, "42501");
    let (code, _, hint) = refused(&connection, &with("shop/*.csv", &anonymous)).await;
    assert!(code == "42501" && hint.starts_with("no credentials were given"), "{code} {hint}");
    let (code, message, hint) = refused(&connection, &with("shop/*.csv", &signed.replace(REGION, "us-east-1"))).await;
    assert_eq!((code.as_str(), message.as_str()), ("22023", "bucket \"shop\" is not in region us-east-1"));
    assert!(hint.contains(REGION), "{hint}");
    let (code, message, _) = refused(&connection, &with("shpo/*.csv", &signed)).await;
    assert_eq!((code.as_str(), message.as_str()), ("58030", "bucket \"shpo\" does not exist"));
    let (code, message, _) = refused(&connection, &with("shop/b/", &signed)).await;
    assert_eq!((code.as_str(), message.as_str()), ("58030", "\"s3://shop/b/\" does not exist"));
    let (code, _, hint) = refused(&connection, &with("shop/a.csv", "endpoint 'http://localhost:1'")).await;
    assert!(code == "22023" && hint.contains("allow_http"), "{code} {hint}");
    let half = format!("{anonymous}, access_key_id '{KEY}'");
    assert_eq!(refused(&connection, &with("shop/a.csv", &half)).await.0, "22023");
    let (code, _, _) = refused(&connection, &with("shop/a.csv", &format!("{signed}, acess_key 'x'"))).await;
    assert_eq!(code, "22023");
    let two = format!(
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION ('s3://shop/a.csv', 's3://open/a.csv') OPTIONS ({signed})"
    );
    assert_eq!(refused(&connection, &two).await.0, "0A000");
    // Anybody may read what is open to all, and a store that is busy is asked again.
    store.is_busy_for(2);
    connection.run(&with(&format!("{OPEN}/a.csv"), &anonymous)).await;
    assert_eq!(rows(&connection, "SELECT id FROM t").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_with_the_same_keys_are_two() {
    let (server, one, two) = (TestServer::start().await, Store::start().await, Store::start().await);
    let connection = server.connect().await;
    let dir = tempfile::tempdir().unwrap();
    // Of the same length, written in the same second: told apart by nothing but where they are.
    for (store, name, value) in [(&one, "a", 1), (&two, "b", 2)] {
        let file = dir.path().join("n.parquet");
        connection.run(&format!("COPY (SELECT {value}::bigint AS n) TO '{}'", file.display())).await;
        store.put("shop/n.parquet", std::fs::read(&file).unwrap());
        connection.run(&create(store, name, "PARQUET", "shop/n.parquet")).await;
    }
    for _ in 0..2 {
        assert_eq!(rows(&connection, "SELECT a.n, b.n FROM a, b WHERE a.n = 1 AND b.n = 2").await, "1,2");
        assert_eq!(rows(&connection, "SELECT max(n) FROM a UNION ALL SELECT max(n) FROM b ORDER BY 1").await, "1 2");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delta_table_in_a_bucket() {
    let (server, store) = (TestServer::start().await, Store::start().await);
    let connection = server.connect().await;
    let dir = tempfile::tempdir().unwrap();
    for (at, name) in ["one", "two"].into_iter().enumerate() {
        let file = dir.path().join("n.parquet");
        connection.run(&format!("COPY (SELECT {at}::bigint AS n) TO '{}'", file.display())).await;
        store.put(&format!("shop/d/y=1/{name} ü.parquet"), std::fs::read(&file).unwrap());
    }
    let size =
        |name: &str| std::fs::metadata(store.dir.path().join(format!("shop/d/y=1/{name} ü.parquet"))).unwrap().len();
    let schema = r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"n\",\"type\":\"long\"},{\"name\":\"y\",\"type\":\"integer\"}]}"#;
    let add = |name: &str| {
        format!(
            r#"{{"add":{{"path":"y=1/{name}%20%C3%BC.parquet","partitionValues":{{"y":"1"}},"size":{},"modificationTime":1,"dataChange":true}}}}"#,
            size(name)
        )
    };
    let first = [
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#.to_owned(),
        format!(
            r#"{{"metaData":{{"id":"x","schemaString":"{schema}","partitionColumns":["y"],"configuration":{{}}}}}}"#
        ),
        add("one"),
    ];
    store.put("shop/d/_delta_log/00000000000000000000.json", first.join("\n"));
    connection.run(&create(&store, "d", "DELTA", "shop/d")).await;
    assert_eq!(rows(&connection, "SELECT * FROM d").await, "0,1");
    let removed = r#"{"remove":{"path":"y=1/one%20%C3%BC.parquet","dataChange":true}}"#;
    store.put("shop/d/_delta_log/00000000000000000001.json", format!("{}\n{removed}", add("two")));
    assert_eq!(rows(&connection, "SELECT * FROM d WHERE y = 1").await, "1,1");
    // As plain Parquet it would have rows that were removed.
    assert_eq!(refused(&connection, &create(&store, "p", "PARQUET", "shop/d")).await.0, "42809");
}
