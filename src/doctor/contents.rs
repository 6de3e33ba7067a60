//! What is kept there already, and whether this node fits.

use super::finding::{Finding, Findings, Level};
use super::words::span;
use crate::config::{Config, StoreStart};
use crate::store::FORMAT;
use crate::store::redis::{Contents, PARTITIONS, Survey};

/// A node that was heard within this is running, in microseconds.
const RUNNING: u64 = 60_000_000;

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
    if contents.heard.is_empty() {
        found.ok("nodes", "none wrote yet");
        return;
    }
    let told = contents.heard.iter().map(|(node, ago)| {
        let own = if *node == own {
            " (this one's number)"
        } else {
            ""
        };
        format!("node {}{own} {} ago", node.0, span(*ago))
    });
    let says = format!("wrote last: {}", told.collect::<Vec<_>>().join(", "));
    let strangers = contents
        .heard
        .iter()
        .filter(|(node, ago)| node.0 >= size && **ago < RUNNING);
    match strangers.map(|(node, _)| node.0).next() {
        Some(stranger) => found.fail(
            "nodes",
            format!("{says}; node {stranger} runs, and fleet.size is {size} here"),
            "give all nodes the same fleet.size, and each a number of its own below it",
        ),
        None => found.add("nodes", Level::Ok, says, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alone, config, found};
    use super::*;
    use crate::model::NodeId;
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
        let mut seen = alone();
        let heard = &mut seen.contents.as_mut().unwrap().heard;
        heard.insert(NodeId(0), 1_000);
        heard.insert(NodeId(7), 10 * RUNNING);
        let all = judge(&seen, &config(&[]));
        assert_eq!(found(&all, "nodes").level, Level::Ok);
        assert!(
            found(&all, "nodes")
                .says
                .contains("node 0 (this one's number) 1.0 ms ago")
        );
        seen.contents.as_mut().unwrap().heard.insert(NodeId(7), 1);
        assert_eq!(
            found(&judge(&seen, &config(&[])), "nodes").level,
            Level::Fail
        );
    }
}
