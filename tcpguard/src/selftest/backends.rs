//! Each back end, on the stage.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use tcpguard_common::abi::{
    ABI_VERSION, Addr, Config, CookieSecret, ListenerEntry, ListenerKey, Mode, maps,
};
use tcpguard_engine::Family;
use tcpguard_host::linux::{netns, tcp_ext};

use super::SelftestFailure;
use super::connection::{Failure, connect, listen};
use super::stage::{BPFFS, SERVER, SYNCOOKIES, Stage, TIMESTAMPS, service};
use crate::bpf::{
    Attachment, Dataplane, HeldLink, KernelError, Load, Object, Pins, Receiving, Redeemer, XdpMode,
    attach, receive_natively, secrets,
};
use crate::documents::selftest::{CookieBackend, Hook, Host, NO_TIME, Trial};

/// The service's slot among the listeners.
const LISTENER: u32 = 0;

/// Outcome of the trial of a backend.
type Tried = Result<(), Failure>;

/// The parts that all connections share.
struct Course {
    stage: Stage,
    /// The sysctl as this host has it.
    syncookies: String,
    /// The service of each family.
    services: Vec<(Family, TcpListener)>,
    deadline: Instant,
}

/// Tries each back end with each client; from a thread of its own, which it moves to another
/// namespace.
pub(super) fn try_all(host: &Host, deadline: Instant) -> Result<Vec<Trial>, SelftestFailure> {
    let refused = match host.sysctls.get(SYNCOOKIES).map(String::as_str) {
        None => "this kernel was built without CONFIG_SYN_COOKIES",
        Some("0") => {
            "the kernel accepts no SYN cookie (allow them: sysctl -w net.ipv4.tcp_syncookies=1)"
        }
        Some(syncookies) => return try_with(host, syncookies, deadline),
    };
    let refused = || Err(Failure(refused.to_owned()));
    Ok(trials(HOOKS.map(|_| [refused(), refused()]), refused()))
}

const HOOKS: [Hook; 2] = [Hook::Native, Hook::Generic];

/// The results of own cookies and of the helper at each hook, and of the kernel alone.
fn trials(at_hooks: [[Tried; 2]; 2], kernel: Tried) -> Vec<Trial> {
    let trial = |backend, hook, tried: Tried| Trial {
        backend,
        hook,
        reason: tried.err().map(|Failure(why)| why),
    };
    let of_hook = |(hook, [own, helper]): (Hook, [Tried; 2])| {
        let hook = Some(hook);
        [trial(CookieBackend::Own, hook, own), trial(CookieBackend::KernelHelper, hook, helper)]
    };
    let mut all: Vec<Trial> = HOOKS.into_iter().zip(at_hooks).flat_map(of_hook).collect();
    all.push(trial(CookieBackend::Kernel, None, kernel));
    all.sort_by_key(|one| CookieBackend::ALL.iter().position(|backend| *backend == one.backend));
    all
}

fn try_with(
    host: &Host,
    syncookies: &str,
    deadline: Instant,
) -> Result<Vec<Trial>, SelftestFailure> {
    let stage = Stage::set_up(&host.sysctls)?;
    let service = |family: &Family| Ok((*family, listen(*family)?));
    let services: io::Result<Vec<_>> = stage.families.iter().map(service).collect();
    let services = services.map_err(|error| SelftestFailure::Silent(error.to_string()))?;
    let course = Course { stage, syncookies: syncookies.to_owned(), services, deadline };
    course.plain().map_err(|Failure(why)| SelftestFailure::Silent(why))?;
    // Where the kernel adds no number of its own for each peer, it reads the timestamps of others.
    let plain_timestamps = host.sysctls.get(TIMESTAMPS).is_some_and(|value| value == "2");
    let at_hooks = match Programs::load(plain_timestamps) {
        Ok(mut programs) => HOOKS.map(|hook| programs.try_at(&course, hook)),
        Err(failure) => HOOKS.map(|_| failed(&failure)),
    };
    Ok(trials(at_hooks, course.kernel()))
}

