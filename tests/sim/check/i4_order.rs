//! I4: tickets are called in the order of their arrival, within what the fleet can have heard.

use std::time::Duration;

use tidegate::model::{Micros, TicketKey, home};

use super::Verdict;
use super::reading::{Reading, sec};
use crate::sim::history::{Answer, Call, Seen};
use crate::sim::net::Trouble;
use crate::sim::plan::What;

/// Flushing what is in no hurry, reading, the time in which joins settle.
const HEARD: Duration = Duration::from_millis(500);
/// What nodes whose view is just fresh enough may not have heard, and how long a question to a gate
/// may be on its way.
const HEARD_LATE: Duration = Duration::from_millis(500 + 4_000);
/// … when the plan has questions that are answered long after.
const HEARD_LONG_AFTER: Duration = Duration::from_secs(25);

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I4 order");
    let mut tickets: Vec<(usize, TicketKey)> = Vec::new();
    for (who, ticket) in &reading.tickets {
        // Of one place with several holders or joins it is not plain which arrival counts.
        let joins = reading.calls[who].iter();
        let joins = joins.filter(|seen| seen.call == Call::Join).count();
        if joins == 1 && !is_shared(reading, *who) {
            tickets.push((*who, *ticket));
        }
    }
    tickets.sort_by_key(|(_, ticket)| *ticket);
    let heard = heard(reading);
    for (n, (who, early)) in tickets.iter().enumerate() {
        let Some(known) = reading.run.known.get(&early.id) else {
            continue;
        };
        let known = known.after(heard);
        let waits = &reading.calls[who];
        let is_called = called(reading, *who, early, |told| told.sent);
        for (other, late) in &tickets[n + 1..] {
            let called = called(reading, *other, late, |told| told.got);
            let Some(called) = called.filter(|at| *at > known) else {
                continue;
            };
            if is_called.is_some_and(|at| at <= called) {
                continue;
            }
            if is_anothers(reading, early, late, called) {
                continue;
            }
            if waited(reading, waits, called) {
                verdict.expect(false, || {
                    let (at, since) = (sec(called), sec(known));
                    let (early, late) = (early.id, late.id);
                    format!("visitor {other} ({late}) was called at {at}, and visitor {who} ({early}) who was before it and known by {since} was not")
                });
            } else {
                verdict.checks += 1;
            }
        }
    }
    verdict
}

/// When a ticket first had a turn: as gates have it, or as its visitor was told. No gate need ever
/// have heard of a turn that came with the join, and who could not use it is the first to be called.
/// `at` is when it was at the earliest, or at the latest, as a visitor was told.
fn called(
    reading: &Reading<'_>,
    who: usize,
    ticket: &TicketKey,
    at: fn(&Seen) -> Micros,
) -> Option<Micros> {
    let turn = |seen: &&&Seen| {
        matches!(
            seen.answer,
            Answer::Place { place: 0, .. } | Answer::Joined { place: 0, .. }
        )
    };
    let told = reading.calls[&who].iter().find(turn).map(|seen| at(seen));
    let given = reading.called.get(&ticket.id).copied();
    [told, given].into_iter().flatten().min()
}

/// What nodes that were away may keep for themselves after they could be heard again.
const KEPT: Duration = Duration::from_secs(20);

/// Whether one of two tickets may have been left to a node that goes on by itself: those at home at
/// different nodes are in nobody's one order while one of them is away.
fn is_anothers(reading: &Reading<'_>, early: &TicketKey, late: &TicketKey, called: Micros) -> bool {
    let plan = &reading.run.plan;
    if !plan.shares() {
        return false;
    }
    let home = |key: &TicketKey| home::home(home::ticket_key(&key.id), plan.setting.nodes);
    let from = Micros(called.0 - KEPT.as_micros() as u64);
    reading.shared.contains(&late.id)
        || home(early) != home(late) && reading.disturbed(from, called)
}

/// Whether somebody asked for the same place by another call.
fn is_shared(reading: &Reading<'_>, who: usize) -> bool {
    let visits = || {
        reading.run.plan.ops.iter().filter_map(|op| match &op.what {
            What::Visit(visit) => Some(visit),
            _ => None,
        })
    };
    let key = visits()
        .find(|visit| visit.who == who)
        .map(|visit| visit.key);
    visits().any(|visit| Some(visit.key) == key && (visit.who != who || visit.twice))
}

fn heard(reading: &Reading<'_>) -> Duration {
    let plan = &reading.run.plan;
    if plan.is_calm() {
        return HEARD + Duration::from_millis(4 * plan.setting.latency);
    }
    let late = plan.ops.iter().any(|op| {
        matches!(
            op.what,
            What::Trouble {
                trouble: Trouble::Late,
                ..
            }
        )
    });
    if late { HEARD_LONG_AFTER } else { HEARD_LATE }
}

/// Whether a visitor was waiting before and after a moment, without a goodbye lately; or one before
/// something went wrong, so that not all need have heard of the poll that undid it.
fn waited(reading: &Reading<'_>, calls: &[&Seen], moment: Micros) -> bool {
    let waits = |seen: &&&Seen| matches!(seen.answer, Answer::Place { place, .. } if place > 0);
    let goodbye = |seen: &&&Seen| {
        matches!(seen.call, Call::Beacon | Call::Leave)
            && seen.sent <= moment
            && (seen.sent.after(Duration::from_secs(10)) > moment
                || reading.disturbed(seen.sent, moment))
    };
    let before = calls.iter().filter(waits).any(|seen| seen.got <= moment);
    let after = calls.iter().filter(waits).any(|seen| seen.sent > moment);
    before && after && calls.iter().find(goodbye).is_none()
}
