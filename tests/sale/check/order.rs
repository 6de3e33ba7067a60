//! Turns are given in the order of joining: who had joined before another sent their join is not left
//! waiting after the other's turn.

use super::Verdict;
use crate::sale::reading::Reading;
use crate::sale::story::{Outage, Run, What};

pub fn check(run: &Run, events: &[Vec<Reading>]) -> Verdict {
    let mut verdict = Verdict::new("turns in the order of joining (pairs)");
    for event in events {
        for first in event {
            let Some(joined) = first.joined else { continue };
            let heard = run.heard_by(joined);
            let later = |second: &&Reading| second.join_sent > heard;
            for second in event.iter().filter(later) {
                let fine = second
                    .turns
                    .first()
                    .is_none_or(|turn| !waits_after(run, first, turn.given.to));
                let at = second.turns.first().map_or(0, |turn| turn.given.to);
                verdict.expect(fine, at, || {
                    format!(
                        "event {}: visitor {} joined before visitor {}, but still waited after the \
                         turn of the latter:\n        {}\n        {}",
                        first.story.event,
                        first.story.visitor,
                        second.story.visitor,
                        in_short(first),
                        in_short(second)
                    )
                });
            }
        }
    }
    verdict
}

/// What a visitor was told, when, and by which node.
fn in_short(reading: &Reading) -> String {
    let told = reading.story.seen.iter().map(|seen| {
        let ms = seen.received / 1_000;
        let node = seen
            .node
            .map_or_else(String::new, |node| format!(" by {node}"));
        match &seen.what {
            What::Joined { place, .. } | What::Told(place) if place.ready => {
                format!("{ms}{node}: ready")
            }
            What::Joined { place, .. } | What::Told(place) => {
                format!("{ms}{node}: {}", place.position)
            }
            What::Granted { .. } => format!("{ms}{node}: in"),
            other => format!("{ms}{node}: {other:?}"),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Whether this visitor, through no doing of their own, surely waited for a first turn after
/// `another`'s was seen.
fn waits_after(run: &Run, reading: &Reading, another: u64) -> bool {
    let Some(waits_until) = reading.waits_until else {
        return false;
    };
    if waits_until <= another {
        return false;
    }
    // A turn from the last moments before a kill may be forgotten while its neighbour's was used.
    let lost = |outage: &Outage| outage.forgets(another) && outage.killed <= waits_until;
    let forgotten = run.outages.iter().any(lost);
    let doubtful = reading
        .doubtful_from
        .is_some_and(|from| from <= waits_until);
    !forgotten && !doubtful && waits_until > run.heard_by(another)
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{down, run, visitor};
    use super::*;
    use crate::sale::reading::read_all;
    use crate::sale::story::{Call, End, Story};

    fn wrong(run: &Run) -> u64 {
        check(run, &read_all(run)).wrong
    }

    fn overtaken() -> Vec<Story> {
        let first = visitor(1, 0, 2)
            .polls(20, 2)
            .polls(40, 1)
            .called_and_enters(50);
        vec![first, visitor(2, 5, 3).called_and_enters(30)]
    }

    #[test]
    fn an_overtaken_visitor_is_found() {
        assert_eq!(wrong(&run(overtaken())), 1);
    }

    #[test]
    fn turns_that_may_have_been_in_order_are_fine() {
        let first = visitor(1, 0, 2).polls(20, 2).called_and_enters(50);
        let second = visitor(2, 5, 3).called_and_enters(30);
        assert_eq!(wrong(&run(vec![first, second])), 0);
    }

    #[test]
    fn joins_under_way_at_the_same_time_have_no_order() {
        let mut stories = overtaken();
        stories[1].seen[0].sent = 5;
        assert_eq!(wrong(&run(stories)), 0);
    }

    #[test]
    fn who_left_by_the_beacon_may_be_passed_over() {
        let left = visitor(1, 0, 2)
            .call(10, Call::Beacon, What::LeftSoftly)
            .polls(40, 1);
        let second = visitor(2, 5, 3).called_and_enters(30);
        assert_eq!(wrong(&run(vec![left.ends(End::Unfinished), second])), 0);
    }

    #[test]
    fn only_the_last_moments_before_a_kill_are_excused() {
        assert_eq!(wrong(&down(run(overtaken()), 31, 35)), 0);
        assert_eq!(wrong(&down(run(overtaken()), 36, 38)), 1);
    }
}
