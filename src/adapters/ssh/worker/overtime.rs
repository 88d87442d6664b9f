//! Ends calls into the library that do not return. Floor 3.
//!
//! **Invariant:** a call ends within some seconds, whatever the host sends: a thread that does nothing else shuts the socket of one
//! that takes longer, and the library finds the connection closed. No call of an honest host comes near that: what one call
//! reads is bounded by the windows of its channels, and what it computes by the largest group of a key exchange.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a call may take: on a machine with too much to do its thread may have to wait for its turn.
const CALL_MOST: Duration = Duration::from_secs(5);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where times are counted from.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// The connections.
static ALL: Mutex<Vec<Weak<Calls>>> = Mutex::new(Vec::new());

/// The calls on one connection, one at a time.
pub(super) struct Calls {
    /// When the one under way began, in milliseconds from [`BEGIN`] and never 0; 0 when none is.
    since_ms: AtomicU64,
    socket: UnixStream,
}

impl Calls {
    /// Watches the calls on a connection; `socket` is shut when one takes too long.
    pub(super) fn watch(socket: UnixStream) -> Arc<Calls> {
        static WATCHER: Once = Once::new();
        WATCHER.call_once(|| {
            // Without the thread calls are as long as the library makes them; everything else goes on.
            let _ = std::thread::Builder::new().name("ssh-overtime".to_owned()).spawn(|| {
                loop {
                    std::thread::park_timeout(LOOK_EVERY);
                    end_long_ones(CALL_MOST);
                }
            });
        });
        let calls = Arc::new(Calls { since_ms: AtomicU64::new(0), socket });
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&calls));
        calls
    }

    /// Makes a call.
    pub(super) fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        self.since_ms.store(now_ms().max(1), Ordering::Relaxed);
        let result = work();
        self.since_ms.store(0, Ordering::Relaxed);
        result
    }
}

fn now_ms() -> u64 {
    u64::try_from(BEGIN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Shuts the sockets of calls that take longer than `most`.
fn end_long_ones(most: Duration) {
    let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    ALL.lock().unwrap_or_else(PoisonError::into_inner).retain(|calls| {
        let Some(calls) = calls.upgrade() else { return false };
        let since = calls.since_ms.load(Ordering::Relaxed);
        if since != 0 && now_ms().saturating_sub(since) > most_ms {
            // One that is shut already is as good.
            let _ = calls.socket.shutdown(Shutdown::Both);
        }
        true
    });
}
