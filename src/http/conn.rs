//! One connection, from the first byte to the last: plain polls are answered directly, without
//! buffers of its own; for all else it goes to hyper and comes back; it is closed so that the last
//! answer arrives.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Shared;
use super::direct::{self, Next};
use super::io::Io;
use super::refusal::Unparsable;
use super::server::{Answers, Face};
use super::service::Service;
use super::sweep::{Registry, Seat};
use super::wire::{Phase, Pokes, Wire};

/// How long a client may take to notice that an answer was the last one.
const LINGER: Duration = Duration::from_secs(2);

type Served = http1::Connection<TokioIo<Io>, Service>;

/// What the connections of one listener share.
pub(super) struct Listener {
    pub shared: Arc<Shared>,
    pub face: Face,
    pub answers: Answers,
    /// Whether plain polls are answered beneath hyper.
    pub direct: bool,
    pub builder: http1::Builder,
    pub registry: Arc<Registry>,
}

/// How a stretch of serving ended.
enum End {
    /// hyper is through with the connection.
    Done(hyper::Result<()>),
    /// Quiet, or between requests: the buffers can go.
    Parked,
    /// The phase has lasted too long.
    Expired(Phase),
    /// The socket is broken, or patience is at its end.
    Cut,
}

/// A connection that has its seat.
pub(super) struct Conn {
    io: Io,
    wire: Arc<Wire>,
    seat: Seat,
}

impl Conn {
    pub fn new(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        registry: &Arc<Registry>,
    ) -> Self {
        let wire = Arc::new(Wire::new(write));
        Self {
            io: Io::new(read, Arc::clone(&wire)),
            seat: registry.seat(Arc::clone(&wire)),
            wire,
        }
    }
}

/// Runs a connection to its end.
pub(super) async fn run(conn: Conn, listener: Arc<Listener>) {
    let Conn {
        mut io,
        wire,
        seat: _seat,
    } = conn;
    let metrics = &listener.shared.metrics;
    let _open = metrics.connections.hold();
    loop {
        let next = {
            let _parked = metrics.connections_parked.hold();
            poll_fn(|cx| direct::poll(&mut io, &wire, &listener, cx)).await
        };
        match next {
            Next::Hyper => wire.set_buffered(true),
            Next::Close => return close(io, &wire, None, wire.should_linger()).await,
            Next::Cut => return,
        }
        let service = Service {
            listener: Arc::clone(&listener),
            wire: Arc::clone(&wire),
        };
        // Boxed, so that a parked connection is small.
        let mut served = Box::new(listener.builder.serve_connection(TokioIo::new(io), service));
        let end = poll_fn(|cx| serving(&mut served, &wire, listener.direct, cx)).await;
        let parts = served.into_parts();
        io = parts.io.into_inner();
        match end {
            End::Parked => {
                io.put_back(parts.read_buf);
                wire.set_buffered(false);
                wire.shrink();
            }
            End::Done(outcome) => {
                let unread = io.has_unread() || !parts.read_buf.is_empty();
                let slow = io.refused || wire.should_linger() || unread;
                let why = outcome
                    .err()
                    .and_then(|error| unanswered(&error, &io, &wire));
                if io.refused || why.is_some() {
                    metrics.unparsable.inc();
                }
                return close(io, &wire, why, slow || why.is_some()).await;
            }
            End::Expired(Phase::Head) => {
                metrics.unparsable.inc();
                return close(io, &wire, Some(Unparsable::TooSlow), true).await;
            }
            End::Expired(_) | End::Cut => return,
        }
    }
}

fn serving(served: &mut Served, wire: &Wire, direct: bool, cx: &mut Context<'_>) -> Poll<End> {
    let pokes = wire.pokes(cx);
    if let Poll::Ready(outcome) = served.poll_without_shutdown(cx) {
        return Poll::Ready(End::Done(outcome));
    }
    if let Poll::Ready(Err(_)) = wire.poll_flush(cx) {
        return Poll::Ready(End::Cut);
    }
    if wire.is_draining() {
        std::pin::Pin::new(&mut *served).graceful_shutdown();
        if let Poll::Ready(outcome) = served.poll_without_shutdown(cx) {
            return Poll::Ready(End::Done(outcome));
        }
    } else if direct && wire.is_between() && !pokes.has(Pokes::ABORT) {
        return Poll::Ready(End::Parked);
    }
    if pokes == Pokes::NONE {
        return Poll::Pending;
    }
    let phase = wire.phase();
    if pokes.has(Pokes::ABORT) {
        return Poll::Ready(End::Cut);
    }
    // A poke that comes when the phase is already another one is too late to mean anything.
    if pokes.has(Pokes::EXPIRED) && wire.is_stale() && phase != Phase::Request {
        return Poll::Ready(End::Expired(phase));
    }
    if pokes.has(Pokes::PARK) && wire.is_stale() && phase == Phase::Idle {
        return Poll::Ready(End::Parked);
    }
    Poll::Pending
}

/// What to answer to an error that hyper left unanswered, if anything: never when an earlier
/// request's answer is outstanding, or this one would be taken for it.
fn unanswered(error: &hyper::Error, io: &Io, wire: &Wire) -> Option<Unparsable> {
    if io.refused || !wire.owes_nothing() {
        return None;
    }
    if error.is_incomplete_message() {
        return Some(Unparsable::Unfinished);
    }
    error.is_parse().then_some(Unparsable::Malformed)
}

/// Sends what is unsent and says good-bye. If the client may still be sending, it is read from for a
/// while: closing on unread bytes would reset the connection and could take the answer with it.
async fn close(mut io: Io, wire: &Wire, last: Option<Unparsable>, slow: bool) {
    wire.enter(Phase::Closing);
    if let Some(why) = last {
        wire.push(&why.answer());
    }
    let _ = tokio::time::timeout(LINGER, poll_fn(|cx| closing(&mut io, wire, slow, cx))).await;
}

fn closing(io: &mut Io, wire: &Wire, slow: bool, cx: &mut Context<'_>) -> Poll<()> {
    if wire.pokes(cx).has(Pokes::ABORT) || ready!(wire.poll_shutdown(cx)).is_err() || !slow {
        return Poll::Ready(());
    }
    let mut scrap = BytesMut::with_capacity(4 * 1024);
    loop {
        let mut buf = tokio::io::ReadBuf::uninit(scrap.spare_capacity_mut());
        match ready!(std::pin::Pin::new(&mut *io).poll_read(cx, &mut buf)) {
            Ok(()) if !buf.filled().is_empty() => {}
            _ => return Poll::Ready(()),
        }
    }
}

/// A connection that is turned away: told so, and closed.
pub(super) async fn turn_away(stream: TcpStream) {
    let (read, write) = stream.into_split();
    let wire = Arc::new(Wire::new(write));
    let io = Io::new(read, Arc::clone(&wire));
    close(io, &wire, Some(Unparsable::TooManyConnections), true).await;
}
