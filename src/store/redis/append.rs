//! Batches into a partition: one script call each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use parking_lot::Mutex;
use redis::Value;

use super::feed::parse_position;
use super::reply::Reply;
use super::scripts::Call;
use super::{Redis, keys};
use crate::model::{Batch, Kind, NodeId, Record, TicketId, codec, micros};
use crate::store::{Position, StoreError};

const DURING: &str = "append a batch";

/// Tickets of one step: Lua hands a command no more than some thousand arguments.
const STEP_MAX: usize = 500;

/// The number of the last batch of each partition that was acknowledged here, by who wrote it.
#[derive(Default)]
pub(super) struct Acknowledged {
    /// Held for a lookup.
    numbers: Mutex<AHashMap<(u16, NodeId), String>>,
    losses: AtomicU64,
}

impl Acknowledged {
    /// Takes notice of an acknowledgement, and of the number that the server had `before`: when it
    /// is neither what was acknowledged last nor this very batch, the server fell back.
    fn note(&self, partition: u16, node: NodeId, before: &str, number: String) {
        let mut numbers = self.numbers.lock();
        let again = before == number;
        let last = numbers.insert((partition, node), number);
        drop(numbers);
        if last.is_some_and(|last| last != before) && !again {
            tracing::warn!(
                partition,
                "the store fell back behind what it had acknowledged"
            );
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many times that was seen.
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }
}

impl Redis {
    pub(super) async fn do_append(
        &self,
        partition: u16,
        batch: Arc<Batch>,
    ) -> Result<Position, StoreError> {
        let keyring = self.keys.load_full();
        let base = self.base(&keyring, partition, DURING)?;
        let mut names = vec![keys::state(base), keys::feed(base), keys::events(base)];
        for (event, _) in &batch.events {
            names.extend([keys::line(base, event), keys::gone(base, event)]);
        }
        let number = format!("{}:{}", batch.epoch, batch.seq);
        let mut call = Call::new(&self.scripts.append, names);
        self.clock_and_feed(&mut call);
        call.number(micros(self.settings.keep_removed))
            .arg(base)
            .number(batch.node.0)
            .arg(number.as_str())
            .arg(codec::encode(&batch))
            .number(batch.events.len());
        for (event, _) in &batch.events {
            call.arg(event.as_str());
        }
        for (index, (_, records)) in batch.events.iter().enumerate() {
            for step in steps(records) {
                step.write(index + 1, &mut call);
            }
        }
        let reply = Reply(DURING);
        let answer = reply.list(call.run(self.link().await?, DURING).await?)?;
        let [position, before] = <[Value; 2]>::try_from(answer).map_err(|_| reply.unexpected())?;
        let (position, before) = (reply.text(position)?, reply.text(before)?);
        self.acknowledged
            .note(partition, batch.node, &before, number);
        parse_position(&position).ok_or_else(|| reply.unexpected())
    }
}

/// Tickets that join, or that go, each at most once.
struct Step<'a> {
    joins: bool,
    records: Vec<&'a Record>,
}

/// Records as steps that come to the same as the records one by one: a ticket's second record is in
/// a later round than its first. Records that are not durable are left out.
fn steps(records: &[Record]) -> Vec<Step<'_>> {
    let mut rounds: Vec<[Vec<&Record>; 2]> = Vec::new();
    let mut seen: AHashMap<TicketId, usize> = AHashMap::with_capacity(records.len());
    for record in records {
        let joins = record.kind == Kind::Joined;
        if !joins && record.kind.gone().is_none() {
            continue;
        }
        let round = seen.entry(record.id).or_default();
        if *round == rounds.len() {
            rounds.push(Default::default());
        }
        rounds[*round][usize::from(!joins)].push(record);
        *round += 1;
    }
    let kinds = rounds
        .into_iter()
        .flat_map(|kinds| kinds.into_iter().zip([true, false]));
    let steps = kinds.flat_map(|(records, joins)| {
        let steps = records.chunks(STEP_MAX).map(<[_]>::to_vec);
        let steps: Vec<_> = steps.map(|records| Step { joins, records }).collect();
        steps
    });
    steps.collect()
}

impl Step<'_> {
    fn write(&self, event: usize, call: &mut Call<'_>) {
        call.number(event)
            .arg(if self.joins { "j" } else { "r" })
            .number(self.records.len());
        for record in &self.records {
            // How it went rides in the part of the score below a microsecond, so that one number
            // decides between two removals as everywhere else.
            let part = match record.kind {
                Kind::Expired => ".25",
                Kind::Entered => ".5",
                _ => "",
            };
            call.arg(format!("{}{part}", record.at.0))
                .arg(*record.id.as_bytes());
        }
    }
}
