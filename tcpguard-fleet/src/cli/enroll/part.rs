//! Parts of hosts in a fleet, and the permissions of each on the bus.

use serde_json::{Value, json};

use crate::cli::args::Part;

/// Largest message that a host may publish, in bytes: twice the largest document.
const PAYLOAD: u32 = 4096;

impl Part {
    /// Every part. Each may do all that the one before it may, but for the last: it does not control routers.
    pub const ALL: [Self; 4] = [Self::Edge, Self::Collector, Self::Controller, Self::Operator];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Collector => "collector",
            Self::Controller => "controller",
            Self::Operator => "operator",
        }
    }

    /// Permissions, in the terms of NATS: the server puts the name of the host in the place of `{{name()}}`.
    pub fn template(self) -> Value {
        let mut publish = vec![
            "tg.1.sig.*.{{name()}}",
            "tg.1.inc.{{name()}}",
            "tg.1.host.{{name()}}",
            "tg.1.relief.{{name()}}",
            "$JS.API.DIRECT.GET.KV_rule",
        ];
        let mut subscribe =
            vec!["tg.1.sig.>", "tg.1.rule.>", "tg.1.announced.>", "_INBOX.{{name()}}.>"];
        if self != Self::Edge {
            subscribe.extend(["tg.1.inc.*", "tg.1.host.*", "tg.1.relief.*"]);
        }
        match self {
            Self::Edge | Self::Collector => {}
            Self::Controller => publish.push("tg.1.announced.{{name()}}"),
            Self::Operator => publish.extend(["$KV.rule.>", "$JS.API.STREAM.CREATE.KV_rule"]),
        }
        json!({
            "pub": { "allow": publish },
            "sub": { "allow": subscribe },
            // The ports of a host, at most 12, and a few of every host.
            "subs": if self == Self::Edge { 16 } else { 32 },
            "data": -1,
            "payload": PAYLOAD,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::WAITING;
    use crate::bus::tests::matches;
    use crate::collect::Collector;
    use crate::document::{HostId, Subject};

    /// Returns whether a part may do so under this name.
    fn may(part: Part, what: &str, subject: &str) -> bool {
        let template = part.template();
        let allowed = template[what]["allow"].as_array().expect("a list").clone();
        let allowed = allowed.iter().filter_map(|pattern| pattern.as_str());
        allowed
            .into_iter()
            .any(|pattern| matches(&pattern.replace("{{name()}}", "a1b2c3d4"), subject))
    }

    #[test]
    fn a_host_speaks_for_itself_only() {
        let (own, other): (HostId, HostId) =
            ("a1b2c3d4".parse().expect("a host"), "0f0f0f0f".parse().expect("a host"));
        for part in Part::ALL {
            for (of, is_own) in [(&own, true), (&other, false)] {
                let of = || of.clone();
                let signature = Subject::Signature { port: 443, host: of() };
                for subject in
                    [signature, Subject::Incident(of()), Subject::Host(of()), Subject::Relief(of())]
                {
                    assert_eq!(
                        may(part, "pub", &subject.to_string()),
                        is_own,
                        "{part:?} {subject}"
                    );
                }
                let announced = Subject::Announced(of()).to_string();
                let is_controller = part == Part::Controller;
                assert_eq!(may(part, "pub", &announced), is_own && is_controller, "{part:?}");
            }
            assert!(!may(part, "pub", "tg.1.rule.ops.0123456789abcdef"), "the server's alone");
            assert!(!may(part, "pub", "$JS.API.STREAM.DELETE.KV_rule"));
            assert!(!may(part, "sub", "_INBOX.0f0f0f0f.x"));
            assert_eq!(may(part, "pub", "$KV.rule.ops.0123456789abcdef"), part == Part::Operator);
        }
    }

    /// A host has 64 MiB for all of its memory.
    #[test]
    fn messages_that_wait_at_a_host_take_a_quarter_of_its_memory() {
        let subscriptions = Part::Edge.template()["subs"].as_u64().expect("a number");
        assert!(subscriptions * WAITING as u64 * u64::from(PAYLOAD) <= 16 << 20);
    }

    #[test]
    fn a_part_hears_all_that_it_needs() {
        for part in Part::ALL {
            for pattern in
                [Subject::ALL_RULES, Subject::ALL_SIGNATURES, "tg.1.sig.443.*", "_INBOX.a1b2c3d4.x"]
            {
                assert!(may(part, "sub", pattern), "{part:?} {pattern}");
            }
            assert!(may(part, "sub", Subject::ALL_ANNOUNCED));
            for pattern in Collector::SUBSCRIPTIONS {
                let is_heard = part != Part::Edge || pattern == Subject::ALL_ANNOUNCED;
                assert_eq!(may(part, "sub", pattern), is_heard, "{part:?} {pattern}");
            }
        }
    }
}
