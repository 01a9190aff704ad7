//! Every setting with the value that holds.

use serde_json::Value;
use tcpguard_host::toml_file::Sections as _;

use super::Config;
use super::keys;

#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its key as in the file, with its section; of a block `listener[":443"].mode`.
    pub key: String,
    /// The value that holds; as JSON it is written as in the file.
    pub value: Value,
    /// True if it is the default.
    pub is_default: bool,
}

/// Every setting of `config`, in the order of the file. Interfaces and listeners with settings of their
/// own follow with these.
pub fn settings(config: &Config) -> Vec<Setting> {
    let (defaults, sections) = (Config::default(), sections_of(config));
    let default_sections = sections_of(&defaults);
    let everywhere = keys::keys().map(|key| {
        let value = key.value(config, &sections);
        let is_default = value == key.value(&defaults, &default_sections);
        Setting { key: key.full_name(), value, is_default }
    });
    let blocks = Config::NAMED.iter().flat_map(|&(kind, id, _)| {
        let blocks = sections[kind].as_array().into_iter().flatten();
        blocks.filter_map(Value::as_object).flat_map(move |block| {
            let name = block[id].as_str().unwrap_or_default();
            let own = block.iter().filter(move |(key, value)| *key != id && !value.is_null());
            own.map(move |(key, value)| Setting {
                key: format!("{kind}[\"{name}\"].{key}"),
                value: value.clone(),
                is_default: false,
            })
        })
    });
    everywhere.chain(blocks).collect()
}

fn sections_of(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Overrides;

    #[test]
    fn a_value_of_a_file_is_distinguished_from_a_default() {
        let text =
            "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n[detection]\nclear_s = 30\n";
        let config = crate::config::parse(Path::new("file"), text, Overrides::default()).unwrap();
        let changed: Vec<_> = settings(&config)
            .into_iter()
            .filter(|setting| !setting.is_default)
            .map(|setting| format!("{} = {}", setting.key, setting.value))
            .collect();
        assert_eq!(changed, ["mode = \"enforce\"", "interfaces.names = [\"eth0\"]"]);
    }

    #[test]
    fn what_one_listener_has_of_its_own_is_shown_under_its_name() {
        let text = "[[interface]]\nname = \"eth1\"\nxdp_mode = \"generic\"\n\
                    next_program = \"balancer\"\n\
                    [[listener]]\nat = \":443\"\ncookies = false\n\
                    [[listener]]\nat = \"[2001:db8::1]:25\"\nmode = \"observe\"\nignore = false\n";
        let config = crate::config::parse(Path::new("file"), text, Overrides::default()).unwrap();
        let own = settings(&config).into_iter().filter(|setting| !setting.is_default);
        let shown: Vec<_> =
            own.map(|setting| format!("{} = {}", setting.key, setting.value)).collect();
        assert_eq!(
            shown,
            [
                "interface[\"eth1\"].next_program = \"balancer\"",
                "interface[\"eth1\"].xdp_mode = \"generic\"",
                "listener[\":443\"].cookies = false",
                "listener[\"[2001:db8::1]:25\"].ignore = false",
                "listener[\"[2001:db8::1]:25\"].mode = \"observe\"",
            ]
        );
    }
}
