//! A PostgreSQL of a test's own: in a temporary directory, behind a socket there, gone when the test is.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A server that logs every statement. Its database is `shop`, its superuser `postgres` needs no password, `locked` does.
pub struct Postgres {
    programs: PathBuf,
    dir: TempDir,
    /// Of its socket and, where it listens to it, of this machine.
    port: u16,
}

impl Postgres {
    /// `None`, with a line that says so, where no PostgreSQL is installed.
    pub fn start() -> Option<Self> {
        Self::with(5432, "listen_addresses = ''", &[])
    }

    /// One that listens on that port of this machine, too, to clients that encrypt.
    pub fn encrypted(port: u16, certificate: &str, key: &str) -> Option<Self> {
        Self::with(
            port,
            "listen_addresses = 'localhost'\nssl = on",
            &[("server.crt", certificate), ("server.key", key)],
        )
    }

    /// With lines of its own in postgresql.conf, and files beside it.
    fn with(port: u16, settings: &str, files: &[(&str, &str)]) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped: no PostgreSQL is installed here");
            return None;
        };
        // Not below TMPDIR: the path of a socket may only be so long, and another user goes there.
        let dir = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let postgres = Self { programs, dir, port };
        if let Some((user, group)) = postgres.other_user() {
            chown(postgres.dir.path(), Some(user), Some(group)).unwrap();
        }
        let data = postgres.data();
        postgres.must(
            "initdb",
            &["-D", &data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
        );
        let data = PathBuf::from(data);
        let log =
            "log_statement = all\nlog_min_messages = log\nlogging_collector = off\nunix_socket_permissions = 0777\n";
        let socket = postgres.socket();
        let own = format!("unix_socket_directories = '{socket}'\nfsync = off\nport = {port}\n{log}{settings}");
        let conf = data.join("postgresql.conf");
        let before = std::fs::read_to_string(&conf).unwrap();
        std::fs::write(&conf, format!("{before}\n{own}\n")).unwrap();
        let hba = "local all locked scram-sha-256\nlocal all all trust\nhostssl all all localhost trust\n";
        std::fs::write(data.join("pg_hba.conf"), hba).unwrap();
        for (name, text) in files {
            let file = data.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = postgres.other_user() {
                chown(&file, Some(user), Some(group)).unwrap();
            }
        }
        postgres.up();
        postgres.must("createdb", &["-h", &socket, "-p", &port.to_string(), "-U", "postgres", "shop"]);
        Some(postgres)
    }

    pub fn up(&self) {
        let (data, log) = (self.data(), self.log_file());
        self.must("pg_ctl", &["-D", &data, "-w", "-l", &log.to_string_lossy(), "start"]);
    }

    /// Without asking who is connected.
    pub fn down(&self) {
        let data = self.data();
        let _ = self.program("pg_ctl", &["-D", &data, "-w", "-m", "immediate", "stop"]);
    }

    /// The folder of its socket, for the option `host`.
    pub fn socket(&self) -> String {
        self.dir.path().to_string_lossy().into_owned()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> String {
        self.dir.path().join("data").to_string_lossy().into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// What it has been asked so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    pub async fn connect(&self) -> Client {
        let url = format!("host={} port={} user=postgres dbname=shop", self.socket(), self.port);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub async fn run(&self, sql: &str) {
        self.connect().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    }

    /// PostgreSQL does not run as root: the user that it was installed for, where a test does.
    fn other_user(&self) -> Option<(u32, u32)> {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            return None;
        }
        let id = |flag: &str| {
            let told = Command::new("id").args([flag, "postgres"]).output().unwrap();
            String::from_utf8(told.stdout).unwrap().trim().parse().unwrap()
        };
        Some((id("-u"), id("-g")))
    }

    fn program(&self, name: &str, args: &[&str]) -> Output {
        let program = self.programs.join(name);
        let mut command = match self.other_user() {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
                command.arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(args).current_dir("/").output().unwrap()
    }

    fn must(&self, name: &str, args: &[&str]) {
        // What goes on running must not hold on to the pipes that the output is read from: pg_ctl is given a log file.
        let output = self.program(name, args);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.down();
    }
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.flatten().map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").exists()).max()
}
