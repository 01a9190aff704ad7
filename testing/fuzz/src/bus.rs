//! Documents on the message bus of a fleet: an accepted one can be sent on and keeps its meaning.

use tcpguard_fleet::document::{Document, Envelope, HostId, RuleBody, Subject};

/// The input is what a subscriber receives: a subject, the byte 0, and a document.
///
/// # Panics
/// When a refusal has no reason, when an accepted document changes as it is read and sent again, or when it does not
/// belong under its own subject.
pub fn bus(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (subject, bytes) = input.split_at(end);
    let subject = std::str::from_utf8(subject).ok().and_then(subject_of);
    let document = match Document::parse(bytes.strip_prefix(b"\0").unwrap_or(bytes)) {
        Ok(document) => document,
        Err(error) => return assert!(!error.to_string().is_empty(), "{error:?}"),
    };
    let sent = document.to_json().expect("an accepted document can be sent");
    let again = Document::parse(&sent).expect("a sent document can be read");
    // Times are sent in milliseconds.
    assert_eq!(again.to_json().as_ref(), Ok(&sent), "sent again");
    assert_eq!(again.envelope().map(position), document.envelope().map(position));
    match Subject::of(&document) {
        Some(own) => {
            assert_eq!(own.check(&document), Ok(()));
            assert_eq!(subject_of(&own.to_string()), Some(own));
        }
        None => assert!(document.envelope().is_none(), "{document:?}"),
    }
    if let Some(subject) = subject {
        let kinds_agree = subject.kind() == document.kind();
        assert!(kinds_agree || subject.check(&document).is_err(), "{subject} {document:?}");
    }
    if let Document::Rule(rule) = &document {
        signed(&rule.body);
    }
}

/// Sender and number of a document.
fn position(envelope: &Envelope) -> (&HostId, u64, u64) {
    (&envelope.host, envelope.boot, envelope.seq)
}

/// The subject that `text` is. It has one text.
fn subject_of(text: &str) -> Option<Subject> {
    let subject: Subject = text.parse().ok()?;
    assert_eq!(subject.to_string(), text);
    Some(subject)
}

/// Reads the body of a signed rule.
fn signed(body: &str) {
    match RuleBody::parse(body) {
        Ok(rule) => {
            let written = rule.to_json().expect("an accepted rule can be signed");
            let again = RuleBody::parse(&written).expect("a signed rule can be read");
            assert_eq!(again.to_json(), Ok(written), "signed again");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "{error:?}"),
    }
}
