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
    let told = match shared.room.pass_claims(shared.now(), &pass) {
        None => json!({"active": false}),
        Some(claims) => json!({
            "active": true,
            "event_id": claims.event.as_str(),
            "jti": claims.ticket.to_string(),
            "iat": claims.issued_at,
            "exp": claims.expires_at,
        }),
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
    let claims = shared
        .room
        .pass_claims(shared.now(), &pass)
        .ok_or_else(|| Refusal::new(Code::TokenNotFound, "unknown or ended pass"))?;
    let freed = in_time(shared.effects.complete(claims.event, claims.ticket)).await?;
    Ok(Reply::value(
        StatusCode::OK,
        &json!({"status": "completed", "freed": freed}),
    ))
}
