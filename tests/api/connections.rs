//! Connections: kept alive, counted, bounded, put to rest, drained.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::client::{Client, Request, call};
use super::site::{Plan, Site};

const JOIN: &str = "/api/v1/queue/join";

#[tokio::test]
async fn a_connection_serves_many_requests_until_one_asks_to_close() {
    let site = Site::new().await;
    let mut client = site.connect().await;
    for _ in 0..20 {
        assert_eq!(
            client
                .call(&Request::get("/healthz"))
                .await
                .header("connection"),
            None
        );
    }
    let last = Request::get("/healthz").header("connection", "close");
    assert_eq!(client.call(&last).await.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    let mut old = site.connect().await;
    old.send("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.answer().await.unwrap().status, 200);
    assert!(old.is_closed().await);
}

#[tokio::test]
async fn a_client_that_only_reads_on_still_gets_its_answer() {
    let site = Site::new().await;
    let mut client = site.connect().await;
    client
        .send(Request::post(JOIN, r#"{"event_id": "sale"}"#).bytes())
        .await;
    client.finish().await;
    assert_eq!(client.answer().await.unwrap().status, 202);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn connections_over_the_limit_are_told_so() {
    let site = Site::with(Plan::http(|http| http.limits.connections = 2)).await;
    let mut first = site.connect().await;
    let mut second = site.connect().await;
    assert_eq!(first.call(&Request::get("/healthz")).await.status, 200);
    assert_eq!(second.call(&Request::get("/healthz")).await.status, 200);
    let mut third = site.connect().await;
    let answer = third.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "SERVICE_UNAVAILABLE")
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(third.is_closed().await);
    assert_eq!(site.metrics.connections_refused.get(), 1);
    assert_eq!(first.call(&Request::get("/healthz")).await.status, 200);
    assert_eq!(
        call(site.admin, &Request::get("/healthz")).await.status,
        200,
        "operators get in"
    );
    assert_eq!(
        second
            .call(&Request::get("/healthz").header("connection", "close"))
            .await
            .status,
        200
    );
    assert!(second.is_closed().await);
}

#[tokio::test]
async fn quiet_connections_are_put_to_rest_and_wake_up_again() {
    let site = Site::with(Plan::http(|http| {
        http.limits.idle_timeout = Duration::from_secs(600);
    }))
    .await;
    let mut client = site.connect().await;
    assert_eq!(client.call(&Request::get("/healthz")).await.status, 200);
    at_rest(&site, 1).await;
    assert_eq!(client.call(&Request::get("/version")).await.status, 200);
    at_rest(&site, 1).await;
    // Half a head is kept through the rest.
    let mut first = Request::get("/healthz").bytes();
    first.extend_from_slice(b"GET /version HT");
    client.send(first).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    client.send("TP/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().json()["version"], "1.2.3");
}

/// Half a head that came with the request before it is not forgotten when the connection is put to
/// rest: it is found slow.
#[tokio::test]
async fn half_a_head_does_not_rest() {
    let site = Site::with(Plan::http(|http| {
        http.limits.header_read_timeout = Duration::from_millis(250);
    }))
    .await;
    let mut client = site.connect().await;
    let mut first = Request::get("/healthz").bytes();
    first.extend_from_slice(b"GET /version HT");
    client.send(first).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert_eq!(client.answer().await.unwrap().status, 408);
    assert!(client.is_closed().await);
}

/// Waits until so many connections hold no buffers.
async fn at_rest(site: &Site, count: i64) {
    while site.metrics.connections_parked.get() != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn forgotten_connections_are_closed() {
    let site = Site::with(Plan::http(|http| {
        http.limits.idle_timeout = Duration::from_millis(250);
    }))
    .await;
    let mut silent = site.connect().await;
    let mut used = site.connect().await;
    assert_eq!(used.call(&Request::get("/healthz")).await.status, 200);
    assert!(silent.is_closed().await);
    assert!(used.is_closed().await);
}

#[tokio::test]
async fn a_stop_finishes_what_was_begun_and_closes_the_rest() {
    let site = Site::new().await;
    let mut idle = site.connect().await;
    assert_eq!(idle.call(&Request::get("/healthz")).await.status, 200);
    let mut silent = site.connect().await;
    let mut busy = site.connect().await;
    busy.send(format!(
        "POST {JOIN} HTTP/1.1\r\ncontent-length: 20\r\n\r\n{{\"event"
    ))
    .await;
    // The server knows of the request once it answers something sent after it.
    let mut probe = site.connect().await;
    assert_eq!(probe.call(&Request::get("/healthz")).await.status, 200);
    site.stop();
    assert!(idle.is_closed().await);
    assert!(silent.is_closed().await);
    busy.send("_id\": \"sale\"}").await;
    let answer = busy.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (202, Some("close"))
    );
    assert!(busy.is_closed().await);
    let address = site.visitor;
    let drained = site.stopped().await;
    assert!(
        drained.iter().all(|drained| drained.cut == 0),
        "{drained:?}"
    );
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stop_cuts_what_does_not_finish_and_says_how_many() {
    let site = Site::with(Plan::http(|http| {
        http.drain_timeout = Duration::from_millis(50);
    }))
    .await;
    let mut stuck = site.connect().await;
    stuck
        .send(format!(
            "POST {JOIN} HTTP/1.1\r\ncontent-length: 20\r\n\r\n{{"
        ))
        .await;
    let mut probe = site.connect().await;
    assert_eq!(probe.call(&Request::get("/healthz")).await.status, 200);
    let drained = site.stopped().await;
    assert_eq!(drained[0].cut, 1);
    assert!(stuck.is_closed().await);
}

/// A client that asks and never reads must not make the server hold what it does not take.
#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let site = Site::new().await;
    let mut client = Client::connect(site.visitor).await;
    let asked = Request::get("/openapi.json").bytes().repeat(2_000);
    let most = 64 << 20;
    let mut taken = 0;
    while taken < most {
        // When nothing is taken for so long, nothing more will be.
        let patience = Duration::from_millis(300);
        match tokio::time::timeout(patience, client.stream.write(&asked)).await {
            Ok(sent) => taken += sent.unwrap(),
            Err(_) => break,
        }
    }
    assert!(
        taken < most,
        "the server took every request and kept the answers"
    );
    assert_eq!(site.get("/healthz").await.status, 200);
}
