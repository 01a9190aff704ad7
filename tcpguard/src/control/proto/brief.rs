//! A request as an operator would type it, for one line of a log.

use std::fmt::Write as _;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::Order;
use tcpguard_host::units::span;

use super::{PendingConfirmation, Request};
use crate::config::mode_name;
use crate::documents::place;

impl Request {
    /// The request on one line of a log.
    pub fn in_brief(&self) -> String {
        let mut line = self.verb();
        if self.is_dry_run() {
            line.push_str(" --dry-run");
        }
        line
    }

    fn verb(&self) -> String {
        match self {
            Self::Block {
                prefix,
                ports,
                for_s,
                reason,
                force,
                pending_confirmation,
                dry_run: _,
            } => {
                let (force, time) = (forced(*force, *pending_confirmation), seconds(*for_s));
                format!("block {prefix}{ports} for {time}{force}, reason {reason:?}")
            }
            Self::Allow { prefix, for_s, reason, force } => {
                let force = if *force { " --force" } else { "" };
                format!("allow {prefix} for {}{force}, reason {reason:?}", seconds(*for_s))
            }
            Self::Disallow { prefix } => format!("disallow {prefix}"),
            Self::Unblock { prefix, rule, origin, dry_run: _ } => {
                let which = match (rule, prefix) {
                    (Some(rule), _) => format!("--rule {rule}"),
                    (None, prefix) => within(*prefix, "--all"),
                };
                let origin = origin.map_or("all", |origin| origin.name());
                format!("unblock {which} --origin {origin}")
            }
            Self::ImportRules { rules, merge, force, pending_confirmation, dry_run: _ } => {
                let replace = if *merge { "" } else { " --replace" };
                let force = forced(*force, *pending_confirmation);
                format!("rules import of {} rules{replace}{force}", rules.len())
            }
            Self::OrderMitigation { listener, mitigation, order, for_s } => {
                let (place, mitigation) = (place(listener.addr, listener.port), mitigation.name());
                let order = match order {
                    Order::On => "on",
                    Order::Off => "off",
                    Order::Auto => "auto",
                };
                format!("mitigation {place} {mitigation} {order} for {}", seconds(*for_s))
            }
            Self::SetMode { mode, for_s, confirm_s } => {
                let mut line = format!("mode {}", mode_name((*mode).into()));
                for (option, time) in [("--for", for_s), ("--confirm", confirm_s)] {
                    if let Some(time) = time {
                        // Writing to a String never fails.
                        let _ = write!(line, " {option} {time}s");
                    }
                }
                line
            }
            Self::ConfirmMode { mode } => format!("mode {} --yes", mode_name((*mode).into())),
            Self::ConfirmRules { prefix } => format!("rules confirm {}", within(*prefix, "(all)")),
            Self::Reload => "reload".to_owned(),
            Self::Detach { interfaces } if interfaces.is_empty() => "detach --all".to_owned(),
            Self::Detach { interfaces } => format!("detach {}", interfaces.join(" ")),
            question => format!("{question:?}"),
        }
    }
}

fn within(prefix: Option<IpNet>, all: &str) -> String {
    prefix.map_or_else(|| all.to_owned(), |prefix| prefix.to_string())
}

fn seconds(time: u64) -> String {
    span(Duration::from_secs(time))
}

fn forced(force: bool, pending_confirmation: Option<PendingConfirmation>) -> String {
    match (force, pending_confirmation) {
        (false, _) => String::new(),
        (true, None) => " --force --no-rollback".to_owned(),
        (true, Some(PendingConfirmation { within_s, .. })) => {
            format!(" --force --confirm {within_s}s")
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::Ports;

    use super::super::RuleOrigin;
    use super::*;
    use crate::documents::Mode;

    #[test]
    fn a_change_reads_as_it_is_typed() {
        let prefix: IpNet = "192.0.2.0/24".parse().unwrap();
        for (request, expected) in [
            (
                Request::Block {
                    prefix,
                    ports: Ports::new(&[443]).unwrap(),
                    for_s: 3600,
                    reason: "a \"scan\"".to_owned(),
                    force: true,
                    pending_confirmation: None,
                    dry_run: true,
                },
                "block 192.0.2.0/24 to port 443 for 1h 00m --force --no-rollback, reason \"a \\\"scan\\\"\" \
                 --dry-run",
            ),
            (
                Request::Unblock {
                    prefix: None,
                    rule: None,
                    origin: Some(RuleOrigin::Manual),
                    dry_run: false,
                },
                "unblock --all --origin manual",
            ),
            (
                Request::SetMode { mode: Mode::Enforce, for_s: None, confirm_s: None },
                "mode enforce",
            ),
            (
                Request::SetMode { mode: Mode::Observe, for_s: Some(600), confirm_s: None },
                "mode observe --for 600s",
            ),
            (Request::Detach { interfaces: Vec::new() }, "detach --all"),
        ] {
            assert_eq!(request.in_brief(), expected);
        }
    }
}
