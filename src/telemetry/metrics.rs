//! Every metric: its name, unit and help in one list, and the counters that requests touch.
//!
//! Counting is an atomic addition or two (2–5 ns); everything dear happens at a scrape. Values that
//! others own (the journal, the lines) are read at a scrape through a [`Source`].

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its exposed name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name; counters are exposed with `_total` behind it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The unit of its value.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident = $name:literal, $kind:ident, $unit:literal, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $ident: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// Every metric there is.
        pub const ALL: &[&Metric] = &[$(&$ident),*];
    };
}

metrics! {
    REQUESTS = "tidegate_http_requests", Counter, "requests", ["route", "class"],
        "Requests answered, by route and class of status";
    LATENCY = "tidegate_http_request_duration_seconds", Histogram, "seconds", ["route"],
        "From the end of a request's head to its answer, without the network";
    UNPARSABLE = "tidegate_http_unparsable_requests", Counter, "requests", [],
        "Requests refused before they could be understood, slow ones included";
    CONNECTIONS = "tidegate_http_connections", Gauge, "connections", [],
        "Open connections, all listeners";
    CONNECTIONS_PARKED = "tidegate_http_connections_parked", Gauge, "connections", [],
        "Open connections that hold no buffers: between requests, or with nothing but polls";
    CONNECTIONS_REFUSED = "tidegate_http_connections_refused", Counter, "connections", [],
        "Connections turned away because the limit was reached";
    LOCK_WAITS = "tidegate_lock_wait_duration_seconds", Histogram, "seconds", [],
        "How long threads waited for each other; polls take no lock";
    CACHE_HITS = "tidegate_repeat_cache_hits", Counter, "answers", [],
        "Polls before they were due, answered from the cache";
    CACHE_MISSES = "tidegate_repeat_cache_misses", Counter, "answers", [],
        "Polls before they were due, answered afresh";
    TOKENS_REFUSED = "tidegate_tokens_refused", Counter, "requests", ["cause"],
        "Tokens that showed nothing: unknown (or forged), gone, oversized";
    TOKENS_FORGED = "tidegate_tokens_forged", Counter, "tokens", [],
        "Tokens whose signature did not hold";
    JOINS_REFUSED = "tidegate_joins_refused", Counter, "requests", ["cause"],
        "Joins refused, by the code of the answer";
    JOURNAL_RECORDS = "tidegate_journal_records", Gauge, "records", [],
        "Records that the store has not acknowledged";
    JOURNAL_AGE = "tidegate_journal_age_seconds", Gauge, "seconds", [],
        "Age of the oldest record that the store has not acknowledged";
    STORE_UP = "tidegate_store_up", Gauge, "", [],
        "1 while the store answers, 0.5 while it is degraded, 0 while it is down";
    STORE_CIRCUIT = "tidegate_store_circuit", Gauge, "", [],
        "0 while the store is asked, 1 while it is left alone after failures, 0.5 while it is tried";
    STORE_FAILED = "tidegate_store_calls_failed", Counter, "calls", [],
        "Calls of the store that failed or were not answered in time";
    FEED_LAG = "tidegate_feed_lag_seconds", Gauge, "seconds", [],
        "How far behind the other nodes this node's view is";
    PEER_LAG = "tidegate_peer_lag_seconds", Gauge, "seconds", ["node"],
        "How old the last batch of another node was when it was heard, by node";
    SHARING = "tidegate_events_shared", Gauge, "events", [],
        "Events in which this node calls and lets in at its share of the rate, without the store";
    NODES_LIVE = "tidegate_fleet_nodes_live", Gauge, "nodes", [],
        "Nodes of the fleet that said lately that they live, this one included";
    NUMBER_TAKEN = "tidegate_fleet_number_taken", Gauge, "", [],
        "1 while another live process has this node's number";
    CLOCKS_OFF = "tidegate_clocks_off", Counter, "batches", [],
        "Batches of nodes whose clock is ahead by more than max_clock_skew";
    CLOCK_JUMPS = "tidegate_clock_jumps_refused", Counter, "jumps", [],
        "Readings of the wall clock that were refused as jumps";
    LINE_WAITING = "tidegate_line_waiting", Gauge, "tickets", ["event"],
        "Tickets waiting in line";
    LINE_READY = "tidegate_line_ready", Gauge, "tickets", ["event"],
        "Tickets whose turn has come and is open";
    LINE_ACTIVE = "tidegate_line_active", Gauge, "visitors", ["event"],
        "Visitors inside";
    JOINED = "tidegate_joined", Counter, "tickets", ["event"],
        "Tickets that joined on this node since its start";
    ADMITTED = "tidegate_admitted", Counter, "tickets", ["event"],
        "Tickets that entered on this node since its start";
    LEFT = "tidegate_left", Counter, "tickets", ["event"],
        "Tickets that left or expired since the start of this node";
    CALL_RATE = "tidegate_call_rate", Gauge, "turns per second", ["event"],
        "Turns given a second over the last minute";
    ETA_SAMPLES = "tidegate_eta_samples", Counter, "waits", [],
        "Waits that were compared with what was promised at the join";
    ETA_PROMISED = "tidegate_eta_promised_seconds", Counter, "seconds", [],
        "Sum of the waits promised, over the samples";
    ETA_REAL = "tidegate_eta_real_seconds", Counter, "seconds", [],
        "Sum of the waits as they came out, over the samples";
    ETA_ERROR = "tidegate_eta_error_seconds", Counter, "seconds", [],
        "Sum of the differences between promised and real waits, over the samples";
}

