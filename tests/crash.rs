//! What a kill at any moment leaves: every commit that was acknowledged, and no half of anything.
//!
//! Writers change one table at the same time, each its own rows of it, and keep account of what must be there. The server is
//! killed, started again, and asked. A statement that had no answer yet has happened whole or not at all.
//! `COHORT_CRASH_ROUNDS` says how many kills; a few by default.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::process::Process;
use crate::server::Connection;

const WRITERS: i64 = 4;
const ROUNDS: u64 = 8;

/// Rows by their number: what a writer has in the table.
type Rows = BTreeMap<i64, i64>;

/// What one writer knows to be there.
#[derive(Default, Clone)]
struct Account {
    rows: Rows,
    /// The rows as the statement under way will leave them.
    under_way: Option<Rows>,
    /// What is in its copy of the table, and what may be.
    copy: Rows,
    copy_under_way: Option<Rows>,
    next: i64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let server = Process::serve(data.path());
    let connection = server.connect().await;
    connection.run("CREATE TABLE ledger (writer int NOT NULL, n bigint NOT NULL, v bigint, CHECK (v > 0))").await;
    for writer in 0..WRITERS {
        connection.run(&format!("CREATE TABLE copy_{writer} (n bigint, v bigint)")).await;
    }
    connection.run("CREATE TABLE points AS SELECT value AS x, value % 7 AS y FROM generate_series(1, 200)").await;
    let accounts: Vec<_> = (0..WRITERS).map(|_| Arc::new(Mutex::new(Account::default()))).collect();
    let models = Arc::new(Mutex::new(0));
    let rounds = std::env::var("COHORT_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut server = Some(server);
    for round in 0..rounds {
        let running = server.take().unwrap();
        let mut writers = Vec::new();
        for (writer, account) in (0..WRITERS).zip(&accounts) {
            let connection = running.connect().await;
            writers.push(tokio::spawn(write(connection, writer, Arc::clone(account), round)));
        }
        writers.push(tokio::spawn(train(running.connect().await, Arc::clone(&models))));
        let wait = StdRng::seed_from_u64(round).random_range(1..250);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        running.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        let restarted = Process::serve(data.path());
        verify(&restarted.connect().await, &accounts, &models, round).await;
        nothing_is_left_over(data.path());
        server = Some(restarted);
    }
    let written: i64 = accounts.iter().map(|account| account.lock().unwrap().next).sum();
    assert!(written > 0, "nobody wrote anything before the kills");
}

/// Changes its rows until the server is gone.
async fn write(connection: Connection, writer: i64, account: Arc<Mutex<Account>>, round: u64) {
    let mut random = StdRng::seed_from_u64(round * 100 + writer.unsigned_abs());
    loop {
        let sql = next_statement(&mut account.lock().unwrap(), writer, &mut random);
        let outcome = connection.client.batch_execute(&sql).await;
        let refused = match outcome {
            Ok(()) => None,
            Err(error) => match error.as_db_error() {
                Some(refused) => Some(refused.code().code().to_owned()),
                None => return,
            },
        };
        match refused.as_deref() {
            None => account.lock().unwrap().settle(true),
            Some("57P01") => return,
            // Others were faster, ten times, or before the COMMIT. In a transaction that failed nothing else runs.
            Some("40001") => {
                account.lock().unwrap().settle(false);
                if connection.client.batch_execute("ROLLBACK").await.is_err() {
                    return;
                }
            }
            Some(other) => panic!("{other}: {sql}"),
        }
    }
}

impl Account {
    /// What was under way has happened, or nothing has.
    fn settle(&mut self, happened: bool) {
        let (rows, copy) = (self.under_way.take(), self.copy_under_way.take());
        if happened {
            self.rows = rows.unwrap_or(std::mem::take(&mut self.rows));
            self.copy = copy.unwrap_or(std::mem::take(&mut self.copy));
        }
    }
}

/// The next statement, or several that are committed as one.
fn next_statement(account: &mut Account, writer: i64, random: &mut StdRng) -> String {
    let mut after = account.rows.clone();
    let n = account.next;
    let sql = match random.random_range(0..12) {
        0..=3 => {
            account.next += 1;
            after.insert(n, 1);
            format!("INSERT INTO ledger VALUES ({writer}, {n}, 1)")
        }
        4..=5 => {
            after.values_mut().for_each(|v| *v += 1);
            format!("UPDATE ledger SET v = v + 1 WHERE writer = {writer}")
        }
        6 => {
            after.pop_first();
            let from = after.keys().next().copied().unwrap_or(n);
            format!("DELETE FROM ledger WHERE writer = {writer} AND n < {from}")
        }
        7 => {
            account.next += 1;
            after.insert(n, 10);
            let last = account.rows.keys().last().copied().unwrap_or(-1);
            after.entry(last).and_modify(|v| *v += 10);
            format!(
                "MERGE INTO ledger USING (VALUES ({last}), ({n})) AS s (n) ON ledger.writer = {writer} AND ledger.n = s.n
                 WHEN MATCHED THEN UPDATE SET v = v + 10
                 WHEN NOT MATCHED AND s.n >= 0 THEN INSERT VALUES ({writer}, s.n, 10)"
            )
        }
        8 => {
            account.next += 3;
            after.extend((n..n + 3).map(|n| (n, 2)));
            format!("INSERT INTO ledger SELECT {writer}, value, 2 FROM generate_series({n}, {n} + 2)")
        }
        9 => {
            account.copy_under_way = Some(after);
            return format!(
                "CREATE OR REPLACE TABLE copy_{writer} AS SELECT n, v FROM ledger WHERE writer = {writer} ORDER BY n"
            );
        }
        // All rows move into the copy: they are in one of the two, and never in both.
        10 => {
            account.copy_under_way = Some(std::mem::take(&mut after));
            format!(
                "BEGIN; DELETE FROM copy_{writer}; INSERT INTO copy_{writer} SELECT n, v FROM ledger WHERE writer = {writer};
                 DELETE FROM ledger WHERE writer = {writer}; COMMIT"
            )
        }
        _ => {
            account.next += 2;
            after.extend([(n, 3), (n + 1, 4)]);
            account.copy_under_way = Some(Rows::new());
            format!(
                "INSERT INTO ledger VALUES ({writer}, {n}, 3); TRUNCATE copy_{writer};
                 INSERT INTO ledger VALUES ({writer}, {n} + 1, 4)"
            )
        }
    };
    account.under_way = Some(after);
    sql
}

/// Trains a model again and again.
async fn train(connection: Connection, versions: Arc<Mutex<usize>>) {
    let sql =
        "CREATE OR REPLACE MODEL groups OPTIONS (model_type = 'kmeans', num_clusters = 3) AS SELECT x, y FROM points";
    while connection.client.batch_execute(sql).await.is_ok() {
        *versions.lock().unwrap() += 1;
    }
}

async fn verify(connection: &Connection, accounts: &[Arc<Mutex<Account>>], models: &Mutex<usize>, round: u64) {
    for (writer, account) in (0..WRITERS).zip(accounts) {
        let rows = rows(connection, &format!("SELECT n, v FROM ledger WHERE writer = {writer}")).await;
        let copy = self::rows(connection, &format!("SELECT n, v FROM copy_{writer}")).await;
        let account = &mut *account.lock().unwrap();
        let under_way = account.under_way.take();
        assert!(
            rows == account.rows || Some(&rows) == under_way.as_ref(),
            "round {round}, writer {writer}: {rows:?} is neither {:?} nor {under_way:?}",
            account.rows
        );
        let before = std::mem::replace(&mut account.rows, rows);
        let copy_under_way = account.copy_under_way.take();
        assert!(
            copy == account.copy || Some(&copy) == copy_under_way.as_ref(),
            "round {round}, copy of writer {writer}"
        );
        if let (Some(rows), Some(copies)) = (&under_way, &copy_under_way) {
            // What is committed as one is all there or not at all.
            let is_new = |now: &Rows, old: &Rows, new: &Rows| (now == old, now == new);
            let (rows, copies) = (is_new(&account.rows, &before, rows), is_new(&copy, &account.copy, copies));
            assert!(rows.0 && copies.0 || rows.1 && copies.1, "round {round}, writer {writer}: half of a transaction");
        }
        account.copy = copy;
    }
    let ready = connection.value("SELECT count(*) FROM ml.model_versions WHERE status = 'READY'").await;
    let all = connection.value("SELECT count(*) FROM ml.model_versions").await;
    assert_eq!(ready, all, "round {round}");
    let versions = &mut *models.lock().unwrap();
    let there: usize = all.parse().unwrap();
    assert!(there == *versions || there == *versions + 1, "round {round}: {there} versions, {versions} acknowledged");
    *versions = there;
}

async fn rows(connection: &Connection, sql: &str) -> Rows {
    let rows = connection.rows(sql).await;
    let mut found = Rows::new();
    for row in rows {
        let twice = found.insert(row[0].parse().unwrap(), row[1].parse().unwrap());
        assert!(twice.is_none(), "{} is there twice: {sql}", row[0]);
    }
    found
}

/// After a start there are no drafts, and the log that others read ends with the version that we have.
fn nothing_is_left_over(data: &Path) {
    for kind in ["tables", "models"] {
        assert_eq!(std::fs::read_dir(data.join(kind).join("incoming")).unwrap().count(), 0, "{kind}");
    }
    for table in std::fs::read_dir(data.join("tables")).unwrap() {
        let log = table.unwrap().path().join("_delta_log");
        let drafts = std::fs::read_dir(&log).into_iter().flatten().flatten();
        let drafts = drafts.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "draft"));
        assert_eq!(drafts.count(), 0, "{}", log.display());
    }
}
