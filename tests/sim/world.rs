//! Everything that is there: time, the store, what lies between, the nodes, and what clients saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use tidegate::app::{Design, Engine};
use tidegate::clock::Clock;
use tidegate::journal::lane::Limits;
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::model::{EventId, Micros, NodeId, Policy, PolicyPatch};
use tidegate::room::Room;
use tidegate::room::effects::Effects;
use tidegate::store::{Feed, Position};

use super::history::Seen;
use super::link::Link;
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
    engine: Mutex<Option<Engine>>,
    draining: AtomicBool,
    dead: AtomicBool,
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

enum Slot {
    Down,
    Starting(AbortHandle),
    Up(Arc<Live>),
}

pub struct World {
    pub setting: Setting,
    begun: Instant,
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
    /// Records that drained nodes could not write.
    pub left_behind: Mutex<usize>,
    /// The most records that any journal held, and the most tickets that waited in a node's view.
    pub deepest: Mutex<(usize, u64)>,
}

impl World {
    /// A store and no nodes. To be called where time is virtual.
    pub fn new(setting: Setting) -> Arc<Self> {
        let nodes = usize::from(setting.nodes);
        let jumped = (0..nodes).map(|_| Arc::new(AtomicI64::new(0)));
        Arc::new(Self {
            begun: Instant::now(),
            server: Mutex::new(Server::new(START, setting.partitions)),
            net: Mutex::new(Net::new(setting.seed, setting.latency)),
            slots: Mutex::new((0..nodes).map(|_| Slot::Down).collect()),
            noticed: Mutex::new(vec![Vec::new(); nodes]),
            jumped: jumped.collect(),
            written: (0..setting.partitions).map(|_| Notify::new()).collect(),
            history: Mutex::default(),
            tokens: Mutex::default(),
            left_behind: Mutex::default(),
            deepest: Mutex::default(),
            setting,
        })
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        Instant::now().duration_since(self.begun)
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
        server
    }

    pub fn fate(&self, node: u16, partition: u16, reads: bool) -> Fate {
        self.net.lock().fate(self.millis(), node, partition, reads)
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
        let begun = self.begun;
        Clock::guarded(SKEW_MAX, move || {
            let elapsed = Instant::now().duration_since(begun).as_micros() as i64;
            let time = START.0 as i64 + elapsed + elapsed / 1_000 * fast / 1_000 + off;
            let now = jumped.load(Ordering::Relaxed);
            ((time + at_start) as u64, (time + now) as u64)
        })
    }

    fn design(&self, node: u16) -> Design {
        Design {
            node: NodeId(node),
            fleet: self.setting.nodes,
            events_max: 100,
            skew_max: SKEW_MAX,
            lag_max: LAG_MAX,
            stale_after: Duration::from_secs(5),
            limits: Limits {
                records_max: self.setting.journal,
                batch_records: 64,
                batch_bytes: 1 << 20,
                flush_interval: Duration::from_millis(10),
                tail_records: 100_000,
            },
            settings: settings(self.setting.policy.clone()),
        }
    }

    /// Starts a node, which takes as long as the store takes to answer.
    pub fn start(self: &Arc<Self>, number: u16) {
        let world = Arc::clone(self);
        let mut slots = self.slots.lock();
        let slot = &mut slots[usize::from(number)];
        if !matches!(slot, Slot::Down) {
            return;
        }
        let starting = tokio::spawn(async move {
            let key = vec![("k1".to_owned(), [7; 32])];
            let keys = (
                TicketKeys::new("k1", &key).expect("one key"),
                PassKeys::new("k1", &key).expect("one key"),
            );
            let clock = world.clock(number);
            let link = Link {
                node: number,
                world: Arc::clone(&world),
            };
            let design = world.design(number);
            let opened = Engine::open(design, clock.clone(), Arc::new(link), keys).await;
            let mut engine = opened.expect("a link fails only for a while");
            engine.run().await.expect("a link fails only for a while");
            let live = Live {
                number,
                room: Arc::clone(&engine.room),
                effects: Arc::clone(&engine.effects) as Arc<dyn Effects>,
                clock,
                engine: Mutex::new(Some(engine)),
                draining: AtomicBool::new(false),
                dead: AtomicBool::new(false),
            };
            // Changed while this one was loading.
            let patch = world.server().policies.get(&sale()).cloned();
            if let Some(patch) = patch.and_then(|text| serde_json::from_str(&text).ok()) {
                let _ = live.room.set_patch(live.now(), &sale(), Some(patch));
            }
            world.slots.lock()[usize::from(number)] = Slot::Up(Arc::new(live));
        });
        *slot = Slot::Starting(starting.abort_handle());
    }

    /// A node is gone between any two of its steps.
    pub fn crash(&self, number: u16) {
        let slot = {
            let mut slots = self.slots.lock();
            std::mem::replace(&mut slots[usize::from(number)], Slot::Down)
        };
        match slot {
            Slot::Down => {}
            Slot::Starting(task) => task.abort(),
            Slot::Up(live) => {
                live.dead.store(true, Ordering::Relaxed);
                drop(live.engine.lock().take());
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
        let engine = live.engine.lock().take();
        let Some(engine) = engine else {
            return;
        };
        let left = engine.stop(Duration::from_secs(10)).await;
        *self.left_behind.lock() += left;
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

    /// An operator changes the policy everywhere; later starts go by it too.
    pub fn patch(&self, patch: &PolicyPatch) {
        for live in self.up() {
            let set = live
                .room
                .set_patch(live.now(), &sale(), Some(patch.clone()));
            set.expect("a policy that keeps the rules");
        }
        let text = serde_json::to_string(patch).expect("plain data");
        self.server().policies = BTreeMap::from([(sale(), text)]);
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
