//! The nodes of the fleet, as they say themselves.

use redis::Value;

use super::Redis;
use super::reply::Reply;
use crate::model::Beat;
use crate::store::StoreError;

const DURING: &str = "say that the node lives";

impl Redis {
    pub(super) async fn do_beat(&self, beat: Beat) -> Result<Vec<Beat>, StoreError> {
        let key = self.keys.load().nodes();
        let text = serde_json::to_string(&beat);
        let text = text.map_err(|error| StoreError::never(DURING, error))?;
        let mut pipe = redis::pipe();
        pipe.cmd("HVALS").arg(&key);
        pipe.cmd("HSET").arg(&key).arg(beat.node.0).arg(text);
        let mut answers = self.link().await?.pipe(DURING, &pipe).await?.into_iter();
        let before = answers.next();
        beats(before.ok_or_else(|| Reply(DURING).unexpected())?)
    }

    /// What all said last, without saying anything.
    pub(super) async fn beats(&self) -> Result<Vec<Beat>, StoreError> {
        let mut all = redis::cmd("HVALS");
        all.arg(self.keys.load().nodes());
        beats(self.link().await?.query(DURING, &all).await?)
    }
}

fn beats(values: Value) -> Result<Vec<Beat>, StoreError> {
    let reply = Reply(DURING);
    // What another version says of itself may be more than this one can read.
    let read = |value| Ok(serde_json::from_str(&reply.text(value)?).ok());
    let beats = reply.list(values)?.into_iter().map(read);
    beats.filter_map(Result::transpose).collect()
}
