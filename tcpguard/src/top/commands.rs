//! The commands that keys give. Each is proposed with its exact text, and runs once it is confirmed.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{
    ClientsWithin, Force, Limits, Listener as Place, MitigationReason, MitigationState, Mode,
    Order, Ports, Which, Whose,
};
use tcpguard_host::units::span;

use crate::control::Request;
use crate::control::proto::Change;
use crate::documents::{Advised, Listener, Rule, Status};

/// Seconds after which the mode reverts, as [`Advised::TRY_ENFORCE`] has it.
const REVERTS_S: u64 = 60;
/// Time for which a mitigation is released, as on the command line.
const RELEASED: Duration = Duration::from_secs(600);

/// A command that waits for the user's confirmation.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The command as it is typed in a shell.
    pub command: String,
    /// Consequences of the command.
    pub effect: String,
    pub request: Request,
}

/// Enforces, with a rollback; in the mode `enforce`, observes.
pub fn mode(status: &Status) -> Proposal {
    let now = status.daemon.mode;
    match now {
        Mode::Enforce => Proposal {
            command: "sudo tcpguard mode observe".to_owned(),
            effect: "Rules only count from then on. Nothing is dropped.".to_owned(),
            request: Request::SetMode { mode: Mode::Observe, for_s: None, rollback_after_s: None },
        },
        Mode::Observe | Mode::Off => Proposal {
            command: format!("sudo {}", Advised::TRY_ENFORCE),
            effect: format!(
                "Rules drop from then on. The mode reverts to {} after {REVERTS_S}s, unless you \
                 confirm it with the key c or: tcpguard confirm",
                now.name()
            ),
            request: Request::SetMode {
                mode: Mode::Enforce,
                for_s: None,
                rollback_after_s: Some(REVERTS_S),
            },
        },
    }
}

/// Keeps the mode and the rules that are pending confirmation; `None` where there are none.
pub fn confirm(status: &Status) -> Option<Proposal> {
    let reverts = status.daemon.mode_reverts.as_ref();
    let mode = reverts.is_some_and(|end| end.confirm_by.is_some());
    let rules = status.rules.list.iter().any(|rule: &Rule| rule.confirmed_until.is_some());
    let mode_stays = mode.then(|| format!("The mode stays {}.", status.daemon.mode.name()));
    let rules_stay = rules.then(|| "The rules that are pending confirmation stay.".to_owned());
    let effect: Vec<String> = mode_stays.into_iter().chain(rules_stay).collect();
    (mode || rules).then(|| Proposal {
        command: "sudo tcpguard confirm".to_owned(),
        effect: effect.join(" "),
        request: Request::Confirm { net: None },
    })
}

/// Blocks a prefix. The effect is not known before the agent has been asked for it.
pub fn block(net: IpNet) -> Proposal {
    let change = Change::Block {
        net,
        ports: Ports::EVERY,
        lifetime: Limits::MANUAL_RULE,
        reason: "blocked by hand".to_owned(),
        force: Force::No,
        clients: ClientsWithin::default(),
    };
    Proposal {
        command: format!("sudo tcpguard block {net}"),
        effect: String::new(),
        request: change.into(),
    }
}

/// Removes a rule.
pub fn remove(rule: &Rule) -> Proposal {
    let again = rule.incident.map_or_else(String::new, |id| {
        let after = span(Limits::REMOVED);
        format!(" It is made again after {after} while incident #{id} goes on.")
    });
    let which = Which::Numbered(rule.id);
    Proposal {
        command: format!("sudo tcpguard unblock --rule {}", rule.id),
        effect: format!("The rule on {} is removed.{again}", rule.subject()),
        request: Change::Unblock { which, whose: Whose::All }.into(),
    }
}

/// Releases the strongest active mitigation of a listener for some minutes, or else an operator's order; `None`
/// where there are none.
pub fn release(listener: &Listener) -> Option<Proposal> {
    let all = || listener.mitigations.iter().rev();
    let is_ordered = |why: &MitigationReason| matches!(why, MitigationReason::Ordered { .. });
    let active = all().find(|it| it.state == MitigationState::Active && !is_ordered(&it.why));
    let ordered = all().find(|it| is_ordered(&it.why));
    let (mitigation, order) = match (active, ordered) {
        (Some(active), _) => (active.mitigation, Order::Off),
        (None, Some(ordered)) => (ordered.mitigation, Order::Auto),
        (None, None) => return None,
    };
    let at = SocketAddr::new(listener.addr, listener.port);
    let (name, lasts) = (mitigation.name(), span(RELEASED));
    let (order_name, effect) = match order {
        Order::Auto => ("auto".to_owned(), "The agent decides again.".to_owned()),
        _ => (format!("off --for {lasts}"), format!("The agent decides again after {lasts}.")),
    };
    let place = Place { addr: listener.addr, port: listener.port };
    let change = Change::OrderMitigation { listener: place, mitigation, order, lifetime: RELEASED };
    Some(Proposal {
        command: format!("sudo tcpguard mitigation {at} {name} {order_name}"),
        effect,
        request: change.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advised_command_has_the_terms_of_the_request() {
        assert!(Advised::TRY_ENFORCE.ends_with(&format!(" {REVERTS_S}s")));
    }
}
