//! The sysctls that decide how this network namespace takes connections.

use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::Error;

/// Reads sysctls below a directory. Those under `net` are of the network namespace of the calling
/// thread, regardless of the process that mounted `/proc`.
#[derive(Clone, Debug)]
pub struct Sysctls {
    root: PathBuf,
}

/// Settings of this network namespace for TCP listeners; `null` where the kernel has no such setting.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TcpSettings {
    /// `net.ipv4.tcp_syncookies`: 0 never, 1 when the SYN queue is full, 2 always.
    #[serde(rename = "tcp_syncookies")]
    pub syncookies: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`: has an effect only without SYN cookies.
    #[serde(rename = "tcp_max_syn_backlog")]
    pub max_syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_abort_on_overflow`: 1 resets clients whose third ACK finds the accept queue full.
    #[serde(rename = "tcp_abort_on_overflow")]
    pub abort_on_overflow: Option<u64>,
    /// Sysctl `net.core.somaxconn`: upper limit of every `listen` backlog.
    pub somaxconn: Option<u64>,
}

/// The settings that decide which connections a program may hand to the kernel; `None` where the kernel
/// has no such setting.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CookieSettings {
    /// `net.ipv4.tcp_syncookies`: at 0 the kernel takes no cookie, regardless of its origin.
    pub syncookies: Option<u64>,
    /// `net.ipv4.tcp_timestamps`: 0 without.
    pub timestamps: Option<u64>,
    /// `net.ipv4.tcp_window_scaling`: 0 without.
    pub window_scaling: Option<u64>,
    /// `net.ipv4.tcp_sack`: 0 without.
    pub sack: Option<u64>,
    /// `net.ipv4.tcp_ecn`: 0 without; all other values accept it.
    pub ecn: Option<u64>,
}

impl Default for Sysctls {
    fn default() -> Self {
        Self::below("/proc/sys")
    }
}

impl Sysctls {
    /// Reads below `root` instead of `/proc/sys`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The file behind a name such as `net.ipv4.tcp_syncookies`. As in sysctl(8), a `/` in the
    /// name stands for a `.` in an interface's name.
    pub fn path(&self, name: &str) -> PathBuf {
        let relative: String = name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect();
        self.root.join(relative.trim_start_matches('/'))
    }

    /// The value without its line break, or `None` if the kernel has no such setting.
    pub fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.path(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Reads like [`Sysctls::read`], for a setting that is one number.
    pub fn read_number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.read(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(malformed(&self.path(name), &text)),
        }
    }

    /// The ports that connections of this host are given, both ends included
    /// (`net.ipv4.ip_local_port_range`).
    pub fn local_ports(&self) -> Result<Option<RangeInclusive<u16>>, Error> {
        const NAME: &str = "net.ipv4.ip_local_port_range";
        let Some(text) = self.read(NAME)? else { return Ok(None) };
        let range = || {
            let (first, last) = text.split_once(char::is_whitespace)?;
            Some(first.parse().ok()?..=last.trim().parse().ok()?)
        };
        match range() {
            Some(range) => Ok(Some(range)),
            None => Err(Error::Malformed {
                path: self.path(NAME),
                detail: format!("{text:?} is not two ports"),
            }),
        }
    }

    /// Sets it. A service needs `CAP_NET_ADMIN` for sysctls below `net`, and systemd must leave the
    /// file writable to it.
    ///
    /// # Errors
    /// [`Error::Write`], also where the kernel has no such setting.
    pub fn write(&self, name: &str, value: &str) -> Result<(), Error> {
        let path = self.path(name);
        let open = std::fs::OpenOptions::new().write(true).truncate(true).open(&path);
        open.and_then(|mut file| file.write_all(value.as_bytes()))
            .map_err(|source| Error::Write { path, source })
    }

