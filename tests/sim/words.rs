//! A plan in words, for whoever reads what went wrong.

use std::fmt;

use super::net::Set;
use super::plan::{Op, Plan, What};
use super::visitor::{Habit, Visit};

/// A set of the first so many numbers.
struct Of(Set, u16, &'static str);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(set, count, what) = *self;
        let named: Vec<_> = (0..count)
            .filter(|number| set.has(*number))
            .map(|number| number.to_string())
            .collect();
        if named.len() == usize::from(count) {
            return write!(f, "every {what}");
        }
        write!(f, "{what} {}", named.join(" and "))
    }
}

fn sec(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "visitor {} joins", self.who)?;
        if self.key != self.who {
            write!(f, " with the key of {}", self.key)?;
        }
        if self.twice {
            f.write_str(" through two nodes at once")?;
        }
        if self.durable {
            f.write_str(", durably")?;
        }
        write!(f, ", polls every {} s", sec(self.every))?;
        if let Some(done) = self.done {
            write!(f, ", goes out {} s after going in", sec(done))?;
        }
        match self.habit {
            Habit::Waits => Ok(()),
            Habit::Hurries => f.write_str(", tries to enter all the time"),
            Habit::Leaves(after) => write!(f, ", leaves after {} s", sec(after)),
            Habit::Closes { after, goodbye } => {
                let how = if goodbye { "with" } else { "without" };
                write!(
                    f,
                    ", closes the page after {} s {how} a goodbye",
                    sec(after)
                )
            }
            Habit::Refreshes { gap } => {
                write!(f, ", loads the page anew now and then, in {} s", sec(gap))
            }
            Habit::Shirks => f.write_str(", never enters"),
            Habit::Dreams(by) => write!(f, ", is away for {} s when called", sec(by)),
            Habit::Rejoins { after, gap } => {
                let (after, gap) = (sec(after), sec(gap));
                write!(f, ", leaves after {after} s and joins again {gap} s later")
            }
        }
    }
}

/// One operation in a setting.
struct InWords<'a>(&'a Plan, &'a Op);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(plan, Op { at, what }) = self;
        write!(f, "{:>7.3} s  ", sec(*at))?;
        let partitions = |set| Of(set, plan.setting.partitions, "partition");
        match what {
            What::Visit(visit) => visit.fmt(f),
            What::Trouble {
                trouble,
                nodes,
                partitions: of,
                per_mille,
                lasts,
            } => write!(
                f,
                "{trouble:?} for {} s between {} and {}, {per_mille} of 1000 calls",
                sec(*lasts),
                Of(*nodes, plan.setting.nodes, "node"),
                partitions(*of),
            ),
            What::Lose {
                partitions: of,
                back,
                down,
                noticed,
            } => write!(
                f,
                "{} loses the last {} s, is away for {} s, noticed within {} s more",
                partitions(*of),
                sec(*back),
                sec(*down),
                sec(*noticed),
            ),
            What::Wipe { down } => {
                write!(
                    f,
                    "the store loses everything and is away for {} s",
                    sec(*down)
                )
            }
            What::Trim {
                partitions: of,
                kept,
            } => write!(f, "the feed of {} keeps {kept} batches", partitions(*of)),
            What::Crash { node, back, empty } => {
                let how = if *empty { ", without the store" } else { "" };
                write!(
                    f,
                    "node {node} dies, and starts again {} s later{how}",
                    sec(*back)
                )
            }
            What::Drain { node, back } => {
                write!(
                    f,
                    "node {node} is stopped, and starts again {} s later",
                    sec(*back)
                )
            }
            What::Jump { node, by } => {
                write!(
                    f,
                    "the clock of node {node} jumps by {} s",
                    *by as f64 / 1e6
                )
            }
            What::Freeze { node, lasts } => {
                write!(f, "node {node} stands still for {} s", sec(*lasts))
            }
            What::StoreJump { by } => {
                write!(f, "the clock of the store jumps by {} s", *by as f64 / 1e6)
            }
            What::Patch(patch) => {
                let text = serde_json::to_string(patch).unwrap_or_default();
                write!(f, "an operator sets {text}")
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = &self.setting;
        let policy = &setting.policy;
        writeln!(
            f,
            "{} nodes that {} without the store, {} partitions, calls up to {} ms, rate {}, burst {}, \
             cap {}, turns of {} s, passes of {} s, leave grace {} s, at most {} waiting, journals \
             of {}, clocks off by (µs, ppm) {:?}{}",
            setting.nodes,
            if self.shares() { "go on" } else { "hold" },
            setting.partitions,
            setting.latency,
            policy.rate,
            policy.burst,
            policy.max_active,
            policy.ready_ttl.as_secs(),
            policy.pass_ttl.as_secs(),
            policy.leave_grace.as_secs(),
            policy.max_waiting,
            setting.journal,
            setting.clocks,
            if self.pauses {
                ", held once healed"
            } else {
                ""
            },
        )?;
        for op in &self.ops {
            writeln!(f, "{}", InWords(self, op))?;
        }
        Ok(())
    }
}
