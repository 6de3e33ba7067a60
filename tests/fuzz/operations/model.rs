//! What every visitor was told, and whether it was true.

use std::time::Duration;

use tidegate::model::gate::Advanced;
use tidegate::model::token;
use tidegate::model::{Gone, Micros, TicketId};
use tidegate::room::answer::{EnterRefusal, EnterStep, Join, Phase, Standing, TokenRefusal};

use super::node::{self, EVENT, Node};
use crate::room::house::START;

/// So many visitors at most.
const VISITORS_MAX: usize = 12;
/// What the line may round a sighting down by.
const TICK: Duration = Duration::from_millis(100);

pub struct Model {
    visitors: Vec<Visitor>,
    max_active: usize,
    /// Everybody who was let in so far.
    entered: usize,
}

struct Visitor {
    token: String,
    id: TicketId,
    arrival: Micros,
    /// The arrival of the first life: what it has again when a crash loses the goodbye.
    first: Micros,
    /// The visitor is out of the line, and the node said so.
    left: bool,
    /// … and the store knows.
    left_for_good: bool,
    /// … or may know: the memory of it was lost.
    left_once: bool,
    leaving_until: Option<Micros>,
    polled_at: Micros,
    /// A turn came, now or before.
    had_turn: bool,
    /// The place told last.
    place: Option<u64>,
    /// The gate may have let this one in.
    maybe_in: bool,
    /// When it did, as far as is known, and the pass.
    pass: Option<(Micros, String)>,
    completed: bool,
}

impl Model {
    pub fn new(max_active: u32) -> Self {
        Self {
            visitors: Vec::new(),
            max_active: max_active as usize,
            entered: 0,
        }
    }

    pub fn join(&mut self, node: &mut Node, key: Option<usize>) {
        if self.visitors.len() == VISITORS_MAX {
            return;
        }
        let key = key.map(|key| format!("key {key}"));
        let ask = Join {
            event: EVENT,
            key: key.as_deref(),
            user: None,
        };
        let joined = node.room.join(node.now, &ask).unwrap();
        let mut space = token::buffer();
        let (keys, _) = node::keys();
        let claims = keys.verify(&joined.token, &mut space).unwrap();
        let (id, arrival) = (claims.id, claims.arrival);
        let visitor = Visitor {
            token: joined.token,
            id,
            arrival,
            first: arrival,
            left: false,
            left_for_good: false,
            left_once: false,
            leaving_until: None,
            polled_at: node.now,
            had_turn: joined.standing.ready,
            place: Some(joined.standing.position),
            maybe_in: false,
            pass: None,
            completed: false,
        };
        let Some(known) = self.visitors.iter_mut().find(|known| known.id == id) else {
            self.visitors.push(visitor);
            return;
        };
        let may_be_gone = known.may_be_gone(node) || known.left || known.left_once;
        if joined.standing.phase == Phase::Entered {
            assert!(known.maybe_in, "let in before it asked");
        } else if may_be_gone {
            *known = Visitor {
                first: known.first,
                had_turn: visitor.had_turn || known.had_turn,
                maybe_in: known.maybe_in,
                pass: known.pass.take(),
                completed: known.completed,
                ..visitor
            };
        } else if !known.maybe_in {
            assert!(known.arrival >= arrival, "the same key, another place");
            known.token = visitor.token;
            known.seen(node.now);
        }
    }

    pub fn status(&mut self, node: &mut Node, which: usize) {
        let Some(visitor) = pick(&mut self.visitors, which) else {
            return;
        };
        let standing = node
            .room
            .look(node.now, &visitor.token)
            .map(|found| node.room.standing(node.now, &found));
        visitor.told(node, standing);
    }

