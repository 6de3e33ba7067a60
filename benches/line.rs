//! The line at one thousand, one million and ten million waiting tickets: what a place costs, what
//! changes cost, what readers lose to a writer, what a visitor weighs. Ends with a table of results
//! beside the targets.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use tidegate::model::{Micros, TicketId, TicketKey};
use tidegate::room::line::{Line, Reason, View};

const SIZES: [u64; 3] = [1_000, 1_000_000, 10_000_000];
/// Changes a second that readers must bear.
const CHANGES_PER_SEC: u64 = 200_000;
/// Microseconds from one arrival to the next.
const STEP: u64 = 10;

/// A well mixed number (the finaliser of SplitMix64): ids without an array of them.
fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

fn key(n: u64) -> TicketKey {
    let id = TicketId::from_u128(u128::from(mix(n)) << 64 | u128::from(n));
    TicketKey {
        arrival: Micros(n * STEP),
        id,
    }
}

/// A line, and the numbers of those who wait in it.
struct Crowd {
    line: Line,
    live: Vec<u64>,
    next: u64,
    seed: u64,
}

impl Crowd {
    fn join(&mut self) {
        let key = key(self.next);
        self.line.write().join(&key.id, key.arrival, key.arrival);
        self.live.push(self.next);
        self.next += 1;
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = mix(self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        ((u128::from(self.seed) * below as u128) >> 64) as usize
    }

    /// Takes somebody out of the list of the live.
    fn pick(&mut self) -> TicketId {
        let at = self.random(self.live.len());
        key(self.live.swap_remove(at)).id
    }

    fn remove(&mut self, id: &TicketId) {
        self.line
            .write()
            .remove(id, Micros(self.next * STEP), Reason::Left);
    }

    /// In a small line the gone must not outnumber the live.
    fn forget(&mut self) {
        if self.live.len() < 100_000 {
            let now = Micros(self.next * STEP + 1_000_000);
            let (heartbeat, memory) = (Duration::from_secs(1 << 20), Duration::ZERO);
            self.line
                .write()
                .sweep(now, heartbeat, memory, false, usize::MAX, &mut Vec::new());
        }
    }

    fn views(&mut self) -> Vec<View> {
        let views = |_| {
            let at = self.random(self.live.len());
            self.line.find(&key(self.live[at]).id).unwrap()
        };
        (0..1 << 17).map(views).collect()
    }
}

/// A line of `size`, and how many bytes of resident memory it took, joined one by one.
fn crowd(size: u64) -> (Crowd, f64) {
    let live = Vec::with_capacity(size as usize * 2);
    let before = resident_bytes();
    let line = Line::new(Micros(0), 1);
    for n in 0..size {
        let key = key(n);
        line.write().join(&key.id, key.arrival, key.arrival);
    }
    let bytes = resident_bytes() - before;
    let mut crowd = Crowd {
        line,
        live,
        next: size,
        seed: 1,
    };
    crowd.live.extend(0..size);
    (crowd, bytes / size as f64)
}

/// Resident memory of this process, from the kernel's page counts.
fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(f64::NAN)
        * 4096.0
}

/// One line of the final table.
struct Row {
    what: String,
    values: Vec<(u64, f64)>,
    unit: &'static str,
    target: &'static str,
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn note(
        &mut self,
        what: &str,
        size: u64,
        value: f64,
        unit: &'static str,
        target: &'static str,
    ) {
        match self.0.iter_mut().find(|row| row.what == what) {
            Some(row) => row.values.push((size, value)),
            None => {
                let values = vec![(size, value)];
                self.0.push(Row {
                    what: what.to_owned(),
                    values,
                    unit,
                    target,
                });
            }
        }
    }

    fn print(&self) {
        let mut text = format!("\n{:<44}", "");
        SIZES
            .iter()
            .for_each(|size| write!(text, "{size:>12}").unwrap());
        println!("{text}   target");
        for Row {
            what,
            values,
            unit,
            target,
        } in &self.0
        {
            let mut text = format!("{:<44}", format!("{what}, {unit}"));
            for size in SIZES {
                let value = values.iter().find(|(of, _)| *of == size);
                let value = value.map_or("-".to_owned(), |(_, value)| format!("{value:.1}"));
                write!(text, "{value:>12}").unwrap();
            }
            println!("{text}   {target}");
        }
    }
}

/// Lets criterion time `run`, which takes a number of operations and says how long they took.
/// Returns the median, in nanoseconds an operation.
fn time(
    group: &mut BenchmarkGroup<'_, WallTime>,
    what: &str,
    size: u64,
    mut run: impl FnMut(u64) -> Duration,
) -> f64 {
    let mut samples = Vec::new();
    group.bench_function(format!("{what}/{size}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let took = run(iterations);
            samples.push(took.as_nanos() as f64 / iterations as f64);
            took
        });
    });
    median(&mut samples)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
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
    line.look(&view.id, Micros(1 << 30))
        .and_then(|look| look.place)
        .unwrap_or(0)
}

