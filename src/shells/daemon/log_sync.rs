//! Has what steps printed on the disk before their ends are recorded. Floor 4.
//!
//! **Invariant:** an end is passed on only after its log survives a power cut, so a record never knows of output that is gone.
//! Logs that end while others are synced wait for the next sync together: however many hosts end at once, two syncs are
//! enough.

use std::path::PathBuf;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::adapters::spool::logs;

/// A log that is to be synced, and who waits for that.
type Wanted = (PathBuf, oneshot::Sender<()>);

/// What syncs logs, off the loop.
#[derive(Clone, Debug)]
pub(super) struct LogSync {
    wanted: UnboundedSender<Wanted>,
}

impl LogSync {
    /// Begins; it ends with the last of those who may want something.
    pub(super) fn start() -> LogSync {
        let (wanted, waiting) = unbounded_channel();
        tokio::spawn(serve(waiting));
        LogSync { wanted }
    }

    /// Returns when a log is on the disk. Where that fails, the daemon's log says so, and whoever shows the log compares it.
    pub(super) async fn sync(&self, log: PathBuf) {
        let (done, synced) = oneshot::channel();
        if self.wanted.send((log, done)).is_ok() {
            // Nobody answers only when the daemon stops.
            let _ = synced.await;
        }
    }
}

async fn serve(mut waiting: UnboundedReceiver<Wanted>) {
    while let Some(first) = waiting.recv().await {
        let (mut paths, mut done) = (vec![first.0], vec![first.1]);
        while let Ok((path, sender)) = waiting.try_recv() {
            paths.push(path);
            done.push(sender);
        }
        let synced = spawn_blocking(move || logs::sync(&paths)).await;
        match synced {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("what steps printed may not survive a power cut: {error}"),
            Err(error) => tracing::error!("what steps printed may not survive a power cut: {error}"),
        }
        for sender in done {
            // Whoever waited may have been stopped.
            let _ = sender.send(());
        }
    }
}
