//! Forms of single values. Each error names the value that was found and the form to write.

use std::net::SocketAddr;

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize as _, Deserializer, Serializer};
use tcpguard_engine::{Mode, Place};
use tcpguard_host::toml_value::Form;

use crate::bpf::{PIN_DIR, XdpMode};

/// The modes by name.
pub const MODES: [(&str, Mode); 3] =
    [("observe", Mode::Observe), ("enforce", Mode::Enforce), ("off", Mode::Off)];

/// Names of [`XdpMode`].
pub(crate) const XDP_MODES: [(&str, XdpMode); 3] =
    [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];

/// Reads a threshold of any size: the engine judges whether it is in range.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match f64::deserialize(deserializer)? {
        number if number.is_finite() => Ok(Some(number)),
        number => Err(D::Error::invalid_value(Unexpected::Float(number), &"a number")),
    }
}

pub(super) fn place<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(place)
}

/// An interface name by the kernel's rules (`dev_valid_name`): 1 to 15 bytes, no slash, colon or
/// white space, and neither `.` nor `..`.
pub(super) enum Interface {}

/// A name under which a next program is pinned. A BPF file system takes no dots.
pub(super) enum Pin {}

/// A port, or an address with a port, at which listeners are.
pub(super) enum ListenerPlace {}

/// A name of a Unix group, or its number.
pub(super) enum Group {}

/// An address and port of this host that other hosts cannot reach.
pub(super) enum Loopback {}

impl Form for Interface {
    type Value = String;

    fn read(name: &str) -> Result<String, String> {
        let is_name = (1..=15).contains(&name.len())
            && name != "."
            && name != ".."
            && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
        match is_name {
            true => Ok(name.to_owned()),
            false => Err(format!("\"{name}\" is not an interface name; `ip -br link` lists them")),
        }
    }
}

impl Form for Pin {
    type Value = String;

    fn read(name: &str) -> Result<String, String> {
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        match is_name {
            true => Ok(name.to_owned()),
            false => Err(format!(
                "\"{name}\" is no name of letters, digits, - and _; write \"balancer\" for the program \
                 that is pinned at {PIN_DIR}/next/balancer"
            )),
        }
    }
}

impl Form for ListenerPlace {
    type Value = Place;

    fn read(text: &str) -> Result<Place, String> {
        let place = match text.strip_prefix(':') {
            // The standard library takes a sign too.
            Some(port) if port.starts_with('+') => None,
            Some(port) => port.parse().ok().map(|port| Place { addr: None, port }),
            None => text
                .parse::<SocketAddr>()
                .ok()
                .map(|place| Place { addr: Some(place.ip().to_canonical()), port: place.port() }),
        };
        let place = place.filter(|place| place.port != 0).ok_or_else(|| {
            format!(
                "\"{text}\" is no address with a port; write one such as \":443\", \
                 \"203.0.113.10:443\" or \"[2001:db8::1]:443\""
            )
        })?;
        match place.addr {
            Some(addr) if addr.is_unspecified() => Err(format!(
                "\"{text}\" is written \":{}\", which is every listener on the port",
                place.port
            )),
            _ => Ok(place),
        }
    }
}

impl Form for Group {
    type Value = String;

    fn read(name: &str) -> Result<String, String> {
        match name.is_empty() || name.contains([':', '\n', ' ']) {
            true => {
                Err(format!("\"{name}\" is not a group; write the name of one, such as \"adm\""))
            }
            false => Ok(name.to_owned()),
        }
    }
}

impl Form for Loopback {
    type Value = SocketAddr;

    fn read(text: &str) -> Result<SocketAddr, String> {
        let address = text.parse::<SocketAddr>().ok();
        address.filter(|address| address.ip().is_loopback() && address.port() != 0).ok_or_else(
            || {
                format!(
                    "\"{text}\" is no loopback address with a port; write one such as \
                 \"127.0.0.1:9469\" or \"[::1]:9469\""
                )
            },
        )
    }
}
