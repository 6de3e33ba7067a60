//! The rate is used while people wait: at least 95 % of it, no-shows' turns included once they lapse.
//!
//! For each event take the longest stretch in which, by the answers, somebody surely waited. The
//! first one told to wait proves the bucket spent, so by the stretch's end `end` the bucket has given
//! `burst − 1 + rate × (end − begin)` turns at least, one less for the turn that is being saved
//! up; the time in which something was down does not count, nor what was given in it, and each return
//! is forgiven one burst.
//! Turns used are those seen, less those surely refunded before the end. The upper count takes every
//! doubt in the server's favour and is what is judged; the lower one takes it against the server.

use super::Verdict;
use crate::sale::plan::SECOND;
use crate::sale::reading::{Fate, Reading, lapsed_by, unseen_turn};
use crate::sale::story::{Outage, Run};

/// The share of the rate that must be used.
const USED_MIN: f64 = 0.95;

/// An event whose stretch allows fewer turns tells nothing: one turn is too large a part of it.
const TURNS_MIN: f64 = 20.0;

/// One event's use of its rate.
#[derive(Default)]
struct Used {
    allowed: f64,
    forgiven: f64,
    low: f64,
    high: f64,
    /// The stretch's end.
    end: u64,
}

pub fn check(run: &Run, events: &[Vec<Reading>]) -> Verdict {
    let mut verdict = Verdict::new("95 % of the rate used while people wait");
    let mut total = Used::default();
    for event in events {
        let Some(used) = used(run, event) else {
            continue;
        };
        let Used {
            allowed,
            forgiven,
            low,
            high,
            end,
        } = used;
        let enough = USED_MIN * (allowed - forgiven);
        verdict.expect(high >= enough, end, || {
            let number = event[0].story.event;
            format!("event {number}: {low}–{high} turns used where {allowed:.1} were allowed")
        });
        total.allowed += allowed;
        total.forgiven += forgiven;
        total.low += low;
        total.high += high;
        total.end = total.end.max(end);
    }
    if total.allowed > 0.0 {
        let percent = |turns: f64| turns / total.allowed * 100.0;
        let used = format!("{:.1}–{:.1} %", percent(total.low), percent(total.high));
        let enough = USED_MIN * (total.allowed - total.forgiven);
        verdict.expect(total.high >= enough, total.end, || format!("in all {used}"));
        verdict
            .figures
            .push(("rate used, all doubts against and for", used));
    }
    verdict
}

fn used(run: &Run, event: &[Reading]) -> Option<Used> {
    let (begin, end) = longest_wait(run, event)?;
    let down = run.outages.iter().map(Outage::idle);
    let down: Vec<_> = down
        .filter(|(from, to)| begin <= *to && *from <= end)
        .collect();
    let mut down_us = 0;
    let mut known = begin;
    for (from, to) in &down {
        // Two may have been down at the same time.
        known = known.max(*from);
        let to = end.min(*to);
        down_us += to.saturating_sub(known);
        known = known.max(to);
    }
    let burst = f64::from(run.terms.burst);
    let seconds = (end - begin).saturating_sub(down_us) as f64 / SECOND as f64;
    let allowed = burst - 1.0 + run.terms.rate * seconds;
    let forgiven = burst * down.len() as f64;
    if allowed < TURNS_MIN {
        return None;
    }
    let (mut low, mut high) = (0.0, 0.0);
    for turn in event.iter().flat_map(|reading| &reading.turns) {
        let given = turn.given;
        if down
            .iter()
            .any(|(from, to)| *from <= given.from && given.to <= *to)
        {
            continue;
        }
        let forgotten = turn.fate == Fate::LostInKill;
        let lapses = turn.fate != Fate::Entered && !forgotten;
        let surely_back = lapses && lapsed_by(run, turn.given.to) <= end;
        let maybe_back = lapses && turn.given.from + run.terms.ready_ttl <= end;
        high += f64::from(u8::from(
            turn.given.from <= end && !surely_back && !forgotten,
        ));
        low += f64::from(u8::from(turn.given.to <= end && !maybe_back && !forgotten));
    }
    // Turns that nobody saw, still out at the end.
    for span in event
        .iter()
        .filter_map(|gone| unseen_turn(run, gone, event))
    {
        high += f64::from(u8::from(span.from <= end && lapsed_by(run, span.to) >= end));
    }
    Some(Used {
        allowed,
        forgiven,
        low,
        high,
        end,
    })
}

/// The longest stretch in which at every moment somebody surely waited, of the time in which events
/// were open.
fn longest_wait(run: &Run, event: &[Reading]) -> Option<(u64, u64)> {
    let surely = |reading: &Reading| {
        let until = reading.waits_until?.min(run.closed);
        let until = reading
            .doubtful_from
            .map_or(until, |doubtful| doubtful.min(until));
        let joined = reading.joined?;
        (joined < until).then_some((joined, until))
    };
    let mut waits: Vec<(u64, u64)> = event.iter().filter_map(surely).collect();
    waits.sort_unstable();
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for (from, to) in waits {
        match stretches.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => stretches.push((from, to)),
        }
    }
    stretches.into_iter().max_by_key(|(from, to)| to - from)
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{down, run, visitor};
    use super::*;
    use crate::sale::plan::Kind;
    use crate::sale::reading::read_all;
    use crate::sale::story::{End, Story};

    fn wrong(run: &Run) -> u64 {
        let verdict = check(run, &read_all(run));
        assert!(verdict.examined > 0);
        verdict.wrong
    }

    /// A line that moves one place every `tenths`.
    fn line(count: u64, tenths: u64) -> Vec<Story> {
        let teller = |n: u64| visitor(n as usize, 0, n).waits(n * tenths - 1, 1);
        (1..=count)
            .map(|n| teller(n).called_and_enters(n * tenths))
            .collect()
    }

    #[test]
    fn an_idle_gate_is_found() {
        assert_eq!(wrong(&run(line(60, 10))), 0);
        assert!(wrong(&run(line(60, 11))) > 0);
    }

    #[test]
    fn a_turn_never_refunded_is_found() {
        // Every tenth visitor takes a turn and vanishes, and nobody gets it.
        let mut stories = line(100, 10);
        for shirker in stories.iter_mut().step_by(10) {
            shirker.seen.pop();
            (shirker.end, shirker.kind) = (End::ClosedTab, Kind::Shirks);
        }
        assert!(wrong(&run(stories)) > 0);
    }

    #[test]
    fn the_time_the_server_is_down_does_not_count() {
        let mut stories = line(60, 10);
        let late = stories.iter_mut().flat_map(|story| &mut story.seen);
        for seen in late.filter(|seen| seen.sent > 30 * SECOND) {
            seen.sent += 5 * SECOND;
            seen.received += 5 * SECOND;
        }
        assert!(wrong(&run(stories.clone())) > 0);
        assert_eq!(wrong(&down(run(stories), 302, 350)), 0);
    }
}
