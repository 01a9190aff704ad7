//! Explanation of the decisions about the SYNs of an address.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{ClientsWithin, Mitigation as Name, MitigationReason, Mode, RuleReason};
use tcpguard_host::time::Time;

use super::{Allowed, Mitigation, Rule, Source};

/// The value of [`Judged::schema`].
pub const EXPLANATION_SCHEMA: &str = "tcpguard.explanation/1";

/// The facts that decide about the SYNs of an address or prefix.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Explanation {
    /// Prefix that the explanation is about; an address is a prefix of full length.
    pub prefix: String,
    /// Local port of the SYNs; `null`: any port.
    pub port: Option<u16>,
    /// Address and port of each listener that is monitored on this port and that the prefix can reach; empty
    /// where the explanation is about any port.
    pub listeners: Vec<String>,
    /// Mode of the agent, on which the effect of a matching rule depends.
    pub mode: Mode,
    /// Rules on sources that have an address in common with the prefix.
    pub rules: Vec<Rule>,
    /// Numbers of those of these rules that an operator forced: they drop SYNs of exempt sources, too.
    pub forced: Vec<u32>,
    /// Rules on signatures, which match SYNs of any source.
    pub signatures: Vec<Rule>,
    /// Entries of the allowlist that have an address in common with the prefix.
    pub allowed: Vec<Allowed>,
    /// Reason for which no automatic rule may match the prefix; `null`: such a rule may.
    pub exempt: Option<String>,
    /// Time of the last handshake that a single address completed; `null`: none is known, or the prefix has
    /// more addresses.
    pub completed_at: Option<Time>,
    /// Packets from and to a single address, by type; `null`: none are known, or the prefix has more addresses.
    pub source: Option<Source>,
    /// Validated clients within the prefix.
    pub clients: ClientsWithin,
    /// Active mitigations of listeners, other than rules, which decide about SYNs of any source.
    pub mitigations: Vec<ListenerMitigation>,
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
    /// Name and version of this document: `tcpguard.explanation/1`.
    pub schema: String,
    /// Facts that the decisions follow from.
    #[serde(flatten)]
    pub about: Explanation,
    /// Outcome for the SYNs of the prefix, in a sentence.
    pub verdict: String,
    /// Decisions, in the order in which the kernel makes them.
    pub decisions: Vec<Decision>,
}

/// One decision about SYNs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Decision {
    /// Origin of the decision: `off`, `source`, `exempt`, `client`, `signature`, `overload`, `cookies` or
    /// `budget`.
    pub by: String,
    /// Number of the rule that decides; `null` where no rule does.
    pub rule: Option<u32>,
    /// Address and port of the listener, for a mitigation; `null` for other decisions.
    pub listener: Option<String>,
    /// Outcome for the SYNs.
    pub then: String,
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

/// Reason for a decision.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Why {
    /// The agent is in mode `off`.
    Off,
    /// The reason of a rule.
    Rule {
        /// That reason.
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
        /// That reason.
        reason: MitigationReason,
    },
}

impl Decision {
    fn new(by: &str, then: String, why: Why) -> Self {
        Self {
            by: by.to_owned(),
            rule: None,
            listener: None,
            then,
            why,
            since: None,
            until: None,
            renewed: false,
            confirmed_until: None,
            last: false,
        }
    }

    fn by_rule(by: &str, rule: &Rule, then: String) -> Self {
        Self {
            rule: Some(rule.id),
            since: Some(rule.created_at),
            until: Some(rule.expires_at),
            renewed: rule.incident.is_some(),
            confirmed_until: rule.confirmed_until,
            ..Self::new(by, then, Why::Rule { reason: rule.reason.clone() })
        }
    }

    fn finally(self) -> Self {
        Self { last: true, ..self }
    }
}

impl Explanation {
    /// Returns the whole document: the facts, the decisions and the verdict.
    pub fn judged(self) -> Judged {
        let schema = EXPLANATION_SCHEMA.to_owned();
        Judged { schema, verdict: self.verdict(), decisions: self.decisions(), about: self }
    }

