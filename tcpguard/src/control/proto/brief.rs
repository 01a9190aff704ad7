//! A request as an operator would type it, for one line of a log.

use std::fmt::Write as _;

use ipnet::IpNet;
use tcpguard_engine::{Force, Order, RuleId, Which, Whose};
use tcpguard_host::units::span;

use super::{Change, Request};
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
            Self::Change { change, .. } => change_in_brief(change),
            Self::SetMode { mode, for_s, rollback_after_s } => {
                let mut line = format!("mode {}", mode.name());
                let times = [("--for", for_s), ("--rollback-after", rollback_after_s)];
                for (option, time) in times {
                    if let Some(time) = time {
                        // Writing to a String never fails.
                        let _ = write!(line, " {option} {time}s");
                    }
                }
                line
            }
            Self::Confirm { net } => confirm(*net),
            Self::CapturedSyns { .. } => "capture".to_owned(),
            Self::Reload => "reload".to_owned(),
            Self::Detach { interfaces } if interfaces.is_empty() => "detach --all".to_owned(),
            Self::Detach { interfaces } => format!("detach -i {}", interfaces.join(" -i ")),
            question => format!("{question:?}"),
        }
    }
}

fn change_in_brief(change: &Change) -> String {
    match change {
        Change::Block { net, ports, lifetime, reason, force, .. } => {
            format!(
                "block {net}{ports} for {}{}, reason {reason:?}",
                span(*lifetime),
                forced(*force)
            )
        }
        Change::Allow { net, lifetime, reason, force } => {
            let force = if *force { " --force" } else { "" };
            format!("allow {net} for {}{force}, reason {reason:?}", span(*lifetime))
        }
        Change::Disallow { net } => format!("disallow {net}"),
        Change::Unblock { which, whose } => {
            let which = match which {
                Which::Numbered(RuleId(rule)) => format!("--rule {rule}"),
                Which::Within(net) => net.to_string(),
                Which::All => "--all".to_owned(),
            };
            let origin = match whose {
                Whose::Incidents => "auto",
                Whose::Operators => "manual",
                Whose::Fleet => "fleet",
                Whose::All => "all",
            };
            format!("unblock {which} --origin {origin}")
        }
        Change::ImportRules { rules, merge, force } => {
            let replace = if *merge { "" } else { " --replace" };
            format!("rules import of {} rules{replace}{}", rules.len(), forced(*force))
        }
        Change::OrderMitigation { listener, mitigation, order, lifetime } => {
            let (place, mitigation) = (place(listener.addr, listener.port), mitigation.name());
            let order = match order {
                Order::On => "on",
                Order::Off => "off",
                Order::Auto => "auto",
            };
            format!("mitigation {place} {mitigation} {order} for {}", span(*lifetime))
        }
        Change::ConfirmRules { net } => confirm(*net),
        Change::SetMode { mode } => format!("mode {}", mode.name()),
    }
}

fn confirm(net: Option<IpNet>) -> String {
    net.map_or_else(|| "confirm".to_owned(), |net| format!("confirm {net}"))
}

fn forced(force: Force) -> String {
    match force {
        Force::No => String::new(),
        Force::ForGood => " --force --rollback-after never".to_owned(),
        Force::PendingConfirmation { within, .. } => {
            format!(" --force --rollback-after {}s", within.as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tcpguard_engine::{ClientsWithin, Mode, Ports};

    use super::*;

    #[test]
    fn a_change_reads_as_it_is_typed() {
        let net: IpNet = "192.0.2.0/24".parse().unwrap();
        let block = Change::Block {
            net,
            ports: Ports::new(&[443]).unwrap(),
            lifetime: Duration::from_secs(3600),
            reason: "a \"scan\"".to_owned(),
            force: Force::ForGood,
            clients: ClientsWithin::default(),
        };
        let unblock = Change::Unblock { which: Which::All, whose: Whose::Operators };
        for (request, expected) in [
            (
                Request::Change { change: block, dry_run: true },
                "block 192.0.2.0/24 to port 443 for 1h --force --rollback-after never, reason \"a \\\"scan\\\"\" \
                 --dry-run",
            ),
            (unblock.into(), "unblock --all --origin manual"),
            (
                Request::SetMode { mode: Mode::Enforce, for_s: None, rollback_after_s: None },
                "mode enforce",
            ),
            (
                Request::SetMode { mode: Mode::Observe, for_s: Some(600), rollback_after_s: None },
                "mode observe --for 600s",
            ),
            (Request::Detach { interfaces: Vec::new() }, "detach --all"),
        ] {
            assert_eq!(request.in_brief(), expected);
        }
    }
}
