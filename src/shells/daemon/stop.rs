//! Ends the daemon when it is told to, whatever it is doing. Floor 4.
//!
//! **Invariant:** the thread that hears signals does nothing else, and nothing is waited for without a limit once it heard
//! one. To be ended in the middle loses nothing: the journals say where to go on.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use crate::shells::daemon::DaemonError;

/// How long the loop has to come to its end: for the last lines of the audit, and what it is in the middle of.
const GRACE: Duration = Duration::from_secs(4);
/// How much stack the loop has: as much as a main thread.
const STACK_BYTES: usize = 8 << 20;

/// Says when the daemon is to stop.
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits until it is.
    pub(super) async fn asked(&mut self) {
        // Who could tell is gone only when the process ends.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

/// Does the work on a thread of its own until it ends, or until somebody wants it to end (TERM or INT): then it is told so, and
/// after its grace, or at a second signal, left where it is.
pub(super) fn until_told<F>(work: impl FnOnce(Stop) -> F + Send + 'static) -> Result<(), DaemonError>
where
    F: Future<Output = Result<(), DaemonError>>,
{
    let ears = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _entered = ears.enter();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (tell, stop) = watch::channel(false);
    let (ended, mut end) = oneshot::channel();
    let loop_thread = std::thread::Builder::new().name("spoolgate-loop".to_owned()).stack_size(STACK_BYTES);
    let loop_thread = loop_thread.spawn(move || {
        // Whoever listened may have gone in the meantime.
        let _ = ended.send(runtime.block_on(work(Stop(stop))));
        // What still talks to hosts, or waits for a name server, is nobody's any more.
        runtime.shutdown_background();
    })?;
    let result = ears.block_on(async {
        tokio::select! {
            result = &mut end => return Some(result),
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        // The loop may have ended in this moment.
        let _ = tell.send(true);
        tokio::select! {
            result = &mut end => Some(result),
            () = sleep(GRACE) => None,
            _ = term.recv() => None,
            _ = int.recv() => None,
        }
    });
    match result {
        Some(Ok(result)) => result,
        Some(Err(_)) => match loop_thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => Ok(()),
        },
        None => {
            tracing::warn!(
                "the loop did not come to its end in time and is left; the next start goes on from the journals"
            );
            Ok(())
        }
    }
}
