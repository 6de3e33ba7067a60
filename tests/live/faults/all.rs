//! The whole store away.
//!
//! `FAULT_SECONDS` says for how long (10 unless set).

use super::{Fault, blocking, lasting, now, sale};
use crate::sale::Down;

fn seconds() -> u64 {
    let seconds = std::env::var("FAULT_SECONDS").ok();
    seconds.and_then(|n| n.parse().ok()).unwrap_or(10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_is_killed() {
    let name = format!("kill -9 of all Redis servers, back after {} s", seconds());
    sale(&name, async |fleet, sale| {
        let from = now(sale);
        blocking(|| {
            for server in &mut fleet.cluster.servers {
                server.kill();
            }
        });
        lasting(seconds()).await;
        blocking(|| {
            for server in &mut fleet.cluster.servers {
                server.restart();
            }
            fleet.cluster.await_whole();
        });
        Fault {
            what: Down::Store { forgets: 0 },
            from,
            to: now(sale),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_hangs() {
    let name = format!("SIGSTOP of all Redis servers for {} s", seconds());
    sale(&name, async |fleet, sale| {
        let from = now(sale);
        for server in &fleet.cluster.servers {
            server.freeze();
        }
        lasting(seconds()).await;
        for server in &fleet.cluster.servers {
            server.thaw();
        }
        blocking(|| fleet.cluster.await_whole());
        Fault {
            what: Down::Store { forgets: 0 },
            from,
            to: now(sale),
        }
    })
    .await;
}
