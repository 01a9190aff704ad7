//! The cause of an alarm, with its arithmetic, in words.

use super::report::Evidence;
use crate::input::{POLL, percent, short, span};
use crate::listener::{
    BEYOND_RATE, FAILURE_SHARE, FAST_POLLS, FAST_SHARE, FLASH_CROWD_FACTOR, FLASH_CROWD_FLOOR,
    FLASH_CROWD_POLLS, FLASH_CROWD_SERVED, Moment, OCCUPANCY_ON, OCCUPANCY_POLLS, OVERLOAD_POLLS,
    REFLECTION_POLLS, REFLECTION_RATE, REFLECTION_SHARE, SCAN_ADDRESSES, SCAN_PORTS,
    SCAN_PORTS_LIKELY, Signal, Statistics,
};
use crate::settings::Settings;

/// The signal in words. `moment` is that of the alarm, where a listener raised it. `evidence` is
/// the result of the first inspection.
pub(crate) fn alarm(
    signal: Signal,
    moment: Option<&Moment>,
    evidence: &Evidence,
    settings: &Settings,
) -> String {
    let known = moment.copied().unwrap_or_default();
    let now = &known.statistics;
    match signal {
        Signal::Fast => fast(now, settings),
        Signal::Slow => slow(now, settings),
        Signal::Occupancy => occupancy(now, known.queues.map_or(0, |queues| queues.backlog)),
        Signal::AcceptQueue => accept_queue(&known),
        Signal::SynRate => {
            let rate = known.counts.per_second(known.counts.syns);
            format!(
                "{} SYN/s where {} are usual: more than {} times as many, and than {}/s, for {}, while \
                 {} of the handshakes complete ({} are needed)",
                short(rate),
                short(now.baseline_syn_rate),
                FLASH_CROWD_FACTOR,
                short(FLASH_CROWD_FLOOR),
                span(POLL * FLASH_CROWD_POLLS),
                percent(evidence.completion),
                percent(FLASH_CROWD_SERVED),
            )
        }
        Signal::PortScan => format!(
            "a source tried about {} closed ports of about {} addresses within five minutes; {} ports or \
             {} addresses are a scan, and {} ports are where the source completes hardly a handshake",
            evidence.ports_tried,
            evidence.addresses_tried,
            SCAN_PORTS,
            SCAN_ADDRESSES,
            SCAN_PORTS_LIKELY,
        ),
        Signal::UnsolicitedReplies => format!(
            "{} answers a second to no SYN of this host; {}/s and {} of all answers, in {} polls running, \
             are a reflection",
            short(evidence.unsolicited_rate),
            short(REFLECTION_RATE),
            percent(REFLECTION_SHARE),
            REFLECTION_POLLS,
        ),
        Signal::ClosedPorts => format!(
            "{} SYNs a second to ports at which nothing listens, which the stack refuses or the guard \
             drops; {}/s are a flood",
            short(evidence.closed_rate),
            short(settings.closed_rate),
        ),
        Signal::BeyondBounds => format!(
            "{} SYNs a second in frames that the guard cannot read, and {}/s such frames were dropped; \
             {}/s together are a flood",
            short(evidence.beyond_rate),
            short(evidence.beyond_dropped_rate),
            short(BEYOND_RATE),
        ),
    }
}

fn fast(now: &Statistics, settings: &Settings) -> String {
    let share = now.fast_failures as f64 / now.fast_attempts.max(1) as f64;
    format!(
        "{} of {} handshakes attempted in two polls had not completed {} ms later ({}), in {} polls \
         running; {} and {} in {} polls are an alarm",
        short(now.fast_failures as f64),
        short(now.fast_attempts as f64),
        now.given.as_millis(),
        percent(share),
        now.fast_polls,
        settings.fast_failures,
        percent(FAST_SHARE),
        FAST_POLLS,
    )
}

fn slow(now: &Statistics, settings: &Settings) -> String {
    format!(
        "the sum of failures beyond the usual ones came to {:.1}, {} are an alarm: {} of the attempts \
         or {:.1} a second fail anyway, {:.1} times as unevenly as by chance, and {} a second or {} of \
         the attempts more would matter; the followed handshakes confirm it",
        now.cusum,
        now.cusum_limit,
        percent(now.natural_share),
        now.natural_rate,
        now.dispersion,
        settings.failure_floor,
        percent(FAILURE_SHARE),
    )
}

fn occupancy(now: &Statistics, backlog: u32) -> String {
    let Some(queue) = now.occupancy else {
        return "handshakes that fail hold too much of the SYN queue".to_owned();
    };
    let held = f64::from(queue.half_open).min(queue.of_a_minute).min(queue.going_on).max(0.0);
    format!(
        "handshakes that fail hold {held:.0} of the SYN queue's {backlog} places: the least of {} \
         half-open ones, {:.0} failures of the last minute and {:.0} a minute by the last seconds; {:.0} \
         ({}) in {} counts are an alarm",
        queue.half_open,
        queue.of_a_minute.max(0.0),
        queue.going_on.max(0.0),
        queue.limit,
        percent(OCCUPANCY_ON),
        OCCUPANCY_POLLS,
    )
}

fn accept_queue(known: &Moment) -> String {
    let held = span(POLL * OVERLOAD_POLLS);
    match known.queues {
        Some(queues) => format!(
            "the accept queue was full for {held}: {} connections wait for the application, {} may",
            queues.accept, queues.backlog
        ),
        None => format!(
            "the accept queue was full for {held}, by SYNs and third ACKs that are ignored although \
             clients repeat them"
        ),
    }
}
