//! A Redis connection with one command in flight, and a pool of them: what a client library with a
//! pool does, without a library's own cost.

use std::io;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// An answer, as far as anybody here looks into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Number(i64),
    Text(Vec<u8>),
}

impl Reply {
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Nil | Self::Text(_) => None,
        }
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
            out: Vec::with_capacity(512),
        })
    }

    /// Sends one command and waits for its answer.
    pub async fn ask(&mut self, command: &[&[u8]]) -> io::Result<Reply> {
        self.out.clear();
        write(command, &mut self.out);
        self.stream.write_all(&self.out).await?;
        self.buffer.clear();
        loop {
            self.stream.read_buf(&mut self.buffer).await?;
            if let Some((reply, _)) = read(&self.buffer) {
                return Ok(reply);
            }
        }
    }
}

/// Writes a command.
fn write(command: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for part in command {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// The first reply of `bytes` and how long it is, when all of it is there.
fn read(bytes: &[u8]) -> Option<(Reply, usize)> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (kind, text) = (bytes[0], &bytes[1..line]);
    let number = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    let begin = line + 2;
    match kind {
        b':' => Some((Reply::Number(number()?), begin)),
        b'$' => match usize::try_from(number()?) {
            Err(_) => Some((Reply::Nil, begin)),
            Ok(length) => {
                let body = bytes.get(begin..begin + length)?;
                bytes.get(begin + length + 1)?;
                Some((Reply::Text(body.to_vec()), begin + length + 2))
            }
        },
        b'*' => {
            let mut at = begin;
            let count = number()?;
            for _ in 0..count {
                at += read(bytes.get(at..)?)?.1;
            }
            Some((Reply::Number(count), at))
        }
        b'-' => panic!("redis refused: {}", String::from_utf8_lossy(text)),
        _ => Some((Reply::Text(text.to_vec()), begin)),
    }
}

/// Connections that requests take turns with.
pub struct Pool {
    free: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Pool {
    pub async fn open(address: &str, size: usize) -> io::Result<Self> {
        let mut free = Vec::with_capacity(size);
        for _ in 0..size {
            free.push(Connection::open(address).await?);
        }
        Ok(Self {
            free: Mutex::new(free),
            permits: Semaphore::new(size),
        })
    }

    /// Runs `work` with a connection of its own.
    pub async fn with<T>(&self, work: impl AsyncFnOnce(&mut Connection) -> io::Result<T>) -> T {
        let _permit = self.permits.acquire().await.expect("it is never closed");
        let taken = self.free.lock().pop();
        let mut connection = taken.expect("as many connections as permits");
        let done = work(&mut connection).await.expect("redis answers");
        self.free.lock().push(connection);
        done
    }
}
