//! The plots, as SVG text.

use plotters::prelude::*;

use crate::compare::{BEST, INDEX, KEYS, POOLED, TIDEGATE};
use crate::figures::{Cell, Figures};

/// Less is not told apart on a logarithmic axis.
const LEAST: f64 = 0.1;
const SIZE: (u32, u32) = (640, 400);
const INK: RGBColor = RGBColor(27, 36, 48);
const SOFT: RGBColor = RGBColor(221, 227, 233);
const SERVICE: RGBColor = RGBColor(11, 110, 79);
const REDIS: RGBColor = RGBColor(196, 69, 54);

type Failed = Box<dyn std::error::Error>;

/// All plots.
pub fn all(figures: &Figures) -> Vec<String> {
    let drawn = [
        paid(figures),
        most(figures),
        over_pace(
            figures,
            "CPU of Redis, % of a core, by polls a second",
            |cell| cell.redis_cpu_percent,
        ),
        over_pace(
            figures,
            "p99 in ms, by polls a second (open loop)",
            |cell| cell.p99_ms,
        ),
    ];
    let drawn = drawn.into_iter();
    drawn
        .map(|plot| plot.expect("text can be written"))
        .collect()
}

fn color(design: &str) -> RGBColor {
    match design {
        TIDEGATE => SERVICE,
        BEST => RGBColor(43, 108, 176),
        INDEX => RGBColor(180, 120, 20),
        POOLED => REDIS,
        KEYS => RGBColor(110, 60, 140),
        _ => RGBColor(120, 130, 140),
    }
}

/// What an operator pays for a poll: service and Redis.
fn paid(figures: &Figures) -> Result<String, Failed> {
    let all = figures.limit.iter().filter(|row| row.design != KEYS);
    let rows: Vec<_> = all
        .map(|row| {
            (
                row.design,
                vec![(row.service_us, SERVICE), (row.redis_us, REDIS)],
            )
        })
        .collect();
    let title = "processor time for a poll, µs: service (green) and Redis (red)";
    bars(title, &rows, |value| format!("{value:.1}"))
}

/// The most polls.
fn most(figures: &Figures) -> Result<String, Failed> {
    let one = |design: &'static str, value: f64| (design, vec![(value, color(design))]);
    let rows: Vec<_> = figures
        .limit
        .iter()
        .map(|row| one(row.design, row.polls_per_sec))
        .collect();
    bars(
        "most polls a second on the same processors",
        &rows,
        super::tables::count,
    )
}

type Bars = Vec<(f64, RGBColor)>;

/// Horizontal bars, each of one or more parts behind each other.
fn bars(
    title: &str,
    rows: &[(&'static str, Bars)],
    text: impl Fn(f64) -> String,
) -> Result<String, Failed> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let sum = |bars: &Bars| bars.iter().map(|(value, _)| value).sum::<f64>();
        let most = rows.iter().map(|(_, bars)| sum(bars)).fold(0.0, f64::max);
        let (left, right, top) = (200, 90, 50);
        let height = (SIZE.1 as i32 - top - 10) / rows.len() as i32;
        let scale = f64::from(SIZE.0 as i32 - left - right) / most;
        area.draw(&Text::new(
            title,
            (8, 12),
            ("sans-serif", 17).into_font().color(&INK),
        ))?;
        for (n, (name, parts)) in rows.iter().enumerate() {
            let y = top + n as i32 * height;
            let font = ("sans-serif", 14).into_font().color(&INK);
            area.draw(&Text::new(*name, (8, y + height / 2 - 8), font.clone()))?;
            let mut x = f64::from(left);
            for (value, color) in parts {
                let corners = [
                    (x as i32, y + height / 6),
                    ((x + value * scale).ceil() as i32, y + height * 5 / 6),
                ];
                area.draw(&Rectangle::new(corners, color.filled()))?;
                x += value * scale;
            }
            let label = text(sum(parts));
            area.draw(&Text::new(label, (x as i32 + 6, y + height / 2 - 8), font))?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// A line for each design over the paces; what is measured, on a logarithmic axis.
fn over_pace(figures: &Figures, title: &str, of: fn(&Cell) -> f64) -> Result<String, Failed> {
    let cells = &figures.paces;
    if cells.is_empty() {
        return Ok(String::new());
    }
    let shown: Vec<_> = [TIDEGATE, BEST, INDEX, POOLED, KEYS]
        .into_iter()
        .filter(|design| cells.iter().any(|cell| cell.design == *design))
        .collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (top, area) = area.split_vertically(70);
        legend(&top, title, &shown)?;
        let values = || cells.iter().map(|cell| of(cell).max(LEAST));
        let low = values().fold(f64::MAX, f64::min) / 1.5;
        let high = values().fold(0.0, f64::max) * 1.5;
        let most = cells
            .iter()
            .map(|cell| cell.asked_per_sec)
            .fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(55)
            .build_cartesian_2d(0.0..most * 1.05, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(SOFT)
            .axis_style(INK)
            .label_style(("sans-serif", 13).into_font().color(&INK))
            .x_labels(7)
            .y_labels(5)
            .x_label_formatter(&|x| super::tables::count(*x))
            .y_label_formatter(&|y| format!("{y}"))
            .draw()?;
        for design in shown {
            let points = cells.iter().filter(|cell| cell.design == design);
            let points: Vec<_> = points
                .map(|cell| (cell.asked_per_sec, of(cell).max(LEAST)))
                .collect();
            let color = color(design);
            chart.draw_series(
                points
                    .iter()
                    .map(|point| Circle::new(*point, 3, color.filled())),
            )?;
            chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        }
        area.present()?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The title, and which color is whose.
fn legend(area: &Area<'_>, title: &str, designs: &[&'static str]) -> Result<(), Failed> {
    area.draw(&Text::new(
        title.to_owned(),
        (8, 12),
        ("sans-serif", 17).into_font().color(&INK),
    ))?;
    let font = ("sans-serif", 13).into_font().color(&INK);
    let mut x = 8;
    for design in designs {
        let mark = [(x, 46), (x + 12, 56)];
        area.draw(&Rectangle::new(mark, color(design).filled()))?;
        area.draw(&Text::new(*design, (x + 16, 44), font.clone()))?;
        x += 24 + 6 * design.len() as i32;
    }
    Ok(())
}
