//! Processes that hold sockets, and the numbers of descriptors that processes use, from `/proc`.
//!
//! Only the needed entries are read: one `readlink` a descriptor, and nothing else of a process that
//! holds none of the sockets. Processes that the kernel does not show to this user are no error. The
//! answer says that there are such.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use super::Error;
use crate::escape;

/// Directory in which the kernel shows processes.
pub const PROC: &str = "/proc";

/// Bytes of a command line that are read: a class path may be longer, the program's name is not.
const COMMAND_LINE: u64 = 64 * 1024;
/// Most names of open archives that are kept of a process.
const JARS: usize = 512;

/// A process that holds sockets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Process {
    pub pid: u32,
    /// Its name, at most 15 bytes, as it can be printed: see [`DescriptorUse::comm`].
    pub comm: String,
    /// Its arguments, the program first; empty if it has wiped them.
    pub cmdline: Vec<String>,
    /// File names of the Java archives that it has open.
    pub jars: Vec<String>,
    pub fds: u64,
    /// Descriptors that it may use (`RLIMIT_NOFILE`, the soft limit); `None` for any number.
    pub fd_limit: Option<u64>,
    /// Time since it was started; `None` if it has ended.
    pub age: Option<Duration>,
}

/// The processes that hold the requested sockets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Owners {
    processes: Vec<Process>,
    /// Inode and index into `processes`, sorted.
    held: Vec<(u32, u32)>,
    /// True if the kernel hides the descriptors of some processes from this user.
    pub denied: bool,
}

impl Owners {
    /// Builds the index from processes, each with the inodes of its sockets.
    pub fn new(processes: impl IntoIterator<Item = (Process, Vec<u32>)>, denied: bool) -> Self {
        let mut owners = Self { denied, ..Self::default() };
        for (process, inodes) in processes {
            owners.add(process, inodes);
        }
        owners.sort();
        owners
    }

    /// The processes that hold the socket with this inode, by id; several share it after a fork.
    pub fn of(&self, inode: u32) -> impl Iterator<Item = &Process> + Clone {
        let first = self.held.partition_point(|(held, _)| *held < inode);
        let held = self.held[first..].iter().take_while(move |(held, _)| *held == inode);
        held.filter_map(|(_, index)| self.processes.get(*index as usize))
    }

    fn add(&mut self, process: Process, inodes: Vec<u32>) {
        let index = self.processes.len() as u32;
        self.held.extend(inodes.into_iter().map(|inode| (inode, index)));
        self.processes.push(process);
    }

    fn sort(&mut self) {
        self.held.sort_unstable();
        // A process may hold a socket under two descriptors.
        self.held.dedup();
    }
}

/// The processes that hold the sockets with these inodes. `root` is [`PROC`].
pub fn owners(root: &Path, inodes: &BTreeSet<u32>) -> Result<Owners, Error> {
    let mut owners = Owners::default();
    if inodes.is_empty() {
        return Ok(owners);
    }
    for pid in pids(root)? {
        let directory = root.join(pid.to_string());
        match Descriptors::read(&directory.join("fd"), inodes) {
            Ok(descriptors) if descriptors.sockets.is_empty() => {}
            Ok(descriptors) => {
                let process = Process {
                    pid,
                    comm: comm(&directory),
                    cmdline: command_line(&directory),
                    jars: descriptors.jars,
                    fds: descriptors.count,
                    fd_limit: descriptor_limit(&directory),
                    age: age(&directory),
                };
                owners.add(process, descriptors.sockets);
            }
            Err(Errno::ACCESS | Errno::PERM) => owners.denied = true,
            // It has ended.
            Err(_) => {}
        }
    }
    owners.sort();
    Ok(owners)
}

/// The targets of a process's descriptors.
#[derive(Default)]
struct Descriptors {
    count: u64,
    sockets: Vec<u32>,
    jars: Vec<String>,
}

impl Descriptors {
    /// Reads the directory of descriptors `fd`; of the sockets only those in `wanted`.
    fn read(fd: &Path, wanted: &BTreeSet<u32>) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, fd, flags, Mode::empty())?;
        let mut entries = [MaybeUninit::uninit(); 8 * 1024];
        let mut entries = RawDir::new(&fd, &mut entries);
        let mut link = [0; libc::PATH_MAX as usize];
        let mut found = Self::default();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            found.count += 1;
            // It may have been closed a moment ago.
            let Ok(len) = readlinkat_raw(&fd, name, &mut link[..]) else { continue };
            found.note(&link[..len], wanted);
        }
        Ok(found)
    }

    fn note(&mut self, link: &[u8], wanted: &BTreeSet<u32>) {
        if let Some(inode) = socket_inode(link) {
            if wanted.contains(&inode) {
                self.sockets.push(inode);
            }
        } else if link.ends_with(b".jar") && self.jars.len() < JARS {
            let name = link.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            self.jars.push(String::from_utf8_lossy(name).into_owned());
        }
    }
}

