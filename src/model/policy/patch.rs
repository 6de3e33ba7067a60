//! A partial change to a policy, in the text forms that people write.

use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Order, Outage, POLICY_FIELDS, Policy, PolicyMistake, moment_text, span_text};
use crate::model::nearest::nearest;
use crate::model::ticket::Micros;

/// What somebody wrote for one field, before anybody asked what it means.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyValue {
    /// JSON's `null`: no `opens`, no `closes`.
    Nothing,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
    /// A list or a table, which no field takes; the text says which.
    Other(&'static str),
}

impl fmt::Display for PolicyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => fmt::Debug::fmt(value, f),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

/// A change to a policy: the fields that are set replace, the others stay.
///
/// As JSON or TOML it has the names of [`POLICY_FIELDS`], durations as `"2m"`, moments as ISO 8601
/// with an offset. `opens` and `closes` are taken away with `null` or `"none"`.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "each field is the policy's field of that name")]
pub struct PolicyPatch {
    pub rate: Option<f64>,
    pub burst: Option<u32>,
    pub max_active: Option<u32>,
    pub max_waiting: Option<u32>,
    pub ready_ttl: Option<Duration>,
    pub late_grace: Option<Duration>,
    pub heartbeat_ttl: Option<Duration>,
    pub ticket_ttl: Option<Duration>,
    pub pass_ttl: Option<Duration>,
    pub leave_grace: Option<Duration>,
    pub order: Option<Order>,
    pub outage: Option<Outage>,
    pub opens: Option<Option<Micros>>,
    pub closes: Option<Option<Micros>>,
    pub paused: Option<bool>,
}

impl PolicyPatch {
    /// Sets one field from what was written. A value of the wrong kind leaves the field unset;
    /// ranges are [`Policy::check`]'s business.
    pub fn set(&mut self, field: &str, value: &PolicyValue) -> Result<(), PolicyMistake> {
        let Some(&field) = POLICY_FIELDS.iter().find(|known| **known == field) else {
            return Err(PolicyMistake::Unknown {
                field: field.to_owned(),
                nearest: nearest(field, POLICY_FIELDS),
            });
        };
        let done = match field {
            "rate" => put(&mut self.rate, number(value)),
            "burst" => put(&mut self.burst, count(value)),
            "max_active" => put(&mut self.max_active, count(value)),
            "max_waiting" => put(&mut self.max_waiting, count(value)),
            "ready_ttl" => put(&mut self.ready_ttl, span(value)),
            "late_grace" => put(&mut self.late_grace, span(value)),
            "heartbeat_ttl" => put(&mut self.heartbeat_ttl, span(value)),
            "ticket_ttl" => put(&mut self.ticket_ttl, span(value)),
            "pass_ttl" => put(&mut self.pass_ttl, span(value)),
            "leave_grace" => put(&mut self.leave_grace, span(value)),
            "order" => put(&mut self.order, order(value)),
            "outage" => put(&mut self.outage, outage(value)),
            "opens" => put(&mut self.opens, moment(value)),
            "closes" => put(&mut self.closes, moment(value)),
            _ => put(&mut self.paused, flag(value)),
        };
        done.map_err(|allowed| PolicyMistake::Value {
            field,
            value: value.to_string(),
            allowed: allowed.to_owned(),
        })
    }

    /// `base` with this change, or everything that is wrong with the outcome.
    pub fn apply(&self, base: &Policy) -> Result<Policy, Vec<PolicyMistake>> {
        let policy = self.over(base);
        let mistakes = policy.check();
        if mistakes.is_empty() {
            Ok(policy)
        } else {
            Err(mistakes)
        }
    }

    /// Both changes as one: `earlier`, then this.
    pub fn after(self, earlier: Self) -> Self {
        Self {
            rate: self.rate.or(earlier.rate),
            burst: self.burst.or(earlier.burst),
            max_active: self.max_active.or(earlier.max_active),
            max_waiting: self.max_waiting.or(earlier.max_waiting),
            ready_ttl: self.ready_ttl.or(earlier.ready_ttl),
            late_grace: self.late_grace.or(earlier.late_grace),
            heartbeat_ttl: self.heartbeat_ttl.or(earlier.heartbeat_ttl),
            ticket_ttl: self.ticket_ttl.or(earlier.ticket_ttl),
            pass_ttl: self.pass_ttl.or(earlier.pass_ttl),
            leave_grace: self.leave_grace.or(earlier.leave_grace),
            order: self.order.or(earlier.order),
            outage: self.outage.or(earlier.outage),
            opens: self.opens.or(earlier.opens),
            closes: self.closes.or(earlier.closes),
            paused: self.paused.or(earlier.paused),
        }
    }

