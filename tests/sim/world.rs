//! Everything that is there: time, the store, what lies between, the nodes, and what clients saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep};

use tidegate::app::{Handles, StoreEffects, Work, catch_up, load};
use tidegate::clock::Clock;
use tidegate::journal::health::Health;
use tidegate::journal::lane::{Journal, Limits};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::model::{Change, EventId, Micros, NodeId, Policy, PolicyPatch, Rulings, TicketId};
use tidegate::room::effects::{Effects, Nodes};
use tidegate::room::{Identity, Room};
use tidegate::store::{Feed, Position, Store};

use super::history::Seen;
use super::link::{KEPT, Link};
use super::net::{Active, Fate, Net};
use super::server::Server;
use crate::room::house::{START, event, settings};

/// What stays as it is for a whole run.
#[derive(Debug, Clone)]
pub struct Setting {
    pub nodes: u16,
    pub partitions: u16,
    pub policy: Policy,
    /// A call to the store takes up to this long each way, in milliseconds.
    pub latency: u64,
    /// Records a node's journal holds.
    pub journal: usize,
    /// How far each node's clock is off at the start, in microseconds, and by how many millionths it
    /// runs fast.
    pub clocks: Vec<(i64, i64)>,
    pub seed: u64,
}

/// How far clocks may be apart.
pub const SKEW_MAX: Duration = Duration::from_secs(1);
/// A node whose view is older calls nobody.
pub const LAG_MAX: Duration = Duration::from_millis(500);
/// Answers are called degraded when something has waited for the store for so long.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// A store that does not answer a start is asked again after this.
const START_RETRY: Duration = Duration::from_secs(3);
/// The name under which deeds and places are told.
pub fn sale() -> EventId {
    event("sale")
}

/// A node in service.
pub struct Live {
    pub number: u16,
    pub room: Arc<Room>,
    pub effects: Arc<dyn Effects>,
    pub clock: Clock,
    work: Mutex<Option<Work>>,
    /// What makes up for a start without the store.
    late: Mutex<Option<JoinHandle<Option<Work>>>>,
    stop_waiting: watch::Sender<bool>,
    draining: AtomicBool,
    dead: AtomicBool,
    /// Turns that it gave without the store, as far as they were written down, and who went in.
    pub shared: Mutex<(BTreeSet<TicketId>, BTreeSet<TicketId>)>,
}

