//! Ranges as monitoring plugins take them (Monitoring Plugins Development Guidelines, "Threshold and
//! Ranges").

use std::fmt;
use std::str::FromStr;

/// Values that are as they should be, or with `Range::inside` those that are not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest value within.
    start: f64,
    /// The largest value within.
    end: f64,
    /// True if it is values within that raise an alert, and not those outside.
    inside: bool,
}

impl Range {
    /// Returns whether `value` raises an alert.
    pub fn alerts(&self, value: f64) -> bool {
        let within = (self.start..=self.end).contains(&value);
        within == self.inside
    }
}

impl FromStr for Range {
    type Err = String;

    /// `10`: 0 to 10; `10:`: 10 and more; `~:10`: 10 and less; `10:20`; and each with `@` before it
    /// for the opposite.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range such as 10, 10:, ~:10, 10:20 or @10:20");
        let number = |text: &str| {
            let number: f64 = text.parse().map_err(|_| wrong())?;
            if number.is_finite() { Ok(number) } else { Err(wrong()) }
        };
        let (inside, rest) = match text.strip_prefix('@') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (start, end) = match rest.split_once(':') {
            None => (0.0, number(rest)?),
            Some((start, end)) => (
                match start {
                    "~" => f64::NEG_INFINITY,
                    // As the guidelines have it, `:20` begins at 0.
                    "" => 0.0,
                    start => number(start)?,
                },
                match end {
                    "" => f64::INFINITY,
                    end => number(end)?,
                },
            ),
        };
        if start > end {
            return Err(format!("the range {text:?} ends before it begins"));
        }
        Ok(Self { start, end, inside })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inside {
            f.write_str("@")?;
        }
        match (self.start, self.end) {
            (0.0, end) if end.is_finite() => write!(f, "{end}"),
            (start, end) => {
                match start {
                    f64::NEG_INFINITY => f.write_str("~:")?,
                    start => write!(f, "{start}:")?,
                }
                if end.is_finite() { write!(f, "{end}") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_alerts_where_the_guidelines_say() {
        for (text, quiet, alerting) in [
            ("10", &[0.0, 5.0, 10.0][..], &[-0.1, 10.1][..]),
            ("10:", &[10.0, 1e12], &[9.9, 0.0, -5.0]),
            ("~:10", &[10.0, -1e12], &[10.1]),
            ("10:20", &[10.0, 15.0, 20.0], &[9.9, 20.1]),
            ("@10:20", &[9.9, 20.1], &[10.0, 15.0, 20.0]),
            (":20", &[0.0, 20.0], &[-1.0, 21.0]),
            ("-3:0.5", &[-3.0, 0.5], &[-3.1, 0.6]),
            ("@0", &[0.1], &[0.0]),
        ] {
            let range: Range = text.parse().unwrap();
            for value in quiet {
                assert!(!range.alerts(*value), "{value} in {text}");
            }
            for value in alerting {
                assert!(range.alerts(*value), "{value} in {text}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "@", "x", "10:x", "20:10", "10:20:30", "~", "inf", "nan:", "1 0", "@@1"] {
            assert!(text.parse::<Range>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_range_is_shown_as_it_is_typed() {
        for text in ["10", "10:", "~:10", "10:20", "@10:20", "-3:0.5", "~:", "0:"] {
            assert_eq!(text.parse::<Range>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_does_harm_and_the_text_shown_means_the_same(text in "[@~:0-9.e-]{0,12}", value: f64) {
            if let Ok(range) = text.parse::<Range>() {
                let again: Range = range.to_string().parse().unwrap();
                prop_assert_eq!(again.alerts(value), range.alerts(value));
            }
        }
    }
}
