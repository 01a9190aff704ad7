//! Result of the self-test, as it is printed and stored.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name and version of the document.
pub const SCHEMA: &str = "tcpguard.selftest/1";

/// Reason of a backend that was not tried because the host was too slow.
pub(crate) const NO_TIME: &str = "no time was left to try it";

/// Result of the self-test (`tcpguard doctor --selftest`): the SYN-cookie backends that work on a host.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SelfTest {
    /// Properties of the host for which the result holds.
    pub host: Host,
    /// Duration of the self-test, in milliseconds.
    pub took_ms: u64,
    /// Result of each backend at each hook, the best backend first.
    pub results: Vec<Trial>,
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

/// Result of one backend, by real connections over IPv4 and IPv6, of clients with TCP timestamps and without.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Trial {
    /// The backend.
    pub backend: CookieBackend,
    /// Hook of the XDP program; `null` without a program, as for the backend `kernel`.
    pub hook: Option<Hook>,
    /// Reason of the first connection that failed, or for which none could be tried; `null`: the backend works.
    pub reason: Option<String>,
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
        let hook = (backend != CookieBackend::Kernel).then_some(hook);
        let of = self.results.iter().find(|one| one.backend == backend && one.hook == hook);
        of.map_or(Err("it was not tried"), |one| one.reason.as_deref().map_or(Ok(()), Err))
    }

    /// Returns whether there was time to try every backend.
    pub fn is_complete(&self) -> bool {
        self.results.iter().all(|one| one.reason.as_deref() != Some(NO_TIME))
    }

    /// Returns the best backend that works behind a program at `hook`; `None` if none does.
    pub fn best(&self, hook: Hook) -> Option<CookieBackend> {
        CookieBackend::ALL.into_iter().find(|backend| self.verdict(*backend, hook).is_ok())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn selftest() -> SelfTest {
        let (native, generic) = (Some(Hook::Native), Some(Hook::Generic));
        let sysctls = [("net.ipv4.tcp_syncookies".to_owned(), "1".to_owned())];
        let trial = |(backend, hook, reason): (_, _, Option<&str>)| Trial {
            backend,
            hook,
            reason: reason.map(str::to_owned),
        };
        let no_function = Some("this kernel has no such function");
        let results = [
            (CookieBackend::Own, native, no_function),
            (CookieBackend::Own, generic, no_function),
            (CookieBackend::KernelHelper, native, Some("reset")),
            (CookieBackend::KernelHelper, generic, None),
            (CookieBackend::Kernel, None, None),
        ];
        SelfTest {
            host: Host {
                kernel: "6.18.1".to_owned(),
                objects: "00ff".to_owned(),
                sysctls: sysctls.into(),
            },
            took_ms: 900,
            results: results.map(trial).into(),
            nat: None,
        }
    }

    #[test]
    fn a_backend_works_where_no_reason_is_against_it() {
        let selftest = selftest();
        let own = selftest.verdict(CookieBackend::Own, Hook::Native);
        assert_eq!(own, Err("this kernel has no such function"));
        assert_eq!(selftest.verdict(CookieBackend::KernelHelper, Hook::Native), Err("reset"));
        assert_eq!(selftest.verdict(CookieBackend::KernelHelper, Hook::Generic), Ok(()));
        assert_eq!(selftest.verdict(CookieBackend::Kernel, Hook::Native), Ok(()));
        assert_eq!(selftest.best(Hook::Native), Some(CookieBackend::Kernel));
        assert_eq!(selftest.best(Hook::Generic), Some(CookieBackend::KernelHelper));
        let nothing = SelfTest { results: Vec::new(), ..selftest };
        assert_eq!(nothing.best(Hook::Native), None);
    }
}
