//! What is known of the other nodes: who was heard when, whose clock is off, how old our view is.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::journal::lane::BEACON_EVERY;
use crate::sync::waits::Mutex;

use crate::model::{Batch, Micros, NodeId};

use super::Room;

/// A node that was not heard for this long is taken for away: its events get another home, and
/// nobody expires, since its visitors cannot be seen. A sighting that takes less is late and not lost:
/// on a busy machine feeds lag for a moment all the time.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(3);
/// A node that was not heard for this long is not waited for any more.
const GONE_AFTER: Duration = Duration::from_secs(15 * 60);
/// When this node hears the store again, all others do within this: they try it every ten seconds.
const ALL_BACK_WITHIN: Duration = Duration::from_secs(15);
/// How long a join takes from its node's memory into the feed, mostly; what comes later stands before
/// nobody whose place was told lower.
const FLUSHED_WITHIN: Duration = Duration::from_millis(250);
/// How long after a join all nodes that are well have spoken since, by clocks that differ a little:
/// until then one may have heard all others, and another not.
const SPOKEN_WITHIN: Duration = BEACON_EVERY.saturating_add(Duration::from_millis(500));
/// What a node kept while the store was away comes so soon after its first word.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// The other nodes of the fleet. One entry a node.
#[derive(Debug)]
pub(super) struct Peers {
    nodes: Mutex<Box<[Peer]>>,
    /// Everything written until then is known here.
    view_of: AtomicU64,
    /// When this node last could not hear all others, or was degraded.
    deaf_at: AtomicU64,
    /// The same, for a reason that others may share: the store.
    apart_at: AtomicU64,
    /// All joins until then were known here once, and are for good.
    joins_of: AtomicU64,
    /// Batches stamped further ahead than is believed.
    off_total: AtomicU64,
    /// Our clock minus the store's, in microseconds, as far as its answers tell.
    store_offset: AtomicI64,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    heard_at: Micros,
    lag: Duration,
    off: bool,
    /// Of its life; 0 before it was heard.
    epoch: u32,
}

impl Peers {
    /// Nobody was heard yet, and nobody is missed before they had time to be heard.
    pub fn new(now: Micros, fleet: u16) -> Self {
        let peer = Peer {
            heard_at: now,
            lag: Duration::ZERO,
            off: false,
            epoch: 0,
        };
        Self {
            nodes: Mutex::new(vec![peer; usize::from(fleet.max(1))].into()),
            view_of: AtomicU64::new(now.0),
            // What was said before the start may not be in what the store holds.
            deaf_at: AtomicU64::new(now.0),
            apart_at: AtomicU64::new(0),
            joins_of: AtomicU64::new(0),
            off_total: AtomicU64::new(0),
            store_offset: AtomicI64::new(0),
        }
    }

    /// A batch of another node came. Answers whether that node has started anew.
    fn heard(&self, now: Micros, batch: &Batch, off: bool) -> bool {
        let mut nodes = self.nodes.lock();
        let Some(peer) = nodes.get_mut(usize::from(batch.node.0)) else {
            return false;
        };
        let anew = batch.epoch > peer.epoch;
        peer.epoch = peer.epoch.max(batch.epoch);
        // An old batch read again says nothing about now.
        let heard_at = batch.clock.min(now);
        if heard_at > peer.heard_at {
            peer.heard_at = heard_at;
            peer.lag = now.since(batch.clock);
        }
        let edge = std::mem::replace(&mut peer.off, off) != off;
        drop(nodes);
        if off {
            self.off_total.fetch_add(1, Ordering::Relaxed);
        }
        let (node, ahead) = (batch.node.0, batch.clock.since(now).as_millis() as u64);
        if edge && off {
            tracing::error!(
                node,
                ahead_ms = ahead,
                "the clock of a node is off by more than max_clock_skew; its visitors stand too far back"
            );
        } else if edge {
            tracing::info!(node, "the clock of a node is right again");
        }
        anew
    }

    /// Whether a node was heard lately.
    pub(super) fn is_heard(&self, now: Micros, node: NodeId) -> bool {
        let nodes = self.nodes.lock();
        let peer = nodes.get(usize::from(node.0));
        peer.is_some_and(|peer| now.since(peer.heard_at) <= SILENT_AFTER)
    }

    /// Whether a node is there to act for others: heard lately, by a clock that is right.
    fn is_able(&self, now: Micros, node: NodeId) -> bool {
        let nodes = self.nodes.lock();
        let peer = nodes.get(usize::from(node.0));
        peer.is_some_and(|peer| !peer.off && now.since(peer.heard_at) <= SILENT_AFTER)
    }

    /// Whether a life of another node has ended since a moment, as far as is known.
    pub(super) fn lost_somebody(&self, now: Micros, since: Micros) -> bool {
        let nodes = self.nodes.lock();
        nodes.iter().any(|peer| {
            let is_silent = now.since(peer.heard_at) > SILENT_AFTER;
            let is_new = u64::from(peer.epoch) * 1_000_000 >= since.0;
            peer.heard_at >= since && (is_silent || is_new)
        })
    }

