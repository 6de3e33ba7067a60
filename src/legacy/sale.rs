//! What was found in the other gateway, and what it comes to here.

use std::time::Duration;

use ahash::AHashMap;
use serde::Deserialize;

use super::tally::Tally;
use crate::model::{EventId, LegacyToken, Micros};

/// For how long that gateway takes a visitor for present after a poll or the join.
const PRESENT: Duration = Duration::from_secs(5 * 60);
/// A score later than this after the import is no time.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The year 2001 in seconds: smaller scores are no times.
const SECONDS_MIN: f64 = 1e9;

/// Where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// `position_index`, which forgets nobody.
    Position,
    /// `queue:event`, which forgets who left or entered.
    Queue,
}

/// What is to become of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It waits, since then.
    Waiting(Micros),
    /// Its owner went in there.
    Entered,
    /// It stays behind.
    Skipped(Skip),
}

/// Why a token stays behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Nobody polled for it for five minutes: that gateway would refuse it.
    Silent,
    /// It left or expired there.
    Gone,
    /// Nothing says when it joined.
    Timeless,
    /// Its event was flushed here since it joined, and its ticket would be void.
    Void,
}

/// Everything that the other gateway holds.
#[derive(Debug, Default)]
pub struct Sale {
    /// If any, no other events are taken.
    only: Vec<EventId>,
    events: Vec<EventId>,
    by_name: AHashMap<EventId, u32>,
    tickets: AHashMap<LegacyToken, Ticket>,
    /// Members and keys whose token is no UUID.
    pub strange_tokens: u64,
    /// Events whose name is not one here.
    pub strange_events: u64,
    /// Records that cannot be read.
    pub strange_records: u64,
}

/// What was found of one token. About 60 bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Ticket {
    event: Option<u32>,
    position: Option<f64>,
    queue: Option<f64>,
    record: Option<Record>,
    present: bool,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    joined: Option<Micros>,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Waiting,
    Entered,
    Expired,
}

/// The JSON of a record, as far as it counts.
#[derive(Deserialize)]
struct Written {
    event_id: String,
    joined_at: Option<String>,
    status: String,
}

impl Sale {
    /// An empty one that takes only these events, or all if there are none.
    pub fn of(only: Vec<EventId>) -> Self {
        Self {
            only,
            ..Self::default()
        }
    }

    /// The event of that name, to put tickets in; `None` if it is not taken, and counted if it
    /// cannot be. A name may stand in braces, as in a key.
    pub fn event(&mut self, name: &str) -> Option<u32> {
        let inner = name.strip_prefix('{').and_then(|n| n.strip_suffix('}'));
        let Ok(id) = EventId::new(inner.unwrap_or(name)) else {
            self.strange_events += 1;
            return None;
        };
        if !self.only.is_empty() && !self.only.contains(&id) {
            return None;
        }
        if let Some(event) = self.by_name.get(&id) {
            return Some(*event);
        }
        let event = self.events.len() as u32;
        self.events.push(id.clone());
        self.by_name.insert(id, event);
        Some(event)
    }

    /// A member of an event's sorted set.
    pub fn member(&mut self, event: u32, index: Index, token: &str, score: f64) {
        let Some(ticket) = self.ticket(token) else {
            return;
        };
        ticket.event = Some(event);
        *match index {
            Index::Position => &mut ticket.position,
            Index::Queue => &mut ticket.queue,
        } = Some(score);
    }

    /// A token's own record.
    pub fn record(&mut self, token: &str, json: &[u8]) {
        let Ok(written) = serde_json::from_slice::<Written>(json) else {
            self.strange_records += 1;
            return;
        };
        let Some(event) = self.event(&written.event_id) else {
            return;
        };
        let joined = written.joined_at.and_then(|text| {
            let moment: jiff::Timestamp = text.parse().ok()?;
            u64::try_from(moment.as_microsecond()).ok().map(Micros)
        });
        let status = match written.status.as_str() {
            "waiting" => Status::Waiting,
            "ready" => Status::Entered,
            _ => Status::Expired,
        };
        if let Some(ticket) = self.ticket(token) {
            ticket.event.get_or_insert(event);
            ticket.record = Some(Record { joined, status });
        }
    }

