//! Nobody enters twice: one token and one reservation per visitor, however often they ask, and no two
//! visitors share one.

use std::collections::HashMap;

use super::Verdict;
use crate::sale::story::{Down, Outage, Run, Story, What};

pub fn check(run: &Run) -> Verdict {
    let mut verdict = Verdict::new("nobody enters twice");
    let mut owners = HashMap::new();
    let mut repeated = 0_u64;
    for story in &run.stories {
        let mut token = None;
        let mut reservation = None;
        for (what, text, at) in secrets(story) {
            let first = if what == "token" {
                &mut token
            } else {
                &mut reservation
            };
            let visitor = story.visitor;
            let owner = *owners.entry(text).or_insert(visitor);
            let (known, since) = *first.get_or_insert((text, at));
            repeated += u64::from(!std::ptr::eq(known, text));
            // A join lost in a kill and asked for again gets a token anew, for the same ticket.
            let killed = |outage: &Outage| {
                outage.what == Down::Server && since <= outage.killed && outage.killed <= at
            };
            // So does one that reaches another node before that has heard of the first.
            let apart = run.terms.nodes > 1;
            let lost = what == "token" && (apart || run.outages.iter().any(killed));
            verdict.expect(known == text || lost, at, || {
                format!("visitor {visitor} of event {} got two {what}s", story.event)
            });
            verdict.expect(owner == visitor, at, || {
                format!("visitors {owner} and {visitor} share a {what}")
            });
        }
    }
    verdict
        .figures
        .push(("repeated joins and entries", repeated.to_string()));
    verdict
}

/// What a story was given to keep: tokens and reservations.
/// With when.
fn secrets(story: &Story) -> impl Iterator<Item = (&'static str, &str, u64)> {
    story
        .seen
        .iter()
        .chain(&story.epilogue)
        .filter_map(|seen| match &seen.what {
            What::Joined { token, .. } => Some(("token", token.as_str(), seen.received)),
            What::Granted { reservation } => {
                Some(("reservation", reservation.as_str(), seen.received))
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{run, visitor};
    use super::*;
    use crate::sale::story::End;

    #[test]
    fn a_second_reservation_is_found() {
        let twice = visitor(1, 0, 0)
            .enters(1, "a")
            .enters(2, "b")
            .ends(End::Entered);
        assert_eq!(check(&run(vec![twice])).wrong, 1);
    }

    #[test]
    fn the_same_reservation_again_is_fine() {
        let again = visitor(1, 0, 0)
            .enters(1, "a")
            .enters(2, "a")
            .ends(End::Entered);
        assert_eq!(check(&run(vec![again])).wrong, 0);
    }

    #[test]
    fn a_shared_reservation_is_found() {
        let one = visitor(1, 0, 0).enters(1, "a").ends(End::Entered);
        let other = visitor(2, 0, 0).enters(2, "a").ends(End::Entered);
        assert_eq!(check(&run(vec![one, other])).wrong, 1);
    }
}