/// The inode in `socket:[4711]`.
fn socket_inode(link: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    let inode: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    // sock_diag has 32 bits for it (`idiag_inode`): cut alike, they are equal again.
    Some(inode as u32)
}

/// Number of descriptors that a process uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DescriptorUse {
    pub pid: u32,
    /// Its name, with a `?` for each character that cannot be seen: a process may give itself any name,
    /// also one that a terminal would obey, or another's name from right to left.
    pub comm: String,
    pub used: u64,
    /// Descriptors that it may use (`RLIMIT_NOFILE`, the soft limit).
    pub limit: u64,
}

/// The use of descriptors of every process that has a limit. `root` is [`PROC`]. The targets of the
/// descriptors are not read, which is why every user sees this of nearly every process (Linux 6.2).
pub fn descriptor_use(root: &Path) -> Result<Vec<DescriptorUse>, Error> {
    let of_process = |pid: u32| {
        let directory = root.join(pid.to_string());
        let used = descriptor_count(&directory.join("fd")).filter(|count| *count > 0)?;
        let limit = descriptor_limit(&directory)?;
        Some(DescriptorUse { pid, comm: comm(&directory), used, limit })
    };
    Ok(pids(root)?.into_iter().filter_map(of_process).collect())
}

/// Counts the descriptors. From Linux 6.2 on the size of the directory is the number of its entries, before
/// it is 0 (`proc_fd_getattr`, fs/proc/fd.c).
fn descriptor_count(fd: &Path) -> Option<u64> {
    match fs::metadata(fd).ok()?.len() {
        0 => fs::read_dir(fd).ok().map(|entries| entries.count() as u64),
        count => Some(count),
    }
}

/// The processes in `root`, in ascending order.
fn pids(root: &Path) -> Result<Vec<u32>, Error> {
    let unreadable = |source| Error::Read { path: root.into(), source };
    let mut pids = Vec::new();
    for entry in fs::read_dir(root).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    pids.sort_unstable();
    Ok(pids)
}

fn comm(directory: &Path) -> String {
    let comm = fs::read(directory.join("comm")).unwrap_or_default();
    let comm = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm));
    escape::shown(&comm).into_owned()
}

