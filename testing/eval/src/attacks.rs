//! The floods of the evaluation, with their rate, sources, fingerprint and class.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use tcpguard_engine::IncidentClass;
use tcpguard_sim::{Flood, Shape, Sources};

/// The address from which one host floods.
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));

/// A kind of flood.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its name in the tables.
    pub name: &'static str,
    /// Class that the incident must have.
    pub class: IncidentClass,
    /// Source addresses of its SYNs.
    pub sources: Sources,
    /// Fingerprint of the SYNs.
    pub shape: Shape,
    /// Times on and off, s.
    pub pulses: Option<(f64, f64)>,
}

/// From random addresses, with a fixed fingerprint.
pub const RANDOM: Attack = Attack {
    name: "random",
    class: IncidentClass::RandomSpoofed,
    sources: Sources::Random,
    shape: Shape::Bare,
    pulses: None,
};

/// From random addresses, each SYN a copy of some client's.
pub const MIMICKING: Attack = Attack { name: "random, mimic", shape: Shape::Mimicking, ..RANDOM };

/// The pauses of a real flood in a public capture (StopDDoS/packet-captures).
pub const PULSES: Attack = Attack { name: "random, pulses", pulses: Some((0.5, 2.75)), ..RANDOM };

/// The same with pauses as long as any assumed.
pub const LONG_PAUSES: Attack = Attack { pulses: Some((0.5, 10.0)), ..PULSES };

/// All floods for which delay and class are measured.
pub const ALL: [Attack; 7] = [
    RANDOM,
    MIMICKING,
    PULSES,
    Attack {
        name: "one source",
        class: IncidentClass::SingleSource,
        sources: Sources::One(ATTACKER),
        shape: Shape::Linux,
        pulses: None,
    },
    Attack {
        name: "one /24",
        class: IncidentClass::FewSource,
        sources: Sources::Networks(1),
        shape: Shape::Linux,
        pulses: None,
    },
    Attack {
        name: "20 sources",
        class: IncidentClass::FewSource,
        sources: Sources::Bots(20),
        shape: Shape::Mimicking,
        pulses: None,
    },
    Attack {
        name: "3,000 bots",
        class: IncidentClass::Distributed,
        sources: Sources::Bots(3000),
        shape: Shape::Mimicking,
        pulses: None,
    },
];

impl Attack {
    /// Returns a flood of this kind at the first listener, with `rate` SYN/s while it is on, in `time`, s.
    pub fn flood(&self, rate: f64, time: Range<f64>) -> Flood {
        Flood {
            sources: self.sources,
            shape: self.shape,
            pulses: self.pulses,
            ..Flood::random(rate, time)
        }
    }

    /// Returns whether it is on all the time, so that its rate is its mean rate.
    pub const fn is_steady(&self) -> bool {
        self.pulses.is_none()
    }

    /// Returns the time of the last SYN of a flood that lasts for `time`, s.
    pub fn last_syn(&self, time: Range<f64>) -> f64 {
        let Some((on, off)) = self.pulses else { return time.end };
        let cycles = ((time.end - time.start) / (on + off)).ceil() - 1.0;
        (time.start + cycles * (on + off) + on).min(time.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_syn_of_a_pulsed_flood_comes_before_its_last_pause() {
        assert_eq!(RANDOM.last_syn(10.0..70.0), 70.0);
        assert_eq!(PULSES.last_syn(0.0..6.5), 3.75, "two whole cycles of 3.25 s");
        assert_eq!(PULSES.last_syn(0.0..6.75), 6.75, "in the third pulse");
        assert_eq!(LONG_PAUSES.last_syn(5.0..20.0), 16.0);
    }
}
