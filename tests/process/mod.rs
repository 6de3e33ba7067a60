//! The process as an operator meets it: how it stops, and what it refuses to start with.

use serde_json::Value;
use tempfile::TempDir;

use crate::kit::client::{Answer, Connection, Request};
use crate::kit::process::Process;
use crate::kit::server::{FREE, Server, place, readiness, until_unready};

/// Visitors who join before the end.
const JOINS: usize = 200;

const JOIN: &str = r#"{"event_id":"process"}"#;

#[tokio::test]
async fn sigterm_answers_what_is_in_flight_and_forgets_nothing() {
    // One turn in all, so that places stand still and a ticket forgotten would move them.
    let settings = [
        "defaults.rate=0",
        "defaults.burst=1",
        "defaults.ready_ttl=1h",
    ];
    let mut server = Server::start(&settings.map(str::to_owned)).await;
    let mut connection = open(&server).await;
    let mut tokens = Vec::new();
    for _ in 0..JOINS {
        let answer = connection
            .call(&Request::post("/api/v1/queue/join", JOIN))
            .await;
        tokens.push(token_in(&answer.expect("a join is answered")));
    }

    // The interim answer shows that the server has begun with this join.
    let mut in_flight = open(&server).await;
    let expect = [("Expect", "100-continue")];
    let join = Request {
        headers: &expect,
        ..Request::post("/api/v1/queue/join", JOIN)
    };
    in_flight
        .write(join.head().as_bytes())
        .await
        .expect("the head is taken");
    assert_eq!(
        in_flight.answer().await.expect("an interim answer").status,
        100
    );

    server.ask_to_stop();
    let unready = until_unready(server.address).await;
    assert!(
        matches!(unready, None | Some(503)),
        "readiness while draining: {unready:?}"
    );
    in_flight
        .write(JOIN.as_bytes())
        .await
        .expect("the body is taken");
    let last = in_flight
        .answer()
        .await
        .expect("a request in flight is answered");
    let (last_token, last_position) = (token_in(&last), last.json()["position"].clone());
    assert_eq!(
        last_position, JOINS,
        "everybody but the one whose turn it is waits ahead"
    );
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{}", server.output());

    // Asked first, before the others show their tokens: its place counts only what was written.
    server.restart().await;
    let mut connection = open(&server).await;
    let place = status_of(&mut connection, &last_token).await;
    assert_eq!(place["position"], last_position);
    for token in &tokens {
        status_of(&mut connection, token).await;
    }
}

#[tokio::test]
async fn a_bad_configuration_exits_64_with_every_mistake() {
    let folder = TempDir::new().expect("the system can make a temporary folder");
    let settings = [
        "server.listen=nowhere",
        "defaults.rate=-1",
        "defaults.bursst=3",
        "polling.min=soon",
    ];
    let mut arguments = place(&folder.path().join("store"), FREE, FREE);
    arguments.extend(
        settings
            .iter()
            .flat_map(|set| ["--set".to_owned(), (*set).to_owned()]),
    );
    let mut process = Process::spawn(folder.path(), &arguments, |_| {});
    let (status, output) = (process.ended().await, process.output());
    assert_eq!(status.code(), Some(64), "{output}");
    for mistake in [
        "server.listen",
        "nowhere",
        "defaults.rate",
        "bursst",
        "burst",
        "polling.min",
    ] {
        assert!(
            output.contains(mistake),
            "{mistake} is not named in:\n{output}"
        );
    }
    let left = std::fs::read_dir(folder.path())
        .expect("the folder is ours")
        .count();
    assert_eq!(
        left, 0,
        "something was written before the configuration was known to be good"
    );
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused() {
    let first = Server::start(&[]).await;
    let folder = TempDir::new().expect("the system can make a temporary folder");
    let arguments = place(&first.store(), FREE, FREE);
    let mut second = Process::spawn(folder.path(), &arguments, |_| {});
    let (status, output) = (second.ended().await, second.output());
    assert!(!status.success(), "{output}");
    let store = first.store().display().to_string();
    assert!(
        output.contains(&store),
        "the folder {store} is not named in:\n{output}"
    );
    assert_eq!(
        readiness(first.address).await,
        Some(200),
        "the first one goes on"
    );
}

async fn open(server: &Server) -> Connection {
    Connection::open(server.address)
        .await
        .expect("a ready server takes connections")
}

fn token_in(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["waiting_token"]
        .as_str()
        .expect("a join answers a token")
        .to_owned()
}

async fn status_of(connection: &mut Connection, token: &str) -> Value {
    let target = format!("/api/v1/queue/status?token={token}");
    let answer = connection
        .call(&Request::get(&target))
        .await
        .expect("a status is answered");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}
