//! The pace: entries and turns never pass burst + rate × time, in any window, also across a kill.

use super::Verdict;
use crate::sale::plan::SECOND;
use crate::sale::reading::{Reading, Span, lapsed_by, unseen_turn};
use crate::sale::story::{Call, End, Run, What};

/// How long before a turn can be seen it may have been taken from the bucket: a tick under way on a
/// busy machine.
const TICK_US: u64 = SECOND / 4;

/// What the bucket allows in `us` microseconds.
fn allowed(run: &Run, us: u64) -> f64 {
    f64::from(run.terms.burst) + run.terms.rate * (us as f64 / SECOND as f64)
}

/// Entries since the first join of their event. An entry cannot be refunded, so nothing excuses one
/// too many.
pub fn entries(run: &Run, events: &[Vec<Reading>]) -> Verdict {
    let mut verdict = Verdict::new("entries within burst + rate × time");
    let mut fullest: f64 = 0.0;
    for event in events {
        let Some(start) = event.iter().map(|reading| reading.join_sent).min() else {
            continue;
        };
        let mut entered: Vec<u64> = event.iter().filter_map(entered).collect();
        entered.sort_unstable();
        for (before, at) in entered.iter().enumerate() {
            let (count, limit) = ((before + 1) as f64, allowed(run, at - start));
            fullest = fullest.max(count / limit);
            verdict.expect(count <= limit, *at, || {
                let number = event[0].story.event;
                format!("event {number}: {count} entries where {limit:.2} are allowed, at {at} us")
            });
        }
    }
    verdict
        .figures
        .push(("fullest", format!("{:.1} %", fullest * 100.0)));
    verdict
}

/// When an entry was first granted.
fn entered(reading: &Reading) -> Option<u64> {
    let granted = |what: &What| matches!(what, What::Granted { .. });
    reading
        .story
        .seen
        .iter()
        .find(|seen| granted(&seen.what))
        .map(|seen| seen.received)
}

/// Turns surely given inside each window that begins and ends with one, allowing for every turn that
/// may have gone back to the bucket meanwhile.
pub fn calls(run: &Run, events: &[Vec<Reading>]) -> Verdict {
    let mut verdict = Verdict::new("turns within burst + rate × time (windows)");
    let mut fullest: f64 = 0.0;
    for event in events {
        let refunds = refunds(run, event);
        let turns = event.iter().flat_map(|reading| &reading.turns);
        let mut turns: Vec<Span> = turns.map(|turn| turn.given).collect();
        turns.sort_unstable_by_key(|given| given.to);
        // Of the refunds, a window may count those begun by its end, less those over by its begin.
        let (mut begun, mut over): (Vec<u64>, Vec<u64>) = refunds
            .iter()
            .map(|refund| (refund.from, refund.to))
            .unzip();
        begun.sort_unstable();
        over.sort_unstable();
        let begun_by = |to| begun.partition_point(|&from| from <= to);
        let begun: Vec<usize> = turns.iter().map(|given| begun_by(given.to)).collect();
        for from in turns.iter().map(|given| given.from) {
            let mut count = 0.0;
            let begin = from.saturating_sub(TICK_US);
            let over = over.partition_point(|&to| to < begin);
            for (given, begun) in turns.iter().zip(&begun) {
                if given.from < from {
                    continue;
                }
                count += 1.0;
                let limit = allowed(run, given.to - begin) + begun.saturating_sub(over) as f64;
                fullest = fullest.max(count / limit);
                verdict.expect(count <= limit, given.to, || {
                    format!(
                        "event {}: {count} turns where {limit:.2} are allowed, from {from} to {} us",
                        event[0].story.event, given.to
                    )
                });
            }
        }
    }
    verdict
        .figures
        .push(("fullest", format!("{:.1} %", fullest * 100.0)));
    verdict
}

/// Every turn of an event that may have gone back to the bucket, and when.
fn refunds(run: &Run, event: &[Reading]) -> Vec<Span> {
    let unseen = event.iter().filter_map(|reading| {
        let Span { from, to } = unseen_turn(run, reading, event)?;
        Some(match reading.story.end {
            // A turn is given back by leaving, at once.
            End::Left => Span {
                from,
                to: lapsed_by(run, to),
            },
            _ => Span {
                from: from + run.terms.ready_ttl,
                to: lapsed_by(run, to),
            },
        })
    });
    // A leave whose answer did not come may still have been heard.
    let unheard = event.iter().flat_map(|reading| {
        let leaves = reading
            .story
            .seen
            .iter()
            .filter(|seen| seen.call == Call::Leave);
        leaves.map(|seen| Span {
            from: seen.sent,
            to: lapsed_by(run, seen.received),
        })
    });
    event
        .iter()
        .flat_map(|reading| reading.refunds.iter().copied())
        .chain(unseen)
        .chain(unheard)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{down, run, visitor};
    use super::*;
    use crate::sale::plan::Kind;
    use crate::sale::reading::read_all;
    use crate::sale::story::Story;

    fn wrong(run: &Run) -> (u64, u64) {
        let events = read_all(run);
        (entries(run, &events).wrong, calls(run, &events).wrong)
    }

    /// Visitors who all wait until `at`, and then are called at once and enter.
    fn rush(count: usize, at: u64) -> Vec<Story> {
        let waits = |n| visitor(n, 0, n as u64).waits(at, n as u64);
        (1..=count)
            .map(|n| waits(n).called_and_enters(at + 2))
            .collect()
    }

    #[test]
    fn one_turn_too_many_at_once_is_found() {
        assert_eq!(wrong(&run(rush(2, 100))), (0, 0));
        assert!(wrong(&run(rush(3, 100))).1 > 0);
    }

    #[test]
    fn one_entry_too_many_since_the_start_is_found() {
        let spread = |n: u64| {
            visitor(n as usize, 0, n)
                .waits(n * 8, 1)
                .called_and_enters(n * 8 + 4)
        };
        assert!(wrong(&run((1..=20).map(spread).collect())).0 > 0);
        let paced = |n: u64| {
            visitor(n as usize, 0, n)
                .waits(n * 10 - 2, 1)
                .called_and_enters(n * 10)
        };
        assert_eq!(wrong(&run((1..=20).map(paced).collect())), (0, 0));
    }

    #[test]
    fn a_lapsed_turn_may_be_given_again() {
        let mut shirker = visitor(9, 0, 9)
            .polls(18, 1)
            .polls(20, 0)
            .ends(End::ClosedTab);
        shirker.kind = Kind::Shirks;
        let with = |at| {
            let mut stories = rush(3, at);
            stories.push(shirker.clone());
            run(stories)
        };
        assert_eq!(wrong(&with(100)).1, 0);
        assert!(
            wrong(&with(60)).1 > 0,
            "a turn of 8 s given at 2 s cannot be back at 6 s"
        );
    }

    #[test]
    fn a_bucket_filled_by_a_restart_is_found() {
        let early = |n: u64| {
            visitor(n as usize, 0, n)
                .waits(n * 10 - 2, 1)
                .called_and_enters(n * 10)
        };
        let mut stories: Vec<Story> = (1..=10).map(early).collect();
        let after = |n: usize| visitor(n, 0, n as u64).waits(112, 2).called_and_enters(114);
        stories.extend((11..=14).map(after));
        assert!(wrong(&down(run(stories), 105, 110)).1 > 0);
    }
}
