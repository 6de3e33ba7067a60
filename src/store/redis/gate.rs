//! The gates' steps: scripts that keep the rules of [`crate::store::gate`] on the server's clock.

use redis::Value;

use super::reply::Reply;
use super::scripts::{Call, Text};
use super::{Redis, keys};
use crate::model::gate::{
    AdvanceRequest, Advanced, EnterRequest, Entry, GatePolicy, GateView, Home, Kept, LIFE,
    Presence, SettleRequest, Turn,
};
use crate::model::{EventId, Micros, NodeId, TicketId};
use crate::store::StoreError;

/// How many gates are read in one round trip.
const GATES_AT_ONCE: usize = 64;

impl Redis {
    /// A call of a gate's script, with what all of them take.
    fn step<'a>(
        &self,
        script: &'a Text,
        event: &EventId,
        node: NodeId,
        policy: &GatePolicy,
    ) -> Call<'a> {
        let keyring = self.keys.load_full();
        let base = keyring.home_base(event);
        let mut names = vec![keys::state(base), keys::feed(base), keys::gates(base)];
        names.extend(keys::gate(base, event));
        let mut call = Call::new(script, names);
        self.clock_and_feed(&mut call);
        call.arg(event.as_str())
            .number(node.0)
            .number(policy.rate)
            .number(policy.burst)
            .number(policy.max_active)
            .number(u8::from(policy.paused))
            .number(policy.ready_ttl)
            .number(policy.late_grace)
            .number(policy.ticket_ttl)
            .number(policy.pass_ttl)
            .number(policy.nodes)
            .number(policy.share_limit);
        call
    }

    /// Lets in whose turn it is and who says no more than that; all the others are `None`. Of one
    /// event, at least one.
    pub(super) async fn admit(
        &self,
        event: &EventId,
        enters: &[EnterRequest],
    ) -> Result<Vec<Option<Entry>>, StoreError> {
        const DURING: &str = "let tickets in";
        // A turn of another ticket would have to be booked.
        let says_no_more = |enter: &EnterRequest| {
            enter.known.is_none() && enter.claim.is_none_or(|turn| turn.id == enter.id)
        };
        let ordinary = enters.iter().filter(|enter| says_no_more(enter));
        let Some(newest) = ordinary.clone().next_back() else {
            return Ok(vec![None; enters.len()]);
        };
        let keyring = self.keys.load_full();
        let base = keyring.home_base(event);
        let [_, called, missed, active, entered] = keys::gate(base, event);
        let names = [keys::state(base), keys::feed(base)];
        let names = names.into_iter().chain([called, missed, active, entered]);
        let mut call = Call::new(&self.scripts.admit, names.collect());
        self.clock_and_feed(&mut call);
        call.arg(event.as_str())
            .number(newest.node.0)
            .number(newest.policy.ready_ttl)
            .number(newest.policy.pass_ttl);
        for enter in ordinary {
            let free = u8::from(enter.free);
            call.arg(*enter.id.as_bytes())
                .number(enter.arrival.0)
                .number(free);
        }
        let reply = Reply(DURING);
        let answer = reply.list(call.run(self.link().await?, DURING).await?)?;
        let [now, entries] = <[Value; 2]>::try_from(answer).map_err(|_| reply.unexpected())?;
        let now = reply.micros(now)?;
        let mut entries = reply.list(entries)?.into_iter();
        let mut entry = |enter: &EnterRequest| {
            if !says_no_more(enter) {
                return Ok(None);
            }
            let at = reply.micros(entries.next().ok_or_else(|| reply.unexpected())?)?;
            Ok((at.0 > 0).then_some(Entry::Granted { at, now }))
        };
        enters.iter().map(&mut entry).collect()
    }

    /// One step of a gate: those who enter, one after the other, then the question for turns. The
    /// entries are in the order of those who asked.
    pub(super) async fn run_step(
        &self,
        event: &EventId,
        enters: &[EnterRequest],
        advance: Option<&AdvanceRequest>,
    ) -> Result<(Vec<Entry>, Option<Advanced>), StoreError> {
        const DURING: &str = "ask a gate";
        // The newest policy holds for all.
        let (script, node, policy) = match (advance, enters.last()) {
            (Some(advance), _) => (&self.scripts.step, advance.node, &advance.policy),
            (None, Some(enter)) => (&self.scripts.enter, enter.node, &enter.policy),
            (None, None) => return Ok((Vec::new(), None)),
        };
        let mut call = self.step(script, event, node, policy);
        call.number(enters.len());
        for enter in enters {
            call.arg(packed_enter(enter));
        }
        if let Some(advance) = advance {
            write_advance(advance, &mut call);
        }
        let reply = Reply(DURING);
        let answer = reply.list(call.run(self.link().await?, DURING).await?)?;
        let [now, entries, turns] =
            <[Value; 3]>::try_from(answer).map_err(|_| reply.unexpected())?;
        let now = reply.micros(now)?;
        let entries = reply.list(entries)?.into_iter();
        let entries: Vec<_> = entries
            .map(|entry| read_entry(reply, entry, now))
            .collect::<Result<_, _>>()?;
        if entries.len() != enters.len() {
            return Err(reply.unexpected());
        }
        let advanced = match advance {
            Some(_) => Some(read_advanced(reply, turns, now)?),
            None => None,
        };
        Ok((entries, advanced))
    }

    pub(super) async fn do_settle(&self, request: SettleRequest) -> Result<(), StoreError> {
        const DURING: &str = "settle a gate";
        let SettleRequest {
            event,
            node,
            policy,
            version,
            called,
            entered,
            shared,
        } = request;
        let mut call = self.step(&self.scripts.settle, &event, node, &policy);
        call.number(version)
            .number(u8::from(shared))
            .number(entered.len());
        for (id, at) in &entered {
            call.arg(*id.as_bytes()).number(at.0);
        }
        for turn in &called {
            call.arg(*turn.id.as_bytes()).number(turn.until.0);
        }
        call.run(self.link().await?, DURING).await.map(drop)
    }

    pub(super) async fn do_complete(
        &self,
        event: EventId,
        id: TicketId,
    ) -> Result<bool, StoreError> {
        const DURING: &str = "complete a visit";
        let keyring = self.keys.load_full();
        let [_, _, _, active, ..] = keys::gate(keyring.home_base(&event), &event);
        let mut remove = redis::cmd("ZREM");
        remove.arg(active).arg(id.as_bytes());
        let removed = self.link().await?.query(DURING, &remove).await?;
        Ok(Reply(DURING).number::<u8>(removed)? == 1)
    }

    pub(super) async fn do_gates(&self) -> Result<Vec<GateView>, StoreError> {
        const DURING: &str = "read the gates";
        let reply = Reply(DURING);
        let keyring = self.keys.load_full();
        let mut views = Vec::new();
        for partition in 0..keyring.partitions() {
            let base = self.base(&keyring, partition, DURING)?;
            let mut members = redis::cmd("SMEMBERS");
            members.arg(keys::gates(base));
            let members = reply.list(self.link().await?.query(DURING, &members).await?)?;
            if members.is_empty() {
                continue;
            }
            let events = members.into_iter().map(|event| reply.event(event));
            let mut events: Vec<EventId> = events.collect::<Result<_, _>>()?;
            events.sort();
            let mut clock = Call::new(&self.scripts.clock, vec![keys::state(base)]);
            clock.arg(self.injected_clock());
            let now = reply.micros(clock.run(self.link().await?, DURING).await?)?;
            for events in events.chunks(GATES_AT_ONCE) {
                self.read_gates(base, events, now, &mut views).await?;
            }
        }
        Ok(views)
    }

    /// Reads some gates of one partition. The version is read before the turns: should a step come
    /// between, the node finds itself stale and catches up.
    async fn read_gates(
        &self,
        base: &str,
        events: &[EventId],
        now: Micros,
        views: &mut Vec<GateView>,
    ) -> Result<(), StoreError> {
        const DURING: &str = "read the gates";
        let reply = Reply(DURING);
        let mut pipe = redis::pipe();
        for event in events {
            let [gate, called, _, active, ..] = keys::gate(base, event);
            pipe.cmd("HGET").arg(&gate).arg("version");
            pipe.cmd("HGET").arg(gate).arg("began");
            pipe.cmd("ZRANGE")
                .arg(called)
                .arg(0)
                .arg(-1)
                .arg("WITHSCORES");
            pipe.cmd("ZCARD").arg(active);
        }
        let mut answers = self.link().await?.pipe(DURING, &pipe).await?.into_iter();
        for event in events {
            let mut next = || answers.next().ok_or_else(|| reply.unexpected());
            let [_, _, missed, _, entered, ..] = keys::gate(base, event);
            let number = |value| match value {
                Value::Nil => Ok(0),
                value => reply.number(value),
            };
            let version = number(next()?)?;
            let began = number(next()?)?;
            let lost_at = Micros(if version < LIFE { 0 } else { began });
            let called = turns(reply, next()?)?;
            let active = reply.number(next()?)?;
            let missed = self.whole(DURING, &missed).await?.into_iter();
            let missed = missed.map(|(id, at)| (id, Micros(at as u64)));
            let entered = self.whole(DURING, &entered).await?.into_iter();
            views.push(GateView {
                event: event.clone(),
                version,
                now,
                lost_at,
                called,
                missed: missed.map(|(id, until)| Turn { id, until }).collect(),
                entered: entered.map(|(id, at)| (id, Micros(at as u64))).collect(),
                active,
            });
        }
        Ok(())
    }
}

