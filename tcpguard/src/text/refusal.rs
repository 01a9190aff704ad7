//! Messages of refused requests.

use ipnet::IpNet;
use tcpguard_engine::{FleetRefusal, RequestError, RuleId, Which, Whose};
use tcpguard_host::hint::Failure;

use super::reason::clients_within;

/// Options that override a safety check.
const FORCE: &str = "use a smaller prefix, or --force";

/// The reason for which a request is refused, and the command or option that helps.
pub fn request_error(error: &RequestError) -> Failure {
    let list = "tcpguard rules list";
    match error {
        RequestError::Protected { net, covers, what } => {
            if covers == net {
                Failure::new(format!("{net} is protected: {what}"), "use --force")
            } else if covers.contains(net) {
                let message = format!("{net} is protected: within {covers} ({what})");
                Failure::new(message, "use --force")
            } else {
                let message = format!("{net} contains {covers}, which is protected ({what})");
                Failure::new(message, FORCE)
            }
        }
        RequestError::Clients { net, clients } => {
            let single = net.prefix_len() == net.max_prefix_len();
            let hint = if single { "use --force" } else { FORCE };
            let clients = clients_within(*clients);
            Failure::new(format!("the rule on {net} would cut off {clients}"), hint)
        }
        RequestError::TooWide { net, shortest } => {
            Failure::new(format!("{net} is too wide (at most /{shortest})"), FORCE)
        }
        RequestError::Import { refused } => not_imported(refused.len()),
        RequestError::Twice { net, .. } => Failure::new(format!("duplicate rule for {net}"), list),
        RequestError::NoListener { listener } => Failure::new(
            format!("no monitored listener at {listener}"),
            "tcpguard status --listeners",
        ),
        RequestError::DoneByRules { mitigation } => Failure::new(
            format!("{} cannot be switched on by hand: rules do it", mitigation.name()),
            "tcpguard block PREFIX",
        ),
        RequestError::NotFound { which, whose, wider, automatic } => {
            no_rule(*which, *whose, *wider, *automatic)
        }
        RequestError::NotPending { net } => {
            let within = net.map_or_else(String::new, |net| format!(" within {net}"));
            Failure::new(format!("no rule{within} is pending confirmation"), list)
        }
        RequestError::NotAllowed { net } => {
            Failure::new(format!("no exemption within {net} on the allowlist"), list)
        }
        RequestError::AllowlistFull { limit } => Failure::new(
            format!("allowlist full ({limit} entries)"),
            "tcpguard disallow PREFIX, or allow wider prefixes",
        ),
        RequestError::Full { limit } => Failure::new(
            format!("rule limit reached ({limit}; a rule takes one entry per port)"),
            "tcpguard unblock PREFIX, or raise policy.rules, then: systemctl restart tcpguard",
        ),
    }
}

/// The reason for which a message of the fleet is refused.
pub fn fleet_refusal(why: &FleetRefusal) -> String {
    match why {
        FleetRefusal::Malformed => "malformed".to_owned(),
        FleetRefusal::HintsFull => "hints that matter more take all slots".to_owned(),
        FleetRefusal::RulesFull { limit } => {
            format!("this host accepts at most {limit} entries of the fleet")
        }
        FleetRefusal::TooFast => "rules of the fleet change too fast".to_owned(),
        FleetRefusal::Overruled => "an operator of this host decided otherwise".to_owned(),
        FleetRefusal::Outranked { by } => format!("{by} is about the same sources"),
        FleetRefusal::Harmful(why) => request_error(why).message,
    }
}

/// The error for an import with `count` rules that cannot be imported.
pub fn not_imported(count: usize) -> Failure {
    let rules = if count == 1 { "rule" } else { "rules" };
    Failure::new(
        format!("import refused: {count} {rules} cannot be imported"),
        "tcpguard rules import FILE --dry-run",
    )
}

/// Returns the message that no such rule exists, with the rule that may have been meant.
fn no_rule(which: Which, whose: Whose, wider: Option<(RuleId, IpNet)>, automatic: u32) -> Failure {
    let of_origin = match whose {
        Whose::Operators => " of origin manual",
        Whose::Incidents => " of origin auto",
        Whose::Fleet => " of origin fleet",
        Whose::All => "",
    };
    let none = match which {
        Which::Numbered(id) => format!("no rule {}{of_origin}", id.0),
        Which::Within(net) => format!("no rule{of_origin} within {net}"),
        Which::All => format!("no rule{of_origin}"),
    };
    match (wider, automatic) {
        (Some((id, rule)), _) => Failure::new(
            format!("{none}, which lies within rule {} on {rule}", id.0),
            format!("tcpguard unblock --rule {}", id.0),
        ),
        (None, 0) => Failure::new(none, "tcpguard rules list"),
        (None, _) => {
            let s = if automatic == 1 { "" } else { "s" };
            Failure::new(
                format!("{none}, only {automatic} rule{s} against attacks"),
                "to remove those too, use --origin auto",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::ClientsWithin;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn a_protected_prefix_differs_from_one_that_covers_it() {
        for (asked, covers, message, hint) in [
            ("192.0.2.1/32", "192.0.2.1/32", "192.0.2.1/32 is protected: gateway", "use --force"),
            (
                "192.0.2.7/32",
                "192.0.2.0/24",
                "192.0.2.7/32 is protected: within 192.0.2.0/24 (gateway)",
                "use --force",
            ),
            (
                "192.0.0.0/16",
                "192.0.2.0/24",
                "192.0.0.0/16 contains 192.0.2.0/24, which is protected (gateway)",
                FORCE,
            ),
        ] {
            let what = "gateway".to_owned();
            let error = RequestError::Protected { net: net(asked), covers: net(covers), what };
            assert_eq!(request_error(&error), Failure::new(message, hint));
        }
    }

    #[test]
    fn clients_that_a_rule_would_cut_off_are_counted() {
        let clients = ClientsWithin { validated: 51, last_minute: 43 };
        let error = RequestError::Clients { net: net("10.62.0.0/16"), clients };
        assert_eq!(
            request_error(&error),
            Failure::new(
                "the rule on 10.62.0.0/16 would cut off 51 validated clients (43 connected within the \
                 last minute)",
                FORCE
            )
        );
    }

    #[test]
    fn the_reply_about_an_address_within_a_rule_names_the_rule_and_its_removal() {
        let wider = Some((RuleId(3), net("192.0.2.0/24")));
        let within = Which::Within(net("192.0.2.7/32"));
        assert_eq!(
            no_rule(within, Whose::All, wider, 0),
            Failure::new(
                "no rule within 192.0.2.7/32, which lies within rule 3 on 192.0.2.0/24",
                "tcpguard unblock --rule 3"
            )
        );
        assert_eq!(
            no_rule(Which::All, Whose::Operators, None, 2),
            Failure::new(
                "no rule of origin manual, only 2 rules against attacks",
                "to remove those too, use --origin auto"
            )
        );
    }
}
