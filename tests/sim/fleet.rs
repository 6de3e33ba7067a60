//! A fleet that a story leads by hand: it lets time pass, and asks and does in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use tidegate::model::{Change, Micros, Outage, Policy, TicketId, TicketKey};
use tidegate::room::answer::{Join, Joined, Standing, TokenRefusal};
use tidegate::room::effects::StoreHealth;

use super::clockwork::Clockwork;
use super::history::Answer;
use super::ledger::{Deed, Line};
use super::net::{Active, Set, Trouble};
use super::server::Server;
use super::visitor::ask_to_enter;
use super::world::{Live, Setting, World, sale};

/// What nodes give by themselves is written down so often.
const NOTED: Duration = Duration::from_millis(50);
/// A store that was away is tried within three seconds and a fifth, or ten if it has just gone, and
/// believed after three answers.
const TRIED: Duration = Duration::from_secs(14);

pub struct Fleet {
    clockwork: Clockwork,
    pub world: Arc<World>,
}

impl Fleet {
    /// A fleet whose nodes have just started.
    pub fn new(nodes: u16, policy: Policy) -> Self {
        Self::with(Setting {
            nodes,
            partitions: 4,
            policy,
            latency: 0,
            journal: 100_000,
            clocks: vec![(0, 0); usize::from(nodes)],
            seed: 1,
        })
    }

    pub fn with(setting: Setting) -> Self {
        let nodes = setting.nodes;
        let clockwork = Clockwork::new(setting, false);
        let world = Arc::clone(&clockwork.world);
        let mut fleet = Self { clockwork, world };
        for node in 0..nodes {
            fleet.start(node);
        }
        fleet.pass(Duration::from_millis(5));
        fleet
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let shares = self.world.setting.policy.outage == Outage::Share;
        let world = Arc::clone(&self.world);
        self.clockwork.run(async move {
            let until = Instant::now() + time;
            // What nodes give by themselves is written down now and then.
            while shares && until - Instant::now() > NOTED {
                sleep(NOTED).await;
                world.note_all_shared();
            }
            sleep_until(until).await;
            world.note_all_shared();
        });
    }

    /// Lets time pass until all nodes hear the store again, which they try every few seconds.
    pub fn until_heard(&mut self) {
        let mut waited = Duration::ZERO;
        let up = |live: &Arc<Live>| live.effects.health() == StoreHealth::Up;
        while !(self.world.up().iter().all(up)
            && self.world.up().iter().all(|l| l.room.sharing() == 0))
        {
            self.pass(NOTED);
            waited += NOTED;
            assert!(waited <= TRIED, "a node does not hear the store");
        }
    }

    /// Does something at this moment.
    fn now<T>(&self, act: impl FnOnce(&Arc<World>) -> T) -> T {
        let _inside = self.clockwork.enter();
        act(&self.world)
    }

    /// Asks a node something at this moment.
    fn ask<T>(&self, node: u16, ask: impl FnOnce(&Live, Micros) -> T) -> T {
        self.now(|world| {
            let live = world.node(node).expect("it is up");
            let now = live.now();
            ask(&live, now)
        })
    }

    /// Looks at the store.
    pub fn store<T>(&self, look: impl FnOnce(&mut Server) -> T) -> T {
        self.now(|world| look(&mut world.server()))
    }

    /// Starts a node, anew if it is up: it knows what the store holds.
    pub fn start(&mut self, node: u16) {
        self.now(|world| {
            world.crash(node);
            world.start(node, false);
        });
        self.pass(Duration::from_millis(1));
    }

    pub fn crash(&mut self, node: u16) {
        self.now(|world| world.crash(node));
    }

    /// Has an operator stop a node.
    pub fn drain(&mut self, node: u16) {
        let world = Arc::clone(&self.world);
        let handle = self.world.main().clone();
        drop(handle.spawn(async move { world.drain(node).await }));
    }

    /// Brings trouble upon some nodes until it is healed.
    pub fn trouble(&mut self, trouble: Trouble, nodes: Set) {
        self.trouble_some(trouble, nodes, 1000);
    }

    /// The same, of so many of a thousand calls.
    pub fn trouble_some(&mut self, trouble: Trouble, nodes: Set, per_mille: u32) {
        self.suffer(trouble, nodes, Set::ALL, per_mille);
    }

    /// Brings trouble between some nodes and some partitions.
    pub fn trouble_in(&mut self, trouble: Trouble, nodes: Set, partitions: Set) {
        self.suffer(trouble, nodes, partitions, 1000);
    }

    fn suffer(&self, trouble: Trouble, nodes: Set, partitions: Set, per_mille: u32) {
        self.now(|world| {
            world.trouble(Active {
                trouble,
                nodes,
                partitions,
                per_mille,
                until: u64::MAX,
            });
        });
    }

    /// One node is well again.
    pub fn heal_one(&mut self, node: u16) {
        for active in &mut self.world.net.lock().active {
            active.nodes.0 &= !Set::one(node).0;
        }
    }

    pub fn heal(&mut self) {
        self.world.net.lock().active.clear();
    }

    /// The store loses what was written since so long, and all nodes notice.
    pub fn lose(&mut self, back: Duration) {
        self.now(|world| {
            let now = world.now().0;
            let moment = Micros(now - back.as_micros() as u64);
            world.server().lose_after(moment, |_| true);
            world.notice(0);
        });
    }

