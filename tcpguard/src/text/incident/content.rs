//! Content of the pages about an incident, in blocks.

use tcpguard_engine::{Event, IncidentClass, Measured, Rates, Scope};
use tcpguard_host::time::Time;
use tcpguard_host::units::{counted, elapsed, percent, short, span};

use super::super::class::words;
use super::super::clients::clients as in_words;
use super::super::event::event_line;
use super::super::incidents::between;
use super::super::reason::{held_back, mitigation_noun, rule_reason};
use super::super::status::as_typed;
use super::block::{Block, Item, Section};
use super::phrases;
use crate::documents::{
    Action, Advised, FullIncident, Incident, Moment, Record, RuleRecord, SynHeader, decoded,
};

/// Share of the SYNs of failed handshakes from which a source dominates.
pub(super) const DOMINATES: f64 = 0.5;

/// Form of a time on a page.
pub type Shown<'a> = &'a dyn Fn(Time) -> String;

/// `Attack`, or `Incident` for the other classes.
pub const fn heading(incident: &Incident) -> &'static str {
    if incident.class.is_flood() { "Attack" } else { "Incident" }
}

/// Class and target: `SYN flood, spoofed sources, on :443`.
pub fn title(incident: &Incident) -> String {
    phrases::on(incident.class, &incident.place())
}

