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
use crate::kit::stopwatch::Stopwatch;
use crate::live::agree::{Lines, compare, held, key_of};
use crate::live::nodes::Fleet;
use crate::sale::SECOND;

/// The event's name.
const EVENT: &str = "rest";
/// Who is in it before the fault.
const TICKETS: usize = 150;
/// While a fault lasts somebody comes this often.
const JOIN_EVERY: Duration = Duration::from_millis(50);
/// Of so many who come one leaves again.
const LEAVES: usize = 7;
/// A join that took longer was repeated at another node, and the first one may still come: after a
/// leave that would be another visit.
const REPEATED_US: u64 = SECOND;

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
    line: Lines,
    /// How many have come so far.
    came: usize,
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
        Self {
            line: Lines::from([(EVENT.to_owned(), tokens)]),
            came: TICKETS,
        }
    }

    /// People begin to come and go.
    pub fn stir(&self, address: SocketAddr) -> Stir {
        let first = self.came;
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
                let begun = Stopwatch::start();
                let token = join(&mut client, first + n).await;
                if n % LEAVES == 0 && begun.us() < REPEATED_US {
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
        self.line
            .values_mut()
            .for_each(|line| line.extend_from_slice(&joined));
        self.came += joined.len() + left.len();
        if killed {
            let mut client = Client::connect(address).await;
            for token in &left {
                leave(&mut client, token).await;
            }
        }
    }

    /// All but those who came first leave.
    pub async fn thin(&mut self, address: SocketAddr) {
        let mut client = Client::connect(address).await;
        for line in self.line.values_mut() {
            for token in line.drain(TICKETS..) {
                leave(&mut client, &token).await;
            }
        }
    }

    /// In what nodes and store do not agree, if in anything.
    pub async fn apart(&self, fleet: &Fleet) -> Option<String> {
        compare(fleet, &self.line).await.err()
    }
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
    let held = tokio::task::block_in_place(|| held(fleet));
    let sale = held.iter().filter(|(event, _)| *event != EVENT);
    let held: HashSet<TicketId> = sale.flat_map(|(_, line)| line).map(|key| key.1).collect();
    let still = tokens
        .iter()
        .filter(|token| held.contains(&key_of(token).1));
    let still = still.count();
    (still > 0).then(|| format!("{still} of {} are still in the store's line", tokens.len()))
}
