//! Drives the room's schedule: runs what is due and carries its questions to the gates.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::journal::health::{Health, Verdict};
use crate::model::Micros;
use crate::room::{Asking, Room};
use crate::store::Store;

/// How long a gate's answer is waited for before it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);
/// The schedule is looked at this often whatever happens, so that a stuck store is noticed.
const LOOK_MAX: Duration = Duration::from_millis(250);

/// What the driver works with.
pub struct Turns {
    /// Whose schedule.
    pub room: Arc<Room>,
    /// Whom to ask.
    pub store: Arc<dyn Store>,
    /// Told how the store answers.
    pub health: Arc<Health>,
    /// Time.
    pub clock: Clock,
    /// How old the oldest unacknowledged record may be before answers are called degraded.
    pub stale_after: Duration,
}

impl Turns {
    /// Runs until `stop` says so; questions on their way are answered first.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let mut asked = JoinSet::new();
        let mut due = Vec::new();
        let mut generation = this.store.generation();
        while !*stop.borrow() {
            let now = this.now();
            let present = this.store.generation();
            if present != generation {
                generation = present;
                this.room.doubt_gates(now);
            }
            let age = this.room.journal().age(now);
            let verdict = this.health.verdict(age, this.stale_after);
            this.room
                .set_degraded(age > this.stale_after || verdict == Verdict::Down);
            this.room.tick(now, &mut due);
            for asking in due.drain(..) {
                asked.spawn(Arc::clone(&this).ask(asking));
            }
            let wait = this
                .room
                .next_due()
                .map_or(LOOK_MAX, |at| at.since(this.now()));
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                Some(_) = asked.join_next() => {}
                () = this.room.earlier() => {}
                () = sleep(wait.min(LOOK_MAX)) => {}
            }
        }
        while asked.join_next().await.is_some() {}
        for asking in this.room.farewell(this.now()) {
            asked.spawn(Arc::clone(&this).ask(asking));
        }
        while asked.join_next().await.is_some() {}
        let untold = this.room.untold_entries();
        if untold > 0 {
            tracing::error!(
                entries = untold,
                "stopped with entries that no gate was told of"
            );
        }
    }

    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    async fn ask(self: Arc<Self>, asking: Asking) {
        if self.health.alone_until(self.now()).is_some() {
            return self.room.advanced(self.now(), asking, None);
        }
        let asked = async {
            for request in self.room.settlement(self.now(), &asking) {
                self.store.settle(request).await?;
            }
            self.store.advance(asking.request.clone()).await
        };
        let answer = match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                self.health.answered();
                Some(answer)
            }
            Ok(Err(error)) => {
                self.health.failed(self.now(), &error);
                None
            }
            Err(_) => {
                self.health
                    .failed(self.now(), &"a gate did not answer in time");
                None
            }
        };
        self.room.advanced(self.now(), asking, answer);
    }
}
