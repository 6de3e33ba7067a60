//! The id by which a request is found again in the log: the client's own, or ours.

use std::borrow::Cow;

use hyper::header::HeaderName;

use super::head::Asked;

/// The longest id that is taken over from a client.
const BYTES_MAX: usize = 128;

const SOURCES: [HeaderName; 2] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-trace-id"),
];

/// The client's id when it sent a usable one, else a fresh one.
pub(super) fn id(headers: &(impl Asked + ?Sized)) -> Cow<'_, str> {
    SOURCES
        .iter()
        .filter_map(|name| headers.first(name))
        .find_map(printable)
        .map_or_else(|| fresh().into(), Cow::Borrowed)
}

/// 32 random hexadecimal digits.
pub(super) fn fresh() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// A header of 1–128 printable ASCII characters.
pub(super) fn printable(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| (1..=BYTES_MAX).contains(&text.len()))
        .filter(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)))
}
