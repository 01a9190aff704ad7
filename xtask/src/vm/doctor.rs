//! The report of `tcpguard doctor` in a guest: the features that it misses in the kernel, in its own words.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Prefix of the report before the agent starts, as JSON on one line.
pub const REPORT: &str = "guest: doctor ";

/// Features by the names in the report, with the first release of each. Debian adds none of them to older releases.
const FEATURES: [(&str, (u32, u32)); 6] = [
    ("atomic compare-and-exchange", (5, 12)),
    ("batches of per-CPU arrays", (5, 13)),
    ("SO_NETNS_COOKIE", (5, 14)),
    ("multi-buffer XDP", (5, 18)),
    ("TCX", (6, 6)),
    ("bpf_sk_assign_tcp_reqsk", (6, 9)),
];

/// Feature that decides about the backend of SYN cookies, and the backends with and without it.
const OWN_COOKIES: (&str, &str, &str) = ("bpf_sk_assign_tcp_reqsk", "own", "kernel_helper");

/// Missing features, each with the sentence of the report.
pub type Missing = BTreeMap<String, String>;

/// Reads the features that a report misses on the kernel `name`, such as `6.1.0-50`.
///
/// # Errors
/// The reason, when there is no report, it finds an obstacle, or it misses other features than those of later
/// releases.
pub fn missing(console: &str, name: &str) -> Result<Missing, String> {
    let line = console.lines().find_map(|line| Some(line.split_once(REPORT)?.1));
    let report: Value = line
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| "it printed no report; see the console".to_owned())?;
    let findings = report["findings"].as_array().ok_or("its report has no findings")?;
    let field = |finding: &Value, name: &str| finding[name].as_str().unwrap_or("").to_owned();
    if let Some(obstacle) = findings.iter().find(|finding| finding["severity"] == "critical") {
        return Err(format!("{}: {}", field(obstacle, "code"), field(obstacle, "text")));
    }
    let missing: Missing = findings
        .iter()
        .filter(|finding| finding["code"] == "kernel_features")
        .map(|finding| (field(finding, "subject"), field(finding, "text")))
        .collect();
    let release = release(name).ok_or_else(|| format!("{name} is no release"))?;
    let later: BTreeSet<&str> =
        FEATURES.iter().filter(|(_, since)| *since > release).map(|(name, _)| *name).collect();
    let named: BTreeSet<&str> = missing.keys().map(String::as_str).collect();
    match named == later {
        true => Ok(missing),
        false => Err(format!("it misses {named:?}, and later releases have {later:?}")),
    }
}

/// The first two numbers of a kernel's name.
fn release(name: &str) -> Option<(u32, u32)> {
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Compares the missing features with the backend of SYN cookies that the agent's status names.
///
/// # Errors
/// The contradiction, when the two disagree.
pub fn agrees(missing: &Missing, cookies: &str) -> Result<(), String> {
    let (feature, with, without) = OWN_COOKIES;
    let expected = if missing.contains_key(feature) { without } else { with };
    match cookies == expected {
        true => Ok(()),
        false => {
            Err(format!("by its report the agent's cookies are {expected}, and they are {cookies}"))
        }
    }
}
