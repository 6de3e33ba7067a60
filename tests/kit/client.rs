//! A keep-alive HTTP/1.1 client: a bounded pool of raw connections, and the moment of each step.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::stopwatch::Stopwatch;

/// A connection that lay unused for longer is not reused: the server may be about to close it, and
/// such a race would look like a failure of the server.
const IDLE_US_MAX: u64 = 5_000_000;

/// How long one call may take before it counts as failed.
const CALL_MAX: Duration = Duration::from_secs(30);

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// A `GET` of `target`.
    pub fn get(target: &'a str) -> Self {
        Self {
            method: "GET",
            target,
            headers: &[],
            body: None,
        }
    }

    /// A `POST` of a JSON body to `target`.
    pub fn post(target: &'a str, body: &'a str) -> Self {
        Self {
            method: "POST",
            target,
            headers: &[],
            body: Some(body),
        }
    }

    /// The head as bytes on the wire.
    pub fn head(&self) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: sale.test\r\n",
            self.method, self.target
        );
        for (name, value) in self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(body) = self.body {
            let length = body.len();
            let _ = write!(
                head,
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            );
        } else if self.method != "GET" {
            head.push_str("Content-Length: 0\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

/// One answer, complete.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(named)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `address`.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(1024),
        })
    }

    /// Sends these bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a whole request and reads its answer.
    pub async fn call(&mut self, request: &Request<'_>) -> Result<Answer> {
        let mut bytes = request.head();
        bytes.push_str(request.body.unwrap_or_default());
        self.write(bytes.as_bytes()).await?;
        self.answer().await
    }

    /// Reads the next answer, an interim one (100) included.
    pub async fn answer(&mut self) -> Result<Answer> {
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let (status, headers) = parse_head(&self.buffer[..head_end])?;
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = match answer.header("content-length") {
            Some(text) => text
                .parse()
                .map_err(|_| broken("content-length is no number"))?,
            None if status < 200 || status == 204 => 0,
            None => return Err(broken("no content-length")),
        };
        while self.buffer.len() < head_end + length {
            self.read_more().await?;
        }
        answer.body = self.buffer[head_end..head_end + length].to_vec();
        self.buffer.drain(..head_end + length);
        Ok(answer)
    }

    async fn read_more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "closed by the server")),
            _ => Ok(()),
        }
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn parse_head(head: &[u8]) -> Result<(u16, Vec<(String, String)>)> {
    let head = std::str::from_utf8(head).map_err(|_| broken("head is not UTF-8"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status
        .and_then(|line| line.get(..3))
        .and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| broken("no status line"))?;
    let header = |line: &str| {
        line.split_once(':')
            .map(|(n, v)| (n.to_owned(), v.trim().into()))
    };
    Ok((status, lines.filter_map(header).collect()))
}

/// One call as its sender saw it, in microseconds of the pool's stopwatch.
pub struct Exchange {
    pub sent: u64,
    pub received: u64,
    pub answer: Result<Answer>,
}

struct Idle {
    /// Connections of an earlier generation died with their server.
    generation: u64,
    connections: Vec<(u64, Connection)>,
}

/// At most so many connections to one server, shared by everybody.
pub struct Pool {
    pub stopwatch: Stopwatch,
    /// Connections opened so far.
    pub opened: AtomicU64,
    address: SocketAddr,
    /// When to stop calling, so that a server that hangs cannot hold everybody for a long time.
    closes: u64,
    permits: Semaphore,
    /// Held for a push or a pop.
    idle: Mutex<Idle>,
}

impl Pool {
    /// A pool of at most `connections` to `address`, whose calls all fail from `closes` on.
    pub fn new(address: SocketAddr, connections: usize, stopwatch: Stopwatch, closes: u64) -> Self {
        let idle = Idle {
            generation: 0,
            connections: Vec::new(),
        };
        Self {
            stopwatch,
            opened: AtomicU64::new(0),
            address,
            closes,
            permits: Semaphore::new(connections),
            idle: Mutex::new(idle),
        }
    }

    /// Forgets every connection: the server was killed.
    pub fn reset(&self) {
        let mut idle = self
            .idle
            .lock()
            .expect("no user of the pool panics under its lock");
        idle.generation += 1;
        idle.connections.clear();
    }

    /// Makes one call. A failed call is not repeated here: whether to retry is the visitor's choice.
    pub async fn call(&self, request: &Request<'_>) -> Exchange {
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let sent = self.stopwatch.us();
        let answer = if sent >= self.closes {
            Err(Error::new(ErrorKind::TimedOut, "out of time"))
        } else {
            let answer = timeout(CALL_MAX, self.exchange(request, sent)).await;
            answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, "no answer in time")))
        };
        Exchange {
            sent,
            received: self.stopwatch.us(),
            answer,
        }
    }

    async fn exchange(&self, request: &Request<'_>, now: u64) -> Result<Answer> {
        let (generation, kept) = self.take(now);
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                Connection::open(self.address).await?
            }
        };
        let answer = connection.call(request).await?;
        if !answer
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"))
        {
            self.keep(generation, connection);
        }
        Ok(answer)
    }

    fn take(&self, now: u64) -> (u64, Option<Connection>) {
        let mut idle = self
            .idle
            .lock()
            .expect("no user of the pool panics under its lock");
        // Last in, first out: when the newest has lain too long, all have.
        let newest = idle.connections.pop();
        let fresh = newest.filter(|(since, _)| now.saturating_sub(*since) <= IDLE_US_MAX);
        if fresh.is_none() {
            idle.connections.clear();
        }
        (idle.generation, fresh.map(|(_, connection)| connection))
    }

    fn keep(&self, generation: u64, connection: Connection) {
        let now = self.stopwatch.us();
        let mut idle = self
            .idle
            .lock()
            .expect("no user of the pool panics under its lock");
        if idle.generation == generation {
            idle.connections.push((now, connection));
        }
    }
}
