//! What machines ask of the process: alive, ready, which version, keys, the API's description.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::json;

use super::Shared;
use super::reply::Reply;
use crate::model::policy::moment_text;

const SERVICE: &str = "tidegate";
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
/// The API's description; a test holds it true.
const OPENAPI: &str = include_str!("openapi.json");

/// The process works; asks nobody.
pub(super) fn healthz(shared: &Shared) -> Reply {
    let now = moment_text(shared.now());
    Reply::value(
        StatusCode::OK,
        &json!({"status": "healthy", "timestamp": now, "service": SERVICE}),
    )
}

/// Loaded and not draining. Does not depend on the store.
pub(super) fn readyz(shared: &Shared) -> Reply {
    let reason = if shared.is_draining() {
        "draining"
    } else if shared.room.is_serving() {
        let now = moment_text(shared.now());
        return Reply::value(
            StatusCode::OK,
            &json!({
                "status": "ready",
                "timestamp": now,
                "service": SERVICE,
                "dependencies": {"store": shared.effects.health().as_str()},
            }),
        );
    } else {
        "loading"
    };
    Reply::value(
        StatusCode::SERVICE_UNAVAILABLE,
        &json!({"status": "not ready", "reason": reason}),
    )
}

pub(super) fn version(shared: &Shared) -> Reply {
    let build = shared.build;
    Reply::value(
        StatusCode::OK,
        &json!({
            "service": SERVICE,
            "version": build.version,
            "commit": build.commit,
            "built": build.built,
        }),
    )
}

pub(super) fn openapi() -> Reply {
    Reply::ok(OPENAPI)
}

/// The keys that verify passes.
pub(super) fn jwks(shared: &Shared) -> Reply {
    let mut reply = Reply::ok(shared.room.jwks().to_owned());
    reply.content = JWK_SET;
    reply
}

pub(super) fn metrics(shared: &Shared) -> Reply {
    let mut reply = Reply::ok(shared.metrics.render());
    reply.content = OPENMETRICS;
    reply
}
