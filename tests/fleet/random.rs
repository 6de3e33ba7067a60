//! Random days in a fleet's life, each from one seed, with a checker for every invariant.

use std::time::Duration;

use tidegate::model::Policy;

use super::day::{Day, Faults};
use crate::room::house::policy;

/// Days of each kind; FLEET_DAYS is another number of them.
const DAYS: u64 = 20;

/// The seeds from `from` on, and what may go wrong in them.
fn days(from: u64, faults: Faults) {
    let time = Duration::from_secs(if faults.long { 120 } else { 20 });
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let wanted = number("FLEET_SEED");
    let count = number("FLEET_DAYS").unwrap_or(match (faults.long, faults.losses) {
        (false, _) => DAYS,
        (true, false) => DAYS / 5,
        (true, true) => DAYS / 10,
    });
    for seed in from..from + count {
        if wanted.is_some_and(|wanted| wanted != seed) {
            continue;
        }
        let mut policy = some_policy(seed);
        if faults.long {
            // Nobody's time is over while nodes are apart.
            (policy.ready_ttl, policy.pass_ttl) = (60 * policy.ready_ttl, 30 * policy.pass_ttl);
            (policy.late_grace, policy.heartbeat_ttl) =
                (60 * policy.late_grace, 60 * policy.heartbeat_ttl);
            (policy.burst, policy.max_active) = (policy.burst.max(5), 0);
        }
        let mut day = Day::new(seed, faults, policy);
        day.run(time);
        if let Err(broken) = day.check() {
            panic!("{broken}\nreplay with FLEET_SEED={seed}; {day}");
        }
    }
}

fn some_policy(seed: u64) -> Policy {
    let second = Duration::from_secs(1);
    Policy {
        rate: [4.0, 10.0, 25.0, 60.0][seed as usize % 4],
        burst: [1, 3, 10, 40][(seed as usize / 4) % 4],
        max_active: [0, 0, 0, 12][(seed as usize / 16) % 4],
        ready_ttl: 3 * second,
        late_grace: 10 * second,
        heartbeat_ttl: 9 * second,
        pass_ttl: 4 * second,
        leave_grace: 6 * second,
        ..policy()
    }
}

#[test]
fn calm_days() {
    days(0, Faults::NONE);
}

#[test]
fn days_with_lost_answers_and_slow_feeds() {
    days(
        1_000,
        Faults {
            lost: true,
            slow: true,
            ..Faults::NONE
        },
    );
}

#[test]
fn days_on_which_nodes_die_and_come_back() {
    days(
        2_000,
        Faults {
            crashes: true,
            lost: true,
            ..Faults::NONE
        },
    );
}

#[test]
fn days_on_which_nodes_are_cut_off() {
    days(
        3_000,
        Faults {
            cuts: true,
            slow: true,
            ..Faults::NONE
        },
    );
}

#[test]
fn days_on_which_the_store_falls_back() {
    days(
        4_000,
        Faults {
            losses: true,
            ..Faults::NONE
        },
    );
}

#[test]
fn days_on_which_the_store_is_away() {
    days(
        5_000,
        Faults {
            outages: true,
            ..Faults::NONE
        },
    );
}

#[test]
fn days_on_which_nodes_go_on_without_the_store() {
    days(
        6_000,
        Faults {
            cuts: true,
            outages: true,
            long: true,
            ..Faults::NONE
        },
    );
}

#[test]
fn days_on_which_the_store_falls_back_while_nodes_go_on_without_it() {
    days(
        7_000,
        Faults {
            lost: true,
            cuts: true,
            outages: true,
            losses: true,
            long: true,
            ..Faults::NONE
        },
    );
}
