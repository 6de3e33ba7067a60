//! The figures of a run, as a table.

use std::fmt::Write as _;

use super::plan::SECOND;
use super::reading::{Fate, read_all};
use super::story::{Call, Run, Seen, What};

/// The table, without the verdicts.
pub fn table(run: &Run) -> String {
    let mut table = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(table, "  {name:<44} {value}");
    };
    let calls = |call: Call| -> Vec<&Seen> {
        let seen = run.stories.iter().flat_map(|story| &story.seen);
        seen.filter(|seen| seen.call == call && !matches!(seen.what, What::Failed { .. }))
            .collect()
    };
    row(
        "visitors / events",
        format!("{} / {}", run.stories.len(), run.by_event().len()),
    );
    for (name, call) in [
        ("joins", Call::Join),
        ("status polls", Call::Status),
        ("enters", Call::Enter),
        ("beacons", Call::Beacon),
        ("leaves", Call::Leave),
    ] {
        let seen = calls(call);
        row(name, format!("{}, {}", seen.len(), latency(&seen)));
    }
    let joins = calls(Call::Join);
    row(
        "joins per second, of the first 90 %",
        format!("{:.0}", per_second(&joins)),
    );
    row(
        "polls per second, of the first 90 %",
        format!("{:.0}", per_second(&calls(Call::Status))),
    );
    let told = run.stories.iter().flat_map(|story| &story.seen);
    let told = told
        .filter(|seen| matches!(seen.what, What::Joined { .. } | What::Told(_)))
        .count();
    row("places told", told.to_string());
    let events = read_all(run);
    let turns = || events.iter().flatten().flat_map(|reading| &reading.turns);
    let fates = |fate: Fate| turns().filter(|turn| turn.fate == fate).count();
    row(
        "turns seen / taken",
        format!("{} / {}", turns().count(), fates(Fate::Entered)),
    );
    row(
        "turns seen that lapsed and were refunded",
        fates(Fate::Lapses).to_string(),
    );
    let again = events.iter().flatten().filter(|reading| {
        reading.turns.len() > 1
            && reading
                .turns
                .last()
                .is_some_and(|t| t.fate == Fate::Entered)
    });
    row(
        "visitors who missed a turn and entered later",
        again.count().to_string(),
    );
    let late = run.late.iter().map(|late| late.by).max();
    let late = format!("{} ms", late.unwrap_or(0) / 1000);
    row("the latest timer of the driver", late);
    for outage in &run.outages {
        let ms = |us: u64| us / 1000;
        let (at, down) = (ms(outage.killed), ms(outage.ready - outage.killed));
        row(
            "down",
            format!("at {at} ms, all well again after {down} ms"),
        );
    }
    table
}

/// Latencies in milliseconds, as the client saw them.
fn latency(seen: &[&Seen]) -> String {
    let mut took: Vec<u64> = seen.iter().map(|seen| seen.received - seen.sent).collect();
    took.sort_unstable();
    let Some(last) = took.len().checked_sub(1) else {
        return "none".to_owned();
    };
    let ms = |share: f64| took[(last as f64 * share) as usize] as f64 / 1000.0;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        ms(0.5),
        ms(0.99),
        ms(1.0)
    )
}

/// How many a second the server answered, leaving out the slowest tail of latecomers.
fn per_second(seen: &[&Seen]) -> f64 {
    let mut at: Vec<u64> = seen.iter().map(|seen| seen.received).collect();
    at.sort_unstable();
    let count = at.len() * 9 / 10;
    if count < 2 {
        return 0.0;
    }
    let span = (at[count - 1] - at[0]).max(1);
    count as f64 * SECOND as f64 / span as f64
}
