//! The whole decision of a poll: token verified, ticket found, place by rank, answer rendered; with
//! unique tokens in random order, so that each poll meets a cold ticket. `STATUS_TICKETS=n` sizes it.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "common/room.rs"]
mod room;

use std::hint::black_box;
use std::time::{Duration, Instant};

use room::{START, empty_journal};
use tidegate::http::status_body;
use tidegate::model::token::{self, TicketKeys};
use tidegate::model::{EventId, LegacyToken, Micros, TicketKey};
use tidegate::room::Room;
use tidegate::room::answer::Join;

const TARGET_NS: f64 = 600.0;
const ROUNDS: usize = 9;

/// A waiting token of another gateway: a UUID that is as good as random.
fn legacy(n: u64) -> String {
    let hash = blake3::hash(&n.to_be_bytes()).to_hex();
    [
        &hash[..8],
        &hash[8..12],
        &hash[12..16],
        &hash[16..20],
        &hash[20..32],
    ]
    .join("-")
}

/// Puts the tickets of these tokens in line, as after an import, spread over some events.
fn move_over(room: &Room, keys: &TicketKeys, tokens: &[String], events: usize) {
    for (event, tokens) in tokens.chunks(tokens.len().div_ceil(events)).enumerate() {
        let tickets = tokens.iter().enumerate().map(|(n, token)| TicketKey {
            arrival: Micros(START.0 - n as u64),
            id: keys.legacy_ids(&LegacyToken::parse(token).expect("a UUID"))[0],
        });
        let event = EventId::new(&format!("moved.{event}")).expect("a fine id");
        room.restore_live(START, &event, &tickets.collect::<Vec<_>>());
    }
}

/// The median and the best of some rounds over all tokens, in nanoseconds each.
fn measure(tokens: &[String], mut each: impl FnMut(&str, Micros)) -> (f64, f64) {
    let mut rounds: Vec<f64> = (0..ROUNDS as u64)
        .map(|round| {
            let now = START.after(Duration::from_secs(60 * (round + 1)));
            let begun = Instant::now();
            for token in tokens {
                each(token, now);
            }
            begun.elapsed().as_nanos() as f64 / tokens.len() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    (rounds[ROUNDS / 2], rounds[0])
}

fn main() {
    let tickets = std::env::var("STATUS_TICKETS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let room = room::room(tickets);
    let mut tokens = Vec::with_capacity(tickets);
    let ask = Join {
        event: "sale",
        key: None,
        user: None,
    };
    let begun = Instant::now();
    for n in 0..tickets {
        tokens.push(room.join(START, &ask).expect("room for all").token);
        if n % 4096 == 0 {
            empty_journal(&room);
        }
    }
    let join = begun.elapsed().as_nanos() as f64 / tickets as f64;
    // A fixed shuffle (Fisher–Yates with a 64-bit linear congruential generator).
    let mut seed = 1u64;
    for n in (1..tokens.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokens.swap(n, (seed >> 33) as usize % (n + 1));
    }
    // A real token comes hot from the socket: these lie in memory in the order of the polls, so that
    // only the ticket is cold.
    let tokens: Vec<String> = tokens
        .iter()
        .map(|token| token.as_str().to_owned())
        .collect();
    let asked = &tokens[..tokens.len().min(1_000_000)];
    let (keys, _) = room::keys();
    let verify = measure(asked, |token, _| {
        black_box(
            keys.verify(token, &mut token::buffer())
                .map(|claims| claims.id),
        );
    });
    let look = measure(asked, |token, now| {
        black_box(room.look(now, token).is_ok());
    });
    let whole = measure(asked, |token, now| {
        if let Ok(found) = room.look(now, token) {
            black_box(status_body(&room.standing(now, &found)));
        }
    });
    let moved: Vec<_> = (0..tickets as u64).map(legacy).collect();
    move_over(&room, &keys, &moved, 1);
    let moved = &moved[..moved.len().min(1_000_000)];
    let found = measure(moved, |token, now| {
        if let Ok(found) = room.look(now, token) {
            black_box(status_body(&room.standing(now, &found)));
        }
    });
    let strange: Vec<_> = (0..200_000).map(|n| legacy(n | 1 << 63)).collect();
    let unknown = measure(&strange, |token, now| {
        black_box(room.look(now, token).is_err());
    });
    move_over(&room, &keys, &strange[100_000..], 99);
    let unknown_of_many = measure(&strange[..100_000], |token, now| {
        black_box(room.look(now, token).is_err());
    });
    println!("status decision at {tickets} waiting, unique tokens in random order, ns each");
    println!("  {:<44} {join:>8.0}", "join (the whole room side of it)");
    for (what, (median, best)) in [
        ("verify the token", verify),
        ("verify, find, rank", look),
        ("verify, find, rank, render", whole),
        ("the same for a token that was moved over", found),
        ("a UUID that nobody has", unknown),
        ("the same when 100 events were moved over", unknown_of_many),
    ] {
        println!("  {what:<44} {median:>8.0} ({best:.0})");
    }
    let verdict = if whole.0 <= TARGET_NS {
        "met"
    } else {
        "MISSED"
    };
    println!(
        "  medians (best of {ROUNDS}); target ≤ {TARGET_NS} for the whole at 1 million: {verdict}"
    );
}
