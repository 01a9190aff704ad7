//! Reasons for rules and mitigations, in words.

use std::fmt;
use std::time::Duration;

use tcpguard_engine::{
    ClientsWithin, Harm, HeldBack, Mitigation, MitigationReason, RemovalReason, RuleObstacle,
    RuleReason, SignatureBasis,
};
use tcpguard_host::units::{percent, short, span};

/// A user: `root`, or `uid 1000`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct User(pub u32);

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("root"),
            uid => write!(f, "uid {uid}"),
        }
    }
}

/// Seconds as a span of time.
pub(super) fn seconds(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

/// A mitigation, as the subject of a line.
pub const fn mitigation_noun(mitigation: Mitigation) -> &'static str {
    match mitigation {
        Mitigation::OutOfState => "out-of-state check",
        Mitigation::Source => "source rules",
        Mitigation::Signature => "signature rules",
        Mitigation::Cookies => "SYN cookies",
        Mitigation::Budget => "SYN rate limit",
    }
}

/// The reason for a rule.
pub fn rule_reason(reason: &RuleReason) -> String {
    match reason {
        RuleReason::Given { text } => text.clone(),
        RuleReason::Imported => "imported".to_owned(),
        RuleReason::Found => "found in the kernel at start, without a record".to_owned(),
        RuleReason::Signature { coverage, basis } => {
            let basis = match basis {
                SignatureBasis::NoClient => "no client match",
                SignatureBasis::FullQueue => "SYN queue full",
                SignatureBasis::NoReplySeen => "no client seen",
                SignatureBasis::LastAttack => "as in the last attack",
                SignatureBasis::Hinted => "no client match, reported by other hosts",
            };
            format!("{} of failed handshakes, {basis}", percent(*coverage))
        }
        RuleReason::Source { share } => {
            format!("source of {} of failed handshakes, more than can be answered", percent(*share))
        }
    }
}

/// The reason that a rule is removed.
pub fn removal_reason(reason: &RemovalReason) -> String {
    match reason {
        RemovalReason::NoHits => "no more hits".to_owned(),
        RemovalReason::Expired => "expired".to_owned(),
        RemovalReason::NotNeeded => "no longer needed".to_owned(),
        RemovalReason::IncidentOver => "incident over".to_owned(),
        RemovalReason::NoAttack => "the evidence no longer supports an attack".to_owned(),
        RemovalReason::Unsupported => {
            "no longer supported by this host's evidence or by other hosts".to_owned()
        }
        RemovalReason::ManySources => "the flood no longer comes from few sources".to_owned(),
        RemovalReason::SourceCeased => "the flood no longer comes from this source".to_owned(),
        RemovalReason::Exempt { what } => format!("the source is exempt now ({what})"),
        RemovalReason::HeldBack { by } => held_back(*by).to_owned(),
        RemovalReason::Replaced { by } => format!("replaced by rule {}", by.0),
        RemovalReason::Unconfirmed => "not confirmed in time".to_owned(),
        RemovalReason::Operator => "by an operator".to_owned(),
        RemovalReason::Fleet => "by an operator of the fleet".to_owned(),
        RemovalReason::Forbidden => "such rules are forbidden at this listener".to_owned(),
        RemovalReason::NotImported { uid } => {
            format!("not among the rules that {} imported", User(*uid))
        }
        RemovalReason::NotAdopted => "expired or replaced while no agent ran".to_owned(),
        RemovalReason::Harmful { harm } => self::harm(harm),
        RemovalReason::MatchesClients { accepted: Some(accepted), completed, hits } => format!(
            "{} of {} retransmitted SYNs completed a handshake ({} hits)",
            short(*completed as f64),
            short(*accepted as f64),
            short(*hits as f64)
        ),
        RemovalReason::MatchesClients { accepted: None, completed, hits } => format!(
            "it would have dropped SYNs of {} completed handshakes ({} hits)",
            short(*completed as f64),
            short(*hits as f64)
        ),
    }
}

/// The reason that a rule is not made.
pub(super) fn rule_obstacle(obstacle: &RuleObstacle) -> String {
    match obstacle {
        RuleObstacle::SlotsTaken => "all rule slots are taken".to_owned(),
        RuleObstacle::SmallCoverage { coverage } => {
            format!("the top signature covers only {} of failed handshakes", percent(*coverage))
        }
        RuleObstacle::ClientsMatch => {
            "clients have the same fingerprint, SYN cookies apply".to_owned()
        }
        RuleObstacle::Retransmitted => {
            "its SYNs are retransmitted like those of clients".to_owned()
        }
        RuleObstacle::Refused => "it matched clients, SYN cookies apply".to_owned(),
        RuleObstacle::Inseparable => {
            "no signature separates the flood from clients, SYN cookies apply".to_owned()
        }
        RuleObstacle::Answered => "SYN cookies suffice, and the source may be spoofed".to_owned(),
        RuleObstacle::Alone => "no other source sends SYNs".to_owned(),
        RuleObstacle::SourceLimit { limit } => {
            format!("the incident has its maximum of {limit} source rules")
        }
        RuleObstacle::Exempt { what } => format!("exempt ({what})"),
        RuleObstacle::ClientsBehind => "clients at this address complete handshakes".to_owned(),
    }
}

