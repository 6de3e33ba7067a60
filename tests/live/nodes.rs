//! A fleet as it stands in the world: real nodes over a real Redis Cluster, behind a balancer that
//! knows no stickiness.

use std::net::SocketAddr;

use crate::kit::balancer::Balancer;
use crate::kit::cluster::{Cluster, SERVERS};
use crate::kit::links::{Links, name};
use crate::kit::redis::free_ports;
use crate::kit::server::Server;

/// Keys that a fleet must share; not a secret of anybody.
pub const KEY: [u8; 32] = [7; 32];
/// The same in base64.
pub const KEY_TEXT: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// Nodes, cluster and balancer; they end with it.
pub struct Fleet {
    pub nodes: Vec<Server>,
    pub balancer: Balancer,
    /// The nodes' ways to the cluster, if they can be cut.
    pub links: Option<Links>,
    pub cluster: Cluster,
}

impl Fleet {
    /// Starts a cluster and `size` nodes, and waits until all are ready.
    pub async fn start(size: usize, settings: &[String]) -> Self {
        let cluster = tokio::task::block_in_place(Cluster::start);
        Self::over(cluster, None, size, settings).await
    }

    /// The same with ways to the cluster that can be cut, each node's by itself.
    pub async fn start_apart(size: usize, settings: &[String]) -> Self {
        let ports = free_ports(SERVERS);
        let servers: Vec<_> = ports.iter().map(|(port, _)| *port).collect();
        let links = Links::start(size, &servers).await;
        let fronts = links.fronts.clone();
        let names: Vec<_> = (0..size).map(name).collect();
        let users = names.iter().flat_map(|name| {
            let all = ["on", "nopass", "~*", "&*", "+@all"];
            ["--user", name].into_iter().chain(all)
        });
        let users: Vec<_> = users.collect();
        let cluster = tokio::task::block_in_place(|| Cluster::on(ports, fronts, &users));
        Self::over(cluster, Some(links), size, settings).await
    }

    async fn over(
        cluster: Cluster,
        links: Option<Links>,
        size: usize,
        settings: &[String],
    ) -> Self {
        let mut nodes = Vec::new();
        for node in 0..size {
            nodes.push(start(&cluster, links.as_ref(), node, size, settings).await);
        }
        let balancer = Balancer::start(nodes.iter().map(|node| node.address).collect()).await;
        Self {
            nodes,
            balancer,
            links,
            cluster,
        }
    }

    /// One more process, under this number.
    pub async fn another(&self, node: usize, settings: &[String]) -> Server {
        let links = self.links.as_ref();
        start(&self.cluster, links, node, self.nodes.len(), settings).await
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
async fn start(
    cluster: &Cluster,
    links: Option<&Links>,
    node: usize,
    size: usize,
    settings: &[String],
) -> Server {
    let servers = cluster.servers.iter().map(|server| server.port).collect();
    let ports = links.map_or(servers, |links| links.fronts.clone());
    let urls = ports
        .iter()
        .map(|port| format!("\"redis://127.0.0.1:{port}\""));
    let urls: Vec<_> = urls.collect();
    let mut settings = settings.to_vec();
    if links.is_some() {
        settings.push(format!("redis.user={}", name(node)));
        settings.push("redis.password=any".to_owned());
    }
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
