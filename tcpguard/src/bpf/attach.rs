//! Attaching the programs to an interface: native first, generic where that must be, never silently.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;
use std::{fs, io};

use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcAttachType};
use aya::programs::xdp::XdpMode as Mode;
use aya::programs::{Program, ProgramError, ProgramInfo, RawTracePoint, SchedClassifier, Xdp};
use aya_obj::generated::bpf_attach_type::BPF_TCX_EGRESS;
use serde::{Deserialize, Serialize};
use tcpguard_host::doctor::facts::MULTI_BUFFER;
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::attachments::{Direction, filters};
use tcpguard_host::linux::interfaces::Xdp as Found;
use tcpguard_host::linux::programs::{Attached, EGRESS, Hook, INGRESS};
use tcpguard_host::linux::xdp_driver::{against_native, one_page, page_bytes};
use tcpguard_host::linux::{Interface, device, interfaces, native_xdp_refusal};

use super::links::{HeldLink, unpin};
use super::object::{ESTABLISHED, Object, one_line};
use super::occupied::occupied_by;
use super::order::{self, Lead};
use super::pins::Kind;
use super::{Features, KernelError, Pins, attached_programs, syscall};

/// Mode in which XDP programs are attached.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// Native where the driver supports it and [`against_native`] has nothing against it, else generic, which
    /// `tcpguard status` shows.
    #[default]
    Auto,
    /// Native mode, in the driver only: attaching fails where the driver does not support it.
    Native,
    /// Generic mode, in the network stack: works everywhere, costs more per packet.
    Generic,
}

impl XdpMode {
    /// Returns whether a program that is attached as `found` may stay.
    fn allows(self, found: Found) -> bool {
        !matches!((self, found), (Self::Native, Found::Generic) | (Self::Generic, Found::Native))
    }
}

/// The last priority of a filter that is tried.
const LAST_PRIORITY: u16 = 32;

/// Attachment of the programs to an interface. Dropping this leaves them there.
#[derive(Debug)]
pub struct Attachment {
    /// Index of the interface.
    pub ifindex: u32,
    /// Reason why the program is not native although that was tried.
    pub fallback: Option<String>,
    /// Reason why the program is to run in generic mode without asking the driver.
    pub choice: Option<&'static str>,
    /// True if this agent made the attachment, rather than take it over from an earlier one.
    pub made: bool,
    ingress: HeldLink,
    egress: Egress,
    /// Its position among the programs for departing packets.
    lead: Lead,
}

/// Attachment of the program for departing packets.
#[derive(Debug)]
enum Egress {
    /// A link at TCX.
    Tcx(HeldLink),
    /// A filter at clsact, which has no links, with the program of this kernel id.
    Clsact(u32),
}

impl Attachment {
    /// Kernel id of the XDP link.
    pub fn link_id(&self) -> Option<u32> {
        self.ingress.state().ok().map(|state| state.id)
    }

    /// Returns whether both programs are this agent's and attached to `interface`. Both the links and the
    /// interface itself are asked: the index in a link may belong to an interface in another namespace.
    pub fn is_whole(&self, interface: &Interface) -> bool {
        let index = interface.index;
        let egress = match &self.egress {
            Egress::Tcx(link) => link.is_on(index),
            Egress::Clsact(program) => filters(index, Direction::Egress)
                .is_ok_and(|filters| filters.iter().any(|one| one.id == Some(*program))),
        };
        egress && self.ingress.is_on(index) && interface.xdp_program == Some(self.ingress.program())
    }

    /// Returns whether all of it outlives the agent.
    pub fn is_pinned(&self) -> bool {
        self.links().all(HeldLink::is_pinned)
    }

    /// Restores pins that another process has removed. Returns whether one was restored.
    pub fn keep_pinned(&self) -> Result<bool, KernelError> {
        self.links().try_fold(false, |any, link| Ok(link.keep_pinned()? || any))
    }

    /// Others' programs that run before the one for departing packets, and may keep packets from it.
    pub fn ahead(&self) -> &[Attached] {
        self.lead.ahead()
    }

