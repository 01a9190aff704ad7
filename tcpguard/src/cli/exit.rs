//! Exit codes of the process.

use std::io::ErrorKind;
use std::process::ExitCode;

use super::error::CliError;
use crate::bpf::KernelError;
use crate::config::ConfigError;
use crate::control::{BindError, ClientError, RefusalKind};
use crate::daemon::Refused;
use crate::replay::capture::CaptureError;

/// Outcome of a verb.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    Done,
    Failed,
    /// The command line or the configuration is invalid (clap uses the same code).
    Invalid,
    /// The agent does not run (as LSB init scripts and `systemctl status` say it), or a capture cannot be read.
    Unavailable,
    Denied,
    NotFound,
    /// For monitoring: something needs attention.
    Warning,
    /// For monitoring: something is badly wrong.
    Critical,
    /// For monitoring: the state is unknown, for any reason.
    Unknown,
}

/// The codes of every verb that is not in [`OWN`].
const TABLE: [(Exit, &str); 6] = [
    (Exit::Done, "success"),
    (Exit::Failed, "refused or failed"),
    (Exit::Invalid, "invalid command line or configuration"),
    (Exit::Unavailable, "agent not running, or capture unreadable"),
    (Exit::Denied, "permission denied"),
    (Exit::NotFound, "not found: rule, incident, listener, interface or file"),
];

/// Verbs with other meanings of some codes.
const OWN: [(&str, &[(Exit, &str)]); 4] = [
    (
        "check",
        &[
            (Exit::Done, "OK"),
            (Exit::Warning, "WARNING"),
            (Exit::Critical, "CRITICAL, also if no agent answers"),
            (Exit::Unknown, "UNKNOWN, also for an invalid command line"),
        ],
    ),
    (
        "doctor",
        &[
            (Exit::Done, "no finding, or notices"),
            (Exit::Failed, "warnings"),
            (Exit::Invalid, "invalid command line"),
            (Exit::Unavailable, "critical findings"),
            (Exit::Denied, "incomplete: some checks need root"),
        ],
    ),
    (
        "replay",
        &[
            (Exit::Done, "no incident of the severity --fail-on"),
            (Exit::Failed, "incidents"),
            (Exit::Invalid, "invalid command line or configuration"),
            (
                Exit::Unavailable,
                "the capture, or most of its packets, cannot be judged, or SYNs are missing in it",
            ),
            (Exit::Denied, "permission denied"),
            (Exit::NotFound, "file not found"),
        ],
    ),
    (
        "run",
        &[
            (Exit::Done, "stopped"),
            (Exit::Failed, "failed; the service restarts"),
            (Exit::Invalid, "invalid command line or configuration; the service does not restart"),
            (Exit::Denied, "not permitted by the kernel; the service does not restart"),
            (Exit::NotFound, "configuration file not found; the service does not restart"),
        ],
    ),
];

impl From<()> for Exit {
    fn from((): ()) -> Self {
        Self::Done
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Exit {
    /// The exit code. Those for monitoring are the ones that its plugins have by convention
    /// (Monitoring Plugins Development Guidelines, "Plugin Return Codes").
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed | Self::Warning => 1,
            Self::Invalid | Self::Critical => 2,
            Self::Unavailable | Self::Unknown => 3,
            Self::Denied => 4,
            Self::NotFound => 5,
        }
    }

    /// The codes of a verb with their meanings.
    pub fn table(verb: &str) -> &'static [(Self, &'static str)] {
        let own = OWN.iter().find(|(name, _)| *name == verb);
        own.map_or(&TABLE[..], |(_, table)| table)
    }

    /// Returns the outcome of an invalid command line with this verb. To monitoring a 2 would say that
    /// something is badly wrong with the host.
    pub fn of_usage(verb: Option<&str>) -> Self {
        if verb == Some("check") { Self::Unknown } else { Self::Invalid }
    }

    /// Returns the outcome of an error. A reader that closed the pipe has read enough: that is success.
    pub fn of(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref() {
            of_client(error)
        } else if let Some(error) = error.downcast_ref() {
            of_kernel(error)
        } else if let Some(error) = error.downcast_ref() {
            of_config(error)
        } else if let Some(error) = error.downcast_ref() {
            of_provenance(error)
        } else if let Some(error) = error.downcast_ref() {
            of_sockets(error)
        } else if let Some(error) = error.downcast_ref() {
            of_capture(error)
        } else {
            error.downcast_ref().map_or(Self::Failed, of_cli)
        }
    }

    /// Returns the outcome of a file that cannot be read or written.
    pub fn of_file(error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied => Self::Denied,
            ErrorKind::NotFound => Self::NotFound,
            _ => Self::Failed,
        }
    }
}

