//! `POST /api/v1/queue/join`.

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::http::request::Parts;

use super::refusal::Refusal;
use super::reply::{Json, Reply};
use super::status::{eta_sec, word};
use super::{Shared, body, trace};
use crate::room::answer::{Join, Joined};

/// The longest label of a visitor.
const USER_CHARS_MAX: usize = 128;
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) async fn join(shared: &Shared, parts: &Parts, body: Incoming) -> Result<Reply, Refusal> {
    let key = match parts.headers.get(&KEY) {
        None => None,
        Some(value) => Some(trace::printable(value.as_bytes()).ok_or_else(|| {
            Refusal::invalid("Idempotency-Key must be 1 to 128 printable ASCII characters")
        })?),
    };
    let mut fields = body::object(shared, body).await?;
    let event = fields.text("event_id")?.unwrap_or_default();
    let user = fields.text("user_id")?;
    if let Some(user) = &user
        && user.chars().nth(USER_CHARS_MAX).is_some()
    {
        return Err(Refusal::invalid(format!(
            "user_id has more than {USER_CHARS_MAX} characters"
        )));
    }
    let ask = Join {
        event: &event,
        key,
        user: user.as_deref(),
    };
    let joined = shared.room.join(shared.now(), &ask)?;
    if shared.settings.load().durable_joins && joined.commit.seq > 0 {
        super::in_time(shared.effects.durable(joined.commit)).await?;
    }
    Ok(reply(&joined))
}

fn reply(joined: &Joined) -> Reply {
    let standing = &joined.standing;
    let mut json = Json::with_capacity(320);
    json.raw(r#"{"waiting_token":"#)
        .text(&joined.token)
        .raw(r#","position_hint":"#)
        .number(standing.position)
        .raw(r#","status":""#)
        .raw(word(standing.phase))
        .raw(r#"","position":"#)
        .number(standing.position)
        .raw(r#","eta_sec":"#)
        .number(eta_sec(standing))
        .raw(r#","ready_for_entry":"#)
        .bool(standing.ready)
        .raw(r#","poll_after_ms":"#)
        .millis(standing.poll_after)
        .raw(r#","total_waiting":"#)
        .number(standing.total_waiting)
        .raw("}");
    Reply::json(StatusCode::ACCEPTED, json.into_bytes())
}
