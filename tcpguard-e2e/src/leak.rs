//! SYNs that got in: by the filter's own count, and by the kernel's.

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;
use crate::status::Status;

/// SYNs that the filter let through, by its own count.
///
/// # Errors
/// When more of the dropped ones came again than are mistaken: some two in a million are taken for
/// another (20 bits of each are remembered), agent or not, and these are no leak.
pub fn let_in(status: &Status) -> Result<u64> {
    let (returned, mistaken) =
        (status.reason("syn_returned"), 8 + status.total("rx_packets") / 100_000);
    ensure!(returned <= mistaken, "{returned} SYNs came again");
    Ok(["syn", "agent_gone", "unconfigured"].iter().map(|reason| status.reason(reason)).sum())
}

/// SYNs that met a full queue at the edge, by the kernel's count: a flood fills the queue before there
/// is a rule, and everything that gets in after that is counted here.
///
/// # Errors
/// When the kernel does not say.
pub fn met_full_queue(lab: &Lab) -> Result<u64> {
    let text = lab.edge.exec("cat /proc/net/netstat")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = lines.next().zip(lines.next()).context("no line of TcpExt")?;
    let of = |(name, value): (&str, &str)| match name {
        "TCPReqQFullDrop" | "TCPReqQFullDoCookies" => Some(value.parse::<u64>()),
        _ => None,
    };
    Ok(names.split(' ').zip(values.split(' ')).filter_map(of).sum::<Result<u64, _>>()?)
}
