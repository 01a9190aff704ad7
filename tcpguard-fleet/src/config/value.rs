//! Readers of single values. Each error names the value that was found and the form to write.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use toml::de::DeValue;

/// The value that was found, as it was written.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

/// A whole number.
pub(super) fn integer(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = value.as_integer();
    number
        .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("{} does not fit; write a whole number from {least} to {most}", found(value))
        })
}

/// A whole number of another type.
pub(super) fn whole<T: TryFrom<u64> + Into<u64>>(
    value: &DeValue<'_>,
    range: RangeInclusive<T>,
) -> Result<T, String> {
    let (least, most) = range.into_inner();
    let number = integer(value, least.into()..=most.into())?;
    T::try_from(number).map_err(|_| format!("{number} does not fit"))
}

/// A number with decimals or without.
pub(super) fn number(value: &DeValue<'_>, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number = match value {
        DeValue::Integer(number) => {
            u64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("{} does not fit; write a number from {least} to {most}", found(value))
    })
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("{} is neither true nor false; write one of them", found(value)))
}

/// One of the named values.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, String> {
    let wanted = value.as_str();
    let chosen = choices.iter().find(|(name, _)| Some(*name) == wanted);
    chosen.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        format!("{} is not known; write one of {}", found(value), names.join(", "))
    })
}

/// A text that is not empty.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| format!("{} is not a text in quotes", found(value)))
}

/// A text that another type reads.
pub(super) fn parsed<T: FromStr<Err: Display>>(value: &DeValue<'_>) -> Result<T, String> {
    let text = text(value)?;
    text.parse().map_err(|why| format!("\"{text}\" is {why}"))
}

/// The absolute path of a file.
pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = value.as_str().filter(|path| path.starts_with('/'));
    path.map(PathBuf::from)
        .ok_or_else(|| format!("{} is not an absolute path, such as \"/etc/…\"", found(value)))
}

/// An address.
pub(super) fn address(value: &DeValue<'_>) -> Result<IpAddr, String> {
    let address = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    address
        .map(|address| address.to_canonical())
        .ok_or_else(|| format!("{} is not an IP address, such as \"192.0.2.10\"", found(value)))
}

/// A prefix, or an address as the prefix of it alone.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<IpNet, String> {
    let text = value.as_str().unwrap_or_default();
    let address = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    match text.parse::<IpNet>().ok().or_else(address) {
        Some(net) if net == net.trunc() => Ok(net),
        Some(net) => {
            Err(format!("\"{text}\" has bits behind its length; write \"{}\"", net.trunc()))
        }
        None => Err(format!("{} is not a prefix, such as \"192.0.2.0/24\"", found(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_value_and_the_form() {
        let text = |text: &'static str| DeValue::String(text.into());
        for (error, expected) in [
            (
                prefix(&text("192.0.2.1/24")).err(),
                "\"192.0.2.1/24\" has bits behind its length; write \"192.0.2.0/24\"",
            ),
            (prefix(&text("all")).err(), "\"all\" is not a prefix, such as \"192.0.2.0/24\""),
            (
                path(&text("fleet.creds")).err(),
                "\"fleet.creds\" is not an absolute path, such as \"/etc/…\"",
            ),
            (boolean(&text("yes")).err(), "\"yes\" is neither true nor false; write one of them"),
            (
                choice(&text("frr"), &[("gobgp", 1)]).err(),
                "\"frr\" is not known; write one of \"gobgp\"",
            ),
            (number(&text("1"), 0.0..=1.0).err(), "\"1\" does not fit; write a number from 0 to 1"),
        ] {
            assert_eq!(error.as_deref(), Some(expected));
        }
        assert_eq!(
            prefix(&text("192.0.2.1")).map(|net| net.to_string()),
            Ok("192.0.2.1/32".to_owned())
        );
    }
}
