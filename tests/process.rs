//! The program as it is installed: its flags, its files, and what a kill leaves behind.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::server::{Connection, PATIENCE};

fn cohort(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
    command.args(args).env_remove("COHORT_DATA_DIR").env_remove("COHORT_LISTEN").env_remove("COHORT_URL");
    command.env("COHORT_LOG", "warn").env_remove("COHORT_PASSWORD").env_remove("COHORT_PASSWORD_FILE");
    command
}

/// A command that ends by itself.
fn run(args: &[&str]) -> Output {
    cohort(args).stdin(Stdio::null()).output().unwrap()
}

pub fn done(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(args);
    assert!(status.success(), "{args:?}\n{}", text(&stderr));
    text(&stdout)
}

fn refused(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(args);
    assert!(!status.success(), "{args:?}\n{}", text(&stdout));
    text(&stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `cohort serve` as a process of its own; killed when it is dropped.
pub struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    pub fn serve(data: &Path) -> Self {
        Self::start(&mut cohort(&["serve", "--listen", "127.0.0.1:0", "--threads", "2", "--data-dir", shown(data)]))
    }

    fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut port = None;
        for line in &mut lines {
            // `connect with: psql -h 127.0.0.1 -p 5433 -U cohort cohort`
            if let Some((_, rest)) = line.unwrap().split_once(" -p ") {
                port = rest.split(' ').next().and_then(|port| port.parse::<u16>().ok());
                break;
            }
        }
        let Some(port) = port else {
            let mut said = String::new();
            let _ = child.stderr.take().unwrap().read_to_string(&mut said);
            panic!("the server did not start: {said}");
        };
        // Whatever else it prints must not fill the pipe and stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// As if the power went.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        wait_for("the server to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until there is something to see.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut todo, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(path) = todo.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => todo.extend(entries.flatten().map(|entry| entry.path())),
            Err(_) => files.push(path),
        }
    }
    files
}

const POINTS: &str = "CREATE TABLE points AS SELECT i AS id, i * 1.0 AS x FROM generate_series(1, 1000) AS t(i)";
const GROUPS: &str =
    "CREATE MODEL groups OPTIONS (model_type = 'kmeans', k = 2, id_col = 'id', seed = 1) AS SELECT id, x FROM points";
const ASK_GROUPS: &str = "SELECT sum(centroid_id * id) FROM predict('groups', (SELECT * FROM points))";

