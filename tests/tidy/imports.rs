//! Imports point one way. The table is the one of `src/lib.rs`, in full.

use super::{Source, none, sources};

/// Who may import whom among the crate's own top modules. A path with `::` opens just that module.
const MAY: [(&str, &[&str]); 14] = [
    ("cli", &["config"]),
    ("config", &["model", "telemetry"]),
    ("http", &["room", "model", "clock", "telemetry", "sync"]),
    ("room", &["journal::lane", "model", "sync"]),
    ("journal", &["store", "model", "clock", "telemetry", "sync"]),
    ("legacy", &["store", "model", "clock"]),
    ("store", &["model", "telemetry"]),
    ("model", &["sync"]),
    ("sync", &["clock", "telemetry"]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("mutants", &[]),
    ("app", &["*"]),
    ("doctor", &["app", "config", "model", "store", "clock"]),
];

/// The top module that a file of `src/` belongs to; `None` for `main.rs` and `lib.rs`.
fn module(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let top = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(top, "main" | "lib" | "bin")).then_some(top)
}

/// The `crate::…` paths a file names in its code, with their lines.
fn named(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in source.code() {
        for (start, word) in line.match_indices("crate::") {
            let before = line[..start].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
                continue;
            }
            let rest = &line[start + word.len()..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
            let path = &rest[..end.unwrap_or(rest.len())];
            // `crate::{a, b}`: each of them.
            match rest
                .strip_prefix('{')
                .and_then(|list| list.split('}').next())
            {
                Some(list) => {
                    let items = list.split(',').map(|item| item.trim().to_owned());
                    found.extend(items.filter(|item| !item.is_empty()).map(|item| (at, item)));
                }
                None => found.push((at, path.trim_end_matches(':').to_owned())),
            }
        }
    }
    found
}

/// What `source` imports and may not.
fn wrong(source: &Source) -> Vec<String> {
    let Some(own) = module(&source.path) else {
        return Vec::new();
    };
    let Some((_, may)) = MAY.iter().find(|(name, _)| *name == own) else {
        return vec![format!(
            "{}: the module {own} is not in the table of this test",
            source.path
        )];
    };
    let allowed = |path: &str| {
        path.split("::").next() == Some(own)
            || may
                .iter()
                .any(|open| *open == "*" || path == *open || path.starts_with(&format!("{open}::")))
    };
    let named = named(source).into_iter().filter(|(_, path)| !allowed(path));
    named
        .map(|(at, path)| format!("{}:{at}: {own} → {path}", source.path))
        .collect()
}

#[test]
fn imports_point_one_way() {
    let found: Vec<_> = sources().iter().flat_map(wrong).collect();
    none("see the table in src/lib.rs", &found);
}

#[test]
fn the_rule_bites() {
    let check = |path: &str, text: &str| {
        wrong(&Source {
            path: path.to_owned(),
            text: text.to_owned(),
        })
        .len()
    };
    assert_eq!(check("src/model/a.rs", "use crate::clock::Clock;"), 1);
    assert_eq!(
        check(
            "src/model/a.rs",
            "use crate::model::b;\n// use crate::clock;"
        ),
        0
    );
    assert_eq!(
        check("src/room/gate.rs", "use crate::journal::lane::Lane;"),
        0
    );
    assert_eq!(check("src/room/gate.rs", "use crate::journal::Flusher;"), 1);
    assert_eq!(
        check("src/http/a.rs", "use crate::{model::Micros, store::Store};"),
        1
    );
    assert_eq!(check("src/store/a.rs", "fn f() { crate::room::g() }"), 1);
    assert_eq!(
        check(
            "src/store/a.rs",
            "#[cfg(test)]\nmod tests {\nuse crate::room::g;\n}"
        ),
        0
    );
    assert_eq!(check("src/stray.rs", ""), 1);
    assert_eq!(check("src/main.rs", "use crate::anything;"), 0);
}
