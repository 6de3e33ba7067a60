//! What a partition holds, in pieces.
//!
//! Everything is read from masters: a replica may lie behind the feed's end that was noted before,
//! and what lies between would never be heard of. Pieces go on by score and member, not by rank, so
//! that what is removed meanwhile makes nothing be passed over.

use redis::{Cmd, Value};

use super::reply::Reply;
use super::{Redis, keys};
use crate::model::{EventId, Gone, Micros, TicketId};
use crate::store::{Chunk, Cursor, StoreError, Stored};

const DURING: &str = "load a partition";

/// How many sorted sets are measured, or read whole, in one round trip.
const SETS_AT_ONCE: usize = 256;
/// How many members are read at once of a set that is read whole.
const PAGE: usize = 65_536;

/// One sorted set of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    event: EventId,
    /// Removals, which come first, or the line.
    line: bool,
}

/// A member, and where it stands.
type Member = (TicketId, f64);

impl Part {
    fn key(&self, base: &str) -> String {
        if self.line {
            keys::line(base, &self.event)
        } else {
            keys::gone(base, &self.event)
        }
    }

    fn stored(&self, (id, score): Member) -> Stored {
        let at = Micros(score as u64);
        if self.line {
            return Stored::Live { id, arrival: at };
        }
        // See `append`: the kind is the part below a microsecond, in quarters.
        let why = match (score.fract() * 4.0) as u8 {
            0 => Gone::Left,
            1 => Gone::Expired,
            _ => Gone::Entered,
        };
        Stored::Removed { id, at, why }
    }
}

/// Where a load goes on: at a set, after a member of it if one was read.
struct At {
    part: Part,
    after: Option<Member>,
}

impl At {
    fn cursor(&self) -> Cursor {
        let mut bytes = vec![u8::from(self.part.line), u8::from(self.after.is_some())];
        let (id, score) = self.after.unwrap_or((TicketId::from_u128(0), 0.0));
        bytes.extend(score.to_bits().to_be_bytes());
        bytes.extend(id.as_bytes());
        bytes.extend(self.part.event.as_str().as_bytes());
        Cursor(bytes)
    }

    fn parse(cursor: &Cursor) -> Option<Self> {
        let (&[line, after], rest) = cursor.0.split_first_chunk()?;
        let (score, rest) = rest.split_first_chunk()?;
        let (id, event) = rest.split_first_chunk()?;
        let event = EventId::new(std::str::from_utf8(event).ok()?).ok()?;
        let member = (
            TicketId::from_bytes(*id),
            f64::from_bits(u64::from_be_bytes(*score)),
        );
        Some(Self {
            part: Part {
                event,
                line: line == 1,
            },
            after: (after == 1).then_some(member),
        })
    }
}

impl Redis {
    pub(super) async fn do_load(
        &self,
        partition: u16,
        from: Option<Cursor>,
        limit: usize,
    ) -> Result<Chunk, StoreError> {
        let from = match from.as_ref().map(At::parse) {
            None => None,
            Some(Some(at)) => Some(at),
            Some(None) => return Err(StoreError::never(DURING, "a cursor of another store")),
        };
        let keyring = self.keys.load_full();
        let base = self.base(&keyring, partition, DURING)?;
        let mut parts = self
            .parts(base, from.as_ref())
            .await?
            .into_iter()
            .peekable();
        let mut after = from.and_then(|at| at.after);
        let mut chunk = Chunk::default();
        let mut left = limit.max(1);
        while parts.peek().is_some() {
            let some: Vec<Part> = parts.by_ref().take(SETS_AT_ONCE).collect();
            let sizes = self.sizes(base, &some).await?;
            let mut some = some.into_iter().zip(sizes).peekable();
            // Where the last chunk ended in the middle of a set, this one begins.
            while some.peek().is_some() {
                let mut whole = Vec::new();
                while after.is_none()
                    && let Some((part, size)) = some.next_if(|(_, size)| *size <= left)
                {
                    left -= size;
                    whole.push((part, size));
                }
                whole.retain(|(_, size)| *size > 0);
                self.read_whole(base, whole, &mut chunk).await?;
                let Some((part, _)) = some.next() else {
                    break;
                };
                if left > 0 {
                    let (page, more) = self.page(&part.key(base), after.take(), left).await?;
                    left -= page.len();
                    let last = page.last().copied();
                    give(&mut chunk, &part, page);
                    if !more {
                        continue;
                    }
                    after = last;
                }
                chunk.next = Some(At { part, after }.cursor());
                return Ok(chunk);
            }
        }
        Ok(chunk)
    }

