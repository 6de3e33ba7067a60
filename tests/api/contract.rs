//! The description at `/openapi.json` holds true: every operation gives every documented status
//! over a socket, each answer as documented, and no other.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate::model::Policy;

use super::client::{Answer, Client, Request, call};
use super::schema::Document;
use super::site::{ADMIN_TOKEN, Plan, Site};

const JOIN: &str = "/api/v1/queue/join";
const STATUS: &str = "/api/v1/queue/status";
const ENTER: &str = "/api/v1/queue/enter";
const LEAVE: &str = "/api/v1/queue/leave";
const FLUSH: &str = "/api/v1/admin/flush-test-data";
const EVENT: &str = "/api/v1/admin/events/{event_id}";
const OVERRIDES: &str = "/api/v1/admin/events/{event_id}/overrides";
const INTROSPECT: &str = "/api/v1/passes/introspect";
const COMPLETE: &str = "/api/v1/passes/complete";
const WITH_BODIES: [(&str, &str); 6] = [
    ("POST", JOIN),
    ("POST", ENTER),
    ("POST", FLUSH),
    ("PATCH", EVENT),
    ("POST", INTROSPECT),
    ("POST", COMPLETE),
];
const ADMIN_READS: [(&str, &str); 6] = [
    ("GET", "/metrics"),
    ("GET", "/api/v1/admin/health"),
    ("GET", "/api/v1/admin/stats"),
    ("GET", "/api/v1/admin/nodes"),
    ("GET", EVENT),
    ("POST", INTROSPECT),
];
const ADMIN_CHANGES: [(&str, &str); 4] = [
    ("POST", FLUSH),
    ("PATCH", EVENT),
    ("DELETE", OVERRIDES),
    ("POST", COMPLETE),
];

struct Book {
    document: Document,
    given: BTreeSet<(String, String, u16)>,
}

impl Book {
    /// Takes note of an answer after holding it against the document.
    fn note(&mut self, method: &str, path: &str, answer: &Answer) {
        self.document.check(method, path, answer);
        self.given
            .insert((method.to_owned(), path.to_owned(), answer.status));
    }

    async fn expect(&mut self, site: &Site, status: u16, path: &str, request: Request) -> Answer {
        let admin = path.contains("/admin/") || path.contains("/passes/") || path == "/metrics";
        let answer = match admin {
            true => site.operate(request.clone()).await,
            false => site.call(request.clone()).await,
        };
        assert_eq!(answer.status, status, "{request:?}: {answer:?}");
        self.note(&request.method, path, &answer);
        answer
    }

    fn missing(&self) -> Vec<(String, String, u16)> {
        let documented = self.document.documented().into_iter();
        documented
            .filter(|operation| !self.given.contains(operation))
            .collect()
    }
}

fn concrete(path: &str) -> String {
    path.replace("{event_id}", "sale")
}

