//! The load: keep-alive connections on one event loop a core.
//!
//! *Open loop*: requests come when they come (a Poisson process at a given rate), whether or not
//! earlier ones were answered; one that finds no free connection waits for one, and its latency
//! counts from the moment it was meant to be sent. *Closed loop*: each connection asks again as soon
//! as it is answered; that finds the most a server can do, and says nothing about latency.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    Closed,
    /// So many a second.
    Open(f64),
}

/// What to send, where, for how long.
pub struct Load<'a> {
    pub address: SocketAddr,
    /// Writes the `n`-th request.
    pub request: &'a (dyn Fn(u64, &mut Vec<u8>) + Sync),
    /// The number of the first request.
    pub from: u64,
    pub pace: Pace,
    pub connections: usize,
    /// Event loops, each with its share of connections and requests.
    pub threads: usize,
    pub lasts: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Nanoseconds from the intended start of a request to the end of its answer.
    pub latency: Histogram<u64>,
    /// Answers of class 2xx within the time.
    pub answered: u64,
    /// Other answers, and requests that had none when the patience ended.
    pub errors: u64,
    pub sent: u64,
    pub took: Duration,
}

/// How long answers are waited for after the last request of an open loop.
const PATIENCE: Duration = Duration::from_secs(1);
const READ: usize = 16 * 1024;
const LONGEST_NS: u64 = 60_000_000_000;

impl Outcome {
    fn none() -> Self {
        Self {
            latency: Histogram::new_with_bounds(100, LONGEST_NS, 3).expect("fine bounds"),
            answered: 0,
            errors: 0,
            sent: 0,
            took: Duration::ZERO,
        }
    }

    /// Answers a second.
    pub fn per_sec(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }

    /// Milliseconds that a share of all requests (0–1) took at most.
    pub fn ms(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e6
    }

    fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("the same bounds");
        self.answered += other.answered;
        self.errors += other.errors;
        self.sent += other.sent;
        self.took = self.took.max(other.took);
    }
}

impl Load<'_> {
    pub fn run(&self) -> Outcome {
        let mut all = Outcome::none();
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..self.threads)
                .map(|thread| scope.spawn(move || Loop::new(self, thread).run()))
                .collect();
            for thread in running {
                all.add(&thread.join().expect("a generator does not panic"));
            }
        });
        all
    }
}

struct Connection {
    stream: TcpStream,
    /// When the request under way was meant to be sent.
    meant: u64,
    unsent: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
}

struct Loop<'a> {
    load: &'a Load<'a>,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    /// Requests that should have been sent, by when.
    late: VecDeque<u64>,
    poll: Poll,
    next: u64,
    outcome: Outcome,
    began: Instant,
    seed: u64,
}