    /// The settings of the TCP listener path.
    pub fn tcp(&self) -> Result<TcpSettings, Error> {
        Ok(TcpSettings {
            syncookies: self.read_number("net.ipv4.tcp_syncookies")?,
            max_syn_backlog: self.read_number("net.ipv4.tcp_max_syn_backlog")?,
            abort_on_overflow: self.read_number("net.ipv4.tcp_abort_on_overflow")?,
            somaxconn: self.read_number("net.core.somaxconn")?,
        })
    }

    /// The settings that decide about connections that a program hands to the kernel.
    pub fn cookies(&self) -> Result<CookieSettings, Error> {
        Ok(CookieSettings {
            syncookies: self.read_number("net.ipv4.tcp_syncookies")?,
            timestamps: self.read_number("net.ipv4.tcp_timestamps")?,
            window_scaling: self.read_number("net.ipv4.tcp_window_scaling")?,
            sack: self.read_number("net.ipv4.tcp_sack")?,
            ecn: self.read_number("net.ipv4.tcp_ecn")?,
        })
    }
}

fn malformed(path: &Path, text: &str) -> Error {
    Error::Malformed { path: path.into(), detail: format!("{text:?} is not a number") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn fixture(files: &[(&str, &str)]) -> (tempfile::TempDir, Sysctls) {
        let root = tempfile::tempdir().expect("temporary directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("directory");
            fs::write(path, text).expect("file");
        }
        let sysctls = Sysctls::below(root.path());
        (root, sysctls)
    }

    #[test]
    fn settings_are_read_by_their_sysctl_names() {
        let (_root, sysctls) = fixture(&[
            ("net/ipv4/tcp_syncookies", "1\n"),
            ("net/ipv4/tcp_max_syn_backlog", "4096\n"),
            ("net/core/somaxconn", "65535\n"),
        ]);
        assert_eq!(
            sysctls.tcp().expect("readable"),
            TcpSettings {
                syncookies: Some(1),
                max_syn_backlog: Some(4096),
                somaxconn: Some(65535),
                ..TcpSettings::default()
            }
        );
    }

    #[test]
    fn the_local_ports_are_what_the_kernel_says() {
        for (text, expected) in [
            ("32768\t60999\n", Some(32_768..=60_999)),
            ("1024 65535\n", Some(1_024..=65_535)),
            ("32768\n", None),
            ("\n", None),
            ("1 x\n", None),
            ("1 65536\n", None),
        ] {
            let (_root, sysctls) = fixture(&[("net/ipv4/ip_local_port_range", text)]);
            assert_eq!(sysctls.local_ports().ok().flatten(), expected, "{text:?}");
        }
        let (_root, sysctls) = fixture(&[]);
        assert_eq!(sysctls.local_ports().expect("no such setting"), None);
    }

    #[test]
    fn a_dot_in_an_interface_name_is_written_as_a_slash() {
        let (_root, sysctls) = fixture(&[("net/ipv4/conf/eth0.7/rp_filter", "2\n")]);
        let found = sysctls.read_number("net.ipv4.conf.eth0/7.rp_filter");
        assert_eq!(found.expect("readable"), Some(2));
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let sysctls = Sysctls::below("/proc/sys");
        for name in ["../../etc/passwd", "/etc/passwd", ".etc.passwd", "..", "net..ipv4"] {
            let path = sysctls.path(name);
            assert!(path.starts_with("/proc/sys"), "{name} → {}", path.display());
            let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
            assert!(!climbs, "{name} → {}", path.display());
        }
    }

    #[test]
    fn what_is_no_number_is_an_error_that_names_the_file() {
        let (_root, sysctls) = fixture(&[("net/ipv4/tcp_syncookies", "yes\n")]);
        let error = sysctls.tcp().expect_err("not a number").to_string();
        assert!(error.contains("net/ipv4/tcp_syncookies"), "{error}");
        assert!(error.contains("\"yes\""), "{error}");
    }

    #[test]
    fn the_running_kernel_has_a_limit_for_backlogs() {
        let found = Sysctls::default().read_number("net.core.somaxconn").expect("readable");
        assert!(found.is_some_and(|limit| limit > 0), "{found:?}");
    }
}
