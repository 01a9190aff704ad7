//! Files of rules: prefixes line by line, with ports behind them or without, or the output of `tcpguard rules export`.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use tcpguard_engine::{Ports, RuleToImport};

use crate::cli::documents::Printed as _;
use crate::config::parse_prefix;
use crate::control::proto::check;
use crate::documents::ExportedRules;

/// A rule and its position, in words.
pub(super) type Placed = (String, RuleToImport);

/// A mistake at one position of a file, and its remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Problem {
    /// Position of the mistake, in words.
    pub place: String,
    /// The mistake.
    pub message: String,
}

/// Values that hold where a file gives none.
pub(super) struct Defaults<'a> {
    /// Lifetime of a rule.
    pub lifetime: Option<Duration>,
    /// Reason for a rule.
    pub reason: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    rules: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prefix: String,
    #[serde(default)]
    ports: Ports,
    for_s: Option<u64>,
    reason: Option<String>,
    /// Ignored: an imported rule belongs to the operator that imports it.
    #[serde(rename = "origin")]
    _origin: Option<String>,
}

/// Reads the rules of a file, and its mistakes.
pub(super) fn parse(text: &str, defaults: &Defaults<'_>) -> (Vec<Placed>, Vec<Problem>) {
    let read = match serde_json::from_str::<Document>(text) {
        Ok(document) => of_document(document, defaults),
        Err(_) => of_lines(text, defaults),
    };
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    let mut places: BTreeMap<IpNet, String> = BTreeMap::new();
    for (place, rule) in read {
        let rule = rule.and_then(|rule| match places.get(&rule.net) {
            Some(first) => Err(format!("duplicate of {first}: {}", rule.net)),
            None => Ok(rule),
        });
        match rule {
            Ok(rule) => {
                places.insert(rule.net, place.clone());
                rules.push((place, rule));
            }
            Err(message) => problems.push(Problem { place, message }),
        }
    }
    (rules, problems)
}

/// Each rule of a file, or the mistake in it, with its position in words.
type Read = Vec<(String, Result<RuleToImport, String>)>;

fn of_document(document: Document, defaults: &Defaults<'_>) -> Read {
    if document.schema != ExportedRules::ID {
        let message = format!(
            "{:?} instead of {}: export the rules again with this release",
            document.schema,
            ExportedRules::ID
        );
        return vec![("schema".to_owned(), Err(message))];
    }
    let read = |(place, value): (usize, Value)| {
        let line = serde_json::from_value(value).map_err(|error| error.to_string());
        (format!("rule {}", place + 1), line.and_then(|line| rule(line, defaults)))
    };
    document.rules.into_iter().enumerate().map(read).collect()
}

fn of_lines(text: &str, defaults: &Defaults<'_>) -> Read {
    let mut read = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let object = line.starts_with('{');
        let bare = if object { line } else { line.split('#').next().unwrap_or(line).trim() };
        if bare.is_empty() {
            continue;
        }
        let line = if object {
            serde_json::from_str(bare).map_err(|error| of_one_line(&error))
        } else {
            of_columns(bare)
        };
        read.push((format!("line {number}"), line.and_then(|line| rule(line, defaults))));
    }
    read
}

/// A prefix and, behind a blank, the ports of its rule: `192.0.2.0/24 80,443`.
fn of_columns(line: &str) -> Result<Line, String> {
    let (prefix, ports) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if prefix.contains([',', ';']) {
        return Err(format!("{line:?} has several columns; take the first: cut -d, -f1 FILE"));
    }
    let port = |text: &str| {
        text.trim()
            .parse::<u16>()
            .map_err(|_| format!("{text:?} is no port; write 192.0.2.0/24 80,443"))
    };
    let ports = match ports.trim() {
        "" => Ports::EVERY,
        ports => Ports::try_from(ports.split(',').map(port).collect::<Result<Vec<_>, _>>()?)
            .map_err(|error| error.to_string())?,
    };
    Ok(Line { prefix: prefix.to_owned(), ports, for_s: None, reason: None, _origin: None })
}

/// serde_json counts lines too, of which this is always the first.
fn of_one_line(error: &serde_json::Error) -> String {
    let column = error.column();
    let text = error.to_string();
    let why = text.split(" at line ").next().unwrap_or(&text);
    format!(
        "{why} (column {column}): an address, a prefix or \
         {{\"prefix\":\"192.0.2.0/24\",\"for_s\":3600,\"reason\":\"why\"}} is expected"
    )
}

