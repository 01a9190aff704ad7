//! Distribution of a packet's time over the functions of tcpguard's BPF programs and of the kernel, while a
//! case is run over and over.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::thread::gettid;
use serde::Serialize;
use tcpguard_kit::net::bare::BareProgram;
use tcpguard_kit::net::netns::Netns;

use super::case::{
    Family, Filter, LIST, MILLION, Masks, Mode, Packet, Situation, Stream, Subject, among,
};
use super::stand::Stand;
use crate::part::{Part, Report};
use crate::perf::{self, Looks, Perf};

/// Runs of a packet between two readings of the clock.
const RUNS: u32 = 300_000;
/// By then perf takes samples.
const START: Duration = Duration::from_millis(300);
/// A function that takes less of a packet's time than this share has no row.
const LEAST: f64 = 0.015;

/// Distribution of the time over functions, for the cases that have targets.
#[derive(Clone, Debug, Serialize)]
pub struct Profiles {
    cases: Vec<Profile>,
    /// Cases that could not be profiled on this machine, with the reason.
    missing: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Profile {
    stream: Stream,
    subject: Subject,
    /// True if the profile is of the tc program that inspects ACKs, not of the program at XDP.
    at_tc: bool,
    /// Of a packet, wrapper and all, in ns.
    total_ns: f64,
    looks: u64,
    /// Shares of it by function, the greatest first.
    functions: Vec<(String, f64)>,
}

/// The profiled cases: those by which targets are judged, over IPv4 and from many sources.
fn cases() -> Vec<(Stream, Subject, bool)> {
    let from = |packet, sources| Stream { packet, family: Family::V4, sources };
    let ours = |situation, mode| Subject::Ours(situation, mode);
    let one_signature = Situation::Signatures { count: 1, masks: Masks::One };
    let syn = from(Packet::Linux, MILLION);
    let bare = from(Packet::Bare, MILLION);
    let ack = from(Packet::Ack, MILLION);
    vec![
        (ack, ours(Situation::Observe, Mode::Exact), false),
        (ack, Subject::Filter(Filter::ALLOW_MISS), false),
        (syn, ours(Situation::Followed, Mode::Exact), false),
        (syn, ours(Situation::Observe, Mode::Flood), false),
        (bare, ours(one_signature, Mode::Flood), false),
        (from(Packet::Bare, among(LIST)), ours(Situation::Listed(LIST), Mode::Flood), false),
        (from(Packet::Bare, among(LIST)), Subject::Filter(Filter::denied(LIST)), false),
        (syn, ours(Situation::Cookies, Mode::Flood), false),
        (syn, Subject::Reference { conntrack: false }, false),
        (ack, ours(Situation::Cookies, Mode::Flood), false),
        (ack, ours(Situation::Cookies, Mode::Flood), true),
        (ack, Subject::Reference { conntrack: false }, false),
    ]
}

/// Profiles all cases, in a namespace of its own that is gone afterwards.
pub fn measure(quick: bool) -> Result<Profiles> {
    ensure!(rustix::process::geteuid().is_root(), "looking at the kernel needs root: run as root");
    let time = Duration::from_secs(if quick { 1 } else { 4 });
    Netns::new(Profiles::NAME)?.run(|| {
        let mut stand = Stand::load(time)?;
        let directory = tempfile::tempdir()?;
        let mut profiles = Profiles { cases: Vec::new(), missing: Vec::new() };
        for (stream, subject, at_tc) in cases() {
            let title = title(stream, subject, at_tc);
            eprintln!("profile: {title}");
            let file = directory.path().join("perf.data");
            match profile(&mut stand, (stream, subject, at_tc), time, &file) {
                Ok(profile) => profiles.cases.push(profile),
                Err(error) => profiles.missing.push(format!("{title}: {error:#}")),
            }
        }
        Ok(profiles)
    })
}

fn profile(
    stand: &mut Stand,
    (stream, subject, at_tc): (Stream, Subject, bool),
    time: Duration,
    file: &Path,
) -> Result<Profile> {
    let (program, frame) = stand.looked_at(stream, subject, at_tc)?;
    let perf = Perf::start(gettid(), file)?;
    let total_ns = repeat(&program, &frame, time + START)?;
    perf.stop()?;
    let Looks { count: looks, functions } = Looks::read(file)?;
    ensure!(looks > u64::from(perf::LOOKS) / 4, "perf looked {looks} times only");
    let name = |name| if name == perf::NAMELESS { "BPF: the wrapper".to_owned() } else { name };
    let functions = functions.into_iter().map(|it| (name(it.name), it.share)).collect();
    Ok(Profile { stream, subject, at_tc, total_ns, looks, functions })
}

/// Runs a program for `time`; the mean time of a packet, in ns.
fn repeat(program: &BareProgram, frame: &[u8], time: Duration) -> Result<f64> {
    let (begun, mut sum, mut count) = (Instant::now(), 0_u64, 0_u64);
    while begun.elapsed() < time {
        sum += u64::from(program.test_run(frame, RUNS)?.0);
        count += 1;
    }
    Ok(sum as f64 / count as f64)
}

fn title(stream: Stream, subject: Subject, at_tc: bool) -> String {
    let hook = if at_tc { ", at tc" } else { "" };
    format!("{}: {}{hook}", stream.title(), subject.title())
}

impl Part for Profiles {
    const NAME: &'static str = "profile";

    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        report.text(
            "## Profile\n\nShare of each function, and its ns of a packet. Functions below 1.5 % are left \
             out.",
        );
        for case in &self.cases {
            let (ns, looks) = (case.total_ns, case.looks);
            let title = title(case.stream, case.subject, case.at_tc);
            let title = format!("{title}: {ns:.0} ns with the wrapper, {looks} samples");
            let row = |(name, share): &(String, f64)| {
                vec![
                    format!("`{name}`"),
                    format!("{:.1}", 100.0 * share),
                    format!("{:.1}", share * ns),
                ]
            };
            let functions = case.functions.iter().filter(|(_, share)| *share >= LEAST);
            report.table(&[&title, "%", "ns"], functions.map(row));
        }
        report.missing(&self.missing);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page;

    #[test]
    fn a_row_says_how_many_ns_of_a_packet_a_function_takes() {
        let (stream, subject, at_tc) = cases().remove(0);
        let functions = vec![("BPF: look".to_owned(), 0.5), ("rare".to_owned(), 0.01)];
        let case = Profile { stream, subject, at_tc, total_ns: 80.0, looks: 4000, functions };
        let profiles = Profiles { cases: vec![case], missing: vec!["x: no perf".to_owned()] };
        let text = page::text(&profiles.report());
        assert!(text.contains("| `BPF: look` | 50.0 | 40.0 |"), "{text}");
        assert!(!text.contains("rare") && text.contains("- x: no perf"), "{text}");
    }
}
