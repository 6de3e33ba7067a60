//! What this node asks of a gate travels in company: one step at a time, with all that came while
//! the last one was on its way.
//!
//! A step costs Redis about as much as ten tickets in it. While visitors enter an event one soon
//! after the other, the first of them waits a moment for the others; a lone one does not.
//!
//! Steps are taken by a task of their own, never by a caller: one who gives up takes nobody's
//! answer along, and the time that callers have is not the time a step may take.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::pin;
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

/// Somebody's question, and where the answer goes.
type Asked<Q, A> = (Q, oneshot::Sender<Result<A, StoreError>>);

/// The desks of events for which something is asked, or was lately. Locked for a push or a take.
#[derive(Default)]
pub(super) struct Desks(Mutex<AHashMap<EventId, Desk>>);

/// One event's: there as long as somebody carries what waits at it. No more waits than there are
/// requests that wait for it.
#[derive(Default)]
struct Desk {
    enters: Vec<Asked<EnterRequest, Entry>>,
    advances: Vec<Asked<AdvanceRequest, Advanced>>,
    /// Told of everything that comes to wait.
    came: Arc<Notify>,
}

/// What goes in one step.
#[derive(Default)]
struct Company {
    enters: Vec<Asked<EnterRequest, Entry>>,
    advance: Option<Asked<AdvanceRequest, Advanced>>,
}

impl Desk {
    fn is_empty(&self) -> bool {
        self.enters.is_empty() && self.advances.is_empty()
    }

    /// Whether the next step goes at once, company or not.
    fn goes(&self) -> bool {
        !self.advances.is_empty() || self.enters.len() >= ENTERS_MAX
    }

    /// Whoever is gone meanwhile is left out.
    fn take(&mut self) -> Company {
        self.enters.retain(|(_, told)| !told.is_closed());
        self.advances.retain(|(_, told)| !told.is_closed());
        let most = self.enters.len().min(ENTERS_MAX);
        Company {
            enters: self.enters.drain(..most).collect(),
            advance: (!self.advances.is_empty()).then(|| self.advances.remove(0)),
        }
    }
}

/// Carries what waits at a desk to the gate, until nothing came for a while. Without it, nobody would:
/// however it ends, the desk goes too.
struct Carrier {
    store: Redis,
    event: EventId,
    came: Arc<Notify>,
    ended: bool,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if !self.ended {
            self.store.desks.0.lock().remove(&self.event);
        }
    }
}

impl Carrier {
    async fn run(mut self) {
        let quiet = sleep(LATELY);
        pin!(quiet);
        let mut lately = false;
        loop {
            if self.ended_with(|desk| desk.is_empty() && !lately) {
                return;
            }
            if self.sees(Desk::is_empty) {
                tokio::select! {
                    biased;
                    () = &mut quiet => lately = false,
                    () = self.came.notified() => {}
                }
                continue;
            }
            if lately {
                self.gather().await;
            }
            let company = self.take();
            if !company.enters.is_empty() {
                lately = true;
                quiet.set(sleep(LATELY));
            }
            self.store.carry(&self.event, company).await;
        }
    }

    /// Takes the desk away if it is so: whoever comes then begins another one.
    fn ended_with(&mut self, is_so: impl Fn(&Desk) -> bool) -> bool {
        let mut desks = self.store.desks.0.lock();
        if desks.get(&self.event).is_none_or(is_so) {
            desks.remove(&self.event);
            self.ended = true;
        }
        self.ended
    }

    fn sees(&self, is_so: impl Fn(&Desk) -> bool) -> bool {
        self.store
            .desks
            .0
            .lock()
            .get(&self.event)
            .is_some_and(is_so)
    }

    fn take(&self) -> Company {
        let mut desks = self.store.desks.0.lock();
        desks
            .get_mut(&self.event)
            .map(Desk::take)
            .unwrap_or_default()
    }

    /// Waits for company.
    async fn gather(&self) {
        let moment = sleep(COMPANY);
        pin!(moment);
        while !self.sees(Desk::goes) {
            tokio::select! {
                biased;
                () = &mut moment => return,
                () = self.came.notified() => {}
            }
        }
    }
}

impl Redis {
    pub(super) async fn do_enter(&self, request: EnterRequest) -> Result<Entry, StoreError> {
        let event = request.event.clone();
        self.ask_at_desk(event, |desk| &mut desk.enters, request)
            .await
    }

    pub(super) async fn do_advance(&self, request: AdvanceRequest) -> Result<Advanced, StoreError> {
        let event = request.event.clone();
        self.ask_at_desk(event, |desk| &mut desk.advances, request)
            .await
    }

    /// Has something wait at an event's desk until it was carried to the gate.
    async fn ask_at_desk<Q, A>(
        &self,
        event: EventId,
        line: impl FnOnce(&mut Desk) -> &mut Vec<Asked<Q, A>>,
        question: Q,
    ) -> Result<A, StoreError> {
        let (tell, told) = oneshot::channel();
        {
            let mut desks = self.desks.0.lock();
            let is_new = !desks.contains_key(&event);
            let desk = desks.entry(event.clone()).or_default();
            line(desk).push((question, tell));
            let came = Arc::clone(&desk.came);
            drop(desks);
            if is_new {
                let carrier = Carrier {
                    store: self.clone(),
                    event,
                    came,
                    ended: false,
                };
                tokio::spawn(carrier.run());
            } else {
                came.notify_one();
            }
        }
        let gone = |_| StoreError::again("ask a gate", "whoever carried the question is gone");
        told.await.map_err(gone)?
    }

    /// Takes a step with some company, and tells each of them. Those whose turn it is are let in by
    /// a short call, unless there is more to be done anyway.
    async fn carry(&self, event: &EventId, company: Company) {
        let Company { enters, advance } = company;
        let (mut enters, mut entering): (Vec<_>, Vec<_>) = enters.into_iter().unzip();
        let (advance, advancing) = advance.unzip();
        if advance.is_none() && !enters.is_empty() {
            let entries = match self.admit(event, &enters).await {
                Ok(entries) => entries,
                Err(error) => return tell_all(entering, &error),
            };
            let (asked, told) = (std::mem::take(&mut enters), std::mem::take(&mut entering));
            // Told at once: what becomes of the others is nothing to them.
            for ((enter, told), entry) in asked.into_iter().zip(told).zip(entries) {
                if let Some(entry) = entry {
                    let _ = told.send(Ok(entry));
                } else {
                    enters.push(enter);
                    entering.push(told);
                }
            }
        }
        match self.run_step(event, &enters, advance.as_ref()).await {
            Ok((entries, advanced)) => {
                for (told, entry) in entering.into_iter().zip(entries) {
                    let _ = told.send(Ok(entry));
                }
                if let (Some(told), Some(advanced)) = (advancing, advanced) {
                    let _ = told.send(Ok(advanced));
                }
            }
            Err(error) => {
                tell_all(entering, &error);
                tell_all(advancing, &error);
            }
        }
    }
}

fn tell_all<A>(
    all: impl IntoIterator<Item = oneshot::Sender<Result<A, StoreError>>>,
    error: &StoreError,
) {
    for told in all {
        let _ = told.send(Err(error.clone()));
    }
}
