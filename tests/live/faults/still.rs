//! An event at rest beside the sale: nobody is called, so at any moment all nodes and the store can be
//! compared exactly (I6). While a fault lasts people join and leave it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate::model::TicketId;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::api::client::{Client, Request};
use crate::live::agree::{key_of, line, places, ranks, told_at_join};
use crate::live::nodes::Fleet;

/// The event's name.
const EVENT: &str = "rest";
/// Who is in it before the fault.
const TICKETS: usize = 150;
/// While a fault lasts somebody comes this often.
const JOIN_EVERY: Duration = Duration::from_millis(50);
/// Of so many who come one leaves again.
const LEAVES: usize = 7;

/// What the nodes must be told of the event.
pub fn settings() -> Vec<String> {
    vec![
        format!("event.{EVENT}.paused=true"),
        format!("event.{EVENT}.heartbeat_ttl=1h"),
        format!("event.{EVENT}.ticket_ttl=2h"),
    ]
}

/// Those in line.
pub struct Still {
    tokens: Vec<String>,
}

/// Somebody comes and goes until told to stop.
pub struct Stir {
    stop: oneshot::Sender<()>,
    /// Who stays, and who left.
    ended: JoinHandle<[Vec<String>; 2]>,
}

impl Still {
    /// A line that stands already.
    pub async fn start(address: SocketAddr) -> Self {
        let mut client = Client::connect(address).await;
        let mut tokens = Vec::new();
        for n in 0..TICKETS {
            tokens.push(join(&mut client, n).await);
        }
        Self { tokens }
    }

    /// People begin to come and go.
    pub fn stir(&self, address: SocketAddr) -> Stir {
        let (stop, mut stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut every = interval(JOIN_EVERY);
            let (mut tokens, mut left) = (Vec::new(), Vec::new());
            for n in 1.. {
                tokio::select! {
                    _ = every.tick() => {}
                    _ = &mut stopped => break,
                }
                let token = join(&mut client, TICKETS + n).await;
                if n % LEAVES == 0 {
                    leave(&mut client, &token).await;
                    left.push(token);
                } else {
                    tokens.push(token);
                }
            }
            [tokens, left]
        });
        Stir { stop, ended }
    }

    /// Nobody comes or goes any more. A node that was killed may have taken a goodbye along that it had
    /// told nobody of: then those who left say so again.
    pub async fn rest(&mut self, stir: Stir, address: SocketAddr, killed: bool) {
        let _ = stir.stop.send(());
        let [joined, left] = stir.ended.await.expect("joins and leaves never fail");
        self.tokens.extend(joined);
        if killed {
            let mut client = Client::connect(address).await;
            for token in &left {
                leave(&mut client, token).await;
            }
        }
    }

    /// In what nodes and store do not agree, if in anything.
    pub async fn apart(&self, fleet: &Fleet) -> Option<String> {
        let mut told = Vec::new();
        for node in &fleet.nodes {
            told.push(places(&mut Client::connect(node.address).await, &self.tokens).await);
        }
        let tokens: Vec<&str> = self.tokens.iter().map(String::as_str).collect();
        let mut ranks = tokio::task::block_in_place(|| ranks(fleet, EVENT, &tokens));
        let whole = is_whole(&ranks);
        // Who joined while nothing was heard of the others was told less, and keeps to that (I5).
        for (rank, token) in ranks.iter_mut().zip(&tokens) {
            *rank = (*rank).min(told_at_join(token).unwrap_or(u64::MAX));
        }
        told.push(ranks);
        let apart = (0..self.tokens.len()).filter(|n| told.iter().any(|t| t[*n] != told[0][*n]));
        let apart: Vec<_> = apart.collect();
        if !apart.is_empty() {
            let some = apart.iter().take(10);
            let some: Vec<Vec<u64>> = some.map(|n| told.iter().map(|t| t[*n]).collect()).collect();
            let (many, all) = (apart.len(), self.tokens.len());
            return Some(format!("{many} of {all} places differ, such as {some:?}"));
        }
        (!whole).then(|| "all agree on a line with gaps or strangers".to_owned())
    }
}

/// Whether these are the places of all that are in line.
fn is_whole(ranks: &[u64]) -> bool {
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(1..=ranks.len() as u64)
}

async fn leave(client: &mut Client, token: &str) {
    let target = format!("/api/v1/queue/leave?token={token}");
    let left = client.call(&Request::new("DELETE", &target)).await;
    assert_eq!(left.status, 200, "{}", left.text());
}

/// Joins under a key, so that a balancer may repeat it at another node.
async fn join(client: &mut Client, number: usize) -> String {
    let body = format!(r#"{{"event_id": "{EVENT}"}}"#);
    let request = Request::post("/api/v1/queue/join", &body);
    let request = request.header("idempotency-key", &format!("{EVENT}-{number}"));
    let joined = client.call(&request).await;
    assert_eq!(joined.status, 202, "{}", joined.text());
    joined.json()["waiting_token"].as_str().unwrap().to_owned()
}

/// Which of these tickets of the sale are still in the store's line, though they should not be.
pub fn in_line(fleet: &Fleet, tokens: &[&str]) -> Option<String> {
    let held = tokio::task::block_in_place(|| line(fleet, "sale-*"));
    let held: HashSet<TicketId> = held.into_iter().map(|(_, id)| id).collect();
    let still = tokens
        .iter()
        .filter(|token| held.contains(&key_of(token).1));
    let still = still.count();
    (still > 0).then(|| format!("{still} of {} are still in the store's line", tokens.len()))
}