impl Live {
    pub fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    /// Whether an operator stops it.
    pub fn is_stopping(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether what it answers still reaches anybody.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

struct Parts {
    handles: Handles,
    effects: StoreEffects,
}

enum Slot {
    Down,
    Starting(AbortHandle),
    Up(Arc<Live>),
}

pub struct World {
    pub setting: Setting,
    begun: Instant,
    /// Where what is not a node's runs, and where each node does if that is not there.
    main: Handle,
    nodes: Vec<Handle>,
    /// Microseconds since the beginning, where nodes run apart.
    time: AtomicU64,
    /// Until when each node stands still, in milliseconds.
    frozen: Mutex<Vec<u64>>,
    /// How far the store's clock has jumped, in microseconds.
    store_jumped: AtomicI64,
    server: Mutex<Server>,
    pub net: Mutex<Net>,
    slots: Mutex<Vec<Slot>>,
    /// When each node noticed that the store may have lost writes.
    noticed: Mutex<Vec<Vec<u64>>>,
    /// How far each node's wall clock has jumped, in microseconds.
    jumped: Vec<Arc<AtomicI64>>,
    written: Vec<Notify>,
    pub history: Mutex<Vec<Seen>>,
    /// Visitors' tokens.
    tokens: Mutex<BTreeMap<usize, String>>,
    /// Visitors do nothing for a while.
    resting: AtomicBool,
    /// Records that drained nodes could not write.
    pub left_behind: Mutex<usize>,
    /// The most records that any journal held, and the most tickets that waited in a node's view.
    pub deepest: Mutex<(usize, u64)>,
}

impl World {
    /// A store and no nodes. To be called where time is virtual.
    pub fn new(setting: Setting, own: Vec<Handle>) -> Arc<Self> {
        let nodes = usize::from(setting.nodes);
        let jumped = (0..nodes).map(|_| Arc::new(AtomicI64::new(0)));
        Arc::new(Self {
            begun: Instant::now(),
            main: Handle::current(),
            nodes: own,
            time: AtomicU64::new(0),
            frozen: Mutex::new(vec![0; nodes]),
            store_jumped: AtomicI64::new(0),
            server: Mutex::new(Server::new(START, setting.partitions)),
            net: Mutex::new(Net::new(setting.seed, setting.latency)),
            slots: Mutex::new((0..nodes).map(|_| Slot::Down).collect()),
            noticed: Mutex::new(vec![Vec::new(); nodes]),
            jumped: jumped.collect(),
            written: (0..setting.partitions).map(|_| Notify::new()).collect(),
            history: Mutex::default(),
            tokens: Mutex::default(),
            resting: AtomicBool::new(false),
            left_behind: Mutex::default(),
            deepest: Mutex::default(),
            setting,
        })
    }

    /// Lets go of all nodes.
    pub fn end(&self) {
        let nodes = std::mem::take(&mut *self.slots.lock());
        drop(nodes);
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        if self.nodes.is_empty() {
            return Instant::now().duration_since(self.begun);
        }
        Duration::from_micros(self.time.load(Ordering::Relaxed))
    }

    /// Moves time on where nodes run apart; answers how long it is since the beginning.
    pub fn step(&self, by: Duration) -> Duration {
        let by = by.as_micros() as u64;
        Duration::from_micros(self.time.fetch_add(by, Ordering::Relaxed) + by)
    }

    /// Where what is on its way between nodes and the store runs.
    pub fn main(&self) -> &Handle {
        &self.main
    }

    /// Where a node's tasks run.
    pub fn handle(&self, node: u16) -> &Handle {
        self.nodes.get(usize::from(node)).unwrap_or(&self.main)
    }

    /// A node takes no step until so many milliseconds from now.
    pub fn freeze(&self, node: u16, lasts: u64) {
        self.frozen.lock()[usize::from(node)] = self.millis() + lasts;
    }

    pub fn is_frozen(&self, node: u16) -> bool {
        !self.nodes.is_empty() && self.frozen.lock()[usize::from(node)] > self.millis()
    }

    /// For how long a visitor's request lies at a node before it is taken, if it does: its client
    /// may give up meanwhile.
    pub fn held_up(&self, node: u16) -> Option<Duration> {
        if self.is_frozen(node) {
            return Some(Duration::ZERO);
        }
        let belated = self.net.lock().belated(self.millis(), node);
        belated.map(Duration::from_millis)
    }

    /// The store's clock jumps, by microseconds.
    pub fn jump_store(&self, by: i64) {
        self.store_jumped.fetch_add(by, Ordering::Relaxed);
    }

    /// Milliseconds since the beginning.
    pub fn millis(&self) -> u64 {
        self.elapsed().as_millis() as u64
    }

    /// The world's own time, which is the store's.
    pub fn now(&self) -> Micros {
        START.after(self.elapsed())
    }

    /// The store, as of now.
    pub fn server(&self) -> MutexGuard<'_, Server> {
        let now = self.now();
        let mut server = self.server.lock();
        server.now = now;
        let jumped = self.store_jumped.load(Ordering::Relaxed);
        server.clock = Micros(now.0.saturating_add_signed(jumped));
        server
    }

    pub fn fate(&self, node: u16, partition: u16, reads: bool) -> Fate {
        self.net.lock().fate(self.millis(), node, partition, reads)
    }

    pub fn is_blind(&self, node: u16) -> bool {
        self.net.lock().is_blind(self.millis(), node)
    }

    pub fn is_cut(&self, node: u16, partition: u16) -> bool {
        self.net.lock().is_cut(self.millis(), node, partition)
    }

    /// Brings a trouble into force.
    pub fn trouble(&self, active: Active) {
        let now = self.millis();
        let mut net = self.net.lock();
        net.heal(now);
        net.active.push(active);
    }

    /// Something was written to a partition.
    pub fn wrote(&self, partition: u16) {
        self.written[usize::from(partition)].notify_waiters();
    }

    /// Waits until something is written to a partition.
    pub async fn written(&self, partition: u16) {
        self.written[usize::from(partition)].notified().await;
    }

    /// Puts a reading out of order, and some of it in twice.
    pub fn shuffle(&self, feed: &mut Feed) {
        if feed.batches.is_empty() {
            return;
        }
        let mut net = self.net.lock();
        let positions: Vec<Position> = feed.batches.iter().map(|(position, _)| *position).collect();
        let mut batches: Vec<_> = feed.batches.drain(..).map(|(_, batch)| batch).collect();
        for at in (1..batches.len()).rev() {
            batches.swap(at, net.below(at + 1));
        }
        let again = Arc::clone(&batches[net.below(batches.len())]);
        drop(net);
        feed.batches.push((positions[0], again));
        feed.batches.extend(positions.into_iter().zip(batches));
    }

    /// How often a node noticed that the store may have lost writes.
    pub fn generation(&self, node: u16) -> u64 {
        let now = self.millis();
        let noticed = self.noticed.lock();
        let of = noticed[usize::from(node)].iter();
        of.filter(|at| **at <= now).count() as u64
    }

    /// All nodes notice that the store may have lost writes, each up to so many milliseconds later.
    pub fn notice(&self, within: u64) {
        let now = self.millis();
        let mut noticed = self.noticed.lock();
        for of in noticed.iter_mut() {
            let later = self.net.lock().below(within as usize + 1) as u64;
            of.push(now + later);
        }
    }

    /// A node's wall clock jumps, by microseconds.
    pub fn jump(&self, node: u16, by: i64) {
        self.jumped[usize::from(node)].fetch_add(by, Ordering::Relaxed);
    }

    fn clock(self: &Arc<Self>, node: u16) -> Clock {
        let (off, fast) = self.setting.clocks[usize::from(node)];
        let jumped = Arc::clone(&self.jumped[usize::from(node)]);
        let at_start = jumped.load(Ordering::Relaxed);
        let world = Arc::downgrade(self);
        let time = move |jumped: i64| {
            let elapsed = world
                .upgrade()
                .map_or(0, |world| world.elapsed().as_micros() as i64);
            (START.0 as i64 + elapsed + elapsed / 1_000 * fast / 1_000 + off + jumped) as u64
        };
        let steady = {
            let time = time.clone();
            move || time(at_start)
        };
        Clock::guarded(SKEW_MAX, steady, move || {
            time(jumped.load(Ordering::Relaxed))
        })
    }

    /// A node's parts over its own link to the store, as a start puts them together.
    fn parts(self: &Arc<Self>, number: u16) -> Parts {
        let (setting, clock) = (&self.setting, self.clock(number));
        let node = NodeId(number);
        let now = Micros(clock.now_micros());
        let epoch = (now.0 / 1_000_000) as u32;
        let limits = Limits {
            records_max: setting.journal,
            batch_records: 64,
            batch_bytes: 1 << 20,
            flush_interval: Duration::from_millis(10),
            patient_interval: Duration::from_millis(200),
            tail_records: 100_000,
        };
        let journal = Arc::new(Journal::new(setting.partitions, node, epoch, limits));
        let identity = Identity {
            node,
            fleet: setting.nodes,
            epoch,
            events_max: 100,
            skew_max: SKEW_MAX,
            lag_max: LAG_MAX,
            share_limit: Duration::from_secs(300),
        };
        let key = vec![("k1".to_owned(), [7; 32])];
        let keys = (
            TicketKeys::new("k1", &key).expect("one key"),
            PassKeys::new("k1", &key).expect("one key"),
        );
        let settings = settings(setting.policy.clone());
        let room = Room::new(now, identity, settings, keys, Arc::clone(&journal));
        let store: Arc<dyn Store> = Arc::new(Link {
            node: number,
            world: Arc::clone(self),
        });
        let handles = Handles {
            room: Arc::new(room),
            journal: Arc::clone(&journal),
            store: Arc::clone(&store),
            health: Arc::new(Health::new(u64::from(number))),
            clock: clock.clone(),
        };
        let effects = StoreEffects {
            store,
            health: Arc::clone(&handles.health),
            journal,
            clock,
            stale_after: STALE_AFTER,
            in_fleet: setting.nodes > 1,
            nodes: ArcSwap::from_pointee(Nodes {
                own: node,
                size: setting.nodes,
                beats: Vec::new(),
                number_taken: false,
            }),
        };
        Parts { handles, effects }
    }

    /// Starts a node, which takes as long as the store takes to answer; or at once and without it.
    pub fn start(self: &Arc<Self>, number: u16, empty: bool) {
        let mut slots = self.slots.lock();
        let slot = &mut slots[usize::from(number)];
        if !matches!(slot, Slot::Down) {
            return;
        }
        let world = Arc::clone(self);
        let starting = self.handle(number).spawn(async move {
            let Parts { handles, effects } = world.parts(number);
            let Handles {
                room, store, clock, ..
            } = &handles;
            let (room, clock) = (Arc::clone(room), clock.clone());
            let (stop_waiting, stop) = watch::channel(false);
            let (mut work, mut late) = (None, None);
            if empty {
                handles.health.leave_alone();
                room.serve_empty();
                let (fail, _) = oneshot::channel();
                late = Some(tokio::spawn(catch_up(STALE_AFTER, handles, stop, fail)));
            } else {
                let loaded = loop {
                    let began = Micros(clock.now_micros());
                    match load(&room, store, &clock).await {
                        Ok(loaded) => {
                            room.note_loaded(began);
                            break loaded;
                        }
                        Err(_) => sleep(START_RETRY).await,
                    }
                };
                work = Some(Work::start(STALE_AFTER, &handles, loaded));
                room.set_loaded(true);
            }
            let live = Live {
                number,
                room,
                effects: Arc::new(effects),
                clock,
                work: Mutex::new(work),
                late: Mutex::new(late),
                stop_waiting,
                draining: AtomicBool::new(false),
                dead: AtomicBool::new(false),
                shared: Mutex::default(),
            };
            world.slots.lock()[usize::from(number)] = Slot::Up(Arc::new(live));
        });
        *slot = Slot::Starting(starting.abort_handle());
    }

    /// A node is gone between any two of its steps.
    pub fn crash(&self, number: u16) {
        self.frozen.lock()[usize::from(number)] = 0;
        let slot = {
            let mut slots = self.slots.lock();
            std::mem::replace(&mut slots[usize::from(number)], Slot::Down)
        };
        match slot {
            Slot::Down => {}
            Slot::Starting(task) => task.abort(),
            Slot::Up(live) => {
                self.note_shared(&live);
                live.dead.store(true, Ordering::Relaxed);
                drop(live.work.lock().take());
                if let Some(late) = live.late.lock().take() {
                    late.abort();
                }
            }
        }
    }

    /// Stops a node as an operator does. Answers when it is down.
    pub async fn drain(&self, number: u16) {
        let Some(live) = self.node(number) else {
            return;
        };
        live.draining.store(true, Ordering::Relaxed);
        // Requests on their way are answered first.
        sleep(Duration::from_millis(20)).await;
        live.stop_waiting.send_replace(true);
        let late = live.late.lock().take();
        let late = match late {
            Some(late) => late.await.ok().flatten(),
            None => None,
        };
        let work = live.work.lock().take();
        let Some(work) = work.or(late) else {
            return;
        };
        let left = work.stop(Duration::from_secs(10)).await;
        *self.left_behind.lock() += left.unwrap_or_else(|| live.room.journal().depth());
        live.dead.store(true, Ordering::Relaxed);
        self.slots.lock()[usize::from(number)] = Slot::Down;
    }

    /// A node that is loaded, also while it drains.
    pub fn node(&self, number: u16) -> Option<Arc<Live>> {
        match &self.slots.lock()[usize::from(number)] {
            Slot::Up(live) => Some(Arc::clone(live)),
            _ => None,
        }
    }

    /// All nodes that a balancer sends visitors to.
    pub fn ready(&self) -> Vec<Arc<Live>> {
        let up = self.up();
        let ready = |live: &Arc<Live>| !live.is_stopping();
        up.into_iter().filter(ready).collect()
    }

    /// All nodes that are loaded.
    pub fn up(&self) -> Vec<Arc<Live>> {
        let slots = self.slots.lock();
        let up = slots.iter().filter_map(|slot| match slot {
            Slot::Up(live) => Some(Arc::clone(live)),
            _ => None,
        });
        up.collect()
    }

    /// An operator changes the policy at some node; the others hear of it from the store.
    pub fn patch(&self, patch: &PolicyPatch) {
        let text = serde_json::to_string(patch).expect("plain data");
        let change = Change::Policy {
            patch: Some(text),
            over: None,
        };
        self.rule(0, &change);
    }

    /// An operator's change, which a node that reaches the store takes over at once. Answers how many
    /// tickets were forgotten there.
    pub fn rule(&self, first: usize, change: &Change) -> u64 {
        let up = self.up();
        let Some(live) = up.get(first).or(up.first()) else {
            let at = self.now();
            let ruled = |rulings: &mut Rulings| rulings.rule(&sale(), change, at, KEPT);
            drop(self.server().rule(ruled));
            return 0;
        };
        let at = live.room.stamp(live.now());
        let ruled = |rulings: &mut Rulings| rulings.rule(&sale(), change, at, KEPT);
        let ruled = self.server().rule(ruled);
        live.room.take_ruling(live.now(), &sale(), &ruled.ruling)
    }

    /// Has visitors do nothing, or go on.
    pub fn rest(&self, rest: bool) {
        self.resting.store(rest, Ordering::Relaxed);
    }

    /// Waits while visitors are to do nothing.
    pub async fn rested(&self) {
        while self.resting.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A number that was not given before.
    pub fn next_number(&self) -> usize {
        let mut tokens = self.tokens.lock();
        let number = tokens.len();
        tokens.insert(number, String::new());
        number
    }

    /// A visitor has a token.
    pub fn hold(&self, who: usize, token: String) {
        self.tokens.lock().insert(who, token);
    }

    /// The tokens of all visitors.
    pub fn tokens(&self) -> BTreeMap<usize, String> {
        self.tokens.lock().clone()
    }

    /// Takes note of how full journals and lines are.
    pub fn fathom(&self) {
        for live in self.up() {
            let depth = live.room.journal().depth();
            let waiting = live.room.stats().iter().map(|of| of.waiting).max();
            let mut deepest = self.deepest.lock();
            deepest.0 = deepest.0.max(depth);
            deepest.1 = deepest.1.max(waiting.unwrap_or(0));
        }
    }
}
