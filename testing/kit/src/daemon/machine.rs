//! A machine in a box: this system's systemd as PID 1, with the files of the package or without.
//!
//! It has namespaces of its own for everything but users, and an overlay over this machine's root, so that
//! files written inside vanish with it. Nothing that is enabled here is started there. It ends with the
//! process that booted it, however that ends. Only an empty control group may then be left, which the next
//! machine removes.
#![expect(unsafe_code, reason = "namespaces, and what a child does before it becomes systemd")]

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{Signal, chdir, pivot_root, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::Value;
use tcpguard_support::contents::{AGENT, Format, Source};

use crate::net::netns::Netns;

/// Program of PID 1.
const SYSTEMD: &str = "/lib/systemd/systemd";
/// The unit that systemd starts.
const TARGET: &str = "tcpguard-e2e.target";
/// Directory in which the machine's root is put together.
const ROOT: &str = "/run/root";
/// Prefix of the names of machines' control groups. The ID of the process and a number follow.
const CGROUP: &str = "tcpguard-e2e.";

/// The journal for people.
const JOURNAL: &str = "journalctl --quiet --no-pager --output=short-monotonic";

const BOOT_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Machine {
    init: Child,
    cgroup: Cgroup,
    /// Ends the thread that keeps the machine alive.
    hang_up: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Machine {
    /// Boots a machine with `files` (path inside and content) on it, beside those of the package that
    /// a service needs, laid out as [`AGENT`] says. No package manager knows of them.
    ///
    /// # Errors
    /// Without root, systemd or `TCPGUARD_BIN`, or when it is not up within 20 s.
    pub fn boot(files: &[(&str, &str)]) -> Result<Self> {
        let machine = Self::with(package()?, files)?;
        machine.exec("systemd-sysusers")?;
        Ok(machine)
    }

    /// Boots a machine with `files` on it and nothing of the package.
    ///
    /// # Errors
    /// Without root or systemd, or when it is not up within 20 s.
    pub fn bare(files: &[(&str, &str)]) -> Result<Self> {
        Self::with(Vec::new(), files)
    }

    fn with(mut all: Vec<OnDisk>, files: &[(&str, &str)]) -> Result<Self> {
        ensure!(
            Path::new(SYSTEMD).is_file(),
            "{SYSTEMD} is missing: install systemd (`cargo xtask setup` does)"
        );
        all.extend(OWN.iter().chain(files).map(|(path, content)| OnDisk {
            path: (*path).to_owned(),
            content: content.as_bytes().to_vec(),
            mode: 0o644,
        }));
        let (hang_up, end) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        // The kernel ends a machine with the thread that booted it.
        let keeper = thread::Builder::new().name("machine".to_owned()).spawn(move || {
            if sender.send(start(&all)).is_ok() {
                // Nothing is ever sent; this returns when the machine is dropped.
                let _ = end.recv();
            }
        })?;
        let (init, cgroup) = receiver.recv().context("the machine's thread panicked")??;
        let machine = Self { init, cgroup, hang_up: Some(hang_up), keeper: Some(keeper) };
        let begun = Instant::now();
        while !machine.output(&format!("systemctl is-active {TARGET}"))?.status.success() {
            ensure!(begun.elapsed() < BOOT_LIMIT, "{TARGET} is not up after {BOOT_LIMIT:?}");
            sleep(POLL);
        }
        Ok(machine)
    }

    /// Returns the machine's network namespace, for a lab around it.
    pub fn network(&self) -> Result<Netns> {
        Netns::of_process("machine", self.init.id())
    }

    /// Runs a command line (split at spaces) as root inside.
    ///
    /// # Errors
    /// When it cannot be started. Its exit code is not checked.
    pub fn output(&self, line: &str) -> Result<Output> {
        let target = self.init.id().to_string();
        Command::new("nsenter")
            .args(["--target", &target, "--mount", "--uts", "--ipc", "--net", "--pid", "--"])
            .args(line.split_whitespace())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .context("cannot run nsenter: install util-linux")
    }

    /// Runs a command line as root inside and returns its output.
    ///
    /// # Errors
    /// When it fails; the message carries its stderr.
    pub fn exec(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
        ensure!(output.status.success(), "{line:?}: {}: {}", output.status, err.trim());
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// A property of the service, as `systemctl show` has it.
    pub fn property(&self, name: &str) -> Result<String> {
        Ok(self
            .exec(&format!("systemctl show tcpguard --property {name} --value"))?
            .trim()
            .to_owned())
    }

    /// The service's process id inside, when it has one.
    pub fn main_pid(&self) -> Result<Option<u32>> {
        let pid = self.property("MainPID")?.parse()?;
        Ok((pid != 0).then_some(pid))
    }

    /// Waits until the service runs with another process than `before` and is ready. Returns its
    /// process id.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn replaced(&self, before: u32, limit: Duration) -> Result<u32> {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if let Some(pid) = self.main_pid()?.filter(|pid| *pid != before)
                && self.property("ActiveState")? == "active"
            {
                return Ok(pid);
            }
            sleep(POLL);
        }
        bail!("no other process than {before} within {limit:?}: {}", self.log()?)
    }

    /// Returns the path outside the machine of the path `inside`.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init.id()))
    }

    /// Entries of the journal that fulfil `matches`, the oldest first, each with all its fields.
    pub fn journal(&self, matches: &str) -> Result<Vec<Value>> {
        // After this, everything sent before is in the journal.
        self.exec("journalctl --sync")?;
        entries(&self.exec(&format!("journalctl --quiet --all --output=json {matches}"))?)
    }

    /// The service's log, in human-readable form.
    pub fn log(&self) -> Result<String> {
        self.exec(&format!("{JOURNAL} --unit tcpguard"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.exec(&format!("{JOURNAL} --unit tcpguard*"));
            let log = log.unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("--- the machine's log of the services\n{log}---");
        }
        // Killing PID 1 kills all others; waiting for it waits for all.
        if let Err(error) = self.init.kill().and_then(|()| self.init.wait()) {
            eprintln!("the machine cannot be ended: {error}");
        }
        self.hang_up.take();
        if self.keeper.take().is_some_and(|keeper| keeper.join().is_err()) {
            eprintln!("the machine's thread panicked");
        }
        self.cgroup.remove();
    }
}

/// Entries in journalctl's JSON, one a line.
pub fn entries(json: &str) -> Result<Vec<Value>> {
    json.lines().map(|line| serde_json::from_str(line).context("not an entry")).collect()
}

/// A file that is put on a machine before it boots.
struct OnDisk {
    path: String,
    content: Vec<u8>,
    mode: u32,
}

/// Files that turn a copy of this system into a machine.
const OWN: [(&str, &str); 4] = [
    (
        "/etc/systemd/system/tcpguard-e2e.target",
        "[Unit]\nDescription=The machine of a test\nDefaultDependencies=no\n\
         Requires=systemd-journald.service\nAfter=systemd-journald.service\nAllowIsolate=yes\n",
    ),
    (
        "/etc/systemd/journald.conf.d/tcpguard-e2e.conf",
        "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\n",
    ),
    ("/etc/machine-id", "7c9f0a5e3d1b4862a4d0c6b8e2f19375\n"),
    ("/etc/fstab", ""),
];

/// The files of the package but for those that the program writes itself, for people only.
fn package() -> Result<Vec<OnDisk>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for item in AGENT.items.iter().filter(|item| item.is_in(Format::Deb)) {
        let sources = match item.source {
            Source::Program => vec![(crate::daemon::agent::binary()?, item.to.to_owned())],
            _ => item.files(&root)?,
        };
        for (from, path) in sources {
            let content =
                fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            files.push(OnDisk { path, content, mode: item.mode });
        }
    }
    Ok(files)
}