/// The conclusion: incident, mitigation, clients and action, each in one line.
pub fn conclusion(incident: &Incident, shown: Shown<'_>) -> Vec<Block> {
    let quiet = match incident.quiet {
        Some(_) => ", quiet since then",
        None if incident.was_left_open() => ", then the agent ended",
        None => "",
    };
    let time = match incident.last_seen() {
        Some(last) => format!(
            "{} to {} ({}){quiet}",
            shown(incident.since),
            shown(last),
            span(between(incident.since, last))
        ),
        None => format!("since {}", shown(incident.since)),
    };
    let head = format!("#{} {}, {time}", incident.id, title(incident));
    let clients = clients(incident).map(|clients| Block::Fact("Clients", clients));
    [
        Some(Block::Fact(heading(incident), head)),
        Some(Block::Fact("Mitigation", mitigation(incident))),
        clients,
        Some(Block::Fact("Action", action(incident, shown))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Fate of the SYNs.
pub fn mitigation(incident: &Incident) -> String {
    if !incident.class.is_flood() {
        return "none: not an attack, nothing is dropped".to_owned();
    }
    if let Some(by) = incident.held_back {
        return format!("NONE: {}", held_back(by));
    }
    // Where it is quiet, the SYNs that are stopped are not its own.
    let now = incident.mitigated_ratio.filter(|_| incident.last_seen().is_none()).map(|share| {
        format!("{} of {} stopped in the last second", percent(share), flood_at(incident))
    });
    now.into_iter().chain(treatment(incident)).collect::<Vec<_>>().join(", ")
}

/// The SYNs that are to be stopped, which those of clients are not among.
pub fn flood_at(incident: &Incident) -> String {
    match incident.class.is_of_host() {
        true => format!("the {}", words(incident.class).packets),
        false => format!("the flood at {}", incident.place()),
    }
}

/// Fate of all its SYNs so far, in shares.
fn treatment(incident: &Incident) -> Vec<String> {
    let share = |count: u64| percent((count as f64 / incident.counts.syns.max(1) as f64).min(1.0));
    let let_pass = incident.counts.matched.saturating_sub(incident.counts.dropped);
    let all = [
        (incident.counts.dropped, "of all SYNs dropped"),
        (incident.counts.cookies_sent, "of all SYNs answered with cookies"),
        (let_pass, "of all SYNs matched in observe mode, not dropped"),
    ];
    let all = all.into_iter().filter(|(count, _)| *count > 0);
    let treatment: Vec<_> = all.map(|(count, what)| format!("{} {what}", share(count))).collect();
    match treatment.is_empty() {
        true if incident.was_stopped => {
            vec!["dropped or answered by XDP when recorded".to_owned()]
        }
        true => vec!["nothing dropped".to_owned()],
        false => treatment,
    }
}

/// The outcome in one sentence: `93.1% of all SYNs dropped, mean 50 handshakes/s (baseline 50/s), 4250 in all`.
pub fn verdict(incident: &Incident) -> String {
    let fate = match incident.class.is_flood() {
        true => treatment(incident).join(", "),
        false => "not an attack, nothing dropped".to_owned(),
    };
    let sentence = [Some(fate), clients(incident)].into_iter().flatten().collect::<Vec<_>>();
    let sentence = sentence.join(", ");
    let (first, rest) = sentence.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}

/// Success of clients.
fn clients(incident: &Incident) -> Option<String> {
    if incident.class.is_of_host() {
        return None;
    }
    let total = short(incident.counts.completed as f64);
    let Some(clients) = &incident.clients else {
        return Some(format!("{total} handshakes completed"));
    };
    let mean = if incident.ended_at.is_some() { "mean " } else { "" };
    Some(format!("{mean}{}, {total} in all", in_words(clients, None)))
}

/// Action for the operator.
pub fn action(incident: &Incident, shown: Shown<'_>) -> String {
    let Some(advice) = &incident.advice else {
        let open = incident.last_seen().is_none() && !incident.of_capture;
        return match incident.was_left_open() {
            true => "not known: the agent ended",
            // That of the host may have another reason.
            false if open => "none for this incident alone: tcpguard status",
            false => "none needed",
        }
        .to_owned();
    };
    let command =
        advice.command.as_ref().map_or_else(String::new, |it| format!(": {}", as_typed(it)));
    let text = format!("{}{command}", phrases::advised(&advice.action, !incident.rules.is_empty()));
    match &advice.action {
        Advised::RestoreRule { rule, until } => {
            format!("{text} (rule {rule} is made again at {})", shown(*until))
        }
        _ => text,
    }
}

/// SYN rate now and at its peak, baseline and total.
pub fn syn_rate(incident: &Incident) -> String {
    // Behind a capture's last packet there is no rate.
    let is_now = incident.last_seen().is_none() && !incident.of_capture;
    let now = is_now.then(|| format!("{}/s", short(incident.syn_pps)));
    let baseline = incident.baseline_pps.map(|rate| format!("baseline {}/s", short(rate)));
    let peak = format!("peak {}/s", short(incident.peak_syn_pps));
    let least = if incident.is_partly_counted() { "at least " } else { "" };
    let total = format!("total {least}{}", short(incident.counts.syns as f64));
    let all = now.into_iter().chain([peak]).chain(baseline).chain([total]);
    all.collect::<Vec<_>>().join(", ")
}

/// Rate, sources and detection.
pub(in crate::text) fn facts(incident: &Incident) -> Vec<Block> {
    let rate = match incident.class.facts().scope {
        Scope::Replies => "Reply rate",
        _ => "SYN rate",
    };
    let sources = sources(incident).map(|sources| Block::Fact("Sources", sources));
    let detected = format!(
        "{} after {} by {}",
        incident.severity.name(),
        span(between(incident.since, incident.detected_at)),
        phrases::signal(incident.signal, incident.class),
    );
    let indicators = &incident.evidence.indicators;
    let holding = incident.evidence.holding();
    let evidence = (!indicators.is_empty()).then(|| {
        Block::Fact(
            "Evidence",
            format!("{holding} of {} indicators of an attack", indicators.len()),
        )
    });
    let replies = incident.evidence.replies_unseen.then(|| {
        let why = match incident.of_capture {
            true => "next to none in the capture",
            false => "not seen: they leave by an interface that is not attached",
        };
        Block::Fact("Replies", why.into())
    });
    [
        Some(Block::Fact(rate, syn_rate(incident))),
        sources,
        evidence,
        replies,
        Some(Block::Fact("Detected", detected)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The sources, and whether they can be blocked.
fn sources(incident: &Incident) -> Option<String> {
    let evidence = &incident.evidence;
    // A running host counts those of ten seconds.
    let least = if incident.of_capture { "about" } else { "at least" };
    let many = format!("{least} {}", short(evidence.sources_estimate as f64));
    let many = match evidence.syns_per_source {
        0.0 => many,
        syns => format!("{many}, {} SYN each", short(syns)),
    };
    let top = evidence.top_sources.first().filter(|top| top.share >= DOMINATES);
    match (incident.class, top) {
        (IncidentClass::Scan, _) => {
            let busiest = evidence.top_sources.first()?;
            let tried = phrases::tried(evidence.ports_tried, evidence.addresses_tried);
            Some(format!("{}, {tried} tried", busiest.addr))
        }
        (IncidentClass::RandomSpoofed, _) => {
            Some(format!("{many}: spoofed, do not block by address"))
        }
        (IncidentClass::SingleSource, Some(top)) => {
            Some(format!("{} sends {} of failed handshakes", top.addr, percent(top.share)))
        }
        (IncidentClass::FewSource, _) => Some(format!(
            "{} in {} send 90% of failed handshakes",
            short(evidence.k90_sources as f64),
            counted(evidence.k90_networks, "network")
        )),
        _ => (evidence.sources_estimate > 0).then_some(many),
    }
}

/// Numbers of an incident.
pub fn numbers(incident: &Incident) -> Option<Section> {
    Section::of("Numbers", facts(incident))
}

/// Actions about an incident, and its rules.
pub fn actions(full: &FullIncident, shown: Shown<'_>) -> Option<Section> {
    Section::of("Actions and rules", done(full, shown))
}

fn done(full: &FullIncident, shown: Shown<'_>) -> Vec<Block> {
    let FullIncident { incident, record, .. } = full;
    let mut blocks = Vec::new();
    // The listeners of a flood join it together.
    let joins = |action: &Action| matches!(action.action, Event::ListenerJoined { .. });
    let at_once = |one: &Action, other: &Action| joins(one) && joins(other) && one.at == other.at;
    let actions = incident.actions.chunk_by(at_once).map(|group| {
        let (action, others) = (&group[0], group.len() - 1);
        let after = elapsed(between(incident.since, action.at));
        let others = if others > 0 { format!(" and {others} others") } else { String::new() };
        let what = event_line(&action.action);
        Item::plain(format!("{} (+{after}) {what}{others}", shown(action.at)))
    });
    let actions: Vec<_> = actions.collect();
    if !actions.is_empty() {
        blocks.push(Block::List("Actions", actions));
    }
    let names: Vec<_> = record.mitigations.iter().copied().map(mitigation_noun).collect();
    if !names.is_empty() {
        blocks.push(Block::Fact("Applied", names.join(", ")));
    } else if let Some(why) = &record.no_mitigation {
        blocks.push(Block::Fact("Applied", format!("none: {}", phrases::restraint(why))));
    }
    if !record.rules.is_empty() {
        let headings = ["RULE", "ACTIVE", "HITS", "PASSED (COMPLETED)", "MATCHES"];
        let rows = record.rules.iter().map(|rule| rule_row(rule, shown)).collect();
        blocks.push(Block::Table(headings, rows));
    } else if let Some(why) = &record.no_rule {
        blocks.push(Block::Fact("Rules", format!("none: {}", phrases::restraint(why))));
    }
    if record.more_rules > 0 {
        let (rules, hits) = (record.more_rules, short(record.more_hits as f64));
        blocks.push(Block::Fact("More rules", format!("{rules}, {hits} hits")));
    }
    blocks
}

fn rule_row(rule: &RuleRecord, shown: Shown<'_>) -> [String; 5] {
    let until = rule.ended_at.map_or_else(|| "the end".to_owned(), shown);
    [
        rule.id.0.to_string(),
        format!("{} to {until}", shown(rule.created_at)),
        short(rule.hits as f64),
        format!("{} ({})", short(rule.accepted_retransmits as f64), short(rule.completed as f64)),
        format!("{}: {}", rule.matches, rule_reason(&rule.reason)),
    ]
}

/// Everything by which an incident was judged.
pub fn evidence(full: &FullIncident, shown: Shown<'_>) -> Vec<Section> {
    let FullIncident { incident, record, .. } = full;
    let rates = rates(record);
    let headers = record.syn_headers.iter().enumerate();
    let headers: Vec<_> = headers.map(|(nth, header)| header_row(nth, header, shown)).collect();
    let headings = ["SYN", "AT", "FROM", "BYTES", "HEADER"];
    [
        Section::of("Reasons for the class", reasons(incident, record)),
        Section::of("Sources and fingerprints", flows(incident)),
        Section::of(
            "Counters",
            if rates.is_empty() { Vec::new() } else { vec![Block::Table(COLUMNS, rates)] },
        ),
        Section::of(
            "SYN headers",
            if headers.is_empty() { Vec::new() } else { vec![Block::Table(headings, headers)] },
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The alarm, the class list and the indicators.
fn reasons(incident: &Incident, record: &Record) -> Vec<Block> {
    let signal = phrases::signal(incident.signal, incident.class);
    let item = |holds, name: &str, facts: &[Measured]| Item {
        holds: Some(holds),
        text: phrases::line(name, facts),
    };
    let lines = record.lines.iter();
    let lines = lines.map(|line| item(line.holds, phrases::question(line), &line.measured));
    let indicators = incident.evidence.indicators.iter();
    let indicators =
        indicators.map(|one| item(one.holds, phrases::indicator(one.name), &one.measured));
    let first = &record.first;
    let first = format!(
        "{}, {} after the start",
        phrases::class(first.class),
        span(between(incident.since, first.at))
    );
    let mut blocks = vec![
        Block::Fact("Alarm", phrases::line(signal, &record.alarm)),
        Block::Fact("First class", first),
        Block::List("Criteria", lines.collect()),
    ];
    if let Some(pending) = &record.doubt {
        let text = format!(
            "{}, {} of {} inspections",
            phrases::class(pending.class),
            pending.inspections,
            pending.needed
        );
        blocks.push(Block::Fact("Pending", text));
    }
    let indicators: Vec<_> = indicators.collect();
    if !indicators.is_empty() {
        blocks.push(Block::List("Indicators", indicators));
    }
    blocks
}

/// Sources, networks, fingerprints and TTLs of the failed handshakes.
fn flows(incident: &Incident) -> Vec<Block> {
    let evidence = &incident.evidence;
    let signatures = evidence.signatures.iter().map(|top| {
        Item::plain(format!(
            "{} ({}): {} of failed handshakes, {} of handshakes with it complete, {} clients",
            top.text,
            top.mask,
            percent(top.share),
            percent(top.completion),
            short(top.completed as f64)
        ))
    });
    let signatures: Vec<_> = signatures.collect();
    let sources = evidence.top_sources.iter().map(|top| (top.addr.to_string(), top.share));
    let networks = evidence.top_networks.iter().map(|top| (top.net.to_string(), top.share));
    let ttls = evidence.ttls.iter().map(|top| (format!("TTL {}", top.ttl), top.share));
    let mut blocks = Vec::new();
    if !signatures.is_empty() {
        blocks.push(Block::List("Signatures", signatures));
    }
    for (label, bars) in [
        ("Top sources", sources.collect::<Vec<_>>()),
        ("Networks", networks.collect()),
        ("TTLs", ttls.collect()),
    ] {
        if !bars.is_empty() {
            blocks.push(Block::Bars(label, bars));
        }
    }
    blocks
}

fn header_row(nth: usize, header: &SynHeader, shown: Shown<'_>) -> [String; 5] {
    let (from, fingerprint) = decoded(&header.bytes).map_or_else(
        || ("?".to_owned(), "the TCP header lies beyond the kept bytes".to_owned()),
        |(from, fingerprint)| (from.to_string(), fingerprint),
    );
    let kept = header.bytes.len();
    let bytes =
        header.length.map_or_else(|| kept.to_string(), |whole| format!("{kept} of {whole}"));
    [(nth + 1).to_string(), shown(header.at), from, bytes, fingerprint]
}

/// The moments of which counters are shown.
const COLUMNS: [&str; 5] = ["COUNTER", "BEFORE", "AT ALARM", "LAST", "AT END"];

/// One of the rates.
type Rate = fn(&Rates) -> f64;

/// A number of a moment.
type Number = fn(&Moment) -> Option<f64>;

/// The rates that are shown of a moment, and their names. Those with `true` are shown even where all are 0.
const RATES: [(&str, bool, Rate); 10] = [
    ("SYNs/s", true, |rates| rates.syn_pps),
    ("retransmitted/s", false, |rates| rates.retransmitted_pps),
    ("handshakes attempted/s", true, |rates| rates.attempted_pps),
    ("handshakes completed/s", true, |rates| rates.completed_pps),
    ("unanswered, queue full/s", false, |rates| rates.unanswered_pps),
    ("unanswered otherwise/s", false, |rates| rates.ignored_pps),
    ("matched by rules/s", false, |rates| rates.matched_pps),
    ("dropped/s", false, |rates| rates.dropped_pps),
    ("SYN cookies/s", false, |rates| rates.cookies_sent_pps),
    ("out-of-state segments/s", false, |rates| rates.out_of_state_pps),
];

/// The numbers that are shown of the alarm and of the last inspection.
const NUMBERS: [(&str, Number); 15] = [
    ("attempts judged", |at| Some(at.statistics.fast_attempts as f64)),
    ("failures judged", |at| Some(at.statistics.fast_failures as f64)),
    ("failures expected", |at| Some(at.statistics.expected)),
    ("cumulative sum", |at| Some(at.statistics.cusum)),
    ("alarm at a sum of", |at| Some(at.statistics.cusum_limit)),
    ("SYN queue", |at| at.half_open.map(f64::from)),
    ("accept queue", |at| at.accept_queue.map(f64::from)),
    ("capacity of each queue", |at| at.queue_limit.map(f64::from)),
    ("ListenOverflows", |at| Some(at.kernel.listen_overflows as f64)),
    ("ListenDrops", |at| Some(at.kernel.listen_drops as f64)),
    ("TCPReqQFullDoCookies", |at| Some(at.kernel.req_q_full_do_cookies as f64)),
    ("TCPReqQFullDrop", |at| Some(at.kernel.req_q_full_drop as f64)),
    ("SyncookiesSent", |at| Some(at.kernel.syncookies_sent as f64)),
    ("SyncookiesRecv", |at| Some(at.kernel.syncookies_recv as f64)),
    ("SyncookiesFailed", |at| Some(at.kernel.syncookies_failed as f64)),
];

/// Counters before the incident, at the alarm, at the last inspection and at the end.
fn rates(record: &Record) -> Vec<[String; 5]> {
    let [alarm, last] = [record.at_alarm.as_ref(), record.at_last.as_ref()];
    let [alarm_rates, last_rates] = [alarm, last].map(|moment| moment.map(|moment| &moment.rates));
    let columns = [record.before.as_ref(), alarm_rates, last_rates, record.after.as_ref()];
    if columns.iter().all(Option::is_none) {
        return Vec::new();
    }
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
    let row = |name: &str, values: [Option<f64>; 4]| {
        let [before, alarm, last, after] = values.map(cell);
        [name.to_owned(), before, alarm, last, after]
    };
    let is_shown = |values: &[Option<f64>; 4]| values.iter().flatten().any(|value| *value > 0.0);
    let rows =
        RATES.iter().map(|(name, always, rate)| (*name, *always, columns.map(|it| it.map(rate))));
    let numbers = NUMBERS.iter().map(|(name, number)| {
        (*name, false, [None, alarm.and_then(number), last.and_then(number), None])
    });
    let rows = rows.chain(numbers).filter(|(_, always, values)| *always || is_shown(values));
    rows.map(|(name, _, values)| row(name, values)).collect()
}