    /// Returns the decisions about the SYNs, in the order in which the kernel makes them: rules on sources (those
    /// for the port before those for every port, and of several the most specific), exemptions from rules,
    /// signatures, and the mitigations of the listener that receives the SYNs.
    pub fn decisions(&self) -> Vec<Decision> {
        if self.mode == Mode::Off {
            let off = Decision::new("off", "its SYNs pass".to_owned(), Why::Off);
            return vec![off.finally()];
        }
        let mut decisions = Vec::new();
        let (whole, parts) = self.by_source();
        decisions.extend(parts.map(|rule| {
            let then = format!("{} on {} {}", named(rule), rule.subject(), self.drops());
            Decision::by_rule("source", rule, then)
        }));
        let exempt_from = |rule: Option<&Rule>| match rule {
            Some(rule) if self.forced.contains(&rule.id) => None,
            Some(rule) if rule.incident.is_none() => self.exempted(),
            _ => self.exempted().or_else(|| self.validated_client()),
        };
        let exemption = exempt_from(whole);
        match (whole, &exemption) {
            (Some(rule), None) => {
                let then = format!("{} on {} {}", named(rule), rule.subject(), self.drops());
                let decided = Decision::by_rule("source", rule, then);
                decisions.push(if self.mode == Mode::Enforce {
                    decided.finally()
                } else {
                    decided
                });
            }
            (_, Some(exemption)) => decisions.push(exemption.clone()),
            (None, None) => decisions.extend(self.signatures.iter().map(|rule| {
                let then = format!(
                    "rule {} {} that look like {}, unless they come again as a real client's do",
                    rule.id,
                    self.drops(),
                    rule.matches
                );
                Decision::by_rule("signature", rule, then)
            })),
        }
        if decisions.last().is_none_or(|decision| !decision.last) {
            decisions.extend(self.climb(exemption.as_ref().map(|exemption| exemption.by.as_str())));
        }
        decisions
    }

    /// Returns the rule that decides about all SYNs of the prefix, and those that decide about parts of them.
    fn by_source(&self) -> (Option<&Rule>, impl Iterator<Item = &Rule>) {
        let net = |text: &str| text.parse::<IpNet>().ok();
        let about = net(&self.prefix);
        let covers = move |rule: &&Rule| {
            // If the explanation is about any port, a rule for certain ports decides about a part of the SYNs.
            (self.port.is_some() || rule.ports.is_every())
                && about.zip(net(&rule.matches)).is_some_and(|(about, rule)| rule.contains(&about))
        };
        let asked = |rule: &&Rule| {
            let length = net(&rule.matches).map_or(0, |net| net.prefix_len());
            (!rule.ports.is_every(), length)
        };
        let whole = self.rules.iter().filter(covers).max_by_key(asked);
        (whole, self.rules.iter().filter(move |rule| !covers(rule)))
    }

    fn exempted(&self) -> Option<Decision> {
        let why = self.exempt.as_ref()?;
        let allowed = self.allowed.iter().find(|allowed| why.contains(&allowed.prefix));
        Some(Decision {
            since: allowed.map(|allowed| allowed.created_at),
            until: allowed.map(|allowed| allowed.expires_at),
            ..Decision::new(
                "exempt",
                "no rule drops its SYNs".to_owned(),
                Why::Exempt { what: why.clone() },
            )
        })
    }

    fn validated_client(&self) -> Option<Decision> {
        let since = self.completed_at?;
        let then = "rules of the guard's own spare up to 20 SYN/s of it".to_owned();
        Some(Decision { since: Some(since), ..Decision::new("client", then, Why::Completed) })
    }

