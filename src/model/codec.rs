//! The wire form of batches: one version byte, then MessagePack.

use serde::Deserialize;

use super::record::Batch;

/// The version this build writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// The longest encoded batch that is read, in bytes.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// Why bytes are no batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// There was nothing at all.
    #[error("a batch of 0 bytes")]
    Empty,
    /// Longer than [`BATCH_BYTES_MAX`].
    #[error("a batch of {0} bytes, more than {BATCH_BYTES_MAX}")]
    TooLong(usize),
    /// Written by another version of the format.
    #[error("a batch of format version {0}; this build reads version {VERSION}")]
    Version(u8),
    /// A batch, and then something else.
    #[error("a batch with {0} bytes behind it")]
    Trailing(usize),
    /// Not a batch.
    #[error("a batch that cannot be read: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
}

/// The batch as bytes.
pub fn encode(batch: &Batch) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + 30 * batch.len());
    bytes.push(VERSION);
    rmp_serde::encode::write(&mut bytes, batch)
        .expect("writing numbers, bytes and short texts to memory cannot fail");
    bytes
}

/// The batch in `bytes`.
///
/// # Errors
/// Another version, or anything that is not exactly one batch.
pub fn decode(bytes: &[u8]) -> Result<Batch, CodecError> {
    if bytes.len() > BATCH_BYTES_MAX {
        return Err(CodecError::TooLong(bytes.len()));
    }
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&VERSION, mut rest)) => {
            let batch = Batch::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))?;
            match rest {
                [] => Ok(batch),
                left => Err(CodecError::Trailing(left.len())),
            }
        }
        Some((&version, _)) => Err(CodecError::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventId, Kind, Micros, NodeId, Record, TicketId};
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        (1u8..=9, any::<u128>(), any::<u64>()).prop_map(|(kind, id, at)| Record {
            kind: Kind::try_from(kind).expect("1 to 9 are kinds"),
            id: TicketId::from_u128(id),
            at: Micros(at),
        })
    }

    fn batch() -> impl Strategy<Value = Batch> {
        let events = prop::collection::vec(
            ("[a-z0-9._:-]{1,64}", prop::collection::vec(record(), 0..8)),
            0..4,
        );
        (
            any::<u16>(),
            any::<u32>(),
            any::<u64>(),
            any::<u64>(),
            events,
        )
            .prop_map(|(node, epoch, seq, clock, events)| Batch {
                node: NodeId(node),
                epoch,
                seq,
                clock: Micros(clock),
                events: events
                    .into_iter()
                    .map(|(event, records)| (EventId::new(&event).expect("it matches"), records))
                    .collect(),
            })
    }

    proptest! {
        #[test]
        fn batches_come_back_as_they_went(batch in batch()) {
            prop_assert_eq!(decode(&encode(&batch)).expect("just encoded"), batch);
        }

        #[test]
        fn any_bytes_are_a_batch_or_a_named_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_batch_with_more_behind_it_is_refused(batch in batch(), more in any::<u8>()) {
            let mut bytes = encode(&batch);
            bytes.push(more);
            prop_assert!(matches!(decode(&bytes), Err(CodecError::Trailing(1))));
        }

        #[test]
        fn a_cut_batch_is_refused(batch in batch(), cut in 1usize..40) {
            let bytes = encode(&batch);
            let keep = bytes.len().saturating_sub(cut);
            prop_assert!(decode(&bytes[..keep]).is_err());
        }
    }

    #[test]
    fn another_version_is_named() {
        let error = decode(&[9, 0]).expect_err("version 9 is unknown");
        assert_eq!(
            error.to_string(),
            "a batch of format version 9; this build reads version 1"
        );
    }

    #[test]
    fn a_record_takes_29_bytes() {
        let one = |n: usize| Batch {
            node: NodeId(0),
            epoch: 0,
            seq: 1,
            clock: Micros(0),
            events: vec![(
                EventId::new("e").expect("a fine id"),
                vec![
                    Record {
                        kind: Kind::Joined,
                        id: TicketId::from_u128(u128::MAX),
                        at: Micros(1_800_000_000_000_000),
                    };
                    n
                ],
            )],
        };
        assert_eq!(encode(&one(11)).len() - encode(&one(10)).len(), 29);
    }
}
