//! What operators see and change.

use std::time::Duration;

use serde_json::json;

use super::client::{Request, call};
use super::site::{ADMIN_TOKEN, Plan, Site};

const EVENT: &str = "/api/v1/admin/events/sale";

#[tokio::test]
async fn operators_calls_do_not_exist_for_visitors() {
    let site = Site::new().await;
    for target in [
        "/metrics",
        "/api/v1/admin/health",
        "/api/v1/admin/stats",
        EVENT,
    ] {
        assert_eq!(site.get(target).await.code(), "NOT_FOUND", "{target}");
    }
    let complete = Request::post("/api/v1/passes/complete", "{}");
    assert_eq!(site.call(complete).await.code(), "NOT_FOUND");
}

#[tokio::test]
async fn the_nodes_of_the_fleet_are_told_with_those_that_are_missing() {
    let site = Site::new().await;
    let nodes = call(site.admin, &Request::get("/api/v1/admin/nodes"))
        .await
        .json();
    assert_eq!((&nodes["node"], &nodes["size"]), (&json!(0), &json!(3)));
    assert_eq!(nodes["missing"], json!([1, 2]));
    let live = |n: usize| nodes["nodes"][n]["live"].as_bool();
    assert_eq!([live(0), live(1)], [Some(true), Some(false)]);
}

#[tokio::test]
async fn reading_is_open_on_loopback_and_changing_never_is() {
    let site = Site::new().await;
    for target in ["/metrics", "/api/v1/admin/health", "/api/v1/admin/stats"] {
        assert_eq!(
            call(site.admin, &Request::get(target)).await.status,
            200,
            "{target}"
        );
    }
    let change = Request::new("PATCH", EVENT).body(r#"{"paused": true}"#);
    let near = format!("Bearer {}", &ADMIN_TOKEN[..ADMIN_TOKEN.len() - 1]);
    for shown in ["", "Bearer ", "Basic x", near.as_str()] {
        let request = change.clone().header("authorization", shown);
        let answer = call(site.admin, &request).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "UNAUTHORIZED"),
            "{shown}"
        );
    }
    assert_eq!(site.operate(change).await.status, 200);
}

/// The override that the store keeps of the first event.
fn kept(site: &Site) -> Option<String> {
    let rulings = site.desk.rulings.lock();
    rulings.events.values().next()?.patch.clone()
}

#[tokio::test]
async fn an_event_s_name_may_come_escaped() {
    let site = Site::new().await;
    site.token("a:b").await;
    let answer = site
        .operate(Request::get("/api/v1/admin/events/a%3Ab"))
        .await;
    assert_eq!(answer.json()["event_id"], "a:b");
}

