//! `tcpguard doctor`: it gathers facts about the host and the agent, and checks them.

mod agent;
mod bundle;
mod examine;
mod facts;
mod gather;

use std::path::Path;

use tcpguard_host::doctor::Doctor;
use tcpguard_host::doctor::facts::ConfigFacts;
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;

use bundle::Member;
use examine::examine;
use facts::{Agent, Facts};
use gather::{Places, gather};

use super::args::DoctorArgs;
use super::error::CliError;
use super::exit::Exit;
use super::session::Session;
use super::{selftest, tune};
use crate::text::{self, View};

pub(super) fn run(args: &DoctorArgs, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    if args.selftest {
        return selftest::run(args.if_needed, session);
    }
    if args.fix_hints && session.json {
        let message = "--fix-hints and --json cannot be used together";
        return Err(
            CliError::usage(message, "leave one of them out: tcpguard doctor --help").into()
        );
    }
    let places = Places {
        config: args.config.clone(),
        state_dir: session.state_dir.clone(),
        pin_dir: session.pin_dir.clone(),
        interface: args.interface.clone(),
    };
    let (host, tune) = tune::judged(&session.state_dir, session);
    let facts = gather(&places, &session.client, host, tune);
    let doctor = examine(&facts, args.interface.is_some(), Time(jiff::Timestamp::now()));
    if let Some(path) = &args.bundle {
        let names = write(path, args.anonymous, &facts, &doctor)?;
        session.say(&format!("{} holds:\n  {}", path.display(), names.join("\n  ")));
        let addresses = if args.anonymous { "no addresses" } else { "addresses, but no secrets" };
        session.say(&format!(
            "it has {addresses}; check it before you send it: tar -tzf {}",
            path.display()
        ));
    }
    if session.json {
        session.print_document(&doctor)?;
    } else if args.fix_hints {
        session.render(|out, _| text::hints(out, &doctor))?;
    } else {
        session.render(|out, view| text::doctor(out, &doctor, view))?;
    }
    Ok(exit(&doctor))
}

fn exit(doctor: &Doctor) -> Exit {
    match doctor.worst() {
        // The code that says "not running" elsewhere.
        Some(Severity::Critical) => Exit::Unavailable,
        _ if !doctor.complete => Exit::Denied,
        Some(Severity::Warning) => Exit::Failed,
        Some(Severity::Notice) | None => Exit::Done,
    }
}

/// Writes the archive and returns the names of its members.
fn write(
    path: &Path,
    anonymous: bool,
    facts: &Facts,
    doctor: &Doctor,
) -> anyhow::Result<Vec<String>> {
    let view =
        View { utf8: true, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH };
    let (mut doctor_page, mut tune_page) = (String::new(), String::new());
    text::doctor(&mut doctor_page, doctor, &view)?;
    text::tune(&mut tune_page, &facts.of_host.tune, false, &view)?;
    let mut members = vec![
        Member::new("doctor.txt", doctor_page),
        Member::document("doctor.json", doctor)?,
        Member::new("tune.txt", tune_page),
        Member::document("tune.json", &facts.of_host.tune)?,
    ];
    if let Agent::Running(status) = &facts.agent {
        let mut page = String::new();
        text::full_status(&mut page, status, &view)?;
        members.push(Member::new("status.txt", page));
        members.push(Member::document("status.json", &**status)?);
    }
    members.extend(bundle::of_host(config_path(&facts.of_host.config)));
    if anonymous {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        members = bundle::anonymous(members, &hostname);
    }
    bundle::write(path, &members, doctor.generated_at).map_err(|error| {
        CliError::file("write", path, &error, "name another file: --bundle FILE")
    })?;
    Ok(members.into_iter().map(|member| member.name).collect())
}

fn config_path(config: &ConfigFacts) -> &Path {
    match config {
        ConfigFacts::Absent { path }
        | ConfigFacts::Valid { path, .. }
        | ConfigFacts::Invalid { path, .. }
        | ConfigFacts::Unreadable { path, .. } => path,
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_host::doctor::Checked;

    use super::*;

    #[test]
    fn the_worst_decides_and_what_could_not_be_seen_counts() {
        let (passed, notice) = (Checked::passed("a", "b"), Checked::notice("a", "b"));
        let (warning, critical) = (Checked::warning("a", "b"), Checked::critical("a", "b"));
        let unknown = Checked::unknown("a", "b");
        for (checked, root, exit_code) in [
            (vec![], true, Exit::Done),
            (vec![passed], true, Exit::Done),
            (vec![notice], false, Exit::Done),
            (vec![unknown.clone()], true, Exit::Failed),
            (vec![unknown.clone()], false, Exit::Denied),
            (vec![warning.clone()], true, Exit::Failed),
            (vec![warning, unknown.clone()], false, Exit::Denied),
            (vec![critical.clone()], true, Exit::Unavailable),
            (vec![critical, unknown], false, Exit::Unavailable),
        ] {
            let at = Time(jiff::Timestamp::UNIX_EPOCH);
            let doctor = Doctor::new(at, "0.1.0", None, root, &checked);
            assert_eq!(exit(&doctor), exit_code, "{checked:?} {root}");
        }
    }
}
