//! Time spans as people type them.

use std::time::Duration;

/// Reads `90s`, `10m`, `1h30m`, `2d`: whole numbers, each with its unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a time; write one such as 90s, 10m, 1h30m or 2d");
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(unit).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    if seconds == 0 {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn spans_are_numbers_with_units() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("1h30m", Some(5_400)),
            ("2d", Some(172_800)),
            ("", None),
            ("0s", None),
            ("10", None),
            ("h", None),
            ("1w", None),
            ("-1h", None),
            ("1\u{e9}", None),
            ("99999999999999999999d", None),
            ("999999999999999d", None),
        ] {
            assert_eq!(parse(text).ok().map(|span| span.as_secs()), seconds, "{text}");
        }
    }
}