/// The upper bounds of the latency buckets, in microseconds.
const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];

/// A value that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more. About 2 ns.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// One more, until the answer is dropped. About 2 ns each way.
    pub fn hold(&self) -> Held<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(self)
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of what a [`Gauge`] counts.
#[derive(Debug)]
pub struct Held<'a>(&'a Gauge);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A distribution of durations over fixed buckets, 50 µs to 5 s.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts a duration. About 5 ns: most answers fall into the first bucket.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US
            .iter()
            .position(|bound| us <= *bound)
            .unwrap_or(BOUNDS_US.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut buckets = Vec::with_capacity(self.buckets.len());
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            let held = bucket.load(Ordering::Relaxed);
            count += held;
            let bound = BOUNDS_US.get(at).map_or(f64::MAX, |us| *us as f64 / 1e6);
            buckets.push((bound, held));
        }
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// How long threads of this process waited for each other, over all locks that an answer may need.
/// Locks that were free at once are not counted.
pub fn lock_waits() -> &'static Histogram {
    static WAITS: LazyLock<Histogram> = LazyLock::new(Histogram::default);
    &WAITS
}

/// A label and its value.
pub type Label = (&'static str, String);

/// A value that somebody else owns, read at a scrape.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Which metric.
    pub metric: &'static Metric,
    /// Its label, if it has one.
    pub label: Option<Label>,
    /// The value; counters are cut to whole numbers.
    pub value: f64,
}

/// Reads the values that others own. Called at each scrape, by one scrape at a time.
pub type Source = Box<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// The classes of status that are told apart.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Why a token showed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCause {
    /// Unknown or forged.
    Unknown,
    /// Was in line, is gone.
    Gone,
    /// Longer than any token is.
    Oversized,
}

const TOKEN_CAUSES: [&str; 3] = ["unknown", "gone", "oversized"];

