//! What a scrape of the metrics reads from room, journal and store.

use std::sync::Arc;

use super::effects::StoreEffects;
use crate::clock::Clock;
use crate::journal::health::Circuit;
use crate::model::Micros;
use crate::room::Room;
use crate::room::effects::{Effects, StoreHealth};
use crate::telemetry::metrics::{self, Metric, Sample, Source};

/// Reads everything that is not counted by requests themselves.
pub fn source(room: &Arc<Room>, effects: &Arc<StoreEffects>, clock: &Clock) -> Source {
    let (room, effects, clock) = (Arc::clone(room), Arc::clone(effects), clock.clone());
    Box::new(move || {
        let mut samples = of_node(&room, &effects, &clock);
        samples.extend(room.peer_lags().into_iter().map(|(node, lag)| Sample {
            metric: &metrics::PEER_LAG,
            label: Some(("node", node.0.to_string())),
            value: lag.as_secs_f64(),
        }));
        for event in room.stats() {
            let name = event.event.to_string();
            let values = [
                (&metrics::LINE_WAITING, event.waiting as f64),
                (&metrics::LINE_READY, event.ready as f64),
                (&metrics::LINE_ACTIVE, event.active as f64),
                (&metrics::JOINED, event.joined as f64),
                (&metrics::ADMITTED, event.entered as f64),
                (&metrics::LEFT, event.left as f64),
                (&metrics::CALL_RATE, event.calls_per_sec),
            ];
            samples.extend(values.into_iter().map(|(metric, value)| Sample {
                metric,
                label: Some(("event", name.clone())),
                value,
            }));
        }
        samples
    })
}

fn of_node(room: &Room, effects: &StoreEffects, clock: &Clock) -> Vec<Sample> {
    let plain = |metric: &'static Metric, value| Sample {
        metric,
        label: None,
        value,
    };
    let up = match effects.health() {
        StoreHealth::Up => 1.0,
        StoreHealth::Degraded => 0.5,
        StoreHealth::Down => 0.0,
    };
    let circuit = match effects.health.circuit() {
        Circuit::Closed { .. } => 0.0,
        Circuit::HalfOpen { .. } => 0.5,
        Circuit::Open { .. } => 1.0,
    };
    let (samples, promised, real, off) = room.promises().totals();
    let now = Micros(clock.now_micros());
    let age = room.journal().age(now);
    let nodes = effects.nodes();
    let live = nodes.beats.iter().filter(|beat| beat.is_live(now)).count();
    vec![
        plain(&metrics::NODES_LIVE, live as f64),
        plain(
            &metrics::NUMBER_TAKEN,
            f64::from(u8::from(nodes.number_taken)),
        ),
        plain(&metrics::JOURNAL_RECORDS, room.journal().depth() as f64),
        plain(&metrics::JOURNAL_AGE, age.as_secs_f64()),
        plain(&metrics::STORE_UP, up),
        plain(&metrics::STORE_CIRCUIT, circuit),
        plain(&metrics::STORE_FAILED, effects.health.failed_total() as f64),
        plain(&metrics::FEED_LAG, room.feed_lag(now).as_secs_f64()),
        plain(&metrics::SHARING, room.sharing() as f64),
        plain(&metrics::CLOCKS_OFF, room.clocks_off() as f64),
        plain(&metrics::CLOCK_JUMPS, clock.jumps_refused() as f64),
        plain(&metrics::TOKENS_FORGED, room.forged() as f64),
        plain(&metrics::ETA_SAMPLES, samples as f64),
        plain(&metrics::ETA_PROMISED, promised),
        plain(&metrics::ETA_REAL, real),
        plain(&metrics::ETA_ERROR, off),
    ]
}
