//! Numbers, shares and spans of time in words.

use std::time::Duration;

/// `950`, `4096`, `25.1k`, `1.84M`: three digits.
pub(crate) fn short(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 999.5e6 => (n / 1e9, "G"),
        n if n >= 999.5e3 => (n / 1e6, "M"),
        n if n >= 9_999.5 => (n / 1e3, "k"),
        n => return format!("{n:.0}"),
    };
    let decimals = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// `99.8%`, `100%`: never 0 or 100 that is not.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match format!("{percent:.1}") {
        _ if percent > 0.0 && percent < 0.1 => "<0.1%".to_owned(),
        _ if percent > 99.9 && percent < 100.0 => ">99.9%".to_owned(),
        text => format!("{}%", text.strip_suffix(".0").unwrap_or(&text)),
    }
}

/// `45s`, `3m20s`, `2h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let text = |large: u64, unit: &str, small: u64, rest: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{rest}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => text(seconds / 60, "m", seconds % 60, "s"),
        _ => text(seconds / 3600, "h", seconds / 60 % 60, "m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (999.4, "999"),
            (1000.0, "1000"),
            (25_130.0, "25.1k"),
            (100_000.0, "100k"),
            (999_600.0, "1M"),
            (1_840_000.0, "1.84M"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn a_share_reads_0_or_100_only_when_it_is() {
        let cases =
            [(0.0, "0%"), (0.0002, "<0.1%"), (0.002, "0.2%"), (0.9999, ">99.9%"), (1.0, "100%")];
        for (share, text) in cases {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn spans_have_two_units() {
        let cases = [(45, "45s"), (200, "3m20s"), (7200, "2h"), (7320, "2h2m")];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
