//! Made-up histories for the checkers' own tests. Times are in tenths of a second.

use crate::sale::plan::{Kind, SECOND, Terms};
use crate::sale::story::{Call, Down, End, Outage, Place, Run, Seen, Story, What};

/// A tenth of a second.
const TENTH: u64 = SECOND / 10;

/// How long each made-up call takes.
const TAKES: u64 = SECOND / 100;

/// Writes one story, call by call.
pub struct Teller(Story);

/// A visitor of event 0 who joins at `at` and is told `position`; 0 means "ready at once".
pub fn visitor(number: usize, at: u64, position: u64) -> Teller {
    let place = Place {
        position,
        ready: position == 0,
        entered: false,
        within: None,
    };
    let token = format!("token-{number}");
    Teller(Story {
        event: 0,
        visitor: number,
        kind: Kind::Plain,
        seen: Vec::new(),
        end: End::Unfinished,
        epilogue: Vec::new(),
    })
    .call(at, Call::Join, What::Joined { token, place })
}

impl Teller {
    /// Adds one call of any outcome.
    pub fn call(mut self, at: u64, call: Call, what: What) -> Self {
        let sent = at * TENTH;
        self.0.seen.push(Seen {
            call,
            sent,
            received: sent + TAKES,
            early: false,
            node: None,
            what,
        });
        self
    }

    /// Polls at `at` and is told `position`; 0 means "ready".
    pub fn polls(self, at: u64, position: u64) -> Self {
        let place = Place {
            position,
            ready: position == 0,
            entered: false,
            within: None,
        };
        self.call(at, Call::Status, What::Told(place))
    }

    /// Waits at `position`, polling every two seconds and last at `until`.
    pub fn waits(self, until: u64, position: u64) -> Self {
        let joined = self.0.seen[0].sent / TENTH;
        let polls = (joined + 20..until).step_by(20);
        polls
            .fold(self, |teller, at| teller.polls(at, position))
            .polls(until, position)
    }

    /// Enters at `at` with `reservation`.
    pub fn enters(mut self, at: u64, reservation: &str) -> Self {
        self.0.end = End::Entered;
        self.call(
            at,
            Call::Enter,
            What::Granted {
                reservation: reservation.to_owned(),
            },
        )
    }

    /// The story, ending as it does.
    pub fn ends(mut self, end: End) -> Story {
        self.0.end = end;
        self.0
    }

    /// The story of one who entered at `at` with a reservation of their own, called just before.
    pub fn called_and_enters(self, at: u64) -> Story {
        let reservation = format!("reservation-{}", self.0.visitor);
        self.polls(at, 0).enters(at, &reservation).0
    }
}

/// A run of one event with 1 turn a second, 2 at once, each living 8 seconds.
pub fn run(stories: Vec<Story>) -> Run {
    let terms = Terms {
        rate: 1.0,
        burst: 2,
        ..Terms::SALE
    };
    Run {
        terms,
        stories,
        outages: Vec::new(),
        late: Vec::new(),
        closed: u64::MAX,
    }
}

/// The same run with the server down from `killed` to `ready`.
pub fn down(run: Run, killed: u64, ready: u64) -> Run {
    without(run, Down::Server, killed, ready)
}

/// The same run with something down from `killed` to `ready`.
pub fn without(mut run: Run, what: Down, killed: u64, ready: u64) -> Run {
    run.outages.push(Outage {
        killed: killed * TENTH,
        ready: ready * TENTH,
        what,
    });
    run
}
