//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, ValueEnum};

use crate::config::Sources;

/// The exit code of bad usage and bad configuration: `EX_USAGE` of sysexits(3).
pub const EXIT_USAGE: u8 = 64;

/// Read when `--config` is not given and it exists.
const DEFAULT_FILE: &str = "config.toml";

const VERSION_LINE: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("TIDEGATE_COMMIT"),
    ", built ",
    env!("TIDEGATE_BUILT"),
    ")"
);

const EXAMPLES: &str = "\
Examples:
  tidegate                                     serve, with config.toml if there is one
  tidegate --config /etc/tidegate.toml         serve with this file
  tidegate --set server.listen=0.0.0.0:8000    serve, with one setting on top
  tidegate --set 'event.\"evt.2026\".rate=250'   the policy of one event
  TIDEGATE__DEFAULTS__RATE=500 tidegate check  what all of it comes to
  tidegate import-legacy --from redis://old:6379 --dry-run
                                               what would be moved from another gateway
  tidegate doctor --visitors 200000            whether redis, or the folder, will do for that many

A setting is taken from --set, else the environment (TIDEGATE__SECTION__KEY), else the file, else
the built-in default. SIGHUP or a change of the file reloads policies, limits, polling and the log
level. Bad usage and bad configuration exit 64 before anything else happens.";

/// A waiting room in one binary
#[derive(Debug, Parser)]
#[command(name = "tidegate", version = VERSION_LINE, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do
    #[arg(value_enum, default_value_t)]
    pub command: Command,

    /// The configuration file [default: config.toml, if it exists]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,

    /// A setting over file and environment; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    /// What `import-legacy` goes by
    #[command(flatten)]
    pub import: ImportArgs,

    /// What `doctor` goes by
    #[command(flatten)]
    pub doctor: DoctorArgs,
}

/// What `import-legacy` goes by.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of import-legacy")]
pub struct ImportArgs {
    /// The other gateway's Redis, one server or any of a cluster: redis://user:password@host:port,
    /// rediss:// for TLS; or env:NAME or file:PATH of such a text
    #[arg(long, value_name = "URL", required_if_eq("command", "import-legacy"))]
    pub from: Option<String>,

    /// Only this event; may be repeated
    #[arg(long, value_name = "ID")]
    pub event: Vec<String>,

    /// Read and count, write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What `doctor` goes by.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of doctor")]
pub struct DoctorArgs {
    /// How many visitors there must be room for [default: the largest max_waiting]
    #[arg(long, value_name = "NUMBER")]
    pub visitors: Option<u64>,

    /// Tell the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Command {
    /// Open the doors
    #[default]
    Serve,
    /// Print the resolved configuration as TOML, secrets hidden
    Check,
    /// Move the sale of a Redis-only gateway over to the configured store, its tokens included; may
    /// be repeated, then only the difference is written
    ImportLegacy,
    /// Look at the configured store and say what to mend; exits 1 if anything fails
    Doctor,
}

impl Cli {
    /// The process's arguments; or, when they ask for help or make no sense, the code to exit with
    /// after the text was printed.
    pub fn read() -> Result<Self, ExitCode> {
        Self::try_parse().and_then(Self::fitting).map_err(|error| {
            // Nobody is left to hear of a closed pipe.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            }
        })
    }

    /// Refuses options that the command does not know.
    fn fitting(self) -> Result<Self, clap::Error> {
        let (import, doctor) = (&self.import, &self.doctor);
        let importing = import.from.is_some() || !import.event.is_empty() || import.dry_run;
        let examining = doctor.visitors.is_some() || doctor.json;
        let message = if importing && self.command != Command::ImportLegacy {
            Some("--from, --event and --dry-run are options of import-legacy")
        } else if examining && self.command != Command::Doctor {
            Some("--visitors and --json are options of doctor")
        } else {
            None
        };
        if let Some(message) = message {
            return Err(Self::command().error(ErrorKind::ArgumentConflict, message));
        }
        Ok(self)
    }

    /// Where the configuration is written, with `env` as the environment.
    pub fn sources(&self, env: impl IntoIterator<Item = (String, String)>) -> Sources {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| Path::exists(file));
        Sources::new(self.config.clone().or_else(default), env, self.set.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_settings_add_up_on_both_sides_of_the_command() {
        let bare = Cli::try_parse_from(["tidegate"]).unwrap();
        assert_eq!((bare.command, bare.set.len()), (Command::Serve, 0));
        let words = [
            "tidegate",
            "--set",
            "log.level=warn",
            "check",
            "--set",
            "fleet.size=1",
        ];
        let both = Cli::try_parse_from(words).unwrap();
        assert_eq!(both.command, Command::Check);
        assert_eq!(both.set, ["log.level=warn", "fleet.size=1"]);
    }

    #[test]
    fn options_of_one_command_are_no_other_ones() {
        let parse = |words: &[&str]| {
            let words = ["tidegate"].iter().chain(words);
            Cli::try_parse_from(words).and_then(Cli::fitting)
        };
        assert!(parse(&["import-legacy"]).is_err());
        let import = parse(&["import-legacy", "--from", "redis://a", "--event", "e"]).unwrap();
        assert_eq!(import.import.from.as_deref(), Some("redis://a"));
        assert_eq!(import.import.event, ["e"]);
        assert!(parse(&["check", "--dry-run"]).is_err());
        assert!(parse(&["--from", "redis://a"]).is_err());
        let doctor = parse(&["doctor", "--visitors", "7", "--json"]).unwrap();
        assert_eq!(
            (doctor.doctor.visitors, doctor.doctor.json),
            (Some(7), true)
        );
        assert!(parse(&["--json"]).is_err());
        assert!(parse(&["check", "--visitors", "7"]).is_err());
    }
}
