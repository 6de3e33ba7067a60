//! What was written: values by path, each with its origin. Later writers win.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::mistake::{Given, Mistake, Origin, Why};
use super::schema::{Place, place};
use crate::model::policy::PolicyValue;

/// One value, before anybody asked what it means.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A value with a type: a file's.
    Typed(PolicyValue),
    /// A list of texts.
    List(Vec<String>),
    /// A text whose type is the field's to say: the environment's and the command line's.
    Raw(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed(value) => value.fmt(f),
            Self::List(texts) => write!(f, "{texts:?}"),
            Self::Raw(text) => write!(f, "{text:?}"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    pub value: Value,
    pub origin: Origin,
}

/// The values of all sources.
#[derive(Debug, Default)]
pub struct Written {
    pub leaves: BTreeMap<Vec<String>, Leaf>,
    /// Events that have a table, be it empty.
    pub events: BTreeMap<String, Origin>,
    pub mistakes: Vec<Mistake>,
}

/// A path as people write it.
pub fn dotted(path: &[String]) -> String {
    let plain = |part: &String| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    let quoted = path.iter().map(|part| {
        if plain(part) {
            part.clone()
        } else {
            format!("{part:?}")
        }
    });
    quoted.collect::<Vec<_>>().join(".")
}

impl Written {
    /// Lays a file's text over what is there.
    pub fn file(&mut self, path: &Path, text: &str) {
        let line = |at: usize| Origin::File {
            path: path.to_owned(),
            line: 1 + text.as_bytes()[..at.min(text.len())]
                .iter()
                .filter(|b| **b == b'\n')
                .count(),
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            self.table(&mut Vec::new(), root.get_ref(), &line);
            return;
        }
        // What a broken file means is a guess, so only its syntax is reported.
        for error in errors {
            let origin = line(error.span().map_or(0, |span| span.start));
            let why = Why::Other(format!("not TOML: {}", error.message().replace('\n', ", ")));
            let given = Given {
                field: String::new(),
                value: None,
                origin,
            };
            self.mistakes.push(Mistake { given, why });
        }
    }

    /// Lays `TIDEGATE__SECTION__KEY` variables over what is there. Sections and keys may be in any
    /// case; an event's id is taken as written.
    pub fn environment<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (name, value) in pairs {
            let Some(rest) = name.strip_prefix("TIDEGATE__") else {
                continue;
            };
            let lower = rest.to_ascii_lowercase();
            let path = match lower
                .strip_prefix("event__")
                .and_then(|tail| tail.rsplit_once("__"))
            {
                Some((id, field)) => {
                    let id = &rest["event__".len()..][..id.len()];
                    vec!["event".to_owned(), id.to_owned(), field.to_owned()]
                }
                None => lower.split("__").map(str::to_owned).collect(),
            };
            self.leaf(
                path,
                Value::Raw(value.to_owned()),
                Origin::Environment(name.to_owned()),
            );
        }
    }

    /// Lays one `section.key=value` over what is there. The key is written as in TOML.
    pub fn set(&mut self, assignment: &str) {
        let path = assignment.split_once('=').and_then(|(key, value)| {
            let probe = format!("{} = 0", key.trim());
            let table = DeTable::parse(&probe).ok()?;
            Some((only_path(table.get_ref())?, value))
        });
        match path {
            Some((path, value)) => {
                self.leaf(
                    path,
                    Value::Raw(value.trim().to_owned()),
                    Origin::CommandLine,
                );
            }
            // The text may hold a secret, so only its beginning up to the equals sign is shown.
            None => self.mistakes.push(Mistake {
                given: Given {
                    field: assignment
                        .split('=')
                        .next()
                        .unwrap_or_default()
                        .trim()
                        .to_owned(),
                    value: None,
                    origin: Origin::CommandLine,
                },
                why: Why::Allowed(
                    "section.key=value, such as server.listen=127.0.0.1:8000".to_owned(),
                ),
            }),
        }
    }

    fn table(
        &mut self,
        path: &mut Vec<String>,
        table: &DeTable<'_>,
        line: &dyn Fn(usize) -> Origin,
    ) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let origin = line(key.span().start);
            match (place(path), value.get_ref()) {
                (Place::Table, DeValue::Table(inner)) => {
                    if let [section, id] = path.as_slice()
                        && section == "event"
                    {
                        self.events.insert(id.clone(), origin);
                    }
                    self.table(path, inner, line);
                }
                (_, value) => self.leaf(path.clone(), plain(value), origin),
            }
            path.pop();
        }
    }

    fn leaf(&mut self, path: Vec<String>, value: Value, origin: Origin) {
        let why = match place(&path) {
            Place::Leaf => {
                if let [section, id, _] = path.as_slice()
                    && section == "event"
                {
                    self.events
                        .entry(id.clone())
                        .or_insert_with(|| origin.clone());
                }
                self.leaves.insert(path, Leaf { value, origin });
                return;
            }
            Place::Table => Why::Allowed("a table of keys".to_owned()),
            Place::Unknown { at, nearest } => {
                let meant = |name: &str| {
                    let mut path = path.clone();
                    path[at] = name.to_owned();
                    dotted(&path)
                };
                Why::Unknown {
                    nearest: nearest.map(meant),
                }
            }
        };
        // An unknown key may be a misspelt secret: its value is not shown.
        let given = Given {
            field: dotted(&path),
            value: None,
            origin,
        };
        self.mistakes.push(Mistake { given, why });
    }
}

