//! The comparison itself: the designs at their limit, at given paces, and the status path against
//! the bare server.

use std::time::Duration;

use super::confirm;
use super::crowd::Crowd;
use super::figures::{Cell, Half, Limit, Size};
use super::kit::cluster::Server as Redis;
use super::load::Pace;
use super::machine::{cpu_time, resident};
use super::server::Server;
use super::stage::{Stage, commands};
use super::turns::{Contestant, Turn, median, middle, ratio, rounds};

/// The contestants' names, as the report calls them.
pub const TIDEGATE: &str = "Tidegate";
pub const BARE: &str = "bare hyper";
pub const BEST: &str = "best Redis-only";
pub const INDEX: &str = "position index, multiplexed";
pub const POOLED: &str = "position index, pooled";
pub const KEYS: &str = "KEYS";

/// Requests at a time in a closed loop.
const CONNECTIONS: usize = 64;

/// All servers over the same line, but that of `KEYS` over one it can bear.
pub struct Compared<'a> {
    stage: &'a Stage,
    crowd: &'a Crowd,
    few: Crowd,
    tidegate: &'a Server,
    bare: Server,
    best: Server,
    index: Server,
    pooled: Server,
    keys: Server,
    idle: Idle,
}

/// What the cluster does while nobody polls.
struct Idle {
    /// As a share of a core.
    cpu: f64,
    commands_per_sec: f64,
}

impl Idle {
    fn of(stage: &Stage) -> Self {
        let lasts = Duration::from_secs(3);
        let before = commands(&stage.cluster.servers[..3]);
        let cpu = idle_percent(&stage.redis_pids(), lasts) / 1e2;
        let asked = commands(&stage.cluster.servers[..3]) - before;
        Self {
            cpu,
            commands_per_sec: asked as f64 / lasts.as_secs_f64(),
        }
    }
}

type Request<'a> = Box<dyn Fn(u64, &mut Vec<u8>) + Sync + 'a>;

impl<'a> Compared<'a> {
    /// Starts the rivals and gives them the line that Tidegate has.
    pub fn open(stage: &'a Stage, tidegate: &'a Server, crowd: &'a Crowd) -> Self {
        let few = crowd.first(stage.plan.keys_visitors.min(crowd.len()));
        let master = stage.rivals_master();
        stage.fill_rivals(master, crowd);
        stage.fill_rivals(&stage.alone, &few);
        let own = |design: &str, redis: &Redis| {
            let address = format!("127.0.0.1:{}", redis.port);
            Server::own(&stage.cores, &[design, &address])
        };
        Self {
            bare: bare(stage, tidegate, crowd),
            best: own("best", master),
            index: own("index", master),
            pooled: own("index_pooled", master),
            keys: own("keys", &stage.alone),
            idle: Idle::of(stage),
            stage,
            crowd,
            few,
            tidegate,
        }
    }

    fn polls(&self) -> (Request<'_>, Request<'_>) {
        (
            Box::new(|n, out: &mut Vec<u8>| self.crowd.poll(n, out)),
            Box::new(|n, out: &mut Vec<u8>| self.few.poll(n, out)),
        )
    }

