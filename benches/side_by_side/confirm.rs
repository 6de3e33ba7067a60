//! Another load generator's word: `wrk`, where it is installed, against the bare server.

use std::process::Command;

use super::load::Pace;
use super::stage::Stage;
use super::turns::{Contestant, middle};

/// What our closed loop finds over what `wrk` does, in turns; `None` without `wrk`.
pub fn by_wrk(stage: &Stage, bare: &Contestant<'_>) -> Option<f64> {
    let seconds = stage.plan.turn.as_secs().max(1);
    let connections = bare.connections.to_string();
    let wrk = || {
        let output = Command::new("wrk")
            .args(["-t", &stage.cores.generators.to_string()])
            .args(["-c", &connections])
            .args(["-d", &seconds.to_string()])
            .arg(format!("http://{}/", bare.address))
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("Requests/sec:"));
        line?.rsplit(' ').next()?.parse::<f64>().ok()
    };
    wrk()?;
    stage.say("wrk and our load generator, in turns");
    let ratios = (0..stage.plan.rounds).filter_map(|_| {
        let lasts = std::time::Duration::from_secs(seconds);
        let ours = bare.turn(&stage.cores, Pace::Closed, lasts, 0);
        Some(ours.outcome.per_sec() / wrk()?)
    });
    Some(middle(ratios.collect()))
}
