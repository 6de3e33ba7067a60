//! What operators ask and change, on the admin listener.

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::refusal::{Code, Refusal};
use super::reply::Reply;
use super::route::{EVENTS, OVERRIDES};
use super::server::Face;
use super::{Shared, body, in_time, token};
use crate::model::policy::{Policy, PolicyMistake, PolicyPatch, moment_text};
use crate::model::{Beat, Change, EventId, EventIdError, Ruled};
use crate::room::answer::EventStats;
use crate::room::effects::Unavailable;

/// The most events that one flush names.
const FLUSH_EVENTS_MAX: usize = 1_000;

/// How often a change is tried while others change the same event.
const RULED_MAX: usize = 8;

/// Reading is free on a loopback listener, which has no token set or a local reader.
pub(super) fn may_read(shared: &Shared, face: Face, parts: &Parts) -> Result<(), Refusal> {
    match face {
        Face::Admin { open_reads: true } => Ok(()),
        Face::Admin { open_reads: false } | Face::Visitor => may_change(shared, parts),
    }
}

/// Changing needs the token, always. The comparison takes as long for a near miss as for a far one.
pub(super) fn may_change(shared: &Shared, parts: &Parts) -> Result<(), Refusal> {
    let settings = shared.settings.load();
    let Some(expected) = &settings.admin_token else {
        return Err(Refusal::new(
            Code::Forbidden,
            "no admin token is configured, so nothing can be changed here",
        ));
    };
    let shown = token::bearer(&parts.headers).unwrap_or_default();
    if bool::from(shown.as_bytes().ct_eq(expected.as_bytes())) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::Unauthorized,
        "the admin token is needed",
    ))
}

pub(super) fn health(shared: &Shared) -> Reply {
    Reply::value(
        StatusCode::OK,
        &json!({
            "status": "healthy",
            "timestamp": moment_text(shared.now()),
            "service": "tidegate",
            "version": shared.build.version,
            "ready": shared.room.is_serving() && !shared.is_draining(),
            "draining": shared.is_draining(),
            "dependencies": {"store": shared.effects.health().as_str()},
            "connections": shared.metrics.connections.get(),
            "events": shared.room.stats().len(),
        }),
    )
}

pub(super) fn stats(shared: &Shared) -> Reply {
    let stats = shared.room.stats();
    let sum = |value: fn(&EventStats) -> u64| stats.iter().map(value).sum::<u64>();
    let events: Vec<_> = stats.iter().map(event_stats).collect();
    Reply::value(
        StatusCode::OK,
        &json!({
            "timestamp": moment_text(shared.now()),
            "total_events": stats.len(),
            "total_waiting": sum(|event| event.waiting),
            "total_ready": sum(|event| event.ready),
            "total_active": sum(|event| event.active),
            "total_joined": sum(|event| event.joined),
            "total_entered": sum(|event| event.entered),
            "total_left": sum(|event| event.left),
            "events": events,
        }),
    )
}

fn event_stats(event: &EventStats) -> Value {
    json!({
        "event_id": event.event.as_str(),
        "waiting": event.waiting,
        "ready": event.ready,
        "active": event.active,
        "joined": event.joined,
        "entered": event.entered,
        "left": event.left,
        "calls_per_sec": event.calls_per_sec,
        "paused": event.paused,
    })
}

/// The nodes of the fleet, as they said last.
pub(super) fn nodes(shared: &Shared) -> Reply {
    let (nodes, now) = (shared.effects.nodes(), shared.now());
    let live: Vec<_> = nodes
        .beats
        .iter()
        .filter(|beat| beat.is_live(now))
        .collect();
    let missing: Vec<_> = (0..nodes.size)
        .filter(|number| !live.iter().any(|beat| beat.node.0 == *number))
        .collect();
    let told = |beat: &Beat| {
        json!({
            "node": beat.node.0,
            "live": beat.is_live(now),
            "listen": beat.listen,
            "version": beat.version,
            "started": moment_text(beat.started),
            "last_seen": moment_text(beat.at),
        })
    };
    Reply::value(
        StatusCode::OK,
        &json!({
            "timestamp": moment_text(now),
            "node": nodes.own.0,
            "size": nodes.size,
            "number_taken": nodes.number_taken,
            "missing": missing,
            "nodes": nodes.beats.iter().map(told).collect::<Vec<_>>(),
        }),
    )
}

