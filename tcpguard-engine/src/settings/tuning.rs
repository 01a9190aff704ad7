//! Settings of single listeners: the mode, and the mitigations.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Settings;
use super::validate::SettingsError;
use crate::input::{Listener, Mitigation, Mode};

/// The thresholds, and what differs at some listeners.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// The thresholds, which are the same at every listener.
    pub common: Settings,
    /// The overrides. Where one names a listener by its address and another by its port alone, the
    /// one by address applies, as a whole.
    pub overrides: Vec<Override>,
}

impl From<Settings> for Tuning {
    fn from(common: Settings) -> Self {
        Self { common, overrides: Vec::new() }
    }
}

/// Settings of one listener, or of one port.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Listeners to which the override applies.
    pub at: Place,
    /// The mode there, where it is milder than the agent's: the agent never does more at a
    /// listener than it does everywhere.
    pub mode: Option<Mode>,
    /// The mitigations that are not started there, except by an operator's order.
    pub barred: Vec<Mitigation>,
}

/// Address and port of a listener, or the port of several.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Their local address; `None`: all that listen on the port, on one address or on every.
    pub addr: Option<IpAddr>,
    /// Their port.
    pub port: u16,
}

impl fmt::Display for Place {
    /// `203.0.113.10:443`, `[2001:db8::1]:443`, `:443`: as a configuration file has it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            Some(addr) => SocketAddr::new(addr, self.port).fmt(out),
            None => write!(out, ":{}", self.port),
        }
    }
}

/// A [`Tuning`], ready to be asked for any listener.
#[derive(Clone, Debug)]
pub(crate) struct Tuned {
    /// The thresholds.
    pub common: Settings,
    own: BTreeMap<Place, Own>,
}

#[derive(Clone, Debug)]
struct Own {
    mode: Option<Mode>,
    barred: Vec<Mitigation>,
}

impl Tuned {
    /// Puts the overrides in order.
    ///
    /// # Errors
    /// When a threshold is out of its range.
    pub fn new(tuning: Tuning) -> Result<Self, SettingsError> {
        let Tuning { common, overrides } = tuning;
        common.validate()?;
        let own = |one: Override| (one.at, Own { mode: one.mode, barred: one.barred });
        Ok(Self { common, own: overrides.into_iter().map(own).collect() })
    }

    /// The mode at a listener while the agent is in mode `agent_mode`.
    pub fn mode(&self, listener: Listener, agent_mode: Mode) -> Mode {
        let own = self.own(listener).and_then(|own| own.mode);
        own.map_or(agent_mode, |own| own.min(agent_mode))
    }

    /// The mitigations that are not started at a listener, except by an operator's order.
    pub fn barred(&self, listener: Listener) -> &[Mitigation] {
        self.own(listener).map_or(&[], |own| &own.barred)
    }

    fn own(&self, listener: Listener) -> Option<&Own> {
        let at = |addr| self.own.get(&Place { addr, port: listener.port });
        at(Some(listener.addr)).or_else(|| at(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(text: &str) -> Listener {
        let place: SocketAddr = text.parse().expect(text);
        Listener { addr: place.ip(), port: place.port() }
    }

    fn place(addr: Option<&str>, port: u16) -> Place {
        Place { addr: addr.map(|addr| addr.parse().expect(addr)), port }
    }

    fn other(at: Place) -> Override {
        Override { at, mode: None, barred: Vec::new() }
    }

    #[test]
    fn a_place_is_written_as_it_is_read() {
        for (place, text) in [
            (place(None, 443), ":443"),
            (place(Some("203.0.113.10"), 443), "203.0.113.10:443"),
            (place(Some("2001:db8::1"), 22), "[2001:db8::1]:22"),
        ] {
            assert_eq!(place.to_string(), text);
        }
    }

    #[test]
    fn an_address_is_nearer_than_a_port_and_anything_else_is_as_everywhere() {
        let port = Override { mode: Some(Mode::Observe), ..other(place(None, 443)) };
        let address = Override {
            barred: vec![Mitigation::Cookies],
            ..other(place(Some("203.0.113.10"), 443))
        };
        let overrides = vec![port, address];
        let tuned = Tuned::new(Tuning { overrides, ..Tuning::default() }).unwrap();
        let seen = |text| {
            let listener = listener(text);
            (tuned.mode(listener, Mode::Enforce), tuned.barred(listener).len())
        };
        assert_eq!(seen("203.0.113.10:443"), (Mode::Enforce, 1));
        for on_the_port in ["203.0.113.11:443", "0.0.0.0:443", "[::]:443"] {
            assert_eq!(seen(on_the_port), (Mode::Observe, 0), "{on_the_port}");
        }
        assert_eq!(seen("203.0.113.10:80"), (Mode::Enforce, 0));
    }

    #[test]
    fn the_milder_mode_holds() {
        let at = place(None, 25);
        let with = |mode| {
            let overrides = vec![Override { mode: Some(mode), ..other(at) }];
            Tuned::new(Tuning { overrides, ..Tuning::default() }).unwrap()
        };
        let smtp = listener("0.0.0.0:25");
        for (own, agent_mode, expected) in [
            (Mode::Observe, Mode::Enforce, Mode::Observe),
            (Mode::Off, Mode::Enforce, Mode::Off),
            (Mode::Enforce, Mode::Observe, Mode::Observe),
            (Mode::Observe, Mode::Off, Mode::Off),
        ] {
            assert_eq!(with(own).mode(smtp, agent_mode), expected, "{own:?} {agent_mode:?}");
        }
    }
}
