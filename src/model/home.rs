//! Which node is at home for what: rendezvous hashing over the fixed fleet.
//!
//! Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous" (1996): every node weighs
//! every key, the heaviest is its home; without it, its keys spread evenly over the others.

use super::ids::{EventId, NodeId, TicketId};

/// How much `node` weighs for `key`: even over all 64-bit numbers, the same on every node. 2 ns.
pub const fn weight(key: u64, node: NodeId) -> u64 {
    mixed(key ^ mixed(node.0 as u64 + 1))
}

/// The node of a fleet of `nodes` (at least 1) that weighs most for `key`. O(nodes).
pub fn home(key: u64, nodes: u16) -> NodeId {
    let all = (0..nodes).map(NodeId);
    all.max_by_key(|node| weight(key, *node))
        .unwrap_or(NodeId(0))
}

/// The key of an event: FNV-1a over its name.
pub fn event_key(event: &EventId) -> u64 {
    let bytes = event.as_str().bytes();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The one of `partitions` that holds an event's gate.
pub fn gate(event: &EventId, partitions: u16) -> u16 {
    crc16(event.as_str().as_bytes()) % partitions.max(1)
}

/// CRC-16/XMODEM, as Redis Cluster uses it.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

/// The key of a ticket: the half of its id that names no partition.
pub const fn ticket_key(id: &TicketId) -> u64 {
    id.as_u128() as u64
}

/// The finaliser of SplitMix64 (Steele et al. 2014).
const fn mixed(key: u64) -> u64 {
    let mut x = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_even_and_move_only_from_the_node_that_is_gone() {
        let mut at = [0u32; 4];
        for key in 0..4_000 {
            let four = home(key, 4);
            at[usize::from(four.0)] += 1;
            if four != NodeId(3) {
                assert_eq!(home(key, 3), four);
            }
        }
        assert!(at.iter().all(|n| (900..1_100).contains(n)), "{at:?}");
    }
}
