//! Each back end, on the stage.

use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use tcpguard_common::abi::{
    ABI_VERSION, Addr, Config, CookieSecret, ListenerEntry, ListenerKey, Mode, maps,
};
use tcpguard_engine::Family;
use tcpguard_host::linux::{netns, tcp_ext};

use super::connection::{Failure, connect, listen};
use super::stage::{BPFFS, SERVER, SYNCOOKIES, Stage, TIMESTAMPS, service};
use super::{SelftestFailure, milliseconds};
use crate::bpf::{
    Attachment, Dataplane, HeldLink, KernelError, Load, Object, Pins, Receiving, Redeemer, XdpMode,
    attach, receive_natively, secrets,
};
use crate::documents::selftest::{Backend, CookieBackend, Hook, Host, NO_TIME, Trial};

/// The service's slot among the listeners.
const LISTENER: u32 = 0;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Kind {
    family: Family,
    timestamps: bool,
}

/// The parts that all connections share.
struct Course {
    stage: Stage,
    /// The sysctl as this host has it.
    syncookies: String,
    /// The service of each family.
    services: Vec<TcpListener>,
    deadline: Instant,
}

/// Tries each back end with each client; from a thread of its own, which it moves to another
/// namespace.
pub(super) fn try_all(host: &Host, deadline: Instant) -> Result<Vec<Backend>, SelftestFailure> {
    let refused = match host.sysctls.get(SYNCOOKIES).map(String::as_str) {
        None => "this kernel was built without CONFIG_SYN_COOKIES",
        Some("0") => {
            "the kernel accepts no SYN cookie (allow them: sysctl -w net.ipv4.tcp_syncookies=1)"
        }
        Some(syncookies) => return try_with(host, syncookies, deadline),
    };
    let impossible = |backend| Backend::impossible(backend, refused.to_owned());
    Ok(CookieBackend::ALL.map(impossible).into())
}

fn try_with(
    host: &Host,
    syncookies: &str,
    deadline: Instant,
) -> Result<Vec<Backend>, SelftestFailure> {
    let stage = Stage::set_up(&host.sysctls)?;
    let services: Result<Vec<_>, _> = stage.families.iter().map(|family| listen(*family)).collect();
    let services = services.map_err(|error| SelftestFailure::Silent(error.to_string()))?;
    let course = Course { stage, syncookies: syncookies.to_owned(), services, deadline };
    course.plain().map_err(|Failure(why)| SelftestFailure::Silent(why))?;
    // Where the kernel adds no number of its own for each peer, it reads the timestamps of others.
    let plain_timestamps = host.sysctls.get(TIMESTAMPS).is_some_and(|value| value == "2");
    let mut backends = match Programs::load(plain_timestamps) {
        Ok(mut programs) => programs.try_both(&course),
        Err(Failure(why)) => [CookieBackend::Own, CookieBackend::KernelHelper]
            .map(|backend| Backend::impossible(backend, why.clone()))
            .into(),
    };
    backends.push(Backend::of(CookieBackend::Kernel, course.kernel()));
    Ok(backends)
}

impl Course {
    fn kinds(&self) -> Vec<(Kind, &TcpListener)> {
        let each = self.stage.families.iter().zip(&self.services);
        each.flat_map(|(family, service)| {
            [true, false].map(|timestamps| (Kind { family: *family, timestamps }, service))
        })
        .collect()
    }

    /// Connects each client without cookies.
    fn plain(&self) -> Result<(), Failure> {
        // With 2 the kernel would make cookies for these as well.
        self.stage.set(SYNCOOKIES, "1")?;
        let connected = self.kinds().into_iter().try_for_each(|(kind, service)| {
            connect(&self.stage, service, kind.family, kind.timestamps).map(drop)
        });
        self.stage.set(SYNCOOKIES, &self.syncookies)?;
        connected
    }

