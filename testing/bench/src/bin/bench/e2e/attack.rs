//! The floods that the defences meet.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use tcpguard_kit::net::lab::{Family, Lab};
use tcpguard_kit::traffic::flood::{Delivery, Flood, MAX_DURATION, Pulses, Shape, Sources};
use tcpguard_kit::traffic::likeness::Likeness;

/// Fingerprints and sources of a flood.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One fingerprint without options, random sources: a signature matches it
    Fixed,
    /// Fixed fingerprint and one sequence number, from 2²⁹ sources with one port each: at 7 M SYN/s one
    /// SYN in 25 has been there within 3 s
    Returning,
    /// Copies of the client's own SYN, random sources, natural TTLs
    Mimic,
    /// Random window and MSS, as of Mirai and its kin
    Mirai,
    /// Fixed fingerprint and copies, half and half
    Mixed,
    /// Fixed fingerprint, from one address
    Single,
    /// Fixed fingerprint, from a /24 (a /56)
    Net,
    /// Fixed fingerprint, 0.5 s on, 2.75 s off
    Pulses,
    /// Copies, 0.5 s on, 2.75 s off
    MimicPulses,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    Paced(u32),
    /// All that the machine can make.
    Maximum,
}

/// Binary logarithm of the number of different SYNs of a returning flood.
const RETURNING: u32 = 29;
pub const PULSES: Pulses =
    Pulses { on: Duration::from_millis(500), off: Duration::from_millis(2750) };

impl Kind {
    pub const fn is_pulsed(self) -> bool {
        matches!(self, Self::Pulses | Self::MimicPulses)
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Fixed => "fixed-fingerprint",
            Self::Returning => "returning",
            Self::Mimic => "mimicking",
            Self::Mirai => "mirai",
            Self::Mixed => "mixed",
            Self::Single => "single",
            Self::Net => "net",
            Self::Pulses => "pulses",
            Self::MimicPulses => "mimic-pulses",
        }
    }

    /// The flood, not started yet. It lasts until it is stopped.
    ///
    /// # Errors
    /// When a client's SYN is to be copied and none is seen.
    pub fn flood(self, lab: &Lab, family: Family, rate: Rate) -> Result<Flood> {
        let likeness = || Likeness::capture(lab, family);
        let shape = match self {
            Self::Fixed | Self::Returning | Self::Single | Self::Net | Self::Pulses => Shape::Bare,
            Self::Mimic | Self::MimicPulses => Shape::Copy(likeness()?),
            Self::Mirai => Shape::RandomWindowMss,
            Self::Mixed => Shape::BareAndCopies(likeness()?),
        };
        let v4 = family == Family::V4;
        let sources = match self {
            Self::Single if v4 => Sources::One("198.51.100.7".parse()?),
            Self::Single => Sources::One("2001:db8::7".parse()?),
            Self::Net if v4 => Sources::Net("198.51.100.0/24".parse()?),
            Self::Net => Sources::Net("2001:db8:7::/56".parse()?),
            _ => Sources::Random,
        };
        let flood = Flood { shape, sources, ..Flood::random(family.service(), MAX_DURATION) };
        let flood = rate.applied_to(flood);
        let distinct = (self == Self::Returning).then_some(RETURNING);
        Ok(Flood { pulses: self.is_pulsed().then_some(PULSES), distinct, ..flood })
    }
}

impl Rate {
    /// `flood` at this rate, straight into the ring of the host under test.
    pub fn applied_to(self, flood: Flood) -> Flood {
        match self {
            Self::Paced(rate) => Flood { rate, delivery: Delivery::Bursts, ..flood },
            Self::Maximum => Flood { delivery: Delivery::Unpaced, ..flood },
        }
    }

    pub fn title(self) -> String {
        match self {
            Self::Maximum => "maximum".to_owned(),
            Self::Paced(rate) => format!("{rate} SYN/s"),
        }
    }
}

/// `100k`, `500000` or `max`.
///
/// # Errors
/// Names what else was given.
pub fn parse_rate(text: &str) -> Result<Rate> {
    if text == "max" {
        return Ok(Rate::Maximum);
    }
    let (number, unit) = match text.strip_suffix('k') {
        Some(number) => (number, 1000),
        None => (text, 1),
    };
    let number: u32 = number.parse().with_context(|| format!("{text:?} is no rate"))?;
    match number.checked_mul(unit) {
        Some(rate @ 1..=1_000_000) => Ok(Rate::Paced(rate)),
        _ => bail!("{text}: 1 to 1000k, or max"),
    }
}
