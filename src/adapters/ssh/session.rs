//! One connection to one host, which a worker speaks with. Floor 3.
//!
//! **Invariant:** the host's key is compared before anything else is said; whatever becomes of the worker, a wait for it ends. The
//! connection is made here and handed over; closing the wire closes it.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::error::{Refused, SshError};
use crate::adapters::ssh::agent::Keyring;
use crate::adapters::ssh::frame::{Frame, Order, PIECE_BYTES_MAX, Report, Wire};
use crate::adapters::ssh::proxy::Proxy;
use crate::adapters::ssh::workers::Slot;
use crate::domain::output::{ExecEnd, Stream};
use crate::domain::runner::{Program, command_line};

/// How long a polite goodbye may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(4);
/// How long a worker may take to leave a command alone, or to end a shell.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);
/// An open, authenticated connection. Commands run on it one after the other.
pub struct Session {
    pub(super) wire: Wire<Report, Order>,
    pub(super) host: String,
    pub(super) slot: Slot,
    key_exchange: Option<String>,
    /// Whether somebody stopped waiting for a command.
    busy: bool,
    /// Whether the worker ended, or said what it should not.
    pub(super) broken: bool,
    /// The shell that waits for the next program.
    shell: Option<Shell>,
    /// The command that leads there; ended with the session.
    pub(super) proxy: Option<Proxy>,
}

/// A shell that takes programs.
struct Shell {
    /// The words that started it.
    words: Vec<String>,
    /// The word under which it takes programs.
    nonce: String,
}

/// How listening to a command ended.
enum CommandEnd {
    /// The command ended.
    Ended(ExecEnd),
    /// Whoever listens has heard all; the command may go on.
    Enough,
}

/// What came of a login with some keys.
pub(super) struct Login {
    pub(super) accepted: bool,
    pub(super) refused: Vec<Refused>,
    pub(super) agent: Option<String>,
}

impl Session {
    /// Returns the session of a connection whose host proved its key.
    pub(super) fn new(wire: Wire<Report, Order>, host: String, slot: Slot, key_exchange: Option<String>) -> Session {
        Session { wire, host, slot, key_exchange, busy: false, broken: false, shell: None, proxy: None }
    }

    /// Returns the key exchange that both sides chose, by its name in the protocol.
    #[must_use]
    pub fn key_exchange(&self) -> Option<String> {
        self.key_exchange.clone()
    }

    /// Says goodbye and closes, within a limit; a host that does not answer is cut off.
    pub async fn close(mut self) {
        let goodbye = async {
            if self.settle().await.is_ok() {
                self.wire.say(&Order::Close);
                while let Ok(Some(_)) = self.wire.next().await {}
            }
        };
        let _ = timeout(CLOSE_LIMIT, goodbye).await;
    }

    /// Runs `command` with `stdin` and hands its output to `sink` as it comes.
    ///
    /// When the returned future is dropped, the command goes on at the host and the session can be used again.
    ///
    /// # Errors
    /// [`SshError::NotStarted`] when the host never took the command, [`SshError::Lost`] when the connection broke.
    pub async fn exec(
        &mut self,
        command: &str,
        stdin: impl BufRead + Send,
        sink: &mut (impl FnMut(Stream, &[u8]) + Send),
    ) -> Result<ExecEnd, SshError> {
        // A host may allow one session at a time: the worker ends the one that was kept.
        self.shell = None;
        let mut to_the_end = |stream, bytes: &[u8]| {
            sink(stream, bytes);
            false
        };
        let order = Order::Start { command: command.to_owned(), stays_open: false };
        match self.converse(order, stdin, &mut to_the_end).await? {
            CommandEnd::Ended(end) => Ok(end),
            CommandEnd::Enough => Err(self.broken()),
        }
    }

