//! Prefixes as people write them.

use std::net::IpAddr;

use ipnet::IpNet;

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
