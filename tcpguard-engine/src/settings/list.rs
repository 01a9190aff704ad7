//! The thresholds that are settings. The ranges that [`Settings::validate`](super::Settings::validate) enforces come from this list, and
//! so do the keys of the configuration file, its explanations, and a part of `docs/evidence/thresholds.md`.
//!
//! A new field of [`Settings`](super::Settings) gets an entry here; a test fails without one.

use tcpguard_common::abi::maps;

use super::threshold::{Field, Threshold};
use crate::input::Unit;

static THRESHOLDS: [Threshold; 8] = [
    Threshold {
        name: "fast_failures",
        key: Some("detection.fast_min"),
        unit: Unit::Count,
        least: 8.0,
        most: 1_000_000.0,
        doc: "Uncompleted handshakes, in two polls, below which the fast alarm is not raised. A \
              higher number misses smaller floods of idle listeners for some seconds more. Raise \
              it if you have an idle listener with harmless bursts of unfinished connects, such as \
              those of scanners.",
        source: "Weighed against a harmless burst of 38 SYNs in a public capture, and against floods \
                 of 300 SYN/s, which leave 150 in two polls.",
        field: |settings| Field::U64(&mut settings.fast_failures),
    },
    Threshold {
        name: "failure_floor",
        key: Some("detection.failure_floor"),
        unit: Unit::PerSecond,
        least: 0.1,
        most: 10_000.0,
        doc: "Failed handshakes per second that matter at all. Smaller floods are not found, \
              unless they fill the queue. Half of this rate ends an incident. Raise it if many of \
              your clients on radio links give up, and smaller floods matter less to you.",
        source: "Weighed against lost clients (2 % of 200 a second are 4), which must stay quiet, and \
                 against floods of 10 SYN/s, which must not.",
        field: |settings| Field::F64(&mut settings.failure_floor),
    },
    Threshold {
        name: "health_check_rate",
        key: Some("detection.health_check_rate"),
        unit: Unit::PerSecond,
        least: 0.0,
        most: 10_000.0,
        doc: "Handshakes per second that clients may reset before they count as failures for the \
              slow alarm. Half-open health checks end so. Raise it if you have more than two load \
              balancers that check with half-open handshakes.",
        source: "Two balancers of five processes ask once a second. More are distinguished from \
                 floods whose own kernel resets the replies by their flows.",
        field: |settings| Field::F64(&mut settings.health_check_rate),
    },
    Threshold {
        name: "closed_rate",
        key: Some("detection.closed_port_rate"),
        unit: Unit::PerSecond,
        least: 100.0,
        most: 10_000_000.0,
        doc: "SYNs per second to closed ports from which they are a flood. The host's own stack \
              refuses them, or they are dropped in its place. Raise it if you run a honeypot, or \
              your network's closed ports are scanned all day.",
        source: "Weighed against scanners, which send a single host hundreds a second (nmap) up to their \
                 own limit (masscan: 100 by default), and against the stack, for which as many \
                 resets are 4 % of one CPU.",
        field: |settings| Field::F64(&mut settings.closed_rate),
    },
    Threshold {
        name: "quiet",
        key: Some("detection.clear_s"),
        unit: Unit::Seconds,
        least: 5.0,
        most: 3_600.0,
        doc: "Time that everything must be quiet before an incident is over. Raise it for floods in \
              pulses with longer pauses.",
        source: "Three times the pauses of pulsed floods: 2.75 s in a public capture, 10 s \
                 assumed. Weighed against keeping rules longer than needed.",
        field: |settings| Field::Span(&mut settings.quiet),
    },
    Threshold {
        name: "rule_ttl_max",
        key: Some("policy.rule_ttl_max_s"),
        unit: Unit::Seconds,
        least: 60.0,
        most: 86_400.0,
        doc: "Longest lifetime without hits, reached by doubling whenever a source is back. At \
              most 24 h: no rule lives for ever. Lower it if your clients share or change \
              addresses (CGNAT).",
        source: "Doubled like fail2ban's bantime.increment, but with a limit: an address changes \
                 hands sooner or later.",
        field: |settings| Field::Span(&mut settings.rule_ttl_max),
    },
    Threshold {
        name: "rules",
        key: Some("policy.rules"),
        unit: Unit::Count,
        least: maps::MIN_RULES as f64,
        most: maps::MAX_RULES as f64,
        doc: "Capacity for rules of all kinds. A rule for certain ports counts once for each of \
              them. More capacity takes memory: for each 10,000 rules about 0.6 MiB, 0.2 MiB for \
              each CPU, and 1 MiB for rules that exist. A restart applies it and keeps the rules. \
              Raise it if you import lists of more addresses, lower it if your memory is short.",
        source: "Weighed against memory that most hosts do not need: published lists of addresses have \
                 1,000 to 100,000 entries.",
        field: |settings| Field::U32(&mut settings.rules),
    },
    Threshold {
        name: "incidents",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 1_024.0,
        doc: "Incidents of listeners that can be open at once. Further alarms are one incident of \
              the host.",
        source: "Weighed against hosts with as many listeners under attacks of their own. A flood of many \
                 listeners is reported as one.",
        field: |settings| Field::Usize(&mut settings.incidents),
    },
];

