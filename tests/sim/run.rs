//! A plan becomes a run: what clients saw, and what was there at the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use tidegate::model::{Gone, Kind, Micros, PolicyPatch, TicketId, TicketKey};

use tidegate::room::effects::StoreHealth;

use super::clockwork::Clockwork;
use super::history::Seen;
use super::ledger::Line;
use super::net::{Active, Set, Trouble};
use super::plan::{Plan, What};
use super::visitor::Visitor;
use super::world::{Live, World, sale};

/// Once the faults have ended, circuits close, nodes are back and views agree within this.
const HEALS: Duration = Duration::from_secs(18);
/// After that whoever waits enters within this, and a little for each turn.
const DRAINS: Duration = Duration::from_secs(20);
/// And whoever is silent is removed within this.
const FORGETS: Duration = Duration::from_secs(50);

/// What is written is read everywhere within this.
const RESTS: Duration = Duration::from_millis(600);
/// Whether it rests is looked at so often.
const RESTS_MAX: usize = 10;

/// How one node, or the store, holds a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Live(Micros),
    Gone(Gone),
}

/// What is where at one moment of rest.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub at: Micros,
    /// By node: every ticket it knows.
    pub nodes: BTreeMap<u16, BTreeMap<TicketId, Held>>,
    /// By node: the rank of each visitor's ticket, for those that have one.
    pub ranks: BTreeMap<u16, BTreeMap<usize, u64>>,
    /// What the store has in line.
    pub store: Vec<TicketKey>,
}

/// All that checkers see.
pub struct Run {
    pub plan: Plan,
    pub history: Vec<Seen>,
    pub ledger: Vec<Line>,
    /// Tickets of which the store forgot an entry that was heard of.
    pub forgotten: BTreeSet<TicketId>,
    /// Since when the store has known each ticket for good.
    pub known: BTreeMap<TicketId, Micros>,
    /// When nodes removed each ticket for its silence, by their clocks.
    pub expired: BTreeMap<TicketId, BTreeSet<Micros>>,
    /// While people wait and nobody is called, if the plan has that.
    pub held: Option<Snapshot>,
    pub end: Snapshot,
    /// When all was healed.
    pub healed: Micros,
    /// When the last visitor was through, if all are.
    pub through: Option<Micros>,
    pub left_behind: usize,
    /// The most records that a journal held, and the most tickets that waited in a node's view.
    pub deepest: usize,
    pub longest: u64,
    /// At the end, by node: records in its journal, and whether it calls the store anything but up.
    pub depths: BTreeMap<u16, usize>,
    pub degraded: BTreeMap<u16, bool>,
    /// What went to pieces, in its own words.
    pub panics: Vec<String>,
    /// Calls that troubles struck.
    pub struck: BTreeMap<Trouble, u64>,
    /// What was written about the visitors' tickets, for whoever looks into a broken run.
    pub written: BTreeMap<TicketId, Vec<(Micros, String)>>,
}

thread_local! {
    /// What panicked on this thread since somebody last asked.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes panics, since a task that panics takes nobody with it. Once a process.
pub fn note_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
}

fn panics() -> Vec<String> {
    PANICS.take()
}

/// Runs a plan on this thread, in virtual time.
pub fn run(plan: &Plan) -> Run {
    run_and(plan, false)
}

/// Runs a plan and keeps what was written about its tickets.
pub fn run_told(plan: &Plan) -> Run {
    run_and(plan, true)
}

fn run_and(plan: &Plan, told: bool) -> Run {
    drop(panics());
    let clockwork = Clockwork::new(plan.setting.clone(), plan.freezes());
    let world = Arc::clone(&clockwork.world);
    let plan = plan.clone();
    let mut run = clockwork.run(async move { play(&plan, world, told).await });
    run.panics = panics();
    run
}

