//! The results for people, as tables that Markdown understands.

use std::fmt::Write as _;

use tcpguard_kit::measure::lower_bound;

use super::attack::{Delivery, Rate};
use super::record::{Clients, Record, Spread};
use super::run::{PATIENCE, Setting};

const HEAD: &str = "\
| defence | new ≤ 1 s % (≥) | new ≤ 3 s % (≥) | known ≤ 1 s % (≥) | known ≤ 3 s % (≥) | new p50 / p99 ms | known p50 / p99 ms | × idle p50 / p99 | taken/s (min–max) | CPU ns/packet (min–max) | × drop (min–max) | clients, runs |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// All tables, one for each setting, in the order in which they were measured.
pub fn render(records: &[Record]) -> String {
    let mut text = String::new();
    let mut shown: Vec<Setting> = Vec::new();
    for record in records {
        if shown.contains(&record.setting) {
            continue;
        }
        shown.push(record.setting);
        let _ = write!(text, "\n{}\n\n{HEAD}", title(&record.setting));
        for row in records.iter().filter(|other| other.setting == record.setting) {
            text.push_str(&line(row, idle(records, &row.setting)));
        }
    }
    text
}

/// The run without a flood that belongs to a setting.
fn idle<'a>(records: &'a [Record], setting: &Setting) -> Option<&'a Record> {
    records.iter().find(|r| r.setting.rate.is_none() && r.setting.far == setting.far)
}

fn title(setting: &Setting) -> String {
    let rate = setting.rate.map_or("idle".to_owned(), |rate| {
        format!("{} flood, {}", setting.flood.title(), Rate::title(rate))
    });
    let delivery = match setting.delivery {
        Delivery::Sockets if setting.rate.is_some() => ", as socket buffers",
        _ => "",
    };
    let family = if setting.ipv6 { ", IPv6" } else { "" };
    let link = if setting.far { ", clients at 100 ms ± 20 ms" } else { "" };
    let linear = setting.linear.map_or(String::new(), |n| format!(", tcp_syn_linear_timeouts={n}"));
    format!("**{rate}{delivery}{family}{link}{linear}**")
}

fn line(record: &Record, idle: Option<&Record>) -> String {
    let title = record.arm.title();
    if let Some(reason) = &record.unavailable {
        return format!("| {title} | not available: {reason} |\n");
    }
    let (new_clients, validated_clients) = (record.new_clients(), record.validated_clients());
    let flaw = |count: usize, word: &str| match count {
        0 => String::new(),
        count => format!(", {count} {word}"),
    };
    let flaws = flaw(record.marked(), "marked") + &flaw(record.failed, "failed");
    let flooded = record.setting.rate.is_some();
    let spread = |spread: Option<Spread>, digits: usize| match spread.filter(|_| flooded) {
        None => "–".to_owned(),
        Some(Spread { median, least, most }) => {
            format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
        }
    };
    format!(
        "| {title} | {} | {} | {} | {} | {} | {} | {} | {} | {}, {}{flaws} |\n",
        shares(&new_clients),
        shares(&validated_clients),
        quantiles(&new_clients),
        quantiles(&validated_clients),
        idle.and_then(|idle| idle.new_clients().connect_ms)
            .map_or("–".to_owned(), |idle| times(&new_clients, idle)),
        spread(record.taken(), 0),
        spread(record.ns_per_packet(), 0),
        spread(record.times_drop(), 2),
        new_clients.attempts,
        record.runs.len(),
    )
}

fn shares(clients: &Clients) -> String {
    let share = |successes| match clients.attempts {
        0 => "–".to_owned(),
        count => format!(
            "{:.2} ({:.2})",
            100.0 * successes as f64 / count as f64,
            100.0 * lower_bound(successes, count)
        ),
    };
    [clients.within_1s, clients.within_3s].map(share).join(" | ")
}

fn quantiles(clients: &Clients) -> String {
    times(clients, [1.0; 2])
}

/// Times to connect as multiples of `units`, in ms.
fn times(clients: &Clients, units: [f64; 2]) -> String {
    let Some(connect_ms) = clients.connect_ms else { return "–".to_owned() };
    let shown = |at: usize| match connect_ms[at] >= PATIENCE.as_secs_f64() * 1e3 {
        true => "never".to_owned(),
        false => format!("{:.2}", connect_ms[at] / units[at]),
    };
    format!("{} / {}", shown(0), shown(1))
}

#[cfg(test)]
mod tests {
    use tcpguard_kit::net::lab::Family;

    use super::super::arm::Arm;
    use super::super::record::tests::run;
    use super::*;

    fn record(arm: Arm) -> Record {
        let setting = Setting { rate: Some(Rate::Maximum), ..Setting::near(Family::V4) };
        Record::new(arm, setting, 2)
    }

    #[test]
    fn what_a_machine_lacks_is_a_row_with_the_reason() {
        let unavailable = Some("no iptables".to_owned());
        let records = [Record { unavailable, ..record(Arm::Hashlimit) }];
        let text = render(&records);
        assert!(text.contains("**crude flood, maximum**"), "{text}");
        assert!(text.contains("| iptables hashlimit, cookies on | not available: no iptables |"));
    }

    #[test]
    fn who_never_connects_is_no_multiple_of_who_does() {
        let idle = Record { setting: Setting::near(Family::V4), ..record(Arm::Cookies1) };
        let mut none = record(Arm::None);
        let of = |connect_ms| {
            let mut run = run(1, 1e5, 900.0);
            run.new_clients.connect_ms = Some(connect_ms);
            vec![run]
        };
        none.runs = of([0.3, 3500.0]);
        let text = render(&[Record { runs: of([0.1, 0.5]), ..idle }, none]);
        assert!(text.contains("| 0.30 / never | 0.10 / 0.50 | 3.00 / never |"), "{text}");
    }

    #[test]
    fn a_row_has_the_median_of_its_runs_and_says_which_are_doubtful() {
        let mut ours = record(Arm::Ours);
        ours.runs = vec![run(1, 9e6, 80.0), run(2, 7e6, 120.0), run(3, 8e6, 100.0)];
        ours.runs[1].brackets = Some([100.0, 120.0]);
        ours.failed = 1;
        let text = render(&[ours]);
        assert!(text.contains("| 8000000 (7000000–9000000) | 100 (80–120) |"), "{text}");
        assert!(text.contains("| 600, 3, 1 marked, 1 failed |"), "{text}");
        assert!(text.contains("100.00 (99.36)"), "{text}");
    }
}
