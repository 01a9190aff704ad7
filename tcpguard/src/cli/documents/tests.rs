//! Tests of the schemas in `docs/schema`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tcpguard_support::schema::printed;

use super::*;

/// After a change of the types: `UPDATE_EXPECTED=1 cargo test -p tcpguard documents`, and read
/// the difference. Within one version of a document it may only add.
#[test]
fn the_shipped_schemas_are_those_of_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let files = files();
    let mut stale = Vec::new();
    for (file, schema) in &files {
        let path = directory.join(file);
        let found = printed(schema);
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
    assert_eq!(shipped, files.into_keys().collect(), "a schema a document");
}

#[test]
fn every_document_says_first_what_it_is() {
    for document in ALL {
        let schema = serde_json::to_value((document.schema)()).unwrap();
        assert_eq!(schema["required"][0], "schema", "{}", document.id);
        let described = schema["properties"]["schema"]["description"].as_str().unwrap_or_default();
        assert!(described.contains(&format!("`{}`", document.id)), "{}: {described}", document.id);
    }
}

/// Returns the files of `docs/schema` by name. Each stands alone, so that any validator reads it.
fn files() -> BTreeMap<String, Value> {
    let file = |document: &Document| {
        let mut schema = serde_json::to_value((document.schema)()).unwrap();
        let id = document.id.replace(['.', '/'], ":");
        schema.as_object_mut().unwrap().insert("$id".to_owned(), format!("urn:{id}").into());
        (format!("{}.json", document.name()), schema)
    };
    let files: BTreeMap<String, Value> = ALL.iter().map(file).collect();
    assert_eq!(files.len(), ALL.len(), "each document has a name of its own");
    files
}
