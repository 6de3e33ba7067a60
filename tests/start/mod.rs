//! Starting while the store is away: visitors are answered by what they bring, and what the store
//! holds is merged in when it comes.

mod empty;
mod late_redis;
