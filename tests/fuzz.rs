//! Messages that no client should send: whatever comes, the server stays, and serves others.
//!
//! `COHORT_FUZZ_MESSAGES=1000000 cargo test --release fuzz` sends more of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::server::TestServer;

const LETTERS: &[u8] = b"QPBDECHSdcfpFXQPBEDS\0\xff";
const TEXTS: &[&str] = &[
    "SELECT 1",
    "SELECT $1::int + 1",
    "SELECT * FROM generate_series(1, 100000) AS t(i)",
    "BEGIN",
    "ROLLBACK",
    "COPY t FROM STDIN",
    "COPY t TO STDOUT",
    "INSERT INTO t VALUES (1); SELECT 'x",
    "DECLARE c CURSOR FOR SELECT 1",
    "FETCH 10 FROM c",
    "SELECT '\u{1f600}' || chr(0)",
    "",
    ";;",
];

/// A message of this letter: well-formed, or nearly so, or not at all.
fn message(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let letter = *LETTERS.choose(rng).unwrap_or(&b'Q');
    let mut body = Vec::new();
    let text = |rng: &mut ChaCha8Rng| TEXTS.choose(rng).unwrap_or(&"").as_bytes().to_vec();
    match rng.random_range(0..10) {
        0 => body.extend((0..rng.random_range(0..200)).map(|_| rng.random::<u8>())),
        _ => match letter {
            b'Q' => body.extend([text(rng), vec![0]].concat()),
            b'P' => {
                body.extend([b"s\0".to_vec(), text(rng), vec![0]].concat());
                body.extend(rng.random_range(-2..3_i16).to_be_bytes());
                body.extend(rng.random_range(0..30_u32).to_be_bytes());
            }
            b'B' => {
                body.extend(b"\0s\0");
                for _ in 0..rng.random_range(0..6) {
                    body.extend(rng.random_range(-2..4_i16).to_be_bytes());
                }
                body.extend(rng.random::<i32>().to_be_bytes());
            }
            b'E' => {
                body.push(0);
                body.extend(rng.random_range(-5..50_i32).to_be_bytes());
            }
            b'D' | b'C' => body.extend([*b"SPX".choose(rng).unwrap_or(&b'S'), b's', 0]),
            b'd' => body.extend(b"1\t2\n"),
            b'f' => body.extend(b"no\0"),
            _ => {}
        },
    }
    if rng.random_bool(0.05) && !body.is_empty() {
        let at = rng.random_range(0..body.len());
        body[at] = rng.random();
    }
    let mut length = body.len() as u32 + 4;
    if rng.random_bool(0.02) {
        length = *[0, 3, length + 1, length.wrapping_sub(1), 1 << 30, u32::MAX].choose(rng).unwrap_or(&0);
    }
    [vec![letter], length.to_be_bytes().to_vec(), body].concat()
}

fn connect(address: SocketAddr, rng: &mut ChaCha8Rng) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let startup: Vec<u8> = match rng.random_range(0..10) {
        // Garbage before login.
        0 => (0..rng.random_range(1..60)).map(|_| rng.random()).collect(),
        _ => [&48_u32.to_be_bytes()[..], b"\0\x03\0\0user\0cohort\0database\0cohort\0\0"].concat(),
    };
    let startup = match startup.get(4..8) {
        Some(b"\0\x03\0\0") => [&(startup.len() as u32).to_be_bytes()[..], &startup[4..]].concat(),
        _ => startup,
    };
    let _ = stream.write_all(&startup);
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    stream
}

/// Takes what was answered; `false`: the server has closed the connection.
fn drained(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 1 << 16];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

fn send(address: SocketAddr, seed: u64, messages: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut stream = connect(address, &mut rng);
    let mut left = messages;
    while left > 0 {
        let n = rng.random_range(1..64).min(left);
        let burst: Vec<u8> = (0..n).flat_map(|_| message(&mut rng)).collect();
        left -= n;
        if stream.write_all(&burst).is_err() || !drained(&mut stream) || rng.random_bool(0.02) {
            stream = connect(address, &mut rng);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzzed_messages_do_no_harm() {
    let messages = std::env::var("COHORT_FUZZ_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let server = TestServer::start().await;
    let connection = server.connect().await;
    connection.run("CREATE TABLE t (a int, b int)").await;
    let address = server.address;
    let fuzzers: Vec<_> =
        (0..4).map(|seed| tokio::task::spawn_blocking(move || send(address, seed, messages / 4))).collect();
    while fuzzers.iter().any(|fuzzer| !fuzzer.is_finished()) {
        assert_eq!(connection.value("SELECT count(*) FROM (VALUES (1)) AS v").await, "1");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for fuzzer in fuzzers {
        fuzzer.await.unwrap();
    }
    // Nobody is left who could not be served.
    let late = server.connect().await;
    assert_eq!(late.value("SELECT 1").await, "1");
}
