//! What nodes do without the store, written down where gates would have written it.

use tidegate::model::{Micros, TicketId};

use super::ledger::Deed;
use super::world::{Live, World, sale};

impl World {
    /// Writes down which turns nodes have given without the store.
    pub fn note_all_shared(&self) {
        for live in self.up() {
            self.note_shared(&live);
        }
    }

    /// Writes down which turns a node has given without the store since this was last asked.
    pub fn note_shared(&self, live: &Live) {
        let open = live.room.shared_turns(&sale());
        let mut shared = live.shared.lock();
        if open.is_empty() && shared.0.is_empty() {
            return;
        }
        let (now, there) = (self.now(), live.now());
        let ready = self.setting.policy.ready_ttl;
        for turn in open.iter().filter(|turn| !shared.0.contains(&turn.id)) {
            let given = turn.until.0 - ready.as_micros() as u64;
            let at = Micros(now.0 - there.0.saturating_sub(given));
            let deed = Deed::Given {
                until: at.after(ready),
            };
            let mut server = self.server();
            server
                .ledger
                .book_shared(at, &sale(), turn.id, deed, live.number);
        }
        shared.0 = open.into_iter().map(|turn| turn.id).collect();
    }

    /// Somebody went in at a node without the store.
    pub fn note_shared_entry(&self, live: &Live, id: TicketId) {
        if live.shared.lock().1.insert(id) {
            let (now, deed) = (self.now(), Deed::Entered);
            self.server()
                .ledger
                .book_shared(now, &sale(), id, deed, live.number);
        }
    }
}
