//! I5: a told place never rises, a declared recovery excepted: nothing went wrong lately then.

use std::time::Duration;

use tidegate::model::{Micros, TicketId};

use super::Verdict;
use super::reading::{Reading, sec};
use crate::sim::history::{Answer, Call};

/// What two nodes' views are apart when nothing is wrong.
const LAG: Duration = Duration::from_millis(400);
/// A recovery may go on for so long after a fault.
const RECOVERY: u64 = 20_000_000;

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I5 falls");
    let latency = Duration::from_millis(4 * reading.run.plan.setting.latency);
    for calls in reading.calls.values() {
        let mut shown = None;
        for seen in calls {
            let place = match seen.answer {
                Answer::Joined { place, .. } | Answer::Place { place, .. } => place,
                Answer::NotReady | Answer::Silence | Answer::Unavailable | Answer::Full => continue,
                _ => 0,
            };
            let Some((before, at)) = shown.replace((place, seen.got)) else {
                continue;
            };
            // A called ticket that missed its turn is told its place anew.
            if before == 0 || place == 0 || seen.sent.since(at) < LAG + latency {
                continue;
            }
            let from = Micros(at.0 - RECOVERY);
            if reading.disturbed(from, seen.got) {
                continue;
            }
            // One place of several visitors: another of them gave it up, and took a new one.
            let of = reading.tickets.get(&seen.who);
            if of.is_some_and(|ticket| left(reading, &ticket.id, at, seen.got)) {
                continue;
            }
            verdict.expect(place <= before, || {
                format!("{} after {before} at {}", reading.told(seen), sec(at))
            });
        }
    }
    verdict
}

/// Whether somebody left a place between two moments.
fn left(reading: &Reading<'_>, id: &TicketId, from: Micros, to: Micros) -> bool {
    let all = reading.of_ticket(id);
    let mut leaves = all.iter().filter(|seen| seen.call == Call::Leave);
    leaves.any(|seen| seen.got >= from && seen.sent <= to)
}
