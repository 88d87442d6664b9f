//! One connection to a host on the way, and any number of ways through it (`direct-tcpip`, RFC 4254 section 7.2). Floor 3.
//!
//! **Invariant:** one task works with the connection; every way is a socket pair whose other end anybody may hold. A way
//! holds at most one buffer each direction, so one that nobody reads holds up no other. Without ways the connection is
//! closed after a while.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::Duration;

use ssh2::{BlockDirections, Channel, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::adapters::ssh::socket::{Held, is_again};
use crate::adapters::ssh::{Session, SshError};

/// How much of each direction of a way is held at once.
const BUFFER_BYTES: usize = 64 << 10;
/// How long the host may take to reach a place. The library opens one way at a time, so a place that cannot be reached
/// would hold up all others; the connection is given up instead, and made again by whoever needs it.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long somebody waits for a way, behind others that are opened before.
const REACH_LIMIT: Duration = Duration::from_mins(1);
/// How long a connection without ways is kept.
const IDLE: Duration = Duration::from_secs(30);

/// A wish for a way.
#[derive(Debug)]
struct Request {
    address: String,
    port: u16,
    answer: oneshot::Sender<Result<UnixStream, String>>,
}

/// A connection that others go through.
#[derive(Clone, Debug)]
pub struct Tunnel {
    host: String,
    requests: mpsc::Sender<Request>,
}

impl Tunnel {
    /// Takes a connection over and leads through it from now on.
    #[must_use]
    pub fn start(session: Session) -> Tunnel {
        let (requests, wishes) = mpsc::channel(64);
        let host = session.host.clone();
        tokio::spawn(
            Pump { session, ways: Vec::new(), opening: None, opening_until: None, wished: VecDeque::new() }.run(wishes),
        );
        Tunnel { host, requests }
    }

    /// Whether the connection is still there to be asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Opens a way to a place as the host sees it.
    ///
    /// # Errors
    /// [`SshError::Way`] when the host is gone, refuses, or does not reach the place in time, whoever else waits.
    pub async fn reach(&self, address: &str, port: u16) -> Result<UnixStream, SshError> {
        let to = format!("{address}:{port}");
        let failed =
            |why, gone| SshError::Way { host: self.host.clone(), to: to.clone(), why, gone, unreachable: true };
        let (answer, answered) = oneshot::channel();
        let request = Request { address: address.to_owned(), port, answer };
        let gone = || "the connection to it was lost".to_owned();
        let asked = async {
            self.requests.send(request).await.map_err(|_| failed(gone(), true))?;
            answered.await.map_err(|_| failed(gone(), true))?.map_err(|why| failed(why, false))
        };
        let late = || failed(format!("no answer within {REACH_LIMIT:?}"), false);
        timeout(REACH_LIMIT, asked).await.unwrap_or_else(|_| Err(late()))
    }
}

/// One way: a channel and the near end of its socket pair.
struct Way {
    channel: Channel,
    near: tokio::net::UnixStream,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    near_ended: bool,
    eof_sent: bool,
    far_ended: bool,
    /// What the channel held when all ways were asked for the last time.
    held: Held,
}

struct Pump {
    session: Session,
    ways: Vec<Way>,
    /// The library opens one channel at a time.
    opening: Option<Request>,
    opening_until: Option<Instant>,
    wished: VecDeque<Request>,
}

/// What moved.
#[derive(PartialEq, Eq)]
enum Moved {
    Something,
    Nothing,
    /// Both sides are done with the way.
    Over,
}

impl Pump {
    async fn run(mut self, mut wishes: mpsc::Receiver<Request>) {
        let mut idle_until = Instant::now() + IDLE;
        while let Some(more) = self.turn() {
            if !self.ways.is_empty() || self.opening.is_some() {
                idle_until = Instant::now() + IDLE;
            }
            let idle = self.ways.is_empty() && self.opening.is_none() && self.wished.is_empty();
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(wish) => self.wished.push_back(wish),
                    None if idle => break,
                    // Nobody can wish any more; those who have a way keep it.
                    None if more => {}
                    None => self.wait().await,
                },
                () = self.wait(), if !more => {}
                () = tokio::task::yield_now(), if more => {}
                () = sleep_until(idle_until), if idle => break,
                () = sleep_until(self.opening_until.unwrap_or(idle_until)), if self.opening_until.is_some() => {
                    if let Some(request) = self.opening.take() {
                        // Nobody waits any more, or is told.
                        let _ = request.answer.send(Err(format!("no answer within {OPEN_LIMIT:?}")));
                    }
                    break;
                }
            }
        }
        wishes.close();
        self.session.close().await;
    }

    /// Moves everything that can be moved; false when the connection is lost.
    fn turn(&mut self) -> Option<bool> {
        let Pump { session, ways, opening, opening_until, wished } = self;
        let mut alive = true;
        let outbound = waits_to_write(session);
        let more = session.readiness.drain(outbound, || {
            let mut moved = false;
            if opening.is_none() {
                *opening = wished.pop_front().filter(|wish| !wish.answer.is_closed());
                *opening_until = opening.as_ref().map(|_| Instant::now() + OPEN_LIMIT);
            }
            ways.retain_mut(|way| match way.turn() {
                Ok(Moved::Something) => {
                    moved = true;
                    true
                }
                Ok(Moved::Nothing) => true,
                Ok(Moved::Over) => false,
                Err(_) => {
                    // A channel that the other side closed ends alone; a broken connection ends all of them.
                    alive &= !is_lost(session);
                    false
                }
            });
            // After them: while they look for their own bytes, its answer may come.
            match try_open(session, opening) {
                Ok(Some(way)) => {
                    *opening_until = None;
                    ways.push(way);
                    moved = true;
                }
                Ok(None) => {}
                Err(()) => {
                    *opening_until = None;
                    alive &= !is_lost(session);
                    moved = true;
                }
            }
            for way in ways.iter_mut() {
                let held_before = std::mem::replace(&mut way.held, Held::of(&way.channel));
                moved |= way.held != held_before;
            }
            moved && alive
        });
        alive.then_some(more)
    }

    /// Waits until something may move.
    async fn wait(&self) {
        let outbound = waits_to_write(&self.session);
        poll_fn(|cx| {
            let mut ready = self.session.readiness.poll(outbound, cx).is_ready();
            for way in &self.ways {
                ready |= !way.near_ended && way.up.is_empty() && way.near.poll_read_ready(cx).is_ready();
                ready |= !way.down.is_empty() && way.near.poll_write_ready(cx).is_ready();
            }
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

fn waits_to_write(session: &Session) -> bool {
    matches!(session.ssh.block_directions(), BlockDirections::Outbound | BlockDirections::Both)
}

/// Goes on with the opening of a channel; an error is one that the asker was told.
fn try_open(session: &Session, opening: &mut Option<Request>) -> Result<Option<Way>, ()> {
    let Some(request) = opening.as_ref() else { return Ok(None) };
    let opened = match session.ssh.channel_direct_tcpip(&request.address, request.port, None) {
        Err(error) if is_again(&error) => return Ok(None),
        other => other.map_err(|error| why_not_led_on(error.message())),
    };
    let Some(request) = opening.take() else { return Ok(None) };
    let way = opened.and_then(|channel| {
        let pair = UnixStream::pair().and_then(|(near, far)| {
            near.set_nonblocking(true)?;
            Ok((tokio::net::UnixStream::from_std(near)?, far))
        });
        pair.map(|(near, far)| (channel, near, far)).map_err(|error| error.to_string())
    });
    match way {
        Ok((channel, near, far)) => {
            // Nobody waits for it any more: the way ends at once by itself.
            let _ = request.answer.send(Ok(far));
            let (up, down) = (VecDeque::new(), VecDeque::new());
            let (near_ended, eof_sent, far_ended, held) = (false, false, false, Held::default());
            Ok(Some(Way { channel, near, up, down, near_ended, eof_sent, far_ended, held }))
        }
        Err(why) => {
            let _ = request.answer.send(Err(why));
            Err(())
        }
    }
}

/// Says in plain words why a host does not lead on (RFC 4254, section 5.1).
fn why_not_led_on(message: &str) -> String {
    let words = [
        (
            "administratively prohibited",
            "its sshd does not lead on there (AllowTcpForwarding, PermitOpen, DisableForwarding)",
        ),
        ("connect failed", "it cannot connect there; is that sshd running, and reachable from it?"),
        ("resource shortage", "it has no room for one more way"),
    ];
    let found = words.iter().find(|(named, _)| message.contains(named));
    found.map_or_else(|| message.to_owned(), |(_, plain)| (*plain).to_owned())
}

/// Whether the library's last error is the connection's and not one channel's: it could not send, was cut off, or could not
/// receive (`LIBSSH2_ERROR_SOCKET_SEND`, `_DISCONNECT`, `_RECV`).
fn is_lost(session: &Session) -> bool {
    const SOCKET: [i32; 3] = [-7, -13, -43];
    let last = ssh2::Error::last_session_error(&session.ssh);
    last.is_some_and(|error| matches!(error.code(), ErrorCode::Session(code) if SOCKET.contains(&code)))
}

impl Way {
    fn turn(&mut self) -> io::Result<Moved> {
        let mut moved = self.take_from_near();
        moved |= self.give_to_far()?;
        moved |= self.take_from_far()?;
        moved |= self.give_to_near();
        if self.far_ended && self.down.is_empty() || self.near_ended && self.up.is_empty() && self.eof_sent {
            // A session needs both directions: when one is over, the way is.
            let _ = self.channel.close();
            return Ok(Moved::Over);
        }
        Ok(if moved { Moved::Something } else { Moved::Nothing })
    }

    fn take_from_near(&mut self) -> bool {
        if self.near_ended || !self.up.is_empty() {
            return false;
        }
        let mut buffer = [0; 16 << 10];
        match self.near.try_read(&mut buffer) {
            Ok(0) => self.near_ended = true,
            Ok(count) => self.up.extend(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => self.near_ended = true,
        }
        true
    }

    fn give_to_far(&mut self) -> io::Result<bool> {
        let mut moved = false;
        while !self.up.is_empty() {
            match self.channel.write(self.up.as_slices().0) {
                Ok(0) => break,
                Ok(count) => {
                    self.up.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.near_ended && self.up.is_empty() && !self.eof_sent {
            self.eof_sent = self.channel.send_eof().is_ok();
            moved |= self.eof_sent;
        }
        Ok(moved)
    }

    fn take_from_far(&mut self) -> io::Result<bool> {
        let mut moved = false;
        let mut buffer = [0; 16 << 10];
        while !self.far_ended && self.down.len() < BUFFER_BYTES {
            match self.channel.read(&mut buffer) {
                Ok(0) if self.channel.eof() => {
                    self.far_ended = true;
                    moved = true;
                }
                Ok(0) => break,
                Ok(count) => {
                    self.down.extend(&buffer[..count]);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    fn give_to_near(&mut self) -> bool {
        let mut moved = false;
        while !self.down.is_empty() {
            match self.near.try_write(self.down.as_slices().0) {
                Ok(count) => {
                    self.down.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // Nobody reads any more.
                    self.down.clear();
                    self.near_ended = true;
                    moved = true;
                }
            }
        }
        moved
    }
}
