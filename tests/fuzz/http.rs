//! A whole connection of hostile bytes against the real HTTP layer: it ends, every answer is
//! well-formed HTTP, none is our fault, and it is the same whichever way polls go.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate::clock::Clock;
use tidegate::http::{Build, Face, Polls, ROUTES, Settings, Shared, serve_one};
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
/// So many pieces at most: what came so far is looked at again with each.
const PIECES_MAX: usize = 64;

/// For timeouts, which are made and never reached.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
});

thread_local! {
    static TWINS: RefCell<Option<Twins>> = const { RefCell::new(None) };
}

/// The first byte says to whom the connection belongs and in how large pieces it comes; then it
/// comes. `$T` in it is a token in line, `$R` one whose turn it is, `$P` a pass, `$A` the operators'
/// word.
pub fn run(bytes: &[u8]) {
    let Some((&mode, rest)) = bytes.split_first() else {
        return;
    };
    TWINS.with_borrow_mut(|twins| {
        if twins.as_ref().is_some_and(|twins| twins.connections == 0) {
            *twins = None;
        }
        let twins = twins.get_or_insert_with(|| Twins::new(|_| ()));
        let face = match mode & 1 {
            0 => Face::Visitor,
            _ => Face::Admin {
                open_reads: mode & 2 == 0,
            },
        };
        let said = twins.told(rest);
        let pieces: Vec<&[u8]> = match usize::from(mode >> 2) {
            0 => vec![&said],
            piece => said.chunks(piece.max(said.len() / PIECES_MAX)).collect(),
        };
        let heard = twins.connection(&pieces, usize::MAX, face);
        answers::check(&said, &heard);
    });
}

/// Two nodes with the same line: one answers plain polls beneath hyper, the other all through it.
pub struct Twins {
    direct: World,
    through: World,
    connections: u32,
}

impl Twins {
    pub fn new(change: impl Fn(&mut Settings)) -> Self {
        Self {
            direct: World::new(&change),
            through: World::new(&change),
            connections: CONNECTIONS_MAX,
        }
    }

    /// What goes over a connection, the words put in.
    pub fn told(&self, bytes: &[u8]) -> Vec<u8> {
        self.direct.told(bytes)
    }

    /// No node takes in anybody any more.
    pub fn start_draining(&self) {
        self.direct.shared.start_draining();
        self.through.shared.start_draining();
    }

    /// Runs a connection on both to its end, and answers what came out of it. Its pieces come one
    /// after the other; the client takes so many bytes of what it is sent at a time.
    pub fn connection(&mut self, pieces: &[&[u8]], takes: usize, face: Face) -> Vec<u8> {
        self.connections = self.connections.saturating_sub(1);
        let heard = self.direct.connection(pieces, takes, face, Polls::Direct);
        let other = self
            .through
            .connection(pieces, takes, face, Polls::ThroughHyper);
        let (one, other) = (comparable(&heard), comparable(&other));
        assert!(one == other, "directly:\n{one}\nthrough hyper:\n{other}");
        heard
    }
}

/// Without what is random or a time: dates, and ids and tokens that nobody asked for by name.
fn comparable(heard: &[u8]) -> String {
    let text = String::from_utf8_lossy(heard);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with("date: "));
    for line in &mut lines {
        let joined = line.contains("waiting_token");
        for (mark, is_random) in [
            (r#"trace_id":""#, true),
            (r#"waiting_token":""#, joined),
            (r#"poll_after_ms":"#, joined),
        ] {
            let Some((before, after)) = line.split_once(mark).filter(|_| is_random) else {
                continue;
            };
            let end = after.find(|c: char| !(c.is_alphanumeric() || "-_".contains(c)));
            let (value, rest) = after.split_at(end.unwrap_or(after.len()));
            if mark.starts_with("trace") && value.len() != 32 {
                continue;
            }
            *line = format!("{before}{mark}…{rest}");
        }
        // A number with fewer digits makes a shorter body.
        if let Some(length) = line.strip_prefix("content-length: ") {
            *line = format!("content-length: {} digits", length.len());
        }
    }
    lines.join("\n")
}

struct World {
    shared: Arc<Shared>,
    words: [(&'static [u8], String); 4],
}

impl World {
    fn new(change: impl Fn(&mut Settings)) -> Self {
        let mut house = House::new(crate::room::house::policy());
        house.room.set_loaded(true);
        // By name, so that twins have the same tickets.
        let join = |house: &House, event: &str, key: &str| {
            house.try_join(event, Some(key), None).unwrap().token
        };
        let inside = join(&house, "sale", "inside");
        house.pass(Duration::from_secs(1));
        let pass = house.enter(&inside).unwrap().pass;
        let ready = join(&house, "sale", "ready");
        let waiting = join(&house, "other", "waiting");
        house.pass(Duration::from_secs(1));
        for key in ["one", "two", "three"] {
            join(&house, "other", key);
        }
        let (clock, _) = Clock::manual(house.now.0);
        let mut settings = Settings {
            admin_token: Some(ADMIN_TOKEN.to_owned()),
            ..Settings::default()
        };
        change(&mut settings);
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
        }
    }

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

    fn connection(&self, pieces: &[&[u8]], takes: usize, face: Face, polls: Polls) -> Vec<u8> {
        let heard = Heard {
            bytes: Arc::default(),
            takes,
            is_late: false,
        };
        let pieces = pieces.iter().filter(|piece| !piece.is_empty());
        let said = Said {
            pieces: pieces.map(|piece| piece.to_vec()).collect(),
            is_late: false,
        };
        let _timeouts = RUNTIME.enter();
        let shared = Arc::clone(&self.shared);
        let mut served = pin!(serve_one(said, heard.clone(), shared, face, polls));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        for _ in 0..TURNS_MAX {
            if served
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                return std::mem::take(&mut heard.bytes.lock());
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
    pieces: VecDeque<Vec<u8>>,
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
        if let Some(mut piece) = self.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            self.is_late = rest.is_empty() && !self.pieces.is_empty();
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The client's side: what it hears, so many bytes at a time if it is slow.
#[derive(Clone)]
struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
    takes: usize,
    is_late: bool,
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.is_late = !self.is_late && self.takes < usize::MAX;
        if self.is_late {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let taken = bytes.len().min(self.takes);
        self.bytes.lock().extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
