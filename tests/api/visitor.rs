//! A visitor's way through: join, poll, enter, leave, in the words of the API.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::client::Request;
use super::site::{Plan, Site};

const JOIN: &str = "/api/v1/queue/join";
const LEAVE: &str = "/api/v1/queue/leave";

#[tokio::test]
async fn a_visitor_waits_is_called_and_enters_with_the_words_the_old_client_knows() {
    let site = Site::with(Plan::policy(|policy| policy.burst = 1)).await;
    let first = site.token("sale").await;
    let joined = site.join("sale").await;
    assert_eq!(joined["status"], "waiting");
    assert_eq!(joined["position"], 2);
    assert_eq!(joined["position_hint"], 2);
    assert_eq!(joined["total_waiting"], 2);
    assert_eq!(joined["ready_for_entry"], false);
    assert!(joined["eta_sec"].as_u64().unwrap() >= 1);
    let token = joined["waiting_token"].as_str().unwrap();
    let early = site.enter(token).await;
    assert_eq!((early.status, early.code().as_str()), (403, "NOT_READY"));
    assert_eq!(early.json()["error"]["reason"], "position");
    let waiting = site.status(token).await.json();
    assert_eq!(
        (&waiting["position"], &waiting["status"]),
        (&json!(2), &json!("waiting"))
    );
    assert!(waiting["eta_low_sec"].as_u64() <= waiting["eta_high_sec"].as_u64());
    assert_eq!(waiting["degraded"], false);

    site.pass(Duration::from_millis(2_900));
    let ready = site.status(token).await.json();
    assert_eq!(
        ready["status"], "waiting",
        "also while ready: the old client looks at both"
    );
    assert_eq!(ready["ready_for_entry"], true);
    assert_eq!(
        (&ready["position"], &ready["eta_sec"]),
        (&json!(0), &json!(0))
    );
    assert!(ready["enter_within_sec"].as_u64().unwrap() <= 5);
    assert_eq!(ready["waiting_time"], 2, "whole seconds, rounded down");
    let granted = site.enter(token).await;
    assert_eq!(granted.status, 200);
    assert_eq!(granted.json()["admission"], "granted");
    // Ten seconds, and what is left of the turn and the second after it.
    assert!((10..=16).contains(&granted.json()["ttl_sec"].as_u64().unwrap()));
    let again = site.enter(token).await;
    assert_eq!(
        again.json()["reservation_token"],
        granted.json()["reservation_token"]
    );
    let inside = site.status(token).await.json();
    assert_eq!(
        (&inside["status"], &inside["position"]),
        (&json!("ready"), &json!(0))
    );
    assert_eq!(site.status(&first).await.status, 200);
}

#[tokio::test]
async fn a_turn_not_taken_is_named_missed() {
    let site = Site::with(Plan::policy(|policy| policy.rate = 0.001)).await;
    let first = site.token("sale").await;
    site.pass(Duration::from_secs(1));
    assert_eq!(site.status(&first).await.json()["ready_for_entry"], true);
    site.pass(Duration::from_secs(6));
    let missed = site.enter(&first).await;
    assert_eq!(missed.code(), "NOT_READY");
    assert_eq!(missed.json()["error"]["reason"], "missed_turn");
}

#[tokio::test]
async fn a_pause_is_told_in_status_and_enter() {
    let site = Site::with(Plan::policy(|policy| policy.paused = true)).await;
    let token = site.token("sale").await;
    site.pass(Duration::from_secs(1));
    assert_eq!(site.status(&token).await.json()["reason"], "paused");
    assert_eq!(site.enter(&token).await.json()["error"]["reason"], "paused");
}

#[tokio::test]
async fn the_token_is_taken_from_query_bearer_or_its_own_header() {
    let site = Site::new().await;
    let token = site.token("sale").await;
    let status = "/api/v1/queue/status";
    let escaped: String = token.bytes().map(|b| format!("%{b:02x}")).collect();
    for request in [
        Request::get(&format!("{status}?token={token}")),
        Request::get(&format!("{status}?a=b&token={escaped}&token=other")),
        Request::get(&format!("{status}?token=")).header("x-waiting-token", &token),
        Request::get(status).header("authorization", &format!("Bearer {token}")),
        Request::get(status).header("authorization", &format!("bearer {token}")),
        Request::get(status).header("X-Waiting-Token", &token),
        Request::get(&format!("http://elsewhere{status}?token={token}")),
    ] {
        assert_eq!(site.call(request.clone()).await.status, 200, "{request:?}");
    }
    let basic = Request::get(status).header("authorization", "Basic abc");
    assert_eq!(site.call(basic).await.code(), "MISSING_TOKEN");
}

