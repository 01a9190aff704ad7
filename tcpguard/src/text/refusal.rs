//! Refused requests, in words: the situation, and the way out.

use ipnet::IpNet;
use tcpguard_engine::{RequestError, RuleId, Which, Whose};

use super::reason::clients_within;

/// The situation for which a request is refused, and the way out.
pub fn request_error(error: &RequestError) -> String {
    match error {
        RequestError::Protected { net, covers, what } if covers.contains(net) => {
            let is = if covers == net {
                "is".to_owned()
            } else {
                format!("lies within {covers}, which is")
            };
            format!("{net} {is} protected ({what}); add --force if you are sure")
        }
        RequestError::Protected { net, covers, what } => format!(
            "{net} covers {covers}, which is protected ({what}); block a smaller prefix, or add \
             --force if you are sure"
        ),
        RequestError::Clients { net, clients } => {
            let smaller = match net.prefix_len() == net.max_prefix_len() {
                true => "",
                false => "block a smaller prefix, or ",
            };
            let clients = clients_within(*clients);
            format!(
                "{net} holds {clients}, which the rule would cut off; {smaller}add --force: it is rolled \
                 back after 1 min unless you confirm it"
            )
        }
        RequestError::TooWide { net } => format!(
            "{net} is wider than a rule may be; name smaller prefixes, or add --force if you are sure"
        ),
        RequestError::Import { refused } => {
            format!(
                "{} of the rules cannot be imported, so none was; try it without a change: tcpguard \
                 rules import FILE --dry-run",
                refused.len()
            )
        }
        RequestError::Twice { net, .. } => {
            format!("{net} is there twice; leave one, or see what is there: tcpguard rules list")
        }
        RequestError::NoListener { listener } => format!(
            "no monitored listener at {listener}; see which there are: tcpguard status --listeners"
        ),
        RequestError::DoneByRules { mitigation } => format!(
            "{} is done by rules, which can only be forbidden here; to drop a source: tcpguard block \
             PREFIX",
            mitigation.name()
        ),
        RequestError::NotFound { which, whose, wider, automatic } => {
            no_rule(*which, *whose, *wider, *automatic)
        }
        RequestError::NotPending { net } => {
            let within = net.map_or_else(String::new, |net| format!(" within {net}"));
            format!(
                "no rule{within} waits to be confirmed, and what nobody confirmed in time has gone back; \
                 see what exists: tcpguard rules list"
            )
        }
        RequestError::NotAllowed { net } => {
            format!("nothing within {net} is on the allowlist; see what is: tcpguard rules list")
        }
        RequestError::AllowlistFull { limit } => format!(
            "all {limit} places of the allowlist are taken; make room: tcpguard disallow PREFIX, or allow \
             wider prefixes"
        ),
        RequestError::Full { limit } => format!(
            "there is room for {limit} rules, of which one for certain ports counts once for each; take some \
             back: tcpguard unblock PREFIX, or raise policy.rules, then: systemctl restart tcpguard"
        ),
    }
}

/// Returns the message that no such rule exists, with the rule that may have been meant.
fn no_rule(which: Which, whose: Whose, wider: Option<(RuleId, IpNet)>, automatic: u32) -> String {
    let of_origin = match whose {
        Whose::Operators => " of origin manual",
        Whose::Incidents => " of origin auto",
        Whose::All => "",
    };
    let all = "see what exists: tcpguard rules list";
    let none = match which {
        Which::Numbered(id) => return format!("there is no rule {}{of_origin}; {all}", id.0),
        Which::Within(net) => format!("no rule{of_origin} lies within {net}"),
        Which::All => format!("there is no rule{of_origin}"),
    };
    match (wider, automatic) {
        (Some((id, rule)), _) => format!(
            "{none}, but all of it lies within rule {} on {rule}; remove that: tcpguard unblock --rule {}",
            id.0, id.0
        ),
        (None, 0) => format!("{none}; {all}"),
        (None, _) => {
            let s = if automatic == 1 { "" } else { "s" };
            format!(
                "{none}; {automatic} rule{s} against attacks stay: to remove those too, add --origin auto"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::ClientsWithin;

    use super::*;

    #[test]
    fn a_protected_prefix_differs_from_one_that_covers_it() {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let said = |asked: &str, covers: &str| {
            let what = "default gateway".to_owned();
            request_error(&RequestError::Protected { net: net(asked), covers: net(covers), what })
        };
        let gateway = "is protected (default gateway)";
        for (asked, covers, expected) in [
            ("192.0.2.1/32", "192.0.2.1/32", format!("192.0.2.1/32 {gateway}; add --force")),
            (
                "192.0.2.7/32",
                "192.0.2.0/24",
                format!("192.0.2.7/32 lies within 192.0.2.0/24, which {gateway}; add --force"),
            ),
            (
                "192.0.0.0/16",
                "192.0.2.0/24",
                format!(
                    "192.0.0.0/16 covers 192.0.2.0/24, which {gateway}; block a smaller prefix"
                ),
            ),
        ] {
            let said = said(asked, covers);
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[test]
    fn clients_that_a_rule_would_cut_off_are_counted() {
        let clients = ClientsWithin { known: 51, last_minute: 43 };
        let net = "10.62.0.0/16".parse().expect("a prefix");
        assert_eq!(
            request_error(&RequestError::Clients { net, clients }),
            "10.62.0.0/16 holds 51 validated clients (43 connected within the last minute), which the \
             rule would cut off; block a smaller prefix, or add --force: it is rolled back after 1 min \
             unless you confirm it"
        );
    }

    #[test]
    fn the_reply_about_an_address_within_a_rule_names_the_rule_and_its_removal() {
        let net = |text: &str| text.parse().expect("a prefix");
        let wider = Some((RuleId(3), net("192.0.2.0/24")));
        let within = Which::Within(net("192.0.2.7/32"));
        assert_eq!(
            no_rule(within, Whose::All, wider, 0),
            "no rule lies within 192.0.2.7/32, but all of it lies within rule 3 on 192.0.2.0/24; remove \
             that: tcpguard unblock --rule 3"
        );
        assert_eq!(
            no_rule(Which::All, Whose::Operators, None, 2),
            "there is no rule of origin manual; 2 rules against attacks stay: to remove those too, add \
             --origin auto"
        );
    }
}
