//! The composition root: what runs, in which order it starts and stops.
//!
//! Start: store → keys → room → listeners (answering "loading") → load → ready → turns, flushing.
//! Stop: not ready → requests drained → turns stopped → journal flushed → store closed.

mod effects;
mod load;
mod parts;
mod scrape;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::{Config, Sources, Watch, WatchError};
use crate::http::{self, Build, Drained, Face, Shared};
use crate::journal::flush::Flusher;
use crate::journal::health::Health;
use crate::journal::lane::Journal;
use crate::model::Micros;
use crate::room::{Identity, Room};
use crate::store::Store;
use crate::telemetry::logging::LogHandle;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::version;

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The signals that ask for a stop cannot be listened to.
    #[error("cannot listen for signals: {0}")]
    Signal(#[from] std::io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::store::embedded::OpenError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A ticket key cannot be used.
    #[error(transparent)]
    TicketKey(#[from] crate::model::token::KeyError),
    /// A pass key cannot be used.
    #[error(transparent)]
    PassKey(#[from] crate::model::pass::PassKeyError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The certificate authorities of Redis cannot be read.
    #[error("redis.ca cannot be read: {0}")]
    RedisCa(std::io::Error),
    /// Keys that a node makes for itself are of no use to others.
    #[error("a redis store needs keys that all nodes share: set [keys]")]
    NoKeys,
}

/// Runs until `SIGTERM` or `SIGINT`. `sources` are where `config` came from, for reloads.
///
/// # Errors
/// It cannot start; nothing was answered then.
pub async fn run(config: Config, sources: Sources, log: LogHandle) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let config = Arc::new(config);
    let descriptors = http::raise_descriptor_limit();
    if descriptors < config.limits.connections as u64 {
        tracing::warn!(
            descriptors,
            "fewer open files are allowed than limits.connections"
        );
    }
    let clock = Clock::real(config.fleet.max_clock_skew);
    let (store, keys) = parts::store_and_keys(&config, &clock).await?;
    let partitions = store.meta(parts::PARTITIONS).await?.partitions;
    let watch = Watch::new(sources, Arc::clone(&config))?;
    let changes = watch.subscribe();
    let watching = tokio::spawn(watch.run(std::future::pending()));
    let node = Node::start(&config, clock, store, keys, partitions).await?;
    let following = tokio::spawn(follow(
        Arc::clone(&node.room),
        Arc::clone(&node.shared),
        changes,
        log,
    ));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM received, draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT received, draining"),
    }
    watching.abort();
    following.abort();
    node.stop(&config).await;
    Ok(())
}

/// A running node, as the parts that have to be stopped.
struct Node {
    room: Arc<Room>,
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    listeners: Vec<JoinHandle<Drained>>,
    turns: JoinHandle<()>,
    flusher: JoinHandle<usize>,
    stop_listening: watch::Sender<bool>,
    stop_turns: watch::Sender<bool>,
    stop_flushing: watch::Sender<bool>,
}

impl Node {
    async fn start(
        config: &Arc<Config>,
        clock: Clock,
        store: Arc<dyn Store>,
        keys: parts::Keys,
        partitions: u16,
    ) -> Result<Self, RunError> {
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
        load::load(&room, &store, &clock).await?;
        let (stop_flushing, drain) = watch::channel(false);
        let dumped = Arc::clone(&room);
        let flusher = Flusher {
            journal,
            store: Arc::clone(&store),
            clock: clock.clone(),
            health: Arc::clone(&health),
            dump: Box::new(move |lane| {
                let mut all = Vec::new();
                dumped.dump(lane, |event, records| all.push((event.clone(), records)));
                all
            }),
        };
        let (stop_turns, stop) = watch::channel(false);
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
            room,
            shared,
            store,
            listeners,
            turns,
            flusher,
            stop_listening,
            stop_turns,
            stop_flushing,
        })
    }

    /// Stops in the order in which nothing acknowledged is lost; says what is left, if anything.
    async fn stop(self, config: &Config) {
        self.shared.start_draining();
        self.stop_listening.send_replace(true);
        let mut cut = 0;
        for listener in self.listeners {
            cut += listener.await.map_or(0, |drained| drained.cut);
        }
        self.stop_turns.send_replace(true);
        let _ = self.turns.await;
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

/// Applies what may change at run time.
async fn follow(
    room: Arc<Room>,
    shared: Arc<Shared>,
    mut changes: watch::Receiver<Arc<Config>>,
    log: LogHandle,
) {
    while changes.changed().await.is_ok() {
        let config = Arc::clone(&changes.borrow_and_update());
        log.set(&config.log.level);
        shared.set(parts::http_settings(&config));
        room.reconfigure(shared.now(), parts::room_settings(&config));
    }
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
