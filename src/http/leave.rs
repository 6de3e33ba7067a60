//! `DELETE` and `POST /api/v1/queue/leave`: good-bye for good, and the browser's unload beacon.

use hyper::http::request::Parts;

use super::refusal::{Code, Refusal};
use super::reply::{Json, Reply};
use super::{Shared, token};

/// Leaves. Also fine for a token that nobody knows, whatever is wrong with it.
pub(super) fn leave(shared: &Shared, parts: &Parts) -> Result<Reply, Refusal> {
    match token::of(shared, query(parts), &parts.headers) {
        Ok(token) => shared.room.leave(shared.now(), &token),
        Err(refusal) if refusal.code == Code::TokenNotFound => {}
        Err(refusal) => return Err(refusal),
    }
    Ok(Reply::ok(r#"{"status":"left"}"#))
}

fn query(parts: &Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

/// Leaves unless a poll follows within the grace. Any body is let be.
pub(super) fn leave_softly(shared: &Shared, parts: &Parts) -> Result<Reply, Refusal> {
    let token = match token::of(shared, query(parts), &parts.headers) {
        Ok(token) => token,
        // Oversized: unknown in any case, and the room says what an unknown one is answered.
        Err(refusal) if refusal.code == Code::TokenNotFound => "-".into(),
        Err(refusal) => return Err(refusal),
    };
    let grace = shared.room.leave_softly(shared.now(), &token);
    let mut json = Json::with_capacity(64);
    json.raw(r#"{"status":"leaving","grace_sec":"#)
        .number(grace.as_secs())
        .raw("}");
    Ok(Reply::ok(json.into_bytes()))
}
