//! Labels of the engine's facts.

use tcpguard_engine::{
    ClosedPortSource, IncidentClass, IndicatorName, Limit, Measured, Quantity, Question, Restraint,
    RestraintReason, Signal, VerdictLine,
};
use tcpguard_host::doctor::is_command;
use tcpguard_host::units::{percent, short};

use super::super::class::words;
use super::super::reason::{held_back, mitigation_noun, mitigation_reason};
use crate::documents::Advised;

/// Unit of a quantity.
#[derive(Clone, Copy)]
enum Unit {
    /// A share, 0 to 1.
    Share,
    /// A number.
    Count,
    /// A number per second.
    Rate,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Share => percent(value),
            Self::Count => short(value),
            Self::Rate => format!("{}/s", short(value)),
        }
    }
}

const fn quantity(what: Quantity) -> (&'static str, Unit) {
    use Quantity as Q;
    use Unit::{Count, Rate, Share};
    match what {
        Q::Indicators => ("indicators", Count),
        Q::FailedFlows => ("failed flows", Count),
        Q::FailedShare => ("failed handshakes", Share),
        Q::FailedRate => ("failed handshakes", Rate),
        Q::CompletedRate => ("completed handshakes", Rate),
        Q::CompletedShare => ("completed handshakes", Share),
        Q::SynRate => ("SYNs", Rate),
        Q::BaselineSynRate => ("baseline", Rate),
        Q::SignatureShare => ("top signature", Share),
        Q::SignatureCompletion => ("completed with it", Share),
        Q::RecordedHandshakes => ("recorded handshakes", Count),
        Q::UnfinishedHandshakes => ("unfinished handshakes with it", Count),
        Q::TopTtlsShare => ("two top TTLs", Share),
        Q::ImpossibleTtlsShare => ("impossible TTLs", Share),
        Q::SourcesOfMost => ("sources of 90%", Count),
        Q::NetworksOfMost => ("networks of 90%", Count),
        Q::Sources => ("sources", Count),
        Q::SynsPerSource => ("SYNs per source", Count),
        Q::TopSourceShare => ("top source", Share),
        Q::SeenOnceShare => ("sources seen once", Share),
        Q::SourcesSeenAgain => ("sources seen again", Count),
        Q::WideNetworks => ("/8 networks", Count),
        Q::RetransmittedShare => ("retransmitted SYNs", Share),
        Q::AbandonedRate => ("abandoned handshakes", Rate),
        Q::KnownNetworks => ("known networks", Count),
        Q::NewNetworksShare => ("new networks", Share),
        Q::KnownNetworksShare => ("handshakes from known networks", Share),
        Q::CompletingKnownShare => ("known networks that complete", Share),
        Q::MartianShare => ("martian sources", Share),
        Q::UnreachableShare => ("unreachable sources", Share),
        Q::ValidatedShare => ("validated clients", Share),
        Q::HealthCheckRate => ("reset handshakes", Rate),
        Q::AttemptedHandshakes => ("attempted handshakes", Count),
        Q::FailedHandshakes => ("failed", Count),
        Q::Polls => ("polls", Count),
        Q::CumulativeSum => ("cumulative sum", Count),
        Q::NaturalShare => ("normal failures", Share),
        Q::NaturalRate => ("normal failures", Rate),
        Q::Dispersion => ("dispersion", Count),
        Q::SynQueueSlots => ("SYN queue slots", Count),
        Q::AcceptQueue => ("connections in the accept queue", Count),
        Q::PortsTried => ("closed ports tried", Count),
        Q::AddressesTried => ("addresses tried", Count),
        Q::UnsolicitedRate => ("unsolicited replies", Rate),
        Q::UnsolicitedShare => ("unsolicited replies", Share),
        Q::ClosedPortRate => ("SYNs to closed ports", Rate),
        Q::UnreadableRate => ("SYNs in unreadable frames", Rate),
        Q::UnreadableDroppedRate => ("dropped", Rate),
        Q::UncoveredFlows => ("failed handshakes without a rule", Count),
        Q::UncoveredShare => ("failed handshakes without a rule", Share),
    }
}

/// A quantity with its value and limit: `sources seen once 97.1% (needs ≥ 90%)`.
fn measured(fact: &Measured) -> String {
    let (label, unit) = quantity(fact.what);
    let value = fact.value.map_or_else(|| "not known".to_owned(), |value| unit.show(value));
    let limit = fact.limit.map_or_else(String::new, |limit| {
        let (sign, limit) = match limit {
            Limit::AtLeast(limit) => ("≥", limit),
            Limit::AtMost(limit) => ("≤", limit),
            Limit::Above(limit) => (">", limit),
            Limit::Below(limit) => ("<", limit),
        };
        format!(" (needs {sign} {})", unit.show(limit))
    });
    format!("{label} {value}{limit}")
}

/// A name and the facts behind it, in one line.
pub(super) fn line(name: &str, facts: &[Measured]) -> String {
    match facts {
        [] => name.to_owned(),
        facts => format!("{name}: {}", facts.iter().map(measured).collect::<Vec<_>>().join(", ")),
    }
}

/// The class of an incident.
pub const fn class(class: IncidentClass) -> &'static str {
    words(class).title
}

/// Class and target of an incident: `SYN flood, spoofed sources, on :443`.
pub(in crate::text) fn on(class: IncidentClass, place: &str) -> String {
    if class == IncidentClass::Scan
        && let Some(port) = place.strip_prefix(':')
    {
        return format!("scan for port {port}");
    }
    let class = self::class(class);
    let comma = if class.contains(',') { "," } else { "" };
    format!("{class}{comma} on {place}")
}

