//! A node under test: the real room and listeners, gates and time in the test's hands.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate::clock::{Clock, ManualTime};
use tidegate::http::{self, Build, Drained, Face, ROUTES, Settings, Shared, serve};
use tidegate::model::Policy;
use tidegate::room::effects::Effects;
use tidegate::room::{self, Room};
use tidegate::telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{Answer, Client, Request, call};
use super::desk::Desk;
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
        let desk = Arc::new(Desk::new(house));
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
