//! What is kept there already, and whether this node fits.

use super::finding::{Finding, Findings};
use crate::config::{Config, StoreStart};
use crate::model::Beat;
use crate::store::FORMAT;
use crate::store::redis::{Contents, PARTITIONS, Survey};

/// Judges what is kept.
pub fn judge(seen: &Survey, config: &Config) -> Vec<Finding> {
    let mut found = Findings::of("contents");
    // Why they cannot be looked at was told with the scripts.
    if let Ok(contents) = &seen.contents {
        meta(&mut found, contents, config);
        nodes(&mut found, contents, config);
    }
    found.all()
}

fn meta(found: &mut Findings, contents: &Contents, config: &Config) {
    let Some(meta) = &contents.meta else {
        found.ok(
            "deployment",
            "nothing of ours is there: the first node makes it",
        );
        return;
    };
    let (format, partitions) = (meta.format, meta.partitions);
    let says = format!(
        "{}, format {format}, {partitions} partitions",
        meta.deployment
    );
    if format != FORMAT {
        found.fail(
            "deployment",
            format!("{says}; this build reads format {FORMAT}: a node does not start"),
            "run the version of tidegate that wrote it, or use another redis",
        );
    } else if partitions == 0 {
        found.fail(
            "deployment",
            format!("{says}: that cannot be"),
            "see who else writes to this redis; the key is tg:{c}:meta",
        );
    } else if partitions != PARTITIONS && config.store.start == StoreStart::Serve {
        found.warn(
            "deployment",
            format!(
                "{says}; a node that starts while redis is away assumes {PARTITIONS} and stops when \
                 it is back"
            ),
            "set store.start = \"wait\"",
        );
    } else {
        found.ok("deployment", says);
    }
}

fn nodes(found: &mut Findings, contents: &Contents, config: &Config) {
    let (own, size) = (config.fleet.node, config.fleet.size.get());
    let live = contents
        .nodes
        .iter()
        .filter(|beat| beat.is_live(contents.now));
    let mut live: Vec<&Beat> = live.collect();
    live.sort_by_key(|beat| beat.node);
    if live.is_empty() {
        found.ok("nodes", "none runs");
        return;
    }
    let told = live.iter().map(|beat| {
        let Beat {
            node,
            version,
            listen,
            ..
        } = beat;
        let own = if *node == own {
            ", which is this one's number"
        } else {
            ""
        };
        format!("node {} at {listen} ({version}{own})", node.0)
    });
    let says = format!("these run: {}", told.collect::<Vec<_>>().join(", "));
    match live.iter().find(|beat| beat.node.0 >= size) {
        Some(stranger) => found.fail(
            "nodes",
            format!(
                "{says}; node {} runs, and fleet.size is {size} here",
                stranger.node.0
            ),
            "give all nodes the same fleet.size, and each a number of its own below it",
        ),
        None => found.ok("nodes", says),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tests::{alone, config, found};
    use super::*;
    use crate::model::{Micros, NodeId};
    use crate::store::Meta;

    fn level(format: u32, partitions: u16, sets: &[&str]) -> Level {
        let mut seen = alone();
        seen.contents.as_mut().unwrap().meta = Some(Meta {
            format,
            partitions,
            deployment: "d".to_owned(),
        });
        found(&judge(&seen, &config(sets)), "deployment").level
    }

    #[test]
    fn a_store_of_another_form_is_told() {
        assert_eq!(level(FORMAT, PARTITIONS, &[]), Level::Ok);
        assert_eq!(level(FORMAT + 1, PARTITIONS, &[]), Level::Fail);
        assert_eq!(level(FORMAT, 0, &[]), Level::Fail);
        assert_eq!(level(FORMAT, 8, &[]), Level::Ok);
        assert_eq!(level(FORMAT, 8, &["store.start=serve"]), Level::Warn);
    }

    #[test]
    fn a_node_beyond_the_fleet_is_told_while_it_runs() {
        let now = Micros(1_000_000_000);
        let beat = |node, ago| Beat {
            node: NodeId(node),
            instance: 1,
            version: "0.1.0".to_owned(),
            listen: "10.0.0.1:8000".to_owned(),
            started: Micros(0),
            at: Micros(now.0 - ago),
        };
        let judged = |nodes| {
            let mut seen = alone();
            let contents = seen.contents.as_mut().unwrap();
            (contents.nodes, contents.now) = (nodes, now);
            let all = judge(&seen, &config(&[]));
            let nodes = found(&all, "nodes");
            (nodes.level, nodes.says.clone())
        };
        assert_eq!(judged(vec![]), (Level::Ok, "none runs".to_owned()));
        let (level, says) = judged(vec![beat(7, 60_000_000), beat(0, 1_000)]);
        assert_eq!(level, Level::Ok);
        let expected = "these run: node 0 at 10.0.0.1:8000 (0.1.0, which is this one's number)";
        assert_eq!(says, expected);
        assert_eq!(judged(vec![beat(7, 1)]).0, Level::Fail);
    }
}
