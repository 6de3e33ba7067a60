//! What was found, as data, and how it is told.

use std::fmt::Write;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and something is to be known or mended.
    Warn,
    /// People will lose their places, or nothing works.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to.
    pub group: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was looked at, in a word or two.
    pub about: &'static str,
    /// What was seen, in plain words.
    pub says: String,
    /// What to change; there is something wherever it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Findings of one group.
#[derive(Debug)]
pub struct Findings {
    group: &'static str,
    found: Vec<Finding>,
}

impl Findings {
    /// None yet.
    pub fn of(group: &'static str) -> Self {
        Self {
            group,
            found: Vec::new(),
        }
    }

    /// Something is as it should be.
    pub fn ok(&mut self, about: &'static str, says: impl Into<String>) {
        self.add(about, Level::Ok, says.into(), None);
    }

    /// Something works, and is to be mended.
    pub fn warn(
        &mut self,
        about: &'static str,
        says: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(about, Level::Warn, says.into(), Some(advice.into()));
    }

    /// Something does not work.
    pub fn fail(
        &mut self,
        about: &'static str,
        says: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(about, Level::Fail, says.into(), Some(advice.into()));
    }

    /// Something of this level.
    pub fn add(&mut self, about: &'static str, level: Level, says: String, advice: Option<String>) {
        self.found.push(Finding {
            group: self.group,
            level,
            about,
            says,
            advice,
        });
    }

    /// Whether nothing about this was found yet.
    pub fn lacks(&self, about: &str) -> bool {
        !self.found.iter().any(|finding| finding.about == about)
    }

    /// All of them.
    pub fn all(self) -> Vec<Finding> {
        self.found
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub verdict: Level,
    /// In the order in which they are told; those of a group stand together.
    pub findings: Vec<Finding>,
}

impl Report {
    /// A report of these.
    pub fn new(findings: Vec<Finding>) -> Self {
        let levels = findings.iter().map(|finding| finding.level);
        Self {
            verdict: levels.max().unwrap_or(Level::Ok),
            findings,
        }
    }

    /// One finding a line, in groups; what to change under each that is not ok.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut group = "";
        // Writing to a String cannot fail.
        for finding in &self.findings {
            if finding.group != group {
                group = finding.group;
                let _ = writeln!(text, "{group}");
            }
            let level = match finding.level {
                Level::Ok => "ok  ",
                Level::Warn => "warn",
                Level::Fail => "fail",
            };
            let _ = writeln!(text, "  {level}  {}: {}", finding.about, finding.says);
            if let Some(advice) = &finding.advice {
                let _ = writeln!(text, "        → {advice}");
            }
        }
        let count = |level| self.findings.iter().filter(|f| f.level == level).count();
        let (ok, warn, fail) = (count(Level::Ok), count(Level::Warn), count(Level::Fail));
        let _ = writeln!(text, "{ok} ok, {warn} to look at, {fail} failed");
        text
    }

    /// The same for machines: the verdict, and every finding.
    pub fn to_json(&self) -> String {
        // Plain data with text for keys.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_in_groups_with_what_to_change() {
        let mut a = Findings::of("servers");
        a.ok("version", "redis 7");
        a.fail("slots", "16383 of 16384 are served", "mend it");
        let mut b = Findings::of("clocks");
        b.warn("skew", "1 s", "run ntp");
        let found = a.all().into_iter().chain(b.all()).collect();
        let report = Report::new(found);
        assert_eq!(report.verdict, Level::Fail);
        assert_eq!(
            report.to_text(),
            "servers\n  ok    version: redis 7\n  fail  slots: 16383 of 16384 are served\n        \
             → mend it\nclocks\n  warn  skew: 1 s\n        → run ntp\n1 ok, 1 to look at, 1 failed\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["verdict"], "fail");
        assert_eq!(json["findings"][1]["advice"], "mend it");
        assert!(json["findings"][0].get("advice").is_none());
    }
}
