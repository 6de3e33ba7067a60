//! The figures as words and tables, and these as Markdown.

use std::fmt::Write;

use crate::figures::{Cell, Figures, Limit};

/// A table with what is to be said of it.
pub struct Table {
    pub title: &'static str,
    pub note: String,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

/// A ratio that was wanted, and what came out.
pub struct Ratio {
    pub value: f64,
    pub what: &'static str,
    pub wanted: f64,
}

/// The ratios that matter, first things first.
pub fn ratios(figures: &Figures) -> Vec<Ratio> {
    let of = |value, wanted, what| Ratio {
        value,
        what,
        wanted,
    };
    vec![
        of(
            figures.status_vs_bare,
            0.90,
            "of the polls that a bare HTTP server answers, which does nothing else",
        ),
        of(
            figures.status_vs_best_redis,
            1.7,
            "times the polls of the best Redis-only design we could write",
        ),
        of(
            figures.status_vs_position_index,
            6.0,
            "times the polls of the old gateway's commands over one shared connection",
        ),
        of(
            figures.status_vs_position_index_pooled,
            20.0,
            "times the polls of the old gateway's commands as it sent them, pooled",
        ),
    ]
}

/// Why, in a few sentences.
pub fn why(figures: &Figures) -> String {
    format!(
        "Every visitor polls again and again, and a design that asks Redis at each poll pays for it \
         each time: a round trip, and Redis' single thread. Tidegate keeps the whole line in the \
         memory of every node and writes to Redis only what changes, in batches: {:.5} Redis commands \
         a poll here. So Redis does not limit polls, and a poll costs about as much as HTTP itself.",
        figures.redis_commands_per_poll
    )
}

/// How it was measured.
pub fn how(figures: &Figures) -> String {
    let machine = &figures.machine;
    format!(
        "{} with {} cores and {} GiB, Linux {}, Redis {}; commit {}; `{}`. Half of the cores have all \
         that an operator pays for (the service and all six servers of a Redis Cluster), the other \
         half has the load: what is compared is what the same processors answer. Designs take turns \
         (A B C A B C …), {} rounds of {} s; figures are medians, ratios are taken within each \
         round. {} visitors wait, and each polls with a token of their own. Processes that wanted \
         a core when it began: {} (well under 1 on a quiet machine; else trust the processor time, \
         not the clock). {}{}",
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.redis,
        machine.commit,
        machine.command,
        figures.rounds,
        figures.turn_sec,
        count(figures.visitors as f64),
        machine.load_at_start,
        figures
            .generator_vs_wrk
            .map_or_else(String::new, |ratio| format!(
                "The load generator finds {ratio:.2} of what `wrk` finds."
            )),
        match figures.failed.as_slice() {
            [] => String::new(),
            parts => format!(
                " **Not measured, and shown as zeros or not at all: {}.**",
                parts.join(", ")
            ),
        },
    )
}

/// All tables, most telling first.
pub fn tables(figures: &Figures) -> Vec<Table> {
    vec![
        limit(figures),
        paces(figures),
        sizes(figures),
        others(figures),
        fleet(figures),
    ]
}

fn limit(figures: &Figures) -> Table {
    let row = |row: &Limit| {
        vec![
            row.design.to_owned(),
            count(row.polls_per_sec),
            times(row.tidegate_vs_it),
            times(row.paid_vs_tidegate),
            format!("{:.1}", row.service_us),
            format!("{:.1}", row.redis_us),
            format!("{:.4}", row.redis_commands_per_poll),
            row.redis_saturates_at
                .map_or_else(|| "never".to_owned(), |at| format!("{}/s", count(at))),
            count(row.errors as f64),
        ]
    };
    Table {
        title: "At the limit",
        note: format!(
            "Closed loop, 64 connections. `KEYS` is measured with {} visitors only: its polls cost the \
             more the more wait. The best design is one pipelined round trip a poll over a shared \
             connection. Commands run by a design's scripts count; what Redis does anyway while nobody \
             polls does not.",
            count(figures.limit.last().map_or(0, |row| row.visitors) as f64)
        ),
        head: vec![
            "design",
            "polls/s",
            "Tidegate answers",
            "an operator pays",
            "service CPU µs/poll",
            "Redis CPU µs/poll",
            "Redis commands/poll",
            "one Redis master is full at",
            "errors",
        ],
        rows: figures.limit.iter().map(row).collect(),
    }
}

fn paces(figures: &Figures) -> Table {
    let row = |cell: &Cell| {
        vec![
            count(cell.asked_per_sec),
            cell.design.to_owned(),
            count(cell.answered_per_sec),
            format!("{:.1}", cell.redis_cpu_percent),
            format!("{:.1}", cell.redis_idle_percent),
            format!("{:.4}", cell.redis_commands_per_poll),
            ms(cell.p50_ms),
            ms(cell.p95_ms),
            ms(cell.p99_ms),
            ms(cell.p999_ms),
            count(cell.errors as f64),
        ]
    };
    Table {
        title: "At a given pace",
        note: "Open loop: polls come whether or not earlier ones were answered, and latency counts \
               from when they were meant to be sent. Errors are polls without an answer a second \
               after the last was sent; the cells of a design that cannot keep up say how far behind \
               it was by then. Redis CPU is that of all its servers, in percent of a core. Commands and CPU include what \
               Redis does anyway."
            .to_owned(),
        head: vec![
            "polls/s",
            "design",
            "answered/s",
            "Redis CPU %",
            "when idle %",
            "Redis commands/poll",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "p99.9 ms",
            "errors",
        ],
        rows: figures.paces.iter().map(row).collect(),
    }
}

fn sizes(figures: &Figures) -> Table {
    let rows = figures.sizes.iter().map(|size| {
        vec![
            count(size.visitors as f64),
            format!("{:.2}", size.vs_bare),
            format!("{:.2}", size.vs_bare_by_cpu),
            count(size.polls_per_sec),
            format!("{:.2}", size.service_us),
            format!("{:.0}", size.bytes_per_visitor),
        ]
    });
    Table {
        title: "However many wait",
        note: "Tidegate's status path against the bare server in the same rounds.".to_owned(),
        head: vec![
            "waiting",
            "of bare's polls/s",
            "of bare's CPU efficiency",
            "polls/s",
            "CPU µs/poll",
            "resident bytes a visitor",
        ],
        rows: rows.collect(),
    }
}

fn others(figures: &Figures) -> Table {
    let Figures {
        half,
        joins,
        beside,
        start,
        connections,
        ..
    } = figures;
    let rows = [
        (
            "p99 at half of the limit, open loop",
            format!(
                "{} ms, bare {} ms: {:.2} ×",
                ms(half.tidegate_p99_ms),
                ms(half.bare_p99_ms),
                half.p99_vs_bare
            ),
        ),
        (
            "p99.9 at half of the limit, open loop",
            format!(
                "{} ms, bare {} ms: {:.2} ×",
                ms(half.tidegate_p999_ms),
                ms(half.bare_p999_ms),
                half.p999_vs_bare
            ),
        ),
        (
            "joins at the limit, answered from memory",
            format!(
                "{}/s, {:.2} of bare's polls ({:.2} by CPU)",
                count(joins.memory_per_sec),
                joins.memory_vs_bare,
                joins.memory_vs_bare_by_cpu
            ),
        ),
        (
            "durable joins, answered when the cluster has them",
            format!(
                "{} of {}/s: p50 {} ms, p99 {} ms, {} errors",
                count(joins.durable_answered_per_sec),
                count(joins.durable_asked_per_sec),
                ms(joins.durable_p50_ms),
                ms(joins.durable_p99_ms),
                joins.durable_errors
            ),
        ),
        (
            "polls at the limit beside joins and enters",
            format!(
                "{}/s beside {} joins/s and {} enters/s: {:.2} of what the CPU left over allows",
                count(beside.polls_per_sec),
                count(beside.joins_per_sec),
                count(beside.enters_per_sec),
                beside.cpu_adjusted
            ),
        ),
        (
            "polls handled in more than 1 ms meanwhile",
            format!("{:.1} of a million", beside.over_1_ms_per_million),
        ),
        (
            "waits for a lock meanwhile",
            format!(
                "{:.0}, of which {:.0} longer than 1 ms",
                beside.lock_waits, beside.lock_waits_over_1_ms
            ),
        ),
        (
            "start with the line in Redis",
            format!(
                "{} visitors in {:.2} s",
                count(start.visitors as f64),
                start.from_redis_sec
            ),
        ),
        (
            "open connections, left alone",
            format!(
                "{}{}: {:.0} bytes each, {:.2} % of a core",
                count(connections.open as f64),
                match connections.open < connections.wanted {
                    true => " (a process may open no more files here)",
                    false => "",
                },
                connections.bytes_each_idle,
                connections.cpu_percent
            ),
        ),
    ];
    Table {
        title: "What surrounds the polls",
        note: "Tidegate alone, but where bare is named.".to_owned(),
        head: vec!["what", "measured"],
        rows: rows
            .into_iter()
            .map(|(what, value)| vec![what.to_owned(), value])
            .collect(),
    }
}

fn fleet(figures: &Figures) -> Table {
    let rows = figures.fleet.iter().map(|row| {
        vec![
            row.nodes.to_string(),
            if row.measured { "measured" } else { "computed" }.to_owned(),
            count(row.redis_commands_per_sec_idle),
            count(row.redis_commands_per_sec_polled),
            format!("{:.1}", row.redis_cpu_percent_idle),
            format!("{:.1}", row.redis_cpu_percent_polled),
        ]
    });
    Table {
        title: "A growing fleet",
        note: "What all nodes together ask of Redis: when nobody polls, and at 30,000 polls a second. \
               It grows with the nodes, not with the polls. The last row lies on the straight line \
               through those measured."
            .to_owned(),
        head: vec![
            "nodes",
            "",
            "Redis commands/s, idle",
            "… polled",
            "Redis CPU %, idle",
            "… polled",
        ],
        rows: rows.collect(),
    }
}

pub fn markdown(figures: &Figures) -> String {
    let mut text = String::from("# Tidegate, side by side\n\n");
    for ratio in ratios(figures) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "- **{:.2}** {}", ratio.value, ratio.what);
    }
    let _ = write!(text, "\n{}\n\n{}\n", why(figures), how(figures));
    for table in tables(figures) {
        let _ = write!(text, "\n## {}\n\n{}\n\n", table.title, table.note);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<_> = table.head.iter().map(|cell| (*cell).to_owned()).collect();
        text += &line(&head);
        text += &line(&vec!["---".to_owned(); head.len()]);
        table.rows.iter().for_each(|row| text += &line(row));
    }
    text
}

/// A whole number with separators.
pub fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && digits.as_bytes()[at - 1] != b'-' {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(
        || "–".to_owned(),
        |ratio| match ratio {
            10.0.. => format!("{} ×", count(ratio)),
            _ => format!("{ratio:.2} ×"),
        },
    )
}

fn ms(value: f64) -> String {
    match value {
        100.0.. => count(value),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
