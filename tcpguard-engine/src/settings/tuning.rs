//! Settings that differ at some listeners.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Settings, SettingsError, threshold};
use crate::{Listener, Mitigation, Mode};

/// The thresholds that a listener may have values of its own for, by their field of [`Settings`].
/// They say which failures of *its* clients matter and how full *its* queue may be; the others weigh
/// evidence, which is the same everywhere, or concern the whole host.
pub const PER_LISTENER: [&str; 6] = [
    "fast_failures",
    "failure_floor",
    "health_check_rate",
    "occupancy_on",
    "occupancy_off",
    "occupancy_min",
];

/// The common settings, and those that differ at some listeners.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// Settings of listeners without an override.
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

/// Settings that differ for one listener, or for one port.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Listeners to which the override applies.
    pub at: Place,
    /// The mode there, where it is milder than the agent's: the agent never does more at a
    /// listener than it does everywhere.
    pub mode: Option<Mode>,
    /// The mitigations that are not started there, except by an operator's order.
    pub barred: Vec<Mitigation>,
    /// Thresholds among [`PER_LISTENER`] with their values there, each in its unit. Others change
    /// nothing.
    pub thresholds: Vec<(&'static str, f64)>,
}

impl Override {
    /// The settings there, where elsewhere those are `common`. Nothing is checked.
    pub fn settings(&self, common: &Settings) -> Settings {
        let mut settings = common.clone();
        for (name, value) in &self.thresholds {
            if let Some(threshold) = threshold(name).filter(|_| PER_LISTENER.contains(name)) {
                threshold.set(&mut settings, *value);
            }
        }
        settings
    }
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
    /// Settings of the whole host.
    pub common: Settings,
    own: BTreeMap<Place, Own>,
}

#[derive(Clone, Debug)]
struct Own {
    settings: Settings,
    mode: Option<Mode>,
    barred: Vec<Mitigation>,
}

impl Tuned {
    /// Works out the settings of each override.
    ///
    /// # Errors
    /// When settings contradict themselves, the common ones or those of an override.
    pub fn new(tuning: Tuning) -> Result<Self, SettingsError> {
        let Tuning { common, overrides } = tuning;
        common.validate()?;
        let mut own = BTreeMap::new();
        for one in overrides {
            let settings = one.settings(&common);
            settings.validate()?;
            own.insert(one.at, Own { settings, mode: one.mode, barred: one.barred });
        }
        Ok(Self { common, own })
    }

    /// The settings of a listener.
    pub fn of(&self, listener: Listener) -> &Settings {
        self.own(listener).map_or(&self.common, |own| &own.settings)
    }

    /// The mode at a listener while the agent is in mode `guard`.
    pub fn mode(&self, listener: Listener, guard: Mode) -> Mode {
        let own = self.own(listener).and_then(|own| own.mode);
        own.map_or(guard, |own| own.min(guard))
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
        Override { at, mode: None, barred: Vec::new(), thresholds: Vec::new() }
    }

    #[test]
    fn every_local_threshold_is_one_with_a_key() {
        for name in PER_LISTENER {
            assert!(threshold(name).is_some_and(|threshold| threshold.key.is_some()), "{name}");
        }
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
        let port = Override {
            mode: Some(Mode::Observe),
            thresholds: vec![("occupancy_min", 64.0), ("fast_failures", 128.0)],
            ..other(place(None, 443))
        };
        let address = Override {
            barred: vec![Mitigation::Cookies],
            thresholds: vec![("occupancy_min", 32.0)],
            ..other(place(Some("203.0.113.10"), 443))
        };
        let overrides = vec![port, address];
        let tuned = Tuned::new(Tuning { overrides, ..Tuning::default() }).unwrap();
        let seen = |text| {
            let listener = listener(text);
            let settings = tuned.of(listener);
            let mode = tuned.mode(listener, Mode::Enforce);
            (settings.occupancy_min, settings.fast_failures, mode, tuned.barred(listener).len())
        };
        assert_eq!(seen("203.0.113.10:443"), (32, 64, Mode::Enforce, 1));
        for on_the_port in ["203.0.113.11:443", "0.0.0.0:443", "[::]:443"] {
            assert_eq!(seen(on_the_port), (64, 128, Mode::Observe, 0), "{on_the_port}");
        }
        assert_eq!(seen("203.0.113.10:80"), (16, 64, Mode::Enforce, 0));
        assert!(std::ptr::eq(tuned.of(listener("0.0.0.0:80")), &tuned.common));
    }

    #[test]
    fn the_milder_mode_holds() {
        let at = place(None, 25);
        let with = |mode| {
            let overrides = vec![Override { mode: Some(mode), ..other(at) }];
            Tuned::new(Tuning { overrides, ..Tuning::default() }).unwrap()
        };
        let smtp = listener("0.0.0.0:25");
        for (own, guard, expected) in [
            (Mode::Observe, Mode::Enforce, Mode::Observe),
            (Mode::Off, Mode::Enforce, Mode::Off),
            (Mode::Enforce, Mode::Observe, Mode::Observe),
            (Mode::Observe, Mode::Off, Mode::Off),
        ] {
            assert_eq!(with(own).mode(smtp, guard), expected, "{own:?} {guard:?}");
        }
    }

    #[test]
    fn thresholds_that_contradict_each_other_at_one_place_are_refused() {
        let thresholds = vec![("occupancy_on", 0.1)];
        let overrides = vec![Override { thresholds, ..other(place(None, 443)) }];
        let error = Tuned::new(Tuning { overrides, ..Tuning::default() }).unwrap_err();
        assert_eq!(error.name, "occupancy_off");
    }

    #[test]
    fn what_concerns_the_whole_host_no_listener_changes() {
        let thresholds = vec![("incidents", 1.0), ("health_check_rate", 99.0)];
        let own = Override { thresholds, ..other(place(None, 443)) };
        let common = Settings::default();
        let expected = Settings { health_check_rate: 99.0, ..common.clone() };
        assert_eq!(own.settings(&common), expected);
    }
}
