//! The socket under a session, and waiting for it. Floor 3.
//!
//! **Invariant:** the registration with the event loop ends before the socket is closed. The other way round a new
//! socket could get the same number in between and lose its registration: a silent hang.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use ssh2::BlockDirections;
use tokio::io::Interest;

/// The return code of libssh2 for "not now" (`LIBSSH2_ERROR_EAGAIN`).
pub(super) const AGAIN: i32 = -37;

/// A duplicate of the session's socket, registered with the event loop. It is a number of its own, so the
/// registration can never outlive the file it is for, whatever the session does with its own. (`AsyncFd` would do
/// the same, but its sound constructor is `unsafe`.)
pub(super) struct Readiness {
    registered: tokio::net::TcpStream,
    /// Whether anything came from the host since somebody asked.
    heard: AtomicBool,
}

impl Readiness {
    pub(super) fn new(stream: &TcpStream) -> io::Result<Readiness> {
        let registered = tokio::net::TcpStream::from_std(stream.try_clone()?)?;
        Ok(Readiness { registered, heard: AtomicBool::new(true) })
    }

    /// Prepares a fresh connection: no waiting for full segments, and the kernel asks after silent peers.
    pub(super) fn prepare(stream: &TcpStream, keepalive: Duration) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let probes = TcpKeepalive::new().with_time(keepalive).with_interval(keepalive).with_retries(3);
        SockRef::from(stream).set_tcp_keepalive(&probes)
    }

    /// Whether anything came from the host since the last call: an answer to a keepalive counts, though libssh2
    /// hides it.
    pub(super) fn heard_since(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Calls `attempt` until it says anything but "not now", waiting for the socket in between.
    ///
    /// The readiness seen before a retry is cleared only when that retry says "not now" again, so readiness that comes
    /// in between is not lost.
    pub(super) async fn retry<T>(
        &self,
        directions: impl Fn() -> BlockDirections,
        mut attempt: impl FnMut() -> Result<T, ssh2::Error>,
    ) -> Result<T, ssh2::Error> {
        // What stands ready now is read without the event loop ever telling of it.
        if SockRef::from(&self.registered).peek(&mut [std::mem::MaybeUninit::uninit(); 1]).is_ok_and(|count| count > 0)
        {
            self.heard.store(true, Ordering::Relaxed);
        }
        let mut result = attempt();
        loop {
            match &result {
                Err(error) if is_again(error) => {}
                _ => return result,
            }
            // Delayed acknowledgements make sshd hold its next packet for 40 ms; the option does not stick.
            let _ = SockRef::from(&self.registered).set_tcp_quickack(true);
            let interest = match directions() {
                BlockDirections::Outbound => Interest::WRITABLE,
                BlockDirections::Both => Interest::READABLE | Interest::WRITABLE,
                BlockDirections::Inbound | BlockDirections::None => Interest::READABLE,
            };
            let Ok(ready) = self.registered.ready(interest).await else { return result };
            if ready.is_readable() {
                self.heard.store(true, Ordering::Relaxed);
            }
            let _ = self.registered.try_io(interest, || {
                result = attempt();
                match &result {
                    Err(error) if is_again(error) => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(()),
                }
            });
        }
    }
}

/// Whether the library says "not now".
pub(super) fn is_again(error: &ssh2::Error) -> bool {
    error.code() == ssh2::ErrorCode::Session(AGAIN)
}