fn rule(line: Line, defaults: &Defaults<'_>) -> Result<RuleToImport, String> {
    let net = parse_prefix(&line.prefix)?;
    if line.for_s == Some(0) {
        return Err("for_s must be at least 1".into());
    }
    let lifetime = line.for_s.map(Duration::from_secs).or(defaults.lifetime);
    let reason = line.reason.or(defaults.reason.map(str::to_owned));
    check(reason.as_deref().unwrap_or_default(), lifetime.unwrap_or(Duration::MAX))
        .map_err(|error| error.message)?;
    Ok(RuleToImport { net, ports: line.ports, lifetime, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults<'_> =
        Defaults { lifetime: Some(Duration::from_secs(3600)), reason: Some("a list") };

    fn rules(text: &str) -> Vec<(String, String, u64, String)> {
        let (rules, problems) = parse(text, &DEFAULTS);
        assert_eq!(problems, []);
        let plain = |(place, rule): Placed| {
            (place, rule.net.to_string(), rule.lifetime.unwrap().as_secs(), rule.reason.unwrap())
        };
        rules.into_iter().map(plain).collect()
    }

    fn problems(text: &str) -> Vec<String> {
        let (_, problems) = parse(text, &DEFAULTS);
        problems.into_iter().map(|p| format!("{}: {}", p.place, p.message)).collect()
    }

    #[test]
    fn a_list_of_prefixes_is_a_rule_file() {
        let text = "# bad hosts\n\n192.0.2.7\n 198.51.100.0/24 # scans\n2001:db8::/32\r\n";
        let expected = [
            ("line 3", "192.0.2.7/32"),
            ("line 4", "198.51.100.0/24"),
            ("line 5", "2001:db8::/32"),
        ];
        let expected = expected.map(|(place, prefix)| {
            (place.to_owned(), prefix.to_owned(), 3600, "a list".to_owned())
        });
        assert_eq!(rules(text), expected);
        assert_eq!(rules(" \n# nothing\n"), []);
    }

    #[test]
    fn what_is_exported_is_read_line_by_line_and_as_a_document() {
        let line = r##"{"prefix":"192.0.2.0/24","for_s":5,"reason":"a # b","origin":"operator"}"##;
        let read =
            |place: &str| (place.to_owned(), "192.0.2.0/24".to_owned(), 5, "a # b".to_owned());
        assert_eq!(rules(line), [read("line 1")]);
        let document = format!("{{\"schema\":\"tcpguard.rules/1\",\n\"rules\":[{line}]}}\n");
        assert_eq!(rules(&document), [read("rule 1")]);
        assert_eq!(
            problems(&document.replace("rules/1", "rules/2")),
            [
                "schema: \"tcpguard.rules/2\" instead of tcpguard.rules/1: export the rules again with this release"
            ]
        );
    }

    #[test]
    fn ports_are_read_where_a_line_names_them() {
        let text = "{\"prefix\":\"192.0.2.0/24\",\"ports\":[443,80]}\n198.51.100.0/24\n203.0.113.9\t80, 443 # web\n";
        let (rules, mistakes) = parse(text, &DEFAULTS);
        assert_eq!(mistakes, []);
        let ports: Vec<&[u16]> = rules.iter().map(|(_, rule)| rule.ports.certain()).collect();
        assert_eq!(ports, [&[80, 443][..], &[], &[80, 443]]);
        let line = |ports: &str| format!("{{\"prefix\":\"192.0.2.0/24\",\"ports\":{ports}}}\n");
        let problems = problems(
            &[
                line("[1,2,3,4,5]"),
                line("[0]"),
                line("[65536]"),
                "192.0.2.8 http\n192.0.2.9,443\n".to_owned(),
            ]
            .concat(),
        );
        for (problem, start) in problems.iter().zip([
            "line 1: a rule has at most 4 ports (column",
            "line 2: 0 is not a port (1 to 65535) (column",
            "line 3: invalid value: integer `65536`, expected u16 (column",
            "line 4: \"http\" is no port; write 192.0.2.0/24 80,443",
            "line 5: \"192.0.2.9,443\" has several columns; take the first: cut -d, -f1 FILE",
        ]) {
            assert!(problem.starts_with(start), "{problem}\n{start}");
        }
        assert_eq!(problems.len(), 5);
    }

    #[test]
    fn every_bad_line_is_named_with_its_correction() {
        let text = "192.0.2.0/24\n192.0.2.7/24\nmallory\n{\"prefix\":\"192.0.2.9\",\"ttl\":5}\n\
                    {\"prefix\":\"192.0.2.9\",\"for_s\":0}\n192.0.2.0/24\n\
                    {\"prefix\":\"192.0.2.9\",\"reason\":\"a\\nb\"}\n{\"prefix\":\n";
        let problems = problems(text);
        let starts = [
            "line 2: 192.0.2.7/24 has bits set right of the prefix; write 192.0.2.0/24 or 192.0.2.7",
            "line 3: \"mallory\" is not a prefix; write one such as",
            "line 4: unknown field `ttl`, expected one of `prefix`, `ports`, `for_s`, `reason`, `origin` (column",
            "line 5: for_s must be at least 1",
            "line 6: duplicate of line 1: 192.0.2.0/24",
            "line 7: the reason must be one line of at most 200 bytes",
            "line 8: EOF while parsing a value (column 10): an address, a prefix or {\"prefix\"",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}\n{start}");
        }
    }
}
