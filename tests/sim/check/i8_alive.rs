//! I8: a ticket expires only when nobody polled for it for the heartbeat time; the dead are removed by
//! time.

use std::time::Duration;

use tidegate::model::Gone;

use super::Verdict;
use super::reading::{Reading, sec};
use crate::sim::history::Answer;
use crate::sim::run::Held;

/// Nodes note polls to a tenth of a second.
const TICK: Duration = Duration::from_millis(200);

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I8 alive");
    let ttl = reading.run.plan.setting.policy.heartbeat_ttl;
    for (who, calls) in &reading.calls {
        let Some(ticket) = reading.tickets.get(who) else {
            continue;
        };
        for seen in calls {
            let heard = reading.last_heard(&ticket.id, seen.sent);
            let expired = seen.answer == Answer::Gone(Some(Gone::Expired));
            let silent = heard.map_or(ttl, |heard| seen.sent.since(heard));
            verdict.expect(!expired || silent + TICK >= ttl, || {
                let heard = heard.map(sec);
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
