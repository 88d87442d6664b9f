//! The socket under a session, and waiting for it. Floor 3.
//!
//! **Invariant:** the registration with the event loop ends before the socket is closed. The other way round a new
//! socket could get the same number in between and lose its registration: a silent hang.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use std::task::{Context, Poll};

use socket2::SockRef;
use ssh2::BlockDirections;
use tokio::io::{Interest, Ready};

use crate::adapters::ssh::worker::overtime::Calls;

/// How often everything is asked before others have their turn.
const TURN_PASSES: u32 = 64;
/// How often the library may say "not now" in one wait before it has to pause.
const FUTILE_PASSES: u32 = 256;
/// How long that pause is.
const FUTILE_PAUSE: Duration = Duration::from_millis(2);
/// The return code of libssh2 for "not now" (`LIBSSH2_ERROR_EAGAIN`).
pub(super) const AGAIN: i32 = -37;

/// A connection to a host: one of its own, or a way through another one.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A duplicate of the library's socket, registered with the event loop. It is a number of its own, so the
/// registration can never outlive the file it is for, whatever the session does with its own. (`AsyncFd` would do
/// the same, but its sound constructor is `unsafe`.)
struct Registered(tokio::net::UnixStream);

impl Registered {
    /// Calls `attempt`, which says whether anything moved. When nothing did, the notices of `ready` that stood before are taken
    /// down, and those that came meanwhile stay. Each direction is a notice of its own: asked for both at once, the event loop
    /// never calls the attempt at all, and the notices stand for ever.
    fn try_what_is(&self, ready: Ready, mut attempt: impl FnMut() -> bool) {
        let said = std::cell::OnceCell::new();
        let mut once = || {
            let moved = *said.get_or_init(&mut attempt);
            if moved { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WouldBlock)) }
        };
        // What they say is what the attempt said. Where a notice does not stand, its closure is not called.
        if ready.is_readable() {
            let _ = self.0.try_io(Interest::READABLE, || {
                if ready.is_writable() {
                    let _ = self.0.try_io(Interest::WRITABLE, &mut once);
                }
                once()
            });
        }
        if ready.is_writable() && said.get().is_none() {
            let _ = self.0.try_io(Interest::WRITABLE, once);
        }
    }
}

pub(super) struct Readiness {
    registered: Registered,
    /// Whether anything came from the host since somebody asked.
    heard: AtomicBool,
    /// The library's calls, none of which goes on for ever.
    calls: Arc<Calls>,
}