/// The signal that raised the alarm of an incident of this class, as the cause of it.
pub const fn signal(signal: Signal, class: IncidentClass) -> &'static str {
    match signal {
        Signal::Fast => "a burst of failed handshakes",
        Signal::Slow => "failed handshakes that add up",
        Signal::Occupancy => "a SYN queue that fills",
        Signal::AcceptQueue => "a full accept queue",
        Signal::SynRate => "far more SYNs than in the baseline",
        Signal::Host => words(class).packets,
    }
}

/// Ports and addresses that a scanner tried, as exact as they are known.
pub(in crate::text) fn tried(ports: u64, addresses: u64) -> String {
    let known = |count: u64, [one, several]: [&str; 2]| {
        let (how, name) = match count {
            1 => ("", one),
            count if count < ClosedPortSource::MOST.into() => ("about ", several),
            _ => ("at least ", several),
        };
        format!("{how}{} {name}", short(count as f64))
    };
    let addresses = known(addresses, ["address", "addresses"]);
    format!("{} and {addresses}", known(ports, ["port", "ports"]))
}

pub(super) const fn indicator(name: IndicatorName) -> &'static str {
    match name {
        IndicatorName::Fingerprint => "one fingerprint",
        IndicatorName::Ttl => "TTLs of one machine",
        IndicatorName::FewSources => "few sources",
        IndicatorName::Singletons => "sources seen once",
        IndicatorName::NoRetransmission => "no retransmission",
        IndicatorName::Novel => "new networks",
        IndicatorName::Silence => "silence",
        IndicatorName::Surge => "surge",
        IndicatorName::Unreachable => "unreachable sources",
    }
}

pub(super) fn question(line: &VerdictLine) -> &'static str {
    match line.question {
        Question::FewIndicators => "few indicators",
        Question::ValidatedClients => "validated clients that fail",
        Question::MissingHandshakes => "as many handshakes missing as failing",
        Question::KnownNetworks => "known networks",
        Question::HealthChecks => "health checks",
        Question::BrokenPath => "broken path to clients",
        Question::NoPattern => "no pattern of an attack",
        Question::Fits => {
            let title = class(line.class);
            title.strip_prefix("SYN flood, ").unwrap_or(title)
        }
        Question::Earlier => "class of an earlier inspection",
    }
}

/// The reason that nothing is done.
pub(super) fn restraint(restraint: &Restraint) -> String {
    let reason = match &restraint.reason {
        RestraintReason::NoFlood => "not an attack",
        RestraintReason::FewIndicators => "too few indicators",
        RestraintReason::NoFailedHandshake => "no failed handshake is known",
        RestraintReason::LowCoverage => "no signature covers enough SYNs",
        RestraintReason::OptionsCut => "the options of its SYNs were not captured",
        RestraintReason::ClientsSignature => "clients have the top signature",
        RestraintReason::ClientsUnknown => "the clients' signatures are not known yet",
        RestraintReason::Removed => "an operator removed the rule",
        RestraintReason::HeldBack { by } => held_back(*by),
        RestraintReason::RulesSuffice => "rules cover enough SYNs",
        RestraintReason::NotLocal => "its SYNs are forwarded, or translated to another port",
        RestraintReason::Refused { mitigation, why } => {
            let why = mitigation_reason(why);
            return format!("{} refused: {why}", mitigation_noun(*mitigation));
        }
    };
    line(reason, &restraint.measured)
}

/// Advice about an incident, of which rules match SYNs or not.
pub(in crate::text) fn advised(action: &Advised, is_matched: bool) -> &str {
    match action {
        Advised::CheckPath => "check the path to the clients and the firewalls on it",
        Advised::AddCapacity => "add capacity if these clients are to stay",
        Advised::CheckApplication => "find the application that accepts too slowly",
        Advised::BlockScanner => "block the scanner if it disturbs",
        Advised::FindScanner => "find the program on this host that scans: ss -tnp",
        Advised::AskProvider => "ask the provider to filter SYN-ACKs if the link is congested",
        Advised::RestoreRule { .. } => "restore the removed rule now",
        Advised::DropUnreadable => {
            "drop unreadable frames: set [policy] beyond_bounds = \"drop\" and reload"
        }
        Advised::FilterClosedPorts => "drop SYNs to closed ports in the host's packet filter",
        Advised::RaiseBacklog => "raise the backlog of the listener",
        Advised::RemoveObstacle { remedy } if is_command(remedy) => {
            "remove the obstacle to SYN cookies"
        }
        Advised::RemoveObstacle { remedy } => remedy,
        Advised::Enforce if !is_matched => "let tcpguard mitigate it",
        Advised::Enforce => "drop what the rules match",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_named_by_what_is_known_of_it() {
        assert_eq!(on(IncidentClass::Scan, ":25"), "scan for port 25");
        assert_eq!(on(IncidentClass::Scan, "192.0.2.1"), "port scan on 192.0.2.1");
        assert_eq!(tried(1, 33), "1 port and about 33 addresses");
        assert_eq!(tried(ClosedPortSource::MOST.into(), 1), "at least 266 ports and 1 address");
    }

    #[test]
    fn a_fact_has_its_label_its_unit_and_its_limit() {
        let fact = |what, value, limit| measured(&Measured { what, value, limit });
        let once = fact(Quantity::SeenOnceShare, Some(0.5), Some(Limit::AtLeast(1.0)));
        assert_eq!(once, format!("sources seen once {} (needs ≥ {})", percent(0.5), percent(1.0)));
        let failing = fact(Quantity::FailedRate, Some(300.0), None);
        assert_eq!(failing, "failed handshakes 300/s");
        let unknown = fact(Quantity::RetransmittedShare, None, None);
        assert_eq!(unknown, "retransmitted SYNs not known");
    }
}
