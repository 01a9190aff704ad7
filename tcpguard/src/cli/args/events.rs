//! Arguments of the verbs that show alerts and incidents, and the times that people type.

use std::time::Duration;

use clap::ValueEnum;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

use crate::cli::duration;

/// A period in the past.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Period {
    /// Show only later ones: 90m, 7d, yesterday, 2026-11-28 03:10
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// Show only earlier ones
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
}

/// A moment as it was typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// A time span ago.
    Ago(Duration),
    /// The beginning of the day so many days ago.
    Midnight(i64),
    /// A date, with or without a time, in the time zone of the output.
    Local(DateTime),
    /// A moment with its time zone, as in JSON.
    At(Timestamp),
}

impl Moment {
    /// The moment itself, if the calendar goes so far.
    pub fn at(self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let day = |zoned: Zoned| zoned.start_of_day().ok();
        match self {
            Self::Ago(span) => now.checked_sub(span).ok(),
            Self::Midnight(days) => {
                let then = now.to_zoned(zone.clone()).checked_sub(days.days()).ok();
                then.and_then(day).map(|zoned| zoned.timestamp())
            }
            Self::Local(time) => time.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp()),
            Self::At(time) => Some(time),
        }
    }
}

impl Period {
    /// Returns whether a time is within it.
    pub fn holds(&self, time: Timestamp, now: Timestamp, zone: &TimeZone) -> bool {
        // A span longer than the calendar begins before everything.
        let at = |moment: &Option<Moment>| moment.and_then(|moment| moment.at(now, zone));
        at(&self.since).is_none_or(|since| since <= time)
            && at(&self.until).is_none_or(|until| time <= until)
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    match text {
        "today" => return Ok(Moment::Midnight(0)),
        "yesterday" => return Ok(Moment::Midnight(1)),
        _ => {}
    }
    let span = duration::parse(text).map(Moment::Ago).ok();
    let time = || text.parse().map(Moment::At).ok();
    let date = || text.parse().map(Moment::Local).ok();
    span.or_else(time).or_else(date).ok_or_else(|| {
        "write 90m, 7d, today, yesterday, 2026-11-28 or \"2026-11-28 03:10\"".to_owned()
    })
}

/// `tcpguard events`
#[derive(Debug, clap::Args)]
#[command(after_help = EVENTS)]
pub struct EventsArgs {
    /// Show only alerts of this severity and higher
    #[arg(long, value_name = "SEVERITY", default_value = "notice")]
    pub severity: Threshold,
    /// Show only alerts of these kinds, separated by commas
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<EventKind>,
    /// Times of the alerts.
    #[command(flatten)]
    pub period: Period,
    /// Print further alerts as they occur
    #[arg(short, long, conflicts_with = "until")]
    pub follow: bool,
}

const EVENTS: &str = "\
Without a period: the last 24 hours. The agent keeps 1,000 alerts, also of earlier runs: the last 500,
and the most severe of those before. All of them: journalctl -t tcpguard. --follow without --since
prints new alerts only, one JSON document a line with --json, and continues when the agent restarts.

Examples:
  tcpguard events                                 # of the last 24 hours
  tcpguard events --since yesterday --until today
  tcpguard events --since 7d --severity critical
  tcpguard events --follow --kind alert,mode --severity warning
  tcpguard events --json | jq '.events[].message'";

/// `tcpguard incidents`
#[derive(Debug, clap::Args)]
#[command(after_help = INCIDENTS)]
pub struct IncidentsArgs {
    /// Times at which the incidents were open.
    #[command(flatten)]
    pub period: Period,
}

const INCIDENTS: &str = "\
Open incidents, and the 64 past ones of most worth: the newest last. With a period, those that were
open in it.

Examples:
  tcpguard incidents
  tcpguard incidents --since yesterday
  tcpguard incidents --since \"2026-11-28 03:00\" --until \"2026-11-28 04:00\"
  tcpguard incidents --json | jq '.incidents[] | [.id, .class, .peak_syn_pps]'
  tcpguard explain 1042                           # evidence, actions and rules of incident #1042";

/// Kind of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum EventKind {
    /// Attacks and other incidents
    Alert,
    /// Rules and the allowlist
    Rule,
    /// Mitigations of listeners, such as SYN cookies
    Mitigation,
    /// The mode
    Mode,
    /// The configuration
    Config,
    /// Interfaces and the XDP program on them
    Interface,
}

/// Lowest severity that is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Threshold {
    /// Attacks that harm clients
    Critical,
    /// Conditions that need attention
    Warning,
    /// Every alert
    Notice,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_span_a_day_a_date_or_a_date_with_a_time() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::fixed(jiff::tz::offset(1)));
        for (text, expected) in [
            ("90m", "2026-11-30T10:30:00Z"),
            ("7d", "2026-11-23T12:00:00Z"),
            ("today", "2026-11-29T23:00:00Z"),
            ("yesterday", "2026-11-28T23:00:00Z"),
            ("2026-11-28", "2026-11-27T23:00:00Z"),
            ("2026-11-28 03:10", "2026-11-28T02:10:00Z"),
            ("2026-11-28T03:10:00Z", "2026-11-28T03:10:00Z"),
        ] {
            let at = moment(text).map(|moment| moment.at(now, &zone));
            assert_eq!(at, Ok(Some(expected.parse().unwrap())), "{text}");
        }
        for text in ["", "7", "tomorrow", "2026-13-01", "03:10:99"] {
            assert!(moment(text).is_err(), "{text}");
        }
        assert_eq!(moment("99999999d").map(|moment| moment.at(now, &zone)), Ok(None));
    }

    #[test]
    fn a_period_holds_its_ends() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-30T12:00:00Z");
        let period = Period { since: moment("2h").ok(), until: moment("1h").ok() };
        for (time, holds) in [
            ("2026-11-30T09:59:59Z", false),
            ("2026-11-30T10:00:00Z", true),
            ("2026-11-30T11:00:00Z", true),
            ("2026-11-30T11:00:01Z", false),
        ] {
            assert_eq!(period.holds(at(time), now, &TimeZone::UTC), holds, "{time}");
        }
        assert!(Period::default().holds(now, now, &TimeZone::UTC));
    }
}
