//! Whether a host still takes and says something. Floor 4.
//!
//! **Invariant:** whoever waits for a host's first word waits no longer than a limit that begins anew only while the host takes more
//! of what is sent. What comes instead of a word does not count: a host may echo for ever.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What is known of one conversation.
#[derive(Debug)]
pub(super) struct Progress {
    /// When anything moved last.
    last: Mutex<Instant>,
    spoke: watch::Sender<bool>,
    /// Whether there ever was a word, in any of the conversations that this was used for.
    ever_spoke: AtomicBool,
    /// Whether all that is sent in this conversation was taken.
    all_taken: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let (last, spoke) = (Mutex::new(Instant::now()), watch::Sender::new(false));
        Progress { last, spoke, ever_spoke: AtomicBool::new(false), all_taken: AtomicBool::new(false) }
    }

    /// Begins another conversation.
    pub(super) fn begin(&self) {
        self.all_taken.store(false, Ordering::Relaxed);
        self.spoke.send_replace(false);
        self.moved();
    }

    /// Whether the host said a word in this conversation.
    pub(super) fn has_spoken(&self) -> bool {
        *self.spoke.borrow()
    }

    /// Whether the host said a word in any of them.
    pub(super) fn has_ever_spoken(&self) -> bool {
        self.ever_spoke.load(Ordering::Relaxed)
    }

    /// Something went there or came from there.
    pub(super) fn moved(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The host said a word of the runner's.
    pub(super) fn spoke(&self) {
        self.moved();
        self.ever_spoke.store(true, Ordering::Relaxed);
        self.spoke.send_if_modified(|spoke| !std::mem::replace(spoke, true));
    }

    /// Ends when nothing has moved for `first`, before the first word; after it for `later`, or never where there is none.
    pub(super) async fn stalls(&self, first: Duration, later: Option<Duration>) {
        let mut changes = self.spoke.subscribe();
        loop {
            let spoke = *changes.borrow_and_update();
            let limit = if spoke { later } else { Some(first) };
            let Some(limit) = limit else { return std::future::pending().await };
            let until = self.last() + limit;
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(until) => if self.last() + limit <= Instant::now() { return },
            }
        }
    }

    /// Ends with the first word, or when nothing has moved for so long. None is on its way before all is sent.
    pub(super) async fn word_or_silence(&self, limit: Duration) {
        if !self.all_taken.load(Ordering::Relaxed) {
            return;
        }
        let mut changes = self.spoke.subscribe();
        tokio::select! {
            // Whoever sends it is this one, and is there.
            _ = changes.wait_for(|spoke| *spoke) => {}
            () = self.stalls(limit, None) => {}
        }
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a reader of `from` that says when something of it was taken.
    pub(super) fn of<R>(&self, from: R) -> Taken<'_, R> {
        Taken { from, progress: self }
    }
}

/// A reader whose progress is seen.
pub(super) struct Taken<'a, R> {
    from: R,
    progress: &'a Progress,
}

impl<R: Read> Read for Taken<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.progress.moved();
        let count = self.from.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.progress.all_taken.store(true, Ordering::Relaxed);
        }
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Taken<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let buffer = self.from.fill_buf()?;
        if buffer.is_empty() {
            self.progress.all_taken.store(true, Ordering::Relaxed);
        }
        Ok(buffer)
    }

    fn consume(&mut self, count: usize) {
        self.progress.moved();
        self.from.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    /// Runs a conversation beside the wait for its end; returns how long it took, in limits.
    fn took(later: Option<Duration>, talk: impl AsyncFnOnce(&Progress)) -> u32 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (progress, begin) = (Progress::new(), Instant::now());
            tokio::select! {
                () = progress.stalls(LIMIT, later) => {}
                () = async { talk(&progress).await; std::future::pending().await } => {}
            }
            u32::try_from(begin.elapsed().as_millis() / LIMIT.as_millis()).unwrap()
        })
    }

    #[test]
    fn a_limit_begins_anew_while_something_is_taken_and_is_another_after_the_first_word() {
        assert_eq!(took(None, async |_: &Progress| {}), 1);
        let taken = took(None, async |progress: &Progress| {
            let mut reader = progress.of(&b"abcd"[..]);
            for _ in 0..4 {
                tokio::time::sleep(LIMIT / 2).await;
                reader.consume(1);
            }
        });
        assert_eq!(taken, 3);
        let spoken = took(Some(LIMIT * 3), async |progress: &Progress| {
            tokio::time::sleep(LIMIT / 2).await;
            progress.spoke();
        });
        assert_eq!(spoken, 3);
    }

    #[test]
    fn a_word_is_waited_for_once_all_is_sent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let progress = Progress::new();
            progress.begin();
            let mut reader = progress.of(&b"abcd"[..]);
            reader.consume(3);
            assert_eq!(reader.fill_buf().unwrap(), b"d");
            assert!(tokio::time::timeout(LIMIT / 2, progress.word_or_silence(LIMIT)).await.is_ok());
            reader.consume(1);
            assert_eq!(reader.fill_buf().unwrap(), b"");
            assert!(tokio::time::timeout(LIMIT / 2, progress.word_or_silence(LIMIT)).await.is_err());
            assert!(tokio::time::timeout(LIMIT * 3, progress.word_or_silence(LIMIT)).await.is_ok());
            // The next conversation has sent nothing yet.
            progress.begin();
            assert!(tokio::time::timeout(LIMIT / 2, progress.word_or_silence(LIMIT)).await.is_ok());
        });
    }

    #[test]
    fn after_the_first_word_a_step_may_be_silent_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let progress = Progress::new();
            progress.spoke();
            assert!(tokio::time::timeout(LIMIT * 3, progress.stalls(LIMIT, None)).await.is_err());
            assert!(progress.has_ever_spoken());
            progress.begin();
            assert!(tokio::time::timeout(LIMIT * 3, progress.stalls(LIMIT, None)).await.is_ok());
            assert!(!progress.has_spoken() && progress.has_ever_spoken());
        });
    }
}
