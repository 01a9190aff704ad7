//! Putting the programs on an interface: native first, generic where that must be, never silently.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcAttachType};
use aya::programs::xdp::XdpMode as Mode;
use aya::programs::{LinkOrder, Program, ProgramError, RawTracePoint, SchedClassifier, Xdp};

use super::object::{EGRESS, ESTABLISHED, INGRESS, Object, one_line};
use super::pins::Kind;
use super::{KernelError, Pins, syscall};
use crate::config::XdpMode;
use crate::host::{Interface, KernelRelease};

/// How the programs hang on an interface. Dropping this leaves them there.
#[derive(Debug)]
pub struct Attachment {
    /// Name when it was attached.
    pub name: String,
    /// Index when it was attached.
    pub ifindex: u32,
    /// Why the program is not native although that was tried.
    pub fallback: Option<String>,
    /// Whether this agent made the attachment, rather than take it over from an earlier one.
    pub made: bool,
    link: OwnedFd,
    /// The link at TCX; `None`: the program hangs at clsact, which has no links.
    egress: Option<OwnedFd>,
    pin: PathBuf,
    egress_pin: PathBuf,
}

impl Attachment {
    /// Kernel id of the XDP link, and whether it and the TCX link still hang on the interface with
    /// index `ifindex`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn check(&self, ifindex: u32) -> io::Result<(u32, bool)> {
        let (id, target) = syscall::link_target(self.link.as_fd())?;
        let egress = match &self.egress {
            Some(link) => syscall::link_target(link.as_fd())?.1,
            None => target,
        };
        Ok((id, ifindex != 0 && target == ifindex && egress == ifindex))
    }

    /// Takes the programs off the interface.
    pub fn remove(self) {
        for link in self.egress.iter().chain([&self.link]) {
            // Others may hold it as well: then closing and unpinning it here would not be enough.
            if let Err(error) = syscall::detach_link(link.as_fd()) {
                log::warn!(
                    "cannot take a program off {0}: {error}; see what is left: bpftool net show dev \
                     {0}",
                    self.name
                );
            }
        }
        unpin(&self.egress_pin);
        unpin(&self.pin);
        if self.egress.is_none() {
            remove_filter(&self.name);
        }
    }
}

/// Attaches both programs to `interface` and pins their links, taking over those that an earlier
/// agent left, of whatever layout.
///
/// # Errors
/// When either cannot be attached; then neither is, unless it was before.
pub fn attach(
    object: &mut Object,
    pins: &Pins,
    interface: &Interface,
    mode: XdpMode,
) -> Result<Attachment, KernelError> {
    if !interface.has_ethernet_header() {
        return Err(KernelError::NoEthernet {
            interface: interface.name.clone(),
            link_type: interface.link_type,
        });
    }
    let pin = pins.link(Kind::Ingress, interface.index, &interface.name);
    let egress_pin = pins.link(Kind::Egress, interface.index, &interface.name);
    let mut fallback = None;
    let program = xdp(object)?;
    let (link, made) = match take_over(pins, Kind::Ingress, interface, fd(program.fd(), INGRESS)?)?
    {
        Some(link) => (link, false),
        None => {
            let link = attach_xdp(program, interface, mode, &mut fallback)?;
            (pin_link(link, &pin)?, true)
        }
    };
    match attach_egress(object, pins, interface) {
        Ok(egress) => Ok(Attachment {
            name: interface.name.clone(),
            ifindex: interface.index,
            fallback,
            made,
            link,
            egress,
            pin,
            egress_pin,
        }),
        Err(error) => {
            if made {
                // Nobody else holds it: closed and unpinned it is off.
                unpin(&pin);
            }
            Err(error)
        }
    }
}

