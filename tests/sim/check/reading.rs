//! A run as checkers read it: calls by visitor, visitors by ticket, and when what was wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate::model::{Micros, TicketId, TicketKey};

use crate::room::house::START;
use crate::sim::history::{Answer, Call, Seen};
use crate::sim::ledger::{Deed, Line};
use crate::sim::plan::{Op, What};
use crate::sim::run::{Run, Snapshot};

/// When something was wrong anywhere, what follows from it included.
pub struct Fault {
    pub from: Micros,
    pub to: Micros,
}

pub struct Reading<'a> {
    pub run: &'a Run,
    /// Calls of each visitor, in order.
    pub calls: BTreeMap<usize, Vec<&'a Seen>>,
    /// The ticket that each visitor was first given.
    pub tickets: BTreeMap<usize, TicketKey>,
    /// Who holds each ticket: several, when they came with one key.
    pub holders: BTreeMap<TicketId, BTreeSet<usize>>,
    /// When a ticket was first called, as gates have it, or the node that called it by itself.
    pub called: BTreeMap<TicketId, Micros>,
    /// Tickets that were first called by nodes by themselves.
    pub shared: BTreeSet<TicketId>,
    pub faults: Vec<Fault>,
}

impl<'a> Reading<'a> {
    pub fn of(run: &'a Run) -> Self {
        let mut calls: BTreeMap<usize, Vec<&Seen>> = BTreeMap::new();
        let (mut tickets, mut holders) = (BTreeMap::new(), BTreeMap::new());
        for seen in &run.history {
            calls.entry(seen.who).or_default().push(seen);
            if let Answer::Joined { ticket, .. } = seen.answer {
                tickets.entry(seen.who).or_insert(ticket);
                let of: &mut BTreeSet<_> = holders.entry(ticket.id).or_default();
                of.insert(seen.who);
            }
        }
        let (mut called, mut shared) = (BTreeMap::new(), BTreeSet::new());
        for line in &run.ledger {
            if matches!(line.deed, Deed::Given { .. }) && !called.contains_key(&line.id) {
                called.insert(line.id, line.at);
                shared.extend(line.by.map(|_| line.id));
            }
        }
        Self {
            run,
            calls,
            tickets,
            holders,
            called,
            shared,
            faults: faults(run),
        }
    }

    /// Whether something was wrong between two moments, or its consequences lasted.
    pub fn disturbed(&self, from: Micros, to: Micros) -> bool {
        let touches = |fault: &Fault| fault.from <= to && fault.to >= from;
        self.faults.iter().any(touches)
    }

