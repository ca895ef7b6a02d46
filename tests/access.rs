//! Who is let in, and what they may do there: over the real wire, as drivers and as somebody who tries it on.

use std::net::SocketAddr;
use std::sync::Arc;

use cohort::engine::{Answer, Engine, Run};
use cohort::error::Kind;
use cohort::server::{Monitor, Options, Server, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;

use crate::server::{Connection, Raw, TestServer, config};

/// Would run for days.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 10000000) AS a(i), generate_series(1, 10000000) AS b(j) \
     WHERE i * j % 7 = 8";

/// How a login is refused: SQLSTATE and message.
async fn refusal(address: SocketAddr, options: &str) -> (String, String) {
    let url = format!("host={} port={} dbname=cohort {options}", address.ip(), address.port());
    match tokio_postgres::connect(&url, NoTls).await {
        Ok(_) => panic!("it was let in: {options}"),
        Err(error) => {
            let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
            (error.code().code().to_owned(), error.message().to_owned())
        }
    }
}

async fn connect(address: SocketAddr, options: &str) -> Connection {
    Connection::as_user(address, options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_password_is_let_in() {
    let server = TestServer::start().await;
    let admin = server.connect().await;
    admin.run("CREATE USER ann PASSWORD 'pönies and \"quotes\"'; CREATE ROLE bob; CREATE USER carl").await;
    let ann = connect(server.address, "user=ann password='pönies and \"quotes\"'").await;
    assert_eq!(ann.value("SELECT current_user").await, "ann");
    assert_eq!(ann.value("SHOW is_superuser").await, "off");

    // Nobody has set a superuser's password: who is on this machine and has none needs none.
    assert_eq!(connect(server.address, "user=carl").await.value("SELECT session_user").await, "carl");
    let wrong = refusal(server.address, "user=ann password=wrong").await;
    assert_eq!(wrong, ("28P01".to_owned(), "password authentication failed for user \"ann\"".to_owned()));
    let (code, message) = refusal(server.address, "user=bob").await;
    assert_eq!((code.as_str(), message.as_str()), ("28000", "role \"bob\" is not permitted to log in"));
    let (code, message) = refusal(server.address, "user=nobody").await;
    assert_eq!((code.as_str(), message.as_str()), ("28000", "role \"nobody\" does not exist"));

    // From here on everybody does, and nobody can tell by trying who exists.
    admin.run("ALTER ROLE cohort PASSWORD 'secret'").await;
    connect(server.address, "user=cohort password=secret").await;
    for user in ["nobody", "carl", "bob", "cohort"] {
        let (code, message) = refusal(server.address, &format!("user={user} password=guess")).await;
        assert_eq!(
            (code, message),
            ("28P01".to_owned(), format!("password authentication failed for user \"{user}\""))
        );
    }
    let (code, _) = refusal(server.address, "user=cohort password=secret dbname=shop").await;
    assert_eq!(code, "3D000");
    // Who must prove who they are hears of no databases before.
    assert_eq!(refusal(server.address, "user=cohort password=wrong dbname=shop").await.0, "28P01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_has_an_end_and_a_limit() {
    let server = TestServer::start().await;
    let admin = server.connect().await;
    admin.run("CREATE USER ann PASSWORD 'x' CONNECTION LIMIT 1").await;
    let first = connect(server.address, "user=ann password=x").await;
    let (code, message) = refusal(server.address, "user=ann password=x").await;
    assert_eq!((code.as_str(), message.as_str()), ("53300", "too many connections for role \"ann\""));
    drop(first);
    crate::server::eventually(|| async {
        let url = format!("host=127.0.0.1 port={} dbname=cohort user=ann password=x", server.address.port());
        tokio_postgres::connect(&url, NoTls).await.is_ok()
    })
    .await;

    admin.run("ALTER ROLE ann VALID UNTIL '2001-01-01' CONNECTION LIMIT -1").await;
    assert_eq!(refusal(server.address, "user=ann password=x").await.0, "28P01");
    admin.run("ALTER ROLE ann VALID UNTIL 'infinity'; REVOKE CONNECT ON DATABASE cohort FROM PUBLIC").await;
    let (code, message) = refusal(server.address, "user=ann password=x").await;
    assert_eq!((code.as_str(), message.as_str()), ("42501", "permission denied for database cohort"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_this_machine_is_served_until_there_is_a_password() {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(&config(data.path())).unwrap();
    let everywhere = || Options { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..Options::default() };
    let error = Server::bind(Arc::clone(&engine), everywhere()).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.message.contains("no superuser has a password"), "{error}");
    assert!(engine.set_first_password("").is_err());
    assert!(engine.set_first_password("secret").unwrap());
    assert!(!engine.set_first_password("another").unwrap(), "there is one already");
    Server::bind(engine, everywhere()).await.unwrap();
}

/// What a role may do is looked up anew for a statement that was prepared before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_prepared_is_checked_when_it_runs() {
    let server = TestServer::start().await;
    let admin = server.connect().await;
    admin
        .run(
            "CREATE TABLE t AS SELECT i AS a, i % 2 AS b FROM generate_series(1, 10) AS g(i); \
             CREATE USER ann; GRANT SELECT ON t TO ann",
        )
        .await;
    let ann = connect(server.address, "user=ann").await.client;
    let count = ann.prepare("SELECT count(*) FROM t WHERE a > $1").await.unwrap();
    let counted = async || ann.query_one(&count, &[&0i64]).await.map(|row| row.get::<_, i64>(0));
    assert_eq!(counted().await.unwrap(), 10);
    admin.run("CREATE POLICY p ON t USING (b = 0); ALTER TABLE t ENABLE ROW LEVEL SECURITY").await;
    assert_eq!(counted().await.unwrap(), 5);
    admin.run("REVOKE SELECT ON t FROM ann").await;
    let error = counted().await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(error.as_db_error().unwrap().message(), "permission denied for table t");
    let error = ann.prepare("SELECT a FROM t").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));

    // And for whoever the session acts as by then.
    let client = admin.client;
    let prepared = client.prepare("SELECT count(*) FROM t").await.unwrap();
    assert_eq!(client.query_one(&prepared, &[]).await.unwrap().get::<_, i64>(0), 10);
    client.batch_execute("SET ROLE ann").await.unwrap();
    assert_eq!(client.query_one(&prepared, &[]).await.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    client.batch_execute("DROP ROLE ann").await.unwrap_err();
    client.batch_execute("RESET ROLE; DROP ROLE ann").await.unwrap();
    let error = ann.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "the role that this session acts as was dropped");
}

/// What others run is seen and stopped by superusers, and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_seen_and_stopped() {
    let server = TestServer::start().await;
    let admin = server.connect().await;
    admin.run("CREATE USER ann; CREATE USER bob; ALTER USER bob PASSWORD NULL").await;
    let ann = connect(server.address, "user=ann application_name=report").await;
    let bob = connect(server.address, "user=bob").await;
    let pid = ann.value("SELECT pg_backend_pid()").await;
    let look =
        format!("SELECT usename, application_name, state, query FROM pg_catalog.pg_stat_activity WHERE pid = {pid}");
    let idle = &admin.rows(&look).await[0];
    assert_eq!(idle, &["ann", "report", "idle", "SELECT pg_backend_pid()"]);
    let running = tokio::spawn(async move { ann.client.batch_execute(ENDLESS).await.unwrap_err() });
    crate::server::eventually(|| async { admin.rows(&look).await[0][2] == "active" }).await;
    assert_eq!(admin.rows(&look).await[0][3], ENDLESS);
    assert_eq!(bob.rows(&look).await[0], ["ann", "NULL", "NULL", "<insufficient privilege>"]);

    let cancel = format!("SELECT pg_cancel_backend({pid})");
    assert_eq!(bob.refusal(&cancel).await.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(admin.value(&cancel).await, "t");
    assert_eq!(running.await.unwrap().code(), Some(&SqlState::QUERY_CANCELED));

    // A connection that waits for its client is ended, too.
    let pid = bob.value("SELECT pg_backend_pid()").await;
    assert_eq!(admin.value(&format!("SELECT pg_terminate_backend({pid})")).await, "t");
    crate::server::eventually(|| async { bob.client.is_closed() }).await;
    assert_eq!(admin.value("SELECT pg_terminate_backend(123456)").await, "f");
    let mine = admin.value("SELECT pg_backend_pid()").await;
    let ann = connect(server.address, "user=ann").await;
    let refused = ann.refusal(&format!("SELECT pg_terminate_backend({mine})")).await;
    assert_eq!(refused.code(), &SqlState::INSUFFICIENT_PRIVILEGE);

    // Nor does it show what is nobody's business.
    admin.run("ALTER USER ann PASSWORD 'a-secret'").await;
    let shown = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE query LIKE '%a-' || 'secret%'";
    assert_eq!(connect(server.address, "user=cohort").await.value(shown).await, "0");
}

/// The answer of the second port to a request.
async fn asked(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_can_be_watched() {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(&config(data.path())).unwrap();
    let monitor = Monitor::bind(Arc::clone(&engine), SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = monitor.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(monitor.run(shutdown.clone()));
    let metrics = asked(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    for line in [
        "cohort_sessions{state=\"active\"} 0",
        "cohort_refused_logins_total 0",
        "# TYPE cohort_memory_limit_bytes gauge",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let status = async |request: &str| asked(address, request).await.lines().next().unwrap_or_default().to_owned();
    assert_eq!(status("GET /healthz HTTP/1.0\r\n\r\n").await, "HTTP/1.1 200 OK");
    assert_eq!(status("GET /etc/passwd HTTP/1.0\r\n\r\n").await, "HTTP/1.1 404 Not Found");
    assert_eq!(status("POST /metrics HTTP/1.0\r\n\r\n").await, "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status("\r\n\r\n").await, "HTTP/1.1 405 Method Not Allowed");
    shutdown.cancel();
    assert_eq!(status("GET /healthz HTTP/1.0\r\n\r\n").await, "HTTP/1.1 503 Service Unavailable");
}

/// A session of the data directory's own, as `cohort sql` has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_opens_the_directory_can_set_a_password() {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(&config(data.path())).unwrap();
    let session = engine.local_session().unwrap();
    for sql in ["ALTER ROLE cohort RENAME TO root", "ALTER ROLE cohort NOLOGIN", "ALTER ROLE cohort PASSWORD 'x'"] {
        for statement in session.parse(sql).unwrap() {
            let prepared = session.prepare(statement, &[]).await.unwrap();
            let answer = session.execute(&prepared, Vec::new(), &Run::new().0).await;
            match answer {
                Ok(Answer::Done(tag)) => assert_eq!(tag, "ALTER ROLE"),
                Ok(_) => panic!("{sql} gives rows"),
                Err(error) => assert!(sql.contains("RENAME"), "{sql}: {error}"),
            }
        }
    }
    assert!(engine.session("cohort", "cohort").is_err(), "it may not log in");
    engine.local_session().unwrap();
}

/// A certificate of its own, written where a server reads it.
fn certificate(dir: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf, RootCertStore) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (dir.join("server.crt"), dir.join("server.key"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (cert_file, key_file, roots)
}

fn connector(roots: RootCertStore, alpn: &[&[u8]]) -> TlsConnector {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// A startup packet of the user `cohort`, and what it is answered with first.
async fn greeting(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> Option<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    packet.extend_from_slice(b"user\0cohort\0database\0cohort\0\0");
    let length = (packet.len() as u32).to_be_bytes();
    packet[..4].copy_from_slice(&length);
    stream.write_all(&packet).await.ok()?;
    stream.flush().await.ok()?;
    stream.read_u8().await.ok()
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_encrypted_when_asked_for_and_when_required() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key, roots) = certificate(dir.path());
    let name = || ServerName::try_from("localhost").unwrap();
    for required in [false, true] {
        let tls = Tls::load(&cert, &key, required).unwrap();
        let server = TestServer::with_options(Options { tls: Some(tls), ..TestServer::options() }).await;

        // After a request.
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
        let mut encrypted = connector(roots.clone(), &[]).connect(name(), stream).await.unwrap();
        assert_eq!(greeting(&mut encrypted).await, Some(b'R'));

        // From the first byte, for who says that it is Postgres that they want.
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut direct = connector(roots.clone(), &[b"postgresql"]).connect(name(), stream).await.unwrap();
        assert_eq!(greeting(&mut direct).await, Some(b'R'));
        let stream = TcpStream::connect(server.address).await.unwrap();
        assert!(connector(roots.clone(), &[b"h2"]).connect(name(), stream).await.is_err());
        let stream = TcpStream::connect(server.address).await.unwrap();
        if let Ok(mut direct) = connector(roots.clone(), &[]).connect(name(), stream).await {
            assert_ne!(greeting(&mut direct).await, Some(b'R'));
        }

        // What was slipped in before the handshake is not taken for the client's.
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&[&SSL_REQUEST[..], &SSL_REQUEST[..]].concat()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
        let rest = stream.read_u8().await;
        assert!(rest.is_err() || rest.is_ok_and(|byte| byte == b'E'));

        // Without.
        let mut plain = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(greeting(&mut plain).await, Some(if required { b'E' } else { b'R' }));
        if required {
            let (code, message) = refusal(server.address, "user=cohort sslmode=disable").await;
            assert_eq!((code.as_str(), message.as_str()), ("28000", "this server accepts encrypted connections only"));
        }
    }
}

#[test]
fn a_certificate_that_is_none_stops_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key, _) = certificate(dir.path());
    let tls = Tls::load(&cert, &key, false).unwrap();
    let other = tempfile::tempdir().unwrap();
    let (_, other_key, _) = certificate(other.path());
    let message = |cert: &std::path::Path, key: &std::path::Path| match Tls::load(cert, key, false) {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error.message,
    };
    assert!(message(&key, &key).contains("is no usable certificate"));
    assert!(message(&cert, &cert).contains("everybody may read it"));
    assert!(message(&cert, &other_key).contains("is no usable key"), "{}", message(&cert, &other_key));
    assert!(message(&cert, &dir.path().join("nothing")).contains("nothing"));
    std::fs::write(&key, "not a key").unwrap();
    assert!(message(&cert, &key).contains("is no usable key"));
    // Read again, it fails, and what was read before stays.
    assert!(tls.reload().is_err());
}

/// A role's statements take turns, as many as its limit says, and its memory has an end of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_takes_no_more_than_its_share() {
    let server = TestServer::start().await;
    let admin = server.connect().await;
    let made = "CREATE TABLE t AS SELECT i, md5(i::text) || md5((i + 1)::text) AS filler FROM generate_series(1, 300000) AS g(i)";
    admin.run(&format!("CREATE USER ann STATEMENT LIMIT 1; {made}; GRANT SELECT ON t TO ann")).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'StatementLimit'";

    // An open cursor has a turn, as long as it is open.
    let open = "DECLARE c CURSOR FOR SELECT i FROM t; FETCH 1 FROM c";
    let holder = connect(server.address, "user=ann").await;
    holder.run(&format!("BEGIN; {open}")).await;
    let address = server.address;
    let counted =
        || tokio::spawn(async move { connect(address, "user=ann").await.value("SELECT count(*) FROM t").await });
    let second = counted();
    crate::server::eventually(|| async { admin.value(waiting).await == "1" }).await;

    // The others are not kept waiting, nor is a look at what there is; its own session never waits for itself; and who
    // waits can be stopped.
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "300000");
    assert_eq!(holder.value("SELECT count(*) FROM t").await, "300000");
    let third = connect(server.address, "user=ann").await;
    assert_eq!(third.value("SELECT count(*) FROM pg_class WHERE relname = 't'").await, "1");
    let error = third.refusal("SET statement_timeout = 50; SELECT sum(i) FROM t").await;
    assert_eq!(error.code(), &SqlState::QUERY_CANCELED);
    assert_eq!(third.value("SELECT 1").await, "1");
    assert_eq!(admin.value(waiting).await, "1");

    // The turn goes on to whoever waits.
    holder.run("CLOSE c").await;
    assert_eq!(second.await.unwrap(), "300000");
    assert_eq!(admin.value(waiting).await, "0");

    // A higher limit lets in those who wait already.
    holder.run(open).await;
    let fourth = counted();
    crate::server::eventually(|| async { admin.value(waiting).await == "1" }).await;
    admin.run("ALTER ROLE ann STATEMENT LIMIT -1").await;
    assert_eq!(fourth.await.unwrap(), "300000");
    holder.run("ROLLBACK").await;

    // Memory: of the role, and of a session.
    let hungry = "SELECT count(*) FROM t a JOIN t b ON a.filler = b.filler";
    admin.run("ALTER ROLE ann MEMORY LIMIT '16MB'").await;
    let error = third.refusal(hungry).await;
    assert_eq!(error.code(), &SqlState::OUT_OF_MEMORY);
    let told = "out of memory: the statement needs more than the memory limit of role \"ann\", 16 MiB";
    assert_eq!(error.message(), told);
    admin.run("ALTER ROLE ann MEMORY LIMIT -1").await;
    third.run("RESET statement_timeout; SET query_memory_limit = '16MB'").await;
    let told =
        "out of memory: the statement needs more than the memory limit of the session (query_memory_limit), 16 MiB";
    assert_eq!(third.refusal(hungry).await.message(), told);
    third.run(&format!("RESET query_memory_limit; {hungry}")).await;

    // Also of what takes no turn.
    admin.run("ALTER ROLE ann MEMORY LIMIT '16MB'").await;
    let light = "SELECT count(DISTINCT a.oid::text || b.attname || c.attname || repeat('x', 500)) FROM pg_class a \
                 JOIN pg_attribute b ON a.oid = b.attrelid JOIN pg_attribute c ON c.attnum <> b.attnum";
    let fifth = connect(server.address, "user=ann").await;
    assert_eq!(fifth.refusal(light).await.code(), &SqlState::OUT_OF_MEMORY);
}

/// Who says nothing for too long is told so, and gone; in a block sooner than outside of one, if that is wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_when_they_are_idle_for_too_long() {
    let server = TestServer::start().await;
    let admin = server.connect().await;
    admin.run("CREATE TABLE t (a int)").await;

    let address = server.address;
    let told = tokio::task::spawn_blocking(move || {
        let told = |settings: &str, then: &str| {
            let mut raw = Raw::open(address);
            for sql in [settings, then] {
                raw.query(sql);
                raw.until_ready();
            }
            raw.until_closed()
        };
        // What takes its time is not idle.
        let idle = told("SELECT 1", "SET idle_session_timeout = '50ms'; SELECT pg_sleep(0.2)");
        let open = "SET idle_in_transaction_session_timeout = '50ms'; SET idle_session_timeout = '1h'";
        [idle, told(open, "BEGIN")]
    });
    let [idle, open] = told.await.unwrap();
    assert!(idle.contains("57P05") && idle.contains("terminating connection due to idle-session timeout"), "{idle}");
    assert!(open.contains("25P03") && open.contains("idle-in-transaction timeout"), "{open}");
    assert_eq!(admin.value("SELECT count(*) FROM t").await, "0");
}

/// A training says how far it has come, and is stopped by whoever sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trainings_are_seen_and_stopped() {
    let server = TestServer::start().await;
    let admin = server.connect().await;
    admin
        .run("CREATE TABLE bought AS SELECT i % 5000 AS customer, i * 7919 % 3001 AS product FROM generate_series(1, 400000) AS t(i)")
        .await;
    let trainer = server.connect().await;
    let training = tokio::spawn(async move {
        let sql = "CREATE MODEL endless OPTIONS (model_type = 'bpr', max_iterations = 10000) AS SELECT customer, product FROM bought";
        trainer.client.batch_execute(sql).await.unwrap_err()
    });
    let steps = "SELECT doing, step > 0 FROM ml.jobs WHERE steps = 10000";
    crate::server::eventually(|| async { admin.rows(steps).await.iter().any(|row| row[1] == "t") }).await;
    assert_eq!(admin.rows(steps).await[0][0], "training bpr for model endless");
    assert_eq!(admin.value("SELECT pg_cancel_backend(pid::int) FROM ml.jobs").await, "t");
    assert_eq!(training.await.unwrap().code(), Some(&SqlState::QUERY_CANCELED));
    crate::server::eventually(|| async { admin.rows("SELECT * FROM ml.jobs").await.is_empty() }).await;
}