fn of_client(error: &ClientError) -> Exit {
    match error {
        ClientError::NotRunning { .. } | ClientError::Broken { .. } => Exit::Unavailable,
        ClientError::Denied { .. } => Exit::Denied,
        ClientError::Foreign { .. } => Exit::Failed,
        ClientError::Refused(refusal) => match refusal.kind {
            RefusalKind::NotFound => Exit::NotFound,
            RefusalKind::Invalid => Exit::Invalid,
            RefusalKind::ReadOnly => Exit::Denied,
            RefusalKind::Stopping => Exit::Unavailable,
            _ => Exit::Failed,
        },
    }
}

fn of_kernel(error: &KernelError) -> Exit {
    match error {
        // Another start would find the same kernel: `RestartPreventExitStatus=` of the service.
        KernelError::Permission { .. } | KernelError::Lacking { .. } => Exit::Denied,
        KernelError::Pin { error, .. } if error.kind() == ErrorKind::PermissionDenied => {
            Exit::Denied
        }
        _ => Exit::Failed,
    }
}

fn of_sockets(error: &BindError) -> Exit {
    match error {
        BindError::Io { error, .. } if error.kind() == ErrorKind::PermissionDenied => Exit::Denied,
        _ => Exit::Failed,
    }
}

fn of_config(error: &ConfigError) -> Exit {
    match error {
        ConfigError::Unreadable { source, .. } => Exit::of_file(source),
        ConfigError::Invalid { .. } => Exit::Invalid,
    }
}

fn of_provenance(error: &Refused) -> Exit {
    match error {
        Refused::Config(error) => of_config(error),
        Refused::NoInterface { .. } => Exit::Invalid,
    }
}

fn of_capture(error: &CaptureError) -> Exit {
    match error {
        CaptureError::Open { error, .. } => match Exit::of_file(error) {
            // A 1 would say that there are incidents.
            Exit::Failed => Exit::Unavailable,
            exit => exit,
        },
        CaptureError::Foreign { .. } | CaptureError::Cut { .. } | CaptureError::Damaged { .. } => {
            Exit::Unavailable
        }
    }
}

fn of_cli(error: &CliError) -> Exit {
    match error {
        CliError::Output(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        CliError::Output(_) => Exit::Failed,
        CliError::Failed { exit, .. } => *exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_may_not_be_made_are_a_matter_of_permission() {
        for (kind, exit) in
            [(ErrorKind::PermissionDenied, Exit::Denied), (ErrorKind::NotFound, Exit::Failed)]
        {
            let (what, path) = ("create", "/run/tcpguard".into());
            let error = BindError::Io { what, path, error: kind.into() };
            assert_eq!(Exit::of(&error.into()), exit);
        }
    }

    #[test]
    fn a_mistyped_check_is_no_alarm() {
        for (verb, code) in [(Some("check"), 3), (Some("status"), 2), (None, 2)] {
            assert_eq!(Exit::of_usage(verb).code(), code, "{verb:?}");
        }
    }

    #[test]
    fn the_codes_of_each_table_ascend() {
        for (verb, table) in OWN.into_iter().chain([("status", &TABLE[..])]) {
            assert_eq!(Exit::table(verb), table);
            assert!(table.is_sorted_by(|(one, _), (next, _)| one.code() < next.code()), "{verb}");
        }
    }

    #[test]
    fn the_page_of_commands_has_this_table() {
        let page = include_str!("../../../docs/commands.md");
        for (exit, meaning) in Exit::table("status") {
            let row = format!("\n| {} | {meaning} |\n", exit.code());
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn a_missing_file_has_one_code() {
        let missing = || std::io::Error::from(ErrorKind::NotFound);
        let path = || std::path::PathBuf::from("/etc/tcpguard/tcpguard.toml");
        let config = ConfigError::Unreadable { path: path(), part: false, source: missing() };
        let capture = CaptureError::Open { file: "flood.pcap".to_owned(), error: missing() };
        for error in [config.into(), capture.into()] {
            assert_eq!(Exit::of(&error), Exit::NotFound, "{error}");
        }
    }
}
