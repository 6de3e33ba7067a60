//! Random histories of a line, held against the model after every step.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::model::Model;
use crate::model::{Micros, TicketId, TicketKey};

const SECOND: u64 = 1_000_000;

/// One step; numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    /// New tickets after all others.
    Tail(u16),
    /// New tickets anywhere before now, as one batch, in no order.
    Late(u16, u64),
    /// One new ticket anywhere before now.
    Straggler(u64),
    /// A known ticket once more, at another time.
    Again(usize, u64),
    /// Known and new tickets and duplicates of both, as one batch.
    Mixed(u16, usize, u64),
    /// Removes some tickets in a row, from somewhere.
    Remove(usize, u16, Reason),
    /// Removes one of so many, everywhere.
    Thin(u8),
    /// The gate: the next so many are called.
    Call(u16, u64),
    Miss(usize, u64),
    GiveBack(usize),
    Recall(usize),
    Leaving(usize, bool),
    Sweep(u64, bool),
}

fn step(size: u16) -> impl Strategy<Value = Step> {
    let reason = prop_oneof![
        Just(Reason::Expired),
        Just(Reason::Left),
        Just(Reason::Entered)
    ];
    prop_oneof![
        4 => (1..size).prop_map(Step::Tail),
        3 => (1..size, any::<u64>()).prop_map(|(n, seed)| Step::Late(n, seed)),
        3 => any::<u64>().prop_map(Step::Straggler),
        2 => (any::<usize>(), any::<u64>()).prop_map(|(i, at)| Step::Again(i, at)),
        2 => (1..size, any::<usize>(), any::<u64>()).prop_map(|(n, i, s)| Step::Mixed(n, i, s)),
        4 => (any::<usize>(), 1..size, reason).prop_map(|(i, n, why)| Step::Remove(i, n, why)),
        1 => (2..9u8).prop_map(Step::Thin),
        3 => (1..size / 2 + 2, 0..60u64).prop_map(|(n, s)| Step::Call(n, s)),
        2 => (any::<usize>(), 0..60u64).prop_map(|(i, s)| Step::Miss(i, s)),
        2 => any::<usize>().prop_map(Step::GiveBack),
        2 => any::<usize>().prop_map(Step::Recall),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(i, on)| Step::Leaving(i, on)),
        2 => (0..400u64, any::<bool>()).prop_map(|(s, expire)| Step::Sweep(s, expire)),
    ]
}

struct World {
    line: Line,
    model: Model,
    now: u64,
    next: u64,
}

/// A well mixed number (the finaliser of SplitMix64).
fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

impl World {
    fn new(stride: usize) -> Self {
        let now = 1_000_000 * SECOND;
        Self {
            line: Line::new(Micros(now), stride),
            model: Model::default(),
            now,
            next: 1,
        }
    }

    fn fresh(&mut self) -> TicketId {
        self.next += 1;
        TicketId::from_u128(u128::from(mix(self.next)) << 64 | u128::from(self.next) << 40)
    }

    /// Some moment before now, with many ties.
    fn past(&self, seed: u64) -> Micros {
        Micros(self.now - seed % 5_000 * 1_000)
    }

    fn pick(&self, i: usize) -> Option<TicketId> {
        let count = self.model.tickets.len();
        (count > 0).then(|| *self.model.tickets.keys().nth(i % count).unwrap())
    }

    fn pick_in(&self, i: usize, wanted: impl Fn(State) -> bool) -> Option<TicketId> {
        let with = self.model.tickets.iter().filter(|(_, t)| wanted(t.state()));
        let ids: Vec<_> = with.map(|(&id, _)| id).collect();
        (!ids.is_empty()).then(|| ids[i % ids.len()])
    }

    fn join(&mut self, key: TicketKey) {
        self.line
            .write()
            .join(&key.id, key.arrival, Micros(self.now));
        self.model.join(key);
    }

