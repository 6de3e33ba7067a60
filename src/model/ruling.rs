//! What operators rule at run time, and how what several nodes and a store know of it becomes one.
//!
//! Each event has one ruling at most: its policy override, and when it was last forgotten. Stores
//! give rulings their order, so the last change wins, everywhere the same.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::ids::EventId;
use super::ticket::Micros;

/// What is ruled on one event. Its text form is `stamp forgotten patch`, the last empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruling {
    /// Later than the stamps of all earlier rulings.
    pub stamp: Micros,
    /// Tickets that arrived at this moment or before are void; 0 when it never was forgotten.
    pub forgotten: Micros,
    /// The policy override, as JSON.
    pub patch: Option<String>,
}

/// A change that an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Another override, or none.
    Policy {
        /// The override, as JSON.
        patch: Option<String>,
        /// Only while the event's ruling has this stamp (0: while there is none): what was ruled
        /// elsewhere meanwhile must not be written over unread.
        over: Option<Micros>,
    },
    /// The event is forgotten: no override, and tickets that arrived until this moment are void.
    Forget {
        /// The moment.
        until: Micros,
    },
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruled {
    /// Whether it was made: not so when the ruling was another than the change was made for.
    pub taken: bool,
    /// The event's ruling now.
    pub ruling: Ruling,
}

impl Ruling {
    /// Makes this the later of both. Answers whether it changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = self.clone();
        let rank = |ruling: &Self| (ruling.stamp, ruling.patch.clone());
        if rank(other) > rank(self) {
            self.stamp = other.stamp;
            self.patch.clone_from(&other.patch);
        }
        self.forgotten = self.forgotten.max(other.forgotten);
        *self != before
    }

    /// Whether it says nothing any more: no override, and no ticket is as old as its last change.
    pub fn is_over(&self, horizon: Micros) -> bool {
        self.patch.is_none() && self.stamp.max(self.forgotten) <= horizon
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patch = self.patch.as_deref().unwrap_or_default();
        write!(f, "{} {} {patch}", self.stamp.0, self.forgotten.0)
    }
}

/// A text that is no ruling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ruling that cannot be read")]
pub struct UnreadableRuling;

impl FromStr for Ruling {
    type Err = UnreadableRuling;
    fn from_str(text: &str) -> Result<Self, UnreadableRuling> {
        let mut parts = text.splitn(3, ' ');
        let mut next = || parts.next().ok_or(UnreadableRuling);
        let number = |text: &str| text.parse().map(Micros).map_err(|_| UnreadableRuling);
        Ok(Self {
            stamp: number(next()?)?,
            forgotten: number(next()?)?,
            patch: Some(next()?.to_owned()).filter(|patch| !patch.is_empty()),
        })
    }
}

/// All rulings that somebody knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rulings {
    /// Another one after every change; 0 of a store that holds nothing.
    pub revision: u64,
    /// By event.
    pub events: BTreeMap<EventId, Ruling>,
}

impl Rulings {
    /// Makes a change, asked for at `at`. Rulings that say nothing any more are dropped `keep` after
    /// their last change.
    pub fn rule(&mut self, event: &EventId, change: &Change, at: Micros, keep: Duration) -> Ruled {
        let known = self.events.get(event).cloned().unwrap_or_default();
        let mut ruling = Ruling {
            stamp: at.max(Micros(self.revision + 1)),
            forgotten: known.forgotten,
            patch: None,
        };
        match change {
            Change::Policy { over, .. } if over.is_some_and(|over| over != known.stamp) => {
                return Ruled {
                    taken: false,
                    ruling: known,
                };
            }
            Change::Policy { patch, .. } => ruling.patch.clone_from(patch),
            Change::Forget { until } => ruling.forgotten = known.forgotten.max(*until),
        }
        self.revision = ruling.stamp.0;
        self.events.insert(event.clone(), ruling.clone());
        let horizon = Micros(at.0.saturating_sub(super::micros(keep)));
        self.events.retain(|_, ruling| !ruling.is_over(horizon));
        Ruled {
            taken: true,
            ruling,
        }
    }

    /// Merges in what somebody else knows. Answers which events' rulings changed.
    pub fn restore(&mut self, rulings: Vec<(EventId, Ruling)>) -> Vec<EventId> {
        let mut changed = Vec::new();
        for (event, ruling) in rulings {
            if self.events.entry(event.clone()).or_default().merge(&ruling) {
                self.revision = (self.revision + 1).max(ruling.stamp.0);
                changed.push(event);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ruling() -> impl Strategy<Value = Ruling> {
        let patch = prop::option::of(prop::sample::select(vec!["{}", "{\"rate\": 1}"]));
        (0..4_u64, 0..4_u64, patch).prop_map(|(stamp, forgotten, patch)| Ruling {
            stamp: Micros(stamp),
            forgotten: Micros(forgotten),
            patch: patch.map(str::to_owned),
        })
    }

    proptest! {
        #[test]
        fn rulings_merge_the_same_in_any_order(a in ruling(), b in ruling(), c in ruling()) {
            let merged = |order: [&Ruling; 3]| {
                let mut merged = Ruling::default();
                for ruling in order {
                    merged.merge(ruling);
                }
                merged
            };
            let one = merged([&a, &b, &c]);
            prop_assert_eq!(&one, &merged([&c, &a, &b]));
            prop_assert_eq!(&one, &merged([&b, &c, &a]));
            prop_assert!(!one.clone().merge(&a), "twice is as good as once");
        }

        #[test]
        fn a_ruling_is_read_as_it_was_written(ruling in ruling()) {
            prop_assert_eq!(ruling.to_string().parse(), Ok(ruling));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1 2", "{\"rate\": 1}", "a 2 {}", "-1 0 "] {
            assert_eq!(text.parse::<Ruling>(), Err(UnreadableRuling), "{text}");
        }
    }
}
