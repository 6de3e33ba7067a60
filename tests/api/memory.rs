//! Memory stays bounded, measured on the real binary: many quiet connections, floods, huge bodies.

use std::net::SocketAddr;

use super::client::{Client, Request, call};
use crate::kit::server::Server;

/// The connections that a visitors' listener holds at least, where the system has the descriptors.
const QUIET: usize = 10_000;
/// What a quiet connection may cost the server, in bytes.
const QUIET_BYTES_MAX: usize = 4 * 1024;
/// What one costs that was just used: buffers in both directions, given back after a quiet second.
const USED_BYTES_MAX: usize = 24 * 1024;
/// What a storm of hostile requests may leave behind.
const STORM_BYTES_MAX: usize = 32 << 20;

/// Resident memory of a process, in bytes.
fn resident(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

/// Waits until the server counts this many connections.
async fn counted(admin: SocketAddr, count: usize) {
    let mut client = Client::connect(admin).await;
    loop {
        let health = client
            .call(&Request::get("/api/v1/admin/health"))
            .await
            .json();
        if health["connections"].as_u64().unwrap() >= count as u64 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ten_thousand_quiet_connections_cost_little() {
    let allowed = tidegate::http::raise_descriptor_limit();
    // Other tests of this process need some too.
    let quiet = QUIET.min(usize::try_from(allowed / 2).unwrap_or(QUIET));
    let server = Server::start(&[]).await;
    for _ in 0..50 {
        assert_eq!(
            call(server.address, &Request::get("/version")).await.status,
            200
        );
    }
    let before = resident(server.id());
    let mut clients = Vec::with_capacity(quiet);
    for _ in 0..quiet {
        clients.push(Client::connect(server.address).await);
    }
    counted(server.admin, quiet).await;
    let silent = (resident(server.id()).saturating_sub(before)) / quiet;
    for client in &mut clients {
        assert_eq!(client.call(&Request::get("/healthz")).await.status, 200);
    }
    let used = (resident(server.id()).saturating_sub(before)) / quiet;
    println!("{quiet} connections: {silent} bytes each when silent, {used} after a request");
    assert!(silent <= QUIET_BYTES_MAX, "{silent} bytes each");
    assert!(used <= USED_BYTES_MAX, "{used} bytes each");
    assert_eq!(
        call(server.address, &Request::get("/healthz")).await.status,
        200
    );
}

#[tokio::test]
async fn a_storm_of_hostile_requests_leaves_nothing_behind() {
    let server = Server::start(&[]).await;
    let join = "POST /api/v1/queue/join HTTP/1.1\r\n";
    let large = "x".repeat(10_000_000);
    let storm = [
        format!("{join}content-length: 10000000\r\n\r\n{large}"),
        format!("{join}transfer-encoding: chunked\r\n\r\n989680\r\n{large}\r\n0\r\n\r\n"),
        format!(
            "GET /healthz HTTP/1.1\r\n{}\r\n",
            "x: y\r\n".repeat(300_000)
        ),
        format!("GET /{large} HTTP/1.1\r\n\r\n"),
        format!("{join}content-length: 8000\r\n\r\n{}", "[".repeat(8_000)),
        "\0".repeat(1_000_000),
    ];
    let one_of_each = async || {
        for bytes in &storm {
            let mut client = Client::connect(server.address).await;
            client.send(bytes).await;
            let answer = client.answer().await.unwrap();
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    };
    one_of_each().await;
    let before = resident(server.id());
    for _ in 0..10 {
        one_of_each().await;
    }
    let grown = resident(server.id()).saturating_sub(before);
    println!("{grown} bytes more after 60 hostile requests");
    assert!(grown <= STORM_BYTES_MAX, "{grown} bytes more");
    assert_eq!(
        call(server.address, &Request::get("/healthz")).await.status,
        200
    );
    let output = server.output();
    assert!(!output.contains("panicked"), "{output}");
}
