//! The line at one thousand, one million and ten million waiting tickets: what a place costs, what
//! changes cost, what readers lose to a writer, what a visitor weighs. Ends with a table of results
//! beside the targets.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod crowd;
mod table;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use crowd::{Crowd, key, mix};
use table::{Table, Timing};
use tidegate::model::Micros;
use tidegate::room::line::{Line, Reason, View};

const SIZES: [u64; 3] = [1_000, 1_000_000, 10_000_000];
/// Changes a second that readers must bear.
const CHANGES_PER_SEC: u64 = 200_000;

/// Lets criterion time `run`, which takes a number of operations and says how long they took.
/// Returns nanoseconds an operation.
fn time(
    group: &mut BenchmarkGroup<'_, WallTime>,
    what: &str,
    size: u64,
    mut run: impl FnMut(u64) -> Duration,
) -> Timing {
    let mut samples = Vec::new();
    group.bench_function(format!("{what}/{size}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let took = run(iterations);
            samples.push(took.as_nanos() as f64 / iterations as f64);
            took
        });
    });
    Timing::new(samples)
}

/// Times `change` in chunks of `chunk`, and `restore`, untimed, after each.
fn chunks<S>(
    state: &mut S,
    iterations: u64,
    chunk: u64,
    mut change: impl FnMut(&mut S, u64),
    mut restore: impl FnMut(&mut S, u64),
) -> Duration {
    let (mut took, mut left) = (Duration::ZERO, iterations);
    while left > 0 {
        let now = left.min(chunk);
        let start = Instant::now();
        change(state, now);
        took += start.elapsed();
        restore(state, now);
        left -= now;
    }
    took
}

fn reads(line: &Line, views: &[View], iterations: u64, read: fn(&Line, &View) -> u64) -> Duration {
    let start = Instant::now();
    for i in 0..iterations {
        black_box(read(line, &views[i as usize % views.len()]));
    }
    start.elapsed()
}

fn rank(line: &Line, view: &View) -> u64 {
    line.place(view).unwrap_or(0)
}

fn look(line: &Line, view: &View) -> u64 {
    line.look(&view.id, None, Micros(1 << 30))
        .and_then(|look| look.place)
        .unwrap_or(0)
}

/// How long this thread has run so far: on a busy machine that is less than has passed.
fn ran() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split(' ')
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// Reads a second of `threads` readers, of the time they run, for a while; in millions.
fn throughput(line: &Line, views: &[View], threads: usize, read: fn(&Line, &View) -> u64) -> f64 {
    const WINDOW: Duration = Duration::from_millis(250);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|reader| {
                let views = &views[reader * views.len() / threads..];
                scope.spawn(move || {
                    let (start, ran_before, mut done) = (Instant::now(), ran(), 0u64);
                    while start.elapsed() < WINDOW {
                        reads(line, views, 10_000, read);
                        done += 10_000;
                    }
                    let ran = ran().zip(ran_before).map(|(now, before)| now - before);
                    let took = ran.filter(|ran| !ran.is_zero()).unwrap_or(start.elapsed());
                    done as f64 / took.as_secs_f64() / 1e6
                })
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum()
    })
}

/// Changes the line at [`CHANGES_PER_SEC`], a join at the end for every removal of somebody, until
/// told that it is `over`.
fn change(line: &Line, from: u64, mut doomed: impl Iterator<Item = u64>, over: &AtomicBool) -> u64 {
    let (start, mut done) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        if done * 1_000_000 > start.elapsed().as_micros() as u64 * CHANGES_PER_SEC {
            std::hint::spin_loop();
            continue;
        }
        let key_in = key(from + done / 2);
        let mut writer = line.write();
        if done % 2 == 0 {
            writer.join(&key_in.id, key_in.arrival, key_in.arrival);
        } else if let Some(gone) = doomed.next() {
            writer.remove(&key(gone).id, key_in.arrival, Reason::Left);
        }
        done += 1;
    }
    done
}

