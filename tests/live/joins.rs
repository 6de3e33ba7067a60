//! What joins cost Redis, and how one hot event loads its masters: what they count before and after.
//!
//! `FLEET_LOAD_SECONDS` is how long each part takes (10 unless set).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate::model::token::{TicketKeys, buffer};

use super::NODES;
use super::nodes::{Fleet, KEY};
use crate::api::client::{Client, Request};
use crate::kit::stopwatch::Stopwatch;

/// Joins a second over all nodes.
const RATE: u64 = 1_000;
/// Connections that share them.
const CONNECTIONS: u64 = 60;
/// The most commands that one join may cost.
const COMMANDS_MAX: f64 = 0.1;

fn seconds() -> u64 {
    std::env::var("FLEET_LOAD_SECONDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10)
}

/// What one master counts.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Calls by command, those of scripts included.
    pub calls: BTreeMap<String, u64>,
    /// Processor time in microseconds.
    pub cpu: u64,
    /// Bytes in and out of clients; not of replicas.
    pub bytes: u64,
    /// Bytes of memory.
    pub memory: u64,
}

impl Counts {
    /// What was counted since.
    pub fn since(&self, before: &Self) -> Self {
        let calls = self.calls.iter().map(|(name, count)| {
            let before = before.calls.get(name).copied().unwrap_or(0);
            (name.clone(), count.saturating_sub(before))
        });
        Self {
            calls: calls.collect(),
            cpu: self.cpu.saturating_sub(before.cpu),
            bytes: self.bytes.saturating_sub(before.bytes),
            memory: self.memory.saturating_sub(before.memory),
        }
    }

    pub fn all(&self) -> u64 {
        self.calls.values().sum()
    }

    /// Those that came over a connection, without the look at the rulings that each node makes once a
    /// second: what scripts call is part of one of these.
    pub fn sent(&self) -> u64 {
        let sent = ["evalsha", "eval", "xread", "xrange"];
        sent.iter().filter_map(|name| self.calls.get(*name)).sum()
    }
}

/// What each master counts now.
pub fn counts(fleet: &Fleet) -> Vec<Counts> {
    let of = |server: &crate::kit::cluster::Server| {
        let info: String = server.run(&["INFO", "everything"]);
        let number = |name: &str| {
            let value = info
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value
                .and_then(|v| v.trim().parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        let own = [
            "info", "client", "hello", "replconf", "psync", "ping", "cluster", "keys", "config",
        ];
        let calls = info.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = rest.strip_prefix("calls=")?.split(',').next()?;
            let counts = !own.iter().any(|own| name.starts_with(own));
            counts.then(|| Some((name.to_owned(), calls.parse().ok()?)))?
        });
        Counts {
            calls: calls.collect(),
            cpu: ((number("used_cpu_sys") + number("used_cpu_user")) * 1e6) as u64,
            bytes: (number("total_net_input_bytes") + number("total_net_output_bytes")
                - number("total_net_repl_input_bytes")
                - number("total_net_repl_output_bytes")) as u64,
            memory: number("used_memory") as u64,
        }
    };
    tokio::task::block_in_place(|| fleet.cluster.servers[..3].iter().map(of).collect())
}

/// Sends requests at an even pace, whatever the answers take. Answers the bodies.
async fn paced(
    fleet: &Fleet,
    rate: u64,
    count: u64,
    request: impl Fn(u64) -> Request + Send + Sync + 'static,
) -> Vec<serde_json::Value> {
    let begun = Stopwatch::start();
    let request = Arc::new(request);
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..CONNECTIONS {
        let address = fleet.nodes[first as usize % NODES].address;
        let request = Arc::clone(&request);
        tasks.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut answers = Vec::new();
            for n in (first..count).step_by(CONNECTIONS as usize) {
                tokio::time::sleep_until(begun.at(n * 1_000_000 / rate)).await;
                let answer = client.call(&request(n)).await;
                assert!(answer.status < 300, "{}", answer.text());
                answers.push(answer.json());
            }
            answers
        });
    }
    let mut answers = Vec::new();
    while let Some(done) = tasks.join_next().await {
        answers.extend(done.expect("visitors do not panic"));
    }
    println!(
        "{count} requests in {:.1} s, {:.0} a second",
        begun.us() as f64 / 1e6,
        count as f64 * 1e6 / begun.us() as f64
    );
    answers
}

