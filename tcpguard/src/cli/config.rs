//! `tcpguard config`

use std::path::Path;

use super::exit::CliError;
use super::session::Session;
use crate::config::{self, Config, ConfigError, Overrides, mode_name};

pub(super) fn check(file: Option<&Path>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let loaded = config::load(file, Overrides::default());
    if session.json {
        session.print_json(&report(&loaded))?;
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
        let values: serde_json::Map<_, _> = settings
            .iter()
            .map(|setting| {
                let told = serde_json::json!({
                    "value": setting.value, "default": setting.is_default,
                });
                (setting.key.to_owned(), told)
            })
            .collect();
        return session.print_json(&serde_json::json!({ "path": config.path, "settings": values }));
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
        return session.print_json(&serde_json::json!({ "written": path }));
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
        _ => CliError::Refused(format!("cannot write {}: {error}", path.display())),
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

fn report(loaded: &Result<Config, ConfigError>) -> serde_json::Value {
    let problem =
        |line: Option<usize>, text: &str| serde_json::json!({ "line": line, "text": text });
    match loaded {
        Ok(config) => serde_json::json!({ "valid": true, "path": config.path, "problems": [] }),
        Err(error @ ConfigError::Unreadable { path, .. }) => serde_json::json!({
            "valid": false, "path": path, "problems": [problem(None, &error.to_string())],
        }),
        Err(ConfigError::Invalid { path, problems }) => serde_json::json!({
            "valid": false,
            "path": path,
            "problems": problems
                .iter()
                .map(|found| problem(Some(found.line), &found.text))
                .collect::<Vec<_>>(),
        }),
    }
}