#[test]
fn help_teaches_and_the_version_is_told() {
    let help = done(&["--help"]);
    for word in ["serve", "sql", "import", "CREATE MODEL", "cohort serve --demo", "psql"] {
        assert!(help.contains(word), "{word} is missing:\n{help}");
    }
    for command in ["serve", "sql", "import"] {
        let help = done(&[command, "--help"]);
        assert!(help.contains("--data-dir"), "{help}");
    }
    assert!(done(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
    assert!(refused(&["serv"]).contains("serve"), "the nearest command is suggested");
    assert!(refused(&["serve", "--treads", "2"]).contains("--threads"));
    assert!(refused(&["serve", "--memory-limit", "lots"]).contains("512MB"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_and_tables_survive_a_restart() {
    let data = TempDir::new().unwrap();
    let mut server = Process::serve(data.path());
    let connection = server.connect().await;
    connection.run(POINTS).await;
    connection.run(GROUPS).await;
    connection.run("CREATE VIEW small AS SELECT * FROM points WHERE id < 10").await;
    let before = connection.value(ASK_GROUPS).await;
    drop(connection);
    server.signal("TERM");
    assert!(server.ended().success(), "a server that is told to stop ends well");

    let server = Process::serve(data.path());
    let connection = server.connect().await;
    assert_eq!(connection.value(ASK_GROUPS).await, before);
    assert_eq!(connection.value("SELECT count(*) FROM small").await, "9");
    let replace = GROUPS.replace("CREATE MODEL", "CREATE OR REPLACE MODEL");
    connection.run(&replace).await;
    assert_eq!(connection.value("SELECT default_version FROM ml.models").await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_request_ends_what_runs() {
    let data = TempDir::new().unwrap();
    let mut server = Process::serve(data.path());
    let connection = server.connect().await;
    let endless = "SELECT i FROM generate_series(1, 1000000000) AS t(i)";
    let none: [&str; 0] = [];
    let rows = connection.client.query_raw(endless, none).await.unwrap();
    server.signal("INT");
    assert!(server.ended().success());
    drop(rows);
}

#[test]
fn the_second_server_on_a_data_directory_is_refused() {
    let data = TempDir::new().unwrap();
    let first = Process::serve(data.path());
    for args in [vec!["serve", "--listen", "127.0.0.1:0"], vec!["sql", "-c", "SELECT 1"], vec!["import", "t", "x.csv"]]
    {
        let args = [args, vec!["--data-dir", shown(data.path())]].concat();
        let said = refused(&args);
        assert!(said.contains("is in use by another cohort process"), "{said}");
        assert!(said.contains(&format!("pid {}", first.child.id())), "{said}");
        assert!(said.contains("HINT:  stop that process"), "{said}");
    }
    // The first is none the worse for it, and when it is gone the directory is free.
    first.kill();
    assert!(done(&["sql", "-c", "SELECT 1 AS one", "--data-dir", shown(data.path())]).contains("one"));
}

#[test]
fn nobody_else_may_listen_or_be_listened_to() {
    let data = TempDir::new().unwrap();
    let data = shown(data.path());
    let said = refused(&["serve", "--data-dir", data, "--listen", "0.0.0.0:0"]);
    assert!(said.contains("no superuser has a password"), "{said}");
    assert!(said.contains("HINT:"), "{said}");
    let said = refused(&["serve", "--data-dir", data, "--listen", "nonsense"]);
    assert!(said.contains("127.0.0.1:5433"), "{said}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(&["serve", "--data-dir", data, "--listen", &address]);
    assert!(said.contains("the address is in use"), "{said}");
}

/// Statements that take long are in the log, and no others; never what is secret in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_statements_are_logged() {
    let data = TempDir::new().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", shown(data.path()), "--log-min-duration", "40ms"];
    let mut server = Process::start(cohort(&serve).env("COHORT_LOG", "info"));
    let mut stderr = server.child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).map(|_| log)
    });
    let connection = server.connect().await;
    assert_eq!(connection.value("SHOW log_min_duration_statement").await, "40ms");
    connection.run("SELECT pg_sleep(0.05) AS slow_one").await;
    connection.client.query("SELECT pg_sleep(0.05) AS slow_two", &[]).await.unwrap();
    connection.run("SELECT pg_sleep(0.05) AS no_secret, 'password'").await;
    connection.run("SET log_min_duration_statement = -1; SELECT pg_sleep(0.05) AS quiet").await;
    server.signal("TERM");
    assert!(server.ended().success());
    let log = log.join().unwrap().unwrap();
    for line in ["slow_one", "slow_two", "a statement about a password"] {
        assert!(log.contains(line), "{line} is not in the log:\n{log}");
    }
    for quiet in ["no_secret", "quiet", "SHOW"] {
        assert!(!log.contains(quiet), "{quiet} is in the log:\n{log}");
    }
}

/// The password of the first start, and what the log says of it and of those who come: who, and never what they know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_set_at_the_first_start_and_never_shown() {
    let data = TempDir::new().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "hush-hush\n").unwrap();
    let serve = |password: &str| {
        let mut command = cohort(&["serve", "--listen", "127.0.0.1:0", "--data-dir", shown(data.path())]);
        command.env("COHORT_LOG", "trace");
        match password {
            "" => command.args(["--password-file", shown(file.path())]),
            password => command.env("COHORT_PASSWORD", password),
        };
        Process::start(&mut command)
    };
    let mut server = serve("");
    let mut stderr = server.child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).map(|_| log)
    });
    let admin = Connection::as_user(server.address, "user=cohort password=hush-hush").await;
    admin.run("CREATE USER ann PASSWORD 'a-secret'").await;
    admin.refusal("ALTER USER ann PASSWORD 'a-secret' 'a-secret'").await;
    admin.refusal("ALTER USER nobody PASSWORD 'a-secret'").await;
    Connection::as_user(server.address, "user=ann password=a-secret").await.refusal("CREATE TABLE t (a int)").await;
    let url = format!("host=127.0.0.1 port={} user=ann password=guess dbname=cohort", server.address.port());
    assert!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err());
    server.signal("TERM");
    assert!(server.ended().success());
    let log = log.join().unwrap().unwrap();
    for secret in ["hush-hush", "a-secret", "guess", "SCRAM-SHA-256$"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    for line in ["login refused", "CREATE ROLE"] {
        assert!(log.contains(line), "{line} is not in the log:\n{log}");
    }

    // Later ones change nothing.
    let server = serve("another");
    Connection::as_user(server.address, "user=cohort password=hush-hush").await;
    let text = fs::read(data.path().join("catalog.db")).unwrap();
    assert!(!text.windows(9).any(|bytes| bytes == b"hush-hush"));
}