fn sum(counts: &[Counts]) -> Counts {
    let mut all = Counts::default();
    for one in counts {
        for (name, count) in &one.calls {
            *all.calls.entry(name.clone()).or_default() += count;
        }
        all.cpu += one.cpu;
        all.bytes += one.bytes;
    }
    all
}

fn since(after: &[Counts], before: &[Counts]) -> Vec<Counts> {
    let pairs = after.iter().zip(before);
    pairs.map(|(after, before)| after.since(before)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_cost_redis_a_tenth_of_a_command() {
    let _alone = crate::sale::alone().await;
    let settings = ["defaults.paused=true".to_owned()];
    let fleet = Fleet::start(NODES, &settings).await;
    let join = |_| Request::post("/api/v1/queue/join", r#"{"event_id": "sale"}"#);
    // Connections, scripts and the event itself are not counted.
    paced(&fleet, RATE, RATE, join).await;
    let joins = RATE * seconds();
    let before = counts(&fleet);
    let begun = Stopwatch::start();
    paced(&fleet, RATE, joins, join).await;
    let busy = counts(&fleet);
    let took = begun.us();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let rest = (Stopwatch::start(), counts(&fleet));
    tokio::time::sleep(std::time::Duration::from_micros(took)).await;
    let idle = since(&counts(&fleet), &rest.1);
    let (busy, idle) = (sum(&since(&busy, &before)), sum(&idle));
    let share = took as f64 / rest.0.us() as f64;
    println!("  {:<20} {:>12} {:>12}", "command", "joining", "at rest");
    for (name, count) in &busy.calls {
        let resting = idle.calls.get(name).copied().unwrap_or(0);
        if count + resting > 0 {
            println!("  {name:<20} {count:>12} {resting:>12}");
        }
    }
    let each = |busy: u64, idle: u64| (busy as f64 - idle as f64 * share) / joins as f64;
    let sent = each(busy.sent(), idle.sent());
    println!("  {:<20} {:>12} {:>12}", "sent", busy.sent(), idle.sent());
    println!(
        "  {:<20} {:>12} {:>12}",
        "with those of scripts",
        busy.all(),
        idle.all()
    );
    println!(
        "  a join: {sent:.3} commands, {:.3} with what scripts call, {:.1} us of the masters' time, {:.0} bytes",
        each(busy.all(), idle.all()),
        each(busy.cpu, idle.cpu),
        each(busy.bytes, idle.bytes)
    );
    assert!(sent <= COMMANDS_MAX, "a join costs {sent:.3} commands");
}

/// What the hot event lets in, a second.
const ENTERS: u64 = 50;
/// No master does more than this above or below the mean.
const APART: f64 = 0.2;

/// Enters with each of these as soon as it is its turn.
async fn enter(address: std::net::SocketAddr, tokens: Vec<String>, entered: Arc<AtomicU64>) {
    let mut client = Client::connect(address).await;
    for token in tokens {
        let status = Request::get(&format!("/api/v1/queue/status?token={token}"));
        loop {
            let answer = client.call(&status).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            if answer.json()["ready_for_entry"] == true {
                break;
            }
            tokio::time::sleep(crate::kit::process::LOOK_EVERY).await;
        }
        let body = serde_json::json!({"waiting_token": token}).to_string();
        let answer = client
            .call(&Request::post("/api/v1/queue/enter", body))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        entered.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is shown and not held to anything.
const INNER: &str = "with those of scripts";

/// Something that is counted.
type Figure = fn(&Counts) -> u64;

/// Shows what each master did, and answers how far one was from the mean at most.
fn compare(what: &str, load: &[Counts]) -> f64 {
    println!("{what}");
    let figures: [(&str, Figure); 4] = [
        ("commands sent", Counts::sent),
        (INNER, Counts::all),
        ("cpu, us", |c| c.cpu),
        ("network, bytes", |c| c.bytes),
    ];
    let mut worst: f64 = 0.0;
    for (name, figure) in figures {
        let values: Vec<_> = load.iter().map(|counts| figure(counts) as f64).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let shown = values.iter().map(|value| {
            let apart = value / mean - 1.0;
            // What scripts call is part of what was sent; a batch more or less shows in it at once.
            if name != INNER {
                worst = worst.max(apart.abs());
            }
            format!("{value:>10.0} {:>+6.1} %", apart * 100.0)
        });
        println!("  {name:<22} {}", shown.collect::<Vec<_>>().join("  "));
    }
    worst
}

/// Every tenth request is one to leave, the others join.
fn mixed(leaving: Vec<String>) -> impl Fn(u64) -> Request + Send + Sync + 'static {
    move |n| match leaving.get(n as usize / 10).filter(|_| n % 10 == 9) {
        None => Request::post("/api/v1/queue/join", r#"{"event_id": "sale"}"#),
        Some(token) => Request::new("DELETE", &format!("/api/v1/queue/leave?token={token}")),
    }
}

/// What grows with the crowd lies evenly on the masters. What grows with those let in does not: one
/// master has the gate. It is little enough for that master not to stand out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_event_loads_all_masters_alike() {
    let _alone = crate::sale::alone().await;
    let admin = "the-admin-token-of-this-test";
    let settings = [
        format!("defaults.rate={ENTERS}"),
        format!("defaults.burst={ENTERS}"),
        "defaults.paused=true".to_owned(),
        format!("admin.token={admin}"),
    ];
    let fleet = Fleet::start(NODES, &settings).await;
    let count = RATE * seconds();
    let left = count / 10;
    let first = paced(&fleet, RATE, 3 * left + RATE, mixed(Vec::new())).await;
    let keys = TicketKeys::new("k1", &[("k1".to_owned(), KEY)]).unwrap();
    let arrival = |token: &String| {
        let mut buffer = buffer();
        let claims = keys.verify(token, &mut buffer);
        claims.map(|claims| claims.arrival).unwrap()
    };
    let token = |answer: &serde_json::Value| answer["waiting_token"].as_str().unwrap().to_owned();
    let mut first: Vec<_> = first.iter().map(token).collect();
    first.sort_by_cached_key(arrival);
    // The front enters, those behind it leave.
    let mut leaving = first.split_off((left + RATE) as usize);
    // In no order: neighbours in line have been written together.
    leaving = (0..leaving.len())
        .map(|n| leaving[n * 7_919 % leaving.len()].clone())
        .collect();
    let later = leaving.split_off(left as usize);

    let before = counts(&fleet);
    paced(&fleet, RATE, count, mixed(leaving)).await;
    let line = since(&counts(&fleet), &before);
    let apart = compare("joins and leaves, by master", &line);

    let open = Request::new("PATCH", "/api/v1/admin/events/sale").body(r#"{"paused": false}"#);
    let open = open.header("authorization", &format!("Bearer {admin}"));
    let opened = crate::api::client::call(fleet.nodes[0].admin, &open).await;
    assert_eq!(opened.status, 200);
    let entered = Arc::new(AtomicU64::new(0));
    let mut entering = tokio::task::JoinSet::new();
    let before = counts(&fleet);
    for n in 0..8 {
        let own = first.iter().skip(n).step_by(8).cloned().collect();
        let entered = Arc::clone(&entered);
        entering.spawn(enter(fleet.nodes[n % NODES].address, own, entered));
    }
    paced(&fleet, RATE, count, mixed(later)).await;
    let all = since(&counts(&fleet), &before);
    entering.shutdown().await;
    let entered = entered.load(Ordering::Relaxed);
    let apart = apart.max(compare(
        &format!("the same with {entered} enters, by master"),
        &all,
    ));
    let mut cpu: Vec<_> = all.iter().map(|counts| counts.cpu).collect();
    cpu.sort_unstable();
    println!(
        "  the gate's master: {:.0} us more an enter, turns and their hearing included",
        (cpu[2] as f64 - (cpu[0] + cpu[1]) as f64 / 2.0) / entered.max(1) as f64
    );
    assert!(apart <= APART, "masters are {:.0} % apart", apart * 100.0);
}
