//! What a connection's task, its hyper connection and the sweeper share: the phase with its age,
//! the pokes, and the answers not yet sent.
//!
//! Answers are gathered here and sent once per turn of the task, so that sixteen pipelined
//! requests cost one write. (hyper's own `pipeline_flush` holds back, and at worst loses, an answer
//! that is followed by an unfinished or unreadable request.)

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use crate::sync::{AtomicBool, AtomicU8, AtomicU32, OnceLock, fence};

/// Above this many unsent bytes a connection's next request waits.
pub(super) const OUT_HIGH: usize = 64 * 1024;
/// A buffer that grew beyond this is given back when it is empty.
const OUT_KEPT: usize = 4 * 1024;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing is owed by either side.
    Idle = 0,
    /// The first bytes of a head have come, its end has not.
    Head = 1,
    /// A request is being answered.
    Request = 2,
    /// The answer is not fully sent.
    Answer = 3,
    /// The last words have been said.
    Closing = 4,
}

impl Phase {
    const fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Idle,
            1 => Self::Head,
            2 => Self::Request,
            3 => Self::Answer,
            _ => Self::Closing,
        }
    }
}

/// Why a connection's task was woken by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pokes(u8);

impl Pokes {
    pub const NONE: Self = Self(0);
    /// The phase has lasted too long.
    pub const EXPIRED: Self = Self(1);
    /// Quiet for a while: give the buffers back.
    pub const PARK: Self = Self(2);
    /// The listener stops: finish what was begun.
    pub const DRAIN: Self = Self(4);
    /// Out of patience.
    pub const ABORT: Self = Self(8);

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

pub(super) struct Wire {
    /// The phase (upper 8 bits) and how many sweeps it has lasted (the rest).
    state: AtomicU32,
    pokes: AtomicU8,
    /// Draining does not end: remembered for whoever looks later.
    draining: AtomicBool,
    /// The request's body may not have been read: close slowly, or the answer may be lost.
    linger: AtomicBool,
    /// Whether hyper has the connection, and buffers for it.
    buffered: AtomicBool,
    /// Whether the last request that hyper took had no body: after its answer the next one begins.
    bodiless: AtomicBool,
    /// The task's waker; a spawned task keeps the same one.
    waker: OnceLock<Waker>,
    /// Taken by the connection's own task only, so never contended.
    out: Mutex<Out>,
}

struct Out {
    half: Box<dyn AsyncWrite + Send + Unpin>,
    bytes: Vec<u8>,
    sent: usize,
}

const AGE: u32 = 0x00FF_FFFF;

impl Wire {
    pub fn new(half: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            state: AtomicU32::new(0),
            pokes: AtomicU8::new(0),
            draining: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            buffered: AtomicBool::new(false),
            bodiless: AtomicBool::new(false),
            waker: OnceLock::new(),
            out: Mutex::new(Out {
                half: Box::new(half),
                bytes: Vec::new(),
                sent: 0,
            }),
        }
    }

    /// Enters a phase, at age 0.
    pub fn enter(&self, phase: Phase) {
        self.state
            .store(u32::from(phase as u8) << 24, Ordering::Relaxed);
    }

    pub fn phase(&self) -> Phase {
        Phase::from_bits(self.state.load(Ordering::Relaxed) >> 24)
    }

