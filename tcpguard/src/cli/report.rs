//! `tcpguard report`

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tcpguard_common::model::Model;
use tcpguard_engine::Mode;

use super::exit::CliError;
use super::session::Session;
use super::status::foreign;
use super::{explain, replay as capture};
use crate::control::{ClientError, Request, Response};
use crate::replay::replay_with;
use crate::report::{Story, Timeline, page};

/// `tcpguard report`
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct ReportArgs {
    /// Number of an attack; or a capture: pcap or pcapng, also compressed with gzip; - for standard
    /// input
    #[arg(value_name = "ATTACK|CAPTURE", value_parser = subject)]
    pub subject: Subject,
    /// File to write the page to, in place of one that is there; - for standard output
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Of a capture: what happens when a rule matches [default: observe]
    #[arg(long, value_parser = mode_parser())]
    pub mode: Option<Mode>,
    /// Of a capture: configuration file whose thresholds to judge by, in place of the defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const HELP: &str = "\
The page needs no network: it can be mailed, opened anywhere and printed. With --json the counts
that it draws are printed, a line for each attack (tcpguard.timeline/1).

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 tcpguard is not running or the capture
cannot be read, 4 permission denied, 5 no such attack.

Examples:
  tcpguard report 7 --html attack-7.html
  tcpguard report flood.pcap.gz --html flood.html
  tcpguard report 7 --json | jq '.points[].syn_pps'";

/// What a report is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The attack with this number.
    Attack(u64),
    /// What is in this file.
    Capture(PathBuf),
}

/// A number is an attack; a file of such a name is `./7`.
fn subject(text: &str) -> Result<Subject, String> {
    let number = text.strip_prefix('#').unwrap_or(text).parse().ok();
    Ok(number.map_or_else(|| Subject::Capture(text.into()), Subject::Attack))
}

fn mode_parser() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(["observe", "enforce"]).map(|typed| match typed.as_str() {
        "enforce" => Mode::Enforce,
        _ => Mode::Observe,
    })
}

pub(super) fn run(args: &ReportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if args.html.is_none() && !session.json {
        let text =
            "say where the page is to go, - for standard output: tcpguard report … --html FILE";
        return Err(CliError::Usage(text.to_owned()).into());
    }
    match &args.subject {
        Subject::Attack(_) if args.mode.is_some() || args.config.is_some() => {
            let text = "--mode and --config are about captures; an attack was judged when it was \
                        there: tcpguard report --help";
            Err(CliError::Usage(text.to_owned()).into())
        }
        Subject::Attack(id) => attack(*id, args.html.as_deref(), session),
        Subject::Capture(file) => of_capture(file, args, session),
    }
}

fn attack(id: u64, html: Option<&Path>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let full = explain::attack(id, session)?;
    let line = match session.client.call(Request::Timeline { id }) {
        Ok(Response::Timeline(line)) => Ok(*line),
        Ok(other) => return Err(foreign(&other).into()),
        // The page says why it has no plots; an older agent does not know what is asked for.
        Err(ClientError::Refused(refusal)) => Err(refusal.message),
        Err(error) => return Err(error.into()),
    };
    if session.json {
        let line = line.as_ref().map_err(|why| CliError::NotFound(why.clone()))?;
        session.print_document(line)?;
    }
    let Some(html) = html else { return Ok(()) };
    let story = Story::of_attack(full, line, session.view.zone.clone());
    write(&story, html, &format!("the same in text: tcpguard explain {id}"), session)
}

fn of_capture(file: &Path, args: &ReportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let settings = capture::settings(args.config.as_deref())?;
    let (name, source) = (file.display().to_string(), capture::open(file)?);
    let mode = args.mode.unwrap_or(Mode::Observe);
    let outcome = replay_with(&name, source, &mut Model::default(), mode, settings)?;
    if session.json {
        let lines: Vec<Timeline> = outcome.in_full().filter_map(|(_, line)| line).collect();
        session.print_lines(&lines)?;
    }
    if let Some(html) = &args.html {
        let next = format!("the same in text: tcpguard replay {name}");
        write(&Story::of_capture(&outcome), html, &next, session)?;
    }
    match outcome.damage {
        Some(damage) => Err(damage.into()),
        None => Ok(()),
    }
}

fn write(story: &Story, html: &Path, next: &str, session: &mut Session<'_>) -> anyhow::Result<()> {
    let page = page(story);
    if html == Path::new("-") {
        return Ok(session.print_utf8(&page)?);
    }
    std::fs::write(html, page).map_err(|error| {
        let text = format!(
            "cannot write {}: {error}; name another file: tcpguard report … --html FILE",
            html.display()
        );
        match error.kind() {
            ErrorKind::PermissionDenied => CliError::Denied(text),
            _ => CliError::Refused(text),
        }
    })?;
    let wrote = format!("wrote {}", html.display());
    if session.json {
        session.say(&wrote);
    } else {
        session.print(&format!("{wrote}\n"))?;
    }
    session.say(next);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_attack_and_anything_else_a_file() {
        let file = |name: &str| Ok(Subject::Capture(name.into()));
        assert_eq!(subject("7"), Ok(Subject::Attack(7)));
        assert_eq!(subject("#7"), Ok(Subject::Attack(7)));
        assert_eq!(subject("./7"), file("./7"));
        assert_eq!(subject("flood.pcap"), file("flood.pcap"));
        assert_eq!(subject("-"), file("-"));
    }
}
