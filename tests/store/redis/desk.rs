//! What one node asks of a gate goes together, and is still each one's own.

use std::sync::Arc;
use std::time::Duration;

use tidegate::model::Micros;
use tidegate::model::gate::{EnterRequest, Entry, Turn};
use tidegate::store::redis::Mode;
use tidegate::store::{Redis, Retry, Store, StoreError};
use tokio::task::JoinHandle;

use crate::kit::cluster::Server;
use crate::kit::links::{Links, Way, name};
use crate::store::kit::*;

/// Longer than any answer takes that comes.
const LONG: Duration = Duration::from_secs(30);
/// For answers that do not come.
const SHORT: Duration = Duration::from_millis(300);

/// A store whose way to its server can be cut.
struct Far {
    server: Server,
    links: Links,
    store: Arc<Redis>,
}

impl Far {
    async fn open(patience: Duration) -> Self {
        let server = Server::start(&[]);
        let rules = [
            "ACL",
            "SETUSER",
            &name(0),
            "on",
            ">word",
            "~*",
            "&*",
            "+@all",
        ];
        server.run::<String>(&rules);
        let links = Links::start(1, &[server.port]).await;
        let clock = Some(Clock::new().as_store_clock());
        let mut settings = redis_settings(links.fronts[0], Mode::Single, clock);
        settings.response_timeout = patience;
        settings.connection_timeout = patience;
        settings.user = Some(name(0));
        settings.password = Some("word".to_owned());
        let store = Arc::new(Redis::open(settings).await.unwrap());
        // The server sees the scripts once, or it would ask for them when its answers do not come.
        let refused = store.enter(enter(99)).await.unwrap();
        assert_eq!(refused, Entry::NotCalled);
        Self {
            server,
            links,
            store,
        }
    }

    async fn call(&self, last: u128) {
        let request = advance(1, 0, ids(1..last + 1));
        let answer = self.store.advance(request).await.unwrap();
        assert_eq!(answer.called.len(), last as usize);
    }

    fn enter(&self, number: u128, claims: bool) -> JoinHandle<Result<Entry, StoreError>> {
        let turn = Turn {
            id: id(number),
            until: Micros(START + SECOND),
        };
        let request = EnterRequest {
            claim: claims.then_some(turn),
            ..enter(number)
        };
        let store = Arc::clone(&self.store);
        tokio::spawn(async move { store.enter(request).await })
    }

    /// One ticket enters, and its answer does not come: what others ask meanwhile waits, and then
    /// goes together.
    async fn enter_unheard(&self, number: u128) -> JoinHandle<Result<Entry, StoreError>> {
        self.links.set(0, Way::Deaf);
        let entering = self.enter(number, false);
        while self.inside() == 0 {
            tokio::task::yield_now().await;
        }
        entering
    }

    /// How many are inside, as the server has it.
    fn inside(&self) -> usize {
        let keys = self.server.run::<Vec<String>>(&["KEYS", "*:entered:e"]);
        let inside = keys
            .iter()
            .map(|key| self.server.run::<usize>(&["ZCARD", key]));
        inside.sum()
    }

    async fn enters_now(&self, number: u128) -> Entry {
        self.enter(number, false).await.unwrap().unwrap()
    }
}

fn granted() -> Entry {
    Entry::Granted {
        at: Micros(START),
        now: Micros(START),
    }
}

fn again() -> Entry {
    Entry::Again {
        at: Micros(START),
        now: Micros(START),
    }
}

#[tokio::test]
async fn who_gives_up_takes_nobodys_answer_along() {
    let far = Far::open(LONG).await;
    far.call(3).await;
    let carried = far.enter_unheard(1).await;
    let (waiting, patient) = (far.enter(2, false), far.enter(3, false));
    // Both are at the desk.
    tokio::task::yield_now().await;
    carried.abort();
    waiting.abort();
    assert!(carried.await.unwrap_err().is_cancelled());
    assert!(waiting.await.unwrap_err().is_cancelled());
    far.links.set(0, Way::Open);
    assert_eq!(patient.await.unwrap().unwrap(), granted());
    assert_eq!(far.inside(), 2, "who left before the step is not in it");
    assert_eq!(far.enters_now(1).await, again());
    assert_eq!(far.enters_now(2).await, granted());
}

#[tokio::test]
async fn all_of_a_company_hear_that_it_failed_and_lose_nothing() {
    let far = Far::open(SHORT).await;
    far.call(3).await;
    let first = far.enter_unheard(1).await;
    let others = [far.enter(2, false), far.enter(3, false)];
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.retry, Retry::Unknown);
    for other in others {
        let error = other.await.unwrap().unwrap_err();
        assert_ne!(error.retry, Retry::Never);
    }
    far.links.set(0, Way::Open);
    assert_eq!(far.enters_now(1).await, again());
    assert_eq!(far.enters_now(2).await, granted());
    assert_eq!(far.enters_now(3).await, granted());
}

#[tokio::test]
async fn what_fails_for_one_is_nothing_to_those_let_in() {
    let far = Far::open(LONG).await;
    far.call(3).await;
    let gate = far.server.run::<Vec<String>>(&["KEYS", "*:gate:e"]);
    let first = far.enter_unheard(1).await;
    far.server.run::<usize>(&["DEL", &gate[0]]);
    far.server
        .run::<String>(&["SET", &gate[0], "of another type"]);
    let (claiming, called) = (far.enter(9, true), far.enter(2, false));
    tokio::task::yield_now().await;
    far.links.set(0, Way::Open);
    assert_eq!(first.await.unwrap().unwrap(), granted());
    assert_eq!(called.await.unwrap().unwrap(), granted());
    claiming.await.unwrap().unwrap_err();
    assert_eq!(far.inside(), 2);
}
