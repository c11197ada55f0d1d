//! A value held against a schema of JSON Schema 2020-12, strictly: each keyword that is not understood here fails, and so does
//! a property that the schema does not name.

use serde_json::{Map, Value};

/// What is wrong with a value, with the place.
pub fn wrong(root: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let Some(schema) = schema.as_object() else { return Vec::new() };
    let mut wrong = Vec::new();
    let mut properties = Map::new();
    gather(root, schema, value, place, &mut properties, &mut wrong);
    if let (false, Some(object)) = (properties.is_empty(), value.as_object()) {
        for (name, value) in object {
            match properties.get(name) {
                Some(schema) => wrong.extend(self::wrong(root, schema, value, &format!("{place}.{name}"))),
                None => wrong.push(format!("{place}: {name} is not described")),
            }
        }
    }
    wrong
}

/// Checks a value, and gathers the properties that it may have.
fn gather(
    root: &Value,
    schema: &Map<String, Value>,
    value: &Value,
    place: &str,
    properties: &mut Map<String, Value>,
    wrong: &mut Vec<String>,
) {
    for (keyword, said) in schema {
        match keyword.as_str() {
            "description" | "title" | "format" | "minimum" | "maximum" => {}
            "$ref" => {
                let pointer = said.as_str().unwrap().strip_prefix('#').expect("a place in this document");
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there"));
                gather(root, target.as_object().unwrap(), value, place, properties, wrong);
            }
            "type" => {
                let types: Vec<&str> = match said {
                    Value::Array(all) => all.iter().map(|of| of.as_str().unwrap()).collect(),
                    one => vec![one.as_str().unwrap()],
                };
                if !types.iter().any(|of| is(of, value)) {
                    wrong.push(format!("{place}: {value} is no {types:?}"));
                }
            }
            "properties" => properties.extend(said.as_object().unwrap().clone()),
            "required" => {
                for name in said.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        wrong.push(format!("{place}: {name} is missing"));
                    }
                }
            }
            "additionalProperties" => assert_eq!(said, &Value::Bool(true), "{place}"),
            "items" => {
                let first = schema.get("prefixItems").map_or(0, |of| of.as_array().unwrap().len());
                for (number, value) in value.as_array().into_iter().flatten().enumerate().skip(first) {
                    wrong.extend(self::wrong(root, said, value, &format!("{place}[{number}]")));
                }
            }
            "prefixItems" => {
                let schemas = said.as_array().unwrap().iter();
                for (schema, value) in schemas.zip(value.as_array().into_iter().flatten()) {
                    wrong.extend(self::wrong(root, schema, value, place));
                }
            }
            "minItems" | "maxItems" => {
                let count = value.as_array().map_or(said.as_u64().unwrap(), |of| of.len() as u64);
                let limit = said.as_u64().unwrap();
                if if keyword == "minItems" { count < limit } else { count > limit } {
                    wrong.push(format!("{place}: {count} items"));
                }
            }
            "enum" => {
                if !said.as_array().unwrap().contains(value) {
                    wrong.push(format!("{place}: {value} is none of {said}"));
                }
            }
            "const" => {
                if said != value {
                    wrong.push(format!("{place}: {value} is not {said}"));
                }
            }
            "anyOf" | "oneOf" => {
                let fits = |of: &&Value| self::wrong(root, of, value, place).is_empty();
                if !said.as_array().unwrap().iter().any(|of| fits(&of)) {
                    wrong.push(format!("{place}: {value} fits none of {said}"));
                }
            }
            other => panic!("{place}: {other} is not understood here"),
        }
    }
}

fn is(of: &str, value: &Value) -> bool {
    match of {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}