    /// Ensures that the program for departing packets runs first. Returns the programs that it has
    /// passed.
    pub fn keep_first(
        &mut self,
        object: &mut Object,
        interface: &Interface,
    ) -> Result<Vec<Attached>, KernelError> {
        let (now, index) = (Instant::now(), interface.index);
        let program = classifier(object)?;
        match &mut self.egress {
            Egress::Tcx(link) => {
                let own = link.program();
                let look = || order::ahead_at_tcx(index, Hook::TcxEgress, own);
                let take = || {
                    let program = fd(program.fd(), EGRESS)?;
                    order::lead_at_tcx(link, program, index, BPF_TCX_EGRESS)
                };
                self.lead.keep(now, look, take)
            }
            Egress::Clsact(own) => {
                let look = || order::ahead_at_clsact(index, *own);
                let take = || attach_at_clsact(program, interface).map_err(failed(interface));
                self.lead.keep(now, look, take)
            }
        }
    }

    /// Takes the programs off the interface.
    pub fn remove(self) {
        let links = match self.egress {
            Egress::Tcx(egress) => vec![egress, self.ingress],
            Egress::Clsact(_) => {
                let all = interfaces::list().unwrap_or_default();
                if let Some(interface) = all.iter().find(|one| one.index == self.ifindex) {
                    remove_filter(&interface.name);
                }
                vec![self.ingress]
            }
        };
        for link in links {
            // Others may hold it as well: then closing and unpinning it here would not be enough.
            if let Err(error) = link.remove() {
                log::warn!(
                    "program not detached from the interface with index {}: {error}. See: bpftool link show",
                    self.ifindex
                );
            }
        }
    }

    fn links(&self) -> impl Iterator<Item = &HeldLink> {
        let egress = match &self.egress {
            Egress::Tcx(link) => Some(link),
            Egress::Clsact(_) => None,
        };
        egress.into_iter().chain([&self.ingress])
    }
}

/// Attaches both programs to `interface` and pins their links, taking over those that an earlier agent
/// left, of whatever layout. `name` is the interface's name in the configuration, under which a later
/// agent finds it whatever it is called by then.
///
/// # Errors
/// When either cannot be attached; then neither is, unless it was before.
pub fn attach(
    object: &mut Object,
    pins: &Pins,
    interface: &Interface,
    name: &str,
    mode: XdpMode,
) -> Result<Attachment, KernelError> {
    if !interface.has_ethernet_header() {
        return Err(KernelError::NoEthernet {
            interface: interface.name.clone(),
            link_type: interface.link_type,
        });
    }
    let pin = pins.link(Kind::Ingress, interface.index, name);
    let mut fallback = None;
    let choice = match mode {
        XdpMode::Auto => against_native(interface.kind.as_deref(), device::is_received(interface)),
        XdpMode::Generic => Some("the configuration names it"),
        XdpMode::Native => None,
    };
    let mode = if choice.is_some() { XdpMode::Generic } else { mode };
    let features = object.features;
    let program = xdp(object)?;
    let id = program_id(program.info(), INGRESS)?;
    let taken = take_over(pins, Kind::Ingress, interface, name, fd(program.fd(), INGRESS)?)?;
    let (ingress, made) = match taken.map(|link| HeldLink::new(link, pin.clone(), id)) {
        Some(link) if mode.allows(interface.xdp) => (link, false),
        other => {
            // A link keeps its mode, and an interface has programs in one mode only.
            if let Some(link) = other {
                link.remove().map_err(pin_error("detach the link pinned at", &pin))?;
            }
            let link = attach_xdp(program, interface, mode, features, &mut fallback)?;
            (HeldLink::new(pin_link(link, &pin)?, pin, id), true)
        }
    };
    match attach_egress(object, pins, interface, name) {
        Ok(egress) => {
            let (ifindex, lead) = (interface.index, Lead::default());
            let mut attachment =
                Attachment { ifindex, fallback, choice, made, ingress, egress, lead };
            // One that was taken over hangs where it was.
            if let Err(error) = attachment.keep_first(object, interface) {
                log::warn!("tc program on {name} may not run first: {}", error.with_hint());
            }
            Ok(attachment)
        }
        Err(error) => {
            if made {
                ingress.abandon();
            }
            Err(error)
        }
    }
}

