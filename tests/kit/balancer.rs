//! A small HTTP/1.1 load balancer: each request goes to the next node, whoever sends it. A node that
//! does not answer is passed over until it says that it is ready, as balancers do.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::server::{FREE, readiness};

/// The header that tells which node answered.
pub const NODE: &str = "x-node";

/// A node that takes longer is passed over.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often a node that was passed over is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// The longest head and body that pass.
const MESSAGE_MAX: usize = 64 * 1024;

/// The nodes behind it.
struct Nodes {
    addresses: Vec<SocketAddr>,
    /// Those that did not answer.
    away: Vec<AtomicBool>,
    turn: AtomicUsize,
}

/// A running balancer; dropping it closes it.
pub struct Balancer {
    /// Where clients call.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Balancer {
    /// Starts one in front of these nodes.
    pub async fn start(nodes: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(FREE).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let nodes = Arc::new(Nodes {
            away: nodes.iter().map(|_| AtomicBool::new(false)).collect(),
            addresses: nodes,
            turn: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            let probed = Arc::clone(&nodes);
            clients.spawn(async move { probed.probe().await });
            while let Ok((client, _)) = listener.accept().await {
                let nodes = Arc::clone(&nodes);
                clients.spawn(async move {
                    // A client that goes away ends its own task, nothing else.
                    let _ = pass(client, &nodes).await;
                });
                while clients.try_join_next().is_some() {}
            }
        });
        Self { address, accepting }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Nodes {
    /// In which order to try them: the next one first, and those away last.
    fn order(&self) -> Vec<usize> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.addresses.len();
        let mut order: Vec<_> = (0..count).map(|n| (first + n) % count).collect();
        order.sort_by_key(|n| self.away[*n].load(Ordering::Relaxed));
        order
    }

    async fn probe(&self) {
        let mut look = tokio::time::interval(ASK_EVERY);
        loop {
            look.tick().await;
            for (node, away) in self.addresses.iter().zip(&self.away) {
                if !away.load(Ordering::Relaxed) {
                    continue;
                }
                let ready = timeout(ASK_EVERY * 10, readiness(*node)).await;
                if ready == Ok(Some(200)) {
                    away.store(false, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Passes one client's requests on until it closes.
async fn pass(mut client: TcpStream, nodes: &Nodes) -> Result<()> {
    client.set_nodelay(true)?;
    let mut unread = Vec::new();
    let mut open: Vec<Option<TcpStream>> = nodes.addresses.iter().map(|_| None).collect();
    while let Some(request) = message(&mut client, &mut unread).await? {
        let mut answer = None;
        for node in nodes.order() {
            let asked = ask(&mut open[node], nodes.addresses[node], &request);
            if let Ok(Ok(got)) = timeout(PATIENCE, asked).await {
                answer = Some(named(got, node));
                break;
            }
            open[node] = None;
            nodes.away[node].store(true, Ordering::Relaxed);
        }
        let none = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_vec();
        client.write_all(&answer.unwrap_or(none)).await?;
    }
    Ok(())
}

/// Puts the node's number behind the first line.
fn named(mut answer: Vec<u8>, node: usize) -> Vec<u8> {
    if let Some(line) = find(&answer, b"\r\n") {
        let header = format!("{NODE}: {node}\r\n");
        answer.splice(line + 2..line + 2, header.into_bytes());
    }
    answer
}

/// Asks one node. A connection that the node closed meanwhile is opened anew, once.
async fn ask(open: &mut Option<TcpStream>, node: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    if let Some(stream) = open.as_mut()
        && let Ok(answer) = exchange(stream, request).await
    {
        return Ok(answer);
    }
    let stream = TcpStream::connect(node).await?;
    stream.set_nodelay(true)?;
    exchange(open.insert(stream), request).await
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(request).await?;
    let answer = message(stream, &mut Vec::new()).await?;
    answer.ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

/// Reads one whole message; `None` at a clean end.
async fn message(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some(head) = find(unread, b"\r\n\r\n") {
            let end = head + 4 + length(&unread[..head])?;
            if unread.len() >= end {
                let rest = unread.split_off(end);
                return Ok(Some(std::mem::replace(unread, rest)));
            }
        }
        if unread.len() > MESSAGE_MAX {
            return Err(Error::from(ErrorKind::InvalidData));
        }
        if stream.read_buf(unread).await? == 0 {
            let clean = unread.is_empty();
            return if clean {
                Ok(None)
            } else {
                Err(ErrorKind::UnexpectedEof.into())
            };
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The `Content-Length` of a head, 0 if it has none.
fn length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head).map_err(|_| Error::from(ErrorKind::InvalidData))?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    match length {
        None => Ok(0),
        Some((_, value)) => value
            .trim()
            .parse()
            .map_err(|_| Error::from(ErrorKind::InvalidData)),
    }
}
