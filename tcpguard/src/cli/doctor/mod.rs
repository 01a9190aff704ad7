//! `tcpguard doctor`: it gathers facts about the host and the agent, and checks them.

mod agent;
mod examine;
mod facts;
mod gather;

use tcpguard_host::doctor::Doctor;
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;

use examine::examine;
use gather::gather;

use super::args::DoctorArgs;
use super::exit::Exit;
use super::session::Session;
use super::{selftest, tune};
use crate::text;

pub(super) fn run(args: &DoctorArgs, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    if args.selftest {
        return selftest::run(args.if_needed, session);
    }
    let (host, tune) = tune::judged(&session.state_dir, session);
    let facts = gather(args, session, host, tune);
    let doctor = examine(&facts, args.interface.is_some(), Time(jiff::Timestamp::now()));
    if session.json {
        session.print_document(&doctor)?;
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
