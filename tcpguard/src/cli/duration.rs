//! Time spans as people type them.

use std::time::Duration;

pub(super) use tcpguard_host::units::parse_span as parse;
use tcpguard_host::units::span;

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
