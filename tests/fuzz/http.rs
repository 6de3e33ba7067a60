//! A whole connection of hostile bytes against the real HTTP layer: it ends, every answer is
//! well-formed HTTP, and none is our fault.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate::clock::Clock;
use tidegate::http::{Build, Face, ROUTES, Settings, Shared, Source, serve_one};
use tidegate::room::effects::Effects;
use tidegate::telemetry::metrics::Metrics;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

use super::answers;
use crate::api::desk::Desk;
use crate::room::house::House;

const ADMIN_TOKEN: &str = "the-admin-token-of-tests";
/// A room serves so many connections, so that its making does not take longer than they do.
const CONNECTIONS_MAX: u32 = 512;
/// A connection that is not over after so many turns never will be.
const TURNS_MAX: u32 = 1_000_000;
/// So many pieces at most: what is read so far is looked at again with each.
const PIECES_MAX: usize = 64;

/// For timeouts, which are made and never reached.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
});

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// The first byte says to whom the connection belongs and in how large pieces it comes; then it
/// comes. `$T` in it is a token in line, `$R` one whose turn it is, `$P` a pass, `$A` the operators'
/// word.
pub fn run(bytes: &[u8]) {
    let Some((&mode, rest)) = bytes.split_first() else {
        return;
    };
    WORLD.with_borrow_mut(|world| {
        if world.as_ref().is_some_and(|world| world.connections == 0) {
            *world = None;
        }
        let world = world.get_or_insert_with(World::new);
        world.connections -= 1;
        let face = match mode & 1 {
            0 => Face::Visitor,
            _ => Face::Admin {
                open_reads: mode & 2 == 0,
            },
        };
        let said = world.told(rest);
        let heard = world.connection(said.clone(), usize::from(mode >> 2), face);
        answers::check(&said, &heard);
    });
}

struct World {
    shared: Arc<Shared>,
    words: [(&'static [u8], String); 4],
    connections: u32,
}

impl World {
    fn new() -> Self {
        let mut house = House::new(crate::room::house::policy());
        house.room.set_loaded(true);
        let inside = house.join("sale").token;
        house.pass(Duration::from_secs(1));
        let pass = house.enter(&inside).unwrap().pass;
        let (ready, waiting) = (house.join("sale").token, house.join("other").token);
        house.pass(Duration::from_secs(1));
        for _ in 0..3 {
            house.join("other");
        }
        let (clock, _) = Clock::manual(house.now.0);
        let settings = Settings {
            admin_token: Some(ADMIN_TOKEN.to_owned()),
            ..Settings::default()
        };
        let build = Build {
            version: "1.2.3",
            commit: "abcdef0",
            built: "2026-11-20T00:00:00Z",
        };
        let room = Arc::clone(&house.room);
        let desk: Arc<dyn Effects> = Arc::new(Desk::new(house));
        let metrics = Arc::new(Metrics::new(ROUTES));
        Self {
            shared: Arc::new(Shared::new(room, desk, clock, metrics, settings, build)),
            words: [
                (b"$T", waiting),
                (b"$R", ready),
                (b"$P", pass),
                (b"$A", ADMIN_TOKEN.to_owned()),
            ],
            connections: CONNECTIONS_MAX,
        }
    }

    /// What goes over the connection, the words put in.
    fn told(&self, bytes: &[u8]) -> Vec<u8> {
        let mut said = Vec::with_capacity(bytes.len() + 512);
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            let word = self.words.iter().find(|(mark, _)| rest.starts_with(mark));
            if let Some((mark, word)) = word {
                said.extend_from_slice(word.as_bytes());
                rest = &rest[mark.len()..];
            } else {
                said.push(byte);
                rest = after;
            }
        }
        said
    }

    /// Runs a connection to its end, and answers what came out of it. `piece` bytes come at a time
    /// and the next ones a little later (or more at a time, if they were too many); 0: all at once.
    fn connection(&self, said: Vec<u8>, piece: usize, face: Face) -> Vec<u8> {
        let heard = Heard::default();
        let piece = if piece == 0 {
            said.len()
        } else {
            piece.max(said.len() / PIECES_MAX)
        };
        let said = Said {
            bytes: said,
            at: 0,
            piece,
            is_late: false,
        };
        let _timeouts = RUNTIME.enter();
        let shared = Arc::clone(&self.shared);
        let mut served = pin!(serve_one(said, heard.clone(), shared, face));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        for _ in 0..TURNS_MAX {
            if served
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                return std::mem::take(&mut heard.0.lock());
            }
            let is_woken = woken.0.swap(false, Ordering::Relaxed);
            assert!(is_woken, "the connection waits for what does not come");
        }
        panic!("the connection does not end");
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The client's side: what it says, then the end.
struct Said {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
    is_late: bool,
}

impl Said {
    /// Every piece but the first has to be asked for twice.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_late {
            self.is_late = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Said {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::task::ready!(self.poll(cx));
        let left = self.bytes.len() - self.at;
        let to = self.at + self.piece.min(left).min(buf.remaining());
        buf.put_slice(&self.bytes[self.at..to]);
        self.at = to;
        self.is_late = to < self.bytes.len();
        Poll::Ready(Ok(()))
    }
}

impl Source for Said {
    fn poll_readable(
        &mut self,
        cx: &mut Context<'_>,
        _byte: &mut [u8; 1],
    ) -> Poll<std::io::Result<()>> {
        self.poll(cx).map(Ok)
    }
}

/// The client's side: what it hears.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Heard {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.lock().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