/// The reason that tcpguard does less than the evidence calls for.
pub(super) const fn held_back(by: HeldBack) -> &'static str {
    match by {
        HeldBack::AgentOff => "mode off",
        HeldBack::AgentObserves => "mode observe",
        HeldBack::ListenerOff => "mode off at this listener",
        HeldBack::ListenerObserves => "mode observe at this listener",
        HeldBack::NoReplySeen => "no SYN-ACK of this listener is seen",
        HeldBack::AcceptQueueFull => "the accept queue is full",
    }
}

/// Validated clients within a prefix.
pub(super) fn clients_within(clients: ClientsWithin) -> String {
    let ClientsWithin { validated, last_minute } = clients;
    let s = if validated == 1 { "" } else { "s" };
    format!("{validated} validated client{s} ({last_minute} connected within the last minute)")
}

/// The harm for which a rule or a mitigation is withdrawn.
pub(super) fn harm(harm: &Harm) -> String {
    match harm {
        Harm::Fewer { before, after } => format!(
            "handshakes of validated clients fell from {}/s to {}/s",
            short(*before),
            short(*after)
        ),
        Harm::None { asked, for_s } => format!(
            "none of {} cookies for clients returned in {}",
            short(*asked as f64),
            span(Duration::from_secs_f64(for_s.max(0.0)))
        ),
        Harm::Unfinished { valid, completed, .. } => format!(
            "{} of {} valid cookies completed",
            short(*completed as f64),
            short(*valid as f64)
        ),
    }
}

/// An obstacle, and its remedy where one is known.
pub(super) fn with_remedy(error: &str, remedy: Option<&str>) -> String {
    remedy.map_or_else(|| error.to_owned(), |remedy| format!("{error}. Remedy: {remedy}"))
}

/// The reason for the state of a mitigation.
pub fn mitigation_reason(reason: &MitigationReason) -> String {
    match reason {
        MitigationReason::Flood => "a flood may bring out-of-state segments".to_owned(),
        MitigationReason::Resets { per_second } => {
            format!("{} resets/s answer out-of-state segments", short(*per_second))
        }
        MitigationReason::Uncovered { share } => {
            format!("{} of failed handshakes match no rule", percent(*share))
        }
        MitigationReason::ClientsMatchRule => "clients match a rule".to_owned(),
        MitigationReason::ClientsMatchSharedRule => {
            "clients match a rule for every listener".to_owned()
        }
        MitigationReason::Retransmitted => {
            "more SYNs are retransmitted than the SYN queue takes".to_owned()
        }
        MitigationReason::QueueFull => "SYN queue full".to_owned(),
        MitigationReason::QueueNearlyFull => "SYN queue nearly full".to_owned(),
        MitigationReason::QueueWouldFill => "the SYN queue would fill without them".to_owned(),
        MitigationReason::Surge => "more handshakes fail than clients could start".to_owned(),
        MitigationReason::QueueStillFull => "the SYN queue stays full".to_owned(),
        MitigationReason::Hinted { hosts: 1 } => {
            "another host reports a flood of this port".to_owned()
        }
        MitigationReason::Hinted { hosts } => {
            format!("{hosts} other hosts report a flood of this port")
        }
        MitigationReason::Inherited => "taken over from an earlier agent".to_owned(),
        MitigationReason::Ordered { uid } => format!("ordered by {}", User(*uid)),
        MitigationReason::Forbidden { uid } => format!("forbidden by {}", User(*uid)),
        MitigationReason::Barred => "forbidden by the configuration".to_owned(),
        MitigationReason::Failed { error, remedy } => with_remedy(error, remedy.as_deref()),
        MitigationReason::Harmful { harm } => self::harm(harm),
        MitigationReason::HeldBack { by } => held_back(*by).to_owned(),
        MitigationReason::IncidentOver => "incident over".to_owned(),
        MitigationReason::NotNeeded { for_s: 0 } => "no longer needed".to_owned(),
        MitigationReason::NotNeeded { for_s } => format!("not needed for {}", seconds(*for_s)),
    }
}
