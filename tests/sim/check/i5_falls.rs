//! I5: a told place never rises, a declared recovery excepted: while nodes cannot hear each other, each
//! tells what it knows.

use std::time::Duration;

use tidegate::model::Micros;

use super::Verdict;
use super::reading::{Reading, sec};
use crate::room::house::START;
use crate::sim::history::{Answer, Call, Seen};
use crate::sim::net::Trouble;
use crate::sim::plan::{Op, What};

/// What two nodes' views are apart when nothing is wrong.
const LAG: Duration = Duration::from_millis(400);
/// How long until all hear each other again, in milliseconds: mostly,
const HEARD: u64 = 2_000;
/// … after a node could not read for some time, or the store was away for a moment,
const TRIED: u64 = 4_000;
/// … after a start without the store, which is looked for every few seconds,
const FOUND: u64 = 6_000;
/// … after the store was away for some, who leave it alone for ten seconds then, and try it every
/// three.
const ALL_BACK: u64 = 17_000;

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I5 falls");
    let latency = Duration::from_millis(4 * reading.run.plan.setting.latency);
    for calls in reading.calls.values() {
        let (mut shown, mut left) = (None, None);
        for seen in calls {
            if seen.call == Call::Leave {
                left = Some(seen.got);
            }
            let place = match seen.answer {
                // What a degraded answer says may be old.
                Answer::Place { degraded: true, .. } => continue,
                Answer::Joined { place, .. } | Answer::Place { place, .. } => place,
                Answer::NotReady | Answer::Silence | Answer::Unavailable | Answer::Full => continue,
                _ => 0,
            };
            // Who has just left and comes again may be taken for who was there.
            if left.is_some_and(|left| seen.sent.since(left) < LAG + latency) {
                shown = None;
                continue;
            }
            let Some((before, at)) = shown.replace((place, seen.got)) else {
                continue;
            };
            // A called ticket that missed its turn is told its place anew.
            if before == 0 || place == 0 || seen.sent.since(at) < LAG + latency {
                continue;
            }
            if recovers(reading, at, seen.got) || joined_anew(reading, seen, at) {
                continue;
            }
            verdict.expect(place <= before, || {
                format!("{} after {before} at {}", reading.told(seen), sec(at))
            });
        }
    }
    verdict
}

/// Whether nodes may not have heard each other at some time between two moments.
fn recovers(reading: &Reading<'_>, from: Micros, to: Micros) -> bool {
    let at = |millis: u64| START.after(Duration::from_millis(millis));
    let ops = &reading.run.plan.ops;
    let mut apart = ops.iter().filter_map(|op| {
        let (began, ended) = apart(op)?;
        Some((began, ended + held_up(ops, op)))
    });
    apart.any(|(began, ended)| at(began) <= to && at(ended) >= from)
}

/// How much longer a node that started without the store may take to find it, when trouble kept it from
/// it meanwhile: what it took on until then nobody has heard of.
fn held_up(ops: &[Op], op: &Op) -> u64 {
    let What::Trouble { lasts, .. } = op.what else {
        return 0;
    };
    let is_held_up = |other: &Op| match other.what {
        What::Crash {
            back, empty: true, ..
        } => other.at <= op.at + lasts && op.at <= other.at + back + FOUND,
        _ => false,
    };
    if ops.iter().any(is_held_up) { FOUND } else { 0 }
}

/// From when to when, in milliseconds, nodes may not hear each other for what happens.
fn apart(op: &Op) -> Option<(u64, u64)> {
    let (before, lasts, after) = match op.what {
        What::Visit(_) | What::Patch(_) => return None,
        What::Trouble { trouble, lasts, .. } => match trouble {
            Trouble::Slow
            | Trouble::Twice
            | Trouble::Shuffled
            | Trouble::Blind
            | Trouble::Belated => (0, lasts, HEARD),
            Trouble::Deaf => (0, lasts, TRIED),
            Trouble::Unanswered
            | Trouble::Unheard
            | Trouble::Cut
            | Trouble::Refused
            | Trouble::OneWay
            | Trouble::Late => (0, lasts, ALL_BACK),
        },
        What::Lose {
            back,
            down,
            noticed,
            ..
        } => (back, down + noticed, ALL_BACK),
        What::Wipe { down } => (op.at, down, ALL_BACK),
        What::Trim { .. } => (0, 0, HEARD),
        // What it had told nobody goes with it.
        What::Crash { back, empty, .. } => (1_000, back, if empty { FOUND } else { HEARD }),
        What::Drain { back, .. } => (0, back, HEARD),
        // Who is ahead or behind by hours is not in the same line.
        What::Jump { .. } => (0, 0, 120_000),
        What::Freeze { lasts, .. } => (0, lasts, TRIED),
        What::StoreJump { .. } => (0, 0, TRIED),
    };
    Some((op.at.saturating_sub(before), op.at + lasts + after))
}

/// Whether somebody who holds the same place left it and joined again about then: it is another place
/// for all who hold it.
fn joined_anew(reading: &Reading<'_>, seen: &Seen, since: Micros) -> bool {
    let Some(ticket) = reading.tickets.get(&seen.who) else {
        return false;
    };
    let all = reading.of_ticket(&ticket.id);
    all.iter().any(|other| {
        let joins = other.who != seen.who && other.call == Call::Join;
        joins && other.got.after(LAG) > since && other.sent <= seen.got
    })
}
