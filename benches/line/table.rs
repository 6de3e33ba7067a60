//! The results beside the targets.

use std::fmt::{self, Display, Formatter};

use super::SIZES;

/// A measured value: the median of its samples and the best of them, which is nearer to the truth
/// on a busy machine.
#[derive(Clone, Copy)]
pub struct Timing {
    median: f64,
    best: f64,
}

impl Timing {
    /// Of samples of which the smallest is the best.
    pub fn new(mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        let at = |i: usize| samples.get(i).copied().unwrap_or(f64::NAN);
        Self {
            median: at(samples.len() / 2),
            best: at(0),
        }
    }

    /// Of samples of which the largest is the best.
    pub fn rate(samples: Vec<f64>) -> Self {
        let Self { median, best } = Self::new(samples.into_iter().map(|s| -s).collect());
        Self {
            median: -median,
            best: -best,
        }
    }
}

impl Display for Timing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.median == self.best {
            return f.pad(&format!("{:.1}", self.median));
        }
        f.pad(&format!("{:.1} ({:.1})", self.median, self.best))
    }
}

struct Row {
    what: String,
    values: [Option<Timing>; SIZES.len()],
    target: &'static str,
}

/// Rows of results by the size of the line.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Notes the result for a line of `size` of what is measured, with its unit, beside its target.
    pub fn note(&mut self, what: &str, size: u64, value: Timing, target: &'static str) {
        let column = SIZES.iter().position(|of| *of == size).unwrap_or_default();
        let at = self
            .0
            .iter()
            .position(|row| row.what == what)
            .unwrap_or_else(|| {
                self.0.push(Row {
                    what: what.to_owned(),
                    values: [None; SIZES.len()],
                    target,
                });
                self.0.len() - 1
            });
        self.0[at].values[column] = Some(value);
    }

    /// Prints the table: median (best).
    pub fn print(&self) {
        let [small, large, huge] = SIZES;
        println!(
            "\n{:<42}{small:>20}{large:>20}{huge:>20}   target",
            "median (best)"
        );
        for Row {
            what,
            values,
            target,
        } in &self.0
        {
            let [small, large, huge] =
                values.map(|value| value.map_or("-".to_owned(), |value| value.to_string()));
            println!("{what:<42}{small:>20}{large:>20}{huge:>20}   {target}");
        }
    }
}
