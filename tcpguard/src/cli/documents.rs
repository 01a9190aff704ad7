//! The JSON documents: everything that `--json` prints.
//!
//! The first field of each, `schema`, is its name and version. `docs/schema` holds a JSON Schema of
//! each, made from its type, comments included; within one version a document only grows.

use serde::Serialize;

use super::{
    allow, block, config, detach, import, mitigation, mode, reload, restore_sysctls, rules,
    unblock, version,
};
use crate::documents::{
    self, Alerts, Event, ExportedRules, FullIncident, Judged, Status, history, monitoring, replay,
    selftest, timeline,
};

/// A type that is printed as a document of its own.
pub trait Printed: Serialize {
    /// Its name and version, the value of its field `schema`: `tcpguard.NAME/1`.
    const ID: &'static str;
}

/// One kind of document.
pub struct Document {
    /// The type's [`Printed::ID`].
    pub id: &'static str,
    /// The schema of its type.
    #[cfg(test)]
    pub schema: fn() -> schemars::Schema,
}

impl Document {
    /// The file of its schema in `docs/schema`: `NAME.json`.
    pub fn file(&self) -> String {
        let name = self.id.strip_prefix("tcpguard.").unwrap_or(self.id);
        let name = name.split('/').next().unwrap_or(name);
        format!("{name}.json")
    }
}

macro_rules! documents {
    ($($id:expr => $document:ty,)*) => {
        $(impl Printed for $document {
            const ID: &'static str = $id;
        })*

        /// Every kind of document.
        pub const ALL: &[Document] = &[$(Document {
            id: $id,
            #[cfg(test)]
            schema: || schemars::schema_for!($document),
        }),*];
    };
}

documents! {
    documents::SCHEMA => Status,
    monitoring::SCHEMA => monitoring::Report,
    documents::INCIDENT_SCHEMA => FullIncident,
    documents::EXPLANATION_SCHEMA => Judged,
    documents::RULES_SCHEMA => ExportedRules,
    selftest::SCHEMA => selftest::SelfTest,
    replay::SCHEMA => replay::Replay,
    timeline::TIMELINE_SCHEMA => timeline::Timeline,
    history::HISTORY_SCHEMA => history::History,
    documents::ALERTS_SCHEMA => Alerts,
    documents::EVENT_SCHEMA => Event,
    tcpguard_host::states::SCHEMA => tcpguard_host::states::StatesReport,
    tcpguard_host::listeners::SCHEMA => tcpguard_host::listeners::ListenersReport,
    tcpguard_host::doctor::SCHEMA => tcpguard_host::doctor::Doctor,
    tcpguard_host::tune::SCHEMA => tcpguard_host::tune::Tune,
    tcpguard_host::tune::change::SCHEMA => tcpguard_host::tune::change::Changed,
    "tcpguard.block/1" => block::Blocked,
    "tcpguard.unblock/1" => unblock::Unblocked,
    "tcpguard.allow/1" => allow::Allowance,
    "tcpguard.disallow/1" => allow::Disallowed,
    "tcpguard.rule-list/1" => rules::RuleList,
    "tcpguard.import/1" => import::Import,
    "tcpguard.rules-confirm/1" => rules::Confirmed,
    "tcpguard.mode/1" => mode::ModeShown,
    "tcpguard.mitigation/1" => mitigation::Ordered,
    "tcpguard.reload/1" => reload::Reloaded,
    "tcpguard.detach/1" => detach::Detached,
    "tcpguard.restore-sysctls/1" => restore_sysctls::Restored,
    "tcpguard.config-check/1" => config::Check,
    "tcpguard.config-show/1" => config::Settings,
    "tcpguard.config-init/1" => config::Written,
    "tcpguard.version/1" => version::Version,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// After a change of the types: `UPDATE_EXPECTED=1 cargo test -p tcpguard documents`, and read
    /// the difference. Within one version of a document it may only add.
    #[test]
    fn the_shipped_schemas_are_those_of_the_types() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
        let update = std::env::var_os("UPDATE_EXPECTED").is_some();
        let mut stale = Vec::new();
        for document in ALL {
            let path = directory.join(document.file());
            let found = serde_json::to_string_pretty(&(document.schema)()).unwrap() + "\n";
            if update {
                std::fs::write(&path, &found).unwrap();
            }
            if std::fs::read_to_string(&path).unwrap_or_default() != found {
                stale.push(format!("{} is not what the types say:\n{found}", path.display()));
            }
        }
        assert!(stale.is_empty(), "{}", stale.join("\n"));
        let shipped = std::fs::read_dir(&directory).unwrap();
        let shipped: BTreeSet<String> =
            shipped.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let files: BTreeSet<String> = ALL.iter().map(Document::file).collect();
        assert_eq!(shipped, files, "a schema a document, each with a name of its own");
        assert_eq!(files.len(), ALL.len());
    }

    #[test]
    fn every_document_says_first_what_it_is() {
        for document in ALL {
            let schema = serde_json::to_value((document.schema)()).unwrap();
            assert_eq!(schema["required"][0], "schema", "{}", document.id);
            let described =
                schema["properties"]["schema"]["description"].as_str().unwrap_or_default();
            assert!(
                described.contains(&format!("`{}`", document.id)),
                "{}: {described}",
                document.id
            );
        }
    }
}
