//! What the agent of these tests answers.

use std::path::PathBuf;

use serde_json::{Value, json};
use tcpguard::config::{Held, Origin};
use tcpguard::control::{RefusalKind, Request, Response};
use tcpguard::status::{
    AlertEntry, Allowed, AttackInFull, Explanation, Imported, Rule, Severity, Status, Step,
    StepState,
};
use tcpguard_engine as engine;

use super::support;

/// What is on the allow-list.
const ALLOWED: &str = "203.0.113.0/24";

/// The answer of an agent in this situation.
pub fn answer(request: &Request, status: &Status) -> Response {
    let rules = status.rules.list.clone();
    match request {
        Request::Status => Response::Status(Box::new(status.clone())),
        Request::Rules => Response::Rules { rules, allowed: Vec::new() },
        Request::Mode => Response::Mode { mode: status.daemon.mode },
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
            Response::Effective {
                settings: vec![
                    held("mode", json!("enforce"), false, Origin::ModeCommand),
                    held(
                        "interfaces.names",
                        json!(["eth0"]),
                        false,
                        Origin::CommandLine { option },
                    ),
                    held("detection.poll_ms", json!(250), true, Origin::Default),
                    held("gate.drop_items", json!(4), false, at(&path, 12)),
                    held("listener[\":443\"].mode", json!("observe"), false, at(&part, 3)),
                ],
                files: vec![path.clone(), part],
                path: Some(path),
            }
        }
        Request::Explain { prefix } => Response::Explained(Box::new(Explanation {
            prefix: prefix.to_string(),
            mode: status.daemon.mode,
            rules: Vec::new(),
            forced: Vec::new(),
            signatures: rules,
            allowed: Vec::new(),
            exempt: None,
            completed_at: None,
            source: None,
            steps: Vec::new(),
        })),
        Request::ExplainAttack { id } => {
            let (report, facts) = support::flooded(status.daemon.mode.into());
            let known = report.incidents.iter().find(|incident| incident.id == *id);
            match known {
                Some(incident) => Response::AttackExplained(Box::new(AttackInFull::build(
                    incident,
                    &report,
                    facts.clock,
                ))),
                None => Response::refused(
                    RefusalKind::NotFound,
                    format!("no attack #{id}; see which are known: tcpguard status"),
                ),
            }
        }
        Request::Alerts => {
            let mut alerts = status.alerts.clone();
            let notice = alerts
                .first()
                .map(|alert| AlertEntry { severity: Severity::Notice, ..alert.clone() });
            alerts.extend(notice);
            Response::Alerts { alerts }
        }
        Request::Allow { prefix, reason, .. } => {
            Response::Allowed { allowed: allowed(&prefix.to_string(), reason, status) }
        }
        Request::Disallow { prefix } if prefix.to_string() == ALLOWED => {
            Response::Disallowed { allowed: vec![allowed(ALLOWED, "our monitoring", status)] }
        }
        Request::Disallow { prefix } => Response::refused(
            RefusalKind::NotFound,
            format!(
                "nothing within {prefix} is on the allow-list; see what is: tcpguard rules list"
            ),
        ),
        Request::OrderStep { step, order, .. } => {
            let mut listener = status.listeners[0].clone();
            listener.steps = vec![Step {
                step: step.name().to_owned(),
                state: StepState::Forbidden,
                since: None,
                until: Some(status.generated_at),
                why: format!("uid 0 said {order:?}"),
            }];
            Response::StepOrdered(Box::new(listener))
        }
        Request::SetMode { mode } => Response::ModeSet { was: status.daemon.mode, mode: *mode },
        Request::UnblockAll => Response::Unblocked { rules },
        Request::ImportRules { rules, dry_run, .. } => {
            let added = rules.len() as u32;
            let imported = Imported { added, kept: 0, removed: 0, total: added };
            Response::Imported { imported, dry_run: *dry_run }
        }
        Request::Unblock { prefix } => Response::refused(
            RefusalKind::NotFound,
            format!("no rule lies within {prefix}; see what exists: tcpguard rules list"),
        ),
        Request::Reload => Response::Reloaded {
            applied: vec!["detection".to_owned(), "protect.prefixes".to_owned()],
            waiting: vec!["interfaces.names".to_owned()],
        },
        Request::Detach { interfaces } => Response::Detached { interfaces: interfaces.clone() },
        Request::Block { prefix, force: false, .. } if prefix.prefix_len() < 16 => {
            Response::refused(RefusalKind::Protected, "too wide; add --force if you are sure")
        }
        Request::Block { prefix, for_s, reason, dry_run, .. } => Response::Blocked {
            rule: manual_rule(&prefix.to_string(), *for_s, reason),
            dry_run: *dry_run,
        },
    }
}

fn allowed(prefix: &str, reason: &str, status: &Status) -> Allowed {
    Allowed {
        prefix: prefix.to_owned(),
        reason: reason.to_owned(),
        uid: 0,
        created_at: status.generated_at,
        expires_at: status.generated_at,
        expires_in_s: 2_592_000,
    }
}

fn manual_rule(matches: &str, for_s: u64, reason: &str) -> Rule {
    let clock = support::clock();
    let report = engine::RuleReport {
        id: engine::RuleId(12),
        kind: "source".to_owned(),
        matches: matches.to_owned(),
        origin: "operator".to_owned(),
        incident: None,
        reason: reason.to_owned(),
        created: clock.now,
        expires: clock.now + std::time::Duration::from_secs(for_s),
        hits: 0,
        returned: 0,
    };
    Rule::build(&report, clock)
}