    /// Each client, until one fails, also by the `check` of its connection.
    fn trials(
        &self,
        hook: Option<Hook>,
        mut check: impl FnMut() -> Result<(), Failure>,
    ) -> Vec<Trial> {
        let mut trials = Vec::new();
        for (kind, service) in self.kinds() {
            let begun = Instant::now();
            let mut trial = kind.untried(hook, None);
            if begun > self.deadline {
                trial.reason = Some(NO_TIME.to_owned());
            } else {
                match connect(&self.stage, service, kind.family, kind.timestamps) {
                    Ok(ends) => {
                        trial.reason = check().err().map(|Failure(why)| why);
                        (trial.client, trial.server) = (Some(ends.client), Some(ends.server));
                    }
                    Err(Failure(why)) => trial.reason = Some(why),
                }
            }
            trial.took_ms = milliseconds(begun.elapsed());
            let failed = trial.reason.is_some();
            trials.push(trial);
            if failed {
                break;
            }
        }
        trials
    }

    /// The kernel's own cookies.
    fn kernel(&self) -> Vec<Trial> {
        // With 2 it makes the same cookies as with 1 under a flood, and no line in the kernel's log.
        if let Err(error) = self.stage.set(SYNCOOKIES, "2") {
            return self.failed(None, &error.to_string());
        }
        match Returned::count() {
            Ok(mut returned) => self.trials(None, || returned.one_more()),
            Err(Failure(why)) => self.failed(None, &why),
        }
    }

    /// The trial that is reported for a back end that could not even be tried.
    fn failed(&self, hook: Option<Hook>, why: &str) -> Vec<Trial> {
        let first = self.kinds().into_iter().next();
        first.map(|(kind, _)| kind.untried(hook, Some(why.to_owned()))).into_iter().collect()
    }
}

/// Cookies that clients returned to the kernel, in this thread's namespace.
struct Returned(u64);

impl Returned {
    fn count() -> Result<Self, Failure> {
        Ok(Self(tcp_ext()?.syncookies_recv))
    }

    fn one_more(&mut self) -> Result<(), Failure> {
        let Self(now) = Self::count()?;
        if std::mem::replace(&mut self.0, now) == now {
            return Err(Failure("the kernel counted no cookie that came back".to_owned()));
        }
        Ok(())
    }
}

impl Kind {
    fn untried(self, hook: Option<Hook>, reason: Option<String>) -> Trial {
        Trial {
            hook,
            family: self.family,
            timestamps: self.timestamps,
            reason,
            took_ms: 0,
            client: None,
            server: None,
        }
    }
}

/// The loaded programs, with maps of their own.
struct Programs {
    object: Object,
    dataplane: Dataplane,
    pins: Pins,
    redeemer: Result<Redeemer, KernelError>,
}

/// The programs where packets pass, until this is dropped.
struct Attached {
    attachment: Option<Attachment>,
    redemption: Option<HeldLink>,
    /// XDP program at the client's end of the cable.
    _receiving: Option<Receiving>,
}

impl Programs {
    fn load(plain_timestamps: bool) -> Result<Self, Failure> {
        let pins = Pins::open(&Path::new(BPFFS).join("tcpguard"), maps::RULES)?;
        let maps = pins.maps();
        let object = Object::load(Load { maps: Some(&maps), ..Load::default() })?;
        let dataplane = Dataplane::of(&object)?;
        dataplane.set_config(&Config {
            abi_version: ABI_VERSION,
            mode: Mode::Enforce as u8,
            // The trial has no agent, so its absence does not matter.
            heartbeat_ns: u64::MAX,
            heartbeat_limit_ns: u64::MAX,
            netns_cookie: netns::cookie()?,
            kernel_timestamps: plain_timestamps.into(),
            ..Config::default()
        })?;
        let secret = secrets::cookie_secret(CookieSecret::NONE);
        let secret = secret.map_err(|error| Failure(format!("no secret for cookies: {error}")))?;
        dataplane.set_cookie_secret(&secret)?;
        let redeemer = Redeemer::load(&maps, false);
        Ok(Self { object, dataplane, pins, redeemer })
    }

