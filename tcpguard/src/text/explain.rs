//! One attack with all its evidence, for a reader that was just woken up: its class, the reasons for
//! it, the actions taken, and the numbers behind all of it.

use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_host::units::{elapsed, percent, short, span};

use super::attack::{between, heading, paragraph, severity_word, volume};
use super::event::event_line;
use super::reason::{no_mitigation, no_rule, rule_reason};
use super::table::Table;
use super::view::View;
use crate::documents::{
    DocumentClass, Evidence, FullIncident, Incident, Moment, Rates, Record, RuleRecord, Statistics,
};

/// One attack, open or past.
pub fn in_full(out: &mut impl Write, full: &FullIncident, view: &View) -> fmt::Result {
    let FullIncident { incident: attack, record, .. } = full;
    headline(out, attack, view)?;
    paragraph(out, view, "Alarm", &format!("{}: {}", attack.signal, record.alarm))?;
    verdict(out, attack, record, view)?;
    gate(out, &attack.evidence, view)?;
    done(out, attack, record, view)?;
    looks(out, &attack.evidence, view)?;
    out.write_char('\n')?;
    numbers(out, record, view)?;
    headers(out, record, view)
}

fn headline(out: &mut impl Write, attack: &Incident, view: &View) -> fmt::Result {
    let ended = match attack.ended_at {
        Some(at) => format!("ended {} after {}", view.time(at), span(between(attack.since, at))),
        None => "still open".to_owned(),
    };
    let text = format!(
        "#{} {} since {} {}, alarm after {}, {ended}",
        attack.id,
        severity_word(attack.severity),
        view.day(attack.since),
        view.time(attack.since),
        span(between(attack.since, attack.detected_at)),
    );
    paragraph(out, view, heading(attack), &text)?;
    paragraph(out, view, "", &attack.summary)?;
    paragraph(out, view, "", &volume(attack))
}

/// Writes the line of the class list that fitted, and why the lines before it did not.
fn verdict(out: &mut impl Write, attack: &Incident, record: &Record, view: &View) -> fmt::Result {
    for (number, line) in (1..).zip(&record.lines) {
        let answer = match (line.asks.ends_with('?'), line.holds) {
            (true, true) => " yes:",
            (true, false) => " no:",
            (false, _) => "",
        };
        let heading = if number == 1 { "Verdict" } else { "" };
        paragraph(out, view, heading, &format!("{number}. {}{answer} {}", line.asks, line.why))?;
    }
    let reached = record.lines.last().map_or(attack.class, |line| line.class);
    let sure = percent(attack.confidence);
    let stands = match &record.doubt {
        _ if reached == attack.class => format!("so: {}, {sure} sure", words(attack.class)),
        Some(doubt) => format!(
            "that would be: {}; but it stays: {}, until {} looks running say so ({} so far)",
            words(reached),
            words(attack.class),
            doubt.needed,
            doubt.inspections
        ),
        None => {
            format!("that would be: {}; but it stays: {}", words(reached), words(attack.class))
        }
    };
    paragraph(out, view, "", &stands)?;
    let first = &record.first;
    let text = format!(
        "at first, {} after it began: {}, {} sure, as {}",
        span(between(attack.since, first.at)),
        words(first.class),
        percent(first.confidence),
        first.because
    );
    paragraph(out, view, "", &text)
}

fn words(kind: DocumentClass) -> &'static str {
    tcpguard_engine::IncidentClass::from(kind).in_words()
}

fn gate(out: &mut impl Write, evidence: &Evidence, view: &View) -> fmt::Result {
    for (number, item) in evidence.gate.iter().enumerate() {
        let sign = if item.holds { "✓" } else { "✗" };
        let heading = if number == 0 { "Gate" } else { "" };
        paragraph(out, view, heading, &format!("{sign} {}: {}", item.name, item.detail))?;
    }
    Ok(())
}

