//! What a probe tells, as it is printed and kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Name and version of the document.
pub const SCHEMA: &str = "tcpguard.probe/1";

/// Why a connection was not tried: the host was too slow.
pub(super) const NO_TIME: &str = "no time was left to try it";

/// Which ways to answer SYNs with cookies work on a host.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Probe {
    /// Name and version of this document: `tcpguard.probe/1`.
    pub schema: String,
    /// What this is true of.
    pub host: Host,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Each back end, the best first.
    pub backends: Vec<Backend>,
}

/// What decides which back ends work.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Host {
    /// The kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Digest of the BPF objects in the binary.
    pub objects: String,
    /// The sysctls that decide about TCP handshakes, by name.
    pub sysctls: BTreeMap<String, String>,
}

/// Who makes cookies, and who takes them back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CookieBackend {
    /// The guard, which hands the kernel finished connections (`bpf_sk_assign_tcp_reqsk`).
    Own,
    /// The kernel's helper for XDP (`bpf_tcp_gen_syncookie`), at `net.ipv4.tcp_syncookies` 2.
    KernelHelper,
    /// The kernel's stack, without help, as its sysctls say.
    Kernel,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

/// Which IP.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What became of one back end.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Backend {
    /// Which.
    pub backend: CookieBackend,
    /// Whether all its connections worked, at one hook at least.
    pub works: bool,
    /// Why not; the first reason where there are several.
    pub reason: Option<String>,
    /// How long its connections took, in milliseconds.
    pub took_ms: u64,
    /// Each connection that was tried.
    pub trials: Vec<Trial>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trial {
    /// Where the program ran; `null` without one.
    pub hook: Option<Hook>,
    /// Over which IP.
    pub family: Family,
    /// Whether the client sent timestamps.
    pub timestamps: bool,
    /// Why it did not work; `null`: it did.
    pub reason: Option<String>,
    /// How long handshake and transfer took, in milliseconds.
    pub took_ms: u64,
    /// What was agreed, as the client's end of the connection says; `null` without a connection.
    pub client: Option<End>,
    /// As the server's end says.
    pub server: Option<End>,
}

/// One end of a connection.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct End {
    /// Timestamps are in use.
    pub timestamps: bool,
    /// SACK is in use.
    pub sack: bool,
    /// ECN is in use.
    pub ecn: bool,
    /// By how much this end scales the windows that it sends; `null` without scaling.
    pub wscale: Option<u8>,
    /// By how much it scales those that it receives.
    pub peer_wscale: Option<u8>,
    /// The largest segment that it sends, in bytes.
    pub mss: u32,
    /// The largest that it takes, as it told its peer.
    pub advmss: u32,
}

impl CookieBackend {
    /// All, the best first.
    pub const ALL: [Self; 3] = [Self::Own, Self::KernelHelper, Self::Kernel];

    /// In a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own cookies",
            Self::KernelHelper => "kernel's cookies in XDP",
            Self::Kernel => "kernel's own cookies",
        }
    }
}

impl Hook {
    /// As operators write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl Family {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

impl Probe {
    /// Whether a back end works behind a program at `hook`; the kernel's own cookies work without
    /// one.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub fn verdict(&self, backend: CookieBackend, hook: Hook) -> Result<(), &str> {
        const UNTRIED: &str = "it was not tried";
        let Some(found) = self.backends.iter().find(|found| found.backend == backend) else {
            return Err(UNTRIED);
        };
        let hook = (backend != CookieBackend::Kernel).then_some(hook);
        let mut trials = found.trials.iter().filter(|trial| trial.hook == hook).peekable();
        if trials.peek().is_none() {
            return Err(found.reason.as_deref().unwrap_or(UNTRIED));
        }
        trials.find_map(|trial| trial.reason.as_deref()).map_or(Ok(()), Err)
    }

    /// Whether there was time to try everything.
    pub fn is_complete(&self) -> bool {
        let mut trials = self.backends.iter().flat_map(|backend| &backend.trials);
        trials.all(|trial| trial.reason.as_deref() != Some(NO_TIME))
    }

    /// The best back end that works behind a program at `hook`.
    pub fn best(&self, hook: Hook) -> Option<CookieBackend> {
        CookieBackend::ALL.into_iter().find(|backend| self.verdict(*backend, hook).is_ok())
    }
}