async fn play(plan: &Plan, world: Arc<World>, told: bool) -> Run {
    let begun = tokio::time::Instant::now();
    for node in 0..plan.setting.nodes {
        world.start(node, false);
    }
    let mut visitors = JoinSet::new();
    let mut doing = JoinSet::new();
    let fathoming = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            loop {
                world.fathom();
                sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let noting = plan.shares().then(|| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            loop {
                world.note_all_shared();
                sleep(Duration::from_millis(20)).await;
            }
        })
    });
    for op in &plan.ops {
        sleep_until(begun + Duration::from_millis(op.at)).await;
        act(&world, &op.what, &mut visitors, &mut doing);
    }
    sleep_until(begun + Duration::from_millis(plan.active)).await;
    heal(&world, &mut doing).await;
    let held = if plan.pauses {
        world.patch(&PolicyPatch {
            paused: Some(true),
            ..PolicyPatch::default()
        });
        sleep(rest(plan)).await;
        world.rest(true);
        let held = at_rest(&world).await;
        world.rest(false);
        Some(held)
    } else {
        sleep(rest(plan)).await;
        None
    };
    let healed = world.now();
    world.patch(&PolicyPatch::default());
    let policy = &plan.setting.policy;
    let stay = (policy.pass_ttl + policy.ready_ttl).as_secs_f64();
    let room = match policy.max_active {
        0 => f64::INFINITY,
        cap => f64::from(cap) / stay,
    };
    let turns = 1.0 + visitors.len() as f64;
    let drains = DRAINS + Duration::from_secs_f64(1.5 * turns / policy.rate.min(room));
    let all = async { while visitors.join_next().await.is_some() {} };
    let through = timeout(drains, all).await.is_ok().then(|| world.now());
    visitors.abort_all();
    let waits = |live: &Arc<Live>| live.room.stats().iter().any(|of| of.waiting > 0);
    let silent = !world.server().line(&sale()).is_empty() || world.up().iter().any(waits);
    // Who was called is not forgotten before the turn and its grace are over.
    let called = policy.ready_ttl + policy.late_grace + 3 * policy.heartbeat_ttl;
    sleep(if silent {
        FORGETS.max(called)
    } else {
        Duration::from_secs(1)
    })
    .await;
    let end = at_rest(&world).await;
    fathoming.abort();
    if let Some(noting) = noting {
        noting.abort();
    }
    let mut run = collect(plan, &world, held, end, healed, through);
    if told {
        run.written = written(&run, &world);
    }
    run
}

/// What calm runs need to come to rest is less.
fn rest(plan: &Plan) -> Duration {
    if plan.is_calm() {
        Duration::from_secs(1)
    } else {
        HEALS
    }
}

fn act(world: &Arc<World>, what: &What, visitors: &mut JoinSet<()>, doing: &mut JoinSet<()>) {
    let now = world.millis();
    let severed = |partitions, lasts| Active {
        trouble: Trouble::Refused,
        nodes: Set::ALL,
        partitions,
        per_mille: 1000,
        until: now + lasts,
    };
    match what {
        What::Visit(visit) => {
            let visitor = Visitor::new(Arc::clone(world), visit.clone());
            visitors.spawn(visitor.live());
        }
        What::Trouble {
            trouble,
            nodes,
            partitions,
            per_mille,
            lasts,
        } => world.trouble(Active {
            trouble: *trouble,
            nodes: *nodes,
            partitions: *partitions,
            per_mille: *per_mille,
            until: now + lasts,
        }),
        What::Lose {
            partitions,
            back,
            down,
            noticed,
        } => {
            let moment = Micros(world.now().0 - (*back).min(now) * 1_000);
            let lost = *partitions;
            world
                .server()
                .lose_after(moment, |partition| lost.has(partition));
            world.trouble(severed(lost, *down));
            world.notice(down + noticed);
        }
        What::Wipe { down } => {
            world.server().wipe();
            world.trouble(severed(Set::ALL, *down));
            world.notice(*down);
        }
        What::Trim { partitions, kept } => {
            for partition in 0..world.setting.partitions {
                if partitions.has(partition) {
                    world.server().trim(partition, *kept);
                }
            }
        }
        What::Crash { node, back, empty } => {
            world.crash(*node);
            let (world, node, back, empty) = (Arc::clone(world), *node, *back, *empty);
            doing.spawn(async move {
                sleep(Duration::from_millis(back)).await;
                world.start(node, empty);
            });
        }
        What::Drain { node, back } => {
            let (world, node, back) = (Arc::clone(world), *node, *back);
            doing.spawn(async move {
                world.drain(node).await;
                sleep(Duration::from_millis(back)).await;
                world.start(node, false);
            });
        }
        What::Jump { node, by } => world.jump(*node, *by),
        What::Freeze { node, lasts } => world.freeze(*node, *lasts),
        What::StoreJump { by } => world.jump_store(*by),
        What::Patch(patch) => world.patch(patch),
    }
}

