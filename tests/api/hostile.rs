//! What no honest client sends: each gets its documented answer, and the next visitor theirs.

use std::time::Duration;

use super::client::{Answer, Client, Request};
use super::site::{Plan, Site};

const JOIN: &str = "/api/v1/queue/join";
const BODY: &str = r#"{"event_id": "sale"}"#;

/// Sends bytes, says no more, and collects all answers until the end.
async fn all(site: &Site, bytes: impl AsRef<[u8]>) -> Vec<Answer> {
    let mut client = site.connect().await;
    client.send(bytes).await;
    client.finish().await;
    let mut answers = Vec::new();
    while let Some(answer) = client.answer().await {
        answers.push(answer);
    }
    assert_eq!(site.get("/healthz").await.status, 200);
    answers
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

#[tokio::test]
async fn what_is_no_http_is_told_so_in_the_error_form() {
    let site = Site::new().await;
    for bytes in [
        b"\0\0\0\0\r\n\r\n".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\0c\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\n\r\n",
        b"G\xffT / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1, 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nhost: te",
    ] {
        let answers = all(&site, bytes).await;
        assert_eq!(answers.len(), 1, "{:?}", String::from_utf8_lossy(bytes));
        let answer = &answers[0];
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "INVALID_REQUEST")
        );
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(site.metrics.unparsable.get(), 18);
    assert_eq!(all(&site, "").await.len(), 0);
    assert_eq!(all(&site, "\r\n\r\n").await.len(), 0);
}

