//! What is remembered of the few tickets that joined or left more than once.

use crate::model::Micros;

/// The most later arrivals that are kept of a ticket. They exist only if several nodes took a
/// visitor's join at once, and matter only if a removal falls between them.
const LATER_MAX: usize = 8;

/// What a live ticket's entry has no room for. Its state is the newest removal and the smallest
/// arrival after that: so arrivals after the smallest are kept, for a removal between them may
/// still turn up, and so is the removal, for arrivals before it may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    /// The newest removal, which is before the arrival.
    pub(super) removed: Option<Micros>,
    /// Known arrivals after the one that counts, in order, each once.
    pub(super) later: Vec<Micros>,
}

impl History {
    /// Notes an arrival after the one that counts. Beyond [`LATER_MAX`] the newest is kept and the
    /// one before it forgotten: the ticket may be shown further back, but is never lost.
    pub(super) fn add(&mut self, arrival: Micros) {
        if let Err(at) = self.later.binary_search(&arrival) {
            self.later.insert(at, arrival);
            if self.later.len() > LATER_MAX {
                self.later.remove(LATER_MAX - 1);
            }
        }
    }

    /// Notes a removal at `at` of the arrival that counted; the arrival that counts now, if any.
    pub(super) fn remove(&mut self, at: Micros) -> Option<Micros> {
        self.removed = Some(at);
        self.later.retain(|&arrival| arrival > at);
        (!self.later.is_empty()).then(|| self.later.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_arrival_is_kept_whatever_comes() {
        let mut history = History::default();
        (1..100)
            .rev()
            .chain(1..100)
            .for_each(|a| history.add(Micros(a)));
        assert_eq!(history.later.len(), LATER_MAX);
        assert_eq!(history.later.last(), Some(&Micros(99)));
        assert_eq!(history.remove(Micros(3)), Some(Micros(4)));
        assert_eq!(history.remove(Micros(98)), Some(Micros(99)));
        assert_eq!(history.remove(Micros(100)), None);
    }
}
