//! I8: a ticket expires only when nobody polled for it for the heartbeat time; the dead are removed by
//! time.

use std::time::Duration;

use tidegate::model::{Gone, Micros};

use super::Verdict;
use super::reading::{Reading, sec};
use crate::sim::history::{Answer, Seen};
use crate::sim::run::Held;

/// Nodes note polls to a tenth of a second.
const TICK: Duration = Duration::from_millis(200);
/// What was seen elsewhere in the last moment need not have been heard of.
const VIEW: Duration = Duration::from_secs(3);

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I8 alive");
    let ttl = reading.run.plan.setting.policy.heartbeat_ttl;
    for (who, calls) in &reading.calls {
        let Some(ticket) = reading.tickets.get(who) else {
            continue;
        };
        for seen in calls {
            let expired = seen.answer == Answer::Gone(Some(Gone::Expired));
            let silent = |until| {
                let heard = reading.last_heard(&ticket.id, until);
                heard.map_or(ttl, |heard| until.since(heard)) + TICK
            };
            let right = !expired || silent(seen.sent) >= ttl || was_silent(reading, seen, silent);
            verdict.expect(right, || {
                let heard = reading.last_heard(&ticket.id, seen.sent).map(sec);
                format!(
                    "{} {}, last heard at {heard:?}",
                    ticket.id,
                    reading.told(seen)
                )
            });
        }
    }
    // Silence is not believed while a clock is off.
    if reading.run.through.is_some() && !reading.clock_is_off() {
        for (node, tickets) in &reading.run.end.nodes {
            for (id, held) in tickets {
                let dead = !matches!(held, Held::Live(_));
                verdict.expect(dead, || {
                    let heard = reading.last_heard(id, reading.run.end.at).map(sec);
                    format!("node {node} still has {id}, last heard at {heard:?}")
                });
            }
        }
    }
    verdict
}

/// Whether the ticket was silent for long enough when it was removed, or a view before: nodes believe
/// silence by views that are so old. Whoever comes back after that finds nodes that have not heard of it
/// yet, while they are cut off.
fn was_silent(reading: &Reading<'_>, seen: &Seen, silent: impl Fn(Micros) -> Duration) -> bool {
    let Some(ticket) = reading.tickets.get(&seen.who) else {
        return false;
    };
    let all = reading.of_ticket(&ticket.id);
    let joined = all.iter().filter(|other| other.sent < seen.sent);
    let arrivals = joined.filter_map(|other| match other.answer {
        Answer::Joined { ticket, .. } => Some(ticket.arrival),
        _ => None,
    });
    let arrival = arrivals.max().unwrap_or(ticket.arrival);
    // By the clock of the node that removed it.
    let apart = reading.clocks_apart();
    let ttl = reading.run.plan.setting.policy.heartbeat_ttl;
    let removed = reading.run.expired.get(&ticket.id).into_iter().flatten();
    let mut of_this_place = removed.filter(|at| **at >= arrival && **at < seen.sent.after(apart));
    let was = |at: Micros| {
        let lately = all.iter().map(|other| other.got);
        let mut lately = lately.filter(|got| *got <= at && got.after(VIEW + apart) > at);
        silent(at) + apart >= ttl || lately.any(|got| silent(got) + apart >= ttl)
    };
    !reading.clock_is_off() && of_this_place.any(|at| was(*at))
}
