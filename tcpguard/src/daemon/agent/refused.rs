//! Clients that a port refuses, because no socket listens there any longer.

use std::net::SocketAddr;

use tcpguard_host::finding::Finding;
use tcpguard_host::units::short;

use super::Agent;
use crate::daemon::listeners::MonitoredListener;

impl Agent {
    /// The findings about listeners without a socket, for as long as clients try to connect to them.
    pub(super) fn refused_clients(&self) -> impl Iterator<Item = Finding> {
        let closed = self.executor.listeners.iter().filter(|one| one.own.is_closed());
        closed.filter_map(|monitored: &MonitoredListener| {
            let at = monitored.listener;
            let report = self.engine.listener(&at)?;
            let fail = report.completions.failed.is_some_and(|failed| failed > 0.0);
            fail.then(|| finding(SocketAddr::new(at.addr, at.port), report.syn_rate))
        })
    }
}

fn finding(at: SocketAddr, refused: f64) -> Finding {
    let text = format!("{at}: no socket listens, {} SYN/s are refused", short(refused));
    let hint =
        format!("start the application; see what listens: ss -ltnp 'sport = :{}'", at.port());
    Finding::critical("nothing_listens", text).about(at.to_string()).hint(hint)
}