    pub fn enter(&mut self, node: &mut Node, which: usize) {
        let Some(visitor) = pick(&mut self.visitors, which) else {
            return;
        };
        let request = match node.room.enter(node.now, &visitor.token) {
            Ok(EnterStep::Ask(request)) => request,
            Ok(EnterStep::Granted(_)) => panic!("let in without the gate"),
            Err(EnterRefusal::Token(refusal)) => return visitor.told(node, Err(refusal)),
            Err(_) => return visitor.seen(node.now),
        };
        visitor.seen(node.now);
        visitor.had_turn = true;
        let entry = match node.enter(&request) {
            Ok(entry) => entry,
            Err(_) => {
                visitor.maybe_in = true;
                return;
            }
        };
        match node.room.entered(node.now, &request, entry) {
            Ok(admission) => {
                visitor.maybe_in = true;
                match &visitor.pass {
                    Some((_, pass)) => assert_eq!(*pass, admission.pass, "I2: another pass"),
                    None => {
                        visitor.pass = Some((node.now, admission.pass));
                        self.entered += 1;
                    }
                }
            }
            Err(EnterRefusal::Token(refusal)) => visitor.told(node, Err(refusal)),
            Err(_) => assert!(visitor.pass.is_none(), "I2: in, and not in"),
        }
        self.check_pace(node);
    }

    pub fn leave(&mut self, node: &mut Node, which: usize) {
        if let Some(visitor) = pick(&mut self.visitors, which) {
            node.room.leave(node.now, &visitor.token);
            visitor.left = true;
        }
    }

    pub fn leave_softly(&mut self, node: &mut Node, which: usize) {
        if let Some(visitor) = pick(&mut self.visitors, which) {
            let grace = node.room.leave_softly(node.now, &visitor.token);
            // Once over, it is over.
            if visitor.leaving_until.is_none_or(|until| until > node.now) {
                visitor.leaving_until = Some(node.now.after(grace));
            }
        }
    }

    pub fn complete(&mut self, node: &mut Node, which: usize) {
        if let Some(visitor) = pick(&mut self.visitors, which)
            && visitor.pass.is_some()
        {
            visitor.completed = node.complete(visitor.id).is_ok();
        }
    }

    pub fn flush(&mut self, node: &mut Node) {
        if node.flush() {
            for visitor in &mut self.visitors {
                visitor.left_for_good |= visitor.left;
            }
        }
    }

    /// Time passes in steps, and gates give turns.
    pub fn pass(&mut self, node: &mut Node, time: Duration) {
        for _ in 0..8 {
            for answer in node.pass(time / 8) {
                self.heard(node, &answer);
            }
        }
    }

    /// Turns are given in the order of the line.
    fn heard(&mut self, node: &Node, answer: &Advanced) {
        for turn in answer.called.iter().filter(|_| !answer.stale) {
            let Some(called) = self.visitors.iter().find(|v| v.id == turn.id) else {
                continue;
            };
            let passed_over = self.visitors.iter().find(|v| {
                v.key() < (called.first, called.id)
                    && v.waits_for_its_first_turn(node)
                    && !called.had_turn
            });
            let is_called = |v: &Visitor| answer.called.iter().any(|turn| turn.id == v.id);
            if let Some(earlier) = passed_over.filter(|v| !is_called(v)) {
                panic!("I4: {} was called before {}", called.id, earlier.id);
            }
        }
        let turns = answer.called.iter().map(|turn| turn.id);
        for id in turns.chain(answer.missed.iter().map(|turn| turn.id)) {
            if let Some(visitor) = self.visitors.iter_mut().find(|v| v.id == id) {
                visitor.had_turn = true;
            }
        }
    }

    /// The memory is lost. Everybody polls then, and what was not written is put back (I1).
    pub fn crash(&mut self, node: &mut Node) {
        node.crash();
        for visitor in &mut self.visitors {
            visitor.left_once |= visitor.left;
            visitor.left = visitor.left_for_good;
            visitor.place = None;
        }
        self.all_poll(node);
        for visitor in &mut self.visitors {
            visitor.place = None;
        }
    }

    fn all_poll(&mut self, node: &mut Node) {
        for which in 0..self.visitors.len() {
            self.status(node, which);
        }
    }

