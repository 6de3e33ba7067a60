//! One room with its gates, in virtual time: the store's rules run here, nothing waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate::journal::lane::{Journal, Limits};
use tidegate::model::gate::{EnterRequest, Entry};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::model::{EventId, Kind, Micros, NodeId, Policy, Record, TicketKey};
use tidegate::room::answer::{Admission, EnterRefusal, EnterStep, Join, JoinRefusal, Joined};
use tidegate::room::answer::{Standing, TokenRefusal};
use tidegate::room::{Identity, Room, Settings};
use tidegate::store::gate::Gate;

/// Noon of some day, so that times before the start exist.
pub const START: Micros = Micros(1_800_000_000_000_000);

pub fn event(name: &str) -> EventId {
    EventId::new(name).unwrap()
}

/// A policy that lets tests see each turn: ten a second, one saved up.
pub fn policy() -> Policy {
    Policy {
        rate: 10.0,
        burst: 1,
        ready_ttl: Duration::from_secs(5),
        late_grace: Duration::from_secs(60),
        heartbeat_ttl: Duration::from_secs(30),
        ticket_ttl: Duration::from_secs(3600),
        pass_ttl: Duration::from_secs(10),
        leave_grace: Duration::from_secs(5),
        ..Policy::default()
    }
}

pub fn settings(defaults: Policy) -> Settings {
    Settings {
        defaults,
        events: BTreeMap::new(),
        create_on_demand: true,
        polling: (Duration::from_millis(100), Duration::from_secs(2)),
    }
}

pub struct House {
    pub room: Arc<Room>,
    pub journal: Arc<Journal>,
    pub gates: BTreeMap<EventId, Gate>,
    pub now: Micros,
    /// Turns that gates gave by themselves, in order.
    pub called: Vec<(Micros, EventId, tidegate::model::TicketId)>,
    /// Questions put to gates so far.
    pub asked: usize,
    /// Gates do not answer while this is set.
    pub away: bool,
}

impl House {
    pub fn new(defaults: Policy) -> Self {
        Self::with(settings(defaults), 1_000_000, 100)
    }

    pub fn with(settings: Settings, records_max: usize, events_max: usize) -> Self {
        let limits = Limits {
            records_max,
            batch_records: 1024,
            batch_bytes: 1 << 20,
            flush_interval: Duration::from_millis(10),
            patient_interval: Duration::from_millis(200),
            tail_records: 0,
        };
        let journal = Arc::new(Journal::new(4, NodeId(0), 1, limits));
        let key = vec![("k1".to_owned(), [7; 32])];
        let keys = (
            TicketKeys::new("k1", &key).unwrap(),
            PassKeys::new("k1", &key).unwrap(),
        );
        let identity = Identity {
            node: NodeId(0),
            fleet: 1,
            epoch: 1,
            events_max,
            skew_max: Duration::from_secs(1),
            lag_max: Duration::from_millis(500),
            share_limit: Duration::from_secs(300),
        };
        let room = Arc::new(Room::new(
            START,
            identity,
            settings,
            keys,
            Arc::clone(&journal),
        ));
        let gates = BTreeMap::new();
        Self {
            room,
            journal,
            gates,
            now: START,
            called: Vec::new(),
            asked: 0,
            away: false,
        }
    }

    /// Moves time on in steps of 10 ms, doing what is due.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            self.now = self.now.after(Duration::from_millis(10)).min(end);
            self.tick();
        }
    }

    /// Does what is due now.
    pub fn tick(&mut self) {
        let mut asking = Vec::new();
        self.room.tick(self.now, &mut asking);
        self.asked += asking.len();
        for ask in asking {
            if self.away {
                self.room.advanced(self.now, ask, None);
                continue;
            }
            let gate = self.gates.entry(ask.request.event.clone()).or_default();
            let answer = gate.advance(self.now, &ask.request, &mut Vec::new());
            if !answer.stale {
                let turns = answer.called.iter();
                self.called
                    .extend(turns.map(|t| (self.now, ask.request.event.clone(), t.id)));
            }
            self.room.advanced(self.now, ask, Some(answer));
        }
    }

    pub fn join(&self, event: &str) -> Joined {
        self.try_join(event, None, None).unwrap()
    }

    pub fn try_join(
        &self,
        event: &str,
        key: Option<&str>,
        user: Option<&str>,
    ) -> Result<Joined, JoinRefusal> {
        self.room.join(self.now, &Join { event, key, user })
    }

    pub fn status(&self, token: &str) -> Result<Standing, TokenRefusal> {
        self.room
            .look(self.now, token)
            .map(|found| self.room.standing(self.now, &found))
    }

    pub fn place(&self, token: &str) -> u64 {
        self.status(token).unwrap().position
    }

    pub fn is_ready(&self, token: &str) -> bool {
        self.status(token).unwrap().ready
    }

    pub fn enter(&mut self, token: &str) -> Result<Admission, EnterRefusal> {
        let request = match self.room.enter(self.now, token)? {
            EnterStep::Granted(admission) => return Ok(admission),
            EnterStep::Ask(request) => request,
        };
        if self.away {
            return Err(self.room.enter_failed(self.now, &request));
        }
        let entry = self.at_gate(&request);
        self.room.entered(self.now, &request, entry)
    }

    pub fn at_gate(&mut self, request: &EnterRequest) -> Entry {
        let gate = self.gates.entry(request.event.clone()).or_default();
        gate.enter(self.now, request, &mut Vec::new())
    }

    /// Everything the journal holds, as if written.
    pub fn flushed(&self) -> Vec<(EventId, Record)> {
        let mut all = Vec::new();
        for lane in 0..self.journal.partitions() {
            while let Some(batch) = self.journal.cut(lane, self.now, self.now, true) {
                for (event, records) in &batch.events {
                    all.extend(records.iter().map(|record| (event.clone(), *record)));
                }
                self.journal.acknowledge(lane);
            }
        }
        all
    }

    /// Another room, as after a crash that lost the memory but not the keys or the gates.
    pub fn crashed(self, defaults: Policy) -> Self {
        Self {
            gates: self.gates,
            now: self.now,
            called: self.called,
            ..Self::new(defaults)
        }
    }

    /// Loads what was written.
    pub fn restore(&self, written: &[(EventId, Record)]) {
        for &(ref event, Record { kind, id, at }) in written {
            if kind == Kind::Joined {
                let key = TicketKey { arrival: at, id };
                self.room.restore_live(self.now, event, &[key]);
            } else if let Some(why) = kind.gone() {
                self.room.restore_removed(self.now, event, &[(id, at, why)]);
            }
        }
    }

    /// Another room that has loaded what this one wrote, as after a crash.
    pub fn restarted(self, defaults: Policy) -> Self {
        let written = self.flushed();
        let house = self.crashed(defaults);
        house.restore(&written);
        for (event, gate) in &house.gates {
            house
                .room
                .restore_gate(house.now, &gate.view(house.now, event.clone()));
        }
        house
    }
}

/// Kinds of records, for comparing what was written.
pub fn kinds(records: &[(EventId, Record)]) -> Vec<Kind> {
    records.iter().map(|(_, record)| record.kind).collect()
}
