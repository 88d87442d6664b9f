//! What the daemon and the process that speaks SSH (a worker) say to each other about one connection. Floor 3.
//!
//! **Invariant:** a worker is believed no more than the host it speaks with: a frame has a greatest length, and one that is none
//! ends the connection. A frame is a byte that says its kind, its length (`u32`, big endian) and its bytes. Whoever stops
//! waiting in the middle of a frame loses nothing of it.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::error::{Refused, SshError};
use crate::domain::output::ExecEnd;

/// The most bytes of a stream in one frame.
pub(super) const PIECE_BYTES_MAX: usize = 32 << 10;
/// The most bytes of a frame.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// How much is read at once.
const READ_BYTES: usize = 16 << 10;
/// How long the head of a frame is.
const HEAD_BYTES: usize = 5;

/// What the daemon wants of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Log in with the keys that the agent lists for this connection.
    LogIn {
        /// The user.
        user: String,
        /// Whether the agent may wait for a person.
        slow: bool,
    },
    /// The agent now lists the keys of this connection: ask it.
    Ask,
    /// Say which methods of logging in the host lets be tried.
    MethodsLeft {
        /// The user.
        user: String,
    },
    /// Run a command.
    Start {
        /// What the host's shell reads.
        command: String,
        /// Whether its standard input stays open when everything was sent.
        stays_open: bool,
    },
    /// Go on with the shell that was kept.
    Resume,
    /// Nothing more is to be sent.
    InputEnds,
    /// All was heard: keep the shell.
    Enough,
    /// Leave the command alone: nobody waits for it any more.
    Leave,
    /// End the shell that was kept.
    Part,
    /// Lead others through from now on.
    Lead,
    /// Say goodbye.
    Close,
}

/// What a worker says of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The host proved that it is the one it should be.
    Greeted {
        /// The key exchange that both sides chose.
        key_exchange: Option<String>,
    },
    /// Something did not come about.
    Failed(SshError),
    /// What a host offers, and we have not; nothing where it would fit.
    Explained(Option<String>),
    /// It is this connection's turn to ask the agent.
    Asking,
    /// What came of the login.
    LoggedIn {
        /// Whether the host let us in.
        accepted: bool,
        /// What it, or the agent, said of the keys before, in their order.
        refused: Vec<Refused>,
        /// Why the agent could not be asked.
        agent: Option<String>,
    },
    /// The methods that the host lets be tried.
    MethodsLeft(Option<String>),
    /// So many bytes of standard input were taken.
    Taken(usize),
    /// The command ended.
    Ended(ExecEnd),
    /// The shell waits for more.
    Kept,
    /// The command was left alone.
    Left,
    /// What became of a way.
    Way {
        /// Its number.
        number: u64,
        /// Why there is none.
        why: Option<String>,
    },
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame<T> {
    /// Words.
    Said(T),
    /// Bytes of standard input or output.
    Bytes(Vec<u8>),
    /// Bytes of standard error.
    ErrorBytes(Vec<u8>),
}

/// One end: `In` are the words that come, `Out` those that go.
pub(super) struct Wire<In, Out> {
    stream: UnixStream,
    /// What came, and was not taken yet.
    come: Vec<u8>,
    /// Where in it the next frame begins.
    at: usize,
    /// What is still to go.
    going: VecDeque<u8>,
    ended: bool,
    words: PhantomData<fn(Out) -> In>,
}

