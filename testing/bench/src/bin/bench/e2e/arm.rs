//! The defences that are compared.

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::doctor;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab};
use tcpguard_kit::net::lab_filter::{Filter, LabFilter};

use super::{netfilter, xdp_filter};

/// One defence.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The kernel with tcp_syncookies=0
    None,
    /// tcp_syncookies=1, the kernel's default
    Cookies1,
    /// The kernel with tcp_syncookies=2
    Cookies2,
    /// netfilter's SYNPROXY by nft, with tcp_syncookies=1
    Synproxy,
    /// iptables hashlimit for each source, with tcp_syncookies=1
    Hashlimit,
    /// The same with tcp_syncookies=0
    HashlimitOnly,
    /// nft meter for each source, with tcp_syncookies=1
    Meter,
    /// The same with tcp_syncookies=0
    MeterOnly,
    /// xdp-filter of xdp-tools, which was given the clients' addresses and drops all others
    XdpFilter,
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
    /// tcp_syncookies=1 behind an nft rule that drops what is new and no SYN; not in the default
    /// selection
    Cookies1NewNotSyn,
    /// tcpguard with its default configuration behind the same rule; not in the default selection
    OursNewNotSyn,
    /// The same with a mark (`cookies.mark`) and the rules for it that `tcpguard doctor` prints; not
    /// in the default selection
    OursNewNotSynMark,
}

/// A defence in place; it goes when this is dropped.
pub enum Defence<'lab> {
    /// A setting of the kernel, or what goes with the lab.
    Kernel,
    Filter {
        _filter: LabFilter,
    },
    Agent(Box<Agent<'lab>>),
}

impl Arm {
    pub const fn title(self) -> &'static str {
        match self {
            Self::None => "no defence",
            Self::Cookies1 => "kernel cookies (=1)",
            Self::Cookies2 => "kernel cookies (=2)",
            Self::Synproxy => "nft synproxy",
            Self::Hashlimit => "iptables hashlimit, cookies on",
            Self::HashlimitOnly => "iptables hashlimit, cookies off",
            Self::Meter => "nft meter, cookies on",
            Self::MeterOnly => "nft meter, cookies off",
            Self::XdpFilter => "xdp-filter, clients listed",
            Self::Drop => "ideal filter, native",
            Self::DropGeneric => "ideal filter, generic",
            Self::Ours => "tcpguard",
            Self::OursGeneric => "tcpguard, generic",
            Self::OursCookies => "tcpguard (cookies only)",
            Self::Cookies1NewNotSyn => "kernel cookies (=1), new not SYN",
            Self::OursNewNotSyn => "tcpguard, new not SYN",
            Self::OursNewNotSynMark => "tcpguard, new not SYN, mark",
        }
    }

    /// `tcp_syncookies` on the protected host.
    pub const fn syncookies(self) -> u8 {
        match self {
            Self::None | Self::HashlimitOnly | Self::MeterOnly => 0,
            Self::Cookies2 => 2,
            _ => 1,
        }
    }

    /// Returns whether a packet filter has connection tracking follow every SYN that the kernel gets.
    pub const fn is_behind_filter(self) -> bool {
        matches!(self, Self::Cookies1NewNotSyn | Self::OursNewNotSyn | Self::OursNewNotSynMark)
    }

    /// Puts the defence in place. `new_clients` is the number of addresses of new clients, for a defence that
    /// has to know it.
    ///
    /// # Errors
    /// When it cannot be had on this machine; the message says why.
    pub fn defend(self, lab: &Lab, family: Family, new_clients: u32) -> Result<Defence<'_>> {
        let filter = |native| {
            let filter = LabFilter::attach(&lab.edge, INTERFACE, Filter::OnlyClients, native)?;
            Ok(Defence::Filter { _filter: filter })
        };
        let agent = |config: &str, arguments: &[&str]| {
            let agent = Agent::start_with(&lab.edge, Mode::Enforce, config, arguments)?;
            Ok(Defence::Agent(Box::new(agent)))
        };
        match self {
            Self::None | Self::Cookies1 | Self::Cookies2 => Ok(Defence::Kernel),
            Self::Synproxy => netfilter::synproxy(lab).map(|()| Defence::Kernel),
            Self::Hashlimit | Self::HashlimitOnly => {
                netfilter::hashlimit(lab, family).map(|()| Defence::Kernel)
            }
            Self::Meter | Self::MeterOnly => {
                netfilter::meter(lab, family).map(|()| Defence::Kernel)
            }
            Self::XdpFilter => xdp_filter::load(lab, family, new_clients).map(|()| Defence::Kernel),
            Self::Drop => filter(true),
            Self::DropGeneric => filter(false),
            Self::Ours | Self::OursCookies => agent("", &[]),
            Self::OursGeneric => agent("", &["--xdp-mode", "generic"]),
            Self::Cookies1NewNotSyn => netfilter::new_not_syn(lab).map(|()| Defence::Kernel),
            Self::OursNewNotSyn => {
                netfilter::new_not_syn(lab)?;
                agent("", &[])
            }
            Self::OursNewNotSynMark => {
                netfilter::new_not_syn(lab)?;
                let marking = agent("[cookies]\nmark = 0x10000000\n", &[])?;
                // tcpguard reads the rules once a second, and the flood begins later.
                doctor::accept_mark(&lab.edge)?;
                Ok(marking)
            }
        }
    }
}

impl Defence<'_> {
    /// The daemon, if this is one.
    pub fn agent(&self) -> Option<&Agent<'_>> {
        match self {
            Self::Agent(agent) => Some(agent),
            _ => None,
        }
    }

    /// The status of the daemon, if this is one.
    pub fn status(&self) -> Result<Option<Status>> {
        self.agent().map(Agent::status).transpose()
    }
}
