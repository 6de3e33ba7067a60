//! What operators ruled: one hash that all nodes look at, and what a forgotten event left.

use redis::Value;

use super::reply::Reply;
use super::scripts::Call;
use super::{Redis, keys};
use crate::model::{Change, EventId, Micros, Ruled, Ruling, Rulings, micros};
use crate::store::StoreError;

/// The field that names the revision; no event can have this name.
const REVISION: &str = "#";
/// Rulings merged in by one call.
const AT_ONCE: usize = 500;

impl Redis {
    pub(super) async fn do_rulings(&self, known: u64) -> Result<Option<Rulings>, StoreError> {
        const DURING: &str = "read the rulings";
        let reply = Reply(DURING);
        let key = self.keys.load().rulings();
        let mut get = redis::cmd("HGET");
        get.arg(&key).arg(REVISION);
        let revision = match self.link().await?.query(DURING, &get).await? {
            Value::Nil => 0,
            value => reply.number(value)?,
        };
        if revision == known {
            return Ok(None);
        }
        let mut all = redis::cmd("HGETALL");
        all.arg(&key);
        let fields = self.link().await?.query(DURING, &all).await?;
        let mut rulings = Rulings::default();
        for (name, text) in reply.pairs(fields, Reply::text, Reply::text)? {
            if name == REVISION {
                rulings.revision = text.parse().map_err(|_| reply.unexpected())?;
                continue;
            }
            let event = EventId::new(&name).map_err(|_| reply.unexpected())?;
            let ruling = text.parse().map_err(|_| reply.unexpected())?;
            rulings.events.insert(event, ruling);
        }
        Ok(Some(rulings))
    }

    pub(super) async fn do_rule(
        &self,
        event: EventId,
        change: Change,
        at: Micros,
    ) -> Result<Ruled, StoreError> {
        const DURING: &str = "rule on an event";
        let (forgotten, patch, over) = match change {
            Change::Policy { patch, over } => (Micros(0), patch, over),
            Change::Forget { until } => (until, None, None),
        };
        let mut call = self.rule_call(true, at);
        call.arg(event.as_str())
            .number(at.0)
            .number(forgotten.0)
            .arg(patch.unwrap_or_default())
            .arg(over.map_or_else(String::new, |over| over.0.to_string()));
        let reply = Reply(DURING);
        let answer = reply.list(call.run(self.link().await?, DURING).await?)?;
        let [taken, ruling] = <[Value; 2]>::try_from(answer).map_err(|_| reply.unexpected())?;
        let ruling = reply
            .text(ruling)?
            .parse()
            .map_err(|_| reply.unexpected())?;
        Ok(Ruled {
            taken: reply.number::<u32>(taken)? == 1,
            ruling,
        })
    }

    pub(super) async fn do_restore_rulings(
        &self,
        rulings: Vec<(EventId, Ruling)>,
    ) -> Result<(), StoreError> {
        for some in rulings.chunks(AT_ONCE) {
            let mut call = self.rule_call(false, Micros(0));
            for (event, ruling) in some {
                call.arg(event.as_str())
                    .number(ruling.stamp.0)
                    .number(ruling.forgotten.0)
                    .arg(ruling.patch.clone().unwrap_or_default())
                    .arg("");
            }
            call.run(self.link().await?, "restore rulings").await?;
        }
        Ok(())
    }

    fn rule_call(&self, new: bool, at: Micros) -> Call<'_> {
        let keyring = self.keys.load();
        let names = vec![keyring.rulings(), keyring.silent_rulings()];
        let mut call = Call::new(&self.scripts.rule, names);
        let horizon = at.0.saturating_sub(micros(self.settings.keep_removed));
        call.number(u8::from(new)).number(horizon);
        call
    }

    pub(super) async fn do_erase(&self, event: EventId, until: Micros) -> Result<(), StoreError> {
        const DURING: &str = "erase an event";
        let keyring = self.keys.load_full();
        let home = keyring.home(&event);
        // The gate first: where there are tickets left, it may have to be done again.
        let others = (0..keyring.partitions()).filter(|partition| *partition != home);
        for partition in [home].into_iter().chain(others) {
            let base = self.base(&keyring, partition, DURING)?;
            let mut names = vec![keys::events(base)];
            names.extend([keys::line(base, &event), keys::gone(base, &event)]);
            if partition == home {
                names.extend([keys::erased(base, &event), keys::gates(base)]);
                names.extend(keys::gate(base, &event));
            }
            let mut call = Call::new(&self.scripts.erase, names);
            call.arg(event.as_str())
                .number(until.0)
                .number(self.settings.keep_removed.as_millis().max(1));
            call.run(self.link().await?, DURING).await?;
        }
        Ok(())
    }
}