    /// The store is well again: memory and store agree (I6), and a restart changes nobody's place.
    pub fn end(&mut self, node: &mut Node) {
        node.heal();
        // Gates hear of the turns that were given without asking them.
        self.pass(node, Duration::from_millis(800));
        self.all_poll(node);
        // Each takes a batch of every lane.
        while node.journal.depth() > 0 {
            let before = node.journal.depth();
            self.flush(node);
            let after = node.journal.depth();
            assert!(after < before, "{after} records stay in the journal");
        }
        assert_eq!(
            node.remembered(),
            node.stored(),
            "I6: memory and store do not agree"
        );
        self.all_poll(node);
        node.crash();
        // Who missed a turn is counted by nobody, until a restart after the gate forgot it.
        let is_late = |v: &Visitor| v.had_turn && !v.left && !v.maybe_in;
        if self.visitors.iter().any(is_late) {
            self.visitors.iter_mut().for_each(|v| v.place = None);
        }
        self.all_poll(node);
    }

    /// I3: turns come from the bucket, and no more are inside than may be.
    fn check_pace(&self, node: &Node) {
        let policy = node.policy();
        let time = node.now.since(START).as_secs_f64();
        let most = f64::from(policy.burst) + policy.rate * time;
        assert!(
            self.entered as f64 <= most,
            "I3: {} entered of {most}",
            self.entered
        );
        let is_inside = |v: &&Visitor| {
            let since = v.pass.as_ref().map(|(since, _)| *since);
            !v.completed && since.is_some_and(|since| node.now < since.after(policy.pass_ttl))
        };
        let inside = self.visitors.iter().filter(is_inside).count();
        assert!(
            self.max_active == 0 || inside <= self.max_active,
            "I3: {inside} inside"
        );
    }
}

impl Visitor {
    fn key(&self) -> (Micros, TicketId) {
        (self.arrival, self.id)
    }

    fn seen(&mut self, now: Micros) {
        self.polled_at = now;
        self.leaving_until = None;
    }

    /// Nobody would wonder if this one were removed by now.
    fn may_be_gone(&self, node: &Node) -> bool {
        let silent = node.now.since(self.polled_at) + TICK + TICK >= node.policy().heartbeat_ttl;
        silent || self.leaving_until.is_some_and(|until| until <= node.now)
    }

    fn waits_for_its_first_turn(&self, node: &Node) -> bool {
        let is_out = self.left || self.left_once || self.maybe_in || self.had_turn;
        !is_out && self.leaving_until.is_none() && !self.may_be_gone(node)
    }

    /// What a poll may answer.
    fn told(&mut self, node: &Node, answer: Result<Standing, TokenRefusal>) {
        match answer {
            Ok(standing) => {
                if standing.phase == Phase::Entered {
                    assert!(self.maybe_in, "in without asking");
                    return;
                }
                assert!(!self.left, "left, and yet in line");
                assert!(
                    standing.ready == (standing.position == 0),
                    "ready at a place"
                );
                let before = self.place.replace(standing.position);
                let fell = before.is_none_or(|before| before == 0 || standing.position <= before);
                assert!(fell, "I5: from {before:?} to {}", standing.position);
                self.had_turn |= standing.ready;
                self.seen(node.now);
            }
            Err(TokenRefusal::Gone(Some(Gone::Left))) => {
                let softly = self.leaving_until.is_some_and(|until| until <= node.now);
                assert!(self.left || self.left_once || softly, "I1: never left");
                self.left = true;
            }
            Err(TokenRefusal::Gone(Some(Gone::Expired))) => {
                assert!(
                    self.left || self.left_once || self.may_be_gone(node),
                    "I8: expired too early"
                );
                self.left = true;
            }
            Err(TokenRefusal::Gone(Some(Gone::Entered))) => {
                assert!(self.maybe_in, "I2: never let in");
            }
            Err(refusal) => panic!("I1: {refusal}"),
        }
    }
}

fn pick(visitors: &mut [Visitor], which: usize) -> Option<&mut Visitor> {
    let count = visitors.len();
    visitors.get_mut(which.checked_rem(count)?)
}
