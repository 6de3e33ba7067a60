//! The place shown to a waiting visitor never rises, also across a kill. A turn missed starts anew.

use super::Verdict;
use crate::sale::story::{Place, Run, Story, What};

pub fn check(run: &Run) -> Verdict {
    let mut verdict = Verdict::new(super::PLACES);
    let mut across = 0_u64;
    for story in &run.stories {
        let shown = shown(story);
        for (at, &(asked, now, place)) in shown.iter().enumerate() {
            if place.position == 0 {
                continue;
            }
            let since_turn = shown[..at]
                .iter()
                .rev()
                .take_while(|(_, _, was)| was.position > 0);
            let heard = |told: u64| told + run.terms.lag <= asked && firm(run, told);
            let promised = since_turn.clone().find(|(_, told, _)| heard(*told));
            // Within a kill's own moments one answer may rest on what the other one did not.
            let promised = if firm(run, now) { promised } else { None };
            if let Some((_, told, _)) = promised {
                across += u64::from(run.outages.iter().any(|o| o.touches(*told, now)));
            }
            let fine = promised.is_none_or(|(_, _, was)| place.position <= was.position);
            verdict.expect(fine, || {
                let (visitor, event, kind) = (story.visitor, story.event, story.kind);
                let was = promised.map_or(0, |(_, _, was)| was.position);
                let all: Vec<_> = shown.iter().map(|(_, at, place)| (*at, place.position)).collect();
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

/// Whether what was told at `told` outlives every kill: an answer from its last moments may rest on
/// changes (somebody ahead left) that died unwritten.
fn firm(run: &Run, told: u64) -> bool {
    !run.outages.iter().any(|outage| outage.forgets(told))
}

/// The places a visitor was told, each with the moments it was asked for and received.
fn shown(story: &Story) -> Vec<(u64, u64, Place)> {
    let place = |what: &What| match what {
        What::Joined { place, .. } | What::Told(place) => Some(*place),
        _ => None,
    };
    story
        .seen
        .iter()
        .filter_map(|seen| Some((seen.sent, seen.received, place(&seen.what)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{down, run, visitor};
    use super::*;
    use crate::sale::story::End;

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
