//! The command line: one module per verb. Each takes the parsed arguments and a [`Session`], and reports the
//! outcome. [`Exit`] alone maps outcomes to exit codes.
//!
//! A new verb is a module here with its line in `verb`, a line and its options in [`args`], and, where it
//! prints JSON, a line in [`documents`].

pub(crate) mod alerts;
pub(crate) mod allow;
pub mod args;
pub(crate) mod block;
mod caller;
pub(crate) mod capture;
mod check;
mod completions;
pub(crate) mod config;
pub(crate) mod confirm;
pub(crate) mod detach;
mod doctor;
pub mod documents;
mod duration;
mod error;
mod exit;
mod explain;
mod fleet;
pub(crate) mod import;
mod listeners;
mod manual;
mod metrics;
pub(crate) mod mitigation;
pub(crate) mod mode;
pub mod overflow;
pub(crate) mod reload;
mod replay;
mod report;
pub(crate) mod restore_sysctls;
mod rule_file;
pub(crate) mod rules;
mod run;
mod selftest;
mod session;
mod states;
mod status;
#[cfg(feature = "tui")]
mod top;
mod tune;
pub(crate) mod unblock;
mod usage;
pub(crate) mod version;

pub use args::Args;
pub use exit::Exit;
pub use session::Session;
pub use usage::parse;

use crate::control::ClientError;
use args::{ConfigVerb, FleetVerb, ListArgs, RulesVerb, ShowArgs, Verb};

/// Runs the verb of `args`; errors go to stderr.
pub fn main(args: Args) -> Exit {
    let mut stdout = std::io::stdout().lock();
    let mut session = Session::new(&args.global, &mut stdout);
    match verb(args, &mut session) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Done {
                session.complain(&explained(error, &session));
            }
            exit
        }
    }
}

/// An error together with its cause according to systemd, where the error is that no agent runs.
fn explained(error: anyhow::Error, session: &Session<'_>) -> anyhow::Error {
    match error.downcast::<ClientError>() {
        Ok(error) => session.client.explained(error).into(),
        Err(error) => error,
    }
}

fn verb(args: Args, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Replay(replay) => return replay::run(&replay, session),
        Verb::Selftest(selftest) => return selftest::run(&selftest, session),
        Verb::Doctor(doctor) => return doctor::run(&doctor, session),
        Verb::Tune(tune) => return tune::run(&tune, session),
        Verb::Report(report) => report::run(&report, session),
        Verb::Capture(capture) => capture::run(&capture, session),
        Verb::Run(run) => run::run(run, &args.global),
        Verb::Status(status) => status::run(&status, session),
        Verb::Check(check) => return Ok(check::run(&check, session)),
        #[cfg(feature = "tui")]
        Verb::Top(top) => top::run(&top, session),
        Verb::Block(block) => block::run(&block, session),
        Verb::Unblock(unblock) => unblock::run(&unblock, session),
        Verb::Allow(allow) => allow::allow(allow, session),
        Verb::Disallow(disallow) => allow::disallow(&disallow, session),
        Verb::Explain(explain) => explain::run(&explain, session),
        Verb::Alerts(alerts) => alerts::run(&alerts, session),
        Verb::Events(events) => alerts::follow(&events, session),
        Verb::Fleet { verb: FleetVerb::Other(words) } => fleet::run(words, &args.global),
        Verb::Rules { verb: None } => rules::list(&ListArgs::default(), session),
        Verb::Rules { verb: Some(RulesVerb::List(list)) } => rules::list(&list, session),
        Verb::Rules { verb: Some(RulesVerb::Export(export)) } => rules::export(&export, session),
        Verb::Rules { verb: Some(RulesVerb::Import(import)) } => import::run(&import, session),
        Verb::Rules { verb: Some(RulesVerb::Flush(args)) } => rules::flush(&args, session),
        Verb::Mode(mode) => mode::run(&mode, session),
        Verb::Confirm(confirm) => confirm::run(&confirm, session),
        Verb::Mitigation(mitigation) => mitigation::run(&mitigation, session),
        Verb::Reload => reload::run(session),
        Verb::Detach(detach) => detach::run(&detach, session),
        Verb::Config { verb: Some(ConfigVerb::Check { file, config }) } => {
            config::check(file.or(config).as_deref(), session)
        }
        Verb::Config { verb: None } => config::show(&ShowArgs::default(), session),
        Verb::Config { verb: Some(ConfigVerb::Show(show)) } => config::show(&show, session),
        Verb::Config { verb: Some(ConfigVerb::Init { file }) } => {
            config::init(file.as_deref(), session)
        }
        Verb::States(states) => states::run(&states, session),
        Verb::Listeners(listeners) => listeners::run(&listeners, session),
        Verb::Metrics(metrics) => metrics::run(&metrics, session),
        Verb::Completions(completions) => completions::run(&completions, session),
        Verb::Complete(complete) => completions::complete(&complete, session),
        Verb::Manual(manual) => manual::run(&manual, session),
        Verb::Version => version::run(session),
        Verb::RestoreSysctls => restore_sysctls::run(session),
    }?;
    Ok(Exit::Done)
}
