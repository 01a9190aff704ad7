//! `tcpguard config`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use tcpguard_host::hint::{Failure, Hint as _};
use tcpguard_host::linux::{self, interfaces};

use super::args::{ConfigVerb, ShowArgs};
use super::error::CliError;
use super::session::Session;
use crate::config::{self, Config, ConfigError, Held, Loaded, Origin, Overrides, fragments};
use crate::control::proto::Effective;
use crate::control::{ClientError, Request, Response};

/// Output of `tcpguard config check --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Check {
    /// True if the configuration is valid, so that an agent would apply it.
    valid: bool,
    /// Path of the main file; `null` where there is none, or where a file beside it cannot be read.
    path: Option<PathBuf>,
    /// Paths of all files, in the order in which they were read; empty if the configuration is not valid.
    files: Vec<PathBuf>,
    /// All mistakes, in the order in which the files are read.
    problems: Vec<Mistake>,
    /// Problems that are not mistakes, but keep an agent with this configuration from protecting this host. Empty
    /// if the configuration is not valid.
    warnings: Vec<String>,
}

/// One mistake in a configuration.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Mistake {
    /// Path of the file with the mistake.
    path: PathBuf,
    /// Line of the mistake, counted from 1; `null` for the file as a whole.
    line: Option<usize>,
    /// Column of the mistake, counted from 1 in characters; `null` for the file as a whole.
    column: Option<usize>,
    /// Description of the mistake, with the correction.
    text: String,
}

/// Output of `tcpguard config show --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Settings {
    /// True if the settings are those of the running agent, rather than those with which an agent would start.
    effective: bool,
    /// Path of the main file; `null` where there is none.
    path: Option<PathBuf>,
    /// Paths of all files, in the order in which they were read.
    files: Vec<PathBuf>,
    /// Settings by their keys. A key begins with its section; in a block it is `listener[":443"].mode`.
    settings: BTreeMap<String, Setting>,
}

/// One setting with its value and the source of the value.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Setting {
    /// Value in effect, written as in the file.
    value: serde_json::Value,
    /// True if the value is the default.
    default: bool,
    /// Source of the value.
    origin: Origin,
}

/// Output of `tcpguard config init --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Written {
    /// Path of the file that was written.
    written: PathBuf,
}

pub(super) fn run(verb: Option<ConfigVerb>, session: &mut Session<'_>) -> anyhow::Result<()> {
    match verb {
        None => show(&ShowArgs::default(), session),
        Some(ConfigVerb::Show(args)) => show(&args, session),
        Some(ConfigVerb::Check { file, config }) => check(file.or(config).as_deref(), session),
        Some(ConfigVerb::Init { file }) => init(file.as_deref(), session),
    }
}

fn check(file: Option<&Path>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let loaded = config::read(file, Overrides::default());
    let warnings = loaded.as_ref().map_or_else(|_| Vec::new(), |loaded| warnings(&loaded.config));
    if session.json {
        let warnings = warnings.into_iter().map(|warning| warning.message).collect();
        session.print_document(&report(&loaded, warnings))?;
        return Ok(loaded.map(drop)?);
    }
    let loaded = loaded?;
    session.print(&format!("{}\n", valid(&loaded)))?;
    for Failure { message, hint } in &warnings {
        session.warn(message, hint);
    }
    if loaded.config.interfaces.names.is_empty() {
        return Ok(());
    }
    session.say(match session.client.call(Request::Mode) {
        Err(ClientError::NotRunning { .. }) => "to start with it: systemctl start tcpguard",
        _ => "to apply it: tcpguard reload",
    });
    Ok(())
}

/// Returns the problems that are not mistakes, but keep an agent from starting or from protecting the host.
fn warnings(config: &Config) -> Vec<Failure> {
    if config.interfaces.names.is_empty() {
        let message = "no interface is named, so a start or reload is refused";
        return vec![Failure::new(message, "set [interfaces] names; interfaces: ip -br link")];
    }
    let missing =
        config.interfaces.names.iter().filter_map(|name| match interfaces::by_name(name) {
            Err(error @ linux::Error::NoInterface { .. }) => {
                Some(Failure::new(error.to_string(), error.hint()))
            }
            // Another error does not mean that the interface is missing.
            Ok(_) | Err(_) => None,
        });
    missing.collect()
}

