//! `tcpguard config`

use std::path::Path;

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
        session.say("apply it: systemctl restart tcpguard");
    }
    Ok(())
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
