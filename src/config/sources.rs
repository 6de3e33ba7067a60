//! The places where a configuration is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mistake::{Given, Mistake, Mistakes, Origin, Why};
use super::resolve::resolve;
use super::tree::Written;
use super::types::Config;

/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where a configuration is written: a file ← the environment ← the command line, later ones win.
///
/// The environment is a list of pairs taken once, so that tests never touch the process's own.
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    env: BTreeMap<String, String>,
    sets: Vec<String>,
}

/// The environment may hold secrets, so only its size is shown.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (env, sets) = (self.env.len(), self.sets.len());
        write!(
            f,
            "Sources {{ file: {:?}, env: {env} variables, sets: {sets} }}",
            self.file
        )
    }
}

/// The process's environment. Variables that are not UTF-8 are left out: none of ours are.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl Sources {
    /// Sources out of a file (if any), environment pairs, and `section.key=value` texts.
    pub fn new(
        file: Option<PathBuf>,
        env: impl IntoIterator<Item = (String, String)>,
        sets: Vec<String>,
    ) -> Self {
        Self {
            file,
            env: env.into_iter().collect(),
            sets,
        }
    }

    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads all sources.
    ///
    /// # Errors
    ///
    /// Every mistake that can be told from what was written, together.
    pub fn load(&self) -> Result<Config, Mistakes> {
        self.load_text(self.file_text())
    }

    /// A secret as written: itself, `env:NAME` or `file:path`.
    ///
    /// # Errors
    ///
    /// What would have been one. Never holds it.
    pub fn secret(&self, text: &str) -> Result<String, String> {
        let value = super::tree::Value::Raw(text.to_owned());
        super::fields::secret(&value, &|name| self.env.get(name).cloned())
    }

    /// The file's text; `None` without a file.
    pub(super) fn file_text(&self) -> Option<std::io::Result<String>> {
        self.file.as_deref().map(read_bounded)
    }

    /// [`Sources::load`] with the file's text already read; `None` without a file.
    ///
    /// # Errors
    ///
    /// As [`Sources::load`].
    pub fn load_text(&self, file: Option<std::io::Result<String>>) -> Result<Config, Mistakes> {
        let mut written = Written::default();
        if let (Some(path), Some(text)) = (&self.file, file) {
            match text {
                Ok(text) => written.file(path, &text),
                Err(error) => written.mistakes.push(Mistake {
                    given: Given {
                        field: format!("--config {}", path.display()),
                        value: None,
                        origin: Origin::CommandLine,
                    },
                    why: Why::Other(format!("cannot be read: {error}")),
                }),
            }
        }
        written.environment(
            self.env
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        for assignment in &self.sets {
            written.set(assignment);
        }
        resolve(&written, &|name| self.env.get(name).cloned())
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}
