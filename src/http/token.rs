//! The waiting token of a request: in the query, as a bearer, or in a header of its own.

use std::borrow::Cow;

use hyper::header::{self, HeaderName};

use super::Shared;
use super::head::Asked;
use super::refusal::{Code, Refusal};
use crate::room::answer::TokenRefusal;
use crate::telemetry::metrics::TokenCause;

/// Longer tokens are unknown without being looked at.
pub(super) const BYTES_MAX: usize = 512;

const WAITING_TOKEN: HeaderName = HeaderName::from_static("x-waiting-token");

/// The token, from the first place that holds one: the query, or the headers.
///
/// # Errors
/// `MISSING_TOKEN` when no place does, `TOKEN_NOT_FOUND` when it is longer than any token.
pub(super) fn of<'a>(
    shared: &Shared,
    query: &'a str,
    headers: &'a (impl Asked + ?Sized),
) -> Result<Cow<'a, str>, Refusal> {
    let token = in_query(query)
        .or_else(|| bearer(headers).map(Cow::Borrowed))
        .or_else(|| headers.text(&WAITING_TOKEN).map(Cow::Borrowed))
        .filter(|token| !token.is_empty())
        .ok_or_else(missing)?;
    bounded(shared, &token)?;
    Ok(token)
}

/// Refuses what is too long to be a token.
pub(super) fn bounded(shared: &Shared, token: &str) -> Result<(), Refusal> {
    if token.len() <= BYTES_MAX {
        return Ok(());
    }
    shared.metrics.token_refused(TokenCause::Oversized);
    Err(TokenRefusal::NotFound.into())
}

pub(super) fn missing() -> Refusal {
    Refusal::new(Code::MissingToken, "a waiting token is needed")
}

/// Counts and answers a token that shows nothing.
pub(super) fn refused(shared: &Shared, refusal: TokenRefusal) -> Refusal {
    shared.metrics.token_refused(match refusal {
        TokenRefusal::NotFound => TokenCause::Unknown,
        TokenRefusal::Gone(_) => TokenCause::Gone,
    });
    if refusal == TokenRefusal::NotFound && !shared.room.is_loaded() {
        // Tokens that are not signed are known from the store alone, and it is not here yet.
        return Refusal::loading();
    }
    refusal.into()
}

/// The credentials of `Authorization: Bearer …`.
pub(super) fn bearer(headers: &(impl Asked + ?Sized)) -> Option<&str> {
    let (scheme, token) = headers.text(&header::AUTHORIZATION)?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_ascii())
}

/// The first `token=` that is not empty. Allocates only when something is escaped.
fn in_query(query: &str) -> Option<Cow<'_, str>> {
    // What nearly every client sends: the token, and nothing to take apart. Looked at without a
    // branch a byte, which the compiler turns into a few wide comparisons.
    let plain = |text: &str| {
        let marks = text.bytes().map(|b| (b == b'&') | (b == b'%'));
        !marks.fold(false, |any, mark| any | mark)
    };
    if let Some(token) = query.strip_prefix("token=")
        && !token.is_empty()
        && plain(token)
    {
        return Some(Cow::Borrowed(token));
    }
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("token="))
        .find(|value| !value.is_empty())
        .map(unescape)
}

/// Percent-decodes. What is not UTF-8 afterwards becomes replacement characters: no token and no
/// event id has one.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    #[test]
    fn the_first_token_of_a_query_counts_and_is_decoded() {
        assert_eq!(in_query("a=1&token=x.y_-z&token=b"), Some("x.y_-z".into()));
        assert_eq!(in_query("token=%41%2e%2E"), Some("A..".into()));
        assert_eq!(in_query("token=&token=b"), Some("b".into()));
        assert_eq!(in_query("token"), None);
        assert_eq!(in_query("xtoken=1"), None);
        assert_eq!(unescape("%"), "%");
        assert_eq!(unescape("%zz%4"), "%zz%4");
        assert_eq!(unescape("%ff%00"), "\u{fffd}\0");
    }

    #[test]
    fn a_bearer_needs_its_scheme() {
        let mut headers = HeaderMap::new();
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
        ] {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer(&headers), expected, "{value}");
        }
    }
}
