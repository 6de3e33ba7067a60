//! From every way of saying no to its answer: status, code, reason. One table.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::reply::Json;
use crate::model::Gone;
use crate::room::answer::{EnterRefusal, JoinRefusal, TokenRefusal};
use crate::room::effects::Unavailable;

/// When a store that is away is worth asking again.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// The API's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    MissingEventId,
    InvalidEventId,
    MissingToken,
    Unauthorized,
    EventClosed,
    Forbidden,
    NotReady,
    EventNotFound,
    NotFound,
    TokenExpired,
    TokenNotFound,
    MethodNotAllowed,
    RequestTimeout,
    IdempotencyConflict,
    BodyTooLarge,
    UrlTooLong,
    RateLimited,
    HeadersTooLarge,
    QueueFull,
    ServiceUnavailable,
}

impl Code {
    /// The status and the word of every code.
    pub const fn as_pair(self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            Self::MissingEventId => (StatusCode::BAD_REQUEST, "MISSING_EVENT_ID"),
            Self::InvalidEventId => (StatusCode::BAD_REQUEST, "INVALID_EVENT_ID"),
            Self::MissingToken => (StatusCode::BAD_REQUEST, "MISSING_TOKEN"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::EventClosed => (StatusCode::FORBIDDEN, "EVENT_CLOSED"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            Self::NotReady => (StatusCode::FORBIDDEN, "NOT_READY"),
            Self::EventNotFound => (StatusCode::NOT_FOUND, "EVENT_NOT_FOUND"),
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::TokenExpired => (StatusCode::NOT_FOUND, "TOKEN_EXPIRED"),
            Self::TokenNotFound => (StatusCode::NOT_FOUND, "TOKEN_NOT_FOUND"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
            Self::IdempotencyConflict => (StatusCode::CONFLICT, "IDEMPOTENCY_CONFLICT"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            Self::UrlTooLong => (StatusCode::URI_TOO_LONG, "URL_TOO_LONG"),
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "HEADERS_TOO_LARGE",
            ),
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "QUEUE_FULL"),
            Self::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        }
    }

    pub const fn status(self) -> StatusCode {
        self.as_pair().0
    }

    pub const fn as_str(self) -> &'static str {
        self.as_pair().1
    }
}

/// A no, with all that its answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub reason: Option<&'static str>,
    pub retry_after: Option<Duration>,
    /// The methods that a path knows, of a 405.
    pub allow: Option<&'static str>,
    /// The rest of the request was not read: the connection ends.
    pub closes: bool,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
            retry_after: None,
            allow: None,
            closes: false,
        }
    }

    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    pub fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    pub fn allowing(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    pub fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The body: the error form.
    pub fn body(&self, trace: &str) -> Bytes {
        let mut json = Json::with_capacity(256);
        json.raw(r#"{"error":{"code":""#)
            .raw(self.code.as_str())
            .raw(r#"","message":"#)
            .text(&self.message)
            .raw(r#","trace_id":"#)
            .text(trace);
        if let Some(reason) = self.reason {
            json.raw(r#","reason":""#).raw(reason).raw("\"");
        }
        if let Some(after) = self.retry_after {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            json.raw(r#","retry_after_ms":"#).number(ms);
        }
        json.raw("}");
        if self.code == Code::TokenExpired {
            json.raw(r#","status":"expired""#);
        }
        json.raw("}");
        json.into_bytes()
    }

    /// `Retry-After` in whole seconds, rounded up, at least 1.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after
            .map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0))
            .map(|secs| secs.max(1))
    }
}

impl From<JoinRefusal> for Refusal {
    fn from(refusal: JoinRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            JoinRefusal::MissingEvent => Self::new(Code::MissingEventId, message),
            JoinRefusal::InvalidEvent(_) => Self::new(Code::InvalidEventId, message),
            JoinRefusal::EventNotFound => Self::new(Code::EventNotFound, message),
            JoinRefusal::EventClosed => Self::new(Code::EventClosed, message),
            JoinRefusal::Conflict => Self::new(Code::IdempotencyConflict, message),
            JoinRefusal::Full { retry_after, .. } => {
                Self::new(Code::QueueFull, message).retry(retry_after)
            }
            JoinRefusal::RateLimited { retry_after } => {
                Self::new(Code::RateLimited, message).retry(retry_after)
            }
        }
    }
}

impl From<TokenRefusal> for Refusal {
    fn from(refusal: TokenRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            TokenRefusal::NotFound => Self::new(Code::TokenNotFound, message),
            TokenRefusal::Gone(None) => Self::new(Code::TokenExpired, message),
            TokenRefusal::Gone(Some(how)) => {
                Self::new(Code::TokenExpired, message).because(match how {
                    Gone::Left => "left",
                    Gone::Expired => "expired",
                    Gone::Entered => "entered",
                })
            }
        }
    }
}

impl From<EnterRefusal> for Refusal {
    fn from(refusal: EnterRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            EnterRefusal::Token(token) => token.into(),
            EnterRefusal::NotReady {
                reason,
                retry_after,
            } => Self::new(Code::NotReady, message)
                .because(reason.as_str())
                .retry(retry_after),
            EnterRefusal::Unavailable { retry_after } => {
                Self::new(Code::ServiceUnavailable, message).retry(retry_after)
            }
        }
    }
}

