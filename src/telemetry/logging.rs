//! Logs: structured lines on standard error, as text or JSON.

use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// What is logged: a level, or directives such as `info,tidegate::journal=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// Checks and keeps `text`, which is not empty.
    pub fn new(text: &str) -> Result<Self, LogFilterError> {
        if text.trim().is_empty() {
            return Err(LogFilterError("it is empty".to_owned()));
        }
        // A lone word that is no level would be taken for a module's name and silence everything.
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        for part in text.split(',').map(str::trim) {
            let named = part.contains(['=', ':', '[']) || part.starts_with("tidegate");
            if !named && !levels.contains(&part.to_ascii_lowercase().as_str()) {
                return Err(LogFilterError(format!("{part:?} is no level")));
            }
        }
        EnvFilter::builder()
            .parse(text)
            .map_err(|error| LogFilterError(error.to_string()))?;
        Ok(Self(text.to_owned()))
    }

    fn build(&self) -> EnvFilter {
        // Checked by `new`; lossy parsing would only skip what that refused.
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

/// `info`
impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no log filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a log filter: {0}")]
pub struct LogFilterError(String);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line, the event's fields at its top.
    Json,
}

/// Changes the filter while the process runs.
#[derive(Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// From now on, logs what `filter` says.
    pub fn set(&self, filter: &LogFilter) {
        // It fails only when the subscriber is gone, and then nobody logs.
        let _ = self.0.reload(filter.build());
    }
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
#[error("logging was started before: {0}")]
pub struct LogStartError(#[from] tracing_subscriber::util::TryInitError);

/// Sends this process's logs to standard error. Call it once.
pub fn start(filter: &LogFilter, format: LogFormat) -> Result<LogHandle, LogStartError> {
    let (filter, handle) = reload::Layer::new(filter.build());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(LogHandle(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked_when_made() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,tidegate::journal=debug",
            "warn,hyper=info",
        ] {
            assert!(LogFilter::new(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "inof", "info,debg", "tidegate=loud", "=="] {
            assert!(LogFilter::new(bad).is_err(), "{bad}");
        }
    }
}