impl Readiness {
    /// Watches over the library's socket.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn new(socket: &UnixStream) -> io::Result<Readiness> {
        let calls = Calls::watch(socket.try_clone()?);
        let registered = Registered(tokio::net::UnixStream::from_std(socket.try_clone()?)?);
        Ok(Readiness { registered, heard: AtomicBool::new(true), calls })
    }

    /// Whether anything came from the host since the last call: an answer to a keepalive counts, though libssh2
    /// hides it.
    pub(super) fn heard_since(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Calls `attempt` until it says anything but "not now", waiting for the socket in between. Others have their turn
    /// however often that is: a limit around this always fires.
    pub(super) async fn retry<T>(
        &self,
        directions: impl Fn() -> BlockDirections,
        mut attempt: impl FnMut() -> Result<T, ssh2::Error>,
    ) -> Result<T, ssh2::Error> {
        let mut attempt = || self.calls.call(&mut attempt);
        // What stands ready now is read without the event loop ever telling of it.
        if SockRef::from(&self.registered.0)
            .peek(&mut [std::mem::MaybeUninit::uninit(); 1])
            .is_ok_and(|count| count > 0)
        {
            self.heard.store(true, Ordering::Relaxed);
        }
        let mut result = attempt();
        let mut futile = 0_u32;
        loop {
            match &result {
                Err(error) if is_again(error) => {}
                _ => return result,
            }
            futile = futile.saturating_add(1);
            if futile.is_multiple_of(FUTILE_PASSES) {
                // The socket says "now" and the library "not now": whatever they disagree about, no processor is held by it.
                tokio::time::sleep(FUTILE_PAUSE).await;
            }
            let interest = match directions() {
                BlockDirections::Outbound => Interest::WRITABLE,
                BlockDirections::Both => Interest::READABLE | Interest::WRITABLE,
                BlockDirections::Inbound | BlockDirections::None => Interest::READABLE,
            };
            let Ok(ready) = self.registered.0.ready(interest).await else { return result };
            if ready.is_readable() {
                self.heard.store(true, Ordering::Relaxed);
            }
            self.registered.try_what_is(ready, || {
                result = attempt();
                !matches!(&result, Err(error) if is_again(error))
            });
        }
    }

    /// Registers for the next moment when the socket may be read, or written when `outbound`; ready when it may be now.
    pub(super) fn poll(&self, outbound: bool, cx: &mut Context<'_>) -> Poll<()> {
        let readable = self.registered.0.poll_read_ready(cx).is_ready();
        let writable = outbound && self.registered.0.poll_write_ready(cx).is_ready();
        if readable || writable { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Works on the socket until `work` says that nothing moved; then waits are for new events. Returns whether there may be
    /// more to do at once: a host that never stops leaves others their turn.
    pub(super) fn drain(&self, outbound: bool, mut work: impl FnMut() -> bool) -> bool {
        let mut work = || self.calls.call(&mut work);
        for _ in 0..TURN_PASSES {
            if work() {
                continue;
            }
            let ready = if outbound { Ready::READABLE | Ready::WRITABLE } else { Ready::READABLE };
            let mut moved = false;
            // What came in between is worked on before its notice is taken down.
            self.registered.try_what_is(ready, || {
                moved = work();
                moved
            });
            if !moved {
                return false;
            }
        }
        true
    }
}

/// How much a channel holds to be read, how much it would take now, and whether it is at its end.
///
/// Whatever is asked of the library makes it take everything off the socket, for every stream and channel: after "not now" for
/// one of them there may be something for another, of which the socket does not tell any more. While this changes, all are
/// asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    to_read: u32,
    to_write: u32,
    at_end: bool,
}

impl Held {
    /// Returns what a channel holds.
    pub(super) fn of(channel: &ssh2::Channel) -> Held {
        let (to_read, to_write) = (channel.read_window().available, channel.write_window().remaining);
        Held { to_read, to_write, at_end: channel.eof() }
    }
}

/// Whether the library says "not now".
pub(super) fn is_again(error: &ssh2::Error) -> bool {
    error.code() == ssh2::ErrorCode::Session(AGAIN)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// How much is sent: many times what a socket holds.
    const SENT_BYTES: usize = 4 << 20;

    /// Runs `work` on a loop of its own, with a limit from outside of it: a loop that never yields fires no timer.
    fn within_a_minute<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = done.send(runtime.block_on(work));
        });
        result.recv_timeout(Duration::from_mins(1)).expect("it yields and ends")
    }

    fn pair() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    fn slow_reader(mut far: UnixStream) -> std::thread::JoinHandle<usize> {
        std::thread::spawn(move || {
            let (mut buffer, mut count) = (vec![0; 3000], 0);
            while let Ok(more @ 1..) = far.read(&mut buffer) {
                count += more;
            }
            count
        })
    }

    fn not_now() -> ssh2::Error {
        ssh2::Error::from_errno(ssh2::ErrorCode::Session(AGAIN))
    }

    #[test]
    fn a_send_that_fills_the_socket_goes_on_when_there_is_room() {
        for both in [false, true] {
            let (near, far) = pair();
            let reader = slow_reader(far);
            within_a_minute(async move {
                let socket = near.try_clone().unwrap();
                let readiness = Readiness::new(&socket).unwrap();
                let (mut near, mut left) = (near, SENT_BYTES);
                let blocked = || if both { BlockDirections::Both } else { BlockDirections::Outbound };
                while left > 0 {
                    let sent =
                        readiness.retry(blocked, || near.write(&vec![7; left.min(40_000)]).map_err(|_| not_now()));
                    left -= sent.await.unwrap();
                }
                socket.shutdown(std::net::Shutdown::Both).unwrap();
            });
            assert_eq!(reader.join().unwrap(), SENT_BYTES, "both directions: {both}");
        }
    }

    #[test]
    fn work_in_turns_waits_for_room_and_holds_no_processor() {
        let (near, far) = pair();
        let reader = slow_reader(far);
        within_a_minute(async move {
            let socket = near.try_clone().unwrap();
            let readiness = Readiness::new(&socket).unwrap();
            let (mut near, mut left) = (near, SENT_BYTES);
            while left > 0 {
                let more = readiness.drain(true, || match near.write(&vec![7; left.min(40_000)]) {
                    Ok(count) => {
                        left -= count;
                        left > 0
                    }
                    Err(_) => false,
                });
                if !more && left > 0 {
                    std::future::poll_fn(|cx| readiness.poll(true, cx)).await;
                }
            }
            socket.shutdown(std::net::Shutdown::Both).unwrap();
        });
        assert_eq!(reader.join().unwrap(), SENT_BYTES);
    }

    #[test]
    fn a_limit_around_a_wait_fires_whatever_the_library_says() {
        let (near, _far) = pair();
        within_a_minute(async move {
            let readiness = Readiness::new(&near).unwrap();
            let kinds = [|| BlockDirections::Both, || BlockDirections::Outbound, || BlockDirections::None];
            for said in kinds {
                let futile = readiness.retry(said, || Err::<(), _>(not_now()));
                assert!(tokio::time::timeout(Duration::from_millis(50), futile).await.is_err());
            }
        });
    }
}
