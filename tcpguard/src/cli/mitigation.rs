//! `tcpguard mitigation`

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;
use tcpguard_engine::{Listener, Order};

use super::args::{ListenerName, MitigationArgs};
use super::error::CliError;
use super::session::Session;
use super::status::foreign;
use crate::cli::documents::Printed;
use crate::control::proto::Change;
use crate::control::{Request, Response};
use crate::documents::{self, Status};
use crate::text;

/// Output of `tcpguard mitigation --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Ordered {
    /// Name and version of this document: `tcpguard.mitigation/1`.
    schema: &'static str,
    /// The listener, with its mitigations after the order.
    listener: documents::Listener,
}

pub(super) fn run(args: &MitigationArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let status = match session.client.call(Request::Status)? {
        Response::Status(status) => status,
        other => return Err(foreign(&other).into()),
    };
    let change = Change::OrderMitigation {
        listener: find(&args.listener, &status)?,
        mitigation: args.mitigation,
        order: args.order,
        lifetime: args.lifetime,
    };
    let listener = match session.client.call(change.into())? {
        Response::MitigationOrdered(listener) => *listener,
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_document(&Ordered { schema: Ordered::ID, listener });
    }
    session.render(|out, view| text::mitigations(out, &listener, view))?;
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
