//! Polls stand apart from the store (I7): with every store call held they are answered as ever, and
//! full is an answer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate::app::{Node, PARTITIONS};
use tidegate::clock::Clock;
use tidegate::config::Config;
use tidegate::model::Micros;
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::store::Memory;
use tidegate::store::fault::{Call, Faulty};
use tidegate::store::memory::Settings;

use crate::api::client::{Answer, Client, Request};
use crate::kit::stopwatch::Stopwatch;

const RECORDS_MAX: u32 = 64;
const POLLS: u32 = 20_000;

fn config() -> Config {
    let mut config = Config::default();
    config.server.listen.set_port(0);
    config.server.admin_listen = None;
    config.journal.max_records = NonZeroU32::new(RECORDS_MAX).expect("not 0");
    config.journal.stale_after = Duration::from_millis(200);
    config.defaults.paused = true;
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_go_on_while_every_store_call_is_held() {
    let config = config();
    let clock = Clock::real(config.fleet.max_clock_skew);
    let store_clock = clock.clone();
    let now = Arc::new(move || Micros(store_clock.now_micros()));
    let store = Faulty::new(Memory::new(Settings::default(), now));
    let faults = store.faults();
    let key = vec![("k1".to_owned(), [7; 32])];
    let keys = (
        TicketKeys::new("k1", &key).unwrap(),
        PassKeys::new("k1", &key).unwrap(),
    );
    let node = Node::start(&config, clock, Arc::new(store), keys)
        .await
        .unwrap();
    let mut client = Client::connect(node.listen).await;

    let first = join(&mut client).await;
    let token = first.json()["waiting_token"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/queue/status?token={token}");
    let open = polls_per_sec(&mut client, &path).await;

    let appends = faults.calls(Call::Append);
    faults.hold();
    let mut joined = 1;
    let refused = loop {
        let answer = join(&mut client).await;
        if answer.status != 202 {
            break answer;
        }
        joined += 1;
        assert!(joined <= 4 * RECORDS_MAX, "the journal has a bound");
    };
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "QUEUE_FULL");
    assert!(refused.json()["error"]["retry_after_ms"].as_u64().unwrap() > 0);
    assert!(refused.header("retry-after").is_some());

    let held = polls_per_sec(&mut client, &path).await;
    // One batch of each lane is on its way since the joins; polls make no call at all.
    assert!(faults.calls(Call::Append) <= appends + u64::from(PARTITIONS));
    assert_eq!(
        faults.calls(Call::Enter) + faults.calls(Call::Load),
        u64::from(PARTITIONS)
    );
    assert_eq!(get(&mut client, "/readyz").await.status, 200);
    println!("polls a second: {open:.0} with the store, {held:.0} with every call held");

    faults.release();
    loop {
        // As a refused client does: again until there is room.
        let answer = join(&mut client).await;
        if answer.status == 202 {
            break;
        }
        assert_eq!(answer.status, 503);
    }
    let last = get(&mut client, &path).await;
    assert_eq!(
        (last.status, last.json()["position"].as_u64()),
        (200, Some(1))
    );
    node.stop(&config).await;
}

async fn get(client: &mut Client, path: &str) -> Answer {
    client.call(&Request::get(path)).await
}

async fn join(client: &mut Client) -> Answer {
    let body = r#"{"event_id": "sale"}"#;
    client
        .call(&Request::post("/api/v1/queue/join", body))
        .await
}

async fn polls_per_sec(client: &mut Client, path: &str) -> f64 {
    let stopwatch = Stopwatch::start();
    for _ in 0..POLLS {
        let answer = get(client, path).await;
        assert_eq!(answer.status, 200);
    }
    f64::from(POLLS) * 1e6 / stopwatch.us() as f64
}
