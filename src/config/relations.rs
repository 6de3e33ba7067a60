//! What fields ask of each other. Every message names both.

use super::mistake::{Mistake, Why};
use super::reader::{Reader, parts};
use super::tree::dotted;
use super::types::{Config, Origins, StoreKind};
use crate::model::policy::span_text;

impl Reader<'_> {
    /// Adds what is wrong between fields that are each fine.
    pub fn relations(&mut self, config: &Config) {
        let Config {
            server,
            store,
            redis,
            fleet,
            journal,
            limits,
            polling,
            ..
        } = config;
        if server.admin_listen == Some(server.listen) && server.listen.port() != 0 {
            self.relate(
                "server.admin_listen",
                "another address than",
                "server.listen",
            );
        }
        if let Some(admin) = server.admin_listen
            && !admin.ip().is_loopback()
            && config.admin.token.is_none()
        {
            self.refuse(
                "server.admin_listen",
                &["admin.token"],
                "an address that is not loopback needs admin.token = \"env:NAME\" or \"file:path\"",
            );
        }
        if u16::from(fleet.size) <= fleet.node.0 {
            self.relate("fleet.node", "less than", "fleet.size");
        }
        if fleet.size.get() > 1 && store.kind == StoreKind::Embedded {
            self.refuse(
                "fleet.size",
                &["store.kind"],
                "more than one node needs store.kind = \"redis\": an embedded store is one node's",
            );
        }
        if store.kind == StoreKind::Redis && config.keys.is_none() {
            self.refuse(
                "store.kind",
                &[],
                "a redis store needs keys that all nodes share: make two with `openssl rand \
                 -base64 32` and give them as keys.ticket.k1 and keys.pass.k1, for example \
                 \"env:NAME\" or \"file:path\"",
            );
        }
        if redis.urls.iter().any(|url| url.tls) != redis.urls.iter().all(|url| url.tls) {
            self.refuse(
                "redis.urls",
                &[],
                "either all are redis:// or all are rediss://",
            );
        } else if redis.ca.is_some() && !redis.urls[0].tls {
            self.refuse(
                "redis.ca",
                &["redis.urls"],
                "is of use with rediss:// in redis.urls only",
            );
        }
        if journal.batch_records > journal.max_records {
            self.relate(
                "journal.batch_records",
                "no more than",
                "journal.max_records",
            );
        }
        if journal.lag >= journal.stale_after {
            self.relate("journal.lag", "less than", "journal.stale_after");
        }
        if limits.url_bytes > limits.header_bytes {
            self.relate("limits.url_bytes", "no more than", "limits.header_bytes");
        }
        if config.cors.credentials && config.cors.origins == Origins::Any {
            self.refuse(
                "cors.credentials",
                &["cors.origins"],
                "credentials need cors.origins to list its origins instead of \"*\"",
            );
        }
        if polling.min > polling.max {
            self.relate("polling.min", "no more than", "polling.max");
        }
        if config.event.len() > config.events.max_events.get() as usize {
            let text = format!("there are {} [event] tables already", config.event.len());
            self.refuse("events.max_events", &[], &text);
        }
        self.polling_fits(config);
    }

    /// Whoever polls as told must never be taken for gone.
    fn polling_fits(&mut self, config: &Config) {
        let defaults = (None, &config.defaults);
        let events = config
            .event
            .iter()
            .map(|(id, policy)| (Some(id.as_str()), policy));
        for (event, policy) in std::iter::once(defaults).chain(events) {
            let path = match event {
                Some(id) => parts(&["event", id, "heartbeat_ttl"]),
                None => parts(&["defaults", "heartbeat_ttl"]),
            };
            let inherited = event.is_some() && !self.written.leaves.contains_key(&path);
            if inherited
                || policy.heartbeat_ttl > config.polling.max
                || self.wrong.contains("polling.max")
                || self.wrong.contains(&dotted(&path))
            {
                continue;
            }
            let max = Some(span_text(config.polling.max));
            let given = self.given(&parts(&["polling", "max"]), None, max);
            let other = self.given(&path, None, Some(span_text(policy.heartbeat_ttl)));
            self.mistakes.push(Mistake {
                given,
                why: Why::Relation {
                    rule: "less than",
                    other,
                },
            });
        }
    }
}
