//! The whole store is killed and comes back.

use super::{Fault, blocking, lasting, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, Sale};

pub async fn happen(cluster: &mut Cluster, sale: &Sale, seconds: u64) -> Fault {
    let from = now(sale);
    blocking(|| {
        for server in &mut cluster.servers {
            server.kill();
        }
    });
    lasting(seconds).await;
    blocking(|| {
        for server in &mut cluster.servers {
            server.restart();
        }
        cluster.await_whole();
    });
    Fault {
        what: Down::Store { forgets: 0 },
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_is_killed() {
    let seconds = super::seconds();
    let name = format!("kill -9 of all Redis servers, back after {seconds} s");
    super::sale(&name, async |fleet, sale| {
        happen(&mut fleet.cluster, sale, seconds).await
    })
    .await;
}
