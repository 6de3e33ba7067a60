//! One visitor: joins, polls as told, enters when ready, and misbehaves as their kind does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::plan::{Kind, Person, REFRESHES, SECOND, Terms, event_name};
use super::story::{Call, End, Place, Seen, Story, What};
use crate::kit::balancer::NODE;
use crate::kit::client::{Answer, Exchange, Pool, Request};

/// After how many calls in a row without an answer a visitor gives up: the server is gone for good.
const FAILURES_MAX: u32 = 150;

/// What all visitors share.
pub struct Sale {
    pub seed: u64,
    pub terms: Terms,
    pub pool: Pool,
    /// How many have entered so far.
    pub entered: watch::Sender<usize>,
    /// When the events were paused for good, which ends the sale for those who still wait.
    pub closed: AtomicU64,
    /// Whether those who wait may go: everybody knows of the pause.
    pub closing: AtomicBool,
}

#[derive(Deserialize)]
struct JoinAnswer {
    waiting_token: String,
    status: String,
    position: u64,
    position_hint: u64,
    eta_sec: u64,
    ready_for_entry: bool,
    poll_after_ms: u64,
    total_waiting: u64,
}

#[derive(Deserialize)]
struct StatusAnswer {
    status: String,
    position: u64,
    eta_sec: u64,
    waiting_time: u64,
    ready_for_entry: bool,
    poll_after_ms: u64,
    total_waiting: u64,
    enter_within_sec: Option<u64>,
}

#[derive(Deserialize)]
struct EnterAnswer {
    admission: String,
    reservation_token: String,
    ttl_sec: u64,
}

/// A visit under way.
struct Visit<'a> {
    sale: &'a Sale,
    person: Person,
    rng: StdRng,
    seen: Vec<Seen>,
    token: String,
    /// The latest place told.
    place: Place,
    joined_at: u64,
    /// When the next poll is due, as advised.
    due: u64,
    /// Calls in a row without an answer.
    failures: u32,
}

/// Lives through one visit and tells it.
pub async fn visit(sale: &Sale, person: Person) -> Story {
    sleep_until(sale.pool.stopwatch.at(person.arrives)).await;
    let place = Place {
        position: 0,
        ready: false,
        entered: false,
        within: None,
    };
    let rng = StdRng::seed_from_u64(person.seed);
    let (token, seen) = (String::new(), Vec::new());
    let mut visit = Visit {
        sale,
        person,
        rng,
        seen,
        token,
        place,
        joined_at: 0,
        due: 0,
        failures: 0,
    };
    let end = visit.live().await;
    let mut epilogue = Vec::new();
    if end == End::Left {
        // When the next poll is due, as from a tab that was forgotten.
        sleep_until(sale.pool.stopwatch.at(visit.due)).await;
        epilogue.push(status(sale, &visit.token, visit.due).await.0);
    }
    let Person {
        event,
        visitor,
        kind,
        ..
    } = person;
    Story {
        event,
        visitor,
        kind,
        seen: visit.seen,
        end,
        epilogue,
    }
}

/// Asks after the end of the sale what became of a closed tab, and for the pass of one inside again.
pub async fn look_back(sale: &Sale, mut story: Story) -> Story {
    let token = story.token().map(str::to_owned);
    let Some(token) = token else { return story };
    match (story.end, story.kind) {
        (End::ClosedTab, _) => story.epilogue.push(status(sale, &token, 0).await.0),
        (End::Entered, Kind::Repeats) => {
            let inside = status(sale, &token, 0).await.0;
            let again = enter(sale, &token).await;
            story.epilogue.extend([inside, again]);
        }
        _ => {}
    }
    story
}

