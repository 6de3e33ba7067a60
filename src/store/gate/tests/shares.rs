//! Nodes that go on by themselves: what is withheld, from when to when, and whose tickets are whose.

use super::*;
use crate::model::gate::{Home, Kept, SettleRequest};

/// Two nodes of two, a turn a second each.
fn shared() -> GatePolicy {
    GatePolicy {
        burst: 8,
        ready_ttl: 10_000 * SECOND,
        nodes: 2,
        share_limit: 60 * SECOND,
        ..policy()
    }
}

/// A question of a node that is here and leaves tickets up to `horizon` to the gate; even numbers are
/// at home at node 0, and a ticket arrived at its number.
fn here(bench: &mut Bench, node: u16, horizon: u64, candidates: Vec<TicketId>) -> AdvanceRequest {
    let home = |id: &TicketId| Home {
        node: NodeId((id.as_u128() % 2) as u16),
        arrival: Micros(id.as_u128() as u64),
    };
    AdvanceRequest {
        node: NodeId(node),
        homes: candidates.iter().map(home).collect(),
        presence: Presence::Here {
            sent_at: Micros(bench.now),
            horizon: Micros(horizon),
        },
        ..bench.request(candidates)
    }
}

fn called(answer: &Advanced) -> Vec<TicketId> {
    answer.called.iter().map(|turn| turn.id).collect()
}

#[test]
fn the_share_of_a_node_that_is_silent_is_withheld_from_two_seconds_on() {
    let mut bench = Bench::new(shared());
    let request = here(&mut bench, 1, 1_000, ids(0..20));
    assert!(bench.ask(&request).heard);
    assert_eq!(bench.gate.bucket.level, 0, "the burst is spent");
    bench.now += 3 * SECOND;
    let request = here(&mut bench, 0, 1_000, vec![]);
    // Two seconds of both, and one of node 0 alone.
    let answer = bench.ask(&request);
    assert_eq!(answer.level, 5 * TURN);
    let away = |answer: &Advanced| answer.kept.iter().map(|kept| kept.away).collect::<Vec<_>>();
    assert_eq!(away(&answer), [false, true]);
    // What node 1 may have saved up has room in no bucket: 1.2 turns.
    bench.now += 1_900_000;
    let request = here(&mut bench, 0, 1_000, vec![]);
    assert_eq!(bench.ask(&request).level, 6_800_000);
    let request = here(&mut bench, 1, 1_000, vec![]);
    assert_eq!(away(&bench.ask(&request)), [false, false]);
    bench.now += SECOND;
    let request = here(&mut bench, 0, 1_000, vec![]);
    assert_eq!(bench.ask(&request).level, 8 * TURN);
}

#[test]
fn tickets_after_the_horizon_wait_for_a_node_that_is_heard_and_not_for_one_that_is_not() {
    let mut bench = Bench::new(shared());
    let request = here(&mut bench, 1, 3, vec![]);
    bench.ask(&request);
    let request = here(&mut bench, 0, 1_000, ids(0..8));
    let answer = bench.ask(&request);
    assert_eq!(
        called(&answer),
        ids(0..5),
        "5 is at home at node 1, after its horizon"
    );
    let kept = |node, after, away| Kept {
        node: NodeId(node),
        after: Micros(after),
        away,
    };
    assert_eq!(answer.kept, [kept(0, 1_000, false), kept(1, 3, false)]);
    bench.now += 2 * SECOND;
    let request = here(&mut bench, 0, 1_000, ids(5..10));
    assert_eq!(called(&bench.ask(&request)), [id(6), id(8)]);
    let request = AdvanceRequest {
        presence: Presence::Gone,
        ..here(&mut bench, 1, 3, vec![])
    };
    bench.ask(&request);
    let request = here(&mut bench, 0, 1_000, vec![id(5), id(7)]);
    assert_eq!(called(&bench.ask(&request)), [id(5), id(7)]);
}

#[test]
fn a_word_that_comes_late_gives_and_says_nothing() {
    let mut bench = Bench::new(shared());
    let request = here(&mut bench, 1, 1_000, ids(0..9));
    bench.now += 1_500_001;
    let answer = bench.ask(&request);
    assert!(answer.stale && !answer.heard && answer.kept.is_empty());
    assert_eq!(answer.called, []);
    let mut request = here(&mut bench, 1, 1_000, vec![]);
    bench.now += 1_500_000;
    assert!(bench.ask(&request).heard, "just in time");
    // It counts from when it was sent.
    bench.now += 500_000;
    request = here(&mut bench, 0, 1_000, vec![]);
    assert!(bench.ask(&request).kept[1].away);
}

#[test]
fn a_node_is_taken_for_dead_only_after_others_asked_for_long_enough() {
    let mut bench = Bench::new(shared());
    let request = here(&mut bench, 1, 1_000, vec![]);
    bench.ask(&request);
    let mut answer = Advanced::default();
    // Nobody asks for an hour, then one for a minute and a half.
    bench.now += 3_600 * SECOND;
    for second in 0..92 {
        let request = here(&mut bench, 0, 1_000, vec![]);
        answer = bench.ask(&request);
        assert_eq!(
            answer.kept.len(),
            if second < 90 { 2 } else { 1 },
            "{second}"
        );
        bench.now += SECOND;
    }
    assert_eq!(answer.level, 8 * TURN);
}

#[test]
fn a_gate_that_lost_everything_takes_every_node_for_away_until_it_is_heard() {
    let mut bench = Bench::new(shared());
    let told = |node, shared| SettleRequest {
        event: EventId::new("e").unwrap(),
        node: NodeId(node),
        policy: bench.policy,
        version: 7,
        called: vec![],
        entered: vec![(id(1), Micros(bench.now - SECOND))],
        shared,
    };
    let (told, again) = (told(0, true), told(1, false));
    for told in [&told, &again] {
        bench.gate.settle(Micros(bench.now), told, &mut vec![]);
    }
    bench.now += SECOND / 2;
    let request = here(&mut bench, 0, 1_000, ids(2..6));
    let answer = bench.ask(&request);
    assert_eq!(answer.level, 0, "both were withheld");
    assert!(answer.heard && answer.called.is_empty());
    bench.now += SECOND;
    let request = here(&mut bench, 0, 1_000, ids(2..6));
    let answer = bench.ask(&request);
    assert_eq!(called(&answer), [id(2)], "one share's worth, of its own");
    let entry = bench.enter(id(1), None);
    assert!(matches!(entry, Entry::Again { .. }), "it was told of");
}

#[test]
fn a_word_of_a_node_that_knows_more_is_not_heard() {
    let mut bench = Bench::new(shared());
    bench.call(ids(0..1));
    let request = AdvanceRequest {
        version: bench.gate.bucket.version + 1,
        ..here(&mut bench, 1, 1_000, vec![])
    };
    let answer = bench.ask(&request);
    assert!(answer.stale && !answer.heard && answer.kept.is_empty());
}
