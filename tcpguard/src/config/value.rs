//! Readers of single values. Each error names the value that was found and the form to write.

use std::net::SocketAddr;

use tcpguard_engine::{Mode, Place, Threshold};
use tcpguard_host::firewall::FirewallChoice;
use tcpguard_host::toml_value::found;
pub(super) use tcpguard_host::toml_value::{boolean, choice, does_not_fit, integer, prefix};
use toml::de::DeValue;

use super::{BeyondBounds, CookieChoice};
use crate::bpf::{PIN_DIR, XdpMode};

/// A threshold as it was written, in its unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Amount {
    /// Value of the threshold, in its unit.
    pub number: f64,
    /// Text of the value, as it is in the file.
    pub text: String,
}

/// The modes by name.
pub const MODES: [(&str, Mode); 3] =
    [("observe", Mode::Observe), ("enforce", Mode::Enforce), ("off", Mode::Off)];

/// Names of [`CookieChoice`].
pub(crate) const COOKIE_BACKENDS: [(&str, CookieChoice); 4] = [
    ("auto", CookieChoice::Auto),
    ("own", CookieChoice::Own),
    ("kernel_helper", CookieChoice::KernelHelper),
    ("kernel", CookieChoice::Kernel),
];

/// Names of [`FirewallChoice`].
pub(crate) const COOKIE_FIREWALL: [(&str, FirewallChoice); 2] =
    [("refuse", FirewallChoice::Refuse), ("allow", FirewallChoice::Allow)];

/// Names of [`BeyondBounds`].
pub(crate) const BEYOND_BOUNDS: [(&str, BeyondBounds); 3] =
    [("auto", BeyondBounds::Auto), ("pass", BeyondBounds::Pass), ("drop", BeyondBounds::Drop)];

/// Names of [`XdpMode`].
pub(crate) const XDP_MODES: [(&str, XdpMode); 3] =
    [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];

/// The name of a mode.
pub fn mode_name(mode: Mode) -> &'static str {
    mode.name()
}

/// A threshold of any size: the engine judges whether it is in range.
pub(super) fn amount(value: &DeValue<'_>, threshold: &Threshold) -> Result<Amount, String> {
    let number = match value {
        DeValue::Integer(number) => {
            u64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(number) if !threshold.unit.is_whole() => number.as_str().parse().ok(),
        _ => None,
    };
    match number {
        Some(number) => Ok(Amount { number, text: found(value) }),
        None => Err(does_not_fit(&found(value), &threshold.must_be())),
    }
}

/// An interface name by the kernel's rules (`dev_valid_name`): 1 to 15 bytes, no slash, colon or
/// white space, and neither `.` nor `..`.
pub(super) fn interface(value: &DeValue<'_>) -> Result<String, String> {
    value
        .as_str()
        .filter(|name| {
            (1..=15).contains(&name.len())
                && *name != "."
                && *name != ".."
                && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
        })
        .map(str::to_owned)
        .ok_or_else(|| {
            format!("{} is not an interface name; `ip -br link` lists them", found(value))
        })
}

/// A name under which a next program is pinned. A BPF file system takes no dots.
pub(super) fn pin(value: &DeValue<'_>) -> Result<String, String> {
    value
        .as_str()
        .filter(|name| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
        .map(str::to_owned)
        .ok_or_else(|| {
            format!(
                "{} is no name of letters, digits, - and _; write \"balancer\" for the program that is \
                 pinned at {PIN_DIR}/next/balancer",
                found(value)
            )
        })
}

pub(super) fn port(value: &DeValue<'_>) -> Result<u16, String> {
    integer(value, 1..=65_535).map(|port| port as u16)
}

/// Reads a port, or an address with a port, at which listeners are.
pub(super) fn place(value: &DeValue<'_>) -> Result<Place, String> {
    let text = value.as_str().unwrap_or_default();
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
            "{} is no address with a port; write one such as \":443\", \"203.0.113.10:443\" or \
             \"[2001:db8::1]:443\"",
            found(value)
        )
    })?;
    match place.addr {
        Some(addr) if addr.is_unspecified() => Err(format!(
            "{} is written \":{}\", which is every listener on the port",
            found(value),
            place.port
        )),
        _ => Ok(place),
    }
}

/// A name of a Unix group, or its number.
pub(super) fn group(value: &DeValue<'_>) -> Result<String, String> {
    value
        .as_str()
        .filter(|name| !name.is_empty() && !name.contains([':', '\n', ' ']))
        .map(str::to_owned)
        .ok_or_else(|| {
            format!("{} is not a group; write the name of one, such as \"adm\"", found(value))
        })
}

/// An address and port of this host that other hosts cannot reach.
pub(super) fn loopback(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let address = value.as_str().and_then(|text| text.parse::<SocketAddr>().ok());
    address.filter(|address| address.ip().is_loopback() && address.port() != 0).ok_or_else(|| {
        format!(
            "{} is no loopback address with a port; write one such as \"127.0.0.1:9469\" or \
             \"[::1]:9469\"",
            found(value)
        )
    })
}
