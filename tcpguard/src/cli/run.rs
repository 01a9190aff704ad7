//! `tcpguard run`

use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::args::{Global, RunArgs};
use super::exit::{CliError, Exit};
use crate::config::Overrides;
use crate::daemon::{self, Provenance, Refused};
use crate::telemetry::log;

/// A service that cannot start ends no sooner: systemd starts another one at once.
const TRY: Duration = Duration::from_secs(1);

pub(super) fn run(args: RunArgs, global: &Global) -> anyhow::Result<()> {
    log::start(log::level(global.verbose, global.quiet));
    let begun = Instant::now();
    let ended = run_agent(args, global);
    if let Err(error) = &ended
        && env::var_os("NOTIFY_SOCKET").is_some()
        && Exit::of(error) == Exit::Failed
    {
        sleep(TRY.saturating_sub(begun.elapsed()));
    }
    ended
}

/// Until the agent ends.
fn run_agent(args: RunArgs, global: &Global) -> anyhow::Result<()> {
    let overrides = Overrides {
        interfaces: args.interfaces,
        xdp_mode: args.xdp_mode,
        mode: args.mode,
        runtime_dir: Some(global.runtime_dir.clone()),
        state_dir: Some(global.state_dir.clone()),
        pin_dir: Some(global.pin_dir.clone()),
        bpf_log: args.bpf_log,
    };
    let mut provenance = Provenance::new(args.config, overrides);
    let config = provenance.load().map_err(refused)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            anyhow!("cannot start the event loop: {error}; see what forbids it: tcpguard doctor")
        })?
        .block_on(daemon::run(config, provenance))
}

/// Mistakes are the code of a command line that makes no sense: another start would find the same
/// ones, and the service must not try (`RestartPreventExitStatus=`).
fn refused(refused: Refused) -> anyhow::Error {
    match refused {
        Refused::Config(error) if error.is_of_the_system() => error.into(),
        refused => CliError::Usage(refused.to_string()).into(),
    }
}
