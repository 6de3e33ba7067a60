//! The contract of [`tidegate::store::Store`], held against every store.

mod embedded;
mod fault;
mod feeds;
mod gates;
mod kit;
mod redis;
mod rulings;
mod shares;
mod tickets;

macro_rules! cases {
    ($open:path; $($part:ident: $($case:ident),+;)+) => {
        $($(
            #[tokio::test]
            async fn $case() {
                crate::store::$part::$case($open().await).await;
            }
        )+)+
    };
}

/// One module of tests for each store, opened by the function of its name in [`kit`].
macro_rules! hold_to_the_contract {
    ($($store:ident),+) => {
        $(mod $store {
            cases! {
                crate::store::kit::$store;
                tickets:
                    what_was_appended_is_loaded_in_pieces,
                    the_earliest_arrival_after_the_newest_removal_counts,
                    records_merge_the_same_in_any_order,
                    a_batch_applied_twice_is_applied_once,
                    records_that_are_not_durable_leave_nothing,
                    partitions_and_events_are_apart,
                    removals_are_forgotten_after_their_time,
                    a_foreign_cursor_is_refused,
                    the_fixed_facts_stay;
                rulings:
                    rulings_are_kept_in_the_stores_order,
                    a_ruling_made_for_another_one_is_not_taken,
                    rulings_that_say_nothing_are_dropped_in_time,
                    what_was_lost_of_the_rulings_is_restored,
                    what_is_as_old_as_the_forgetting_is_erased;
                feeds:
                    who_follows_from_the_end_misses_nothing,
                    a_feed_is_read_in_steps,
                    a_feed_trimmed_by_size_says_so,
                    a_feed_trimmed_by_age_says_so;
                gates:
                    turns_are_given_entered_and_completed,
                    a_ticket_enters_once_however_often_it_is_asked_for,
                    racing_enters_agree_on_one_moment,
                    racing_advances_give_no_turn_twice,
                    a_repeated_advance_changes_nothing,
                    turns_lapse_on_the_stores_clock;
            }
        })+
    };
}

/// Of the stores that nodes share.
mod shared {
    macro_rules! of {
        ($($store:ident),+) => {
            $(mod $store {
                cases! {
                    crate::store::kit::$store;
                    rulings: the_nodes_hear_of_each_other;
                }
            })+
        };
    }
    of!(memory, redis_single, redis_cluster);
}

mod contract {
    hold_to_the_contract!(memory, embedded, redis_single, redis_cluster);
}
