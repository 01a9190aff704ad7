//! `tcpguard rules`: lists, exports and removes rules.

use ipnet::IpNet;
use tcpguard_engine::{RuleOrigin, Whose};

use super::args::{ExportArgs, FlushArgs, ListArgs, Origin, RulesVerb, UnblockArgs};
use super::error::CliError;
use super::session::Session;
use super::{import, unblock};
use crate::control::{Request, Response};
use crate::documents::{Allowed, ExportedRule, ExportedRules, Rule, RuleList};
use crate::text;

impl Origin {
    /// Returns the origin of the rules that are requested.
    pub(super) const fn asked(self) -> Whose {
        match self {
            Self::Auto => Whose::Incidents,
            Self::Manual => Whose::Operators,
            Self::Fleet => Whose::Fleet,
            Self::All => Whose::All,
        }
    }
}

pub(super) fn run(verb: Option<RulesVerb>, session: &mut Session<'_>) -> anyhow::Result<()> {
    match verb {
        None => list(&ListArgs::default(), session),
        Some(RulesVerb::List(args)) => list(&args, session),
        Some(RulesVerb::Export(args)) => export(&args, session),
        Some(RulesVerb::Import(args)) => import::run(&args, session),
        Some(RulesVerb::Flush(args)) => flush(&args, session),
    }
}

fn list(args: &ListArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if args.raw && session.json {
        let message = "--raw and --json cannot be used together";
        return Err(
            CliError::usage(message, "leave one of them out: tcpguard rules list --help").into()
        );
    }
    let RuleList { mut rules, mut allowed } =
        session.ask(Request::Rules, Response::try_as_rules)?;
    let any = !rules.is_empty();
    rules.retain(|rule| args.lists(rule));
    allowed.retain(|allowed| args.lists_allowed(allowed));
    if session.json {
        return session.print_document(&RuleList { rules, allowed });
    }
    match (rules.as_slice(), any) {
        ([], false) => session.say("no rules; to make one: tcpguard block PREFIX"),
        ([], true) if args.raw => {
            session.say("no such prefix is blocked on every port; all rules: tcpguard rules list")
        }
        ([], true) => session.say("no such rule; all rules: tcpguard rules list"),
        (_, _) if args.raw => {
            let lines: String = rules.iter().map(|rule| format!("{}\n", rule.matches)).collect();
            return Ok(session.print(&lines)?);
        }
        (rules, _) => session.render(|out, view| text::rules(out, rules, view))?,
    }
    if !allowed.is_empty() && !args.raw {
        session.render(|out, view| text::allowlist(out, &allowed, view))?;
    }
    Ok(())
}

impl ListArgs {
    fn lists(&self, rule: &Rule) -> bool {
        let of_origin = match self.origin {
            None | Some(Origin::All) => true,
            Some(Origin::Manual) => rule.origin == RuleOrigin::Operator,
            Some(Origin::Fleet) => rule.is_of_fleet(),
            Some(Origin::Auto) => rule.incident.is_some(),
        };
        of_origin
            && match rule.prefix() {
                // A reader of prefixes alone would take it for a rule for every port.
                Some(_) if self.raw && !rule.ports.is_every() => false,
                Some(prefix) => self.fits(prefix),
                None => self.contains.is_none() && self.within.is_none() && !self.raw,
            }
    }

    /// Returns whether a prefix of the allowlist passes the options. An exemption is always made by an
    /// operator, of this host or of the fleet.
    fn lists_allowed(&self, allowed: &Allowed) -> bool {
        let of_origin = match self.origin {
            None | Some(Origin::All) => true,
            Some(Origin::Manual) => allowed.fleet.is_none(),
            Some(Origin::Fleet) => allowed.fleet.is_some(),
            Some(Origin::Auto) => false,
        };
        self.fits(allowed.prefix) && of_origin
    }

    fn fits(&self, prefix: IpNet) -> bool {
        self.contains.is_none_or(|addr| prefix.contains(&addr))
            && self.within.is_none_or(|net| net.contains(&prefix))
    }
}

/// Writes the rules in the form that [`super::import`] reads.
fn export(args: &ExportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let rules = session.client.ask(Request::Rules, Response::try_as_rules)?.rules;
    let wanted = rules.iter().filter(|rule| args.all || rule.origin == RuleOrigin::Operator);
    let rules: Vec<ExportedRule> =
        wanted.filter_map(|rule| ExportedRule::of(rule, text::rule_reason(&rule.reason))).collect();
    if session.json {
        return session.print_document(&ExportedRules { rules });
    }
    if rules.is_empty() {
        session.say("no rules; to make one: tcpguard block PREFIX");
    }
    session.print_lines(&rules)
}

