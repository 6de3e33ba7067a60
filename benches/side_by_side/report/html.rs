//! The report as one page that needs nothing else.

use std::fmt::Write;

use super::plots;
use super::tables::{Table, how, ratios, tables, why};
use crate::figures::Figures;

const STYLE: &str = "
:root { color-scheme: light; --ink: #1b2430; --soft: #5c6b7a; --line: #dde3e9; --good: #0b6e4f; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem;
  margin: 1.2rem 0 }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem }
.card b { display: block; font-size: 2rem; line-height: 1.2; color: var(--good) }
.card span { color: var(--soft); font-size: .9rem }
.note { color: var(--soft); font-size: .9rem; max-width: 56rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .88rem; margin: .6rem 0 }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; font-variant-numeric: tabular-nums }
th { vertical-align: bottom; white-space: normal; font-weight: 600 }
th:first-child, td:first-child, .words td, .words th { text-align: left }
tr.ours td { background: #eaf5f0; font-weight: 600 }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1rem }
figure { margin: 0 } svg { width: 100%; height: auto }
";

pub fn page(figures: &Figures) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Tidegate, side by side</title><style>{STYLE}</style></head><body>\n\
         <h1>A poll from memory, a poll from Redis</h1>\n\
         <p>People who wait in line ask for their place again and again. On the same processors, \
         Tidegate answers</p>\n<div class=\"cards\">"
    );
    for ratio in ratios(figures) {
        let share = |value: f64| match ratio.wanted {
            ..1.0 => format!("{:.0} %", value * 100.0),
            _ => format!("{value:.1} ×"),
        };
        let shown = share(ratio.value);
        let what = ratio.what.trim_start_matches("times ");
        // Writing to a string does not fail.
        let _ = write!(
            page,
            "<div class=\"card\"><b>{shown}</b><span>{} (the goal: {})</span></div>",
            escape(what),
            share(ratio.wanted)
        );
    }
    let _ = write!(
        page,
        "</div>\n<p>{}</p>\n<div class=\"plots\">",
        escape(&why(figures))
    );
    for plot in plots::all(figures) {
        let _ = write!(page, "<figure>{plot}</figure>");
    }
    let _ = write!(
        page,
        "</div>\n<p class=\"note\">{}</p>\n",
        escape(&how(figures))
    );
    tables(figures).iter().for_each(|one| page += &table(one));
    page += "</body></html>\n";
    page
}

fn table(table: &Table) -> String {
    let class = if table.head.len() == 2 {
        " class=\"words\""
    } else {
        ""
    };
    let mut text = format!(
        "<h2>{}</h2>\n<p class=\"note\">{}</p>\n<div class=\"wide\"><table{class}><tr>",
        escape(table.title),
        escape(&table.note)
    );
    for cell in &table.head {
        let _ = write!(text, "<th>{}</th>", escape(cell));
    }
    text += "</tr>\n";
    for row in &table.rows {
        let ours = row.iter().any(|cell| cell == crate::compare::TIDEGATE);
        text += if ours { "<tr class=\"ours\">" } else { "<tr>" };
        for cell in row {
            let _ = write!(text, "<td>{}</td>", escape(cell));
        }
        text += "</tr>\n";
    }
    text + "</table></div>\n"
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    // Code in the words of the report.
    let parts = text.split('`').enumerate().map(|(n, part)| match n % 2 {
        1 => format!("<code>{part}</code>"),
        _ => part.to_owned(),
    });
    parts.collect()
}
