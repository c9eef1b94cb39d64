//! A key, its value and its end as a line of JSON, and back.
//!
//! What must stay true: what is read is what was written, whatever bytes it has.

use objmapper_client::milliseconds;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::bytes::{from_base64, to_base64};

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// When it ends, if it does.
    pub(super) expiry: Option<SystemTime>,
}

/// The object of a line; without `value` it has its `size` only.
pub(super) fn to_json(
    key: &[u8],
    value: Option<&[u8]>,
    size: Option<u64>,
    expiry: Option<SystemTime>,
) -> Value {
    let mut line = Map::new();
    put(&mut line, ("key", "key_base64"), key);
    if let Some(value) = value {
        put(&mut line, ("value", "value_base64"), value);
    }
    if let Some(size) = size {
        line.insert("size".to_owned(), json!(size));
    }
    if let Some(expiry) = expiry {
        line.insert("expires_ms".to_owned(), json!(milliseconds(expiry)));
    }
    Value::Object(line)
}

fn put(line: &mut Map<String, Value>, (text, base64): (&str, &str), bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(bytes) => line.insert(text.to_owned(), json!(bytes)),
        Err(_) => line.insert(base64.to_owned(), json!(to_base64(bytes))),
    };
}

impl Line {
    /// Reads one; why it cannot be read, and what would be right.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let line: Value = serde_json::from_slice(text).map_err(|error| {
            // There is one line only; which it is says the caller.
            let told = error.to_string();
            let what = told.split(" at line ").next().unwrap_or(&told);
            format!("not JSON at column {}: {what}", error.column())
        })?;
        let Value::Object(mut line) = line else {
            return Err("it is no JSON object, as {\"key\": \"a\", \"value\": \"1\"}".to_owned());
        };
        let key = take(&mut line, "key", "key_base64")?;
        let value = take(&mut line, "value", "value_base64")?;
        let expiry = match line.remove("expires_ms") {
            None | Some(Value::Null) => None,
            Some(ms) => {
                let moment = ms.as_u64().filter(|&ms| i64::try_from(ms).is_ok());
                let moment =
                    moment.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
                Some(moment.ok_or_else(|| {
                    format!("\"expires_ms\" is {ms}: give milliseconds since 1970, or leave it out")
                })?)
            }
        };
        line.remove("size"); // as scan writes it
        match line.keys().next() {
            None => Ok(Self { key, value, expiry }),
            Some(name) => Err(format!(
                "\"{name}\" means nothing here: there are key, value, key_base64, value_base64 and \
                 expires_ms"
            )),
        }
    }
}

/// The bytes of a field that may come in two forms.
fn take(line: &mut Map<String, Value>, text: &str, base64: &str) -> Result<Vec<u8>, String> {
    match (line.remove(text), line.remove(base64)) {
        (Some(Value::String(text)), None) => Ok(text.into_bytes()),
        (None, Some(Value::String(text))) => {
            from_base64(&text).ok_or_else(|| format!("\"{base64}\" is not base64"))
        }
        (None, None) => Err(format!("\"{text}\" is missing (or \"{base64}\")")),
        (Some(_), Some(_)) => {
            Err(format!("there is \"{text}\" and \"{base64}\": give one of them"))
        }
        (Some(_), None) => Err(format!("\"{text}\" is not a string")),
        (None, Some(_)) => Err(format!("\"{base64}\" is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let moment = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let samples: [&[u8]; 6] =
            [b"", b"a", b"\"\\\n\0", b"\xff\x00", "ä\u{2028}".as_bytes(), b"\xc3"];
        for key in samples {
            for value in samples {
                for expiry in [None, Some(moment)] {
                    let text = to_json(key, Some(value), None, expiry).to_string();
                    assert!(!text.contains('\n'), "{text}");
                    let (key, value) = (key.to_vec(), value.to_vec());
                    assert_eq!(Line::parse(text.as_bytes()), Ok(Line { key, value, expiry }));
                }
            }
        }
        let scanned = to_json(b"k", Some(b"v"), Some(1), None).to_string();
        assert!(Line::parse(scanned.as_bytes()).is_ok());
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, word) in [
            ("", "not JSON at column 0"),
            (r#"{"key": "a""#, "not JSON at column"),
            (r#"["a"]"#, "no JSON object"),
            (r#"{"value": "1"}"#, "\"key\" is missing"),
            (r#"{"key": "a"}"#, "\"value\" is missing"),
            (r#"{"key": 7, "value": "1"}"#, "\"key\" is not a string"),
            (r#"{"key": "a", "key_base64": "YQ==", "value": "1"}"#, "give one of them"),
            (r#"{"key": "a", "value_base64": "?"}"#, "not base64"),
            (r#"{"key": "a", "value": "1", "expires_ms": -5}"#, "milliseconds since 1970"),
            (r#"{"key": "a", "value": "1", "expires_ms": "x"}"#, "milliseconds since 1970"),
            (r#"{"key": "a", "value": "1", "ttl": 5}"#, "\"ttl\" means nothing here"),
            ("{\"key\": \"\u{1}\", \"value\": \"1\"}", "not JSON"),
        ] {
            let told = Line::parse(text.as_bytes()).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
        assert!(Line::parse(b"{\"key\": \"\xff\", \"value\": \"1\"}").is_err());
    }
}