impl From<Unavailable> for Refusal {
    fn from(unavailable: Unavailable) -> Self {
        tracing::debug!(cause = unavailable.0, "the store does not answer a request");
        Self::unavailable()
    }
}

impl Refusal {
    /// The line is still being loaded after a start.
    pub fn loading() -> Self {
        Self::new(Code::ServiceUnavailable, "the line is being loaded").retry(STORE_RETRY)
    }

    /// The store did not answer a request that needs it.
    pub fn unavailable() -> Self {
        Self::new(
            Code::ServiceUnavailable,
            "the store does not answer at present",
        )
        .retry(STORE_RETRY)
    }
}

/// What ends a connection before there is a request that could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unparsable {
    Malformed,
    Unfinished,
    TooSlow,
    UrlTooLong,
    HeadTooLarge,
    TooManyConnections,
}

impl Unparsable {
    fn refusal(self) -> Refusal {
        match self {
            Self::Malformed => Refusal::invalid("this is no HTTP/1.1 request"),
            Self::Unfinished => Refusal::invalid("the request ended before it was complete"),
            Self::TooSlow => Refusal::new(Code::RequestTimeout, "the request's head took too long"),
            Self::UrlTooLong => Refusal::new(Code::UrlTooLong, "the URL is too long"),
            Self::HeadTooLarge => {
                Refusal::new(Code::HeadersTooLarge, "the request's head is too large")
            }
            Self::TooManyConnections => {
                Refusal::new(Code::ServiceUnavailable, "too many connections").retry(STORE_RETRY)
            }
        }
    }

    /// The whole answer, head and body.
    pub fn answer(self) -> Vec<u8> {
        let refusal = self.refusal();
        let status = refusal.code.status();
        let body = refusal.body(&super::trace::fresh());
        let retry = refusal
            .retry_after_secs()
            .map_or_else(String::new, |secs| format!("retry-after: {secs}\r\n"));
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/json; charset=utf-8\r\n\
             cache-control: no-store\r\n{retry}connection: close\r\ncontent-length: {}\r\n\r\n",
            status.as_str(),
            status.canonical_reason().unwrap_or_default(),
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::answer::NotReady;

    #[test]
    fn the_error_form_carries_reason_and_both_retry_forms() {
        let refusal = Refusal::from(EnterRefusal::NotReady {
            reason: NotReady::MissedTurn,
            retry_after: Duration::from_millis(1_200),
        });
        assert_eq!(refusal.code.status(), StatusCode::FORBIDDEN);
        assert_eq!(refusal.retry_after_secs(), Some(2));
        assert_eq!(
            refusal.body("a\"b"),
            r#"{"error":{"code":"NOT_READY","message":"it is not your turn","trace_id":"a\"b","reason":"missed_turn","retry_after_ms":1200}}"#
        );
    }

    #[test]
    fn a_ticket_that_is_gone_is_told_apart_and_named_expired() {
        let refusal = Refusal::from(TokenRefusal::Gone(Some(Gone::Left)));
        let body: serde_json::Value = serde_json::from_slice(&refusal.body("t")).unwrap();
        assert_eq!(body["status"], "expired");
        assert_eq!(body["error"]["code"], "TOKEN_EXPIRED");
        assert_eq!(body["error"]["reason"], "left");
    }
}