impl Backend {
    /// From its connections.
    pub(super) fn of(backend: CookieBackend, trials: Vec<Trial>) -> Self {
        let hooks = [None, Some(Hook::Native), Some(Hook::Generic)];
        let works = hooks.iter().any(|hook| {
            let mut at_hook = trials.iter().filter(|trial| trial.hook == *hook).peekable();
            at_hook.peek().is_some() && at_hook.all(|trial| trial.reason.is_none())
        });
        let reason = trials.iter().find_map(|trial| trial.reason.clone());
        let took_ms = trials.iter().map(|trial| trial.took_ms).sum();
        Self { backend, works, reason, took_ms, trials }
    }

    /// Without any.
    pub(super) fn impossible(backend: CookieBackend, reason: String) -> Self {
        Self { backend, works: false, reason: Some(reason), took_ms: 0, trials: Vec::new() }
    }
}

impl fmt::Display for End {
    /// What clients care about: `mss 1460, wscale 7, sack, timestamps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mss {}", self.mss)?;
        if let (Some(own), Some(peer)) = (self.wscale, self.peer_wscale) {
            write!(f, ", wscale {own},{peer}")?;
        }
        for (has, name) in [(self.sack, "sack"), (self.timestamps, "ts"), (self.ecn, "ecn")] {
            if has {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(in crate::probe) fn end() -> End {
        End {
            timestamps: true,
            sack: true,
            ecn: false,
            wscale: Some(7),
            peer_wscale: Some(10),
            mss: 1448,
            advmss: 1448,
        }
    }

    fn trial(hook: Option<Hook>, reason: Option<&str>) -> Trial {
        Trial {
            hook,
            family: Family::Ipv4,
            timestamps: true,
            reason: reason.map(str::to_owned),
            took_ms: 3,
            client: Some(end()),
            server: None,
        }
    }

    pub(crate) fn probe() -> Probe {
        let (native, generic) = (Some(Hook::Native), Some(Hook::Generic));
        let sysctls = [("net.ipv4.tcp_syncookies".to_owned(), "1".to_owned())];
        let no_function = "this kernel has no such function".to_owned();
        Probe {
            schema: SCHEMA.to_owned(),
            host: Host {
                kernel: "6.18.1".to_owned(),
                objects: "00ff".to_owned(),
                sysctls: sysctls.into(),
            },
            took_ms: 900,
            backends: vec![
                Backend::impossible(CookieBackend::Own, no_function),
                Backend::of(
                    CookieBackend::KernelHelper,
                    vec![trial(native, None), trial(native, Some("reset")), trial(generic, None)],
                ),
                Backend::of(CookieBackend::Kernel, vec![trial(None, None), trial(None, None)]),
            ],
        }
    }

    #[test]
    fn a_back_end_works_where_each_of_its_connections_does() {
        let probe = probe();
        let own = probe.verdict(CookieBackend::Own, Hook::Native);
        assert_eq!(own, Err("this kernel has no such function"));
        assert_eq!(probe.verdict(CookieBackend::KernelHelper, Hook::Native), Err("reset"));
        assert_eq!(probe.verdict(CookieBackend::KernelHelper, Hook::Generic), Ok(()));
        assert_eq!(probe.verdict(CookieBackend::Kernel, Hook::Native), Ok(()));
        assert_eq!(probe.best(Hook::Native), Some(CookieBackend::Kernel));
        assert_eq!(probe.best(Hook::Generic), Some(CookieBackend::KernelHelper));
        let works: Vec<bool> = probe.backends.iter().map(|backend| backend.works).collect();
        assert_eq!(works, [false, true, true]);
        assert_eq!(probe.backends[1].reason.as_deref(), Some("reset"));
        let nothing = Probe { backends: Vec::new(), ..probe };
        assert_eq!(nothing.best(Hook::Native), None);
    }

    #[test]
    fn an_end_is_told_as_ss_tells_it() {
        assert_eq!(end().to_string(), "mss 1448, wscale 7,10, sack, ts");
        let bare = End { timestamps: false, sack: false, wscale: None, ..end() };
        assert_eq!(bare.to_string(), "mss 1448");
    }
}
