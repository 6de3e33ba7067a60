//! What runs a world in virtual time: one runtime for everything, or one for each node besides, in
//! step by the millisecond, so that a node can stand still while the world goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, advance, sleep_until};

use super::world::{Setting, World};

pub struct Clockwork {
    main: Timed,
    /// Each node's own; none when all run as one.
    nodes: Vec<Timed>,
    pub world: Arc<World>,
}

struct Timed {
    runtime: Runtime,
    begun: Instant,
}

impl Timed {
    fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without input and output");
        let begun = runtime.block_on(async { Instant::now() });
        Self { runtime, begun }
    }

    /// Runs until so long after the beginning. What was missed comes all at once.
    fn catch_up(&self, time: Duration) {
        let until = self.begun + time;
        self.runtime.block_on(async {
            let behind = until.duration_since(Instant::now());
            if behind > STEP {
                advance(behind - STEP).await;
            }
            sleep_until(until).await;
        });
    }
}

const STEP: Duration = Duration::from_millis(1);

/// The nodes hold the world, which holds them.
impl Drop for Clockwork {
    fn drop(&mut self) {
        self.world.end();
    }
}

impl Clockwork {
    /// `freezes`: nodes can stand still.
    pub fn new(setting: Setting, freezes: bool) -> Self {
        let main = Timed::new();
        let own = if freezes { setting.nodes } else { 0 };
        let nodes: Vec<_> = (0..own).map(|_| Timed::new()).collect();
        let handle = |timed: &Timed| timed.runtime.handle().clone();
        let handles: Vec<Handle> = nodes.iter().map(handle).collect();
        let world = main
            .runtime
            .block_on(async { World::new(setting, handles) });
        Self { main, nodes, world }
    }

    /// Where what is not a node's runs.
    pub fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.main.runtime.enter()
    }

    /// Runs the world until a future is through.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = &self.main.runtime;
        if self.nodes.is_empty() {
            return runtime.block_on(future);
        }
        let task = runtime.spawn(future);
        while !task.is_finished() {
            let time = self.world.step(STEP);
            self.main.catch_up(time);
            for (number, node) in (0..).zip(&self.nodes) {
                if !self.world.is_frozen(number) {
                    node.catch_up(time);
                }
            }
        }
        match runtime.block_on(task) {
            Ok(value) => value,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}
