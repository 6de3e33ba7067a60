//! How long the wait will be, from what was measured.
//!
//! Calls and departures are counted in 10-second buckets over 15 minutes, together with the time in
//! which somebody was waiting: a quiet hour says nothing about the pace of a busy one. The last 1, 5
//! and 15 minutes weigh .5, .3 and .2, as far as they hold anything.

use std::sync::atomic::{AtomicU64, Ordering};

use super::answer::Eta;
use crate::model::Micros;

const BUCKET: u64 = 10_000_000;
const BUCKETS: usize = 90;
/// Window lengths in buckets, with their weights.
const WINDOWS: [(usize, f64); 3] = [(6, 0.5), (30, 0.3), (90, 0.2)];
/// Less busy time than this says nothing, microseconds.
const BUSY_MIN: u64 = 5_000_000;

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    calls: u32,
    departures: u32,
    busy: u64,
}

/// What was measured of one event. About 1.5 KB, made at the first call.
#[derive(Debug)]
pub struct Measured {
    buckets: Box<[Bucket]>,
    /// The number of the newest bucket: time divided by [`BUCKET`].
    newest: u64,
    /// Up to when busy time was counted.
    counted: Micros,
}

impl Measured {
    /// Nothing measured yet.
    pub fn new(now: Micros) -> Self {
        let buckets = vec![Bucket::default(); BUCKETS].into();
        Self {
            buckets,
            newest: now.0 / BUCKET,
            counted: now,
        }
    }

    /// Notes what happened since the last note, and whether anybody waited during that time.
    pub fn note(&mut self, now: Micros, calls: u32, departures: u32, waited: bool) {
        let number = now.0 / BUCKET;
        for passed in (self.newest + 1)..=number.min(self.newest + BUCKETS as u64) {
            self.buckets[(passed % BUCKETS as u64) as usize] = Bucket::default();
        }
        self.newest = self.newest.max(number);
        let bucket = &mut self.buckets[(self.newest % BUCKETS as u64) as usize];
        bucket.calls = bucket.calls.saturating_add(calls);
        bucket.departures = bucket.departures.saturating_add(departures);
        if waited {
            bucket.busy = bucket
                .busy
                .saturating_add(now.0.saturating_sub(self.counted.0));
        }
        self.counted = self.counted.max(now);
    }

    /// Calls a second while somebody waited, and the share of tickets that leave by themselves; none
    /// of it while too little was seen.
    pub fn pace(&self) -> Option<Pace> {
        let mut weights = 0.0;
        let (mut rate, mut leaving) = (0.0, 0.0);
        for (length, weight) in WINDOWS {
            let sum = self.last(length);
            if sum.busy < BUSY_MIN {
                continue;
            }
            weights += weight;
            rate += weight * f64::from(sum.calls) * 1e6 / sum.busy as f64;
            let gone = f64::from(sum.departures);
            leaving += weight * gone / (gone + f64::from(sum.calls)).max(1.0);
        }
        (weights > 0.0).then(|| Pace {
            rate: rate / weights,
            leaving: leaving / weights,
        })
    }

    /// Calls a second over the last minute, waiting or not.
    pub fn calls_per_sec(&self) -> f64 {
        f64::from(self.last(WINDOWS[0].0).calls) / (WINDOWS[0].0 as u64 * BUCKET) as f64 * 1e6
    }

    fn last(&self, length: usize) -> Bucket {
        let numbers = (self.newest + 1).saturating_sub(length as u64)..=self.newest;
        numbers
            .map(|n| self.buckets[(n % BUCKETS as u64) as usize])
            .fold(Bucket::default(), |sum, bucket| Bucket {
                calls: sum.calls.saturating_add(bucket.calls),
                departures: sum.departures.saturating_add(bucket.departures),
                busy: sum.busy.saturating_add(bucket.busy),
            })
    }
}

/// A measured pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Calls a second.
    pub rate: f64,
    /// The share of tickets that leave by themselves, 0 to 1.
    pub leaving: f64,
}

/// What a status answer needs to tell a wait, published for readers without a lock.
#[derive(Debug, Default)]
pub struct Forecast {
    /// Two `f32`: seconds a place likely takes, and seconds it takes if all goes well.
    pace: AtomicU64,
    /// Two `f32`: seconds it takes if all goes badly, and seconds before anything moves at all.
    rest: AtomicU64,
}

