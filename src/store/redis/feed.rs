//! Reading a partition's feed: batches of nodes, and what the gates wrote into it.

use std::sync::Arc;

use redis::Value;

use super::reply::Reply;
use super::{Redis, keys};
use crate::model::{Batch, EventId, Kind, Micros, NodeId, Record, TicketId, codec};
use crate::store::{FROM_THE_GATE, Feed, Position, StoreError};

const DURING: &str = "read a feed";

impl Redis {
    pub(super) async fn do_feed_end(&self, partition: u16) -> Result<Position, StoreError> {
        let keyring = self.keys.load_full();
        let state = keys::state(self.base(&keyring, partition, DURING)?);
        let end = self
            .link()
            .await?
            .query(DURING, redis::cmd("HGET").arg(state).arg("end"))
            .await?;
        match end {
            Value::Nil => Ok(Position::default()),
            end => {
                let end = Reply(DURING).text(end)?;
                parse_position(&end).ok_or_else(|| Reply(DURING).unexpected())
            }
        }
    }

    pub(super) async fn do_follow(
        &self,
        partition: u16,
        after: Position,
        limit: usize,
    ) -> Result<Feed, StoreError> {
        let keyring = self.keys.load_full();
        let feed = keys::feed(self.base(&keyring, partition, DURING)?);
        let mut range = redis::cmd("XRANGE");
        range.arg(feed).arg(format!("({}", show(after))).arg("+");
        range.arg("COUNT").arg(limit.max(1));
        let entries = Reply(DURING).list(self.link().await?.query(DURING, &range).await?)?;
        if entries.is_empty() {
            // Nothing after the end of another store's feed, either: that one began anew.
            let end = self.do_feed_end(partition).await?;
            return Ok(Feed {
                batches: Vec::new(),
                trimmed: after > end,
            });
        }
        read(entries, after)
    }
}

/// The entries of a feed after a position.
pub(super) fn read(entries: Vec<Value>, after: Position) -> Result<Feed, StoreError> {
    let mut feed = Feed::default();
    for (at, entry) in entries.into_iter().enumerate() {
        let entry = Entry::read(entry)?;
        if at == 0 {
            // Between the position and this entry there was another one.
            feed.trimmed = entry.before > after;
        }
        feed.batches.push((entry.position, Arc::new(entry.batch)));
    }
    Ok(feed)
}

/// One entry of a stream.
struct Entry {
    position: Position,
    /// The entry that came before it.
    before: Position,
    batch: Batch,
}

impl Entry {
    fn read(entry: Value) -> Result<Self, StoreError> {
        let reply = Reply(DURING);
        let mut parts = reply.list(entry)?.into_iter();
        let (Some(position), Some(fields)) = (parts.next(), parts.next()) else {
            return Err(reply.unexpected());
        };
        let position = reply.text(position)?;
        let position = parse_position(&position).ok_or_else(|| reply.unexpected())?;
        let mut before = Position::default();
        let mut batch = None;
        let (mut gate, mut step) = (None, None);
        for (name, value) in reply.pairs(fields, Reply::text, Reply::bytes)? {
            match name.as_str() {
                "p" => before = position_of(value)?,
                "b" => batch = Some(decoded(&value)?),
                "g" => gate = Some(event_of(value)?),
                "r" => step = Some(value),
                _ => {}
            }
        }
        if let (Some(event), Some(step)) = (gate, step) {
            batch = Some(step_of(event, &step)?);
        }
        Ok(Self {
            position,
            before,
            batch: batch.ok_or_else(|| reply.unexpected())?,
        })
    }
}

/// What a step of a gate wrote: node, version, clock, and records, all numbers big-endian.
fn step_of(event: EventId, bytes: &[u8]) -> Result<Batch, StoreError> {
    let head = || {
        let (node, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (clock, rest) = rest.split_first_chunk()?;
        let version = u64::from_be_bytes(*version);
        let clock = Micros(u64::from_be_bytes(*clock));
        Some((NodeId(u16::from_be_bytes(*node)), version, clock, rest))
    };
    let (node, seq, clock, records) = head().ok_or_else(|| Reply(DURING).unexpected())?;
    Ok(Batch {
        node,
        epoch: FROM_THE_GATE,
        seq,
        clock,
        events: vec![(event, records_of(records)?)],
    })
}

/// A record of a gate is its kind, 16 bytes of id, and the moment as a big-endian number.
const RECORD_BYTES: usize = 25;

fn records_of(bytes: &[u8]) -> Result<Vec<Record>, StoreError> {
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    if !rest.is_empty() {
        return Err(Reply(DURING).unexpected());
    }
    let read = |bytes: &[u8; RECORD_BYTES]| {
        let (id, at) = bytes[1..].split_first_chunk::<16>()?;
        Some(Record {
            kind: Kind::try_from(bytes[0]).ok()?,
            id: TicketId::from_bytes(*id),
            at: Micros(u64::from_be_bytes(at.try_into().ok()?)),
        })
    };
    let records: Option<_> = records.iter().map(read).collect();
    records.ok_or_else(|| Reply(DURING).unexpected())
}

fn decoded(bytes: &[u8]) -> Result<Batch, StoreError> {
    codec::decode(bytes).map_err(|error| StoreError::never(DURING, error))
}

fn text_of(bytes: Vec<u8>) -> Result<String, StoreError> {
    String::from_utf8(bytes).map_err(|_| Reply(DURING).unexpected())
}

fn event_of(bytes: Vec<u8>) -> Result<EventId, StoreError> {
    EventId::try_from(text_of(bytes)?).map_err(|_| Reply(DURING).unexpected())
}

fn position_of(bytes: Vec<u8>) -> Result<Position, StoreError> {
    parse_position(&text_of(bytes)?).ok_or_else(|| Reply(DURING).unexpected())
}

/// The position that a stream's id means: milliseconds, then a count.
pub(super) fn parse_position(id: &str) -> Option<Position> {
    let (millis, count) = id.split_once('-')?;
    let (millis, count): (u64, u64) = (millis.parse().ok()?, count.parse().ok()?);
    Some(Position(u128::from(millis) << 64 | u128::from(count)))
}

/// The inverse of [`parse_position`].
pub(super) fn show(position: Position) -> String {
    format!("{}-{}", (position.0 >> 64) as u64, position.0 as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_as_they_went_and_keep_their_order() {
        let ids = ["0-0", "0-1", "1-0", "1700000000000-18446744073709551615"];
        let positions = ids.map(|id| parse_position(id).unwrap());
        assert!(positions.is_sorted());
        assert_eq!(positions.map(show), ids);
        assert_eq!(parse_position("12"), None);
        assert_eq!(parse_position("a-1"), None);
    }
}
