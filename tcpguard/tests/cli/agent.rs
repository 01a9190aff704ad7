//! The responses of the agent in these tests.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tcpguard::config::{Held, Origin};
use tcpguard::control::proto::{Change, Effective};
use tcpguard::control::{RefusalKind, Request, Response};
use tcpguard::documents::history::{History, Second};
use tcpguard::documents::timeline::{Point, Timeline};
use tcpguard::documents::{
    AlertEntry, AlertPage, Allowance, Allowed, Blocked, CapturedSyn, CapturedSyns, Confirmed,
    Detached, Disallowed, Explanation, FullIncident, Import, Incidents, Mitigation, ModeShown,
    Ordered, Reloaded, Rule, RuleList, Status, Unblocked,
};
use tcpguard_engine as engine;
use tcpguard_engine::{
    ClientsWithin, Force, ImportReport, MapTime as _, MitigationReason, MitigationState,
    RuleReason, Which,
};
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;

use super::support;

/// The prefix on the allowlist.
const ALLOWED: &str = "203.0.113.0/24";

/// Two SYNs, for a client that has asked before.
fn captured(after: Option<u64>) -> Response {
    let syn = |reason: &str, answered| CapturedSyn {
        at_ns: 1_767_323_044_000_000_123,
        header: vec![
            0x45, 0x00, 0x00, 0x28, 0x00, 0x01, 0x40, 0x00, 0x40, 0x06, 0x00, 0x00, 0xc6, 0x33,
            0x64, 0x07, 0xcb, 0x00, 0x71, 0x0a, 0x9c, 0x40, 0x01, 0xbb, 0x01, 0x02, 0x03, 0x04,
            0x00, 0x00, 0x00, 0x00, 0x50, 0x02, 0xfa, 0xf0, 0x00, 0x00, 0x00, 0x00,
        ],
        reason: reason.to_owned(),
        answered,
        one_in: 64,
    };
    let syns = vec![syn("drop_signature", false), syn("cookie", true)];
    match after {
        None => Response::CapturedSyns(CapturedSyns { last: 7, syns: Vec::new() }),
        Some(after) => Response::CapturedSyns(CapturedSyns { last: after + 2, syns }),
    }
}

/// The answer of an agent in this situation.
pub fn answer(request: &Request, status: &Status) -> Response {
    let rules = status.rules.list.clone();
    match request {
        Request::Status => Response::Status(Box::new(status.clone())),
        Request::Rules => Response::Rules(RuleList { rules, allowed: Vec::new() }),
        Request::Mode => {
            Response::Mode(ModeShown { mode: status.daemon.mode, was: None, ends: None })
        }
        Request::Explain { prefix, .. } => Response::Explained(Box::new(Explanation {
            prefix: *prefix,
            port: None,
            listeners: Vec::new(),
            closed: Vec::new(),
            mode: status.daemon.mode,
            rules: Vec::new(),
            forced: Vec::new(),
            signatures: rules,
            allowed: Vec::new(),
            exempt: None,
            exempt_part: None,
            completed_at: None,
            clients: ClientsWithin::default(),
            replies: None,
            source: None,
            mitigations: Vec::new(),
        })),
        Request::Effective => {
            let held = |key: &str, value: Value, default, origin| Held {
                key: key.to_owned(),
                value,
                default,
                origin,
            };
            let path: PathBuf = "/etc/tcpguard/tcpguard.toml".into();
            let part: PathBuf = "/etc/tcpguard/conf.d/10-web.toml".into();
            let at = |path: &PathBuf, line| Origin::File { path: path.clone(), line, column: 1 };
            let option = "-i".to_owned();
            Response::Effective(Effective {
                settings: vec![
                    held("mode", json!("enforce"), false, Origin::ModeCommand),
                    held(
                        "interfaces.names",
                        json!(["eth0"]),
                        false,
                        Origin::CommandLine { option },
                    ),
                    held("detection.fast_min", json!(64), true, Origin::Default),
                    held("detection.clear_s", json!(60), false, at(&path, 12)),
                    held("listener[\":443\"].mode", json!("observe"), false, at(&part, 3)),
                ],
                files: vec![path.clone(), part],
                path: Some(path),
            })
        }
        Request::Incidents => {
            let (report, facts) = support::flooded(status.daemon.mode);
            let past = status.past_incidents.iter();
            Response::Incidents(Box::new(Incidents::build(&report, past, facts.clock)))
        }
        Request::ExplainIncident { id } => {
            let (report, facts) = support::flooded(status.daemon.mode);
            let known = report.incidents.iter().find(|incident| incident.id == *id);
            match known {
                Some(incident) => Response::IncidentExplained(Box::new(FullIncident::build(
                    incident,
                    &report,
                    facts.clock,
                ))),
                None => Response::refused(
                    RefusalKind::NotFound,
                    format!("no incident #{id}"),
                    "tcpguard status",
                ),
            }
        }
        Request::Timeline { id: 3 } => Response::Timeline(Box::new(timeline())),
        Request::Timeline { id } => Response::refused(
            RefusalKind::NotFound,
            format!("no time series of incident #{id}"),
            "tcpguard status",
        ),
        Request::CapturedSyns { after } => captured(*after),
        Request::History => Response::History(Box::new(history(status))),
        Request::Alerts { .. } => Response::Alerts(AlertPage {
            run: 1,
            first: 1,
            last: 42,
            now: status.generated_at,
            alerts: alert_entries(status),
        }),
        Request::SetMode { mode, .. } => {
            let was = Some(status.daemon.mode);
            Response::Mode(ModeShown { mode: *mode, was, ends: None })
        }
        Request::Confirm { net: Some(net) } => Response::Confirmed(Confirmed {
            mode: None,
            ends: None,
            rules: vec![manual_rule(&net.to_string(), Duration::from_secs(3600), "")],
        }),
        Request::Confirm { net: None } => Response::refused(
            RefusalKind::NotFound,
            "no change is pending confirmation",
            "tcpguard mode",
        ),
        Request::Reload => Response::Reloaded(Reloaded {
            applied: vec!["detection".to_owned(), "protect.prefixes".to_owned()],
            waiting: vec!["interfaces.names".to_owned()],
        }),
        Request::Detach { interfaces } => {
            Response::Detached(Detached { detached: interfaces.clone() })
        }
        Request::Change { change, dry_run } => answer_change(change, *dry_run, rules, status),
    }
}

