//! The gates' steps: scripts that keep the rules of [`crate::store::gate`] on the server's clock.

use redis::Value;

use super::reply::Reply;
use super::scripts::{Call, Text};
use super::{Redis, keys};
use crate::model::gate::{
    AdvanceRequest, Advanced, EnterRequest, Entry, GatePolicy, GateView, Home, Kept, Presence,
    SettleRequest, Turn,
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

    pub(super) async fn do_advance(&self, request: AdvanceRequest) -> Result<Advanced, StoreError> {
        const DURING: &str = "advance a gate";
        let AdvanceRequest {
            event,
            node,
            serial,
            policy,
            version,
            candidates,
            homes,
            presence,
            given_back,
            claims,
            lease_held,
            lease_wanted,
        } = request;
        let (word, sent_at, horizon) = match presence {
            Presence::Quiet => ("quiet", Micros(0), Micros(0)),
            Presence::Gone => ("gone", Micros(0), Micros(0)),
            Presence::Here { sent_at, horizon } => ("here", sent_at, horizon),
        };
        let packed = |home: &Home| {
            let arrival = home.arrival.0.to_be_bytes();
            home.node.0.to_be_bytes().into_iter().chain(arrival)
        };
        let mut call = self.step(&self.scripts.advance, &event, node, &policy);
        call.number(serial)
            .number(version)
            .number(lease_held)
            .number(lease_wanted)
            .arg(word)
            .number(sent_at.0)
            .number(horizon.0)
            .arg(homes.iter().flat_map(packed).collect::<Vec<u8>>())
            .number(candidates.len())
            .number(given_back.len());
        for id in candidates.iter().chain(&given_back) {
            call.arg(*id.as_bytes());
        }
        for turn in &claims {
            call.arg(*turn.id.as_bytes()).number(turn.until.0);
        }
        let reply = Reply(DURING);
        let answer = reply.list(call.run(self.link().await?, DURING).await?)?;
        let answer = <[Value; 12]>::try_from(answer).map_err(|_| reply.unexpected())?;
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
            now,
        ] = answer;
        Ok(Advanced {
            version: reply.number(version)?,
            stale: reply.number::<u8>(stale)? == 1,
            called: turns(reply, called)?,
            missed: ids(reply, missed)?,
            entered: ids(reply, entered)?,
            lease: reply.number(lease)?,
            active: reply.number(active)?,
            open_turns: reply.number(open_turns)?,
            level: reply.number(level)?,
            heard: reply.number::<u8>(heard)? == 1,
            kept: kept(reply, kept_by)?,
            now: reply.micros(now)?,
        })
    }

    pub(super) async fn do_enter(&self, request: EnterRequest) -> Result<Entry, StoreError> {
        const DURING: &str = "let a ticket in";
        let EnterRequest {
            event,
            node,
            policy,
            id,
            claim,
            free,
            pass,
            known,
        } = request;
        let mut call = self.step(&self.scripts.enter, &event, node, &policy);
        call.arg(*id.as_bytes());
        match claim {
            Some(turn) => call.arg(*turn.id.as_bytes()).number(turn.until.0),
            None => call.arg("").arg(""),
        };
        call.number(u8::from(free))
            .arg(pass)
            .number(u8::from(known));
        let reply = Reply(DURING);
        let mut answer = reply
            .list(call.run(self.link().await?, DURING).await?)?
            .into_iter();
        let mut next = || answer.next().ok_or_else(|| reply.unexpected());
        Ok(match reply.text(next()?)?.as_str() {
            "granted" => Entry::Granted {
                until: reply.micros(next()?)?,
                now: reply.micros(next()?)?,
            },
            "again" => Entry::Again {
                pass: reply.text(next()?)?,
                until: reply.micros(next()?)?,
                now: reply.micros(next()?)?,
            },
            "over" => Entry::Over,
            "missed" => Entry::Missed,
            "not called" => Entry::NotCalled,
            _ => return Err(reply.unexpected()),
        })
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
            passes,
        } = request;
        let mut call = self.step(&self.scripts.settle, &event, node, &policy);
        call.number(version)
            .number(u8::from(shared))
            .number(passes.len())
            .number(entered.len());
        for (id, pass, until) in passes {
            call.arg(*id.as_bytes()).arg(pass).number(until.0);
        }
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
            let [gate, called, missed, active, ..] = keys::gate(base, event);
            pipe.cmd("HGET").arg(gate).arg("version");
            for turns in [called, missed] {
                pipe.cmd("ZRANGE")
                    .arg(turns)
                    .arg(0)
                    .arg(-1)
                    .arg("WITHSCORES");
            }
            pipe.cmd("ZCARD").arg(active);
        }
        let mut answers = self.link().await?.pipe(DURING, &pipe).await?.into_iter();
        for event in events {
            let mut next = || answers.next().ok_or_else(|| reply.unexpected());
            let [_, _, _, _, entered, ..] = keys::gate(base, event);
            let version = match next()? {
                Value::Nil => 0,
                version => reply.number(version)?,
            };
            let (called, missed) = (turns(reply, next()?)?, turns(reply, next()?)?);
            let active = reply.number(next()?)?;
            let entered = self.whole(DURING, &entered).await?.into_iter();
            views.push(GateView {
                event: event.clone(),
                version,
                now,
                called,
                missed,
                entered: entered.map(|(id, at)| (id, Micros(at as u64))).collect(),
                active,
            });
        }
        Ok(())
    }
}

fn ids(reply: Reply, value: Value) -> Result<Vec<TicketId>, StoreError> {
    let ids = reply.list(value)?.into_iter();
    ids.map(|id| reply.id(id)).collect()
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