/// Forgets the named events with all their tickets.
pub(super) async fn flush(
    shared: &Shared,
    _parts: &Parts,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let names = body::object(shared, body).await?.texts("event_ids")?;
    if names.is_empty() || names.len() > FLUSH_EVENTS_MAX {
        return Err(Refusal::invalid(format!(
            "event_ids must name 1 to {FLUSH_EVENTS_MAX} events"
        )));
    }
    // All names first: a wrong one must not leave half of the work done.
    let events = names
        .iter()
        .map(|name| EventId::new(name).map_err(invalid_event))
        .collect::<Result<Vec<_>, _>>()?;
    let mut deleted = 0;
    for event in &events {
        let until = shared.room.forgetting(shared.now(), event);
        let ruled = rule(shared, event, Change::Forget { until }).await?;
        deleted += shared.room.take_ruling(shared.now(), event, &ruled.ruling);
    }
    shared.effects.spread().await;
    tracing::info!(events = events.len(), tickets = deleted, "events flushed");
    Ok(Reply::value(
        StatusCode::OK,
        &json!({"status": "flushed", "event_ids": names, "deleted_tickets": deleted}),
    ))
}

fn invalid_event(error: EventIdError) -> Refusal {
    Refusal::new(Code::InvalidEventId, format!("event_id: {error}"))
}

/// The event that the path names.
fn event_of(parts: &Parts) -> Result<EventId, Refusal> {
    let name = parts.uri.path().strip_prefix(EVENTS).unwrap_or_default();
    let name = name.strip_suffix(OVERRIDES).unwrap_or(name);
    EventId::new(&super::token::unescape(name)).map_err(invalid_event)
}

fn no_such_event() -> Refusal {
    Refusal::new(Code::EventNotFound, "no such event")
}

fn told(shared: &Shared, event: &EventId, policy: &Policy) -> Reply {
    Reply::value(
        StatusCode::OK,
        &json!({
            "event_id": event.as_str(),
            "policy": PolicyPatch::from(policy),
            "overrides": shared.room.patch(event).unwrap_or_default(),
        }),
    )
}

/// The policy in force, and what of it was set at run time.
pub(super) fn event(shared: &Shared, parts: &Parts) -> Result<Reply, Refusal> {
    current(shared, &event_of(parts)?)
}

fn current(shared: &Shared, event: &EventId) -> Result<Reply, Refusal> {
    let policy = shared.room.policy(event).ok_or_else(no_such_event)?;
    Ok(told(shared, event, &policy))
}

/// Changes some fields of an event's policy, durably and at once; fields changed before stay
/// changed. The event need not have been joined yet.
pub(super) async fn patch_event(
    shared: &Shared,
    parts: &Parts,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let event = event_of(parts)?;
    let change = body::object(shared, body).await?.into_fields();
    let change: PolicyPatch = serde_json::from_value(Value::Object(change))
        .map_err(|mistakes| Refusal::invalid(mistakes.to_string()))?;
    for _ in 0..RULED_MAX {
        // What was changed before stays changed, at whichever node that was.
        let over = shared.room.ruling(&event).stamp;
        let patch = change
            .clone()
            .after(shared.room.patch(&event).unwrap_or_default());
        shared
            .room
            .try_patch(&event, Some(&patch))
            .map_err(|mistakes| invalid_policy(&mistakes))?;
        let change = Change::Policy {
            patch: Some(json!(patch).to_string()),
            over: Some(over),
        };
        let ruled = rule(shared, &event, change).await?;
        shared.room.take_ruling(shared.now(), &event, &ruled.ruling);
        if ruled.taken {
            return current(shared, &event);
        }
    }
    Err(Unavailable("the policy is being changed elsewhere".to_owned()).into())
}

/// Goes back to the configured policy: what was changed at run time is gone.
pub(super) async fn reset_event(shared: &Shared, parts: &Parts) -> Result<Reply, Refusal> {
    let event = event_of(parts)?;
    if shared.room.policy(&event).is_none() {
        return Err(no_such_event());
    }
    let change = Change::Policy {
        patch: None,
        over: None,
    };
    let ruled = rule(shared, &event, change).await?;
    shared.room.take_ruling(shared.now(), &event, &ruled.ruling);
    current(shared, &event)
}

/// Makes a change in the store, which decides what is the later of two.
async fn rule(shared: &Shared, event: &EventId, change: Change) -> Result<Ruled, Refusal> {
    let at = shared.room.stamp(shared.now());
    Ok(in_time(shared.effects.rule(event.clone(), change, at)).await?)
}

fn invalid_policy(mistakes: &[PolicyMistake]) -> Refusal {
    let texts: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    Refusal::invalid(texts.join("; "))
}
