//! The way to a bucket: what the options of a table say, or else the usual variables of the environment.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::object_store::ClientOptions;
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder};

use crate::error::{Error, Result};

/// Options by name.
pub type S3Options = BTreeMap<String, String>;

/// An option: its name, the variables that say the same for all tables, the first that is set, and whether nobody may
/// see it again.
pub const OPTIONS: &[(&str, &[&str], bool)] = &[
    ("access_key_id", &["AWS_ACCESS_KEY_ID"], false),
    ("secret_access_key", &["AWS_SECRET_ACCESS_KEY"], true),
    ("session_token", &["AWS_SESSION_TOKEN"], true),
    ("region", &["AWS_REGION", "AWS_DEFAULT_REGION"], false),
    ("endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"], false),
    ("allow_http", &["AWS_ALLOW_HTTP"], false),
];

/// Where AWS keeps a bucket of which nobody has said where it is.
const REGION: &str = "us-east-1";

/// How long one request may take; large ones are ranges of at most some megabytes.
const REQUEST_TIME: Duration = Duration::from_secs(60);
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Requests that the store was too busy for are sent again, each time after a longer wait.
const RETRIES: usize = 6;
const RETRY_TIME: Duration = Duration::from_secs(60);

/// How a bucket is reached, and as whom. Two that are equal are one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Way {
    pub(super) bucket: String,
    /// `None`: AWS.
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
    allow_http: bool,
    /// `None`: as anybody.
    credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Credentials {
    key: String,
    secret: String,
    token: Option<String>,
}

/// Takes the options that are about S3 out of those of a table, each by its one name: `(of S3, the rest)`.
///
/// # Errors
/// 22023 where one is given twice or has a value that it cannot have.
pub fn divided(given: Vec<(String, String)>) -> Result<(S3Options, Vec<(String, String)>)> {
    let (mut ours, mut rest) = (S3Options::new(), Vec::new());
    for (name, value) in given {
        let Some(known) = known(&name) else {
            rest.push((name, value));
            continue;
        };
        if value.is_empty() {
            return Err(Error::invalid(format!("option \"{known}\" has no value")));
        }
        if ours.insert(known.to_owned(), value).is_some() {
            return Err(Error::invalid(format!("option \"{known}\" is given twice")));
        }
    }
    Ok((ours, rest))
}

