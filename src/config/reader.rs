//! Takes values out of what was written, and collects the mistakes on the way.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::fields::{secret, whole};
use super::mistake::{Given, Mistake, Origin, Why};
use super::tree::{Value, Written, dotted};

/// What is shown instead of a secret.
pub const HIDDEN: &str = "(hidden)";

/// The conversion in progress.
pub struct Reader<'a> {
    pub written: &'a Written,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub mistakes: Vec<Mistake>,
    /// Fields whose value is no use, so that nothing is held against them.
    pub wrong: BTreeSet<String>,
}

/// A path out of its parts.
pub fn parts(path: &[&str]) -> Vec<String> {
    path.iter().map(|&part| part.to_owned()).collect()
}

/// A value for show. One with an `@` may be a URL that holds a password.
fn shown_value(value: &Value) -> String {
    let text = value.to_string();
    if text.contains('@') {
        HIDDEN.to_owned()
    } else {
        text
    }
}

impl Reader<'_> {
    /// The value at `section.key`, or `default` when there is none or it is no use.
    pub fn take<T>(
        &mut self,
        field: &str,
        default: T,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> T {
        let path: Vec<String> = field.split('.').map(str::to_owned).collect();
        let Some(leaf) = self.written.leaves.get(&path) else {
            return default;
        };
        read(&leaf.value).unwrap_or_else(|allowed| {
            let given = Given {
                field: field.to_owned(),
                value: Some(shown_value(&leaf.value)),
                origin: leaf.origin.clone(),
            };
            self.wrong.insert(field.to_owned());
            self.mistakes.push(Mistake {
                given,
                why: Why::Allowed(allowed),
            });
            default
        })
    }

    /// A whole number from 1 to `max` at `section.key`.
    pub fn nonzero(&mut self, field: &str, default: NonZeroU32, max: u32) -> NonZeroU32 {
        NonZeroU32::new(self.take(field, default.get(), whole(1..=max))).unwrap_or(default)
    }

    /// The secret at `path`; `None` when there is none, it is empty, or it is no use.
    pub fn secret(&mut self, path: &[&str]) -> Option<String> {
        let leaf = self.written.leaves.get(&parts(path))?;
        match secret(&leaf.value, self.env) {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(allowed) => {
                self.mistake_at(path, Some(HIDDEN), Why::Allowed(allowed));
                None
            }
        }
    }

    /// Notes a mistake about the value at `path`.
    pub fn mistake_at(&mut self, path: &[&str], value: Option<&str>, why: Why) {
        let given = self.given(&parts(path), None, value.map(str::to_owned));
        self.wrong.insert(given.field.clone());
        self.mistakes.push(Mistake { given, why });
    }

    /// `field` does not fit `other`; both are shown. Silent when either is no use anyway.
    pub fn relate(&mut self, field: &str, rule: &'static str, other: &str) {
        if self.wrong.contains(field) || self.wrong.contains(other) {
            return;
        }
        let (given, other) = (self.shown(field), self.shown(other));
        self.mistakes.push(Mistake {
            given,
            why: Why::Relation { rule, other },
        });
    }

    /// `field` is refused for a reason that names the fields of `others`.
    pub fn refuse(&mut self, field: &str, others: &[&str], reason: &str) {
        if std::iter::once(&field)
            .chain(others)
            .any(|field| self.wrong.contains(*field))
        {
            return;
        }
        let given = self.shown(field);
        self.mistakes.push(Mistake {
            given,
            why: Why::Other(reason.to_owned()),
        });
    }

    /// `section.key` with its value, as written or by default.
    pub fn shown(&self, field: &str) -> Given {
        let path: Vec<String> = field.split('.').map(str::to_owned).collect();
        let value = match self.written.leaves.get(&path) {
            Some(leaf) => Some(shown_value(&leaf.value)),
            None => super::show::default_text(field),
        };
        self.given(&path, None, value)
    }

    /// What was given at `path`; for an event's field that it inherits, the default's.
    pub fn given(&self, path: &[String], event: Option<&str>, value: Option<String>) -> Given {
        let leaf = self.written.leaves.get(path);
        if leaf.is_none() && event.is_some() {
            let inherited = ["defaults".to_owned(), path[path.len() - 1].clone()];
            return self.given(&inherited, None, value);
        }
        let origin = leaf.map_or(Origin::Default, |leaf| leaf.origin.clone());
        Given {
            field: dotted(path),
            value,
            origin,
        }
    }
}
