//! What the site behind asks of passes, on the admin listener: who is this, and this one is done.

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use serde_json::json;

use super::refusal::{Code, Refusal};
use super::reply::Reply;
use super::{Shared, body, in_time};

async fn pass(shared: &Shared, body: Incoming) -> Result<String, Refusal> {
    body::object(shared, body)
        .await?
        .text("reservation_token")?
        .filter(|pass| !pass.is_empty())
        .ok_or_else(|| Refusal::new(Code::MissingToken, "a reservation_token is needed"))
}

/// What a pass says, in the manner of RFC 7662: `{"active": false}` for one that holds no more or
/// never did.
pub(super) async fn introspect(
    shared: &Shared,
    _parts: &Parts,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let pass = pass(shared, body).await?;
    let told = match shared.room.pass(shared.now(), &pass) {
        Some(view) if view.active => json!({
            "active": true,
            "event_id": view.event.as_str(),
            "jti": view.ticket.to_string(),
            "iat": view.issued_at,
            "exp": view.expires_at,
        }),
        Some(_) | None => json!({"active": false}),
    };
    Ok(Reply::value(StatusCode::OK, &told))
}

/// Frees the place inside that a pass holds. Once more is harmless: `freed` is then false.
pub(super) async fn complete(
    shared: &Shared,
    _parts: &Parts,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let pass = pass(shared, body).await?;
    let view = shared
        .room
        .pass(shared.now(), &pass)
        .ok_or_else(|| Refusal::new(Code::TokenNotFound, "unknown pass"))?;
    let freed = in_time(shared.effects.complete(view.event, view.ticket)).await?;
    Ok(Reply::value(
        StatusCode::OK,
        &json!({"status": "completed", "freed": freed}),
    ))
}
