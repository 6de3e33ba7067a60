//! Heads as both paths see them: a request's headers, parsed by hyper or beneath it, and an answer's,
//! for hyper to write or written at once. What is decided in between is decided once.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The headers of a request.
pub(super) trait Asked {
    /// The value of the first header of this name.
    fn first(&self, name: &HeaderName) -> Option<&[u8]>;

    /// The same, if it is visible ASCII, blanks and tabs.
    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.first(name).and_then(visible)
    }
}

impl Asked for HeaderMap {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }
}

impl Asked for [httparse::Header<'_>] {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        let is_named = |h: &&httparse::Header<'_>| h.name.eq_ignore_ascii_case(name.as_str());
        self.iter().find(is_named).map(|header| header.value)
    }
}

/// The headers of an answer, in the making. Each name comes once.
pub(super) trait Told {
    fn line(&mut self, name: HeaderName, value: HeaderValue);
}

impl Told for HeaderMap {
    fn line(&mut self, name: HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }
}

/// As hyper writes them.
impl Told for Vec<u8> {
    fn line(&mut self, name: HeaderName, value: HeaderValue) {
        self.extend_from_slice(name.as_str().as_bytes());
        self.extend_from_slice(b": ");
        self.extend_from_slice(value.as_bytes());
        self.extend_from_slice(b"\r\n");
    }
}

fn visible(value: &[u8]) -> Option<&str> {
    let is_fine = |b: u8| matches!(b, b' '..=b'~' | b'\t');
    let all = value.iter().fold(true, |all, b| all & is_fine(*b));
    std::str::from_utf8(value).ok().filter(|_| all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_hyper_takes_for_text() {
        for byte in 0..=u8::MAX {
            let bytes = [b'a', byte];
            let by_hyper = HeaderValue::from_bytes(&bytes);
            let by_hyper = by_hyper.as_ref().ok().and_then(|v| v.to_str().ok());
            assert_eq!(visible(&bytes), by_hyper, "{byte}");
        }
    }
}
