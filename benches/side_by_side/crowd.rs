//! The visitors: their tokens, gathered by joining over HTTP as they would, and the requests they
//! make.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Requests that are under way on a connection while the line fills.
const DEPTH: usize = 64;
const CONNECTIONS: usize = 4;

/// A request that joins, for one visitor after the other.
pub const JOIN: &[u8] = b"POST /api/v1/queue/join HTTP/1.1\r\nhost: bench\r\n\
    content-type: application/json\r\ncontent-length: 19\r\n\r\n{\"event_id\":\"sale\"}";

/// Tokens, all of one width.
pub struct Crowd {
    text: Vec<u8>,
    width: usize,
}

impl Crowd {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.text.len() / self.width
    }

    /// The `n`-th token.
    pub fn token(&self, n: usize) -> &[u8] {
        &self.text[n * self.width..][..self.width]
    }

    /// The first of them.
    pub fn first(&self, count: usize) -> Self {
        Self {
            text: self.text[..count * self.width].to_vec(),
            width: self.width,
        }
    }

    /// Writes the `n`-th poll: each visitor in turn, all over the line, so that none polls again
    /// before all others have.
    pub fn poll(&self, n: u64, out: &mut Vec<u8>) {
        // A prime that no size of a crowd here is a multiple of: the walk meets everybody.
        const STEP: u64 = 2_654_435_761;
        let len = self.len() as u64;
        let at = (n % len) * (STEP % len) % len;
        out.extend_from_slice(b"GET /api/v1/queue/status?token=");
        out.extend_from_slice(self.token(at as usize));
        out.extend_from_slice(b" HTTP/1.1\r\nhost: bench\r\n\r\n");
    }

    /// Writes a request to enter by the `n`-th visitor.
    pub fn enter(&self, n: u64, out: &mut Vec<u8>) {
        const HEAD: &str = "{\"waiting_token\":\"";
        let token = self.token(n as usize % self.len());
        let length = HEAD.len() + token.len() + 2;
        out.extend_from_slice(b"POST /api/v1/queue/enter HTTP/1.1\r\nhost: bench\r\n");
        out.extend_from_slice(b"content-type: application/json\r\ncontent-length: ");
        out.extend_from_slice(format!("{length}\r\n\r\n{HEAD}").as_bytes());
        out.extend_from_slice(token);
        out.extend_from_slice(b"\"}");
    }

    /// Joins `count` visitors and keeps their tokens. `progress` is told how many have joined, each
    /// number once.
    pub fn join(address: SocketAddr, count: usize, progress: impl Fn(usize) + Sync) -> Self {
        let share = count / CONNECTIONS;
        let all = AtomicUsize::new(0);
        let joins = || progress(all.fetch_add(1, Relaxed) + 1);
        let parts: Vec<Self> = std::thread::scope(|scope| {
            let joins = &joins;
            let threads: Vec<_> = (0..CONNECTIONS)
                .map(|n| {
                    let count = if n == 0 {
                        count - share * (CONNECTIONS - 1)
                    } else {
                        share
                    };
                    scope.spawn(move || joined(address, count, joins))
                })
                .collect();
            let parts = threads.into_iter().map(|thread| thread.join());
            parts.map(|part| part.expect("joins succeed")).collect()
        });
        let width = parts[0].width;
        // In turns, as they joined: whoever comes earlier here is about as much further in front.
        let mut text = Vec::with_capacity(count * width);
        for n in 0..parts[0].len() {
            for part in parts.iter().filter(|part| n < part.len()) {
                text.extend_from_slice(part.token(n));
            }
        }
        Self { text, width }
    }
}

fn joined(address: SocketAddr, count: usize, joins: impl Fn()) -> Crowd {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a fresh socket");
    let mut crowd = Crowd {
        text: Vec::new(),
        width: 0,
    };
    let (mut asked, mut had) = (0, 0);
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while had < count {
        let more = (DEPTH - (asked - had)).min(count - asked);
        if more >= DEPTH / 2 || asked == count || had == asked {
            stream.write_all(&JOIN.repeat(more)).expect("it reads");
            asked += more;
        }
        let got = stream.read(&mut chunk).expect("it answers");
        assert!(got > 0, "the server hung up");
        buffer.extend_from_slice(&chunk[..got]);
        let mut done = 0;
        while let Some(answer) = super::answer::first(&buffer[done..]) {
            let body = &buffer[done + answer.head..done + answer.len()];
            done += answer.len();
            if answer.status == 503 {
                // The journal is full for a moment: ask again.
                asked -= 1;
                continue;
            }
            assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(body));
            let start = b"{\"waiting_token\":\"".len();
            let end = start
                + body[start..]
                    .iter()
                    .position(|b| *b == b'"')
                    .expect("quoted");
            crowd.width = end - start;
            crowd.text.extend_from_slice(&body[start..end]);
            had += 1;
            joins();
        }
        buffer.drain(..done);
    }
    crowd
}