fn token_body(token: &str) -> String {
    format!(r#"{{"waiting_token": "{token}"}}"#)
}

fn pass_body(pass: &str) -> String {
    format!(r#"{{"reservation_token": "{pass}"}}"#)
}

#[tokio::test]
async fn every_operation_gives_every_documented_answer() {
    let site = Site::new().await;
    let document = site.get("/openapi.json").await.json();
    let mut book = Book {
        document: Document(document),
        given: BTreeSet::new(),
    };
    good_days(&mut book, &site).await;
    wrong_requests(&mut book, &site).await;
    the_store_is_away(&mut book, &site).await;
    the_line_is_being_loaded(&mut book, &site).await;
    closed_full_and_busy(&mut book).await;
    slow_and_large(&mut book).await;
    operators(&mut book).await;
    site.shared.start_draining();
    book.expect(&site, 503, "/readyz", Request::get("/readyz"))
        .await;
    assert_eq!(book.missing(), [], "documented, but never given here");
}

async fn good_days(book: &mut Book, site: &Site) {
    for path in [
        "/healthz",
        "/readyz",
        "/version",
        "/openapi.json",
        "/.well-known/jwks.json",
    ] {
        book.expect(site, 200, path, Request::get(path)).await;
    }
    let first = Request::post(JOIN, r#"{"event_id": "sale", "user_id": "ann"}"#);
    let joined = book.expect(site, 202, JOIN, first.clone()).await;
    for path in [
        "/metrics",
        "/api/v1/admin/health",
        "/api/v1/admin/stats",
        "/api/v1/admin/nodes",
    ] {
        book.expect(site, 200, path, Request::get(path)).await;
    }
    let token = joined.json()["waiting_token"].as_str().unwrap().to_owned();
    let status = |token: &str| Request::get(&format!("{STATUS}?token={token}"));
    book.expect(site, 200, STATUS, status(&token)).await;
    site.pass(Duration::from_secs(1));
    book.expect(site, 200, STATUS, status(&token)).await;
    let entered = Request::post(ENTER, token_body(&token));
    let entered = book.expect(site, 200, ENTER, entered).await;
    book.expect(site, 200, STATUS, status(&token)).await;
    let pass = entered.json()["reservation_token"]
        .as_str()
        .unwrap()
        .to_owned();
    book.expect(
        site,
        200,
        INTROSPECT,
        Request::post(INTROSPECT, pass_body(&pass)),
    )
    .await;
    book.expect(
        site,
        200,
        COMPLETE,
        Request::post(COMPLETE, pass_body(&pass)),
    )
    .await;
    let leaving = site.token("sale").await;
    let leave = |method| Request::new(method, &format!("{LEAVE}?token={leaving}"));
    book.expect(site, 200, LEAVE, leave("POST")).await;
    book.expect(site, 200, LEAVE, leave("DELETE")).await;
    let gone = book.expect(site, 404, STATUS, status(&leaving)).await;
    assert_eq!(gone.json()["status"], "expired");
    let event = concrete(EVENT);
    book.expect(site, 200, EVENT, Request::get(&event)).await;
    let change = r#"{"rate": 5, "paused": true, "opens": null}"#;
    book.expect(site, 200, EVENT, Request::new("PATCH", &event).body(change))
        .await;
    let overrides = Request::new("DELETE", &concrete(OVERRIDES));
    book.expect(site, 200, OVERRIDES, overrides).await;
    let flush = Request::post(FLUSH, r#"{"event_ids": ["sale", "other"]}"#);
    book.expect(site, 200, FLUSH, flush).await;
}

async fn wrong_requests(book: &mut Book, site: &Site) {
    for (method, path) in WITH_BODIES {
        let request = Request::new(method, &concrete(path)).body("{");
        book.expect(site, 400, path, request).await;
    }
    book.expect(site, 400, STATUS, Request::get(STATUS)).await;
    book.expect(site, 400, LEAVE, Request::new("DELETE", LEAVE))
        .await;
    book.expect(site, 400, LEAVE, Request::new("POST", LEAVE))
        .await;
    for (name, status) in [("a%20b", 400), ("unknown", 404)] {
        let named = |path: &str| path.replace("{event_id}", name);
        book.expect(site, status, EVENT, Request::get(&named(EVENT)))
            .await;
        let overrides = Request::new("DELETE", &named(OVERRIDES));
        book.expect(site, status, OVERRIDES, overrides).await;
    }
    book.expect(site, 404, ENTER, Request::post(ENTER, token_body("x")))
        .await;
    book.expect(site, 404, COMPLETE, Request::post(COMPLETE, pass_body("x")))
        .await;
    let long = format!("{STATUS}?token={}", "x".repeat(5_000));
    book.expect(site, 414, STATUS, Request::get(&long)).await;
    let keyed = |body: &str| Request::post(JOIN, body).header("idempotency-key", "k1");
    book.expect(site, 202, JOIN, keyed(r#"{"event_id": "sale"}"#))
        .await;
    book.expect(
        site,
        409,
        JOIN,
        keyed(r#"{"event_id": "sale", "user_id": "eve"}"#),
    )
    .await;
}

async fn the_store_is_away(book: &mut Book, site: &Site) {
    let token = site.token("away").await;
    site.pass(Duration::from_secs(1));
    let granted = site.enter(&token).await;
    let pass = granted.json()["reservation_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = site.token("away").await;
    site.pass(Duration::from_secs(1));
    assert_eq!(site.status(&second).await.json()["ready_for_entry"], true);
    site.desk.away.store(true, Ordering::Relaxed);
    book.expect(site, 503, ENTER, Request::post(ENTER, token_body(&second)))
        .await;
    book.expect(
        site,
        503,
        COMPLETE,
        Request::post(COMPLETE, pass_body(&pass)),
    )
    .await;
    book.expect(
        site,
        503,
        FLUSH,
        Request::post(FLUSH, r#"{"event_ids": ["away"]}"#),
    )
    .await;
    let event = "/api/v1/admin/events/away";
    book.expect(
        site,
        503,
        EVENT,
        Request::new("PATCH", event).body(r#"{"rate": 1}"#),
    )
    .await;
    let overrides = Request::new("DELETE", &format!("{event}/overrides"));
    book.expect(site, 503, OVERRIDES, overrides).await;
    let ready = book
        .expect(site, 200, "/readyz", Request::get("/readyz"))
        .await;
    assert_eq!(ready.json()["dependencies"]["store"], "down");
    site.desk.away.store(false, Ordering::Relaxed);
}

async fn the_line_is_being_loaded(book: &mut Book, site: &Site) {
    site.room.set_loaded(false);
    let queue = [("POST", JOIN), ("GET", STATUS), ("POST", ENTER)];
    let leaves = [("POST", LEAVE), ("DELETE", LEAVE), ("GET", EVENT)];
    for (method, path) in queue.into_iter().chain(leaves) {
        book.expect(site, 503, path, Request::new(method, &concrete(path)))
            .await;
    }
    book.expect(site, 503, "/readyz", Request::get("/readyz"))
        .await;
    site.room.set_loaded(true);
}

async fn closed_full_and_busy(book: &mut Book) {
    let join = || Request::post(JOIN, r#"{"event_id": "sale"}"#);
    let closes = Some(crate::room::house::START);
    let site = Site::with(Plan::policy(|policy| policy.closes = closes)).await;
    book.expect(&site, 403, JOIN, join()).await;

    let mut plan = Plan::default();
    plan.room.create_on_demand = false;
    let site = Site::with(plan).await;
    book.expect(&site, 404, JOIN, join()).await;

    let site = Site::with(Plan::policy(|policy| {
        *policy = Policy {
            max_waiting: 1,
            paused: true,
            ..policy.clone()
        };
    }))
    .await;
    let token = site.token("sale").await;
    book.expect(&site, 503, JOIN, join()).await;
    book.expect(&site, 403, ENTER, Request::post(ENTER, token_body(&token)))
        .await;

    let site = Site::with(Plan::http(|http| http.limits.joins_per_second = 1)).await;
    book.expect(&site, 202, JOIN, join()).await;
    book.expect(&site, 429, JOIN, join()).await;
}

async fn slow_and_large(book: &mut Book) {
    let site = Site::with(Plan::http(|http| {
        http.limits.body_bytes = 64;
        http.limits.body_read_timeout = Duration::from_millis(20);
    }))
    .await;
    for (method, path) in WITH_BODIES {
        let large = Request::new(method, &concrete(path)).body(" ".repeat(65));
        book.expect(&site, 413, path, large).await;
        let address = if path == JOIN || path == ENTER {
            site.visitor
        } else {
            site.admin
        };
        let mut client = Client::connect(address).await;
        let head = format!(
            "{method} {} HTTP/1.1\r\nauthorization: Bearer {ADMIN_TOKEN}\r\ncontent-length: 9\r\n\r\n{{",
            concrete(path)
        );
        client.send(head).await;
        let answer = client.answer().await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "REQUEST_TIMEOUT")
        );
        book.note(method, path, &answer);
        assert!(client.is_closed().await);
    }
}

async fn operators(book: &mut Book) {
    let site = Site::with(Plan {
        open_reads: false,
        ..Plan::default()
    })
    .await;
    for (method, path) in ADMIN_READS.into_iter().chain(ADMIN_CHANGES) {
        let answer = call(site.admin, &Request::new(method, &concrete(path))).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "UNAUTHORIZED")
        );
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        book.note(method, path, &answer);
    }
    let mut plan = Plan::http(|http| http.admin_token = None);
    plan.open_reads = false;
    let site = Site::with(plan).await;
    for (method, path) in ADMIN_READS.into_iter().chain(ADMIN_CHANGES) {
        let answer = site.operate(Request::new(method, &concrete(path))).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "FORBIDDEN"));
        book.note(method, path, &answer);
    }
}