    fn join_many(&mut self, keys: &[TicketKey]) {
        let joins = self.line.write().join_many(keys, Micros(self.now));
        assert_eq!(
            joins.new + joins.moved + joins.known + joins.gone,
            keys.len() as u64
        );
        keys.iter().for_each(|&key| self.model.join(key));
    }

    fn remove(&mut self, id: TicketId, at: Micros, why: Reason) {
        let was = self.model.tickets.get(&id).map(|t| t.state());
        let removed = self.line.write().remove(&id, at, why);
        self.model.remove(id, at, why);
        let now = self.model.tickets.get(&id).map(|t| t.state());
        assert_eq!(removed, Removed { was, now });
    }

    /// A deadline; lines round them up to a tenth of a second.
    fn until(&self, seconds: u64) -> Micros {
        Micros((self.now + seconds * SECOND).next_multiple_of(SECOND / 10))
    }

    /// How many arrivals a ticket may get: more are forgotten by design.
    fn may_join(&self, id: &TicketId) -> bool {
        self.model
            .tickets
            .get(id)
            .is_none_or(|t| t.arrivals.len() < 8)
    }

    fn step(&mut self, step: &Step) {
        self.now += SECOND / 10;
        match *step {
            Step::Tail(count) => {
                for _ in 0..count {
                    self.now += 3;
                    let key = TicketKey {
                        arrival: Micros(self.now),
                        id: self.fresh(),
                    };
                    self.join(key);
                }
            }
            Step::Late(count, seed) => {
                let keys: Vec<_> = (0..count)
                    .map(|i| TicketKey {
                        arrival: self.past(mix(seed ^ u64::from(i))),
                        id: self.fresh(),
                    })
                    .collect();
                self.join_many(&keys);
            }
            Step::Straggler(seed) => {
                let key = TicketKey {
                    arrival: self.past(seed),
                    id: self.fresh(),
                };
                self.join(key);
            }
            Step::Again(i, at) => {
                if let Some(id) = self.pick(i).filter(|id| self.may_join(id)) {
                    self.join(TicketKey {
                        arrival: self.past(at),
                        id,
                    });
                }
            }
            Step::Mixed(count, i, seed) => {
                let known = self.pick(i).filter(|id| self.may_join(id));
                let new = self.fresh();
                let mut keys = Vec::new();
                for n in 0..count {
                    let arrival = self.past(mix(seed ^ u64::from(n)));
                    let id = match n {
                        0 | 3 => known.unwrap_or(new),
                        1 | 4 => new,
                        _ => self.fresh(),
                    };
                    keys.push(TicketKey { arrival, id });
                }
                self.join_many(&keys);
            }
            Step::Remove(i, count, why) => {
                let waiting = self.model.in_state(State::Waiting);
                let from = if waiting.is_empty() {
                    0
                } else {
                    i % waiting.len()
                };
                for key in waiting.iter().skip(from).take(count.into()) {
                    // Now and then a removal from before the ticket (re)joined.
                    let at = if mix(key.arrival.0).is_multiple_of(9) {
                        key.arrival.0 - 1
                    } else {
                        self.now
                    };
                    self.remove(key.id, Micros(at), why);
                }
                if i % 5 == 0 {
                    let id = self.fresh();
                    self.remove(id, Micros(self.now), why);
                }
            }
            Step::Thin(of) => {
                for (n, key) in self.model.in_state(State::Waiting).into_iter().enumerate() {
                    if n % usize::from(of) != 0 {
                        self.remove(key.id, Micros(self.now), Reason::Left);
                    }
                }
            }
            Step::Call(count, seconds) => {
                let mut front = Vec::new();
                self.line.write().front(count.into(), true, &mut front);
                let until = self.until(seconds);
                for key in front {
                    assert!(self.line.write().call(&key.id, until).unwrap().is_waiting());
                    self.model.turn(key.id, |_| State::Called { until });
                }
            }
            Step::Miss(i, seconds) => {
                let called = |s: State| matches!(s, State::Called { .. });
                if let Some(id) = self.pick_in(i, called) {
                    let until = self.until(seconds);
                    self.line.write().miss(&id, until);
                    self.model.turn(id, |_| State::Missed { until });
                }
            }
            Step::GiveBack(i) => {
                if let Some(id) = self.pick_in(i, |s| matches!(s, State::Missed { .. })) {
                    self.line.write().give_back(&id);
                    self.model.turn(id, |_| State::Returned);
                }
            }
            Step::Recall(i) => {
                let called = |s: State| !s.is_gone() && s != State::Waiting;
                if let Some(id) = self.pick_in(i, called) {
                    self.line.write().recall(&id);
                    self.model.turn(id, |_| State::Waiting);
                }
            }
            Step::Leaving(i, on) => {
                if let Some(id) = self.pick(i) {
                    let live = !self.model.tickets[&id].state().is_gone();
                    assert_eq!(self.line.write().set_leaving(&id, on), live);
                    if live {
                        self.model.tickets.get_mut(&id).unwrap().leaving = on;
                    }
                }
            }
            Step::Sweep(seconds, expire) => self.sweep(seconds, expire),
        }
    }

