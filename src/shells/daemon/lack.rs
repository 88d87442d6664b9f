//! Waits for what the daemon's own files lack: room on the disk, file descriptors, memory. Floor 4.
//!
//! **Invariant:** nothing is accepted, started or believed to be written while it waits; what goes on afterwards goes on from
//! what stands on the disk, as after a start.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::adapters::http::Server;
use crate::adapters::service;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::lock::Lock;
use crate::adapters::spool::{Lack, SpoolError, room};
use crate::shells::daemon::DaemonError;
use crate::shells::daemon::stop::Stop;
use crate::shells::daemon::web::{Post, Web};

/// How often is looked whether there is room again.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How much room is wanted at first; twice as much after each time that it was not enough.
const ROOM_BYTES: u64 = 64 << 10;
/// How often what is wanted doubles: up to 16 MiB, and half a minute from one try to the next.
const DOUBLINGS_MAX: u32 = 8;
/// Who went on for so long has had enough.
const WENT_ON: Duration = Duration::from_mins(1);

/// What stays while the daemon waits.
#[derive(Default)]
pub(super) struct Kept {
    /// Nobody else serves this state in the meantime.
    pub(super) lock: Option<Arc<Lock>>,
    /// Requests are answered.
    pub(super) http: Option<KeptHttp>,
    /// How often it was not enough, one time after the other.
    rounds: u32,
}

/// What answers requests.
pub(super) struct KeptHttp {
    pub(super) web: Arc<Web>,
    pub(super) posts: mpsc::Receiver<Post>,
    pub(super) server: Option<Server>,
}

/// How the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// There is some again.
    GoOn,
    /// The daemon is to stop.
    Stop,
}

impl Kept {
    /// Whether the daemon served before it waited.
    fn served(&self) -> bool {
        self.http.is_some()
    }

    /// Says to everybody what the daemon waits for; nothing when it does not.
    fn say(&self, lacks: Option<Lack>) {
        if let Some(lock) = &self.lock
            && let Err(error) = lock.say(lacks)
        {
            tracing::warn!("cannot say it in the file that commands look at: {error}");
        }
        if let Some(http) = &self.http {
            http.web.set_waiting(lacks.map(Lack::text));
        }
    }

    /// Waits until there is what `error` says is missing. `began` is when the work began that came upon it.
    ///
    /// # Errors
    /// When it is nothing that comes back, or the state is another one by now.
    pub(super) async fn wait(
        &mut self,
        error: DaemonError,
        began: Instant,
        layout: &Layout,
        stop: &mut Stop,
    ) -> Result<Waited, DaemonError> {
        // Where it served already, somebody edits the configuration. A start ends: whoever started it is told.
        let edited = (error.is_of_configuration() && self.served()).then_some(Lack::Configuration);
        let Some(lack) = error.lack().or(edited) else { return Err(error) };
        let waits_for = lack.text();
        let rounds = if began.elapsed() >= WENT_ON { 0 } else { self.rounds };
        self.rounds = rounds.saturating_add(1).min(DOUBLINGS_MAX);
        tracing::error!(
            "{error}. Nothing is taken in or started until there is {waits_for}; what runs goes on at its hosts, and the daemon \
             goes on by itself"
        );
        self.say(Some(lack));
        let begun = Instant::now();
        let at_least = LOOK_EVERY * 2_u32.pow(rounds.min(6));
        loop {
            tokio::select! {
                () = stop.asked() => return Ok(Waited::Stop),
                () = sleep(LOOK_EVERY) => {}
                () = refuse_posts(self.http.as_mut()) => {}
            }
            service::waits(waits_for);
            self.lock.as_ref().map_or(Ok(()), |lock| lock.check())?;
            let waited = begun.elapsed() >= at_least;
            if waited && (lack != Lack::Room || room::is_there(layout, ROOM_BYTES << rounds)) {
                self.say(None);
                tracing::info!(waited_s = begun.elapsed().as_secs(), "there is {waits_for} again; going on");
                return Ok(Waited::GoOn);
            }
        }
    }
}

/// Takes what is posted and lets its sender know that nobody takes it.
async fn refuse_posts(http: Option<&mut KeptHttp>) {
    if let Some(http) = http {
        while http.posts.recv().await.is_some() {}
    }
    std::future::pending::<()>().await;
}

impl DaemonError {
    /// Returns what was missing, where something was that can come back.
    fn lack(&self) -> Option<Lack> {
        match self {
            DaemonError::Spool(error) => error.lack(),
            DaemonError::Runtime(error) => SpoolError::lack_of(error),
            _ => None,
        }
    }

    fn is_of_configuration(&self) -> bool {
        matches!(self, DaemonError::Config(_) | DaemonError::NoGroup(_) | DaemonError::PolicyGone { .. })
    }
}