impl Visit<'_> {
    async fn live(&mut self) -> End {
        if !self.join().await {
            return End::Unfinished;
        }
        let mut refreshes = if self.person.kind == Kind::Refreshes {
            REFRESHES
        } else {
            0
        };
        let mut once = true;
        while self.patient() {
            if self.place.ready || self.place.entered {
                match self.person.kind {
                    Kind::Shirks => return End::ClosedTab,
                    Kind::Dawdles if once => {
                        once = false;
                        let beyond = self.rng.random_range(SECOND..3 * SECOND);
                        self.wait(self.sale.terms.ready_ttl + beyond).await;
                    }
                    _ => match self.enter().await {
                        What::Granted { .. } => return End::Entered,
                        What::Gone { .. } => return End::Lost,
                        _ => self.wait_turn().await,
                    },
                }
            } else if refreshes > 0 {
                refreshes -= 1;
            } else {
                self.wait_turn().await;
            }
            let since_join = self.now().saturating_sub(self.joined_at);
            match self.person.kind {
                Kind::ClosesTab(after) if since_join >= after => return End::ClosedTab,
                Kind::Leaves(after) if since_join >= after => {
                    if matches!(self.leave("DELETE", Call::Leave).await, What::Left) {
                        return End::Left;
                    }
                }
                Kind::ComesBack(after) if once && since_join >= after => {
                    once = false;
                    self.leave("POST", Call::Beacon).await;
                    let away = self.rng.random_range(3 * SECOND / 10..15 * SECOND / 10);
                    self.wait(away).await;
                }
                _ => {}
            }
            let closing = self.sale.closing.load(Ordering::Relaxed);
            match self.poll().await {
                What::Gone { .. } => return End::Lost,
                What::Told(place) if closing && place.position > 0 => {
                    if self.seen.iter().all(|seen| !seen.is_ready()) {
                        return End::Waits;
                    }
                    // Whoever missed a turn is counted by nobody, and goes.
                    if matches!(self.leave("DELETE", Call::Leave).await, What::Left) {
                        return End::Left;
                    }
                }
                _ => {}
            }
        }
        End::Unfinished
    }

    /// Joins, retrying while there is no answer.
    async fn join(&mut self) -> bool {
        let Person {
            event,
            visitor,
            keyed,
            ..
        } = self.person;
        let body = format!(
            r#"{{"event_id":"{}","user_id":"visitor-{visitor}"}}"#,
            event_name(event)
        );
        let key = format!("{}-{visitor}", self.sale.seed);
        let header = [("Idempotency-Key", key.as_str())];
        let headers = if keyed { &header[..] } else { &[] };
        let request = Request {
            headers,
            ..Request::post("/api/v1/queue/join", &body)
        };
        while self.patient() {
            let exchange = self.sale.pool.call(&request).await;
            let (mut seen, place, poll_after) = read_join(exchange);
            // A repeated join may be answered as the first one was.
            seen.early = !self.token.is_empty();
            let joined = matches!(seen.what, What::Joined { .. });
            if let What::Joined { token, .. } = &seen.what
                && self.token.is_empty()
            {
                self.token.clone_from(token);
                self.joined_at = seen.received;
            }
            self.learn(seen, place, poll_after);
            if !joined {
                self.pause().await;
            } else if self.person.kind != Kind::Repeats || self.seen.len() > 1 {
                return true;
            }
        }
        false
    }

    async fn poll(&mut self) -> What {
        let mut calls = if self.person.kind == Kind::Repeats {
            2
        } else {
            1
        };
        loop {
            let (seen, place, poll_after) = status(self.sale, &self.token, self.due).await;
            let what = self.learn(seen, place, poll_after);
            calls -= 1;
            if calls == 0 || matches!(what, What::Gone { .. }) {
                return what;
            }
        }
    }

    /// Enters, retrying while there is no answer.
    async fn enter(&mut self) -> What {
        loop {
            let seen = enter(self.sale, &self.token).await;
            let what = self.learn(seen, None, None);
            if matches!(what, What::Granted { .. }) {
                self.sale.entered.send_modify(|entered| *entered += 1);
                if self.person.kind == Kind::Repeats {
                    let again = enter(self.sale, &self.token).await;
                    self.learn(again, None, None);
                }
            }
            if matches!(what, What::Failed { .. }) && self.patient() {
                self.pause().await;
            } else {
                return what;
            }
        }
    }

    async fn leave(&mut self, method: &str, call: Call) -> What {
        let target = format!("/api/v1/queue/leave?token={}", self.token);
        let request = Request {
            method,
            ..Request::get(&target)
        };
        let exchange = self.sale.pool.call(&request).await;
        let seen = read(exchange, call, |answer| match (answer.status, call) {
            (200, Call::Leave) if answer.json()["status"] == "left" => Some(What::Left),
            (200, Call::Beacon) if answer.json()["status"] == "leaving" => Some(What::LeftSoftly),
            _ => None,
        });
        self.learn(seen, None, None)
    }

    fn learn(&mut self, seen: Seen, place: Option<Place>, poll_after: Option<u64>) -> What {
        if let Some(place) = place {
            self.place = place;
        }
        if matches!(seen.what, What::NotReady { .. }) {
            self.place.ready = false;
        }
        if matches!(seen.what, What::Failed { .. } | What::Odd { .. }) {
            // Ask again soon, not at once.
            self.due = self.due.max(seen.received + SECOND / 2);
        }
        let failed = matches!(seen.what, What::Failed { .. });
        self.failures = if failed { self.failures + 1 } else { 0 };
        if let Some(poll_after) = poll_after {
            self.due = seen.received + poll_after;
        }
        let what = seen.what.clone();
        self.seen.push(seen);
        what
    }

    fn patient(&self) -> bool {
        self.now() < self.sale.terms.patience && self.failures < FAILURES_MAX
    }

    fn now(&self) -> u64 {
        self.sale.pool.stopwatch.us()
    }

    /// Waits as long as the visitor was advised to.
    async fn wait_turn(&self) {
        sleep_until(self.sale.pool.stopwatch.at(self.due)).await;
    }

    async fn wait(&self, us: u64) {
        sleep(Duration::from_micros(us)).await;
    }

    /// Waits a little after a failed call, as a browser would.
    async fn pause(&mut self) {
        let us = self.rng.random_range(SECOND / 5..SECOND / 2);
        self.wait(us).await;
    }
}

