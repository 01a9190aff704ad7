//! The next program of an interface: an XDP program of another owner, which gets the packets that tcpguard passes.
//!
//! It is pinned beside the layouts, where every version of tcpguard finds it. The kernel changes to it by a tail call,
//! which is possible only between programs that are declared alike.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_prog_type::BPF_PROG_TYPE_XDP;

use super::pins::PIN_DIR;
use super::{KernelError, Pins, syscall};

/// Mount point of the BPF file system.
const BPFFS: &str = "/sys/fs/bpf";

/// An XDP program that is pinned as a next program.
#[derive(Debug)]
pub struct NextProgram {
    fd: OwnedFd,
    id: u32,
    /// True if the kernel compiled it. It changes only between programs that it compiled.
    compiled: bool,
    /// Path of its pin, for messages.
    path: PathBuf,
}

impl NextProgram {
    /// Opens the XDP program that is pinned under `name`.
    pub fn open(pins: &Pins, name: &str) -> Result<Self, KernelError> {
        let pin = pins.next_program(name);
        let path = shown(&pin);
        let fd = match syscall::open_pin(&pin) {
            Ok(fd) => fd,
            Err(error) => {
                return Err(match error.kind() {
                    ErrorKind::NotFound => KernelError::NoNextProgram { path },
                    ErrorKind::PermissionDenied => KernelError::NextProgramDenied { path },
                    _ => KernelError::Pin { what: "open", path, error },
                });
            }
        };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
        match info.ok().as_deref().and_then(xdp_program) {
            Some((id, compiled)) => Ok(Self { fd, id, compiled, path }),
            None => Err(KernelError::NoXdpProgram { path }),
        }
    }

    /// Kernel id of the program.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The value by which a program array takes it.
    pub(super) fn descriptor(&self) -> u32 {
        self.fd.as_raw_fd() as u32
    }

    /// The reason why the array did not take it, where the `error` shows that. `multi_buffer`: tcpguard's program takes
    /// frames in several buffers.
    pub(super) fn refused(&self, error: KernelError, multi_buffer: bool) -> KernelError {
        let KernelError::Map { error: cause, .. } = &error else { return error };
        let path = self.path.clone();
        let again = |pin: &Path| format!("rm {0} && bpftool prog load FILE {0}", pin.display());
        match cause.raw_os_error() {
            Some(libc::EINVAL) => {
                let (reason, change) = match (self.compiled, multi_buffer) {
                    (false, _) => ("it was loaded while the BPF JIT was off", "load it again"),
                    (true, true) => (
                        "it is not declared xdp.frags, as tcpguard's is, or is bound to a device",
                        "declare it SEC(\"xdp.frags\")",
                    ),
                    (true, false) => (
                        "it is declared xdp.frags, and tcpguard's is not on this kernel",
                        "declare it SEC(\"xdp\")",
                    ),
                };
                let way_out = format!("{change}, then: {}", again(&path));
                KernelError::NextProgramRefused { path, reason, way_out }
            }
            // From Linux 6.13 on.
            Some(libc::EBUSY) => KernelError::NextProgramRefused {
                reason: "other programs extend it, as those of libxdp's dispatcher do",
                way_out: format!("pin one program without libxdp: {}", again(&path)),
                path,
            },
            _ => error,
        }
    }
}

/// The path of a pin as administrators know it. The service has the directory of the pins under another path.
fn shown(pin: &Path) -> PathBuf {
    match (pin.starts_with(BPFFS), pin.parent().and_then(Path::file_name), pin.file_name()) {
        (false, Some(directory), Some(name)) => Path::new(PIN_DIR).join(directory).join(name),
        _ => pin.to_owned(),
    }
}

/// Kernel id of the XDP program behind a descriptor with this entry in `/proc/self/fdinfo`, and whether the kernel
/// compiled it; `None`: it is something else.
fn xdp_program(fdinfo: &str) -> Option<(u32, bool)> {
    let field = |name: &str| -> Option<u32> {
        let value = fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value?.trim().parse().ok()
    };
    let id = field("prog_id").filter(|_| field("prog_type") == Some(BPF_PROG_TYPE_XDP as u32))?;
    Some((id, field("prog_jited") == Some(1)))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use tcpguard_host::hint::Hint as _;

    #[test]
    fn only_an_xdp_program_is_one() {
        let program = |kind, jited| {
            format!("pos:\t0\nprog_type:\t{kind}\nprog_jited:\t{jited}\nprog_id:\t42\n")
        };
        assert_eq!(xdp_program(&program(6, 1)), Some((42, true)));
        assert_eq!(xdp_program(&program(6, 0)), Some((42, false)));
        for other in [program(3, 1).as_str(), "flags:\t02\nmap_type:\t6\nmap_id:\t7\n", ""] {
            assert_eq!(xdp_program(other), None, "{other}");
        }
    }

    #[test]
    fn a_pin_is_named_as_administrators_know_it() {
        for (pin, expected) in [
            ("/run/tcpguard/bpf/next/balancer", "/sys/fs/bpf/tcpguard/next/balancer"),
            ("/sys/fs/bpf/tcpguard/next/balancer", "/sys/fs/bpf/tcpguard/next/balancer"),
            ("/sys/fs/bpf/lab/next/balancer", "/sys/fs/bpf/lab/next/balancer"),
        ] {
            assert_eq!(shown(Path::new(pin)), Path::new(expected));
        }
    }

    #[test]
    fn a_refusal_says_how_the_program_must_be() {
        let refused = |compiled, multi_buffer, errno| {
            let program = NextProgram {
                fd: fs::File::open("/dev/null").expect("a file").into(),
                id: 42,
                compiled,
                path: "/sys/fs/bpf/tcpguard/next/balancer".into(),
            };
            let error = io::Error::from_raw_os_error(errno);
            let error = KernelError::Map { what: "write", map: "NEXT_PROGRAMS", error };
            program.refused(error, multi_buffer).with_hint()
        };
        let pin = "/sys/fs/bpf/tcpguard/next/balancer";
        let load = format!("then: rm {pin} && bpftool prog load FILE {pin}");
        for (text, words) in [
            (refused(true, true, libc::EINVAL), ["not declared xdp.frags", &load]),
            (refused(true, false, libc::EINVAL), ["is declared xdp.frags", &load]),
            (refused(false, true, libc::EINVAL), ["the BPF JIT was off", &load]),
            (refused(true, true, libc::EBUSY), ["dispatcher", "without libxdp: rm /sys"]),
            (refused(true, true, libc::ENOMEM), ["BPF map NEXT_PROGRAMS", "tcpguard doctor"]),
        ] {
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}
