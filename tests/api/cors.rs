//! Pages of other origins.

use std::time::Duration;

use super::client::Request;
use super::site::{Plan, Site};

const STATUS: &str = "/api/v1/queue/status";
const SHOP: &str = "https://tickets.example";

async fn site(origins: &[&str], credentials: bool) -> Site {
    Site::with(Plan::http(|http| {
        http.cors.origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        http.cors.max_age = Duration::from_secs(600);
        http.cors.credentials = credentials;
    }))
    .await
}

#[tokio::test]
async fn a_listed_origin_may_ask_and_read() {
    let site = site(&["https://other.example", SHOP], true).await;
    let preflight = Request::new("OPTIONS", "/api/v1/queue/join")
        .header("origin", SHOP)
        .header("access-control-request-method", "POST");
    let answer = site.call(preflight).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true")
    );
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET, POST, DELETE, OPTIONS")
    );
    let headers = "Content-Type, Authorization, Idempotency-Key, X-Trace-Id, X-Request-ID, \
                   X-Waiting-Token";
    assert_eq!(answer.header("access-control-allow-headers"), Some(headers));
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    assert_eq!(answer.header("vary"), Some("Origin"));
    // Errors have to be readable too.
    let answer = site.call(Request::get(STATUS).header("origin", SHOP)).await;
    assert_eq!(answer.code(), "MISSING_TOKEN");
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(
        answer.header("access-control-expose-headers"),
        Some("Retry-After")
    );
}

#[tokio::test]
async fn an_unlisted_origin_gets_no_leave() {
    let site = site(&[SHOP], true).await;
    for origin in [
        "https://evil.example",
        "null",
        "https://tickets.example.evil",
    ] {
        for method in ["OPTIONS", "GET"] {
            let answer = site
                .call(Request::new(method, STATUS).header("origin", origin))
                .await;
            assert_eq!(answer.header("access-control-allow-origin"), None);
            assert_eq!(answer.header("access-control-allow-credentials"), None);
            assert_eq!(answer.header("vary"), Some("Origin"));
        }
    }
}

#[tokio::test]
async fn a_wildcard_never_goes_with_credentials() {
    let open = site(&["*"], false).await;
    let answer = open.call(Request::get(STATUS).header("origin", SHOP)).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let odd = site(&["*"], true).await;
    let answer = odd.call(Request::get(STATUS).header("origin", SHOP)).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn without_origins_nothing_is_said() {
    let site = Site::new().await;
    let answer = site
        .call(Request::new("OPTIONS", STATUS).header("origin", SHOP))
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), None);
}
