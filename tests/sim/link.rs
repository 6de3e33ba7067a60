//! The store as one node reaches it: every call has a fate.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use tidegate::model::gate::{
    AdvanceRequest, Advanced, EnterRequest, Entry, GateView, SettleRequest,
};
use tidegate::model::{Batch, Change, EventId, Micros, Ruled, Ruling, Rulings, TicketId};
use tidegate::store::{
    Answer, Chunk, Cursor, FORMAT, Feed, Meta, Position, Retry, Store, StoreError,
};

use super::net::Fate;
use super::server::{META, Server};
use super::world::World;

/// Rulings that say nothing any more are kept for so long.
pub const KEPT: Duration = Duration::from_secs(6 * 3600);

pub struct Link {
    pub node: u16,
    pub world: Arc<World>,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn failed() -> StoreError {
    StoreError::new("ask the store", Retry::Unknown, "no answer in time")
}

impl Link {
    /// A call that reads one partition; `heard` is told what came back.
    fn read<T: Send + 'static>(
        &self,
        partition: u16,
        look: impl Fn(&mut Server) -> T + Send + 'static,
        heard: fn(&mut Server, &T),
    ) -> Answer<'_, T> {
        self.with(
            self.world.fate(self.node, partition, true),
            partition,
            look,
            heard,
        )
    }

    /// A call that changes one partition.
    fn call<T: Send + 'static>(
        &self,
        partition: u16,
        apply: impl Fn(&mut Server) -> T + Send + 'static,
        heard: fn(&mut Server, &T),
    ) -> Answer<'_, T> {
        self.with(
            self.world.fate(self.node, partition, false),
            partition,
            apply,
            heard,
        )
    }

    fn with<T: Send + 'static>(
        &self,
        fate: Fate,
        partition: u16,
        apply: impl Fn(&mut Server) -> T + Send + 'static,
        heard: fn(&mut Server, &T),
    ) -> Answer<'_, T> {
        let Fate {
            there,
            back,
            patience,
            twice,
            ..
        } = fate;
        let world = Arc::clone(&self.world);
        Box::pin(async move {
            let far = Arc::clone(&world);
            let applied = move || {
                let mut server = far.server();
                if twice {
                    drop(apply(&mut server));
                }
                let answer = apply(&mut server);
                drop(server);
                if fate.writes {
                    far.wrote(partition);
                }
                answer
            };
            let answer = match (there, back) {
                (None, _) => {
                    sleep(millis(patience)).await;
                    None
                }
                (Some(0), back) => {
                    let answer = applied();
                    let wait = back.unwrap_or(patience).min(patience);
                    if wait > 0 {
                        sleep(millis(wait)).await;
                    }
                    back.filter(|back| *back <= patience).map(|_| answer)
                }
                (Some(there), back) => {
                    let (tell, mut told) = oneshot::channel();
                    // On its way it is in nobody's hand: its caller may give up or die meanwhile.
                    world.main().spawn(async move {
                        sleep(millis(there)).await;
                        let _ = tell.send(applied());
                    });
                    let total = there + back.map_or(patience, |back| back.max(1));
                    sleep(millis(total.min(patience))).await;
                    back.filter(|_| total <= patience)
                        .and_then(|_| told.try_recv().ok())
                }
            };
            let answer = answer.ok_or_else(failed)?;
            heard(&mut world.server(), &answer);
            Ok(answer)
        })
    }
}

fn nothing<T>(_: &mut Server, _: &T) {}

