//! A fleet as it stands in the world: real nodes over a real Redis Cluster, behind a balancer that
//! knows no stickiness.

use std::net::SocketAddr;

use crate::kit::balancer::Balancer;
use crate::kit::cluster::Cluster;
use crate::kit::server::Server;

/// Keys that a fleet must share; not a secret of anybody.
pub const KEY: [u8; 32] = [7; 32];
/// The same in base64.
pub const KEY_TEXT: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// Nodes, cluster and balancer; they end with it.
pub struct Fleet {
    pub nodes: Vec<Server>,
    pub balancer: Balancer,
    pub cluster: Cluster,
}

impl Fleet {
    /// Starts a cluster and `size` nodes, and waits until all are ready.
    pub async fn start(size: usize, settings: &[String]) -> Self {
        let cluster = tokio::task::block_in_place(Cluster::start);
        let mut nodes = Vec::new();
        for node in 0..size {
            nodes.push(start(&cluster, node, size, settings).await);
        }
        let balancer = Balancer::start(nodes.iter().map(|node| node.address).collect()).await;
        Self {
            nodes,
            balancer,
            cluster,
        }
    }

    /// One more process, under this number.
    pub async fn another(&self, node: usize, settings: &[String]) -> Server {
        start(&self.cluster, node, self.nodes.len(), settings).await
    }

    /// Where visitors call.
    pub fn address(&self) -> SocketAddr {
        self.balancer.address
    }

    /// What the nodes said last.
    pub fn output(&self) -> String {
        self.nodes.iter().map(Server::output).collect()
    }
}

/// A node over a cluster.
async fn start(cluster: &Cluster, node: usize, size: usize, settings: &[String]) -> Server {
    let urls = cluster.servers.iter().map(|s| format!("{:?}", s.url()));
    let urls: Vec<_> = urls.collect();
    let mut settings = settings.to_vec();
    settings.extend([
        "store.kind=redis".to_owned(),
        format!("redis.urls=[{}]", urls.join(", ")),
        format!("fleet.node={node}"),
        format!("fleet.size={size}"),
        format!("keys.ticket.k1={KEY_TEXT}"),
        format!("keys.pass.k1={KEY_TEXT}"),
    ]);
    Server::start(&settings).await
}
