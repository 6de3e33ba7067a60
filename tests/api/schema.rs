//! The API's description, and a checker of answers against it: the part of JSON Schema that the
//! document uses. A keyword it does not know fails the test that meets it.

use serde_json::{Map, Value};

use super::client::Answer;

pub struct Document(pub Value);

impl Document {
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(path) = value.get("$ref").and_then(Value::as_str) else {
            return value;
        };
        let target = self.0.pointer(path.strip_prefix('#').unwrap());
        self.resolve(target.unwrap_or_else(|| panic!("{path} leads nowhere")))
    }

    /// Every operation with every status that is documented for it.
    pub fn documented(&self) -> Vec<(String, String, u16)> {
        let mut all = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let Some(responses) = operation.get("responses").and_then(Value::as_object) else {
                    continue;
                };
                for status in responses.keys() {
                    let method = method.to_ascii_uppercase();
                    all.push((method, path.clone(), status.parse().unwrap()));
                }
            }
        }
        all
    }

    /// Holds an answer against what is documented.
    pub fn check(&self, method: &str, path: &str, answer: &Answer) {
        let at = format!("{method} {path} {}", answer.status);
        let operation = &self.0["paths"][path][method.to_ascii_lowercase()];
        let response = operation["responses"].get(answer.status.to_string());
        let response = self.resolve(response.unwrap_or_else(|| panic!("{at} is not documented")));
        let (kind, content) = response["content"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        let sent = answer.header("content-type").unwrap();
        assert_eq!(sent.split(';').next().unwrap(), kind, "{at}");
        if let Some(headers) = response.get("headers").and_then(Value::as_object) {
            for name in headers.keys() {
                let name = name.to_ascii_lowercase();
                assert!(answer.header(&name).is_some(), "{at}: {name} is missing");
            }
        }
        let value = match kind.contains("json") {
            true => answer.json(),
            false => Value::String(answer.text().to_owned()),
        };
        if let Err(why) = self.fits(&value, &content["schema"]) {
            panic!("{at}: {why}\n{value}");
        }
    }

    /// Whether a value fits a schema and has no field that the schema does not know.
    fn fits(&self, value: &Value, schema: &Value) -> Result<(), String> {
        let schema = self.resolve(schema).as_object().unwrap();
        if let (Some(fields), Some(known)) = (value.as_object(), self.properties(schema)) {
            for field in fields.keys() {
                let told = known.iter().any(|name| name == field);
                told.then_some(())
                    .ok_or_else(|| format!("{field} is not documented"))?;
            }
        }
        for (keyword, rule) in schema {
            self.obeys(value, keyword, rule)
                .then_some(())
                .ok_or_else(|| format!("{value} breaks {keyword}: {rule}"))?;
            let inner = match (keyword.as_str(), value) {
                ("properties", Value::Object(fields)) => fields
                    .iter()
                    .filter_map(|(name, field)| Some((field, rule.get(name)?)))
                    .collect(),
                ("items", Value::Array(items)) => items.iter().map(|item| (item, rule)).collect(),
                ("allOf", _) => rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|r| (value, r))
                    .collect(),
                _ => Vec::new(),
            };
            for (value, schema) in inner {
                self.fits(value, schema)?;
            }
        }
        Ok(())
    }

    /// The fields that a schema knows, those of its parts included; `None` when it names none.
    fn properties(&self, schema: &Map<String, Value>) -> Option<Vec<String>> {
        let own = schema.get("properties").and_then(Value::as_object);
        let mut names: Vec<_> = own?.keys().cloned().collect();
        for part in schema
            .get("allOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            names.extend(self.properties(self.resolve(part).as_object()?)?);
        }
        Some(names)
    }

    fn obeys(&self, value: &Value, keyword: &str, rule: &Value) -> bool {
        let length = || value.as_str().map(|text| text.chars().count() as u64);
        let items = || value.as_array().map(|items| items.len() as u64);
        let least = |got: Option<u64>| got.is_none_or(|got| got >= rule.as_u64().unwrap());
        let most = |got: Option<u64>| got.is_none_or(|got| got <= rule.as_u64().unwrap());
        match keyword {
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_a(value, kind)),
                kind => is_a(value, kind),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "required" => {
                let mut names = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|name| name.as_str().unwrap());
                names.all(|name| value.get(name).is_some())
            }
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
            "minLength" => least(length()),
            "maxLength" => most(length()),
            "minItems" => least(items()),
            "maxItems" => most(items()),
            "pattern" => value
                .as_str()
                .is_none_or(|text| matches(text, rule.as_str().unwrap())),
            "properties" | "items" | "allOf" | "description" => true,
            other => panic!("the checker does not know {other}"),
        }
    }
}

fn is_a(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no such type: {other}"),
    }
}

fn matches(text: &str, pattern: &str) -> bool {
    match pattern {
        "^[A-Za-z0-9._:-]{1,64}$" => tidegate::model::EventId::check(text).is_ok(),
        "^[0-9a-f]{32}$" => {
            text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        }
        other => panic!("the checker does not know the pattern {other}"),
    }
}
