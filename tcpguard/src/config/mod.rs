//! The operator's configuration: the configuration files and the command line of `tcpguard run`.
//!
//! [`sections`] has the keys of a file, [`fragments`] are the files beside the main one, [`resolved`] is
//! the result of all of them together with the defaults and the command line, and [`origin`] the source
//! of each setting. [`Sources`] reads the files. Every mistake is reported at once, each with its file,
//! line and column ([`tcpguard_host::toml_file`]).
//!
//! Thresholds are listed once, in the engine ([`tcpguard_engine::thresholds`]), which also judges them. The
//! explanations of all keys are those of the packaged file ([`keys`]), which `tcpguard config init` writes. A new
//! key is a field of its section and some lines of that file.

pub mod fragments;
pub mod keys;
pub mod origin;
mod problem;
pub mod resolved;
pub mod sections;
pub mod show;
mod sources;
mod value;

pub use origin::{Held, Origin, Origins};
pub use problem::ConfigError;
pub use resolved::{Config, ModeSource, Overrides};
pub use sections::{BeyondBounds, CookieChoice, ListenerConfig, StateLimits};
pub use sources::Sources;
pub use tcpguard_host::toml_file::{Problem, Spot};
pub use tcpguard_host::toml_value::parse_prefix;
pub use value::MODES;
pub(crate) use value::XDP_MODES;

pub use crate::bpf::PIN_DIR as DEFAULT_PIN_DIR;

use std::path::{Path, PathBuf};

/// Path of the configuration when the command line names no other file.
pub const DEFAULT_PATH: &str = "/etc/tcpguard/tcpguard.toml";
/// Directory of the sockets when the command line names no other directory.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/tcpguard";
/// Group of the socket for the fleet process.
pub const DEFAULT_FLEET_GROUP: &str = "tcpguard-fleet";
/// Directory of the state that must survive a restart when the command line names no other one.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/tcpguard";

/// A configuration, and its sources.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// Source of each setting.
    pub origins: Origins,
}

/// [`read`] without the sources.
pub fn load(named: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigError> {
    read(named, overrides).map(|loaded| loaded.config)
}

/// Reads the files ([`Sources::read`]) and puts `overrides` on top.
///
/// # Errors
///
/// A file cannot be read, or some contain mistakes: then all of them.
pub fn read(named: Option<&Path>, overrides: Overrides) -> Result<Loaded, ConfigError> {
    Sources::read(named)?.resolve(overrides)
}

/// Resolves the configuration `text` that was read from `path`, and nothing beside it.
pub fn parse(path: &Path, text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
    let (main, files) = (path.to_path_buf(), vec![(path.to_path_buf(), text.into())]);
    Sources { main, files }.resolve(overrides).map(|loaded| loaded.config)
}
