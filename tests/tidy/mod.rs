//! Style that matters is a test: the sources themselves are read and held to the house rules.

mod configuration;
mod imports;
mod lines;
mod mutants;

use std::path::{Path, PathBuf};

/// One Rust file of the repository.
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Its lines of code, counted from 1: without comments, and without unit tests, which stand
    /// last in their file or in a `tests.rs` of their own.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        });
        let own_file = self.path.starts_with("src/")
            && (self.path.ends_with("/tests.rs") || self.path.contains("/tests/"));
        let end = if own_file {
            0
        } else {
            tests.unwrap_or(lines.len())
        };
        let code = lines.into_iter().take(end).enumerate();
        code.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the repository's own.
fn sources() -> Vec<Source> {
    let mut found = vec![root().join("build.rs")];
    for folder in ["src", "tests", "benches", "fuzz", "examples"] {
        collect(&root().join(folder), &mut found);
    }
    let sources: Vec<_> = found.iter().map(|path| read(path)).collect();
    assert!(
        sources.len() > 10,
        "the sources are not where they were looked for"
    );
    sources
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name() != Some("target".as_ref()) {
            collect(&path, found);
        } else if path.extension() == Some("rs".as_ref()) {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> Source {
    let name = path.strip_prefix(root()).unwrap().components();
    let parts: Vec<_> = name
        .map(|part| part.as_os_str().to_str().unwrap())
        .collect();
    Source {
        path: parts.join("/"),
        text: std::fs::read_to_string(path).unwrap(),
    }
}

/// Fails with all findings at once.
#[track_caller]
fn none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}
