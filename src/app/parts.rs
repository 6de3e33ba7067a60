//! The parts that the configuration asks for: store, keys, journal limits, room settings.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::RunError;
use crate::clock::Clock;
use crate::config::{Ack, Config, Fsync, KeySet, Origins, RedisMode, Secret, StoreKind};
use crate::http;
use crate::journal::lane::Limits;
use crate::model::Micros;
use crate::model::pass::PassKeys;
use crate::model::token::TicketKeys;
use crate::room::Settings;
use crate::store::embedded::{self, Embedded};
use crate::store::redis::{self, Redis};
use crate::store::{Store, StoreClock};

/// Partitions of a store that is used for the first time.
pub const PARTITIONS: u16 = redis::PARTITIONS;
/// A change that nobody is in a hurry to hear of waits this long, or half of `journal.lag`.
const PATIENCE: Duration = Duration::from_millis(200);
/// A batch holds about this many bytes at most.
const BATCH_BYTES: usize = 256 << 10;

/// The name of the key that development keys are known by.
const DEV_KEY: &str = "dev";

/// What signs tokens and passes.
pub type Keys = (TicketKeys, PassKeys);

/// The store, and keys to go with it.
pub fn store_and_keys(config: &Config, clock: &Clock) -> Result<(Arc<dyn Store>, Keys), RunError> {
    match config.store.kind {
        StoreKind::Embedded => {
            let store = Embedded::open(&config.store.path, settings(config), store_clock(clock))?;
            let keys = match &config.keys {
                Some(keys) => given(keys)?,
                None => development(&store)?,
            };
            Ok((Arc::new(store), keys))
        }
        StoreKind::Redis => {
            let keys = given(config.keys.as_ref().ok_or(RunError::NoKeys)?)?;
            Ok((Arc::new(Redis::new(redis_settings(config)?)), keys))
        }
    }
}

fn store_clock(clock: &Clock) -> StoreClock {
    let clock = clock.clone();
    Arc::new(move || Micros(clock.now_micros()))
}

/// Removals are remembered for the longest that any event's tickets live.
fn keep_removed(config: &Config) -> Duration {
    let ttls = config.event.values().map(|policy| policy.ticket_ttl);
    let longest = ttls.chain([config.defaults.ticket_ttl]).max();
    longest.unwrap_or_default()
}

/// How the store on Redis is to be reached.
///
/// # Errors
/// The file of certificate authorities cannot be read.
pub fn redis_settings(config: &Config) -> Result<redis::Settings, RunError> {
    let from = &config.redis;
    let addresses = from.urls.iter().map(|url| redis::Address {
        host: url.host.clone(),
        port: url.port,
    });
    Ok(redis::Settings {
        addresses: addresses.collect(),
        // All are, or none is.
        tls: from.urls.iter().any(|url| url.tls),
        ca: from.ca_pem().map_err(RunError::RedisCa)?,
        mode: match from.mode {
            RedisMode::Auto => redis::Mode::Auto,
            RedisMode::Cluster => redis::Mode::Cluster,
            RedisMode::Single => redis::Mode::Single,
        },
        user: from.user.clone(),
        password: from.password.as_ref().map(|secret| secret.reveal().clone()),
        keep_removed: keep_removed(config),
        ..redis::Settings::default()
    })
}

fn settings(config: &Config) -> embedded::Settings {
    embedded::Settings {
        fsync: match config.store.fsync {
            Fsync::Always => embedded::Fsync::Always,
            Fsync::Interval => embedded::Fsync::Interval,
            Fsync::Never => embedded::Fsync::Never,
        },
        fsync_interval: config.store.fsync_interval,
        keep_removed: keep_removed(config),
        ..embedded::Settings::default()
    }
}

fn given(keys: &KeySet) -> Result<Keys, RunError> {
    let named = |(name, secret): (&String, &Secret<[u8; 32]>)| (name.clone(), *secret.reveal());
    let ticket: Vec<_> = keys.ticket.iter().map(named).collect();
    let pass: Vec<_> = keys.pass.iter().map(named).collect();
    Ok((
        TicketKeys::new(&keys.active, &ticket)?,
        PassKeys::new(&keys.active, &pass)?,
    ))
}

fn development(store: &Embedded) -> Result<Keys, RunError> {
    tracing::warn!(
        "no keys configured: using development keys kept with the store; set [keys] before a real sale"
    );
    let secret = |name: &str| -> Result<Vec<(String, [u8; 32])>, RunError> {
        Ok(vec![(DEV_KEY.to_owned(), store.dev_secret(name)?)])
    };
    let ticket = TicketKeys::new(DEV_KEY, &secret("ticket")?)?;
    Ok((ticket, PassKeys::new(DEV_KEY, &secret("pass")?)?))
}

/// How much the journal holds, and when it cuts a batch.
pub fn limits(config: &Config) -> Limits {
    Limits {
        records_max: config.journal.max_records.get() as usize,
        batch_records: config.journal.batch_records.get() as usize,
        batch_bytes: BATCH_BYTES,
        flush_interval: config.journal.flush_interval,
        patient_interval: PATIENCE
            .min(config.journal.lag / 2)
            .max(config.journal.flush_interval),
        tail_records: tail(config),
    }
}

/// Records that a lane keeps of what the store acknowledged: an eighth of the journal over all lanes,
/// for a store that may lose them.
fn tail(config: &Config) -> usize {
    match config.store.kind {
        StoreKind::Embedded => 0,
        StoreKind::Redis => config.journal.max_records.get() as usize / 8 / usize::from(PARTITIONS),
    }
}

/// What of the configuration the room may see change.
pub fn room_settings(config: &Config) -> Settings {
    Settings {
        defaults: config.defaults.clone(),
        events: config.event.clone(),
        create_on_demand: config.events.create_on_demand,
        polling: (config.polling.min, config.polling.max),
    }
}

/// What of the configuration the listeners go by.
pub fn http_settings(config: &Config) -> http::Settings {
    let limits = &config.limits;
    http::Settings {
        limits: http::Limits {
            body_bytes: limits.body_bytes,
            url_bytes: limits.url_bytes,
            header_bytes: limits.header_bytes,
            headers: limits.headers,
            connections: limits.connections,
            header_read_timeout: limits.header_read_timeout,
            idle_timeout: limits.idle_timeout,
            body_read_timeout: limits.body_read_timeout,
            joins_per_second: limits.joins_per_second.map_or(0, NonZeroU32::get),
        },
        cors: http::Cors {
            origins: match &config.cors.origins {
                Origins::Any => vec!["*".to_owned()],
                Origins::Listed(origins) => origins.clone(),
            },
            max_age: config.cors.max_age,
            credentials: config.cors.credentials,
        },
        admin_token: config
            .admin
            .token
            .as_ref()
            .map(|token| token.reveal().clone()),
        durable_joins: config.journal.ack == Ack::Durable,
        drain_timeout: config.server.drain_timeout,
    }
}
