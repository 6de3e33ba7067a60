//! The nodes of the fleet, as they say themselves.

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
        let reply = Reply(DURING);
        let mut answers = self.link().await?.pipe(DURING, &pipe).await?.into_iter();
        let before = answers.next().ok_or_else(|| reply.unexpected())?;
        // What another version says of itself may be more than this one can read.
        let read = |value| Ok(serde_json::from_str(&reply.text(value)?).ok());
        let beats = reply.list(before)?.into_iter().map(read);
        beats.filter_map(Result::transpose).collect()
    }
}
