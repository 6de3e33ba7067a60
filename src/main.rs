//! Arguments → configuration → logs → runtime → the application → exit code.

use std::io::Write;
use std::process::ExitCode;

use tidegate::cli::{Cli, Command, DoctorArgs, EXIT_USAGE, ImportArgs};
use tidegate::config::{Config, Sources, environment};
use tidegate::doctor::{self, Level};
use tidegate::{app, telemetry};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let sources = cli.sources(environment());
    let config = match sources.load() {
        Ok(config) => config,
        Err(mistakes) => return told(&format!("tidegate: {mistakes}\n"), EXIT_USAGE),
    };
    match cli.command {
        Command::Check => check(&config),
        Command::ImportLegacy => import(&config, &sources, &cli.import),
        Command::Doctor => match examine(&config, &cli.doctor) {
            Ok(code) => code,
            Err(error) => told(&format!("tidegate: {error}\n"), 1),
        },
        Command::Serve => match serve(config, sources) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => told(&format!("tidegate: {error}\n"), 1),
        },
    }
}

fn check(config: &Config) -> ExitCode {
    // A reader that closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(config.to_toml().as_bytes());
    ExitCode::SUCCESS
}

fn examine(config: &Config, args: &DoctorArgs) -> std::io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(doctor::examine(config, args.visitors));
    let text = if args.json {
        report.to_json()
    } else {
        report.to_text()
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::from(u8::from(report.verdict == Level::Fail)))
}

fn serve(config: Config, sources: Sources) -> Result<(), Box<dyn std::error::Error>> {
    let log = telemetry::logging::start(&config.log.level, config.log.format)?;
    Ok(runtime(&config)?.block_on(app::run(config, sources, log))?)
}

fn import(config: &Config, sources: &Sources, args: &ImportArgs) -> ExitCode {
    let from = sources.secret(args.from.as_deref().unwrap_or_default());
    let import = match from {
        Ok(from) => app::Import::new(config, &from, &args.event, args.dry_run),
        Err(needed) => return told(&format!("tidegate: --from needs {needed}\n"), EXIT_USAGE),
    };
    let import = match import {
        Ok(import) => import,
        Err(error) => return told(&format!("tidegate: {error}\n"), EXIT_USAGE),
    };
    let run = || -> Result<String, Box<dyn std::error::Error>> {
        telemetry::logging::start(&config.log.level, config.log.format)?;
        Ok(runtime(config)?.block_on(import.run(config))?)
    };
    match run() {
        Ok(report) => {
            // A reader that closed the pipe has seen enough.
            let _ = std::io::stdout().write_all(report.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => told(&format!("tidegate: {error}\n"), 1),
    }
}

fn runtime(config: &Config) -> std::io::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = config.server.workers {
        runtime.worker_threads(workers.get());
    }
    runtime.enable_all().build()
}

fn told(text: &str, code: u8) -> ExitCode {
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}
