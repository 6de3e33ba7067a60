//! The binary under test as a child process: its output followed, its end awaited.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{interval, timeout};

/// How long a process may take to start, to become ready, and to stop.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a state that cannot be waited for is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many lines of a process's output are kept for messages.
const LINES_MAX: usize = 200;

type Lines = Arc<Mutex<VecDeque<String>>>;

/// A running process; dropping it kills it.
pub struct Process {
    child: Child,
    lines: Lines,
    followers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts the binary in `folder`, inheriting nothing that could change its configuration.
    /// `on_line` hears every line that it writes.
    pub fn spawn(
        folder: &Path,
        arguments: &[String],
        on_line: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(arguments)
            .env_clear()
            .current_dir(folder)
            .stdin(Stdio::null());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let lines = Lines::default();
        let on_line = Arc::new(on_line);
        let stdout = child
            .stdout
            .take()
            .map(|pipe| follow(pipe, lines.clone(), on_line.clone()));
        let stderr = child
            .stderr
            .take()
            .map(|pipe| follow(pipe, lines.clone(), on_line));
        Self {
            child,
            lines,
            followers: stdout.into_iter().chain(stderr).collect(),
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The latest output, standard output and error together.
    pub fn output(&self) -> String {
        let lines = self
            .lines
            .lock()
            .expect("followers of the output do not panic");
        lines
            .iter()
            .fold(String::new(), |all, line| all + line + "\n")
    }

    /// Kills the process at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Asks the process to stop (SIGTERM) without waiting for it.
    pub fn ask_to_stop(&self) {
        self.signal("TERM");
    }

    /// Sends the process a signal.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status();
        assert!(
            status.expect("sh exists").success(),
            "no process to signal:\n{}",
            self.output()
        );
    }

    /// Waits until the process has ended by itself and all its output was heard.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let wait = async {
            let mut look = interval(LOOK_EVERY);
            loop {
                look.tick().await;
                if let Some(status) = child.try_wait().expect("the process is ours") {
                    return status;
                }
            }
        };
        let Ok(status) = timeout(PATIENCE, wait).await else {
            panic!("the process does not end:\n{}", self.output());
        };
        for follower in self.followers.drain(..) {
            follower
                .join()
                .expect("followers of the output do not panic");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, and there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the pipe to its end, so that the process never blocks on it.
fn follow(
    pipe: impl Read + Send + 'static,
    lines: Lines,
    on_line: Arc<impl Fn(&str) + Send + Sync + 'static>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            on_line(&line);
            let mut lines = lines.lock().expect("followers of the output do not panic");
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    })
}
