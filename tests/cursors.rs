//! Cursors, savepoints and prepared statements as drivers use them.

use tokio_postgres::types::Type;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::server::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_streams_in_both_protocols() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    connection.run("BEGIN").await;
    // A billion rows: whoever collects them does not come back.
    connection.run("DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 1000000000) AS t(i)").await;
    assert_eq!(connection.rows("FETCH 2 FROM c").await, [["1"], ["2"]]);
    let fetch = client.prepare("FETCH FORWARD 3 IN c").await.unwrap();
    let columns: Vec<_> = fetch.columns().iter().map(|column| (column.name(), column.type_().clone())).collect();
    assert_eq!(columns, [("i", Type::INT8)]);
    for start in [3_i64, 6] {
        let rows = client.query(&fetch, &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [start, start + 1, start + 2]);
    }
    assert_eq!(client.execute("MOVE 10000 IN c", &[]).await.unwrap(), 10_000);
    assert_eq!(connection.value("FETCH RELATIVE 2 FROM c").await, "10010");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_can_be_cancelled() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let client = &connection.client;
    connection.run("BEGIN").await;
    connection.run("DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 100000000000) AS t(i) WHERE i < 0").await;
    let token = client.cancel_token();
    let fetch = async {
        let outcome = client.simple_query("FETCH 1 FROM c").await;
        outcome.unwrap_err()
    };
    let cancel = async {
        // A request that comes before what it is to cancel does nothing.
        loop {
            token.cancel_query(NoTls).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let error = tokio::select! {
        error = fetch => error,
        () = cancel => unreachable!("it never ends"),
    };
    assert_eq!(error.code().unwrap().code(), "57014");
    connection.run("ROLLBACK").await;
    assert_eq!(connection.refusal("FETCH 1 FROM c").await.code().code(), "34000");
}

/// As psqlODBC with UseDeclareFetch does it, and Tableau through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_declares_and_fetches_in_one_message() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    let script = "BEGIN;declare \"SQL_CUR0x1\" cursor with hold for SELECT i FROM generate_series(1, 250) AS t(i);fetch 100 in \"SQL_CUR0x1\"";
    assert_eq!(connection.rows(script).await.len(), 100);
    assert_eq!(connection.rows("SAVEPOINT _EXEC_SVP_1;fetch 100 in \"SQL_CUR0x1\"").await.len(), 100);
    connection.run("commit").await;
    assert_eq!(connection.rows("fetch 100 in \"SQL_CUR0x1\"").await.len(), 50);
    connection.run("close \"SQL_CUR0x1\"").await;
    // Several statements of one message are a block, too, and its cursors end with it.
    assert_eq!(connection.rows("DECLARE c CURSOR FOR SELECT 7; FETCH ALL FROM c").await, [["7"]]);
    assert_eq!(connection.refusal("FETCH c").await.code().code(), "34000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_takes_parameters() {
    let server = TestServer::start().await;
    let mut client = server.connect().await.client;
    let transaction = client.transaction().await.unwrap();
    let declare = "DECLARE c CURSOR FOR SELECT i * $1 AS x FROM generate_series(1, 10) AS t(i) WHERE i <= $2";
    transaction.execute(declare, &[&2i64, &3i64]).await.unwrap();
    let rows = transaction.query("FETCH ALL FROM c", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [2, 4, 6]);
    transaction.commit().await.unwrap();
    let error = client.query("FETCH ALL FROM c", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "34000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_statement_of_a_cursor_has_its_tag() {
    let server = TestServer::start().await;
    let client = server.connect().await.client;
    for (sql, expected) in [
        ("BEGIN", 0),
        ("DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 5)", 0),
        ("FETCH 2 c", 2),
        ("MOVE 2 c", 2),
        ("FETCH 2 c", 1),
        ("MOVE ALL c", 0),
        ("CLOSE c", 0),
        ("COMMIT", 0),
    ] {
        let messages = client.simple_query(sql).await.unwrap();
        let Some(SimpleQueryMessage::CommandComplete(count)) = messages.last() else { panic!("{sql}: {messages:?}") };
        assert_eq!(*count, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_prepared_by_sql_and_by_message_go_by_the_same_names() {
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection
        .run("CREATE TABLE t (a bigint, b text); PREPARE put (bigint, text) AS INSERT INTO t VALUES ($1, $2)")
        .await;
    connection.run("EXECUTE put (1, 'one'); EXECUTE put (1 + 1, upper('two'))").await;
    connection.run("PREPARE got AS SELECT b FROM t WHERE a >= $1 ORDER BY a").await;
    assert_eq!(connection.rows("EXECUTE got (1)").await, [["one"], ["TWO"]]);
    let execute = connection.client.prepare("EXECUTE got (2)").await.unwrap();
    assert_eq!(execute.columns()[0].name(), "b");
    let rows = connection.client.query(&execute, &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, &str>(0), "TWO");
    assert_eq!(connection.refusal("EXECUTE got").await.code().code(), "42601");
    connection.run("DEALLOCATE got").await;
    assert_eq!(connection.refusal("EXECUTE got (1)").await.code().code(), "26000");
    connection.run("DEALLOCATE ALL").await;
    assert_eq!(connection.refusal("DEALLOCATE put").await.code().code(), "26000");
}