/// The name of an option as it is kept: `aws.region`, `aws_region` and `s3.region` are `region`.
fn known(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let name = ["aws.", "aws_", "s3."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(&name);
    let name = match name {
        "endpoint_url" => "endpoint",
        "default_region" => "region",
        other => other,
    };
    OPTIONS.iter().map(|(known, ..)| *known).find(|known| *known == name)
}

impl Way {
    /// # Errors
    /// 22023 where half of the credentials are missing, or the endpoint is none.
    pub(super) fn new(bucket: &str, options: &S3Options, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| {
            let variables = OPTIONS.iter().find(|(known, ..)| *known == name).map_or(&[][..], |found| found.1);
            variables.iter().find_map(|variable| environment(variable)).filter(|value| !value.is_empty())
        };
        let said = |name: &str| options.get(name).cloned().or_else(|| variable(name));
        // One's key and another's secret do not go together.
        let is_own = ["access_key_id", "secret_access_key", "session_token"].iter().any(|of| options.contains_key(*of));
        let of = |name: &str| if is_own { options.get(name).cloned() } else { variable(name) };
        let credentials = match (of("access_key_id"), of("secret_access_key")) {
            (Some(key), Some(secret)) => Some(Credentials { key, secret, token: of("session_token") }),
            (None, None) if !is_own => None,
            (key, _) => {
                let missing = if key.is_none() { "access_key_id" } else { "secret_access_key" };
                let place = if is_own { "the options of the table" } else { "the environment of the server" };
                return Err(Error::invalid(format!("{missing} is missing in {place}"))
                    .hint("a key and its secret are given together, or neither to read as anybody may"));
            }
        };
        let allow_http = match said("allow_http").map(|value| value.to_lowercase()).as_deref() {
            None | Some("false" | "off" | "no" | "0") => false,
            Some("true" | "on" | "yes" | "1") => true,
            Some(other) => {
                return Err(Error::invalid(format!("option \"allow_http\" is true or false, not \"{other}\"")));
            }
        };
        let endpoint = said("endpoint").map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        match endpoint.as_deref().map(|endpoint| endpoint.split_once("://").map(|(scheme, _)| scheme)) {
            None | Some(Some("https")) => {}
            Some(Some("http")) if allow_http => {}
            Some(Some("http")) => {
                return Err(Error::invalid("the endpoint of S3 is http://, which is not encrypted").hint(
                    "allow it in a network that you trust: OPTIONS (allow_http 'true'), or AWS_ALLOW_HTTP=true",
                ));
            }
            Some(_) => {
                return Err(Error::invalid(format!("the endpoint \"{}\" is no URL", endpoint.unwrap_or_default()))
                    .hint("it looks like https://minio.example.com:9000"));
            }
        }
        let region = said("region").unwrap_or_else(|| REGION.to_owned());
        Ok(Self { bucket: bucket.to_owned(), endpoint, region, allow_http, credentials })
    }

    /// Whether requests are signed.
    pub(super) fn is_signed(&self) -> bool {
        self.credentials.is_some()
    }

    /// What a person knows it by.
    pub(super) fn place(&self) -> &str {
        self.endpoint.as_deref().unwrap_or("AWS")
    }

    pub(super) fn client(&self) -> Result<AmazonS3> {
        let options = ClientOptions::new()
            .with_allow_http(self.allow_http)
            .with_timeout(REQUEST_TIME)
            .with_connect_timeout(CONNECT_TIME);
        let retries = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_client_options(options)
            .with_retry(retries)
            .with_skip_signature(self.credentials.is_none());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(Credentials { key, secret, token }) = &self.credentials {
            builder = builder.with_access_key_id(key).with_secret_access_key(secret);
            if let Some(token) = token {
                builder = builder.with_token(token);
            }
        }
        let client = builder.with_allow_http(self.allow_http).build();
        client.map_err(|error| Error::invalid(format!("S3 cannot be reached like this: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> S3Options {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "AWS_ACCESS_KEY_ID" => "env-key",
            "AWS_SECRET_ACCESS_KEY" => "env-secret",
            "AWS_SESSION_TOKEN" => "env-token",
            "AWS_DEFAULT_REGION" => "eu-west-1",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn keys(way: &Way) -> Option<(&str, &str, Option<&str>)> {
        way.credentials.as_ref().map(|of| (of.key.as_str(), of.secret.as_str(), of.token.as_deref()))
    }

    #[test]
    fn a_table_says_it_or_the_environment_does() {
        let way = Way::new("b", &options(&[]), environment).unwrap();
        assert_eq!(keys(&way), Some(("env-key", "env-secret", Some("env-token"))));
        assert_eq!((way.region.as_str(), way.place()), ("eu-west-1", "AWS"));
        // The token of the environment does not belong to the key of the table.
        let own = options(&[("access_key_id", "k"), ("secret_access_key", "s"), ("region", "x")]);
        let way = Way::new("b", &own, environment).unwrap();
        assert_eq!((keys(&way), way.region.as_str()), (Some(("k", "s", None)), "x"));
        let way = Way::new("b", &options(&[]), |_| None).unwrap();
        assert_eq!((keys(&way), way.region.as_str()), (None, REGION));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let why = |given: &[(&str, &str)]| Way::new("b", &options(given), environment).err().map(|error| error.message);
        assert_eq!(
            why(&[("access_key_id", "k")]).as_deref(),
            Some("secret_access_key is missing in the options of the table")
        );
        assert!(why(&[("endpoint", "http://x")]).is_some());
        assert!(why(&[("endpoint", "http://x"), ("allow_http", "TRUE")]).is_none());
        assert!(why(&[("endpoint", "minio:9000")]).is_some());
        assert!(why(&[("allow_http", "perhaps")]).is_some());
    }

    #[test]
    fn options_have_one_name() {
        let given = [("aws.region", "r"), ("ENDPOINT", "e"), ("header", "true"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let (ours, rest) = divided(given).unwrap();
        assert_eq!(ours, options(&[("region", "r"), ("endpoint", "e"), ("secret_access_key", "s")]));
        assert_eq!(rest, [("header".to_owned(), "true".to_owned())]);
        let twice = ["region", "aws.default_region"].map(|name| (name.to_owned(), "r".to_owned())).to_vec();
        assert!(divided(twice).is_err());
    }
}
