//! Ways to servers that can be cut: a small relay in front of each server. Who comes is known by the
//! name that they log in with, so that each one's way can be cut by itself, also in one direction.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What is sent at once at most.
const CHUNK: usize = 64 * 1024;
/// What a slow way adds in each direction.
const SLOW: Duration = Duration::from_millis(150);

/// How a way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Nothing arrives, and nobody hangs up.
    Cut,
    /// What is sent arrives; the answers do not.
    Deaf,
    /// Everything arrives later.
    Slow,
}

/// Relays in front of some servers.
pub struct Links {
    /// Where each server is reached.
    pub fronts: Vec<u16>,
    ways: Arc<Vec<watch::Sender<Way>>>,
    relays: Vec<JoinHandle<()>>,
}

impl Links {
    /// Starts a relay in front of each of these ports, for so many who have a name.
    pub async fn start(names: usize, servers: &[u16]) -> Self {
        let ways: Vec<_> = (0..names).map(|_| watch::Sender::new(Way::Open)).collect();
        let ways = Arc::new(ways);
        let (mut fronts, mut relays) = (Vec::new(), Vec::new());
        for server in servers {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener = listener.expect("a free port");
            fronts.push(listener.local_addr().expect("it is bound").port());
            let server = SocketAddr::from((Ipv4Addr::LOCALHOST, *server));
            relays.push(tokio::spawn(relay(listener, server, Arc::clone(&ways))));
        }
        Self {
            fronts,
            ways,
            relays,
        }
    }

    /// From now on a way is like this, for connections that there are and those to come.
    pub fn set(&self, number: usize, way: Way) {
        self.ways[number].send_replace(way);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for relay in &self.relays {
            relay.abort();
        }
    }
}

/// The name that number `number` logs in with.
pub fn name(number: usize) -> String {
    format!("node{number}")
}

async fn relay(listener: TcpListener, server: SocketAddr, ways: Arc<Vec<watch::Sender<Way>>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let ways = Arc::clone(&ways);
        connections.spawn(async move {
            // Whoever goes away ends their own connection, nothing else.
            let _ = pass(client, server, &ways).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(
    mut client: TcpStream,
    server: SocketAddr,
    ways: &[watch::Sender<Way>],
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut first = vec![0; CHUNK];
    let count = client.read(&mut first).await?;
    first.truncate(count);
    let named = |number: &usize| {
        let name = name(*number);
        first
            .windows(name.len())
            .any(|word| word == name.as_bytes())
    };
    let nobody = watch::Sender::new(Way::Open);
    let way = (0..ways.len()).find(named).map_or(&nobody, |n| &ways[n]);
    let mut up = way.subscribe();
    until(&mut up, &[Way::Cut]).await;
    let mut upstream = TcpStream::connect(server).await?;
    upstream.set_nodelay(true)?;
    upstream.write_all(&first).await?;
    let (client, server) = (client.into_split(), upstream.into_split());
    tokio::join!(
        pump(client.0, server.1, up, &[Way::Cut]),
        pump(server.0, client.1, way.subscribe(), &[Way::Cut, Way::Deaf]),
    );
    Ok(())
}

/// Passes on what comes, its end included, unless the way is one of these.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    shut: &[Way],
) {
    let mut bytes = vec![0; CHUNK];
    loop {
        let count = from.read(&mut bytes).await.unwrap_or(0);
        until(&mut way, shut).await;
        if *way.borrow() == Way::Slow {
            tokio::time::sleep(SLOW).await;
        }
        if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            // There may be nobody left to tell.
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// Waits until a way is none of these. One that nobody can change any more stays as it is.
async fn until(way: &mut watch::Receiver<Way>, shut: &[Way]) {
    let _ = way.wait_for(|way| !shut.contains(way)).await;
}
