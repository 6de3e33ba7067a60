//! Waiting rooms that ask Redis at every poll. They answer over Tidegate's own HTTP layer and with its
//! own rendering, so that only the design differs.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use redis::aio::MultiplexedConnection;
use tidegate::http::{Answer, Response, status_body};
use tidegate::room::answer::{Eta, Phase, Standing};

use super::resp::{Connection, Pool, Reply};

/// The event's keys share a slot, as its own documents came to demand: one master has them all.
const TAG: &str = "{sale}";
/// Connections of the pooled client, as many as the old gateway was given.
const POOL: usize = 150;
const HEARTBEAT_SEC: usize = 300;

/// The rate limit that each call of the old gateway passed: a bucket, by the caller's clock.
const RATE_LIMIT: &str = "
local b = redis.call('HMGET', KEYS[1], 'tokens', 'last_refill')
local tokens, last, now = tonumber(b[1]) or 100, tonumber(b[2]) or tonumber(ARGV[1]), tonumber(ARGV[1])
tokens = math.min(100, tokens + (now - last) * 50)
local allowed = tokens >= 1
if allowed then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'last_refill', now)
redis.call('EXPIRE', KEYS[1], 3600)
return allowed and 1 or 0";

/// A design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    /// The old gateway before its fix: the place by `KEYS`.
    Keys,
    /// After it: a position index, asked one command after the other.
    IndexPooled,
    /// The same commands over one shared connection.
    IndexMultiplexed,
    /// The fewest: place and heartbeat in one pipelined round trip.
    Best,
}

impl Design {
    pub const ALL: [(&str, Self); 4] = [
        ("keys", Self::Keys),
        ("index_pooled", Self::IndexPooled),
        ("index", Self::IndexMultiplexed),
        ("best", Self::Best),
    ];

    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| *known == name).map(|(_, it)| it)
    }
}

/// A running rival.
pub struct Rival {
    design: Design,
    pool: Option<Pool>,
    shared: MultiplexedConnection,
    script: String,
}

/// The keys of one visitor, and of the event.
struct Names {
    rate: String,
    heartbeat: String,
    waiting: String,
    id: String,
}

impl Names {
    /// Of a token; its last characters are as good as random, and shorter than the whole.
    fn of(token: &str) -> Self {
        let id = short(token);
        Self {
            rate: format!("rate:{TAG}:{id}"),
            heartbeat: format!("heartbeat:{TAG}:{id}"),
            waiting: format!("queue:waiting:{TAG}:{id}"),
            id: id.to_owned(),
        }
    }
}

fn short(token: &str) -> &str {
    &token[token.len().saturating_sub(22)..]
}

fn index() -> String {
    format!("position_index:{TAG}")
}

fn admissions() -> String {
    format!("admission:metrics:{TAG}")
}

/// All commands that make a line of these tokens, for a pipeline.
pub fn joined(pipe: &mut redis::Pipeline, at: usize, token: &str) {
    let names = Names::of(token);
    let record = format!(
        r#"{{"event_id":"sale","user_id":"anonymous","status":"waiting","joined_at":"{at:020}"}}"#
    );
    pipe.cmd("SET").arg(&names.waiting).arg(record).ignore();
    pipe.cmd("SET").arg(&names.heartbeat).arg("1").ignore();
    pipe.cmd("ZADD")
        .arg(index())
        .arg(at)
        .arg(&names.id)
        .ignore();
}

impl Rival {
    pub async fn start(design: Design, redis: &str) -> Self {
        let client = redis::Client::open(format!("redis://{redis}")).expect("an address");
        let patient =
            redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
        let mut shared = client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .expect("redis listens");
        let script: String = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(RATE_LIMIT)
            .query_async(&mut shared)
            .await
            .expect("a sound script");
        let pool = match design {
            Design::Keys | Design::IndexPooled => {
                Some(Pool::open(redis, POOL).await.expect("redis listens"))
            }
            Design::IndexMultiplexed | Design::Best => None,
        };
        Self {
            design,
            pool,
            shared,
            script,
        }
    }

