//! A client that sends exactly the bytes it is given and reads answers one by one.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Only a server that hangs is this slow.
const HANG: Duration = Duration::from_secs(30);

/// One answer, as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(
            found.next().is_none(),
            "{name} stands there twice: {self:?}"
        );
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks that this is an error in the API's form, and answers its code.
    pub fn code(&self) -> String {
        let json = self.json();
        let error = &json["error"];
        for field in ["code", "message", "trace_id"] {
            assert!(
                error[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field}: {json}"
            );
        }
        assert_eq!(
            self.header("content-type"),
            Some("application/json; charset=utf-8")
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(
            error["retry_after_ms"].is_u64(),
            self.header("retry-after").is_some(),
            "both retry forms or none: {self:?}"
        );
        error["code"].as_str().unwrap().to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(HANG, TcpStream::connect(address))
            .await
            .unwrap()
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Sends bytes. A server that has hung up already is fine: its answer is what counts.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(HANG, self.stream.write_all(bytes.as_ref()))
            .await
            .expect("a send hangs");
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    async fn more(&mut self) -> bool {
        match timeout(HANG, self.stream.read_buf(&mut self.read))
            .await
            .expect("an answer hangs")
        {
            Ok(count) => count > 0,
            Err(_) => false,
        }
    }

    /// The next answer; `None` when the connection ends instead.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET").await
    }

    /// The next answer, to a request by this method (one to HEAD has no body).
    pub async fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                assert!(self.read.is_empty(), "half an answer: {:?}", self.read);
                return None;
            }
        };
        let head = String::from_utf8(self.read[..end].to_vec()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap();
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = match method {
            "HEAD" => 0,
            _ => answer
                .header("content-length")
                .map_or(0, |text| text.parse().unwrap()),
        };
        while self.read.len() < end + length {
            assert!(self.more().await, "a body ends early: {answer:?}");
        }
        answer.body = self.read[end..end + length].to_vec();
        self.read.drain(..end + length);
        Some(answer)
    }

    /// Whether the server closes, and sends nothing before it does.
    pub async fn is_closed(&mut self) -> bool {
        self.answer().await.is_none()
    }

    /// Sends one request and reads its answer.
    pub async fn call(&mut self, request: &Request) -> Answer {
        self.send(request.bytes()).await;
        let answer = self.answer_to(&request.method).await;
        answer.unwrap_or_else(|| panic!("no answer to {request:?}"))
    }
}

/// A well-formed request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self {
            method,
            target,
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("POST", target).body(body)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: test\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        [head.as_bytes(), self.body.as_deref().unwrap_or_default()].concat()
    }
}

/// One request on a connection of its own.
pub async fn call(address: SocketAddr, request: &Request) -> Answer {
    Client::connect(address).await.call(request).await
}
