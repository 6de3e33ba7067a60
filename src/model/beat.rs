//! What a node of a fleet says of itself every few seconds, for operators and for the others.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::NodeId;
use super::ticket::Micros;

/// How often a node says it.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);
/// A node that said nothing for so long is not taken for living.
pub const LIVE_WITHIN: Duration = Duration::from_secs(15);
/// What clocks of machines may be apart at most before a word of a process that has ended seems to
/// have come after the start of its successor.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// One node's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Its number.
    pub node: NodeId,
    /// A random number that no other process has.
    pub instance: u64,
    /// The version it runs.
    pub version: String,
    /// Where it answers visitors.
    pub listen: String,
    /// When it started.
    pub started: Micros,
    /// When it said so, on its own clock.
    pub at: Micros,
}

impl Beat {
    /// Whether the node lives, as far as is known.
    pub fn is_live(&self, now: Micros) -> bool {
        now.since(self.at) <= LIVE_WITHIN
    }

    /// Whether this is the word of another living process under the same number. One that ended
    /// before this one started is none.
    pub fn disputes(&self, own: &Self) -> bool {
        self.node == own.node
            && self.instance != own.instance
            && self.at > own.started.after(CLOCKS_APART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(instance: u64, started: u64, at: u64) -> Beat {
        Beat {
            node: NodeId(1),
            instance,
            version: String::new(),
            listen: String::new(),
            started: Micros(started * 1_000_000),
            at: Micros(at * 1_000_000),
        }
    }

    #[test]
    fn two_living_processes_of_one_number_are_told_and_a_restart_is_not() {
        let (old, new) = (beat(1, 100, 200), beat(2, 201, 201));
        assert!(!old.disputes(&new), "killed, and started again");
        assert!(
            new.disputes(&old),
            "the old one, should it live, sees the new one"
        );
        assert!(
            beat(1, 100, 205).disputes(&new),
            "and the new one sees that it lives"
        );
        assert!(!old.disputes(&old));
        let other = Beat {
            node: NodeId(2),
            ..new
        };
        assert!(!other.disputes(&old));
    }

    #[test]
    fn a_node_lives_while_it_speaks() {
        let now = Micros(115_000_000);
        assert!(beat(1, 0, 100).is_live(now));
        assert!(!beat(1, 0, 99).is_live(now));
    }
}
