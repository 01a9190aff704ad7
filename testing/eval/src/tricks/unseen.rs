//! Attacks that no listener sees: at closed ports, and in frames that the XDP program cannot parse.

use tcpguard_engine::IncidentClass::{self, ClosedPorts, Evasion, Scan};
use tcpguard_sim::{Flood, Frames, Server, Sources};

use super::Row;
use super::attacks::ATTACKER;
use super::scene::{Draw, LARGE, NO_COOKIES, SMALL, Scene};

const CLOSED: &[IncidentClass] = &[ClosedPorts];
const FRAMES: &[IncidentClass] = &[Evasion];
const SCANS: &[IncidentClass] = &[Scan];
/// Time limit for naming an incident that is counted for the whole host, s.
const HOST: f64 = 10.0;

pub(super) fn rows() -> Vec<Row> {
    closed_ports().into_iter().chain(frames()).collect()
}

/// SYNs to where nothing listens cost the host a reset each.
fn closed_ports() -> [Row; 4] {
    fn at(draw: &mut Draw<'_>, ports: u16, sources: Sources, (low, high): (f64, f64)) -> Scene {
        let fixed_fingerprint = draw.fixed_fingerprint(low, high);
        draw.flooded([Flood { sources, closed: Some(ports), ..fixed_fingerprint }])
    }
    /// Cheap to play, because it is only counted.
    const FLOOD: (f64, f64) = (20_000.0, 30_000.0);
    [
        Row::flood("a flood of a closed port", CLOSED, |draw| at(draw, 1, Sources::Random, FLOOD)),
        Row::flood("a flood of 1,000 closed ports", CLOSED, |draw| {
            at(draw, 1000, Sources::Random, FLOOD)
        }),
        Row::flood("one source at a closed port", CLOSED, |draw| at(draw, 1, ATTACKER, FLOOD)),
        Row::flood("a scan of 1,000 closed ports", SCANS, |draw| {
            at(draw, 1000, ATTACKER, (50.0, 200.0))
        }),
    ]
    .map(|row| row.within(HOST))
}

/// SYNs that the stack parses and the XDP program does not. (Whole first fragments are for the live tests: the XDP
/// program reads their TCP header.)
fn frames() -> [Row; 5] {
    fn of(draw: &mut Draw<'_>, server: Server, frames: Frames) -> Scene {
        let lab = draw.host(server);
        let fixed_fingerprint = draw.fixed_fingerprint(500.0, 2000.0);
        draw.under(lab, [Flood { frames, ..fixed_fingerprint }])
    }
    [
        Row::flood("SYNs in short fragments", FRAMES, |draw| of(draw, LARGE, Frames::Fragments)),
        Row::flood("short fragments, without cookies", FRAMES, |draw| {
            of(draw, NO_COOKIES, Frames::Fragments)
        }),
        Row::flood("SYNs behind too many headers", FRAMES, |draw| of(draw, LARGE, Frames::Deep)),
        Row::flood("too many headers, a small queue", FRAMES, |draw| of(draw, SMALL, Frames::Deep)),
        Row::flood("too many headers, without cookies", FRAMES, |draw| {
            of(draw, NO_COOKIES, Frames::Deep)
        }),
    ]
    .map(|row| row.serving(0.9))
}
