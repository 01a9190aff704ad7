//! Explanation of the decisions about the SYNs of an address.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_common::fastpath::VALIDATED_RATE;
use tcpguard_engine::{ClientsWithin, Mitigation as Name, MitigationReason, Mode, RuleReason};
use tcpguard_host::time::Time;

use super::{Allowed, Mitigation, Rule, Source};

/// The facts that decide about the SYNs of an address or prefix.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Explanation {
    /// Prefix that the explanation is about; an address is a prefix of full length.
    #[schemars(with = "String")]
    pub prefix: IpNet,
    /// Local port of the SYNs; `null`: any port.
    pub port: Option<u16>,
    /// Address and port of each listener that is monitored on this port and that the prefix can reach; empty
    /// where the explanation is about any port.
    pub listeners: Vec<String>,
    /// Those of these listeners on which no socket listens: the kernel refuses SYNs there.
    #[serde(default)]
    pub closed: Vec<String>,
    /// Mode of the agent, on which the effect of a matching rule depends.
    pub mode: Mode,
    /// Rules on sources that have an address in common with the prefix.
    pub rules: Vec<Rule>,
    /// Numbers of those of these rules that drop SYNs of exempt sources, too: an operator forced them, or the source is
    /// exempt by the allowlist alone.
    pub forced: Vec<u32>,
    /// Rules on signatures, which match SYNs of any source.
    pub signatures: Vec<Rule>,
    /// Entries of the allowlist that have an address in common with the prefix.
    pub allowed: Vec<Allowed>,
    /// Reason for which no automatic rule may match the prefix; `null`: such a rule may.
    pub exempt: Option<String>,
    /// The same where it is the reason of a part of the prefix alone.
    #[serde(default)]
    pub exempt_part: Option<String>,
    /// Time of the last handshake that a single address completed, in IPv6 its /64; `null`: none is known, or the prefix
    /// has more addresses.
    pub completed_at: Option<Time>,
    /// Packets from and to a single address, in IPv6 its /64, by type; `null`: none are known, or the prefix has more
    /// addresses.
    pub source: Option<Source>,
    /// Validated clients within the prefix.
    pub clients: ClientsWithin,
    /// Active mitigations of listeners, other than rules, which decide about SYNs of any source.
    pub mitigations: Vec<ListenerMitigation>,
    /// Limit of the cookies for the network of a single address; `null`: none are sent, or the prefix has more
    /// addresses.
    pub replies: Option<Replies>,
}

/// Limit of the replies to a network.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Replies {
    /// The network: an IPv4 /24 or an IPv6 /48.
    pub network: String,
    /// Replies that are left on the CPU that has the fewest.
    pub left: u32,
    /// Replies that a CPU may send at once.
    pub most: u32,
}

/// An active mitigation of a listener.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ListenerMitigation {
    /// Address and port of the listener.
    pub listener: String,
    /// The mitigation.
    pub mitigation: Mitigation,
}

/// Output of `tcpguard explain PREFIX --json`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Judged {
    /// Facts that the decisions follow from.
    #[serde(flatten)]
    pub about: Explanation,
    /// Decisions, in the order in which the kernel makes them.
    pub decisions: Vec<Decision>,
}

/// One decision about SYNs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Decision {
    /// Origin of the decision.
    pub by: DecidedBy,
    /// Number of the rule that decides; `null` where no rule does.
    pub rule: Option<u32>,
    /// Address and port of the listener, for a mitigation; `null` for other decisions.
    pub listener: Option<String>,
    /// Outcome for the SYNs.
    pub outcome: Outcome,
    /// Reason for the decision.
    pub why: Why,
    /// Time since which the decision holds; `null` where that is not known.
    pub since: Option<Time>,
    /// Time until which the decision holds; `null` where that is open.
    pub until: Option<Time>,
    /// True if the decision holds while it is needed: beyond `until`, or without an end known in advance where
    /// that is `null`.
    pub renewed: bool,
    /// Time until which the rule holds if an operator confirms it; `null`: it is not pending confirmation.
    pub confirmed_until: Option<Time>,
    /// True if no later decision applies to these SYNs.
    pub last: bool,
}

