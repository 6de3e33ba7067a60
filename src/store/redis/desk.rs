//! What this node asks of a gate travels in company: one step at a time, with all that came while
//! the last one was on its way.
//!
//! A step costs Redis about as much as ten tickets in it. While visitors enter an event one soon
//! after the other, the first of them waits a moment for the others; a lone one does not.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use super::Redis;
use crate::model::EventId;
use crate::model::gate::{AdvanceRequest, Advanced, EnterRequest, Entry};
use crate::store::StoreError;

/// The most tickets that enter in one step, so that no step is long.
const ENTERS_MAX: usize = 128;
/// The first who enters waits this long for others …
const COMPANY: Duration = Duration::from_millis(25);
/// … if somebody entered the event here this lately.
const LATELY: Duration = Duration::from_millis(400);

type Told<T> = oneshot::Sender<Result<T, StoreError>>;

/// The desks of events for which something is asked, or was lately.
#[derive(Default)]
pub(super) struct Desks(Arc<Mutex<AHashMap<EventId, Arc<Desk>>>>);

/// One event's.
#[derive(Default)]
struct Desk {
    /// Held for a push or a take.
    waiting: Mutex<Waiting>,
    /// Held by whoever carries the next step to the gate, until it is answered.
    turn: tokio::sync::Mutex<()>,
    /// Told of everything that comes to wait.
    came: Notify,
}

#[derive(Default)]
struct Waiting {
    enters: Vec<(EnterRequest, Told<Entry>)>,
    advances: Vec<(AdvanceRequest, Told<Advanced>)>,
    /// Steps with somebody in them that were taken lately; 0 if none was.
    lately: u64,
}

impl Waiting {
    /// Whether the next step goes at once.
    fn goes(&self) -> bool {
        self.lately == 0 || !self.advances.is_empty() || self.enters.len() >= ENTERS_MAX
    }
}

/// A place at a desk; the last one to leave takes the desk away.
struct Seat {
    desks: Arc<Mutex<AHashMap<EventId, Arc<Desk>>>>,
    event: EventId,
    desk: Arc<Desk>,
}

impl Desks {
    fn seat(&self, event: &EventId) -> Seat {
        let desk = Arc::clone(self.0.lock().entry(event.clone()).or_default());
        Seat {
            desks: Arc::clone(&self.0),
            event: event.clone(),
            desk,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut desks = self.desks.lock();
        let desk = std::mem::take(&mut self.desk);
        // Whoever else sits here has it from the map, which is locked.
        if Arc::strong_count(&desk) <= 2 {
            desks.remove(&self.event);
        }
        drop(desk);
    }
}

impl Seat {
    /// Waits for company if some may come.
    async fn gather(&self) {
        let moment = sleep(COMPANY);
        tokio::pin!(moment);
        while !self.desk.waiting.lock().goes() {
            tokio::select! {
                biased;
                () = &mut moment => return,
                () = self.desk.came.notified() => {}
            }
        }
    }

    /// Somebody entered: who comes soon after waits for company. The desk stays as long.
    fn note_entry(&self) {
        let mut waiting = self.desk.waiting.lock();
        waiting.lately += 1;
        let steps = waiting.lately;
        let seat = Self {
            desks: Arc::clone(&self.desks),
            event: self.event.clone(),
            desk: Arc::clone(&self.desk),
        };
        tokio::spawn(async move {
            sleep(LATELY).await;
            let mut waiting = seat.desk.waiting.lock();
            if waiting.lately == steps {
                waiting.lately = 0;
            }
        });
    }
}

impl Redis {
    pub(super) async fn do_enter(&self, request: EnterRequest) -> Result<Entry, StoreError> {
        let event = request.event.clone();
        self.ask_at_desk(&event, |waiting, told| {
            waiting.enters.push((request.clone(), told));
        })
        .await
    }

    pub(super) async fn do_advance(&self, request: AdvanceRequest) -> Result<Advanced, StoreError> {
        let event = request.event.clone();
        self.ask_at_desk(&event, |waiting, told| {
            waiting.advances.push((request.clone(), told));
        })
        .await
    }

    /// Has something wait at an event's desk, and sees to it that it is carried to the gate: by
    /// whoever has the turn, or by this call when it gets it. A call that is given up on its way
    /// leaves those who went with it without an answer; they ask again, which is harmless.
    async fn ask_at_desk<T>(
        &self,
        event: &EventId,
        put: impl Fn(&mut Waiting, Told<T>),
    ) -> Result<T, StoreError> {
        let seat = self.desks.seat(event);
        loop {
            let (tell, mut told) = oneshot::channel();
            put(&mut seat.desk.waiting.lock(), tell);
            seat.desk.came.notify_one();
            let turn = tokio::select! {
                biased;
                answer = &mut told => match answer {
                    Ok(answer) => return answer,
                    Err(_) => continue,
                },
                turn = seat.desk.turn.lock() => turn,
            };
            seat.gather().await;
            loop {
                match told.try_recv() {
                    Ok(answer) => return answer,
                    Err(oneshot::error::TryRecvError::Closed) => break,
                    Err(oneshot::error::TryRecvError::Empty) => self.carry(&seat).await,
                }
            }
            drop(turn);
        }
    }

    /// Takes a step with what waits; visitors who are gone meanwhile are left out.
    async fn carry(&self, seat: &Seat) {
        let (enters, advance) = {
            let mut waiting = seat.desk.waiting.lock();
            waiting.enters.retain(|(_, told)| !told.is_closed());
            waiting.advances.retain(|(_, told)| !told.is_closed());
            let most = waiting.enters.len().min(ENTERS_MAX);
            let enters: Vec<_> = waiting.enters.drain(..most).collect();
            let next = (!waiting.advances.is_empty()).then(|| waiting.advances.remove(0));
            (enters, next)
        };
        let (enters, entering): (Vec<_>, Vec<_>) = enters.into_iter().unzip();
        let (advance, advancing) = advance.unzip();
        if !enters.is_empty() {
            seat.note_entry();
        }
        match self.all_enter(&seat.event, enters, advance.as_ref()).await {
            Ok((entries, advanced)) => {
                for (told, entry) in entering.into_iter().zip(entries) {
                    let _ = told.send(Ok(entry));
                }
                if let (Some(told), Some(advanced)) = (advancing, advanced) {
                    let _ = told.send(Ok(advanced));
                }
            }
            Err(error) => {
                for told in entering {
                    let _ = told.send(Err(error.clone()));
                }
                if let Some(told) = advancing {
                    let _ = told.send(Err(error));
                }
            }
        }
    }

    /// The entries in order, and the turns.
    async fn all_enter(
        &self,
        event: &EventId,
        enters: Vec<EnterRequest>,
        advance: Option<&AdvanceRequest>,
    ) -> Result<(Vec<Entry>, Option<Advanced>), StoreError> {
        if advance.is_some() {
            return self.run_step(event, &enters, advance).await;
        }
        let mut entries = self.admit(event, &enters).await?;
        let others = enters.into_iter().zip(&entries);
        let others: Vec<_> = others
            .filter_map(|(enter, entry)| entry.is_none().then_some(enter))
            .collect();
        let mut answers = self.run_step(event, &others, None).await?.0.into_iter();
        for entry in entries.iter_mut().filter(|entry| entry.is_none()) {
            *entry = answers.next();
        }
        Ok((entries.into_iter().flatten().collect(), None))
    }
}
