//! The story of an incident in sentences, written for a reader who was not there.

use tcpguard_engine::{Completions, Event, IncidentClass, Listener, Mode};
use tcpguard_host::time::Time;
use tcpguard_host::units::{percent, short, span};

use super::times::{Times, between};
use crate::documents::narrative::class_advice;
use crate::documents::{DocumentClass, FullIncident, Incident, Record};
use crate::text::{event_line, no_mitigation, no_rule};

/// Things that were done of which each is a moment of its own: so many of the first, and as many of
/// the last.
const LISTED: usize = 4;

/// A number that says much.
#[derive(Debug)]
pub(super) struct Figure {
    pub value: String,
    /// Name of the counted quantity.
    pub label: &'static str,
}

/// Something that happened at a moment.
#[derive(Debug)]
pub(super) struct Moment {
    /// Time of the event.
    pub at: Time,
    /// Description of the event.
    pub text: String,
}

/// Something that remains to be done or to be known.
#[derive(Debug)]
pub(super) struct Remains {
    pub text: String,
    /// The command that does it.
    pub command: Option<String>,
}

/// The class of the incident, in words.
pub(super) fn kind(kind: DocumentClass) -> &'static str {
    IncidentClass::from(kind).in_words()
}

/// Returns the location of the incident: a listener, an address or port, or `this host`.
pub(super) fn place(attack: &Incident) -> String {
    Listener { addr: attack.dst, port: attack.port }.to_string()
}

/// `text` as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if text.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

/// SYNs that rules matched and that went on, because the mode was observe.
fn let_pass(attack: &Incident) -> u64 {
    attack.matched.saturating_sub(attack.dropped)
}

/// `count` as a share of the attack's SYNs.
fn share(count: u64, attack: &Incident) -> String {
    percent((count as f64 / attack.syns.max(1) as f64).min(1.0))
}

/// Returns whether it is about a listener, and not about the whole host.
pub(super) fn at_listener(attack: &Incident) -> bool {
    !IncidentClass::from(attack.class).is_of_host()
}

/// The numbers that say most, for a glance.
pub(super) fn figures(attack: &Incident) -> Vec<Figure> {
    let figure = |value: String, label| Figure { value, label };
    let [most, all] = match attack.class {
        DocumentClass::Reflection => ["answers a second at most", "answers in all"],
        _ => ["SYNs a second at most", "SYNs in all"],
    };
    let mut figures = vec![
        figure(short(attack.peak_syn_pps), most),
        figure(short(attack.syns as f64), all),
        figure(span(between(attack.since, attack.detected_at)), "until the alarm"),
    ];
    if attack.sources_est > 0 {
        figures.push(figure(short(attack.sources_est as f64), "sources at least"));
    }
    if attack.dropped > 0 {
        figures.push(figure(share(attack.dropped, attack), "of the SYNs dropped"));
    }
    if attack.cookies_sent > 0 {
        figures.push(figure(share(attack.cookies_sent, attack), "answered with cookies"));
    }
    if let_pass(attack) > 0 {
        figures.push(figure(share(let_pass(attack), attack), "would be dropped in enforce mode"));
    }
    if at_listener(attack) {
        let completed = short(attack.completed as f64);
        figures.push(figure(completed, "handshakes completed meanwhile"));
    }
    figures
}

/// The course of the incident, in paragraphs.
pub(super) fn story(full: &FullIncident, times: &Times) -> Vec<String> {
    let FullIncident { incident: attack, record, .. } = full;
    let mut paragraphs = vec![sentence(&attack.summary), noticed(attack, record, times)];
    paragraphs.push(format!("{} {}", size(attack), treated(attack, record)));
    paragraphs.extend(clients(attack, record));
    paragraphs
}

