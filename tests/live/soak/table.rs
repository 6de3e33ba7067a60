//! The verdict: what happened, what was looked at meanwhile, and what was wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use super::schedule::Kind;
use crate::sale::{Call, Outage, Seen, Sold, What};

/// One round that is over.
pub struct Happened {
    pub name: String,
    /// Each fault in words.
    pub told: Vec<String>,
    pub kinds: Vec<Kind>,
    pub outages: Vec<Outage>,
    /// When the last fault ended, and when all nodes and the store agreed again.
    pub ended: u64,
    pub agreed: u64,
    /// In what they did not agree.
    pub wrong: Option<String>,
}

impl Happened {
    pub fn outages(&self) -> impl Iterator<Item = Outage> {
        self.outages.iter().copied()
    }

    fn begun(&self) -> u64 {
        let begun = self.outages.iter().map(|outage| outage.killed);
        begun.min().unwrap_or(self.ended)
    }

    fn agreed_after(&self) -> f64 {
        self.agreed.saturating_sub(self.ended) as f64 / 1e6
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasted) = (self.begun() as f64 / 1e6, self.ended - self.begun());
        let (lasted, told) = (lasted as f64 / 1e6, self.told.join(" + "));
        write!(f, "  {at:>6.1} s: {told}: over after {lasted:.1} s, ")?;
        match &self.wrong {
            None => write!(f, "agreed {:.1} s later", self.agreed_after()),
            Some(word) => write!(f, "WRONG: {word}"),
        }
    }
}

/// What rounds of one name add up to.
#[derive(Default)]
struct Row {
    rounds: u64,
    places: u64,
    entries: u64,
    worst_status: u64,
    refused: u64,
    agreed_after: f64,
    wrong: u64,
}

/// All rows, and the last line.
pub fn table(happened: &[Happened], sold: &Sold) -> String {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut before = Row::default();
    for one in happened {
        let row = rows.entry(&one.name).or_default();
        row.rounds += 1;
        row.agreed_after = row.agreed_after.max(one.agreed_after());
        row.wrong += u64::from(one.wrong.is_some());
        let (from, to) = (one.begun(), one.agreed);
        let seen = sold.run.stories.iter().flat_map(|story| &story.seen);
        for seen in seen.filter(|seen| seen.sent <= to && from <= seen.received) {
            row.note(seen);
        }
    }
    // What went wrong counts for what happened last before it.
    for at in &sold.wrong_at {
        let cause = happened.iter().rfind(|one| one.begun() <= *at);
        let row = cause.and_then(|one| rows.get_mut(one.name.as_str()));
        row.unwrap_or(&mut before).wrong += 1;
    }
    let mut table = String::from(
        "| fault | rounds | places checked | entries | worst status | entries refused | agreed after \
         | violations |\n|---|---|---|---|---|---|---|---|\n",
    );
    if before.wrong > 0 {
        rows.insert("(before any)", before);
    }
    for (name, row) in rows {
        let Row {
            rounds,
            places,
            entries,
            refused,
            agreed_after,
            wrong,
            ..
        } = row;
        let worst = row.worst_status / 1_000;
        let _ = writeln!(
            table,
            "| {name} | {rounds} | {places} | {entries} | {worst} ms | {refused} | \
             {agreed_after:.1} s | {wrong} |"
        );
    }
    let kinds: Vec<Kind> = happened.iter().flat_map(|one| one.kinds.clone()).collect();
    let distinct: BTreeSet<_> = kinds.iter().collect();
    let granted = |seen: &&Seen| matches!(seen.what, What::Granted { .. });
    let stories = sold.run.stories.iter();
    let entries = stories.filter(|story| story.seen.iter().any(|seen| granted(&seen)));
    let _ = write!(
        table,
        "verdict: {} violations, {} faults of {} kinds, {} visitors, {} places checked, {} entries",
        sold.wrong,
        kinds.len(),
        distinct.len(),
        sold.run.stories.len(),
        sold.places,
        entries.count(),
    );
    table
}

impl Row {
    /// Adds one answer.
    fn note(&mut self, seen: &Seen) {
        let refused = matches!(seen.what, What::Failed { .. } | What::Odd { .. });
        match seen.call {
            Call::Status => self.worst_status = self.worst_status.max(seen.received - seen.sent),
            Call::Enter if refused => self.refused += 1,
            _ => {}
        }
        match &seen.what {
            What::Granted { .. } => self.entries += 1,
            What::Joined { place, .. } | What::Told(place) if place.position > 0 => {
                self.places += 1;
            }
            _ => {}
        }
    }
}
