//! From method and path to what is done: one table of paths, one match of everything.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};

use super::refusal::{Code, Refusal};
use super::reply::{Call, Reply, Response, Short, finish};
use super::server::Face;
use super::{Shared, admin, enter, join, leave, ops, passes, status};
use crate::model::Micros;

/// Everything that can be asked for. The numbers are the rows of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Join,
    Status,
    Enter,
    Leave,
    Healthz,
    Readyz,
    Version,
    OpenApi,
    Jwks,
    Metrics,
    AdminHealth,
    AdminStats,
    AdminNodes,
    Flush,
    Event,
    Overrides,
    Introspect,
    Complete,
    Unknown,
}

/// The routes as metrics and logs name them, one row of the metrics each.
pub const ROUTES: &[&str] = &[
    "join",
    "status",
    "enter",
    "leave",
    "healthz",
    "readyz",
    "version",
    "openapi",
    "jwks",
    "metrics",
    "admin_health",
    "admin_stats",
    "admin_nodes",
    "flush_test_data",
    "event_policy",
    "event_overrides",
    "pass_introspect",
    "pass_complete",
    "unknown",
];

/// Where polls go.
pub(super) const STATUS: &str = "/api/v1/queue/status";
/// Where event policies are; the event's name follows.
pub(super) const EVENTS: &str = "/api/v1/admin/events/";
/// What follows the event's name where its changes at run time are.
pub(super) const OVERRIDES: &str = "/overrides";

impl Route {
    fn of(path: &str, face: Face) -> Self {
        let known = match path {
            STATUS => Self::Status,
            "/api/v1/queue/join" => Self::Join,
            "/api/v1/queue/enter" => Self::Enter,
            "/api/v1/queue/leave" => Self::Leave,
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/version" => Self::Version,
            "/openapi.json" => Self::OpenApi,
            "/.well-known/jwks.json" => Self::Jwks,
            "/metrics" => Self::Metrics,
            "/api/v1/admin/health" => Self::AdminHealth,
            "/api/v1/admin/stats" => Self::AdminStats,
            "/api/v1/admin/nodes" => Self::AdminNodes,
            "/api/v1/admin/flush-test-data" => Self::Flush,
            "/api/v1/passes/introspect" => Self::Introspect,
            "/api/v1/passes/complete" => Self::Complete,
            _ => path.strip_prefix(EVENTS).map_or(Self::Unknown, |rest| {
                let (event, known) = match rest.strip_suffix(OVERRIDES) {
                    Some(event) => (event, Self::Overrides),
                    None => (rest, Self::Event),
                };
                if event.is_empty() || event.contains('/') {
                    Self::Unknown
                } else {
                    known
                }
            }),
        };
        if known.is_for(face) {
            known
        } else {
            Self::Unknown
        }
    }

    /// Visitors have no business with operators' routes; operators may use all.
    const fn is_for(self, face: Face) -> bool {
        match self {
            Self::Join
            | Self::Status
            | Self::Enter
            | Self::Leave
            | Self::Healthz
            | Self::Readyz
            | Self::Version
            | Self::OpenApi
            | Self::Jwks
            | Self::Unknown => true,
            Self::Metrics
            | Self::AdminHealth
            | Self::AdminStats
            | Self::AdminNodes
            | Self::Flush
            | Self::Event
            | Self::Overrides
            | Self::Introspect
            | Self::Complete => matches!(face, Face::Admin { .. }),
        }
    }

    /// Whether it shows or changes the line.
    const fn is_queue(self) -> bool {
        matches!(
            self,
            Self::Join
                | Self::Status
                | Self::Enter
                | Self::Leave
                | Self::Flush
                | Self::Event
                | Self::Overrides
        )
    }

    pub fn name(self) -> &'static str {
        ROUTES[self as usize]
    }

    /// The `Allow` header.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Join | Self::Enter | Self::Flush | Self::Introspect | Self::Complete => {
                "POST, OPTIONS"
            }
            Self::Leave => "POST, DELETE, OPTIONS",
            Self::Event => "GET, HEAD, PATCH, OPTIONS",
            Self::Overrides => "DELETE, OPTIONS",
            Self::Status
            | Self::Healthz
            | Self::Readyz
            | Self::Version
            | Self::OpenApi
            | Self::Jwks
            | Self::Metrics
            | Self::AdminHealth
            | Self::AdminStats
            | Self::AdminNodes => "GET, HEAD, OPTIONS",
            Self::Unknown => "",
        }
    }
}

