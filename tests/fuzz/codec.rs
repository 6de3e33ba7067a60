//! Batches: any bytes are a batch or a named error, and what is read is what would be written.

use arbitrary::{Result, Unstructured};
use tidegate::model::codec::{decode, encode};
use tidegate::model::{Batch, EventId, Kind, Micros, NodeId, Record, TicketId};

pub fn run(bytes: &[u8]) {
    let Some((&mode, rest)) = bytes.split_first() else {
        return;
    };
    if mode % 2 == 0 {
        read(rest);
    } else if let Ok(batch) = batch(&mut Unstructured::new(rest)) {
        there_and_back(&batch);
    }
}

fn read(bytes: &[u8]) {
    match decode(bytes) {
        Ok(batch) => {
            there_and_back(&batch);
            // Exactly one batch, and nothing behind it.
            let longer = [bytes, &[0xc0]].concat();
            assert!(decode(&longer).is_err(), "a byte too many was overlooked");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn there_and_back(batch: &Batch) {
    let bytes = encode(batch);
    assert_eq!(decode(&bytes).as_ref().ok(), Some(batch));
    assert!(
        decode(&bytes[..bytes.len() - 1]).is_err(),
        "a cut batch was believed"
    );
}

fn batch(bytes: &mut Unstructured<'_>) -> Result<Batch> {
    let mut events = Vec::new();
    let (node, epoch, seq) = (bytes.arbitrary()?, bytes.arbitrary()?, bytes.arbitrary()?);
    let clock = Micros(bytes.arbitrary()?);
    while !bytes.is_empty() && events.len() < 4 {
        let Ok(event) = EventId::new(bytes.arbitrary()?) else {
            break;
        };
        let mut records = Vec::new();
        for _ in 0..bytes.int_in_range(0..=4)? {
            records.push(Record {
                kind: Kind::try_from(bytes.int_in_range(1..=9)?).unwrap(),
                id: TicketId::from_u128(bytes.arbitrary()?),
                at: Micros(bytes.arbitrary()?),
            });
        }
        events.push((event, records));
    }
    Ok(Batch {
        node: NodeId(node),
        epoch,
        seq,
        clock,
        events,
    })
}