    /// A token that was polled for lately.
    pub fn present(&mut self, token: &str) {
        if let Some(ticket) = self.ticket(token) {
            ticket.present = true;
        }
    }

    fn ticket(&mut self, token: &str) -> Option<&mut Ticket> {
        match LegacyToken::parse(token) {
            Some(token) => Some(self.tickets.entry(token).or_default()),
            None => {
                self.strange_tokens += 1;
                None
            }
        }
    }

    /// The events that were found.
    pub fn events(&self) -> &[EventId] {
        &self.events
    }

    /// How many tokens there are, those of no event included.
    pub fn found(&self) -> usize {
        self.tickets.len()
    }

    /// Every token that belongs to an event, with what is to become of it at `now`.
    pub fn verdicts(&self, now: Micros) -> impl Iterator<Item = (u32, &LegacyToken, Verdict)> + '_ {
        self.tickets.iter().filter_map(move |(token, ticket)| {
            let event = ticket.event?;
            Some((event, token, ticket.verdict(now)))
        })
    }
}

impl Sale {
    /// What would become of it in a store that has nothing of it, at `now`.
    pub fn tally(&self, now: Micros) -> Tally {
        let mut tally = Tally::of(self, true);
        for (event, _, verdict) in self.verdicts(now) {
            let counts = tally.event(event);
            match verdict {
                Verdict::Waiting(_) => counts.moved += 1,
                Verdict::Entered => counts.entered += 1,
                Verdict::Skipped(why) => counts.skip(why),
            }
        }
        tally
    }
}

impl Ticket {
    fn verdict(&self, now: Micros) -> Verdict {
        match self.record.map(|record| record.status) {
            Some(Status::Entered) => return Verdict::Entered,
            Some(Status::Expired) => return Verdict::Skipped(Skip::Gone),
            Some(Status::Waiting) | None => {}
        }
        // Being in the position index alone says nothing: nobody is taken out of it.
        let held = self.queue.is_some() || self.record.is_some();
        let Some(arrival) = self.arrival(now) else {
            return Verdict::Skipped(Skip::Timeless);
        };
        if self.present || held && now.since(arrival) < PRESENT {
            Verdict::Waiting(arrival)
        } else if held {
            Verdict::Skipped(Skip::Silent)
        } else {
            Verdict::Skipped(Skip::Gone)
        }
    }

    /// When it joined, as that gateway ranks it: to the second, with the token's bytes deciding
    /// within one. The position index is what visitors were told places from.
    fn arrival(&self, now: Micros) -> Option<Micros> {
        let scored = [self.position, self.queue].into_iter().flatten();
        let recorded = self.record.and_then(|record| record.joined);
        // The record is made just before the scores, mostly in the same second.
        let recorded = recorded.map(|at| Micros(at.0 - at.0 % 1_000_000));
        let mut times = scored.filter_map(moment).chain(recorded);
        let at = times.find(|at| *at <= now.after(AHEAD_MAX))?;
        // Never behind those who join here from now on, however that gateway's clock goes.
        Some(at.min(now))
    }
}