/// Boots, and leaves this thread in the machine's namespaces.
fn start(files: &[OnDisk]) -> Result<(Child, Cgroup)> {
    let namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWPID;
    // SAFETY: this thread was made for the machine, and relies on nothing that changes here.
    unsafe { unshare_unsafe(namespaces) }.context("cannot make namespaces: run as root")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let cgroup = make_root()?;
    files.iter().try_for_each(install)?;

    let processes = File::options().write(true).open(cgroup.path().join("cgroup.procs"))?;
    let enter = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::io::write(&processes, b"0")?;
        // SAFETY: this process has one thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let none = None::<&CStr>;
        mount(c"cgroup2", c"/run/root/sys/fs/cgroup", c"cgroup2", flags, none)?;
        // pivot_root(2), "pivot_root(".", ".")": the old root ends up above the new one.
        chdir(c"/run/root")?;
        pivot_root(c".", c".")?;
        unmount(c".", UnmountFlags::DETACH)?;
        Ok(chdir(c"/")?)
    };
    let mut systemd = Command::new(SYSTEMD);
    systemd
        .args(["--system", "--log-target=journal", "--show-status=no"])
        .arg(format!("--unit={TARGET}"))
        .env_clear()
        .env("container", "tcpguard-e2e")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: the closure only makes system calls; it neither allocates nor takes locks.
    unsafe { systemd.pre_exec(enter) };
    match systemd.spawn() {
        Ok(init) => Ok((init, cgroup)),
        Err(error) => {
            cgroup.remove();
            Err(error).with_context(|| format!("cannot start {SYSTEMD}"))
        }
    }
}