/// An XDP program at the other end of a cable, until this is dropped.
#[derive(Debug)]
pub struct Receiving(#[expect(dead_code, reason = "held, not used")] FdLink);

/// Attaches the ingress program alone, natively and without a pin: a virtual interface takes what
/// its peer sends back from XDP only where there is an XDP program as well.
///
/// # Errors
/// When the kernel refuses.
pub fn receive_natively(
    object: &mut Object,
    interface: &Interface,
) -> Result<Receiving, KernelError> {
    let link = attach_as(xdp(object)?, interface, Mode::Driver);
    link.map(Receiving).map_err(|error| refusal(interface, &error, true))
}

/// Attaches the tracepoint program in place of an earlier agent's, and pins its link, so that clients
/// are known also while there is no agent.
///
/// # Errors
/// When the kernel has no such tracepoint or refuses.
pub fn attach_tracepoint(object: &mut Object, pins: &Pins) -> Result<(), KernelError> {
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
    pin_link(link.into(), &pin).map(drop)
}

/// The link that an earlier agent, of whatever layout, left on `interface`: from one packet to the
/// next it runs `program`, and then its pin is where this layout has it.
pub(super) fn take_over(
    pins: &Pins,
    kind: Kind,
    interface: &Interface,
    program: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>, KernelError> {
    let own = pins.link(kind, interface.index, &interface.name);
    let mut taken: Option<(u32, OwnedFd)> = None;
    for pin in pins.inherited(kind, interface.index) {
        let link = match syscall::open_pin(&pin) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(pin_error("open", &pin)(error)),
        };
        let (id, target) = syscall::link_target(link.as_fd())
            .map_err(pin_error("look at the link pinned at", &pin))?;
        match &taken {
            // Its interface was deleted; one with the same index came later.
            _ if target != interface.index => unpin(&pin),
            None => {
                syscall::update_link(link.as_fd(), program)
                    .map_err(pin_error("replace the program of the link pinned at", &pin))?;
                if pin != own {
                    fs::rename(&pin, &own).map_err(pin_error("give its new name to", &pin))?;
                }
                taken = Some((id, link));
            }
            Some((known, _)) => {
                // At TCX there may be a second one, which would count everything again.
                if *known != id {
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
    fallback: &mut Option<String>,
) -> Result<FdLink, KernelError> {
    let native = match mode {
        XdpMode::Generic => None,
        XdpMode::Auto | XdpMode::Native => Some(attach_as(program, interface, Mode::Driver)),
    };
    match native {
        Some(Ok(link)) => Ok(link),
        Some(Err(error)) if mode == XdpMode::Native || occupied(&error) => {
            Err(refusal(interface, &error, true))
        }
        Some(Err(error)) => {
            *fallback = Some(one_line(&error));
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

/// The link at TCX, or `None` when the program hangs at clsact.
fn attach_egress(
    object: &mut Object,
    pins: &Pins,
    interface: &Interface,
) -> Result<Option<OwnedFd>, KernelError> {
    let failed = |reason: String| KernelError::Attach {
        program: EGRESS,
        interface: interface.name.clone(),
        reason,
    };
    let program = classifier(object)?;
    if let Some(link) = take_over(pins, Kind::Egress, interface, fd(program.fd(), EGRESS)?)? {
        return Ok(Some(link));
    }
    // TCX came with 6.6; before it there is only the clsact qdisc.
    let tcx = KernelRelease::running().is_ok_and(|release| release.at_least(6, 6));
    if tcx {
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program
            .attach_with_options(&interface.name, TcAttachType::Egress, order)
            .map_err(|error| failed(one_line(&error)))?;
        let link = program.take_link(id).map_err(|error| failed(one_line(&error)))?;
        let link = FdLink::try_from(link).map_err(|error| failed(one_line(&error)))?;
        pin_link(link, &pins.link(Kind::Egress, interface.index, &interface.name)).map(Some)
    } else {
        // An earlier agent's filter has no pin to take over; it is replaced.
        remove_filter(&interface.name);
        match tc::qdisc_add_clsact(&interface.name) {
            Ok(()) => {}
            // It is there since an earlier agent, or somebody else's.
            Err(tc::TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
            }
            Err(error) => return Err(failed(one_line(&error))),
        }
        let options = TcAttachOptions::Netlink(NlOptions::default());
        let id = program
            .attach_with_options(&interface.name, TcAttachType::Egress, options)
            .map_err(|error| failed(one_line(&error)))?;
        let link = program.take_link(id).map_err(|error| failed(one_line(&error)))?;
        // It stays until it is detached by name, as a pinned link would.
        std::mem::forget(link);
        Ok(None)
    }
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

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

/// The kernel answers EBUSY when another program is there in the same mode, EEXIST in the other.
fn occupied(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::EEXIST))
}

fn refusal(interface: &Interface, error: &ProgramError, native: bool) -> KernelError {
    let interface = interface.name.clone();
    if occupied(error) {
        return KernelError::Occupied { interface };
    }
    if errno(error) == Some(libc::EPERM) {
        return KernelError::Permission {
            what: format!("to attach XDP to {interface}"),
            missing: super::error::missing_capabilities(),
        };
    }
    let reason = one_line(error);
    if native {
        KernelError::NotNative { interface, reason }
    } else {
        KernelError::Attach { program: INGRESS, interface, reason }
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

pub(super) fn unpin(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cannot remove {}: {error}", path.display());
    }
}