fn command_line(directory: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(directory.join("cmdline")) {
        // A process that has ended meanwhile has no arguments.
        let _ = file.take(COMMAND_LINE).read_to_end(&mut bytes);
    }
    let arguments = bytes.split(|byte| *byte == 0).filter(|argument| !argument.is_empty());
    arguments.map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// The 22nd field of `stat`, in ticks since boot, against the clock that the kernel shows to this process
/// (fs/proc/array.c, `do_task_stat`). The second field, the name, may contain anything.
fn age(directory: &Path) -> Option<Duration> {
    let stat = fs::read(directory.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let ticks = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse::<u64>().ok()?;
    let started = Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).ok()?;
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
    now.checked_sub(started)
}

/// The soft limit in `Max open files            1024                 524288               files`
/// (fs/proc/base.c, `proc_pid_limits`).
fn descriptor_limit(directory: &Path) -> Option<u64> {
    let limits = fs::read_to_string(directory.join("limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes
";

    /// A process as the kernel shows it.
    fn process(root: &Path, pid: u32, comm: &str, cmdline: &[u8], links: &[&str]) {
        let directory = root.join(pid.to_string());
        fs::create_dir_all(directory.join("fd")).expect("a directory");
        fs::write(directory.join("comm"), format!("{comm}\n")).expect("a file");
        fs::write(directory.join("cmdline"), cmdline).expect("a file");
        fs::write(directory.join("limits"), LIMITS).expect("a file");
        let stat = format!("{pid} (a) 1 2) S{} 123 0\n", " 0".repeat(18));
        fs::write(directory.join("stat"), stat).expect("a file");
        for (number, link) in links.iter().enumerate() {
            symlink(link, directory.join("fd").join(number.to_string())).expect("a link");
        }
    }

    fn wanted(inodes: &[u32]) -> BTreeSet<u32> {
        inodes.iter().copied().collect()
    }

    #[test]
    fn a_socket_leads_to_every_process_that_holds_it() {
        let root = tempfile::tempdir().expect("a directory");
        let links = ["/dev/null", "socket:[10]", "socket:[11]", "pipe:[12]", "socket:[11]"];
        process(root.path(), 900, "nginx", b"nginx: master process\0\0\0", &links);
        process(root.path(), 901, "nginx", b"nginx: worker process\0", &["socket:[11]"]);
        process(root.path(), 902, "sshd", b"", &["socket:[99]"]);
        process(
            root.path(),
            5000,
            "java",
            b"java\0-jar\0app.jar\0",
            &["socket:[13]", "/opt/app/lib/netty-transport-4.1.100.jar", "anon_inode:[eventpoll]"],
        );
        fs::create_dir(root.path().join("self")).expect("a directory");

        let owners = owners(root.path(), &wanted(&[10, 11, 13, 14])).expect("readable");
        let pids = |inode| owners.of(inode).map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(10), [900]);
        assert_eq!(pids(11), [900, 901]);
        assert!(pids(14).is_empty());
        assert!(pids(99).is_empty(), "nobody asked for it");
        assert!(!owners.denied);
        let expected = Process {
            pid: 5000,
            comm: "java".to_owned(),
            cmdline: ["java", "-jar", "app.jar"].map(str::to_owned).to_vec(),
            jars: vec!["netty-transport-4.1.100.jar".to_owned()],
            fds: 3,
            fd_limit: Some(1024),
            age: None,
        };
        let found = owners.of(13).next().expect("java");
        assert!(found.age.is_some_and(|age| !age.is_zero()), "it started 1.23 s after boot");
        assert_eq!(Process { age: None, ..found.clone() }, expected);
        assert_eq!(owners.of(10).next().expect("nginx").cmdline, ["nginx: master process"]);
    }

    #[test]
    fn a_process_is_as_old_as_the_time_since_its_start() {
        let mut child = Command::new("sleep").arg("9").spawn().expect("a process");
        let root = Path::new(PROC);
        let age = |pid: u32| age(&root.join(pid.to_string())).expect("an age");
        let (younger, own) = (age(child.id()), age(std::process::id()));
        assert!(younger < Duration::from_secs(5) && younger <= own, "{younger:?} {own:?}");
        child.kill().and_then(|()| child.wait()).expect("its end");
        assert_eq!(super::age(&root.join(child.id().to_string())), None);
    }

    #[test]
    fn a_name_that_a_terminal_would_obey_is_shown_harmless() {
        let root = tempfile::tempdir().expect("a directory");
        for (comm, expected) in [
            ("nginx", "nginx"),
            ("a b", "a b"),
            ("\x1b[2J\x07", "?[2J?"),
            ("two\nlines", "two?lines"),
            ("größe", "größe"),
            ("gnp.\u{202e}exe", "gnp.?exe"),
            ("ng\u{200b}inx", "ng?inx"),
            ("\u{2066}a\u{2069}", "?a?"),
        ] {
            fs::write(root.path().join("comm"), format!("{comm}\n")).expect("a file");
            assert_eq!(super::comm(root.path()), expected);
        }
        fs::write(root.path().join("comm"), b"\xff\xfe\n").expect("a file");
        assert_eq!(comm(root.path()), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_process_that_ends_meanwhile_is_no_error() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("77")).expect("a directory");
        assert_eq!(owners(root.path(), &wanted(&[1])).expect("readable"), Owners::default());
        assert_eq!(descriptor_use(root.path()).expect("readable"), []);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_it() {
        let error = owners(Path::new("/no/proc"), &wanted(&[1])).expect_err("nothing is there");
        assert!(error.to_string().starts_with("cannot read /no/proc: "), "{error}");
        assert_eq!(owners(Path::new("/no/proc"), &wanted(&[])).ok(), Some(Owners::default()));
    }

    #[test]
    fn only_a_socket_is_a_socket() {
        for (link, expected) in [
            (&b"socket:[4711]"[..], Some(4711)),
            (b"socket:[4294967298]", Some(2)),
            (b"socket:[]", None),
            (b"socket:[-1]", None),
            (b"socket:[4711", None),
            (b"pipe:[4711]", None),
            (b"/tmp/socket:[4711]", None),
            (b"", None),
            (b"socket:[\xff]", None),
        ] {
            assert_eq!(socket_inode(link), expected, "{}", String::from_utf8_lossy(link));
        }
    }

    #[test]
    fn the_soft_limit_counts_and_none_is_none() {
        let root = tempfile::tempdir().expect("a directory");
        for (text, expected) in [
            (LIMITS, Some(1024)),
            ("Max open files            unlimited            unlimited            files\n", None),
            ("Max open files\n", None),
            ("", None),
        ] {
            fs::write(root.path().join("limits"), text).expect("a file");
            assert_eq!(descriptor_limit(root.path()), expected, "{text}");
        }
    }

    #[test]
    fn this_process_holds_its_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).expect("link");
        let inode = socket_inode(link.as_os_str().as_encoded_bytes()).expect("a socket");
        let owners = owners(Path::new(PROC), &wanted(&[inode])).expect("readable");
        let [process] = owners.of(inode).collect::<Vec<_>>()[..] else { panic!("{owners:?}") };
        assert_eq!(process.pid, std::process::id());
        assert!(process.fds >= 4, "{process:?}");
        assert!(!process.cmdline.is_empty());

        let all = descriptor_use(Path::new(PROC)).expect("readable");
        let own = all.iter().find(|it| it.pid == std::process::id()).expect("this process");
        assert_eq!((&own.comm, Some(own.limit)), (&process.comm, process.fd_limit));
        assert!(own.used >= 4, "{own:?}");
    }
}
