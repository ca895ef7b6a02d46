//! A MariaDB of a test's own: in a temporary directory, behind a socket there, gone when the test is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tempfile::TempDir;

use crate::server::eventually;

/// A server that logs every statement. Its database is `shop`, its user `root` needs no password.
pub struct MariaDb {
    dir: TempDir,
    process: Child,
}

impl MariaDb {
    /// `None`, with a line that says so, where no MariaDB is installed.
    pub async fn start() -> Option<Self> {
        let (Some(install), Some(_)) = (program("mariadb-install-db"), program("mariadbd")) else {
            eprintln!("skipped: no MariaDB is installed here (mariadb-install-db, mariadbd)");
            return None;
        };
        // Not below TMPDIR: the path of a socket may only be so long.
        let dir = tempfile::Builder::new().prefix("my").tempdir_in("/tmp").unwrap();
        let data = dir.path().join("data");
        let installed = Command::new(install)
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args([format!("--datadir={}", data.display()), format!("--user={}", user())])
            .output()
            .unwrap();
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let process = run(dir.path());
        let server = Self { dir, process };
        server.answers().await;
        let mut root = server.root("").await;
        root.query_drop("CREATE DATABASE shop CHARACTER SET utf8mb4").await.unwrap();
        Some(server)
    }

    async fn answers(&self) {
        let options = || OptsBuilder::default().socket(Some(self.socket())).user(Some("root"));
        eventually(|| async { Conn::new(options()).await.is_ok() }).await;
    }

    /// Without asking who is connected.
    pub fn down(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub async fn up(&mut self) {
        self.process = run(self.dir.path());
        self.answers().await;
    }

    /// The file of its socket, for the option `host`.
    pub fn socket(&self) -> String {
        self.dir.path().join("socket").to_string_lossy().into_owned()
    }

    /// What it has been asked so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap()).into_owned()
    }

    async fn root(&self, database: &str) -> Conn {
        let options = OptsBuilder::default().socket(Some(self.socket())).user(Some("root"));
        let mut root = Conn::new(options).await.unwrap();
        root.query_drop("SET NAMES utf8mb4, time_zone = '+00:00'").await.unwrap();
        if !database.is_empty() {
            root.query_drop(format!("USE {database}")).await.unwrap();
        }
        root
    }

    pub async fn connect(&self) -> Conn {
        self.root("shop").await
    }

    /// Statements, each ended by a semicolon at the end of a line.
    pub async fn run(&self, sql: &str) {
        let mut root = self.connect().await;
        for statement in sql.split(";\n") {
            root.query_drop(statement.trim_end_matches(';'))
                .await
                .unwrap_or_else(|error| panic!("{error}\n{statement}"));
        }
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(dir: &Path) -> Child {
    let output = File::options().create(true).append(true).open(dir.join("output")).unwrap();
    let set = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
    Command::new(program("mariadbd").unwrap())
        .args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0", "--general-log"])
        .args([set("datadir", "data"), set("socket", "socket"), set("pid-file", "pid"), set("general-log-file", "log")])
        // As older servers are, and as no program should rely on it not to be.
        .args(["--sql-mode=", "--character-set-server=latin1", &format!("--user={}", user())])
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap()
}

fn user() -> String {
    let told = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

fn program(name: &str) -> Option<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&places).chain(["/usr/sbin".into(), "/usr/libexec".into()]);
    places.map(|place| place.join(name)).find(|path| path.exists())
}