impl<In: DeserializeOwned, Out: Serialize> Wire<In, Out> {
    /// Makes an end of a stream.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Wire<In, Out>> {
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Wire { stream, come: Vec::new(), at: 0, going: VecDeque::new(), ended: false, words: PhantomData })
    }

    /// Puts words among what is to go.
    pub(super) fn say(&mut self, words: &Out) {
        // The words are ours, and none of their shapes is refused.
        let bytes = serde_json::to_vec(words).unwrap_or_default();
        self.queue(0, &bytes);
    }

    /// Puts bytes among what is to go, at most [`PIECE_BYTES_MAX`]; those of standard error where `error`.
    pub(super) fn send(&mut self, bytes: &[u8], error: bool) {
        self.queue(if error { 2 } else { 1 }, bytes);
    }

    fn queue(&mut self, kind: u8, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.going.push_back(kind);
        self.going.extend(length.to_be_bytes());
        self.going.extend(bytes);
    }

    /// Returns how many bytes are still to go.
    pub(super) fn queued(&self) -> usize {
        self.going.len()
    }

    /// Waits for the next frame, and meanwhile sends what is to go; nothing when the other side is gone.
    ///
    /// # Errors
    /// When what came is no frame.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame<In>>> {
        loop {
            // One that never stops talking leaves others their turn.
            tokio::task::coop::consume_budget().await;
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            if self.ended {
                return Ok(None);
            }
            self.exchange().await;
        }
    }

    /// Returns a frame that is here already.
    ///
    /// # Errors
    /// As [`Wire::next`].
    pub(super) fn ready(&mut self) -> io::Result<Option<Frame<In>>> {
        if let Some(frame) = self.take()? {
            return Ok(Some(frame));
        }
        self.read();
        self.take()
    }

    /// Whether the other side is gone.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// Waits until something came or went.
    pub(super) async fn exchange(&mut self) {
        let mut interest = Interest::READABLE;
        if !self.going.is_empty() {
            if self.write() {
                return;
            }
            interest |= Interest::WRITABLE;
        }
        match self.stream.ready(interest).await {
            Ok(ready) => {
                if ready.is_writable() && !self.going.is_empty() {
                    self.write();
                }
                if ready.is_readable() {
                    self.read();
                }
            }
            Err(_) => self.ended = true,
        }
    }

    /// Sends everything that is to go.
    pub(super) async fn flush(&mut self) {
        while !self.going.is_empty() && !self.ended {
            if !self.write() && self.stream.writable().await.is_err() {
                self.ended = true;
            }
        }
    }

    /// Sends what can go now; whether anything could.
    fn write(&mut self) -> bool {
        match self.stream.try_write(self.going.as_slices().0) {
            Ok(count) => {
                self.going.drain(..count);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.going.clear();
                // What it said before it went is still to be read.
                true
            }
        }
    }

    fn read(&mut self) {
        if self.at > 0 {
            self.come.drain(..self.at);
            self.at = 0;
        }
        let mut buffer = [0; READ_BYTES];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.come.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
    }

    fn take(&mut self) -> io::Result<Option<Frame<In>>> {
        let Some((frame, length)) = parse(&self.come[self.at..])? else { return Ok(None) };
        self.at = self.at.saturating_add(length);
        Ok(Some(frame))
    }
}

/// Reads one frame off the front; returns it with its length, or nothing where more must come.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<Option<(Frame<T>, usize)>> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [kind, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(bad)?;
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let frame = match kind {
        0 => Frame::Said(serde_json::from_slice(body).map_err(|_| bad())?),
        1 => Frame::Bytes(body.to_vec()),
        2 => Frame::ErrorBytes(body.to_vec()),
        _ => return Err(bad()),
    };
    Ok(Some((frame, length.saturating_add(HEAD_BYTES))))
}

/// Reads what a worker said, as the daemon does; for the fuzzer. Returns how many frames it was.
#[must_use]
pub fn read_reports(mut bytes: &[u8]) -> usize {
    let mut count = 0_usize;
    while let Ok(Some((_, length))) = parse::<Report>(bytes) {
        bytes = bytes.get(length..).unwrap_or_default();
        count = count.saturating_add(1);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Wire<Report, Order>, Wire<Order, Report>) {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        (Wire::new(one).unwrap(), Wire::new(other).unwrap())
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn frames_come_as_they_went_however_they_are_cut() {
        block_on(async {
            let (mut daemon, mut worker) = pair();
            let piece = vec![7; PIECE_BYTES_MAX];
            let reader = async {
                let mut frames = Vec::new();
                while frames.len() < 42 {
                    // Whoever stops waiting loses nothing.
                    let waited = tokio::time::timeout(std::time::Duration::from_micros(50), worker.next()).await;
                    if let Ok(frame) = waited {
                        frames.push(frame.unwrap().unwrap());
                    }
                }
                frames
            };
            for _ in 0..40 {
                daemon.send(&piece, false);
            }
            daemon.say(&Order::Start { command: "true".to_owned(), stays_open: true });
            daemon.say(&Order::InputEnds);
            let ((), frames) = tokio::join!(daemon.flush(), reader);
            assert!(frames[..40].iter().all(|frame| *frame == Frame::Bytes(piece.clone())));
            assert_eq!(frames[41], Frame::Said(Order::InputEnds));
            drop(daemon);
            assert_eq!(worker.next().await.unwrap(), None);
        });
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in
            [&[9, 0, 0, 0, 0][..], &[1, 0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 0, 2, b'{', b'}'], &[0, 0, 0, 0, 1, b'x']]
        {
            assert!(parse::<Report>(bytes).is_err(), "{bytes:?}");
        }
        for bytes in [&[][..], &[1, 0, 0], &[1, 0, 0, 0, 3, 1, 2]] {
            assert_eq!(parse::<Report>(bytes).unwrap(), None, "{bytes:?}");
        }
    }
}
