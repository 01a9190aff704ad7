//! Validation of a document against its schema.

use serde_json::Value;

/// Checks `value` against the keywords that the schema uses; a keyword it does not know is a fault
/// too. Stricter than the schema in one thing: a property that it does not name is a fault, so that
/// nothing is printed that is not documented.
pub fn check(value: &Value, schema: &Value, root: &Value, at: &str, faults: &mut Vec<String>) {
    let Value::Object(keywords) = schema else {
        return;
    };
    for (keyword, wanted) in keywords {
        let holds = match keyword.as_str() {
            "$schema"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "format"
            | "additionalProperties" => true,
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                check(value, root.pointer(pointer).expect(pointer), root, at, faults);
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
            "anyOf" | "oneOf" => wanted.as_array().unwrap().iter().any(|choice| {
                let mut against = Vec::new();
                check(value, choice, root, at, &mut against);
                against.is_empty()
            }),
            "minItems" => {
                value.as_array().is_none_or(|list| list.len() as u64 >= wanted.as_u64().unwrap())
            }
            "maxItems" => {
                value.as_array().is_none_or(|list| list.len() as u64 <= wanted.as_u64().unwrap())
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(item, wanted, root, &format!("{at}/{index}"), faults);
                }
                true
            }
            "required" => wanted
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    match wanted.get(name) {
                        Some(wanted) => {
                            check(member, wanted, root, &format!("{at}/{name}"), faults)
                        }
                        None => faults.push(format!("{at}/{name} is not in the schema")),
                    }
                }
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
            check(member, wanted, root, &format!("{at}/{name}"), faults);
        }
    }
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
