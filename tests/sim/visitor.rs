//! One visitor: a script that reacts to what it is answered, and writes down all of it.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use tidegate::model::gate::EnterRequest;
use tidegate::model::token::{self, TicketKeys};
use tidegate::model::{Micros, Outage, TicketId, TicketKey};
use tidegate::room::answer::{
    EnterRefusal, EnterStep, Join, JoinRefusal, Joined, Phase, Standing, TokenRefusal,
};

use super::history::{Answer, Call, Seen};
use super::world::{Live, World, sale};

/// What a client waits for an answer, in milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// Clients without an answer try again after this.
const RETRY: Duration = Duration::from_millis(300);

/// Who comes and how they behave. Times in milliseconds.
#[derive(Debug, Clone)]
pub struct Visit {
    pub who: usize,
    /// The number in the idempotency key. Two visitors with one key are one place.
    pub key: usize,
    /// Polls about so often.
    pub every: u64,
    /// What is left to this visitor's chance: nodes, moments.
    pub salt: u64,
    /// Sends the join to two nodes at once.
    pub twice: bool,
    /// Takes a place only when the store has it.
    pub durable: bool,
    /// Goes out again so long after going in; otherwise the pass ends by itself.
    pub done: Option<u64>,
    pub habit: Habit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Polls and enters.
    Waits,
    /// Polls much and tries to enter all the time.
    Hurries,
    /// Leaves after so long.
    Leaves(u64),
    /// Closes the page after so long; the browser says goodbye or does not.
    Closes { after: u64, goodbye: bool },
    /// Loads the page anew now and then, and is back so much later.
    Refreshes { gap: u64 },
    /// Never enters.
    Shirks,
    /// Is away when called, and back so much later.
    Dreams(u64),
    /// Leaves after so long, and joins again with the same key so much later.
    Rejoins { after: u64, gap: u64 },
}

impl Habit {
    pub fn draw(random: &mut StdRng) -> Self {
        let after = random.random_range(200..8_000);
        let gap = random.random_range(20..1_500);
        match random.random_range(0..8) {
            0 => Self::Hurries,
            1 => Self::Leaves(after),
            2 => Self::Closes {
                after,
                goodbye: random.random_bool(0.5),
            },
            3 | 4 => Self::Refreshes { gap },
            5 => Self::Shirks,
            6 => Self::Dreams(random.random_range(2_500..9_000)),
            _ => Self::Rejoins { after, gap },
        }
    }
}

/// A visitor at work.
pub struct Visitor {
    world: Arc<World>,
    visit: Visit,
    random: StdRng,
    keys: TicketKeys,
    token: Option<String>,
    /// Milliseconds of the first place.
    joined: u64,
    dreamt: bool,
    left_once: bool,
}

impl Visitor {
    pub fn new(world: Arc<World>, visit: Visit) -> Self {
        let key = vec![("k1".to_owned(), [7; 32])];
        Self {
            world,
            random: StdRng::seed_from_u64(visit.salt),
            keys: TicketKeys::new("k1", &key).expect("one key"),
            token: None,
            joined: 0,
            dreamt: false,
            left_once: false,
            visit,
        }
    }

    /// Lives until it is inside, gone, or at its end.
    pub async fn live(mut self) {
        self.world.rested().await;
        self.join().await;
        while self.poll().await {
            let every = self.visit.every;
            let jitter = self.random.random_range(0..=every / 5);
            sleep(Duration::from_millis(every - every / 10 + jitter)).await;
            self.world.rested().await;
        }
    }

    fn some_node(&mut self) -> Option<Arc<Live>> {
        let ready = self.world.ready();
        if ready.is_empty() {
            return None;
        }
        let at = self.random.random_range(0..ready.len());
        Some(Arc::clone(&ready[at]))
    }

    fn note(&self, sent: Micros, node: Option<&Live>, call: Call, answer: Answer) {
        self.note_held_up(sent, node, call, answer, false);
    }

    fn note_held_up(
        &self,
        sent: Micros,
        node: Option<&Live>,
        call: Call,
        answer: Answer,
        held_up: bool,
    ) {
        let node = node.map(|node| node.number);
        let who = self.visit.who;
        note(&self.world, sent, who, node, call, answer, held_up);
    }

