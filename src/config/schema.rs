//! The names a configuration knows.

use crate::model::nearest::nearest;
use crate::model::policy::POLICY_FIELDS;

/// Every section with a fixed set of keys. `[keys]` has tables of freely named keys besides, and
/// `[event."…"]` tables of policy fields.
const SECTIONS: [(&str, &[&str]); 14] = [
    (
        "server",
        &["listen", "admin_listen", "workers", "drain_timeout"],
    ),
    (
        "store",
        &["kind", "path", "fsync", "fsync_interval", "start"],
    ),
    ("redis", &["urls", "mode", "user", "password", "ca"]),
    ("fleet", &["node", "size", "max_clock_skew", "share_limit"]),
    (
        "journal",
        &[
            "flush_interval",
            "batch_records",
            "ack",
            "max_records",
            "lag",
            "stale_after",
        ],
    ),
    ("keys", &["active"]),
    ("events", &["create_on_demand", "max_events"]),
    ("defaults", &POLICY_FIELDS),
    ("event", &[]),
    (
        "limits",
        &[
            "body_bytes",
            "url_bytes",
            "header_bytes",
            "headers",
            "connections",
            "header_read_timeout",
            "idle_timeout",
            "body_read_timeout",
            "joins_per_second",
        ],
    ),
    ("cors", &["origins", "max_age", "credentials"]),
    ("admin", &["token"]),
    ("polling", &["min", "max"]),
    ("log", &["level", "format"]),
];

/// The tables under `[keys]`.
const KEY_TABLES: [&str; 2] = ["ticket", "pass"];

/// Every key that has one fixed name, as `(section, key)`.
pub fn known_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    SECTIONS
        .iter()
        .flat_map(|&(section, keys)| keys.iter().map(move |&key| (section, key)))
}

/// Every table whose keys are named by who writes it.
pub fn known_tables() -> impl Iterator<Item = String> {
    let event = std::iter::once("event".to_owned());
    KEY_TABLES
        .iter()
        .map(|table| format!("keys.{table}"))
        .chain(event)
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A table: look inside.
    Table,
    /// A value.
    Leaf,
    /// Nothing of ours: the part at `at` is not known, the nearest known name is this.
    Unknown {
        at: usize,
        nearest: Option<&'static str>,
    },
}

/// What stands at `path`, which has at least one part. Event ids and key names are not judged here.
pub fn place(path: &[String]) -> Place {
    let (section, rest) = (path[0].as_str(), &path[1..]);
    let Some(&(_, keys)) = SECTIONS.iter().find(|(name, _)| *name == section) else {
        return Place::Unknown {
            at: 0,
            nearest: nearest(section, SECTIONS.map(|(name, _)| name)),
        };
    };
    let known = |keys: &[&'static str]| {
        let at = path.len() - 1;
        if keys.contains(&path[at].as_str()) {
            Place::Leaf
        } else {
            Place::Unknown {
                at,
                nearest: nearest(&path[at], keys.iter().copied()),
            }
        }
    };
    let key_table = |table: &String| section == "keys" && KEY_TABLES.contains(&table.as_str());
    match rest {
        [] => Place::Table,
        [_] if section == "event" => Place::Table,
        [_, _] if section == "event" => known(&POLICY_FIELDS),
        [table] if key_table(table) => Place::Table,
        [table, _] if key_table(table) => Place::Leaf,
        [_] if section == "keys" => known(&["active", KEY_TABLES[0], KEY_TABLES[1]]),
        [_] => known(keys),
        [..] => Place::Unknown {
            at: path.len() - 1,
            nearest: None,
        },
    }
}