/// The methods that some route knows. A `HEAD` is a `GET` whose body hyper leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Delete,
    Patch,
    Options,
    Other,
}

impl Method {
    fn of(method: &hyper::Method) -> Self {
        match *method {
            hyper::Method::GET | hyper::Method::HEAD => Self::Get,
            hyper::Method::POST => Self::Post,
            hyper::Method::DELETE => Self::Delete,
            hyper::Method::PATCH => Self::Patch,
            hyper::Method::OPTIONS => Self::Options,
            _ => Self::Other,
        }
    }
}

/// An answer, or what will make one.
pub enum Answer {
    /// The answer.
    Now(Response),
    /// Its maker.
    Later(std::pin::Pin<Box<dyn Future<Output = Response> + Send>>),
}

/// What a route does: at once, or after waiting for a body or the store.
enum Step {
    Done(Result<Reply, Refusal>),
    Wait(Waits),
}

/// The calls that wait.
#[derive(Debug, Clone, Copy)]
enum Waits {
    Join,
    Enter,
    Flush,
    PatchEvent,
    ResetEvent,
    Introspect,
    Complete,
}

/// Answers one request.
pub(super) fn answer(shared: &Arc<Shared>, face: Face, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let began = shared.now();
    let route = Route::of(parts.uri.path(), face);
    let method = Method::of(&parts.method);
    let settings = shared.settings.load();
    let url_bytes = parts.uri.path_and_query().map_or(0, |p| p.as_str().len());
    let step = if url_bytes > settings.limits.url_bytes {
        Step::Done(Err(Refusal::new(Code::UrlTooLong, "the URL is too long")))
    } else {
        decide(shared, face, route, method, &parts, began)
    };
    match step {
        Step::Done(outcome) => {
            let call = Call {
                shared,
                settings: &settings,
                face,
                route,
                method,
                began,
            };
            Answer::Now(finish(&call, parts, outcome))
        }
        Step::Wait(what) => {
            let shared = Arc::clone(shared);
            let settings = Arc::clone(&settings);
            Answer::Later(Box::pin(async move {
                let outcome = wait(what, &shared, &parts, body).await;
                let call = Call {
                    shared: &shared,
                    settings: &settings,
                    face,
                    route,
                    method,
                    began,
                };
                finish(&call, parts, outcome)
            }))
        }
    }
}

