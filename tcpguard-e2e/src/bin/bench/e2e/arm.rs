//! The defences that are compared.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tcpguard_e2e::guard::{Guard, Mode};
use tcpguard_e2e::lab::{INTERFACE, Lab, PORT};
use tcpguard_e2e::lab_filter::{Filter, LabFilter};
use tcpguard_e2e::status::Status;

/// One defence.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Arm {
    /// tcp_syncookies=0
    None,
    /// tcp_syncookies=1, the kernel's default
    Cookies1,
    /// tcp_syncookies=2
    Cookies2,
    /// netfilter's SYNPROXY by nft, with tcp_syncookies=1
    Synproxy,
    /// An XDP program that knows the clients' addresses and drops all others: the upper bound
    Drop,
    /// The same in the network stack
    DropGeneric,
    /// tcpguard with its default configuration
    Ours,
    /// The same with --xdp-mode generic
    OursGeneric,
    /// tcpguard against copies of the clients' own SYN, whatever --flood says: only cookies are left
    OursCookies,
}

/// A defence in place; it goes when this is dropped.
pub enum Defence<'lab> {
    /// A setting of the kernel.
    Kernel,
    /// The lab's filter.
    Filter { _filter: LabFilter },
    /// The daemon.
    Guard(Box<Guard<'lab>>),
}

impl Arm {
    /// As in tables.
    pub const fn title(self) -> &'static str {
        match self {
            Self::None => "no defence",
            Self::Cookies1 => "kernel cookies (=1)",
            Self::Cookies2 => "kernel cookies (=2)",
            Self::Synproxy => "nft synproxy",
            Self::Drop => "perfect drop, native",
            Self::DropGeneric => "perfect drop, generic",
            Self::Ours => "tcpguard",
            Self::OursGeneric => "tcpguard, generic",
            Self::OursCookies => "tcpguard (cookies only)",
        }
    }

    /// `tcp_syncookies` on the guarded host.
    pub const fn syncookies(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Cookies2 => 2,
            _ => 1,
        }
    }

    /// Puts the defence in place.
    ///
    /// # Errors
    /// When it cannot be had on this machine; the message says why.
    pub fn defend(self, lab: &Lab) -> Result<Defence<'_>> {
        let filter = |native| {
            let filter = LabFilter::attach(&lab.edge, INTERFACE, Filter::OnlyClients, native)?;
            Ok(Defence::Filter { _filter: filter })
        };
        let guard = |arguments: &[&str]| {
            let guard = Guard::start_with(&lab.edge, Mode::Enforce, "", arguments)?;
            Ok(Defence::Guard(Box::new(guard)))
        };
        match self {
            Self::None | Self::Cookies1 | Self::Cookies2 => Ok(Defence::Kernel),
            Self::Synproxy => synproxy(lab).map(|()| Defence::Kernel),
            Self::Drop => filter(true),
            Self::DropGeneric => filter(false),
            Self::Ours | Self::OursCookies => guard(&[]),
            Self::OursGeneric => guard(&["--xdp-mode", "generic"]),
        }
    }
}

impl Defence<'_> {
    /// What the daemon says of itself, if this is one.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Option<Status>> {
        match self {
            Self::Guard(guard) => guard.status().map(Some),
            _ => Ok(None),
        }
    }
}

/// As nft(8) has it: SYNs go untracked, and what is no connection's goes to the proxy. It promises
/// what the lab's server would.
fn synproxy(lab: &Lab) -> Result<()> {
    const RULES: &str = "/run/synproxy.nft";
    let wscale = window_scale(&lab.edge.read("/proc/sys/net/ipv4/tcp_rmem")?)?;
    let rules = format!(
        "table inet bench {{
            chain early {{
                type filter hook prerouting priority raw; policy accept;
                tcp dport {PORT} tcp flags syn notrack
            }}
            chain in {{
                type filter hook input priority filter; policy accept;
                tcp dport {PORT} ct state invalid,untracked \
                    synproxy mss 1460 wscale {wscale} timestamp sack-perm
                ct state invalid drop
            }}
        }}\n"
    );
    lab.edge.write(RULES, &rules)?;
    let output = lab.edge.command("nft")?.args(["-f", RULES]).output();
    let output = output.context("cannot run nft: `cargo xtask setup` installs it")?;
    ensure!(
        output.status.success(),
        "nft: {}",
        String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("failed")
    );
    lab.edge
        .sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")
        .context("connection tracking takes up connections in the middle")
}

/// The window scale that Linux offers for the largest receive buffer, the third number of `tcp_rmem`.
fn window_scale(rmem: &str) -> Result<u32> {
    let largest = rmem.split_whitespace().nth(2).context("tcp_rmem has three numbers")?;
    let largest: u64 = largest.parse()?;
    Ok((0..14).find(|scale| largest >> scale <= 65_535).unwrap_or(14))
}