/// Puts the machine's file systems together below [`ROOT`].
fn make_root() -> Result<Cgroup> {
    let none = MountFlags::empty();
    let on = |path: &str| format!("{ROOT}{path}");
    let fresh = |kind: &str, path: &str, options: Option<&CStr>| {
        mount(kind, path, kind, none, options)
            .with_context(|| format!("cannot mount {kind} at {path}"))
    };
    fresh("tmpfs", "/run", None)?;
    for directory in ["/run/changes", "/run/work", ROOT, "/run/cgroup"] {
        fs::create_dir(directory)?;
    }
    let layers = c"lowerdir=/,upperdir=/run/changes,workdir=/run/work";
    fresh("overlay", ROOT, Some(layers))?;
    // Of this machine's units only those are started that the target asks for.
    for units in ["/etc/systemd/system", "/usr/lib/systemd/system"] {
        for entry in fs::read_dir(on(units))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wants") {
                fs::remove_dir_all(&path)?;
            }
        }
    }
    // State that tcpguard left on this machine has no meaning on that one.
    for directory in ["/etc/tcpguard", "/var/lib/tcpguard"] {
        match fs::remove_dir_all(on(directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    fresh("sysfs", &on("/sys"), None)?;
    // As systemd mounts it on a real machine: for root alone.
    fresh("bpf", &on("/sys/fs/bpf"), Some(c"mode=0700"))?;
    for path in ["/run", "/tmp", "/dev"] {
        fresh("tmpfs", &on(path), Some(c"mode=0755"))?;
    }
    fs::set_permissions(on("/tmp"), fs::Permissions::from_mode(0o1777))?;
    // Directories that `PrivateDevices=` takes over.
    for directory in ["/dev/pts", "/dev/shm"] {
        fs::create_dir(on(directory))?;
    }
    fresh("devpts", &on("/dev/pts"), Some(c"newinstance,ptmxmode=0666"))?;
    symlink("pts/ptmx", on("/dev/ptmx"))?;
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        let node = on(&format!("/dev/{name}"));
        mknodat(CWD, &node, FileType::CharacterDevice, Mode::empty(), makedev(major, minor))?;
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666))?;
    }
    fresh("cgroup2", "/run/cgroup", None)?;
    Cgroup::create(Path::new("/run/cgroup"))
}

fn install(file: &OnDisk) -> Result<()> {
    let path = PathBuf::from(format!("{ROOT}{}", file.path));
    let cannot = || format!("cannot install {}", file.path);
    fs::create_dir_all(path.parent().context("a path without a directory")?)
        .with_context(cannot)?;
    fs::write(&path, &file.content).with_context(cannot)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).with_context(cannot)
}

/// The machine's control group.
#[derive(Debug)]
struct Cgroup {
    /// Directory of the control groups: a descriptor, because the mount is in another namespace.
    hierarchy: File,
    name: String,
}

impl Cgroup {
    fn create(hierarchy: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        for entry in fs::read_dir(hierarchy)?.flatten() {
            if is_left(&entry.file_name().to_string_lossy()) {
                let _ = remove_cgroups(&entry.path());
            }
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{CGROUP}{}.{number}", std::process::id());
        fs::create_dir(hierarchy.join(&name)).context("cannot make a control group")?;
        Ok(Self { hierarchy: File::open(hierarchy)?, name })
    }

    fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.hierarchy.as_raw_fd(), self.name))
    }

    fn remove(&self) {
        // The last processes leave it a moment after their end.
        let begun = Instant::now();
        while let Err(error) = remove_cgroups(&self.path()) {
            if begun.elapsed() > Duration::from_secs(2) {
                eprintln!("the control group {} is left: {error}", self.name);
                return;
            }
            sleep(POLL);
        }
    }
}

/// Returns whether it is the control group of a machine that has lost its process. The control group of a live
/// process may be empty for a moment, too.
fn is_left(name: &str) -> bool {
    let owner = name.strip_prefix(CGROUP).and_then(|rest| rest.split('.').next());
    owner.is_some_and(|process| !Path::new("/proc").join(process).exists())
}

/// Removes a control group and those below it. Their files are no obstacle.
fn remove_cgroups(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