impl Store for Link {
    fn meta(&self, _: u16) -> Answer<'_, Meta> {
        let meta = |server: &mut Server| Meta {
            format: FORMAT,
            partitions: server.partitions(),
            deployment: server.deployment.to_string(),
        };
        self.read(META, meta, nothing)
    }

    fn append(&self, partition: u16, batch: Arc<Batch>) -> Answer<'_, Position> {
        let append = move |server: &mut Server| server.append(partition, Arc::clone(&batch));
        self.call(partition, append, nothing)
    }

    fn feed_end(&self, partition: u16) -> Answer<'_, Position> {
        self.read(partition, move |server| server.feed_end(partition), nothing)
    }

    fn follow(&self, partition: u16, after: Position, limit: usize) -> Answer<'_, Feed> {
        let fate = self.world.fate(self.node, partition, true);
        let reading = self.with(
            fate,
            partition,
            move |server| server.follow(partition, after, limit),
            |server, feed| server.read(feed),
        );
        Box::pin(async move {
            let mut feed = reading.await?;
            if fate.shuffled {
                self.world.shuffle(&mut feed);
            }
            Ok(feed)
        })
    }

    fn wait(
        &self,
        partition: u16,
        after: Position,
        limit: usize,
        patience: Duration,
    ) -> Answer<'_, Feed> {
        let world = Arc::clone(&self.world);
        Box::pin(async move {
            let cut = world.is_cut(self.node, partition);
            if !cut && !world.server().has_after(partition, after) {
                let _ = timeout(patience, world.written(partition)).await;
            }
            self.follow(partition, after, limit).await
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn generation(&self) -> u64 {
        self.world.generation(self.node)
    }

    fn load(&self, partition: u16, _: Option<Cursor>, _: usize) -> Answer<'_, Chunk> {
        let load = move |server: &mut Server| server.load(partition);
        let loaded = self.read(partition, load, nothing);
        Box::pin(async move {
            Ok(Chunk {
                tickets: loaded.await?,
                next: None,
            })
        })
    }

    fn gates(&self) -> Answer<'_, Vec<GateView>> {
        self.read(META, Server::gates, |server, gates| {
            for gate in gates {
                for turn in &gate.called {
                    server.ledger.heard_of_turn(turn.id, turn.until);
                }
                for (id, _) in &gate.entered {
                    server.ledger.heard_inside(*id, gate.now);
                }
            }
        })
    }

    fn advance(&self, request: AdvanceRequest) -> Answer<'_, Advanced> {
        let home = self.world.server().home(&request.event);
        self.call(
            home,
            move |server| server.advance(&request),
            |server, answer| {
                for turn in &answer.called {
                    server.ledger.heard_of_turn(turn.id, turn.until);
                }
                for (id, _) in &answer.entered {
                    server.ledger.heard_of(*id);
                }
            },
        )
    }

    fn enter(&self, request: EnterRequest) -> Answer<'_, Entry> {
        let home = self.world.server().home(&request.event);
        let id = request.id;
        let entered = self.call(home, move |server| server.enter(&request), nothing);
        Box::pin(async move {
            let entry = entered.await?;
            let ledger = &mut self.world.server().ledger;
            match entry {
                Entry::Granted { now, .. } => ledger.heard_of_entry(id, now),
                Entry::Again { .. } => ledger.heard_of(id),
                Entry::Missed | Entry::NotCalled => {}
            }
            Ok(entry)
        })
    }

    fn settle(&self, request: SettleRequest) -> Answer<'_, ()> {
        let home = self.world.server().home(&request.event);
        self.call(home, move |server| server.settle(&request), nothing)
    }

    fn complete(&self, event: EventId, id: TicketId) -> Answer<'_, bool> {
        let home = self.world.server().home(&event);
        self.call(home, move |server| server.complete(&event, &id), nothing)
    }

    fn rulings(&self, known: u64) -> Answer<'_, Option<Rulings>> {
        let reading = self.read(META, move |server| server.rulings(known), nothing);
        Box::pin(async move {
            if self.world.is_blind(self.node) {
                return Err(failed());
            }
            reading.await
        })
    }

    fn rule(&self, event: EventId, change: Change, at: Micros) -> Answer<'_, Ruled> {
        let rule = move |server: &mut Server| {
            server.rule(|rulings| rulings.rule(&event, &change, at, KEPT))
        };
        self.call(META, rule, nothing)
    }

    fn restore_rulings(&self, rulings: Vec<(EventId, Ruling)>) -> Answer<'_, ()> {
        let restore = move |server: &mut Server| {
            server.rule(|known| drop(known.restore(rulings.clone())));
        };
        self.call(META, restore, nothing)
    }

    fn erase(&self, event: EventId, until: Micros) -> Answer<'_, ()> {
        self.call(META, move |server| server.erase(&event, until), nothing)
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