fn noticed(attack: &Incident, record: &Record, times: &Times) -> String {
    let alarm = match record.alarm.as_str() {
        "" => String::new(),
        alarm => format!(": {alarm}"),
    };
    let first = &record.first;
    let sure = percent(attack.confidence);
    let named_after = span(between(attack.since, first.at));
    let named = match first.class {
        same if same == attack.class => {
            format!("It was named {named_after} after it began, and the verdict is {sure} sure.")
        }
        other => format!(
            "{named_after} after it began it was taken for this: {}; the verdict that stands is {sure} \
             sure.",
            kind(other)
        ),
    };
    format!(
        "It began at {}. After {} the {} signal raised the alarm{alarm}. {named}",
        times.show(attack.since),
        span(between(attack.since, attack.detected_at)),
        attack.signal.replace('_', " "),
    )
}

fn size(attack: &Incident) -> String {
    let lasted = match attack.ended_at {
        Some(ended) => format!("In {}", span(between(attack.since, ended))),
        None => "So far".to_owned(),
    };
    let what = match attack.class {
        DocumentClass::Reflection => "answers that nobody asked for",
        _ => "SYNs",
    };
    let from = match attack.sources_est {
        0 => String::new(),
        1 => " from one source".to_owned(),
        many => format!(" from at least {} sources", short(many as f64)),
    };
    format!(
        "{lasted} {} {what} came{from}, {} a second at most.",
        short(attack.syns as f64),
        short(attack.peak_syn_pps)
    )
}

/// The treatment of the incident's SYNs.
fn treated(attack: &Incident, record: &Record) -> String {
    let mut done = Vec::new();
    if attack.dropped > 0 {
        done.push(format!("{} of them were dropped", share(attack.dropped, attack)));
    }
    if attack.cookies_sent > 0 {
        done.push(format!(
            "{} were answered with SYN cookies, of which {} came back and were good",
            share(attack.cookies_sent, attack),
            short(attack.cookies_redeemed as f64)
        ));
    }
    if let_pass(attack) > 0 {
        done.push(format!(
            "{} matched rules and went on to the host, while the mode was not enforce",
            share(let_pass(attack), attack)
        ));
    }
    let flood = IncidentClass::from(attack.class).is_flood();
    match (done.is_empty(), &record.no_rule) {
        (false, _) => sentence(&done.join("; ")),
        (true, Some(why)) if flood => sentence(&format!("nothing was dropped: {}", no_rule(why))),
        (true, _) => "Nothing was dropped.".to_owned(),
    }
}

/// The effect on clients, if their handshakes were counted before and during the incident.
fn clients(attack: &Incident, record: &Record) -> Option<String> {
    let clients = attack.clients.filter(|clients| clients.baseline_pps.is_some());
    let seconds =
        between(attack.since, attack.ended_at.unwrap_or(attack.detected_at)).as_secs_f64();
    // Where no baseline was known, and for an incident of an earlier version: the seconds before.
    let baseline = match clients {
        Some(clients) => clients.baseline_pps?,
        None => record.before.as_ref()?.completed_pps,
    };
    let mean = match (clients, attack.ended_at) {
        (Some(clients), _) => clients.completed_pps,
        (None, Some(_)) if seconds > 0.0 => attack.completed as f64 / seconds,
        (None, _) => record.at_last.as_ref().or(record.at_alarm.as_ref())?.rates.completed_pps,
    };
    let span = if attack.ended_at.is_some() { seconds } else { Completions::SPAN.as_secs_f64() };
    let verdict = match mean / baseline {
        _ if baseline < 1.0 => "Hardly any client was there before it began",
        share if share >= 0.9 || by_chance(mean, baseline, span) => "Clients kept connecting",
        share if share >= 0.5 => "Some clients did not connect",
        _ => "Most clients did not connect",
    };
    let of = if attack.ended_at.is_some() { "on average" } else { "in the last seconds" };
    Some(format!(
        "{verdict}: {} handshakes a second completed {of}, baseline {}; {} in all.",
        short(mean),
        short(baseline),
        short(attack.completed as f64)
    ))
}

