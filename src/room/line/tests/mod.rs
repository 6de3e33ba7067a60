//! The line against naive models, over random histories, and under threads.

mod merge;
mod model;
mod random;
mod sweeps;
mod threads;
mod walk;

use proptest::test_runner::{Config, RngSeed};

/// The same cases in every run, unless `PROPTEST_RNG_SEED` names others.
fn config(cases: u32) -> Config {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    };
    match config.rng_seed {
        RngSeed::Random => Config {
            rng_seed: RngSeed::Fixed(2026),
            ..config
        },
        RngSeed::Fixed(_) => config,
    }
}
