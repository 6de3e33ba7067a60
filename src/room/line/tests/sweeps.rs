//! Time ends things, on time.

use std::time::Duration;

use super::super::*;
use crate::model::{Micros, TicketId, TicketKey};

const HEARTBEAT: Duration = Duration::from_secs(300);
const MEMORY: Duration = Duration::from_secs(6 * 3600);

fn at(seconds: u64) -> Micros {
    Micros((1_000_000 + seconds) * 1_000_000)
}

fn id(n: u128) -> TicketId {
    TicketId::from_u128(n << 70 | n)
}

fn due(line: &Line, now: Micros, expire: bool) -> Vec<Due> {
    let mut due = Vec::new();
    let swept = line
        .write()
        .sweep(now, HEARTBEAT, MEMORY, expire, usize::MAX, &mut due);
    assert!(!swept.more);
    due
}

#[test]
fn the_silent_are_found_within_a_second_and_the_polled_are_not() {
    let line = Line::new(at(0), 1);
    line.write().join(&id(1), at(0), at(0));
    line.write().join(&id(2), at(0), at(0));
    line.write().join(&id(3), at(0), at(0));
    for second in 0..300 {
        assert_eq!(due(&line, at(second), true), [], "{second}");
        line.look(&id(2), None, at(second));
        line.heard(&id(3), at(100));
    }
    let silent = |n| Due {
        id: id(n),
        lapse: Lapse::Silent { last_seen: at(0) },
    };
    assert_eq!(due(&line, at(301), true), [silent(1)]);
    assert_eq!(due(&line, at(302), true), [], "named once");
    assert_eq!(
        due(&line, at(301 + 76), true),
        [silent(1)],
        "and again if nothing is done"
    );
    let heard = Due {
        id: id(3),
        lapse: Lapse::Silent { last_seen: at(100) },
    };
    assert_eq!(due(&line, at(401), true), [heard]);
}

#[test]
fn nothing_is_due_while_expiry_is_frozen() {
    let line = Line::new(at(0), 1);
    line.write().join(&id(1), at(0), at(0));
    assert_eq!(due(&line, at(1), true), []);
    assert_eq!(due(&line, at(400), false), []);
    assert_eq!(due(&line, at(800), true).len(), 1);
}

#[test]
fn turns_and_grace_that_nobody_ended_are_found() {
    let line = Line::new(at(0), 1);
    line.write().join(&id(1), at(0), at(0));
    line.write().join(&id(2), at(0), at(0));
    line.write().call(&id(1), at(120));
    line.write().call(&id(2), at(60));
    line.write().miss(&id(2), at(200));
    assert_eq!(due(&line, at(0), true), []);
    assert_eq!(
        due(&line, at(121), true),
        [Due {
            id: id(1),
            lapse: Lapse::Turn
        }]
    );
    assert!(due(&line, at(201), true).contains(&Due {
        id: id(2),
        lapse: Lapse::Grace
    }));
}

#[test]
fn the_gone_are_forgotten_in_time_and_their_entries_used_again() {
    let line = Line::new(at(0), 1);
    for n in 1..=100 {
        line.write().join(&id(n), at(0), at(0));
        line.write().remove(&id(n), at(10), Reason::Left);
    }
    for hour in 0..6 {
        due(&line, at(hour * 3600), true);
    }
    assert_eq!(line.len(), 100);
    due(&line, at(6 * 3600 + 11), true);
    assert_eq!(line.len(), 0);
    assert_eq!(line.find(&id(7)), None);
    for n in 1..=100 {
        line.write().join(&id(1000 + n), at(30_000), at(30_000));
    }
    let mut entries = Vec::new();
    assert_eq!(
        line.write().entries(0, 100, &mut entries),
        None,
        "no index beyond the first 100"
    );
    assert_eq!(entries.len(), 100);
}

#[test]
fn who_joins_again_is_watched_again() {
    let line = Line::new(at(0), 1);
    line.write().join(&id(1), at(0), at(0));
    line.write().remove(&id(1), at(1), Reason::Left);
    (0..400).for_each(|second| assert_eq!(due(&line, at(second), true), []));
    line.write().join(&id(1), at(400), at(400));
    let named: usize = (400..1_400)
        .map(|second| due(&line, at(second), true).len())
        .sum();
    assert!(named >= 1);
}

#[test]
fn a_sweep_keeps_to_its_budget() {
    let line = Line::new(at(0), 1);
    for n in 0..25 {
        line.write().join(&id(n), at(0), at(0));
    }
    due(&line, at(0), true);
    let mut out = Vec::new();
    let mut sweep = || {
        line.write()
            .sweep(at(301), HEARTBEAT, MEMORY, true, 10, &mut out)
    };
    assert_eq!(
        sweep(),
        Swept {
            examined: 10,
            forgotten: 0,
            more: true
        }
    );
    assert_eq!(
        sweep(),
        Swept {
            examined: 10,
            forgotten: 0,
            more: true
        }
    );
    assert_eq!(
        sweep(),
        Swept {
            examined: 5,
            forgotten: 0,
            more: false
        }
    );
    assert_eq!(out.len(), 25);
}

#[test]
fn a_sighting_is_published_once_per_period() {
    let line = Line::new(at(0), 1);
    let every = Duration::from_secs(100);
    line.write().join(&id(1), at(0), at(0));
    assert!(!line.claim_sighting(&id(1), at(99), every), "the join told");
    let look = line.look(&id(1), None, at(100)).unwrap();
    assert_eq!((look.previous_seen, look.published), (at(0), at(0)));
    assert!(line.claim_sighting(&id(1), at(100), every));
    assert!(!line.claim_sighting(&id(1), at(100), every));
    line.heard(&id(1), at(150));
    assert!(
        !line.claim_sighting(&id(1), at(249), every),
        "another node told"
    );
    assert_eq!(
        line.look(&id(1), None, at(249)).unwrap().previous_seen,
        at(150)
    );
    assert!(!line.claim_sighting(&id(2), at(500), every));
}

#[test]
fn an_empty_line_knows_nobody() {
    let line = Line::new(at(0), 1);
    let key = TicketKey {
        arrival: at(1),
        id: id(1),
    };
    assert_eq!(
        (line.waiting(), line.is_empty(), line.rank_of_key(&key)),
        (0, true, 1)
    );
    assert_eq!(
        (line.look(&id(1), None, at(1)), line.find(&id(1))),
        (None, None)
    );
    assert!(
        std::mem::size_of::<Line>() < 2_560,
        "{}",
        std::mem::size_of::<Line>()
    );
}
