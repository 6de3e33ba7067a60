//! What a node does and does not do before its store was heard.

use std::sync::Arc;
use std::time::Duration;

use tidegate::app::Node;
use tidegate::clock::{Clock, ManualTime};
use tidegate::config::{Config, StoreStart};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::{Claims, TicketKeys};
use tidegate::model::{Batch, EventId, Kind, Micros, NodeId, Policy, Record, TicketId};
use tidegate::store::fault::{Call, Fault, Faults, Faulty};
use tidegate::store::memory::Settings;
use tidegate::store::{Memory, Store};

use crate::api::client::{Answer, Client, Request};

const NOW: u64 = 1_800_000_000_000_000;
const SECOND: u64 = 1_000_000;
const PARTITIONS: u16 = 24;
/// How many calls a store is asked with that does not answer.
const FOR_EVER: u32 = u32::MAX;

type World = (Arc<Faulty<Memory>>, Clock, ManualTime);

fn world() -> World {
    let (clock, time) = Clock::manual(NOW);
    let store_clock = clock.clone();
    let now = Arc::new(move || Micros(store_clock.now_micros()));
    let store = Faulty::new(Memory::new(Settings::default(), now));
    (Arc::new(store), clock, time)
}

fn config(policy: Policy) -> Config {
    let mut config = Config::default();
    config.server.listen.set_port(0);
    config.server.admin_listen = None;
    config.store.start = StoreStart::Serve;
    config.defaults = policy;
    config
}

fn keys() -> (TicketKeys, PassKeys) {
    let key = vec![("k1".to_owned(), [7; 32])];
    (
        TicketKeys::new("k1", &key).unwrap(),
        PassKeys::new("k1", &key).unwrap(),
    )
}

async fn start(config: &Config, world: &World) -> Node {
    let (store, clock, _) = world;
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    Node::start(config, clock.clone(), store, keys())
        .await
        .unwrap()
}

fn ticket(number: u8) -> TicketId {
    TicketId::from_bytes([number; 16])
}

/// Writes what an earlier life of the node wrote.
async fn wrote(store: &Memory, number: u8, kinds: &[(Kind, u64)]) {
    let id = ticket(number);
    let record = |&(kind, at)| Record {
        kind,
        id,
        at: Micros(at),
    };
    let batch = Batch {
        node: NodeId(0),
        epoch: 1,
        seq: u64::from(number),
        clock: Micros(NOW),
        events: vec![(
            EventId::new("sale").unwrap(),
            kinds.iter().map(record).collect(),
        )],
    };
    let partition = id.partition(PARTITIONS);
    store.append(partition, Arc::new(batch)).await.unwrap();
}

/// The token that an earlier life gave out.
fn token(number: u8, arrival: u64) -> String {
    keys().0.sign(&Claims {
        event: "sale",
        id: ticket(number),
        slot: 0,
        arrival: Micros(arrival),
        node: NodeId(0),
        epoch: 1,
        told: None,
    })
}

async fn status(client: &mut Client, token: &str) -> Answer {
    let target = format!("/api/v1/queue/status?token={token}");
    client.call(&Request::get(&target)).await
}

async fn join(client: &mut Client) -> Answer {
    let body = r#"{"event_id": "sale"}"#;
    client
        .call(&Request::post("/api/v1/queue/join", body))
        .await
}

