//! Which pages of other origins may use the API: answers to preflights, and headers on the rest.

use hyper::header::{self, HeaderValue};

use super::head::Told;
use super::route::Method;
use super::settings::Cors;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, Authorization, Idempotency-Key, X-Trace-Id, X-Request-ID, X-Waiting-Token",
);
const EXPOSED: HeaderValue = HeaderValue::from_static("Retry-After");

/// Adds what a page of `origin` needs to read the answer, if it may.
pub(super) fn add(cors: &Cors, origin: &HeaderValue, method: Method, headers: &mut impl Told) {
    let any = cors.origins.iter().any(|allowed| allowed == "*");
    if !any {
        // Caches must not give one origin's answer to another, allowed or not.
        headers.line(header::VARY, HeaderValue::from_static("Origin"));
    }
    let named = || {
        cors.origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    };
    // With credentials a wildcard is never said; the configuration refuses the pair already.
    let allowed = if any && !cors.credentials {
        HeaderValue::from_static("*")
    } else if named() {
        origin.clone()
    } else {
        return;
    };
    headers.line(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.credentials {
        headers.line(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    if method == Method::Options {
        headers.line(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.line(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.line(
            header::ACCESS_CONTROL_MAX_AGE,
            cors.max_age.as_secs().into(),
        );
    } else {
        headers.line(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
