//! One archive with everything that a remote helper would ask for.
//!
//! Addresses are in it unless pseudonyms are asked for. Secrets are not: neither the state file nor
//! anything else below the state directory is read, nor the kernel's command line or the environment of
//! any process.

mod pseudonyms;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use pseudonyms::Pseudonyms;
use tcpguard_host::json::{self, Named};
use tcpguard_host::time::Time;

use crate::cli::documents::Printed;
use crate::config::fragments;

/// Files that are taken as they are: counters, none of which names an address.
const FILES: [&str; 8] = [
    "/proc/version",
    "/proc/meminfo",
    "/proc/net/softnet_stat",
    "/proc/thread-self/net/netstat",
    "/proc/thread-self/net/snmp",
    "/proc/thread-self/net/sockstat",
    "/proc/thread-self/net/sockstat6",
    "/sys/kernel/security/lockdown",
];
/// Names in the archive of the outputs of commands, and these commands.
const COMMANDS: [(&str, &[&str]); 5] = [
    ("links.txt", &["ip", "-statistics", "-details", "link"]),
    ("routes.txt", &["ip", "route", "show", "table", "all"]),
    ("unit.txt", &["systemctl", "cat", "--no-pager", "tcpguard.service"]),
    ("service.txt", &["systemctl", "status", "--no-pager", "--lines=0", "tcpguard.service"]),
    (
        "journal.txt",
        &[
            "journalctl",
            "--no-pager",
            "--quiet",
            "--unit=tcpguard",
            "--lines=2000",
            "--output=short-iso",
        ],
    ),
];
/// Longest time that each command may take, in seconds.
const LIMIT_SECONDS: u32 = 10;
/// The most that is taken of one file or command, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// One file of the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Name of the file in the archive.
    pub name: String,
    pub text: String,
}

impl Member {
    /// A file of this name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// A document, as `--json` prints it.
    ///
    /// # Errors
    /// When it has no form in JSON.
    pub fn document<T: Printed>(name: &str, document: &T) -> serde_json::Result<Self> {
        let mut json = json::bytes(&Named { schema: T::ID, document })?;
        json.push(b'\n');
        Ok(Self::new(name, String::from_utf8_lossy(&json)))
    }
}

/// The members from this host beside the documents of tcpguard: files, outputs of commands, and the
/// configuration at `config` with the files beside it. A file that is missing, and a command without
/// output in time, is left out.
pub fn of_host(config: &Path) -> Vec<Member> {
    let mut members = Vec::new();
    let beside = fragments::list(config).unwrap_or_default();
    let beside = beside.iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        Some((format!("{}/{name}", fragments::DIRECTORY), path.to_str()?))
    });
    let config = config.to_str().map(|path| ("tcpguard.toml".to_owned(), path));
    let files = FILES.iter().map(|path| (path.trim_start_matches('/').to_owned(), *path));
    for (name, path) in files.chain(config).chain(beside) {
        if let Ok(bytes) = fs::read(path) {
            members.push(Member::new(name, first(&bytes)));
        }
    }
    for (name, line) in COMMANDS {
        members.extend(said(line, LIMIT_SECONDS).map(|text| Member::new(name, text)));
    }
    members
}

/// The output of a command within `limit` seconds: on a host in trouble any of them may hang, and the
/// archive is wanted all the same. `None` if the command is missing or prints nothing.
fn said(line: &[&str], limit: u32) -> Option<String> {
    let output = Command::new("timeout")
        .args(["--kill-after=1", &limit.to_string()])
        .args(line)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    (!output.stdout.is_empty()).then(|| first(&output.stdout))
}

fn first(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]).into_owned()
}

/// Returns `members` with addresses and the host's name replaced; the same address by the same pseudonym
/// within one archive, and by another one in the next.
pub fn anonymous(members: Vec<Member>, hostname: &str) -> Vec<Member> {
    let pseudonyms = Pseudonyms::new(std::hash::RandomState::new(), hostname);
    members
        .into_iter()
        .map(|member| Member { text: pseudonyms.replace(&member.text), ..member })
        .collect()
}

/// Writes the archive: tar, compressed with gzip, for its owner only. Never over a file that is there.
///
/// # Errors
/// When the file exists or cannot be written; then there is none.
pub fn write(path: &Path, members: &[Member], at: Time) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = pack(file, members, at);
    if written.is_err() {
        // Half an archive is useless.
        let _ = fs::remove_file(path);
    }
    written
}

fn pack(file: fs::File, members: &[Member], at: Time) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(at.0.as_second().max(0).unsigned_abs());
    for Member { name, text } in members {
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, format!("tcpguard-doctor/{name}"), text.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn now() -> Time {
        Time("2026-01-02T03:04:05Z".parse().expect("a time"))
    }

    #[test]
    fn an_archive_is_written_once_and_for_its_owner() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("bundle.tar.gz");
        let members = [Member::new("doctor.json", "{}"), Member::new("x".repeat(120), "x\n")];
        write(&path, &members, now()).expect("written");
        let mode = fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let error = write(&path, &members, now()).expect_err("it exists");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let unpacked = Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(dir.path()).status();
        assert!(unpacked.expect("tar").success());
        for Member { name, text } in &members {
            let read = fs::read_to_string(dir.path().join("tcpguard-doctor").join(name));
            assert_eq!(&read.expect(name), text);
        }
        assert!(write(&dir.path().join("no/where"), &members, now()).is_err());
    }

    #[test]
    fn a_command_that_hangs_is_given_up_and_one_that_is_not_there_is_left_out() {
        assert_eq!(said(&["echo", "here"], LIMIT_SECONDS), Some("here\n".to_owned()));
        assert_eq!(said(&["no-such-command-as-this"], LIMIT_SECONDS), None);
        let start = std::time::Instant::now();
        assert_eq!(said(&["sleep", "60"], 1), None);
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    }

    #[test]
    fn this_host_shows_its_counters_and_no_secret() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = dir.path().join("tcpguard.toml");
        fs::write(&config, "mode = \"observe\"\n").expect("file");
        fs::create_dir(dir.path().join("conf.d")).expect("directory");
        fs::write(dir.path().join("conf.d/10-web.toml"), "").expect("file");
        let members = of_host(&config);
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        for name in ["proc/meminfo", "proc/net/softnet_stat", "tcpguard.toml", "conf.d/10-web.toml"]
        {
            assert!(names.contains(&name), "{names:?}");
        }
        for secret in ["state", "cmdline", "environ", "shadow"] {
            assert!(!names.iter().any(|name| name.contains(secret)), "{names:?}");
        }
    }
}
