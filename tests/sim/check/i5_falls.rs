//! I5: a told place never rises, a declared recovery excepted: nothing went wrong lately then.

use std::time::Duration;

use tidegate::model::Micros;

use super::Verdict;
use super::reading::{Reading, sec};
use crate::sim::history::{Answer, Call, Seen};

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
            if reading.disturbed(from, seen.got) || joined_anew(reading, seen, at) {
                continue;
            }
            verdict.expect(place <= before, || {
                format!("{} after {before} at {}", reading.told(seen), sec(at))
            });
        }
    }
    verdict
}

/// Whether somebody who holds the same place left it and joined again about then: it is another place
/// for all who hold it.
fn joined_anew(reading: &Reading<'_>, seen: &Seen, since: Micros) -> bool {
    let Some(ticket) = reading.tickets.get(&seen.who) else {
        return false;
    };
    let all = reading.of_ticket(&ticket.id);
    all.iter().any(|other| {
        let joins = other.who != seen.who && other.call == Call::Join;
        joins && other.got.after(LAG) > since && other.sent <= seen.got
    })
}
