//! Deliberate mistakes: each that has a name is made somewhere, and looked for.

use super::{none, root, sources};

#[test]
fn every_mistake_is_made_and_looked_for() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (named, table) = (read("src/mutants.rs"), read("tests/sim/mutants.rs"));
    let (_, body) = named.split_once("pub enum Mutant {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let names = body.lines().map(str::trim);
    let names = names.filter(|line| !line.starts_with("//"));
    let names: Vec<_> = names.filter_map(|line| line.strip_suffix(',')).collect();
    assert!(
        !names.is_empty(),
        "the mistakes are not where they were looked for"
    );
    let sources = sources();
    let mut findings = Vec::new();
    for name in names {
        let made = format!("mutant!({name})");
        if !sources.iter().any(|source| source.text.contains(&made)) {
            findings.push(format!("{name} is made nowhere"));
        }
        if !table.contains(&format!("Mutant::{name},")) {
            findings.push(format!("{name} is not looked for"));
        }
    }
    none("deliberate mistakes", &findings);
}
