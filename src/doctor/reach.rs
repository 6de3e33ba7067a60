//! Whether a node gets at what it needs: clocks, latency, permissions, scripts, connections.

use super::finding::{Finding, Findings};
use super::words::{Wrong, bytes, each, looked_at, servers, set, span, tells};
use crate::config::Config;
use crate::model::micros;
use crate::store::redis::{Address, Server, Survey};

/// Slower answers than this, in microseconds, are worth a look: entering waits for one.
const ROUND_TRIP_MAX: u64 = 10_000;
/// What one answer to a load may be: some ten thousand tickets.
const ANSWER_BYTES: u64 = 16 << 20;

/// Judges how well the servers are reached.
pub fn judge(seen: &Survey, config: &Config) -> Vec<Finding> {
    let mut found = Findings::of("reach");
    clocks(&mut found, seen, config);
    let slowest = looked_at(seen).map(|(_, server)| server.round_trip).max();
    let fine = format!("answers take {} at most", span(slowest.unwrap_or(0)));
    each(
        &mut found,
        looked_at(seen),
        "latency",
        &fine,
        |_, server| {
            (server.round_trip > ROUND_TRIP_MAX).then_some(())?;
            Wrong::warn(
                format!(
                    "takes {} for an answer: entering waits for it",
                    span(server.round_trip)
                ),
                "run nodes near the servers, and see what redis-cli --latency and SLOWLOG GET say",
            )
        },
    );
    permissions(&mut found, seen, config.redis.user.as_deref());
    scripts(&mut found, seen);
    settings(&mut found, seen);
    each(
        &mut found,
        looked_at(seen).filter(tells),
        "idle",
        "idle connections are kept",
        |address, server| {
            let timeout: u64 = server.config("timeout")?.parse().ok()?;
            (timeout > 0).then_some(())?;
            Wrong::warn(
                format!(
                    "cuts connections that are idle for {timeout} s: a call after a lull fails once"
                ),
                set(address, "timeout 0"),
            )
        },
    );
    connections(&mut found, seen, config);
    let fine = "large answers are not cut off";
    each(
        &mut found,
        looked_at(seen).filter(tells),
        "buffers",
        fine,
        buffers,
    );
    found.all()
}

fn clocks(found: &mut Findings, seen: &Survey, config: &Config) {
    let max = micros(config.fleet.max_clock_skew);
    // What the way there and back leaves open is in the server's favour.
    let off = |server: &Server| {
        server
            .ahead
            .unsigned_abs()
            .saturating_sub(server.round_trip / 2)
    };
    let worst = looked_at(seen).map(|(_, server)| off(server)).max();
    let fine = format!(
        "this machine's is within {} of the servers'",
        span(worst.unwrap_or(0))
    );
    each(found, looked_at(seen), "clocks", &fine, |_, server| {
        let off = off(server);
        let side = if server.ahead > 0 {
            "ahead of"
        } else {
            "behind"
        };
        let says = format!("is {} {side} this machine's clock", span(off));
        let advice = "synchronise the clocks (chronyc tracking, timedatectl timesync-status)";
        let skew = span(max);
        if off <= max / 2 {
            None
        } else if off <= max {
            Wrong::warn(
                format!("{says}, and fleet.max_clock_skew is {skew}"),
                advice,
            )
        } else if config.fleet.size.get() > 1 {
            let says = format!("{says}: nodes further apart than {skew} do not follow each other");
            Wrong::fail(says, advice)
        } else {
            Wrong::warn(
                format!("{says}, more than fleet.max_clock_skew, {skew}"),
                advice,
            )
        }
    });
}

fn permissions(found: &mut Findings, seen: &Survey, user: Option<&str>) {
    for (address, server) in looked_at(seen) {
        if let Some((_, first)) = server.refused.first() {
            let names: Vec<_> = server
                .refused
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            found.fail(
                "permissions",
                format!("{address} refuses {}: {first}", names.join(", ")),
                format!(
                    "ACL SETUSER {} ~tg:* +{}, if it is that; see what the error says",
                    user.unwrap_or("default"),
                    names.join(" +").to_lowercase()
                ),
            );
        }
    }
    if found.lacks("permissions") && seen.contents.is_ok() {
        found.ok("permissions", "every command that is needed may be used");
    }
}

fn scripts(found: &mut Findings, seen: &Survey) {
    let advice =
        "let the user run EVAL and EVALSHA, and see whether the partition's master is well";
    match &seen.contents {
        Ok(contents) => match contents.mute.as_slice() {
            [] => found.ok(
                "scripts",
                format!("they run on all {} partitions", contents.slots.len()),
            ),
            [(partition, error), ..] => found.fail(
                "scripts",
                format!(
                    "they do not run on {} of {} partitions, such as {partition}: {error}",
                    contents.mute.len(),
                    contents.slots.len()
                ),
                advice,
            ),
        },
        Err(error) => found.fail("scripts", format!("cannot look: {error}"), advice),
    }
}

