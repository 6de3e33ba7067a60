//! Small lines in every order of their steps: one writer, and readers that take no lock.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::super::arena::{Arena, Seen};
use super::super::index::Index;
use super::super::segment::Segment;
use super::super::state::{Kind, Word};
use super::super::{Line, Reason, State};
use crate::model::{Micros, TicketId, TicketKey};
use crate::sync::check;

fn id(n: u64) -> TicketId {
    TicketId::from_u128(u128::from(n) << 64 | u128::from(n))
}

/// A line of tickets that arrived at these moments, `stride` slots apart; with 64 the first segment
/// has one ticket, the second two, the third four.
fn line(stride: usize, arrivals: &[u64]) -> Arc<Line> {
    let line = Line::new(Micros(0), stride);
    for &at in arrivals {
        line.write().join(&id(at), Micros(at), Micros(at));
    }
    Arc::new(line)
}

fn place(line: &Line, of: u64) -> Option<u64> {
    line.look(&id(of), None, Micros(100))?.place
}

/// Runs both, at once.
fn at_once(one: impl FnOnce() + Send + 'static, other: impl FnOnce() + Send + 'static) {
    let both = [thread::spawn(one), thread::spawn(other)];
    both.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Two polls for ticket `of` while `change` is made: their places.
fn polled(line: &Arc<Line>, of: u64, change: impl FnOnce(&Line) + Send + 'static) -> [u64; 2] {
    let changed = Arc::clone(line);
    let writer = thread::spawn(move || change(&changed));
    let places = [(); 2].map(|()| place(line, of).expect("it waits throughout"));
    writer.join().unwrap();
    places
}

/// Would catch an entry that is handed on before its id is taken out, or an id that is given back
/// before the rest is written: a reader would take one ticket's state for another's.
#[test]
fn an_entry_that_changes_hands_is_never_read_half() {
    check(1, || {
        let arena = Arc::new(Arena::new());
        let seen = Seen {
            last: 0,
            published: 0,
        };
        arena.create(0, &id(1), Micros(1), seen);
        arena.set_word(0, Word::new(Kind::Waiting, 7));
        let changed = Arc::clone(&arena);
        let writer = thread::spawn(move || {
            changed.set_word(0, Word::new(Kind::Left, 0));
            changed.set_time(0, Micros(5));
            changed.erase(0);
            changed.create(0, &id(2), Micros(9), seen);
            changed.set_word(0, Word::new(Kind::Waiting, 3));
        });
        if let Some(reading) = arena.read(0, &id(1)) {
            let told = (reading.word.kind(), reading.word.low(), reading.time.0);
            assert!(
                matches!(told, (Kind::Waiting, 7, 1) | (Kind::Left, 0, 1 | 5)),
                "{told:?}"
            );
        }
        if let Some(reading) = arena.read(0, &id(2)) {
            let told = (reading.word.kind(), reading.word.low(), reading.time.0);
            assert_eq!(told, (Kind::Waiting, 3, 9));
        }
        writer.join().unwrap();
    });
}

/// Would catch a slot that is told to be taken before its entry is in it.
#[test]
fn a_taken_slot_has_its_entry() {
    check(3, || {
        let low = TicketKey {
            arrival: Micros(0),
            id: id(0),
        };
        let segment = Arc::new(Segment::new(0, low, 64));
        let changed = Arc::clone(&segment);
        at_once(
            move || changed.put(3, 5),
            move || assert!(!segment.is_taken(3) || segment.entry(3) == 5),
        );
    });
}

/// Would catch a ticket that waits before its arrival is written, or in a shape without its segment.
/// It is one that left: a new one cannot be found until all of it is done. Of four, the last segment
/// has room for it; of three, it has a new one.
#[test]
fn who_is_found_has_a_place() {
    for before in [4, 3] {
        check(2, move || {
            let line = line(64, &[10, 20, 30, 40][..before]);
            line.write().remove(&id(50), Micros(50), Reason::Left);
            let changed = Arc::clone(&line);
            let join = move || changed.write().join(&id(50), Micros(60), Micros(60));
            let writer = thread::spawn(join);
            let look = line.look(&id(50), None, Micros(100)).expect("it is known");
            let last = Some(before as u64 + 1);
            let back = (look.state, look.place, look.time) == (State::Waiting, last, Micros(60));
            let gone = (look.state, look.place) == (State::Left, None);
            assert!(back || gone, "{look:?}");
            writer.join().unwrap();
            assert_eq!(place(&line, 50), last);
        });
    }
}

/// Would catch positions that are read in a shape they do not belong to while a segment is spread
/// anew for a late ticket.
#[test]
fn a_late_ticket_is_counted_once() {
    check(2, || {
        let line = line(1, &[10, 20, 30]);
        let places = polled(&line, 30, |line| {
            line.write().join(&id(15), Micros(15), Micros(15));
        });
        assert!(
            places.iter().all(|place| matches!(place, 3 | 4)),
            "{places:?}"
        );
        assert_eq!(place(&line, 30), Some(4));
    });
}

/// Would catch a removal that a reader sees twice or not at all while its segment is dropped: a told
/// place would rise (I5).
#[test]
fn places_fall_while_an_empty_segment_goes() {
    check(2, || {
        let line = line(64, &[10, 20, 30]);
        let places = polled(&line, 30, |line| {
            line.write().remove(&id(10), Micros(50), Reason::Left);
        });
        assert!(matches!(places, [3, 3 | 2] | [2, 2]), "{places:?}");
        assert_eq!(place(&line, 30), Some(2));
    });
}

/// Would catch the same while two segments become one: the position that is read is that of a frozen
/// segment then, or of the new one.
#[test]
fn places_fall_while_segments_become_one() {
    check(2, || {
        let line = line(64, &[10, 20, 30, 40]);
        let places = polled(&line, 30, |line| {
            line.write().remove(&id(20), Micros(50), Reason::Left);
        });
        assert!(matches!(places, [3, 3 | 2] | [2, 2]), "{places:?}");
        assert_eq!(place(&line, 30), Some(2));
    });
}

/// Would catch a table that is published before everything is in it: a ticket in line would be
/// unknown for a moment, and be put back.
#[test]
fn nobody_is_missed_while_the_index_grows() {
    check(3, || {
        let index = Arc::new(Index::new());
        index.insert(1, 1, |entry| entry.into());
        let changed = Arc::clone(&index);
        at_once(
            move || {
                for entry in 2..5 {
                    changed.insert(entry.into(), entry, |entry| entry.into());
                }
                changed.remove(2, 2);
            },
            move || assert_eq!(index.find(1, |entry| (entry == 1).then_some(())), Some(())),
        );
    });
}

/// Would catch two nodes' worth of telling for one poll's worth of news.
#[test]
fn a_sighting_is_told_once() {
    check(3, || {
        let line = line(1, &[10]);
        let claim =
            |line: &Line| line.claim_sighting(&id(10), Micros(90_000_000), Duration::from_secs(30));
        let other = Arc::clone(&line);
        let second = thread::spawn(move || claim(&other));
        let first = claim(&line);
        assert!(first != second.join().unwrap());
    });
}