    /// A whole sorted set, page by page.
    pub(super) async fn whole(
        &self,
        during: &'static str,
        key: &str,
    ) -> Result<Vec<Member>, StoreError> {
        let mut all: Vec<Member> = Vec::new();
        loop {
            let read = self.page(key, all.last().copied(), PAGE).await;
            let (page, more) = read.map_err(|error| StoreError { during, ..error })?;
            all.extend(page);
            if !more {
                return Ok(all);
            }
        }
    }

    /// The sets of a partition from one on, in the order in which they are read.
    async fn parts(&self, base: &str, from: Option<&At>) -> Result<Vec<Part>, StoreError> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(keys::events(base)).arg(0).arg(-1);
        let events = Reply(DURING).list(self.link().await?.query(DURING, &range).await?)?;
        let events = events.into_iter().map(|event| Reply(DURING).event(event));
        let mut events: Vec<EventId> = events.collect::<Result<_, _>>()?;
        events.sort();
        let parts = events.into_iter().flat_map(|event| {
            [false, true].map(|line| Part {
                event: event.clone(),
                line,
            })
        });
        let order = |part: &Part| (part.event.clone(), part.line);
        let from = from.map(|at| order(&at.part));
        Ok(parts
            .skip_while(|part| from.as_ref().is_some_and(|from| order(part) < *from))
            .collect())
    }

    async fn sizes(&self, base: &str, parts: &[Part]) -> Result<Vec<usize>, StoreError> {
        let mut pipe = redis::pipe();
        for part in parts {
            pipe.cmd("ZCARD").arg(part.key(base));
        }
        let sizes = self.link().await?.pipe(DURING, &pipe).await?.into_iter();
        sizes
            .map(|size| Reply(DURING).number::<u32>(size).map(|size| size as usize))
            .collect()
    }

    async fn read_whole(
        &self,
        base: &str,
        parts: Vec<(Part, usize)>,
        chunk: &mut Chunk,
    ) -> Result<(), StoreError> {
        if parts.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for (part, _) in &parts {
            let mut range = redis::cmd("ZRANGE");
            range.arg(part.key(base)).arg(0).arg(-1).arg("WITHSCORES");
            pipe.add_command(range);
        }
        let answers = self.link().await?.pipe(DURING, &pipe).await?;
        for ((part, _), answer) in parts.iter().zip(answers) {
            give(chunk, part, members(answer)?);
        }
        Ok(())
    }

    /// At most `limit` members after one, and whether there are more.
    async fn page(
        &self,
        key: &str,
        after: Option<Member>,
        limit: usize,
    ) -> Result<(Vec<Member>, bool), StoreError> {
        // Members of the same score as the last one are met again and passed over. Where there are
        // more of them than fit, the step is widened.
        let mut asked = limit + 1;
        loop {
            let answer = self
                .link()
                .await?
                .query(DURING, &range(key, after, asked))
                .await?;
            let mut page = members(answer)?;
            let more = page.len() == asked;
            if let Some((last, score)) = after {
                page.retain(|&(id, at)| at > score || id > last);
            }
            if more && page.is_empty() {
                asked *= 2;
                continue;
            }
            let cut = page.len() > limit;
            page.truncate(limit);
            return Ok((page, more || cut));
        }
    }
}

fn range(key: &str, after: Option<Member>, count: usize) -> Cmd {
    let mut range = redis::cmd("ZRANGE");
    range.arg(key);
    match after {
        Some((_, score)) => range.arg(score.to_string()),
        None => range.arg("-inf"),
    };
    range
        .arg("+inf")
        .arg("BYSCORE")
        .arg("LIMIT")
        .arg(0)
        .arg(count);
    range.arg("WITHSCORES");
    range
}

fn members(answer: Value) -> Result<Vec<Member>, StoreError> {
    Reply(DURING).pairs(answer, Reply::id, Reply::score)
}

fn give(chunk: &mut Chunk, part: &Part, members: Vec<Member>) {
    let tickets = members.into_iter().map(|member| part.stored(member));
    match chunk.tickets.last_mut() {
        Some((event, held)) if *event == part.event => held.extend(tickets),
        _ => chunk.tickets.push((part.event.clone(), tickets.collect())),
    }
}
