//! Names of things: events, tickets, nodes, partitions.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest event id, in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 64;

/// The name of one sale: 1–64 characters of `[A-Za-z0-9._:-]`. Cloning is a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(Arc<str>);

/// Why a text is no event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventIdError {
    /// Nothing was given.
    #[error("an event id needs at least one character")]
    Empty,
    /// More than [`EVENT_ID_BYTES_MAX`] bytes were given.
    #[error("an event id has at most {EVENT_ID_BYTES_MAX} characters")]
    TooLong,
    /// A character outside `[A-Za-z0-9._:-]`, at this byte.
    #[error("an event id is made of A-Z a-z 0-9 . _ : - only (byte {0} is another)")]
    Character(usize),
}

impl EventId {
    /// Checks `text` without keeping it.
    pub fn check(text: &str) -> Result<(), EventIdError> {
        if text.is_empty() {
            return Err(EventIdError::Empty);
        }
        if text.len() > EVENT_ID_BYTES_MAX {
            return Err(EventIdError::TooLong);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        match text.bytes().position(|b| !allowed(b)) {
            Some(at) => Err(EventIdError::Character(at)),
            None => Ok(()),
        }
    }

    /// The event named `text`.
    pub fn new(text: &str) -> Result<Self, EventIdError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EventId {
    type Error = EventIdError;
    fn try_from(text: String) -> Result<Self, EventIdError> {
        Self::new(&text)
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl Borrow<str> for EventId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A ticket's name: 16 bytes, random or a keyed hash, compared as bytes (as Redis compares ZSET
/// members). It says nothing about the visitor and opens nothing by itself, so it may be logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TicketId(#[serde(with = "id_bytes")] [u8; 16]);

impl TicketId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id as bytes, in the order in which ids compare.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first 12 bytes: of an id made from an idempotency key, what names the key.
    pub fn name(&self) -> &[u8; 12] {
        self.0.first_chunk().expect("16 bytes have a first 12")
    }

    /// The id as a big-endian number, which compares as the bytes do.
    pub const fn as_u128(&self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The inverse of [`TicketId::as_u128`].
    pub const fn from_u128(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// A new random id in this one of `partitions` slices. `partitions` must not be 0.
    pub fn random_in(partition: u16, partitions: u16) -> Self {
        let mut bytes: [u8; 16] = rand::random();
        let first = u16::from_be_bytes([bytes[0], bytes[1]]);
        let whole = first - first % partitions;
        let first = whole
            .checked_add(partition % partitions)
            .unwrap_or(partition % partitions);
        bytes[..2].copy_from_slice(&first.to_be_bytes());
        Self(bytes)
    }

    /// Which of `partitions` slices of all tickets this one belongs to. The id is a hash or random,
    /// so its first two bytes spread evenly. `partitions` must not be 0.
    pub const fn partition(&self, partitions: u16) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]]) % partitions
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.as_u128())
    }
}

impl fmt::Debug for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A node's number in the fleet, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

impl NodeId {
    /// No node: who writes from outside the fleet, such as an import, and what no node has signed.
    pub const OUTSIDE: Self = Self(u16::MAX);
}

/// Ids travel as one MessagePack `bin`, 18 bytes, instead of an array of 16 numbers.
mod id_bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8; 16], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 16], D::Error> {
        struct Sixteen;
        impl Visitor<'_> for Sixteen {
            type Value = [u8; 16];
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("16 bytes")
            }
            fn visit_bytes<E: Error>(self, v: &[u8]) -> Result<[u8; 16], E> {
                v.try_into().map_err(|_| E::invalid_length(v.len(), &self))
            }
        }
        d.deserialize_bytes(Sixteen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_are_bounded_and_plain() {
        assert_eq!(EventId::check(""), Err(EventIdError::Empty));
        assert_eq!(EventId::check(&"a".repeat(65)), Err(EventIdError::TooLong));
        assert_eq!(EventId::check("evt 1"), Err(EventIdError::Character(3)));
        assert!(EventId::check("evt_2026:Final-1.b").is_ok());
        assert!(EventId::check(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn ticket_ids_compare_as_bytes_and_as_numbers_alike() {
        let low = TicketId::from_u128(1);
        let high = TicketId::from_u128(1 << 127);
        assert!(low < high);
        assert!(low.as_u128() < high.as_u128());
        assert_eq!(TicketId::from_u128(high.as_u128()), high);
    }
}
