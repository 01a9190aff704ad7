//! The learned values, in a form that survives a restart.

use std::fmt;
use std::time::Duration;

use tcpguard_common::abi::Fingerprint;

use super::clients::PRINTS;
use super::natural;
use crate::input::Listener;

/// Largest number of listeners taken over.
const LISTENERS: usize = tcpguard_common::abi::maps::MAX_LISTENERS as usize;
/// Longest possible round-trip time: beyond it the kernel would have given the handshake up.
const MAX_RTT: Duration = Duration::from_secs(63);
/// A number of completions that no host can have exceeded.
const MAX_COMPLETIONS: u64 = 1 << 48;
/// A rate that no link exceeds, in SYNs per second.
const MAX_RATE: f64 = 1e9;

/// Everything learned, as [`crate::Engine::learned`] gives it and [`crate::Engine::restore`] takes it
/// back.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Learned {
    /// [`Learned::VERSION`] of the writer.
    pub version: u32,
    /// Learned values of each listener.
    pub listeners: Vec<LearnedListener>,
    /// Networks from which clients came; `None` before any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<LearnedNetworks>,
}

/// The networks from which handshakes were completed. Read access to it is enough to make unvalidated
/// sources pass for clients.
#[derive(Clone, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct LearnedNetworks {
    /// Key with which networks are hashed.
    pub key: [u64; 2],
    /// Time that had passed since the start of the first day.
    pub gone: Duration,
    /// Seven days at most, the newest first.
    pub days: Vec<LearnedDay>,
}

/// The networks of a day.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct LearnedDay {
    /// Handshakes that they were learned from.
    pub completions: u64,
    /// A Bloom filter of 2^19 bits: the distance of each bit that is set from the one before, in
    /// digits of five bits in the alphabet of base64url, the lowest first; the sixth bit says that
    /// more follow.
    pub networks: String,
}

/// Formats all fields but the key.
impl fmt::Debug for LearnedNetworks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key: _, gone, days } = self;
        out.debug_struct("LearnedNetworks").field("gone", gone).field("days", days).finish()
    }
}

/// Learned values of one listener.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct LearnedListener {
    /// Its address; ids are not the same in another run.
    pub listener: Listener,
    /// Share of the handshakes that fail anyway, 0 to 1.
    pub natural_share: f64,
    /// Handshakes per second that fail whatever the traffic.
    pub natural_rate: f64,
    /// Seconds that both were learned from, six hours at most.
    pub natural_seconds: u64,
    /// Ratio of the variance of the failures to that of chance, from 1 up.
    pub dispersion: f64,
    /// SYNs per second, mean of about ten minutes; `None` before there is one.
    pub baseline_syn_rate: Option<f64>,
    /// Completed handshakes per second, mean of about ten minutes without an incident; `None` before
    /// there is one.
    pub baseline_completed_rate: Option<f64>,
    /// Typical round-trip time of its clients; `None` before one was measured.
    pub rtt: Option<Duration>,
    /// Completed handshakes recorded.
    pub completions: u64,
    /// Fingerprints of the clients' SYNs.
    pub prints: Vec<LearnedPrint>,
}

/// A fingerprint of clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct LearnedPrint {
    /// Option kinds in order, four bits each.
    pub options: u64,
    /// Maximum segment size.
    pub mss: u16,
    /// Window, unscaled.
    pub window: u16,
    /// 0 when the IP identification is always zero, else 1.
    pub ip_id: u16,
    /// Bits of [`tcpguard_common::abi::quirk`].
    pub quirks: u16,
    /// Window scale, 255 without.
    pub wscale: u8,
    /// Time to live as received.
    pub ttl: u8,
    /// Completed handshakes with it.
    pub completions: u64,
    /// Time since the last of these handshakes.
    pub age: Duration,
}

impl LearnedPrint {
    pub(super) fn new(print: &Fingerprint, completions: u64, age: Duration) -> Self {
        let Fingerprint { options, mss, window, ip_id, quirks, wscale, ttl, pad: _ } = *print;
        Self { options, mss, window, ip_id, quirks, wscale, ttl, completions, age }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let Self { options, mss, window, ip_id, quirks, wscale, ttl, .. } = *self;
        Fingerprint { options, mss, window, ip_id, quirks, wscale, ttl, pad: [0; 6] }
    }
}

/// Reason that learned values were not taken over.
#[derive(Clone, Debug, PartialEq)]
pub enum LearnedError {
    /// Written by another version.
    Version {
        /// Version of their writer.
        found: u32,
    },
    /// A value that cannot have been learned.
    Absurd {
        /// Listener of the value.
        listener: Listener,
        /// Name of the field.
        name: &'static str,
        /// The value.
        value: String,
        /// The condition that it must meet.
        must: &'static str,
    },
    /// More listeners or fingerprints than are kept.
    TooMany {
        /// Name of the entries, in the plural.
        what: &'static str,
        /// Number of entries that there are.
        found: usize,
        /// Number of entries that are kept at most.
        limit: usize,
    },
    /// Networks that cannot have been learned. The values of listeners were taken over.
    Networks {
        /// Description of the error.
        what: &'static str,
    },
}