fn answer_change(change: &Change, dry_run: bool, rules: Vec<Rule>, status: &Status) -> Response {
    match change {
        Change::Allow { net, reason, .. } => {
            let allowed = allowed(&net.to_string(), reason, status);
            Response::Allowed(Allowance { allowed })
        }
        Change::Disallow { net } if net.to_string() == ALLOWED => {
            let removed = vec![allowed(ALLOWED, "our monitoring", status)];
            Response::Disallowed(Disallowed { removed })
        }
        Change::Disallow { net } => Response::refused(
            RefusalKind::NotFound,
            format!("no exemption within {net}"),
            "tcpguard rules list",
        ),
        Change::OrderMitigation { mitigation, .. } => {
            let mut listener = status.listeners[0].clone();
            listener.mitigations = vec![Mitigation {
                mitigation: *mitigation,
                family: None,
                address: None,
                state: MitigationState::Forbidden,
                since: None,
                until: Some(status.generated_at),
                why: MitigationReason::Ordered { uid: 0 },
            }];
            Response::MitigationOrdered(Box::new(Ordered { listener }))
        }
        Change::ImportRules { rules, .. } => {
            let added = rules.len() as u32;
            let imported =
                ImportReport { added, kept: 0, removed: 0, total: added, pending_confirmation: 0 };
            Response::Imported(Import { imported, dry_run })
        }
        Change::Unblock { which: Which::Within(net), .. } => Response::refused(
            RefusalKind::NotFound,
            format!("no rule within {net}"),
            "tcpguard rules list",
        ),
        Change::Unblock { .. } => Response::Unblocked(Unblocked { removed: rules, dry_run: false }),
        Change::Block { net, force: Force::No, .. } if net.prefix_len() < 16 => {
            Response::refused(RefusalKind::Protected, "too wide", "use --force")
        }
        Change::Block { net, ports, lifetime, reason, force, .. } => {
            let rule = manual_rule(&net.to_string(), *lifetime, reason);
            let rule = match force {
                Force::PendingConfirmation { within, .. } => Rule {
                    confirmed_until: Some(rule.expires_at),
                    ..manual_rule(&net.to_string(), *within, reason)
                },
                Force::No | Force::ForGood => rule,
            };
            let rule = Rule { ports: *ports, ..rule };
            let clients = ClientsWithin::default();
            Response::Blocked(Box::new(Blocked { rule, replaces: None, dry_run, clients }))
        }
        Change::ConfirmRules { .. } | Change::SetMode { .. } => panic!("{change:?}"),
    }
}

/// The alerts in this situation, and a notice.
fn alert_entries(status: &Status) -> Vec<AlertEntry> {
    let mut alerts = status.alerts.clone();
    let notice = alerts.first().map(|alert| AlertEntry {
        seq: 42,
        severity: Severity::Notice,
        ..alert.clone()
    });
    alerts.extend(notice);
    alerts
}

/// Counters before and during attack #3: half a minute of calm, then the flood.
fn history(status: &Status) -> History {
    let second = Second {
        at: status.generated_at,
        syn_pps: 98_900.0,
        dropped_pps: 98_800.0,
        cookies_sent_pps: 0.0,
        completed_pps: 51.0,
    };
    History { seconds: vec![second] }
}

fn timeline() -> Timeline {
    let point = |mitigation: u32| Point {
        at_ms: u64::from(mitigation) * 1000,
        syn_pps: if mitigation > 30 { 98_900.0 } else { 52.0 },
        completed_pps: 51.0,
        half_open: Some(if mitigation > 30 { 128 } else { 1 }),
        queue_limit: Some(4096),
        ..Point::default()
    };
    Timeline {
        id: 3,
        began: Time("2026-11-20T14:01:41Z".parse().unwrap()),
        interval_ms: 1000,
        points: (1..=60).map(point).collect(),
    }
}

fn allowed(prefix: &str, reason: &str, status: &Status) -> Allowed {
    Allowed {
        prefix: prefix.parse().unwrap(),
        reason: reason.to_owned(),
        uid: 0,
        fleet: None,
        created_at: status.generated_at,
        expires_at: status.generated_at,
        expires_in_s: 2_592_000,
    }
}

fn manual_rule(matches: &str, lifetime: Duration, reason: &str) -> Rule {
    let clock = support::clock();
    let report = engine::RuleReport {
        id: engine::RuleId(12),
        kind: engine::Mitigation::Source,
        matches: matches.to_owned(),
        ports: engine::Ports::EVERY,
        origin: engine::RuleOrigin::Operator,
        incident: None,
        reason: RuleReason::Given { text: reason.to_owned() },
        created_at: clock.now,
        expires_at: clock.now + lifetime,
        expires_in_s: lifetime.as_secs(),
        confirmed_until: None,
        hits: 0,
        accepted_retransmits: 0,
        completed: 0,
    };
    report.map_time(&|at| clock.time_at(at))
}
