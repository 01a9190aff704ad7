//! Readers of single values. Each error names the value that was found and the form to write.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use tcpguard_host::toml_value::found;
pub(super) use tcpguard_host::toml_value::{boolean, choice, integer, prefix};
use toml::de::DeValue;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_value_and_the_form() {
        let text = |text: &'static str| DeValue::String(text.into());
        for (error, expected) in [
            (
                path(&text("fleet.creds")).err(),
                "\"fleet.creds\" is not an absolute path, such as \"/etc/…\"",
            ),
            (number(&text("1"), 0.0..=1.0).err(), "\"1\" does not fit; write a number from 0 to 1"),
        ] {
            assert_eq!(error.as_deref(), Some(expected));
        }
    }
}