    /// The back ends with cookies from the program, natively and generically.
    fn try_both(&mut self, course: &Course) -> Vec<Backend> {
        let (mut own, mut helper) = (Vec::new(), Vec::new());
        for hook in [Hook::Native, Hook::Generic] {
            let attached = self.attach(course, hook);
            let ready = attached.and_then(|attached| {
                self.set_mitigations(0)?;
                // How the service answers is learned from its own answers.
                course.plain()?;
                Ok(attached)
            });
            match ready {
                Ok(_attached) => {
                    if self.redeemer.is_ok() {
                        own.extend(self.own(course, hook));
                    }
                    helper.extend(self.helper(course, hook));
                }
                Err(Failure(why)) => {
                    own.extend(course.failed(Some(hook), &why));
                    helper.extend(course.failed(Some(hook), &why));
                }
            }
        }
        let own = match &self.redeemer {
            Ok(_) => Backend::of(CookieBackend::Own, own),
            Err(error) => Backend::impossible(CookieBackend::Own, error.to_string()),
        };
        vec![own, Backend::of(CookieBackend::KernelHelper, helper)]
    }

    fn own(&self, course: &Course, hook: Hook) -> Vec<Trial> {
        if let Err(Failure(why)) =
            self.set_mitigations(ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT)
        {
            return course.failed(Some(hook), &why);
        }
        let mut sent = 0;
        course.trials(Some(hook), || self.answered(&mut sent))
    }

    fn helper(&self, course: &Course, hook: Hook) -> Vec<Trial> {
        let armed = self
            .set_mitigations(ListenerEntry::KERNEL_COOKIES)
            .and_then(|()| Ok(course.stage.set(SYNCOOKIES, "2")?))
            .and_then(|()| Returned::count());
        let mut returned = match armed {
            Ok(returned) => returned,
            Err(Failure(why)) => return course.failed(Some(hook), &why),
        };
        let mut sent = 0;
        let trials = course.trials(Some(hook), || {
            self.answered(&mut sent)?;
            returned.one_more()
        });
        match course.stage.set(SYNCOOKIES, &course.syncookies) {
            Ok(()) => trials,
            Err(error) => course.failed(Some(hook), &error.to_string()),
        }
    }

    /// Tests that the program has answered one SYN more than `sent`.
    fn answered(&self, sent: &mut u64) -> Result<(), Failure> {
        let now = self.dataplane.listener_counters(LISTENER)?.cookies_sent;
        if std::mem::replace(sent, now) == now {
            return Err(Failure("the stack answered the SYN, and not the program".to_owned()));
        }
        Ok(())
    }

    /// Sets the mitigations of the service, which is bound to all addresses, and begins to count anew.
    fn set_mitigations(&self, mitigations: u8) -> Result<(), Failure> {
        let entry = ListenerEntry { id: LISTENER, mitigations, ..ListenerEntry::default() };
        let port = service(Family::Ipv4).port().to_be_bytes();
        let keys = [Addr::ANY_V4, Addr::ANY_V6].map(|addr| ListenerKey::new(addr, port));
        for key in &keys {
            self.dataplane.set_listener(key, &entry)?;
        }
        self.dataplane.set_ports(keys.iter().map(|key| (key, LISTENER)))?;
        Ok(self.dataplane.reset_listener(LISTENER)?)
    }

    fn attach(&mut self, course: &Course, hook: Hook) -> Result<Attached, Failure> {
        let stage = &course.stage;
        let receiving = match hook {
            Hook::Native => {
                let interface = stage.client_interface()?;
                Some(stage.client(|| receive_natively(&mut self.object, &interface))?)
            }
            Hook::Generic => None,
        };
        let mode = match hook {
            Hook::Native => XdpMode::Native,
            Hook::Generic => XdpMode::Generic,
        };
        self.dataplane.reply_on_link(stage.interface.index, SERVER.mac)?;
        let attachment =
            attach(&mut self.object, &self.pins, &stage.interface, &stage.interface.name, mode)?;
        let mut attached =
            Attached { attachment: Some(attachment), redemption: None, _receiving: receiving };
        if let Ok(redeemer) = &mut self.redeemer {
            attached.redemption = Some(redeemer.attach(&self.pins, &stage.interface)?);
        }
        Ok(attached)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(redemption) = self.redemption.take()
            && let Err(error) = redemption.remove()
        {
            log::debug!("{error}");
        }
        if let Some(attachment) = self.attachment.take() {
            attachment.remove();
        }
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        Self(error.to_string())
    }
}