    /// Until when everything is told that the nodes saw which were heard within `patience`.
    fn told_until(&self, now: Micros, own: NodeId, patience: Duration) -> Micros {
        let nodes = self.nodes.lock();
        let others = nodes.iter().enumerate();
        let others = others.filter(|(node, _)| *node != usize::from(own.0));
        let told = others.map(|(_, peer)| peer.heard_at);
        let counts = |at: &Micros| now.since(*at) <= patience;
        told.filter(counts).fold(now, Micros::min)
    }

    /// Whether a node that still counts was not heard lately, or never yet in this life.
    fn misses_somebody(&self, now: Micros, own: NodeId) -> bool {
        let nodes = self.nodes.lock();
        nodes.iter().enumerate().any(|(node, peer)| {
            let silent = now.since(peer.heard_at);
            let missed = silent > SILENT_AFTER || peer.epoch == 0;
            node != usize::from(own.0) && missed && silent <= GONE_AFTER
        })
    }
}

impl Room {
    /// Says how far this node is behind the feeds: everything written `lag` before `now` is known.
    pub fn set_feed_lag(&self, now: Micros, lag: Duration) {
        let of = now.0.saturating_sub(crate::model::micros(lag));
        self.peers.view_of.store(of, Ordering::Relaxed);
    }

    /// How old this node's view of the other nodes is; zero for a node that is alone.
    pub fn feed_lag(&self, now: Micros) -> Duration {
        if self.is_alone() {
            return Duration::ZERO;
        }
        now.since(Micros(self.peers.view_of.load(Ordering::Relaxed)))
    }

    /// How far each other node's last batch was behind when it was heard, by node number.
    pub fn peer_lags(&self) -> Vec<(NodeId, Duration)> {
        let nodes = self.peers.nodes.lock();
        let others = nodes.iter().enumerate().map(|(n, p)| (n as u16, p.lag));
        let others = others.filter(|(node, _)| *node != self.identity.node.0);
        others.map(|(node, lag)| (NodeId(node), lag)).collect()
    }

    /// Batches since the start whose stamps were further ahead than `max_clock_skew`.
    pub fn clocks_off(&self) -> u64 {
        self.peers.off_total.load(Ordering::Relaxed)
    }

    /// Whether this is the only node.
    pub fn is_alone(&self) -> bool {
        self.identity.fleet <= 1
    }

    /// Whether the view is fresh enough to call others by.
    pub(super) fn is_fresh(&self, now: Micros) -> bool {
        self.feed_lag(now) <= self.identity.lag_max && self.knows_rulings(now)
    }

    /// Takes notice of a batch's writer and clock.
    pub(super) fn hear(&self, now: Micros, batch: &Batch) {
        let taken = self.clock.observe(batch.clock, now, self.identity.skew_max);
        if self.peers.heard(now, batch, !taken) {
            self.tell_newcomer(now);
        }
    }

    /// Until when everything is known here that a node saw.
    pub(super) fn heard_until(&self, now: Micros) -> Micros {
        if self.is_alone() {
            return now;
        }
        self.has_heard_until(now).min(self.in_step_until(now))
    }

    /// Until when all is known here that the others saw.
    pub(super) fn has_heard_until(&self, now: Micros) -> Micros {
        let own = self.identity.node;
        let told = self.peers.told_until(now, own, GONE_AFTER);
        let view_of = self.peers.view_of.load(Ordering::Relaxed);
        told.min(Micros(view_of))
    }

    /// Whether all others have told what they saw until a moment at which the store was there again for
    /// this node, or had time to: it may be away for them a little longer.
    pub(super) fn have_told(&self, now: Micros, at: Micros) -> bool {
        let own = self.identity.node;
        now.since(at) > ALL_BACK_WITHIN || self.peers.told_until(now, own, GONE_AFTER) > at
    }

    /// Until when that is so, should it take the others as long to write as this one.
    fn in_step_until(&self, now: Micros) -> Micros {
        let late = self.feed_lag(now) + self.journal.age(now);
        Micros(now.0.saturating_sub(crate::model::micros(late)))
    }

    /// Notes, in a fleet, whether all sightings can be heard at present.
    pub(super) fn note_hearing(&self, now: Micros) {
        if self.is_alone() {
            return;
        }
        let apart = self.is_degraded() || now.since(self.in_step_until(now)) > SILENT_AFTER;
        if apart {
            self.peers.apart_at.fetch_max(now.0, Ordering::Relaxed);
        }
        let deaf = apart
            || !self.knows_rulings(now)
            || self.peers.misses_somebody(now, self.identity.node);
        if deaf {
            self.note_deaf(now);
        }
        let all = self.heard_after(now);
        let until = Micros(now.0.saturating_sub(crate::model::micros(all)));
        self.has_heard_joins(now, until.min(self.joins_told(now)));
    }

