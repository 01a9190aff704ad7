//! Time spans as people type them.

use std::time::Duration;

use tcpguard_host::units::span;

/// Reads `90s`, `10m`, `1h30m`, `2d`: whole numbers, each with its unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    // clap quotes the input.
    let wrong = || "not a time; write one such as 90s, 10m, 1h30m or 2d".to_owned();
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

/// Reads such a time of at most `longest`; a longer one is refused, not cut.
pub(super) fn at_most(
    longest: Duration,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let time = parse(text)?;
        match time <= longest {
            true => Ok(time),
            false => {
                Err(format!("{} is the longest; do it again when that is over", span(longest)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{at_most, parse};

    #[test]
    fn what_is_too_long_is_refused_and_not_cut() {
        let day = at_most(Duration::from_secs(86_400));
        assert_eq!(day("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(day("25h"), Err("1d is the longest; do it again when that is over".to_owned()));
        let month = at_most(Duration::from_secs(30 * 86_400));
        assert!(month("31d").is_err_and(|why| why.starts_with("30d is")));
    }

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
