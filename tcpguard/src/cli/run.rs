//! `tcpguard run`

use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::args::{Global, RunArgs};
use super::exit::{CliError, Exit};
use crate::agent::{self, Provenance};
use crate::config::{self, ConfigError, Overrides};
use crate::observe::log;

/// A service that cannot start ends no sooner: systemd starts another one at once.
const TRY: Duration = Duration::from_secs(1);

pub(super) fn run(args: RunArgs, global: &Global) -> anyhow::Result<()> {
    log::start(log::level(global.verbose, global.quiet));
    let begun = Instant::now();
    let ended = guard(args, global);
    if let Err(error) = &ended
        && env::var_os("NOTIFY_SOCKET").is_some()
        && Exit::of(error) == Exit::Failed
    {
        sleep(TRY.saturating_sub(begun.elapsed()));
    }
    ended
}

/// Until the agent ends.
fn guard(args: RunArgs, global: &Global) -> anyhow::Result<()> {
    let overrides = Overrides {
        interfaces: args.interfaces,
        xdp_mode: args.xdp_mode,
        mode: args.mode,
        runtime_dir: Some(global.runtime_dir.clone()),
        state_dir: Some(args.state_dir),
        pin_dir: Some(global.pin_dir.clone()),
        bpf_log: args.bpf_log,
    };
    let mut provenance = Provenance::new(args.config, overrides);
    let config = provenance.load().map_err(refused)?;
    if config.interfaces.is_empty() {
        let file = config.path.as_deref().unwrap_or(config::DEFAULT_PATH.as_ref());
        let advice = format!(
            "no interface to guard; name one with -i, or in {} under [interfaces]: names = [\"eth0\"]",
            file.display()
        );
        return Err(CliError::Usage(advice).into());
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            anyhow!("cannot start the event loop: {error}; see what forbids it: tcpguard doctor")
        })?
        .block_on(agent::run(config, provenance))
}

/// Mistakes are the code of a command line that makes no sense: another start would find the same
/// ones, and the service must not try (`RestartPreventExitStatus=`).
fn refused(error: ConfigError) -> anyhow::Error {
    match error {
        ConfigError::Invalid { .. } => CliError::Usage(error.to_string()).into(),
        ConfigError::Unreadable { .. } => error.into(),
    }
}