    /// Until when the others have told of all joins. One that hangs may yet tell of some; who stays away
    /// for longer is not waited for.
    fn joins_told(&self, now: Micros) -> Micros {
        let own = self.identity.node;
        self.peers.told_until(now, own, ALL_BACK_WITHIN)
    }

    /// How long after a join all earlier ones are known here, as far as the feeds go. The same on all
    /// nodes that are well: a visitor may ask another each time.
    fn heard_after(&self, now: Micros) -> Duration {
        let flushed = self.feed_lag(now) + FLUSHED_WITHIN;
        flushed.max(self.identity.lag_max).max(SPOKEN_WITHIN)
    }

    /// What a start loads has all joins until a little before it began, at `now`.
    pub fn note_loaded(&self, now: Micros) {
        let until = now
            .0
            .saturating_sub(crate::model::micros(self.heard_after(now)));
        self.peers.joins_of.fetch_max(until, Ordering::Relaxed);
    }

    /// Whether all joins before one at `arrival` are known here. Once they are they stay so, whatever
    /// becomes of store and feeds: who was told a place by the line is never told the older one of the
    /// join again.
    pub(super) fn has_heard_joins(&self, now: Micros, arrival: Micros) -> bool {
        if arrival.0 <= self.peers.joins_of.load(Ordering::Relaxed) {
            return true;
        }
        let all = now.since(arrival) >= self.heard_after(now)
            && self.is_caught_up(now)
            && arrival <= self.joins_told(now);
        if all {
            self.peers.joins_of.fetch_max(arrival.0, Ordering::Relaxed);
        }
        all
    }

    /// Whether the others had time to tell what they kept while the store was away. Not waited for is
    /// who stays away alone.
    fn is_caught_up(&self, now: Micros) -> bool {
        let of = |moment: &AtomicU64| now.since(Micros(moment.load(Ordering::Relaxed)));
        of(&self.peers.deaf_at) > TOLD_WITHIN || of(&self.peers.apart_at) > ALL_BACK_WITHIN
    }

    /// Sightings may have been lost.
    pub(super) fn note_deaf(&self, now: Micros) {
        self.peers.deaf_at.fetch_max(now.0, Ordering::Relaxed);
    }

    /// Whether silence may be believed: sightings of all nodes were heard for `patience`.
    pub(super) fn hears_all(&self, now: Micros, patience: Duration) -> bool {
        if mutant!(DeafExpires) {
            return true;
        }
        if self.is_alone() {
            return !self.is_degraded();
        }
        let deaf_at = Micros(self.peers.deaf_at.load(Ordering::Relaxed));
        now.since(deaf_at) > patience
    }

    /// Whether this node is the one to act for `key`: the first of those that are heard, in the
    /// key's order of nodes. One whose clock is ahead of all others hears nothing new enough to act.
    pub(super) fn is_home(&self, now: Micros, key: u64) -> bool {
        let own = self.identity.node;
        let mine = crate::model::home::weight(key, own);
        !(0..self.identity.fleet).map(NodeId).any(|node| {
            node != own
                && crate::model::home::weight(key, node) > mine
                && self.peers.is_able(now, node)
        })
    }

    /// Learns the store's clock from one of its answers, which was `then` when it was given, at most
    /// `took` ago: what was known stands as far as that can be (Cristian, "Probabilistic clock
    /// synchronization", 1989).
    pub(super) fn note_store_clock(&self, now: Micros, then: Micros, took: Duration) {
        let offset = now.0.wrapping_sub(then.0) as i64;
        let known = self.peers.store_offset.load(Ordering::Relaxed);
        let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let better = if known == 0 {
            offset
        } else {
            known.clamp(offset.saturating_sub(took), offset)
        };
        self.peers.store_offset.store(better, Ordering::Relaxed);
    }

    /// Learns the store's clock from what a gate wrote at `then`, before any answer tells it: what is
    /// heard of was written before.
    pub(super) fn guess_store_clock(&self, now: Micros, then: Micros) {
        let offset = &self.peers.store_offset;
        if offset.load(Ordering::Relaxed) == 0 {
            let at_most = now.0.wrapping_sub(then.0) as i64;
            offset.store(at_most.min(0), Ordering::Relaxed);
        }
    }

    /// A moment of the store's clock on ours.
    pub(super) fn by_our_clock(&self, at: Micros) -> Micros {
        let offset = self.peers.store_offset.load(Ordering::Relaxed);
        Micros(at.0.saturating_add_signed(offset))
    }

    /// A moment of our clock on the store's.
    pub(super) fn to_store_clock(&self, at: Micros) -> Micros {
        let offset = self.peers.store_offset.load(Ordering::Relaxed);
        Micros(at.0.saturating_add_signed(offset.saturating_neg()))
    }
}
