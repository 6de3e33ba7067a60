//! The scripts, by their text. Each begins with what all share.

use redis::{Cmd, ErrorKind, Script, ServerErrorKind, Value};

use super::classify::classified;
use super::link::Link;
use crate::store::StoreError;

/// Every script.
pub(super) struct Scripts {
    pub append: Text,
    pub rule: Text,
    pub erase: Text,
    pub admit: Text,
    pub enter: Text,
    pub step: Text,
    pub settle: Text,
    pub clock: Text,
}

/// One script.
pub(super) struct Text {
    text: &'static str,
    /// What a server that has seen it knows it by.
    hash: String,
}

macro_rules! script {
    ($($part:literal),+) => {
        Text::new(concat!($(include_str!(concat!("lua/", $part, ".lua"))),+))
    };
}

impl Scripts {
    pub fn new() -> Self {
        Self {
            append: script!("common", "append"),
            rule: script!("common", "rule"),
            erase: script!("common", "erase"),
            admit: script!("common", "moment", "admit"),
            enter: script!("common", "moment", "gate", "enter", "step"),
            step: script!("common", "moment", "gate", "enter", "advance", "step"),
            settle: script!("common", "moment", "gate", "settle"),
            clock: script!("common", "clock"),
        }
    }
}

impl Text {
    fn new(text: &'static str) -> Self {
        let hash = Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }
}

/// One call of a script.
pub(super) struct Call<'a> {
    script: &'a Text,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl<'a> Call<'a> {
    /// A call with these keys, all of one tag.
    pub fn new(script: &'a Text, keys: Vec<String>) -> Self {
        Self {
            script,
            keys,
            args: Vec::new(),
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl Into<Vec<u8>>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a number, or anything that is shown as one.
    pub fn number(&mut self, number: impl std::fmt::Display) -> &mut Self {
        self.arg(number.to_string())
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut cmd = redis::cmd(name);
        cmd.arg(script).arg(self.keys.len());
        for key in &self.keys {
            cmd.arg(key);
        }
        for arg in &self.args {
            cmd.arg(arg.as_slice());
        }
        cmd
    }

    /// Runs it by its hash. A server that has not seen it, such as one that started since, gets the
    /// text: only that server, in the same command.
    pub async fn run(self, link: &Link, during: &'static str) -> Result<Value, StoreError> {
        let known = self.command("EVALSHA", &self.script.hash);
        match link.raw(&known).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let text = self.command("EVAL", self.script.text);
                link.query(during, &text).await
            }
            answer => answer.map_err(|error| classified(during, error)),
        }
    }
}
