//! Bounds of memory and CPU. They have no key: an operator cannot make the agent outgrow its host.

use super::super::threshold::Field;
use super::super::{Threshold, Unit};

pub(super) const THRESHOLDS: [Threshold; 5] = [
    Threshold {
        name: "sources_per_incident",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 1_024.0,
        doc: "Rules against sources that an incident may have at most.",
        source: "As few_sources, so that each of so few can have one.",
        field: |settings| Field::Usize(&mut settings.sources_per_incident),
    },
    Threshold {
        name: "signatures_per_listener",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 16.0,
        doc: "Signature rules that a listener may have at most.",
        source: "Weighed against floods of two tools, and against the look-ups that each mask costs a \
                 packet.",
        field: |settings| Field::Usize(&mut settings.signatures_per_listener),
    },
    Threshold {
        name: "followed_per_second",
        key: None,
        unit: Unit::Count,
        least: 100.0,
        most: 1_000_000.0,
        doc: "Flows followed in detail per second, over all listeners.",
        source: "Weighed against the kernel's table of sampled flows, which must hold what is \
                 followed until it is judged.",
        field: |settings| Field::U64(&mut settings.followed_per_second),
    },
    Threshold {
        name: "sampling_hold",
        key: None,
        unit: Unit::Seconds,
        least: 3.0,
        most: 60.0,
        doc: "Time after which fewer SYNs let more of them be followed again.",
        source: "As the longest pause assumed of a pulsed flood.",
        field: |settings| Field::Span(&mut settings.sampling_hold),
    },
    Threshold {
        name: "incidents",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 1_024.0,
        doc: "Incidents of listeners open at most; alarms beyond them are one incident of the host.",
        source: "64 reports of some kilobytes; weighed against hosts with as many listeners under one \
                 attack.",
        field: |settings| Field::Usize(&mut settings.incidents),
    },
];
