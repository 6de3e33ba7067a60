//! How one event lets people through: the policy, its rules, and partial changes to it.
//!
//! The rules stand here once. A configuration file and the admin API both go through
//! [`PolicyPatch::set`] (is it the right kind of value?) and [`Policy::check`] (is it in range, do
//! the fields agree?), so they accept the same and say the same.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ticket::Micros;

mod patch;

pub use patch::{PolicyPatch, PolicyValue};

/// The fields of a policy, by the names that files, the environment and the admin API use.
pub const POLICY_FIELDS: [&str; 15] = [
    "rate",
    "burst",
    "max_active",
    "max_waiting",
    "ready_ttl",
    "late_grace",
    "heartbeat_ttl",
    "ticket_ttl",
    "pass_ttl",
    "leave_grace",
    "order",
    "outage",
    "opens",
    "closes",
    "paused",
];

/// The highest rate, in admissions a second.
pub const RATE_MAX: f64 = 1e6;
/// The highest burst and the highest active cap.
pub const COUNT_MAX: u32 = 100_000_000;
/// The longest duration of any field.
pub const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The shortest duration where zero would make no sense.
pub const TTL_MIN: Duration = Duration::from_millis(100);
/// The shortest life of a pass: the API tells it in whole seconds.
pub const PASS_TTL_MIN: Duration = Duration::from_secs(1);

/// Who is called next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// First come, first called.
    #[default]
    Fifo,
    /// Those who came before `opens` are drawn in random order, later ones stand behind them.
    Lottery,
    /// Nobody may join: those who ask are told that the event is closed.
    Reject,
    /// No waiting and no pace: everybody is let in at once.
    Passthrough,
}

/// What happens to turns while the store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outage {
    /// Every node of a fleet goes on calling its own tickets, at its share of the rate. With an
    /// active cap, or a burst smaller than the fleet, as [`Outage::Hold`].
    #[default]
    Share,
    /// Nobody is called until the store is back.
    Hold,
}

/// One event's policy. Its wire form has durations as whole microseconds (u64).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Admissions per second: 0 (nobody) to [`RATE_MAX`].
    pub rate: f64,
    /// How many unused admissions may be saved up: 1 to [`COUNT_MAX`].
    pub burst: u32,
    /// How many may be inside at once; 0 is no cap.
    pub max_active: u32,
    /// How many may wait at once: 1 to [`COUNT_MAX`].
    pub max_waiting: u32,
    /// How long a called ticket may enter, after which its turn goes to the next.
    #[serde(with = "as_micros")]
    pub ready_ttl: Duration,
    /// How long after a missed turn a visitor is still called again, at their own place: before all who
    /// joined later.
    #[serde(with = "as_micros")]
    pub late_grace: Duration,
    /// A ticket nobody polled for so long expires.
    #[serde(with = "as_micros")]
    pub heartbeat_ttl: Duration,
    /// How long a ticket is remembered after it is gone.
    #[serde(with = "as_micros")]
    pub ticket_ttl: Duration,
    /// How long a pass is good for at least; see [`super::gate::GatePolicy::pass_until`].
    #[serde(with = "as_micros")]
    pub pass_ttl: Duration,
    /// How long after a soft leave a poll still undoes it.
    #[serde(with = "as_micros")]
    pub leave_grace: Duration,
    /// Who is called next.
    pub order: Order,
    /// What happens to turns while the store is away.
    pub outage: Outage,
    /// Nobody is called before this moment.
    pub opens: Option<Micros>,
    /// Nobody joins or is called from this moment on.
    pub closes: Option<Micros>,
    /// Nobody is called while this is set; the line keeps its order.
    pub paused: bool,
}

impl Default for Policy {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            rate: 1000.0,
            burst: 1000,
            max_active: 0,
            max_waiting: 5_000_000,
            ready_ttl: minutes(2),
            late_grace: minutes(15),
            heartbeat_ttl: minutes(5),
            ticket_ttl: minutes(6 * 60),
            pass_ttl: Duration::from_secs(30),
            leave_grace: Duration::from_secs(30),
            order: Order::Fifo,
            outage: Outage::Share,
            opens: None,
            closes: None,
            paused: false,
        }
    }
}

/// What is wrong with a policy or a change to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyMistake {
    /// No policy has a field of this name.
    #[error("{field:?} is no field of a policy{}", did_you_mean(.nearest))]
    Unknown {
        /// The name as given.
        field: String,
        /// The known name that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A value of the wrong kind or out of range.
    #[error("{field} = {value}: allowed is {allowed}")]
    Value {
        /// The field.
        field: &'static str,
        /// The value as given.
        value: String,
        /// What would be right.
        allowed: String,
    },
    /// Two fields that do not fit each other.
    #[error("{field} = {value}: must be {rule} {other} = {other_value}")]
    Relation {
        /// The field that is off.
        field: &'static str,
        /// Its value.
        value: String,
        /// How it has to relate to `other`, in words.
        rule: &'static str,
        /// The field it is held against.
        other: &'static str,
        /// That field's value.
        other_value: String,
    },
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest
        .map(|name| format!(" (did you mean {name:?}?)"))
        .unwrap_or_default()
}

