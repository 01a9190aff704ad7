//! The numbers of the class list's lines, in words.

use super::checks::Checks;
use super::failing_clients::FailingClients;
use super::gate::{DISTINCT_MIN, FEW_NETWORKS, FEW_SOURCES, Gate, SINGLETON_SHARE};
use super::retransmissions::{RETRANSMIT_SHARE, Retransmissions};
use super::sources::Sources;
use super::verdict::{INDICATORS_ATTACK, SINGLE_SOURCE_SHARE};
use crate::input::{percent, short};

/// The findings from which the lines take their numbers.
pub(super) struct Numbers<'a> {
    pub gate: &'a Gate,
    pub sources: &'a Sources,
    pub failing_clients: &'a FailingClients,
    /// The sources stand everywhere, and enough of all handshakes fail for that to mean something.
    pub everywhere: bool,
}

impl Numbers<'_> {
    pub fn signs(&self) -> String {
        let needed = INDICATORS_ATTACK;
        let signs = match self.gate.names().as_slice() {
            [] => format!("none holds, {needed} make an attack"),
            names => {
                let hold = if names.len() == 1 { "holds" } else { "hold" };
                format!("{} {hold} ({}), {needed} make an attack", names.len(), names.join(", "))
            }
        };
        if self.gate.failing_clients {
            return format!("{signs}; {}", self.failing_clients.in_words());
        }
        if self.gate.missing {
            return format!("{signs}; as many completed handshakes are missing as fail");
        }
        if let Some(rate) = self.gate.health_checks {
            return format!(
                "{signs}; they reset what they are answered, {}/s in all and no source more than {}/s, \
                 as clients, health checks and scanners do",
                short(rate),
                Checks::RATE
            );
        }
        match self.gate.may_be_clients() {
            true => format!(
                "{signs}; clients have come from most of these networks before, {}",
                self.retransmitted()
            ),
            false => signs,
        }
    }

    pub fn path(&self) -> String {
        let retransmitted = self.retransmitted();
        match self.gate.spoofed {
            true => "a tool's fingerprint, or TTLs of no real host, speak against it".to_owned(),
            false => format!("no tool's fingerprint, and no TTL of no real host; {retransmitted}"),
        }
    }

    pub fn top_source(&self) -> String {
        let needed = percent(SINGLE_SOURCE_SHARE);
        match self.sources.top.first() {
            None => format!("no failing SYN is known, {needed} from one would be needed"),
            Some(top) => {
                let (share, beyond) = (percent(top.share), percent(self.sources.top_excess()));
                let beyond = match beyond == share {
                    true => String::new(),
                    false => format!(" ({beyond} without those that fail anyway)"),
                };
                format!(
                    "{} sends {share} of the failing SYNs{beyond}, {needed} are needed",
                    top.addr
                )
            }
        }
    }

    pub fn few_sources(&self) -> String {
        let Self { sources, .. } = self;
        let where_from = format!(
            "90% of the failing SYNs come from {} sources in {} networks, and {:.1} from each; few \
             are {} networks, or {} sources with 2 SYNs each",
            sources.k90,
            sources.k90_networks,
            sources.per_source(),
            FEW_NETWORKS,
            FEW_SOURCES,
        );
        match self.gate.few_sources {
            true => format!("{where_from}; {}", self.retransmitted()),
            false if sources.flows < DISTINCT_MIN => {
                format!("{where_from}; {}", self.too_few("flows", sources.flows))
            }
            false => where_from,
        }
    }

    pub fn spoofed(&self, scattered: bool) -> String {
        let Self { gate, sources, .. } = self;
        if sources.distinct < DISTINCT_MIN {
            return self.too_few("sources", sources.distinct);
        }
        let once = format!(
            "{} of a draw come from sources seen once, {} are needed",
            percent(sources.singletons),
            percent(SINGLETON_SHARE)
        );
        let spread = format!(
            "they stand in {} /8 networks{}, and {} of all handshakes fail",
            sources.slash8,
            if sources.everywhere { ", as drawn ones would" } else { "" },
            percent(gate.failing_share)
        );
        let marks = self.marks();
        if scattered {
            return match self.everywhere && marks.is_empty() {
                true => format!("{once}; {spread}"),
                false => format!("{once}, with {}", marks.join(", ")),
            };
        }
        if sources.come_round() {
            return format!("{once}, but {}; {}", sources.again_in_words(), self.pool());
        }
        if gate.singletons {
            return format!(
                "{once}, but no other sign of forging: no tool's fingerprint, TTL or silence; {spread}"
            );
        }
        format!("{once}; {}", self.pool())
    }

    fn pool(&self) -> String {
        let marks = self.marks();
        format!(
            "a pool of forged ones that comes round would have one fingerprint and one TTL, and nobody \
             who tries again: {}; {}",
            if marks.is_empty() { "neither holds".to_owned() } else { marks.join(", ") },
            self.retransmitted()
        )
    }

    pub fn together(&self) -> String {
        let Self { sources, .. } = self;
        if sources.distinct < DISTINCT_MIN {
            return self.too_few("sources", sources.distinct);
        }
        let marks = self.marks();
        format!(
            "{} sources among {} flows, {}; {}",
            short(sources.distinct as f64),
            short(sources.flows as f64),
            if marks.is_empty() {
                "with nothing in common".to_owned()
            } else {
                format!("with {} in common", marks.join(", "))
            },
            self.retransmitted()
        )
    }

    /// The marks of one tool or machine.
    fn marks(&self) -> Vec<&'static str> {
        let gate = self.gate;
        let marks = [
            (gate.fingerprint, "a tool's fingerprint"),
            (gate.ttl, "one machine's TTL"),
            (gate.novel == Some(true), "networks new here"),
            (gate.silent, "silence"),
            (gate.surge, "a surge"),
        ];
        marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect()
    }

    fn retransmitted(&self) -> String {
        let limit = percent(RETRANSMIT_SHARE);
        let Retransmissions { share, deserted, .. } = &self.gate.retransmissions;
        let Some(share) = share.map(percent) else {
            return "whether the SYNs are repeated is not known yet".to_owned();
        };
        if let Some(rate) = deserted {
            return format!(
                "{share} of the SYNs are repeated, but with {}/s nobody goes on as a client would, which is \
                 more than clients could begin",
                short(*rate)
            );
        }
        match self.gate.no_retransmission {
            Some(true) => {
                format!("{share} of the SYNs are repeated, clients repeat more than {limit}")
            }
            _ if self.gate.surge => {
                format!("{share} of the SYNs are repeated, but more fail than clients could begin")
            }
            _ => format!(
                "but {share} of the SYNs are repeated, as clients repeat theirs ({limit} at most)"
            ),
        }
    }

    fn too_few(&self, what: &str, number: usize) -> String {
        format!("only {number} {what} are known, {} are needed", DISTINCT_MIN)
    }
}
