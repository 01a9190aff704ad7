//! Result of the self-test, as it is printed and stored.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::Family;

/// Name and version of the document.
pub const SCHEMA: &str = "tcpguard.selftest/1";

/// Reason of a connection that was not tried because the host was too slow.
pub(crate) const NO_TIME: &str = "no time was left to try it";

/// Result of the self-test (`tcpguard doctor --selftest`): the SYN-cookie backends that work on a host.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SelfTest {
    /// Properties of the host for which the result holds.
    pub host: Host,
    /// Duration of the self-test, in milliseconds.
    pub took_ms: u64,
    /// Result of each backend, the best backend first.
    pub backends: Vec<Backend>,
    /// Reason why the backend `own` was not used in the network namespace of the command, although it may work: NAT,
    /// which the test does not have. `null`: there was none.
    #[serde(default)]
    pub nat: Option<String>,
}

/// Properties of a host that decide which backends work.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Host {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Digest of the BPF objects in the binary, as 16 hexadecimal digits.
    pub objects: String,
    /// Values of the sysctls that decide about TCP handshakes, by name.
    pub sysctls: BTreeMap<String, String>,
}

/// Backend that makes SYN cookies and checks the returned ones.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CookieBackend {
    /// Own cookies, sent by the XDP program. A program at tc checks the returned ones and hands the kernel
    /// the completed connections (`bpf_sk_assign_tcp_reqsk`).
    Own,
    /// Cookies of the kernel's helper for XDP (`bpf_tcp_gen_syncookie`), at `net.ipv4.tcp_syncookies` 2.
    KernelHelper,
    /// Cookies of the kernel's stack, without help, as its sysctls say.
    Kernel,
}

/// Hook at which an XDP program runs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Hook in the network driver.
    Native,
    /// Hook in the network stack.
    Generic,
}

/// Result of one backend.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Backend {
    /// The backend.
    pub backend: CookieBackend,
    /// True if all its connections at one hook worked, for at least one hook.
    pub works: bool,
    /// Reason of the first connection that failed, at any hook, or the reason why none could be tried. `null`
    /// where every connection worked.
    pub reason: Option<String>,
    /// Time that its connections took together, in milliseconds.
    pub took_ms: u64,
    /// Its connections, of each hook up to the first that did not work. One that could not be tried has a
    /// `reason`, too.
    pub trials: Vec<Trial>,
}

/// One connection of the self-test.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Trial {
    /// Hook of the XDP program; `null` without a program, as for the backend `kernel`.
    pub hook: Option<Hook>,
    /// IP version.
    pub family: Family,
    /// True if the client offered TCP timestamps.
    pub timestamps: bool,
    /// Reason why it did not work; `null` if it worked.
    pub reason: Option<String>,
    /// Time of the handshake and the transfer, in milliseconds; 0 where they were not tried.
    pub took_ms: u64,
    /// Properties of the connection as the client's end reports them; `null` without a connection.
    pub client: Option<End>,
    /// Properties of the connection as the server's end reports them; `null` without a connection.
    pub server: Option<End>,
}

/// Properties of a connection, as the kernel reports them at one end (`TCP_INFO`).
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct End {
    /// True if TCP timestamps are in use.
    pub timestamps: bool,
    /// True if SACK is in use.
    pub sack: bool,
    /// True if ECN is in use.
    pub ecn: bool,
    /// Scale of the windows that this end sends, in bits; `null` without window scaling.
    pub wscale: Option<u8>,
    /// Scale of the windows that this end receives, in bits; `null` without window scaling.
    pub peer_wscale: Option<u8>,
    /// Largest segment that this end sends, in bytes of data.
    pub mss: u32,
    /// Largest segment that this end takes, in bytes of data: the MSS that it announced to its peer, less the
    /// 12 bytes of timestamps where they are in use.
    pub advmss: u32,
}

