use tcpguard_engine::Listener;
use tcpguard_host::time::Time;
use tcpguard_support::hint_check;

use super::*;
use crate::documents::AlertEvent;
use crate::text::event::tests::check;

/// The longest name of an interface.
const INTERFACE: &str = "enp129s0f1npdev";

fn time(text: &str) -> Time {
    Time(format!("2026-11-20T{text}Z").parse().unwrap())
}

/// A revert unless the mode is confirmed, one at a set time, and one of both.
fn ends() -> [ModeRevert; 4] {
    let (soon, late) = (Some(time("14:06:31")), Some(time("14:15:31")));
    [(soon, None), (None, late), (soon, late), (late, soon)].map(|(confirm_by, until)| ModeRevert {
        revert_to: Mode::Observe,
        confirm_by,
        until,
        in_s: 86_340,
    })
}

fn drifts() -> Vec<Drift> {
    let interface = INTERFACE.to_owned();
    let rule = 131_071;
    vec![
        Drift::RuleMissing { rule },
        Drift::RuleExpiry { rule },
        Drift::RuleFlags { rule },
        Drift::UnexpectedSource { net: "2001:db8:1234:5678:9abc:def0:1234:5678/128".to_owned() },
        Drift::UnexpectedEverySource,
        Drift::UnexpectedSignature,
        Drift::UnexpectedEntry,
        Drift::Configuration,
        Drift::Listeners { entries: 4096 },
        Drift::ExemptPrefixes,
        Drift::InterfaceSlots,
        Drift::TracepointPin,
        Drift::CookieProgram { interface: interface.clone() },
        Drift::CookieOrder { interface, behind: behind(2) },
    ]
}

/// The longest names of programs.
fn behind(count: u32) -> Vec<String> {
    (1..=count).map(|id| format!("fifteen_letters (id {}, tcx egress)", u32::MAX - id)).collect()
}

fn every_event() -> Vec<AgentEvent> {
    let (uid, interface) = (u32::MAX, INTERFACE.to_owned());
    let error = || "no memory".to_owned();
    let keys = |count: usize| vec!["cookies.replies_per_network".to_owned(); count];
    let addr = "2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap();
    let listener = Listener { addr, port: 65_535 };
    let mut all = vec![
        AgentEvent::ModeConfirmed { uid, mode: Mode::Enforce, ends: None },
        AgentEvent::ConfigRefused { error: error(), valid_from: None },
        AgentEvent::ConfigRefused { error: error(), valid_from: Some(time("14:06:31")) },
        AgentEvent::AttachFailed { interface: interface.clone(), error: error() },
        AgentEvent::GenericFallback { interface: interface.clone(), error: error() },
        AgentEvent::RuleDrift { drift: None, error: error() },
        AgentEvent::RuleDriftOver,
        AgentEvent::DroppedBeforeXdp { ring_pps: 55_012.3, backlog_pps: 1_234.5 },
        AgentEvent::DroppedBeforeXdpOver { lasted_s: 86_340 },
        AgentEvent::NothingListens { listener, syn_pps: 1_234.5 },
        AgentEvent::NothingListensOver { listener, listens: true, lasted_s: 86_340 },
        AgentEvent::NothingListensOver { listener, listens: false, lasted_s: 86_340 },
    ];
    let before = [Mode::Observe, Mode::Enforce].into_iter().cycle();
    for (from, ends) in before.zip(ends()) {
        let mode = Mode::Enforce;
        all.push(AgentEvent::ModeChanged { uid, from, to: mode, ends: ends.clone() });
        all.push(AgentEvent::ModeConfirmed { uid, mode, ends: Some(ends) });
    }
    for unconfirmed in [true, false] {
        let (from, to) = (Mode::Enforce, Mode::Observe);
        all.push(AgentEvent::ModeReverted { from, to, unconfirmed });
    }
    for (applied, waiting) in [(0, 0), (1, 0), (40, 0), (40, 1), (0, 10), (40, 10)] {
        let (applied, waiting) = (keys(applied), keys(waiting));
        all.push(AgentEvent::ConfigReloaded { applied, waiting });
    }
    for change in [
        InterfaceChange::Missing,
        InterfaceChange::Deleted,
        InterfaceChange::Renamed { from: INTERFACE.to_owned() },
        InterfaceChange::Detached,
        InterfaceChange::Attached,
        InterfaceChange::Repinned,
        InterfaceChange::Reordered { behind: behind(1) },
        InterfaceChange::Reordered { behind: behind(4) },
    ] {
        all.push(AgentEvent::InterfaceChanged { interface: interface.clone(), change });
    }
    for count in [1, 16] {
        all.push(AgentEvent::FilterDetached { uid, interfaces: vec![interface.clone(); count] });
    }
    for drift in drifts() {
        all.push(AgentEvent::repaired(vec![drift.clone(); 131_071]));
        all.push(AgentEvent::RuleDrift { drift: Some(drift), error: error() });
    }
    all
}

#[test]
fn every_line_fits_and_every_event_is_read_back_from_json() {
    check(every_event().into_iter().map(|event| {
        let line = agent_event_line(&event);
        (AlertEvent::Agent(event), line)
    }));
}

#[test]
fn an_alert_that_calls_for_action_names_a_command() {
    use tcpguard_engine::Severity;
    for event in every_event() {
        let line = agent_event_line(&event);
        let passing = match &event {
            // The error of the kernel names one.
            AgentEvent::AttachFailed { .. } => true,
            AgentEvent::InterfaceChanged { change, .. } => {
                matches!(change, InterfaceChange::Attached | InterfaceChange::Repinned)
            }
            event => event.severity() == Severity::Notice,
        };
        assert!(passing || hint_check::is_named(&line), "{line}");
    }
}

#[test]
fn a_line_lists_what_fits_and_counts_the_rest() {
    let drifts = (1..=20).map(|rule| Drift::RuleMissing { rule }).collect();
    assert_eq!(
        agent_event_line(&AgentEvent::repaired(drifts)),
        "BPF state modified externally and repaired: rule 1 missing, rule 2 missing, rule 3 \
         missing, rule 4 missing, rule 5 missing and 15 more. See: tcpguard doctor"
    );
}

#[test]
fn the_earlier_end_of_a_mode_is_named_with_the_command_that_prevents_it() {
    let lines = ends().map(|ends| reverts(Mode::Enforce, &ends));
    let confirm = "reverts to observe in 23h59m unless confirmed. Keep it: tcpguard confirm";
    let set = "reverts to observe in 23h59m. Keep it: tcpguard mode enforce";
    assert_eq!(lines, [confirm, set, confirm, set]);
}

#[test]
fn the_end_of_the_agent_names_the_way_to_detach() {
    assert_eq!(
        stopped("eth0 (native)", Duration::from_secs(30)),
        "stopped. XDP program remains attached to eth0 (native) and fails open in 30s unless the \
         agent restarts. Detach now: tcpguard detach --all"
    );
    assert_eq!(stopped("", Duration::ZERO), "stopped. XDP program is attached to no interface");
}
