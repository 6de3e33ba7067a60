//! What the configuration says by itself. What it may not say at all is refused before.

use super::finding::{Finding, Findings};
use crate::config::{Config, StoreKind};

/// Judges a configuration.
pub fn judge(config: &Config) -> Vec<Finding> {
    let mut found = Findings::of("configuration");
    let (node, size) = (config.fleet.node.0, config.fleet.size.get());
    let shared = config.store.kind == StoreKind::Redis;
    found.ok(
        "fleet",
        match size {
            1 => "one node by itself".to_owned(),
            size => format!("node {node} of {size}, numbered from 0"),
        },
    );
    match &config.keys {
        Some(keys) => found.ok(
            "keys",
            format!("tokens and passes are signed with {:?}", keys.active),
        ),
        None => found.warn(
            "keys",
            "none are given: development keys are kept in the store's folder, readable",
            "make two with `openssl rand -base64 32` and set keys.ticket.k1 and keys.pass.k1",
        ),
    }
    let listen = config.server.listen;
    if size > 1 && listen.ip().is_loopback() {
        found.warn(
            "listener",
            format!("server.listen is {listen}: no balancer on another machine can reach it"),
            format!("set server.listen = \"0.0.0.0:{}\"", listen.port()),
        );
    } else {
        found.ok("listener", format!("visitors are answered at {listen}"));
    }
    if shared && config.redis.password.is_some() && config.redis.urls.iter().any(|url| !url.tls) {
        found.warn(
            "tls",
            "the password of redis and all passes go over the network readable",
            "use rediss:// in redis.urls, unless the network is private",
        );
    }
    found.all()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::config::Sources;

    fn levels(sets: &[&str]) -> Vec<(&'static str, Level)> {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        let config = Sources::new(None, [], sets).load().unwrap();
        judge(&config).iter().map(|f| (f.about, f.level)).collect()
    }

    #[test]
    fn a_node_by_itself_may_do_without_keys_and_a_fleet_must_be_reached() {
        let alone = levels(&[]);
        assert!(alone.contains(&("keys", Level::Warn)) && alone.contains(&("listener", Level::Ok)));
        let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        let (ticket, pass) = (
            format!("keys.ticket.k1={key}"),
            format!("keys.pass.k1={key}"),
        );
        let fleet = [
            "store.kind=redis",
            "fleet.size=3",
            "redis.password=sesame",
            &ticket,
            &pass,
        ];
        let fleet = levels(&fleet);
        assert_eq!(
            fleet,
            [
                ("fleet", Level::Ok),
                ("keys", Level::Ok),
                ("listener", Level::Warn),
                ("tls", Level::Warn),
            ]
        );
    }
}
