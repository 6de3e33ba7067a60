//! A node under test: the real room and listeners, gates and time in the test's hands.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tidegate::clock::{Clock, ManualTime};
use tidegate::http::{self, Build, Drained, Face, ROUTES, Settings, Shared, serve};
use tidegate::model::gate::{EnterRequest, Entry};
use tidegate::model::{Beat, Change, EventId, Micros, NodeId, Policy, Ruled, Rulings, TicketId};
use tidegate::room::answer::Commit;
use tidegate::room::effects::{Effect, Effects, Nodes, StoreHealth, Unavailable};
use tidegate::room::{self, Room};
use tidegate::telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{Answer, Client, Request, call};
use crate::room::house::{self, House};

pub const ADMIN_TOKEN: &str = "the-admin-token-of-tests";

/// What a site is made of.
pub struct Plan {
    pub http: Settings,
    pub room: room::Settings,
    pub records_max: usize,
    pub events_max: usize,
    pub open_reads: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            http: Settings {
                admin_token: Some(ADMIN_TOKEN.to_owned()),
                drain_timeout: Duration::from_secs(5),
                ..Settings::default()
            },
            room: house::settings(house::policy()),
            records_max: 1_000_000,
            events_max: 100,
            open_reads: true,
        }
    }
}

impl Plan {
    pub fn policy(change: impl FnOnce(&mut Policy)) -> Self {
        let mut plan = Self::default();
        change(&mut plan.room.defaults);
        plan
    }

    pub fn http(change: impl FnOnce(&mut Settings)) -> Self {
        let mut plan = Self::default();
        change(&mut plan.http);
        plan
    }
}

/// The world beyond memory.
pub struct Desk {
    pub house: Mutex<House>,
    pub away: AtomicBool,
    pub durable_asked: AtomicU64,
    pub rulings: Mutex<Rulings>,
}

impl Desk {
    fn answer<T: Send + 'static>(&self, value: impl FnOnce() -> T) -> Effect<'_, T> {
        let outcome = if self.away.load(Ordering::Relaxed) {
            Err(Unavailable("away".to_owned()))
        } else {
            Ok(value())
        };
        Box::pin(std::future::ready(outcome))
    }
}

impl Effects for Desk {
    fn enter(&self, request: EnterRequest) -> Effect<'_, Entry> {
        self.answer(|| self.house.lock().at_gate(&request))
    }

    fn complete(&self, event: EventId, id: TicketId) -> Effect<'_, bool> {
        self.answer(|| {
            let mut house = self.house.lock();
            let gate = house.gates.entry(event).or_default();
            gate.complete(&id, &mut Vec::new())
        })
    }

    fn durable(&self, _commit: Commit) -> Effect<'_, ()> {
        self.durable_asked.fetch_add(1, Ordering::Relaxed);
        self.answer(|| ())
    }

    fn rule(&self, event: EventId, change: Change, at: Micros) -> Effect<'_, Ruled> {
        let keep = Duration::from_secs(3600);
        self.answer(|| self.rulings.lock().rule(&event, &change, at, keep))
    }

    fn spread(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    fn nodes(&self) -> Arc<Nodes> {
        let at = self.house.lock().now;
        let beat = |node, age| Beat {
            node: NodeId(node),
            instance: u64::from(node),
            version: "0.0.0".to_owned(),
            listen: format!("192.0.2.{node}:8000"),
            started: Micros(1),
            at: Micros(at.0 - age),
        };
        Arc::new(Nodes {
            own: NodeId(0),
            size: 3,
            beats: vec![beat(0, 0), beat(2, 16_000_000)],
            number_taken: false,
        })
    }

    fn health(&self) -> StoreHealth {
        if self.away.load(Ordering::Relaxed) {
            StoreHealth::Down
        } else {
            StoreHealth::Up
        }
    }
}

/// A running node.
pub struct Site {
    pub visitor: SocketAddr,
    pub admin: SocketAddr,
    pub shared: Arc<Shared>,
    pub room: Arc<Room>,
    pub desk: Arc<Desk>,
    pub metrics: Arc<Metrics>,
    pub time: ManualTime,
    pub settings: Settings,
    stop: watch::Sender<bool>,
    served: Vec<JoinHandle<Drained>>,
}

impl Site {
    pub async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    pub async fn with(plan: Plan) -> Self {
        let house = House::with(plan.room, plan.records_max, plan.events_max);
        let room = Arc::clone(&house.room);
        room.set_loaded(true);
        let (clock, time) = Clock::manual(house.now.0);
        let desk = Arc::new(Desk {
            house: Mutex::new(house),
            away: AtomicBool::new(false),
            durable_asked: AtomicU64::new(0),
            rulings: Mutex::default(),
        });
        let metrics = Arc::new(Metrics::new(ROUTES));
        let build = Build {
            version: "1.2.3",
            commit: "abcdef0",
            built: "2026-11-20T00:00:00Z",
        };
        let effects: Arc<dyn Effects> = Arc::<Desk>::clone(&desk);
        let shared = Arc::new(Shared::new(
            Arc::clone(&room),
            effects,
            clock,
            Arc::clone(&metrics),
            plan.http.clone(),
            build,
        ));
        let (stop, stopped) = watch::channel(false);
        let mut served = Vec::new();
        let mut start = |face| {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listener = http::server::bind(any).unwrap();
            let address = listener.local_addr().unwrap();
            let mut stopped = stopped.clone();
            let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
            served.push(tokio::spawn(serve(
                listener,
                Arc::clone(&shared),
                face,
                shutdown,
            )));
            address
        };
        let visitor = start(Face::Visitor);
        let admin = start(Face::Admin {
            open_reads: plan.open_reads,
        });
        Self {
            visitor,
            admin,
            shared,
            room,
            desk,
            metrics,
            time,
            settings: plan.http,
            stop,
            served,
        }
    }

    /// Moves time on; gates do what is due.
    pub fn pass(&self, time: Duration) {
        let mut house = self.desk.house.lock();
        house.pass(time);
        self.time.set(house.now.0);
    }

    /// Tells the listeners to stop, without waiting.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until both listeners have ended; the visitors' first.
    pub async fn stopped(self) -> Vec<Drained> {
        self.stop();
        let mut drained = Vec::new();
        for served in self.served {
            drained.push(served.await.unwrap());
        }
        drained
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.visitor).await
    }

    pub async fn call(&self, request: Request) -> Answer {
        call(self.visitor, &request).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.call(Request::get(target)).await
    }

    /// A call on the admin listener, with its token.
    pub async fn operate(&self, request: Request) -> Answer {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        call(self.admin, &request.header("authorization", &bearer)).await
    }

    pub async fn join(&self, event: &str) -> Value {
        let body = format!(r#"{{"event_id": "{event}"}}"#);
        let answer = self.call(Request::post("/api/v1/queue/join", body)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()
    }

    /// Joins, and answers the token.
    pub async fn token(&self, event: &str) -> String {
        self.join(event).await["waiting_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn status(&self, token: &str) -> Answer {
        self.get(&format!("/api/v1/queue/status?token={token}"))
            .await
    }

    pub async fn enter(&self, token: &str) -> Answer {
        let body = format!(r#"{{"waiting_token": "{token}"}}"#);
        self.call(Request::post("/api/v1/queue/enter", body)).await
    }
}