impl Learned {
    /// The version that this program writes and reads.
    pub const VERSION: u32 = 1;

    pub(crate) fn of(
        listeners: impl Iterator<Item = LearnedListener>,
        networks: Option<LearnedNetworks>,
    ) -> Self {
        Self { version: Self::VERSION, listeners: listeners.collect(), networks }
    }

    /// The listeners, if every value can have been learned.
    pub(crate) fn validate(self) -> Result<impl Iterator<Item = LearnedListener>, LearnedError> {
        if self.version != Self::VERSION {
            return Err(LearnedError::Version { found: self.version });
        }
        few("listeners", self.listeners.len(), LISTENERS)?;
        self.listeners.iter().try_for_each(LearnedListener::validate)?;
        Ok(self.listeners.into_iter())
    }
}

impl LearnedListener {
    fn validate(&self) -> Result<(), LearnedError> {
        few("fingerprints", self.prints.len(), PRINTS)?;
        let check = |name, value: String, holds: bool, must| match holds {
            true => Ok(()),
            false => Err(LearnedError::Absurd { listener: self.listener, name, value, must }),
        };
        let within = |name, value: f64, range: std::ops::RangeInclusive<f64>, must| {
            check(name, value.to_string(), range.contains(&value), must)
        };
        within("natural_share", self.natural_share, natural::SHARE, "0.005 to 0.4")?;
        within("natural_rate", self.natural_rate, 0.0..=natural::MAX_RATE, "0 to 20 a second")?;
        let seconds = self.natural_seconds;
        check(
            "natural_seconds",
            seconds.to_string(),
            seconds <= natural::LONGEST,
            "at most 21600",
        )?;
        within("dispersion", self.dispersion, natural::DISPERSION, "1 to 20")?;
        if let Some(rate) = self.baseline_syn_rate {
            within("baseline_syn_rate", rate, 0.0..=MAX_RATE, "0 to 10^9 a second")?;
        }
        if let Some(rate) = self.baseline_completed_rate {
            within("baseline_completed_rate", rate, 0.0..=MAX_RATE, "0 to 10^9 a second")?;
        }
        if let Some(rtt) = self.rtt {
            check("rtt", format!("{rtt:?}"), rtt <= MAX_RTT, "at most 63 s")?;
        }
        let count = |name, value: u64| {
            check(name, value.to_string(), value <= MAX_COMPLETIONS, "fewer than 2^48")
        };
        count("completions", self.completions)?;
        self.prints.iter().try_for_each(|print| count("completions", print.completions))
    }
}

fn few(what: &'static str, found: usize, limit: usize) -> Result<(), LearnedError> {
    if found <= limit { Ok(()) } else { Err(LearnedError::TooMany { what, found, limit }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned() -> LearnedListener {
        LearnedListener {
            listener: Listener { addr: [203, 0, 113, 10].into(), port: 443 },
            natural_share: 0.02,
            natural_rate: 0.0,
            natural_seconds: 3600,
            dispersion: 1.5,
            baseline_syn_rate: Some(200.0),
            baseline_completed_rate: Some(190.0),
            rtt: Some(Duration::from_millis(60)),
            completions: 1000,
            prints: Vec::new(),
        }
    }

    fn refusal(listener: LearnedListener) -> Option<LearnedError> {
        let learned = Learned::of(std::iter::once(listener), None);
        learned.validate().err()
    }

    #[test]
    fn an_export_is_accepted_by_an_import() {
        assert_eq!(refusal(learned()), None);
    }

    #[test]
    fn what_cannot_have_been_learned_is_refused_with_its_name() {
        let cases = [
            (LearnedListener { natural_share: f64::NAN, ..learned() }, "natural_share"),
            (LearnedListener { natural_share: 0.9, ..learned() }, "natural_share"),
            (LearnedListener { natural_rate: -1.0, ..learned() }, "natural_rate"),
            (LearnedListener { natural_seconds: u64::MAX, ..learned() }, "natural_seconds"),
            (LearnedListener { dispersion: f64::INFINITY, ..learned() }, "dispersion"),
            (LearnedListener { baseline_syn_rate: Some(-0.5), ..learned() }, "baseline_syn_rate"),
            (
                LearnedListener { baseline_completed_rate: Some(f64::NAN), ..learned() },
                "baseline_completed_rate",
            ),
            (LearnedListener { rtt: Some(Duration::from_secs(64)), ..learned() }, "rtt"),
            (LearnedListener { completions: u64::MAX, ..learned() }, "completions"),
        ];
        for (changed, expected) in cases {
            let refused = refusal(changed).expect("refused");
            let LearnedError::Absurd { listener, name, .. } = refused else {
                panic!("{refused:?}");
            };
            assert_eq!((listener, name), (learned().listener, expected));
        }
    }

    #[test]
    fn another_version_is_refused() {
        let of = |version| Learned { version, ..Learned::default() };
        for found in [0, 2] {
            assert_eq!(of(found).validate().err(), Some(LearnedError::Version { found }));
        }
    }
}