/// What a ticket that enters says.
fn packed_enter(request: &EnterRequest) -> Vec<u8> {
    let claim = request.claim.map(|turn| (turn.until.0.max(1), turn.id));
    let (until, claimed) = claim.unwrap_or((0, request.id));
    let how = u8::from(request.free) | u8::from(request.known.is_some()) << 1;
    let mut packed = request.node.0.to_be_bytes().to_vec();
    packed.extend(until.to_be_bytes());
    packed.push(how);
    packed.extend(request.id.as_bytes());
    packed.extend(claimed.as_bytes());
    packed.extend(request.arrival.0.to_be_bytes());
    packed.extend(request.known.unwrap_or_default().0.to_be_bytes());
    packed
}

/// The question for turns.
fn write_advance(request: &AdvanceRequest, call: &mut Call<'_>) {
    let (word, sent_at, horizon) = match request.presence {
        Presence::Quiet => ("quiet", Micros(0), Micros(0)),
        Presence::Gone => ("gone", Micros(0), Micros(0)),
        Presence::Here { sent_at, horizon } => ("here", sent_at, horizon),
    };
    let packed = |home: &Home| {
        let arrival = home.arrival.0.to_be_bytes();
        home.node.0.to_be_bytes().into_iter().chain(arrival)
    };
    call.number(request.serial)
        .number(request.version)
        .number(request.lease_held)
        .number(request.lease_wanted)
        .arg(word)
        .number(sent_at.0)
        .number(horizon.0)
        .arg(request.homes.iter().flat_map(packed).collect::<Vec<u8>>())
        .number(request.candidates.len())
        .number(request.given_back.len());
    for id in request.candidates.iter().chain(&request.given_back) {
        call.arg(*id.as_bytes());
    }
    for turn in &request.claims {
        call.arg(*turn.id.as_bytes()).number(turn.until.0);
    }
}

