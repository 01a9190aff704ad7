//! Metrics as text, in the form of either of the two standards.
//!
//! The library writes OpenMetrics 1.0. The older form, of Prometheus (0.0.4), is read by promtool and
//! the textfile collector of node_exporter. It differs in three things, all of them in the input of the
//! library: the name of a counter ends in `_total` in its description too, a description of the program
//! is a gauge, and nothing marks the end.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// Prefix of every name.
const PREFIX: &str = "tcpguard";

/// A form of the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus 0.0.4.
    Prometheus,
}

/// Samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name without the prefix, and without the `_total` of a counter or the `_info` of a
    /// description of the program.
    pub name: &'static str,
    /// Its meaning, on one line.
    pub help: &'static str,
    /// The behaviour of its numbers.
    pub kind: Kind,
    /// The samples, no two with the same labels. Without any, the family is left out.
    pub samples: Vec<Sample>,
}

/// The behaviour of numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Values only rise, or start again from zero.
    Counter,
    /// Values go up and down.
    Gauge,
    /// Values are 1, and the labels carry the information.
    Info,
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

impl Format {
    /// The value of the HTTP header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The form that suits the HTTP header `Accept` best: OpenMetrics for a client that asks for it by
    /// name and prefers nothing else.
    pub fn accepted(accept: &str) -> Self {
        let weight = |wanted: &str| accept.split(',').filter_map(|it| weight(it, wanted)).max();
        match (weight("application/openmetrics-text"), weight("text/plain")) {
            (Some(open), plain) if open > 0 && Some(open) >= plain => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }
}

/// The weight of one range of `Accept` in thousandths, if it is for `wanted`: RFC 9110, 12.4.2.
fn weight(range: &str, wanted: &str) -> Option<u32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let weight = parts.find_map(|part| part.strip_prefix("q="));
    let weight: f64 = weight.map_or(Some(1.0), |text| text.parse().ok())?;
    Some((weight.clamp(0.0, 1.0) * 1000.0) as u32)
}

impl Sample {
    /// A number with these labels.
    pub fn new<const N: usize>(labels: [(&'static str, &str); N], value: Value) -> Self {
        let labels = labels.map(|(name, value)| (name, value.to_owned())).into();
        Self { labels, value }
    }
}

/// The families as text in this form.
pub fn text(families: Vec<Family>, format: Format) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Exposition { families, format }));
    let mut text = String::new();
    let written = match format {
        Format::OpenMetrics => encode(&mut text, &registry),
        Format::Prometheus => encode_registry(&mut text, &registry),
    };
    written.expect("a string takes everything");
    text
}

#[derive(Debug)]
struct Exposition {
    families: Vec<Family>,
    format: Format,
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let with_samples = self.families.iter().filter(|family| !family.samples.is_empty());
        for family in with_samples {
            family.encode(&mut encoder, self.format)?;
        }
        Ok(())
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, format: Format) -> fmt::Result {
        let (suffix, kind) = match (format, self.kind) {
            (_, Kind::Gauge) => ("", MetricType::Gauge),
            (Format::OpenMetrics, Kind::Counter) => ("", MetricType::Counter),
            (Format::OpenMetrics, Kind::Info) => ("", MetricType::Info),
            (Format::Prometheus, Kind::Counter) => ("_total", MetricType::Counter),
            (Format::Prometheus, Kind::Info) => ("_info", MetricType::Gauge),
        };
        let name = format!("{}{suffix}", self.name);
        let mut metric = encoder.encode_descriptor(&name, self.help, None, kind)?;
        for sample in &self.samples {
            match (format, self.kind) {
                (Format::OpenMetrics, Kind::Info) => metric.encode_info(&sample.labels)?,
                _ if sample.labels.is_empty() => self.number(sample.value, &mut metric, format)?,
                _ => {
                    let mut with_labels = metric.encode_family(&sample.labels)?;
                    self.number(sample.value, &mut with_labels, format)?;
                }
            }
        }
        Ok(())
    }

    fn number(&self, value: Value, metric: &mut MetricEncoder<'_>, format: Format) -> fmt::Result {
        // A counter of the library's has the suffix that in the older form its name has already.
        let counter = format == Format::OpenMetrics && self.kind == Kind::Counter;
        match value {
            Value::Count(count) if counter => {
                metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
            }
            Value::Amount(amount) if counter => {
                metric.encode_counter::<NoLabelSet, _, u64>(&amount, None)
            }
            Value::Count(count) => metric.encode_gauge(&count),
            Value::Amount(amount) => metric.encode_gauge(&amount),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        vec![
            Family {
                name: "build",
                help: "The agent.",
                kind: Kind::Info,
                samples: vec![Sample::new([("version", "0.1.0")], Value::Count(1))],
            },
            Family {
                name: "up",
                help: "Whether it answers.",
                kind: Kind::Gauge,
                samples: vec![Sample::new([], Value::Count(1))],
            },
            Family {
                name: "packets",
                help: "Packets.",
                kind: Kind::Counter,
                samples: vec![
                    Sample::new([("iface", "eth0")], Value::Count(u64::MAX)),
                    Sample::new([("iface", "a\"b\\c\nd")], Value::Amount(0.5)),
                ],
            },
            Family { name: "none", help: "Unknown.", kind: Kind::Gauge, samples: Vec::new() },
        ]
    }

    #[test]
    fn openmetrics_is_as_its_standard_says() {
        let expected = "# HELP tcpguard_build The agent.\n\
                        # TYPE tcpguard_build info\n\
                        tcpguard_build_info{version=\"0.1.0\"} 1\n\
                        # HELP tcpguard_up Whether it answers.\n\
                        # TYPE tcpguard_up gauge\n\
                        tcpguard_up 1\n\
                        # HELP tcpguard_packets Packets.\n\
                        # TYPE tcpguard_packets counter\n\
                        tcpguard_packets_total{iface=\"eth0\"} 18446744073709551615\n\
                        tcpguard_packets_total{iface=\"a\\\"b\\\\c\\nd\"} 0.5\n\
                        # EOF\n";
        assert_eq!(text(families(), Format::OpenMetrics), expected);
    }

    #[test]
    fn the_older_form_names_a_counter_alike_in_description_and_sample() {
        let expected = "# HELP tcpguard_build_info The agent.\n\
                        # TYPE tcpguard_build_info gauge\n\
                        tcpguard_build_info{version=\"0.1.0\"} 1\n\
                        # HELP tcpguard_up Whether it answers.\n\
                        # TYPE tcpguard_up gauge\n\
                        tcpguard_up 1\n\
                        # HELP tcpguard_packets_total Packets.\n\
                        # TYPE tcpguard_packets_total counter\n\
                        tcpguard_packets_total{iface=\"eth0\"} 18446744073709551615\n\
                        tcpguard_packets_total{iface=\"a\\\"b\\\\c\\nd\"} 0.5\n";
        assert_eq!(text(families(), Format::Prometheus), expected);
    }

    #[test]
    fn a_scraper_that_asks_for_openmetrics_gets_it() {
        for (accept, expected) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0.4,text/plain;q=0.5", Format::Prometheus),
            ("application/openmetrics-text;q=nonsense", Format::Prometheus),
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,\
                 application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }
}