/// Origin of a decision.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// Mode `off`.
    Off,
    /// A rule on sources.
    Source,
    /// An exemption.
    Exempt,
    /// The validation of a client.
    Client,
    /// A rule on a signature.
    Signature,
    /// The mitigation `cookies`.
    Cookies,
    /// The mitigation `budget`.
    Budget,
}

/// Outcome of a decision for the SYNs. A rule drops in mode `enforce` only.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The SYNs pass.
    Pass,
    /// A rule drops them.
    Drop,
    /// A rule drops those with its signature, unless they are retransmitted as a client's are.
    DropSignature,
    /// No source rule drops them.
    NoSourceRule,
    /// The SYNs pass automatic rules up to a rate, besides those with a handshake that completes.
    PassUpTo {
        /// SYNs of the source per second.
        per_second: u64,
    },
    /// The SYNs are answered with SYN cookies.
    Cookies,
    /// The SYNs pass up to the SYN rate limit of the listener.
    RateLimit,
    /// The SYNs do not count for the SYN rate limit.
    Unlimited,
}

/// Reason for a decision.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Why {
    /// The agent is in mode `off`.
    Off,
    /// The reason of a rule.
    Rule {
        /// The reason.
        reason: RuleReason,
    },
    /// The source is exempt.
    Exempt {
        /// The exemption, as protected prefixes and the allowlist describe it.
        what: String,
    },
    /// The source completed a handshake.
    Completed,
    /// The reason of a mitigation.
    Mitigation {
        /// The reason.
        reason: MitigationReason,
    },
}

impl Decision {
    const fn new(by: DecidedBy, outcome: Outcome, why: Why) -> Self {
        Self {
            by,
            rule: None,
            listener: None,
            outcome,
            why,
            since: None,
            until: None,
            renewed: false,
            confirmed_until: None,
            last: false,
        }
    }

    fn by_rule(by: DecidedBy, outcome: Outcome, rule: &Rule) -> Self {
        Self {
            rule: Some(rule.id.0),
            since: Some(rule.created_at),
            until: Some(rule.expires_at),
            renewed: rule.incident.is_some(),
            confirmed_until: rule.confirmed_until,
            ..Self::new(by, outcome, Why::Rule { reason: rule.reason.clone() })
        }
    }

    fn finally(self) -> Self {
        Self { last: true, ..self }
    }
}

impl Explanation {
    /// Returns the whole document: the facts and the decisions.
    pub fn judged(self) -> Judged {
        Judged { decisions: self.decisions(), about: self }
    }

    /// Returns the decisions about the SYNs, in the order in which the kernel makes them: rules on sources (those
    /// for the port before those for every port, and of several the most specific), exemptions from rules,
    /// signatures, and the mitigations of the listener that receives the SYNs.
    pub fn decisions(&self) -> Vec<Decision> {
        if self.mode == Mode::Off {
            return vec![Decision::new(DecidedBy::Off, Outcome::Pass, Why::Off).finally()];
        }
        let mut decisions = Vec::new();
        let (whole, parts) = self.by_source();
        let by_source = |rule| Decision::by_rule(DecidedBy::Source, Outcome::Drop, rule);
        decisions.extend(parts.map(by_source));
        let exempt_from = |rule: Option<&Rule>| match rule {
            Some(rule) if self.forced.contains(&rule.id.0) => None,
            Some(rule) if rule.incident.is_none() => self.exempted(),
            _ => self.exempted().or_else(|| self.validated_client()),
        };
        let exemption = exempt_from(whole);
        match (whole, &exemption) {
            (Some(rule), None) => {
                let last = self.mode == Mode::Enforce;
                decisions.push(Decision { last, ..by_source(rule) });
            }
            (_, Some(exemption)) => {
                decisions.push(exemption.clone());
                if exemption.by == DecidedBy::Exempt && self.is_client() {
                    decisions.push(Decision { outcome: VALIDATED, ..exemption.clone() });
                }
            }
            (None, None) => {}
        }
        let is_client = |exemption: &Decision| exemption.by == DecidedBy::Client;
        if decisions.last().is_none_or(|decision| !decision.last)
            && !exemption.as_ref().is_some_and(is_client)
            && (whole.is_none() || exemption.is_some())
        {
            let by_signature =
                |rule| Decision::by_rule(DecidedBy::Signature, Outcome::DropSignature, rule);
            decisions.extend(self.signatures.iter().map(by_signature));
        }
        if decisions.last().is_none_or(|decision| !decision.last) {
            decisions.extend(self.climb(exemption.map(|exemption| exemption.by)));
        }
        decisions
    }

