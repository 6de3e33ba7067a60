//! What gates did, in the order in which it was so in the world. What a failover took back and nobody
//! had heard of was never so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate::model::gate::SettleRequest;
use tidegate::model::{EventId, Kind, Micros, Record, TicketId};

/// What a node tells of is on its way for no longer, or was told before.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// One thing done for a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A turn was given.
    Given { until: Micros },
    /// A turn ended untaken and went back into the bucket.
    Ended,
    /// It entered.
    Entered,
    /// Its visitor is inside, until then at most.
    Inside { until: Micros },
    /// Its visitor went out.
    Outside,
}

#[derive(Debug, Clone)]
pub struct Line {
    pub at: Micros,
    pub event: EventId,
    pub id: TicketId,
    pub deed: Deed,
    /// Which node did it without the store, if one did.
    pub by: Option<u16>,
    /// What the store's clock said.
    pub clock: Micros,
    /// Some node heard of it.
    heard: bool,
    /// The store forgot it.
    lost: bool,
}

#[derive(Debug, Default)]
pub struct Ledger {
    lines: Vec<Line>,
    /// Nodes tell a gate what it forgot: nothing new is done.
    pub told_again: bool,
    /// What the store's clock says.
    pub clock: Micros,
    /// Lines of a ticket, for hearing.
    of: BTreeMap<TicketId, Vec<usize>>,
}

impl Ledger {
    pub fn book(&mut self, at: Micros, event: &EventId, id: TicketId, deed: Deed, heard: bool) {
        if self.told_again {
            return;
        }
        self.of.entry(id).or_default().push(self.lines.len());
        self.lines.push(Line {
            at,
            event: event.clone(),
            id,
            deed,
            by: None,
            clock: self.clock,
            heard,
            lost: false,
        });
    }

    /// A node did something without the store: no store can forget that.
    pub fn book_shared(&mut self, at: Micros, event: &EventId, id: TicketId, deed: Deed, by: u16) {
        self.lines.push(Line {
            at,
            event: event.clone(),
            id,
            deed,
            by: Some(by),
            clock: self.clock,
            heard: true,
            lost: false,
        });
    }

    /// A node tells of turns that it gave without the store: the last ones it may have given and told
    /// at once, before anybody looked.
    pub fn told_of_shares(&mut self, now: Micros, request: &SettleRequest) {
        let (ready, node) = (
            Duration::from_micros(request.policy.ready_ttl),
            request.node.0,
        );
        let clock = self.clock;
        for turn in request.called.iter().filter(|turn| turn.until > clock) {
            let until = now.after(turn.until.since(clock));
            let at = Micros(until.0 - ready.as_micros() as u64).min(now);
            let known = self.lines.iter().any(|line| {
                let is_given = matches!(line.deed, Deed::Given { .. });
                let is_open = line.at.after(ready + TOLD_WITHIN) >= now;
                line.id == turn.id && line.by == Some(node) && is_given && is_open
            });
            if !known {
                self.book_shared(at, &request.event, turn.id, Deed::Given { until }, node);
            }
        }
    }

    /// Some node read what a gate wrote at a moment of its clock.
    pub fn heard<'a>(&mut self, clock: Micros, records: impl Iterator<Item = &'a Record>) {
        for record in records {
            match record.kind {
                Kind::Called => self.heard_of_turn(record.id, record.at),
                Kind::Entered => self.heard_of_entry(record.id, clock),
                _ => {}
            }
        }
    }

    /// Some node was told of a ticket's turn. An answer that was on its way when the store lost what
    /// it tells of still tells it.
    pub fn heard_of_turn(&mut self, id: TicketId, until: Micros) {
        self.mark(id, |line| line.deed == Deed::Given { until });
    }

    /// Some node was told of a ticket's entry at a moment of the store's clock; what led to it is so
    /// as well.
    pub fn heard_of_entry(&mut self, id: TicketId, at: Micros) {
        self.mark(id, |line| {
            line.clock <= at && (!line.lost || line.clock == at)
        });
    }

    /// Some node was told of a ticket that it had entered by a moment of the store's clock, though the
    /// store has lost it since.
    pub fn heard_inside(&mut self, id: TicketId, by: Micros) {
        self.mark(id, |line| {
            line.clock <= by && (!line.lost || line.deed == Deed::Entered)
        });
    }

    /// Some node was told that a ticket has entered.
    pub fn heard_of(&mut self, id: TicketId) {
        self.mark(id, |line| !line.lost);
    }

    fn mark(&mut self, id: TicketId, which: impl Fn(&Line) -> bool) {
        for at in self.of.get(&id).into_iter().flatten() {
            let line = &mut self.lines[*at];
            line.heard |= which(line);
        }
    }

    /// The store fell back to what was at `moment`.
    pub fn lose(&mut self, event: &EventId, moment: Micros) {
        for line in &mut self.lines {
            line.lost |= line.event == *event && line.at > moment && line.by.is_none();
        }
    }

    /// What was done of an event and is so, in order.
    pub fn lines<'a>(&'a self, event: &'a EventId) -> impl Iterator<Item = &'a Line> {
        let so = move |line: &&Line| line.event == *event && (line.heard || !line.lost);
        self.lines.iter().filter(so)
    }

    /// Tickets of which the store forgot an entry that a node had heard of.
    pub fn entries_lost(&self) -> BTreeSet<TicketId> {
        let lost = |line: &&Line| line.lost && line.deed == Deed::Entered;
        self.lines.iter().filter(lost).map(|l| l.id).collect()
    }
}
