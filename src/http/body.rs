//! Bodies of requests: bounded in size and time, then JSON objects with fields of known kinds.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde_json::{Map, Value};

use super::Shared;
use super::refusal::{Code, Refusal};

/// A JSON object, its fields still to be checked.
pub(super) struct Object(Map<String, Value>);

/// Reads a JSON object.
///
/// # Errors
/// `BODY_TOO_LARGE`, `REQUEST_TIMEOUT`, or `INVALID_REQUEST` naming the byte.
pub(super) async fn object(shared: &Shared, body: Incoming) -> Result<Object, Refusal> {
    let (limit, patience) = {
        let limits = &shared.settings.load().limits;
        (limits.body_bytes, limits.body_read_timeout)
    };
    let bytes = tokio::time::timeout(patience, read(body, limit))
        .await
        .unwrap_or_else(|_| {
            let slow = Refusal::new(Code::RequestTimeout, "the request's body took too long");
            Err(slow.closing())
        })?;
    parse(&bytes)
}

async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    // Said in advance: refused before a byte of it is read.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Refusal::invalid("the request's body is broken").closing())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + all.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        // Nearly every body comes in one piece, which is then not copied.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(
        Code::BodyTooLarge,
        format!("the body is larger than {limit} bytes"),
    )
    .closing()
}

fn parse(bytes: &[u8]) -> Result<Object, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(Object(fields)),
        Ok(other) => Err(Refusal::invalid(format!(
            "the body must be a JSON object, not {}",
            kind(&other)
        ))),
        Err(error) => Err(Refusal::invalid(format!(
            "the body is not JSON: byte {} is not what has to stand there",
            byte_of(&error, bytes)
        ))),
    }
}

/// Where in the text an error is, counted from 0.
fn byte_of(error: &serde_json::Error, bytes: &[u8]) -> usize {
    if error.is_eof() {
        return bytes.len();
    }
    let line_start: usize = bytes
        .split_inclusive(|b| *b == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    line_start + error.column().saturating_sub(1)
}

impl Object {
    /// The text in a field; `None` when it is not there or null.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the field when it is something else.
    pub fn text(&mut self, field: &'static str) -> Result<Option<String>, Refusal> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Refusal::invalid(format!(
                "{field} must be a string, not {}",
                kind(&other)
            ))),
        }
    }

    /// The texts of a list.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the field when it is missing or something else.
    pub fn texts(&mut self, field: &'static str) -> Result<Vec<String>, Refusal> {
        let wrong = || Refusal::invalid(format!("{field} must be a list of strings"));
        let Some(Value::Array(list)) = self.0.remove(field) else {
            return Err(wrong());
        };
        list.into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(wrong()),
            })
            .collect()
    }

    /// All fields.
    pub fn into_fields(self) -> Map<String, Value> {
        self.0
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_of_an_error_is_named() {
        for (text, byte) in [
            ("", 0),
            ("x", 0),
            ("{\"a\": tru}", 9),
            ("{\n\"a\": ?}", 7),
            ("{\"a\":", 5),
            ("{} {", 3),
            ("\u{0}", 0),
        ] {
            let refusal = parse(text.as_bytes()).err().unwrap();
            let named = format!("byte {byte} ");
            assert!(
                refusal.message.contains(&named),
                "{text:?}: {}",
                refusal.message
            );
        }
        assert!(parse(b"[1]").is_err());
        assert!(parse(b"{\"a\": \"\xff\"}").is_err());
        assert!(parse("[".repeat(8000).as_bytes()).is_err());
    }

    #[test]
    fn fields_are_checked_and_named() {
        let mut object = parse(br#"{"a": 1, "b": null, "c": "x", "c": "y", "d": ["z", 1]}"#)
            .ok()
            .unwrap();
        let refusal = object.text("a").unwrap_err();
        assert_eq!(refusal.message, "a must be a string, not a number");
        assert_eq!(object.text("b"), Ok(None));
        assert_eq!(object.text("c"), Ok(Some("y".to_owned())));
        assert!(object.texts("d").is_err());
        assert!(object.texts("e").is_err());
    }
}
