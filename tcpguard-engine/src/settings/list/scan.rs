//! Thresholds from which a source is a scanner. Nothing is dropped because of a scan.

use super::super::threshold::Field;
use super::super::{Threshold, Unit};

pub(super) const THRESHOLDS: [Threshold; 4] = [
    Threshold {
        name: "scan_ports",
        key: None,
        unit: Unit::Count,
        least: 2.0,
        most: 200.0,
        doc: "Ports at which nothing listens that one source tries within five minutes.",
        source: "Zeek's port_scan_threshold (misc/scan) and CrowdSec's iptables-scan-multi_ports, \
                 both 15.",
        field: |settings| Field::U32(&mut settings.scan_ports),
    },
    Threshold {
        name: "scan_ports_likely",
        key: None,
        unit: Unit::Count,
        least: 2.0,
        most: 200.0,
        doc: "Fewer ports that are a scan too, if likelihood says so.",
        source: "Weighed against known clients that try some closed ports, and against scans that \
                 stay below 15 in five minutes.",
        field: |settings| Field::U32(&mut settings.scan_ports_likely),
    },
    Threshold {
        name: "scan_likelihood",
        key: None,
        unit: Unit::Number,
        least: 16.0,
        most: 1e12,
        doc: "How much more likely a scanner's than a client's the failures and successes of the \
              source must be. 256 is four more failures than successes.",
        source: "Threshold random walk (Jung, Paxson, Berger, Balakrishnan, 2004): a client's first \
                 try succeeds with 0.8, a scanner's with 0.2.",
        field: |settings| Field::F64(&mut settings.scan_likelihood),
    },
    Threshold {
        name: "scan_addresses",
        key: None,
        unit: Unit::Count,
        least: 2.0,
        most: 200.0,
        doc: "Addresses of this host or behind it that one source tries at such ports.",
        source: "Zeek's addr_scan_threshold (misc/scan), 25.",
        field: |settings| Field::U32(&mut settings.scan_addresses),
    },
];
