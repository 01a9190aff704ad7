//! The JSON Schemas that are shipped, and validation of a document.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};

/// Returns the schema of documents that have the values `ids` in their field `schema`, and the form of a definition.
pub fn of_all(id: &str, definitions: Value, documents: &[(Vec<&str>, Value)]) -> Value {
    let all: Vec<&str> = documents.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
    let each = documents.iter().map(|(ids, form)| {
        json!({ "if": { "properties": { "schema": { "enum": ids } } }, "then": form })
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": id,
        "$defs": definitions,
        "type": "object",
        "required": ["schema"],
        "properties": { "schema": { "enum": all } },
        "allOf": each.collect::<Vec<_>>(),
    })
}

/// Asserts that a file of the repository is this schema. With `UPDATE_EXPECTED=1` it writes the file first.
#[track_caller]
pub fn assert_shipped(file: &str, schema: &Value) {
    let (path, text) = (repository(file), printed(schema));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{file} is not that of the types; UPDATE_EXPECTED=1 writes it");
}

/// Asserts that `document` is a `tcpguard.NAME/1` of the form that the schema gives it, and nothing more.
#[track_caller]
pub fn assert_documented(name: &str, document: &Value) {
    assert_eq!(document["schema"], format!("tcpguard.{name}/1"));
    assert_formed(name, document);
}

/// Asserts the same of the fields of a document, with its name or without.
#[track_caller]
pub fn assert_formed(name: &str, document: &Value) {
    let faults = faults(name, document);
    assert!(faults.is_empty(), "{}\nin {document:#}", faults.join("\n"));
}

/// Returns the places where `document` departs from the schema of `tcpguard.NAME/1`.
///
/// It checks the keywords that the schema uses, and panics at another. Stricter than the schema in one thing: a
/// property that the schema does not name is a fault, so that nothing is printed that is not documented.
pub fn faults(name: &str, document: &Value) -> Vec<String> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let text = fs::read_to_string(repository("docs/schema/tcpguard.json")).expect("a schema");
        serde_json::from_str(&text).unwrap()
    });
    let id = Value::from(format!("tcpguard.{name}/1"));
    let mut all = SCHEMA["allOf"].as_array().unwrap().iter();
    let form = all.find(|one| one["if"]["properties"]["schema"]["enum"][0] == id);
    let mut faults = Vec::new();
    let mut document = document.clone();
    // The name is not a field of the type.
    document.as_object_mut().map(|fields| fields.remove("schema"));
    check(&document, &form.expect("a document")["then"], &SCHEMA, name, &mut faults);
    faults
}

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

/// Returns the text of a schema's file: an object that holds no other takes one line.
fn printed(schema: &Value) -> String {
    let mut text = String::new();
    print(schema, 1, &mut text);
    text + "\n"
}

fn print(value: &Value, depth: usize, text: &mut String) {
    let (open, close, parts): (_, _, Vec<_>) = match value {
        Value::Object(members) if members.values().any(holds_object) => {
            let name = |name: &String| Value::from(name.as_str()).to_string() + ": ";
            ("{", "}", members.iter().map(|(key, value)| (name(key), value)).collect())
        }
        Value::Array(items) if items.iter().any(holds_object) => {
            ("[", "]", items.iter().map(|item| (String::new(), item)).collect())
        }
        _ => return text.push_str(&value.to_string()),
    };
    text.push_str(open);
    for (index, (name, part)) in parts.into_iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth));
        text.push_str(&name);
        print(part, depth + 1, text);
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth - 1));
    text.push_str(close);
}

fn holds_object(value: &Value) -> bool {
    value.is_object() || value.as_array().is_some_and(|items| items.iter().any(holds_object))
}

fn check(value: &Value, schema: &Value, whole: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(named) = named(value, schema, whole, at, faults) else { return };
    for name in value.as_object().into_iter().flat_map(|members| members.keys()) {
        if !named.contains(name) {
            faults.push(format!("{at}/{name} is not in the schema"));
        }
    }
}

/// Checks `value`, and returns the properties that the schema names, also in its parts: the fields of a flattened
/// type stand in a choice beside the others. `None` where it is about no properties.
fn named(
    value: &Value,
    schema: &Value,
    whole: &Value,
    at: &str,
    faults: &mut Vec<String>,
) -> Option<BTreeSet<String>> {
    let Value::Object(keywords) = schema else { return None };
    let mut all = None;
    let mut add = |names: Option<BTreeSet<String>>| {
        if let Some(names) = names {
            all.get_or_insert_with(BTreeSet::new).extend(names);
        }
    };
    for (keyword, wanted) in keywords {
        let holds = match keyword.as_str() {
            "$schema"
            | "$id"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "format"
            | "additionalProperties" => true,
            "$ref" => {
                let definition = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                add(named(value, whole.pointer(definition).unwrap(), whole, at, faults));
                true
            }
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|wanted| is_a(value, wanted)),
                wanted => is_a(value, wanted),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|value| value <= wanted.as_f64().unwrap()),
            "anyOf" | "oneOf" => {
                let mut holds = false;
                for choice in wanted.as_array().unwrap() {
                    let mut against = Vec::new();
                    let names = named(value, choice, whole, at, &mut against);
                    if against.is_empty() {
                        holds = true;
                        add(names);
                    }
                }
                holds
            }
            "minItems" => {
                value.as_array().is_none_or(|list| list.len() as u64 >= wanted.as_u64().unwrap())
            }
            "maxItems" => {
                value.as_array().is_none_or(|list| list.len() as u64 <= wanted.as_u64().unwrap())
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(item, wanted, whole, &format!("{at}/{index}"), faults);
                }
                true
            }
            "required" => wanted
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                let wanted = wanted.as_object().unwrap();
                for (name, wanted) in wanted {
                    if let Some(member) = value.get(name) {
                        check(member, wanted, whole, &format!("{at}/{name}"), faults);
                    }
                }
                add(Some(wanted.keys().cloned().collect()));
                true
            }
            other => panic!("teach this check the keyword {other}"),
        };
        if !holds {
            faults.push(format!("{at}: {value} is not {keyword} {wanted}"));
        }
    }
    // A map from names to values, such as packets by reason.
    if let (Some(members), Some(wanted), None) =
        (value.as_object(), keywords.get("additionalProperties"), keywords.get("properties"))
    {
        for (name, member) in members {
            check(member, wanted, whole, &format!("{at}/{name}"), faults);
        }
        add(Some(members.keys().cloned().collect()));
    }
    all
}

fn is_a(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("teach this check the type {other}"),
    }
}
