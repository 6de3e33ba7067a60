//! What came of an import, to be read by whoever ordered it.

use std::fmt;

use super::sale::{Sale, Skip};
use crate::model::EventId;
use crate::model::legacy::LIVES;

/// Events named one by one; those with the longest lines are.
const NAMED_MAX: usize = 20;

/// What became of the tokens of one event, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In line now, and not before.
    pub moved: u64,
    /// In line before.
    pub there: u64,
    /// Entered in the other gateway, and written down as such now.
    pub entered: u64,
    /// The same, and written down before.
    pub entered_before: u64,
    /// Left or entered here since they were moved.
    pub gone_here: u64,
    /// Nobody polled for them.
    pub silent: u64,
    /// Left or expired in the other gateway.
    pub gone: u64,
    /// Nothing says when they joined.
    pub timeless: u64,
    /// Their event was flushed here since they joined.
    pub void: u64,
    /// Expired here as often as a ticket may be moved.
    pub used_up: u64,
}

impl Counts {
    /// Counts one that stays behind.
    pub fn skip(&mut self, why: Skip) {
        *match why {
            Skip::Silent => &mut self.silent,
            Skip::Gone => &mut self.gone,
            Skip::Timeless => &mut self.timeless,
            Skip::Void => &mut self.void,
        } += 1;
    }

    /// Tokens in line, as far as the import knows.
    pub const fn in_line(&self) -> u64 {
        self.moved + self.there
    }

    /// All tokens.
    pub const fn read(&self) -> u64 {
        self.in_line()
            + self.entered
            + self.entered_before
            + self.gone_here
            + self.silent
            + self.gone
            + self.timeless
            + self.void
            + self.used_up
    }

    fn add(&mut self, other: &Self) {
        self.moved += other.moved;
        self.there += other.there;
        self.entered += other.entered;
        self.entered_before += other.entered_before;
        self.gone_here += other.gone_here;
        self.silent += other.silent;
        self.gone += other.gone;
        self.timeless += other.timeless;
        self.void += other.void;
        self.used_up += other.used_up;
    }
}

/// What came of an import, event by event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nothing was written, only looked at: all that waits counts as moved.
    pub dry_run: bool,
    /// By event.
    pub events: Vec<(EventId, Counts)>,
    /// Entries whose token is no UUID.
    pub strange_tokens: u64,
    /// Entries of events whose name is not one here.
    pub strange_events: u64,
    /// Records that cannot be read.
    pub strange_records: u64,
}

impl Tally {
    /// Nothing counted yet of a sale.
    pub fn of(sale: &Sale, dry_run: bool) -> Self {
        let events = sale.events().iter().cloned();
        Self {
            dry_run,
            events: events.map(|event| (event, Counts::default())).collect(),
            strange_tokens: sale.strange_tokens,
            strange_events: sale.strange_events,
            strange_records: sale.strange_records,
        }
    }

    /// The counts of an event of the sale.
    pub fn event(&mut self, event: u32) -> &mut Counts {
        &mut self.events[event as usize].1
    }

    /// The event with the longest line.
    pub fn longest(&self) -> Option<&(EventId, Counts)> {
        let in_line = self.events.iter().filter(|(_, c)| c.in_line() > 0);
        in_line.max_by_key(|(_, counts)| counts.in_line())
    }

    /// All events together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for (_, counts) in &self.events {
            total.add(counts);
        }
        total
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.total();
        let (moved, entered) = match self.dry_run {
            true => ("would be put in line", "would be noted as entered there"),
            false => ("put in line now", "noted now as entered there"),
        };
        let lines = [
            (self.events.len() as u64, "events"),
            (all.read(), "tickets read"),
            (all.moved, moved),
            (all.there, "in line already"),
            (all.entered, entered),
            (
                all.entered_before,
                "noted before as entered there, or gone here",
            ),
            (all.gone_here, "skipped: left or entered here since"),
            (
                all.gone,
                "skipped: left or expired there, or entered long ago",
            ),
            (
                all.silent,
                "skipped: not polled for in the last five minutes",
            ),
            (all.timeless, "skipped: nothing says when they joined"),
            (
                all.void,
                "skipped: their event was flushed here since, which makes them void",
            ),
            (self.strange_tokens, "entries passed over: no UUID"),
            (
                self.strange_events,
                "entries passed over: not an event's name here",
            ),
            (
                self.strange_records,
                "records passed over: cannot be read, their tickets go by the sorted sets",
            ),
        ];
        for (count, what) in lines {
            // The first four are always of interest.
            if count > 0 || matches!(what, "events" | "tickets read") || what == moved {
                writeln!(f, "{count:>12}  {what}")?;
            }
        }
        if all.used_up > 0 {
            let used_up = all.used_up;
            writeln!(f, "{used_up:>12}  skipped: expired here {LIVES} times")?;
        }
        let mut events: Vec<_> = self.events.iter().collect();
        events.sort_by_key(|(event, counts)| (std::cmp::Reverse(counts.in_line()), event));
        for (event, counts) in events.iter().take(NAMED_MAX) {
            writeln!(f, "{:>12}  of {event} in line", counts.in_line())?;
        }
        if events.len() > NAMED_MAX {
            writeln!(f, "{:>12}  and {} more", "", events.len() - NAMED_MAX)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_tells_what_there_is_and_nothing_else() {
        let mut tally = Tally::of(&Sale::default(), false);
        tally.events = ["a", "b"]
            .map(|name| (EventId::new(name).expect("a fine id"), Counts::default()))
            .into();
        tally.event(1).moved = 40;
        tally.event(1).silent = 2;
        assert_eq!(
            tally.to_string(),
            "           2  events\n          42  tickets read\n          40  put in line now\n           2  skipped: not polled for in the last five minutes\n          40  of b in line\n           0  of a in line\n"
        );
    }
}