    /// Everything that the holders of a ticket did, in order.
    pub fn of_ticket(&self, id: &TicketId) -> Vec<&'a Seen> {
        let holders = self.holders.get(id).into_iter().flatten();
        let mut all: Vec<_> = holders.flat_map(|who| &self.calls[who]).copied().collect();
        all.sort_by_key(|seen| (seen.got, seen.sent));
        all
    }

    /// When somebody was last answered about a ticket, before `now`.
    pub fn last_heard(&self, id: &TicketId, now: Micros) -> Option<Micros> {
        let all = self.of_ticket(id);
        let answered = all.iter().filter(|seen| {
            let counts = matches!(seen.call, Call::Join | Call::Status | Call::Enter);
            let silent = matches!(seen.answer, Answer::Silence | Answer::Full);
            counts && !silent && seen.got < now
        });
        answered.map(|seen| seen.sent).max()
    }

    /// Whether some node's clock is off by more than the fleet bears: it does not hear the others in
    /// time then, nor they it.
    pub fn clock_is_off(&self) -> bool {
        let ops = self.run.plan.ops.iter();
        ops.into_iter()
            .any(|op| matches!(op.what, What::Jump { by, .. } if by.abs() > 1_000_000))
    }

    /// Whether a silent ticket may still be about: nobody is rid of one while a clock is off.
    pub fn outlives(&self, id: &TicketId, at: &Snapshot) -> bool {
        let ttl = self.run.plan.setting.policy.heartbeat_ttl;
        let heard = self.last_heard(id, at.at);
        self.clock_is_off() && heard.is_none_or(|heard| at.at.since(heard) > ttl)
    }

    /// How far clocks of nodes are apart at most, if none is off: which of two moments at different
    /// nodes was first is not to be told within this.
    pub fn clocks_apart(&self) -> Duration {
        let clocks = self.run.plan.setting.clocks.iter();
        let widest = clocks.map(|(off, _)| off.unsigned_abs()).max();
        let jumps = self.run.plan.ops.iter().map(|op| match op.what {
            What::Jump { by, .. } => by.unsigned_abs().min(1_000_000),
            _ => 0,
        });
        Duration::from_micros(2 * widest.unwrap_or(0) + jumps.sum::<u64>() + 10_000)
    }

    /// Whether a node died or was stopped after somebody was last answered about a ticket.
    pub fn died_since(&self, id: &TicketId) -> bool {
        let heard = self.last_heard(id, Micros(u64::MAX)).unwrap_or(START);
        self.deaths().any(|at| at >= heard)
    }

    /// Whether no copy of a ticket's entry need have survived: the store lost it, and a node died
    /// after it was told of it.
    pub fn is_forgotten(&self, id: &TicketId) -> bool {
        let entered = |line: &&Line| line.id == *id && line.deed == Deed::Entered;
        let entry = self.run.ledger.iter().find(entered).map(|line| line.at);
        let died = entry.is_some_and(|entry| self.deaths().any(|at| at >= entry));
        self.run.forgotten.contains(id) && died || self.is_lost_with_its_node(id)
    }

    /// Whether a node let somebody in without the store, and died since: it may not have told anybody.
    fn is_lost_with_its_node(&self, id: &TicketId) -> bool {
        let shared = |line: &&Line| line.id == *id && line.deed == Deed::Entered;
        let lines = self.run.ledger.iter().filter(shared);
        let mut lines = lines.filter_map(|line| line.by.map(|node| (line.at, node)));
        lines.any(|(entered, by)| {
            let mut deaths = self.deaths_of(by);
            deaths.any(|at| at >= entered)
        })
    }

    /// Whether a node died or was stopped before a moment.
    pub fn died(&self, node: u16, before: Micros) -> bool {
        self.deaths_of(node).any(|at| at <= before)
    }

    fn deaths_of(&self, of: u16) -> impl Iterator<Item = Micros> {
        let ops = self.run.plan.ops.iter().filter(move |op| match op.what {
            What::Crash { node, .. } | What::Drain { node, .. } => node == of,
            _ => false,
        });
        ops.map(|op| START.after(Duration::from_millis(op.at)))
    }

    /// By how much the store's clock jumped ahead between two moments, in seconds.
    pub fn store_jumped(&self, from: Micros, to: Micros) -> f64 {
        let jumps = self.run.plan.ops.iter().filter_map(|op| match op.what {
            What::StoreJump { by } if by > 0 => {
                let at = START.after(Duration::from_millis(op.at));
                (at > from && at <= to).then_some(by as f64 / 1e6)
            }
            _ => None,
        });
        jumps.sum()
    }

    /// When nodes died or were stopped.
    pub fn deaths(&self) -> impl Iterator<Item = Micros> {
        let dies = |op: &&Op| matches!(op.what, What::Crash { .. } | What::Drain { .. });
        let ops = self.run.plan.ops.iter().filter(dies);
        ops.map(|op| START.after(Duration::from_millis(op.at)))
    }

    /// A visitor's call in words.
    pub fn told(&self, seen: &Seen) -> String {
        let Seen {
            sent,
            who,
            node,
            call,
            answer,
            ..
        } = seen;
        let at = node.map_or("nowhere".to_owned(), |node| format!("node {node}"));
        let at_sec = sec(*sent);
        format!("at {at_sec} visitor {who} at {at}: {call:?}: {answer:?}")
    }
}

/// A moment in seconds since the beginning.
pub fn sec(at: Micros) -> String {
    let micros = at.0 as i64 - START.0 as i64;
    format!("{:.3} s", micros as f64 / 1e6)
}

fn faults(run: &Run) -> Vec<Fault> {
    let at = |millis: u64| START.after(Duration::from_millis(millis));
    let ops = run.plan.ops.iter().filter_map(|op| {
        let (before, after) = match &op.what {
            What::Visit(_) | What::Patch(_) => return None,
            What::Trouble { lasts, .. } => (0, *lasts),
            What::Lose {
                back,
                down,
                noticed,
                ..
            } => (*back, down + noticed),
            What::Wipe { down } => (100_000, down + 6_000),
            What::Trim { .. } => (0, 0),
            What::Crash { back, .. } | What::Drain { back, .. } => (1_000, back + 10_000),
            What::Jump { .. } => (0, 100_000),
            What::Freeze { lasts, .. } => (0, lasts + 4_000),
            // What the clock says is heard of by and by, and turns may lapse by it.
            What::StoreJump { by } => (0, by.unsigned_abs() / 1_000 + 10_000),
        };
        Some(Fault {
            from: at(op.at.saturating_sub(before)),
            to: at(op.at + after),
        })
    });
    ops.collect()
}
