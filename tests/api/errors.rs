//! Every refusal has the same form and says what is wrong.

use super::client::{Answer, Request};
use super::site::Site;

const JOIN: &str = "/api/v1/queue/join";
const STATUS: &str = "/api/v1/queue/status";
const ENTER: &str = "/api/v1/queue/enter";

fn refused(answer: &Answer, status: u16, code: &str, part: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{answer:?}"
    );
    assert!(
        answer.message().contains(part),
        "{part:?} is missing in {:?}",
        answer.message()
    );
}

#[tokio::test]
async fn a_join_says_what_is_wrong_with_it() {
    let site = Site::new().await;
    let long = format!(r#"{{"event_id": "{}"}}"#, "a".repeat(65));
    let user = format!(r#"{{"event_id": "a", "user_id": "{}"}}"#, "é".repeat(129));
    for (body, code, part) in [
        ("", "INVALID_REQUEST", "byte 0 "),
        ("{\"event_id\": \"a\",}", "INVALID_REQUEST", "byte 17 "),
        ("{\"event_id\": \"a\"} x", "INVALID_REQUEST", "byte 18 "),
        ("[]", "INVALID_REQUEST", "a JSON object, not a list"),
        ("null", "INVALID_REQUEST", "a JSON object, not null"),
        ("\"a\"", "INVALID_REQUEST", "a JSON object, not a string"),
        (
            "{\"event_id\": 7}",
            "INVALID_REQUEST",
            "event_id must be a string, not a number",
        ),
        (
            "{\"event_id\": {}}",
            "INVALID_REQUEST",
            "event_id must be a string, not an object",
        ),
        (
            "{\"event_id\": true}",
            "INVALID_REQUEST",
            "event_id must be a string",
        ),
        ("{}", "MISSING_EVENT_ID", "event_id"),
        ("{\"event_id\": null}", "MISSING_EVENT_ID", "event_id"),
        ("{\"event_id\": \"\"}", "MISSING_EVENT_ID", "event_id"),
        ("{\"event_id\": \"a b\"}", "INVALID_EVENT_ID", "byte 1 "),
        (
            "{\"event_id\": \"a\\u0000\"}",
            "INVALID_EVENT_ID",
            "byte 1 ",
        ),
        ("{\"event_id\": \"é\"}", "INVALID_EVENT_ID", "byte 0 "),
        (long.as_str(), "INVALID_EVENT_ID", "64"),
        (
            "{\"event_id\": \"a\", \"user_id\": 1}",
            "INVALID_REQUEST",
            "user_id must be a string",
        ),
        (
            user.as_str(),
            "INVALID_REQUEST",
            "user_id has more than 128",
        ),
    ] {
        let answer = site.call(Request::post(JOIN, body)).await;
        refused(&answer, 400, code, part);
    }
    let broken = b"{\"event_id\": \"\xff\xfe\"}";
    refused(
        &site.call(Request::post(JOIN, broken)).await,
        400,
        "INVALID_REQUEST",
        "byte",
    );
    assert_eq!(site.room.stats().len(), 0, "no event was made");
}

#[tokio::test]
async fn old_and_careless_clients_are_understood() {
    let site = Site::new().await;
    let user = format!(r#"{{"event_id": "a", "user_id": "{}"}}"#, "é".repeat(128));
    for body in [
        r#"{"event_id": "a", "unknown": {"deep": [1, 2, {"a": null}]}}"#,
        r#"{"event_id": "b", "event_id": "a"}"#,
        r#"{"event_id": "a", "user_id": null}"#,
        r#"{"event_id": "a", "user_id": ""}"#,
        " \r\n\t{\"event_id\"\n:\n\"a\"}\n",
        &user,
    ] {
        let answer = site.call(Request::post(JOIN, body)).await;
        assert_eq!(answer.status, 202, "{body}: {answer:?}");
    }
    let typed = Request::post(JOIN, r#"{"event_id": "a"}"#).header("content-type", "text/plain");
    assert_eq!(site.call(typed).await.status, 202);
    assert_eq!(site.room.stats().len(), 1);
}

#[tokio::test]
async fn idempotency_keys_are_short_and_printable() {
    let site = Site::new().await;
    let join =
        |key: &str| Request::post(JOIN, r#"{"event_id": "a"}"#).header("idempotency-key", key);
    let longest = "k".repeat(128);
    for key in ["k", "a key with spaces ~!", &longest] {
        assert_eq!(site.call(join(key)).await.status, 202, "{key}");
    }
    for key in ["", &"k".repeat(129), "käse", "a\tb"] {
        let answer = site.call(join(key)).await;
        refused(&answer, 400, "INVALID_REQUEST", "Idempotency-Key");
    }
}

#[tokio::test]
async fn tokens_that_show_nothing_are_all_alike() {
    let site = Site::new().await;
    let token = site.token("sale").await;
    let mut wrong: Vec<String> = (1..token.len()).map(|at| token[..at].to_owned()).collect();
    let other = |c: char| if c == 'A' { 'B' } else { 'A' };
    wrong.extend((0..token.len()).map(|at| {
        let mut chars: Vec<_> = token.chars().collect();
        chars[at] = other(chars[at]);
        chars.into_iter().collect()
    }));
    wrong.push(format!("{token}A"));
    wrong.extend([
        "x".repeat(512),
        "x".repeat(513),
        "x".repeat(3_000),
        "%00".into(),
        "%ff".into(),
    ]);
    let mut client = site.connect().await;
    let mut messages = Vec::new();
    for token in &wrong {
        let status = Request::get(&format!("{STATUS}?token={token}"));
        let answer = client.call(&status).await;
        refused(&answer, 404, "TOKEN_NOT_FOUND", "");
        messages.push(answer.message());
        let enter = Request::post(ENTER, format!(r#"{{"waiting_token": "{token}"}}"#));
        refused(&client.call(&enter).await, 404, "TOKEN_NOT_FOUND", "");
    }
    messages.dedup();
    assert_eq!(
        messages.len(),
        1,
        "no answer says more than another: {messages:?}"
    );
    assert_eq!(site.status(&token).await.status, 200);
    for (body, code) in [
        ("{}", "MISSING_TOKEN"),
        (r#"{"waiting_token": ""}"#, "MISSING_TOKEN"),
        (r#"{"waiting_token": null}"#, "MISSING_TOKEN"),
        (r#"{"waiting_token": 1}"#, "INVALID_REQUEST"),
    ] {
        refused(
            &site.call(Request::post(ENTER, body)).await,
            400,
            code,
            "token",
        );
    }
}

#[tokio::test]
async fn the_trace_id_is_the_clients_when_it_is_usable() {
    let site = Site::new().await;
    let trace = async |name: &str, value: &str| {
        let answer = site
            .call(Request::get("/nowhere").header(name, value))
            .await;
        answer.json()["error"]["trace_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(trace("x-request-id", "abc-123").await, "abc-123");
    assert_eq!(trace("X-Trace-Id", "a \"b\" \\").await, "a \"b\" \\");
    let longest = "t".repeat(128);
    assert_eq!(trace("x-request-id", &longest).await, longest);
    for value in ["", &"t".repeat(129), "tab\tbed", "ümlaut"] {
        let ours = trace("x-request-id", value).await;
        assert_eq!(ours.len(), 32, "{value}: {ours}");
        assert!(ours.bytes().all(|b| b.is_ascii_hexdigit()), "{ours}");
    }
    assert_ne!(trace("a", "b").await, trace("a", "b").await);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_named() {
    let site = Site::new().await;
    for target in [
        "/",
        "/api/v1/queue",
        "/api/v1/queue/status/",
        "//",
        "/%2e%2e/x",
        "/a?b#c",
    ] {
        refused(&site.get(target).await, 404, "NOT_FOUND", "");
    }
    for (method, target, allow) in [
        ("GET", JOIN, "POST, OPTIONS"),
        ("PUT", STATUS, "GET, HEAD, OPTIONS"),
        ("DELETE", ENTER, "POST, OPTIONS"),
        ("GET", "/api/v1/queue/leave", "POST, DELETE, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("BREW", "/version", "GET, HEAD, OPTIONS"),
        ("TRACE", "/version", "GET, HEAD, OPTIONS"),
    ] {
        let answer = site.call(Request::new(method, target)).await;
        refused(&answer, 405, "METHOD_NOT_ALLOWED", "");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
    }
    let health = site.call(Request::new("HEAD", "/healthz")).await;
    assert_eq!((health.status, health.body.len()), (200, 0));
}

#[tokio::test]
async fn what_only_the_store_may_know_is_not_called_unknown_before_it_is_here() {
    let site = Site::new().await;
    site.room.set_loaded(false);
    site.room.serve_empty();
    let target = format!("{STATUS}?token=0f8fad5b-d9cb-469f-a165-70867728950e");
    let early = site.get(&target).await;
    refused(&early, 503, "SERVICE_UNAVAILABLE", "being loaded");
    site.room.set_loaded(true);
    refused(&site.get(&target).await, 404, "TOKEN_NOT_FOUND", "unknown");
}
