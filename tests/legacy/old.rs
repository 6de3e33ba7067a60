//! The other gateway as far as its Redis shows it: the commands of its joins, enters and leaves.

use std::time::SystemTime;

use redis::Cmd;
use redis::aio::ConnectionLike;

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.expect("it is later than 1970").as_secs()
}

/// A waiting token as that gateway makes them: a random UUID.
pub fn token() -> String {
    let bits = rand::random::<u128>() & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62;
    let text = format!("{bits:032x}");
    [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ]
    .join("-")
}

/// That gateway on a connection.
pub struct Old<C>(pub C);

impl<C: ConnectionLike> Old<C> {
    pub async fn run<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut cmd = Cmd::new();
        for word in words {
            cmd.arg(word);
        }
        let answer = cmd.query_async(&mut self.0).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    async fn set(&mut self, words: &[&str]) {
        self.run::<redis::Value>(words).await;
    }

    fn record(event: &str, at: u64, status: &str) -> String {
        let at = jiff::Timestamp::from_second(at as i64).unwrap();
        let at = at.display_with_offset(jiff::tz::offset(9));
        format!(
            r#"{{"event_id":"{event}","user_id":"anonymous","joined_at":"{at}","position":0,"status":"{status}"}}"#
        )
    }

    /// A visitor who joined `at` that second.
    pub async fn join(&mut self, event: &str, token: &str, at: u64) {
        let (score, waiting) = (at.to_string(), format!("queue:waiting:{token}"));
        let (queue, index) = (
            format!("queue:event:{event}"),
            format!("position_index:{{{event}}}"),
        );
        let dedupe = format!("dedupe:{{{event}}}:{token}");
        let stream = format!("stream:event:{{{event}}}:user:anonymous");
        let heartbeat = format!("heartbeat:{token}");
        self.set(&["XADD", &stream, "*", "token", token]).await;
        self.set(&["SETEX", &dedupe, "300", "1"]).await;
        let record = Self::record(event, at, "waiting");
        self.set(&["SET", &waiting, &record, "EX", "1800"]).await;
        self.set(&["ZADD", &queue, &score, token]).await;
        self.set(&["EXPIRE", &queue, "3600"]).await;
        self.set(&["SET", &heartbeat, "alive", "EX", "300"]).await;
        self.set(&["ZADD", &index, &score, token]).await;
        self.set(&["EXPIRE", &index, "3600"]).await;
    }

    /// The visitor goes in.
    pub async fn enter(&mut self, event: &str, token: &str, joined_at: u64) {
        let record = Self::record(event, joined_at, "ready");
        let pass = format!("queue:reservation:{token}");
        self.set(&["SET", &pass, "{}", "EX", "30"]).await;
        let waiting = format!("queue:waiting:{token}");
        self.set(&["SET", &waiting, &record, "EX", "1800"]).await;
        self.set(&["DEL", &format!("heartbeat:{token}")]).await;
        self.set(&["ZREM", &format!("queue:event:{event}"), token])
            .await;
    }

    /// The visitor leaves.
    pub async fn leave(&mut self, event: &str, token: &str) {
        self.set(&["DEL", &format!("heartbeat:{token}")]).await;
        self.set(&["DEL", &format!("queue:waiting:{token}")]).await;
        self.set(&["ZREM", &format!("queue:event:{event}"), token])
            .await;
    }

    /// Five minutes pass without a poll.
    pub async fn fall_silent(&mut self, token: &str) {
        self.set(&["DEL", &format!("heartbeat:{token}")]).await;
    }

    /// Half an hour passes with polls.
    pub async fn wait_long(&mut self, token: &str) {
        self.set(&["DEL", &format!("queue:waiting:{token}")]).await;
    }

    /// All tokens in the order in which that gateway ranks them.
    pub async fn ranked(&mut self, event: &str) -> Vec<String> {
        self.run(&["ZRANGE", &format!("position_index:{{{event}}}"), "0", "-1"])
            .await
    }
}
