//! Network namespaces that cannot be left behind.
//!
//! A [`Netns`] has no name in the file system. It lives as long as a descriptor, thread or process refers to
//! it. Each comes with a mount namespace in which `/sys` shows its interfaces, `/sys/fs/bpf` is a BPF file
//! system of its own and `/run` an empty tmpfs. So pins, sockets and state files of programs in it vanish
//! with it, even after `kill -9`.
#![expect(unsafe_code, reason = "namespaces, and what a child does before it becomes a program")]

use std::ffi::OsStr;
use std::io::Write;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Signal, getpid, set_parent_process_death_signal, setpriority_process};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space, sched_setaffinity,
    unshare_unsafe,
};

/// A network namespace and the mount namespace that belongs to it.
#[derive(Debug)]
pub struct Netns {
    label: String,
    net: OwnedFd,
    mnt: OwnedFd,
    cpu: Option<usize>,
}

impl Netns {
    /// A new namespace with `lo` up. `label` is used in messages only.
    ///
    /// # Errors
    /// Without root (CAP_SYS_ADMIN and CAP_NET_ADMIN), or on a kernel without BPF file system.
    pub fn new(label: &str) -> Result<Self> {
        let own = || unshare(UnshareFlags::NEWNET);
        Self::create(label, own).with_context(|| format!("cannot make {label:?}: run as root"))
    }

