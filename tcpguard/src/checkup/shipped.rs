//! Holds the schemas in `docs/schema` to the types of the documents here.

use std::path::Path;

/// After a change of the types: `UPDATE_EXPECTED=1 cargo test -p tcpguard schema`, and read the
/// difference. Within a version of a document it may only add.
#[track_caller]
pub(super) fn assert_shipped(name: &str, schema: &schemars::Schema) {
    let mut found = serde_json::to_string_pretty(schema).expect("JSON");
    found.push('\n');
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/schema/{name}.json"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &found).expect("the schema");
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(shipped == found, "docs/schema/{name}.json is not what the types say:\n{found}");
}
