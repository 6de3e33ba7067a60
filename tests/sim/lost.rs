//! What a store that lost something leaves behind, one story a test.

use std::time::Duration;

use super::fleet::Fleet;
use super::stories::still;
use super::world::Setting;

const SECOND: Duration = Duration::from_secs(1);

/// A failover gives the positions of what was lost to what comes next: who has read so far reads them
/// again.
#[test]
pub fn what_takes_the_place_of_what_was_lost_is_heard_of() {
    for spread in 1..=8 {
        let mut fleet = Fleet::with(Setting {
            nodes: 2,
            partitions: 1,
            policy: still(),
            latency: 0,
            journal: 100_000,
            clocks: vec![(0, 0); 2],
            seed: 1,
        });
        fleet.pass(SECOND);
        let mut tokens = Vec::new();
        // Three batches that are read, and lost; then others, before the reader comes again.
        for _ in 0..3 {
            tokens.push(fleet.join(0).token);
            fleet.pass(Duration::from_millis(30));
        }
        fleet.pass(Duration::from_millis(30));
        fleet.lose(SECOND / 5);
        for _ in 0..6 {
            tokens.push(fleet.join(0).token);
            fleet.pass(Duration::from_millis(2 * spread));
        }
        fleet.pass(3 * SECOND);
        for (place, token) in (1..).zip(&tokens) {
            assert_eq!(fleet.places(token), [place, place]);
        }
    }
}
