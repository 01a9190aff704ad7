//! Lines of the agent about itself: its events, its start and its end.
//!
//! The form and the length of an event's line are those of [`super::event`].

#[cfg(test)]
mod tests;

use std::time::Duration;

use tcpguard_engine::Mode;
use tcpguard_host::units::{counted, short, span};

use super::event::LINE;
use super::reason::{User, seconds};
use crate::documents::{AgentEvent, Drift, InterfaceChange, ModeRevert};

/// An event of the agent in one line.
#[allow(clippy::too_many_lines, reason = "a table: one line an event")]
pub fn agent_event_line(event: &AgentEvent) -> String {
    match event {
        AgentEvent::ModeChanged { uid, from, to, ends } => {
            let (by, to, ends) = (User(*uid), to.name(), reverts(*to, ends));
            match from.name() {
                from if from == to => format!("mode {to} set again by {by}: {ends}"),
                from => format!("mode changed from {from} to {to} by {by}: {ends}"),
            }
        }
        AgentEvent::ModeConfirmed { uid, mode, ends } => {
            let ends = ends.as_ref().map(|ends| format!(": {}", reverts(*mode, ends)));
            format!("mode {} confirmed by {}{}", mode.name(), User(*uid), ends.unwrap_or_default())
        }
        AgentEvent::ModeReverted { from, to, unconfirmed } => {
            let (from, to) = (from.name(), to.name());
            match unconfirmed {
                true => format!(
                    "mode reverted to {to}: {from} was not confirmed in time. Retry: tcpguard mode \
                     {from} --rollback-after 60s"
                ),
                false => format!(
                    "mode reverted to {to}: the time of {from} is over. Set it for good: tcpguard \
                     mode {from}"
                ),
            }
        }
        AgentEvent::ConfigReloaded { applied, waiting } => {
            let waits = keys_that_wait(waiting, 1).map(|(text, hint)| format!(". {text}: {hint}"));
            let restart = waits.unwrap_or_default();
            match applied.as_slice() {
                [] => format!("configuration reloaded: nothing changed{restart}"),
                keys => listed("configuration reloaded: applied", keys, keys.len(), &restart),
            }
        }
        AgentEvent::ConfigRefused { error, valid_from } => {
            let holds = valid_from.map_or_else(
                || "The previous one stays".to_owned(),
                |read_at| format!("The last valid one, of {read_at}, is"),
            );
            format!("configuration refused: {error}. {holds} in effect. See: tcpguard config check")
        }
        AgentEvent::InterfaceChanged { interface, change } => interface_change(interface, change),
        AgentEvent::AttachFailed { interface, error } => {
            format!("{interface} not protected: {error}")
        }
        AgentEvent::GenericFallback { interface, error } => format!(
            "{interface} in generic XDP mode, which handles fewer packets/s: native mode failed: \
             {error}. See: tcpguard doctor {interface}"
        ),
        AgentEvent::FilterDetached { uid, interfaces } => listed(
            &format!("XDP program detached by {} from", User(*uid)),
            interfaces,
            interfaces.len(),
            ". Attach it again: systemctl restart tcpguard",
        ),
        AgentEvent::RuleDrift { drift, error } => {
            let drift = drift.as_ref().map(|drift| format!("{}: ", self::drift(drift)));
            format!(
                "rules in the kernel differ, repair failed: {}{error}. If it lasts: systemctl \
                 restart tcpguard",
                drift.unwrap_or_default()
            )
        }
        AgentEvent::RuleDriftOver => {
            "rules in the kernel no longer differ. See: tcpguard rules list".to_owned()
        }
        AgentEvent::DriftRepaired { count, drifts } => {
            let drifts: Vec<String> = drifts.iter().map(drift).collect();
            let head = "BPF state modified externally and repaired:";
            listed(head, &drifts, *count as usize, ". See: tcpguard doctor")
        }
        AgentEvent::DroppedBeforeXdp { ring_pps, backlog_pps } => format!(
            "{} packets/s dropped before XDP (NIC ring {}, CPU backlogs of the machine {}): clients' \
             may be among them. Run: tcpguard doctor",
            short(ring_pps + backlog_pps),
            short(*ring_pps),
            short(*backlog_pps)
        ),
        AgentEvent::DroppedBeforeXdpOver { lasted_s } => {
            format!("packets are no longer dropped before XDP: duration {}", seconds(*lasted_s))
        }
        AgentEvent::NothingListens { listener, syn_pps } => format!(
            "no socket listens on {listener}, {} SYN/s are refused. Start the application, see: ss -ltnp \
             'sport = :{}'",
            short(*syn_pps),
            listener.port
        ),
        AgentEvent::NothingListensOver { listener, listens, lasted_s } => {
            let why =
                if *listens { "a socket listens again" } else { "no client tries any longer" };
            format!(
                "clients of {listener} are no longer refused after {}: {why}",
                seconds(*lasted_s)
            )
        }
    }
}

