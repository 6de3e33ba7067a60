//! Bytes at random, and requests bent at random: never a 5xx, never a hang, never a panic.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::client::Client;
use super::site::Site;

const PIECES: [&[u8]; 24] = [
    b"GET ",
    b"POST ",
    b"DELETE ",
    b"/api/v1/queue/join",
    b"/api/v1/queue/status?token=",
    b"/api/v1/queue/enter",
    b"/healthz",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"host: a\r\n",
    b"content-length: 20\r\n",
    b"content-length: 0\r\n",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"idempotency-key: k\r\n",
    b"expect: 100-continue\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"{\"event_id\": \"sale\"}",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"%ff%00",
    b"\0\xff\x80",
    b": ",
];

fn garbage(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(1..30) {
        if random.random_ratio(1, 6) {
            let noise = random.random_range(1..60);
            bytes.extend((0..noise).map(|_| random.random::<u8>()));
        } else {
            bytes.extend_from_slice(PIECES.choose(random).copied().unwrap_or_default());
        }
    }
    bytes
}

#[tokio::test]
async fn whatever_is_sent_is_survived_and_is_never_our_fault() {
    let site = Site::new().await;
    let mut client = Client::connect(site.visitor).await;
    for seed in 0..600 {
        let mut random = StdRng::seed_from_u64(seed);
        client.send(garbage(&mut random)).await;
        if random.random_ratio(1, 4) {
            // The same connection gets more.
            client.send(garbage(&mut random)).await;
        }
        client.finish().await;
        while let Some(answer) = client.answer().await {
            assert!(answer.status < 500, "seed {seed}: {answer:?}");
            if answer.status >= 400 {
                assert_ne!(answer.code(), "", "seed {seed}");
            }
        }
        client = Client::connect(site.visitor).await;
    }
    assert_eq!(site.get("/healthz").await.status, 200);
}
