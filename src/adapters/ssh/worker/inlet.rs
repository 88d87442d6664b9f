//! What stands between a host and the library: it hands on some bytes at a time. Floor 3.
//!
//! **Invariant:** no call into the library has more to read than [`HELD_BYTES`]: its loops end when nothing is left, and a host
//! that never stops talking would keep one going for ever. What a host says before its name is read here, and bounded; until
//! somebody is logged in, so is all that it says. Our own name goes out at once, not when the library comes to it.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use crate::adapters::ssh::worker::socket::Socket;

/// Our name, as the protocol begins with it (RFC 4253, section 4.2).
pub(super) const OUR_NAME: &str = concat!("SSH-2.0-spoolgate_", env!("CARGO_PKG_VERSION"));
/// How every name begins.
const NAME: &[u8] = b"SSH-";
/// How many lines a host may say before its name, and how many bytes in all, its name among them.
const LINES_MAX: usize = 64;
const GREETING_BYTES_MAX: usize = 8 << 10;
/// How much it may say until somebody is logged in: a key exchange with every method there is takes some ten kilobytes.
const LOGIN_BYTES_MAX: usize = 1 << 20;
/// How much is held for the library; the kernel doubles it.
const HELD_BYTES: usize = 64 << 10;
/// How much is moved at once.
const PIECE_BYTES: usize = 16 << 10;

/// How long what the library wrote last may take to go out.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What the inlet of one connection knows.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    closing: Notify,
    logged_in: AtomicBool,
    /// What the host said before its name.
    greeting: Mutex<Vec<u8>>,
    /// Why it was given up.
    given_up: Mutex<Option<String>>,
}

impl Inlet {
    /// Stands between a connection and the socket that is returned.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn open(outer: Socket) -> io::Result<(Arc<Inlet>, StdStream)> {
        let (near, inner) = StdStream::pair()?;
        near.set_nonblocking(true)?;
        inner.set_nonblocking(true)?;
        for end in [&near, &inner] {
            setsockopt(end, sockopt::SndBuf, &HELD_BYTES)?;
        }
        let (near, inlet) = (UnixStream::from_std(near)?, Arc::<Inlet>::default());
        let known = Arc::clone(&inlet);
        match outer {
            Socket::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                let hurried = SockRef::from(&stream).try_clone()?;
                let outer = TcpStream::from_std(stream)?;
                let hurry = move || drop(hurried.set_tcp_quickack(true));
                tokio::spawn(async move { known.run(outer, near, hurry).await });
            }
            Socket::Unix(stream) => {
                stream.set_nonblocking(true)?;
                let outer = UnixStream::from_std(stream)?;
                tokio::spawn(async move { known.run(outer, near, || {}).await });
            }
        }
        Ok((inlet, inner))
    }

    /// Nobody wants anything of the host any more.
    pub(super) fn close(&self) {
        self.closing.notify_one();
    }

    /// From now on the host may say as much as it likes.
    pub(super) fn trust(&self) {
        self.logged_in.store(true, Ordering::Relaxed);
    }

    /// What the host said before its name.
    pub(super) fn greeting(&self) -> Vec<u8> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the host was given up here.
    pub(super) fn given_up(&self) -> Option<String> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn give_up(&self, why: String) {
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Moves bytes both ways until one side is done. Delayed acknowledgements make sshd hold its next packet for 40 ms: `hurry`
    /// puts an end to them, for a while each time.
    async fn run(&self, mut outer: impl AsyncRead + AsyncWrite + Unpin, near: UnixStream, hurry: impl Fn()) {
        let (mut from_library, mut to_library) = near.into_split();
        let (mut from_host, mut to_host) = tokio::io::split(&mut outer);
        let up = async {
            // A host that takes nothing may have said why: it is heard to its end all the same.
            let mut takes = to_host.write_all(format!("{OUR_NAME}\r\n").as_bytes()).await.is_ok();
            // The library's own is not sent a second time.
            let mut byte = [0];
            while from_library.read_exact(&mut byte).await.is_ok() && byte != *b"\n" {}
            let mut piece = vec![0; PIECE_BYTES];
            while let Ok(count @ 1..) = from_library.read(&mut piece).await {
                takes = takes && to_host.write_all(&piece[..count]).await.is_ok();
            }
        };
        let down = async {
            let Some(first) = self.name(&mut from_host).await else { return };
            let (mut said, mut rest) = (first.len(), first);
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                if to_library.write_all(&rest).await.is_err() {
                    return;
                }
                hurry();
                let Ok(count @ 1..) = from_host.read(&mut piece).await else { break };
                rest.clear();
                rest.extend_from_slice(&piece[..count]);
                said = said.saturating_add(count);
                if said > LOGIN_BYTES_MAX && !self.logged_in.load(Ordering::Relaxed) {
                    self.give_up(format!("it said {said} bytes, and no session came of them; is this an sshd?"));
                    return;
                }
                // One that never stops talking leaves others their turn.
                tokio::task::yield_now().await;
            }
            // What was said before the end is still to be read.
            let _ = to_library.shutdown().await;
            std::future::pending::<()>().await;
        };
        let closed = async {
            self.closing.notified().await;
            tokio::time::sleep(CLOSE_LIMIT).await;
        };
        tokio::select! {
            () = up => {}
            () = down => {}
            () = closed => {}
        }
    }

    /// Takes the lines before a host's name; returns its name and what came with it, or nothing when it is given up.
    async fn name(&self, from_host: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
        let (mut heard, mut begin, mut lines) = (Vec::new(), 0_usize, 0_usize);
        let mut piece = vec![0; GREETING_BYTES_MAX];
        loop {
            let line = heard.get(begin..).unwrap_or_default();
            if line.starts_with(NAME) {
                return heard.get(begin..).map(<[u8]>::to_vec);
            }
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                begin = begin.saturating_add(end).saturating_add(1);
                lines = lines.saturating_add(1);
                self.greeting.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&heard);
            } else {
                let room = GREETING_BYTES_MAX.saturating_sub(heard.len());
                let read = match piece.get_mut(..room) {
                    Some(room) if !room.is_empty() => from_host.read(room).await.unwrap_or(0),
                    _ => 0,
                };
                heard.extend_from_slice(piece.get(..read).unwrap_or_default());
                self.greeting.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&heard);
                if read == 0 && room > 0 {
                    return None;
                }
            }
            if lines > LINES_MAX || heard.len() >= GREETING_BYTES_MAX && !heard[begin..].starts_with(NAME) {
                self.give_up(format!(
                    "it said {lines} lines and {} bytes, and not its name among them; is this an sshd?",
                    heard.len()
                ));
                return None;
            }
        }
    }
}
