//! The evidence behind a verdict: sources, fingerprints, reasons for the class, actions taken, and
//! counters.

use std::fmt::{self, Write};

use tcpguard_host::units::{elapsed, percent, short, whole};

use super::chapter::Setting;
use super::plot::bars::{self, Bar};
use super::times::{Times, between};
use super::words;
use crate::documents::{Evidence, FullIncident, Incident, Record};
use crate::html::markup::escaped;
use crate::text::{RATES, STANDS_OUT, event_line, no_mitigation, no_rule, rule_reason, signals};

/// Writes all of it.
pub(super) fn write(
    out: &mut impl Write,
    full: &FullIncident,
    times: &Times,
    setting: Setting,
) -> fmt::Result {
    let FullIncident { incident: attack, record, .. } = full;
    let evidence = &attack.evidence;
    if evidence.failing_flows > 0 {
        section(out, setting, "Where it came from", |out| sources(out, evidence))?;
        section(out, setting, "What it looked like", |out| looks(out, evidence))?;
    }
    section(out, setting, "Why it was taken for this", |out| verdict(out, full))?;
    section(out, setting, "What was done", |out| done(out, attack, record, times))?;
    numbers(out, record, times, setting)?;
    headers(out, record, times, setting)
}

fn section<W: Write>(
    out: &mut W,
    setting: Setting,
    heading: &str,
    content: impl FnOnce(&mut W) -> fmt::Result,
) -> fmt::Result {
    out.write_str("<section>\n")?;
    setting.heading(out, 1, heading)?;
    content(out)?;
    out.write_str("</section>\n")
}

fn paragraph(out: &mut impl Write, text: &str) -> fmt::Result {
    writeln!(out, "<p>{}</p>", escaped(&words::sentence(text)))
}

fn sources(out: &mut impl Write, evidence: &Evidence) -> fmt::Result {
    let repeated = evidence.retransmitted_share.map_or_else(String::new, |share| {
        format!(
            "; {} of those older than 1.5 s were repeated, as clients repeat theirs",
            percent(share)
        )
    });
    paragraph(
        out,
        &format!(
            "of {} failing SYNs looked at 90% come from {} sources in {} networks, and {} from \
             sources seen once{repeated}",
            whole(evidence.failing_flows),
            whole(evidence.k90_sources),
            whole(evidence.k90_networks),
            percent(evidence.singleton_share),
        ),
    )?;
    let top = evidence.top_sources.iter();
    let top = top.map(|one| Bar { label: one.addr.to_string(), share: one.share });
    ranked(out, "source", "Busiest sources, by their share of the failing SYNs", top.collect())?;
    let top = evidence.top_networks.iter();
    let top = top.map(|one| Bar { label: one.prefix.clone(), share: one.share });
    ranked(out, "network", "Busiest networks, by their share of the failing SYNs", top.collect())
}

/// Bars where one stands out, and a sentence where none does.
fn ranked(out: &mut impl Write, what: &str, heading: &str, bars: Vec<Bar>) -> fmt::Result {
    match bars.first() {
        Some(busiest) if busiest.share < STANDS_OUT => paragraph(
            out,
            &format!(
                "no {what} stands out: the busiest, {}, sends {}",
                busiest.label,
                percent(busiest.share)
            ),
        ),
        _ => bars::table(out, heading, &bars),
    }
}

