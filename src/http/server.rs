//! The accept loop of a listener, and its end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Shared;
use super::conn::{Conn, Listener, run, turn_away};
use super::route::{Answer, answer};
use super::settings::HEADERS_DEFAULT;
use super::sweep::Registry;
use super::wire::Pokes;

/// How many connections the kernel keeps for us while we are busy.
const BACKLOG: u32 = 4_096;
/// How long to wait when the system has no more descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// At the limit every departure lets one in and the next fails again: that is one trouble, told once.
const RECOVERED_AFTER: u32 = 100;
/// Operators are few.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// So many connections at once are told that there are too many; further ones are just closed.
const TURNED_AWAY_MAX: usize = 256;
/// hyper's smallest buffer.
const HEADER_BYTES_MIN: usize = 8 * 1024;

/// For whom a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Everybody.
    Visitor,
    /// Operators: the visitors' calls, and more.
    Admin {
        /// Whether reading needs no token, as is right on loopback.
        open_reads: bool,
    },
}

/// Which way plain polls go. What is answered is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polls {
    /// Beneath hyper, as is served.
    Direct,
    /// Through it, like all else: for comparison.
    ThroughHyper,
}

/// What answers the requests of a listener.
pub type Answers = Box<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because they did not finish in time.
    pub cut: usize,
}

/// Binds a listener: a long backlog, and an address that can be taken over from a process that just
/// ended.
///
/// # Errors
/// Those of the system: the address is taken, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers on a listener until `shutdown` is done; then accepts no more, lets requests finish for
/// the drain timeout, and cuts what is left.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    face: Face,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let answers = answers(&shared, face);
    listen(listener, shared, face, answers, Polls::Direct, shutdown).await
}

/// Like [`serve`], with other answers: the same connections, bounds and end for whatever is asked.
pub async fn serve_with(
    listener: TcpListener,
    shared: Arc<Shared>,
    face: Face,
    answers: Answers,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    listen(
        listener,
        shared,
        face,
        answers,
        Polls::ThroughHyper,
        shutdown,
    )
    .await
}

async fn listen(
    listener: TcpListener,
    shared: Arc<Shared>,
    face: Face,
    answers: Answers,
    polls: Polls,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let registry = Arc::new(Registry::default());
    let conns = Arc::new(Listener {
        builder: builder(&shared),
        registry: Arc::clone(&registry),
        shared: Arc::clone(&shared),
        face,
        answers,
        direct: polls == Polls::Direct,
    });
    let _sweeper = Owned(tokio::spawn({
        let (registry, shared) = (Arc::clone(&registry), Arc::clone(&shared));
        async move { registry.sweep(&shared).await }
    }));
    {
        let mut accepting = pin!(accept(&listener, &conns));
        let mut shutdown = pin!(shutdown);
        tokio::select! {
            () = &mut accepting => {}
            () = &mut shutdown => {}
        }
    }
    drop(listener);
    shared.start_draining();
    registry.poke_all(Pokes::DRAIN);
    let patience = shared.settings.load().drain_timeout;
    let mut cut = 0;
    if tokio::time::timeout(patience, registry.emptied())
        .await
        .is_err()
    {
        cut = registry.open();
        registry.poke_all(Pokes::ABORT);
        registry.emptied().await;
    }
    tracing::info!(cut, "listener closed");
    Drained { cut }
}

/// Answers on one connection that is already open, over whatever it runs, to its end. Nobody watches
/// over slow heads and quiet ones here: `read` is to end by itself.
pub async fn serve_one(
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    shared: Arc<Shared>,
    face: Face,
    polls: Polls,
) {
    let registry = Arc::new(Registry::default());
    let conn = Conn::new(read, write, &registry);
    let builder = builder(&shared);
    let listener = Listener {
        answers: answers(&shared, face),
        shared,
        face,
        direct: polls == Polls::Direct,
        builder,
        registry,
    };
    run(conn, Arc::new(listener)).await;
}

fn answers(shared: &Arc<Shared>, face: Face) -> Answers {
    let shared = Arc::clone(shared);
    Box::new(move |request| answer(&shared, face, request))
}

fn builder(shared: &Shared) -> http1::Builder {
    let limits = &shared.settings.load().limits;
    let header_bytes = limits.header_bytes.max(HEADER_BYTES_MIN);
    let mut builder = http1::Builder::new();
    builder
        .keep_alive(true)
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(header_bytes)
        .max_header_size(header_bytes);
    if limits.headers != HEADERS_DEFAULT {
        builder.max_headers(limits.headers);
    }
    builder
}

/// Accepts for ever.
async fn accept(listener: &TcpListener, conns: &Arc<Listener>) {
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    // Connections that are still to be accepted in a row before the trouble counts as over.
    let mut trouble = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if trouble > 0 {
                    trouble -= 1;
                    if trouble == 0 {
                        tracing::info!("connections are accepted again");
                    }
                }
                admit(stream, conns, &turned_away);
            }
            // One connection's trouble, not the listener's.
            Err(error) if is_peers(&error) => {}
            Err(error) => {
                if trouble == 0 {
                    tracing::error!(%error, "connections cannot be accepted");
                }
                trouble = RECOVERED_AFTER;
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn is_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn admit(stream: TcpStream, conns: &Arc<Listener>, turned_away: &Arc<Semaphore>) {
    // Without it an answer may wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let bound = match conns.face {
        Face::Visitor => conns.shared.settings.load().limits.connections,
        Face::Admin { .. } => ADMIN_CONNECTIONS_MAX,
    };
    if conns.registry.open() < bound {
        let (read, write) = stream.into_split();
        let conn = Conn::new(read, write, &conns.registry);
        tokio::spawn(run(conn, Arc::clone(conns)));
        return;
    }
    conns.shared.metrics.connections_refused.inc();
    if let Ok(permit) = Arc::clone(turned_away).try_acquire_owned() {
        tokio::spawn(async move {
            turn_away(stream).await;
            drop(permit);
        });
    }
}

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}
