//! `tcpguard config`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::exit::CliError;
use super::session::Session;
use crate::config::{self, Config, ConfigError, Overrides, mode_name};
use crate::documents::Printed;

/// What `tcpguard config check --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Check {
    /// Name and version of this document: `tcpguard.config-check/1`.
    schema: &'static str,
    /// Whether it would be applied.
    valid: bool,
    /// The file; `null` where there is none and the defaults hold.
    path: Option<PathBuf>,
    /// All its mistakes, in the order of their lines.
    problems: Vec<Mistake>,
}

/// One mistake in a configuration.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Mistake {
    /// The line, counted from 1; `null` for the file as a whole.
    line: Option<usize>,
    /// What is wrong and what to write instead.
    text: String,
}

/// What `tcpguard config show --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Settings {
    /// Name and version of this document: `tcpguard.config-show/1`.
    schema: &'static str,
    /// The file; `null` where there is none and the defaults hold.
    path: Option<PathBuf>,
    /// Every setting by its key, with its section.
    settings: BTreeMap<&'static str, Setting>,
}

/// One setting.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Setting {
    /// The value that holds, written as in the file.
    value: serde_json::Value,
    /// Whether it is the default.
    default: bool,
}

/// What `tcpguard config init --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Written {
    /// Name and version of this document: `tcpguard.config-init/1`.
    schema: &'static str,
    /// The file.
    written: PathBuf,
}

pub(super) fn check(file: Option<&Path>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let loaded = config::load(file, Overrides::default());
    if session.json {
        session.print_document(&report(&loaded))?;
    }
    let config = loaded?;
    if !session.json {
        session.print(&format!("{}\n", valid(&config)))?;
        session.say("apply it: tcpguard reload");
    }
    Ok(())
}

/// Every setting with the value that a start would take.
pub(super) fn show(file: Option<&Path>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let config = config::load(file, Overrides::default())?;
    let settings = config::show::settings(&config);
    if session.json {
        let shown = settings.into_iter().map(|setting| {
            (setting.key, Setting { value: setting.value, default: setting.is_default })
        });
        let settings = shown.collect();
        return session.print_document(&Settings {
            schema: Settings::ID,
            path: config.path,
            settings,
        });
    }
    let mut text = String::new();
    for setting in settings {
        let from = if setting.is_default { "default" } else { "file" };
        let line = format!("{} = {}", setting.key, setting.value);
        text.push_str(&format!("{line:<40} # {from}\n"));
    }
    session.print(&text)?;
    session.say(match config.path {
        Some(_) => "what the running agent holds may be older: tcpguard status",
        None => "there is no file; write one: tcpguard config init",
    });
    Ok(())
}

/// Writes the file that explains every setting.
pub(super) fn init(file: Option<&Path>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let path = file.unwrap_or(Path::new(config::DEFAULT_PATH));
    if path == Path::new("-") {
        return Ok(session.print(&config::show::explained())?);
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| refused(directory, &error))?;
    }
    // Never over a file that is there.
    let written = std::fs::File::create_new(path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, config::show::explained().as_bytes())
    });
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(CliError::Refused(format!(
                "{} exists and was left alone; see what holds: tcpguard config show",
                path.display()
            ))
            .into());
        }
        Err(error) => return Err(refused(path, &error).into()),
    }
    if session.json {
        let written = path.to_owned();
        return session.print_document(&Written { schema: Written::ID, written });
    }
    session.print(&format!("wrote {}\n", path.display()))?;
    session.say("name the interfaces in it, then: tcpguard config check");
    Ok(())
}

fn refused(path: &Path, error: &std::io::Error) -> CliError {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            CliError::Denied(format!("permission denied on {}; use sudo", path.display()))
        }
        _ => CliError::Refused(format!(
            "cannot write {}: {error}; name another file: tcpguard config init FILE",
            path.display()
        )),
    }
}

fn valid(config: &Config) -> String {
    let path = match &config.path {
        Some(path) => format!("{}: valid", path.display()),
        None => format!("{} does not exist, the defaults hold", config::DEFAULT_PATH),
    };
    let interfaces = if config.interfaces.is_empty() {
        "no interface named (give -i to tcpguard run)".to_owned()
    } else {
        config.interfaces.join(" ")
    };
    format!("{path}; mode {}, interfaces: {interfaces}", mode_name(config.mode))
}

fn report(loaded: &Result<Config, ConfigError>) -> Check {
    let (path, problems) = match loaded {
        Ok(config) => (config.path.clone(), Vec::new()),
        Err(error @ ConfigError::Unreadable { path, .. }) => {
            (Some(path.clone()), vec![Mistake { line: None, text: error.to_string() }])
        }
        Err(ConfigError::Invalid { path, problems }) => {
            let mistake = |found: &config::Problem| Mistake {
                line: Some(found.line),
                text: found.text.clone(),
            };
            (Some(path.clone()), problems.iter().map(mistake).collect())
        }
    };
    Check { schema: Check::ID, valid: loaded.is_ok(), path, problems }
}
