//! Operations on a node over a store of which some calls fail, against a model that knows what every
//! visitor was told.

mod model;
mod node;

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use tidegate::store::fault::Fault;

use model::Model;
use node::Node;

/// So many operations at most, so that no run is long.
const OPERATIONS_MAX: usize = 32;
/// How long time passes at a time.
const SPANS: [u64; 6] = [10, 150, 1_000, 4_000, 12_000, 31_000];

/// Which calls of the store fail, then what happens.
pub fn run(bytes: &[u8]) {
    let _ = day(&mut Unstructured::new(bytes));
}

fn day(bytes: &mut Unstructured<'_>) -> Result<()> {
    let cap = *bytes.choose(&[0, 0, 1, 2])?;
    let mut failing = Vec::new();
    let mut call = 0u32;
    for _ in 0..bytes.int_in_range(0..=4)? {
        call += u32::from(bytes.arbitrary::<u8>()?) % 24 + 1;
        let how = *bytes.choose(&[Fault::Lost, Fault::Unanswered, Fault::Refused])?;
        failing.push((call, how));
    }
    let mut node = Node::new(cap, failing);
    let mut model = Model::new(cap);
    for _ in 0..OPERATIONS_MAX {
        if bytes.is_empty() {
            break;
        }
        operation(bytes, &mut node, &mut model)?;
    }
    model.end(&mut node);
    Ok(())
}

fn operation(bytes: &mut Unstructured<'_>, node: &mut Node, model: &mut Model) -> Result<()> {
    let byte: u8 = bytes.arbitrary()?;
    let (what, which) = (byte % 10, usize::from(byte / 10));
    match what {
        0 | 1 => model.join(node, None),
        2 => model.join(node, Some(which % 3)),
        3 => model.status(node, which),
        4 | 5 => model.enter(node, which),
        6 => match which % 4 {
            0 => model.leave(node, bytes.arbitrary::<u8>()?.into()),
            1 => model.leave_softly(node, bytes.arbitrary::<u8>()?.into()),
            2 => model.complete(node, bytes.arbitrary::<u8>()?.into()),
            _ => model.crash(node),
        },
        7 => model.flush(node),
        _ => model.pass(node, Duration::from_millis(SPANS[which % SPANS.len()])),
    }
    Ok(())
}
