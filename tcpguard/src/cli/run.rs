//! `tcpguard run`

use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tcpguard_host::hint::Failure;
use tcpguard_host::stderr;

use super::args::{Global, RunArgs};
use super::exit::Exit;
use crate::config::Overrides;
use crate::daemon::{self, Provenance};

/// A service that cannot start ends no sooner: systemd starts another one at once.
const TRY: Duration = Duration::from_secs(1);

pub(super) fn run(args: RunArgs, global: &Global) -> anyhow::Result<()> {
    stderr::start_log(global.verbose, global.quiet);
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
    let config = provenance.load()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(format!("cannot start the event loop: {error}"), "tcpguard doctor")
        })?
        .block_on(daemon::run(config, provenance))
}