impl Policy {
    /// Every range and relation this policy breaks; empty when it is fine.
    pub fn check(&self) -> Vec<PolicyMistake> {
        let mut found = Vec::new();
        if !(self.rate.is_finite() && (0.0..=RATE_MAX).contains(&self.rate)) {
            found.push(PolicyMistake::Value {
                field: "rate",
                value: self.rate.to_string(),
                allowed: format!("a number from 0 to {RATE_MAX}"),
            });
        }
        let counts = [
            ("burst", self.burst, 1),
            ("max_active", self.max_active, 0),
            ("max_waiting", self.max_waiting, 1),
        ];
        for (field, value, min) in counts {
            if !(min..=COUNT_MAX).contains(&value) {
                found.push(PolicyMistake::Value {
                    field,
                    value: value.to_string(),
                    allowed: format!("a whole number from {min} to {COUNT_MAX}"),
                });
            }
        }
        let spans = [
            ("ready_ttl", self.ready_ttl, TTL_MIN),
            ("late_grace", self.late_grace, Duration::ZERO),
            ("heartbeat_ttl", self.heartbeat_ttl, TTL_MIN),
            ("ticket_ttl", self.ticket_ttl, TTL_MIN),
            ("pass_ttl", self.pass_ttl, PASS_TTL_MIN),
            ("leave_grace", self.leave_grace, Duration::ZERO),
        ];
        for (field, value, min) in spans {
            if !(min..=TTL_MAX).contains(&value) {
                found.push(PolicyMistake::Value {
                    field,
                    value: span_text(value),
                    allowed: format!(
                        "a duration from {} to {}",
                        span_text(min),
                        span_text(TTL_MAX)
                    ),
                });
            }
        }
        // A ticket is forgotten after ticket_ttl, so nothing that needs its memory may last longer.
        for (field, value, _) in spans
            .into_iter()
            .filter(|&(field, ..)| field != "ticket_ttl")
        {
            if value >= self.ticket_ttl {
                found.push(PolicyMistake::Relation {
                    field,
                    value: span_text(value),
                    rule: "less than",
                    other: "ticket_ttl",
                    other_value: span_text(self.ticket_ttl),
                });
            }
        }
        if let (Some(opens), Some(closes)) = (self.opens, self.closes)
            && closes <= opens
        {
            found.push(PolicyMistake::Relation {
                field: "closes",
                value: moment_text(closes),
                rule: "later than",
                other: "opens",
                other_value: moment_text(opens),
            });
        }
        found
    }
}

/// A duration as people write it: `2m`, `1h 30m`, `10ms`.
pub fn span_text(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// A moment as ISO 8601 in UTC.
pub fn moment_text(moment: Micros) -> String {
    i64::try_from(moment.0)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .map_or_else(
            || format!("{} microseconds since 1970", moment.0),
            |at| at.to_string(),
        )
}

/// Durations travel as whole microseconds.
mod as_micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(span: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(crate::model::ticket::micros(*span))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_fine() {
        assert_eq!(Policy::default().check(), []);
    }

    #[test]
    fn the_wire_form_round_trips_with_durations_in_microseconds() {
        let policy = Policy {
            opens: Some(Micros(1_796_000_000_000_000)),
            order: Order::Lottery,
            outage: Outage::Hold,
            ..Policy::default()
        };
        let json = serde_json::to_value(&policy).unwrap();
        assert_eq!(json["ready_ttl"], 120_000_000);
        assert_eq!(serde_json::from_value::<Policy>(json).unwrap(), policy);
        let packed = rmp_serde::to_vec(&policy).unwrap();
        assert_eq!(rmp_serde::from_slice::<Policy>(&packed).unwrap(), policy);
    }

    #[test]
    fn all_mistakes_are_told_together_and_relations_name_both_fields() {
        let policy = Policy {
            rate: f64::NAN,
            burst: 0,
            late_grace: Duration::from_secs(6 * 3600),
            opens: Some(Micros(2)),
            closes: Some(Micros(1)),
            ..Policy::default()
        };
        let told: Vec<_> = policy.check().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "rate = NaN: allowed is a number from 0 to 1000000",
                "burst = 0: allowed is a whole number from 1 to 100000000",
                "late_grace = 6h: must be less than ticket_ttl = 6h",
                "closes = 1970-01-01T00:00:00.000001Z: must be later than opens = \
                 1970-01-01T00:00:00.000002Z",
            ]
        );
    }

    #[test]
    fn every_field_has_its_name_in_the_list() {
        let json = serde_json::to_value(Policy::default()).unwrap();
        let names: std::collections::BTreeSet<_> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(names, POLICY_FIELDS.into_iter().collect());
    }
}