    /// Returns the decisions of the mitigations of each listener about SYNs that pass the rules, in the kernel's
    /// order.
    fn climb(&self, exemption: Option<&str>) -> impl Iterator<Item = Decision> {
        let order = [Name::Overload, Name::Cookies, Name::Budget];
        order.into_iter().flat_map(move |name| {
            let taken =
                self.mitigations.iter().filter(move |taken| taken.mitigation.mitigation == name);
            taken.map(move |ListenerMitigation { listener, mitigation }| Decision {
                listener: Some(listener.clone()),
                since: mitigation.since,
                until: mitigation.until,
                renewed: mitigation.until.is_none(),
                ..Decision::new(
                    name.name(),
                    to_listener(name, listener, exemption),
                    Why::Mitigation { reason: mitigation.why.clone() },
                )
            })
        })
    }

    /// Returns the subject of the explanation: `203.0.113.7/32`, or `203.0.113.7/32 to port 443`.
    pub fn subject(&self) -> String {
        match self.port {
            Some(port) => format!("{} to port {port}", self.prefix),
            None => self.prefix.clone(),
        }
    }

    fn drops(&self) -> &'static str {
        if self.mode == Mode::Enforce {
            "drops its SYNs"
        } else {
            "would drop its SYNs in enforce mode"
        }
    }

    /// Returns the outcome for the SYNs, in one sentence.
    pub fn verdict(&self) -> String {
        let decisions = self.decisions();
        let mitigations = decisions.iter().filter(|decision| decision.listener.is_some()).count();
        let beside = match mitigations {
            0 => String::new(),
            1 => "; one listener does something about SYNs from anybody".to_owned(),
            many => format!("; {many} steps are taken about SYNs from anybody"),
        };
        let signatures = decisions.iter().filter(|decision| decision.by == "signature").count();
        match decisions.first() {
            None => "no rule and no step concerns it: its SYNs pass".to_owned(),
            Some(first) if first.by == "signature" => format!(
                "no rule names it; {} match{} SYNs by their looks, whoever sends them{beside}",
                if signatures == 1 { "one".to_owned() } else { signatures.to_string() },
                if signatures == 1 { "es" } else { "" },
            ),
            Some(first) if first.listener.is_some() => format!("no rule concerns it{beside}"),
            Some(first) => format!("{}{beside}", first.then),
        }
    }
}

fn named(rule: &Rule) -> String {
    match rule.incident {
        Some(incident) => format!("rule {}, of attack #{incident},", rule.id),
        None => format!("rule {}, by an operator,", rule.id),
    }
}

