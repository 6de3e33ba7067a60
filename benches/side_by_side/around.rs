//! What surrounds the polls: joins, a sale under way beside them, a growing fleet, the start, and
//! connections by the hundred thousand.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::compare::{BARE, TIDEGATE, bare, idle_percent};
use super::crowd::{Crowd, JOIN};
use super::figures::{Beside, Connections, Fleet, Joins, Start};
use super::load::{Load, Pace};
use super::machine::{cpu_time, resident};
use super::server::Server;
use super::stage::{Stage, commands};
use super::turns::{Contestant, Turn, median, ratio, rounds};

const JOINS_PER_SEC: f64 = 10_000.0;
const ENTERS_PER_SEC: f64 = 1_000.0;
const POLLS_PER_SEC: f64 = 30_000.0;
/// The largest fleet that is spoken of.
const FLEET_MAX: usize = 50;

/// Joins at the limit against the bare server, and durable ones at a pace.
pub fn joins(stage: &Stage) -> Joins {
    let plan = &stage.plan;
    let server = stage.tidegate(stage.embedded());
    let crowd = stage.join(&server, 10_000);
    let bare = bare(stage, &server, &crowd);
    let join = |_: u64, out: &mut Vec<u8>| out.extend_from_slice(JOIN);
    let poll = |n: u64, out: &mut Vec<u8>| crowd.poll(n, out);
    let contestant = |name, server: &Server, request| Contestant {
        name,
        address: server.address,
        service: vec![server.pid()],
        redis: Vec::new(),
        redis_idle: 0.0,
        request,
        connections: 64,
    };
    stage.say("joins at the limit");
    let all = [
        contestant(
            TIDEGATE,
            &server,
            &join as &(dyn Fn(u64, &mut Vec<u8>) + Sync),
        ),
        contestant(BARE, &bare, &poll),
    ];
    let turns = rounds(&all, &stage.cores, Pace::Closed, plan.turn, plan.rounds);
    drop((server, bare));
    let mut settings = stage.on_cluster(0, 1);
    settings.push("journal.ack=durable".to_owned());
    stage.empty_cluster();
    let server = stage.tidegate(settings);
    stage.say("durable joins, 10,000 a second");
    let durable = [contestant(TIDEGATE, &server, &join)];
    let pace = Pace::Open(JOINS_PER_SEC);
    let slow = rounds(&durable, &stage.cores, pace, plan.turn, plan.rounds).remove(0);
    Joins {
        memory_per_sec: median(&turns[0], |turn| turn.outcome.per_sec()),
        memory_vs_bare: ratio(&turns[0], &turns[1], |turn| turn.outcome.per_sec()),
        memory_vs_bare_by_cpu: ratio(&turns[1], &turns[0], Turn::service_us),
        durable_asked_per_sec: JOINS_PER_SEC,
        durable_answered_per_sec: median(&slow, |turn| turn.outcome.per_sec()),
        durable_p50_ms: median(&slow, |turn| turn.outcome.ms(0.5)),
        durable_p99_ms: median(&slow, |turn| turn.outcome.ms(0.99)),
        durable_errors: slow.iter().map(|turn| turn.outcome.errors).sum(),
    }
}

/// Resident bytes a visitor, on the way up and after a start, over the cluster and embedded.
pub fn memory(stage: &Stage) -> String {
    let grown = |server: &Server, empty: u64, visitors: usize| {
        let held = resident(server.pid()).saturating_sub(empty);
        format!("{:.1}", held as f64 / visitors as f64)
    };
    let plan = &stage.plan;
    let mut lines = Vec::new();
    for (shared, visitors) in [(true, plan.visitors), (false, plan.visitors)]
        .into_iter()
        .chain(plan.other_sizes.iter().map(|n| (false, *n)))
    {
        stage.empty_cluster();
        let settings = if shared {
            stage.on_cluster(0, 1)
        } else {
            stage.embedded()
        };
        let server = stage.tidegate(settings.clone());
        let empty = resident(server.pid());
        drop(stage.join(&server, visitors));
        let joined = grown(&server, empty, visitors);
        drop(server);
        let server = stage.tidegate(settings);
        let store = if shared { "cluster" } else { "embedded" };
        let started = grown(&server, empty, visitors);
        lines.push(format!(
            "{visitors} in {store}: {joined} bytes each, {started} after a start"
        ));
    }
    lines.join("\n")
}