#[test]
fn a_data_directory_that_cannot_be_is_said() {
    for place in ["/dev/null/data", "/proc/nowhere/data"] {
        let said = refused(&["serve", "--listen", "127.0.0.1:0", "--data-dir", place]);
        assert!(said.starts_with("ERROR:") && said.contains(place), "{said}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let said = refused(&["sql", "-c", "SELECT 1", "--data-dir", shown(file.path())]);
    assert!(said.starts_with("ERROR:") && said.contains(shown(file.path())), "{said}");
}

/// Kills the server in the middle of `statement`, once `begun` sees that it is at work, and opens it again.
async fn killed_in_the_middle(data: &Path, statement: &'static str, begun: impl Fn() -> Option<()>) -> Process {
    let server = Process::serve(data);
    let connection = server.connect().await;
    let client = connection.client;
    let running = tokio::spawn(async move { client.batch_execute(statement).await });
    let at_work = || begun().map(|()| true).or(running.is_finished().then_some(false));
    assert!(tokio::task::block_in_place(|| wait_for("the statement to write", at_work)), "{statement}");
    server.kill();
    assert!(running.await.unwrap().is_err());
    Process::serve(data)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_writing_leaves_nothing_half() {
    let data = TempDir::new().unwrap();
    let server = Process::serve(data.path());
    server.connect().await.run(POINTS).await;
    server.connect().await.run(GROUPS).await;
    let expected = server.connect().await.value(ASK_GROUPS).await;
    server.kill();

    let incoming = data.path().join("tables").join("incoming");
    let begun = || files(&incoming).iter().any(|file| file.is_file()).then_some(());
    let create = "CREATE TABLE half AS SELECT i, 'row ' || i AS name FROM generate_series(1, 1000000000) AS t(i)";
    let insert = "INSERT INTO points SELECT i, i * 1.0 FROM generate_series(1, 1000000000) AS t(i)";
    for statement in [create, insert] {
        let server = killed_in_the_middle(data.path(), statement, begun).await;
        let connection = server.connect().await;
        assert_eq!(connection.value("SELECT count(*) FROM points").await, "1000");
        assert_eq!(connection.refusal("SELECT * FROM half").await.code().code(), "42P01");
        assert_eq!(connection.value(ASK_GROUPS).await, expected);
        assert!(begun().is_none(), "what was never committed is swept away");
        server.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_training_leaves_no_model() {
    let data = TempDir::new().unwrap();
    let server = Process::serve(data.path());
    let mut connection = server.connect().await;
    connection.run(POINTS).await;
    connection.run(GROUPS).await;
    connection
        .run("CREATE TABLE many AS SELECT u, (u * 31 + i * 17) % 997 AS i FROM generate_series(1, 4000) AS a(u), generate_series(1, 25) AS b(i)")
        .await;
    let Connection { client, notices } = &mut connection;
    let training = "CREATE MODEL slow OPTIONS (model_type = 'matrix_factorization', max_iterations = 1000) AS SELECT u, i FROM many";
    tokio::select! {
        outcome = client.batch_execute(training) => panic!("it ended by itself: {outcome:?}"),
        _ = notices.saying("training matrix_factorization") => {}
    }
    server.kill();
    let server = Process::serve(data.path());
    let connection = server.connect().await;
    assert_eq!(connection.rows("SELECT model_name, status FROM ml.models").await, [["groups", "READY"]]);
    assert_eq!(connection.value("SELECT count(*) FROM many").await, "100000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_after_the_answer_loses_nothing() {
    let data = TempDir::new().unwrap();
    let server = Process::serve(data.path());
    let connection = server.connect().await;
    connection.run(POINTS).await;
    connection.run("INSERT INTO points VALUES (0, 0)").await;
    connection.run(GROUPS).await;
    connection.run("CREATE VIEW small AS SELECT * FROM points WHERE id < 10").await;
    server.kill();
    let server = Process::serve(data.path());
    let connection = server.connect().await;
    assert_eq!(connection.value("SELECT count(*) FROM points").await, "1001");
    assert_eq!(connection.value("SELECT count(*) FROM small").await, "10");
    assert_eq!(connection.value("SELECT count(DISTINCT centroid_id) FROM centroids('groups')").await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_model_fails_alone() {
    let data = TempDir::new().unwrap();
    let server = Process::serve(data.path());
    let connection = server.connect().await;
    connection.run(POINTS).await;
    connection.run(GROUPS).await;
    let models = data.path().join("models");
    let of_groups = files(&models);
    connection.run(&GROUPS.replace("MODEL groups", "MODEL others")).await;
    let expected = connection.value(&ASK_GROUPS.replace("groups", "others")).await;
    server.kill();

    let part = of_groups.iter().find(|file| file.extension().is_some_and(|extension| extension == "parquet")).unwrap();
    let mut bytes = fs::read(part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(part, bytes).unwrap();

    let server = Process::serve(data.path());
    let connection = server.connect().await;
    assert_eq!(
        connection.rows("SELECT model_name, status FROM ml.models ORDER BY model_name").await,
        [["groups", "FAILED"], ["others", "READY"]]
    );
    assert_ne!(connection.value("SELECT failure FROM ml.model_versions WHERE model_name = 'groups'").await, "NULL");
    let error = connection.refusal(ASK_GROUPS).await;
    assert_eq!(error.code().code(), "55000");
    assert!(error.message().starts_with("model \"groups\" version 1 is FAILED"), "{}", error.message());
    assert!(error.hint().unwrap().contains("CREATE OR REPLACE MODEL"));
    assert_eq!(connection.value(&ASK_GROUPS.replace("groups", "others")).await, expected);
    // Trained again it is whole.
    connection.run(&GROUPS.replace("CREATE MODEL", "CREATE OR REPLACE MODEL")).await;
    assert_eq!(connection.value(ASK_GROUPS).await, expected);
}

#[test]
fn sql_from_the_command_line_a_file_and_standard_input() {
    let data = TempDir::new().unwrap();
    let dir = shown(data.path());
    let said = done(&[
        "sql",
        "--data-dir",
        dir,
        "-c",
        "CREATE TABLE t AS SELECT 1 AS a UNION ALL SELECT NULL; SELECT * FROM t ORDER BY a",
    ]);
    assert!(
        said.contains("SELECT 2") && said.contains("| a ") && said.contains("NULL") && said.contains("(2 rows)"),
        "{said}"
    );

    let script = data.path().join("script.sql");
    fs::write(&script, "-- a comment\nINSERT INTO t VALUES (7);\nSELECT count(*) AS n FROM t;\n").unwrap();
    assert!(done(&["sql", "--data-dir", dir, "-f", shown(&script)]).contains("| 3 "));

    for args in [vec![], vec!["-f", "-"]] {
        let mut child = cohort(&[vec!["sql", "--data-dir", dir], args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"SELECT sum(a) AS total FROM t").unwrap();
        let Output { status, stdout, .. } = child.wait_with_output().unwrap();
        assert!(status.success() && text(&stdout).contains("| 8 "), "{}", text(&stdout));
    }

    // The first error ends it; what came before has happened.
    let Output { status, stdout, stderr } =
        run(&["sql", "--data-dir", dir, "-c", "SELECT 1 AS one; SELECT * FROM nowhere; CREATE TABLE never (a int)"]);
    assert_eq!(status.code(), Some(1));
    assert!(text(&stdout).contains("one"));
    assert!(text(&stderr).starts_with("ERROR:  relation \"nowhere\" does not exist"), "{}", text(&stderr));
    assert!(refused(&["sql", "--data-dir", dir, "-c", "SELECT * FROM never"]).contains("does not exist"));
    assert!(refused(&["sql", "--data-dir", dir, "-f", "/nowhere/script.sql"]).contains("/nowhere/script.sql"));
    // Notices are not results: they go where errors go.
    let Output { stdout, stderr, .. } = run(&["sql", "--data-dir", dir, "-c", "DROP TABLE IF EXISTS nowhere"]);
    assert!(text(&stderr).contains("NOTICE:") && !text(&stdout).contains("NOTICE"));
}

#[test]
fn sql_on_a_running_server() {
    let data = TempDir::new().unwrap();
    let server = Process::serve(data.path());
    let url = format!("postgres://cohort@{}/cohort", server.address);
    let said = done(&[
        "sql",
        "--url",
        &url,
        "-c",
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); SELECT sum(a) AS total FROM t",
    ]);
    assert!(said.contains("total") && said.contains('3'), "{said}");
    let said = refused(&["sql", "--url", &url, "-c", "SELECT * FROM predict('chrun', t)"]);
    assert!(said.starts_with("ERROR:  model \"chrun\" does not exist"), "{said}");
    let said = refused(&["sql", "--url", "postgres://cohort@127.0.0.1:1/cohort", "-c", "SELECT 1"]);
    assert!(said.contains("HINT:  is the server running?"), "{said}");
}

/// The words of an import into the data directory.
fn import<'a>(data: &'a Path, words: &[&'a str]) -> Vec<&'a str> {
    [&["import", "--data-dir", shown(data)], words].concat()
}

#[test]
fn files_of_every_format_are_imported() {
    let data = TempDir::new().unwrap();
    let dir = data.path().join("data");
    let write = |name: &str, bytes: &[u8]| {
        let path = data.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let csv = "id,name,\"Unit Price\",paid_ts\n1,ann,2.5,2026-01-01 10:00:00\n2,\"O'Hara, \"\"Bob\"\"\nand sons\",,2026-01-02 00:00:00\n";
    let csv_file = write("a file of 50%.csv", csv.as_bytes());
    let tsv_file = write("b.tsv", "id\tname\n3\tcat\n".as_bytes());
    let json_file = write("c.json", b"{\"id\": 4, \"name\": \"dan\"}\n{\"id\": 5, \"name\": null}\n");
    let parquet_file = {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![6, 7]));
        let name: ArrayRef = Arc::new(StringArray::from(vec![Some("eve"), None]));
        let rows = RecordBatch::try_from_iter_with_nullable([("id", id, false), ("name", name, true)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        write("d.parquet", &bytes)
    };
    let sql = |sql: &str| done(&["sql", "--data-dir", shown(&dir), "-c", sql]);

    assert!(done(&import(&dir, &["shop", &csv_file])).contains("2 rows into shop"));
    let said = sql(
        "SELECT id, \"Unit Price\" AS price, name LIKE 'O''Hara, \"Bob\"%sons' AS quoted, date_part('hour', paid_ts) AS hour FROM shop ORDER BY id",
    );
    assert!(said.contains("| 1  | 2.5   | false  | 10") && said.contains("| 2  | NULL  | true   | 0"), "{said}");

    let gz = Command::new("gzip").args(["-k", &csv_file]).status();
    assert!(gz.unwrap().success());
    assert!(done(&import(&dir, &["packed", &format!("{csv_file}.gz")])).contains("2 rows into packed"));
    assert!(done(&import(&dir, &["people", &tsv_file, &json_file, &parquet_file])).contains("5 rows into people"));
    assert!(sql("SELECT sum(id) AS s, count(name) AS n FROM people").contains("| 25 | 3 |"));
    // Again adds, --replace replaces.
    assert!(done(&import(&dir, &["people", &json_file])).contains("2 rows into people"));
    assert!(sql("SELECT count(*) AS n FROM people").contains("| 7 |"));
    done(&import(&dir, &["people", &json_file, "--replace"]));
    assert!(sql("SELECT count(*) AS n FROM people").contains("| 2 |"));
    sql("CREATE SCHEMA raw");
    done(&import(&dir, &["raw.people", &json_file]));
    assert!(sql("SELECT count(*) AS n FROM raw.people").contains("| 2 |"));
}

#[test]
fn files_that_cannot_be_imported_change_nothing() {
    let data = TempDir::new().unwrap();
    let dir = data.path().join("data");
    let write = |name: &str, bytes: &[u8]| {
        let path = data.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good.csv", b"id,name\n1,ann\n");
    done(&import(&dir, &["people", &good]));

    let ragged = write("ragged.csv", b"id,name\n2,bob\n3\n");
    let other = write("other.csv", b"id,nam\n2,bob\n");
    let wrong = write("wrong.csv", b"id,name\nmany,bob\n");
    let broken = write("broken.parquet", b"PAR1 this is none PAR1");
    let not_json = write("not.json", b"{\"id\": 1, \"name\": ");
    let sheet = write("sheet.xlsx", b"PK");
    let empty = write("empty.csv", b"");
    let twice = write("twice.csv", b"id,name,id\n2,bob,3\n");
    for (file, says) in [
        (&ragged, "ragged.csv"),
        (&other, "has no column \"name\""),
        (&wrong, "many"),
        (&broken, "broken.parquet"),
        (&not_json, "not.json"),
        (&sheet, "no known format"),
        (&empty, "empty.csv: the file is empty"),
        (&twice, "two columns are named \"id\""),
        (&"/nowhere/file.csv".to_owned(), "does not exist"),
    ] {
        let said = refused(&import(&dir, &["people", &good, file]));
        assert!(said.starts_with("ERROR:") && said.contains(says), "{file}: {said}");
    }
    assert!(refused(&import(&dir, &["nowhere.people", &good])).contains("schema \"nowhere\" does not exist"));
    let said =
        done(&["sql", "--data-dir", shown(&dir), "-c", "SELECT 7 AS one", "-c", "SELECT count(*) AS n FROM people"]);
    assert!(said.contains("| 7 ") && said.contains("| 1 |"), "{said}");
}

#[test]
fn lines_that_are_no_rows_are_left_out_and_kept() {
    let data = TempDir::new().unwrap();
    let dir = data.path().join("data");
    let write = |name: &str, bytes: &[u8]| {
        let path = data.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let sql = |sql: &str| done(&["sql", "--data-dir", shown(&dir), "-c", sql]);
    let good = write("good.csv", b"id,name,paid\n1,ann,2.5\n");
    done(&import(&dir, &["people", &good]));
    let mixed = write("mixed.csv", b"id;name;paid\n2;bob;3\nmany;\"c;d\";1\n4;dan\n5;\xff;1\n6;eve; \n7;f;x\n");
    let said = refused(&import(&dir, &["people", &mixed]));
    assert!(
        said.contains("mixed.csv: line 3: column \"id\": invalid input syntax for type bigint: \"many\"")
            && said.contains("people_rejects"),
        "{said}"
    );
    let said = done(&import(&dir, &["people", &mixed, "--on-error", "skip"]));
    assert!(said.contains("2 rows into people") && said.contains("4 lines left out, kept in people_rejects"), "{said}");
    assert!(sql("SELECT count(*) AS n, sum(paid) AS s, count(paid) AS p FROM people").contains("| 3 | 5.5 | 2 |"));
    let said = sql("SELECT line, reason, text FROM people_rejects WHERE file LIKE '%mixed.csv' ORDER BY line");
    for line in [
        "| 3    | column \"id\": invalid input syntax for type bigint: \"many\"          | many,c;d,1 |",
        "| 4    | 2 fields where the first line has 3 ",
        "| 5    | the line is not UTF-8 ",
        "| 7    | column \"paid\": invalid input syntax for type double precision: \"x\" | 7,f,x ",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    // A second import adds to them.
    done(&import(&dir, &["people", &mixed, "--on-error", "skip"]));
    assert!(sql("SELECT count(*) AS n FROM people_rejects").contains("| 8 |"));
    // What another table's name is, is not taken.
    sql("CREATE TABLE other_rejects AS SELECT 1 AS one");
    let said = refused(&import(&dir, &["other", &good, &mixed, "--on-error", "skip"]));
    assert!(said.contains("\"other_rejects\" is there and is no table of rejects"), "{said}");
    assert!(refused(&["sql", "--data-dir", shown(&dir), "-c", "SELECT * FROM other"]).contains("does not exist"));
    let open = write("open.csv", b"id\n1\n\"2\n3\n");
    assert!(done(&import(&dir, &["opened", &open])).contains("2 rows into opened"));
}

#[test]
fn dates_are_read_as_the_file_has_them() {
    let data = TempDir::new().unwrap();
    let dir = data.path().join("data");
    let write = |name: &str, text: &str| {
        let path = data.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let sql = |sql: &str| done(&["sql", "--data-dir", shown(&dir), "-c", sql]);
    let forms = write(
        "forms.csv",
        "eu,us,iso,dotted,zip,code\n03/02/2026,02/03/2026 2:30 PM,2026-02-03T14:30:00Z,3.2.2026,01234,7\n\
         25/12/2025,12/25/2025 08:00 AM,2025-12-25 09:00:00+01:00,25.12.25,56789,\n",
    );
    done(&import(&dir, &["forms", &forms]));
    let types = sql("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'forms'");
    for (column, data_type) in [
        ("eu ", "date"),
        ("us ", "timestamp without time zone"),
        ("iso ", "timestamp with time zone"),
        ("dotted ", "date"),
        ("zip ", "text"),
        ("code ", "bigint"),
    ] {
        let line = types.lines().find(|line| line.starts_with(&format!("| {column}"))).unwrap_or_default();
        assert!(line.contains(data_type), "{column}: {types}");
    }
    let same = sql("SELECT count(*) AS n FROM forms WHERE eu = us::date AND us = iso::timestamp AND dotted = eu");
    assert!(same.contains("| 2 |"), "{same}");

    let open = write("open.csv", "day\n01/02/2026\n03/04/2026\n");
    let said = refused(&import(&dir, &["open", &open]));
    assert!(said.contains("column \"day\"") && said.contains("01/02/2026") && said.contains("--date-order"), "{said}");
    done(&import(&dir, &["open", &open, "--date-order", "mdy"]));
    assert!(sql("SELECT max(day) AS latest FROM open").contains("2026-03-04"));
    // What the table is, is asked of a file that says it; a moment is no date.
    let later = write("later.csv", "day\n13/02/2026\n2026-02-01 10:00\n");
    let said = done(&import(&dir, &["open", &later, "--on-error", "skip"]));
    assert!(said.contains("1 rows into open") && said.contains("1 lines left out"), "{said}");
    assert!(sql("SELECT count(*) AS n FROM open WHERE day = date '2026-02-13'").contains("| 1 |"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_result_does_not_fill_the_memory() {
    let data = TempDir::new().unwrap();
    let server = Process::serve(data.path());
    let connection = server.connect().await;
    connection.value("SELECT count(*) FROM generate_series(1, 100000) AS t(i)").await;
    let before = peak_memory(&server.child);
    // Half a gigabyte on the wire.
    let query = "SELECT i, repeat('x', 400) AS filler FROM generate_series(1, 1200000) AS t(i)";
    let none: [&str; 0] = [];
    let rows = connection.client.query_raw(query, none).await.unwrap();
    let n = futures::TryStreamExt::try_fold(rows, 0u64, |n, _| async move { Ok(n + 1) }).await.unwrap();
    assert_eq!(n, 1_200_000);
    let grown = peak_memory(&server.child) - before;
    assert!(grown < 128 << 10, "the server grew by {grown} kB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_tables_do_not_survive_a_kill() {
    let data = TempDir::new().unwrap();
    let server = Process::serve(data.path());
    server.connect().await.run("CREATE TABLE kept AS SELECT 1 AS a; CREATE TABLE gone AS SELECT 1 AS a").await;
    let connection = server.connect().await;
    connection.run("CREATE TEMP TABLE t AS SELECT 1 AS a").await;
    let folders = || fs::read_dir(data.path().join("tables")).unwrap().count();
    let before = folders();
    server.kill();
    let server = Process::serve(data.path());
    let connection = server.connect().await;
    assert_eq!(connection.value("SELECT count(*) FROM pg_class WHERE relname IN ('t', 'kept', 'gone')").await, "2");
    assert_eq!(folders(), before - 1);
}

/// A server whose data directory these mounts make what it is, for it alone; `None` where the system lets nobody mount.
fn serve_on(data: &TempDir, mounts: &str) -> Option<Command> {
    let (path, cohort) = (shown(data.path()), env!("CARGO_BIN_EXE_cohort"));
    let mounts = mounts.replace("DATA", path);
    let serve = format!("{mounts} && exec {cohort} serve --listen 127.0.0.1:0 --threads 2 --data-dir {path}");
    let shell = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script]);
        command
    };
    let may = shell("mount -t tmpfs -o size=1m tmpfs /tmp").stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: nothing can be mounted here");
        return None;
    }
    Some(shell(&serve))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let data = TempDir::new().unwrap();
    let Some(mut command) = serve_on(&data, "mount -t tmpfs -o size=24m tmpfs DATA") else { return };
    let server = Process::start(command.env("COHORT_LOG", "error"));
    let connection = server.connect().await;
    connection.run("CREATE TABLE t (i bigint, filler text)").await;
    let mut acknowledged = 0;
    let full = loop {
        let rows = "INSERT INTO t SELECT i, md5(i::text) || md5((i + 1)::text) FROM generate_series(1, 20000) AS g(i)";
        match connection.client.simple_query(rows).await {
            Ok(_) => acknowledged += 20_000,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000_000, "the disk does not fill");
    };
    assert_eq!(full.code().unwrap().code(), "53100", "{full:?}");
    let copy = "CREATE TABLE u AS SELECT i, md5(i::text) AS filler FROM generate_series(1, 3000000) AS g(i)";
    assert_eq!(connection.refusal(copy).await.code().code(), "53100");
    assert_eq!(connection.value("SELECT count(*) FROM t").await, acknowledged.to_string());
    // What a refused statement has written is gone; a few rows find a place.
    connection.run("INSERT INTO t VALUES (1, 'x')").await;
    assert_eq!(connection.value("SELECT count(*) FROM t").await, (acknowledged + 1).to_string());
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let data = TempDir::new().unwrap();
    let Some(mut command) = serve_on(&data, "mount -t tmpfs tmpfs DATA && mount -o remount,ro DATA") else { return };
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    assert!(!status.success());
    let said = text(&stderr);
    assert!(said.contains("could not use data directory") && said.contains("name a folder"), "{said}");
}

/// What is larger than the memory limit goes to disk and comes back, or is refused; the server goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_larger_than_the_memory_limit_spills() {
    let data = TempDir::new().unwrap();
    let server = Process::start(&mut cohort(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--threads",
        "2",
        "--memory-limit",
        "128MB",
        "--data-dir",
        shown(data.path()),
    ]));
    let connection = server.connect().await;
    connection
        .run(
            "CREATE TABLE wide AS SELECT i, (i * 7919) % 3000017 AS key, md5(i::text) || md5((i + 1)::text) AS filler
             FROM generate_series(1, 3000000) AS t(i)",
        )
        .await;
    let spilled = || fs::read_dir(data.path().join("spilled")).unwrap().count();
    // About 300 MB each, sorted and grouped.
    let sorted = "SELECT count(*) FROM (SELECT key, lag(key) OVER (ORDER BY filler, key) AS before FROM wide) AS t";
    assert_eq!(connection.value(sorted).await, "3000000");
    let grouped = "SELECT count(*) FROM (SELECT filler, count(*) AS n FROM wide GROUP BY filler) AS t WHERE n = 1";
    assert_eq!(connection.value(grouped).await, "3000000");
    // The build side of a join has no other place than memory, and the last merge of a sort needs some.
    for sql in [
        "CREATE TABLE in_order AS SELECT * FROM wide ORDER BY filler",
        "SELECT count(*) FROM wide a JOIN wide b ON a.filler = b.filler WHERE a.i + b.i > 0",
    ] {
        if let Err(error) = connection.client.simple_query(sql).await {
            assert_eq!(error.code().unwrap().code(), "53200", "{error:?}");
        }
    }
    assert_eq!(connection.value("SELECT 1").await, "1");
    let peak = peak_memory(&server.child);
    assert!(peak < 700 << 10, "the server took {peak} kB");
    drop(connection);
    assert!(spilled() <= 1, "spilled files stay behind");
}

/// The most memory a process has had, in kB, where the machine tells.
fn peak_memory(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}
