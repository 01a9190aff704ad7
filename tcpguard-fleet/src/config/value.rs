//! Forms of single values. Each error names the value that was found and the form to write.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::de::{Deserialize as _, Deserializer, Error, Unexpected};
use tcpguard_host::toml_value::{Form, list, ports, whole};

use crate::relief::flowspec::{HIGHEST_RATE, LOWEST_RATE};
use crate::relief::route::Community;

/// The address of a server.
pub(super) enum Server {}

/// A text that is not empty.
pub(super) enum Text {}

/// The absolute path of a file.
pub(super) enum AbsolutePath {}

/// An address.
pub(super) enum Address {}

/// A community of BGP.
pub(super) enum CommunityForm {}

impl Form for Server {
    type Value = String;

    fn read(text: &str) -> Result<String, String> {
        let known = ["tls://", "nats://"].iter().any(|scheme| text.starts_with(scheme));
        match known && !text.contains('@') {
            true => Ok(text.to_owned()),
            false => {
                Err(format!("\"{text}\" is not a server, such as \"tls://nats.example.net:4222\""))
            }
        }
    }
}

impl Form for Text {
    type Value = String;

    fn read(text: &str) -> Result<String, String> {
        match text.is_empty() {
            true => Err("an empty text means nothing; leave the key out".to_owned()),
            false => Ok(text.to_owned()),
        }
    }
}

impl Form for AbsolutePath {
    type Value = PathBuf;

    fn read(text: &str) -> Result<PathBuf, String> {
        match text.starts_with('/') {
            true => Ok(text.into()),
            false => Err(format!("\"{text}\" is not an absolute path, such as \"/etc/…\"")),
        }
    }
}

impl Form for Address {
    type Value = IpAddr;

    fn read(text: &str) -> Result<IpAddr, String> {
        let address = text.parse::<IpAddr>().map(|address| address.to_canonical());
        address.map_err(|_| format!("\"{text}\" is not an IP address, such as \"192.0.2.10\""))
    }
}

impl Form for CommunityForm {
    type Value = Community;

    fn read(text: &str) -> Result<Community, String> {
        text.parse().map_err(|_| format!("\"{text}\" is not a community, such as \"65535:666\""))
    }
}

pub(super) fn some_list<'de, F: Form, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<F::Value>>, D::Error> {
    list::<F, D>(deserializer).map(Some)
}

pub(super) fn some_ports<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<u16>>, D::Error> {
    ports(deserializer).map(Some)
}

/// A number with decimals or without, at least `least` and at most `most`.
fn number<'de, D: Deserializer<'de>>(
    deserializer: D,
    (least, most): (f64, f64),
) -> Result<Option<f64>, D::Error> {
    let number = f64::deserialize(deserializer)?;
    match (least..=most).contains(&number) {
        true => Ok(Some(number)),
        false => {
            let must_be = format!("a number from {least} to {most}");
            Err(D::Error::invalid_value(Unexpected::Float(number), &&*must_be))
        }
    }
}

pub(super) fn some_number<'de, const LEAST: u64, const MOST: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    number(deserializer, (LEAST as f64, MOST as f64))
}

pub(super) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    number(deserializer, (0.001, 1.0))
}

/// A rate in bytes per second, or 0 for none.
pub(super) fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match whole::<u32, 0, { HIGHEST_RATE as u64 }, D>(deserializer)? {
        rate if rate == 0 || rate >= LOWEST_RATE => Ok(Some(rate)),
        rate => Err(D::Error::custom(format!(
            "{rate} does not fit; write a whole number from {LOWEST_RATE} to {HIGHEST_RATE}, or 0"
        ))),
    }
}