/// A score as a moment: seconds as that gateway writes them, or the milliseconds of an earlier
/// version.
fn moment(score: f64) -> Option<Micros> {
    let micros = match score {
        _ if !score.is_finite() || score < SECONDS_MIN => return None,
        seconds if seconds < 1e11 => seconds * 1e6,
        millis => millis * 1e3,
    };
    (micros < 1e17).then_some(Micros(micros as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_800_000_000_000_000);
    const TOKEN: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn record(status: &str, ago: u64) -> String {
        let at = jiff::Timestamp::from_second(1_800_000_000 - ago as i64).unwrap();
        format!(
            r#"{{"event_id":"e","user_id":"anonymous","joined_at":"{at}","position":0,"status":"{status}"}}"#
        )
    }

    /// What becomes of one token that is found as `find` says.
    fn verdict(find: impl FnOnce(&mut Sale, u32)) -> Verdict {
        let mut sale = Sale::default();
        let event = sale.event("{e}").unwrap();
        find(&mut sale, event);
        let mut verdicts = sale.verdicts(NOW);
        verdicts.next().expect("the token was found").2
    }

    #[test]
    fn who_is_polled_for_waits_from_the_second_of_the_join() {
        let joined = 1_800_000_000.0 - 3_000.0;
        let waits = Verdict::Waiting(Micros(NOW.0 - 3_000_000_000));
        let whole = verdict(|sale, event| {
            sale.member(event, Index::Position, TOKEN, joined);
            sale.member(event, Index::Queue, TOKEN, joined);
            sale.record(TOKEN, record("waiting", 3_001).as_bytes());
            sale.present(TOKEN);
        });
        assert_eq!(whole, waits);
        // The record is gone after half an hour, however often its owner polls.
        let without_record = verdict(|sale, event| {
            sale.member(event, Index::Queue, TOKEN, joined);
            sale.present(TOKEN);
        });
        assert_eq!(without_record, waits);
        let in_millis = verdict(|sale, event| {
            sale.member(event, Index::Position, TOKEN, joined * 1e3);
            sale.present(TOKEN);
        });
        assert_eq!(in_millis, waits);
        // Writing the sorted sets may have failed.
        let by_record = verdict(|sale, _| {
            sale.record(TOKEN, record("waiting", 3_000).as_bytes());
            sale.present(TOKEN);
        });
        assert_eq!(by_record, waits);
    }

    #[test]
    fn a_join_counts_as_a_poll() {
        let joined = |ago: f64| {
            verdict(|sale, event| sale.member(event, Index::Queue, TOKEN, 1_800_000_000.0 - ago))
        };
        assert_eq!(joined(299.0), Verdict::Waiting(Micros(NOW.0 - 299_000_000)));
        assert_eq!(joined(300.0), Verdict::Skipped(Skip::Silent));
    }

    #[test]
    fn who_left_or_entered_does_not_wait() {
        let only_in_the_index = verdict(|sale, event| {
            sale.member(event, Index::Position, TOKEN, 1_800_000_000.0 - 5.0);
        });
        assert_eq!(only_in_the_index, Verdict::Skipped(Skip::Gone));
        let entered = verdict(|sale, event| {
            sale.member(event, Index::Position, TOKEN, 1_800_000_000.0 - 5.0);
            sale.record(TOKEN, record("ready", 5).as_bytes());
        });
        assert_eq!(entered, Verdict::Entered);
        let expired = verdict(|sale, _| sale.record(TOKEN, record("expired", 5).as_bytes()));
        assert_eq!(expired, Verdict::Skipped(Skip::Gone));
    }

    #[test]
    fn what_is_no_time_is_not_taken_for_one() {
        for score in [
            f64::NAN,
            f64::INFINITY,
            -1.0,
            0.0,
            42.0,
            1e14,
            1e300,
            1_800_100_000.0,
        ] {
            let found = verdict(|sale, event| {
                sale.member(event, Index::Position, TOKEN, score);
                sale.present(TOKEN);
            });
            assert_eq!(found, Verdict::Skipped(Skip::Timeless), "{score}");
        }
        let ahead = verdict(|sale, event| {
            sale.member(event, Index::Position, TOKEN, 1_800_000_007.0);
        });
        assert_eq!(ahead, Verdict::Skipped(Skip::Gone));
        let ahead = verdict(|sale, event| {
            sale.member(event, Index::Queue, TOKEN, 1_800_000_007.0);
        });
        assert_eq!(ahead, Verdict::Waiting(NOW));
    }

    #[test]
    fn what_cannot_be_taken_is_counted() {
        let mut sale = Sale::of(vec![EventId::new("e").unwrap()]);
        assert_eq!(sale.event("other"), None);
        assert_eq!(sale.event("no spaces"), None);
        assert_eq!(sale.event("{e}"), sale.event("e"));
        let event = sale.event("e").unwrap();
        sale.member(event, Index::Queue, "wtkn_fallback_1", 1.8e9);
        sale.record(TOKEN, b"not json");
        sale.present(TOKEN);
        assert_eq!(
            (
                sale.strange_tokens,
                sale.strange_events,
                sale.strange_records
            ),
            (1, 1, 1)
        );
        assert_eq!(sale.verdicts(NOW).count(), 0, "nobody knows the event");
    }
}
