//! Nodes that go on by themselves when they are cut off, each at its share of the rate.
//!
//! A node that would do so says with each question that it is here. Its share of the rate is
//! withheld from [`SILENT_AFTER`] after the last such word on; the node itself waits longer before
//! it begins (`room::shares`). Of the tickets that are at home there, the gate calls those up to the
//! horizon of that word and the node those after it, so no ticket is ever both's.

use crate::model::gate::{AdvanceRequest, GatePolicy, Home, Kept, Presence, SILENT_AFTER};
use crate::model::{Micros, NodeId};

use super::Gate;

/// A word that comes later than this after it was sent is not heard, since the node may have given
/// up on it. Microseconds.
const LATE_AFTER: u64 = 1_500_000;
/// A node that was not heard for this much longer than it may go on by itself no longer does.
/// Microseconds.
const FREED_AFTER: u64 = 30_000_000;

/// What is known of one such node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Share {
    pub(super) node: NodeId,
    asked_at: Micros,
    horizon: Micros,
    /// When its tickets and its share are everybody's again, if it is not heard before.
    pub(super) free_at: Micros,
}

impl Share {
    fn is_silent(&self, now: Micros) -> bool {
        self.asked_at.0.saturating_add(SILENT_AFTER) <= now.0
    }

    /// Whether its tickets are passed over. A gate that has just begun, after all was lost, waits
    /// for the nodes first: those that are there say so at once.
    fn is_away(&self, now: Micros, began: Micros) -> bool {
        let begins = began.0..began.0.saturating_add(SILENT_AFTER);
        self.is_silent(now) && !begins.contains(&now.0)
    }
}

/// Who may call a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Gate,
    /// A node that is heard and will leave it to the gate soon.
    Present,
    /// A node that is not heard.
    Away,
}

/// Whether a word of a node's presence is fresh enough to be believed.
pub(super) fn in_time(presence: &Presence, now: Micros) -> bool {
    match presence {
        Presence::Here { sent_at, .. } => sent_at.0.saturating_add(LATE_AFTER) >= now.0,
        Presence::Quiet | Presence::Gone => true,
    }
}

impl Gate {
    /// Microseconds since the last filling in which nodes were away, summed over the nodes.
    pub(super) fn away(&self, now: Micros) -> u64 {
        if mutant!(ShareNotWithheld) {
            return 0;
        }
        let since = |share: &Share| share.asked_at.0.saturating_add(SILENT_AFTER);
        let filled_at = self.bucket.filled_at.0;
        let each = self.bucket.shares.iter();
        each.map(|share| now.0.saturating_sub(since(share).max(filled_at)))
            .sum()
    }

    /// Counts who is away. While nobody could ask at all, nobody was missing in particular; a clock
    /// that went back says nothing of how long anybody was silent.
    pub(super) fn look_around(&mut self, now: Micros) {
        let gap = now.0.saturating_sub(self.bucket.filled_at.0);
        for share in &mut self.bucket.shares {
            if gap > SILENT_AFTER {
                share.free_at = Micros(share.free_at.0.saturating_add(gap));
            }
            if share.asked_at > now {
                share.asked_at = Micros(now.0.saturating_sub(SILENT_AFTER));
            }
        }
        self.count_silent(now);
    }

    fn count_silent(&mut self, now: Micros) {
        let silent = self.bucket.shares.iter();
        self.silent = silent.filter(|share| share.is_silent(now)).count() as u32;
    }

    /// Notes what a node says of itself; answers whether it is noted to be here.
    pub(super) fn note(&mut self, now: Micros, request: &AdvanceRequest) -> bool {
        let bucket = &mut self.bucket;
        let here = match request.presence {
            Presence::Here { sent_at, horizon } if request.policy.nodes > 0 => {
                let asked_at = sent_at.min(now);
                let lasts = request.policy.share_limit.saturating_add(FREED_AFTER);
                Some(Share {
                    node: request.node,
                    asked_at,
                    horizon,
                    free_at: Micros(asked_at.0.saturating_add(lasts)),
                })
            }
            Presence::Here { .. } | Presence::Quiet => return false,
            Presence::Gone => None,
        };
        bucket.shares.retain(|share| share.node != request.node);
        let heard = here.is_some();
        if let Some(share) = here {
            bucket.nodes = request.policy.nodes;
            bucket.shares.push(share);
        }
        self.count_silent(now);
        heard
    }

    /// A gate that lost all it knew: any node may be going by itself until it is heard.
    pub(super) fn presume(&mut self, now: Micros, policy: &GatePolicy) {
        let lasts = policy.share_limit.saturating_add(FREED_AFTER);
        self.bucket.nodes = policy.nodes;
        let nodes = (0..policy.nodes).map(NodeId);
        self.bucket.shares = nodes
            .map(|node| Share {
                node,
                asked_at: Micros(now.0.saturating_sub(SILENT_AFTER)),
                horizon: Micros(0),
                free_at: Micros(now.0.saturating_add(lasts)),
            })
            .collect();
        self.count_silent(now);
    }

    /// Who may call a ticket. O(nodes).
    pub(super) fn owner(&self, now: Micros, home: &Home) -> Owner {
        let mut shares = self.bucket.shares.iter();
        match shares.find(|share| share.node == home.node) {
            Some(share) if home.arrival > share.horizon => {
                if share.is_away(now, self.bucket.began) {
                    Owner::Away
                } else {
                    Owner::Present
                }
            }
            _ => Owner::Gate,
        }
    }

    /// What is whose, by node.
    pub(super) fn kept(&self, now: Micros) -> Vec<Kept> {
        let shares = self.bucket.shares.iter();
        let kept = shares.map(|share| Kept {
            node: share.node,
            after: share.horizon,
            away: share.is_away(now, self.bucket.began),
        });
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable_by_key(|kept| kept.node);
        kept
    }
}
