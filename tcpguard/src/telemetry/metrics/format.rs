//! Metrics in the text format of Prometheus (0.0.4), which every scraper reads, promtool and the textfile collector of
//! node_exporter too.

use std::fmt::{self, Write as _};

/// Value of the HTTP header `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name without the prefix. That of a counter ends in `_total`; all others are gauges.
    pub name: &'static str,
    /// Its meaning, on one line.
    pub help: &'static str,
    /// The samples, no two with the same labels. Without any, the family is left out.
    pub samples: Vec<Sample>,
}

/// One number with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The labels that identify it.
    pub labels: Vec<(&'static str, String)>,
    /// Value of the sample.
    pub value: Value,
}

/// Value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Count(u64),
    /// An amount, such as seconds or a share.
    Amount(f64),
}

impl Sample {
    /// A number with these labels.
    pub fn new<const N: usize>(labels: [(&'static str, &str); N], value: Value) -> Self {
        let labels = labels.map(|(name, value)| (name, value.to_owned())).into();
        Self { labels, value }
    }
}

/// The families as text.
pub fn text(families: &[Family]) -> String {
    families.iter().map(ToString::to_string).collect()
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, help, samples } = self;
        if samples.is_empty() {
            return Ok(());
        }
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        writeln!(f, "# HELP tcpguard_{name} {help}\n# TYPE tcpguard_{name} {kind}")?;
        for Sample { labels, value } in samples {
            write!(f, "tcpguard_{name}")?;
            for (number, (label, value)) in labels.iter().enumerate() {
                let before = if number == 0 { '{' } else { ',' };
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                write!(f, "{before}{label}=\"{value}\"")?;
            }
            if !labels.is_empty() {
                f.write_char('}')?;
            }
            match value {
                Value::Count(count) => writeln!(f, " {count}")?,
                Value::Amount(amount) => writeln!(f, " {amount}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_as_its_standard_says() {
        let family = |name, help, samples| Family { name, help, samples };
        let families = [
            family(
                "build_info",
                "The agent.",
                vec![Sample::new([("version", "0.1.0"), ("mode", "off")], Value::Count(1))],
            ),
            family("up", "Whether it answers.", vec![Sample::new([], Value::Count(1))]),
            family(
                "packets_total",
                "Packets.",
                vec![
                    Sample::new([("iface", "eth0")], Value::Count(u64::MAX)),
                    Sample::new([("iface", "a\"b\\c\nd")], Value::Amount(0.5)),
                ],
            ),
            family("none", "Unknown.", Vec::new()),
        ];
        let expected = "# HELP tcpguard_build_info The agent.\n\
                        # TYPE tcpguard_build_info gauge\n\
                        tcpguard_build_info{version=\"0.1.0\",mode=\"off\"} 1\n\
                        # HELP tcpguard_up Whether it answers.\n\
                        # TYPE tcpguard_up gauge\n\
                        tcpguard_up 1\n\
                        # HELP tcpguard_packets_total Packets.\n\
                        # TYPE tcpguard_packets_total counter\n\
                        tcpguard_packets_total{iface=\"eth0\"} 18446744073709551615\n\
                        tcpguard_packets_total{iface=\"a\\\"b\\\\c\\nd\"} 0.5\n";
        assert_eq!(text(&families), expected);
    }
}
