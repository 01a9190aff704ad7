//! What the operator decided: the configuration file and the command line of `tcpguard run`.
//!
//! [`mod@file`] is what was written, [`resolved`] is what it means together with the defaults and the
//! command line. Every mistake in a file is reported at once, each with its line.
//!
//! Thresholds are listed once, in the engine ([`tcpguard_engine::thresholds`]), which also judges them.
//! Their keys, what `tcpguard config show` prints and the file of `tcpguard config init` come from
//! there.

pub mod file;
mod keys;
mod prefix;
mod problem;
mod reader;
pub mod resolved;
pub mod show;
mod value;

pub use prefix::parse_prefix;
pub use problem::{ConfigError, Problem};
pub use resolved::{Config, CookieChoice, ModeSource, Overrides, XdpMode};
pub(crate) use value::XDP_MODES;
pub use value::{MODES, mode_name};

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where the configuration is when the command line names no other file.
pub const DEFAULT_PATH: &str = "/etc/tcpguard/tcpguard.toml";
/// Where the sockets are when the command line names no other directory.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/tcpguard";
/// Where what must survive a restart is kept when the command line names no other directory.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/tcpguard";
/// Where links are pinned when the command line names no other directory.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/tcpguard";

/// Reads the file `named` on the command line, or the default file if there is one, and puts
/// `overrides` on top.
///
/// # Errors
///
/// The file cannot be read, or it contains mistakes: then all of them.
pub fn load(named: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_PATH));
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, overrides),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => {
            Ok(resolved::resolve(file::File::default(), None, overrides)
                .expect("an empty file is valid"))
        }
        Err(source) => Err(ConfigError::Unreadable { path: path.to_path_buf(), source }),
    }
}

/// Resolves the configuration `text` that was read from `path`.
///
/// # Errors
///
/// All mistakes in it.
pub fn parse(path: &Path, text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
    let (file, mut problems) = file::parse(text);
    let resolved = resolved::resolve(file, Some(PathBuf::from(path)), overrides);
    match resolved {
        Ok(config) if problems.is_empty() => return Ok(config),
        Ok(_) => {}
        Err(contradictions) => problems.extend(contradictions),
    }
    problems.sort_by_key(|problem| problem.line);
    Err(ConfigError::Invalid { path: path.to_path_buf(), problems })
}