/// An XDP program at the other end of a cable, until this is dropped.
#[derive(Debug)]
pub struct Receiving(#[expect(dead_code, reason = "held, not used")] FdLink);

/// Attaches the ingress program alone, natively and without a pin: a virtual interface takes the frames
/// that its peer sends back from XDP only where there is an XDP program as well.
pub fn receive_natively(
    object: &mut Object,
    interface: &Interface,
) -> Result<Receiving, KernelError> {
    let link = attach_as(xdp(object)?, interface, Mode::Driver);
    link.map(Receiving).map_err(|error| refusal(interface, &error, true))
}

/// Attaches the tracepoint program instead of an earlier agent's, and pins its link, so that clients are also
/// recorded while no agent runs.
pub fn attach_tracepoint(object: &mut Object, pins: &Pins) -> Result<HeldLink, KernelError> {
    let program: &mut RawTracePoint = match object.ebpf.program_mut(ESTABLISHED) {
        Some(Program::RawTracePoint(program)) => program,
        _ => return Err(KernelError::Mismatch(format!("no tracepoint program {ESTABLISHED}"))),
    };
    let failed = |error: ProgramError| KernelError::Attach {
        program: ESTABLISHED,
        interface: "the tracepoint sock:inet_sock_set_state".to_owned(),
        reason: one_line(&error),
    };
    // Such a link cannot be given another program. Off first: to miss the handshakes of a moment
    // does less harm than to count some twice. (That of another layout counts in maps of its own, and
    // goes with them.)
    let pin = pins.tracepoint();
    unpin(&pin);
    let id = program.attach("inet_sock_set_state").map_err(failed)?;
    let link = program.take_link(id).map_err(failed)?;
    let program = program_id(program.info(), ESTABLISHED)?;
    Ok(HeldLink::new(pin_link(link.into(), &pin)?, pin, program))
}

/// The link that an earlier agent, of whatever layout, left on `interface`: from one packet to the
/// next it runs `program`, and then its pin is where this layout has it under `name`.
pub(super) fn take_over(
    pins: &Pins,
    kind: Kind,
    interface: &Interface,
    name: &str,
    program: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>, KernelError> {
    let own = pins.link(kind, interface.index, name);
    let mut taken: Option<(u32, OwnedFd)> = None;
    for pin in pins.inherited(kind, interface.index) {
        let link = match syscall::open_pin(&pin) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(pin_error("open", &pin)(error)),
        };
        let state = syscall::link_state(link.as_fd())
            .map_err(pin_error("look at the link pinned at", &pin))?;
        match &taken {
            // Its interface was deleted, or it was detached; another link replaces it.
            _ if state.ifindex != interface.index => unpin(&pin),
            None => {
                syscall::update_link(link.as_fd(), program)
                    .map_err(pin_error("replace the program of the link pinned at", &pin))?;
                if pin != own {
                    fs::rename(&pin, &own).map_err(pin_error("give its new name to", &pin))?;
                }
                taken = Some((state.id, link));
            }
            Some((known, _)) => {
                // At TCX there may be a second one, which would count everything again.
                if *known != state.id {
                    syscall::detach_link(link.as_fd())
                        .map_err(pin_error("detach the link pinned at", &pin))?;
                }
                unpin(&pin);
            }
        }
    }
    Ok(taken.map(|(_, link)| link))
}

fn attach_xdp(
    program: &mut Xdp,
    interface: &Interface,
    mode: XdpMode,
    features: Features,
    fallback: &mut Option<String>,
) -> Result<FdLink, KernelError> {
    let native = match mode {
        XdpMode::Generic => None,
        XdpMode::Auto | XdpMode::Native => Some(attach_as(program, interface, Mode::Driver)),
    };
    match native {
        Some(Ok(link)) => Ok(link),
        Some(Err(error)) if occupied(&error) || errno(&error) == Some(libc::EPERM) => {
            Err(refusal(interface, &error, true))
        }
        Some(Err(error)) => {
            let words =
                program.fd().ok().and_then(|fd| native_xdp_refusal(interface.index, fd.as_fd()));
            let mut reason = match words {
                Some(words) => match errno(&error) {
                    Some(errno) => format!("{words} (os error {errno})"),
                    None => words,
                },
                None => one_line(&error),
            };
            if !features.multi_buffer && interface.mtu > one_page(page_bytes()) {
                reason += &format!(". MTU {} needs {MULTI_BUFFER} (Linux 5.18)", interface.mtu);
            }
            if mode == XdpMode::Native {
                return Err(KernelError::NotNative { interface: interface.name.clone(), reason });
            }
            *fallback = Some(reason);
            attach_as(program, interface, Mode::Skb).map_err(|e| refusal(interface, &e, false))
        }
        None => attach_as(program, interface, Mode::Skb).map_err(|e| refusal(interface, &e, false)),
    }
}

fn attach_as(program: &mut Xdp, interface: &Interface, mode: Mode) -> Result<FdLink, ProgramError> {
    let id = program.attach_to_if_index(interface.index, mode)?;
    let link = program.take_link(id)?;
    // aya falls back to netlink without a word where there are no XDP links (kernels below 5.9);
    // such an attachment cannot be pinned and is dropped here.
    FdLink::try_from(link).map_err(|_| {
        ProgramError::SyscallError(aya::sys::SyscallError {
            call: "bpf_link_create",
            io_error: io::Error::from(io::ErrorKind::Unsupported),
        })
    })
}

fn attach_egress(
    object: &mut Object,
    pins: &Pins,
    interface: &Interface,
    name: &str,
) -> Result<Egress, KernelError> {
    let pin = pins.link(Kind::Egress, interface.index, name);
    let failed = failed(interface);
    let has_tcx = object.features.tcx;
    let program = classifier(object)?;
    let id = program_id(program.info(), EGRESS)?;
    let program_fd = fd(program.fd(), EGRESS)?;
    if let Some(link) = take_over(pins, Kind::Egress, interface, name, program_fd)? {
        return Ok(Egress::Tcx(HeldLink::new(link, pin, id)));
    }
    if has_tcx {
        let link = syscall::link_tcx(program_fd, interface.index, BPF_TCX_EGRESS)
            .map_err(|error| failed(error.to_string()))?;
        return HeldLink::pin(link, pin, id).map(Egress::Tcx);
    }
    attach_at_clsact(program, interface).map_err(failed)?;
    Ok(Egress::Clsact(id))
}

/// The error when the program for departing packets cannot be attached to `interface`.
fn failed(interface: &Interface) -> impl Fn(String) -> KernelError + use<> {
    let interface = interface.name.clone();
    move |reason| KernelError::Attach { program: EGRESS, interface: interface.clone(), reason }
}

/// Attaches the program for departing packets on kernels without TCX. The error is a reason in words.
fn attach_at_clsact(program: &mut SchedClassifier, interface: &Interface) -> Result<(), String> {
    // An earlier agent's filter has no pin to take over; it is replaced.
    remove_filter(&interface.name);
    match tc::qdisc_add_clsact(&interface.name) {
        Ok(()) => {}
        // It exists since an earlier agent, or belongs to another program.
        Err(tc::TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(one_line(&error)),
    }
    let attach = |priority| {
        let options = NlOptions { priority, ..NlOptions::default() };
        let options = TcAttachOptions::Netlink(options);
        program.attach_with_options(&interface.name, TcAttachType::Egress, options)
    };
    let id = first_place(attach).map_err(|error| one_line(&error))?;
    let link = program.take_link(id).map_err(|error| one_line(&error))?;
    // It stays until it is detached by name, as a pinned link would.
    std::mem::forget(link);
    // By name: another interface may have been given it meanwhile.
    match interfaces::by_name(&interface.name) {
        Ok(now) if now.index == interface.index => Ok(()),
        _ => {
            remove_filter(&interface.name);
            Err("it was renamed just then".to_owned())
        }
    }
}

/// Attaches a filter as far ahead as there is a free priority. Among BPF filters of one priority the
/// newest goes first. Filters of another kind share their priority with none.
fn first_place<T>(
    mut attach: impl FnMut(u16) -> Result<T, ProgramError>,
) -> Result<T, ProgramError> {
    for priority in 1..LAST_PRIORITY {
        match attach(priority) {
            Err(error) if is_of_another_kind(&error) => {}
            attached => return attached,
        }
    }
    attach(LAST_PRIORITY)
}

/// Returns whether it is the kernel's answer where a priority has filters of another kind or for one protocol only.
fn is_of_another_kind(error: &ProgramError) -> bool {
    let ProgramError::TcError(tc::TcError::NetlinkError(error)) = error else { return false };
    error.raw_os_error() == Some(libc::EINVAL)
}

/// Removes the egress program from the clsact qdisc of an interface, where it may hang on kernels
/// without TCX.
pub(super) fn remove_filter(interface: &str) {
    // Mostly there is none; the interface may also have gone and taken it along.
    let _ = tc::qdisc_detach_program(interface, TcAttachType::Egress, EGRESS);
}

fn xdp(object: &mut Object) -> Result<&mut Xdp, KernelError> {
    match object.ebpf.program_mut(INGRESS) {
        Some(Program::Xdp(program)) => Ok(program),
        _ => Err(KernelError::Mismatch(format!("no XDP program {INGRESS}"))),
    }
}

fn classifier(object: &mut Object) -> Result<&mut SchedClassifier, KernelError> {
    match object.ebpf.program_mut(EGRESS) {
        Some(Program::SchedClassifier(program)) => Ok(program),
        _ => Err(KernelError::Mismatch(format!("no classifier {EGRESS}"))),
    }
}

pub(super) fn fd<'a>(
    fd: Result<&'a aya::programs::ProgramFd, ProgramError>,
    program: &str,
) -> Result<BorrowedFd<'a>, KernelError> {
    fd.map(AsFd::as_fd).map_err(|error| KernelError::Mismatch(format!("{program}: {error}")))
}