impl Forecast {
    /// Works out and publishes the forecast from the policy's rate and what was measured. `closed`
    /// is the time in seconds until anybody is called at all. `longest` caps what a standing still
    /// line is told, in seconds.
    pub fn publish(&self, policy_rate: f64, measured: Option<Pace>, closed: f64, longest: f64) {
        let place = |rate: f64| {
            if rate > 0.0 {
                (1.0 / rate).min(longest)
            } else {
                longest
            }
        };
        let measured = measured.filter(|pace| pace.rate > 0.0);
        let seen = measured.map_or(policy_rate, |pace| pace.rate);
        let staying = 1.0 - measured.map_or(0.0, |pace| pace.leaving.clamp(0.0, 0.9));
        // The measured rate may pass the policy's a little, by the turns that no-shows gave back.
        let rate = if policy_rate > 0.0 {
            seen.min(policy_rate * 1.5)
        } else {
            0.0
        };
        let likely = place(rate) * staying;
        let low = place(rate.max(policy_rate)) * staying * 0.8;
        let high = place(rate.min(policy_rate)) * 1.25;
        self.pace.store(pack(likely, low), Ordering::Relaxed);
        self.rest.store(pack(high, closed), Ordering::Relaxed);
    }

    /// The expected wait at a place counted from 1. A few nanoseconds.
    pub fn at(&self, place: u64) -> Eta {
        let (likely, low) = unpack(self.pace.load(Ordering::Relaxed));
        let (high, closed) = unpack(self.rest.load(Ordering::Relaxed));
        let seconds = |each: f32| {
            // `as` saturates: a forecast beyond all bounds stays a number.
            // What single precision adds must not tip a whole second over.
            (f64::from(each) * place as f64 * 0.999_999 + f64::from(closed))
                .ceil()
                .max(1.0) as u64
        };
        let likely = seconds(likely);
        Eta {
            likely,
            low: seconds(low).min(likely),
            high: seconds(high).max(likely),
        }
    }
}

fn pack(first: f64, second: f64) -> u64 {
    u64::from((first as f32).to_bits()) << 32 | u64::from((second as f32).to_bits())
}

fn unpack(packed: u64) -> (f32, f32) {
    (
        f32::from_bits((packed >> 32) as u32),
        f32::from_bits(packed as u32),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_pace_counts_only_time_in_which_somebody_waited() {
        let mut measured = Measured::new(Micros(0));
        assert_eq!(measured.pace(), None);
        for second in 1..=20 {
            measured.note(Micros(second * SECOND), 5, 0, true);
        }
        measured.note(Micros(50 * SECOND), 0, 0, false);
        let pace = measured.pace().expect("20 busy seconds");
        assert!((pace.rate - 5.0).abs() < 0.01, "{pace:?}");
    }

    #[test]
    fn old_buckets_are_forgotten() {
        let mut measured = Measured::new(Micros(0));
        measured.note(Micros(10 * SECOND), 1000, 0, true);
        measured.note(Micros(2_000 * SECOND), 0, 0, false);
        assert_eq!(measured.pace(), None);
        assert_eq!(measured.calls_per_sec(), 0.0);
    }

    #[test]
    fn a_wait_is_told_with_its_bounds() {
        let forecast = Forecast::default();
        forecast.publish(10.0, None, 0.0, 3600.0);
        assert_eq!(
            forecast.at(100),
            Eta {
                likely: 10,
                low: 8,
                high: 13
            }
        );
        let slower = Some(Pace {
            rate: 5.0,
            leaving: 0.5,
        });
        forecast.publish(10.0, slower, 0.0, 3600.0);
        assert_eq!(
            forecast.at(100),
            Eta {
                likely: 10,
                low: 4,
                high: 25
            }
        );
        forecast.publish(0.0, None, 0.0, 3600.0);
        assert_eq!(forecast.at(1).likely, 3600);
        forecast.publish(10.0, None, 60.0, 3600.0);
        assert_eq!(forecast.at(1).likely, 61);
        assert_eq!(Forecast::default().at(1).likely, 1);
    }
}
