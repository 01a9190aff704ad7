//! Tests of the schemas in `docs/schema`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::*;

/// Reference to a definition in the same file, up to its name.
const LOCAL: &str = "#/$defs/";
/// Reference to a definition that several schemas share, up to its name.
const SHARED: &str = "definitions.json#/$defs/";

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
        let found = serde_json::to_string_pretty(schema).unwrap() + "\n";
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
    assert_eq!(shipped, files.into_keys().collect(), "a schema a document, and the definitions");
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

/// Returns the files of `docs/schema` by name.
///
/// A definition that stands alike in two schemas, with all that it refers to, is moved to `definitions.json`.
fn files() -> BTreeMap<String, Value> {
    let mut schemas: BTreeMap<String, Value> = ALL
        .iter()
        .map(|document| {
            (
                format!("{}.json", document.name()),
                serde_json::to_value((document.schema)()).unwrap(),
            )
        })
        .collect();
    assert_eq!(schemas.len(), ALL.len(), "each document has a name of its own");
    let shared = shared(&schemas);
    for (file, schema) in &mut schemas {
        let moved: BTreeSet<String> = definitions(schema)
            .filter(|(name, definition)| shared.get(*name) == Some(definition))
            .map(|(name, _)| name.clone())
            .collect();
        for (name, definition) in definitions(schema).filter(|(name, _)| moved.contains(*name)) {
            let all_moved = references(definition).iter().all(|to| moved.contains(to));
            assert!(all_moved, "{file}: {name} refers to another type of a shared name");
        }
        if let Some(Value::Object(own)) = schema.get_mut("$defs") {
            own.retain(|name, _| !moved.contains(name));
            if own.is_empty() {
                schema.as_object_mut().unwrap().remove("$defs");
            }
        }
        refer_to_shared(schema, &moved);
    }
    let title = "Definitions that several documents of tcpguard share";
    let shared = serde_json::json!({ "title": title, "$defs": shared });
    schemas.insert("definitions.json".to_owned(), shared);
    schemas
}

/// Returns the definitions that two schemas hold alike, with all that they refer to.
fn shared(schemas: &BTreeMap<String, Value>) -> Map<String, Value> {
    let mut shared = Map::new();
    let mut seen: Vec<(&String, &Value)> = Vec::new();
    for (name, definition) in schemas.values().flat_map(definitions) {
        if seen.contains(&(name, definition)) {
            let other = shared.insert(name.clone(), definition.clone());
            assert!(other.is_none_or(|other| other == *definition), "two shared types {name}");
        }
        seen.push((name, definition));
    }
    loop {
        let names: BTreeSet<String> = shared.keys().cloned().collect();
        shared.retain(|_, definition| references(definition).iter().all(|to| names.contains(to)));
        if shared.len() == names.len() {
            return shared;
        }
    }
}

fn definitions(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["$defs"].as_object().into_iter().flatten()
}

/// Returns the names of the definitions that a part of a schema refers to.
fn references(part: &Value) -> Vec<String> {
    match part {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str);
            let own = own.and_then(|reference| reference.strip_prefix(LOCAL)).map(str::to_owned);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Points the references to moved definitions at `definitions.json`.
fn refer_to_shared(part: &mut Value, moved: &BTreeSet<String>) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(LOCAL)
                && moved.contains(name)
            {
                *reference = format!("{SHARED}{name}");
            }
            for member in members.values_mut() {
                refer_to_shared(member, moved);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer_to_shared(item, moved)),
        _ => {}
    }
}
