//! Values of a configuration with a form of their own, for `#[serde(deserialize_with)]`. Each error names the
//! form to write.

use std::fmt;
use std::fmt::Display;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// The form of a text that stands for a value.
pub trait Form {
    /// The value.
    type Value;

    /// Reads the text.
    ///
    /// # Errors
    /// The form to write instead.
    fn read(text: &str) -> Result<Self::Value, String>;
}

/// A text that a type reads by itself.
#[derive(Debug)]
pub struct Parsed<T>(PhantomData<T>);

/// A prefix, as [`parse_prefix`] reads it.
#[derive(Debug)]
pub struct Prefix;

impl<T: FromStr<Err: Display>> Form for Parsed<T> {
    type Value = T;

    fn read(text: &str) -> Result<T, String> {
        text.parse().map_err(|why| format!("\"{text}\" is {why}"))
    }
}

impl Form for Prefix {
    type Value = IpNet;

    fn read(text: &str) -> Result<IpNet, String> {
        parse_prefix(text)
    }
}

/// An element of a list.
struct Element<F: Form>(F::Value);

impl<'de, F: Form> Deserialize<'de> for Element<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one::<F, D>(deserializer).map(Self)
    }
}

/// A value.
///
/// # Errors
/// When it has not the form.
pub fn one<'de, F: Form, D: Deserializer<'de>>(deserializer: D) -> Result<F::Value, D::Error> {
    F::read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A value that has no default.
///
/// # Errors
/// When it has not the form.
pub fn some<'de, F: Form, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<F::Value>, D::Error> {
    one::<F, D>(deserializer).map(Some)
}

/// A list of values.
///
/// # Errors
/// When an element has not the form.
pub fn list<'de, F: Form, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<F::Value>, D::Error> {
    let elements = Vec::<Element<F>>::deserialize(deserializer)?;
    Ok(elements.into_iter().map(|element| element.0).collect())
}

/// A whole number of a range.
#[derive(Clone, Copy, Debug)]
struct Whole<T, const LEAST: u64, const MOST: u64>(T);

impl<'de, T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Deserialize<'de>
    for Whole<T, LEAST, MOST>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(InRange::<T, LEAST, MOST>(PhantomData)).map(Self)
    }
}

struct InRange<T, const LEAST: u64, const MOST: u64>(PhantomData<T>);

impl<T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Visitor<'_> for InRange<T, LEAST, MOST> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a whole number from {LEAST} to {MOST}")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let value = u64::try_from(number).ok().filter(|value| (LEAST..=MOST).contains(value));
        let value = value.and_then(|value| T::try_from(value).ok());
        value.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

/// A whole number of a range.
///
/// # Errors
/// When it is none.
pub fn whole<'de, T, const LEAST: u64, const MOST: u64, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    Whole::<T, LEAST, MOST>::deserialize(deserializer).map(|number| number.0)
}

/// A whole number of a range that has no default.
///
/// # Errors
/// When it is none.
pub fn some_whole<'de, T, const LEAST: u64, const MOST: u64, D>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    whole::<T, LEAST, MOST, D>(deserializer).map(Some)
}

/// A list of ports.
///
/// # Errors
/// When an element is none.
pub fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u16>, D::Error> {
    let ports = Vec::<Whole<u16, 1, { u16::MAX as u64 }>>::deserialize(deserializer)?;
    Ok(ports.into_iter().map(|port| port.0).collect())
}

/// Reads `192.0.2.0/24`, `2001:db8::/32`, or a single address, which stands for itself.
///
/// # Errors
///
/// A message with the form to write instead; also when bits right of the prefix are set, because then the
/// intended prefix is ambiguous.
pub fn parse_prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(addr.to_canonical()));
    }
    let net: IpNet = text.parse().map_err(|_| {
        format!("\"{text}\" is not a prefix; write one such as 192.0.2.0/24 or 2001:db8::1")
    })?;
    if net.trunc() != net {
        let (host, network) = (IpNet::from(net.addr()).addr(), net.trunc());
        return Err(format!("{net} has bits set right of the prefix; write {network} or {host}"));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::parse_prefix;

    #[test]
    fn an_address_stands_for_itself() {
        for (text, expected) in [
            ("192.0.2.0/24", Ok("192.0.2.0/24")),
            ("192.0.2.7", Ok("192.0.2.7/32")),
            ("2001:db8::1", Ok("2001:db8::1/128")),
            ("::ffff:192.0.2.7", Ok("192.0.2.7/32")),
            (
                "192.0.2.7/24",
                Err(
                    "192.0.2.7/24 has bits set right of the prefix; write 192.0.2.0/24 or 192.0.2.7",
                ),
            ),
            (
                "192.0.2",
                Err("\"192.0.2\" is not a prefix; write one such as 192.0.2.0/24 or 2001:db8::1"),
            ),
            (
                "192.0.2.0/33",
                Err(
                    "\"192.0.2.0/33\" is not a prefix; write one such as 192.0.2.0/24 or 2001:db8::1",
                ),
            ),
        ] {
            let read = parse_prefix(text).map(|net| net.to_string());
            assert_eq!(read.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
