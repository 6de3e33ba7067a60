//! What is asked of the servers before anything is trusted to them.

use redis::Value;

use super::classify::classified;
use super::link::{Link, connect_any};
use super::settings::{Mode, Settings};
use crate::store::StoreError;

const DURING: &str = "open redis";

/// The oldest server whose commands the scripts use.
const VERSION_MIN: (u32, u32) = (6, 2);

/// Connects as the servers say they are, and looks at what they promise.
pub(super) async fn open(settings: &Settings) -> Result<Link, StoreError> {
    if settings.tls {
        // The first one in the process stays; whichever it is will do.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let failed = |error| classified(DURING, error);
    let (mut first, address) = connect_any(settings).await.map_err(failed)?;
    let info: String = redis::cmd("INFO")
        .query_async(&mut first)
        .await
        .map_err(failed)?;
    check_version(field(&info, "redis_version").unwrap_or_default())?;
    let clustered = field(&info, "cluster_enabled") == Some("1");
    match (settings.mode, clustered) {
        (Mode::Single, true) => {
            let message = format!("redis.mode is \"single\", but {address} belongs to a cluster");
            return Err(StoreError::never(DURING, message));
        }
        (Mode::Cluster, false) => {
            let message = format!("redis.mode is \"cluster\", but {address} runs by itself");
            return Err(StoreError::never(DURING, message));
        }
        _ => {}
    }
    let link = if clustered {
        Link::cluster(settings).await
    } else {
        Link::single(settings).await
    };
    let link = link.map_err(failed)?;
    tracing::info!(server = %address, cluster = clustered, "connected to redis");
    warn_of_eviction(&link).await?;
    Ok(link)
}

fn check_version(version: &str) -> Result<(), StoreError> {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let seen = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if seen >= VERSION_MIN {
        return Ok(());
    }
    let (major, minor) = VERSION_MIN;
    let message = format!("redis {version:?} is too old: {major}.{minor} or later is needed");
    Err(StoreError::never(DURING, message))
}

/// A server that evicts deletes people from the line without a word.
async fn warn_of_eviction(link: &Link) -> Result<(), StoreError> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let answers = link.masters(info).await;
    for (server, answer) in answers.map_err(|error| classified(DURING, error))? {
        let Value::BulkString(text) = answer else {
            continue;
        };
        let text = String::from_utf8_lossy(&text);
        let policy = field(&text, "maxmemory_policy").unwrap_or("unknown");
        if policy != "noeviction" {
            tracing::error!(
                server,
                policy,
                "redis may evict keys: people will vanish from the line; set maxmemory-policy noeviction"
            );
        }
    }
    Ok(())
}

/// A line of what `INFO` says.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(value).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_version() {
        for (version, fits) in [
            ("6.0.16", false),
            ("6.2.0", true),
            ("7.0.15", true),
            ("", false),
        ] {
            assert_eq!(check_version(version).is_ok(), fits, "{version}");
        }
        let error = check_version("6.0.16").unwrap_err().to_string();
        assert_eq!(
            error,
            "open redis: redis \"6.0.16\" is too old: 6.2 or later is needed"
        );
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(field(info, "maxmemory_policy"), Some("noeviction"));
        assert_eq!(field(info, "maxmemory"), Some("0"));
        assert_eq!(field(info, "max"), None);
    }
}