fn reading(group: &mut BenchmarkGroup<'_, WallTime>, table: &mut Table, crowd: &mut Crowd) {
    let size = crowd.live.len() as u64;
    let views = crowd.views();
    let line = &crowd.line;
    let took = time(group, "rank", size, |n| reads(line, &views, n, rank));
    table.note(
        "rank of a known ticket, ns",
        size,
        took,
        "30 at 1 M, 60 at 10 M",
    );
    let took = time(group, "look", size, |n| reads(line, &views, n, look));
    table.note(
        "look: find, note as seen, rank, ns",
        size,
        took,
        "part of 600 at 1 M",
    );
    for (what, read) in [("rank", rank as fn(&_, &_) -> u64), ("look", look)] {
        let two = throughput(line, &views, 2, read);
        table.note(
            &format!("{what}, 2 readers, M/s"),
            size,
            Timing::rate(vec![two]),
            "",
        );
    }
}

fn reading_while_writing(table: &mut Table, crowd: &mut Crowd) {
    let size = crowd.live.len() as u64;
    if size < 100_000 {
        return; // it would be another line before it is measured
    }
    // The readers' own tickets stay: they are every eighth.
    let mut views = crowd.views();
    views.retain(|view| view.id.as_u128() % 8 == 0);
    let line = &crowd.line;
    for (what, read) in [("rank", rank as fn(&_, &_) -> u64), ("look", look)] {
        let mut kept = Vec::new();
        let (mut changes, mut lasted) = (0, Duration::ZERO);
        for round in 0..7u64 {
            let alone = throughput(line, &views, 1, read);
            let over = AtomicBool::new(false);
            let from = crowd.next + round * 1_000_000;
            let stepped = (0..).map(|i: u64| (mix(i ^ from) % size) | 1);
            let (beside, done, took) = std::thread::scope(|scope| {
                let start = Instant::now();
                let writer = scope.spawn(|| change(line, from, stepped, &over));
                let beside = throughput(line, &views, 1, read);
                over.store(true, Ordering::Relaxed);
                (beside, writer.join().unwrap(), start.elapsed())
            });
            kept.push(beside / alone * 100.0);
            changes += done;
            lasted += took;
        }
        crowd.next += 10_000_000;
        let rate = changes as f64 / lasted.as_secs_f64() / 1e3;
        let beside = format!("{what}, kept beside a writer, %");
        table.note(&beside, size, Timing::rate(kept), "80");
        table.note(
            &format!("{what}, changes of that writer, k/s"),
            size,
            Timing::rate(vec![rate]),
            "200",
        );
    }
    // The list of the live is made anew: who of the doomed was still there is not known.
    crowd.live.retain(|&n| {
        crowd
            .line
            .find(&key(n).id)
            .is_some_and(|v| !v.state.is_gone())
    });
}

