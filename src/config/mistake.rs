//! What is wrong with a configuration, in words that lead to the place.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// A line of a file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// This environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::CommandLine => f.write_str("--set"),
        }
    }
}

/// A field, what was given for it, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The field's full name, such as `server.listen`; empty when there is no field to blame.
    pub field: String,
    /// The value as given; `None` when there is none to show.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.value, self.field.as_str()) {
            (_, "") => write!(f, "{}", self.origin),
            (Some(value), field) => write!(f, "{field} = {value} ({})", self.origin),
            (None, field) => write!(f, "{field} ({})", self.origin),
        }
    }
}

/// What is wrong with what was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// No such key.
    Unknown {
        /// The known name nearest to it.
        nearest: Option<String>,
    },
    /// The value is none of the allowed ones, which are these.
    Allowed(String),
    /// It does not fit another field.
    Relation {
        /// How it has to relate to the other, in words.
        rule: &'static str,
        /// The other field.
        other: Given,
    },
    /// Anything else, in words.
    Other(String),
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Field, value and origin.
    pub given: Given,
    /// What is wrong.
    pub why: Why,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.given)?;
        match &self.why {
            Why::Unknown {
                nearest: Some(name),
            } => {
                write!(f, "unknown key (did you mean {name}?)")
            }
            Why::Unknown { nearest: None } => f.write_str("unknown key"),
            Why::Allowed(allowed) => write!(f, "allowed is {allowed}"),
            Why::Relation { rule, other } => write!(f, "must be {rule} {other}"),
            Why::Other(text) => f.write_str(text),
        }
    }
}

/// All mistakes of a configuration; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        let mistakes = if n == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration has {n} {mistakes}:")?;
        self.0
            .iter()
            .try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}