/// Nothing is wrong any more, and every node is there or on its way.
async fn heal(world: &Arc<World>, doing: &mut JoinSet<()>) {
    world.net.lock().active.clear();
    // Drains end by themselves.
    sleep(Duration::from_millis(1)).await;
    doing.abort_all();
    while doing.join_next().await.is_some() {}
    for node in 0..world.setting.nodes {
        if world.node(node).is_some_and(|live| live.is_stopping()) {
            world.crash(node);
        }
        world.start(node, false);
    }
}

/// What is where when nothing is written for a while, before or after.
async fn at_rest(world: &World) -> Snapshot {
    sleep(RESTS).await;
    let mut seen = snapshot(world);
    for _ in 0..RESTS_MAX {
        let since = Micros(seen.at.0 - RESTS.as_micros() as u64);
        sleep(RESTS).await;
        if !world.server().is_written_since(since) {
            break;
        }
        seen = snapshot(world);
    }
    seen
}

fn snapshot(world: &World) -> Snapshot {
    let up = world.up();
    let tokens = world.tokens();
    Snapshot {
        at: world.now(),
        nodes: up
            .iter()
            .map(|live| (live.number, known_to(live)))
            .collect(),
        ranks: up
            .iter()
            .map(|live| {
                let rank = |(who, token): (&usize, &String)| Some((*who, live.room.rank(token)?));
                (live.number, tokens.iter().filter_map(rank).collect())
            })
            .collect(),
        store: world.server().line(&sale()),
    }
}

fn known_to(live: &Live) -> BTreeMap<TicketId, Held> {
    let mut known = BTreeMap::new();
    for partition in 0..live.room.journal().partitions() {
        live.room.dump(partition, Micros(0), |_, records| {
            for record in records {
                let held = known.entry(record.id);
                match record.kind.gone() {
                    None if record.kind == Kind::Joined => {
                        held.and_modify(|held| match held {
                            Held::Live(at) => *at = record.at.min(*at),
                            Held::Gone(_) => *held = Held::Live(record.at),
                        })
                        .or_insert(Held::Live(record.at));
                    }
                    None => {}
                    Some(why) => {
                        held.or_insert(Held::Gone(why));
                    }
                }
            }
        });
    }
    known
}

fn collect(
    plan: &Plan,
    world: &World,
    held: Option<Snapshot>,
    end: Snapshot,
    healed: Micros,
    through: Option<Micros>,
) -> Run {
    let up = world.up();
    let (deepest, longest) = *world.deepest.lock();
    let server = world.server();
    let mut ledger: Vec<_> = server.ledger.lines(&sale()).cloned().collect();
    // What nodes did by themselves was written down a little later.
    ledger.sort_by_key(|line| line.at);
    Run {
        plan: plan.clone(),
        history: std::mem::take(&mut *world.history.lock()),
        ledger,
        forgotten: server.ledger.entries_lost(),
        known: server.known(),
        expired: server.expired(),
        held,
        end,
        healed,
        through,
        left_behind: *world.left_behind.lock(),
        deepest,
        longest,
        depths: up
            .iter()
            .map(|live| (live.number, live.room.journal().depth()))
            .collect(),
        degraded: up
            .iter()
            .map(|live| (live.number, live.effects.health() != StoreHealth::Up))
            .collect(),
        panics: Vec::new(),
        struck: world.net.lock().struck.clone(),
        written: BTreeMap::new(),
    }
}

fn written(run: &Run, world: &World) -> BTreeMap<TicketId, Vec<(Micros, String)>> {
    let ids: BTreeSet<_> = run.history.iter().filter_map(Seen::ticket).collect();
    let server = world.server();
    ids.into_iter().map(|id| (id, server.story(&id))).collect()
}