async fn enter(client: &mut Client, token: &str) -> Answer {
    let body = format!(r#"{{"waiting_token": "{token}"}}"#);
    let target = "/api/v1/queue/enter";
    client.call(&Request::post(target, &body)).await
}

fn asked(faults: &Faults) -> u64 {
    let calls = [
        Call::Append,
        Call::Follow,
        Call::Load,
        Call::Gates,
        Call::Advance,
        Call::Enter,
        Call::Settle,
        Call::Rulings,
        Call::Rule,
        Call::RestoreRulings,
        Call::Erase,
    ];
    calls.into_iter().map(|call| faults.calls(call)).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_told_and_given_and_nobody_is_called_until_the_store_was_merged_in() {
    let world = world();
    let (store, _, time) = &world;
    let faults = store.faults();
    store.inner().meta(PARTITIONS).await.unwrap();
    // One waits whose owner does not poll; one polls; one entered; one left.
    wrote(store.inner(), 1, &[(Kind::Joined, NOW - 40 * SECOND)]).await;
    wrote(store.inner(), 2, &[(Kind::Joined, NOW - 30 * SECOND)]).await;
    let entered = [
        (Kind::Joined, NOW - 50 * SECOND),
        (Kind::Entered, NOW - 20 * SECOND),
    ];
    wrote(store.inner(), 3, &entered).await;
    let left = [
        (Kind::Joined, NOW - 45 * SECOND),
        (Kind::Left, NOW - 20 * SECOND),
    ];
    wrote(store.inner(), 4, &left).await;
    faults.fail(Call::Meta, FOR_EVER, Fault::Lost);

    let config = config(Policy::default());
    let node = start(&config, &world).await;
    let mut client = Client::connect(node.listen).await;
    let ready = client.call(&Request::get("/readyz")).await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["dependencies"]["store"], "down");
    // A signature is believed, whatever became of the ticket.
    for (number, ago) in [(2, 30), (3, 50), (4, 45)] {
        let answer = status(&mut client, &token(number, NOW - ago * SECOND)).await;
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        let told = answer.json();
        assert_eq!(told["degraded"], true);
        assert_eq!(told["ready_for_entry"], false);
        assert_eq!(told["reason"], "calculating");
    }
    let joined = join(&mut client).await;
    assert_eq!(joined.status, 202);
    let newest = joined.json()["waiting_token"].as_str().unwrap().to_owned();
    let waiting = token(2, NOW - 30 * SECOND);
    assert_eq!(enter(&mut client, &waiting).await.status, 503);
    // Nobody expires, and nobody's turn comes, however much time goes by.
    time.advance(Duration::from_secs(3_600));
    assert_eq!(status(&mut client, &newest).await.json()["position"], 4);
    assert_eq!(
        asked(&faults),
        0,
        "the store was asked for more than who it is"
    );

    faults.heal();
    faults.called(Call::Append, 1).await;
    time.advance(Duration::from_millis(100));
    let third = enter(&mut client, &token(3, NOW - 50 * SECOND)).await;
    assert_eq!(
        third.json()["error"]["reason"],
        "entered",
        "nobody enters twice"
    );
    let fourth = status(&mut client, &token(4, NOW - 45 * SECOND)).await;
    assert_ne!(fourth.status, 200, "who left has left");
    faults.called(Call::Advance, 1).await;
    assert_eq!(
        faults.calls(Call::RestoreRulings),
        0,
        "a store that was only not loaded is not refilled"
    );
    loop {
        // Turns come now, in the order of the whole line, and entering works.
        time.advance(Duration::from_millis(100));
        let answer = enter(&mut client, &newest).await;
        if answer.status == 200 {
            break;
        }
        assert!(matches!(answer.status, 403 | 503), "{}", answer.text());
    }
    assert_eq!(
        status(&mut client, &waiting).await.json()["ready_for_entry"],
        true
    );
    node.stop(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passthrough_lets_nobody_through_before_the_store_was_heard() {
    let world = world();
    let faults = world.0.faults();
    faults.fail(Call::Meta, FOR_EVER, Fault::Lost);
    let policy = Policy {
        order: tidegate::model::Order::Passthrough,
        ..Policy::default()
    };
    let config = config(policy);
    let node = start(&config, &world).await;
    let mut client = Client::connect(node.listen).await;
    let joined = join(&mut client).await.json();
    assert_eq!(joined["ready_for_entry"], false, "{joined}");
    let token = joined["waiting_token"].as_str().unwrap();
    assert_eq!(
        status(&mut client, token).await.json()["ready_for_entry"],
        false
    );
    // Records are written when they are a little old.
    world.2.advance(Duration::from_secs(1));
    faults.heal();
    faults.called(Call::Append, 1).await;
    assert_eq!(
        status(&mut client, token).await.json()["ready_for_entry"],
        true
    );
    assert_eq!(enter(&mut client, token).await.status, 200);
    node.stop(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_shape_stops_the_node_and_is_not_written_to() {
    let world = world();
    let faults = world.0.faults();
    world.0.inner().meta(8).await.unwrap();
    faults.fail(Call::Meta, 1, Fault::Lost);
    let config = config(Policy::default());
    let mut node = start(&config, &world).await;
    let mut client = Client::connect(node.listen).await;
    assert_eq!(join(&mut client).await.status, 202);
    let error = node.failed().await.to_string();
    assert!(
        error.contains("8 partitions") && error.contains("with 24"),
        "{error}"
    );
    node.stop(&config).await;
    assert_eq!(asked(&faults), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_at_once_is_not_served_without() {
    let world = world();
    world.0.faults().fail(Call::Meta, 1, Fault::Refused);
    let config = config(Policy::default());
    let (store, clock, _) = &world;
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    let refused = Node::start(&config, clock.clone(), store, keys()).await;
    assert!(refused.is_err());
}
