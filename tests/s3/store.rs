//! A store of S3 for tests: a folder of this machine over HTTP/1.1, its buckets the folders in it. It holds every request
//! to its signature, which it computes on its own (AWS Signature Version 4).

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

pub const KEY: &str = "AKIDEXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub const REGION: &str = "eu-test-1";
/// The bucket that anybody may read.
pub const OPEN: &str = "open";
/// Keys a page of a listing has: fewer than any bucket here, so that all are listed in several pages.
const PAGE: usize = 3;

pub struct Store {
    pub address: SocketAddr,
    pub dir: TempDir,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    dir: PathBuf,
    /// What was asked, `GET /bucket/key`, in order.
    asked: Mutex<Vec<String>>,
    /// How many requests from now on find the store too busy.
    busy: Mutex<usize>,
    uploads: Mutex<BTreeMap<String, BTreeMap<usize, Vec<u8>>>>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Store {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for bucket in ["shop", OPEN] {
            fs::create_dir(dir.path().join(bucket)).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            dir: dir.path().to_owned(),
            asked: Mutex::default(),
            busy: Mutex::default(),
            uploads: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, dir, shared, task: task.abort_handle() }
    }

    pub fn put(&self, key: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What was asked since this was last called.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// The next requests are told to come again later.
    pub fn is_busy_for(&self, requests: usize) {
        *self.shared.busy.lock().unwrap() = requests;
    }

    /// Uploads that were begun, and neither finished nor given up.
    pub fn unfinished(&self) -> usize {
        self.shared.uploads.lock().unwrap().len()
    }

    /// OPTIONS of a table in it.
    pub fn options(&self) -> String {
        format!("{}, access_key_id '{KEY}', secret_access_key '{SECRET}'", self.anonymous())
    }

    pub fn anonymous(&self) -> String {
        format!("endpoint 'http://{}', allow_http true, region '{REGION}'", self.address)
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        shared.asked.lock().unwrap().push(format!("{} {}", request.method, request.path));
        let response = answer(&request, &shared);
        let mut head = format!("HTTP/1.1 {}\r\nContent-Length: {}\r\n", response.status, response.body.len());
        for (name, value) in &response.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let body = if request.method == "HEAD" { &[][..] } else { &response.body };
        if stream.write_all(&[head.as_bytes(), body].concat()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let first: Vec<&str> = lines.next()?.split(' ').collect();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (path, query) = first[1].split_once('?').unwrap_or((first[1], ""));
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // In a query a plus is a space.
        (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
    });
    Some(Request { method: first[0].to_owned(), path: decoded(path), query: query.collect(), headers, body })
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn answer(request: &Request, shared: &Shared) -> Response {
    if take_one(&shared.busy) {
        return refusal("503 Slow Down", "SlowDown", "please reduce your request rate", "");
    }
    let (bucket, key) = request.path.trim_start_matches('/').split_once('/').unwrap_or((&request.path[1..], ""));
    if let Err(refused) = authorised(request, bucket) {
        return refused;
    }
    let folder = shared.dir.join(bucket);
    if !folder.is_dir() {
        return refusal("404 Not Found", "NoSuchBucket", "the specified bucket does not exist", "");
    }
    let file = folder.join(key);
    match (request.method.as_str(), key) {
        ("GET", "") => list(&folder, &request.query),
        ("GET" | "HEAD", _) => get(request, &file),
        ("PUT", _) if request.query.contains_key("uploadId") => {
            let (id, part) = (&request.query["uploadId"], request.query["partNumber"].parse().unwrap());
            shared.uploads.lock().unwrap().get_mut(id).unwrap().insert(part, request.body.clone());
            Response { status: "200 OK", headers: vec![("ETag", format!("\"{part}\""))], body: Vec::new() }
        }
        ("PUT", _) => {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &request.body).unwrap();
            Response { status: "200 OK", headers: vec![("ETag", tag(&request.body))], body: Vec::new() }
        }
        ("POST", _) if request.query.contains_key("uploads") => {
            let id = format!("{}-{}", key.len(), shared.asked.lock().unwrap().len());
            shared.uploads.lock().unwrap().insert(id.clone(), BTreeMap::new());
            xml(&format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        ("POST", _) => {
            let parts = shared.uploads.lock().unwrap().remove(&request.query["uploadId"]).unwrap();
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, parts.into_values().collect::<Vec<_>>().concat()).unwrap();
            xml("<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>")
        }
        ("DELETE", _) => {
            shared.uploads.lock().unwrap().remove(&request.query["uploadId"]);
            Response { status: "204 No Content", headers: Vec::new(), body: Vec::new() }
        }
        (other, _) => panic!("{other} {}", request.path),
    }
}

fn take_one(count: &Mutex<usize>) -> bool {
    let mut count = count.lock().unwrap();
    let is_some = *count > 0;
    *count = count.saturating_sub(1);
    is_some
}

/// A page of the keys that begin so, in order.
fn list(folder: &Path, query: &BTreeMap<String, String>) -> Response {
    let mut keys = BTreeMap::new();
    walk(folder, "", &mut keys);
    let prefix = query.get("prefix").map_or("", String::as_str);
    let after = query.get("continuation-token").map_or("", String::as_str);
    let mut left = keys.into_iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
    let page: Vec<(String, PathBuf)> = left.by_ref().take(PAGE).collect();
    let next = match (left.next(), page.last()) {
        (Some(_), Some((last, _))) => format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(last)),
        _ => String::new(),
    };
    let contents = page.iter().map(|(key, path)| {
        let bytes = fs::read(path).unwrap();
        let (tag, modified) = (tag(&bytes), modified(path).format("%Y-%m-%dT%H:%M:%S%.3fZ"));
        let key = escaped(key);
        format!(
            "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>{tag}</ETag>\
             <Size>{}</Size></Contents>",
            bytes.len()
        )
    });
    let contents: String = contents.collect();
    xml(&format!(
        "<ListBucketResult><IsTruncated>{}</IsTruncated>{next}{contents}</ListBucketResult>",
        !next.is_empty()
    ))
}

fn walk(folder: &Path, before: &str, keys: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let key = format!("{before}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => walk(&path, &format!("{key}/"), keys),
            false => drop(keys.insert(key, path)),
        }
    }
}

fn get(request: &Request, file: &Path) -> Response {
    let Ok(bytes) = fs::read(file) else {
        return refusal("404 Not Found", "NoSuchKey", "the specified key does not exist", "");
    };
    let tag = tag(&bytes);
    if request.headers.get("if-match").is_some_and(|wanted| *wanted != tag) {
        return refusal("412 Precondition Failed", "PreconditionFailed", "it is another by now", "");
    }
    let mut headers = vec![
        ("ETag", tag),
        ("Last-Modified", modified(file).format("%a, %d %b %Y %H:%M:%S GMT").to_string()),
        ("Accept-Ranges", "bytes".to_owned()),
    ];
    let Some(range) = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")) else {
        return Response { status: "200 OK", headers, body: bytes };
    };
    let (from, to) = range.split_once('-').unwrap();
    let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => (from, (to + 1).min(bytes.len())),
        (Ok(from), Err(_)) => (from, bytes.len()),
        (Err(_), Ok(last)) => (bytes.len().saturating_sub(last), bytes.len()),
        (Err(_), Err(_)) => panic!("{range}"),
    };
    headers.push(("Content-Range", format!("bytes {from}-{}/{}", to - 1, bytes.len())));
    Response { status: "206 Partial Content", headers, body: bytes[from..to].to_vec() }
}