/// The result of both backends with a program, where the program itself failed.
fn failed(Failure(why): &Failure) -> [Tried; 2] {
    [(); 2].map(|()| Err(Failure(why.clone())))
}

impl Course {
    /// Connects each client without cookies.
    fn plain(&self) -> Tried {
        // With 2 the kernel would make cookies for these as well.
        self.stage.set(SYNCOOKIES, "1")?;
        let connected = self.connect(|| Ok(()));
        self.stage.set(SYNCOOKIES, &self.syncookies)?;
        connected
    }

    /// Connects each client, until one fails, also by the `check` of its connection.
    fn connect(&self, mut check: impl FnMut() -> Tried) -> Tried {
        for (family, service) in &self.services {
            for timestamps in [true, false] {
                if Instant::now() > self.deadline {
                    return Err(Failure(NO_TIME.to_owned()));
                }
                let connected = connect(&self.stage, service, *family, timestamps);
                connected.and_then(|()| check()).map_err(|Failure(why)| {
                    let with = if timestamps { "with" } else { "without" };
                    Failure(format!("{} {with} timestamps: {why}", family.name()))
                })?;
            }
        }
        Ok(())
    }

    /// The kernel's own cookies.
    fn kernel(&self) -> Tried {
        // With 2 it makes the same cookies as with 1 under a flood, and no line in the kernel's log.
        self.stage.set(SYNCOOKIES, "2")?;
        let mut returned = Returned::count()?;
        self.connect(|| returned.one_more())
    }
}

/// Cookies that clients returned to the kernel, in this thread's namespace.
struct Returned(u64);

impl Returned {
    fn count() -> Result<Self, Failure> {
        Ok(Self(tcp_ext()?.syncookies_recv))
    }

    fn one_more(&mut self) -> Tried {
        let Self(now) = Self::count()?;
        if std::mem::replace(&mut self.0, now) == now {
            return Err(Failure("the kernel counted no cookie that came back".to_owned()));
        }
        Ok(())
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

    /// The back ends with cookies from the program at a hook: own ones, and those of the helper.
    fn try_at(&mut self, course: &Course, hook: Hook) -> [Tried; 2] {
        let ready = self.attach(course, hook).and_then(|attached| {
            self.set_mitigations(0)?;
            // How the service answers is learned from its own answers.
            course.plain()?;
            Ok(attached)
        });
        match ready {
            Ok(_attached) => [self.own(course), self.helper(course)],
            Err(failure) => failed(&failure),
        }
    }

    fn own(&self, course: &Course) -> Tried {
        if let Err(error) = &self.redeemer {
            return Err(Failure(error.to_string()));
        }
        self.set_mitigations(ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT)?;
        let mut sent = 0;
        course.connect(|| self.answered(&mut sent))
    }

    fn helper(&self, course: &Course) -> Tried {
        self.set_mitigations(ListenerEntry::KERNEL_COOKIES)?;
        course.stage.set(SYNCOOKIES, "2")?;
        let (mut sent, mut returned) = (0, Returned::count()?);
        let tried = course.connect(|| {
            self.answered(&mut sent)?;
            returned.one_more()
        });
        course.stage.set(SYNCOOKIES, &course.syncookies)?;
        tried
    }

    /// Tests that the program has answered one SYN more than `sent`.
    fn answered(&self, sent: &mut u64) -> Tried {
        let now = self.dataplane.listener_counters(LISTENER)?.cookies_sent;
        if std::mem::replace(sent, now) == now {
            return Err(Failure("the stack answered the SYN, and not the program".to_owned()));
        }
        Ok(())
    }

    /// Sets the mitigations of the service, which is bound to all addresses, and begins to count anew.
    fn set_mitigations(&self, mitigations: u8) -> Tried {
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
