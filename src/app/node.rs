//! One node: its parts, started and stopped in the order in which nothing is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::work::{Handles, Work};
use super::{RunError, beats, effects, late, load, parts, scrape};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::{self, Build, Drained, Face, Shared};
use crate::journal::health::Health;
use crate::journal::lane::Journal;
use crate::model::{Beat, Micros};
use crate::room::effects::Nodes;
use crate::room::{Identity, Room};
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::version;

/// How long the store may take to answer for the first time before it is served without.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

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
    /// Gives the work out once it is there, which it mostly is at once.
    work: JoinHandle<Option<Work>>,
    failed: oneshot::Receiver<RunError>,
    beats: JoinHandle<()>,
    stop_listening: watch::Sender<bool>,
    stop_waiting: watch::Sender<bool>,
}

impl Node {
    /// Starts a node over a store; answers when it is ready.
    ///
    /// # Errors
    /// It cannot listen, or the store refuses it. A store that does not answer is waited for, or
    /// served without, as `store.start` says.
    pub async fn start(
        config: &Config,
        clock: Clock,
        store: Arc<dyn Store>,
        keys: parts::Keys,
    ) -> Result<Self, RunError> {
        let start = config.store.start;
        let meta = async || Ok(store.meta(parts::PARTITIONS).await?);
        let meta = late::answered(start, FIRST_ANSWER, meta).await?;
        // What is assumed of a store that is served without is held against it when it answers.
        let partitions = meta
            .as_ref()
            .map_or(parts::PARTITIONS, |meta| meta.partitions);
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
        let stale_after = config.journal.stale_after;
        let handles = Handles {
            room: Arc::clone(&room),
            journal: Arc::clone(&journal),
            store: Arc::clone(&store),
            health: Arc::new(Health::new(u64::from(config.fleet.node.0))),
            clock: clock.clone(),
        };
        let effects = Arc::new(effects::StoreEffects {
            store: Arc::clone(&store),
            health: Arc::clone(&handles.health),
            journal,
            clock: clock.clone(),
            stale_after,
            in_fleet: config.fleet.size.get() > 1,
            nodes: ArcSwap::from_pointee(Nodes {
                own: config.fleet.node,
                size: config.fleet.size.get(),
                beats: Vec::new(),
                number_taken: false,
            }),
        });
        let metrics = Arc::new(Metrics::new(http::ROUTES));
        metrics.read_from(scrape::source(&room, &effects, &clock));
        let shared = Arc::new(Shared::new(
            Arc::clone(&room),
            Arc::<effects::StoreEffects>::clone(&effects),
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
        let load = async || {
            let began = Micros(clock.now_micros());
            let loaded = load::load(&room, &store, &clock).await?;
            room.note_loaded(began);
            Ok(loaded)
        };
        let loaded = match meta {
            Some(_) => late::answered(start, Duration::MAX, load).await?,
            None => None,
        };
        let (fail, failed) = oneshot::channel();
        let (stop_waiting, stop) = watch::channel(false);
        let work = if let Some(loaded) = loaded {
            let work = Work::start(stale_after, &handles, loaded);
            room.set_loaded(true);
            tokio::spawn(std::future::ready(Some(work)))
        } else {
            handles.health.leave_alone();
            room.serve_empty();
            tokio::spawn(late::catch_up(stale_after, handles, stop.clone(), fail))
        };
        let beat = Beat {
            node: config.fleet.node,
            instance: rand::random(),
            version: version::VERSION.to_owned(),
            listen: listen.to_string(),
            started: now,
            at: now,
        };
        let beats = tokio::spawn(beats::run(beat, effects, stop));
        announce(listen, admin);
        Ok(Self {
            listen,
            admin_listen: admin,
            room,
            shared,
            store,
            listeners,
            work,
            failed,
            beats,
            stop_listening,
            stop_waiting,
        })
    }

    /// Waits until the node cannot go on: it was served without its store, which answers by now and
    /// is none that the node fits. For ever, mostly. To be asked once.
    pub async fn failed(&mut self) -> RunError {
        match (&mut self.failed).await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops in the order in which nothing acknowledged is lost; says what is left, if anything.
    pub async fn stop(self, config: &Config) {
        self.shared.start_draining();
        self.stop_listening.send_replace(true);
        let mut cut = 0;
        for listener in self.listeners {
            cut += listener.await.map_or(0, |drained| drained.cut);
        }
        self.stop_waiting.send_replace(true);
        let left = match self.work.await {
            Ok(Some(work)) => work.stop(config.server.drain_timeout).await,
            Ok(None) | Err(_) => None,
        };
        let _ = self.beats.await;
        let left = left.unwrap_or_else(|| self.room.journal().depth());
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
