//! What is asked of the servers before anything is trusted to them.

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::classify::classified;
use super::layout::{field, is_clustered, layout};
use super::link::{Link, connect, connect_any};
use super::settings::{Address, Mode, Settings};
use crate::store::StoreError;

const DURING: &str = "open redis";

/// The oldest server whose commands the scripts use.
pub const VERSION_MIN: (u32, u32) = (6, 2);

/// Connects as the servers say they are, and looks at what they promise.
pub(super) async fn open(settings: &Settings) -> Result<Link, StoreError> {
    tls(settings);
    let failed = |error| classified(DURING, error);
    let (mut first, address) = connect_any(settings).await.map_err(failed)?;
    let info: String = redis::cmd("INFO")
        .query_async(&mut first)
        .await
        .map_err(failed)?;
    check_version(field(&info, "redis_version").unwrap_or_default())?;
    let clustered = is_clustered(&info);
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
    tokio::spawn(warn_of_eviction(settings.clone(), first, address, info));
    Ok(link)
}

/// Makes sure that there is cryptography to speak TLS with, if that is to be spoken.
pub(super) fn tls(settings: &Settings) {
    if settings.tls {
        // The first one in the process stays; whichever it is will do.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

/// Whether a server of this version has all commands that are needed.
pub fn is_known(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= VERSION_MIN
}

fn check_version(version: &str) -> Result<(), StoreError> {
    if is_known(version) {
        return Ok(());
    }
    let (major, minor) = VERSION_MIN;
    let message = format!("redis {version:?} is too old: {major}.{minor} or later is needed");
    Err(StoreError::never(DURING, message))
}

/// A server that evicts deletes people from the line without a word, and so does a replica once it
/// is the master. Not waited for: who does not answer says nothing.
async fn warn_of_eviction(
    settings: Settings,
    mut first: MultiplexedConnection,
    address: Address,
    info: String,
) {
    let layout = match layout(&mut first, &address, &info, settings.tls).await {
        Ok(layout) => layout,
        Err(error) => {
            tracing::warn!(%error, "cannot look whether redis evicts keys");
            return;
        }
    };
    for address in layout.servers() {
        let Ok(mut server) = connect(&settings, address, settings.response_timeout).await else {
            continue;
        };
        let info: RedisResult<String> = redis::cmd("INFO")
            .arg("memory")
            .query_async(&mut server)
            .await;
        let Ok(info) = info else {
            continue;
        };
        if let Some(policy) = field(&info, "maxmemory_policy").filter(|policy| evicts(policy)) {
            tracing::error!(
                server = %address,
                policy,
                "redis may evict keys: people will vanish from the line; set maxmemory-policy noeviction"
            );
        }
    }
}

/// Whether a server with this `maxmemory-policy` may drop keys by itself.
pub fn evicts(policy: &str) -> bool {
    policy != "noeviction"
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
}