/// The actions taken, or the reason why there were none.
fn done(out: &mut impl Write, attack: &Incident, record: &Record, view: &View) -> fmt::Result {
    for (number, action) in attack.actions.iter().enumerate() {
        let after = elapsed(between(attack.since, action.at));
        let text = format!("{} (+{after}) {}", view.time(action.at), event_line(&action.action));
        paragraph(out, view, if number == 0 { "Done" } else { "" }, &text)?;
    }
    for (number, rule) in record.rules.iter().enumerate() {
        paragraph(out, view, if number == 0 { "Rules" } else { "" }, &rule_text(rule, view))?;
    }
    if record.more_rules > 0 {
        let text =
            format!("and {} more, with {} hits", record.more_rules, short(record.more_hits as f64));
        paragraph(out, view, "", &text)?;
    }
    if record.rules.is_empty() {
        let why = record.no_rule.as_ref().map(no_rule);
        let why = why.or_else(|| attack.advice.as_ref().map(|it| it.text.clone()));
        let why = why.unwrap_or_else(|| "none was called for".to_owned());
        paragraph(out, view, "Rules", &format!("none: {why}"))?;
    }
    match (record.mitigations.as_slice(), &record.no_mitigation) {
        ([], None) => Ok(()),
        ([], Some(why)) => paragraph(out, view, "Steps", &format!("none: {}", no_mitigation(why))),
        (mitigations, _) => paragraph(out, view, "Steps", &mitigations.join(", ")),
    }
}

fn rule_text(rule: &RuleRecord, view: &View) -> String {
    let until = match rule.ended_at {
        Some(at) => format!("until {}", view.time(at)),
        None => "to the end".to_owned(),
    };
    format!(
        "rule {} on {}: {}; from {} {until}, {} hits, {} passed when retransmitted and {} \
         completed",
        rule.id,
        rule.matches,
        rule_reason(&rule.reason),
        view.time(rule.created_at),
        short(rule.hits as f64),
        short(rule.accepted_retransmits as f64),
        short(rule.completed as f64),
    )
}

/// The fingerprints of the SYNs of failing handshakes, and their sources.
fn looks(out: &mut impl Write, evidence: &Evidence, view: &View) -> fmt::Result {
    for (number, top) in evidence.signatures.iter().enumerate() {
        let text = format!(
            "{} of the failing SYNs look like {} ({}); {} of the handshakes with it complete, {} clients \
             are known to look so",
            percent(top.share),
            top.text,
            top.mask,
            percent(top.completion),
            short(top.completed as f64),
        );
        paragraph(out, view, if number == 0 { "Looks" } else { "" }, &text)?;
    }
    let shares = |each: Vec<String>| each.join(", ");
    // The busiest of random sources is an accident.
    let sources = evidence.top_sources.iter().filter(|top| top.share >= STANDS_OUT);
    let sources: Vec<_> =
        sources.map(|top| format!("{} {}", top.addr, percent(top.share))).collect();
    if !sources.is_empty() {
        paragraph(out, view, "Sources", &shares(sources))?;
    }
    let networks = evidence.top_networks.iter().filter(|top| top.share >= STANDS_OUT);
    let networks: Vec<_> =
        networks.map(|top| format!("{} {}", top.prefix, percent(top.share))).collect();
    if !networks.is_empty() {
        paragraph(out, view, "Networks", &shares(networks))?;
    }
    let ttls: Vec<_> =
        evidence.ttls.iter().map(|top| format!("{} {}", top.ttl, percent(top.share))).collect();
    if !ttls.is_empty() {
        paragraph(out, view, "TTLs", &shares(ttls))?;
    }
    Ok(())
}

/// The headers of SYNs, a line each.
fn headers(out: &mut impl Write, record: &Record, view: &View) -> fmt::Result {
    if record.syn_headers.is_empty() {
        return Ok(());
    }
    out.write_char('\n')?;
    let mut table = Table::new(["SYN AT", "FROM", "BYTES", "HEADER"]);
    for header in &record.syn_headers {
        let (from, looks) = header.decoded().map_or_else(
            || ("?".to_owned(), "the TCP header lies beyond what is kept".to_owned()),
            |(from, looks)| (from.to_string(), looks),
        );
        let kept = header.kept();
        let bytes =
            header.length.map_or_else(|| kept.to_string(), |whole| format!("{kept} of {whole}"));
        table.row([view.time(header.at).into(), from.into(), bytes.into(), looks.into()]);
    }
    table.write(out, view)
}

