//! The checkers, one an invariant: each is fed by what clients saw, by what the store did, and by
//! what was there at rest, and knows nothing of the code under test.

mod conservation;
mod i10_use;
mod i1_place;
mod i2_once;
mod i3_pace;
mod i4_order;
mod i5_falls;
mod i6_agree;
mod i7_apart;
mod i8_alive;
mod i9_bound;
mod liveness;
mod policies;
mod reading;
mod sound;

use super::run::Run;
use reading::Reading;
pub use reading::sec;

/// What one checker found.
pub struct Verdict {
    /// Its name.
    pub of: &'static str,
    /// How many things it looked at.
    pub checks: u64,
    /// What was wrong, in words.
    pub broken: Vec<String>,
}

impl Verdict {
    fn new(of: &'static str) -> Self {
        Self {
            of,
            checks: 0,
            broken: Vec::new(),
        }
    }

    /// Looks at one thing, which must be `right`.
    fn expect(&mut self, right: bool, otherwise: impl FnOnce() -> String) {
        self.checks += 1;
        if !right && self.broken.len() < 5 {
            self.broken.push(otherwise());
        }
    }
}

/// The names of all.
#[cfg(feature = "mutants")]
pub const RULES: [&str; 13] = [
    "I1 place",
    "I2 once",
    "I3 pace",
    "I4 order",
    "I5 falls",
    "I6 agree",
    "I7 apart",
    "I8 alive",
    "I9 bound",
    "I10 use",
    "conservation",
    "liveness",
    "no panic",
];

/// Runs every checker.
pub fn all(run: &Run) -> Vec<Verdict> {
    let reading = Reading::of(run);
    vec![
        i1_place::check(&reading),
        i2_once::check(&reading),
        i3_pace::check(&reading),
        i4_order::check(&reading),
        i5_falls::check(&reading),
        i6_agree::check(&reading),
        i7_apart::check(&reading),
        i8_alive::check(&reading),
        i9_bound::check(&reading),
        i10_use::check(&reading),
        conservation::check(&reading),
        liveness::check(&reading),
        sound::check(&reading),
    ]
}