/// Managed services keep their settings to themselves.
fn settings(found: &mut Findings, seen: &Survey) {
    let mute = looked_at(seen).filter_map(|(_, server)| server.config.as_ref().err());
    let mute: Vec<_> = mute.collect();
    if let Some(error) = mute.first() {
        found.warn(
            "settings",
            format!("cannot look at those of {}: {error}", servers(mute.len())),
            "allow CONFIG GET, or see to it yourself: appendfsync, save, timeout, maxclients, \
             min-replicas-to-write, cluster-require-full-coverage, client-output-buffer-limit",
        );
    }
}

fn connections(found: &mut Findings, seen: &Survey, config: &Config) {
    let partitions = seen
        .contents
        .as_ref()
        .map_or(0, |contents| contents.slots.len() as u64);
    // One to each server, one of each partition's reader, and as many again while they are renewed.
    let each_node = 2 * (partitions + 2);
    let need = each_node * u64::from(config.fleet.size.get());
    let fine = format!("there are enough for the fleet, {need} at most");
    each(
        found,
        looked_at(seen).filter(tells),
        "connections",
        &fine,
        |address, server| {
            let max: u64 = server.config("maxclients")?.parse().ok()?;
            (max < need).then_some(())?;
            Wrong::fail(
                format!("takes {max} connections, and the fleet may need {need}"),
                set(address, &format!("maxclients {}", need * 2)),
            )
        },
    );
}

fn buffers(address: &Address, server: &Server) -> Option<Wrong> {
    // `normal <hard> <soft> <seconds> slave …`, in bytes, 0 for none.
    let limits = server.config("client-output-buffer-limit")?;
    let mut words = limits
        .split_whitespace()
        .skip_while(|word| *word != "normal")
        .skip(1);
    let hard: u64 = words.next()?.parse().ok()?;
    (hard > 0 && hard < ANSWER_BYTES).then_some(())?;
    Wrong::warn(
        format!(
            "cuts off answers of more than {}: loading a long line may fail",
            bytes(hard)
        ),
        set(address, "client-output-buffer-limit \"normal 0 0 0\""),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tests::{alone, cluster, config, found, with_config};
    use super::*;

    #[test]
    fn servers_that_are_well_are_fine() {
        for seen in [alone(), cluster()] {
            let found = judge(&seen, &config(&[]));
            assert!(found.iter().all(|f| f.level == Level::Ok), "{found:#?}");
        }
    }

    #[test]
    fn a_clock_counts_as_off_by_what_the_way_leaves_open() {
        let level = |ahead, sets: &[&str]| {
            let mut seen = alone();
            seen.servers[0].1.as_mut().unwrap().ahead = ahead;
            found(&judge(&seen, &config(sets)), "clocks").level
        };
        assert_eq!(level(250_100, &[]), Level::Ok);
        assert_eq!(level(-400_000, &[]), Level::Warn);
        assert_eq!(level(-600_000, &[]), Level::Fail);
        assert_eq!(level(600_000, &["fleet.size=1"]), Level::Warn);
        assert_eq!(level(600_000, &["fleet.max_clock_skew=2s"]), Level::Ok);
    }

    #[test]
    fn what_is_refused_is_named() {
        let mut seen = alone();
        let server = seen.servers[0].1.as_mut().unwrap();
        server.refused = vec![("ZADD".to_owned(), "NOPERM".to_owned())];
        server.config = Err("unknown command 'CONFIG'".to_owned());
        let all = judge(&seen, &config(&[]));
        assert!(
            found(&all, "permissions")
                .says
                .contains("refuses ZADD: NOPERM")
        );
        let settings = found(&all, "settings");
        assert_eq!(settings.level, Level::Warn);
        assert!(
            settings
                .says
                .starts_with("cannot look at those of 1 server")
        );
        seen.contents.as_mut().unwrap().mute = vec![(3, "NOPERM".to_owned())];
        assert_eq!(
            found(&judge(&seen, &config(&[])), "scripts").level,
            Level::Fail
        );
    }

    #[test]
    fn limits_that_are_in_the_way_are_told() {
        let mut seen = alone();
        with_config(&mut seen, 0, "timeout", "60");
        with_config(&mut seen, 0, "maxclients", "20");
        with_config(
            &mut seen,
            0,
            "client-output-buffer-limit",
            "normal 1000 0 0 slave 0 0 0",
        );
        seen.servers[0].1.as_mut().unwrap().round_trip = 25_000;
        let all = judge(&seen, &config(&[]));
        for (about, level) in [
            ("idle", Level::Warn),
            ("connections", Level::Fail),
            ("buffers", Level::Warn),
            ("latency", Level::Warn),
        ] {
            assert_eq!(found(&all, about).level, level, "{about}");
        }
    }
}
