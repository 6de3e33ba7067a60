//! What comes out of a connection: answers, one after another, each well-formed HTTP/1.1 (RFC 9112)
//! in the API's own form.

/// Holds all that was heard to the rules.
pub fn check(said: &[u8], heard: &[u8]) {
    let mut rest = heard;
    let mut is_last = false;
    while !rest.is_empty() {
        assert!(
            !is_last,
            "something after the last answer: {}",
            shown(heard)
        );
        let answer = Answer::parse(rest).unwrap_or_else(|why| panic!("{why}: {}", shown(heard)));
        answer
            .check(said)
            .unwrap_or_else(|why| panic!("{why}: {}", shown(heard)));
        is_last = answer.is_last;
        rest = &rest[answer.bytes..];
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

struct Answer<'a> {
    status: u16,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
    /// To a `HEAD`, as far as can be told: a length, and no body.
    is_bare: bool,
    is_last: bool,
    /// Length of the whole.
    bytes: usize,
}

impl<'a> Answer<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .ok_or("no end of a head")?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is no text")?;
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let version = line
            .strip_prefix("HTTP/1.1 ")
            .or(line.strip_prefix("HTTP/1.0 "));
        let (status, _) = version
            .and_then(|l| l.split_once(' '))
            .ok_or("no status line")?;
        let status = status.parse().map_err(|_| "a status that is no number")?;
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or("a line that is no header")?;
            let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let is_fine = |b: u8| (b' '..=b'~').contains(&b);
            if name.is_empty() || !name.bytes().all(is_token) || !value.bytes().all(is_fine) {
                return Err("a malformed header");
            }
            headers.push((name, value));
        }
        let named = |wanted: &str| {
            let mut values = headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            (
                values.next().map(|(_, value)| *value),
                values.next().is_some(),
            )
        };
        let (length, is_doubled) = named("content-length");
        if is_doubled || named("transfer-encoding").0.is_some() {
            return Err("a length told twice");
        }
        let length = match length {
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| "a length that is no number")?,
            None if matches!(status, 100 | 204) => 0,
            None => return Err("no length"),
        };
        let rest = &bytes[end + 4..];
        let is_bare = length > 0 && (rest.is_empty() || rest.starts_with(b"HTTP/1."));
        let length = if is_bare { 0 } else { length };
        Ok(Self {
            status,
            body: rest.get(..length).ok_or("a body that is cut")?,
            is_bare,
            is_last: named("connection").0 == Some("close"),
            bytes: end + 4 + length,
            headers,
        })
    }

    fn check(&self, said: &[u8]) -> Result<(), &'static str> {
        let has = |text: &[u8]| said.windows(text.len()).any(|w| w == text);
        match self.status {
            100 => return Ok(()),
            200..=299 | 400..=499 | 503 => {}
            _ => return Err("a status that is never ours"),
        }
        if self.is_bare {
            return if has(b"HEAD ") {
                Ok(())
            } else {
                Err("no body")
            };
        }
        if self.status == 204 {
            return if has(b"OPTIONS ") {
                Ok(())
            } else {
                Err("no content")
            };
        }
        let named = |wanted: &str| {
            let found = self
                .headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| *value).unwrap_or_default()
        };
        if named("cache-control") != "no-store" {
            return Err("an answer that may be stored");
        }
        let kind = named("content-type");
        if !kind.contains("json") {
            let is_metrics = kind.starts_with("application/openmetrics-text");
            return if is_metrics {
                Ok(())
            } else {
                Err("no known content")
            };
        }
        let body: serde_json::Value =
            serde_json::from_slice(self.body).map_err(|_| "a body that is not JSON")?;
        if self.status >= 400 {
            let text = |field: &str| body["error"][field].as_str().unwrap_or_default();
            if ["code", "message", "trace_id"]
                .iter()
                .any(|field| text(field).is_empty())
            {
                return Err("a refusal that says too little");
            }
            if self.status == 503 && named("retry-after").is_empty() {
                return Err("a refusal that does not say when to come back");
            }
        }
        Ok(())
    }
}
