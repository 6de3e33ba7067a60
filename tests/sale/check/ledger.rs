//! Every acknowledged place is accounted for: each visitor ends as they meant to, and nobody who
//! polls is told that their place is gone.

use super::Verdict;
use crate::sale::plan::Kind;
use crate::sale::story::{Call, End, Run, Story, What};

pub fn check(run: &Run) -> Verdict {
    let mut verdict = Verdict::new("every place accounted for");
    let closed = run.closed < u64::MAX;
    let mut ends = [0_u64; 5];
    for story in &run.stories {
        let fine = match story.end {
            End::Entered => true,
            End::Left => closed || matches!(story.kind, Kind::Leaves(_)),
            End::Waits => closed,
            End::ClosedTab => matches!(story.kind, Kind::ClosesTab(_) | Kind::Shirks),
            End::Lost => excused(run, story),
            End::Unfinished => false,
        };
        let at = story.seen.last().map_or(0, |seen| seen.received);
        verdict.expect(fine, at, || {
            let last = story.seen.last();
            let (visitor, event, kind) = (story.visitor, story.event, story.kind);
            format!(
                "visitor {visitor} of event {event} ({kind:?}): {:?} after {last:?}",
                story.end
            )
        });
        match story.end {
            End::Entered => ends[0] += 1,
            End::Left => ends[1] += 1,
            End::ClosedTab => ends[2] += 1,
            End::Waits => ends[3] += 1,
            _ => ends[4] += 1,
        }
    }
    let ends = ends.map(|count| count.to_string()).join(" / ");
    verdict
        .figures
        .push(("entered / left / closed tab / wait / other", ends));
    verdict
}

/// Whether a place may be gone: its visitor was silent for longer than the heartbeat, or a goodbye by
/// the beacon, allows (a busy machine), or left with a call whose answer did not come.
fn excused(run: &Run, story: &Story) -> bool {
    let heard = story
        .seen
        .iter()
        .filter(|seen| !matches!(seen.what, What::Failed { .. }));
    let heard: Vec<_> = heard.collect();
    let silent = heard.windows(2).any(|pair| {
        let allowed = if pair[0].call == Call::Beacon {
            run.terms.leave_grace
        } else {
            run.terms.heartbeat_ttl
        };
        pair[1].received - pair[0].sent > allowed
    });
    let left = story.seen.iter().any(|seen| {
        seen.call == Call::Leave && matches!(seen.what, What::Failed { .. } | What::Left)
    });
    silent || left
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{run, visitor};
    use super::*;

    fn gone() -> What {
        What::Gone {
            code: "TOKEN_EXPIRED".to_owned(),
        }
    }

    #[test]
    fn a_lost_place_is_found() {
        let polling = visitor(1, 0, 5).polls(20, 4);
        let lost = polling.call(40, Call::Status, gone()).ends(End::Lost);
        let fine = visitor(2, 0, 5).called_and_enters(30);
        assert_eq!(check(&run(vec![lost, fine])).wrong, 1);
    }

    #[test]
    fn a_place_lost_by_silence_is_excused() {
        let silent = visitor(1, 0, 5)
            .call(200, Call::Status, gone())
            .ends(End::Lost);
        assert_eq!(check(&run(vec![silent])).wrong, 0);
    }

    #[test]
    fn a_goodbye_holds_for_its_grace_and_no_longer() {
        let back_at = |at| {
            let gone = visitor(1, 0, 5)
                .call(20, Call::Beacon, What::LeftSoftly)
                .call(at, Call::Status, gone());
            check(&run(vec![gone.ends(End::Lost)])).wrong
        };
        assert_eq!((back_at(40), back_at(100)), (1, 0));
    }

    #[test]
    fn a_visitor_who_never_gets_in_is_found() {
        let waiting = visitor(1, 0, 5).polls(20, 4).ends(End::Unfinished);
        assert_eq!(check(&run(vec![waiting])).wrong, 1);
    }

    #[test]
    fn a_closed_tab_is_only_a_closers_end() {
        let mut closed = visitor(1, 0, 5).ends(End::ClosedTab);
        assert_eq!(check(&run(vec![closed.clone()])).wrong, 1);
        closed.kind = Kind::ClosesTab(0);
        assert_eq!(check(&run(vec![closed])).wrong, 0);
    }
}
