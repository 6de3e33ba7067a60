//! Rules that one line or one file shows by itself.

use super::{Source, none, sources};

/// A file's most lines.
const LINES_MAX: usize = 600;

/// Findings of `words` in the code of files that `applies` to.
fn words(applies: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let sources = sources();
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| applies(&source.path)) {
        for (at, line) in source.code() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{at}: {word}", source.path));
            }
        }
    }
    found
}

#[test]
fn only_the_clock_reads_the_clock() {
    let found = words(
        |path| path.starts_with("src/") && path != "src/clock.rs",
        &[
            "SystemTime::now",
            "Instant::now",
            "Timestamp::now",
            "Zoned::now",
        ],
    );
    none(
        "take the time as an argument, or through src/clock.rs",
        &found,
    );
}

#[test]
fn only_the_configuration_reads_the_environment() {
    let found = words(
        |path| path.starts_with("src/") && !path.starts_with("src/config/"),
        &[
            "env::var",
            "env::vars",
            "env::args",
            "env::temp_dir",
            "env::home_dir",
        ],
    );
    none("add a setting instead", &found);
}

#[test]
fn only_the_configuration_and_the_embedded_store_touch_files() {
    let files = |path: &str| {
        path.starts_with("src/config/") || path.starts_with("src/store/") || path == "src/clock.rs"
    };
    let found = words(
        |path| path.starts_with("src/") && !files(path),
        &[
            "std::fs",
            "fs::read",
            "fs::write",
            "File::open",
            "File::create",
        ],
    );
    none("let src/config read it and pass what it says", &found);
}

#[test]
fn nothing_sleeps_and_nothing_is_unbounded() {
    let found = words(
        |path| path.starts_with("src/"),
        &[
            "thread::sleep",
            "unbounded_channel",
            "unbounded()",
            "std::sync::mpsc::channel",
        ],
    );
    none("bound it, and wait on what is awaited", &found);
}

#[test]
fn nothing_panics_for_want_of_a_reason_and_nothing_prints() {
    let found = words(
        |path| path.starts_with("src/"),
        &[
            ".unwrap()",
            "print!(",
            "println!(",
            "eprint!(",
            "eprintln!(",
        ],
    );
    none(
        "handle it, or say in an expect why it cannot be; log instead of printing",
        &found,
    );
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file does not find itself.
    let marks = ["TO", "FIX", "XX", "HA"]
        .into_iter()
        .zip(["DO", "ME", "X", "CK"]);
    let marks: Vec<String> = marks.map(|(a, b)| format!("{a}{b}")).collect();
    let macros = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let mut found = Vec::new();
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            let has = |word: &&String| {
                line.match_indices(word.as_str()).any(|(start, _)| {
                    let before = line[..start].chars().next_back();
                    let after = line[start + word.len()..].chars().next();
                    let part = |c: char| c.is_alphanumeric() || c == '_';
                    !before.is_some_and(part) && (word.ends_with('(') || !after.is_some_and(part))
                })
            };
            for word in marks.iter().chain(&macros).filter(has) {
                found.push(format!("{}:{}: {word}", source.path, at + 1));
            }
        }
    }
    none("finish it or leave it out", &found);
}

#[test]
fn files_are_one_idea_long() {
    let too_long = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
    };
    let found: Vec<_> = sources().iter().filter_map(too_long).collect();
    none(
        &format!("split files of more than {LINES_MAX} lines"),
        &found,
    );
}

#[test]
fn log_messages_begin_lowercase_and_end_without_a_dot() {
    let calls = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];
    let mut found = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("src/"))
    {
        for (at, message) in messages(source, &calls) {
            let first = message.chars().next();
            // A name such as SIGHUP or TLS may begin a message; a sentence may not.
            let sentence = first.is_some_and(char::is_uppercase)
                && message.chars().nth(1).is_some_and(char::is_lowercase);
            if sentence || message.ends_with('.') {
                found.push(format!("{}:{at}: {message:?}", source.path));
            }
        }
    }
    none("log messages are lowercase, without a final dot", &found);
}

/// The last text of each call of `macros`, which is its message, and the call's line.
fn messages<'a>(source: &'a Source, macros: &[&str]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for call in macros {
        for (start, _) in source.text.match_indices(call) {
            let body = &source.text[start + call.len()..];
            let body = &body[..body.find(");").unwrap_or(body.len())];
            let texts: Vec<&str> = body.split('"').skip(1).step_by(2).collect();
            if let Some(message) = texts.last() {
                found.push((1 + source.text[..start].matches('\n').count(), *message));
            }
        }
    }
    found
}

#[test]
fn the_rules_bite() {
    let text =
        "fn f() {\n    warn!(a = \"x\", \"It broke.\");\n}\n// a comment\n#[cfg(test)]\nmod t {\n}";
    let source = Source {
        path: "src/f.rs".to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(messages(&source, &["warn!("]), [(2, "It broke.")]);
    assert_eq!(source.code().last(), Some((4, "")));
}