fn read_entry(reply: Reply, entry: Value, now: Micros) -> Result<Entry, StoreError> {
    let mut answer = reply.list(entry)?.into_iter();
    let mut next = || answer.next().ok_or_else(|| reply.unexpected());
    Ok(match reply.text(next()?)?.as_str() {
        "granted" => Entry::Granted {
            at: reply.micros(next()?)?,
            now,
        },
        "again" => Entry::Again {
            at: reply.micros(next()?)?,
            now,
        },
        "missed" => Entry::Missed,
        "not called" => Entry::NotCalled,
        _ => return Err(reply.unexpected()),
    })
}

fn read_advanced(reply: Reply, answer: Value, now: Micros) -> Result<Advanced, StoreError> {
    let answer = reply.list(answer)?;
    let answer = <[Value; 11]>::try_from(answer).map_err(|_| reply.unexpected())?;
    let [
        version,
        stale,
        called,
        missed,
        entered,
        lease,
        active,
        open_turns,
        level,
        heard,
        kept_by,
    ] = answer;
    Ok(Advanced {
        version: reply.number(version)?,
        stale: reply.number::<u8>(stale)? == 1,
        called: turns(reply, called)?,
        missed: turns(reply, missed)?,
        entered: reply.pairs(entered, Reply::id, Reply::micros)?,
        lease: reply.number(lease)?,
        active: reply.number(active)?,
        open_turns: reply.number(open_turns)?,
        level: reply.number(level)?,
        heard: reply.number::<u8>(heard)? == 1,
        kept: kept(reply, kept_by)?,
        now,
    })
}

fn kept(reply: Reply, value: Value) -> Result<Vec<Kept>, StoreError> {
    let mut values = reply.list(value)?.into_iter();
    let mut all = Vec::new();
    while let (Some(node), Some(after), Some(away)) = (values.next(), values.next(), values.next())
    {
        all.push(Kept {
            node: NodeId(reply.number(node)?),
            after: reply.micros(after)?,
            away: reply.number::<u8>(away)? == 1,
        });
    }
    all.sort_unstable_by_key(|kept| kept.node);
    Ok(all)
}

fn turns(reply: Reply, value: Value) -> Result<Vec<Turn>, StoreError> {
    let turns = reply.pairs(value, Reply::id, Reply::micros)?.into_iter();
    Ok(turns.map(|(id, until)| Turn { id, until }).collect())
}