/// Removes every rule that operators made, or those of another origin.
fn flush(args: &FlushArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let &FlushArgs { origin, dry_run } = args;
    let all =
        UnblockArgs { prefixes: Vec::new(), all: true, rule: None, origin: Some(origin), dry_run };
    unblock::run(&all, session)
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::{Mitigation, Ports, RuleId, RuleReason};

    use super::*;
    use tcpguard_host::time::Time;

    fn rule(matches: &str, incident: Option<u64>) -> Rule {
        let at = Time("2026-01-02T03:04:05Z".parse().unwrap());
        Rule {
            id: RuleId(0),
            kind: if matches.contains('/') { Mitigation::Source } else { Mitigation::Signature },
            matches: matches.to_owned(),
            ports: Ports::EVERY,
            origin: incident.map_or(RuleOrigin::Operator, |_| RuleOrigin::Incident),
            incident,
            reason: RuleReason::Imported,
            created_at: at,
            expires_at: at,
            expires_in_s: 0,
            confirmed_until: None,
            hits: 0,
            accepted_retransmits: 0,
            completed: 0,
        }
    }

    #[test]
    fn rules_are_listed_by_address_network_and_origin() {
        let all = [
            rule("203.0.113.0/24", None),
            rule("203.0.113.7/32", Some(3)),
            rule("2001:db8::/48", None),
            rule("opts=none at :443", Some(3)),
        ];
        let none = ListArgs::default;
        let (ip, net) = (|text: &str| text.parse().ok(), |text: &str| text.parse().ok());
        for (args, expected) in [
            (none(), vec![0, 1, 2, 3]),
            (ListArgs { contains: ip("203.0.113.7"), ..none() }, vec![0, 1]),
            (ListArgs { contains: ip("203.0.113.8"), ..none() }, vec![0]),
            (ListArgs { contains: ip("2001:db8::9"), ..none() }, vec![2]),
            (ListArgs { within: net("203.0.113.0/25"), ..none() }, vec![1]),
            (ListArgs { within: net("203.0.113.0/24"), ..none() }, vec![0, 1]),
            (ListArgs { within: net("::/0"), ..none() }, vec![2]),
            (ListArgs { origin: Some(Origin::Auto), ..none() }, vec![1, 3]),
            (ListArgs { origin: Some(Origin::Manual), ..none() }, vec![0, 2]),
            (ListArgs { raw: true, ..none() }, vec![0, 1, 2]),
            (
                ListArgs { contains: ip("203.0.113.7"), origin: Some(Origin::Manual), ..none() },
                vec![0],
            ),
        ] {
            let listed = all.iter().enumerate().filter(|(_, rule)| args.lists(rule));
            assert_eq!(listed.map(|(place, _)| place).collect::<Vec<_>>(), expected, "{args:?}");
        }
    }

    #[test]
    fn what_is_dropped_to_certain_ports_only_is_no_prefix_that_is_dropped() {
        let ports = Ports::new(&[443]).unwrap();
        let rule = Rule { ports, ..rule("203.0.113.0/24", None) };
        assert!(ListArgs::default().lists(&rule));
        assert!(!ListArgs { raw: true, ..ListArgs::default() }.lists(&rule));
    }

    #[test]
    fn rules_of_the_fleet_are_an_origin_of_their_own() {
        let rule = Rule {
            origin: RuleOrigin::Fleet("fleet:ops/42".to_owned()),
            ..rule("203.0.113.0/24", None)
        };
        let listed = |origin| ListArgs { origin: Some(origin), ..ListArgs::default() }.lists(&rule);
        assert!(listed(Origin::Fleet) && listed(Origin::All));
        assert!(!listed(Origin::Manual) && !listed(Origin::Auto));
    }

    #[test]
    fn the_allowlist_is_an_operators() {
        let at = Time("2026-01-02T03:04:05Z".parse().unwrap());
        let allowed = Allowed {
            prefix: "203.0.113.0/24".parse().unwrap(),
            reason: String::new(),
            uid: 0,
            fleet: None,
            created_at: at,
            expires_at: at,
            expires_in_s: 0,
        };
        let origin = |origin| ListArgs { origin, ..ListArgs::default() };
        assert!(origin(None).lists_allowed(&allowed));
        assert!(origin(Some(Origin::Manual)).lists_allowed(&allowed));
        assert!(!origin(Some(Origin::Auto)).lists_allowed(&allowed));
        assert!(!origin(Some(Origin::Fleet)).lists_allowed(&allowed));
        let of_fleet = Allowed { fleet: Some("fleet:ops/7".to_owned()), ..allowed.clone() };
        assert!(origin(Some(Origin::Fleet)).lists_allowed(&of_fleet));
        assert!(!origin(Some(Origin::Manual)).lists_allowed(&of_fleet));
        let elsewhere = ListArgs { contains: "192.0.2.1".parse().ok(), ..ListArgs::default() };
        assert!(!elsewhere.lists_allowed(&allowed));
    }
}