/// The counters that requests touch.
pub struct Metrics {
    /// One row for each route, in the order of `routes`.
    requests: Vec<[Counter; CLASSES.len()]>,
    latency: Vec<Histogram>,
    routes: &'static [&'static str],
    /// Requests refused before they could be understood.
    pub unparsable: Counter,
    /// Open connections, all listeners.
    pub connections: Gauge,
    /// Those of them that hold no buffers.
    pub connections_parked: Gauge,
    /// Connections turned away because the limit was reached.
    pub connections_refused: Counter,
    /// Repeated polls answered from the cache.
    pub cache_hits: Counter,
    /// Repeated polls answered afresh.
    pub cache_misses: Counter,
    tokens_refused: [Counter; TOKEN_CAUSES.len()],
    /// Few and rare, so a lock: from the code of the answer to how often.
    joins_refused: Mutex<Vec<(&'static str, u64)>>,
    source: Mutex<Option<Source>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counters for these routes, all at 0.
    pub fn new(routes: &'static [&'static str]) -> Self {
        Self {
            requests: routes.iter().map(|_| Default::default()).collect(),
            latency: routes.iter().map(|_| Histogram::default()).collect(),
            routes,
            unparsable: Counter::default(),
            connections: Gauge::default(),
            connections_parked: Gauge::default(),
            connections_refused: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            tokens_refused: Default::default(),
            joins_refused: Mutex::default(),
            source: Mutex::default(),
        }
    }

    /// Sets where the values of others are read from.
    pub fn read_from(&self, source: Source) {
        *self.source.lock() = Some(source);
    }

    /// Counts an answer of the `route`-th route. About 10 ns.
    pub fn answered(&self, route: usize, status: u16, took: Duration) {
        let class = usize::from((status / 100).clamp(2, 5)) - 2;
        if let Some(row) = self.requests.get(route) {
            row[class].inc();
        }
        if let Some(latency) = self.latency.get(route) {
            latency.observe(took);
        }
    }

    /// Counts a token that showed nothing.
    pub fn token_refused(&self, cause: TokenCause) {
        self.tokens_refused[cause as usize].inc();
    }

    /// Counts a refused join by the code of its answer.
    pub fn join_refused(&self, code: &'static str) {
        let mut causes = self.joins_refused.lock();
        match causes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => causes.push((code, 1)),
        }
    }

    /// Everything as OpenMetrics text.
    pub fn render(self: &Arc<Self>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(self)));
        let mut out = String::with_capacity(16 * 1024);
        // Writing to a string does not fail.
        let _ = text::encode(&mut out, &registry);
        out
    }

    fn encode_all(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_routes(encoder)?;
        let singles = [
            (&UNPARSABLE, &self.unparsable),
            (&CONNECTIONS_REFUSED, &self.connections_refused),
            (&CACHE_HITS, &self.cache_hits),
            (&CACHE_MISSES, &self.cache_misses),
        ];
        for (metric, counter) in singles {
            counted(&mut describe(encoder, metric)?, counter.get())?;
        }
        lock_waits().encode(describe(encoder, &LOCK_WAITS)?)?;
        describe(encoder, &CONNECTIONS)?.encode_gauge(&self.connections.get())?;
        describe(encoder, &CONNECTIONS_PARKED)?.encode_gauge(&self.connections_parked.get())?;
        let mut tokens = describe(encoder, &TOKENS_REFUSED)?;
        for (cause, counter) in TOKEN_CAUSES.iter().zip(&self.tokens_refused) {
            counted(
                &mut tokens.encode_family(&[("cause", *cause)])?,
                counter.get(),
            )?;
        }
        let mut joins = describe(encoder, &JOINS_REFUSED)?;
        for (cause, count) in self.joins_refused.lock().iter() {
            counted(&mut joins.encode_family(&[("cause", *cause)])?, *count)?;
        }
        self.encode_samples(encoder)
    }

    fn encode_routes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut requests = describe(encoder, &REQUESTS)?;
        for (route, row) in self.routes.iter().zip(&self.requests) {
            for (class, counter) in CLASSES.iter().zip(row) {
                let labels = [("route", *route), ("class", *class)];
                counted(&mut requests.encode_family(&labels)?, counter.get())?;
            }
        }
        let mut latency = describe(encoder, &LATENCY)?;
        for (route, histogram) in self.routes.iter().zip(&self.latency) {
            histogram.encode(latency.encode_family(&[("route", *route)])?)?;
        }
        Ok(())
    }

    fn encode_samples(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut samples = self
            .source
            .lock()
            .as_ref()
            .map_or_else(Vec::new, |source| source());
        // The text form wants all samples of a metric together.
        samples.sort_by_key(|sample| sample.metric.name);
        for group in samples.chunk_by(|a, b| a.metric == b.metric) {
            let mut family = describe(encoder, group[0].metric)?;
            for sample in group {
                match &sample.label {
                    Some((name, value)) => sampled(
                        &mut family.encode_family(&[(*name, value.as_str())])?,
                        sample,
                    )?,
                    None => sampled(&mut family, sample)?,
                }
            }
        }
        Ok(())
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_all(&mut encoder)
    }
}

fn describe<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    metric: &'static Metric,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    encoder.encode_descriptor(metric.name, metric.help, None, kind)
}

fn counted(encoder: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

fn sampled(encoder: &mut MetricEncoder<'_>, sample: &Sample) -> fmt::Result {
    match sample.metric.kind {
        Kind::Counter => counted(encoder, sample.value.max(0.0) as u64),
        Kind::Gauge | Kind::Histogram => encoder.encode_gauge(&sample.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_each_and_tell_their_unit() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(metric.name.starts_with("tidegate_"), "{}", metric.name);
            assert_eq!(
                metric.unit == "seconds",
                metric.name.ends_with("_seconds"),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn a_scrape_shows_what_was_counted_and_what_others_own() {
        let metrics = Arc::new(Metrics::new(&["status", "join"]));
        metrics.answered(0, 200, Duration::from_micros(30));
        metrics.answered(0, 404, Duration::from_secs(9));
        metrics.token_refused(TokenCause::Gone);
        metrics.join_refused("QUEUE_FULL");
        let _open = metrics.connections.hold();
        metrics.read_from(Box::new(|| {
            let of = |event: &str, value| Sample {
                metric: &LINE_WAITING,
                label: Some(("event", event.to_owned())),
                value,
            };
            let depth = Sample {
                metric: &JOURNAL_RECORDS,
                label: None,
                value: 3.0,
            };
            vec![of("a", 7.0), depth, of("b", 8.0)]
        }));
        let text = metrics.render();
        for line in [
            "tidegate_http_requests_total{route=\"status\",class=\"2xx\"} 1",
            "tidegate_http_requests_total{route=\"status\",class=\"4xx\"} 1",
            "tidegate_http_request_duration_seconds_bucket{le=\"0.00005\",route=\"status\"} 1",
            "tidegate_http_request_duration_seconds_count{route=\"status\"} 2",
            "tidegate_tokens_refused_total{cause=\"gone\"} 1",
            "tidegate_joins_refused_total{cause=\"QUEUE_FULL\"} 1",
            "tidegate_http_connections 1",
            "tidegate_journal_records 3.0",
            "tidegate_line_waiting{event=\"a\"} 7.0",
            "tidegate_line_waiting{event=\"b\"} 8.0",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
        assert_eq!(text.matches("# TYPE tidegate_line_waiting").count(), 1);
        assert!(text.ends_with("# EOF\n"));
    }
}
