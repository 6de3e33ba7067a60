//! Keys and values on disk. Numbers are big-endian, so that keys sort as what they name.
//!
//! | table | key | value |
//! |---|---|---|
//! | tickets | partition, event, id | [`Held`] |
//! | removed | moment, partition, event, id | nothing: the removals by age |
//! | gates | event, part, id | what that part of the event's gate keeps |
//! | facts | a name | the fixed facts, rulings, secrets |
//!
//! An event in a key is its length in one byte, then its name.

use crate::model::{EventId, Gone, Kind, Micros, Ruling, TicketId};
use crate::store::Meta;
use crate::store::gate::{Bucket, Change};
use crate::store::merge::Held;

/// Bytes that are not what this build writes.
#[derive(Debug, thiserror::Error)]
#[error("{what} of {bytes} bytes cannot be read")]
pub(super) struct Unreadable {
    what: &'static str,
    bytes: usize,
}

fn unreadable(what: &'static str, bytes: &[u8]) -> Unreadable {
    Unreadable {
        what,
        bytes: bytes.len(),
    }
}

/// The start of every key of an event's tickets in a partition.
pub(super) fn event_in_partition(partition: u16, event: &EventId) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + event.as_str().len() + 16);
    key.extend(partition.to_be_bytes());
    push_event(&mut key, event);
    key
}

/// Where a ticket is kept.
pub(super) fn ticket(partition: u16, event: &EventId, id: TicketId) -> Vec<u8> {
    let mut key = event_in_partition(partition, event);
    key.extend(id.as_bytes());
    key
}

/// The partition of a ticket's key.
pub(super) fn partition_of(key: &[u8]) -> Result<u16, Unreadable> {
    let partition = key.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    partition.ok_or_else(|| unreadable("a ticket's key", key))
}

/// The event and the id of a ticket's key.
pub(super) fn parse_ticket(key: &[u8]) -> Result<(&str, TicketId), Unreadable> {
    let parse = || {
        let (event, id) = split_event(key.get(2..)?)?;
        Some((event, TicketId::from_bytes(id.try_into().ok()?)))
    };
    parse().ok_or_else(|| unreadable("a ticket's key", key))
}

/// Where a removal is found by its age: the moment, then the ticket's key.
pub(super) fn removed(at: Micros, ticket: &[u8]) -> Vec<u8> {
    [&at.0.to_be_bytes(), ticket].concat()
}

/// The ticket's key within a removal's.
pub(super) fn ticket_of_removed(key: &[u8]) -> &[u8] {
    key.get(8..).unwrap_or_default()
}

/// One byte of what there is, then the arrival, then the removal.
pub(super) fn held(held: &Held) -> Vec<u8> {
    let live = u8::from(held.arrival.is_some()) << 7;
    let gone = held.removed.map_or(0, |(_, why)| why.kind() as u8);
    let mut value = Vec::with_capacity(17);
    value.push(live | gone);
    for at in [held.arrival, held.removed.map(|(at, _)| at)]
        .iter()
        .flatten()
    {
        value.extend(at.0.to_be_bytes());
    }
    value
}

pub(super) fn parse_held(value: &[u8]) -> Result<Held, Unreadable> {
    let parse = || {
        let (&what, mut rest) = value.split_first()?;
        let mut held = Held::default();
        if what >> 7 == 1 {
            held.arrival = Some(take_micros(&mut rest)?);
        }
        if what & 0x7f != 0 {
            let why: Gone = Kind::try_from(what & 0x7f).ok()?.gone()?;
            held.removed = Some((take_micros(&mut rest)?, why));
        }
        rest.is_empty().then_some(held)
    };
    parse().ok_or_else(|| unreadable("a ticket", value))
}

/// The start of every key of an event's gate.
pub(super) fn gate(event: &EventId) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + event.as_str().len() + 16);
    push_event(&mut key, event);
    key
}

/// Where a gate's bucket is kept.
pub(super) fn bucket(event: &EventId) -> Vec<u8> {
    let mut key = gate(event);
    key.push(b'b');
    key
}

/// A bucket as bytes.
pub(super) fn bucket_value(bucket: &Bucket) -> Vec<u8> {
    rmp_serde::to_vec(bucket).expect("writing numbers to memory cannot fail")
}

/// A gate's change as a key, and a value unless the change is a removal.
pub(super) fn change(event: &EventId, change: &Change) -> (Vec<u8>, Option<Vec<u8>>) {
    let (part, id, value) = match change {
        Change::Called(id, at) => (b'c', id, at.map(|at| at.0.to_be_bytes().to_vec())),
        Change::Missed(id, at) => (b'm', id, at.map(|at| at.0.to_be_bytes().to_vec())),
        Change::Entered(id, at) => (b'e', id, at.map(|at| at.0.to_be_bytes().to_vec())),
        Change::Active(id, at) => (b'a', id, at.map(|at| at.0.to_be_bytes().to_vec())),
    };
    let mut key = gate(event);
    key.push(part);
    key.extend(id.as_bytes());
    (key, value)
}

/// A written piece of a gate.
pub(super) enum Piece {
    Bucket(Bucket),
    Change(Change),
}