#[tokio::test]
async fn leaving_softly_is_undone_by_a_poll_and_leaving_is_not() {
    let site = Site::with(Plan::policy(|policy| policy.paused = true)).await;
    let token = site.token("sale").await;
    let target = format!("{LEAVE}?token={token}");
    for body in ["", "{}", "anything \0 at all"] {
        let leaving = site.call(Request::post(&target, body)).await;
        assert_eq!(leaving.json(), json!({"status": "leaving", "grace_sec": 5}));
    }
    site.pass(Duration::from_secs(4));
    assert_eq!(site.status(&token).await.json()["position"], 1);
    site.pass(Duration::from_secs(6));
    assert_eq!(site.status(&token).await.json()["position"], 1);
    let left = site.call(Request::new("DELETE", &target)).await;
    assert_eq!(left.json(), json!({"status": "left"}));
    let gone = site.status(&token).await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "TOKEN_EXPIRED"));
    assert_eq!(gone.json()["status"], "expired");
    assert_eq!(gone.json()["error"]["reason"], "left");
    for unknown in ["x", "%ff%00", &"y".repeat(600)] {
        let target = format!("{LEAVE}?token={unknown}");
        let left = site.call(Request::new("DELETE", &target)).await;
        assert_eq!((left.status, left.json()), (200, json!({"status": "left"})));
        let leaving = site.call(Request::new("POST", &target)).await;
        assert_eq!(
            (leaving.status, &leaving.json()["status"]),
            (200, &json!("leaving"))
        );
    }
}

#[tokio::test]
async fn the_same_key_is_the_same_place_and_another_body_a_conflict() {
    let site = Site::with(Plan::policy(|policy| policy.paused = true)).await;
    let join = |key: &str, body: &str| Request::post(JOIN, body).header("Idempotency-Key", key);
    let body = r#"{"event_id": "sale", "user_id": "ann"}"#;
    let first = site.call(join("k-1", body)).await;
    let again = site.call(join("k-1", body)).await;
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.json()["waiting_token"], again.json()["waiting_token"]);
    assert_eq!(again.json()["total_waiting"], 1);
    let eve = site
        .call(join("k-1", r#"{"event_id": "sale", "user_id": "eve"}"#))
        .await;
    assert_eq!(
        (eve.status, eve.code().as_str()),
        (409, "IDEMPOTENCY_CONFLICT")
    );
    let other = site.call(join("k-2", body)).await;
    assert_ne!(first.json()["waiting_token"], other.json()["waiting_token"]);
    // The label alone is no proof of anything.
    let unkeyed = site.call(Request::post(JOIN, body)).await;
    assert_ne!(
        first.json()["waiting_token"],
        unkeyed.json()["waiting_token"]
    );
}

#[tokio::test]
async fn a_durable_join_is_answered_only_when_the_store_has_it() {
    let site = Site::with(Plan::http(|http| http.durable_joins = true)).await;
    site.token("sale").await;
    assert_eq!(site.desk.durable_asked.load(Ordering::Relaxed), 1);
    site.desk.away.store(true, Ordering::Relaxed);
    let refused = site
        .call(Request::post(JOIN, r#"{"event_id": "sale"}"#))
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "SERVICE_UNAVAILABLE")
    );
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn joins_over_the_rate_are_refused_and_polls_are_not() {
    let site = Site::with(Plan::http(|http| http.limits.joins_per_second = 2)).await;
    let token = site.token("sale").await;
    site.token("sale").await;
    let refused = site
        .call(Request::post(JOIN, r#"{"event_id": "sale"}"#))
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "RATE_LIMITED")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["error"]["retry_after_ms"], 500);
    assert_eq!(site.status(&token).await.status, 200);
    site.pass(Duration::from_millis(500));
    site.token("sale").await;
    let mut settings = site.settings.clone();
    settings.limits.joins_per_second = 0;
    site.shared.set(settings);
    for _ in 0..10 {
        site.token("sale").await;
    }
}

#[tokio::test]
async fn forgetting_the_cached_answers_changes_none() {
    let site = Site::with(Plan::policy(|policy| policy.paused = true)).await;
    let token = site.token("sale").await;
    site.pass(Duration::from_secs(1));
    let polls = async || {
        // The second and third come before they are due.
        let mut bodies = Vec::new();
        for _ in 0..3 {
            bodies.push(site.status(&token).await.text().to_owned());
        }
        bodies
    };
    let before = polls().await;
    assert!(site.metrics.cache_hits.get() > 0, "the cache was not used");
    site.shared.forget_repeats();
    let misses = site.metrics.cache_misses.get();
    assert_eq!(polls().await, before);
    assert!(
        site.metrics.cache_misses.get() > misses,
        "the cache was not empty"
    );
    assert!(
        before.iter().all(|body| *body == before[0]),
        "one moment, one answer: {before:?}"
    );
}

#[tokio::test]
async fn a_poll_after_a_place_was_gained_is_not_answered_from_before() {
    let site = Site::with(Plan::policy(|policy| policy.paused = true)).await;
    let ahead = site.token("sale").await;
    let token = site.token("sale").await;
    site.pass(Duration::from_secs(1));
    for _ in 0..3 {
        assert_eq!(site.status(&token).await.json()["position"], 2);
    }
    site.call(Request::new("DELETE", &format!("{LEAVE}?token={ahead}")))
        .await;
    site.pass(Duration::from_millis(400));
    assert_eq!(site.status(&token).await.json()["position"], 1);
    let mut client = site.connect().await;
    let status = Request::get(&format!("/api/v1/queue/status?token={token}"));
    let answer = client.call(&status).await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let head = Request::new("HEAD", &status.target);
    let bare = client.call(&head).await;
    assert_eq!((bare.status, bare.body.len()), (200, 0));
    assert_eq!(
        client.call(&status).await.status,
        200,
        "the connection goes on after a HEAD"
    );
}