/// Every threshold, those of one section of the configuration file together.
pub fn thresholds() -> impl Iterator<Item = &'static Threshold> {
    THRESHOLDS.iter()
}

/// The threshold that is the field `name` of [`Settings`](super::Settings).
pub fn threshold(name: &str) -> Option<&'static Threshold> {
    thresholds().find(|threshold| threshold.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Settings;
    use super::*;

    /// The fields of [`Settings`], in alphabetical order, as their `Debug` names them.
    fn fields(settings: &Settings) -> Vec<(String, String)> {
        let text = format!("{settings:#?}");
        let mut fields: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        fields.sort();
        fields
    }

    #[test]
    fn every_field_is_listed_once() {
        let mut listed: Vec<_> = thresholds().map(|threshold| threshold.name).collect();
        listed.sort_unstable();
        let fields = fields(&Settings::default());
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(listed, names);
    }

    /// An entry that reads or writes its neighbour's field would change that one instead.
    #[test]
    fn each_sets_the_field_that_it_names_and_no_other() {
        for threshold in thresholds() {
            for value in [threshold.least, threshold.most] {
                let mut settings = Settings::default();
                threshold.set(&mut settings, value);
                assert_eq!(threshold.get(&settings), value, "{}", threshold.name);
                for (new, old) in fields(&settings).into_iter().zip(fields(&Settings::default())) {
                    assert!(new == old || new.0 == threshold.name, "{}: {new:?}", threshold.name);
                }
            }
        }
    }

    #[test]
    fn each_has_a_key_of_its_own_and_says_what_it_is_and_why() {
        let mut keys = BTreeSet::new();
        for threshold in thresholds() {
            if let Some(key) = threshold.key {
                let (section, name) = key.split_once('.').expect(key);
                let sections = ["detection", "policy"];
                assert!(sections.contains(&section) && keys.insert(key), "{key}");
                let suffix = ["ns", "ms", "s"]
                    .into_iter()
                    .find(|unit| name.rsplit_once('_').is_some_and(|(_, suffix)| suffix == *unit));
                let symbol = threshold.unit.symbol().filter(|symbol| *symbol != "/s");
                assert_eq!(suffix, symbol, "{key} ends in its unit");
            }
            for text in [threshold.doc, threshold.source] {
                assert!(text.len() > 10 && text.ends_with('.'), "{}: {text}", threshold.name);
            }
            let default = threshold.get(&Settings::default());
            assert!(threshold.allows(default) && threshold.least < threshold.most);
        }
    }
}
