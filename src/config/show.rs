//! A configuration as a list of fields: for `tidegate check`, and to tell what a reload changed.

use std::collections::BTreeMap;
use std::fmt::Write;

use toml::Value;

use super::reader::HIDDEN;
use super::schema::known_keys;
use super::tree::dotted;
use super::types::{Ack, Config, Fsync, Origins, RedisMode, StoreKind, StoreStart};
use crate::model::policy::{POLICY_FIELDS, span_text};
use crate::model::{Policy, PolicyPatch};
use crate::telemetry::logging::LogFormat;

/// A field's value as it would be written; secrets as [`HIDDEN`].
fn value(config: &Config, section: &str, key: &str) -> Value {
    let Config {
        server,
        store,
        redis,
        fleet,
        journal,
        events,
        limits,
        cors,
        polling,
        log,
        ..
    } = config;
    let text = |text: &dyn ToString| Value::String(text.to_string());
    let span = |span| Value::String(span_text(span));
    let int = |number: usize| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let word = |word: &str| Value::String(word.to_owned());
    match (section, key) {
        ("server", "listen") => text(&server.listen),
        ("server", "admin_listen") => server.admin_listen.map_or(word("off"), |at| text(&at)),
        ("server", "workers") => int(server.workers.map_or(0, usize::from)),
        ("server", "drain_timeout") => span(server.drain_timeout),
        ("store", "kind") => word(match store.kind {
            StoreKind::Embedded => "embedded",
            StoreKind::Redis => "redis",
        }),
        ("store", "path") => text(&store.path.display()),
        ("store", "fsync") => word(match store.fsync {
            Fsync::Always => "always",
            Fsync::Interval => "interval",
            Fsync::Never => "never",
        }),
        ("store", "fsync_interval") => span(store.fsync_interval),
        ("store", "start") => word(match store.start {
            StoreStart::Wait => "wait",
            StoreStart::Serve => "serve",
        }),
        ("redis", "urls") => Value::Array(redis.urls.iter().map(|url| text(url)).collect()),
        ("redis", "mode") => word(match redis.mode {
            RedisMode::Auto => "auto",
            RedisMode::Cluster => "cluster",
            RedisMode::Single => "single",
        }),
        ("redis", "user") => word(redis.user.as_deref().unwrap_or_default()),
        ("redis", "password") => word(if redis.password.is_some() { HIDDEN } else { "" }),
        ("redis", "ca") => redis
            .ca
            .as_ref()
            .map_or(word(""), |path| text(&path.display())),
        ("fleet", "node") => int(fleet.node.0.into()),
        ("fleet", "size") => int(fleet.size.get().into()),
        ("fleet", "max_clock_skew") => span(fleet.max_clock_skew),
        ("fleet", "share_limit") => span(fleet.share_limit),
        ("journal", "flush_interval") => span(journal.flush_interval),
        ("journal", "batch_records") => int(journal.batch_records.get() as usize),
        ("journal", "ack") => word(match journal.ack {
            Ack::Memory => "memory",
            Ack::Durable => "durable",
        }),
        ("journal", "max_records") => int(journal.max_records.get() as usize),
        ("journal", "lag") => span(journal.lag),
        ("journal", "stale_after") => span(journal.stale_after),
        ("keys", "active") => word(config.keys.as_ref().map_or("k1", |keys| &keys.active)),
        ("events", "create_on_demand") => Value::Boolean(events.create_on_demand),
        ("events", "max_events") => int(events.max_events.get() as usize),
        ("limits", "body_bytes") => int(limits.body_bytes),
        ("limits", "url_bytes") => int(limits.url_bytes),
        ("limits", "header_bytes") => int(limits.header_bytes),
        ("limits", "headers") => int(limits.headers),
        ("limits", "connections") => int(limits.connections),
        ("limits", "header_read_timeout") => span(limits.header_read_timeout),
        ("limits", "idle_timeout") => span(limits.idle_timeout),
        ("limits", "body_read_timeout") => span(limits.body_read_timeout),
        ("limits", "joins_per_second") => int(limits
            .joins_per_second
            .map_or(0, |joins| joins.get() as usize)),
        ("cors", "origins") => Value::Array(match &cors.origins {
            Origins::Any => vec![word("*")],
            Origins::Listed(origins) => origins.iter().map(|origin| word(origin)).collect(),
        }),
        ("cors", "max_age") => span(cors.max_age),
        ("cors", "credentials") => Value::Boolean(cors.credentials),
        ("admin", "token") => word(if config.admin.token.is_some() {
            HIDDEN
        } else {
            ""
        }),
        ("polling", "min") => span(polling.min),
        ("polling", "max") => span(polling.max),
        ("log", "level") => text(&log.level),
        ("log", "format") => word(match log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }),
        _ => unreachable!("{section}.{key} is in the schema and has no value to show"),
    }
}

