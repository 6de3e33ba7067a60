//! Hot reload: the sources are read again on `SIGHUP` and when the file changes.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::sources::Sources;
use super::types::Config;

/// How long the file must be quiet: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// How often in a row that may begin anew before the file is read all the same.
const RESTARTS_MAX: usize = 10;

/// Reads the configuration again when asked to, and hands out what may change at run time: event
/// policies, limits, polling and the log level. A configuration with mistakes is logged and the
/// old one kept; a changed field that cannot take effect is logged as needing a restart.
pub struct Watch {
    sources: Sources,
    current: watch::Sender<Arc<Config>>,
    /// The file's text as last read, so that events that change nothing do nothing.
    text: Option<String>,
    hangup: Signal,
    touched: Arc<Notify>,
    /// Dropping it ends the watching; `None` without a file.
    _watcher: Option<RecommendedWatcher>,
}

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The file's folder cannot be watched.
    #[error("cannot watch {path}: {source}")]
    File {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
    /// The signal cannot be listened to.
    #[error("cannot listen for SIGHUP: {0}")]
    Signal(#[from] std::io::Error),
}

impl Watch {
    /// Starts watching, inside a tokio runtime. `current` is what `sources` said at the start. From
    /// here on `SIGHUP` no longer ends the process; nothing is read before [`Watch::run`].
    pub fn new(sources: Sources, current: Arc<Config>) -> Result<Self, WatchError> {
        let touched = Arc::new(Notify::new());
        let watcher = match sources.file() {
            Some(file) => {
                let folder = folder(file);
                let watching = watch_folder(folder, Arc::clone(&touched));
                let failed = |source| WatchError::File {
                    path: folder.to_owned(),
                    source,
                };
                Some(watching.map_err(failed)?)
            }
            None => None,
        };
        let text = sources.file_text().and_then(Result::ok);
        Ok(Self {
            sources,
            current: watch::Sender::new(current),
            text,
            hangup: signal(SignalKind::hangup())?,
            touched,
            _watcher: watcher,
        })
    }

    /// The configuration in force, now and later.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.current.subscribe()
    }

    /// Reloads until `stop` is ready.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                // A runtime that shuts down ends the signal's stream.
                got = self.hangup.recv() => match got {
                    Some(()) => self.reload(true),
                    None => return,
                },
                () = self.touched.notified() => {
                    let touched = Arc::clone(&self.touched);
                    tokio::select! {
                        () = &mut stop => return,
                        () = quiet(&touched) => self.reload(false),
                    }
                }
            }
        }
    }

    /// Reads the sources again. With `always` also when the file's text is the same: a secret's
    /// file or nothing at all may have changed.
    fn reload(&mut self, always: bool) {
        let file = self.sources.file_text();
        let text = file.as_ref().and_then(|text| text.as_ref().ok()).cloned();
        if !always && text == self.text {
            return;
        }
        self.text = text;
        let next = match self.sources.load_text(file) {
            Ok(next) => next,
            Err(mistakes) => {
                for mistake in &mistakes.0 {
                    tracing::error!(%mistake, "mistake in the configuration");
                }
                tracing::error!(
                    mistakes = mistakes.0.len(),
                    "configuration not reloaded, the old one stays in force"
                );
                return;
            }
        };
        let (merged, restart) = self.current.borrow().reloaded(&next);
        for field in restart {
            tracing::warn!(field, "changed in the configuration, needs a restart");
        }
        let changed = self.current.send_if_modified(|current| {
            let differs = **current != merged;
            if differs {
                *current = Arc::new(merged);
            }
            differs
        });
        tracing::info!(changed, "configuration reloaded");
    }
}

/// The folder is watched and not the file: editors and config maps put a new file in its place.
fn folder(file: &Path) -> &Path {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn watch_folder(folder: &Path, touched: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(_) => touched.notify_one(),
            Err(error) => tracing::warn!(%error, "watching the configuration file failed"),
        })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Waits until nothing happened for [`QUIET`], or for long enough.
async fn quiet(touched: &Notify) {
    for _ in 0..RESTARTS_MAX {
        if tokio::time::timeout(QUIET, touched.notified())
            .await
            .is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(text: &str) -> (tempfile::TempDir, PathBuf, Watch) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources::new(Some(file.clone()), [], Vec::new());
        let config = sources.load().unwrap();
        let watch = Watch::new(sources, Arc::new(config)).unwrap();
        (folder, file, watch)
    }

    #[tokio::test]
    async fn what_may_change_changes_and_the_rest_stays() {
        let (_folder, file, mut watch) = watch("[defaults]\nrate = 1");
        let seen = watch.subscribe();
        let next =
            "[defaults]\nrate = 2\n[server]\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"warn\"";
        std::fs::write(&file, next).unwrap();
        watch.reload(false);
        let config = seen.borrow();
        assert_eq!(config.defaults.rate, 2.0);
        assert_eq!(config.log.level.to_string(), "warn");
        assert_eq!(config.server, Config::default().server);
    }

    #[tokio::test]
    async fn mistakes_keep_the_old_one_in_force() {
        let (_folder, file, mut watch) = watch("[defaults]\nrate = 1");
        let mut seen = watch.subscribe();
        for bad in ["[defaults]\nrate = -1", "[defaults", "[defalts]"] {
            std::fs::write(&file, bad).unwrap();
            watch.reload(false);
            assert!(!seen.has_changed().unwrap(), "{bad}");
        }
        std::fs::remove_file(&file).unwrap();
        watch.reload(false);
        assert_eq!(seen.borrow_and_update().defaults.rate, 1.0);
    }

    #[tokio::test]
    async fn a_changed_file_is_noticed_and_a_stop_is_heard() {
        let (_folder, file, watch) = watch("[defaults]\nrate = 1");
        let mut seen = watch.subscribe();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(watch.run(async {
            let _ = stopped.await;
        }));
        // As editors do: a new file in the old one's place.
        let draft = file.with_extension("draft");
        std::fs::write(&draft, "[defaults]\nrate = 3").unwrap();
        std::fs::rename(&draft, &file).unwrap();
        seen.changed().await.unwrap();
        assert_eq!(seen.borrow().defaults.rate, 3.0);
        drop(stop);
        task.await.unwrap();
    }
}
