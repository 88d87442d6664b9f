//! File descriptors: how many ways to hosts fit into what this process may open. Floor 3.
//!
//! **Invariant:** ways to hosts leave enough for everything else, and who finds no descriptor waits, within a limit.

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use tokio::time::{sleep, timeout};

/// How many one way to a host takes at most: a socket and its duplicates, a way through another host, a command, a log.
const PER_WAY: u64 = 10;
/// How many the rest of the process needs beside what it has open: journals, records, requests, inventories.
const FOR_OTHERS: u64 = 40;
/// How often it is looked again whether there are some.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Returns how many ways there may be at once, as the limit was when this was asked first.
#[must_use]
pub fn ways() -> usize {
    static WAYS: LazyLock<usize> = LazyLock::new(|| {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let open = std::fs::read_dir("/proc/self/fd").map_or(FOR_OTHERS, |entries| entries.count() as u64);
        usize::try_from(ways_within(limit, open)).unwrap_or(usize::MAX)
    });
    *WAYS
}

/// Returns how many ways fit into a limit, with so many files open: one, however few there are.
fn ways_within(limit: u64, open: u64) -> u64 {
    (limit.saturating_sub(open).saturating_sub(FOR_OTHERS) / PER_WAY).max(1)
}

/// Waits until files can be opened again, if they cannot; returns whether they can.
pub async fn wait_if_short(limit: Duration) -> bool {
    if !are_short() {
        return true;
    }
    tracing::warn!(
        "too few file descriptors: a host waits for some; raise LimitNOFILE in the daemon's unit (ulimit -n)"
    );
    let again = async {
        while are_short() {
            sleep(LOOK_AGAIN).await;
        }
    };
    timeout(limit, again).await.is_ok()
}

/// Whether this process can open hardly any more file.
#[must_use]
pub fn are_short() -> bool {
    let mut held = Vec::new();
    (0..PER_WAY).any(|_| match std::fs::File::open("/dev/null") {
        Ok(file) => {
            held.push(file);
            false
        }
        Err(error) => is_short(&error),
    })
}

/// Whether an error says that no more files can be opened, by this process or on this machine.
pub(super) fn is_short(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| [Errno::EMFILE, Errno::ENFILE].contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_leave_enough_for_the_rest() {
        for (limit, open, want) in [
            (0, 10, 1),
            (64, 20, 1),
            (128, 20, 6),
            (1024, 20, 96),
            (1_048_576, 20, 104_851),
            (u64::MAX, 15, u64::MAX / 10 - 5),
        ] {
            assert_eq!(ways_within(limit, open), want, "{limit} {open}");
        }
    }
}