    /// Has a shell that stays open run a program, and hands on what it says until `sink` returns that it has heard all. A
    /// shell of the same account that is open already knows the runner; a new one takes programs under `nonce`. `sent` wraps
    /// what is sent. Returns how the shell ended, if it did.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub async fn tell<R: BufRead + Send>(
        &mut self,
        program: &Program,
        nonce: String,
        sent: impl Fn(Vec<u8>) -> R,
        sink: &mut (impl FnMut(Stream, &[u8]) -> bool + Send),
    ) -> Result<Option<ExecEnd>, SshError> {
        let mut spoke = false;
        let mut listener = |stream, bytes: &[u8]| {
            spoke = true;
            sink(stream, bytes)
        };
        if let Some(Shell { words, nonce }) = self.shell.take() {
            if words != program.shell {
                self.settle().await?;
                self.wire.say(&Order::Part);
            } else if let CommandEnd::Enough =
                self.converse(Order::Resume, sent(program.again(&nonce)), &mut listener).await?
            {
                self.shell = Some(Shell { words, nonce });
                return Ok(None);
            } else if spoke {
                return Ok(Some(ExecEnd::Exit(0)));
            }
            // It had ended before it could read anything.
        }
        let order = Order::Start { command: command_line(&program.command(&nonce)), stays_open: true };
        match self.converse(order, sent(program.first(&nonce)), sink).await? {
            CommandEnd::Ended(end) => Ok(Some(end)),
            CommandEnd::Enough => {
                self.shell = Some(Shell { words: program.shell.clone(), nonce });
                Ok(None)
            }
        }
    }

    /// Begins something with a command and listens to its end, or until `sink` has heard all.
    async fn converse(
        &mut self,
        order: Order,
        mut stdin: impl BufRead + Send,
        sink: &mut (impl FnMut(Stream, &[u8]) -> bool + Send),
    ) -> Result<CommandEnd, SshError> {
        self.settle().await?;
        self.busy = true;
        self.wire.say(&order);
        let (mut under_way, mut input_ended, mut enough) = (0_usize, false, false);
        loop {
            // One piece at a time: how much the host takes is to be seen.
            if under_way == 0 && !input_ended && !enough {
                match stdin.fill_buf() {
                    Ok([]) => {
                        input_ended = true;
                        self.wire.say(&Order::InputEnds);
                    }
                    Ok(piece) => {
                        let piece = &piece[..piece.len().min(PIECE_BYTES_MAX)];
                        under_way = piece.len();
                        self.wire.send(piece, false);
                    }
                    Err(why) => return Err(self.lost(format!("what is to be sent cannot be read: {why}"))),
                }
            }
            match self.heard().await? {
                Frame::Bytes(bytes) => enough |= self.told(&bytes, Stream::Out, sink, enough),
                Frame::ErrorBytes(bytes) => enough |= self.told(&bytes, Stream::Err, sink, enough),
                Frame::Said(Report::Taken(count)) if count <= under_way => {
                    stdin.consume(count);
                    under_way = under_way.saturating_sub(count);
                }
                Frame::Said(Report::Ended(end)) => {
                    self.busy = false;
                    return Ok(CommandEnd::Ended(end));
                }
                Frame::Said(Report::Kept) => {
                    self.busy = false;
                    return Ok(CommandEnd::Enough);
                }
                Frame::Said(Report::Failed(error)) => {
                    self.busy = false;
                    return Err(error.of_host(&self.host));
                }
                Frame::Said(_) => return Err(self.broken()),
            }
        }
    }

    /// Hands output on; whether all was heard with it for the first time.
    fn told(
        &mut self,
        bytes: &[u8],
        stream: Stream,
        sink: &mut (impl FnMut(Stream, &[u8]) -> bool + Send),
        enough: bool,
    ) -> bool {
        let now = sink(stream, bytes) && !enough;
        if now {
            self.wire.say(&Order::Enough);
        }
        now
    }

    /// Leaves alone what somebody stopped waiting for.
    async fn settle(&mut self) -> Result<(), SshError> {
        if !self.busy {
            return Ok(());
        }
        self.shell = None;
        self.wire.say(&Order::Leave);
        let left = async {
            loop {
                // However it ended meanwhile: whoever wants something next hears what has become of the connection.
                if let Frame::Said(Report::Left) = self.heard().await? {
                    return Ok(());
                }
            }
        };
        match timeout(LEAVE_LIMIT, left).await {
            Ok(result) => result?,
            Err(_) => return Err(self.lost("its process does not leave a command alone")),
        }
        self.busy = false;
        Ok(())
    }

    /// Logs in with the keys of a ring; `slow` where the agent may wait for a person.
    pub(super) async fn log_in_with(&mut self, keyring: Keyring, slow: bool) -> Result<Login, SshError> {
        // It is signed with as long as this is waited for.
        let keyring = Arc::new(keyring);
        self.wire.say(&Order::LogIn { user: keyring.user.clone(), slow });
        loop {
            match self.heard().await? {
                Frame::Said(Report::Asking) => {
                    self.slot.lend(&keyring);
                    self.wire.say(&Order::Ask);
                }
                Frame::Said(Report::LoggedIn { accepted, refused, agent }) => {
                    return Ok(Login { accepted, refused, agent });
                }
                Frame::Said(Report::Failed(error)) => return Err(error.of_host(&self.host)),
                _ => return Err(self.broken()),
            }
        }
    }

    /// Returns the methods of logging in that the host lets be tried now.
    pub(super) async fn methods_left(&mut self, user: &str) -> Option<String> {
        self.wire.say(&Order::MethodsLeft { user: user.to_owned() });
        match self.heard().await {
            Ok(Frame::Said(Report::MethodsLeft(methods))) => methods,
            _ => None,
        }
    }

    /// Waits for what the worker says next.
    pub(super) async fn heard(&mut self) -> Result<Frame<Report>, SshError> {
        match self.wire.next().await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) | Err(_) => Err(self.broken()),
        }
    }

    /// Makes the error of a worker that ended or says what it should not.
    fn broken(&mut self) -> SshError {
        self.broken = true;
        self.slot.suspect();
        self.lost("the process that spoke with it ended")
    }

    /// Makes the error of a connection that broke.
    fn lost(&self, why: impl Into<String>) -> SshError {
        SshError::Lost { host: self.host.clone(), why: why.into() }
    }
}
