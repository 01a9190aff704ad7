//! What the operator decided: the configuration files and the command line of `tcpguard run`.
//!
//! [`mod@file`] is what was written, [`fragments`] are the files beside the main one, [`resolved`] is
//! what all of it means together with the defaults and the command line, and [`origin`] where each
//! setting comes from. Every mistake is reported at once, each with its file, line and column.
//!
//! Thresholds are listed once, in the engine ([`tcpguard_engine::thresholds`]), which also judges them.
//! Their keys, what `tcpguard config show` prints and the file of `tcpguard config init` come from
//! there.

mod blocks;
pub mod file;
pub mod fragments;
mod keys;
pub mod origin;
mod prefix;
mod problem;
mod reader;
pub mod resolved;
pub mod show;
mod states;
mod value;

pub use blocks::ListenerConfig;
pub use origin::{Held, Origin, Origins};
pub use prefix::parse_prefix;
pub use problem::{ConfigError, Problem, Spot};
pub use resolved::{BeyondBounds, Config, CookieChoice, ModeSource, Overrides, XdpMode};
pub use states::StateLimits;
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

/// A configuration, and what it was made of.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// Where its settings come from.
    pub origins: Origins,
}

/// [`read`] without what it was made of.
///
/// # Errors
///
/// Those of [`read`].
pub fn load(named: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigError> {
    read(named, overrides).map(|loaded| loaded.config)
}

/// Reads the file `named` on the command line, or the default file if there is one, then the files of
/// the directory beside it ([`fragments::list`]), and puts `overrides` on top.
///
/// # Errors
///
/// A file cannot be read, or some contain mistakes: then all of them.
pub fn read(named: Option<&Path>, overrides: Overrides) -> Result<Loaded, ConfigError> {
    let main = named.unwrap_or(Path::new(DEFAULT_PATH));
    let mut texts = Vec::new();
    match std::fs::read(main) {
        Ok(bytes) => texts.push((main.to_path_buf(), bytes)),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => {}
        Err(source) => {
            let path = main.to_path_buf();
            return Err(ConfigError::Unreadable { path, part: false, source });
        }
    }
    for path in fragments::list(main)? {
        match std::fs::read(&path) {
            Ok(bytes) => texts.push((path, bytes)),
            Err(source) => return Err(ConfigError::Unreadable { path, part: true, source }),
        }
    }
    put_together(main, texts, overrides)
}

/// Resolves the configuration `text` that was read from `path`, and nothing beside it.
///
/// # Errors
///
/// All mistakes in it.
pub fn parse(path: &Path, text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
    put_together(path, vec![(path.to_path_buf(), text.into())], overrides)
        .map(|loaded| loaded.config)
}

/// `texts` are those of the files in the order in which they count.
fn put_together(
    main: &Path,
    texts: Vec<(PathBuf, Vec<u8>)>,
    overrides: Overrides,
) -> Result<Loaded, ConfigError> {
    let mut all = file::File::default();
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for (path, bytes) in texts {
        match String::from_utf8(bytes) {
            Ok(text) => {
                let (file, found) = file::parse(&path, &text);
                all.merge(file);
                problems.extend(found);
            }
            Err(error) => problems.push(Problem::no_text(&path, &error)),
        }
        files.push(path);
    }
    let origins = Origins::of(&all, &overrides);
    let path = files.first().filter(|first| *first == main).cloned();
    match resolved::resolve(all, path, overrides) {
        Ok(config) if problems.is_empty() => return Ok(Loaded { config, files, origins }),
        Ok(_) => {}
        Err(contradictions) => problems.extend(contradictions),
    }
    let order = |problem: &Problem| {
        let file = files.iter().position(|path| **path == *problem.at.path);
        (file, problem.at.line, problem.at.column)
    };
    problems.sort_by_key(order);
    Err(ConfigError::Invalid { path: main.to_path_buf(), problems })
}