/// A policy's fields in their order, as they would be written.
fn policy(policy: &Policy) -> Vec<(&'static str, Value)> {
    let fields = toml::Table::try_from(PolicyPatch::from(policy)).unwrap_or_default();
    POLICY_FIELDS
        .into_iter()
        .filter_map(|field| Some((field, fields.get(field)?.clone())))
        .collect()
}

/// What `section.key` is when nobody writes it.
pub fn default_text(field: &str) -> Option<String> {
    let (section, key) = field.split_once('.')?;
    known_keys()
        .any(|known| known == (section, key) && section != "defaults")
        .then(|| value(&Config::default(), section, key).to_string())
}

impl Config {
    /// The resolved configuration as TOML, complete, with secrets hidden.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut open = "";
        // Writing to a String cannot fail.
        for (section, key) in known_keys().filter(|(section, _)| *section != "defaults") {
            if section != open {
                let gap = if open.is_empty() { "" } else { "\n" };
                let _ = writeln!(out, "{gap}[{section}]");
                open = section;
            }
            let _ = writeln!(out, "{key} = {}", value(self, section, key));
        }
        if let Some(keys) = &self.keys {
            for (table, names) in [("ticket", &keys.ticket), ("pass", &keys.pass)] {
                let _ = writeln!(out, "\n[keys.{table}]");
                for name in names.keys() {
                    let _ = writeln!(out, "{} = {HIDDEN:?}", dotted(std::slice::from_ref(name)));
                }
            }
        }
        let events = self
            .event
            .iter()
            .map(|(id, policy)| (format!("event.{:?}", id.as_str()), policy));
        for (table, policy_) in
            std::iter::once(("defaults".to_owned(), &self.defaults)).chain(events)
        {
            let _ = writeln!(out, "\n[{table}]");
            for (field, value) in policy(policy_) {
                let _ = writeln!(out, "{field} = {value}");
            }
        }
        out
    }

    /// `next` as far as it may take effect while running (policies, limits, polling, log level),
    /// the rest from here; and the names of the fields that would need a restart.
    pub fn reloaded(&self, next: &Self) -> (Self, Vec<String>) {
        let merged = Self {
            defaults: next.defaults.clone(),
            event: next.event.clone(),
            limits: next.limits.clone(),
            polling: next.polling.clone(),
            log: super::types::Log {
                level: next.log.level.clone(),
                ..self.log.clone()
            },
            ..self.clone()
        };
        let mut restart: Vec<String> = known_keys()
            .filter(|(section, _)| *section != "defaults")
            .filter(|(section, key)| value(&merged, section, key) != value(next, section, key))
            .map(|(section, key)| format!("{section}.{key}"))
            .collect();
        // Secrets look alike when shown, so they are compared themselves.
        let secrets = BTreeMap::from([
            ("keys", merged.keys != next.keys),
            (
                "redis.password",
                merged.redis.password != next.redis.password,
            ),
            ("admin.token", merged.admin.token != next.admin.token),
        ]);
        for (field, changed) in secrets {
            let told = restart
                .iter()
                .any(|known| known == field || known.starts_with("keys."));
            if changed && !told {
                restart.push(field.to_owned());
            }
        }
        (merged, restart)
    }
}
