//! Files of the server as tables: folders that fill, files that change, names of every kind, and what is wrong with them.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::server::{Connection, TestServer};

/// A folder with files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| put(dir.path(), name, text));
    dir
}

fn put(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn at(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().replace('\'', "''")
}

/// The rows as text: columns with commas between them, rows with spaces.
async fn rows(connection: &Connection, sql: &str) -> String {
    connection.rows(sql).await.iter().map(|row| row.join(",")).collect::<Vec<_>>().join(" ")
}

/// SQLSTATE and message of a refusal.
async fn refused(connection: &Connection, sql: &str) -> (String, String) {
    let error = connection.refusal(sql).await;
    (error.code().code().to_owned(), error.message().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_read_as_it_is_when_it_is_asked() {
    let (server, dir) = (TestServer::start().await, folder(&[("in/a.csv", "id,name\n1,ann\n")]));
    let connection = server.connect().await;
    connection.run(&format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", at(&dir, "in"))).await;
    let prepared = connection.client.prepare("SELECT count(*) FROM t").await.unwrap();
    let count = async || connection.client.query_one(&prepared, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count().await, 1);
    put(dir.path(), "in/b.csv", "id,name\n2,bob\n3,\n");
    assert_eq!(count().await, 3);
    assert_eq!(rows(&connection, "SELECT * FROM t ORDER BY id").await, "1,ann 2,bob 3,NULL");
    // A file that changes, one that goes, and what other programs leave beside them.
    put(dir.path(), "in/a.csv", "id,name\n7,\"two\nlines, \"\"quoted\"\"\"\n8,x\n");
    put(dir.path(), "in/_SUCCESS", "");
    put(dir.path(), "in/.hidden.csv", "nonsense");
    put(dir.path(), "in/empty.csv", "");
    assert_eq!(rows(&connection, "SELECT name FROM t WHERE id = 7").await, "two\nlines, \"quoted\"");
    fs::remove_file(dir.path().join("in/b.csv")).unwrap();
    assert_eq!(count().await, 2);
    fs::remove_file(dir.path().join("in/a.csv")).unwrap();
    assert_eq!(count().await, 0);
    fs::remove_dir_all(dir.path().join("in")).unwrap();
    let (code, message) = refused(&connection, "SELECT * FROM t").await;
    assert_eq!((code.as_str(), message), ("58030", format!("\"{}\" does not exist", at(&dir, "in"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_of_a_file_that_was_written_anew_are_not_those_of_the_old_one() {
    let (server, dir) = (TestServer::start().await, folder(&[]));
    let connection = server.connect().await;
    let file = at(&dir, "n.parquet");
    for last in [1000, 20, 3000] {
        connection.run(&format!("COPY (SELECT value AS n FROM generate_series(1, {last})) TO '{file}'")).await;
        connection.run(&format!("CREATE EXTERNAL TABLE IF NOT EXISTS n STORED AS PARQUET LOCATION '{file}'")).await;
        assert_eq!(rows(&connection, "SELECT count(*), max(n) FROM n").await, format!("{last},{last}"));
        assert_eq!(rows(&connection, "SELECT n FROM n WHERE n = 20").await, "20");
    }
    let plan = rows(&connection, "EXPLAIN SELECT n FROM n WHERE n = 20").await;
    assert!(plan.contains("pruning_predicate"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_folders_are_columns() {
    let files = [
        ("y=2024/m=01/a.csv", "id\n1\n"),
        ("y=2024/m=02/a.csv", "id\n2\n3\n"),
        ("y=2025/m=S%C3%A3o/a.csv", "id\n4\n"),
        ("y=2025/m=__HIVE_DEFAULT_PARTITION__/a.csv", "id\n5\n"),
    ];
    let (server, dir) = (TestServer::start().await, folder(&files));
    let connection = server.connect().await;
    let all = at(&dir, "");
    assert_eq!(
        rows(&connection, &format!("SELECT * FROM '{all}' ORDER BY id")).await,
        "1,2024,01 2,2024,02 3,2024,02 4,2025,São 5,2025,NULL"
    );
    connection.run(&format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{all}'")).await;
    connection
        .run(&format!(
            "CREATE EXTERNAL TABLE s (id bigint) STORED AS CSV LOCATION '{all}' PARTITIONED BY (m text, y smallint)"
        ))
        .await;
    assert_eq!(rows(&connection, "SELECT sum(id), count(*) FROM t WHERE y > 2024 AND m IS NOT NULL").await, "4,1");
    assert_eq!(
        rows(&connection, "SELECT m, y, id FROM s WHERE y = 2024 AND m = '02' ORDER BY id").await,
        "02,2024,2 02,2024,3"
    );
    // Folders that cannot matter are not read: this one could not be.
    put(dir.path(), "y=2026/m=01/a.csv", "id\nnonsense\n");
    assert_eq!(rows(&connection, "SELECT count(id) FROM t WHERE y = 2025").await, "2");
    assert_eq!(refused(&connection, "SELECT sum(id) FROM t").await.0, "22P02");
    put(dir.path(), "loose.csv", "id\n9\n");
    let (code, message) = refused(&connection, "SELECT count(*) FROM t").await;
    assert!(code == "22P04" && message.ends_with("is in no folder named y=…"), "{code} {message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_alike() {
    let (server, dir) = (TestServer::start().await, folder(&[]));
    let connection = server.connect().await;
    // CSV by place: other names, or another order, are refused; listed columns say that somebody knows better.
    put(dir.path(), "c/a.csv", "id,name\n1,ann\n");
    connection.run(&format!("CREATE EXTERNAL TABLE c STORED AS CSV LOCATION '{}'", at(&dir, "c"))).await;
    put(dir.path(), "c/b.csv", "name,id\nbob,2\n");
    let (code, message) = refused(&connection, "SELECT * FROM c").await;
    assert!(
        code == "22P04" && message.ends_with("names other columns than the table has: name, id instead of id, name"),
        "{message}"
    );
    connection
        .run(&format!("CREATE EXTERNAL TABLE l (a text, b text) STORED AS CSV LOCATION '{}'", at(&dir, "c")))
        .await;
    assert_eq!(rows(&connection, "SELECT * FROM l ORDER BY a").await, "1,ann bob,2");
    put(dir.path(), "mark.csv", "\u{feff}id,name\n1,ann\n");
    assert_eq!(rows(&connection, &format!("SELECT id, name FROM '{}'", at(&dir, "mark.csv"))).await, "1,ann");
    // JSON and Parquet by name: what a file does not have is NULL, and types are widened.
    put(dir.path(), "j/a.json", "{\"id\": 1, \"x\": 1}\n");
    put(dir.path(), "j/b.json", "{\"x\": 2.5, \"id\": 2, \"tags\": [\"a\", null]}\n{\"id\": 3}\n");
    assert_eq!(
        rows(&connection, &format!("SELECT id, x, tags FROM '{}' ORDER BY id", at(&dir, "j"))).await,
        "1,1,NULL 2,2.5,{a,NULL} 3,NULL,NULL"
    );
    fs::create_dir(dir.path().join("p")).unwrap();
    connection.run(&format!("COPY (SELECT 1::int AS id, 'x' AS n) TO '{}'", at(&dir, "p/a.parquet"))).await;
    connection.run(&format!("COPY (SELECT 2::bigint AS id, 2.5::real AS y) TO '{}'", at(&dir, "p/b.parquet"))).await;
    let files = at(&dir, "p/*.parquet");
    assert_eq!(rows(&connection, &format!("SELECT id, n, y FROM '{files}' ORDER BY id")).await, "1,x,NULL 2,NULL,2.5");
    let all = format!("SELECT count(*), min(id), max(id), sum(id) FROM '{files}'");
    assert_eq!(rows(&connection, &all).await, "2,1,2,3");
    connection.run(&format!("COPY (SELECT 'three' AS id) TO '{}'", at(&dir, "p/c.parquet"))).await;
    let (code, message) = refused(&connection, &format!("SELECT * FROM '{files}'")).await;
    assert!(code == "42804" && message.starts_with("column \"id\" is Int64 in "), "{code} {message}");
    // Damage is told as what it is.
    let whole = fs::read(dir.path().join("p/a.parquet")).unwrap();
    for cut in [0, 3, 11, whole.len() - 1, whole.len() / 2] {
        fs::write(dir.path().join("cut.parquet"), &whole[..cut]).unwrap();
        let (code, message) = refused(&connection, &format!("SELECT * FROM '{}'", at(&dir, "cut.parquet"))).await;
        assert!(code == if cut == 0 { "22023" } else { "XX001" }, "{cut}: {code} {message}");
    }
    let mut long = whole.clone();
    let end = long.len();
    long[end - 8..end - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    connection
        .run(&format!(
            "CREATE EXTERNAL TABLE d (id int, n text) STORED AS PARQUET LOCATION '{}'",
            at(&dir, "cut.parquet")
        ))
        .await;
    for damaged in [&long[..], &whole[..end / 2]] {
        fs::write(dir.path().join("cut.parquet"), damaged).unwrap();
        let (code, message) = refused(&connection, "SELECT * FROM d").await;
        assert!(code == "XX001", "{code} {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_may_hold_anything() {
    let names = ["Ünï cödé/🛒 100% #1?.csv", "it's.csv", "a b+c&d=e.csv", "%41.csv", "[1].csv", "x.tsv"];
    let (server, dir) = (TestServer::start().await, folder(&[]));
    let connection = server.connect().await;
    for (n, name) in names.iter().enumerate() {
        let text = if name.ends_with("tsv") { "id\tn\n1\tx\n" } else { "id,n\n1,x\n" };
        put(dir.path(), name, text);
        let file = at(&dir, name);
        assert_eq!(rows(&connection, &format!("SELECT id, n FROM '{file}'")).await, "1,x", "{name}");
        connection.run(&format!("CREATE EXTERNAL TABLE t{n} STORED AS CSV LOCATION '{file}'")).await;
        assert_eq!(rows(&connection, &format!("SELECT id, n FROM t{n}")).await, "1,x", "{name}");
        if !name.ends_with("tsv") {
            connection.run(&format!("COPY (SELECT 2 AS id, 'y' AS n) TO '{file}' (HEADER)")).await;
            assert_eq!(rows(&connection, &format!("SELECT id, n FROM t{n}")).await, "2,y", "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_fails_leaves_what_was_there() {
    let (server, dir) = (TestServer::start().await, folder(&[("out.csv", "old"), ("out.parquet", "old")]));
    let connection = server.connect().await;
    for name in ["out.csv", "out.parquet"] {
        let late =
            format!("COPY (SELECT 1 / (100000 - value) FROM generate_series(1, 200000)) TO '{}'", at(&dir, name));
        assert_eq!(refused(&connection, &late).await.0, "22012");
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "old");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "drafts are gone");
    // What the client is sent and what the server writes is the same.
    let sql = "SELECT value, value % 7 = 0 AS f, now() > '2000-01-01' AS g, E'a\\tb\"' AS t FROM generate_series(1, 30000) ORDER BY value";
    let copied = connection.client.copy_out(&format!("COPY ({sql}) TO STDOUT (FORMAT csv, HEADER)")).await.unwrap();
    let sent: Vec<bytes::Bytes> = futures::TryStreamExt::try_collect(copied).await.unwrap();
    connection.run(&format!("COPY ({sql}) TO '{}' (FORMAT csv, HEADER)", at(&dir, "out.csv"))).await;
    assert!(fs::read(dir.path().join("out.csv")).unwrap() == sent.concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delta_table_is_what_its_log_says() {
    let (server, dir) = (TestServer::start().await, folder(&[]));
    let connection = server.connect().await;
    let file = async |name: &str, sql: &str| {
        fs::create_dir_all(dir.path().join("d")).unwrap();
        connection.run(&format!("COPY ({sql}) TO '{}'", at(&dir, &format!("d/{name}")))).await;
    };
    file("a.parquet", "SELECT 1::bigint AS id").await;
    file("b.parquet", "SELECT 2::bigint AS id").await;
    file("c.parquet", "SELECT 3::bigint AS id, 'x' AS late").await;
    let add = |name: &str, y: &str| {
        format!(
            "{{\"add\":{{\"path\":\"{name}\",\"partitionValues\":{{\"y\":{y}}},\"size\":1,\"dataChange\":true}}}}\n"
        )
    };
    let schema = "{\\\"type\\\":\\\"struct\\\",\\\"fields\\\":[{\\\"name\\\":\\\"y\\\",\\\"type\\\":\\\"date\\\"},{\\\"name\\\":\\\"id\\\",\\\"type\\\":\\\"long\\\"}]}";
    let first = format!(
        "{{\"protocol\":{{\"minReaderVersion\":1,\"minWriterVersion\":2}}}}\n{{\"metaData\":{{\"id\":\"1\",\"schemaString\":\"{schema}\",\"partitionColumns\":[\"y\"],\"configuration\":{{}}}}}}\n{}{}",
        add("a.parquet", "\"2024-01-01\""),
        add("b.parquet", "null"),
    );
    put(dir.path(), "d/_delta_log/00000000000000000000.json", &first);
    connection.run(&format!("CREATE EXTERNAL TABLE d STORED AS DELTA LOCATION '{}'", at(&dir, "d"))).await;
    assert_eq!(rows(&connection, "SELECT * FROM d ORDER BY id").await, "1,2024-01-01 2,NULL");
    let second = format!(
        "{{\"remove\":{{\"path\":\"a.parquet\",\"dataChange\":true}}}}\n{}",
        add("c.parquet", "\"2025-01-01\"")
    );
    put(dir.path(), "d/_delta_log/00000000000000000001.json", &second);
    assert_eq!(rows(&connection, "SELECT * FROM d ORDER BY id").await, "2,NULL 3,2025-01-01");
    assert_eq!(
        rows(&connection, &format!("SELECT sum(id) FROM '{}' WHERE y > '2024-06-01'", at(&dir, "d"))).await,
        "3"
    );
    let (code, message) =
        refused(&connection, &format!("CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION '{}'", at(&dir, "d"))).await;
    assert!(code == "42809" && message.contains("is a Delta table"), "{code} {message}");
}

/// By its log, a checkpoint of it included: every type, and rows that were changed and taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_tables_are_delta_tables() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection
        .run(
            "CREATE TABLE t (id int, name text, at timestamp, tz timestamptz, born date, n numeric(10, 2), ok boolean,
                             list int[], bytes bytea, price real);
             INSERT INTO t SELECT value, 'n ' || value, '2024-02-29 10:00:00.123456'::timestamp + value * INTERVAL '1 day',
                 '2024-02-29 10:00:00+02'::timestamptz, '2024-02-29'::date, 1.25, value % 2 = 0, ARRAY[1, value],
                 '\\x00ff'::bytea, 0.5 FROM generate_series(1, 20) AS g (value);
             UPDATE t SET name = NULL, n = -n WHERE id % 7 = 0;
             DELETE FROM t WHERE id > 15",
        )
        .await;
    let location = connection.value("SELECT location FROM ml.tables WHERE table_name = 't'").await;
    connection.run(&format!("CREATE EXTERNAL TABLE others STORED AS DELTA LOCATION '{location}'")).await;
    let both = ["t", "others"].map(|table| format!("SELECT * FROM {table} ORDER BY id, name"));
    let [ours, theirs] = both.each_ref().map(|sql| rows(&connection, sql));
    let (ours, theirs) = (ours.await, theirs.await);
    assert_eq!(ours, theirs);
    assert!(ours.contains("n 15") && !ours.contains("n 16"), "{ours}");
    for n in 0..110 {
        connection.run(&format!("INSERT INTO t (id, name) VALUES ({n}, 'late')")).await;
    }
    let log = Path::new(&location).join("_delta_log");
    assert!(log.join("_last_checkpoint").exists());
    // Without what is before the checkpoint nothing can be read but by it.
    std::fs::remove_file(log.join(format!("{:020}.json", 0))).unwrap();
    let [ours, theirs] = both.each_ref().map(|sql| rows(&connection, sql));
    assert_eq!(ours.await, theirs.await);
}

/// The values of partitions are read from the log, under the name that their column has there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_partitions_are_partitions_of_delta() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection
        .run(
            "CREATE TABLE t (id int, shop text, day date) PARTITIONED BY (shop, day);
             INSERT INTO t SELECT i, CASE i % 3 WHEN 0 THEN 'Köln/1 =%' WHEN 1 THEN 'b' END, date '2026-01-01' + i % 2
             FROM generate_series(1, 12) AS g (i);
             UPDATE t SET shop = 'c' WHERE id = 1",
        )
        .await;
    let location = connection.value("SELECT location FROM ml.tables WHERE table_name = 't'").await;
    connection.run(&format!("CREATE EXTERNAL TABLE others STORED AS DELTA LOCATION '{location}'")).await;
    let same = async |columns: &str| {
        let [ours, theirs] = ["t", "others"].map(|table| format!("SELECT {columns} FROM {table} ORDER BY id, day"));
        let ours = rows(&connection, &ours).await;
        assert_eq!(ours, rows(&connection, &theirs).await);
        ours
    };
    let read = same("id, shop, day").await;
    assert!(read.starts_with("1,c,2026-01-02 2,NULL,2026-01-01 3,Köln/1 =%,2026-01-02"), "{read}");
    let one = "SELECT sum(id) FROM others WHERE shop = 'b' AND day = '2026-01-01'";
    assert_eq!(rows(&connection, one).await, "14");
    connection.run("ALTER TABLE t RENAME COLUMN shop TO branch; DELETE FROM t WHERE branch = 'c'").await;
    connection.run("DROP TABLE others").await;
    connection.run(&format!("CREATE EXTERNAL TABLE others STORED AS DELTA LOCATION '{location}'")).await;
    assert!(same("id, branch, day").await.starts_with("2,NULL"));
    for n in 0..100 {
        connection.run(&format!("INSERT INTO t VALUES ({n}, 'late', '2027-01-01')")).await;
    }
    assert!(Path::new(&location).join("_delta_log/_last_checkpoint").exists());
    std::fs::remove_file(Path::new(&location).join(format!("_delta_log/{:020}.json", 0))).unwrap();
    same("id, branch, day").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_for_superusers() {
    let (server, dir) = (TestServer::start().await, folder(&[("a.csv", "id,secret\n1,x\n")]));
    let connection = server.connect().await;
    let file = at(&dir, "a.csv");
    connection.run("CREATE ROLE ann LOGIN").await;
    connection.run(&format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{file}'")).await;
    connection.run("GRANT SELECT (id) ON t TO ann").await;
    connection.run("CREATE TABLE own (id bigint); ALTER TABLE own OWNER TO ann").await;
    let ann = Connection::as_user(server.address, "user=ann").await;
    let policy = format!("CREATE POLICY p ON own USING (id IN (SELECT id FROM '{file}'))");
    assert_eq!(refused(&ann, &policy).await.0, "0A000");
    assert_eq!(rows(&ann, "SELECT id FROM t").await, "1");
    for sql in [
        format!("SELECT * FROM '{file}'"),
        // Whether there is such a file is nobody's business either.
        "SELECT * FROM '/nowhere/x.csv'".to_owned(),
        format!("SELECT 1 WHERE EXISTS (SELECT 1 FROM '{file}')"),
        format!("CREATE TEMPORARY VIEW v AS SELECT * FROM '{file}'"),
        format!("PREPARE p AS SELECT * FROM '{file}'"),
        format!("EXPLAIN SELECT * FROM '{file}'"),
        format!("COPY (SELECT 1) TO '{file}'"),
        format!("COPY t FROM '{file}'"),
        "SELECT secret FROM t".to_owned(),
        "SELECT count(*) FROM t WHERE secret = 'x'".to_owned(),
    ] {
        assert_eq!(refused(&ann, &sql).await.0, "42501", "{sql}");
    }
}