    /// The phase and how many sweeps it has lasted; counts this sweep.
    pub fn age(&self) -> (Phase, u32) {
        let seen = self.state.load(Ordering::Relaxed);
        if seen & AGE < AGE {
            // Lost against a change of phase: then that phase is new and its age rightly 0.
            let _ =
                self.state
                    .compare_exchange(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        (Phase::from_bits(seen >> 24), seen & AGE)
    }

    /// Whether the phase has not changed since the last sweep.
    pub fn is_stale(&self) -> bool {
        self.state.load(Ordering::Relaxed) & AGE > 0
    }

    /// Wakes the task and tells it why.
    pub fn poke(&self, why: Pokes) {
        self.pokes.fetch_or(why.0, Ordering::AcqRel);
        if why.has(Pokes::DRAIN) {
            self.draining.store(true, Ordering::Relaxed);
        }
        // With the one in `pokes`: either the task sees the poke, or its waker is seen here.
        fence(Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Takes the pokes, and leaves the waker for the next ones. Called at each turn of the task.
    pub fn pokes(&self, cx: &Context<'_>) -> Pokes {
        if self.waker.get().is_none() {
            self.waker.get_or_init(|| cx.waker().clone());
            fence(Ordering::SeqCst);
        }
        if self.pokes.load(Ordering::Acquire) == 0 {
            return Pokes::NONE;
        }
        Pokes(self.pokes.swap(0, Ordering::AcqRel))
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Asks that the connection be closed slowly.
    pub fn ask_linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    /// hyper takes the connection, or has given it back.
    pub fn set_buffered(&self, buffered: bool) {
        self.buffered.store(buffered, Ordering::Relaxed);
        self.bodiless.store(false, Ordering::Relaxed);
    }

    pub fn is_buffered(&self) -> bool {
        self.buffered.load(Ordering::Relaxed)
    }

    /// hyper takes a request.
    pub fn take_request(&self, has_body: bool) {
        self.bodiless.store(!has_body, Ordering::Relaxed);
        self.enter(Phase::Request);
    }

    /// Whether the last request that hyper took has been answered and was read to its end.
    pub fn owes_nothing(&self) -> bool {
        match self.phase() {
            Phase::Idle | Phase::Head => true,
            Phase::Answer => self.bodiless.load(Ordering::Relaxed),
            Phase::Request | Phase::Closing => false,
        }
    }

    /// Whether hyper has answered a request, all of it is sent, and whatever comes is a new one.
    pub fn is_between(&self) -> bool {
        self.bodiless.load(Ordering::Relaxed) && self.phase() == Phase::Idle
    }

    pub fn should_linger(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    /// Adds to what is to be sent.
    pub fn push(&self, bytes: &[u8]) {
        self.out.lock().bytes.extend_from_slice(bytes);
    }

    /// Sends what the socket takes at once, and keeps the rest to be sent.
    pub fn send(&self, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        let mut rest = bytes;
        let mut out = self.out.lock();
        while out.bytes.is_empty() && !rest.is_empty() {
            match Pin::new(&mut out.half).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => rest = &rest[n..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        out.bytes.extend_from_slice(rest);
        self.enter(match out.bytes.is_empty() {
            true => Phase::Idle,
            false => Phase::Answer,
        });
        Ok(())
    }

    /// Waits while too much is unsent.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.lock().bytes.len() <= OUT_HIGH {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush(cx)
    }

    /// Sends what is unsent.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.out.lock();
        if out.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let Out { half, bytes, sent } = &mut *out;
        while *sent < bytes.len() {
            let n = ready!(Pin::new(&mut *half).poll_write(cx, &bytes[*sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += n;
        }
        bytes.clear();
        *sent = 0;
        if bytes.capacity() > OUT_KEPT {
            *bytes = Vec::new();
        }
        drop(out);
        if self.phase() == Phase::Answer {
            self.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is unsent, then says that nothing follows.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.out.lock().half).poll_shutdown(cx)
    }

    /// Gives an empty buffer's memory back.
    pub fn shrink(&self) {
        let mut out = self.out.lock();
        if out.bytes.is_empty() {
            out.bytes = Vec::new();
        }
    }
}

#[cfg(all(test, feature = "interleavings"))]
mod interleavings {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;
    use std::task::Wake;

    use super::*;
    use crate::sync::check;

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    /// Would catch a connection that goes to sleep for ever: it has not seen the poke, and who poked
    /// has not seen whom to wake.
    #[test]
    fn who_is_poked_sees_it_or_is_woken() {
        check(3, || {
            let wire = Arc::new(Wire::new(tokio::io::sink()));
            let poked = Arc::clone(&wire);
            let poker = loom::thread::spawn(move || poked.poke(Pokes::ABORT));
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let seen = wire.pokes(&Context::from_waker(&waker));
            poker.join().expect("it ends");
            assert!(seen.has(Pokes::ABORT) || woken.0.load(SeqCst));
        });
    }
}
