//! Every answer is one that the API has: no 5xx, no call without an answer, no promise broken, and a
//! place that is gone is told as expired, not as unknown.

use super::Verdict;
use crate::sale::reading::{Fate, Reading};
use crate::sale::story::{Call, Down, End, Outage, Run, Seen, Story, What};

pub fn check(run: &Run, events: &[Vec<Reading>]) -> Verdict {
    let mut verdict = Verdict::new("answers as the API has them");
    let (mut failed, mut forgotten, mut expired) = (0_u64, 0_u64, 0_u64);
    for reading in events.iter().flatten() {
        let story = reading.story;
        for seen in &story.seen {
            let excused = run.outages.iter().any(|outage| outage.excuses(seen));
            failed += u64::from(excused);
            let fine = match &seen.what {
                What::Failed { .. } | What::Odd { .. } => excused,
                What::Gone { code } => code == "TOKEN_EXPIRED",
                _ => true,
            };
            verdict.expect(fine, seen.sent, || told(story, seen));
        }
        for seen in &story.epilogue {
            expired += u64::from(matches!(seen.what, What::Gone { .. }));
            verdict.expect(fits(run, story, seen), seen.sent, || told(story, seen));
        }
        for turn in &reading.turns {
            forgotten += u64::from(turn.fate == Fate::LostInKill);
            verdict.expect(turn.fate != Fate::Broken, turn.given.to, || {
                let (visitor, event, given) = (story.visitor, story.event, turn.given);
                let since = story.seen.iter().filter(|seen| seen.received >= given.from);
                let since: Vec<_> = since.map(|seen| told(story, seen)).collect();
                format!(
                    "visitor {visitor} of event {event} ({:?}) was promised a turn ({given:?}) in \
                     vain:\n        {}",
                    story.kind,
                    since.join("\n        ")
                )
            });
        }
    }
    verdict.figures.push((
        "calls refused or failed while it was down",
        failed.to_string(),
    ));
    verdict
        .figures
        .push(("turns forgotten in a kill", forgotten.to_string()));
    verdict.figures.push((
        "closed or left tickets told as expired later",
        expired.to_string(),
    ));
    verdict
}

/// Whether what was asked after the end agrees with the end.
fn fits(run: &Run, story: &Story, seen: &Seen) -> bool {
    match (&seen.what, story.end) {
        (What::Gone { code }, End::Left | End::ClosedTab) => code == "TOKEN_EXPIRED",
        // A closed tab that is not taken for gone yet, or whose missed turn may be made up for.
        (What::Told(place), End::ClosedTab) => !place.entered || asked_in_vain(story),
        // A leave is acknowledged from memory, so a kill may undo it.
        (What::Told(_) | What::Failed { .. }, End::Left) => {
            let left = story.seen.last().map_or(seen.sent, |last| last.sent);
            let forgotten = run.outages.iter().any(|outage| outage.forgets(left));
            // A join that a node was held up with may come after the leave.
            let late = |outage: &Outage| {
                outage.what == Down::Frozen && outage.touches(left, seen.received)
            };
            let forgotten = forgotten || run.outages.iter().any(late);
            forgotten || run.down_between(left, seen.received) || seen.sent < run.heard_by(left)
        }
        (What::Told(place), End::Entered) => place.entered,
        // The entry counts, though what was given for it is lost.
        (What::Gone { code }, End::Entered) => {
            let entered = story.seen.last().map_or(seen.sent, |last| last.received);
            let lost = run.outages.iter().any(|outage| outage.loses_pass(entered));
            // Or it has ended, in a long sale.
            let over = seen.received >= entered + run.terms.pass_ttl;
            (lost || over) && seen.call == Call::Enter && code == "TOKEN_EXPIRED"
        }
        (What::Granted { .. }, End::Entered) => true,
        _ => false,
    }
}

/// Whether entering was asked for without an answer: it may have worked.
fn asked_in_vain(story: &Story) -> bool {
    let failed = |seen: &Seen| matches!(seen.what, What::Failed { .. } | What::Odd { .. });
    let mut calls = story.seen.iter();
    calls.any(|seen| seen.call == Call::Enter && failed(seen))
}

fn told(story: &Story, seen: &Seen) -> String {
    let Seen {
        call,
        sent,
        received,
        what,
        ..
    } = seen;
    let (visitor, event) = (story.visitor, story.event);
    format!("visitor {visitor} of event {event}: {call:?} from {sent} to {received} us: {what:?}")
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{down, run, visitor};
    use super::*;
    use crate::sale::reading::read_all;

    fn wrong(run: &Run) -> u64 {
        check(run, &read_all(run)).wrong
    }

    fn once(what: What) -> Run {
        run(vec![
            visitor(1, 0, 5)
                .call(20, Call::Status, what)
                .ends(End::Unfinished),
        ])
    }

    #[test]
    fn a_server_error_is_found() {
        assert_eq!(
            wrong(&once(What::Odd {
                status: 500,
                text: String::new()
            })),
            1
        );
        assert_eq!(
            wrong(&down(
                once(What::Odd {
                    status: 500,
                    text: String::new()
                }),
                19,
                21
            )),
            1
        );
    }

    #[test]
    fn a_call_without_an_answer_is_found_unless_the_server_was_down() {
        let failed = || {
            once(What::Failed {
                error: "reset".to_owned(),
            })
        };
        assert_eq!(wrong(&failed()), 1);
        assert_eq!(wrong(&down(failed(), 19, 21)), 0);
        assert_eq!(wrong(&down(failed(), 5, 10)), 1);
    }

    #[test]
    fn an_acknowledged_ticket_told_as_unknown_is_found() {
        assert_eq!(
            wrong(&once(What::Gone {
                code: "TOKEN_NOT_FOUND".to_owned()
            })),
            1
        );
        assert_eq!(
            wrong(&once(What::Gone {
                code: "TOKEN_EXPIRED".to_owned()
            })),
            0
        );
    }

    #[test]
    fn a_broken_promise_is_found() {
        let refused = |at| {
            let not_ready = What::NotReady {
                reason: "position".to_owned(),
            };
            let ready = visitor(1, 0, 5).polls(20, 1).polls(25, 0);
            run(vec![
                ready.call(at, Call::Enter, not_ready).ends(End::Unfinished),
            ])
        };
        assert_eq!(wrong(&refused(30)), 1);
        assert_eq!(
            wrong(&refused(120)),
            0,
            "8 s after the turn it may have lapsed"
        );
        assert_eq!(wrong(&down(refused(30), 27, 28)), 0);
    }

    #[test]
    fn a_ticket_that_outlives_its_leave_is_found() {
        let left = visitor(1, 0, 5)
            .call(20, Call::Leave, What::Left)
            .ends(End::Left);
        let mut alive = left.clone();
        alive
            .epilogue
            .extend(visitor(1, 21, 5).polls(22, 5).ends(End::Left).seen.pop());
        assert_eq!(wrong(&run(vec![alive.clone()])), 1);
        assert_eq!(wrong(&down(run(vec![alive]), 20, 21)), 0);
    }
}
