//! `tcpguard mitigation`

use std::net::{IpAddr, SocketAddr};

use tcpguard_engine::{Listener, Order};

use super::args::{ListenerName, MitigationArgs};
use super::error::CliError;
use super::session::Session;
use super::status::fetch;
use crate::control::Response;
use crate::control::proto::Change;
use crate::documents::Status;
use crate::text;

pub(super) fn run(args: &MitigationArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let status = fetch(session)?;
    let change = Change::OrderMitigation {
        listener: find(&args.listener, &status)?,
        mitigation: args.mitigation,
        order: args.order,
        lifetime: args.lifetime,
    };
    let ordered = session.client.ask(change.into(), Response::try_as_mitigation_ordered)?;
    if session.json {
        return session.print_document(&*ordered);
    }
    let listener = &ordered.listener;
    session.render(|out, view| text::mitigations(out, listener, view))?;
    if args.order != Order::Auto {
        session.say(&format!(
            "afterwards tcpguard decides again; to let it decide now: tcpguard mitigation {} {} auto",
            SocketAddr::new(listener.addr, listener.port),
            args.mitigation.name()
        ));
    }
    Ok(())
}

/// Returns the listener that was named. A port alone is enough where only one listener has it.
fn find(name: &ListenerName, status: &Status) -> Result<Listener, CliError> {
    let fits = |addr: IpAddr, port: u16| match name {
        ListenerName::At(at) => at.ip() == addr && at.port() == port,
        ListenerName::Port(named) => *named == port,
    };
    let found: Vec<Listener> = status
        .listeners
        .iter()
        .filter(|listener| fits(listener.addr, listener.port))
        .map(|listener| Listener { addr: listener.addr, port: listener.port })
        .collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(CliError::not_found(
            format!("no monitored listener at {name}"),
            "tcpguard status --listeners",
        )),
        several => {
            let names: Vec<String> =
                several.iter().map(|one| SocketAddr::new(one.addr, one.port).to_string()).collect();
            Err(CliError::usage(
                format!("several listeners on port {}: {}", several[0].port, names.join(", ")),
                format!("name one: tcpguard mitigation {} …", names[0]),
            ))
        }
    }
}
