//! The schemas in `docs/schema` are made from the types, comments included.

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{AttackInFull, Judged, Status, Time};

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// After a change of the types: `UPDATE_EXPECTED=1 cargo test -p tcpguard schema`, and read the
/// difference. Within version 1 of a document it may only add.
#[test]
fn the_shipped_schemas_are_those_of_the_types() {
    for (name, schema) in [
        ("status", schemars::schema_for!(Status)),
        ("attack", schemars::schema_for!(AttackInFull)),
        ("explanation", schemars::schema_for!(Judged)),
        ("timeline", schemars::schema_for!(crate::report::Timeline)),
    ] {
        let mut found = serde_json::to_string_pretty(&schema).unwrap();
        found.push('\n');
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
        let path = path.join(name).with_extension("json");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let shipped = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(shipped == found, "{} is not what the types say:\n{found}", path.display());
    }
}
