//! The fixed facts.

use std::sync::Arc;

use redis::Value;

use super::Redis;
use super::keys::Keys;
use super::reply::Reply;
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
}