/// Prints every setting with the value with which an agent would start, or that the running agent has.
fn show(args: &ShowArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let Effective { path, files, settings: held } = match args.effective {
        true => session.client.ask(Request::Effective, Response::try_as_effective)?,
        false => {
            let file = args.file.as_deref().or(args.config.as_deref());
            let loaded = config::read(file, Overrides::default())?;
            let settings = Held::all(&loaded.config, &loaded.origins);
            Effective { path: loaded.config.path, files: loaded.files, settings }
        }
    };
    if session.json {
        let setting = |held: Held| {
            let Held { key, value, default, origin } = held;
            (key, Setting { value, default, origin })
        };
        return session.print_document(&Settings {
            effective: args.effective,
            path,
            files,
            settings: held.into_iter().map(setting).collect(),
        });
    }
    let mut text = String::new();
    for Held { key, value, origin, .. } in held {
        let from = if args.origin { origin.to_string() } else { origin.in_brief().to_owned() };
        let line = format!("{key} = {value}");
        text.push_str(&format!("{line:<40} # {from}\n"));
    }
    session.print(&text)?;
    session.say(match (args.effective, files.is_empty()) {
        (true, _) => "settings of the files, which may be newer: tcpguard config show",
        (false, true) => "no file, these are the defaults; to write one: tcpguard config init",
        (false, false) => "settings of the running agent: tcpguard config show --effective",
    });
    Ok(())
}

/// Writes the file that explains every setting.
fn init(file: Option<&Path>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let path = file.unwrap_or(Path::new(config::DEFAULT_PATH));
    if path == Path::new("-") {
        return Ok(session.print(config::keys::PACKAGED)?);
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| refused(directory, &error))?;
    }
    // An existing file is never overwritten.
    let written = std::fs::File::create_new(path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, config::keys::PACKAGED.as_bytes())
    });
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} exists already", path.display());
            return Err(CliError::refused(message, "tcpguard config show").into());
        }
        Err(error) => return Err(refused(path, &error).into()),
    }
    if session.json {
        return session.print_document(&Written { written: path.to_owned() });
    }
    session.print(&format!("wrote {}\n", path.display()))?;
    session.say("name the interfaces in it, then: tcpguard config check");
    Ok(())
}

fn refused(path: &Path, error: &std::io::Error) -> CliError {
    CliError::file("write", path, error, "name another file: tcpguard config init FILE")
}

fn valid(loaded: &Loaded) -> String {
    let Loaded { config, files, .. } = loaded;
    let parts = files.len() - usize::from(config.path.is_some());
    let main = config.path.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH));
    let beside = match parts {
        0 => String::new(),
        1 => format!(" and one file of {}", fragments::directory(main).display()),
        _ => format!(" and {parts} files of {}", fragments::directory(main).display()),
    };
    let files = match (&config.path, parts) {
        (Some(path), _) => format!("{}{beside}: valid", path.display()),
        (None, 0) => format!("{} does not exist, the defaults hold", main.display()),
        (None, _) => format!("no {}{beside}: valid", main.display()),
    };
    let interfaces = if config.interfaces.names.is_empty() {
        "none".to_owned()
    } else {
        config.interfaces.names.join(" ")
    };
    format!("{files}; mode {}, interfaces: {interfaces}", config.mode.name())
}

fn report(loaded: &Result<Loaded, ConfigError>, warnings: Vec<String>) -> Check {
    let (path, files, problems) = match loaded {
        Ok(loaded) => (loaded.config.path.clone(), loaded.files.clone(), Vec::new()),
        Err(error @ ConfigError::Unreadable { path, part, .. }) => {
            let text = error.to_string();
            let mistake = Mistake { path: path.clone(), line: None, column: None, text };
            ((!part).then(|| path.clone()), Vec::new(), vec![mistake])
        }
        Err(ConfigError::Invalid { path, problems }) => {
            let mistake = |found: &config::Problem| Mistake {
                path: found.at.path.to_path_buf(),
                line: Some(found.at.line),
                column: Some(found.at.column),
                text: found.text.clone(),
            };
            (Some(path.clone()), Vec::new(), problems.iter().map(mistake).collect())
        }
    };
    Check { valid: loaded.is_ok(), path, files, problems, warnings }
}
