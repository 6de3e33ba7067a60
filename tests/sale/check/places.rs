//! The place shown to a waiting visitor never rises, also across a kill. A turn missed starts anew.

use super::Verdict;
use crate::sale::story::{Down, Place, Run, Story, What};

pub fn check(run: &Run) -> Verdict {
    let mut verdict = Verdict::new(super::PLACES);
    let mut across = 0_u64;
    for story in &run.stories {
        let shown = shown(run, story);
        let Some(joined) = shown.first() else {
            continue;
        };
        let settled = settled(run, joined);
        for (
            at,
            &Shown {
                asked,
                now,
                place,
                node,
                firm,
                ..
            },
        ) in shown.iter().enumerate()
        {
            if place.position == 0 {
                continue;
            }
            let since_turn = shown[..at]
                .iter()
                .rev()
                .take_while(|was| was.place.position > 0);
            let heard = |told: &Shown| {
                // The same process: one that was started anew goes by what the store holds.
                let same = node.is_some()
                    && node == told.node
                    && told.now <= asked
                    && !started_anew(run, told.now, now);
                // Those who joined elsewhere just before may come late on a busy machine.
                let same = same && told.now >= settled;
                (same || told.heard <= asked) && told.firm
            };
            // Of all that was told before and is known where this is told, the least.
            let promised = since_turn.filter(|told| heard(told));
            let promised = promised.min_by_key(|told| told.place.position);
            // Within a kill's own moments one answer may rest on what the other one did not.
            let promised = if firm { promised } else { None };
            if let Some(told) = promised {
                across += u64::from(run.outages.iter().any(|o| o.touches(told.now, now)));
            }
            // In any case what was told at the join binds all nodes for ever.
            let binding = shown[..at].iter().all(|was| was.place.position > 0);
            let most = [
                promised,
                Some(joined).filter(|_| binding && run.terms.nodes > 1),
            ];
            let most = most
                .into_iter()
                .flatten()
                .map(|was| was.place.position)
                .min();
            let fine = most.is_none_or(|most| place.position <= most);
            verdict.expect(fine, now, || {
                let (visitor, event, kind) = (story.visitor, story.event, story.kind);
                let was = most.unwrap_or(0);
                let all = shown.iter().map(|told| (told.now, told.place.position, told.node));
                let all: Vec<_> = all.collect();
                format!(
                    "visitor {visitor} of event {event} ({kind:?}): from {was} back to {} at {now} us; \
                     all told: {all:?}",
                    place.position
                )
            });
        }
    }
    verdict
        .figures
        .push(("of these, compared across an outage", across.to_string()));
    verdict
}

/// Whether a node may have ended and been started again between two moments.
fn started_anew(run: &Run, from: u64, to: u64) -> bool {
    run.outages.iter().any(|outage| {
        let ends = matches!(outage.what, Down::Node | Down::Stopped);
        ends && outage.touches(from, to)
    })
}

/// From when on a node is held to its own word: by then it has heard of all who joined before (until it
/// must have, it tells the place of the join), also of those whom other nodes could not tell of because
/// the store was away.
fn settled(run: &Run, joined: &Shown) -> u64 {
    let lag = run.terms.lag;
    let before = joined.asked.saturating_sub(lag);
    let away = run.outages.iter().filter(|outage| {
        let apart = matches!(outage.what, Down::Store { .. } | Down::Frozen);
        apart && outage.touches(before, joined.now)
    });
    let away = away.map(|outage| outage.ready.saturating_add(lag));
    away.fold(joined.now + lag, u64::max)
}

/// Whether what was told at `told` outlives every kill: an answer from its last moments may rest on
/// changes (somebody ahead left) that died unwritten.
fn firm(run: &Run, told: u64) -> bool {
    !run.outages.iter().any(|outage| outage.forgets(told))
}

/// A place as a visitor was told it, when it was asked for and received, and by which node.
struct Shown {
    asked: u64,
    now: u64,
    place: Place,
    node: Option<usize>,
    /// When all nodes have heard of it.
    heard: u64,
    firm: bool,
}