#[tokio::test]
async fn policies_change_field_by_field_and_go_back() {
    let site = Site::new().await;
    let token = site.token("sale").await;
    let patch = async |body: &str| site.operate(Request::new("PATCH", EVENT).body(body)).await;
    assert_eq!(
        patch(r#"{"paused": true}"#).await.json()["policy"]["paused"],
        true
    );
    let both = patch(r#"{"rate": 2.5, "ready_ttl": "90s"}"#).await.json();
    assert_eq!(
        both["policy"]["paused"], true,
        "what was changed before stays changed"
    );
    assert_eq!(both["policy"]["rate"], 2.5);
    assert_eq!(
        both["overrides"],
        json!({"paused": true, "rate": 2.5, "ready_ttl": "1m 30s"})
    );
    let stored: serde_json::Value = serde_json::from_str(&kept(&site).unwrap()).unwrap();
    assert_eq!(stored, both["overrides"], "and it is kept in the store");
    assert_eq!(site.status(&token).await.json()["reason"], "paused");
    let shown = call(site.admin, &Request::get(EVENT)).await.json();
    assert_eq!(shown, both);
    let overrides = Request::new("DELETE", &format!("{EVENT}/overrides"));
    let back = site.operate(overrides).await.json();
    assert_eq!(back["overrides"], json!({}));
    assert_eq!(back["policy"]["paused"], false);
    assert!(kept(&site).is_none());
}

#[tokio::test]
async fn a_wrong_policy_names_every_mistake_and_changes_nothing() {
    let site = Site::new().await;
    site.token("sale").await;
    let patch = async |body: &str| site.operate(Request::new("PATCH", EVENT).body(body)).await;
    let wrong = patch(r#"{"rat": 1, "burst": "x"}"#).await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (400, "INVALID_REQUEST")
    );
    assert!(
        wrong.message().contains("did you mean \"rate\"?"),
        "{}",
        wrong.message()
    );
    assert!(
        wrong.message().contains("burst = \"x\""),
        "{}",
        wrong.message()
    );
    let range = patch(r#"{"burst": 0, "heartbeat_ttl": "9h"}"#)
        .await
        .message();
    assert!(
        range.contains("burst = 0") && range.contains("ticket_ttl"),
        "{range}"
    );
    assert!(kept(&site).is_none());
    let shown = call(site.admin, &Request::get(EVENT)).await.json();
    assert_eq!(shown["overrides"], json!({}));
    // An event may be prepared before anybody joins it.
    let early = Request::new("PATCH", "/api/v1/admin/events/tomorrow").body(r#"{"paused":true}"#);
    assert_eq!(site.operate(early).await.status, 200);
}

#[tokio::test]
async fn figures_add_up() {
    let site = Site::with(Plan::policy(|policy| policy.paused = true)).await;
    site.token("a").await;
    let leaving = site.token("a").await;
    site.token("b").await;
    site.call(Request::new(
        "DELETE",
        &format!("/api/v1/queue/leave?token={leaving}"),
    ))
    .await;
    let stats = call(site.admin, &Request::get("/api/v1/admin/stats"))
        .await
        .json();
    assert_eq!(stats["total_waiting"], 2);
    assert_eq!(stats["total_joined"], 3);
    assert_eq!(stats["total_left"], 1);
    assert_eq!(stats["events"][0]["event_id"], "a");
    assert_eq!(stats["events"][0]["paused"], true);
    let health = call(site.admin, &Request::get("/api/v1/admin/health"))
        .await
        .json();
    assert_eq!(
        (&health["ready"], &health["events"]),
        (&json!(true), &json!(2))
    );
    let text = call(site.admin, &Request::get("/metrics"))
        .await
        .text()
        .to_owned();
    let line = r#"tidegate_http_requests_total{route="join",class="2xx"} 3"#;
    assert!(text.lines().any(|known| known == line), "{text}");
}

#[tokio::test]
async fn flushing_takes_only_the_named_events() {
    let site = Site::new().await;
    let flush = async |body: &str| {
        let request = Request::post("/api/v1/admin/flush-test-data", body);
        site.operate(request).await
    };
    let gone = site.token("test-1").await;
    let kept = site.token("real").await;
    for body in [
        "{}",
        r#"{"event_ids": []}"#,
        r#"{"event_ids": "all"}"#,
        r#"{"event_ids": [1]}"#,
    ] {
        assert_eq!(flush(body).await.code(), "INVALID_REQUEST", "{body}");
    }
    let half = flush(r#"{"event_ids": ["test-1", "*"]}"#).await;
    assert_eq!(half.code(), "INVALID_EVENT_ID");
    assert_eq!(
        site.status(&gone).await.status,
        200,
        "a wrong name leaves everything"
    );
    let flushed = flush(r#"{"event_ids": ["test-1"]}"#).await.json();
    assert_eq!(flushed["deleted_tickets"], 1);
    assert_eq!(site.status(&gone).await.code(), "TOKEN_NOT_FOUND");
    assert_eq!(site.status(&kept).await.status, 200);
}

#[tokio::test]
async fn passes_are_told_and_given_up_once() {
    let site = Site::with(Plan::policy(|policy| policy.max_active = 1)).await;
    let first = site.token("sale").await;
    let second = site.token("sale").await;
    site.pass(Duration::from_secs(1));
    let granted = site.enter(&first).await.json();
    let body = format!(
        r#"{{"reservation_token": {}}}"#,
        granted["reservation_token"]
    );
    let introspect = async |body: &str| {
        let request = Request::post("/api/v1/passes/introspect", body);
        call(site.admin, &request).await.json()
    };
    let told = introspect(&body).await;
    assert_eq!(
        (&told["active"], &told["event_id"]),
        (&json!(true), &json!("sale"))
    );
    assert_eq!(
        introspect(r#"{"reservation_token": "a.b.c"}"#).await,
        json!({"active": false})
    );
    site.pass(Duration::from_secs(1));
    assert_eq!(
        site.status(&second).await.json()["ready_for_entry"],
        false,
        "one is inside"
    );
    let complete = async || {
        let request = Request::post("/api/v1/passes/complete", &body);
        site.operate(request).await.json()
    };
    assert_eq!(
        complete().await,
        json!({"status": "completed", "freed": true})
    );
    assert_eq!(
        complete().await,
        json!({"status": "completed", "freed": false})
    );
    site.pass(Duration::from_secs(1));
    assert_eq!(site.status(&second).await.json()["ready_for_entry"], true);
    site.pass(Duration::from_secs(60));
    assert_eq!(
        introspect(&body).await,
        json!({"active": false}),
        "it has ended"
    );
}

#[tokio::test]
async fn readiness_follows_loading_and_draining_but_not_the_store() {
    let site = Site::new().await;
    site.room.set_loaded(false);
    let loading = site.get("/readyz").await;
    assert_eq!(loading.status, 503);
    assert_eq!(
        loading.json(),
        json!({"status": "not ready", "reason": "loading"})
    );
    site.room.set_loaded(true);
    site.desk
        .away
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let ready = site.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["dependencies"]["store"]),
        (200, &json!("down"))
    );
    assert_eq!(site.get("/healthz").await.status, 200);
    let version = site.get("/version").await.json();
    assert_eq!(version["version"], "1.2.3");
    assert_eq!(version["commit"], "abcdef0");
    site.shared.start_draining();
    let draining = site.get("/readyz").await;
    assert_eq!(
        draining.json(),
        json!({"status": "not ready", "reason": "draining"})
    );
}