/// The path to the one value of a table that has one value.
fn only_path(mut table: &DeTable<'_>) -> Option<Vec<String>> {
    let mut path = Vec::new();
    loop {
        let mut entries = table.iter();
        let (key, value) = entries.next()?;
        if entries.next().is_some() {
            return None;
        }
        path.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Integer(_) => return Some(path),
            _ => return None,
        }
    }
}

fn plain(value: &DeValue<'_>) -> Value {
    Value::Typed(match value {
        DeValue::String(text) => PolicyValue::Text(text.to_string()),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).map_or(
            PolicyValue::Other("a number beyond 64 bits"),
            PolicyValue::Int,
        ),
        DeValue::Float(digits) => digits.as_str().parse().map_or(
            PolicyValue::Other("a number beyond 64 bits"),
            PolicyValue::Float,
        ),
        DeValue::Boolean(flag) => PolicyValue::Bool(*flag),
        DeValue::Datetime(moment) => PolicyValue::Text(moment.to_string()),
        DeValue::Table(_) => PolicyValue::Other("a table"),
        DeValue::Array(items) => {
            let texts = items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned));
            match texts.collect() {
                Some(texts) => return Value::List(texts),
                None => PolicyValue::Other("a list of other things than texts"),
            }
        }
    })
}

impl Value {
    /// The value as a text field takes it.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Typed(PolicyValue::Text(text)) => Some(text.clone()),
            Self::Raw(text) => match guess(text) {
                // Quotes that the shell left in place.
                Self::Typed(PolicyValue::Text(inner)) => Some(inner),
                _ => Some(text.clone()),
            },
            _ => None,
        }
    }

    /// The value as a list of texts; a raw one may also be separated by commas.
    pub fn list(&self) -> Option<Vec<String>> {
        match self {
            Self::List(texts) => Some(texts.clone()),
            Self::Raw(text) => match guess(text) {
                Self::List(texts) => Some(texts),
                _ => Some(
                    text.split(',')
                        .map(|item| item.trim().to_owned())
                        .filter(|item| !item.is_empty())
                        .collect(),
                ),
            },
            Self::Typed(_) => None,
        }
    }

    /// The value with the type that TOML would see.
    pub fn scalar(&self) -> PolicyValue {
        match self {
            Self::Typed(value) => value.clone(),
            Self::List(_) => PolicyValue::Other("a list"),
            Self::Raw(text) => match guess(text) {
                Self::Typed(value) => value,
                Self::List(_) => PolicyValue::Other("a list"),
                Self::Raw(text) => PolicyValue::Text(text),
            },
        }
    }
}

/// A raw text as the TOML value it spells, else as itself.
fn guess(text: &str) -> Value {
    match DeValue::parse(text) {
        Ok(value) => plain(value.get_ref()),
        Err(_) => Value::Raw(text.to_owned()),
    }
}
