//! One node: its parts, started and stopped in the order in which nothing is lost.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::engine::{Design, Engine};
use super::{RunError, parts, scrape};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::{self, Build, Drained, Face, Shared};
use crate::room::Room;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::version;

/// A running node.
pub struct Node {
    /// Where visitors are answered.
    pub listen: SocketAddr,
    /// Where operators are answered, if anywhere.
    pub admin_listen: Option<SocketAddr>,
    pub(super) room: Arc<Room>,
    pub(super) shared: Arc<Shared>,
    engine: Engine,
    listeners: Vec<JoinHandle<Drained>>,
    stop_listening: watch::Sender<bool>,
}

impl Node {
    /// Starts a node over a store; answers when it is ready.
    ///
    /// # Errors
    /// It cannot listen, or the store does not answer.
    pub async fn start(
        config: &Config,
        clock: Clock,
        store: Arc<dyn Store>,
        keys: parts::Keys,
    ) -> Result<Self, RunError> {
        let design = Design {
            node: config.fleet.node,
            fleet: config.fleet.size.get(),
            events_max: config.events.max_events.get() as usize,
            skew_max: config.fleet.max_clock_skew,
            lag_max: config.journal.lag,
            stale_after: config.journal.stale_after,
            limits: parts::limits(config),
            settings: parts::room_settings(config),
        };
        let mut engine = Engine::open(design, clock.clone(), store, keys).await?;
        let (room, effects) = (Arc::clone(&engine.room), Arc::clone(&engine.effects));
        let metrics = Arc::new(Metrics::new(http::ROUTES));
        metrics.read_from(scrape::source(&room, &effects, &clock));
        let shared = Arc::new(Shared::new(
            Arc::clone(&room),
            effects,
            clock.clone(),
            metrics,
            parts::http_settings(config),
            Build {
                version: version::VERSION,
                commit: version::COMMIT,
                built: version::BUILT,
            },
        ));
        let (stop_listening, stopped) = watch::channel(false);
        let (listeners, listen, admin) = listen(config, &shared, &stopped)?;
        engine.run().await?;
        announce(listen, admin);
        Ok(Self {
            listen,
            admin_listen: admin,
            room,
            shared,
            engine,
            listeners,
            stop_listening,
        })
    }

    /// Stops in the order in which nothing acknowledged is lost; says what is left, if anything.
    pub async fn stop(self, config: &Config) {
        self.shared.start_draining();
        self.stop_listening.send_replace(true);
        let mut cut = 0;
        for listener in self.listeners {
            cut += listener.await.map_or(0, |drained| drained.cut);
        }
        let left = self.engine.stop(config.server.drain_timeout).await;
        if left > 0 {
            tracing::error!(
                records = left,
                "stopped with records that the store did not take"
            );
        }
        tracing::info!(connections_cut = cut, records_left = left, "stopped");
    }
}

type Listening = (Vec<JoinHandle<Drained>>, SocketAddr, Option<SocketAddr>);

/// Binds both listeners before anything is answered, then answers on them.
fn listen(
    config: &Config,
    shared: &Arc<Shared>,
    stopped: &watch::Receiver<bool>,
) -> Result<Listening, RunError> {
    let visitors = bind(config.server.listen)?;
    let admin = match config.server.admin_listen {
        None => None,
        Some(address) if http::admin_may_listen(address.ip(), &parts::http_settings(config)) => {
            Some(bind(address)?)
        }
        Some(address) => {
            tracing::warn!(
                %address,
                "admin listener not started: away from loopback it needs [admin] token"
            );
            None
        }
    };
    let (listener, listen) = visitors;
    let mut tasks = vec![tokio::spawn(http::serve(
        listener,
        Arc::clone(shared),
        Face::Visitor,
        stop(stopped.clone()),
    ))];
    let admin = admin.map(|(listener, address)| {
        let open_reads = address.ip().is_loopback();
        let face = Face::Admin { open_reads };
        let served = http::serve(listener, Arc::clone(shared), face, stop(stopped.clone()));
        tasks.push(tokio::spawn(served));
        address
    });
    Ok((tasks, listen, admin))
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |source| RunError::Listen { address, source };
    let listener = http::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn stop(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone wants a stop too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn announce(listen: SocketAddr, admin: Option<SocketAddr>) {
    let admin = admin.map_or_else(|| "off".to_owned(), |address| address.to_string());
    tracing::info!(
        listen = %listen,
        admin_listen = %admin,
        version = version::VERSION,
        "serving"
    );
    tracing::info!(
        "try: curl -s http://{listen}/api/v1/queue/join -d '{{\"event_id\": \"demo\"}}'"
    );
}