    /// The network of a process, with a mount namespace as any other's. `label` is used in messages
    /// only.
    pub fn of_process(label: &str, pid: u32) -> Result<Self> {
        let network = fs::File::open(format!("/proc/{pid}/ns/net"))?;
        let its = || move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network));
        Self::create(label, || Ok(its()?))
            .with_context(|| format!("cannot enter the network of process {pid}: run as root"))
    }

    /// `enter` takes the calling thread, which ends afterwards, into the network.
    fn create(label: &str, enter: impl FnOnce() -> Result<()> + Send) -> Result<Self> {
        let (net, mnt) = on_own_thread(|| {
            enter()?;
            with_own_mounts()
        })?;
        let namespace = Self { label: label.to_owned(), net, mnt, cpu: None };
        namespace.ip(&["link set lo up"])?;
        Ok(namespace)
    }

    /// Keeps the threads of [`Self::run`] and [`Self::spawn`] on one CPU from now on, where they
    /// come before ordinary processes: they stand for a machine of their own.
    pub fn keep_on_cpu(&mut self, cpu: usize) {
        self.cpu = Some(cpu);
    }

    /// Name of the namespace in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A path that `ip link … netns PATH` understands, valid within this process and its children.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", getpid().as_raw_nonzero(), self.net.as_raw_fd())
    }

    /// Runs `work` on a thread inside the namespace and waits for it. A panic in `work` goes on in
    /// the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_own_thread(|| {
            self.enter()?;
            work()
        })
    }

    /// Runs `work` on a thread inside the namespace that outlives this call.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let inside = Self {
            label: self.label.clone(),
            net: self.net.try_clone()?,
            mnt: self.mnt.try_clone()?,
            cpu: self.cpu,
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            inside.enter()?;
            // Only the thread itself keeps the namespace from here on.
            drop(inside);
            work()
        })?;
        Ok(thread)
    }

    /// A command that will run inside the namespace, with `/` as working directory. It is killed
    /// when the thread that starts it ends.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let (net, mnt) = (self.net.try_clone()?, self.mnt.try_clone()?);
        let enter = move || -> io::Result<()> {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            join(&net, &mnt)
        };
        let mut command = Command::new(program);
        // SAFETY: the closure only makes system calls; it neither allocates nor takes locks.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Runs a command line (split at spaces) in the namespace and returns its output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message carries its stderr.
    pub fn exec(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("empty command line")?;
        let output = self
            .command(program)?
            .args(words)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {program:?}: is it installed?"))?;
        ensure!(
            output.status.success(),
            "{line:?} in {}: {}",
            self.label,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs several `ip` commands, each given without the leading `ip`, and stops at the first
    /// that fails. Returns when the host answers at every IPv6 address that they add: the kernel
    /// sees to that later, even without duplicate detection (`nodad`).
    ///
    /// # Errors
    /// When one of them fails, or an address that they add is not in use within five seconds.
    pub fn ip(&self, commands: &[&str]) -> Result<()> {
        let mut child = self
            .command("ip")?
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `ip`: install iproute2")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(commands.join("\n").as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("ip in {}: {}", self.label, String::from_utf8_lossy(&output.stderr).trim());
        }
        commands.iter().filter_map(|command| added_v6(command)).try_for_each(|it| self.wait_for(it))
    }

    fn wait_for(&self, address: Ipv6Addr) -> Result<()> {
        const RTF_LOCAL: u32 = 0x8000_0000;
        let destination = format!("{:032x} 80 ", address.to_bits());
        let is_local = |line: &str| {
            let flags = line.split_whitespace().nth(8).map(|flags| u32::from_str_radix(flags, 16));
            line.starts_with(&destination)
                && flags.is_some_and(|it| it.is_ok_and(|it| it & RTF_LOCAL != 0))
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.read("/proc/thread-self/net/ipv6_route")?.lines().any(is_local) {
            ensure!(
                Instant::now() < deadline,
                "{address} in {} is not in use after 5 s: is its interface up?",
                self.label
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Writes a sysctl of this namespace; `key` as in `net.ipv4.tcp_syncookies`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.run(|| fs::write(&path, value).with_context(|| format!("cannot write {path}")))
    }

    /// Reads a file as it appears inside the namespace.
    pub fn read(&self, path: &str) -> Result<String> {
        self.run(|| fs::read_to_string(path).with_context(|| format!("cannot read {path}")))
    }

    /// Writes a file as it appears inside the namespace (`/run` is private to it).
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        self.run(|| fs::write(path, text).with_context(|| format!("cannot write {path}")))
    }

    /// A counter of an interface, by its name under `/sys/class/net/IFACE/statistics`.
    pub fn interface_counter(&self, interface: &str, counter: &str) -> Result<u64> {
        let text = self.read(&format!("/sys/class/net/{interface}/statistics/{counter}"))?;
        Ok(text.trim().parse()?)
    }

    fn enter(&self) -> Result<()> {
        // SAFETY: only the calling thread's share of the file system context changes, and the
        // threads of this kit rely on no working directory.
        unsafe { unshare_unsafe(UnshareFlags::FS) }.context("unshare")?;
        join(&self.net, &self.mnt)
            .with_context(|| format!("cannot enter namespace {}", self.label))?;
        if let Some(cpu) = self.cpu {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            sched_setaffinity(None, &cpus)
                .with_context(|| format!("cannot keep {} on CPU {cpu}", self.label))?;
            setpriority_process(None, -20).context("cannot raise a thread's priority")?;
        }
        Ok(())
    }
}

/// The IPv6 address that an `ip` command adds, if it adds one.
fn added_v6(command: &str) -> Option<Ipv6Addr> {
    let (address, _length) = command.strip_prefix("address add ")?.split_once('/')?;
    address.parse().ok()
}

/// Runs `work` on a thread of its own: entering a namespace changes a thread for good.
fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

fn unshare(kind: UnshareFlags) -> Result<()> {
    // SAFETY: only called on threads that were made for this and end after it.
    unsafe { unshare_unsafe(kind) }.context("unshare")
}

/// Gives the calling thread mounts of its own, and returns its network and its mounts.
fn with_own_mounts() -> Result<(OwnedFd, OwnedFd)> {
    unshare(UnshareFlags::NEWNS)?;
    let none = None::<&std::ffi::CStr>;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot detach from the host's mounts")?;
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), none).context("cannot mount /sys")?;
    mount("bpf", "/sys/fs/bpf", "bpf", MountFlags::empty(), none)
        .context("cannot mount /sys/fs/bpf")?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), none).context("cannot mount /run")?;
    let open = |kind| fs::File::open(format!("/proc/thread-self/ns/{kind}"));
    Ok((open("net")?.into(), open("mnt")?.into()))
}

fn join(net: &impl AsFd, mnt: &impl AsFd) -> io::Result<()> {
    move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))?;
    move_into_link_name_space(mnt.as_fd(), Some(LinkNameSpaceType::Mount))?;
    Ok(())
}