/// The keys that a reload does not apply, of which so many are `named`, and the command that does. A mode that an
/// operator has set outlasts a restart.
pub fn keys_that_wait(keys: &[String], named: usize) -> Option<(String, &'static str)> {
    let (mode, others): (Vec<&str>, Vec<&str>) =
        keys.iter().map(String::as_str).partition(|key| *key == "mode");
    match (others.as_slice(), mode.is_empty()) {
        ([], true) => None,
        ([], false) => Some(("The mode is not changed by a reload".to_owned(), "tcpguard mode")),
        (others, no_mode) => {
            let (first, rest) = others.split_at(named.min(others.len()));
            let text = format!("Restart required for {}{}", first.join(", "), more(rest.len()));
            let mode = if no_mode { "" } else { "; the mode is not changed by a reload" };
            Some((text + mode, "systemctl restart tcpguard"))
        }
    }
}

/// The line at the start. `interfaces` names each with its mode.
pub fn started(interfaces: &str, mode: Mode, listeners: usize) -> String {
    format!(
        "tcpguard {} started on {interfaces}: mode {}, {}. See: tcpguard status",
        env!("CARGO_PKG_VERSION"),
        mode.name(),
        counted(listeners as u64, "listener")
    )
}

/// The line that `systemctl status` shows.
pub fn running_on(interfaces: &str, mode: Mode) -> String {
    format!("running on {interfaces}: mode {}. See: tcpguard status", mode.name())
}

/// The line at the end. `interfaces` are those with the XDP program, which drops nothing after `grace`.
pub fn stopped(interfaces: &str, grace: Duration) -> String {
    match interfaces {
        "" => "stopped. XDP program is attached to no interface".to_owned(),
        _ => format!(
            "stopped. XDP program remains attached to {interfaces} and fails open in {} unless the \
             agent restarts. Detach now: tcpguard detach --all",
            span(grace)
        ),
    }
}

/// The automatic revert of `mode`, with the command that prevents it.
fn reverts(mode: Mode, ends: &ModeRevert) -> String {
    let confirm = ends.confirm_by.filter(|by| ends.until.is_none_or(|until| by.0 < until.0));
    let (unless, keep) = match confirm {
        Some(_) => (" unless confirmed", "confirm".to_owned()),
        None => ("", format!("mode {}", mode.name())),
    };
    let (to, left) = (ends.revert_to.name(), seconds(ends.in_s));
    format!("reverts to {to} in {left}{unless}. Keep it: tcpguard {keep}")
}

fn interface_change(interface: &str, change: &InterfaceChange) -> String {
    match change {
        InterfaceChange::Missing => format!(
            "{interface} not protected: no such interface. It is attached as soon as it appears. \
             See: ip link"
        ),
        InterfaceChange::Deleted => format!(
            "{interface} not protected: interface deleted. It is attached as soon as it appears \
             again. See: ip link"
        ),
        InterfaceChange::Renamed { from } => format!(
            "{from} renamed to {interface}: still attached, also after a restart of the agent. \
             Rename it in the configuration: tcpguard config show"
        ),
        InterfaceChange::Detached => format!(
            "{interface} not protected: its BPF programs were detached. They are attached again. \
             See: tcpguard doctor"
        ),
        InterfaceChange::Attached => format!("{interface} protected again: BPF programs attached"),
        InterfaceChange::Repinned => format!(
            "{interface}: missing link pins restored, without which protection ends with the agent"
        ),
        InterfaceChange::Reordered { behind } => listed(
            &format!("{interface}: tcpguard's tc program runs first again, no longer after"),
            behind,
            behind.len(),
            ". See: tcpguard doctor",
        ),
    }
}

fn drift(drift: &Drift) -> String {
    match drift {
        Drift::RuleMissing { rule } => format!("rule {rule} missing"),
        Drift::RuleExpiry { rule } => format!("rule {rule} with another expiry"),
        Drift::RuleFlags { rule } => format!("rule {rule} with other flags"),
        Drift::UnexpectedSource { net } => format!("unexpected rule for {net}"),
        Drift::UnexpectedEverySource => "unexpected rule for all sources".to_owned(),
        Drift::UnexpectedSignature => "unexpected signature rule".to_owned(),
        Drift::UnexpectedEntry => "unexpected entry that matches no SYN".to_owned(),
        Drift::Configuration => "configuration record changed".to_owned(),
        Drift::Listeners { entries } => format!("listener entries changed ({entries})"),
        Drift::ExemptPrefixes => "exempt prefixes changed".to_owned(),
        Drift::InterfaceSlots => "counter slots of interfaces changed".to_owned(),
        Drift::TracepointPin => "tracepoint pin missing".to_owned(),
        Drift::CookieProgram { interface } => {
            format!("SYN cookie validation missing on {interface}")
        }
        Drift::CookieOrder { interface, .. } => {
            format!("another program before SYN cookie validation on {interface}")
        }
    }
}

/// `head`, as many of the first of `total` items as fit, and `tail`.
fn listed(head: &str, items: &[String], total: usize, tail: &str) -> String {
    let with = |named: usize| {
        let rest = more(total.saturating_sub(named));
        format!("{head} {}{rest}{tail}", items[..named].join(", "))
    };
    let fits = |line: &String| line.chars().count() <= LINE;
    (1..=items.len()).rev().map(with).find(fits).unwrap_or_else(|| with(items.len().min(1)))
}

/// ` and 3 more`, or nothing.
fn more(count: usize) -> String {
    match count {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}