    /// Returns the rule that decides about all SYNs of the prefix, and those that decide about parts of them.
    fn by_source(&self) -> (Option<&Rule>, impl Iterator<Item = &Rule>) {
        let about = self.prefix;
        let covers = move |rule: &&Rule| {
            // If the explanation is about any port, a rule for certain ports decides about a part of the SYNs.
            (self.port.is_some() || rule.ports.is_every())
                && rule.prefix().is_some_and(|rule| rule.contains(&about))
        };
        let asked = |rule: &&Rule| {
            let length = rule.prefix().map_or(0, |net| net.prefix_len());
            (!rule.ports.is_every(), length)
        };
        let whole = self.rules.iter().filter(covers).max_by_key(asked);
        (whole, self.rules.iter().filter(move |rule| !covers(rule)))
    }

    fn exempted(&self) -> Option<Decision> {
        let why = self.exempt.as_ref()?;
        let allowed = self.allowed.iter().find(|allowed| why.contains(&allowed.prefix.to_string()));
        Some(Decision {
            since: allowed.map(|allowed| allowed.created_at),
            until: allowed.map(|allowed| allowed.expires_at),
            ..Decision::new(
                DecidedBy::Exempt,
                Outcome::NoSourceRule,
                Why::Exempt { what: why.clone() },
            )
        })
    }

    /// Returns whether the exemption is that of clients, whose first SYNs pass signature rules and limits.
    fn is_client(&self) -> bool {
        self.allowed.iter().any(|allowed| allowed.prefix.contains(&self.prefix))
    }

    fn validated_client(&self) -> Option<Decision> {
        let since = self.completed_at?;
        let decision = Decision::new(DecidedBy::Client, VALIDATED, Why::Completed);
        Some(Decision { since: Some(since), ..decision })
    }

    /// Returns the decisions of the mitigations of each listener about SYNs that pass the rules, in the kernel's
    /// order.
    fn climb(&self, exemption: Option<DecidedBy>) -> impl Iterator<Item = Decision> {
        let order = [(Name::Cookies, DecidedBy::Cookies), (Name::Budget, DecidedBy::Budget)];
        order.into_iter().flat_map(move |(name, by)| {
            let taken =
                self.mitigations.iter().filter(move |taken| taken.mitigation.mitigation == name);
            taken.map(move |ListenerMitigation { listener, mitigation }| Decision {
                listener: Some(listener.clone()),
                since: mitigation.since,
                until: mitigation.until,
                renewed: mitigation.until.is_none(),
                ..Decision::new(
                    by,
                    of_mitigation(by, exemption),
                    Why::Mitigation { reason: mitigation.why.clone() },
                )
            })
        })
    }
}

/// Outcome for a validated or allowlisted client at an automatic rule.
const VALIDATED: Outcome =
    Outcome::PassUpTo { per_second: 1_000_000_000 / VALIDATED_RATE.interval_ns as u64 };

