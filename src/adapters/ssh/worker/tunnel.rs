//! Any number of ways through one connection (`direct-tcpip`, RFC 4254 section 7.2). Floor 3.
//!
//! **Invariant:** one task works with the connection. A way holds at most one buffer each direction, so one that nobody reads
//! holds up no other. Without ways the connection is closed after a while.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::Duration;

use ssh2::{BlockDirections, Channel, ErrorCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::adapters::ssh::frame::Report;
use crate::adapters::ssh::worker::connection::Connection;
use crate::adapters::ssh::worker::conversation::Caller;
use crate::adapters::ssh::worker::socket::{Held, is_again};

/// A wish for a way: where it leads, and its far end.
pub(super) struct FarEnd {
    pub(super) number: u64,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) end: UnixStream,
}

/// How much of each direction of a way is held at once.
const BUFFER_BYTES: usize = 64 << 10;
/// How long the host may take to reach a place. The library opens one way at a time, so a place that cannot be reached
/// would hold up all others; the connection is given up instead, and made again by whoever needs it.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long a connection without ways is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Leads others through a connection, as long as somebody wants that.
pub(super) async fn lead(connection: Connection, caller: Caller, wished: mpsc::Receiver<FarEnd>) {
    let (ways, opening, waiting) = (Vec::new(), None, VecDeque::new());
    Pump { connection, caller, ways, opening, opening_until: None, waiting, wanted: true }.run(wished).await;
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
    connection: Connection,
    caller: Caller,
    ways: Vec<Way>,
    /// The library opens one channel at a time.
    opening: Option<FarEnd>,
    opening_until: Option<Instant>,
    waiting: VecDeque<FarEnd>,
    /// Whether somebody may wish for more ways.
    wanted: bool,
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
    async fn run(mut self, mut wished: mpsc::Receiver<FarEnd>) {
        let mut idle_until = Instant::now() + IDLE;
        while let Some(more) = self.turn() {
            if !self.ways.is_empty() || self.opening.is_some() {
                idle_until = Instant::now() + IDLE;
            }
            let idle = self.ways.is_empty() && self.opening.is_none() && self.waiting.is_empty();
            // Nobody can wish any more; those who have a way keep it.
            if idle && !self.wanted {
                break;
            }
            let (connection, ways, wanted) = (&self.connection, &self.ways, self.wanted);
            let mut heard = None;
            tokio::select! {
                wish = wished.recv(), if wanted => match wish {
                    Some(wish) => self.waiting.push_back(wish),
                    None => self.wanted = false,
                },
                frame = self.caller.next(), if wanted => heard = Some(frame),
                () = wait(connection, ways), if !more => {}
                () = tokio::task::yield_now(), if more => {}
                () = sleep_until(idle_until), if idle => break,
                () = sleep_until(self.opening_until.unwrap_or(idle_until)), if self.opening_until.is_some() => {
                    if let Some(wish) = self.opening.take() {
                        self.answer(wish.number, Some(format!("no answer within {OPEN_LIMIT:?}")));
                    }
                    break;
                }
            }
            // Whoever wants ways has nothing else to say.
            if heard.is_some() {
                self.wanted = false;
            }
        }
        self.caller.flush().await;
        self.connection.close().await;
    }

    /// Says what became of a way.
    fn answer(&mut self, number: u64, why: Option<String>) {
        self.caller.say(&Report::Way { number, why });
    }

    /// Moves everything that can be moved; nothing when the connection is lost.
    fn turn(&mut self) -> Option<bool> {
        let Pump { connection, caller, ways, opening, opening_until, waiting, .. } = self;
        let mut alive = true;
        let outbound = waits_to_write(connection);
        let more = connection.readiness.drain(outbound, || {
            let mut moved = false;
            if opening.is_none() {
                *opening = waiting.pop_front();
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
                    alive &= !is_lost(connection);
                    false
                }
            });
            // After them: while they look for their own bytes, its answer may come.
            if let Some((number, opened)) = try_open(connection, opening) {
                *opening_until = None;
                moved = true;
                let why = match opened {
                    Ok(way) => {
                        ways.push(way);
                        None
                    }
                    Err(why) => {
                        alive &= !is_lost(connection);
                        Some(why)
                    }
                };
                caller.say(&Report::Way { number, why });
            }
            for way in ways.iter_mut() {
                let held_before = std::mem::replace(&mut way.held, Held::of(&way.channel));
                moved |= way.held != held_before;
            }
            moved && alive
        });
        alive.then_some(more)
    }
}

/// Waits until something may move.
async fn wait(connection: &Connection, ways: &[Way]) {
    let outbound = waits_to_write(connection);
    poll_fn(|cx| {
        let mut ready = connection.readiness.poll(outbound, cx).is_ready();
        for way in ways {
            ready |= !way.near_ended && way.up.is_empty() && way.near.poll_read_ready(cx).is_ready();
            ready |= !way.down.is_empty() && way.near.poll_write_ready(cx).is_ready();
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn waits_to_write(connection: &Connection) -> bool {
    matches!(connection.ssh.block_directions(), BlockDirections::Outbound | BlockDirections::Both)
}

/// Goes on with the opening of a channel; returns what came of it, with the number of the way.
fn try_open(connection: &Connection, opening: &mut Option<FarEnd>) -> Option<(u64, Result<Way, String>)> {
    let wish = opening.as_ref()?;
    let opened = match connection.ssh.channel_direct_tcpip(&wish.address, wish.port, None) {
        Err(error) if is_again(&error) => return None,
        other => other.map_err(|error| why_not_led_on(error.message())),
    };
    let FarEnd { number, end, .. } = opening.take()?;
    let way = opened.and_then(|channel| {
        let near = end.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(end));
        let near = near.map_err(|error| error.to_string())?;
        let (up, down) = (VecDeque::new(), VecDeque::new());
        let (near_ended, eof_sent, far_ended, held) = (false, false, false, Held::default());
        Ok(Way { channel, near, up, down, near_ended, eof_sent, far_ended, held })
    });
    Some((number, way))
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
fn is_lost(connection: &Connection) -> bool {
    const SOCKET: [i32; 3] = [-7, -13, -43];
    let last = ssh2::Error::last_session_error(&connection.ssh);
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
