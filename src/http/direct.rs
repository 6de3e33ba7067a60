//! Plain polls, answered beneath hyper: read onto the stack, decided as any other, written in one go.
//! What is no plain poll is put back for hyper, and so is all that follows it until hyper is through.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::conn::Listener;
use super::date;
use super::io::Io;
use super::plain::{self, Plain};
use super::reply::{Call, Reply, Short};
use super::route::{Method, Route, may_answer};
use super::settings::Settings;
use super::status::status;
use super::wire::{OUT_HIGH, Pokes, Wire};
use crate::model::Micros;

/// Read at a time, as hyper does at first.
const READ: usize = 8 * 1024;
/// What answers are gathered in is given back when it grew beyond this.
const KEPT: usize = 32 * 1024;

thread_local! {
    /// Where the answers of one turn are gathered: hot on each thread, where a buffer of each
    /// connection would be cold.
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Something for hyper.
    Hyper,
    /// The good-bye.
    Close,
    /// Nothing: it is broken, or patience is at its end.
    Cut,
}

/// Answers plain polls until something else is next. Holds no buffer while it waits.
pub(super) fn poll(
    io: &mut Io,
    wire: &Wire,
    listener: &Listener,
    cx: &mut Context<'_>,
) -> Poll<Next> {
    let pokes = wire.pokes(cx);
    if pokes.has(Pokes::ABORT) {
        return Poll::Ready(Next::Cut);
    }
    loop {
        // What was answered is sent before more is asked for.
        match wire.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Next::Cut),
            Poll::Pending => break,
        }
        let mut room = [const { MaybeUninit::uninit() }; READ];
        let mut read = ReadBuf::uninit(&mut room);
        match io.poll_bytes(cx, &mut read) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Next::Close),
            Poll::Pending => {
                if wire.is_draining() {
                    return Poll::Ready(Next::Close);
                }
                break;
            }
        }
        let got = read.filled();
        if got.is_empty() {
            return Poll::Ready(Next::Close);
        }
        let mut out = OUT.take();
        let used = answer(listener, got, &mut out);
        let sent = wire.send(&out, cx);
        if out.capacity() <= KEPT {
            out.clear();
            OUT.set(out);
        }
        if sent.is_err() {
            return Poll::Ready(Next::Cut);
        }
        let rest = &got[used.bytes..];
        if !rest.is_empty() {
            io.put_back(Bytes::copy_from_slice(rest));
        }
        if used.odd {
            return Poll::Ready(Next::Hyper);
        }
    }
    if pokes.has(Pokes::EXPIRED) && wire.is_stale() {
        return Poll::Ready(Next::Cut);
    }
    Poll::Pending
}

/// How far bytes were answered.
struct Used {
    bytes: usize,
    /// What follows is no plain poll.
    odd: bool,
}

/// Answers the plain polls that `got` begins with, as many as may be unsent.
fn answer(listener: &Listener, got: &[u8], out: &mut Vec<u8>) -> Used {
    let shared = &*listener.shared;
    let mut used = Used {
        bytes: 0,
        odd: !listener.direct || shared.is_draining(),
    };
    let settings = shared.settings.load();
    let limits = &settings.limits;
    let mut now = None;
    while !used.odd && used.bytes < got.len() && out.len() <= OUT_HIGH {
        let mut room = plain::room();
        match plain::parse(&got[used.bytes..], limits.headers, &mut room) {
            Some(plain) if plain.url_bytes <= limits.url_bytes => {
                used.bytes += plain.bytes;
                let began = now.unwrap_or_else(|| shared.now());
                now = Some(one(listener, &settings, &plain, began, out));
            }
            _ => used.odd = true,
        }
    }
    used
}

/// Answers one poll, and says when that was done.
fn one(
    listener: &Listener,
    settings: &Settings,
    plain: &Plain<'_, '_>,
    began: Micros,
    out: &mut Vec<u8>,
) -> Micros {
    let shared = &*listener.shared;
    let call = Call {
        shared,
        settings,
        face: listener.face,
        route: Route::Status,
        method: Method::Get,
        began,
    };
    let mut text = Short::new();
    let outcome = may_answer(shared, call.route, call.method)
        .and_then(|()| status(shared, plain.query, plain.headers, began, &mut text))
        .map(Reply::<Option<Bytes>>::ok);
    let outcome = call.named(outcome, plain.headers);
    let origin = call.origin(plain.headers);
    let refused;
    let (status, body) = match &outcome {
        Ok(reply) => {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            (
                reply.status,
                reply.body.as_deref().unwrap_or(text.as_bytes()),
            )
        }
        Err((refusal, trace)) => {
            let status = refusal.code.status();
            let reason = status.canonical_reason().unwrap_or_default();
            for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
            refused = refusal.body(trace);
            (status, &*refused)
        }
    };
    call.tell(&outcome, origin.as_ref(), out);
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(b"\r\ndate: ");
    out.extend_from_slice(&date::text(began));
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
    let done = shared.now();
    call.count(status, done);
    done
}
