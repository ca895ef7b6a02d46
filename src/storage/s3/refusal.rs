//! What a store of S3 says when it does not do what it was asked, as a sentence with the cure.

use std::error::Error as StdError;

use super::way::Way;
use crate::error::{Error, Kind};

/// Tells an error of a request about `what`, which is the URL of an object or a folder.
pub(super) fn told(way: &Way, what: &str, error: &object_store::Error) -> Error {
    // A request that has been told once is not told again.
    if let Some(ours) = Error::within(error) {
        return ours.clone();
    }
    let said = with_causes(error);
    let code = between(&said, "<Code>", "</Code>").unwrap_or_default();
    let message = between(&said, "<Message>", "</Message>");
    let bucket = &way.bucket;
    let denied = |hint: String| {
        let why = message.unwrap_or("the store gives no reason");
        Error::new(Kind::Denied, format!("access to \"{what}\" was denied: {why}")).hint(hint)
    };
    match code {
        "NoSuchBucket" => {
            return Error::new(Kind::Io, format!("bucket \"{bucket}\" does not exist"))
                .hint(format!("its name is looked up at {}; OPTIONS (endpoint …) names another store", way.place()));
        }
        "NoSuchKey" => return missing(what),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "TokenRefreshRequired" => {
            return denied(
                "see that access_key_id, secret_access_key and session_token belong together, in the options of the \
                 table or in AWS_ACCESS_KEY_ID and its like in the environment of the server"
                    .to_owned(),
            );
        }
        "RequestTimeTooSkewed" => return denied("set the clock of this server right".to_owned()),
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
            return elsewhere(way, between(&said, "<Region>", "</Region>"));
        }
        _ => {}
    }
    match error {
        object_store::Error::NotFound { .. } => return missing(what),
        object_store::Error::Precondition { .. } => {
            return Error::new(Kind::Conflict, format!("\"{what}\" was replaced while it was read")).hint("try again");
        }
        _ => {}
    }
    // What a listing is refused with is told by its text alone.
    let is_denied =
        matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. });
    if is_denied || code == "AccessDenied" || said.contains("403 Forbidden") {
        return denied(match way.is_signed() {
            true => "the owner of the key must be allowed s3:GetObject, s3:ListBucket and, to write, s3:PutObject"
                .to_owned(),
            false => {
                "no credentials were given: OPTIONS (access_key_id …, secret_access_key …), or AWS_ACCESS_KEY_ID and \
                      AWS_SECRET_ACCESS_KEY in the environment of the server"
                    .to_owned()
            }
        });
    }
    if said.contains("Received redirect without LOCATION") {
        return elsewhere(way, None);
    }
    if ["error sending request", "error trying to connect", "dns error"].iter().any(|text| said.contains(text)) {
        let cause = root(error);
        return Error::new(Kind::Unreachable, format!("could not reach S3 at {}: {cause}", way.place()))
            .hint("see that the endpoint is right, and that this server can reach it");
    }
    let short = match (code, message) {
        ("", _) => said.lines().next().unwrap_or_default().to_owned(),
        (code, Some(message)) => format!("{code}: {message}"),
        (code, None) => code.to_owned(),
    };
    let told = Error::new(Kind::Io, format!("S3 could not do what was asked of \"{what}\": {short}"));
    match ["SlowDown", "ServiceUnavailable", "InternalError"].contains(&code) {
        true => told.hint("the store is too busy: try again later"),
        false => told,
    }
}

/// There is nothing of that name.
pub(super) fn missing(what: &str) -> Error {
    Error::new(Kind::Io, format!("\"{what}\" does not exist"))
        .hint("a location of S3 is an object, all below a folder, or with wildcards (*, ?, [a-z], **)")
}

fn elsewhere(way: &Way, region: Option<&str>) -> Error {
    let hint = match region {
        Some(region) => format!("OPTIONS (region '{region}'), or AWS_REGION={region} in the environment of the server"),
        None => "OPTIONS (region '…'), or AWS_REGION in the environment of the server, names its region".to_owned(),
    };
    Error::invalid(format!("bucket \"{}\" is not in region {}", way.bucket, way.region)).hint(hint)
}

fn with_causes(error: &object_store::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        cause = inner.source();
    }
    said
}

/// What all of it came from.
fn root(error: &object_store::Error) -> String {
    let mut last: &dyn StdError = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tell(body: &str) -> Error {
        let way = Way::new("shop", &BTreeMap::new(), |_| None).unwrap();
        let error = object_store::Error::Generic { store: "S3", source: body.to_owned().into() };
        told(&way, "s3://shop/a.csv", &error)
    }

    #[test]
    fn refusals_say_what_to_do() {
        let region =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-1</Region></Error>";
        let error = tell(region);
        assert_eq!(error.message, "bucket \"shop\" is not in region us-east-1");
        assert!(error.hint.unwrap().starts_with("OPTIONS (region 'eu-west-1')"));
        assert_eq!(tell("<Code>NoSuchBucket</Code>").message, "bucket \"shop\" does not exist");
        assert_eq!(tell("<Code>ExpiredToken</Code><Message>old</Message>").kind, Kind::Denied);
        assert_eq!(tell("<Code>AccessDenied</Code><Message>no</Message>").kind, Kind::Denied);
        assert_eq!(tell("<Code>SlowDown</Code><Message>slow</Message>").kind, Kind::Io);
        assert_eq!(tell("no XML at all\nsecond line").message.lines().count(), 1);
    }
}