    fn contestant<'b>(
        &self,
        name: &'static str,
        polls: &'b (Request<'b>, Request<'b>),
    ) -> Contestant<'b> {
        let cluster = || self.stage.redis_pids();
        let (server, redis, request) = match name {
            TIDEGATE => (self.tidegate, cluster(), &polls.0),
            BEST => (&self.best, cluster(), &polls.0),
            INDEX => (&self.index, cluster(), &polls.0),
            POOLED => (&self.pooled, cluster(), &polls.0),
            KEYS => (&self.keys, vec![self.stage.alone.pid()], &polls.1),
            _ => (&self.bare, Vec::new(), &polls.0),
        };
        Contestant {
            name,
            address: server.address,
            service: vec![server.pid()],
            redis_idle: match name {
                BARE | KEYS => 0.0,
                _ => self.idle.cpu,
            },
            redis,
            request: &**request,
            // More would only wait longer for each other.
            connections: if name == KEYS { 4 } else { CONNECTIONS },
        }
    }

    fn commands(&self, name: &str) -> u64 {
        match name {
            KEYS => commands(std::slice::from_ref(&self.stage.alone)),
            BARE => 0,
            _ => commands(&self.stage.cluster.servers[..3]),
        }
    }

    /// All designs at their limit; also the turns of the bare server and of Tidegate.
    pub fn limit(&self) -> (Vec<Limit>, Vec<Vec<Turn>>) {
        self.stage.say("all designs at their limit, in turns");
        let names = [BARE, TIDEGATE, BEST, INDEX, POOLED, KEYS];
        let polls = self.polls();
        let all = names.map(|name| self.contestant(name, &polls));
        let plan = &self.stage.plan;
        let cores = &self.stage.cores;
        // KEYS has turns of its own: it leaves Redis busy for a while.
        let (keys, others) = all.split_last().expect("there are six");
        let mut turns = rounds(others, cores, Pace::Closed, plan.turn, plan.rounds);
        let keys = std::slice::from_ref(keys);
        turns.extend(rounds(keys, cores, Pace::Closed, plan.turn, plan.rounds));
        let ours = &turns[1];
        let limits = all.iter().zip(&turns).map(|(contestant, turns)| {
            let name = contestant.name;
            // Counted in a turn of its own: asking Redis for its counters costs time.
            let before = self.commands(name);
            let counted = contestant.turn(cores, Pace::Closed, plan.turn, 7_000_003);
            let asked = (self.commands(name) - before) as f64;
            let anyway = match name {
                KEYS => 0.0,
                _ => self.idle.commands_per_sec * plan.turn.as_secs_f64(),
            };
            let busiest = median(turns, Turn::busiest_us);
            let others = (name != TIDEGATE).then_some(());
            Limit {
                design: name,
                visitors: match name {
                    KEYS => self.few.len(),
                    _ => self.crowd.len(),
                },
                polls_per_sec: median(turns, |t| t.outcome.per_sec()),
                service_us: median(turns, Turn::service_us),
                redis_us: median(turns, Turn::redis_us),
                paid_us: median(turns, Turn::paid_us),
                redis_commands_per_poll: (asked - anyway).max(0.0)
                    / counted.outcome.sent.max(1) as f64,
                busiest_redis_us: busiest,
                redis_saturates_at: (![BARE, TIDEGATE].contains(&name)).then(|| 1e6 / busiest),
                tidegate_vs_it: others.map(|()| ratio(ours, turns, |t| t.outcome.per_sec())),
                paid_vs_tidegate: others.map(|()| ratio(turns, ours, Turn::paid_us)),
                errors: turns.iter().map(|turn| turn.outcome.errors).sum(),
            }
        });
        (limits.collect(), turns.clone())
    }

    /// Whether another load generator finds the same.
    pub fn confirmed(&self) -> Option<f64> {
        // `wrk` asks for something shorter: so does ours.
        let short: Request<'_> = Box::new(|_, out: &mut Vec<u8>| {
            let host = self.bare.address;
            out.extend_from_slice(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        });
        let polls = (short, Box::new(|_: u64, _: &mut Vec<u8>| {}) as Request<'_>);
        confirm::by_wrk(self.stage, &self.contestant(BARE, &polls))
    }

    /// Open loop, from a thousand polls a second on.
    pub fn paces(&self) -> Vec<Cell> {
        let plan = &self.stage.plan;
        let polls = self.polls();
        let mut cells = Vec::new();
        for &asked in &plan.paces {
            self.stage
                .say(&format!("{asked:.0} polls a second, open loop"));
            for name in [TIDEGATE, BEST, INDEX, POOLED, KEYS] {
                let contestant = self.contestant(name, &polls);
                let idle = idle_percent(&contestant.redis, plan.cell / 2);
                let before = self.commands(name);
                let pace = Pace::Open(asked);
                let turn = contestant.turn(&self.stage.cores, pace, plan.cell, asked as u64);
                let commands = self.commands(name) - before;
                let outcome = &turn.outcome;
                cells.push(Cell {
                    design: name,
                    asked_per_sec: asked,
                    answered_per_sec: outcome.per_sec(),
                    redis_cpu_percent: turn.redis_cpu.as_secs_f64() * 1e2 / plan.cell.as_secs_f64(),
                    redis_idle_percent: idle,
                    redis_commands_per_poll: commands as f64 / outcome.sent.max(1) as f64,
                    p50_ms: outcome.ms(0.5),
                    p95_ms: outcome.ms(0.95),
                    p99_ms: outcome.ms(0.99),
                    p999_ms: outcome.ms(0.999),
                    errors: outcome.errors,
                });
            }
        }
        cells
    }

    /// Latency at half of what Tidegate can, open loop, in turns with the bare server.
    pub fn half(&self, most: f64) -> Half {
        let asked = (most / 2.0).round();
        self.stage.say(&format!(
            "latency at half of the limit, {asked:.0} polls a second"
        ));
        let polls = self.polls();
        let plan = &self.stage.plan;
        let all = [TIDEGATE, BARE].map(|name| self.contestant(name, &polls));
        let pace = Pace::Open(asked);
        let turns = rounds(&all, &self.stage.cores, pace, plan.turn, plan.rounds);
        let of = |n: usize, share: f64| median(&turns[n], |turn| turn.outcome.ms(share));
        let against = |share: f64| ratio(&turns[0], &turns[1], |turn| turn.outcome.ms(share));
        Half {
            asked_per_sec: asked,
            tidegate_p99_ms: of(0, 0.99),
            tidegate_p999_ms: of(0, 0.999),
            bare_p99_ms: of(1, 0.99),
            bare_p999_ms: of(1, 0.999),
            p99_vs_bare: against(0.99),
            p999_vs_bare: against(0.999),
        }
    }
}

