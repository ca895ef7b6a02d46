//! COPY as drivers use it: files of every format out and in, in both protocols, and what is wrong with a file.

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, NoTls};

use crate::server::{Connection, Raw, TestServer, letters};

const PEOPLE: &str = "CREATE TABLE people (id bigint NOT NULL, name text, score double precision, born date)";

/// The file of a COPY … TO STDOUT.
async fn out(client: &Client, sql: &str) -> Vec<u8> {
    let pieces: Vec<Bytes> = client.copy_out(sql).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

async fn text(client: &Client, sql: &str) -> String {
    String::from_utf8(out(client, sql).await).unwrap()
}

/// Sends a file in pieces of an odd size, so that rows and values are cut anywhere.
async fn copy_in(client: &Client, sql: &str, file: &[u8]) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(sql).await?;
    let mut sink = std::pin::pin!(sink);
    for piece in file.chunks(7) {
        // What is wrong is told at the end.
        if sink.send(Bytes::copy_from_slice(piece)).await.is_err() {
            break;
        }
    }
    sink.finish().await
}

async fn refused(client: &Client, sql: &str, file: &[u8]) -> DbError {
    let error = copy_in(client, sql, file).await.unwrap_err();
    error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_out_look_as_those_of_postgres() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    connection.run(PEOPLE).await;
    connection
        .run("INSERT INTO people VALUES (1, 'ann', 0.5, '2024-02-29'), (2, E'tab\\there, \"quoted\"\\\\', NULL, NULL), (3, '', 1, NULL)")
        .await;

    let plain = "1\tann\t0.5\t2024-02-29\n2\ttab\\there, \"quoted\"\\\\\t\\N\t\\N\n3\t\t1\t\\N\n";
    assert_eq!(text(client, "COPY (SELECT * FROM people ORDER BY id) TO STDOUT").await, plain);
    let csv = "1,ann,0.5,2024-02-29\n2,\"tab\there, \"\"quoted\"\"\\\",,\n3,\"\",1,\n";
    assert_eq!(text(client, "COPY (SELECT * FROM people ORDER BY id) TO STDOUT WITH (FORMAT csv)").await, csv);
    let styled = "COPY (SELECT id, name FROM people ORDER BY id) TO STDOUT \
                  (FORMAT csv, HEADER, DELIMITER ';', NULL '-', QUOTE '''', FORCE_QUOTE (name))";
    assert_eq!(text(client, styled).await, "id;name\n1;'ann'\n2;'tab\there, \"quoted\"\\'\n3;''\n");
    let old = "COPY people (name) TO STDOUT WITH DELIMITER AS '|' NULL AS 'nothing' CSV HEADER FORCE QUOTE *";
    assert_eq!(text(client, old).await, "name\n\"ann\"\n\"tab\there, \"\"quoted\"\"\\\"\n\"\"\n");
    assert_eq!(text(client, "COPY (SELECT '\\.') TO STDOUT (FORMAT csv)").await, "\"\\.\"\n");
    assert_eq!(text(client, "COPY (SELECT 7, 8) TO STDOUT (DELIMITER ' ')").await, "7 8\n");
    assert_eq!(text(client, "COPY (SELECT -7, 8) TO STDOUT (DELIMITER '-')").await, "\\-7-8\n");
    assert_eq!(text(client, "COPY (SELECT 0, 10) TO STDOUT (FORMAT csv, NULL '0')").await, "\"0\",10\n");

    // Taken from PostgreSQL 15.
    let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    binary.extend_from_slice(b"\0\x03\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x03ann\xff\xff\xff\xff\xff\xff");
    let query = "COPY (SELECT 1::bigint, 'ann', NULL::int) TO STDOUT (FORMAT binary)";
    assert_eq!(out(client, query).await, binary);
    let empty = out(client, "COPY (SELECT 1 WHERE false) TO STDOUT BINARY").await;
    assert_eq!(empty, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff");
    // One row a message, with the signature in front of the first.
    let pieces: Vec<Bytes> =
        client.copy_out("COPY people TO STDOUT (FORMAT binary)").await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_out_comes_back_in() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    let columns = "i AS id, CASE WHEN i % 7 <> 0 THEN 'name ' || i || E' \\t\\n\\\\\"ü,' END AS name, i / 8.0 AS score, \
                   i % 3 = 0 AS odd, (i % 1000)::smallint AS small, i::int AS whole, i::real AS real, \
                   (i * 100)::numeric(12, 2) AS price, DATE '2024-01-01' + i::int AS day, \
                   to_timestamp(i * 1000) AS at, to_timestamp(i * 1000)::timestamp AS local, \
                   CASE WHEN i % 5 = 0 THEN NULL ELSE [i, i + 1] END AS pair";
    connection.run(&format!("CREATE TABLE source AS SELECT {columns} FROM generate_series(1, 20000) AS t(i)")).await;
    for (n, options) in [
        "",
        "(FORMAT csv)",
        "(FORMAT csv, HEADER match)",
        "(FORMAT binary)",
        "(DELIMITER '|', NULL '-')",
        "(FORMAT csv, QUOTE '$', ESCAPE '!')",
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("target_{n}");
        connection.run(&format!("CREATE TABLE {target} AS SELECT * FROM source WHERE false")).await;
        let file = out(client, &format!("COPY source TO STDOUT {}", options.replace("match", "true"))).await;
        let copied = copy_in(client, &format!("COPY {target} FROM STDIN {options}"), &file).await.unwrap();
        assert_eq!(copied, 20_000, "{options}");
        for (one, other) in [("source", target.as_str()), (target.as_str(), "source")] {
            let differing = format!("SELECT count(*) FROM (SELECT * FROM {one} EXCEPT SELECT * FROM {other}) AS d");
            assert_eq!(connection.value(&differing).await, "0", "{options}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_may_be_written_in_many_ways() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    connection.run(PEOPLE).await;
    let all = "SELECT id, name, score, born FROM people ORDER BY id";
    let files: [(&str, &[u8]); 6] = [
        ("COPY people FROM STDIN", b"1\ta\\tb\\\\\\x41\\101\t 2.5 \t2024-01-01\n2\t\\N\t\\N\t\\N\n\\.\nignored"),
        ("COPY people FROM STDIN", b"1\ta\\tb\\\\AA\t2.5e0\t2024-01-01\r\n2\t\\N\t\\N\t\\N"),
        ("COPY people FROM STDIN CSV", b"1,\"a\tb\\AA\",2.5,2024-01-01\r\n2,,,\n"),
        (
            "COPY people FROM STDIN (FORMAT csv, NULL 'none', HEADER)",
            b"whatever\n1,a\"\t\"b\\AA,2.5,2024-01-01\n2,none,none,none",
        ),
        (
            "COPY people (score, born, id, name) FROM STDIN (FORMAT csv, FORCE_NULL (born, name))",
            b"2.5,2024-01-01,1,a\tb\\AA\n,\"\",2,\"\"",
        ),
        (
            "COPY people (name, id, score, born) FROM STDIN (FORMAT csv, ESCAPE '\\', DELIMITER ';')",
            b"\"a\tb\\\\AA\";1;2.5;2024-01-01\n;2;;\n",
        ),
    ];
    for (sql, file) in files {
        assert_eq!(copy_in(client, sql, file).await.unwrap(), 2, "{sql}");
        let expected = [["1", "a\tb\\AA", "2.5", "2024-01-01"], ["2", "NULL", "NULL", "NULL"]];
        assert_eq!(connection.rows(all).await, expected, "{sql}");
        connection.run("CREATE OR REPLACE TABLE people AS SELECT * FROM people WHERE false").await;
    }
    // Line breaks in values, and columns that the file does not have.
    let broken = b"1,\"two\nlines\"\n2,\"and \"\"three\"\"\n\nlines\"\n";
    assert_eq!(copy_in(client, "COPY people (id, name) FROM STDIN CSV", broken).await.unwrap(), 2);
    assert_eq!(connection.value("SELECT name FROM people WHERE id = 2").await, "and \"three\"\n\nlines");
    assert_eq!(connection.value("SELECT count(*) FROM people WHERE score IS NULL").await, "2");
    // FORCE_NOT_NULL keeps the empty text.
    let sql = "COPY people (id, name) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (name))";
    assert_eq!(copy_in(client, sql, b"3,\n").await.unwrap(), 1);
    assert_eq!(connection.value("SELECT length(name) FROM people WHERE id = 3").await, "0");
    assert_eq!(copy_in(client, "COPY people FROM STDIN", b"").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_held_to_the_rules_of_their_table() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    connection.run("CREATE TABLE t (id int, kind text DEFAULT 'no ' || 'kind', n int CHECK (n > 0))").await;
    copy_in(client, "COPY t (id) FROM STDIN", b"1\n2\n").await.unwrap();
    copy_in(client, "COPY t (n, kind) FROM STDIN", b"5\t\\N\n").await.unwrap();
    assert_eq!(
        text(client, "COPY (SELECT * FROM t ORDER BY id) TO STDOUT").await,
        "1\tno kind\t\\N\n2\tno kind\t\\N\n\\N\t\\N\t5\n"
    );
    let error = refused(client, "COPY t (n) FROM STDIN", b"1\n0\n").await;
    assert_eq!(error.code().code(), "23514");
    assert_eq!(connection.value("SELECT count(*) FROM t").await, "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_a_file_says_where_and_leaves_nothing() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    connection.run(PEOPLE).await;
    let signature = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    let binary = |row: &[u8]| [signature.as_slice(), row].concat();
    let (short, wrong_width) = (binary(b"\0\x01"), binary(b"\0\x01\0\0\0\x04\0\0\0\x01"));
    let (cut, null) = (binary(b"\0\x01\0\0\0\x08\0\0"), binary(b"\0\x01\xff\xff\xff\xff"));
    let cases: [(&str, &[u8], &str, &str, &str); 14] = [
        (
            "people << ",
            b"1\ta\t1\t\\N\nx\tb\t1\t\\N\n",
            "22P02",
            "invalid input syntax for type bigint: \"x\"",
            "COPY people, line 2, column id: \"x\"",
        ),
        ("people << ", b"1\ta\t1\t2024-02-30\n", "22007", "", "COPY people, line 1, column born: \"2024-02-30\""),
        ("people << ", b"1\ta\n", "22P04", "missing data for column \"score\"", "COPY people, line 1: \"1\ta\""),
        (
            "people (id) << ",
            b"1\n2\t3\n",
            "22P04",
            "extra data after last expected column",
            "COPY people, line 2: \"2\t3\"",
        ),
        (
            "people (id) << ",
            b"1\n\\N\n",
            "23502",
            "null value in column \"id\" violates not-null constraint",
            "COPY people, line 2, column id",
        ),
        ("people (name) << ", b"ann\n", "23502", "null value in column \"id\" violates not-null constraint", ""),
        (
            "people (id, name) << ",
            b"1\t\xff\n",
            "22P02",
            "invalid byte sequence for encoding \"UTF8\"",
            "COPY people, line 1, column name",
        ),
        (
            "people (id, name) << ",
            b"1\ta\rb\n",
            "22P04",
            "literal carriage return found in data",
            "COPY people, line 1: \"1\ta\rb\"",
        ),
        (
            "people (id) << CSV",
            b"1\n\"2\n3",
            "22P04",
            "unterminated CSV quoted field",
            "COPY people, line 2: \"\"2\n3\"",
        ),
        (
            "people (id) << (HEADER match)",
            b"name\n1\n",
            "22P04",
            "column name mismatch in header line field 1: got \"name\", expected \"id\"",
            "COPY people, line 1: \"name\"",
        ),
        ("people << (FORMAT binary)", b"id,name\n1,a\n", "22P04", "COPY file signature not recognized", ""),
        ("people << (FORMAT binary)", &short, "22P04", "row field count is 1, expected 4", "COPY people, line 1"),
        (
            "people (id) << (FORMAT binary)",
            &wrong_width,
            "22P03",
            "incorrect binary data format for type bigint",
            "COPY people, line 1, column id",
        ),
        ("people (id) << (FORMAT binary)", &cut, "22P04", "unexpected EOF in COPY data", "COPY people, line 1"),
    ];
    for (what, file, code, message, place) in cases {
        let error = refused(client, &format!("COPY {}", what.replace(" << ", " FROM STDIN ")), file).await;
        assert_eq!(error.code().code(), code, "{what}: {error}");
        assert!(error.message().starts_with(message), "{what}: {error}");
        assert_eq!(error.where_().unwrap_or_default(), place, "{what}: {error}");
    }
    let error = refused(client, "COPY people (id) FROM STDIN (FORMAT binary)", &null).await;
    assert_eq!((error.code().code(), error.where_()), ("23502", Some("COPY people, line 1, column id")));
    // An error far into the file leaves nothing of what came before it.
    let mut long: Vec<u8> = (0..100_000).flat_map(|i| format!("{i}\n").into_bytes()).collect();
    long.extend_from_slice(b"end\n");
    let sink = client.copy_in::<_, Bytes>("COPY people (id) FROM STDIN").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    for piece in long.chunks(8192) {
        if sink.send(Bytes::copy_from_slice(piece)).await.is_err() {
            break;
        }
    }
    let error = sink.finish().await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().where_(), Some("COPY people, line 100001, column id: \"end\""));
    assert_eq!(connection.value("SELECT count(*) FROM people").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_cannot_be_read_are_left_out() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    connection.run(PEOPLE).await;
    let file =
        "1,ann,0.5,2024-02-29\nx,bob,1,2024-01-01\n3,cid,high,\n4,dan\n,eve,1,\n6,\"f,y\",,2024-13-01\n7,gus,2,\n";
    let file = file.as_bytes();
    let csv = |options: &str| format!("COPY people FROM STDIN (FORMAT csv, {options})");
    assert_eq!(refused(client, &csv("ON_ERROR stop"), b"x,bob,1,\n").await.code().code(), "22P02");
    // A line that is cut short may say that the file is another than was thought.
    assert_eq!(refused(client, &csv("ON_ERROR ignore"), file).await.code().code(), "22P04");
    let values = b"1,ann,0.5,2024-02-29\nx,bob,1,2024-01-01\n7,gus,2,\n";
    assert_eq!(copy_in(client, &csv("ON_ERROR ignore"), values).await.unwrap(), 2);
    assert_eq!(connection.value("SELECT count(*) FROM ml.tables WHERE table_name = 'people_rejects'").await, "0");
    assert_eq!(copy_in(client, &csv("ON_ERROR skip"), file).await.unwrap(), 2);
    assert_eq!(text(client, "COPY people (id) TO STDOUT").await, "1\n7\n1\n7\n");
    let kept = "STDIN;2;id: invalid input syntax for type bigint: \"x\";x,bob,1,2024-01-01\n\
                STDIN;3;score: invalid input syntax for type double precision: \"high\";3,cid,high,\n\
                STDIN;4;missing data for column \"score\";4,dan\n\
                STDIN;5;id: null value in column \"id\" violates not-null constraint;,eve,1,\n\
                STDIN;6;born: invalid input syntax for type date: \"2024-13-01\";6,\"f,y\",,2024-13-01\n";
    let rejects = "COPY (SELECT * FROM people_rejects ORDER BY line) TO STDOUT (FORMAT text, DELIMITER ';')";
    assert_eq!(text(client, rejects).await, kept);
    let limited = refused(client, &csv("ON_ERROR skip, REJECT_LIMIT 4"), file).await;
    assert_eq!(limited.message(), "skipped more than REJECT_LIMIT (4) rows");
    assert_eq!(copy_in(client, &csv("ON_ERROR skip, REJECT_LIMIT 5"), file).await.unwrap(), 2);
    let kept = "SELECT count(*) FROM people_rejects";
    assert_eq!(connection.value(kept).await, "10");
    // A constraint is not a matter of reading, and neither is a quote that does not end: nothing is kept of either file.
    assert_eq!(refused(client, &csv("ON_ERROR skip"), b"x,,,\n8,\"hal,,\n9,ida,,\n").await.code().code(), "22P04");
    connection.run("DELETE FROM people; ALTER TABLE people ADD CHECK (id < 7)").await;
    assert_eq!(refused(client, &csv("ON_ERROR skip"), file).await.code().code(), "23514");
    assert_eq!(connection.value(kept).await, "10");
    connection.run("BEGIN").await;
    assert_eq!(copy_in(client, &csv("ON_ERROR skip"), b"x,,,\n6,jo,,\n").await.unwrap(), 1);
    assert_eq!(connection.value(kept).await, "11");
    connection.run("ROLLBACK").await;
    assert_eq!(connection.value(kept).await, "10");

    // Whoever may not make the table of rejects is told before the file is read.
    connection.run("CREATE ROLE reader LOGIN; CREATE TABLE words (word int); GRANT INSERT ON words TO reader").await;
    let reader = Connection::as_user(server.address, "user=reader").await;
    let denied = refused(&reader.client, "COPY words FROM STDIN (ON_ERROR skip)", b"x\n").await;
    assert_eq!(denied.code().code(), "42501");
    // The driver says twice that this copy is over, and is out of step from then on.
    let reader = Connection::as_user(server.address, "user=reader").await;
    assert_eq!(copy_in(&reader.client, "COPY words FROM STDIN (ON_ERROR ignore)", b"x\n1\n").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_copying_leaves_nothing() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    connection.run(PEOPLE).await;
    // tokio-postgres sends CopyFail for a sink that is dropped.
    {
        let sink = client.copy_in::<_, Bytes>("COPY people (id) FROM STDIN").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(Bytes::from_static(b"1\n2\n")).await.unwrap();
        sink.flush().await.unwrap();
    }
    assert_eq!(connection.value("SELECT count(*) FROM people").await, "0");
    // A cancel request reaches a copy that waits for its client.
    // tokio-postgres sends a Sync behind its Execute, and cannot bear two answers to it: so much is sent first that
    // the server must have read the Sync.
    let sink = client.copy_in::<_, Bytes>("COPY people (id, name) FROM STDIN").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    for _ in 0..16 {
        sink.send(Bytes::from(format!("1\t{}\n", "n".repeat(1 << 20)))).await.unwrap();
    }
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    let error = sink.finish().await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    assert_eq!(connection.value("SELECT count(*) FROM people").await, "0");
    // And one that sends.
    let endless = "COPY (SELECT i FROM generate_series(1, 1000000000) AS t(i)) TO STDOUT";
    let rows = client.copy_out(endless).await.unwrap();
    let mut rows = std::pin::pin!(rows);
    assert!(rows.try_next().await.unwrap().is_some());
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    let error = loop {
        match rows.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a billion rows came before the cancel request"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code().unwrap().code(), "57014");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_the_middle_of_a_file_that_goes_out() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let sql = "COPY (SELECT 1 / (50000 - i) FROM generate_series(1, 100000) AS t(i)) TO STDOUT";
    let rows = connection.client.copy_out(sql).await.unwrap();
    let error = rows.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22012");
    assert_eq!(connection.value("SELECT 1").await, "1");
}

/// What psql does: a query message, and files between it and `ReadyForQuery`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_the_simple_protocol() {
    let server = TestServer::start().await;
    let address = server.address;
    let talk = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::open(address);
        raw.query("CREATE TABLE t (a int, b text); COPY t FROM STDIN; SELECT count(*) FROM t; COPY t TO STDOUT CSV");
        raw.message(b'd', b"1\tone\n2\t");
        raw.message(b'd', b"two\n");
        raw.message(b'c', b"");
        let first = raw.until_ready();
        raw.query("COPY t FROM STDIN");
        raw.message(b'd', b"x\tone\n");
        raw.message(b'd', b"3\tthree\n");
        raw.message(b'c', b"");
        let failed = raw.until_ready();
        raw.query("COPY t FROM STDIN");
        raw.message(b'f', b"changed my mind\0");
        let given_up = raw.until_ready();
        // Another client leaves in the middle of its file.
        let mut leaving = Raw::open(address);
        leaving.query("COPY t FROM STDIN");
        leaving.message(b'd', b"3\tthree\n");
        drop(leaving);
        raw.query("SELECT count(*) FROM t");
        (first, failed, given_up, raw.until_ready())
    });
    let (first, failed, given_up, last) = talk.await.unwrap();
    assert_eq!(letters(&first), "CGCTDCHddcCZ");
    let tags: Vec<_> = first.iter().filter(|(letter, _)| *letter == b'C').map(|(_, body)| body.as_slice()).collect();
    assert_eq!(tags, [&b"CREATE TABLE\0"[..], b"COPY 2\0", b"SELECT 1\0", b"COPY 2\0"]);
    let lines: Vec<_> = first.iter().filter(|(letter, _)| *letter == b'd').map(|(_, body)| body.as_slice()).collect();
    assert_eq!(lines, [&b"1,one\n"[..], b"2,two\n"]);
    assert_eq!(letters(&failed), "GEZ");
    assert_eq!(letters(&given_up), "GEZ");
    let error = String::from_utf8_lossy(&given_up[1].1).into_owned();
    assert!(error.contains("C57014\0") && error.contains("COPY from stdin failed: changed my mind"), "{error}");
    assert_eq!(letters(&last), "TDCZ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_are_refused() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run(PEOPLE).await;
    connection.run("CREATE VIEW old AS SELECT * FROM people").await;
    let Connection { client, .. } = &connection;
    let refusals = [
        ("COPY people TO 'file'", "22023"),
        ("COPY people FROM PROGRAM 'ls'", "42501"),
        ("COPY nowhere TO STDOUT", "42P01"),
        ("COPY nowhere FROM STDIN", "42P01"),
        ("COPY old FROM STDIN", "42809"),
        ("COPY ml.models FROM STDIN", "42501"),
        ("COPY people (nothing) TO STDOUT", "42703"),
        ("COPY people (nothing) FROM STDIN", "42703"),
        ("COPY people (id, id) FROM STDIN", "42701"),
        ("COPY people TO STDOUT (FORMAT parquet)", "0A000"),
        ("COPY people TO STDOUT (FORMAT binary, DELIMITER ';')", "42601"),
        ("COPY people TO STDOUT (DELIMITER ';;')", "0A000"),
        ("COPY people TO STDOUT (DELIMITER 'a')", "22023"),
        ("COPY people TO STDOUT (QUOTE '''')", "0A000"),
        ("COPY people TO STDOUT (FORMAT csv, FORCE_NULL (id))", "0A000"),
        ("COPY people TO STDOUT (FORMAT csv, FORCE_QUOTE (nothing))", "42703"),
        ("COPY people TO STDOUT (NULL 'a', NULL 'b')", "42601"),
        ("COPY people TO STDOUT (COLOUR 'red')", "42601"),
        ("COPY people TO STDOUT nonsense", "42601"),
        ("COPY (SELECT $1) TO STDOUT", "42P02"),
    ];
    for (sql, code) in refusals {
        assert_eq!(connection.refusal(sql).await.code().code(), code, "{sql}");
        let extended = client.execute(sql, &[]).await.unwrap_err();
        assert_eq!(extended.code().map(|code| code.code()), Some(code), "{sql}: {extended:?}");
    }
    connection.run("BEGIN READ ONLY").await;
    assert_eq!(connection.refusal("COPY people FROM STDIN").await.code().code(), "25006");
}