    /// `base` with this change, whatever it is worth: see [`Policy::check`].
    pub fn over(&self, base: &Policy) -> Policy {
        Policy {
            rate: self.rate.unwrap_or(base.rate),
            burst: self.burst.unwrap_or(base.burst),
            max_active: self.max_active.unwrap_or(base.max_active),
            max_waiting: self.max_waiting.unwrap_or(base.max_waiting),
            ready_ttl: self.ready_ttl.unwrap_or(base.ready_ttl),
            late_grace: self.late_grace.unwrap_or(base.late_grace),
            heartbeat_ttl: self.heartbeat_ttl.unwrap_or(base.heartbeat_ttl),
            ticket_ttl: self.ticket_ttl.unwrap_or(base.ticket_ttl),
            pass_ttl: self.pass_ttl.unwrap_or(base.pass_ttl),
            leave_grace: self.leave_grace.unwrap_or(base.leave_grace),
            order: self.order.unwrap_or(base.order),
            outage: self.outage.unwrap_or(base.outage),
            opens: self.opens.unwrap_or(base.opens),
            closes: self.closes.unwrap_or(base.closes),
            paused: self.paused.unwrap_or(base.paused),
        }
    }
}

/// The change that turns any policy into this one: the policy in the text forms people write.
impl From<&Policy> for PolicyPatch {
    fn from(policy: &Policy) -> Self {
        Self {
            rate: Some(policy.rate),
            burst: Some(policy.burst),
            max_active: Some(policy.max_active),
            max_waiting: Some(policy.max_waiting),
            ready_ttl: Some(policy.ready_ttl),
            late_grace: Some(policy.late_grace),
            heartbeat_ttl: Some(policy.heartbeat_ttl),
            ticket_ttl: Some(policy.ticket_ttl),
            pass_ttl: Some(policy.pass_ttl),
            leave_grace: Some(policy.leave_grace),
            order: Some(policy.order),
            outage: Some(policy.outage),
            opens: Some(policy.opens),
            closes: Some(policy.closes),
            paused: Some(policy.paused),
        }
    }
}

fn put<T>(slot: &mut Option<T>, value: Result<T, &'static str>) -> Result<(), &'static str> {
    value.map(|value| *slot = Some(value))
}

fn number(value: &PolicyValue) -> Result<f64, &'static str> {
    match value {
        // Exact up to 2^53, far beyond the highest rate.
        PolicyValue::Int(number) => Ok(*number as f64),
        PolicyValue::Float(number) => Ok(*number),
        _ => Err("a number"),
    }
}

fn count(value: &PolicyValue) -> Result<u32, &'static str> {
    match value {
        PolicyValue::Int(number) => u32::try_from(*number).ok(),
        _ => None,
    }
    .ok_or("a whole number, not below 0, not above 100000000")
}

fn span(value: &PolicyValue) -> Result<Duration, &'static str> {
    match value {
        PolicyValue::Text(text) => humantime::parse_duration(text).ok(),
        _ => None,
    }
    .ok_or("a duration with its unit, such as \"30s\" or \"2m\"")
}

fn order(value: &PolicyValue) -> Result<Order, &'static str> {
    match value {
        PolicyValue::Text(text) => match text.as_str() {
            "fifo" => Some(Order::Fifo),
            "lottery" => Some(Order::Lottery),
            "reject" => Some(Order::Reject),
            "passthrough" => Some(Order::Passthrough),
            _ => None,
        },
        _ => None,
    }
    .ok_or("\"fifo\", \"lottery\", \"reject\" or \"passthrough\"")
}

fn outage(value: &PolicyValue) -> Result<Outage, &'static str> {
    match value {
        PolicyValue::Text(text) => match text.as_str() {
            "share" => Some(Outage::Share),
            "hold" => Some(Outage::Hold),
            _ => None,
        },
        _ => None,
    }
    .ok_or("\"share\" or \"hold\"")
}

fn moment(value: &PolicyValue) -> Result<Option<Micros>, &'static str> {
    match value {
        PolicyValue::Nothing => Some(None),
        PolicyValue::Text(text) if text == "none" => Some(None),
        PolicyValue::Text(text) => text
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|at| u64::try_from(at.as_microsecond()).ok())
            .map(|micros| Some(Micros(micros))),
        _ => None,
    }
    .ok_or(
        "a moment from 1970 on with its offset, such as \"2026-12-01T10:00:00+09:00\", or \"none\"",
    )
}

fn flag(value: &PolicyValue) -> Result<bool, &'static str> {
    match value {
        PolicyValue::Bool(flag) => Ok(*flag),
        _ => Err("true or false"),
    }
}