impl<'a> Loop<'a> {
    fn new(load: &'a Load<'a>, thread: usize) -> Self {
        let poll = Poll::new().expect("the system has descriptors");
        let share = load.connections.div_ceil(load.threads);
        let connections: Vec<_> = (0..share)
            .map(|n| {
                let stream = std::net::TcpStream::connect(load.address).expect("it listens");
                stream.set_nodelay(true).expect("a fresh socket");
                stream.set_nonblocking(true).expect("a fresh socket");
                let mut stream = TcpStream::from_std(stream);
                let both = Interest::READABLE | Interest::WRITABLE;
                poll.registry()
                    .register(&mut stream, Token(n), both)
                    .expect("a fresh socket");
                Connection {
                    stream,
                    meant: 0,
                    unsent: Vec::new(),
                    buffer: vec![0; READ],
                    filled: 0,
                }
            })
            .collect();
        Self {
            load,
            idle: (0..share).collect(),
            connections,
            late: VecDeque::new(),
            poll,
            next: load.from + thread as u64,
            outcome: Outcome::none(),
            began: Instant::now(),
            seed: 0x9e37_79b9_7f4a_7c15 ^ (load.from + thread as u64),
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn run(mut self) -> Outcome {
        let end = self.load.lasts.as_nanos() as u64;
        let patience = PATIENCE.as_nanos() as u64;
        let mut events = Events::with_capacity(1024);
        self.began = Instant::now();
        let mut due = self.gap();
        loop {
            let now = self.now();
            match self.load.pace {
                Pace::Closed if now < end => {
                    while let Some(at) = self.idle.pop() {
                        self.send(at, now);
                    }
                }
                Pace::Closed => break,
                Pace::Open(_) => {
                    while due <= now && due < end {
                        self.late.push_back(due);
                        due += self.gap();
                    }
                    while !self.late.is_empty() {
                        let Some(at) = self.idle.pop() else { break };
                        let meant = self.late.pop_front().unwrap_or(now);
                        self.send(at, meant);
                    }
                    let quiet = self.idle.len() == self.connections.len();
                    if now >= end + patience || (now >= end && quiet) {
                        break;
                    }
                }
            }
            // An event loop's clock is too coarse for the gaps of an open loop: it is asked without
            // waiting while a request is due soon.
            let wait = match self.load.pace {
                Pace::Closed => Duration::from_millis(10),
                Pace::Open(_) if due < now + 2_000_000 => Duration::ZERO,
                Pace::Open(_) => Duration::from_millis(1),
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => panic!("{error}"),
                _ => {}
            }
            for event in &events {
                self.turn(event.token().0, end);
            }
        }
        self.finish(end)
    }

    /// The time to the next request of an open loop, in nanoseconds.
    fn gap(&mut self) -> u64 {
        let Pace::Open(per_sec) = self.load.pace else {
            return 0;
        };
        // SplitMix64 (Steele et al. 2014).
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.seed;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let even = ((x >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        (-even.ln() * 1e9 * self.load.threads as f64 / per_sec) as u64
    }

    fn send(&mut self, at: usize, meant: u64) {
        let connection = &mut self.connections[at];
        connection.meant = meant;
        connection.unsent.clear();
        (self.load.request)(self.next, &mut connection.unsent);
        self.next += self.load.threads as u64;
        self.outcome.sent += 1;
        connection.flush();
    }

    fn turn(&mut self, at: usize, end: u64) {
        let connection = &mut self.connections[at];
        connection.flush();
        if !connection.fill() {
            return;
        }
        let Some(answer) = super::answer::first(&connection.buffer[..connection.filled]) else {
            return;
        };
        // One request at a time: nothing follows the answer.
        connection.filled = 0;
        let meant = connection.meant;
        let now = self.now();
        self.idle.push(at);
        if !(200..300).contains(&answer.status) {
            self.outcome.errors += 1;
        } else if now <= end || self.load.pace != Pace::Closed {
            self.outcome.answered += 1;
        }
        self.outcome.latency.saturating_record(now - meant);
    }

    /// Counts what had no answer: at least so late, and an error.
    fn finish(mut self, end: u64) -> Outcome {
        let now = self.now();
        if self.load.pace != Pace::Closed {
            let idle: std::collections::HashSet<usize> = self.idle.iter().copied().collect();
            let waiting = (0..self.connections.len()).filter(|at| !idle.contains(at));
            let meant = waiting.map(|at| self.connections[at].meant);
            for meant in meant.chain(self.late.iter().copied()) {
                self.outcome.errors += 1;
                self.outcome.latency.saturating_record(now - meant);
            }
        }
        self.outcome.took = Duration::from_nanos(end);
        self.outcome
    }
}

impl Connection {
    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::NotConnected => return,
                Err(error) => panic!("the server hung up: {error}"),
            }
        }
    }

    /// Reads what is there. `false`: nothing was.
    fn fill(&mut self) -> bool {
        let before = self.filled;
        loop {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => panic!("the server hung up"),
                Ok(got) => {
                    self.filled += got;
                    // A short read has emptied the socket; the next bytes make an event of their own.
                    if self.filled < self.buffer.len() {
                        return true;
                    }
                    self.buffer.resize(self.buffer.len() * 2, 0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.filled > before;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the server hung up: {error}"),
            }
        }
    }
}
