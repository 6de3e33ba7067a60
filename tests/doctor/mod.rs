//! `tidegate doctor` against real stores: the right words each time, and nothing left behind.

mod folder;
mod servers;

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::kit::process::Process;
use crate::live::nodes::KEY_TEXT;

/// What the doctor said.
struct Told {
    code: Option<i32>,
    report: Value,
}

/// Asks the real binary, with these settings.
async fn ask(settings: &[String]) -> Told {
    let folder = TempDir::new().expect("the system can make a temporary folder");
    ask_in(folder.path(), settings, &[]).await
}

async fn ask_in(folder: &Path, settings: &[String], more: &[&str]) -> Told {
    let mut arguments = vec!["doctor".to_owned(), "--json".to_owned()];
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    let sets = settings.iter();
    arguments.extend(sets.flat_map(|set| ["--set".to_owned(), set.clone()]));
    let mut process = Process::spawn(folder, &arguments, |_| {});
    let code = process.ended().await.code();
    let output = process.output();
    let report = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}:\n{output}"));
    Told { code, report }
}

/// Settings of a node on these servers.
fn on(ports: &[u16]) -> Vec<String> {
    let urls: Vec<_> = ports
        .iter()
        .map(|port| format!(r#""redis://127.0.0.1:{port}""#))
        .collect();
    vec![
        "store.kind=redis".to_owned(),
        format!("redis.urls=[{}]", urls.join(", ")),
        format!("keys.ticket.k1={KEY_TEXT}"),
        format!("keys.pass.k1={KEY_TEXT}"),
    ]
}

impl Told {
    /// How bad what was said about something is, and the words.
    fn about(&self, about: &str) -> (&str, String) {
        let findings = self.report["findings"].as_array().unwrap();
        let mut findings = findings.iter().filter(|finding| finding["about"] == about);
        let Some(first) = findings.next() else {
            panic!("nothing about {about}: {:#}", self.report);
        };
        let text = |finding: &Value| {
            let advice = finding["advice"].as_str().unwrap_or_default();
            format!("{}\n{advice}\n", finding["says"].as_str().unwrap())
        };
        let all = findings.fold(text(first), |all, finding| all + &text(finding));
        (first["level"].as_str().unwrap(), all)
    }

    /// Holds what was said about something to a level and to words that occur in it.
    #[track_caller]
    fn says(&self, about: &str, level: &str, words: &[&str]) {
        let (is, says) = self.about(about);
        assert_eq!(is, level, "{about}: {says}");
        for words in words {
            assert!(says.contains(words), "{words:?} is not in {about}: {says}");
        }
    }
}
