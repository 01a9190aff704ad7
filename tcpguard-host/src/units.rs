//! Numbers as people read them: three significant digits and a unit.

use std::time::Duration;

/// A count or a rate: `310`, `1.84 M`, `37.6 k`, and `0.4` below ten.
pub fn short(value: f64) -> String {
    if value < 9.95 && value.fract() >= 0.05 {
        return format!("{value:.1}");
    }
    if value < 999.5 {
        return format!("{value:.0}");
    }
    let mut scaled = value;
    let mut unit = "";
    for next in ["k", "M", "G", "T"] {
        scaled /= 1000.0;
        unit = next;
        if scaled < 999.5 {
            break;
        }
    }
    let decimals = match scaled {
        below if below < 9.995 => 2,
        below if below < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$} {unit}")
}

/// A size: `312 B`, `37.6 kB`, `1.84 MB`, in powers of a thousand.
pub fn bytes(value: u64) -> String {
    let text = short(value as f64);
    if text.contains(' ') { text + "B" } else { text + " B" }
}

/// Memory, as it is built in: `512 MiB`, `23.5 GiB`.
pub fn memory(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    match bytes {
        less if less < GIB => format!("{} MiB", less >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / GIB as f64),
    }
}

/// A count in full, its thousands apart: `19 912 345`.
pub fn exact(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A share of 1 as a percentage. Only exactly all is `100 %`, only exactly nothing is `0 %`.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        all if all >= 100.0 => "100 %".to_owned(),
        none if none <= 0.0 => "0 %".to_owned(),
        little if little < 0.1 => "< 0.1 %".to_owned(),
        most if most > 99.9 => "> 99.9 %".to_owned(),
        some => {
            let text = format!("{some:.1}");
            format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
        }
    }
}

/// A time span with its two largest units: `0.6 s`, `54 s`, `3m 20s`, `2h 05m`, `6d 04h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => {
            let tenths = span.as_millis() / 100;
            if tenths.is_multiple_of(10) {
                format!("{seconds} s")
            } else {
                format!("{seconds}.{} s", tenths % 10)
            }
        }
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// The time from one moment to another: as [`span()`], but to a tenth of a second below one minute.
pub fn elapsed(time: Duration) -> String {
    match time.as_millis() / 100 {
        tenths if tenths < 600 && !tenths.is_multiple_of(10) => {
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        _ => span(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_three_digits_and_a_unit() {
        for (value, expected) in [
            (0.0, "0"),
            (0.4, "0.4"),
            (4.0, "4"),
            (9.96, "10"),
            (310.2, "310"),
            (999.6, "1.00 k"),
            (1_234.0, "1.23 k"),
            (37_600.0, "37.6 k"),
            (99_960.0, "100 k"),
            (1_840_000.0, "1.84 M"),
            (2.5e12, "2.50 T"),
        ] {
            assert_eq!(short(value), expected, "{value}");
        }
    }

    #[test]
    fn sizes_have_their_unit() {
        for (value, expected) in
            [(0, "0 B"), (312, "312 B"), (65_536, "65.5 kB"), (1 << 30, "1.07 GB")]
        {
            assert_eq!(bytes(value), expected);
        }
    }

    #[test]
    fn memory_is_shown_in_powers_of_two() {
        for (value, expected) in
            [(0, "0 MiB"), (512 << 20, "512 MiB"), (1 << 30, "1.0 GiB"), (47 << 29, "23.5 GiB")]
        {
            assert_eq!(memory(value), expected);
        }
    }

    #[test]
    fn exact_counts_group_thousands() {
        for (value, expected) in
            [(0, "0"), (999, "999"), (1_000, "1 000"), (19_912_345, "19 912 345")]
        {
            assert_eq!(exact(value), expected);
        }
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_nothing() {
        for (share, expected) in [
            (0.0, "0 %"),
            (0.000_3, "< 0.1 %"),
            (0.002, "0.2 %"),
            (0.5, "50 %"),
            (0.989, "98.9 %"),
            (0.999_7, "> 99.9 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), expected, "{share}");
        }
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        for (millis, expected) in [
            (0, "0 s"),
            (640, "0.6 s"),
            (3_000, "3 s"),
            (54_900, "54 s"),
            (200_000, "3m 20s"),
            (7_500_000, "2h 05m"),
            (533_520_000, "6d 04h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn elapsed_times_below_a_minute_have_tenths() {
        for (millis, expected) in [
            (0, "0 s"),
            (640, "0.6 s"),
            (9_990, "9.9 s"),
            (33_000, "33 s"),
            (33_830, "33.8 s"),
            (59_990, "59.9 s"),
            (60_900, "1m 00s"),
        ] {
            assert_eq!(elapsed(Duration::from_millis(millis)), expected);
        }
    }
}
