//! `tidegate doctor`: looks at what a configuration leads to, and says what to mend before a sale.
//!
//! Stores gather facts ([`redis::survey`], [`embedded::survey`]); the functions here judge them and
//! do nothing else. Nothing lasting is written.

mod configured;
mod contents;
mod finding;
mod folder;
mod keeping;
mod reach;
#[cfg(test)]
mod tests;
mod topology;
mod words;

use std::sync::Arc;

use crate::app::redis_settings;
use crate::clock::Clock;
use crate::config::{Config, StoreKind};
use crate::model::Micros;
use crate::store::{embedded, redis};

pub use finding::{Finding, Level, Report};

/// Looks at the store that `config` names, for a sale to so many visitors: as many as may wait in
/// an event, unless said otherwise.
pub async fn examine(config: &Config, visitors: Option<u64>) -> Report {
    let visitors = visitors.unwrap_or_else(|| {
        let events = config.event.values().chain([&config.defaults]);
        events
            .map(|policy| policy.max_waiting.into())
            .max()
            .unwrap_or(0)
    });
    let mut findings = configured::judge(config);
    match config.store.kind {
        StoreKind::Embedded => {
            let seen = embedded::survey(&config.store.path);
            findings.extend(folder::judge(&seen, visitors));
        }
        StoreKind::Redis => {
            let clock = Clock::real(config.fleet.max_clock_skew);
            let clock: crate::store::StoreClock = Arc::new(move || Micros(clock.now_micros()));
            let seen = match redis_settings(config) {
                Ok(settings) => redis::survey(&settings, &clock)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match seen {
                Ok(seen) => findings.extend(judge(&seen, config, visitors)),
                Err(error) => findings.push(topology::unreachable(&error)),
            }
        }
    }
    Report::new(findings)
}

/// What is to be said of a survey.
fn judge(seen: &redis::Survey, config: &Config, visitors: u64) -> Vec<Finding> {
    let mut findings = topology::judge(seen, config);
    findings.extend(keeping::judge(seen, visitors));
    findings.extend(reach::judge(seen, config));
    findings.extend(contents::judge(seen, config));
    findings
}