/// Returns whether a rate so far below the baseline, over so many seconds, may be chance: three standard deviations of
/// independent clients.
fn by_chance(mean: f64, baseline: f64, seconds: f64) -> bool {
    let expected = baseline * seconds;
    mean * seconds >= expected - 3.0 * expected.sqrt()
}

/// The remaining tasks. `live`: the incident is on this host, and not in a capture.
pub(super) fn remains(attack: &Incident, record: &Record, live: bool) -> Vec<Remains> {
    let remains = |text: &str, command: Option<&str>| Remains {
        text: sentence(text),
        command: command.map(str::to_owned),
    };
    let class = IncidentClass::from(attack.class);
    if let Some(advice) = attack.advice.as_ref().filter(|_| live) {
        return vec![remains(&advice.text, advice.command.as_deref())];
    }
    if attack.ended_at.is_none() && live {
        return vec![remains(
            "nothing now: it goes on, and it is held off",
            Some("tcpguard status"),
        )];
    }
    if let_pass(attack) > 0 && attack.dropped == 0 {
        let text = "nothing was dropped, because the mode was observe; in enforce mode the rules drop \
                    the next one";
        return vec![remains(text, Some(Mode::TRY_ENFORCE))];
    }
    if let Some(advice) = class_advice(class) {
        return vec![remains(advice, None)];
    }
    let no_mitigation = record.no_mitigation.as_ref().map(no_mitigation);
    let undone = record.no_rule.as_ref().map(no_rule).into_iter().chain(no_mitigation);
    let undone: Vec<String> = undone.collect();
    match undone.as_slice() {
        reasons @ [_, ..] if attack.dropped == 0 && attack.cookies_sent == 0 => {
            reasons.iter().map(|why| remains(why, None)).collect()
        }
        _ => vec![remains("nothing: it is over, and its rules end by themselves", None)],
    }
}

/// The events of the incident, in order of time.
pub(super) fn moments(full: &FullIncident) -> Vec<Moment> {
    let FullIncident { incident: attack, record, .. } = full;
    let begins = match IncidentClass::from(attack.class) {
        class if class.is_flood() && !class.is_of_host() => "handshakes begin to fail",
        _ => "it begins",
    };
    let first = &record.first;
    let moment = |at, text: String| Moment { at, text };
    let mut moments = vec![
        moment(attack.since, begins.to_owned()),
        moment(
            attack.detected_at,
            format!("alarm by the {} signal", attack.signal.replace('_', " ")),
        ),
        moment(
            first.at,
            format!("named: {}, {} sure", kind(first.class), percent(first.confidence)),
        ),
    ];
    let left_out = attack.actions.len().saturating_sub(2 * LISTED);
    for (number, action) in attack.actions.iter().enumerate() {
        if number < LISTED || number >= LISTED + left_out {
            moments.push(moment(action.at, event_line(&action.action)));
        }
    }
    // An agent that ended in the middle of it has said so.
    let cut_off = attack
        .actions
        .last()
        .is_some_and(|last| Some(last.at) == attack.ended_at && last.action == Event::AgentEnded);
    let over = attack.ended_at.filter(|_| !cut_off);
    moments.extend(over.map(|at| moment(at, "it is over, after a time of quiet".to_owned())));
    moments.sort_by_key(|moment| moment.at);
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_clients_less_may_be_chance_and_many_are_not() {
        // 17 of 20 a second: in 8 s chance, in ten minutes not.
        assert!(by_chance(17.0, 20.0, 8.0));
        assert!(!by_chance(17.0, 20.0, 600.0));
        assert!(!by_chance(2.0, 20.0, 8.0));
    }

    #[test]
    fn a_sentence_begins_large_and_ends_once() {
        for (text, expected) in
            [("it is over", "It is over."), ("is it?", "Is it?"), ("ärger …", "Ärger …"), ("", ".")]
        {
            assert_eq!(sentence(text), expected);
        }
    }
}