impl CookieBackend {
    /// All backends, the best first.
    pub const ALL: [Self; 3] = [Self::Own, Self::KernelHelper, Self::Kernel];

    /// Returns the backend's name in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own cookies",
            Self::KernelHelper => "kernel's cookies in XDP",
            Self::Kernel => "kernel's own cookies",
        }
    }
}

impl Hook {
    /// Returns the name as operators write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl SelfTest {
    /// Checks whether a backend works behind a program at `hook`; the kernel's own cookies work without a
    /// program.
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

    /// Returns whether there was time to try every connection.
    pub fn is_complete(&self) -> bool {
        let mut trials = self.backends.iter().flat_map(|backend| &backend.trials);
        trials.all(|trial| trial.reason.as_deref() != Some(NO_TIME))
    }

    /// Returns the best backend that works behind a program at `hook`; `None` if none does.
    pub fn best(&self, hook: Hook) -> Option<CookieBackend> {
        CookieBackend::ALL.into_iter().find(|backend| self.verdict(*backend, hook).is_ok())
    }
}

impl Backend {
    /// Builds the result of a backend from its connections.
    pub(crate) fn of(backend: CookieBackend, trials: Vec<Trial>) -> Self {
        let hooks = [None, Some(Hook::Native), Some(Hook::Generic)];
        let works = hooks.iter().any(|hook| {
            let mut at_hook = trials.iter().filter(|trial| trial.hook == *hook).peekable();
            at_hook.peek().is_some() && at_hook.all(|trial| trial.reason.is_none())
        });
        let reason = trials.iter().find_map(|trial| trial.reason.clone());
        let took_ms = trials.iter().map(|trial| trial.took_ms).sum();
        Self { backend, works, reason, took_ms, trials }
    }

    /// Builds the result of a backend of which no connection could be tried, with the reason.
    pub(crate) fn impossible(backend: CookieBackend, reason: String) -> Self {
        Self { backend, works: false, reason: Some(reason), took_ms: 0, trials: Vec::new() }
    }
}

impl fmt::Display for End {
    /// Writes the properties that matter to clients: `mss 1448, wscale 7,10, sack, ts`.
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

    pub(crate) fn end() -> End {
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

    pub(crate) fn selftest() -> SelfTest {
        let (native, generic) = (Some(Hook::Native), Some(Hook::Generic));
        let sysctls = [("net.ipv4.tcp_syncookies".to_owned(), "1".to_owned())];
        let no_function = "this kernel has no such function".to_owned();
        SelfTest {
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
            nat: None,
        }
    }

    #[test]
    fn a_back_end_works_where_each_of_its_connections_does() {
        let selftest = selftest();
        let own = selftest.verdict(CookieBackend::Own, Hook::Native);
        assert_eq!(own, Err("this kernel has no such function"));
        assert_eq!(selftest.verdict(CookieBackend::KernelHelper, Hook::Native), Err("reset"));
        assert_eq!(selftest.verdict(CookieBackend::KernelHelper, Hook::Generic), Ok(()));
        assert_eq!(selftest.verdict(CookieBackend::Kernel, Hook::Native), Ok(()));
        assert_eq!(selftest.best(Hook::Native), Some(CookieBackend::Kernel));
        assert_eq!(selftest.best(Hook::Generic), Some(CookieBackend::KernelHelper));
        let works: Vec<bool> = selftest.backends.iter().map(|backend| backend.works).collect();
        assert_eq!(works, [false, true, true]);
        assert_eq!(selftest.backends[1].reason.as_deref(), Some("reset"));
        let nothing = SelfTest { backends: Vec::new(), ..selftest };
        assert_eq!(nothing.best(Hook::Native), None);
    }

    #[test]
    fn an_end_is_formatted_as_in_ss() {
        assert_eq!(end().to_string(), "mss 1448, wscale 7,10, sack, ts");
        let bare = End { timestamps: false, sack: false, wscale: None, ..end() };
        assert_eq!(bare.to_string(), "mss 1448");
    }
}
