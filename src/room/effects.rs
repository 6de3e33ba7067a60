//! What a request needs of the world beyond memory: the store's synchronous steps.
//!
//! The room itself waits for nothing. The few requests that must wait (enter, complete, a durable
//! join, operators' changes) do it through this trait, which the composition root implements.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::answer::Commit;
use crate::model::gate::{EnterRequest, Entry};
use crate::model::{Beat, Change, EventId, Micros, NodeId, Ruled, TicketId};

/// What an effect answers, later.
pub type Effect<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

/// The store did not do it in time. It may yet have happened; asking again is harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store does not answer: {0}")]
pub struct Unavailable(pub String);

/// How the store is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreHealth {
    /// Answers.
    Up,
    /// Answers some, or late.
    Degraded,
    /// Has not answered for a while.
    Down,
}

impl StoreHealth {
    /// The API's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// The nodes of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// This one.
    pub own: NodeId,
    /// How many there are to be.
    pub size: u16,
    /// What they said last, by number; nothing before this one has loaded.
    pub beats: Vec<Beat>,
    /// Another live process has this node's number.
    pub number_taken: bool,
}

/// The world beyond memory.
pub trait Effects: Send + Sync + 'static {
    /// Runs an enter, exactly once.
    fn enter(&self, request: EnterRequest) -> Effect<'_, Entry>;
    /// Frees an active visitor's place. Answers whether it was held.
    fn complete(&self, event: EventId, id: TicketId) -> Effect<'_, bool>;
    /// Waits until a commit is durable.
    fn durable(&self, commit: Commit) -> Effect<'_, ()>;
    /// Makes an operator's change in the store, asked for at `at`.
    fn rule(&self, event: EventId, change: Change, at: Micros) -> Effect<'_, Ruled>;
    /// Waits until every node that reaches the store goes by what was ruled.
    fn spread(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// Which nodes there are, from what they said last; asks nothing.
    fn nodes(&self) -> Arc<Nodes>;
    /// How the store is doing, from what is known; asks nothing.
    fn health(&self) -> StoreHealth;
}