/// The places a visitor was told. A join that was repeated elsewhere before it was heard of gives a
/// token of its own, and what was told with a token that is thrown away binds nobody.
fn shown(run: &Run, story: &Story) -> Vec<Shown> {
    let kept = story.token();
    let place = |what: &What| match what {
        What::Joined { token, place } => (Some(token.as_str()) == kept).then_some(*place),
        What::Told(place) => Some(*place),
        _ => None,
    };
    story
        .seen
        .iter()
        .filter_map(|seen| {
            Some(Shown {
                asked: seen.sent,
                now: seen.received,
                place: place(&seen.what)?,
                node: seen.node,
                heard: run.heard_by(seen.received),
                firm: firm(run, seen.received),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{down, run, visitor, without};
    use super::*;
    use crate::sale::plan::SECOND;
    use crate::sale::story::End;

    /// A visitor who was told 3, then 4, by these nodes.
    fn told_by(nodes: [usize; 2]) -> Story {
        let rises = visitor(1, 0, 5).polls(10, 3).polls(40, 4);
        let mut story = rises.ends(End::Unfinished);
        for (seen, node) in story.seen[1..].iter_mut().zip(nodes) {
            seen.node = Some(node);
        }
        story
    }

    #[test]
    fn without_the_store_nodes_are_held_to_their_own_word_only() {
        let away = |story, ready| {
            let store = Down::Store { forgets: 0 };
            check(&without(run(vec![story]), store, 5, ready)).wrong
        };
        assert_eq!(away(told_by([0, 1]), 50), 0);
        assert_eq!(away(told_by([1, 1]), 50), 1);
        assert_eq!(away(told_by([0, 1]), 30), 1);
    }

    #[test]
    fn who_joins_without_the_store_is_held_to_what_was_told_then() {
        let later = |position, from| {
            let story = visitor(1, 10, 5).polls(30, 3).polls(60, position);
            let mut story = story.ends(End::Unfinished);
            for seen in &mut story.seen {
                seen.node = Some(0);
            }
            let mut run = without(run(vec![story]), Down::Store { forgets: 0 }, from, 70);
            (run.terms.nodes, run.terms.lag) = (3, SECOND / 10);
            check(&run).wrong
        };
        assert_eq!((later(4, 5), later(4, 20), later(6, 5)), (0, 1, 1));
    }

    #[test]
    fn a_rising_place_is_found() {
        let rises = visitor(1, 0, 5)
            .polls(10, 3)
            .polls(20, 4)
            .ends(End::Unfinished);
        assert_eq!(check(&run(vec![rises])).wrong, 1);
    }

    #[test]
    fn a_missed_turn_starts_anew() {
        let missed = visitor(1, 0, 1)
            .polls(10, 0)
            .polls(120, 2)
            .ends(End::Unfinished);
        assert_eq!(check(&run(vec![missed])).wrong, 0);
    }

    #[test]
    fn a_place_that_rises_over_a_kill_is_found() {
        let risen = || {
            visitor(1, 0, 5)
                .polls(10, 3)
                .polls(40, 4)
                .ends(End::Unfinished)
        };
        assert_eq!(check(&down(run(vec![risen()]), 20, 30)).wrong, 1);
    }

    #[test]
    fn a_place_shown_in_the_last_moment_before_a_kill_may_be_forgotten() {
        let back = visitor(1, 0, 5)
            .polls(10, 3)
            .polls(20, 2)
            .polls(40, 3)
            .ends(End::Unfinished);
        assert_eq!(check(&down(run(vec![back]), 21, 30)).wrong, 0);
        let beyond = visitor(1, 0, 5)
            .polls(10, 3)
            .polls(20, 2)
            .polls(40, 4)
            .ends(End::Unfinished);
        assert_eq!(check(&down(run(vec![beyond]), 21, 30)).wrong, 1);
    }
}