impl Serialize for PolicyPatch {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        macro_rules! entries {
            ($($field:ident: $form:expr,)*) => {$(
                if let Some(value) = self.$field {
                    map.serialize_entry(stringify!($field), &$form(value))?;
                }
            )*};
        }
        fn same<T>(value: T) -> T {
            value
        }
        fn maybe_moment(moment: Option<Micros>) -> String {
            moment.map_or_else(|| "none".to_owned(), moment_text)
        }
        entries! {
            rate: same, burst: same, max_active: same, max_waiting: same,
            ready_ttl: span_text, late_grace: span_text, heartbeat_ttl: span_text,
            ticket_ttl: span_text, pass_ttl: span_text, leave_grace: span_text,
            order: same, outage: same, opens: maybe_moment, closes: maybe_moment, paused: same,
        }
        map.end()
    }
}

/// Reports every field of the wrong kind or name together, not just the first.
impl<'de> Deserialize<'de> for PolicyPatch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = PolicyPatch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of policy fields")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PolicyPatch, A::Error> {
                let mut patch = PolicyPatch::default();
                let mut mistakes = Vec::new();
                while let Some((field, value)) = map.next_entry::<String, PolicyValue>()? {
                    if let Err(mistake) = patch.set(&field, &value) {
                        mistakes.push(mistake.to_string());
                    }
                }
                if mistakes.is_empty() {
                    Ok(patch)
                } else {
                    Err(A::Error::custom(mistakes.join("; ")))
                }
            }
        }
        d.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for PolicyValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = PolicyValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a policy field's value")
            }
            fn visit_bool<E>(self, value: bool) -> Result<PolicyValue, E> {
                Ok(PolicyValue::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<PolicyValue, E> {
                Ok(PolicyValue::Int(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<PolicyValue, E> {
                Ok(i64::try_from(value).map_or(PolicyValue::Float(value as f64), PolicyValue::Int))
            }
            fn visit_f64<E>(self, value: f64) -> Result<PolicyValue, E> {
                Ok(PolicyValue::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<PolicyValue, E> {
                Ok(PolicyValue::Text(value.to_owned()))
            }
            fn visit_unit<E>(self) -> Result<PolicyValue, E> {
                Ok(PolicyValue::Nothing)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<PolicyValue, A::Error> {
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(PolicyValue::Other("a list"))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PolicyValue, A::Error> {
                type Ignored = serde::de::IgnoredAny;
                while map.next_entry::<Ignored, Ignored>()?.is_some() {}
                Ok(PolicyValue::Other("a table"))
            }
        }
        d.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let patch: PolicyPatch = serde_json::from_str(
            r#"{"rate": 250, "ready_ttl": "90s", "opens": "2026-12-01T10:00:00+09:00"}"#,
        )
        .unwrap();
        let changed = patch.apply(&Policy::default()).unwrap();
        let expected = Policy {
            rate: 250.0,
            ready_ttl: Duration::from_secs(90),
            opens: Some(Micros(1_796_086_800_000_000)),
            ..Policy::default()
        };
        assert_eq!(changed, expected);
        let cleared: PolicyPatch = serde_json::from_str(r#"{"opens": null}"#).unwrap();
        assert_eq!(cleared.apply(&changed).unwrap().opens, None);
    }

    #[test]
    fn a_whole_policy_round_trips_through_its_text_form() {
        let policy = Policy {
            rate: 0.25,
            leave_grace: Duration::ZERO,
            closes: Some(Micros(1_796_086_800_000_001)),
            order: Order::Reject,
            paused: true,
            ..Policy::default()
        };
        let text = serde_json::to_string(&PolicyPatch::from(&policy)).unwrap();
        assert!(text.contains(r#""late_grace":"15m""#), "{text}");
        let read: PolicyPatch = serde_json::from_str(&text).unwrap();
        assert_eq!(read.apply(&Policy::default()).unwrap(), policy);
    }

    #[test]
    fn wrong_kinds_and_unknown_names_are_told_together() {
        let told = serde_json::from_str::<PolicyPatch>(
            r#"{"rat": 1, "burst": -1, "ready_ttl": 120, "order": "lifo", "paused": [1]}"#,
        )
        .unwrap_err()
        .to_string();
        for part in [
            r#""rat" is no field of a policy (did you mean "rate"?)"#,
            "burst = -1: allowed is a whole number",
            r#"ready_ttl = 120: allowed is a duration with its unit, such as "30s" or "2m""#,
            r#"order = "lifo": allowed is "fifo", "lottery", "reject" or "passthrough""#,
            "paused = a list: allowed is true or false",
        ] {
            assert!(told.contains(part), "{part} is missing in: {told}");
        }
    }

    #[test]
    fn ranges_are_refused_by_the_outcome() {
        let patch = PolicyPatch {
            burst: Some(0),
            heartbeat_ttl: Some(Duration::from_secs(7 * 3600)),
            ..PolicyPatch::default()
        };
        assert_eq!(patch.apply(&Policy::default()).unwrap_err().len(), 2);
    }
}
