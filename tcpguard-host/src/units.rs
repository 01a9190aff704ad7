//! Numbers as people read them: at most three significant digits, and the unit without a blank.

use std::time::Duration;

/// A count or a rate: `310`, `4096`, `37.6k`, `1.84M`, and `0.4` below ten.
pub fn short(value: f64) -> String {
    match value {
        little if little < 9.95 => trimmed(little, 1),
        whole if whole < 9_999.5 => trimmed(whole, 0),
        large => scaled(large, 1000.0, 999.5, &["k", "M", "G", "T"]),
    }
}

/// A whole number, as [`short()`].
pub fn whole(value: u64) -> String {
    short(value as f64)
}

/// A count of things: `1 packet`, `2300 packets`.
pub fn counted(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", whole(count), if count == 1 { "" } else { "s" })
}

/// A size in powers of two: `312B`, `64KiB`, `23.5GiB`.
pub fn bytes(value: u64) -> String {
    match value {
        little if little < 1024 => format!("{little}B"),
        large => scaled(large as f64, 1024.0, 1023.5, &["KiB", "MiB", "GiB", "TiB"]),
    }
}

/// A share of 1 as a percentage. Only exactly all is `100%`, only exactly nothing is `0%`.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        all if all >= 100.0 => "100%".to_owned(),
        none if none <= 0.0 => "0%".to_owned(),
        little if little < 0.1 => "<0.1%".to_owned(),
        most if most > 99.9 => ">99.9%".to_owned(),
        some => trimmed(some, 1) + "%",
    }
}

/// A time span with its two largest units, as an operator types it: `0.6s`, `54s`, `3m20s`, `2h5m`, `6d4h`.
pub fn span(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = span.as_secs();
    if seconds < 10 {
        return trimmed((span.as_millis() / 100) as f64 / 10.0, 1) + "s";
    }
    let mut rest = seconds;
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or_default();
    let two = UNITS[first..].iter().take(2).map(|(unit, name)| {
        let number = rest / unit;
        rest %= unit;
        (number, name)
    });
    two.filter(|(number, _)| *number > 0).map(|(number, name)| format!("{number}{name}")).collect()
}

/// Reads a time span as an operator types it: `90s`, `10m`, `1h30m`, `2d`, whole numbers with their units.
///
/// # Errors
/// The form to type, where it is another text or zero.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    // A reader of command lines quotes the input.
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

/// The time from one moment to another: as [`span()`], but to a tenth of a second below one minute.
pub fn elapsed(time: Duration) -> String {
    match time.as_millis() / 100 {
        tenths if tenths < 600 => trimmed(tenths as f64 / 10.0, 1) + "s",
        _ => span(time),
    }
}

/// Three significant digits and the smallest unit in which the number is at most `limit`.
fn scaled(value: f64, factor: f64, limit: f64, units: &[&str]) -> String {
    let mut scaled = value;
    let mut unit = "";
    for next in units {
        scaled /= factor;
        unit = next;
        if scaled < limit {
            break;
        }
    }
    let decimals = match scaled {
        below if below < 9.995 => 2,
        below if below < 99.95 => 1,
        _ => 0,
    };
    trimmed(scaled, decimals) + unit
}

/// The number with at most so many decimals, and without zeros at their end.
fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_three_digits_and_a_unit() {
        for (value, expected) in [
            (0.0, "0"),
            (0.03, "0"),
            (0.4, "0.4"),
            (4.0, "4"),
            (9.96, "10"),
            (310.2, "310"),
            (999.6, "1000"),
            (4_096.0, "4096"),
            (9_999.4, "9999"),
            (10_000.0, "10k"),
            (37_600.0, "37.6k"),
            (99_960.0, "100k"),
            (999_600.0, "1M"),
            (1_840_000.0, "1.84M"),
            (2.5e12, "2.5T"),
        ] {
            assert_eq!(short(value), expected, "{value}");
        }
        assert_eq!(whole(19_912_345), "19.9M");
    }

    #[test]
    fn sizes_are_shown_in_powers_of_two() {
        for (value, expected) in [
            (0, "0B"),
            (312, "312B"),
            (65_536, "64KiB"),
            (512 << 20, "512MiB"),
            (1 << 30, "1GiB"),
            (47 << 29, "23.5GiB"),
        ] {
            assert_eq!(bytes(value), expected);
        }
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_nothing() {
        for (share, expected) in [
            (0.0, "0%"),
            (0.000_3, "<0.1%"),
            (0.002, "0.2%"),
            (0.5, "50%"),
            (0.989, "98.9%"),
            (0.999_7, ">99.9%"),
            (1.0, "100%"),
        ] {
            assert_eq!(percent(share), expected, "{share}");
        }
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        for (millis, expected) in [
            (0, "0s"),
            (640, "0.6s"),
            (3_000, "3s"),
            (54_900, "54s"),
            (60_000, "1m"),
            (200_000, "3m20s"),
            (7_500_000, "2h5m"),
            (7_205_000, "2h"),
            (533_520_000, "6d4h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn elapsed_times_below_a_minute_have_tenths() {
        for (millis, expected) in [
            (0, "0s"),
            (640, "0.6s"),
            (9_990, "9.9s"),
            (33_000, "33s"),
            (33_830, "33.8s"),
            (59_990, "59.9s"),
            (60_900, "1m"),
        ] {
            assert_eq!(elapsed(Duration::from_millis(millis)), expected);
        }
    }
}
