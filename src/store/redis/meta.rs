//! What is not a partition's: the fixed facts, policy overrides, and forgetting an event.

use std::sync::Arc;

use redis::Value;

use super::keys::Keys;
use super::reply::Reply;
use super::scripts::Call;
use super::{Redis, keys};
use crate::model::EventId;
use crate::store::{FORMAT, Meta, StoreError};

impl Redis {
    pub(super) async fn do_meta(&self, partitions: u16) -> Result<Meta, StoreError> {
        const DURING: &str = "read the fixed facts";
        let key = self.keys.load().meta();
        let new = Meta::new(partitions);
        let mut pipe = redis::pipe();
        for (field, value) in [
            ("format", new.format.to_string()),
            ("partitions", new.partitions.to_string()),
            ("deployment", new.deployment),
        ] {
            // Whoever comes first, all read the same afterwards.
            pipe.cmd("HSETNX").arg(&key).arg(field).arg(value);
        }
        pipe.cmd("HMGET").arg(&key);
        for field in ["format", "partitions", "deployment"] {
            pipe.arg(field);
        }
        let reply = Reply(DURING);
        let facts = self.link().await?.pipe(DURING, &pipe).await?.pop();
        let facts = reply.list(facts.ok_or_else(|| reply.unexpected())?)?;
        let facts = <[Value; 3]>::try_from(facts).map_err(|_| reply.unexpected())?;
        let [format, partitions, deployment] = facts;
        let meta = Meta {
            format: reply.number(format)?,
            partitions: reply.number(partitions)?,
            deployment: reply.text(deployment)?,
        };
        if meta.format != FORMAT {
            let format = meta.format;
            let message = format!("the store has format {format}, this build reads {FORMAT}");
            return Err(StoreError::never(DURING, message));
        }
        if meta.partitions == 0 {
            return Err(StoreError::never(
                DURING,
                "the store says it has 0 partitions",
            ));
        }
        if self.keys.load().partitions() != meta.partitions {
            let keys = Keys::new(&self.settings.prefix, meta.partitions);
            self.keys.store(Arc::new(keys));
        }
        Ok(meta)
    }

    pub(super) async fn do_policies(&self) -> Result<Vec<(EventId, String)>, StoreError> {
        const DURING: &str = "read the policies";
        let reply = Reply(DURING);
        let mut all = redis::cmd("HGETALL");
        all.arg(self.keys.load().policies());
        let policies = self.link().await?.query(DURING, &all).await?;
        let mut policies = reply.pairs(policies, Reply::event, Reply::text)?;
        policies.sort();
        Ok(policies)
    }

    pub(super) async fn do_set_policy(
        &self,
        event: EventId,
        patch: Option<String>,
    ) -> Result<(), StoreError> {
        let name = if patch.is_some() { "HSET" } else { "HDEL" };
        let mut set = redis::cmd(name);
        set.arg(self.keys.load().policies()).arg(event.as_str());
        if let Some(patch) = patch {
            set.arg(patch);
        }
        self.link()
            .await?
            .query("keep a policy", &set)
            .await
            .map(drop)
    }

    pub(super) async fn do_forget(&self, event: EventId) -> Result<(), StoreError> {
        const DURING: &str = "forget an event";
        let keyring = self.keys.load_full();
        for partition in 0..keyring.partitions() {
            let base = self.base(&keyring, partition, DURING)?;
            let mut names = vec![keys::events(base), keys::gates(base)];
            names.extend([keys::line(base, &event), keys::gone(base, &event)]);
            if partition == keyring.home(&event) {
                names.extend(keys::gate(base, &event));
            }
            let mut call = Call::new(&self.scripts.forget, names);
            call.arg(event.as_str());
            call.run(self.link().await?, DURING).await?;
        }
        self.do_set_policy(event, None).await
    }
}