fn looks(out: &mut impl Write, evidence: &Evidence) -> fmt::Result {
    for (number, top) in evidence.signatures.iter().enumerate() {
        if number == 0 {
            out.write_str("<ul class=\"signatures\">\n")?;
        }
        writeln!(
            out,
            "<li><code>{}</code> <span class=\"mask\">{}</span><br>{}</li>",
            escaped(&top.text),
            escaped(&top.mask),
            escaped(&format!(
                "{} of the failing SYNs; {} of the handshakes with it complete, {} clients are known \
                 to look so.",
                percent(top.share),
                percent(top.completion),
                short(top.completed as f64)
            ))
        )?;
    }
    if !evidence.signatures.is_empty() {
        out.write_str("</ul>\n")?;
    }
    // Sorted by TTL. Packets of one machine arrive with one TTL, and those of many machines with
    // many TTLs near each other.
    let mut ttls = evidence.ttls.clone();
    ttls.sort_by_key(|top| top.ttl);
    let bars = ttls.iter().map(|top| Bar { label: format!("TTL {}", top.ttl), share: top.share });
    bars::table(
        out,
        "Most frequent TTLs, by their share of the failing SYNs",
        &bars.collect::<Vec<_>>(),
    )
}

fn verdict(out: &mut impl Write, full: &FullIncident) -> fmt::Result {
    let FullIncident { incident: attack, record, .. } = full;
    if !record.alarm.is_empty() {
        paragraph(out, &format!("the alarm: {}", record.alarm))?;
    }
    if !record.lines.is_empty() {
        out.write_str("<ol class=\"lines\">\n")?;
        for line in &record.lines {
            let answer = if line.holds { "yes" } else { "no" };
            writeln!(
                out,
                "<li>{} <strong class=\"{answer}\">{answer}</strong>: {}</li>",
                escaped(&words::sentence(&line.asks)),
                escaped(&line.why)
            )?;
        }
        out.write_str("</ol>\n")?;
    }
    let reached = record.lines.last().map_or(attack.class, |line| line.class);
    let (stands, sure) = (words::kind(attack.class), percent(attack.confidence));
    if reached == attack.class {
        paragraph(out, &format!("so: {stands}, {sure} sure"))?;
    } else {
        let other = words::kind(reached);
        paragraph(out, &format!("the last look says: {other}; it stays: {stands}, {sure} sure"))?;
    }
    for (number, item) in attack.evidence.gate.iter().enumerate() {
        if number == 0 {
            out.write_str("<ul class=\"gate\">\n")?;
        }
        let (class, sign, word) =
            if item.holds { ("yes", "✓", "speaks for it") } else { ("no", "✗", "does not") };
        writeln!(
            out,
            "<li class=\"{class}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span> \
             <strong>{}</strong> <span class=\"word\">{word}</span>: {}</li>",
            escaped(&item.name.replace('_', " ")),
            escaped(&item.detail)
        )?;
    }
    if !attack.evidence.gate.is_empty() {
        out.write_str("</ul>\n")?;
    }
    Ok(())
}

fn done(out: &mut impl Write, attack: &Incident, record: &Record, times: &Times) -> fmt::Result {
    if attack.actions.is_empty() && record.rules.is_empty() && record.mitigations.is_empty() {
        let why = record.no_rule.as_ref().map(no_rule);
        let why = why.or_else(|| attack.advice.as_ref().map(|it| it.text.clone()));
        let why = why.unwrap_or_else(|| "nothing was called for".to_owned());
        return paragraph(out, &format!("nothing: {why}"));
    }
    if !attack.actions.is_empty() {
        out.write_str("<ol class=\"actions\">\n")?;
        for action in &attack.actions {
            writeln!(
                out,
                "<li><span class=\"at\">{}</span> <span class=\"after\">+{}</span> {}</li>",
                escaped(&times.show(action.at)),
                escaped(&elapsed(between(attack.since, action.at))),
                escaped(&event_line(&action.action))
            )?;
        }
        out.write_str("</ol>\n")?;
    }
    rules(out, record, times)?;
    if let (true, Some(why)) = (record.rules.is_empty(), &record.no_rule) {
        paragraph(out, &format!("no rule: {}", no_rule(why)))?;
    }
    match (record.mitigations.as_slice(), &record.no_mitigation) {
        ([], None) => Ok(()),
        ([], Some(why)) => paragraph(out, &format!("no step beside rules: {}", no_mitigation(why))),
        (mitigations, _) => {
            paragraph(out, &format!("steps beside rules: {}", mitigations.join(", ")))
        }
    }
}