    async fn join(&mut self) {
        loop {
            self.world.rested().await;
            let both = self.visit.twice.then(|| self.some_node()).flatten();
            if let Some(first) = both.filter(|first| !self.world.is_frozen(first.number)) {
                // The answer of this one is lost.
                let _ = first.room.join(first.now(), &self.ask());
            }
            let (sent, node) = (self.world.now(), self.some_node());
            let Some(node) = node else {
                self.note(sent, None, Call::Join, Answer::Silence);
                sleep(RETRY).await;
                continue;
            };
            let ask = self.ask();
            let take = move |node: &Live| node.room.join(node.now(), &ask);
            let (joined, held_up) = request(&self.world, &node, take).await;
            let answer = match &joined {
                Some(Ok(joined)) if self.is_durable(&node, joined).await => self.taken(joined),
                Some(Ok(_)) | None => Answer::Silence,
                Some(Err(JoinRefusal::Full { .. })) => Answer::Full,
                Some(Err(other)) => unreachable!("no visitor asks for that: {other}"),
            };
            let ready = matches!(answer, Answer::Joined { place: 0, .. });
            let taken = matches!(answer, Answer::Joined { .. });
            self.note_held_up(sent, Some(&node), Call::Join, answer, held_up);
            if taken {
                let joined = joined.and_then(Result::ok);
                self.token = joined.map(|joined| joined.token);
                self.joined = self.world.millis();
                let token = self.token.clone().unwrap_or_default();
                self.world.hold(self.visit.who, token);
                if !ready {
                    sleep(Duration::from_millis(self.visit.every)).await;
                }
                return;
            }
            sleep(RETRY).await;
        }
    }

