//! The command line of `tcpguard-fleet`: one module for each group of verbs.

pub mod args;
mod enroll;
mod error;
mod key;
mod manual;
mod metrics;
mod rule;
mod status;
mod text;

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tcpguard_host::hint::Failure;
use tcpguard_host::stderr;

use self::args::{Args, Global, Verb};
use self::error::CliError;
pub use self::error::Exit;
use crate::config::Config;
use crate::daemon::request::Request;
use crate::daemon::{CONTROLLER_SOCKET, Paths, StartError, client, collector, controller, edge};
use crate::document::RuleKind;
use crate::relief::speaker::exabgp::relay;

/// Runs a command line. Its first word is the program's name.
pub fn main(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(line) {
        Ok(args) => args,
        Err(error) => {
            // A closed stream changes nothing about the line.
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Invalid } else { Exit::Done };
            return ExitCode::from(exit as u8);
        }
    };
    stderr::start_log(args.global.verbose, args.global.quiet);
    match verb(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", error.lines());
            ExitCode::from(error.exit as u8)
        }
    }
}

fn verb(args: Args) -> Result<(), CliError> {
    let global = &args.global;
    let paths = paths(global);
    let mut out = io::stdout().lock();
    match args.verb {
        Verb::Run => block_on(edge::run(Config::read(&paths.config)?, &paths)),
        Verb::Collect => block_on(collector::run(Config::read(&paths.config)?, &paths)),
        Verb::Relief => {
            block_on(controller::run(Config::read(&paths.config)?, &paths.of_controller()))
        }
        Verb::Status(args) => status::run(&args, global, &paths, &mut out),
        Verb::Metrics => metrics::run(&paths, &mut out),
        Verb::Block(args) => rule::run(RuleKind::Block, &args, global, &paths, &mut out),
        Verb::Allow(args) => rule::run(RuleKind::Allow, &args, global, &paths, &mut out),
        Verb::Unblock(args) => rule::run(RuleKind::Revoke, &args, global, &paths, &mut out),
        Verb::Confirm(args) => {
            let socket = paths.socket(CONTROLLER_SOCKET);
            client::call(&socket, &Request::Confirm(args.host.clone()))?;
            Ok(writeln!(
                out,
                "routes of host {} stay for another 24h, if it still asks",
                args.host
            )?)
        }
        Verb::Name => {
            // A machine without a configuration has a name too.
            let host = match paths.config.exists() {
                true => Config::read(&paths.config)?.host()?,
                false => crate::config::machine_host()?,
            };
            Ok(writeln!(out, "{host}")?)
        }
        Verb::Key(args) => key::run(&args, &mut out),
        Verb::Enroll(args) => enroll::run(&args, &mut out),
        Verb::Manual { directory } => manual::run(&directory, &mut out),
        Verb::MakeStore(args) => {
            let config = Config::read(&paths.config)?;
            block_on(async {
                let bus = rule::connected(&config).await?;
                bus.make_store(args.replicas).await.map_err(|error| {
                    let hint = "use credentials of: tcpguard-fleet enroll NAME --as operator";
                    Failure::new(format!("the store cannot be made: {error}"), hint).into()
                })
            })?;
            Ok(writeln!(out, "the store of operators' rules is there")?)
        }
        Verb::ExabgpRelay { socket } => relay::run(&socket).map_err(|error| {
            let message = format!("{}: {error}", socket.display());
            Failure::new(message, "it is run by ExaBGP: journalctl -u tcpguard-fleet-relief").into()
        }),
    }
}

fn paths(global: &Global) -> Paths {
    Paths {
        config: global.config.clone(),
        runtime_dir: global.runtime_dir.clone(),
        state_dir: global.state_dir.clone(),
    }
}

/// Runs a future to its end, in this thread: BGP speakers live as long as it.
fn block_on<T>(future: impl Future<Output = Result<T, StartError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(format!("cannot start the event loop: {error}"), "ulimit -n")
    })?;
    let result = runtime.block_on(future);
    // The look-up of a name that goes on does not delay the end.
    runtime.shutdown_background();
    Ok(result?)
}
