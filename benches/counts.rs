//! Instructions of the steps that polls and joins are made of, as callgrind counts them: the same on a
//! busy machine as on a quiet one. `make counts` compares them with `counts.toml`; with `-- write` it
//! writes that file anew.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark looks about from outside"
)]

#[path = "common/room.rs"]
mod room;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use room::{START, empty_journal};
use tidegate::http::status_body;
use tidegate::model::{Batch, EventId, Kind, Micros, NodeId, Record, TicketId, codec, token};
use tidegate::room::Room;
use tidegate::room::answer::Join;

/// Tickets in line before anything is counted.
const WAITING: usize = 10_000;
/// Counted are the instructions that the second number of operations costs beyond the first.
const OPERATIONS: [u64; 2] = [1_000, 11_000];
/// A count may be off by so much: what is inlined changes a little with code elsewhere, and processors
/// differ in the instructions they offer to copying and hashing.
const TOLERANCE: f64 = 0.10;
const RECORDS: usize = 1_024;

/// What is counted: its name, and so many operations of it.
type Case = (&'static str, fn(u64));

const CASES: [Case; 5] = [
    ("verify", verify),
    ("look", look),
    ("status", status),
    ("join", join),
    ("encode_1024", encode),
];

const ASK: Join<'static> = Join {
    event: "sale",
    key: None,
    user: None,
};

fn full() -> (Room, Vec<String>) {
    let room = room::room(WAITING * 4);
    let tokens = (0..WAITING).map(|_| room.join(START, &ASK).expect("room for all").token);
    let tokens = tokens.collect();
    empty_journal(&room);
    (room, tokens)
}

/// Polls with each token in turn, half a second apart: nobody repeats.
fn polls(operations: u64, mut poll: impl FnMut(&Room, &str, Micros)) {
    let (room, tokens) = full();
    for n in 0..operations {
        let now = START.after(Duration::from_millis(500 * (n + 2)));
        poll(&room, &tokens[n as usize * 7919 % tokens.len()], now);
    }
}

fn verify(operations: u64) {
    let (keys, _) = room::keys();
    polls(operations, |_, token, _| {
        let mut buffer = token::buffer();
        black_box(keys.verify(token, &mut buffer).is_some());
    });
}

fn look(operations: u64) {
    polls(operations, |room, token, now| {
        black_box(room.look(now, token).is_ok());
    });
}

fn status(operations: u64) {
    polls(operations, |room, token, now| {
        if let Ok(found) = room.look(now, token) {
            black_box(status_body(&room.standing(now, &found)));
        }
    });
}

fn join(operations: u64) {
    let (room, _) = full();
    for _ in 0..operations {
        black_box(room.join(START, &ASK).is_ok());
    }
}

/// A batch of joins to bytes.
fn encode(operations: u64) {
    let record = |n: usize| Record {
        kind: Kind::Joined,
        id: TicketId::from_u128(
            (n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        ),
        at: START.after(Duration::from_micros(n as u64)),
    };
    let batch = Batch {
        node: NodeId(0),
        epoch: 1,
        seq: 1,
        clock: START,
        events: vec![(
            EventId::new("sale").expect("a fine id"),
            (0..RECORDS).map(record).collect(),
        )],
    };
    // A thousandth as often: each is a thousand records.
    for _ in 0..operations / 100 {
        black_box(codec::encode(&batch));
    }
}

/// Instructions of this program running one case.
fn counted(case: &str, operations: u64) -> u64 {
    let own = std::env::current_exe().expect("it runs");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args([case, &operations.to_string()])
        .output()
        .expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.unwrap_or_else(|| panic!("callgrind said no count:\n{text}"))
}

fn each(case: &str) -> u64 {
    let [few, many] = OPERATIONS.map(|operations| counted(case, operations));
    let operations = match case {
        "encode_1024" => (OPERATIONS[1] - OPERATIONS[0]) / 100,
        _ => OPERATIONS[1] - OPERATIONS[0],
    };
    many.saturating_sub(few) / operations
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &str| CASES.iter().find(|(case, _)| *case == name);
    if let [case, operations, ..] = arguments.as_slice()
        && let Some((_, run)) = known(case)
    {
        run(operations.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let counts: BTreeMap<String, u64> = CASES
        .iter()
        .map(|(case, _)| ((*case).to_owned(), each(case)))
        .collect();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/counts.toml");
    if arguments.iter().any(|argument| argument == "write") {
        let lines = counts
            .iter()
            .map(|(case, count)| format!("{case} = {count}\n"));
        let text =
            "# Instructions each, held by `make counts`; `make counts-write` writes them anew.\n";
        let text = lines.fold(text.to_owned(), |text, line| text + &line);
        std::fs::write(&file, text).expect("the file can be written");
    }
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let wanted: BTreeMap<String, u64> = toml::from_str(&text).expect("counts by name");
    let mut held = true;
    for (case, count) in counts {
        let Some(wanted) = wanted.get(&case) else {
            println!("{case:<12} {count:>8} instructions, not in counts.toml");
            held = false;
            continue;
        };
        let change = count as f64 / *wanted as f64 - 1.0;
        let verdict = match change {
            change if change > TOLERANCE => "MORE THAN ALLOWED",
            change if change < -TOLERANCE => "fewer: write counts.toml anew",
            _ => "as it was",
        };
        println!(
            "{case:<12} {count:>8} instructions, {:+.1} %: {verdict}",
            change * 100.0
        );
        held &= change.abs() <= TOLERANCE;
    }
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
