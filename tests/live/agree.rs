//! At rest all nodes and the store agree exactly, for every ticket (I6).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate::model::TicketId;
use tidegate::model::token::{Claims, TicketKeys, buffer};
use tokio::task::JoinSet;

use super::nodes::{Fleet, KEY};
use super::{LATE_GRACE, NODES};
use crate::api::client::{Client, Request};
use crate::kit::stopwatch::Stopwatch;
use crate::sale::{End, SECOND, Story, Terms, event_name};

const TICKETS: usize = 1_500;
/// How often a fleet is looked at that does not agree yet, and how long: those who closed their tab
/// have to expire, four thirds of the time to live after their last poll, and so do those who missed a
/// turn, when the late grace is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const AGREED_WITHIN: u64 = Terms::SALE.heartbeat_ttl * 4 / 3 + LATE_GRACE + 10 * SECOND;

/// The tokens of those in line, by event.
pub type Lines = BTreeMap<String, Vec<String>>;

/// What agreed, and when.
pub struct Agreed {
    pub events: usize,
    pub tickets: usize,
    /// Of these, so many are told less than their rank: what they were told at their join (I5).
    pub told_less: usize,
    /// After so many microseconds.
    pub after: u64,
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tickets, events) = (self.tickets, self.events);
        let (told_less, after) = (self.told_less, self.after as f64 / 1e6);
        write!(
            f,
            "{tickets} tickets of {events} events compared: {NODES} nodes and the sum of the store's \
             ranks agree on each after {after:.1} s ({told_less} keep to less that they were told)"
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_and_the_store_tell_every_ticket_the_same_place() {
    let _alone = crate::sale::alone().await;
    let settings = ["defaults.paused=true".to_owned()];
    let fleet = Fleet::start(NODES, &settings).await;
    let mut client = Client::connect(fleet.address()).await;
    let body = r#"{"event_id": "sale"}"#;
    let mut tokens = Vec::new();
    for _ in 0..TICKETS {
        let joined = client
            .call(&Request::post("/api/v1/queue/join", body))
            .await;
        assert_eq!(joined.status, 202);
        tokens.push(joined.json()["waiting_token"].as_str().unwrap().to_owned());
    }
    for token in tokens.iter().step_by(7) {
        let target = format!("/api/v1/queue/leave?token={token}");
        assert_eq!(
            client.call(&Request::new("DELETE", &target)).await.status,
            200
        );
    }
    let stays = |(n, token)| (n % 7 != 0).then_some(token);
    let tokens: Vec<_> = tokens.into_iter().enumerate().filter_map(stays).collect();
    let keys: Vec<_> = tokens.iter().map(|token| key_of(token)).collect();
    assert!(keys.is_sorted(), "in the order of joining");
    let lines = Lines::from([("sale".to_owned(), tokens)]);
    let agreed = until_agreed(&fleet, &lines).await;
    println!("{}", agreed.unwrap_or_else(|word| panic!("{word}")));
}

/// Of a sale that was closed: those who still waited, by event. Events where nobody does are empty.
pub fn waiting(events: usize, stories: &[Story]) -> Lines {
    let mut lines: Lines = (0..events).map(|n| (event_name(n), Vec::new())).collect();
    for story in stories.iter().filter(|story| story.end == End::Waits) {
        let line = lines.entry(event_name(story.event)).or_default();
        line.extend(story.token().map(str::to_owned));
    }
    lines
}

/// Who is in the store's line of a sale though they do not wait: at most so many of them, in words.
pub fn strangers(fleet: &Fleet, lines: &Lines, stories: &[Story], most: usize) -> Vec<String> {
    let held = tokio::task::block_in_place(|| held(fleet));
    let waiting: HashSet<_> = lines
        .values()
        .flatten()
        .map(|token| key_of(token))
        .collect();
    let known = stories
        .iter()
        .filter_map(|story| Some((key_of(story.token()?).1, story)));
    let known: HashMap<_, _> = known.collect();
    let of_sale = lines.keys().filter_map(|event| held.get(event));
    let strangers = of_sale.flatten().filter(|key| !waiting.contains(key));
    let told = strangers.map(|(arrival, id)| match known.get(id) {
        None => format!("{id:?} of {arrival}, of whom nobody knows"),
        Some(story) => {
            let last = story.seen.last();
            format!(
                "{id:?} of {arrival}: {:?}, {:?} after {last:?}",
                story.kind, story.end
            )
        }
    });
    told.take(most).collect()
}

/// Looks until all nodes and the store agree on these lines, or says in what they do not.
pub async fn until_agreed(fleet: &Fleet, lines: &Lines) -> Result<Agreed, String> {
    let stopwatch = Stopwatch::start();
    loop {
        match compare(fleet, lines).await {
            Ok(told_less) => {
                return Ok(Agreed {
                    events: lines.len(),
                    tickets: lines.values().map(Vec::len).sum(),
                    told_less,
                    after: stopwatch.us(),
                });
            }
            Err(word) if stopwatch.us() > AGREED_WITHIN => return Err(word),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// One look: whether the store has just these tickets in these lines, and all nodes tell each of them
/// its rank there. Answers how many were told less at their join and keep to that, or in what they
/// differ.
pub async fn compare(fleet: &Fleet, lines: &Lines) -> Result<usize, String> {
    let tokens: Arc<Vec<String>> = Arc::new(lines.values().flatten().cloned().collect());
    let mut asked = JoinSet::new();
    for (n, node) in fleet.nodes.iter().enumerate() {
        let (address, tokens) = (node.address, Arc::clone(&tokens));
        asked.spawn(async move { (n, places(address, &tokens).await) });
    }
    let mut told = asked.join_all().await;
    told.sort_by_key(|(n, _)| *n);
    let held = tokio::task::block_in_place(|| held(fleet));
    let (mut ranks, mut told_less) = (Vec::new(), 0);
    let mut not_whole = None;
    for (event, tokens) in lines {
        let line = held.get(event).map_or(&[][..], Vec::as_slice);
        let mut missing = 0;
        for token in tokens {
            let key = key_of(token);
            let rank = line.partition_point(|held| *held < key);
            missing += usize::from(line.get(rank) != Some(&key));
            let least = told_at_join(token).unwrap_or(u64::MAX);
            told_less += usize::from(least <= rank as u64);
            ranks.push(Some(least.min(rank as u64 + 1)));
        }
        if missing > 0 || line.len() != tokens.len() {
            let (there, here) = (line.len(), tokens.len());
            not_whole = Some(format!(
                "the store holds {there} of {event} where {here} wait, {missing} of whom it lacks"
            ));
        }
    }
    let of = |n: usize| told.iter().map(move |(_, places)| places[n]);
    let apart = (0..tokens.len()).filter(|n| of(*n).any(|place| place != ranks[*n]));
    let apart: Vec<_> = apart.collect();
    if !apart.is_empty() {
        let some = apart.iter().take(10);
        let some: Vec<_> = some
            .map(|n| (of(*n).collect::<Vec<_>>(), ranks[*n]))
            .collect();
        let (many, all) = (apart.len(), tokens.len());
        return Err(format!(
            "{many} of {all} places differ, such as (by node, by store) {some:?}"
        ));
    }
    not_whole.map_or(Ok(told_less), Err)
}

/// The place that a node tells each of these; none if it tells none.
async fn places(address: SocketAddr, tokens: &[String]) -> Vec<Option<u64>> {
    let mut client = Client::connect(address).await;
    let mut places = Vec::new();
    for token in tokens {
        let target = format!("/api/v1/queue/status?token={token}");
        let status = client.call(&Request::get(&target)).await;
        places.push(status.json()["position"].as_u64());
    }
    places
}

/// Who waits in each event, as the store has it: over all partitions, in order of score and id, without
/// those who were called or missed their turn, whom nobody counts.
pub fn held(fleet: &Fleet) -> BTreeMap<String, Vec<(u64, TicketId)>> {
    let mut held: BTreeMap<String, Vec<(u64, TicketId)>> = BTreeMap::new();
    // Until when a turn counts that was called or missed: who joined anew since is in line again.
    let mut called: HashMap<(String, TicketId), u64> = HashMap::new();
    for master in fleet.cluster.masters(0) {
        let server = &fleet.cluster.servers[master];
        for key in server.run::<Vec<String>>(&["KEYS", "tg:{*}:*:*"]) {
            let parts: Vec<_> = key.splitn(4, ':').collect();
            let (kind, event) = (parts[2], parts[3]);
            if !["line", "called", "missed"].contains(&kind) {
                continue;
            }
            let members: Vec<(Vec<u8>, f64)> =
                server.run(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]);
            let ids = members.into_iter().map(|(id, score)| {
                let id = TicketId::from_bytes(id.try_into().expect("ids have 16 bytes"));
                (score as u64, id)
            });
            if kind == "line" {
                held.entry(event.to_owned()).or_default().extend(ids);
            } else {
                let grace = if kind == "missed" { LATE_GRACE } else { 0 };
                called.extend(ids.map(|(until, id)| ((event.to_owned(), id), until - grace)));
            }
        }
    }
    for (event, line) in &mut held {
        line.sort_unstable();
        let turn = |id: &TicketId| called.get(&(event.clone(), *id));
        line.retain(|(arrival, id)| turn(id).is_none_or(|until| until < arrival));
    }
    held
}

/// Arrival and id, as a token says.
pub fn key_of(token: &str) -> (u64, TicketId) {
    claims(token, |claims| (claims.arrival.0, claims.id))
}

/// The place that was told at the join, as a token says.
fn told_at_join(token: &str) -> Option<u64> {
    claims(token, |claims| claims.told.map(u64::from))
}

fn claims<T>(token: &str, read: impl FnOnce(&Claims<'_>) -> T) -> T {
    let keys = TicketKeys::new("k1", &[("k1".to_owned(), KEY)]).unwrap();
    let mut buffer = buffer();
    read(&keys.verify(token, &mut buffer).unwrap())
}
