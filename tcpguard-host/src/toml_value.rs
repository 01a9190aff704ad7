//! Readers of single values of a configuration. Each error names the value that was found and the form to write.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use toml::de::DeValue;

/// The value that was found instead of the wanted one, as it was written.
pub fn found(value: &DeValue<'_>) -> String {
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

/// A whole number of this range.
///
/// # Errors
/// When it is none.
pub fn integer(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = value.as_integer();
    number
        .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            does_not_fit(&found(value), &format!("a whole number from {least} to {most}"))
        })
}

/// The message about a value that is out of its range.
pub fn does_not_fit(text: &str, must_be: &str) -> String {
    format!("{text} does not fit; write {must_be}")
}

/// `true` or `false`.
///
/// # Errors
/// When it is none.
pub fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("{} is neither true nor false; write one of them", found(value)))
}

/// One of the named values.
///
/// # Errors
/// When it is none.
pub fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, String> {
    let wanted = value.as_str();
    choices.iter().find(|(name, _)| Some(*name) == wanted).map(|(_, choice)| *choice).ok_or_else(
        || {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            format!("{} is not known; write one of {}", found(value), names.join(", "))
        },
    )
}

/// A prefix, as [`parse_prefix`] reads it.
///
/// # Errors
/// When it is none.
pub fn prefix(value: &DeValue<'_>) -> Result<IpNet, String> {
    let text = value.as_str().ok_or_else(|| {
        format!("{} is not a prefix; write one such as \"192.0.2.0/24\"", found(value))
    })?;
    parse_prefix(text)
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
