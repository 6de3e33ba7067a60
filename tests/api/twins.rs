//! Polls that are answered beneath hyper, held to what hyper makes of them: the same bytes through
//! both, whatever comes before and after and however it is cut.

use std::time::Duration;

use tidegate::http::Face;

use crate::fuzz::http::Twins;

const POLL: &str = "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nHost: a\r\n\r\n";
const READY: &str = "GET /api/v1/queue/status?token=$R HTTP/1.1\r\n\r\n";
const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

/// Requests of all kinds, plain polls among them; the first so many end no connection.
const LASTING: usize = 32;
const REQUESTS: [&str; 44] = [
    POLL,
    READY,
    HEALTHZ,
    "GET /api/v1/queue/status HTTP/1.1\r\nAuthorization: Bearer $T\r\n\r\n",
    "GET /api/v1/queue/status?token= HTTP/1.1\r\nauthorization: bearer  $R \r\n\r\n",
    "GET /api/v1/queue/status HTTP/1.1\r\nX-Waiting-Token: $T\r\nx-waiting-token: $R\r\n\r\n",
    "GET /api/v1/queue/status HTTP/1.1\r\nX-Waiting-Token: \u{e4}\r\n\r\n",
    "GET /api/v1/queue/status? HTTP/1.1\r\n\r\n",
    "GET /api/v1/queue/status HTTP/1.1\r\nX-Request-ID: my-own\r\nX-Trace-Id: other\r\n\r\n",
    "GET /api/v1/queue/status?a=b&token=%41&token=$T HTTP/1.1\r\nX-Trace-Id: t\r\n\r\n",
    "GET /api/v1/queue/status?token=forged HTTP/1.1\r\nx-trace-id: \"'\\\r\n\r\n",
    "GET /api/v1/queue/status?token=123e4567-e89b-42d3-a456-426614174000 HTTP/1.1\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n",
    "GET /api/v1/queue/status?token=x HTTP/1.1\r\norigin: https://b.example\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\nhost: bare line ends\n\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
    "\r\nGET /api/v1/queue/status?token=$T HTTP/1.1\r\n\r\n",
    "HEAD /api/v1/queue/status?token=$T HTTP/1.1\r\n\r\n",
    "OPTIONS /api/v1/queue/status HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n",
    "POST /api/v1/queue/status?token=$T HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
    "GET http://a/api/v1/queue/status?token=$T HTTP/1.1\r\n\r\n",
    "GET /api/v1/queue/status?token=$T#x HTTP/1.1\r\n\r\n",
    "GET /api/v1/queue/statuses HTTP/1.1\r\n\r\n",
    "POST /api/v1/queue/join HTTP/1.1\r\nIdempotency-Key: k\r\nContent-Length: 21\r\n\r\n\
     {\"event_id\": \"other\"}",
    "POST /api/v1/queue/join HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
     15\r\n{\"event_id\": \"other\"}\r\n0\r\n\r\n",
    "POST /api/v1/queue/join HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 21\r\n\r\n\
     {\"event_id\": \"other\"}",
    "POST /api/v1/queue/enter HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "DELETE /api/v1/queue/leave?token=x HTTP/1.1\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\n\r\n",
    // What ends a connection, or may.
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
     1\r\na\r\n0\r\n\r\n",
    "POST /api/v1/queue/leave?token=x HTTP/1.1\r\nContent-Length: 8\r\n\r\nGET / HT",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nConnection: close\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.0\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\na b: c\r\n\r\n",
    "GET /api/v1/queue/status?token=\u{7f} HTTP/1.1\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\n folded: x\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\nabc",
    "GET /api/v1/queue/status?token=$T HTTP/1.1\r\nContent-Length: 1\r\n\
     Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /api/v1/queue/status?token=$T HTTP/2.0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

fn twins() -> Twins {
    Twins::new(|settings| {
        settings.cors.origins = vec!["https://a.example".to_owned()];
        settings.cors.max_age = Duration::from_secs(9);
        settings.cors.credentials = true;
    })
}

fn answers(heard: &[u8]) -> usize {
    heard.windows(9).filter(|w| w == b"HTTP/1.1 ").count()
}

#[test]
fn every_request_cut_anywhere_is_answered_as_by_hyper() {
    let mut twins = twins();
    for request in REQUESTS {
        let said = twins.told(request.as_bytes());
        for cut in 0..said.len() {
            let (head, tail) = said.split_at(cut);
            twins.connection(&[head, tail], usize::MAX, Face::Visitor);
            // And what was never finished.
            twins.connection(&[head], usize::MAX, Face::Visitor);
        }
    }
}

#[test]
fn every_two_requests_are_answered_in_order() {
    let mut twins = twins();
    for first in REQUESTS {
        for second in REQUESTS {
            let said = twins.told([first, second, POLL].concat().as_bytes());
            let end = twins.told(first.as_bytes()).len();
            twins.connection(&[&said], usize::MAX, Face::Visitor);
            for cut in [end - 1, end, end + 1, end + 30] {
                let (head, tail) = said.split_at(cut.min(said.len()));
                twins.connection(&[head, tail], usize::MAX, Face::Visitor);
            }
        }
    }
}

#[test]
fn long_mixes_are_answered_in_order_however_slowly_they_are_taken() {
    let mut twins = twins();
    // A fixed walk over the requests that end no connection (a linear congruential generator).
    let mut at = 1_usize;
    for round in 0..40 {
        let mut mix = String::new();
        for _ in 0..60 {
            at = (at * 1_103_515_245 + 12_345) & 0x7fff_ffff;
            mix += match at >> 16 {
                odd if odd % 4 == 0 => REQUESTS[odd / 4 % LASTING],
                even => [POLL, READY][even % 2],
            };
        }
        let said = twins.told(mix.as_bytes());
        let piece = [1 << 20, 4096, 700, 64, 7][round % 5];
        let pieces: Vec<&[u8]> = said.chunks(piece).collect();
        let takes = [usize::MAX, 1_000, 33][round % 3];
        let heard = twins.connection(&pieces, takes, Face::Visitor);
        assert!(answers(&heard) >= 60, "{} answers", answers(&heard));
    }
}

#[test]
fn the_limits_are_hypers() {
    let mut twins = Twins::new(|settings| {
        settings.limits.url_bytes = 300;
        settings.limits.headers = 10;
        settings.limits.header_bytes = 10_000;
    });
    for (headers, value, url) in [
        (9, 1, 1),
        (10, 1, 1),
        (11, 1, 1),
        (1, 7_000, 1),
        (1, 9_700, 1),
        (1, 11_000, 1),
        (0, 0, 276),
        (0, 0, 277),
        (0, 0, 9_000),
        (0, 0, 20_000),
    ] {
        let lines = format!("x: {}\r\n", "y".repeat(value)).repeat(headers);
        let query = "q".repeat(url - 1);
        let poll = format!("GET /api/v1/queue/status?{query} HTTP/1.1\r\n{lines}\r\n");
        let (before, said) = (twins.told(POLL.as_bytes()), poll.as_bytes());
        for chunk in [1_000, 1 << 20] {
            let pieces: Vec<&[u8]> = said.chunks(chunk).collect();
            let pieces = [&[&*before], &*pieces, &[&*before]].concat();
            twins.connection(&pieces, usize::MAX, Face::Visitor);
            twins.connection(&pieces[1..], usize::MAX, Face::Visitor);
        }
    }
}

/// hyper tells the machine's time, and the twins have their own.
#[test]
fn plain_polls_are_answered_beneath_hyper() {
    let mut twins = twins();
    for (request, is_direct) in [(POLL, true), (HEALTHZ, false), (REQUESTS[12], true)] {
        let said = twins.told(request.as_bytes());
        let heard = twins.connection(&[&said], usize::MAX, Face::Visitor);
        let date = b"\r\ndate: Fri, 15 Jan 2027 08:00:02 GMT\r\n";
        let is_ours = heard.windows(date.len()).any(|w| w == date);
        assert_eq!(is_ours, is_direct, "{request}");
    }
}

#[test]
fn operators_poll_alike() {
    let mut twins = twins();
    let said = [POLL, READY, HEALTHZ, REQUESTS[12], REQUESTS[10], POLL].concat();
    let said = twins.told(said.as_bytes());
    let heard = twins.connection(&[&said], usize::MAX, Face::Admin { open_reads: true });
    assert_eq!(answers(&heard), 6);
}

#[test]
fn a_node_that_stops_says_so_with_the_first_answer() {
    let mut twins = twins();
    twins.start_draining();
    let said = twins.told(POLL.repeat(3).as_bytes());
    let heard = twins.connection(&[&said], usize::MAX, Face::Visitor);
    assert_eq!(answers(&heard), 1);
}
