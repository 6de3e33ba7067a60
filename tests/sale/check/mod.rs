//! The checkers: each takes what visitors saw and says what is wrong with it. Each is shown to bite on
//! a made-up history, and to stay silent on its honest twin.

mod answers;
mod ledger;
mod made_up;
mod once;
mod order;
mod pace;
mod places;
mod usage;

use std::fmt;

use super::reading::read_all;
use super::story::Run;

/// How many findings of one checker are told in words.
const TOLD_MAX: usize = 10;

/// What the checker of places is called.
pub const PLACES: &str = "places never rise";

/// What one checker found.
pub struct Verdict {
    /// The invariant, in words.
    pub name: &'static str,
    /// How many things were looked at.
    pub examined: u64,
    /// How many of them are wrong.
    pub wrong: u64,
    /// When each of these happened.
    pub wrong_at: Vec<u64>,
    /// The first few, in words.
    pub told: Vec<String>,
    /// Figures that the checker came by: a name, a value.
    pub figures: Vec<(&'static str, String)>,
}

impl Verdict {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            examined: 0,
            wrong: 0,
            wrong_at: Vec::new(),
            told: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Looks at one thing of the moment `at`, which must be `right`.
    fn expect(&mut self, right: bool, at: u64, otherwise: impl FnOnce() -> String) {
        self.examined += 1;
        if right {
            return;
        }
        self.wrong += 1;
        self.wrong_at.push(at);
        if self.told.len() < TOLD_MAX {
            self.told.push(otherwise());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<44} {:>9} checked {:>6} wrong",
            self.name, self.examined, self.wrong
        )?;
        for (name, value) in &self.figures {
            writeln!(f, "      {name:<40} {value}")?;
        }
        for told in &self.told {
            writeln!(f, "      WRONG: {told}")?;
        }
        Ok(())
    }
}

/// Runs every checker.
pub fn all(run: &Run) -> Vec<Verdict> {
    let events = read_all(run);
    vec![
        answers::check(run, &events),
        ledger::check(run),
        once::check(run),
        places::check(run),
        order::check(run, &events),
        pace::entries(run, &events),
        pace::calls(run, &events),
        usage::check(run, &events),
    ]
}