fn modified(path: &Path) -> DateTime<Utc> {
    fs::metadata(path).unwrap().modified().unwrap().into()
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", &hex(&Sha256::digest(bytes))[..32])
}

fn xml(body: &str) -> Response {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{body}").into_bytes();
    Response { status: "200 OK", headers: vec![("Content-Type", "application/xml".to_owned())], body }
}

fn refusal(status: &'static str, code: &str, message: &str, more: &str) -> Response {
    Response { status, ..xml(&format!("<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>")) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Whether the request is signed by the one who has the secret, for this region, and is what was signed.
fn authorised(request: &Request, bucket: &str) -> Result<(), Response> {
    let Some(authorization) = request.headers.get("authorization") else {
        return match bucket == OPEN && request.method != "PUT" {
            true => Ok(()),
            false => Err(refusal("403 Forbidden", "AccessDenied", "access denied", "")),
        };
    };
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
    let field =
        |name: &str| rest.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('=')).unwrap();
    let credential: Vec<&str> = field("Credential").split('/').collect();
    let [key, date, region, "s3", "aws4_request"] = credential[..] else { panic!("{credential:?}") };
    if key != KEY {
        return Err(refusal("403 Forbidden", "InvalidAccessKeyId", "the key does not exist in our records", ""));
    }
    if region != REGION {
        let message = format!("the region '{region}' is wrong; expecting '{REGION}'");
        let more = format!("<Region>{REGION}</Region>");
        return Err(refusal("400 Bad Request", "AuthorizationHeaderMalformed", &message, &more));
    }
    let payload = &request.headers["x-amz-content-sha256"];
    if payload != "UNSIGNED-PAYLOAD" {
        assert_eq!(*payload, hex(&Sha256::digest(&request.body)), "the payload is another than was signed");
    }
    let signed = field("SignedHeaders");
    let headers: String = signed.split(';').map(|name| format!("{name}:{}\n", request.headers[name])).collect();
    let query: Vec<String> =
        request.query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let path: Vec<String> = request.path.split('/').map(encoded).collect();
    let canonical =
        format!("{}\n{}\n{}\n{headers}\n{signed}\n{payload}", request.method, path.join("/"), query.join("&"));
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{date}/{region}/s3/aws4_request\n{}",
        request.headers["x-amz-date"],
        hex(&Sha256::digest(canonical))
    );
    let mut derived = format!("AWS4{SECRET}").into_bytes();
    for part in [date, region, "s3", "aws4_request"] {
        derived = keyed(&derived, part);
    }
    match hex(&keyed(&derived, &to_sign)) == field("Signature") {
        true => Ok(()),
        false => Err(refusal("403 Forbidden", "SignatureDoesNotMatch", "the signature does not match", "")),
    }
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(text: &str) -> String {
    const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, &PLAIN).to_string()
}