    fn sweep(&mut self, seconds: u64, expire: bool) {
        self.now += seconds * SECOND;
        let (now, memory) = (Micros(self.now), Duration::from_secs(300));
        let mut due = Vec::new();
        let heartbeat = Duration::from_secs(60);
        loop {
            let swept = self
                .line
                .write()
                .sweep(now, heartbeat, memory, expire, 100, &mut due);
            assert!(swept.examined <= 100);
            if !swept.more {
                break;
            }
        }
        assert!(expire || due.is_empty());
        for Due { id, lapse } in due {
            let state = self.model.tickets[&id].state();
            match lapse {
                Lapse::Silent { last_seen } => {
                    assert!(state.is_waiting() && now.since(last_seen) >= heartbeat);
                }
                Lapse::Turn => assert!(matches!(state, State::Called { until } if until <= now)),
                Lapse::Grace => assert!(matches!(state, State::Missed { until } if until <= now)),
            }
            self.remove(id, now, Reason::Expired);
        }
        let line = &self.line;
        self.model.tickets.retain(|id, ticket| {
            let old = ticket.arrival().is_none() && now.since(ticket.time()) >= memory;
            line.find(id).is_some() || !old
        });
    }

    /// The tickets that wait with the same arrival as when `views` were taken have their places.
    fn check_old_views(&self, views: &BTreeMap<TicketId, View>) {
        let waiting = self.model.in_state(State::Waiting);
        for (i, key) in waiting.iter().enumerate() {
            let view = views.get(&key.id).filter(|v| v.state == State::Waiting);
            if let Some(view) = view.filter(|v| v.time == key.arrival) {
                assert_eq!(self.line.place(view), Some(i as u64 + 1));
            }
        }
    }

    fn views(&self) -> BTreeMap<TicketId, View> {
        let ids = self.model.tickets.keys();
        ids.map(|id| (*id, self.line.find(id).unwrap())).collect()
    }

    fn end(mut self) {
        self.model.check(&self.line, 1);
        for _ in 0..4 {
            self.sweep(1_000, true);
            self.model.check(&self.line, 1);
        }
        assert!(self.line.is_empty(), "time ends everything");
    }
}

proptest! {
    #![proptest_config(super::config(96))]

    #[test]
    fn a_small_line_agrees_with_the_model(
        steps in prop::collection::vec(step(40), 1..40),
        stride in 1..4usize,
    ) {
        let mut world = World::new(stride);
        for step in &steps {
            let views = world.views();
            world.step(step);
            world.model.check(&world.line, 1);
            world.check_old_views(&views);
        }
        world.end();
    }
}

proptest! {
    #![proptest_config(super::config(12))]

    #[test]
    fn a_line_of_many_segments_agrees_with_the_model(
        steps in prop::collection::vec(step(3_000), 4..16),
        stride in 1..4usize,
    ) {
        let mut world = World::new(stride);
        for step in &steps {
            world.step(step);
            world.model.check(&world.line, 37);
        }
        world.end();
    }
}