#[tokio::test]
async fn long_urls_and_large_heads_are_told_apart() {
    let site = Site::new().await;
    for (length, status, code) in [
        (4_000, 404, "NOT_FOUND"),
        (5_000, 414, "URL_TOO_LONG"),
        (20_000, 414, "URL_TOO_LONG"),
        (2_000_000, 414, "URL_TOO_LONG"),
    ] {
        let answers = all(
            &site,
            format!("GET /{} HTTP/1.1\r\n\r\n", "u".repeat(length)),
        )
        .await;
        assert_eq!(
            (answers[0].status, answers[0].code().as_str()),
            (status, code),
            "{length}"
        );
        assert_eq!(answers.len(), 1);
    }
    let many = "x: y\r\n".repeat(101);
    let wide = format!("x: {}\r\n", "y".repeat(20_000));
    let flood = "x: y\r\n".repeat(200_000);
    for headers in [&many, &wide, &flood] {
        let answers = all(&site, format!("GET /healthz HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(statuses(&answers), [431]);
        assert_eq!(answers[0].code(), "HEADERS_TOO_LARGE");
    }
    let allowed = "x: y\r\n".repeat(99);
    assert_eq!(
        statuses(&all(&site, format!("GET /healthz HTTP/1.1\r\n{allowed}\r\n")).await),
        [200]
    );
}

#[tokio::test]
async fn the_number_of_headers_can_be_set() {
    let site = Site::with(Plan::http(|http| http.limits.headers = 8)).await;
    let head = |count| format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(statuses(&all(&site, head(8)).await), [200]);
    assert_eq!(statuses(&all(&site, head(9)).await), [431]);
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_however_they_come() {
    let site = Site::new().await;
    let exact = format!("{BODY:<8192}");
    let answer = site.call(Request::post(JOIN, &exact)).await;
    assert_eq!(answer.status, 202, "at the limit");
    let ten_mb = "x".repeat(10_000_000);
    for body in [format!("{exact} "), ten_mb.clone()] {
        let answer = site.call(Request::post(JOIN, body)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (413, "BODY_TOO_LARGE")
        );
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let chunked = format!("POST {JOIN} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let small = chunk(" ").repeat(9_000);
    for chunks in [chunk(&ten_mb), small, chunk(&exact) + &chunk(" ")] {
        let answers = all(&site, format!("{chunked}{chunks}0\r\n\r\n")).await;
        assert_eq!(statuses(&answers), [413]);
    }
    let fine = format!(
        "{chunked}{}{}0\r\n\r\n",
        chunk(&BODY[..5]),
        chunk(&BODY[5..])
    );
    assert_eq!(statuses(&all(&site, fine).await), [202]);
    let promised = format!("POST {JOIN} HTTP/1.1\r\ncontent-length: 999999999999\r\n\r\n");
    assert_eq!(
        statuses(&all(&site, promised).await),
        [413],
        "before a byte of it came"
    );
}

#[tokio::test]
async fn broken_bodies_end_the_connection() {
    let site = Site::new().await;
    let chunked = format!("POST {JOIN} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
    for rest in [
        "zz\r\n",
        "-1\r\n",
        "5\r\nab",
        "ffffffffffffffffff\r\n",
        "2\r\nabcd\r\n0\r\n\r\n",
    ] {
        let answers = all(&site, format!("{chunked}{rest}")).await;
        assert!(
            statuses(&answers).iter().all(|status| *status == 400),
            "{rest}: {answers:?}"
        );
        assert!(answers.len() <= 1, "{rest}: {answers:?}");
    }
    let short = format!("POST {JOIN} HTTP/1.1\r\ncontent-length: 50\r\n\r\n{BODY}");
    let answers = all(&site, short).await;
    assert!(answers.len() <= 1 && answers.iter().all(|answer| answer.status == 400));
    assert_eq!(site.room.stats().len(), 0, "half a body joins nobody");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let site = Site::new().await;
    let one = Request::post(JOIN, BODY).bytes();
    let answers = all(&site, one.repeat(50)).await;
    assert_eq!(statuses(&answers), vec![202; 50]);
    let positions: Vec<_> = answers
        .iter()
        .map(|a| a.json()["position"].as_u64())
        .collect();
    assert!(positions.is_sorted(), "{positions:?}");
    // What follows cannot be read, or is not whole: what went before is answered all the same.
    let garbled = [
        Request::get("/healthz").bytes(),
        b"\0garbage\r\n\r\n".to_vec(),
    ]
    .concat();
    assert_eq!(statuses(&all(&site, garbled).await), [200, 400]);
    let mut client = site.connect().await;
    let mut half = Request::get("/healthz").bytes();
    half.extend_from_slice(b"GET /version HTT");
    client.send(half).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    client.send("P/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().json()["version"], "1.2.3");
}

/// Where two parsers may disagree, at most one request is answered and the connection ends.
#[tokio::test]
async fn smuggled_requests_are_not_answered() {
    let site = Site::new().await;
    let hidden = "GET /version HTTP/1.1\r\n\r\n";
    for (headers, body) in [
        (
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
            "0\r\n\r\n",
        ),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            "0\r\n\r\n",
        ),
        ("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        ("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        ("content-length: 0\r\ncontent-length: 25\r\n", ""),
        ("content-length: +0\r\n", ""),
        ("content-length: 0x0\r\n", ""),
        ("content-length:\r\n", ""),
    ] {
        let bytes = format!("POST {JOIN} HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}{hidden}");
        let answers = all(&site, bytes).await;
        assert_eq!(statuses(&answers), [400], "{headers:?}");
        assert_eq!(
            answers[0].header("connection"),
            Some("close"),
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn odd_targets_are_routed_or_refused() {
    let site = Site::new().await;
    let one = async |line: &str| {
        let answers = all(&site, format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!(answers.len(), 1, "{line}");
        (answers[0].status, answers[0].clone())
    };
    for (line, status) in [
        ("GET http://evil.example/healthz", 200),
        ("GET http://evil.example", 404),
        ("OPTIONS *", 404),
        ("CONNECT evil.example:443", 404),
        ("GET /healthz?%00%ff%zz", 200),
        ("GET /api/v1/queue/status?token=%00%ff", 404),
        ("GET /api/v1/queue/status?token=%", 404),
        ("GET /healthz/../version", 404),
        ("GET /HEALTHZ", 404),
        ("get /healthz", 405),
    ] {
        assert_eq!(one(line).await.0, status, "{line}");
    }
    let raw = all(
        &site,
        b"GET /api/v1/queue/status?token=\xff\xfe HTTP/1.1\r\n\r\n",
    )
    .await;
    assert!([400, 404].contains(&raw[0].status), "{raw:?}");
    assert_ne!(raw[0].code(), "");
}

#[tokio::test]
async fn upgrades_and_expectations_do_no_harm() {
    let site = Site::new().await;
    let upgrade = Request::get("/healthz")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    assert_eq!(site.call(upgrade).await.status, 200);
    let mut client = site.connect().await;
    let head =
        format!("POST {JOIN} HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 20\r\n\r\n");
    client.send(&head).await;
    assert_eq!(client.answer().await.unwrap().status, 100);
    client.send(BODY).await;
    assert_eq!(client.answer().await.unwrap().status, 202);
    let large = head.replace("content-length: 20", "content-length: 9000");
    assert_eq!(
        statuses(&all(&site, large).await),
        [413],
        "no invitation to send it"
    );
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut_with_an_answer() {
    let site = Site::with(Plan::http(|http| {
        http.limits.header_read_timeout = Duration::from_millis(250);
        http.limits.body_read_timeout = Duration::from_millis(50);
    }))
    .await;
    for bytes in ["G", "GET /healthz HTTP/1.1\r\nhost: te", "\r\n"] {
        let mut client = site.connect().await;
        client.send(bytes).await;
        let answer = client.answer().await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "REQUEST_TIMEOUT"),
            "{bytes:?}"
        );
        assert!(client.is_closed().await);
    }
    // A byte now and then does not help: the whole head has its time.
    let mut client = site.connect().await;
    let dribble = async {
        let mut sent = Client::connect(site.visitor).await;
        loop {
            sent.send("x").await;
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(20), sent.answer()).await
            {
                break answer.unwrap();
            }
        }
    };
    assert_eq!(dribble.await.status, 408);
    client
        .send(format!(
            "POST {JOIN} HTTP/1.1\r\ncontent-length: 20\r\n\r\n{{"
        ))
        .await;
    assert_eq!(client.answer().await.unwrap().status, 408);
    assert!(client.is_closed().await);
}