async fn status(sale: &Sale, token: &str, due: u64) -> (Seen, Option<Place>, Option<u64>) {
    let target = format!("/api/v1/queue/status?token={token}");
    let exchange = sale.pool.call(&Request::get(&target)).await;
    let mut told = None;
    let mut seen = read(exchange, Call::Status, |answer| {
        let status: StatusAnswer = body(answer, 200)?;
        let mut place = place(
            &status.status,
            status.position,
            status.ready_for_entry,
            status.eta_sec,
        )?;
        place.within = status.enter_within_sec.map(|sec| sec * SECOND);
        let plausible = place.entered || status.poll_after_ms > 0;
        // Everybody told to wait is among those waiting, and nobody waited longer than the sale.
        let sane = plausible && status.waiting_time < 3600 && status.total_waiting < 1 << 40;
        told = Some((place, status.poll_after_ms * 1000));
        sane.then_some(What::Told(place))
    });
    seen.early = seen.sent < due;
    (
        seen,
        told.map(|(place, _)| place),
        told.map(|(_, poll_after)| poll_after),
    )
}

async fn enter(sale: &Sale, token: &str) -> Seen {
    let body_text = format!(r#"{{"waiting_token":"{token}"}}"#);
    let exchange = sale
        .pool
        .call(&Request::post("/api/v1/queue/enter", &body_text))
        .await;
    read(exchange, Call::Enter, |answer| {
        if answer.status == 403 && error_code(answer) == "NOT_READY" {
            let reason = answer.json()["error"]["reason"].as_str()?.to_owned();
            answer.header("retry-after")?;
            return Some(What::NotReady { reason });
        }
        let EnterAnswer {
            admission,
            reservation_token,
            ttl_sec,
        } = body(answer, 200)?;
        let granted = admission == "granted" && ttl_sec > 0 && !reservation_token.is_empty();
        granted.then_some(What::Granted {
            reservation: reservation_token,
        })
    })
}

fn read_join(exchange: Exchange) -> (Seen, Option<Place>, Option<u64>) {
    let mut told = None;
    let seen = read(exchange, Call::Join, |answer| {
        let join: JoinAnswer = body(answer, 202)?;
        let place = place(
            &join.status,
            join.position,
            join.ready_for_entry,
            join.eta_sec,
        )?;
        let sane = join.position_hint < 1 << 40 && join.total_waiting < 1 << 40;
        told = Some((place, join.poll_after_ms * 1000));
        (sane && !join.waiting_token.is_empty()).then_some(What::Joined {
            token: join.waiting_token,
            place,
        })
    });
    (
        seen,
        told.map(|(place, _)| place),
        told.map(|(_, poll_after)| poll_after),
    )
}

/// The place in an answer, when its fields agree with one another as the API promises.
fn place(status: &str, position: u64, ready: bool, eta_sec: u64) -> Option<Place> {
    let entered = match status {
        "waiting" => false,
        "ready" => true,
        _ => return None,
    };
    let consistent = if entered || ready {
        position == 0 && eta_sec == 0
    } else {
        position >= 1 && eta_sec >= 1
    };
    consistent.then_some(Place {
        position,
        ready: ready && !entered,
        entered,
        within: None,
    })
}

fn body<T: DeserializeOwned>(answer: &Answer, status: u16) -> Option<T> {
    if answer.status != status {
        return None;
    }
    serde_json::from_slice(&answer.body).ok()
}

fn error_code(answer: &Answer) -> String {
    answer.json()["error"]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Puts an exchange into a visitor's words. What `good` does not know is gone, or odd.
fn read(exchange: Exchange, call: Call, good: impl FnOnce(&Answer) -> Option<What>) -> Seen {
    let answer = exchange.answer.as_ref().ok();
    let node = answer.and_then(|answer| answer.header(NODE)?.parse().ok());
    let what = match exchange.answer {
        Err(error) => What::Failed {
            error: error.to_string(),
        },
        Ok(answer) => good(&answer).unwrap_or_else(|| match answer.status {
            404 => What::Gone {
                code: error_code(&answer),
            },
            status => What::Odd {
                status,
                text: answer.text(),
            },
        }),
    };
    let Exchange { sent, received, .. } = exchange;
    Seen {
        call,
        sent,
        received,
        early: false,
        node,
        what,
    }
}
