//! `tidegate import-legacy`: reads the other gateway's sale and writes it to the configured store.

use super::{RunError, parts};
use crate::clock::Clock;
use crate::config::Config;
use crate::legacy::{Sale, Source, SourceError, Tally, Writer};
use crate::model::{EventId, EventIdError, Micros, Policy, PolicyPatch, Rulings};
use crate::room::Event;
use crate::store::StoreError;

/// What to import.
pub struct Import {
    source: Source,
    events: Vec<EventId>,
    dry_run: bool,
}

/// Why it was ordered wrongly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The other gateway's address is none.
    #[error(transparent)]
    From(#[from] SourceError),
    /// An event's name is none.
    #[error("--event {0:?}: {1}")]
    Event(String, EventIdError),
    /// The certificate authorities of Redis cannot be read.
    #[error("redis.ca cannot be read: {0}")]
    RedisCa(std::io::Error),
}

/// Why it came to nothing, or not to all. Doing it again goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The other gateway's Redis cannot be read.
    #[error("cannot read the other gateway: {0}")]
    Source(#[from] SourceError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] RunError),
    /// The store does not answer.
    #[error("the store took not all of it, import again: {0}")]
    Store(#[from] StoreError),
    /// Nodes would not hold so many.
    #[error(
        "{found} events were found, more than events.max_events ({max}): raise it, or name those to import with --event"
    )]
    TooManyEvents {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
}

impl Import {
    /// Reads from the Redis at `from`, a URL, these events or all.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn new(
        config: &Config,
        from: &str,
        events: &[String],
        dry_run: bool,
    ) -> Result<Self, OrderError> {
        let named = |name: &String| {
            EventId::new(name).map_err(|error| OrderError::Event(name.clone(), error))
        };
        let ca = config.redis.ca_pem().map_err(OrderError::RedisCa)?;
        Ok(Self {
            source: Source::new(from, ca)?,
            events: events.iter().map(named).collect::<Result<_, _>>()?,
            dry_run,
        })
    }

    /// Does it, and answers a report for people. A dry run asks nothing of the configured store.
    ///
    /// # Errors
    /// A server or the store does not answer. What was written stays, and does no harm.
    pub async fn run(self, config: &Config) -> Result<String, ImportError> {
        let clock = Clock::real(config.fleet.max_clock_skew);
        let mut sale = Sale::of(self.events);
        self.source.read(&mut sale, &clock).await?;
        let (found, max) = (sale.events().len(), config.events.max_events.get() as usize);
        if found > max {
            return Err(ImportError::TooManyEvents { found, max });
        }
        let now = Micros(clock.now_micros());
        if self.dry_run {
            return Ok(format!("{}{DRY}", sale.tally(now)));
        }
        let (store, keys) = parts::store_and_keys(config, &clock)?;
        let partitions = store.meta(parts::PARTITIONS).await?.partitions;
        let rulings = store.rulings(0).await?.unwrap_or_default();
        let writer = Writer {
            store: store.as_ref(),
            keys: &keys.0,
            clock: &clock,
        };
        let written = writer.write(&sale, partitions, &rulings).await;
        store.close().await?;
        // No node runs over another kind of store meanwhile.
        let open = match store.is_shared() {
            true => open_events(config, &rulings, &sale, now),
            false => Vec::new(),
        };
        Ok(report(&written?, &open))
    }
}

const DRY: &str = "\nA dry run: nothing was written, and the store was not asked what it has.\n";

/// The events that give turns now, to people who may not be here yet.
fn open_events<'a>(
    config: &Config,
    rulings: &Rulings,
    sale: &'a Sale,
    now: Micros,
) -> Vec<&'a EventId> {
    let is_open = |event: &&EventId| {
        let base = config.event.get(*event).unwrap_or(&config.defaults);
        let patch = rulings.events.get(*event).and_then(|r| r.patch.as_deref());
        // One that cannot be read is not applied by nodes either.
        let patch = patch.and_then(|text| serde_json::from_str::<PolicyPatch>(text).ok());
        let policy: Policy = patch.map_or_else(|| base.clone(), |patch| patch.over(base));
        !policy.paused && Event::is_open(&policy, now)
    };
    sale.events().iter().filter(is_open).collect()
}

fn report(tally: &Tally, open: &[&EventId]) -> String {
    let mut report = tally.to_string();
    let longest = tally.longest();
    if let Some(first) = open.first() {
        let events = open.len();
        report += &format!(
            "\nTurns are given in {events} of these events, such as {first}. Pause them while their visitors\n\
             still ask the other gateway, or turns go to people who are not here yet.\n"
        );
    }
    if let Some((event, _)) = longest {
        report += &format!(
            "\nTo verify: the other gateway's tokens answer in the order of its own index, as in\n  \
             redis-cli ZRANGE 'position_index:{{{event}}}' 0 9\n  \
             curl -s 'http://{{node}}/api/v1/queue/status?token={{token}}'\n\
             Import again at the switch, when the other gateway takes no more requests: only the\n\
             difference is written.\n"
        );
    }
    report
}
