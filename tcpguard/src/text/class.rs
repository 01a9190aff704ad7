//! The words of each class: the one place that has them for alerts, pages and requests to a provider.

use tcpguard_engine::IncidentClass;

use super::incident_line::Number::{
    self, Busiest, Dropped, Rate, RateOverBaseline, Retransmitted, Scanners, Sources, Success,
    TopSource, Tried,
};

/// The words of a class.
pub(super) struct ClassWords {
    /// Its title.
    pub title: &'static str,
    /// Its packets, for a class of the host.
    pub packets: &'static str,
    /// The numbers of its alerts, the most important first.
    pub numbers: &'static [Number],
    /// The consequence for the operator; empty where that follows from the mode.
    pub consequence: &'static str,
    /// The request to a provider; empty where that follows from the filter.
    pub request: &'static str,
}

/// The words of a class.
pub(super) const fn words(class: IncidentClass) -> ClassWords {
    let flood = ClassWords {
        title: "SYN flood",
        packets: "SYNs",
        numbers: &[Rate, Success, Sources],
        consequence: "",
        request: "",
    };
    match class {
        IncidentClass::RandomSpoofed => ClassWords { title: "SYN flood, spoofed sources", ..flood },
        IncidentClass::SingleSource => ClassWords {
            title: "SYN flood, one source",
            numbers: &[Rate, TopSource, Success],
            request: "please drop the SYNs of these sources to this destination",
            ..flood
        },
        IncidentClass::FewSource => ClassWords {
            title: "SYN flood, few sources",
            request: "please drop the SYNs of these sources to this destination",
            ..flood
        },
        IncidentClass::Distributed => ClassWords { title: "SYN flood, many sources", ..flood },
        IncidentClass::Scan => ClassWords {
            title: "port scan",
            packets: "tries at closed ports",
            numbers: &[Scanners, Busiest, Tried],
            consequence: "Nothing is dropped",
            ..flood
        },
        IncidentClass::FlashCrowd => ClassWords {
            title: "flash crowd",
            numbers: &[RateOverBaseline, Success, Sources],
            consequence: "Not an attack: nothing is dropped",
            ..flood
        },
        IncidentClass::ListenerOverload => ClassWords {
            title: "full accept queue",
            numbers: &[RateOverBaseline],
            consequence: "The application accepts too slowly: tcpguard listeners",
            ..flood
        },
        IncidentClass::HandshakeDegraded => ClassWords {
            title: "failed handshakes",
            numbers: &[Success, Rate, Retransmitted],
            consequence: "Not an attack: check loss and filtering on the path",
            ..flood
        },
        IncidentClass::Reflection => ClassWords {
            title: "reflected SYN-ACKs",
            packets: "unsolicited replies",
            numbers: &[Rate],
            consequence: "A third party spoofs this host's address, nothing is dropped",
            request: "please drop SYN-ACKs to this destination that answer no SYN of ours",
        },
        IncidentClass::ClosedPorts => ClassWords {
            title: "SYN flood, closed ports",
            packets: "SYNs to closed ports",
            numbers: &[Rate, Dropped],
            request: "please drop SYNs to closed ports of this host",
            ..flood
        },
        IncidentClass::Evasion => ClassWords {
            title: "SYN flood, unreadable frames",
            packets: "SYNs in unreadable frames",
            numbers: &[Rate, Dropped],
            request: "please drop SYNs in tunnels and in malformed frames to this host",
            ..flood
        },
    }
}
