//! The machine: which cores are whose, what a process has used, and what every figure carries.

use std::process::Command;
use std::time::Duration;

/// How the cores are shared: what is measured has one half, the load the other, so that neither
/// takes from the other. A machine of one core cannot keep them apart.
#[derive(Debug, Clone)]
pub struct Cores {
    /// For `taskset`: everything that an operator would pay for, service and Redis together.
    pub measured: String,
    /// How many those are.
    pub workers: usize,
    /// For `taskset`: the load generator and this process.
    pub load: String,
    /// How many those are.
    pub generators: usize,
    /// All cores of the machine.
    pub all: usize,
}

impl Cores {
    pub fn of_this_machine() -> Self {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let half = (all / 2).max(1);
        let load = if all == 1 { 0..1 } else { half..all };
        Self {
            measured: format!("0-{}", half - 1),
            workers: half,
            generators: load.len(),
            load: format!("{}-{}", load.start, load.end - 1),
            all,
        }
    }

    /// A program that runs, with all it starts, on the measured cores.
    pub fn measured(&self, program: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.measured, program]);
        command
    }

    /// Moves a running process, all its threads, to the measured cores.
    pub fn move_to_measured(&self, pid: u32) {
        move_to(&self.measured, pid);
    }

    /// Moves this process to the cores of the load.
    pub fn take_load_side(&self) {
        move_to(&self.load, std::process::id());
    }
}

/// Lets this process and all it starts have so many open files, as far as the system allows.
pub fn allow_files(count: usize) {
    let pid = std::process::id().to_string();
    let limit = format!("--nofile={count}:{count}");
    // Only root may; others keep the limit they have.
    let _ = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .output();
}

fn move_to(cores: &str, pid: u32) {
    let moved = Command::new("taskset")
        .args(["-a", "-p", "-c", cores, &pid.to_string()])
        .output()
        .expect("taskset, of util-linux, is installed");
    assert!(moved.status.success(), "{moved:?}");
}

/// The processor time that processes have used since they began, exact to the scheduler's switch.
pub fn cpu_time(pids: &[u32]) -> Duration {
    let tasks = pids.iter().flat_map(|pid| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        tasks.into_iter().flatten().flatten()
    });
    let nanos = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// What a process holds in memory, in bytes.
pub fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0u64) * 4096
}

/// What every figure carries.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    pub redis: String,
    pub commit: String,
    pub command: String,
    /// Processes that wanted a core when the run began, besides ours.
    pub load_at_start: String,
}

impl Machine {
    /// `cores` are all of it: this process may have been moved to some.
    pub fn this(command: &str, cores: usize) -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let after = |text: &str, name: &str, sign: char| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(sign));
            value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let kib = after(&memory, "MemTotal", ':');
        let kib = kib.trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        let redis = said_by("redis-server", &["--version"]);
        let redis = redis.split_whitespace().nth(2).unwrap_or("none").to_owned();
        Self {
            processor: after(&cpu, "model name", ':'),
            cores,
            memory_gib: kib >> 20,
            kernel: kernel.trim().to_owned(),
            redis: redis.trim_start_matches("v=").to_owned(),
            commit: said_by("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            command: command.to_owned(),
            load_at_start: load.split(' ').next().unwrap_or("?").to_owned(),
        }
    }
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&text).trim().to_owned()
}
