//! Visitors whose place was moved over from the gateway that Tidegate replaces, with its tokens.

use super::Room;
use crate::model::token::{Claims, TokenBuffer};
use crate::model::{LegacyToken, NodeId};

impl Room {
    /// What memory knows of a legacy token's ticket, in the form of a signed token's claims. The
    /// token names no event, so all events that may have such tickets are looked in: a hash, and up
    /// to three look-ups an event. No store and no lock; nothing at all where none was moved over.
    pub(super) fn legacy_claims<'a>(
        &self,
        token: &str,
        buffer: &'a mut TokenBuffer,
    ) -> Option<Claims<'a>> {
        let moved = self.events.moved();
        if moved.is_empty() {
            return None;
        }
        let ids = self.ticket_keys.legacy_ids(&LegacyToken::parse(token)?);
        let lives = moved
            .iter()
            .flat_map(|event| ids.iter().map(move |id| (event, id)));
        let mut newest = None;
        for (event, id) in lives {
            if let Some(view) = event.line.find(id) {
                newest = Some((event, view));
                if !view.state.is_gone() {
                    break;
                }
            }
        }
        let (event, view) = newest?;
        let name = buffer.get_mut(..event.id.as_str().len())?;
        name.copy_from_slice(event.id.as_str().as_bytes());
        Some(Claims {
            event: std::str::from_utf8(name).ok()?,
            id: view.id,
            slot: 0,
            arrival: view.time,
            node: NodeId::OUTSIDE,
            epoch: 0,
            told: None,
        })
    }
}