    fn ask(&self) -> Join<'static> {
        /// Keys that visitors send.
        static KEYS: std::sync::LazyLock<Vec<String>> =
            std::sync::LazyLock::new(|| (0..1_000).map(|n| format!("key {n}")).collect());
        Join {
            event: "sale",
            key: Some(&KEYS[self.visit.key]),
            user: None,
        }
    }

    async fn is_durable(&self, node: &Arc<Live>, joined: &Joined) -> bool {
        if !self.visit.durable || joined.commit.seq == 0 {
            return true;
        }
        let commit = joined.commit;
        let durable = timeout(PATIENCE, node.effects.durable(commit)).await;
        matches!(durable, Ok(Ok(()))) && !node.is_dead()
    }

    fn taken(&self, joined: &Joined) -> Answer {
        let mut buffer = token::buffer();
        let claims = self.keys.verify(&joined.token, &mut buffer);
        let claims = claims.expect("a token that was signed just now");
        Answer::Joined {
            ticket: TicketKey {
                arrival: claims.arrival,
                id: claims.id,
            },
            place: joined.standing.position,
        }
    }

    /// One poll and what follows from it. Answers whether there is to be another.
    async fn poll(&mut self) -> bool {
        let Some(token) = self.token.clone() else {
            return false;
        };
        let age = self.world.millis() - self.joined;
        match self.visit.habit {
            Habit::Leaves(after) if age >= after => {
                self.leave(&token).await;
                return false;
            }
            Habit::Closes { after, goodbye } if age >= after => {
                if goodbye {
                    self.goodbye(&token).await;
                }
                return false;
            }
            Habit::Refreshes { gap } if self.random.random_bool(0.2) => {
                self.goodbye(&token).await;
                sleep(Duration::from_millis(gap)).await;
            }
            Habit::Rejoins { after, gap } if age >= after && !self.left_once => {
                if !self.leave(&token).await {
                    return true;
                }
                self.left_once = true;
                sleep(Duration::from_millis(gap)).await;
                self.join().await;
                return true;
            }
            _ => {}
        }
        let (sent, node) = (self.world.now(), self.some_node());
        let Some(node) = node else {
            self.note(sent, None, Call::Status, Answer::Silence);
            return true;
        };
        let shown = token.clone();
        let take = move |node: &Live| {
            let now = node.now();
            let found = node.room.look(now, &shown);
            found.map(|found| node.room.standing(now, &found))
        };
        let (standing, held_up) = request(&self.world, &node, take).await;
        let answer = standing.map_or(Answer::Silence, |standing| seen(&standing));
        self.note_held_up(sent, Some(&node), Call::Status, answer.clone(), held_up);
        match answer {
            Answer::Inside | Answer::Gone(_) | Answer::Unknown => false,
            Answer::Place { place, .. } => {
                let ready = place == 0;
                match self.visit.habit {
                    Habit::Shirks if ready => return false,
                    Habit::Dreams(by) if ready && !self.dreamt => {
                        self.dreamt = true;
                        sleep(Duration::from_millis(by)).await;
                        return true;
                    }
                    Habit::Hurries => {}
                    _ if !ready => return true,
                    _ => {}
                }
                !self.enter(&token, &node).await
            }
            _ => true,
        }
    }

    /// Frees its place inside.
    async fn go_out(&mut self) {
        let ticket = self.token.as_deref().map(id_of);
        let (Some(after), Some(ticket), Some(node)) = (self.visit.done, ticket, self.some_node())
        else {
            return;
        };
        sleep(Duration::from_millis(after)).await;
        if !self.world.is_frozen(node.number) {
            let _ = node.effects.complete(sale(), ticket).await;
        }
    }

    /// Tries to enter, once or, after a lost answer, again. Answers whether it is inside.
    async fn enter(&mut self, token: &str, told: &Arc<Live>) -> bool {
        let mut again = self.random.random_bool(0.3);
        let shares = self.world.setting.policy.outage == Outage::Share;
        // Connections last: often the same node is asked.
        let mut stays = shares && self.random.random_bool(0.7);
        loop {
            let (sent, mut node) = (self.world.now(), self.some_node());
            if std::mem::take(&mut stays) && !told.is_dead() && !told.is_stopping() {
                node = Some(Arc::clone(told));
            }
            let Some(node) = node else {
                return false;
            };
            let (answer, held_up) = ask_to_enter(&self.world, &node, token).await;
            let inside = matches!(answer, Answer::Pass { .. });
            let gone = matches!(answer, Answer::Gone(_));
            self.note_held_up(sent, Some(&node), Call::Enter, answer, held_up);
            if inside && !again {
                self.go_out().await;
            }
            if !(inside && again) {
                return inside || gone;
            }
            // The answer was lost on the way to the page, say: the same pass is there to be had.
            again = false;
            sleep(Duration::from_millis(self.random.random_range(1..1_500))).await;
        }
    }

    async fn leave(&mut self, token: &str) -> bool {
        let (sent, node) = (self.world.now(), self.some_node());
        let Some(node) = node else {
            self.note(sent, None, Call::Leave, Answer::Silence);
            return false;
        };
        let shown = token.to_owned();
        let take = move |node: &Live| node.room.leave(node.now(), &shown);
        let (_, held_up) = request(&self.world, &node, take).await;
        self.note_held_up(sent, Some(&node), Call::Leave, Answer::Bye, held_up);
        true
    }

    /// Nobody waits for an answer to this: it is noted when it is taken.
    async fn goodbye(&mut self, token: &str) {
        let (sent, node) = (self.world.now(), self.some_node());
        let Some(node) = node else {
            return self.note(sent, None, Call::Beacon, Answer::Silence);
        };
        let (shown, who, world) = (token.to_owned(), self.visit.who, Arc::clone(&self.world));
        let take = move |node: &Live| {
            node.room.leave_softly(node.now(), &shown);
            let (at, number) = (world.now(), Some(node.number));
            note(&world, at, who, number, Call::Beacon, Answer::Bye, false);
        };
        if let Some(after) = self.world.held_up(node.number) {
            drop(take_later(&self.world, &node, after, take));
        } else {
            take(&node);
        }
    }
}

fn note(
    world: &World,
    sent: Micros,
    who: usize,
    node: Option<u16>,
    call: Call,
    answer: Answer,
    held_up: bool,
) {
    world.history.lock().push(Seen {
        sent,
        got: world.now(),
        who,
        node,
        call,
        answer,
        held_up,
    });
}

/// What a node answers to what it is asked, if it does in time, and whether that lay there first.
async fn request<T: Send + 'static>(
    world: &World,
    node: &Arc<Live>,
    take: impl FnOnce(&Live) -> T + Send + 'static,
) -> (Option<T>, bool) {
    let Some(after) = world.held_up(node.number) else {
        return (Some(take(node)), false);
    };
    let told = take_later(world, node, after, take);
    let answer = timeout(PATIENCE, told).await.ok().and_then(Result::ok);
    (answer.filter(|_| !node.is_dead()), true)
}

