//! The durable store as NATS has it: a stream with the last message of each key, its requests and its replies.

use async_nats::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BusError, Stored};

/// Name of the bucket.
pub const BUCKET: &str = "KV_rule";
/// Subjects of the keys.
const KEYS: &str = "$KV.rule.";
/// Subjects on which the server publishes the documents that it has stored. No host may publish there.
const REPUBLISHED: &str = "tg.1.rule.";
/// Largest document, in bytes.
const MAX_MESSAGE: u32 = 4096;
/// Size of the bucket, in bytes: 4,096 documents of the largest size.
const MAX_BYTES: u32 = 16 << 20;
/// Lifetime of a document, in nanoseconds: 30 days, the longest validity of a rule.
const MAX_AGE_NS: u64 = 30 * 24 * 3600 * 1_000_000_000;

/// Subject under which a key is stored.
pub fn subject(key: &str) -> String {
    format!("{KEYS}{key}")
}

/// Subject of the request for documents.
pub fn direct_get() -> String {
    format!("$JS.API.DIRECT.GET.{BUCKET}")
}

/// Subject of the request that makes the bucket.
pub fn create() -> String {
    format!("$JS.API.STREAM.CREATE.{BUCKET}")
}

/// The bucket, on so many servers of a cluster. A full bucket refuses documents and keeps those that it has.
pub fn configuration(replicas: u32) -> Value {
    json!({
        "name": BUCKET,
        "subjects": [format!("{KEYS}>")],
        "max_msgs_per_subject": 1,
        "max_msg_size": MAX_MESSAGE,
        "max_bytes": MAX_BYTES,
        "max_age": MAX_AGE_NS,
        "discard": "new",
        "storage": "file",
        "num_replicas": replicas,
        "allow_direct": true,
        "allow_rollup_hdrs": true,
        "republish": { "src": format!("{KEYS}>"), "dest": format!("{REPUBLISHED}>") },
    })
}

/// The request for the first document behind position `after`.
pub fn next(after: u64) -> Value {
    json!({ "seq": after + 1, "next_by_subj": format!("{KEYS}>") })
}

/// Returns whether a message is of a subject on which only the server publishes.
pub fn is_of_store(subject: &str) -> bool {
    subject.starts_with(REPUBLISHED)
}

/// Returns whether these are the headers with which the server publishes a document that it has just stored. The reply
/// to a request has others: a position only where several documents are asked for, with the number of those that follow.
pub fn is_republished(subject: &str, headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).map(|value| value.as_str());
    let key = header("Nats-Subject").and_then(|stored| stored.strip_prefix(KEYS));
    header("Nats-Stream") == Some(BUCKET)
        && key.is_some_and(|key| subject.strip_prefix(REPUBLISHED) == Some(key))
        && header("Nats-Last-Sequence").is_some()
        && header("Nats-Num-Pending").is_none()
}

/// The document in a reply, by its headers.
///
/// # Errors
/// When a header is missing or is no number.
pub fn document(
    header: impl Fn(&str) -> Option<String>,
    payload: &[u8],
) -> Result<Stored, BusError> {
    let named =
        |name: &str| header(name).ok_or_else(|| BusError::Unreadable(format!("no header {name}")));
    let subject = named("Nats-Subject")?;
    let key = subject
        .strip_prefix(KEYS)
        .ok_or_else(|| BusError::Unreadable(format!("a document of subject {subject:?}")))?;
    let sequence = named("Nats-Sequence")?;
    let sequence =
        sequence.parse().map_err(|_| BusError::Unreadable(format!("a position {sequence:?}")))?;
    let is_deleted =
        header("KV-Operation").is_some_and(|operation| ["DEL", "PURGE"].contains(&&*operation));
    let document = (!is_deleted).then(|| payload.to_vec());
    Ok(Stored { key: key.to_owned(), sequence, document })
}

/// Reply to a document that was stored, and to a request about the bucket.
#[derive(Deserialize)]
struct Reply {
    seq: Option<u64>,
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    description: String,
}

/// The position in a reply, if it has one.
///
/// # Errors
/// When the server refused the request.
pub fn reply(payload: &[u8]) -> Result<Option<u64>, BusError> {
    let reply: Reply =
        serde_json::from_slice(payload).map_err(|error| BusError::Unreadable(error.to_string()))?;
    match reply.error {
        Some(ReplyError { code, description }) => {
            Err(BusError::Refused(format!("{description} (code {code})")))
        }
        None => Ok(reply.seq),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::str::FromStr as _;

    use async_nats::{HeaderName, HeaderValue};

    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        let of: BTreeMap<_, _> = of.iter().copied().collect();
        move |name| of.get(name).map(|value| (*value).to_owned())
    }

    #[test]
    fn a_document_has_its_key_and_position_and_a_deleted_one_has_no_content() {
        let kept = [("Nats-Subject", "$KV.rule.ops.r1"), ("Nats-Sequence", "12")];
        let stored = document(headers(&kept), b"{}").unwrap();
        let expected =
            Stored { key: "ops.r1".to_owned(), sequence: 12, document: Some(b"{}".to_vec()) };
        assert_eq!(stored, expected);

        let deleted = [kept[0], kept[1], ("KV-Operation", "DEL")];
        assert_eq!(
            document(headers(&deleted), b"").unwrap(),
            Stored { document: None, ..expected }
        );
    }

    #[test]
    fn a_reply_that_is_no_document_is_refused_with_its_fault() {
        let foreign = [("Nats-Subject", "other.r1"), ("Nats-Sequence", "12")];
        let no_number = [("Nats-Subject", "$KV.rule.ops.r1"), ("Nats-Sequence", "twelve")];
        for (of, fault) in
            [(&[][..], "Nats-Subject"), (&foreign[..], "other.r1"), (&no_number[..], "twelve")]
        {
            let error = document(headers(of), b"{}").unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn only_a_document_that_was_just_stored_is_republished() {
        let subject = "tg.1.rule.ops.0123456789abcdef";
        let of = |headers: &[(&str, &str)]| -> HeaderMap {
            headers
                .iter()
                .map(|(name, value)| {
                    (HeaderName::from_str(name).unwrap(), HeaderValue::from(*value))
                })
                .collect()
        };
        let stored = [
            ("Nats-Stream", BUCKET),
            ("Nats-Subject", "$KV.rule.ops.0123456789abcdef"),
            ("Nats-Sequence", "7"),
            ("Nats-Time-Stamp", "2026-11-20T14:05:01.204Z"),
        ];
        let republished = [&stored[..], &[("Nats-Last-Sequence", "0")]].concat();
        assert!(is_republished(subject, &of(&republished)));
        assert!(!is_republished("tg.1.rule.ops.x", &of(&republished)), "another key");
        assert!(!is_republished(subject, &of(&stored)), "a reply");
        let of_several = [&republished[..], &[("Nats-Num-Pending", "3")]].concat();
        assert!(!is_republished(subject, &of(&of_several)), "one of several replies");
        assert!(!is_republished(subject, &HeaderMap::new()));
    }

    #[test]
    fn a_full_bucket_is_an_error_with_the_words_of_the_server() {
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"KV_rule","seq":0}"#;
        assert_eq!(
            reply(full).unwrap_err().to_string(),
            "the bus refused the request: maximum bytes exceeded (code 503)"
        );
        assert_eq!(reply(br#"{"stream":"KV_rule","seq":7}"#).unwrap(), Some(7));
        assert!(reply(b"garbage").is_err());
    }
}
