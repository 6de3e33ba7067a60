//! `POST /api/v1/queue/enter`: the one call that asks the store, exactly once.

use hyper::body::Incoming;
use hyper::http::request::Parts;

use super::refusal::Refusal;
use super::reply::{Json, Reply};
use super::{Shared, body, in_time, token};
use crate::room::answer::{Admission, EnterRefusal, EnterStep};

pub(super) async fn enter(
    shared: &Shared,
    _parts: &Parts,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let token = body::object(shared, body)
        .await?
        .text("waiting_token")?
        .filter(|token| !token.is_empty())
        .ok_or_else(token::missing)?;
    token::bounded(shared, &token)?;
    let refused = |refusal| match refusal {
        EnterRefusal::Token(refusal) => token::refused(shared, refusal),
        other => other.into(),
    };
    let request = match shared.room.enter(shared.now(), &token).map_err(refused)? {
        EnterStep::Granted(admission) => return Ok(reply(&admission)),
        EnterStep::Ask(request) => request,
    };
    let admission = match in_time(shared.effects.enter((*request).clone())).await {
        Ok(entry) => shared.room.entered(shared.now(), &request, entry),
        Err(_) => Err(shared.room.enter_failed(shared.now(), &request)),
    };
    admission
        .map(|admission| reply(&admission))
        .map_err(refused)
}

fn reply(admission: &Admission) -> Reply {
    let mut json = Json::with_capacity(512);
    json.raw(r#"{"admission":"granted","reservation_token":"#)
        .text(&admission.pass)
        .raw(r#","ttl_sec":"#)
        .number(admission.ttl_sec)
        .raw("}");
    Reply::ok(json.into_bytes())
}