fn writing(
    group: &mut BenchmarkGroup<'_, WallTime>,
    table: &mut Table,
    crowd: &mut Crowd,
    size: u64,
) {
    let chunk = (size / 10).clamp(100, 10_000);
    let leave = |crowd: &mut Crowd, n: u64| {
        let gone: Vec<_> = (0..n).map(|_| crowd.pick()).collect();
        gone.iter().for_each(|id| crowd.remove(id));
        crowd.forget();
    };
    let took = time(group, "insert", size, |n| {
        chunks(
            crowd,
            n,
            chunk,
            |crowd, n| (0..n).for_each(|_| crowd.join()),
            leave,
        )
    });
    table.note("insert at the end, ns", size, took, "300");

    let mut doomed = Vec::new();
    let took = time(group, "remove", size, |n| {
        let mut state = (&mut *crowd, &mut doomed);
        state.1.extend((0..chunk.min(n)).map(|_| state.0.pick()));
        let took = chunks(
            &mut state,
            n,
            chunk,
            |(crowd, doomed), n| doomed.drain(..n as usize).for_each(|id| crowd.remove(&id)),
            |(crowd, doomed), n| {
                (0..n).for_each(|_| crowd.join());
                crowd.forget();
                doomed.extend((0..n).map(|_| crowd.pick()));
            },
        );
        // Those picked and not removed stay in line.
        crowd
            .live
            .extend(doomed.drain(..).map(|id| id.as_u128() as u64));
        took
    });
    table.note("remove anywhere, ns", size, took, "400");

    let mut front = Vec::new();
    let took = time(group, "pop front", size, |n| {
        chunks(
            &mut (&crowd.line, &mut front),
            n,
            chunk.min(1_000),
            |(line, front), n| {
                let mut writer = line.write();
                writer.front(n as usize, true, front);
                for key in front.iter() {
                    writer.call(&key.id, Micros(0));
                }
            },
            |(line, front), _| {
                let mut writer = line.write();
                for key in front.drain(..) {
                    writer.recall(&key.id);
                }
            },
        )
    });
    table.note("pop front: list and call, ns", size, took, "");

    // Into a dense line: where no gap is near, a segment is spread anew.
    let keys: Vec<_> = (0..chunk / 10).map(|_| crowd.straggler()).collect();
    let start = Instant::now();
    for key in &keys {
        crowd.line.write().join(&key.id, key.arrival, key.arrival);
    }
    let took = start.elapsed().as_nanos() as f64 / keys.len() as f64;
    table.note(
        "late into a dense line, one by one, ns",
        size,
        Timing::new(vec![took]),
        "",
    );

    // As the feed of another node: every second number is joined here, the others come in batches,
    // some thousand joins late.
    let mut late = crowd.next + 1;
    let join_half = |crowd: &mut Crowd, n: u64| {
        for _ in 0..n {
            crowd.join();
            crowd.next += 1;
        }
    };
    join_half(crowd, chunk / 2);
    let took = time(group, "late batch", size, |n| {
        let (mut took, mut left) = (Duration::ZERO, n);
        while left > 0 {
            let count = left.min(256);
            join_half(crowd, count);
            let numbers = (0..count).map(|i| late + 2 * i);
            let keys: Vec<_> = numbers.clone().map(key).collect();
            let start = Instant::now();
            crowd.line.write().join_many(&keys, Micros(0));
            took += start.elapsed();
            crowd.live.extend(numbers);
            leave(crowd, 2 * count);
            late += 2 * count;
            left -= count;
        }
        took
    });
    table.note("late by some thousand, batches of 256, ns", size, took, "");
}

/// How long a load of `size` takes, in thousands, in the order in which a partitioned store has
/// them: each of 16 partitions in order.
fn loading(table: &mut Table, size: u64) {
    let mut keys: Vec<_> = (0..size).map(key).collect();
    keys.sort_unstable_by_key(|key| (key.id.as_bytes()[0] % 16, key.arrival));
    let line = Line::new(Micros(0), 1);
    let start = Instant::now();
    for chunk in keys.chunks(1_000) {
        line.write().join_many(chunk, Micros(0));
    }
    table.note(
        "load by partitions, ms",
        size,
        Timing::new(vec![start.elapsed().as_secs_f64() * 1e3]),
        "3000 at 1 M, with the store",
    );
}

/// Asks another process to [`crowd::weigh`].
fn weighed(lines: u64, size: u64) -> Timing {
    let output = std::env::current_exe().and_then(|bench| {
        let numbers = [lines.to_string(), size.to_string()];
        std::process::Command::new(bench)
            .arg("--weigh")
            .args(numbers)
            .output()
    });
    let printed = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let bytes = printed.ok().and_then(|text| text.trim().parse().ok());
    Timing::new(bytes.into_iter().collect())
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, weigh, lines, size] = &args[..]
        && weigh == "--weigh"
    {
        println!(
            "{}",
            crowd::weigh(lines.parse().unwrap(), size.parse().unwrap())
        );
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    for size in SIZES {
        let lines = 1_000_000 / size.min(1_000_000);
        table.note(
            "resident memory a visitor, bytes",
            size,
            weighed(lines, size),
            "100",
        );
        let mut group = criterion.benchmark_group("line");
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_millis(800));
        let mut crowd = Crowd::new(size);
        reading(&mut group, &mut table, &mut crowd);
        reading_while_writing(&mut table, &mut crowd);
        writing(&mut group, &mut table, &mut crowd, size);
        group.finish();
        drop(crowd);
        if size <= 1_000_000 {
            loading(&mut table, size);
        }
    }
    table.print();
    println!(
        "an empty line: {} bytes of resident memory (target 3,000)",
        weighed(10_000, 0)
    );
}
