//! The JSON documents: everything that `--json` prints.
//!
//! The first field of each, `schema`, is its name and version. `docs/schema` holds a JSON Schema of
//! each, made from its type, comments included. Definitions of several documents stand in `definitions.json`.
//! Within one version a document only grows.

use serde::Serialize;

use super::{
    allow, block, config, confirm, detach, import, mitigation, mode, reload, restore_sysctls,
    rules, unblock, version,
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
    /// The NAME of `tcpguard.NAME/1`. `docs/schema` holds the schema in `NAME.json`.
    pub fn name(&self) -> &'static str {
        let name = self.id.strip_prefix("tcpguard.").unwrap_or(self.id);
        name.split_once('/').map_or(name, |(name, _version)| name)
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
    documents::capture::SCHEMA => documents::CaptureResult,
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
    "tcpguard.confirm/1" => confirm::Confirmed,
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
mod tests;