/// One of the rates.
type Rate = fn(&Rates) -> f64;

/// Share of the failing flows, from 0 to 1, from which a source or network stands out.
pub(crate) const STANDS_OUT: f64 = 0.05;

/// The rates that are shown of a moment, and their names.
pub(crate) const RATES: [(&str, Rate); 10] = [
    ("SYNs", |rates| rates.syn_pps),
    ("repeated", |rates| rates.retransmitted_pps),
    ("handshakes attempted", |rates| rates.attempted_pps),
    ("completed", |rates| rates.completed_pps),
    ("unanswered, queue full", |rates| rates.unanswered_pps),
    ("unanswered otherwise", |rates| rates.ignored_pps),
    ("matched by rules", |rates| rates.matched_pps),
    ("dropped", |rates| rates.dropped_pps),
    ("cookies", |rates| rates.cookies_pps),
    ("out_of_state", |rates| rates.out_of_state_pps),
];

/// Counters before, at the alarm, at the last inspection and after, with the signals computed from
/// them.
fn numbers(out: &mut impl Write, record: &Record, view: &View) -> fmt::Result {
    let moments = [record.at_alarm.as_ref(), record.at_last.as_ref()];
    let [alarm, last] = moments.map(|moment| moment.map(|moment| &moment.rates));
    let columns = [record.before.as_ref(), alarm, last, record.after.as_ref()];
    if columns.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut table = Table::new(["PER SECOND", "BEFORE", "AT ALARM", "LAST", "AT END"]);
    for (name, rate) in RATES {
        // Rows of nothing but zeros say nothing, but for the first ones.
        let always = matches!(name, "SYNs" | "handshakes attempted" | "completed");
        if always || columns.iter().flatten().any(|rates| rate(rates) > 0.0) {
            let [before, alarm, last, after] = columns
                .map(|rates| rates.map_or_else(|| "-".to_owned(), |rates| short(rate(rates))));
            table.row([name.into(), before.into(), alarm.into(), last.into(), after.into()]);
        }
    }
    table.write(out, view)?;
    for (heading, moment) in ["At alarm", "Last"].into_iter().zip(moments) {
        if let Some(moment) = moment {
            paragraph(out, view, heading, &signals(moment))?;
        }
    }
    Ok(())
}

/// The signals computed from the counters, in words.
pub(crate) fn signals(moment: &Moment) -> String {
    let Statistics {
        given_ms,
        fast_attempts,
        fast_failures,
        cusum,
        cusum_limit,
        dispersion,
        natural_share,
        natural_pps,
        expected_failures,
        ..
    } = &moment.statistics;
    let mut text = format!(
        "fast {} of {} failed within {}; slow sum {} of {}; usually {} or {}/s fail, {} expected, \
         dispersion {}",
        short(*fast_failures as f64),
        short(*fast_attempts as f64),
        span(Duration::from_millis(*given_ms)),
        short(*cusum),
        short(*cusum_limit),
        percent(*natural_share),
        short(*natural_pps),
        short(*expected_failures),
        short(*dispersion),
    );
    let number =
        |value: Option<u32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    if let Some(limit) = moment.queue_limit {
        text.push_str(&format!(
            "; half-open {} and waiting {} of {limit}",
            number(moment.half_open),
            number(moment.accept_queue)
        ));
    }
    let kernel = &moment.kernel;
    let grown = [
        ("ListenOverflows", kernel.listen_overflows),
        ("ListenDrops", kernel.listen_drops),
        ("TCPReqQFullDoCookies", kernel.req_q_full_do_cookies),
        ("TCPReqQFullDrop", kernel.req_q_full_drop),
        ("SyncookiesSent", kernel.syncookies_sent),
        ("SyncookiesRecv", kernel.syncookies_recv),
        ("SyncookiesFailed", kernel.syncookies_failed),
    ];
    for (name, grown) in grown.into_iter().filter(|(_, grown)| *grown > 0) {
        text.push_str(&format!("; {name} +{}", short(grown as f64)));
    }
    text
}