fn decide(
    shared: &Shared,
    face: Face,
    route: Route,
    method: Method,
    parts: &Parts,
    began: Micros,
) -> Step {
    let reads = |reply: fn(&Shared) -> Reply| {
        Step::Done(admin::may_read(shared, face, parts).map(|()| reply(shared)))
    };
    let changes = |what| match admin::may_change(shared, parts) {
        Ok(()) => Step::Wait(what),
        Err(refusal) => Step::Done(Err(refusal)),
    };
    if let Err(refusal) = may_answer(shared, route, method) {
        return Step::Done(Err(refusal));
    }
    match (route, method) {
        (Route::Status, Method::Get) => {
            let mut text = Short::new();
            let query = parts.uri.query().unwrap_or_default();
            let told = status::status(shared, query, &parts.headers, began, &mut text);
            Step::Done(told.map(|kept| Reply::ok(kept.unwrap_or_else(|| text.to_bytes()))))
        }
        (Route::Join, Method::Post) => match shared.joins.check() {
            Ok(()) => Step::Wait(Waits::Join),
            Err(refusal) => Step::Done(Err(refusal.into())),
        },
        (Route::Enter, Method::Post) => Step::Wait(Waits::Enter),
        (Route::Leave, Method::Delete) => Step::Done(leave::leave(shared, parts)),
        (Route::Leave, Method::Post) => Step::Done(leave::leave_softly(shared, parts)),
        (Route::Healthz, Method::Get) => Step::Done(Ok(ops::healthz(shared))),
        (Route::Readyz, Method::Get) => Step::Done(Ok(ops::readyz(shared))),
        (Route::Version, Method::Get) => Step::Done(Ok(ops::version(shared))),
        (Route::OpenApi, Method::Get) => Step::Done(Ok(ops::openapi())),
        (Route::Jwks, Method::Get) => Step::Done(Ok(ops::jwks(shared))),
        (Route::Metrics, Method::Get) => reads(ops::metrics),
        (Route::AdminHealth, Method::Get) => reads(admin::health),
        (Route::AdminStats, Method::Get) => reads(admin::stats),
        (Route::AdminNodes, Method::Get) => reads(admin::nodes),
        (Route::Event, Method::Get) => Step::Done(
            admin::may_read(shared, face, parts).and_then(|()| admin::event(shared, parts)),
        ),
        (Route::Event, Method::Patch) => changes(Waits::PatchEvent),
        (Route::Overrides, Method::Delete) => changes(Waits::ResetEvent),
        (Route::Flush, Method::Post) => changes(Waits::Flush),
        (Route::Complete, Method::Post) => changes(Waits::Complete),
        (Route::Introspect, Method::Post) => match admin::may_read(shared, face, parts) {
            Ok(()) => Step::Wait(Waits::Introspect),
            Err(refusal) => Step::Done(Err(refusal)),
        },
        (Route::Unknown, _) => Step::Done(Err(Refusal::new(
            Code::NotFound,
            "there is nothing at this path",
        ))),
        (_, Method::Options) => Step::Done(Ok(Reply::json(StatusCode::NO_CONTENT, ""))),
        (
            Route::Join
            | Route::Status
            | Route::Enter
            | Route::Leave
            | Route::Healthz
            | Route::Readyz
            | Route::Version
            | Route::OpenApi
            | Route::Jwks
            | Route::Metrics
            | Route::AdminHealth
            | Route::AdminStats
            | Route::AdminNodes
            | Route::Flush
            | Route::Event
            | Route::Overrides
            | Route::Introspect
            | Route::Complete,
            Method::Get | Method::Post | Method::Delete | Method::Patch | Method::Other,
        ) => Step::Done(Err(Refusal::new(
            Code::MethodNotAllowed,
            "this path does not know this method",
        )
        .allowing(route.allow()))),
    }
}

/// Half a room must not answer: a place told from it would rise when the rest is there.
pub(super) fn may_answer(shared: &Shared, route: Route, method: Method) -> Result<(), Refusal> {
    if route.is_queue() && method != Method::Options && !shared.room.is_serving() {
        return Err(Refusal::loading());
    }
    Ok(())
}

async fn wait(
    what: Waits,
    shared: &Shared,
    parts: &Parts,
    body: Incoming,
) -> Result<Reply, Refusal> {
    match what {
        Waits::Join => join::join(shared, parts, body).await,
        Waits::Enter => enter::enter(shared, parts, body).await,
        Waits::Flush => admin::flush(shared, parts, body).await,
        Waits::PatchEvent => admin::patch_event(shared, parts, body).await,
        Waits::ResetEvent => admin::reset_event(shared, parts).await,
        Waits::Introspect => passes::introspect(shared, parts, body).await,
        Waits::Complete => passes::complete(shared, parts, body).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: Face = Face::Admin { open_reads: true };

    #[test]
    fn every_route_has_its_name() {
        assert_eq!(Route::Unknown as usize + 1, ROUTES.len());
        assert_eq!(Route::Complete.name(), "pass_complete");
        assert_eq!(Route::Flush.name(), "flush_test_data");
    }

    #[test]
    fn operators_routes_do_not_exist_for_visitors() {
        assert_eq!(Route::of("/metrics", Face::Visitor), Route::Unknown);
        assert_eq!(Route::of("/metrics", ADMIN), Route::Metrics);
        assert_eq!(Route::of("/api/v1/admin/events/", ADMIN), Route::Unknown);
        assert_eq!(Route::of("/api/v1/admin/events/a/b", ADMIN), Route::Unknown);
        let overrides = |event: &str| Route::of(&format!("{EVENTS}{event}{OVERRIDES}"), ADMIN);
        assert_eq!(overrides("a"), Route::Overrides);
        assert_eq!(overrides(""), Route::Unknown);
        assert_eq!(overrides("a/b"), Route::Unknown);
        assert_eq!(Route::of("/healthz/", Face::Visitor), Route::Unknown);
    }
}
