//! The page of one listener.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use tcpguard_engine::{ListenerKind, Mode};
use tcpguard_host::units::{short, whole};

use super::clients::clients;
use super::incidents::paragraph;
use super::mitigations;
use super::status::{listener_state, queue};
use super::view::View;
use crate::documents::Listener;

/// State, rates, queues, mitigations and counters of one listener.
pub fn listener(out: &mut impl Write, listener: &Listener, mode: Mode, view: &View) -> fmt::Result {
    let at = SocketAddr::new(listener.addr, listener.port);
    let (state, _) = listener_state(listener.state);
    let place = match (listener.kind, listener.accept_limit) {
        (ListenerKind::Local, _) => "",
        (ListenerKind::Forwarded, None) => " (no socket here)",
        (ListenerKind::Forwarded, Some(_)) => " (translated to another port of this host)",
    };
    let dropped = if mode == Mode::Enforce { "dropped" } else { "matched, not dropped" };
    let rate = format!(
        "{}/s, {}/s {dropped}, {}/s answered with SYN cookies",
        short(listener.syn_pps),
        short(listener.dropped_pps),
        short(listener.cookies_sent_pps)
    );
    let queues = format!(
        "SYN queue {}, accept queue {}",
        queue(listener.half_open, listener.half_open_limit),
        queue(listener.accept_queue, listener.accept_limit)
    );
    paragraph(out, view, "Listener", &format!("{at}{place}: {state}"))?;
    paragraph(out, view, "SYN rate", &rate)?;
    paragraph(out, view, "Clients", &clients(&listener.clients, None))?;
    paragraph(out, view, "Queues", &queues)?;
    if listener.mitigations.is_empty() {
        paragraph(out, view, "Mitigation", "none beside rules")?;
    }
    for (number, mitigation) in listener.mitigations.iter().enumerate() {
        let heading = if number == 0 { "Mitigation" } else { "" };
        paragraph(out, view, heading, &mitigations::line(listener, mitigation, view))?;
    }
    let totals = &listener.totals;
    let total = format!(
        "{} SYNs; dropped: {} by source, {} by signature, {} as too many; {} SYN cookies sent, {} \
         validated; {} accepted on retransmission",
        whole(totals.syn),
        whole(totals.dropped_source),
        whole(totals.dropped_signature),
        whole(totals.limited),
        whole(totals.cookies_sent),
        whole(totals.cookies_redeemed),
        whole(totals.accepted_retransmits),
    );
    paragraph(out, view, "Total", &total)
}