/// Has a node take a request after a while, whether or not its client is still there.
fn take_later<T: Send + 'static>(
    world: &World,
    node: &Arc<Live>,
    after: Duration,
    take: impl FnOnce(&Live) -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (tell, told) = oneshot::channel();
    let at = Arc::clone(node);
    world.handle(node.number).spawn(async move {
        if !after.is_zero() {
            sleep(after).await;
        }
        if !at.is_dead() {
            let _ = tell.send(take(&at));
        }
    });
    told
}

fn seen(standing: &Result<Standing, TokenRefusal>) -> Answer {
    match standing {
        Ok(standing) if standing.phase == Phase::Entered => Answer::Inside,
        Ok(standing) => Answer::Place {
            place: standing.position,
            degraded: standing.degraded,
        },
        Err(TokenRefusal::Gone(why)) => Answer::Gone(*why),
        Err(TokenRefusal::NotFound) => Answer::Unknown,
    }
}

/// The whole call: it goes on at the node though its client gives up. With it, whether it lay there
/// before it was taken.
pub async fn ask_to_enter(world: &Arc<World>, node: &Arc<Live>, token: &str) -> (Answer, bool) {
    let held_up = world.held_up(node.number);
    let step = match held_up {
        None => match first_step(world, node, token) {
            Ok(request) => Some(request),
            Err(answer) => return (answer, false),
        },
        Some(_) => None,
    };
    let (tell, told) = oneshot::channel();
    let (at, world, token) = (Arc::clone(node), Arc::clone(world), token.to_owned());
    let handle = world.handle(node.number).clone();
    handle.spawn(async move {
        if let Some(after) = held_up.filter(|after| !after.is_zero()) {
            sleep(after).await;
        }
        if at.is_dead() {
            return;
        }
        let request = match step.map_or_else(|| first_step(&world, &at, &token), Ok) {
            Ok(request) => request,
            Err(answer) => return drop(tell.send(answer)),
        };
        let entry = at.effects.enter((*request).clone()).await;
        if at.is_dead() {
            return;
        }
        let admission = match entry {
            Ok(entry) => at.room.entered(at.now(), &request, entry),
            Err(_) => Err(at.room.enter_failed(at.now(), &request)),
        };
        let _ = tell.send(match admission {
            Ok(admission) => Answer::Pass {
                pass: admission.pass,
                ttl_sec: admission.ttl_sec,
            },
            Err(refused) => refusal(refused),
        });
    });
    let answer = match timeout(PATIENCE, told).await {
        Ok(Ok(answer)) if !node.is_dead() => answer,
        _ => Answer::Silence,
    };
    (answer, held_up.is_some())
}

/// What the store is to be asked, or the answer if it need not be.
fn first_step(world: &World, node: &Live, token: &str) -> Result<Box<EnterRequest>, Answer> {
    // Turns that are given without the store are used up by this.
    world.note_shared(node);
    match node.room.enter(node.now(), token) {
        Ok(EnterStep::Ask(request)) => Ok(request),
        Ok(EnterStep::Granted(admission)) => {
            world.note_shared_entry(node, id_of(token));
            Err(Answer::Pass {
                pass: admission.pass,
                ttl_sec: admission.ttl_sec,
            })
        }
        Err(refused) => Err(refusal(refused)),
    }
}

/// The ticket that a token names.
pub fn id_of(token: &str) -> TicketId {
    let keys = TicketKeys::new("k1", &[("k1".to_owned(), [7; 32])]).expect("one key");
    let mut buffer = token::buffer();
    let claims = keys.verify(token, &mut buffer);
    claims.expect("a token that was signed here").id
}

fn refusal(refused: EnterRefusal) -> Answer {
    match refused {
        EnterRefusal::Token(TokenRefusal::Gone(why)) => Answer::Gone(why),
        EnterRefusal::Token(TokenRefusal::NotFound) => Answer::Unknown,
        EnterRefusal::Unavailable { .. } => Answer::Unavailable,
        _ => Answer::NotReady,
    }
}
