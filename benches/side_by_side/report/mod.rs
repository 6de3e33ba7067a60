//! The report: `target/bench/report.json`, `report.md` and `report.html`, all of the same figures.

mod html;
mod plots;
mod tables;

use std::io;
use std::path::Path;

use super::figures::Figures;

pub fn write(figures: &Figures) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let json = serde_json::to_string_pretty(figures)?;
    std::fs::write(folder.join("report.json"), json + "\n")?;
    let markdown = tables::markdown(figures);
    std::fs::write(folder.join("report.md"), &markdown)?;
    std::fs::write(folder.join("report.html"), html::page(figures))?;
    println!("{markdown}\nwritten: target/bench/report.html, report.md, report.json");
    Ok(())
}
