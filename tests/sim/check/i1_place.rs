//! I1: no acknowledged place is lost while its visitor polls.

use std::time::Duration;

use tidegate::model::{Gone, Micros};

use super::Verdict;
use super::reading::Reading;
use crate::sim::history::{Answer, Call, Seen};

/// What two nodes may need to hear of each other.
const SLACK: Duration = Duration::from_secs(1);

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I1 place");
    for (who, calls) in &reading.calls {
        let Some(ticket) = reading.tickets.get(who) else {
            continue;
        };
        for seen in calls {
            let right = match seen.answer {
                Answer::Place { .. } | Answer::Inside | Answer::Pass { .. } => true,
                Answer::Unknown | Answer::Gone(None) => false,
                Answer::Gone(Some(Gone::Left)) => left(reading, seen),
                // Whether it was silent is the business of I8; whether it entered, that of I2.
                _ => continue,
            };
            verdict.expect(right, || {
                let since = reading.last_heard(&ticket.id, seen.got);
                let since = since.map(super::reading::sec);
                format!(
                    "{} {}, last heard at {since:?}",
                    ticket.id,
                    reading.told(seen)
                )
            });
        }
    }
    verdict
}

/// Whether one of the holders said goodbye, and none came back within the grace.
fn left(reading: &Reading<'_>, gone: &Seen) -> bool {
    let Some(ticket) = reading.tickets.get(&gone.who) else {
        return false;
    };
    let grace = reading.run.plan.setting.policy.leave_grace - SLACK;
    let all = reading.of_ticket(&ticket.id);
    let before = || all.iter().copied().filter(|seen| seen.got <= gone.got);
    let polled = |from: Micros| {
        before().any(|seen| {
            let told = matches!(
                seen.answer,
                Answer::Joined { .. } | Answer::Place { .. } | Answer::NotReady
            );
            told && seen.sent > from.after(reading.clocks_apart()) && seen.sent < from.after(grace)
        })
    };
    before().any(|seen| match seen.call {
        Call::Leave => true,
        Call::Beacon => seen.answer == Answer::Bye && !polled(seen.sent),
        _ => false,
    })
}