fn rules(out: &mut impl Write, record: &Record, times: &Times) -> fmt::Result {
    if record.rules.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<div class=\"scroll\"><table><thead><tr><th>Rule</th><th>On</th><th>Why</th><th>From</th>\
         <th>Until</th><th class=\"number\">Hits</th><th class=\"number\">Passed when \
         retransmitted</th><th class=\"number\">Completed</th></tr></thead>\n",
    )?;
    for rule in &record.rules {
        let until = rule.ended_at.map_or_else(|| "the end".to_owned(), |at| times.show(at));
        writeln!(
            out,
            "<tr><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td \
             class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            rule.id,
            escaped(&rule.matches),
            escaped(&rule_reason(&rule.reason)),
            escaped(&times.show(rule.created_at)),
            escaped(&until),
            escaped(&short(rule.hits as f64)),
            escaped(&short(rule.accepted_retransmits as f64)),
            escaped(&short(rule.completed as f64)),
        )?;
    }
    out.write_str("</table></div>\n")?;
    if record.more_rules > 0 {
        let (rules, hits) = (whole(record.more_rules), short(record.more_hits as f64));
        paragraph(out, &format!("and {rules} rules more, with {hits} hits"))?;
    }
    Ok(())
}

/// Writes the counters before the incident, at the alarm, at the last inspection and at the end.
fn numbers(out: &mut impl Write, record: &Record, times: &Times, setting: Setting) -> fmt::Result {
    let moments = [record.at_alarm.as_ref(), record.at_last.as_ref()];
    let [alarm, last] = moments.map(|moment| moment.map(|moment| &moment.rates));
    let columns = [record.before.as_ref(), alarm, last, record.after.as_ref()];
    if columns.iter().all(Option::is_none) {
        return Ok(());
    }
    section(out, setting, "What was counted", |out| {
        out.write_str(
            "<div class=\"scroll\"><table><thead><tr><th>Per second</th><th class=\"number\">Before\
             </th><th class=\"number\">At the alarm</th><th class=\"number\">At the last look</th><th \
             class=\"number\">At the end</th></tr></thead>\n",
        )?;
        for (name, rate) in RATES {
            if columns.iter().flatten().all(|rates| rate(rates) <= 0.0) {
                continue;
            }
            write!(out, "<tr><th scope=\"row\">{}</th>", escaped(name))?;
            for rates in columns {
                let value = rates.map_or_else(|| "–".to_owned(), |rates| short(rate(rates)));
                write!(out, "<td class=\"number\">{}</td>", escaped(&value))?;
            }
            out.write_str("</tr>\n")?;
        }
        out.write_str("</table></div>\n")?;
        for (when, moment) in ["at the alarm", "at the last look"].into_iter().zip(moments) {
            if let Some(moment) = moment {
                let at = times.show(moment.at);
                paragraph(out, &format!("{when}, {at}: {}", signals(moment)))?;
            }
        }
        Ok(())
    })
}

/// The headers of SYNs.
fn headers(out: &mut impl Write, record: &Record, times: &Times, setting: Setting) -> fmt::Result {
    if record.syn_headers.is_empty() {
        return Ok(());
    }
    section(out, setting, "SYNs as they came", |out| {
        out.write_str(
            "<div class=\"scroll\"><table><thead><tr><th>At</th><th>From</th><th>Header</th></tr>\
             </thead>\n",
        )?;
        for header in &record.syn_headers {
            let (from, looks) = header.decoded().map_or_else(
                || ("?".to_owned(), "the TCP header lies beyond what is kept".to_owned()),
                |(from, looks)| (from.to_string(), looks),
            );
            writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
                escaped(&times.show(header.at)),
                escaped(&from),
                escaped(&looks)
            )?;
        }
        out.write_str("</table></div>\n")
    })
}