/// The status path against the bare server while `visitors` wait, with an embedded store.
pub fn size(stage: &Stage, visitors: usize) -> Size {
    let server = stage.tidegate(stage.embedded());
    let empty = resident(server.pid());
    let crowd = stage.join(&server, visitors);
    let held = resident(server.pid()).saturating_sub(empty);
    let bare = bare(stage, &server, &crowd);
    let poll = |n: u64, out: &mut Vec<u8>| crowd.poll(n, out);
    let all = [(TIDEGATE, &server), (BARE, &bare)].map(|(name, server)| Contestant {
        name,
        address: server.address,
        service: vec![server.pid()],
        redis: Vec::new(),
        redis_idle: 0.0,
        request: &poll,
        connections: CONNECTIONS,
    });
    stage.say(&format!(
        "the status path and the bare server, {visitors} waiting"
    ));
    let plan = &stage.plan;
    let turns = rounds(&all, &stage.cores, Pace::Closed, plan.turn, plan.rounds);
    sized(visitors, &turns[0], &turns[1], held)
}

/// The figures of a size from turns that were taken.
pub fn sized(visitors: usize, ours: &[Turn], bare: &[Turn], held: u64) -> Size {
    Size {
        visitors,
        vs_bare: ratio(ours, bare, |turn| turn.outcome.per_sec()),
        vs_bare_by_cpu: ratio(bare, ours, Turn::service_us),
        polls_per_sec: median(ours, |turn| turn.outcome.per_sec()),
        service_us: median(ours, Turn::service_us),
        bytes_per_visitor: held as f64 / visitors as f64,
    }
}

/// A bare server that answers what Tidegate answers to one of the crowd.
pub fn bare(stage: &Stage, tidegate: &Server, crowd: &Crowd) -> Server {
    let mut request = Vec::new();
    crowd.poll(1, &mut request);
    Server::own(&stage.cores, &["bare", &tidegate.ask(&request)])
}

/// What processes use when nobody asks them anything, percent of a core.
pub fn idle_percent(pids: &[u32], lasts: Duration) -> f64 {
    let shares = (0..3).map(|_| {
        let before = cpu_time(pids);
        std::thread::sleep(lasts / 3);
        (cpu_time(pids) - before).as_secs_f64() * 3e2 / lasts.as_secs_f64()
    });
    middle(shares.collect())
}
