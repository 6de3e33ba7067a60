//! Deliberate mistakes, to see that the simulation finds them. Only builds with the feature `mutants`
//! have them; one at a time is made, on the thread that asks for it.

use std::cell::Cell;

/// A mistake, named by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A turn is given and not paid for.
    TurnForFree,
    /// A turn that lapsed is refunded twice.
    RefundTwice,
    /// The bucket is filled at four fifths of the rate.
    RefillShort,
    /// A lease is granted and not deducted.
    LeaseForFree,
    /// Who enters does not count as inside.
    CapForgotten,
    /// A retried enter is granted anew, with a new pass.
    EnterTwice,
    /// Called from behind.
    LastFirst,
    /// A place is told without what was told before.
    ToldForgotten,
    /// A ticket that nobody knows is not put back.
    NotPutBack,
    /// A removal is not remembered.
    TombstoneForgotten,
    /// Silence is believed although not everybody can be heard.
    DeafExpires,
    /// Sightings are not told to the fleet.
    SightingsKept,
    /// What the store lost is not written again.
    TailNotSent,
    /// A reader does not go back after a loss.
    NotRewound,
    /// What a node wrote that is gone, and the store lost, nobody writes again.
    OrphansLeft,
    /// A wiped store is not filled again.
    RefillSkipped,
    /// A gate that lost turns and entries is not told of them.
    NotSettled,
    /// A gate goes on with the bucket of a store that fell back.
    NotTakenOver,
    /// A turn that nobody took is not given to the next.
    NoShowKept,
    /// A status waits for a fresh view.
    StatusNeedsStore,
    /// The journal has no bound.
    JournalUnbounded,
    /// A batch that failed is taken for written.
    FailedIsDone,
    /// A soft leave is ended though its visitor came back.
    RefreshLeaves,
    /// A node that goes on by itself calls tickets that are at home elsewhere.
    HomeIgnored,
    /// … calls tickets that the gate may call.
    HorizonIgnored,
    /// … has the whole rate.
    ShareUndivided,
    /// … begins as soon as it has no answer.
    ShareAtOnce,
    /// … tells nobody afterwards what it gave.
    ShareUntold,
    /// The gate withholds nothing from its bucket for nodes that are not heard.
    ShareNotWithheld,
}

thread_local! {
    static MADE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Makes a mistake on this thread from now on, or none.
pub fn make(mutant: Option<Mutant>) {
    MADE.set(mutant);
}

/// Whether this mistake is made.
pub fn is(mutant: Mutant) -> bool {
    MADE.get() == Some(mutant)
}
