//! The one conversion: what was written → what it means, or all mistakes together.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::fields::{
    address, address_or_off, choice, flag, key_bytes, key_name, optional_path, optional_text,
    origins, path, redis_urls, span, whole,
};
use super::mistake::{Given, Mistake, Mistakes, Origin, Why};
use super::reader::{HIDDEN, Reader, parts};
use super::secret::Secret;
use super::tree::{Value, Written, dotted};
use super::types::{
    Ack, Admin, Config, Cors, Events, Fleet, Fsync, Journal, KeySet, Limits, Log, Polling, Redis,
    RedisMode, Server, Store, StoreKind, StoreStart,
};
use crate::model::policy::{POLICY_FIELDS, PolicyMistake};
use crate::model::{EventId, NodeId, Policy, PolicyPatch};
use crate::telemetry::logging::{LogFilter, LogFormat};

/// The shortest admin token, in characters.
const TOKEN_CHARS_MIN: usize = 16;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Converts everything or says everything that is wrong. `env` looks up what `env:NAME` names.
pub fn resolve(
    written: &Written,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Mistakes> {
    let mut reader = Reader {
        written,
        env,
        mistakes: written.mistakes.clone(),
        wrong: BTreeSet::new(),
    };
    let config = reader.config();
    reader.relations(&config);
    if reader.mistakes.is_empty() {
        Ok(config)
    } else {
        Err(Mistakes(reader.mistakes))
    }
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let defaults = self.policy("defaults", None, &Policy::default());
        let event = self.events(&defaults);
        Config {
            server: self.server(),
            store: self.store(),
            redis: self.redis(),
            fleet: self.fleet(),
            journal: self.journal(),
            keys: self.keys(),
            events: self.events_section(),
            defaults,
            event,
            limits: self.limits(),
            cors: self.cors(),
            admin: Admin {
                token: self.token(),
            },
            polling: self.polling(),
            log: self.log(),
        }
    }

    fn server(&mut self) -> Server {
        let d = Server::default();
        let workers = self.take("server.workers", 0, whole(0..=1024));
        Server {
            listen: self.take("server.listen", d.listen, address),
            admin_listen: self.take("server.admin_listen", d.admin_listen, address_or_off),
            workers: NonZeroUsize::new(workers as usize),
            drain_timeout: self.take("server.drain_timeout", d.drain_timeout, span(ms(0)..=DAY)),
        }
    }

    fn store(&mut self) -> Store {
        let d = Store::default();
        let kinds = [
            ("embedded", StoreKind::Embedded),
            ("redis", StoreKind::Redis),
        ];
        let fsyncs = [
            ("always", Fsync::Always),
            ("interval", Fsync::Interval),
            ("never", Fsync::Never),
        ];
        let often = span(ms(1)..=ms(60_000));
        let starts = [("wait", StoreStart::Wait), ("serve", StoreStart::Serve)];
        Store {
            kind: self.take("store.kind", d.kind, choice(&kinds)),
            path: self.take("store.path", d.path, path),
            fsync: self.take("store.fsync", d.fsync, choice(&fsyncs)),
            fsync_interval: self.take("store.fsync_interval", d.fsync_interval, often),
            start: self.take("store.start", d.start, choice(&starts)),
        }
    }

    fn redis(&mut self) -> Redis {
        let d = Redis::default();
        let modes = [
            ("auto", RedisMode::Auto),
            ("cluster", RedisMode::Cluster),
            ("single", RedisMode::Single),
        ];
        Redis {
            urls: self.take("redis.urls", d.urls, redis_urls),
            mode: self.take("redis.mode", d.mode, choice(&modes)),
            user: self.take("redis.user", d.user, optional_text),
            password: self.secret(&["redis", "password"]).map(Secret::new),
            ca: self.take("redis.ca", d.ca, optional_path),
        }
    }

    fn fleet(&mut self) -> Fleet {
        let d = Fleet::default();
        let skew = span(ms(1)..=ms(60_000));
        let limit = span(ms(10_000)..=ms(3_600_000));
        Fleet {
            node: NodeId(self.take("fleet.node", 0, whole(0..=1022)) as u16),
            size: NonZeroU16::new(self.take("fleet.size", 1, whole(1..=1023)) as u16)
                .unwrap_or(d.size),
            max_clock_skew: self.take("fleet.max_clock_skew", d.max_clock_skew, skew),
            share_limit: self.take("fleet.share_limit", d.share_limit, limit),
        }
    }

    fn journal(&mut self) -> Journal {
        let d = Journal::default();
        let acks = [("memory", Ack::Memory), ("durable", Ack::Durable)];
        let flush = span(ms(1)..=ms(10_000));
        let lag = span(ms(10)..=ms(60_000));
        let stale = span(ms(100)..=DAY);
        Journal {
            flush_interval: self.take("journal.flush_interval", d.flush_interval, flush),
            batch_records: self.nonzero("journal.batch_records", d.batch_records, 65_536),
            ack: self.take("journal.ack", d.ack, choice(&acks)),
            max_records: self.nonzero("journal.max_records", d.max_records, 1_000_000_000),
            lag: self.take("journal.lag", d.lag, lag),
            stale_after: self.take("journal.stale_after", d.stale_after, stale),
        }
    }

    fn events_section(&mut self) -> Events {
        let d = Events::default();
        Events {
            create_on_demand: self.take("events.create_on_demand", d.create_on_demand, flag),
            max_events: self.nonzero("events.max_events", d.max_events, 1_000_000),
        }
    }

    fn limits(&mut self) -> Limits {
        let d = Limits::default();
        let bytes = |low, high| move |value: &Value| whole(low..=high)(value).map(|n| n as usize);
        let patience = || span(ms(100)..=ms(3_600_000));
        let joins = self.take("limits.joins_per_second", 0, whole(0..=100_000_000));
        Limits {
            body_bytes: self.take("limits.body_bytes", d.body_bytes, bytes(256, 1 << 24)),
            url_bytes: self.take("limits.url_bytes", d.url_bytes, bytes(256, 1 << 20)),
            header_bytes: self.take("limits.header_bytes", d.header_bytes, bytes(8192, 1 << 20)),
            headers: self.take("limits.headers", d.headers, bytes(8, 1000)),
            connections: self.take("limits.connections", d.connections, bytes(1, 10_000_000)),
            header_read_timeout: self.take(
                "limits.header_read_timeout",
                d.header_read_timeout,
                patience(),
            ),
            idle_timeout: self.take("limits.idle_timeout", d.idle_timeout, patience()),
            body_read_timeout: self.take(
                "limits.body_read_timeout",
                d.body_read_timeout,
                patience(),
            ),
            joins_per_second: NonZeroU32::new(joins),
        }
    }

    fn cors(&mut self) -> Cors {
        let d = Cors::default();
        Cors {
            origins: self.take("cors.origins", d.origins, origins),
            max_age: self.take("cors.max_age", d.max_age, span(ms(0)..=DAY)),
            credentials: self.take("cors.credentials", d.credentials, flag),
        }
    }

    fn polling(&mut self) -> Polling {
        let d = Polling::default();
        let pause = || span(ms(50)..=ms(3_600_000));
        Polling {
            min: self.take("polling.min", d.min, pause()),
            max: self.take("polling.max", d.max, pause()),
        }
    }

    fn log(&mut self) -> Log {
        let d = Log::default();
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let filter = |value: &Value| {
            value
                .text()
                .and_then(|text| LogFilter::new(&text).ok())
                .ok_or_else(|| {
                    "a level (error, warn, info, debug, trace, off) or a filter such as \
                 \"info,tidegate::journal=debug\""
                        .to_owned()
                })
        };
        Log {
            level: self.take("log.level", d.level, filter),
            format: self.take("log.format", d.format, choice(&formats)),
        }
    }

    fn token(&mut self) -> Option<Secret> {
        let token = self.secret(&["admin", "token"])?;
        let fits = token.len() >= TOKEN_CHARS_MIN && token.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            self.mistake_at(
                &["admin", "token"],
                Some(HIDDEN),
                Why::Allowed(format!(
                    "a token of at least {TOKEN_CHARS_MIN} printable characters without spaces"
                )),
            );
        }
        Some(Secret::new(token))
    }

    fn keys(&mut self) -> Option<KeySet> {
        let active = self.take("keys.active", "k1".to_owned(), |value| {
            let name = value.text().unwrap_or_default();
            key_name(&name).map(|()| name)
        });
        let (given_ticket, ticket) = self.key_table("ticket");
        let (given_pass, pass) = self.key_table("pass");
        if !given_ticket && !given_pass {
            return None;
        }
        for table in ["ticket", "pass"] {
            let named = self
                .written
                .leaves
                .contains_key(&parts(&["keys", table, &active]));
            if !named && !self.wrong.contains("keys.active") {
                let why = Why::Allowed(format!("the name of a key in [keys.{table}]"));
                self.mistake_at(&["keys", "active"], Some(&format!("{active:?}")), why);
            }
        }
        Some(KeySet {
            active,
            ticket,
            pass,
        })
    }

    /// Whether the table has any key, and its good ones.
    fn key_table(&mut self, table: &str) -> (bool, BTreeMap<String, Secret<[u8; 32]>>) {
        let under = |path: &&Vec<String>| path.len() == 3 && path[0] == "keys" && path[1] == table;
        let names: Vec<String> = self
            .written
            .leaves
            .keys()
            .filter(under)
            .map(|path| path[2].clone())
            .collect();
        let mut keys = BTreeMap::new();
        for name in &names {
            let path = ["keys", table, name];
            if let Err(allowed) = key_name(name) {
                self.mistake_at(
                    &path,
                    None,
                    Why::Other(format!("the name must be {allowed}")),
                );
            }
            let Some(text) = self.secret(&path) else {
                if !self.wrong.contains(&dotted(&parts(&path))) {
                    self.mistake_at(&path, None, Why::Other("the key is empty".to_owned()));
                }
                continue;
            };
            match key_bytes(&text) {
                Ok(bytes) => {
                    keys.insert(name.clone(), Secret::new(bytes));
                }
                Err(allowed) => self.mistake_at(&path, Some(HIDDEN), Why::Allowed(allowed)),
            }
        }
        (!names.is_empty(), keys)
    }

    fn events(&mut self, defaults: &Policy) -> BTreeMap<EventId, Policy> {
        let mut event = BTreeMap::new();
        for (name, origin) in &self.written.events {
            match EventId::new(name) {
                Ok(id) => {
                    event.insert(id, self.policy("event", Some(name), defaults));
                }
                Err(error) => self.mistakes.push(Mistake {
                    given: Given {
                        field: format!("event.{name:?}"),
                        value: None,
                        origin: origin.clone(),
                    },
                    why: Why::Other(error.to_string()),
                }),
            }
        }
        event
    }

    /// The policy that `[defaults]` or `[event."…"]` makes of `base`.
    fn policy(&mut self, section: &str, event: Option<&str>, base: &Policy) -> Policy {
        let full = |field: &str| {
            let mut path = vec![section.to_owned()];
            path.extend(event.map(str::to_owned));
            path.push(field.to_owned());
            path
        };
        let mut patch = PolicyPatch::default();
        let mut found = Vec::new();
        for field in POLICY_FIELDS {
            if let Some(leaf) = self.written.leaves.get(&full(field))
                && let Err(mistake) = patch.set(field, &leaf.value.scalar())
            {
                self.wrong.insert(dotted(&full(field)));
                found.push(mistake);
            }
        }
        let policy = patch.over(base);
        found.extend(policy.check());
        for mistake in found {
            let (field, value, why) = match mistake {
                PolicyMistake::Value {
                    field,
                    value,
                    allowed,
                } => (field, value, Why::Allowed(allowed)),
                PolicyMistake::Relation {
                    field,
                    value,
                    rule,
                    other,
                    other_value,
                } => {
                    let other = self.given(&full(other), event, Some(other_value));
                    (field, value, Why::Relation { rule, other })
                }
                other => ("", String::new(), Why::Other(other.to_string())),
            };
            // What an event inherits is told where it was written, once.
            let own = |field: &str| self.written.leaves.contains_key(&full(field));
            let theirs = match &why {
                Why::Relation { other, .. } => other.origin != Origin::Default,
                _ => false,
            };
            if event.is_some() && !own(field) && !theirs {
                continue;
            }
            let given = self.given(&full(field), event, Some(value));
            self.wrong.insert(given.field.clone());
            self.mistakes.push(Mistake { given, why });
        }
        policy
    }
}