/// Reads a second of `threads` readers for a while, in millions.
fn throughput(line: &Line, views: &[View], threads: usize, read: fn(&Line, &View) -> u64) -> f64 {
    const WINDOW: Duration = Duration::from_millis(150);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|reader| {
                let views = &views[reader * views.len() / threads..];
                scope.spawn(move || {
                    let (start, mut done) = (Instant::now(), 0u64);
                    while start.elapsed() < WINDOW {
                        reads(line, views, 10_000, read);
                        done += 10_000;
                    }
                    done as f64 / start.elapsed().as_secs_f64() / 1e6
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
        "rank of a known ticket",
        size,
        took,
        "ns",
        "30 at 1 M, 60 at 10 M",
    );
    let took = time(group, "look", size, |n| reads(line, &views, n, look));
    table.note(
        "look: find, note as seen, rank",
        size,
        took,
        "ns",
        "part of 600 at 1 M",
    );
    for (what, read) in [("rank", rank as fn(&_, &_) -> u64), ("look", look)] {
        let two = throughput(line, &views, 2, read);
        table.note(&format!("{what}, 2 readers"), size, two, "M/s", "");
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
        let beside = format!("{what}, speed kept beside a writer");
        table.note(&beside, size, median(&mut kept), "%", "80");
        table.note(
            &format!("{what}, changes of that writer"),
            size,
            rate,
            "k/s",
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
    table.note("insert at the end", size, took, "ns", "300");

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
    table.note("remove anywhere", size, took, "ns", "400");

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
                front.drain(..).for_each(|key| drop(writer.recall(&key.id)));
            },
        )
    });
    table.note("pop front: list and call", size, took, "ns", "");

    // Into a dense line first, where each finds no gap; later ones find the gaps of the first.
    let late = |crowd: &mut Crowd| {
        let at = crowd.random(crowd.live.len());
        let before = crowd.live[at];
        crowd.next += 1;
        TicketKey {
            arrival: Micros(before * STEP + 1),
            id: key(crowd.next).id,
        }
    };
    let keys: Vec<_> = (0..chunk / 10).map(|_| late(crowd)).collect();
    let start = Instant::now();
    for key in &keys {
        crowd.line.write().join(&key.id, key.arrival, key.arrival);
    }
    let took = start.elapsed().as_nanos() as f64 / keys.len() as f64;
    table.note("late insert, first ones, one by one", size, took, "ns", "");
    let took = time(group, "late batch", size, |n| {
        let (mut took, mut left) = (Duration::ZERO, n);
        while left > 0 {
            let keys: Vec<_> = (0..left.min(256)).map(|_| late(crowd)).collect();
            let start = Instant::now();
            crowd.line.write().join_many(&keys, Micros(0));
            took += start.elapsed();
            let now = Micros(crowd.next * STEP);
            keys.iter()
                .for_each(|key| drop(crowd.line.write().remove(&key.id, now, Reason::Left)));
            crowd.forget();
            left -= keys.len() as u64;
        }
        took
    });
    table.note("late insert anywhere, batches of 256", size, took, "ns", "");
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
        "load by partitions",
        size,
        start.elapsed().as_secs_f64() * 1e3,
        "ms",
        "3000 at 1 M, with the store",
    );
}

/// What many small lines weigh, by the line and by the visitor.
fn small_lines(table: &mut Table) {
    let before = resident_bytes();
    let empty: Vec<_> = (0..10_000).map(|_| Line::new(Micros(0), 1)).collect();
    let bytes = (resident_bytes() - before) / empty.len() as f64;
    println!("an empty line: {bytes:.0} bytes (target 3,000)");
    drop(empty);
    let before = resident_bytes();
    let lines: Vec<_> = (0..1_000)
        .map(|_| {
            let line = Line::new(Micros(0), 1);
            (0..1_000)
                .map(key)
                .for_each(|k| drop(line.write().join(&k.id, k.arrival, k.arrival)));
            line
        })
        .collect();
    let bytes = (resident_bytes() - before) / 1e6;
    table.note("resident memory a visitor", 1_000, bytes, "bytes", "100");
    drop(lines);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    small_lines(&mut table);
    for size in SIZES {
        let mut group = criterion.benchmark_group("line");
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_millis(800));
        let (mut crowd, bytes) = crowd(size);
        if size > 1_000 {
            table.note("resident memory a visitor", size, bytes, "bytes", "100");
        }
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
}