/// Kernel id of a loaded program.
pub(super) fn program_id(
    info: Result<ProgramInfo, ProgramError>,
    program: &str,
) -> Result<u32, KernelError> {
    info.map(|info| info.id())
        .map_err(|error| KernelError::Mismatch(format!("{program}: {}", one_line(&error))))
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

/// Returns whether another program is there: the kernel answers EBUSY when it is in the same mode, EEXIST in the other.
fn occupied(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::EEXIST))
}

fn refusal(interface: &Interface, error: &ProgramError, native: bool) -> KernelError {
    let name = interface.name.clone();
    if occupied(error) {
        let all = interfaces::list().unwrap_or_default();
        let above = attached_programs::xdp_above(interface, &all);
        return occupied_by(name, &attached_programs::xdp(interface.index), &above);
    }
    if errno(error) == Some(libc::EPERM) {
        return KernelError::Permission {
            what: format!("to attach XDP to {name}"),
            missing: super::error::missing_capabilities(),
        };
    }
    let reason = one_line(error);
    if native {
        KernelError::NotNative { interface: name, reason }
    } else {
        KernelError::Attach { program: INGRESS, interface: name, reason }
    }
}

/// Pins a link, and keeps it open as well.
pub(super) fn pin_link(link: FdLink, path: &Path) -> Result<OwnedFd, KernelError> {
    link.pin(path).map_err(|error| KernelError::Pin {
        what: "pin a link at",
        path: path.to_owned(),
        error: io::Error::other(one_line(&error)),
    })?;
    syscall::open_pin(path).map_err(|error| {
        unpin(path);
        pin_error("open", path)(error)
    })
}

fn pin_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KernelError {
    let path = path.to_owned();
    move |error| KernelError::Pin { what, path, error }
}
