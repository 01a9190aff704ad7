//! Every setting with the value that holds.

use serde_json::{Value, json};

use super::value::{COOKIE_BACKENDS, MODES, XDP_MODES};
use super::{Config, Overrides, file, resolved};

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its key as in the file, with its section.
    pub key: &'static str,
    /// The value that holds; as JSON it is written as in the file.
    pub value: Value,
    /// Whether it is the default.
    pub is_default: bool,
}

/// Every setting of `config`, in the order of the file.
pub fn settings(config: &Config) -> Vec<Setting> {
    let defaults = resolved::resolve(file::File::default(), None, Overrides::default())
        .expect("an empty file is valid");
    let pairs = values(config).into_iter().zip(values(&defaults));
    pairs
        .map(|((key, value), (_, default))| {
            let is_default = value == default;
            Setting { key, value, is_default }
        })
        .collect()
}

fn values(config: &Config) -> Vec<(&'static str, Value)> {
    let detection = &config.detection;
    let prefixes: Vec<String> = config.protect_prefixes.iter().map(ToString::to_string).collect();
    vec![
        ("mode", named(&MODES, config.mode)),
        ("interfaces.names", json!(config.interfaces)),
        ("interfaces.xdp_mode", named(&XDP_MODES, config.xdp_mode)),
        ("detection.poll_ms", json!(detection.poll.as_millis() as u64)),
        ("detection.fast_min", json!(detection.fast_min)),
        ("detection.fast_ratio", json!(detection.fast_ratio)),
        ("detection.occupancy_on", json!(detection.occupancy_on)),
        ("detection.occupancy_off", json!(detection.occupancy_off)),
        ("detection.clear_s", json!(detection.clear.as_secs())),
        ("detection.armed_s", json!(detection.armed.as_secs())),
        ("policy.drop_illegal_flags", json!(config.drop_illegal_flags)),
        ("policy.drop_strays", json!(config.drop_strays)),
        ("cookies.backend", named(&COOKIE_BACKENDS, config.cookie_backend)),
        ("cookies.answers_per_network", json!(config.answers_per_network)),
        ("cookies.answers_total", json!(config.answers_total)),
        ("protect.prefixes", json!(prefixes)),
        ("protect.ssh_ports", json!(config.ssh_ports)),
        ("listeners.ignore_ports", json!(config.ignore_ports)),
        ("control.group", json!(config.group)),
    ]
}

fn named<T: PartialEq>(names: &[(&str, T)], value: T) -> Value {
    json!(names.iter().find(|(_, named)| *named == value).map(|(name, _)| *name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The file that is shipped explains every setting, and no other, with its default.
    #[test]
    fn the_shipped_file_shows_every_setting_and_its_default() {
        let shipped = include_str!("../../../packaging/tcpguard.toml");
        // Lines such as `#key = value` are settings; explanations have a blank after the sign.
        let active: String = shipped
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if setting.starts_with(|first: char| first.is_ascii_lowercase()) => {
                    setting
                }
                _ => line,
            })
            .filter(|line| *line != "group = \"adm\"")
            .map(|line| format!("{line}\n"))
            .collect();
        let config = crate::config::parse(Path::new("shipped"), &active, Overrides::default());
        let config = config.unwrap();
        for setting in settings(&config) {
            assert!(setting.is_default, "{setting:?}");
            let key = setting.key.rsplit('.').next().unwrap();
            assert!(shipped.contains(&format!("\n#{key} = ")), "{key} is not explained");
        }
        let explained =
            shipped.lines().filter(|line| line.starts_with('#') && line.contains(" = "));
        let explained = explained.filter(|line| !line.starts_with("# ")).count();
        assert_eq!(explained, settings(&config).len());
    }

    #[test]
    fn what_a_file_says_is_told_from_a_default() {
        let text =
            "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n[detection]\npoll_ms = 250\n";
        let config = crate::config::parse(Path::new("file"), text, Overrides::default()).unwrap();
        let changed: Vec<_> = settings(&config)
            .into_iter()
            .filter(|setting| !setting.is_default)
            .map(|setting| format!("{} = {}", setting.key, setting.value))
            .collect();
        assert_eq!(changed, ["mode = \"enforce\"", "interfaces.names = [\"eth0\"]"]);
    }
}
