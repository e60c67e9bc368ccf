//! The contract of local control, and answers held against it. Of JSON Schema it knows what the contract uses, and refuses
//! the rest, so that nothing in there is taken for checked that is not.

use std::net::SocketAddr;

use serde_json::{Map, Value};

use crate::e2e::http::{Answer, get};

/// Words that say nothing about what is valid.
const SILENT: &[&str] = &["description"];

/// An `OpenAPI` document.
#[derive(Debug, PartialEq)]
pub(super) struct Contract(Value);

impl Contract {
    pub(super) fn of(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("a contract is JSON"))
    }

    /// The contract that a node serves.
    pub(super) fn served_at(at: SocketAddr) -> Self {
        Self(get(at, "/openapi.json").json())
    }

    /// Every method and path.
    pub(super) fn operations(&self) -> Vec<(String, String)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let of = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().expect("methods").keys();
            methods.map(|method| (method.clone(), path.clone())).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of).collect()
    }

    pub(super) fn takes_body(&self, path: &str) -> bool {
        self.0["paths"][path]["post"]["requestBody"]["required"] == true
    }

    /// Holds an answer against what the contract says of its status.
    #[track_caller]
    pub(super) fn check(&self, method: &str, path: &str, answer: &Answer) {
        let responses = &self.0["paths"][path][method]["responses"];
        let response = self.resolve(&responses[answer.status.to_string()]);
        assert!(response.is_object(), "{method} {path}: {} is not in the contract: {answer:?}", answer.status);
        let Some(content) = response["content"].as_object() else {
            assert_eq!((answer.body.len(), answer.header("content-type")), (0, None), "{method} {path}");
            return;
        };
        let kind = answer.header("content-type").expect("a media type");
        let schema = &content.get(kind).unwrap_or_else(|| panic!("{kind}: {content:?}"))["schema"];
        if let Err(why) = self.fits(schema, &answer.json(), "answer") {
            panic!("{method} {path}: {why} in {}", String::from_utf8_lossy(&answer.body));
        }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(to) => self.0.pointer(to.strip_prefix('#').expect("in here")).expect("it is there"),
            None => value,
        }
    }

    fn fits(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.resolve(schema);
        if schema == &Value::Bool(false) {
            return Err(format!("{at} is too much"));
        }
        let words = schema.as_object().expect("a schema");
        for (word, says) in words.iter().filter(|(word, _)| !SILENT.contains(&word.as_str())) {
            self.keeps(words, word, says, value, at)?;
        }
        Ok(())
    }

    fn keeps(&self, all: &Map<String, Value>, word: &str, says: &Value, value: &Value, at: &str) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{at} is {value}, but {what} {says}"));
        let list = || says.as_array().expect("a list");
        match word {
            "type" => {
                let right = match says.as_str().expect("a type") {
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("a type that is not known: {other}"),
                };
                if right { Ok(()) } else { wrong("it must be of type") }
            }
            "const" if value != says => wrong("it must be"),
            "enum" if !list().contains(value) => wrong("it must be one of"),
            "minimum" if value.as_i64().is_some_and(|number| number < says.as_i64().expect("a number")) => {
                wrong("it must be at least")
            }
            "pattern" => {
                let text = value.as_str().unwrap_or_default();
                let hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
                let long = match says.as_str() {
                    Some("^[0-9a-f]{64}$") => text.len() == 64,
                    Some("^([0-9a-f]{2})*$") => text.len().is_multiple_of(2),
                    other => panic!("a pattern that is not known: {other:?}"),
                };
                if hex && long { Ok(()) } else { wrong("it must match") }
            }
            "minItems" if (value.as_array().map_or(0, Vec::len) as u64) < says.as_u64().expect("a number") => {
                wrong("it must have so many items:")
            }
            "prefixItems" => {
                let pairs = value.as_array().into_iter().flatten().zip(list()).enumerate();
                pairs.into_iter().try_for_each(|(n, (item, schema))| self.fits(schema, item, &format!("{at}[{n}]")))
            }
            "items" => {
                let before = all.get("prefixItems").map_or(0, |items| items.as_array().expect("a list").len());
                let items = value.as_array().into_iter().flatten().enumerate().skip(before);
                items.into_iter().try_for_each(|(n, item)| self.fits(says, item, &format!("{at}[{n}]")))
            }
            "required" => {
                let lacks = list().iter().find(|name| value.get(name.as_str().expect("a name")).is_none());
                lacks.map_or(Ok(()), |name| Err(format!("{at} has no {name}: {value}")))
            }
            "properties" => says.as_object().expect("properties").iter().try_for_each(|(name, schema)| {
                value.get(name).map_or(Ok(()), |value| self.fits(schema, value, &format!("{at}.{name}")))
            }),
            "additionalProperties" => {
                assert_eq!(says, false, "the only value that is known");
                let known = all["properties"].as_object().expect("properties");
                let more = value.as_object().into_iter().flatten().find(|(name, _)| !known.contains_key(*name));
                more.map_or(Ok(()), |(name, _)| Err(format!("{at} has {name}, which the contract does not know")))
            }
            "anyOf" | "oneOf" => {
                let failed: Vec<String> =
                    list().iter().filter_map(|schema| self.fits(schema, value, at).err()).collect();
                let fit = list().len() - failed.len();
                let right = if word == "oneOf" { fit == 1 } else { fit > 0 };
                if right { Ok(()) } else { Err(format!("{at} fits {fit} of: {}", failed.join("; "))) }
            }
            "const" | "enum" | "minimum" | "minItems" => Ok(()),
            other => panic!("{at}: the word {other} is not known"),
        }
    }
}
