//! One node: its parts, started and stopped in the order in which nothing is lost.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{RunError, effects, load, parts, refill, scrape, turns, until_answered};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::{self, Build, Drained, Face, Shared};
use crate::journal::flush::Flusher;
use crate::journal::health::Health;
use crate::journal::lane::Journal;
use crate::model::Micros;
use crate::room::{Identity, Room};
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
    store: Arc<dyn Store>,
    listeners: Vec<JoinHandle<Drained>>,
    turns: JoinHandle<()>,
    refill: JoinHandle<()>,
    /// In a fleet only.
    follower: Option<JoinHandle<()>>,
    flusher: JoinHandle<usize>,
    stop_listening: watch::Sender<bool>,
    stop_turns: watch::Sender<bool>,
    stop_flushing: watch::Sender<bool>,
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
        let meta = until_answered(async || Ok(store.meta(parts::PARTITIONS).await?)).await?;
        let partitions = meta.partitions;
        let now = Micros(clock.now_micros());
        let epoch = u32::try_from(now.0 / 1_000_000).unwrap_or(u32::MAX);
        let limits = parts::limits(config);
        let journal = Arc::new(Journal::new(partitions, config.fleet.node, epoch, limits));
        let identity = Identity {
            node: config.fleet.node,
            fleet: config.fleet.size.get(),
            epoch,
            events_max: config.events.max_events.get() as usize,
            skew_max: config.fleet.max_clock_skew,
            lag_max: config.journal.lag,
            share_limit: config.fleet.share_limit,
        };
        let settings = parts::room_settings(config);
        let room = Arc::new(Room::new(
            now,
            identity,
            settings,
            keys,
            Arc::clone(&journal),
        ));
        let health = Arc::new(Health::default());
        let stale_after = config.journal.stale_after;
        let effects = Arc::new(effects::StoreEffects {
            store: Arc::clone(&store),
            health: Arc::clone(&health),
            journal: Arc::clone(&journal),
            clock: clock.clone(),
            stale_after,
        });
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
        let loaded = until_answered(async || Ok(load::load(&room, &store, &clock).await?)).await?;
        let (stop_flushing, drain) = watch::channel(false);
        let dumped = Arc::clone(&room);
        let flusher = Flusher {
            journal,
            store: Arc::clone(&store),
            clock: clock.clone(),
            health: Arc::clone(&health),
            in_fleet: config.fleet.size.get() > 1,
            dump: Box::new(move |lane| {
                let mut all = Vec::new();
                dumped.dump(lane, |event, records| all.push((event.clone(), records)));
                all
            }),
        };
        let (stop_turns, stop) = watch::channel(false);
        let follower = (config.fleet.size.get() > 1).then(|| {
            let follower = load::follower(&room, &store, &clock, &health);
            tokio::spawn(follower.run(loaded.ends, stop.clone()))
        });
        let watch = refill::Watch {
            room: Arc::clone(&room),
            store: Arc::clone(&store),
            health: Arc::clone(&health),
            clock: clock.clone(),
        };
        let refill = tokio::spawn(watch.run(meta, stop.clone()));
        let turns = turns::Turns {
            room: Arc::clone(&room),
            store: Arc::clone(&store),
            health,
            clock,
            stale_after,
        };
        let flusher = tokio::spawn(flusher.run(drain));
        let turns = tokio::spawn(turns.run(stop));
        room.set_loaded(true);
        announce(listen, admin);
        Ok(Self {
            listen,
            admin_listen: admin,
            room,
            shared,
            store,
            listeners,
            turns,
            refill,
            follower,
            flusher,
            stop_listening,
            stop_turns,
            stop_flushing,
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
        self.stop_turns.send_replace(true);
        let _ = self.turns.await;
        let _ = self.refill.await;
        if let Some(follower) = self.follower {
            let _ = follower.await;
        }
        self.stop_flushing.send_replace(true);
        let flushed = tokio::time::timeout(config.server.drain_timeout, self.flusher).await;
        let left = match flushed {
            Ok(Ok(left)) => left,
            Ok(Err(_)) | Err(_) => self.room.journal().depth(),
        };
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store did not close well");
        }
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