    /// The store loses everything, and nodes are not told.
    pub fn wipe(&mut self) {
        self.now(|world| world.server().wipe());
    }

    /// All nodes notice that the store may have lost something.
    pub fn notice(&mut self) {
        self.now(|world| world.notice(0));
    }

    pub fn join(&self, node: u16) -> Joined {
        let key = format!("{}", self.world.next_number());
        self.join_with(node, &key)
    }

    pub fn join_with(&self, node: u16, key: &str) -> Joined {
        self.ask(node, |live, now| {
            let ask = Join {
                event: "sale",
                key: Some(key),
                user: None,
            };
            live.room.join(now, &ask).expect("there is room")
        })
    }

    pub fn leave(&self, node: u16, token: &str) {
        self.ask(node, |live, now| live.room.leave(now, token));
    }

    pub fn leave_softly(&self, node: u16, token: &str) {
        self.ask(node, |live, now| live.room.leave_softly(now, token));
    }

    pub fn status(&self, node: u16, token: &str) -> Result<Standing, TokenRefusal> {
        self.ask(node, |live, now| {
            let found = live.room.look(now, token)?;
            Ok(live.room.standing(now, &found))
        })
    }

    /// What a node answers that has stood still for so long and has done nothing else since.
    pub fn status_late(
        &self,
        node: u16,
        token: &str,
        late: Duration,
    ) -> Result<Standing, TokenRefusal> {
        self.ask(node, |live, now| {
            let now = now.after(late);
            let found = live.room.look(now, token)?;
            Ok(live.room.standing(now, &found))
        })
    }

    pub fn place(&self, node: u16, token: &str) -> u64 {
        self.status(node, token).expect("it has a place").position
    }

    /// An operator's change at a node that reaches the store; answers how many tickets were forgotten.
    pub fn rule(&mut self, node: u16, change: &Change) -> u64 {
        self.now(|world| {
            let up = world.up();
            let first = up.iter().position(|live| live.number == node);
            world.rule(first.expect("it is up"), change)
        })
    }

    pub fn forget(&mut self, node: u16) -> u64 {
        let until = self.ask(node, |live, now| live.room.forgetting(now, &sale()));
        self.rule(node, &Change::Forget { until })
    }

    /// The policy that a node goes by.
    pub fn policy(&self, node: u16) -> Policy {
        self.ask(node, |live, _| live.room.policy(&sale()).expect("a sale"))
    }

    /// How many wait, in a node's view.
    pub fn waiting(&self, node: u16) -> u64 {
        self.ask(node, |live, _| {
            live.room.stats().iter().map(|event| event.waiting).sum()
        })
    }

    pub fn clocks_off(&self, node: u16) -> u64 {
        self.ask(node, |live, _| live.room.clocks_off())
    }

    /// Tries to enter; answers the pass, if there was one.
    pub fn enter(&mut self, node: u16, token: &str) -> Result<String, Answer> {
        let live = self.world.node(node).expect("it is up");
        let (world, token) = (Arc::clone(&self.world), token.to_owned());
        let asked = async move { ask_to_enter(&world, &live, &token).await.0 };
        match self.clockwork.run(asked) {
            Answer::Pass { pass, .. } => Ok(pass),
            other => Err(other),
        }
    }

    /// The ranks of a token's ticket on every node that is up; 0 where it does not wait.
    pub fn places(&self, token: &str) -> Vec<u64> {
        let up = self.world.up();
        up.iter()
            .map(|live| live.room.rank(token).unwrap_or(0))
            .collect()
    }

    /// Who is in line, as the store has it.
    pub fn line(&self) -> Vec<TicketKey> {
        self.store(|store| store.line(&sale()))
    }

    /// Events that go on at a node without the store.
    pub fn sharing(&self, node: u16) -> usize {
        self.ask(node, |live, _| live.room.sharing())
    }

    /// Tickets with open turns that a node gave without the store.
    pub fn shared_turns(&self, node: u16) -> Vec<TicketId> {
        self.ask(node, |live, _| {
            let turns = live.room.shared_turns(&sale());
            turns.into_iter().map(|turn| turn.id).collect()
        })
    }

    /// What was done, in order.
    pub fn ledger(&self) -> Vec<Line> {
        let mut lines: Vec<_> = self.store(|store| store.ledger.lines(&sale()).cloned().collect());
        lines.sort_by_key(|line| line.at);
        lines
    }

    /// Turns given so far.
    pub fn turns(&self) -> usize {
        self.count(|deed| matches!(deed, Deed::Given { .. }))
    }

    /// Tickets let in so far, each as often as it was.
    pub fn entries(&self) -> Vec<TicketId> {
        self.store(|store| {
            let sale = sale();
            let lines = store.ledger.lines(&sale);
            let entered = lines.filter(|line| line.deed == Deed::Entered);
            entered.map(|line| line.id).collect()
        })
    }

    fn count(&self, of: impl Fn(&Deed) -> bool) -> usize {
        self.store(|store| {
            let sale = sale();
            store
                .ledger
                .lines(&sale)
                .filter(|line| of(&line.deed))
                .count()
        })
    }
}
