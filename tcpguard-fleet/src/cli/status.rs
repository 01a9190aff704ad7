//! `tcpguard-fleet status`: the fleet, or the processes of this host.

use std::io::{self, Write};
use std::time::Duration;

use tcpguard_host::hint::Failure;
use tcpguard_host::json;

use super::args::{Global, StatusArgs};
use super::error::CliError;
use super::{block_on, text};
use crate::collect::FleetStatus;
use crate::config::Config;
use crate::daemon::request::{Request, Response};
use crate::daemon::{COLLECTOR_SOCKET, CONTROLLER_SOCKET, EDGE_SOCKET, Paths, client, collector};

/// Time in which every host of a fleet reports itself.
const EVERY_HOST: Duration = Duration::from_secs(45);

/// Shows the state of the fleet.
pub(super) fn run(
    args: &StatusArgs,
    global: &Global,
    paths: &Paths,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    if args.listen {
        let fleet = listen(paths, args.time)?;
        return Ok(show(&Response::Fleet(Box::new(fleet)), global.json, out)?);
    }
    if !args.local
        && let Ok(response) = ask(paths, COLLECTOR_SOCKET)
    {
        return Ok(show(&response, global.json, out)?);
    }
    let mut found = local(paths);
    // The reason for which not even a host's process answers is the one to report.
    if found.is_empty() {
        found.push(ask(paths, EDGE_SOCKET)?);
    }
    for response in found {
        show(&response, global.json, out)?;
    }
    Ok(())
}

/// The state of the fleet, by the collector of this host or by listening.
pub(super) fn fleet(paths: &Paths) -> Result<FleetStatus, CliError> {
    match ask(paths, COLLECTOR_SOCKET) {
        Ok(Response::Fleet(fleet)) => Ok(*fleet),
        _ => listen(paths, EVERY_HOST),
    }
}

/// The processes of this host that answer, but for the collector's picture of others.
pub(super) fn local(paths: &Paths) -> Vec<Response> {
    let sockets = [EDGE_SOCKET, CONTROLLER_SOCKET];
    sockets.into_iter().filter_map(|socket| ask(paths, socket).ok()).collect()
}

pub(super) fn ask(paths: &Paths, socket: &str) -> Result<Response, Failure> {
    client::call(&paths.socket(socket), &Request::Status)
}

fn listen(paths: &Paths, time: Duration) -> Result<FleetStatus, CliError> {
    let config = Config::read(&paths.config)?;
    log::info!("listening to the bus for {}", tcpguard_host::units::span(time));
    block_on(collector::listen(&config, time))
}

fn show(response: &Response, is_json: bool, out: &mut dyn Write) -> io::Result<()> {
    let page = match response {
        Response::Fleet(fleet) if is_json => return line(&**fleet, out),
        Response::Process(process) if is_json => return line(&**process, out),
        Response::Fleet(fleet) => text::fleet(fleet),
        Response::Process(process) => text::process(process),
        Response::Done | Response::Refused { .. } => return Ok(()),
    };
    out.write_all(page.as_bytes())
}

/// A document on a line.
fn line(document: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&json::bytes(document)?)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Collector;
    use crate::daemon::clock;

    #[test]
    fn a_document_is_one_line() {
        let fleet = Collector::new(clock().now).status(clock());
        let mut out = Vec::new();
        show(&Response::Fleet(Box::new(fleet.clone())), true, &mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.matches('\n').count(), 1);
        let read: FleetStatus = serde_json::from_str(&text).expect("the document");
        assert_eq!(read.schema, fleet.schema);
    }

    #[test]
    fn without_a_process_the_reason_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = Paths {
            config: directory.path().join("fleet.toml"),
            runtime_dir: directory.path().to_owned(),
            state_dir: directory.path().to_owned(),
        };
        assert!(local(&paths).is_empty());
        let failure = ask(&paths, EDGE_SOCKET).expect_err("no process");
        assert!(failure.message.starts_with("tcpguard-fleet is not running"), "{failure}");
    }
}
