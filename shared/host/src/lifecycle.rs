//! The life of a process: it starts its tasks, waits for a signal or for a task's end, then stops them all and waits
//! for them, but not for ever.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Why a process ended otherwise than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError<E: std::error::Error + 'static> {
    /// A task failed; the others were stopped for it.
    #[error("{task}: {source}")]
    Task {
        /// The task's name.
        task: String,
        /// What it failed with.
        source: E,
    },
    /// A task panicked: a defect of the program.
    #[error("{task} ended by a defect: {problem}")]
    Defect {
        /// The task's name.
        task: String,
        /// The panic as the runtime tells it.
        problem: String,
    },
    /// Tasks did not end in time after they were asked to.
    #[error("still running {} s after the stop: {tasks}; what they had not committed comes again", .bound.as_secs())]
    Drain {
        /// The names of the tasks.
        tasks: String,
        /// How long they were waited for.
        bound: Duration,
    },
    /// The signals could not be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// The tasks of a process, and the token that stops them.
#[derive(Debug)]
pub struct Lifecycle<E> {
    stop: CancellationToken,
    tasks: JoinSet<Result<(), E>>,
    names: Vec<(Id, String)>,
    interrupt: Signal,
    terminate: Signal,
}

/// How the runtime tells the end of a task.
type Ended<E> = Result<(Id, Result<(), E>), JoinError>;

impl<E: std::error::Error + Send + 'static> Lifecycle<E> {
    /// Without any task. From here on SIGINT and SIGTERM end nothing by themselves: one that comes while the stages are
    /// still being opened is waiting for [`Self::run`].
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub fn new() -> Result<Self, LifecycleError<E>> {
        Ok(Self {
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            names: Vec::new(),
            interrupt: signal(SignalKind::interrupt()).map_err(LifecycleError::Signals)?,
            terminate: signal(SignalKind::terminate()).map_err(LifecycleError::Signals)?,
        })
    }

    /// The token that tells tasks to stop.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task, which is to return soon after the token is cancelled.
    pub fn spawn(&mut self, name: &str, task: impl Future<Output = Result<(), E>> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.names.push((handle.id(), name.to_owned()));
    }

    /// Runs until SIGINT or SIGTERM, or until the first task ends; then stops all and waits `bound` for them.
    /// A second signal ends the waiting.
    ///
    /// # Errors
    /// The first task's failure, or that tasks did not end in time.
    pub async fn run(self, bound: Duration) -> Result<(), LifecycleError<E>> {
        let Self { stop, mut tasks, mut names, mut interrupt, mut terminate } = self;
        let mut result = Ok(());
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("interrupted: stopping"),
            _ = terminate.recv() => tracing::info!("asked to terminate: stopping"),
            () = stop.cancelled() => {}
            ended = tasks.join_next_with_id() => if let Some(ended) = ended {
                result = end(&mut names, ended);
            }
        }
        stop.cancel();
        let drain = async {
            while let Some(ended) = tasks.join_next_with_id().await {
                let ended = end(&mut names, ended);
                if result.is_ok() {
                    result = ended;
                }
            }
        };
        let drained = tokio::select! {
            done = tokio::time::timeout(bound, drain) => done.is_ok(),
            _ = interrupt.recv() => false,
            _ = terminate.recv() => false,
        };
        if !drained && result.is_ok() {
            let tasks: Vec<_> = names.iter().map(|(_, name)| name.as_str()).collect();
            result = Err(LifecycleError::Drain { tasks: tasks.join(", "), bound });
        }
        result
    }
}

/// What a task's end means; its name is taken out of those that run.
fn end<E: std::error::Error>(
    names: &mut Vec<(Id, String)>,
    ended: Ended<E>,
) -> Result<(), LifecycleError<E>> {
    let id = match &ended {
        Ok((id, _)) => *id,
        Err(error) => error.id(),
    };
    let task = match names.iter().position(|(known, _)| *known == id) {
        Some(index) => names.swap_remove(index).1,
        None => String::new(),
    };
    match ended {
        Ok((_, Ok(()))) => Ok(()),
        Ok((_, Err(source))) => Err(LifecycleError::Task { task, source }),
        Err(error) => Err(LifecycleError::Defect { task, problem: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Failed(&'static str);

    const BOUND: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_first_failure_stops_the_others_and_is_told() {
        let mut life = Lifecycle::new().unwrap();
        let stop = life.stop();
        life.spawn("patient", async move {
            stop.cancelled().await;
            Ok(())
        });
        life.spawn("broken", async { Err(Failed("the journal is corrupt")) });
        let error = life.run(BOUND).await.unwrap_err();
        assert_eq!(error.to_string(), "broken: the journal is corrupt");
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_named() {
        let mut life = Lifecycle::<Failed>::new().unwrap();
        life.spawn("deaf", std::future::pending());
        life.stop().cancel();
        let error = life.run(Duration::from_millis(1)).await.unwrap_err();
        assert!(error.to_string().contains("deaf"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_not_silence() {
        let mut life = Lifecycle::<Failed>::new().unwrap();
        life.spawn("faulty", async { panic!("on purpose") });
        assert!(
            matches!(life.run(BOUND).await, Err(LifecycleError::Defect { task, .. }) if task == "faulty")
        );
    }
}
