//! The command line: one module a verb. Each takes what was typed and a [`Session`], and says what
//! came of it; exit codes are mapped in one place, [`Exit`].

mod alerts;
mod allow;
pub mod args;
mod block;
mod caller;
mod check;
mod config;
mod detach;
mod duration;
mod exit;
mod explain;
mod import;
mod mode;
mod probe;
mod reload;
mod replay;
mod restore_sysctls;
mod rule_file;
mod rules;
mod run;
mod session;
mod status;
mod step;
#[cfg(feature = "tui")]
mod top;
mod unblock;
mod version;

pub use args::Args;
pub use exit::{CliError, Exit};
pub use session::Session;

use args::{ConfigVerb, RulesVerb, Verb};

/// Does what `args` say; errors are told on stderr.
pub fn main(args: Args) -> Exit {
    let mut stdout = std::io::stdout().lock();
    let mut session = Session::new(&args.global, &mut stdout);
    match verb(args, &mut session) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Done {
                session.complain(&error);
            }
            exit
        }
    }
}

fn verb(args: Args, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Replay(replay) => return replay::run(&replay, session),
        Verb::Probe(probe) => return probe::run(&probe, session),
        Verb::Run(run) => run::run(run, &args.global),
        Verb::Status(status) => status::run(&status, session),
        Verb::Check(check) => return Ok(check::run(&check, session)),
        #[cfg(feature = "tui")]
        Verb::Top(top) => top::run(&top, session),
        Verb::Block(block) => block::run(block, session),
        Verb::Unblock(unblock) => unblock::run(&unblock, session),
        Verb::Allow(allow) => allow::allow(allow, session),
        Verb::Unallow(unallow) => allow::unallow(&unallow, session),
        Verb::Explain(explain) => explain::run(&explain, session),
        Verb::Alerts(alerts) => alerts::list(&alerts, session),
        Verb::Events(events) => alerts::follow(&events, session),
        Verb::Rules { verb: RulesVerb::List } => rules::list(session),
        Verb::Rules { verb: RulesVerb::Export(export) } => rules::export(&export, session),
        Verb::Rules { verb: RulesVerb::Import(import) } => import::run(&import, session),
        Verb::Rules { verb: RulesVerb::Flush } => rules::flush(session),
        Verb::Mode(mode) => mode::run(&mode, session),
        Verb::Step(step) => step::run(&step, session),
        Verb::Reload => reload::run(session),
        Verb::Detach(detach) => detach::run(&detach, session),
        Verb::Config { verb: ConfigVerb::Check { file } } => {
            config::check(file.as_deref(), session)
        }
        Verb::Config { verb: ConfigVerb::Show { file } } => config::show(file.as_deref(), session),
        Verb::Config { verb: ConfigVerb::Init { file } } => config::init(file.as_deref(), session),
        Verb::Version => version::run(session),
        Verb::RestoreSysctls(args) => restore_sysctls::run(&args, session),
    }?;
    Ok(Exit::Done)
}