    /// Answers a poll.
    pub fn answer(self: &Arc<Self>, request: &hyper::Request<hyper::body::Incoming>) -> Answer {
        let query = request.uri().query().unwrap_or_default();
        let names = Names::of(query.strip_prefix("token=").unwrap_or_default());
        let rival = Arc::clone(self);
        Answer::Later(Box::pin(async move {
            let place = match rival.design {
                Design::Keys | Design::IndexPooled => {
                    let pool = rival.pool.as_ref().expect("made for this design");
                    pool.with(async |redis| rival.one_by_one(redis, &names).await)
                        .await
                }
                Design::IndexMultiplexed => rival.over_one(&names).await,
                Design::Best => rival.in_one_trip(&names).await,
            };
            response(place.map_or(0, |rank| rank as u64 + 1))
        }))
    }

    /// The old gateway's commands, each waiting for the one before.
    async fn one_by_one(&self, redis: &mut Connection, n: &Names) -> std::io::Result<Option<i64>> {
        let (index, admissions) = (index(), admissions());
        let now = seconds();
        let windows = [60, 300, 900].map(|window| (now - window).to_string());
        let now = now.to_string();
        let [index, admissions, now] = [&index, &admissions, &now].map(|s| s.as_bytes());
        let limit = [
            b"EVALSHA",
            self.script.as_bytes(),
            b"1",
            n.rate.as_bytes(),
            now,
        ];
        redis.ask(&limit).await?;
        if redis.ask(&[b"EXISTS", n.heartbeat.as_bytes()]).await? != Reply::Number(1) {
            return Ok(None);
        }
        let seconds = HEARTBEAT_SEC.to_string();
        redis
            .ask(&[b"EXPIRE", n.heartbeat.as_bytes(), seconds.as_bytes()])
            .await?;
        redis.ask(&[b"GET", n.waiting.as_bytes()]).await?;
        if self.design == Design::Keys {
            let all = format!("queue:waiting:{TAG}:*");
            redis.ask(&[b"KEYS", all.as_bytes()]).await?;
        } else {
            redis.ask(&[b"ZRANK", index, n.id.as_bytes()]).await?;
        }
        for window in &windows {
            redis
                .ask(&[b"ZCOUNT", admissions, window.as_bytes(), b"+inf"])
                .await?;
        }
        let rank = redis.ask(&[b"ZRANK", index, n.id.as_bytes()]).await?;
        Ok(rank.number())
    }

    /// The same commands, in the same order, with other polls' commands between them on the wire.
    async fn over_one(&self, n: &Names) -> Option<i64> {
        let redis = &mut self.shared.clone();
        let now = seconds();
        let mut limit = redis::cmd("EVALSHA");
        limit.arg(&self.script).arg(1).arg(&n.rate).arg(now);
        told::<i64>(&limit, redis).await;
        let mut exists = redis::cmd("EXISTS");
        if told::<i64>(exists.arg(&n.heartbeat), redis).await != 1 {
            return None;
        }
        let mut expire = redis::cmd("EXPIRE");
        told::<i64>(expire.arg(&n.heartbeat).arg(HEARTBEAT_SEC), redis).await;
        told::<Option<Vec<u8>>>(redis::cmd("GET").arg(&n.waiting), redis).await;
        let mut rank = redis::cmd("ZRANK");
        rank.arg(index()).arg(&n.id);
        told::<Option<i64>>(&rank, redis).await;
        for window in [60, 300, 900] {
            let mut count = redis::cmd("ZCOUNT");
            count.arg(admissions()).arg(now - window).arg("+inf");
            told::<i64>(&count, redis).await;
        }
        told::<Option<i64>>(&rank, redis).await
    }

    async fn in_one_trip(&self, n: &Names) -> Option<i64> {
        let mut pipe = redis::Pipeline::with_capacity(2);
        pipe.cmd("ZRANK").arg(index()).arg(&n.id);
        pipe.cmd("EXPIRE").arg(&n.heartbeat).arg(HEARTBEAT_SEC);
        let (rank, _): (Option<i64>, i64) = pipe
            .query_async(&mut self.shared.clone())
            .await
            .expect("redis answers");
        rank
    }
}

async fn told<T: redis::FromRedisValue>(
    command: &redis::Cmd,
    redis: &mut MultiplexedConnection,
) -> T {
    command.query_async(redis).await.expect("redis answers")
}

fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn response(position: u64) -> Response {
    let body: Bytes = status_body(&Standing {
        phase: Phase::Waiting,
        position,
        total_waiting: position,
        waited: Duration::from_secs(60),
        eta: Eta {
            likely: position,
            low: position,
            high: position,
        },
        ready: false,
        enter_within: None,
        poll_after: Duration::from_secs(2),
        reason: None,
        degraded: false,
    });
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if position == 0 {
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
    }
    response
}