/// Polls at the limit while others join and enter.
pub fn beside(stage: &Stage) -> Beside {
    let plan = &stage.plan;
    stage.empty_cluster();
    let mut settings = stage.on_cluster(0, 1);
    settings.extend([
        format!("defaults.rate={ENTERS_PER_SEC}"),
        format!("defaults.burst={ENTERS_PER_SEC}"),
        "server.admin_listen=127.0.0.1:0".to_owned(),
    ]);
    let server = Server::tidegate(&stage.cores, &settings);
    let crowd = stage.join(&server, plan.visitors);
    stage.say("polls at the limit beside 10,000 joins and 1,000 enters a second");
    let poll = |n: u64, out: &mut Vec<u8>| crowd.poll(n, out);
    let join = |_: u64, out: &mut Vec<u8>| out.extend_from_slice(JOIN);
    let enter = |n: u64, out: &mut Vec<u8>| crowd.enter(n, out);
    let pids = [server.pid()];
    let lasts = plan.turn * 2;
    let load = |request, pace, from, threads| Load {
        address: server.address,
        request,
        from,
        pace,
        connections: 64,
        threads,
        lasts,
    };
    // Turns come from the moment the first join is there: who came first may enter by now.
    let mut entered = 0;
    let mut change = |polling: bool| {
        let before = cpu_time(&pids);
        let outcomes = std::thread::scope(|scope| {
            let joins = load(&join, Pace::Open(JOINS_PER_SEC), 0, 1);
            let enters = load(&enter, Pace::Open(ENTERS_PER_SEC), entered, 1);
            let running = (
                scope.spawn(move || joins.run()),
                scope.spawn(move || enters.run()),
            );
            let polls = load(&poll, Pace::Closed, entered * 977, stage.cores.generators);
            let polled = polling.then(|| polls.run());
            let joined = running.0.join().expect("no panic");
            (joined, running.1.join().expect("no panic"), polled)
        });
        entered += outcomes.1.sent;
        (outcomes, (cpu_time(&pids) - before).as_secs_f64())
    };
    let ((joined, enters, _), alone_cpu) = change(false);
    let change_cpu = alone_cpu / (joined.sent + enters.sent).max(1) as f64;
    let before = cpu_time(&pids);
    let alone = load(&poll, Pace::Closed, 0, stage.cores.generators).run();
    let each = (cpu_time(&pids) - before).as_secs_f64() / alone.answered.max(1) as f64;
    let before = (slow(&server, POLLS), slow(&server, LOCKS));
    let ((joined, enters, polled), cpu) = change(true);
    let polls = slow(&server, POLLS).since(&before.0);
    let locks = slow(&server, LOCKS).since(&before.1);
    let polled = polled.expect("it was polled");
    let changes = (joined.sent + enters.sent) as f64;
    let expected = (cpu - changes * change_cpu) / each;
    Beside {
        joins_per_sec: joined.per_sec(),
        enters_per_sec: enters.per_sec(),
        polls_per_sec: polled.per_sec(),
        cpu_adjusted: polled.answered as f64 / expected,
        over_1_ms_per_million: polls.slow * 1e6 / polls.all.max(1.0),
        lock_waits: locks.all,
        lock_waits_over_1_ms: locks.slow,
    }
}

/// A histogram of the server, and what a line of it has beside its name.
type Lasting = (&'static str, &'static str);
const POLLS: Lasting = ("tidegate_http_request_duration_seconds", "route=\"status\"");
const LOCKS: Lasting = ("tidegate_lock_wait_duration_seconds", "");

/// What a histogram has counted.
struct Slow {
    /// Longer than a millisecond.
    slow: f64,
    all: f64,
}

impl Slow {
    fn since(&self, before: &Self) -> Self {
        Self {
            slow: self.slow - before.slow,
            all: self.all - before.all,
        }
    }
}

fn slow(server: &Server, (name, label): Lasting) -> Slow {
    let address = server.admin.expect("it was asked to listen");
    let text = super::server::ask(address, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    let value = |kind: &str, bound: &str| {
        let line = text.lines().find(|line| {
            let kind = line
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(kind));
            kind && line.contains(label) && line.contains(bound)
        });
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.unwrap_or(0.0)
    };
    let all = value("_count", "");
    Slow {
        slow: all - value("_bucket", "le=\"0.001\""),
        all,
    }
}

/// What nodes cost Redis, idle and polled; the largest fleet computed from those measured.
pub fn fleet(stage: &Stage) -> Vec<Fleet> {
    let mut rows: Vec<_> = stage.plan.fleets.iter().map(|n| nodes(stage, *n)).collect();
    let computed = |of: fn(&Fleet) -> f64| {
        let points = rows.iter().map(|row| (row.nodes as f64, of(row)));
        line_through(&points.collect::<Vec<_>>(), FLEET_MAX as f64)
    };
    rows.push(Fleet {
        nodes: FLEET_MAX,
        measured: false,
        redis_commands_per_sec_idle: computed(|row| row.redis_commands_per_sec_idle),
        redis_commands_per_sec_polled: computed(|row| row.redis_commands_per_sec_polled),
        redis_cpu_percent_idle: computed(|row| row.redis_cpu_percent_idle),
        redis_cpu_percent_polled: computed(|row| row.redis_cpu_percent_polled),
    });
    rows
}

