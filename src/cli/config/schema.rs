//! `rdsgate config schema`: the JSON schema of a configuration file, from the table of keys.

use serde_json::{Map, Value, json};

use crate::config::{Key, Kind, Scope, options::List, value::PAYLOAD_SIZE};

/// The schema, of the draft that TOML editors know.
pub(super) fn schema() -> Value {
    let properties = |scopes: &[Scope]| -> Map<String, Value> {
        let keys = Key::ALL.into_iter().filter(|key| scopes.contains(&key.scope()));
        keys.map(|key| (key.name().to_owned(), property(key))).collect()
    };
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of rdsgate",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "defaults": {
                "description": "For every target that does not say otherwise",
                "type": "object",
                "additionalProperties": false,
                "properties": properties(&[Scope::Any, Scope::Process]),
            },
            "targets": {
                "description": "One table for each database",
                "type": "object",
                "additionalProperties": false,
                "patternProperties": {
                    "^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,62}$": {
                        "type": "object",
                        "additionalProperties": false,
                        "properties": properties(&[Scope::Any, Scope::Target]),
                    },
                },
            },
        },
    })
}

fn property(key: Key) -> Value {
    let mut schema = match key.kind() {
        Kind::Text | Kind::File => json!({ "type": "string", "minLength": 1 }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Duration => json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$" }),
        Kind::Port => json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
        Kind::Count => json!({ "type": "integer", "minimum": 0 }),
        Kind::Listen => json!({
            "type": ["integer", "string", "array"], "minimum": 0, "maximum": 65535, "minItems": 1,
            "items": { "type": ["integer", "string"], "minimum": 0, "maximum": 65535 },
        }),
        Kind::Admin => json!({ "type": ["integer", "string"], "minimum": 0, "maximum": 65535 }),
        Kind::Size => json!({ "type": "integer", "minimum": PAYLOAD_SIZE.start(), "maximum": PAYLOAD_SIZE.end() }),
        Kind::List(List { integers, .. }) => {
            let element = if integers { json!(["string", "integer"]) } else { json!("string") };
            json!({ "type": ["string", "array"], "minLength": 1, "items": { "type": element, "minLength": 1 } })
        }
        Kind::Boolean => json!({ "type": "boolean" }),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".into(), key.entry().summary().into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_tables_that_may_set_it() {
        let schema = schema();
        let defaults = &schema["properties"]["defaults"]["properties"];
        let targets = schema["properties"]["targets"]["patternProperties"].as_object().unwrap();
        let target = &targets.values().next().unwrap()["properties"];
        for key in Key::ALL {
            let [in_defaults, in_target] = [defaults, target].map(|table| table.get(key.name()).is_some());
            let expected = match key.scope() {
                Scope::Target => [false, true],
                Scope::Any => [true, true],
                Scope::Process => [true, false],
                Scope::Once => [false, false],
            };
            assert_eq!([in_defaults, in_target], expected, "{key:?}");
        }
        assert_eq!(
            target["via"],
            json!({ "type": "string", "enum": ["ssm", "direct", "auto"], "description": Key::Via.entry().summary() })
        );
    }
}