pub(super) fn parse_gate(key: &[u8], value: &[u8]) -> Result<(EventId, Piece), Unreadable> {
    let parse = || {
        let (event, rest) = split_event(key)?;
        let event = EventId::new(event).ok()?;
        let (&part, id) = rest.split_first()?;
        if part == b'b' {
            return Some((event, Piece::Bucket(rmp_serde::from_slice(value).ok()?)));
        }
        let id = TicketId::from_bytes(id.try_into().ok()?);
        let mut rest = value;
        let at = take_micros(&mut rest)?;
        let change = match part {
            b'c' => Change::Called(id, Some(at)),
            b'm' => Change::Missed(id, Some(at)),
            b'e' => Change::Entered(id, Some(at)),
            b'a' => Change::Active(id, Some(at)),
            _ => return None,
        };
        Some((event, Piece::Change(change)))
    };
    parse().ok_or_else(|| unreadable("a piece of a gate", value))
}

/// Where the fixed facts are kept.
pub(super) const META: &[u8] = b"meta";

/// Where it is counted how often the store was opened.
pub(super) const OPENED: &[u8] = b"opened";

/// The fixed facts as bytes, as names and values, so that a person can read them.
pub(super) fn meta_value(meta: &Meta) -> Vec<u8> {
    serde_json::to_vec(meta).expect("writing numbers and texts to memory cannot fail")
}

pub(super) fn parse_meta(value: &[u8]) -> Result<Meta, Unreadable> {
    serde_json::from_slice(value).map_err(|_| unreadable("the fixed facts", value))
}

/// Where what was ruled on an event is kept.
pub(super) fn ruling(event: &EventId) -> Vec<u8> {
    [RULINGS, event.as_str().as_bytes()].concat()
}

/// The start of every ruling's key.
pub(super) const RULINGS: &[u8] = b"ruling:";

/// Where the revision of the rulings is kept.
pub(super) const REVISION: &[u8] = b"revision";

/// Where a secret is kept.
pub(super) fn secret(name: &str) -> Vec<u8> {
    [b"secret:", name.as_bytes()].concat()
}

/// The event and the ruling of a ruling's key and value.
pub(super) fn parse_ruling(key: &[u8], value: &[u8]) -> Result<(EventId, Ruling), Unreadable> {
    let parse = || {
        let event = std::str::from_utf8(key.strip_prefix(RULINGS)?).ok()?;
        let ruling = std::str::from_utf8(value).ok()?.parse().ok()?;
        Some((EventId::new(event).ok()?, ruling))
    };
    parse().ok_or_else(|| unreadable("a ruling", key))
}

/// Where it is kept until when an event was erased last.
pub(super) fn erased(event: &EventId) -> Vec<u8> {
    [b"erased:", event.as_str().as_bytes()].concat()
}

/// A number as bytes.
pub(super) fn number(value: &[u8]) -> Result<u64, Unreadable> {
    let bytes = value.try_into().map_err(|_| unreadable("a number", value));
    bytes.map(u64::from_be_bytes)
}

fn push_event(key: &mut Vec<u8>, event: &EventId) {
    let name = event.as_str().as_bytes();
    // An event id has at most 64 bytes.
    key.push(name.len() as u8);
    key.extend(name);
}

fn split_event(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (event, rest) = rest.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(event).ok()?, rest))
}

fn take_micros(bytes: &mut &[u8]) -> Option<Micros> {
    let (at, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(Micros(u64::from_be_bytes(*at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moment() -> impl Strategy<Value = Option<Micros>> {
        prop::option::of(any::<u64>().prop_map(Micros))
    }

    fn gone() -> impl Strategy<Value = Gone> {
        prop::sample::select(vec![Gone::Left, Gone::Expired, Gone::Entered])
    }

    proptest! {
        #[test]
        fn tickets_come_back_as_they_went(
            arrival in moment(), removed in moment(), why in gone(),
            partition in any::<u16>(), event in "[a-z0-9._:-]{1,64}", id in any::<u128>(),
        ) {
            let ticket_held = Held { arrival, removed: removed.map(|at| (at, why)) };
            prop_assert_eq!(parse_held(&held(&ticket_held)).unwrap(), ticket_held);
            let (event, id) = (EventId::new(&event).unwrap(), TicketId::from_u128(id));
            let key = ticket(partition, &event, id);
            prop_assert_eq!(parse_ticket(&key).unwrap(), (event.as_str(), id));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (parse_held(&bytes), parse_ticket(&bytes), parse_gate(&bytes, &bytes));
        }

        #[test]
        fn gates_come_back_as_they_went(at in any::<u64>(), id in any::<u128>()) {
            let (event, id, at) = (EventId::new("e").unwrap(), TicketId::from_u128(id), Micros(at));
            for written in [
                Change::Called(id, Some(at)),
                Change::Missed(id, Some(at)),
                Change::Entered(id, Some(at)),
                Change::Active(id, Some(at)),
            ] {
                let (key, value) = change(&event, &written);
                let (same, piece) = parse_gate(&key, &value.unwrap()).unwrap();
                prop_assert_eq!(&same, &event);
                prop_assert!(matches!(piece, Piece::Change(read) if read == written));
            }
        }
    }
}