/// Returns the effect of a mitigation on SYNs of a source that is exempt from rules for the reason `exemption`, or not
/// exempt.
fn to_listener(mitigation: Name, listener: &str, exemption: Option<&str>) -> String {
    match (mitigation, exemption) {
        (Name::Overload, Some("client")) => {
            format!(
                "{listener} lets its SYNs through, as those of a known client, up to 20 a second"
            )
        }
        (Name::Overload, Some(_)) => {
            format!("{listener} lets its SYNs through, up to 2,000 a second and CPU of all such")
        }
        (Name::Overload, None) => {
            format!("{listener} drops first SYNs, and lets those through that come again")
        }
        (Name::Budget, Some(_)) => format!("{listener} counts its SYNs in no budget"),
        (Name::Budget, None) => format!("{listener} lets SYNs through up to a rate"),
        _ => format!("{listener} answers SYNs with cookies: who answers these gets in"),
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::{MitigationState, Ports};

    use super::*;

    fn time(text: &str) -> Time {
        Time(format!("2026-01-02T{text}Z").parse().unwrap())
    }

    fn rule(id: u32, matches: &str, incident: Option<u64>) -> Rule {
        Rule {
            id,
            kind: String::new(),
            matches: matches.to_owned(),
            ports: Ports::EVERY,
            origin: String::new(),
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
            state: MitigationState::Active,
            since: Some(time("03:04:06")),
            until,
            why: MitigationReason::QueueFull,
        };
        ListenerMitigation { listener: "[::]:443".to_owned(), mitigation }
    }

    fn nothing() -> Explanation {
        Explanation {
            prefix: "203.0.113.7/32".to_owned(),
            port: None,
            listeners: Vec::new(),
            mode: Mode::Enforce,
            rules: Vec::new(),
            forced: Vec::new(),
            signatures: Vec::new(),
            allowed: Vec::new(),
            exempt: None,
            completed_at: None,
            source: None,
            clients: ClientsWithin::default(),
            mitigations: Vec::new(),
        }
    }

    /// Returns the origins of the decisions, in order.
    fn by(about: &Explanation) -> Vec<String> {
        let name = |decision: Decision| match decision.rule {
            Some(rule) => format!("{} {rule}", decision.by),
            None => decision.by,
        };
        about.decisions().into_iter().map(name).collect()
    }

    #[test]
    fn the_first_match_decides_and_mitigations_come_after_rules() {
        let mut about = nothing();
        let mut expect = |change: &dyn Fn(&mut Explanation), decide: &[&str], words: &str| {
            change(&mut about);
            assert_eq!(by(&about), decide);
            let verdict = about.verdict();
            assert!(verdict.contains(words), "{words}: {verdict}");
        };
        expect(&|_| (), &[], "no rule and no step concerns it");
        let all = [
            mitigation(Name::Budget, None),
            mitigation(Name::Cookies, None),
            mitigation(Name::Overload, None),
        ];
        let all = all.to_vec();
        expect(
            &|about| about.mitigations = all.clone(),
            &["overload", "cookies", "budget"],
            "3 steps are taken about SYNs from anybody",
        );
        expect(
            &|about| about.signatures.push(rule(1, "opts=none", Some(7))),
            &["signature 1", "overload", "cookies", "budget"],
            "no rule names it; one matches SYNs by their looks",
        );
        expect(
            &|about| about.rules.push(rule(2, "203.0.113.0/24", Some(7))),
            &["source 2"],
            "rule 2, of attack #7, on 203.0.113.0/24 drops its SYNs: why not; since \
             2026-01-02T03:04:05.000Z, until 2026-01-02T04:04:05.000Z, longer while it hits",
        );
        expect(
            &|about| about.completed_at = Some(time("03:00:00")),
            &["client", "overload", "cookies", "budget"],
            "it completed a handshake; since 2026-01-02T03:00:00.000Z; 3 steps",
        );
        expect(
            &|about| about.exempt = Some("default gateway (203.0.113.7/32)".to_owned()),
            &["exempt", "overload", "cookies", "budget"],
            "no rule drops its SYNs: default gateway",
        );
        expect(
            &|about| about.rules.push(rule(3, "203.0.113.7/32", None)),
            &["exempt", "overload", "cookies", "budget"],
            "default gateway",
        );
        expect(
            &|about| about.forced.push(3),
            &["source 3"],
            "rule 3, by an operator, on 203.0.113.7/32 drops its SYNs",
        );
        expect(
            &|about| (about.mode, about.mitigations) = (Mode::Observe, Vec::new()),
            &["source 3"],
            "would drop its SYNs in enforce mode: why not; since 2026-01-02T03:04:05.000Z, until \
             2026-01-02T04:04:05.000Z",
        );
        expect(&|about| about.mode = Mode::Off, &["off"], "its SYNs pass: the guard is off");
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
        about.prefix = "203.0.113.0/25".to_owned();
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
        assert!(about.verdict().contains("on 203.0.113.0/24 to port 443 drops"), "{about:?}");
        about.port = Some(443);
        about.completed_at = Some(time("03:00:00"));
        assert_eq!(by(&about), ["source 1"], "an operator's word spares no client");
    }

    #[test]
    fn an_exemption_by_an_operator_has_a_beginning_and_an_end() {
        let mut about = nothing();
        about.exempt = Some("allowlisted: our monitoring (203.0.113.0/24)".to_owned());
        about.allowed = vec![Allowed {
            prefix: "203.0.113.0/24".to_owned(),
            reason: "our monitoring".to_owned(),
            uid: 0,
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
        assert_eq!(json["schema"], EXPLANATION_SCHEMA);
        assert_eq!(json["decisions"][0]["by"], "cookies");
        assert_eq!(
            json["verdict"],
            "no rule concerns it; one listener does something about SYNs from anybody"
        );
        assert_eq!(json["prefix"], "203.0.113.7/32");
    }
}
