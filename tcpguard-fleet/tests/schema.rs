//! The schemas in `docs/fleet/schema` are those of the types.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use schemars::{Schema, schema_for};
use tcpguard_fleet::collect::FleetStatus;
use tcpguard_fleet::daemon::status::ProcessStatus;
use tcpguard_fleet::document::Document;
use tcpguard_fleet::hook::document::Hook;
use tcpguard_support::schema::printed;

/// After a change of the types: `UPDATE_EXPECTED=1 cargo test -p tcpguard-fleet --test schema`, and read the
/// difference. Within one version of a document it may only add.
#[test]
fn the_shipped_schemas_are_those_of_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fleet/schema");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let schemas: [(&str, Schema); 4] = [
        ("bus.json", schema_for!(Document)),
        ("fleet-status.json", schema_for!(FleetStatus)),
        ("fleet-process.json", schema_for!(ProcessStatus)),
        ("hook.json", schema_for!(Hook)),
    ];
    let mut stale = Vec::new();
    for (file, schema) in &schemas {
        let path = directory.join(file);
        let found = printed(&serde_json::to_value(schema).expect("JSON"));
        if update {
            fs::create_dir_all(&directory).expect("a directory");
            fs::write(&path, &found).expect("written");
        }
        if fs::read_to_string(&path).unwrap_or_default() != found {
            stale.push(format!("{} is not that of the types:\n{found}", path.display()));
        }
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
    let shipped = fs::read_dir(&directory).expect("a directory");
    let shipped: BTreeSet<String> = shipped
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(shipped, schemas.iter().map(|(file, _)| (*file).to_owned()).collect());
}
