//! Answers: hand-written JSON, ready-made headers, and the one place where an answer is finished.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{StatusCode, http::request::Parts};

use super::head::{Asked, Told};
use super::refusal::{Code, Refusal};
use super::route::{Method, Route};
use super::server::Face;
use super::{Settings, Shared, cors, trace};
use crate::model::Micros;

/// What is sent to a client.
pub type Response = hyper::Response<Full<Bytes>>;

/// What most answers are.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");

/// A yes.
#[derive(Debug)]
pub(super) struct Reply<B = Bytes> {
    pub status: StatusCode,
    pub content: HeaderValue,
    pub body: B,
}

impl<B> Reply<B> {
    pub fn json(status: StatusCode, body: impl Into<B>) -> Self {
        Self {
            status,
            content: JSON,
            body: body.into(),
        }
    }

    pub fn ok(body: impl Into<B>) -> Self {
        Self::json(StatusCode::OK, body)
    }
}

impl Reply {
    /// A value that the status path has no part in.
    pub fn value(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::json(status, value.to_string())
    }
}

/// What is known of a request when its answer is finished.
pub(super) struct Call<'a> {
    pub shared: &'a Shared,
    pub settings: &'a Settings,
    pub face: Face,
    pub route: Route,
    pub method: Method,
    pub began: Micros,
}

/// Makes the answer, counts it, and reports a refusal. The request's header map becomes the
/// answer's, so that it costs no allocation.
pub(super) fn finish(call: &Call<'_>, parts: Parts, outcome: Result<Reply, Refusal>) -> Response {
    let mut headers = parts.headers;
    let origin = call.origin(&headers);
    let outcome = call.named(outcome, &headers);
    headers.clear();
    let status = call.tell(&outcome, origin.as_ref(), &mut headers);
    if parts.version == hyper::Version::HTTP_11 && call.shared.is_draining() {
        headers.insert(header::CONNECTION, CLOSE);
    }
    call.count(status, call.shared.now());
    let body = match outcome {
        Ok(reply) => reply.body,
        Err((refusal, trace)) => refusal.body(&trace),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A refusal, and the id by which its request is found again.
type Named = (Refusal, String);

impl Call<'_> {
    /// The page that asks, if it is one of others and they matter here.
    pub fn origin(&self, asked: &(impl Asked + ?Sized)) -> Option<HeaderValue> {
        match self.face {
            Face::Visitor if !self.settings.cors.origins.is_empty() => {
                HeaderValue::from_bytes(asked.first(&header::ORIGIN)?).ok()
            }
            Face::Visitor | Face::Admin { .. } => None,
        }
    }

    /// Gives a refusal its id.
    pub fn named<T>(
        &self,
        outcome: Result<T, Refusal>,
        asked: &(impl Asked + ?Sized),
    ) -> Result<T, Named> {
        outcome.map_err(|refusal| (refusal, trace::id(asked).into_owned()))
    }

    /// Writes the headers of an answer, but for its body's length and the date. Answers its status.
    pub fn tell<B>(
        &self,
        outcome: &Result<Reply<B>, Named>,
        origin: Option<&HeaderValue>,
        headers: &mut impl Told,
    ) -> StatusCode {
        let status = match outcome {
            Ok(reply) => {
                // A 204 has no content to describe.
                if reply.status != StatusCode::NO_CONTENT {
                    headers.line(header::CONTENT_TYPE, reply.content.clone());
                }
                reply.status
            }
            Err((refusal, trace)) => {
                headers.line(header::CONTENT_TYPE, JSON);
                refuse(self, refusal, trace, headers);
                refusal.code.status()
            }
        };
        headers.line(header::CACHE_CONTROL, NO_STORE);
        if let Some(origin) = origin {
            cors::add(&self.settings.cors, origin, self.method, headers);
        }
        if self.method == Method::Options && status == StatusCode::NO_CONTENT {
            told(headers, header::ALLOW, self.route.allow());
        }
        status
    }

    /// Counts an answer that is done by `now`.
    pub fn count(&self, status: StatusCode, now: Micros) {
        let took = now.since(self.began);
        let metrics = &self.shared.metrics;
        metrics.answered(self.route as usize, status.as_u16(), took);
    }
}

fn refuse(call: &Call<'_>, refusal: &Refusal, trace: &str, headers: &mut impl Told) {
    if let Some(secs) = refusal.retry_after_secs() {
        headers.line(header::RETRY_AFTER, secs.into());
    }
    if let Some(methods) = refusal.allow {
        told(headers, header::ALLOW, methods);
    }
    if refusal.code == Code::Unauthorized {
        headers.line(header::WWW_AUTHENTICATE, BEARER);
    }
    if refusal.closes {
        headers.line(header::CONNECTION, CLOSE);
    }
    if call.route == Route::Join {
        call.shared.metrics.join_refused(refusal.code.as_str());
    }
    // By the route and not by the path: a path may carry anything, a token even.
    tracing::debug!(
        route = call.route.name(),
        code = refusal.code.as_str(),
        status = refusal.code.status().as_u16(),
        trace_id = trace,
        "request refused"
    );
}

fn told(headers: &mut impl Told, name: HeaderName, value: &'static str) {
    headers.line(name, HeaderValue::from_static(value));
}

/// JSON of numbers and known words, made on the stack: its longest form is known, and the answer is
/// one allocation of just its length. (A vector's spare room would cost [`Bytes`] a second one.)
#[derive(Debug)]
pub(super) struct Short {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Short {
    /// The most that may be written.
    const BYTES_MAX: usize = 512;

    pub const fn new() -> Self {
        Self {
            bytes: [0; Self::BYTES_MAX],
            len: 0,
        }
    }

    /// Known text that needs no escaping: a few moves, where a slice would be a call.
    #[inline]
    pub fn known<const N: usize>(&mut self, text: &[u8; N]) -> &mut Self {
        if let Some(to) = self.bytes[self.len..].first_chunk_mut() {
            *to = *text;
            self.len += N;
        }
        self
    }

    /// Text that needs no escaping.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        let end = self.len + text.len();
        self.bytes[self.len..end].copy_from_slice(text.as_bytes());
        self.len = end;
        self
    }

    pub fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = itoa::Buffer::new();
        self.raw(digits.format(number))
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

/// JSON text in the making.
#[derive(Debug)]
pub(super) struct Json(Vec<u8>);

impl Json {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Text that needs no escaping.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = itoa::Buffer::new();
        self.raw(digits.format(number))
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    /// A whole number of milliseconds.
    pub fn millis(&mut self, duration: Duration) -> &mut Self {
        self.number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    /// A string, quoted and escaped.
    pub fn text(&mut self, text: &str) -> &mut Self {
        // Writing a string to a vector does not fail.
        let _ = serde_json::to_writer(&mut self.0, text);
        self
    }

    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}