/// Outcome of a mitigation for a source that `exemption` exempts from rules.
const fn of_mitigation(mitigation: DecidedBy, exemption: Option<DecidedBy>) -> Outcome {
    match (mitigation, exemption) {
        (DecidedBy::Budget, Some(DecidedBy::Client)) => Outcome::Unlimited,
        (DecidedBy::Budget, _) => Outcome::RateLimit,
        _ => Outcome::Cookies,
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::{MitigationState, Ports, RuleId, RuleOrigin};

    use super::*;

    fn time(text: &str) -> Time {
        Time(format!("2026-01-02T{text}Z").parse().unwrap())
    }

    fn rule(id: u32, matches: &str, incident: Option<u64>) -> Rule {
        Rule {
            id: RuleId(id),
            kind: if matches.contains('/') { Name::Source } else { Name::Signature },
            matches: matches.to_owned(),
            ports: Ports::EVERY,
            origin: RuleOrigin::Operator,
            incident,
            reason: RuleReason::Given { text: "why not".to_owned() },
            created_at: time("03:04:05"),
            expires_at: time("04:04:05"),
            expires_in_s: 0,
            confirmed_until: None,
            hits: 0,
            accepted_retransmits: 0,
            completed: 0,
        }
    }

    fn mitigation(name: Name, until: Option<Time>) -> ListenerMitigation {
        let mitigation = Mitigation {
            mitigation: name,
            family: None,
            address: None,
            state: MitigationState::Active,
            since: Some(time("03:04:06")),
            until,
            why: MitigationReason::QueueFull,
        };
        ListenerMitigation { listener: "[::]:443".to_owned(), mitigation }
    }

    fn nothing() -> Explanation {
        Explanation {
            prefix: "203.0.113.7/32".parse().unwrap(),
            port: None,
            listeners: Vec::new(),
            closed: Vec::new(),
            mode: Mode::Enforce,
            rules: Vec::new(),
            forced: Vec::new(),
            signatures: Vec::new(),
            allowed: Vec::new(),
            exempt: None,
            exempt_part: None,
            completed_at: None,
            source: None,
            clients: ClientsWithin::default(),
            mitigations: Vec::new(),
            replies: None,
        }
    }

    /// Returns the origins of the decisions, in order.
    fn by(about: &Explanation) -> Vec<String> {
        let name = |decision: Decision| {
            let by = serde_json::to_value(decision.by).unwrap();
            let by = by.as_str().unwrap().to_owned();
            decision.rule.map_or_else(|| by.clone(), |rule| format!("{by} {rule}"))
        };
        about.decisions().into_iter().map(name).collect()
    }

    #[test]
    fn the_first_match_decides_and_mitigations_come_after_rules() {
        let mut about = nothing();
        let mut expect = |change: &dyn Fn(&mut Explanation), decide: &[&str], first: &[Outcome]| {
            change(&mut about);
            assert_eq!(by(&about), decide);
            let outcomes: Vec<Outcome> =
                about.decisions().iter().map(|decision| decision.outcome).collect();
            assert!(outcomes.starts_with(first), "{first:?}: {outcomes:?}");
        };
        let all = vec![mitigation(Name::Budget, None), mitigation(Name::Cookies, None)];
        let unknown = [Outcome::Cookies, Outcome::RateLimit];
        let exempt = [Outcome::NoSourceRule, Outcome::DropSignature, Outcome::Cookies];
        let validated = Outcome::PassUpTo { per_second: 20 };
        expect(&|_| (), &[], &[]);
        expect(&|about| about.mitigations = all.clone(), &["cookies", "budget"], &unknown);
        expect(
            &|about| about.signatures.push(rule(1, "opts=none", Some(7))),
            &["signature 1", "cookies", "budget"],
            &[Outcome::DropSignature, Outcome::Cookies],
        );
        expect(
            &|about| about.rules.push(rule(2, "203.0.113.0/24", Some(7))),
            &["source 2"],
            &[Outcome::Drop],
        );
        expect(
            &|about| about.completed_at = Some(time("03:00:00")),
            &["client", "cookies", "budget"],
            &[validated, Outcome::Cookies, Outcome::Unlimited],
        );
        expect(
            &|about| about.exempt = Some("default gateway (203.0.113.7/32)".to_owned()),
            &["exempt", "signature 1", "cookies", "budget"],
            &exempt,
        );
        expect(
            &|about| about.rules.push(rule(3, "203.0.113.7/32", None)),
            &["exempt", "signature 1", "cookies", "budget"],
            &exempt,
        );
        let entry = Allowed {
            prefix: "203.0.113.0/24".parse().unwrap(),
            reason: "partner".to_owned(),
            uid: 0,
            fleet: None,
            created_at: time("03:04:05"),
            expires_at: time("04:04:05"),
            expires_in_s: 0,
        };
        expect(
            &|about| about.allowed.push(entry.clone()),
            &["exempt", "exempt", "signature 1", "cookies", "budget"],
            &[Outcome::NoSourceRule, validated, Outcome::DropSignature],
        );
        expect(&|about| about.forced.push(3), &["source 3"], &[Outcome::Drop]);
        expect(
            &|about| (about.mode, about.mitigations) = (Mode::Observe, Vec::new()),
            &["source 3"],
            &[Outcome::Drop],
        );
        expect(&|about| about.mode = Mode::Off, &["off"], &[Outcome::Pass]);
    }

    #[test]
    fn of_several_rules_the_most_specific_decides_and_those_within_a_prefix_about_parts_of_it() {
        let mut about = nothing();
        about.rules = vec![
            rule(1, "203.0.113.0/24", None),
            rule(2, "203.0.113.7/32", Some(7)),
            rule(3, "203.0.0.0/16", None),
        ];
        assert_eq!(by(&about), ["source 2"]);
        about.completed_at = Some(time("03:00:00"));
        assert_eq!(by(&about), ["client"], "the wider rule by an operator is not asked");
        about.prefix = "203.0.113.0/25".parse().unwrap();
        about.completed_at = None;
        assert_eq!(by(&about), ["source 2", "source 1"]);
    }

    #[test]
    fn a_rule_for_the_port_is_asked_before_a_narrower_one_for_every_port() {
        let mut about = nothing();
        let web = Ports::new(&[443]).unwrap();
        about.rules = vec![
            Rule { ports: web, ..rule(1, "203.0.113.0/24", None) },
            rule(2, "203.0.113.7/32", Some(7)),
        ];
        assert_eq!(by(&about), ["source 1", "source 2"], "of any port the first takes a part");
        about.port = Some(443);
        about.completed_at = Some(time("03:00:00"));
        assert_eq!(by(&about), ["source 1"], "an operator's word spares no client");
    }

    #[test]
    fn an_exemption_by_an_operator_has_a_beginning_and_an_end() {
        let mut about = nothing();
        about.exempt = Some("allowlisted: our monitoring (203.0.113.0/24)".to_owned());
        about.allowed = vec![Allowed {
            prefix: "203.0.113.0/24".parse().unwrap(),
            reason: "our monitoring".to_owned(),
            uid: 0,
            fleet: None,
            created_at: time("01:00:00"),
            expires_at: time("23:00:00"),
            expires_in_s: 0,
        }];
        let decision = about.decisions().remove(0);
        assert_eq!(
            (decision.since, decision.until),
            (Some(time("01:00:00")), Some(time("23:00:00")))
        );
    }

    #[test]
    fn the_document_holds_what_is_known_and_what_follows_from_it() {
        let mut about = nothing();
        about.mitigations = vec![mitigation(Name::Cookies, None)];
        let json = serde_json::to_value(about.judged()).unwrap();
        assert_eq!(json["decisions"][0]["by"], "cookies");
        assert_eq!(json["decisions"][0]["outcome"]["kind"], "cookies");
        assert_eq!(json["prefix"], "203.0.113.7/32");
    }
}
