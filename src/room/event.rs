//! One event: its line, its side, its policy.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::answer::WaitReason;
use super::eta::Forecast;
use super::line::Line;
use super::posted::Posted;
use super::side::Side;
use crate::model::{EventId, Micros, Order, Policy, home};
use crate::sync::{ArcSwap, Mutex};

/// One sale with its line. Shared by reference count; reading it takes no lock.
#[derive(Debug)]
pub struct Event {
    /// Its name.
    pub id: EventId,
    pub(super) line: Line,
    /// Everything of the event that is not the line. Held for a few steps of memory, never over
    /// anything that waits; taken after the line's writer lock when both are needed.
    pub(super) side: Mutex<Side>,
    pub(super) policy: ArcSwap<Policy>,
    pub(super) posted: Posted,
    pub(super) forecast: Forecast,
    pub(super) tally: Tally,
    /// An earlier life of it was forgotten, with all that arrived until then.
    pub(super) forgotten: Option<Micros>,
    /// What chooses the event's home among the nodes.
    pub(super) home_key: u64,
    reason: AtomicU8,
}

/// What happened since this node started.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub joined: AtomicU64,
    pub entered: AtomicU64,
    pub left: AtomicU64,
}

impl Tally {
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Event {
    pub(super) fn new(id: EventId, policy: Policy, now: Micros, epoch: Micros, fleet: u16) -> Self {
        let event = Self {
            forgotten: None,
            home_key: home::event_key(&id),
            id,
            line: Line::new(epoch, usize::from(fleet.clamp(1, 64))),
            side: Mutex::new(Side::new(now, fleet)),
            policy: ArcSwap::from_pointee(policy),
            posted: Posted::default(),
            forecast: Forecast::default(),
            tally: Tally::default(),
            reason: AtomicU8::new(0),
        };
        event.publish_forecast(now, &Side::new(now, fleet));
        event
    }

    /// Whether turns are given at `now`, as far as the policy goes.
    pub fn is_open(policy: &Policy, now: Micros) -> bool {
        policy.opens.is_none_or(|opens| now >= opens) && !Self::is_closed(policy, now)
    }

    /// Whether the event takes nobody any more.
    pub(super) fn is_closed(policy: &Policy, now: Micros) -> bool {
        policy.closes.is_some_and(|closes| now >= closes)
    }

    /// Whether places are still to be drawn: nobody has one before that.
    pub(super) fn is_before_draw(policy: &Policy, now: Micros) -> bool {
        policy.order == Order::Lottery && policy.opens.is_some_and(|opens| now < opens)
    }

    /// Works out the forecast and the reason that status answers tell.
    pub(super) fn publish_forecast(&self, now: Micros, side: &Side) {
        let policy = self.policy.load();
        let closed = policy
            .opens
            .map_or(0.0, |opens| opens.since(now).as_secs_f64());
        let pace = side.measured.as_ref().and_then(super::eta::Measured::pace);
        let longest = policy.ticket_ttl.as_secs_f64();
        self.forecast.publish(policy.rate, pace, closed, longest);
        let reason = if policy.paused || policy.rate == 0.0 || Self::is_closed(&policy, now) {
            1
        } else if side.rate_lowered_until > now {
            2
        } else if side.returned_until > now {
            3
        } else if pace.is_none() {
            4
        } else {
            0
        };
        self.reason.store(reason, Ordering::Relaxed);
    }

    pub(super) fn reason(&self) -> Option<WaitReason> {
        match self.reason.load(Ordering::Relaxed) {
            1 => Some(WaitReason::Paused),
            2 => Some(WaitReason::RateLowered),
            3 => Some(WaitReason::ReturnedAhead),
            4 => Some(WaitReason::Calculating),
            _ => None,
        }
    }
}
