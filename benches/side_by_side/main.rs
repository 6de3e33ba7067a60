//! Tidegate side by side with a bare HTTP server and with waiting rooms that ask Redis at every poll.
//!
//! `make bench` and `make bench-quick`; the report lies in `target/bench`. Everything is started from
//! here: a Redis Cluster, the servers (this program again, with other arguments), the load. What an
//! operator pays for has one half of the cores, service and Redis together; the load has the other.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures and looks about from outside"
)]

mod answer;
mod around;
mod bare;
mod compare;
mod confirm;
mod crowd;
mod figures;
#[allow(dead_code, reason = "what the tests use of it is more")]
#[path = "../../tests/kit"]
mod kit {
    pub mod cluster;
    pub mod redis;
}
mod load;
mod machine;
mod plan;
mod report;
mod resp;
mod rival;
#[path = "../common/room.rs"]
mod room;
mod server;
mod stage;
mod turns;

use compare::{BEST, Compared, INDEX, KEYS, POOLED, TIDEGATE};
use figures::{Figures, Limit};
use machine::{Cores, Machine, resident};
use plan::Plan;
use stage::Stage;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return server::serve(&arguments[1..]);
    }
    let quick = arguments.iter().any(|argument| argument == "quick");
    let (plan, command) = match quick {
        true => (Plan::quick(), "make bench-quick"),
        false => (Plan::full(), "make bench"),
    };
    let cores = Cores::of_this_machine();
    let machine = Machine::this(command, cores.all);
    cores.take_load_side();
    machine::allow_files(plan.idle_connections + 10_000);
    let stage = Stage::open(cores, plan);
    let mut named = arguments.iter().filter_map(|name| part(&stage, name));
    if let Some(figures) = named.next() {
        println!("{figures}");
        return named.for_each(|figures| println!("{figures}"));
    }
    let figures = run(&stage, machine);
    report::write(&figures).expect("target/bench can be written");
    if !figures.failed.is_empty() {
        eprintln!("not measured: {}", figures.failed.join(", "));
        std::process::exit(1);
    }
}

/// Parts that broke off. What else was measured in half an hour is still worth reporting.
#[derive(Default)]
struct Failed(Vec<&'static str>);

impl Failed {
    fn unless<T: Default>(&mut self, part: &'static str, measure: impl FnOnce() -> T) -> T {
        let measured = std::panic::catch_unwind(std::panic::AssertUnwindSafe(measure));
        measured.unwrap_or_else(|_| {
            self.0.push(part);
            T::default()
        })
    }
}

/// One part alone, for work on it: its figures; `None` if that is no part's name.
fn part(stage: &Stage, name: &str) -> Option<String> {
    let plan = &stage.plan;
    Some(match name {
        "status" => [1_000, plan.visitors]
            .map(|n| format!("{:#?}", compare::size(stage, n)))
            .join("\n"),
        "memory" => around::memory(stage),
        "joins" => format!("{:#?}", around::joins(stage)),
        "beside" => format!("{:#?}", around::beside(stage)),
        "fleet" => format!("{:#?}", around::fleet(stage)),
        "connections" => format!("{:#?}", around::connections(stage)),
        _ => return None,
    })
}

fn run(stage: &Stage, machine: Machine) -> Figures {
    let plan = &stage.plan;
    let mut failed = Failed::default();
    let tidegate = stage.tidegate(stage.on_cluster(0, 1));
    let empty = resident(tidegate.pid());
    let crowd = stage.join(&tidegate, plan.visitors);
    let held = resident(tidegate.pid()).saturating_sub(empty);
    let compared = Compared::open(stage, &tidegate, &crowd);
    let (limit, turns) = compared.limit();
    let of = |name: &str| -> &Limit {
        let mut all = limit.iter();
        all.find(|row| row.design == name)
            .expect("all were measured")
    };
    let vs = |name: &str| of(name).tidegate_vs_it.unwrap_or(f64::NAN);
    let here = compare::sized(plan.visitors, &turns[1], &turns[0], held);
    let generator_vs_wrk = failed.unless("wrk", || compared.confirmed());
    let most = of(TIDEGATE).polls_per_sec;
    let half = failed.unless("latency at half of the limit", || compared.half(most));
    let paces = failed.unless("given paces", || compared.paces());
    drop(compared);
    drop(tidegate);
    let start = failed.unless("the start", || around::start(stage, plan.visitors));
    drop(crowd);
    let (status_vs_bare, bytes_per_visitor) = (here.vs_bare, here.bytes_per_visitor);
    let mut sizes = vec![here];
    for n in &plan.other_sizes {
        sizes.extend(failed.unless("another size", || Some(compare::size(stage, *n))));
    }
    sizes.sort_by_key(|size| size.visitors);
    Figures {
        plan: plan.name,
        visitors: plan.visitors,
        rounds: plan.rounds,
        turn_sec: plan.turn.as_secs_f64(),
        status_vs_bare,
        status_vs_position_index_pooled: vs(POOLED),
        status_vs_position_index: vs(INDEX),
        status_vs_best_redis: vs(BEST),
        status_vs_keys: vs(KEYS),
        redis_commands_per_poll: of(TIDEGATE).redis_commands_per_poll,
        bytes_per_visitor,
        generator_vs_wrk,
        sizes,
        paces,
        half,
        joins: failed.unless("joins", || around::joins(stage)),
        beside: failed.unless("polls beside joins", || around::beside(stage)),
        fleet: failed.unless("the fleet", || around::fleet(stage)),
        start,
        connections: failed.unless("connections", || around::connections(stage)),
        limit,
        failed: failed.0,
        machine,
    }
}