fn nodes(stage: &Stage, size: usize) -> Fleet {
    stage.say(&format!(
        "a fleet of {size}, 30,000 polls a second over all nodes"
    ));
    stage.empty_cluster();
    let nodes: Vec<_> = (0..size)
        .map(|node| stage.tidegate(stage.on_cluster(node, size)))
        .collect();
    let crowd = Crowd::join(nodes[0].address, 20_000, |_| {});
    let poll = |n: u64, out: &mut Vec<u8>| crowd.poll(n, out);
    let lasts = stage.plan.cell.max(Duration::from_secs(2));
    let pids = stage.redis_pids();
    let each = |polled: bool| {
        let before = (commands(&stage.cluster.servers[..3]), cpu_time(&pids));
        if polled {
            std::thread::scope(|scope| {
                for node in &nodes {
                    let load = Load {
                        address: node.address,
                        request: &poll,
                        from: 0,
                        pace: Pace::Open(POLLS_PER_SEC / size as f64),
                        connections: 64,
                        threads: 1,
                        lasts,
                    };
                    scope.spawn(move || load.run());
                }
            });
        } else {
            std::thread::sleep(lasts);
        }
        let cpu = (cpu_time(&pids) - before.1).as_secs_f64();
        let asked = (commands(&stage.cluster.servers[..3]) - before.0) as f64;
        (asked / lasts.as_secs_f64(), cpu * 1e2 / lasts.as_secs_f64())
    };
    // The joins' last records are on their way.
    idle_percent(&pids, Duration::from_secs(1));
    let (idle, polled) = (each(false), each(true));
    Fleet {
        nodes: size,
        measured: true,
        redis_commands_per_sec_idle: idle.0,
        redis_commands_per_sec_polled: polled.0,
        redis_cpu_percent_idle: idle.1,
        redis_cpu_percent_polled: polled.1,
    }
}

/// Where the straight line nearest to all points (least squares) is at `x`.
fn line_through(points: &[(f64, f64)], x: f64) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let together: f64 = points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
    let apart: f64 = points.iter().map(|p| (p.0 - mx).powi(2)).sum();
    (my + together / apart.max(f64::MIN_POSITIVE) * (x - mx)).max(0.0)
}

/// A node's start over the cluster as the line lies there.
pub fn start(stage: &Stage, visitors: usize) -> Start {
    stage.say("a start with the whole line in Redis");
    let begun = Instant::now();
    let _server = stage.tidegate(stage.on_cluster(0, 1));
    Start {
        visitors,
        from_redis_sec: begun.elapsed().as_secs_f64(),
    }
}

/// Connections that were used once and are left alone.
pub fn connections(stage: &Stage) -> Connections {
    // Some files are needed for other things.
    let files = tidegate::http::raise_descriptor_limit() as usize;
    let wanted = stage.plan.idle_connections.min(files - 1_000);
    stage.say(&format!("{wanted} open connections"));
    let mut settings = stage.embedded();
    settings.extend([
        "limits.connections=200000".to_owned(),
        "limits.idle_timeout=10m".to_owned(),
    ]);
    let server = stage.tidegate(settings);
    let crowd = Crowd::join(server.address, 1_000, |_| {});
    let before = resident(server.pid());
    let mut held = Vec::with_capacity(wanted);
    for n in 0..wanted {
        let Ok(mut stream) = connect(&server, n) else {
            break;
        };
        let mut request = Vec::new();
        crowd.poll(n as u64, &mut request);
        super::server::ask_over(&mut stream, &request);
        held.push(stream);
    }
    // A quiet connection gives its buffers back after a second.
    std::thread::sleep(Duration::from_secs(3));
    let after = resident(server.pid());
    Connections {
        wanted: stage.plan.idle_connections,
        open: held.len(),
        bytes_each_idle: after.saturating_sub(before) as f64 / held.len().max(1) as f64,
        cpu_percent: idle_percent(&[server.pid()], Duration::from_secs(3)),
    }
}

/// From one of many loopback addresses: each has ports for only some ten thousand connections.
fn connect(server: &Server, n: usize) -> std::io::Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    let from = std::net::Ipv4Addr::new(127, 0, 1, 1 + (n / 20_000) as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&std::net::SocketAddr::from((from, 0)).into())?;
    socket.connect(&server.address.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}
