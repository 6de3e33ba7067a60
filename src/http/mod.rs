//! HTTP/1.1: bytes in, bytes out, no queue logic.
//!
//! [`server::serve`] takes a listener and answers on it until it is told to stop. Routes are one
//! match in `route`; each verb is a file; every refusal becomes an answer through one table in
//! `refusal`. The status poll is the product: it runs without waiting, locks or the store, and its
//! answer is written by hand.

mod admin;
mod body;
mod conn;
mod cors;
mod date;
mod descriptors;
mod direct;
mod enter;
mod head;
mod io;
mod join;
mod joins;
mod leave;
mod ops;
mod passes;
mod plain;
mod refusal;
mod repeat;
mod reply;
mod route;
pub mod server;
mod service;
pub mod settings;
mod status;
mod sweep;
mod token;
mod trace;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::model::Micros;
use crate::room::Room;
use crate::room::effects::{Effect, Effects, Unavailable};
use crate::telemetry::metrics::Metrics;

pub use descriptors::raise_descriptor_limit;
pub use reply::Response;
pub use route::{Answer, ROUTES};
pub use server::{Answers, Drained, Face, Polls, bind, serve, serve_one, serve_with};
pub use settings::{Cors, Limits, Settings, admin_may_listen};
pub use status::body as status_body;

/// What the binary says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The version, as in `Cargo.toml`.
    pub version: &'static str,
    /// The commit it was built from.
    pub commit: &'static str,
    /// When it was built.
    pub built: &'static str,
}

/// What all connections share.
pub struct Shared {
    room: Arc<Room>,
    effects: Arc<dyn Effects>,
    clock: Clock,
    metrics: Arc<Metrics>,
    build: Build,
    settings: ArcSwap<Settings>,
    /// Follows `settings.limits.joins_per_second`.
    joins: joins::Limiter,
    repeats: repeat::Repeats,
    draining: AtomicBool,
}

impl Shared {
    /// Everything a listener needs. `metrics` must have been made for [`ROUTES`].
    pub fn new(
        room: Arc<Room>,
        effects: Arc<dyn Effects>,
        clock: Clock,
        metrics: Arc<Metrics>,
        settings: Settings,
        build: Build,
    ) -> Self {
        let joins = joins::Limiter::new(settings.limits.joins_per_second, clock.clone());
        Self {
            room,
            effects,
            clock,
            metrics,
            build,
            settings: ArcSwap::from_pointee(settings),
            joins,
            repeats: repeat::Repeats::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// Goes by other settings from the next request on. The sizes of heads (`header_bytes`,
    /// `headers`) are fixed when a listener starts.
    pub fn set(&self, settings: Settings) {
        self.joins.set(settings.limits.joins_per_second);
        self.settings.store(Arc::new(settings));
    }

    /// Turns readiness off; requests are still answered. [`serve`] does the same when it is told to
    /// stop.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Forgets the cached answers. Costs nothing but time: they hold nothing that cannot be made
    /// again.
    pub fn forget_repeats(&self) {
        self.repeats.clear();
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The time, as requests see it.
    pub fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }
}

/// How long a request waits for the store.
const EFFECT_PATIENCE: Duration = Duration::from_secs(2);

/// What an effect answers, if it does so while the visitor is still there.
async fn in_time<T>(effect: Effect<'_, T>) -> Result<T, Unavailable> {
    tokio::time::timeout(EFFECT_PATIENCE, effect)
        .await
        .unwrap_or_else(|_| Err(Unavailable(format!("nothing within {EFFECT_PATIENCE:?}"))))
}
