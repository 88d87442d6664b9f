//! Running one command on an open session. Floor 3.
//!
//! **Invariant:** stdin is fed while output is read, so neither side can block the other; memory is one buffer,
//! whatever the command prints; the end is known only after the host said so.

use std::io::{self, BufRead, Read as _, Write as _};
use std::sync::LazyLock;
use std::time::Duration;

use ssh2::{Channel, ErrorCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::adapters::ssh::session::Shell;
use crate::adapters::ssh::socket::{AGAIN, Held, is_again};
use crate::adapters::ssh::{Session, SshError};
use crate::domain::output::{ExecEnd, Stream};
use crate::domain::runner::{Program, command_line};

/// One write to a channel moves at most this much (libssh2's packet).
const WRITE_BYTES_MAX: usize = 32_700;
/// How much is read at once.
const BUFFER_BYTES: usize = 16 << 10;
/// How many blocks are moved one way before others have their turn.
const TURN_BLOCKS: u32 = 16;
/// How many hosts that never stop talking are listened to at once: half of the processors are there for all others.
static FLOODS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new((processors / 2).max(1))
});
/// How long a process that was left in the background may hold the streams open after the command's end.
const LINGER: Duration = Duration::from_secs(2);
/// How many keepalives may go out, a period apart, without a byte from the host.
const UNANSWERED_MAX: u32 = 3;
/// How long closing a channel may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How long a host may refuse another session while one that was closed still ends there.
const ROOM_LIMIT: Duration = Duration::from_secs(5);
/// How long after the first refusal it is asked again; each time twice as long.
const ROOM_FIRST: Duration = Duration::from_millis(10);
/// The library's numbers for a channel that the host does not open (`LIBSSH2_ERROR_CHANNEL_FAILURE`), and for a connection that
/// is gone (`LIBSSH2_ERROR_SOCKET_SEND`, `_DISCONNECT`, `_RECV`).
const NO_CHANNEL: i32 = -21;
const GONE: [i32; 3] = [-7, -13, -43];

impl Session {
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
        // A host may allow one session at a time.
        if let Some(shell) = self.shell.take() {
            self.part_with(shell.channel).await;
        }
        let channel = self.started(command).await?;
        let mut to_the_end = |stream, bytes: &[u8]| {
            sink(stream, bytes);
            false
        };
        match self.listen(channel, stdin, Input::Ends, &mut to_the_end).await? {
            Heard::Ended(end) => Ok(end),
            Heard::Enough(channel) => self.finish(channel).await,
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
        if let Some(Shell { words, nonce, channel }) = self.shell.take() {
            if words != program.shell {
                self.part_with(channel).await;
            } else if let Heard::Enough(channel) =
                self.listen(channel, sent(program.again(&nonce)), Input::StaysOpen, &mut listener).await?
            {
                self.shell = Some(Shell { words, nonce, channel });
                return Ok(None);
            } else if spoke {
                return Ok(Some(ExecEnd::Exit(0)));
            }
            // It had ended before it could read anything.
        }
        let channel = self.started(&command_line(&program.command(&nonce))).await?;
        match self.listen(channel, sent(program.first(&nonce)), Input::StaysOpen, sink).await? {
            Heard::Ended(end) => Ok(Some(end)),
            Heard::Enough(channel) => {
                self.shell = Some(Shell { words: program.shell.clone(), nonce, channel });
                Ok(None)
            }
        }
    }

    async fn started(&mut self, command: &str) -> Result<Channel, SshError> {
        let limit = self.keepalive * UNANSWERED_MAX;
        let channel = tokio::time::timeout(limit, self.start(command)).await;
        channel.unwrap_or_else(|_| Err(self.lost("no answer to the command")))
    }

    async fn listen(
        &mut self,
        channel: Channel,
        stdin: impl BufRead + Send,
        input: Input,
        sink: &mut (impl FnMut(Stream, &[u8]) -> bool + Send),
    ) -> Result<Heard, SshError> {
        self.abandoned.push(channel);
        // From here on a drop of this future leaves the channel among the abandoned ones.
        let ended = self.pump(stdin, input, sink).await;
        let channel = self.abandoned.pop();
        match (ended, channel) {
            (Ok(true), Some(channel)) => Ok(Heard::Enough(channel)),
            (Ok(false), Some(channel)) => Ok(Heard::Ended(self.finish(channel).await?)),
            (Ok(_), None) => Err(self.lost("its channel is gone")),
            (Err(error), channel) => {
                self.abandoned.extend(channel);
                Err(error)
            }
        }
    }

    /// Ends a shell that waits for more.
    async fn part_with(&mut self, mut channel: Channel) {
        let ssh = self.ssh.clone();
        let closing = self.readiness.retry(|| ssh.block_directions(), || channel.close());
        if tokio::time::timeout(CLOSE_LIMIT, closing).await.is_err() {
            self.abandoned.push(channel);
        }
    }

    /// Opens a channel for a command. A host that allows few sessions at a time counts one until its process has ended, and so
    /// may refuse the next one for a moment.
    async fn open(&mut self) -> Result<Channel, SshError> {
        let (until, mut pause) = (Instant::now() + ROOM_LIMIT, ROOM_FIRST);
        loop {
            let ssh = &self.ssh;
            let error = match self.readiness.retry(|| ssh.block_directions(), || ssh.channel_session()).await {
                Ok(channel) => {
                    self.opened = true;
                    return Ok(channel);
                }
                Err(error) => error,
            };
            let refused = error.code() == ErrorCode::Session(NO_CHANNEL);
            if !(refused && self.opened && Instant::now() + pause < until) {
                return Err(SshError::NotStarted { host: self.host.clone(), why: self.why_not_opened(&error) });
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// Says why a host opens no channel.
    fn why_not_opened(&self, error: &ssh2::Error) -> String {
        match error.code() {
            ErrorCode::Session(NO_CHANNEL) => {
                "it lets us in and opens no session (MaxSessions in its sshd_config, or a limit of the account there)"
                    .to_owned()
            }
            ErrorCode::Session(code) if GONE.contains(&code) && !self.opened => {
                "it let us in and hung up before anything was asked; its sshd's log says why (PermitRootLogin \
                 forced-commands-only is one reason)"
                    .to_owned()
            }
            ErrorCode::Session(code) if GONE.contains(&code) => "the connection was lost".to_owned(),
            _ => error.message().to_owned(),
        }
    }

    async fn start(&mut self, command: &str) -> Result<Channel, SshError> {
        let mut channel = self.open().await?;
        let ssh = &self.ssh;
        // Once the request may be on its way, nobody knows whether the host obeyed it.
        self.readiness
            .retry(|| ssh.block_directions(), || channel.exec(command))
            .await
            .map_err(|error| self.lost(error.message()))?;
        Ok(channel)
    }

    /// Feeds stdin and drains both streams until the host has closed them, or `sink` has heard all; returns whether it has.
    async fn pump(
        &mut self,
        stdin: impl BufRead + Send,
        input: Input,
        sink: &mut (impl FnMut(Stream, &[u8]) -> bool + Send),
    ) -> Result<bool, SshError> {
        let mut pump = Pump {
            stdin: Some(stdin),
            input,
            enough: false,
            unreadable: None,
            eof_sent: false,
            linger_until: None,
            moved: false,
            held: Held::default(),
        };
        let mut quiet_since = Instant::now();
        let (mut unanswered, mut flooded) = (0, false);
        loop {
            let keepalive = quiet_since + self.keepalive;
            let until = pump.linger_until.map_or(keepalive, |linger| linger.min(keepalive));
            let ssh = self.ssh.clone();
            let channel = self.abandoned.last_mut().expect("the channel was put there");
            pump.moved = false;
            let mut first = None;
            if flooded {
                // Never held while nothing comes.
                let _listening = FLOODS.acquire().await;
                first = Some(pump.turn(channel, sink)).filter(|turn| !turn.as_ref().is_err_and(is_again));
            }
            let turn = if let Some(turn) = first {
                Ok(turn)
            } else {
                let turn = self.readiness.retry(|| ssh.block_directions(), || pump.turn(channel, sink));
                timeout_at(until, turn).await
            };
            flooded = matches!(turn, Ok(Ok(Turn::Flooded)));
            match turn {
                Ok(Ok(Turn::Ended)) => return Ok(false),
                Ok(Ok(Turn::Enough)) => return Ok(true),
                Ok(Ok(Turn::Moved | Turn::Flooded)) => {
                    quiet_since = Instant::now();
                    // A host that never stops talking leaves other hosts their turn.
                    tokio::task::yield_now().await;
                }
                Ok(Err(error)) => {
                    let unreadable = pump.unreadable.map(|why| format!("what is to be sent cannot be read: {why}"));
                    return Err(self.lost(unreadable.as_deref().unwrap_or(error.message())));
                }
                Err(_) if pump.linger_until.is_some_and(|linger| linger <= Instant::now()) => return Ok(false),
                Err(_) => {
                    quiet_since = Instant::now();
                    if self.readiness.heard_since() {
                        unanswered = 0;
                    }
                    if unanswered >= UNANSWERED_MAX {
                        return Err(self.lost(format!("nothing was heard for {:?}", self.keepalive * unanswered)));
                    }
                    self.ask_whether_it_lives().await?;
                    unanswered = unanswered.saturating_add(1);
                }
            }
        }
    }

    /// Sends a keepalive, which the host answers.
    async fn ask_whether_it_lives(&self) -> Result<(), SshError> {
        let ssh = &self.ssh;
        let asked = self.readiness.retry(|| ssh.block_directions(), || ssh.keepalive_send());
        match tokio::time::timeout(self.keepalive, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost(error.message())),
            Err(_) => Err(self.lost("it takes no more bytes")),
        }
    }

    /// Reads how the command ended and closes its channel. The streams are at their end before the channel is closed:
    /// closing earlier is an error of the protocol.
    async fn finish(&mut self, mut channel: Channel) -> Result<ExecEnd, SshError> {
        let ssh = self.ssh.clone();
        let closing = async {
            self.readiness.retry(|| ssh.block_directions(), || channel.close()).await?;
            self.readiness.retry(|| ssh.block_directions(), || channel.wait_close()).await
        };
        // A host that said how the command ended has said what matters.
        let closed = tokio::time::timeout(CLOSE_LIMIT, closing).await;
        let signal = channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        let status = channel.exit_status().ok();
        match (signal, status, closed) {
            (Some(name), _, _) => Ok(ExecEnd::Signal(name)),
            (None, Some(code), Ok(Ok(()))) => Ok(ExecEnd::Exit(code)),
            (None, Some(code), _) if code != 0 => Ok(ExecEnd::Exit(code)),
            _ => Err(self.lost("the channel ended without an exit status")),
        }
    }
}

/// What one turn of the pump did.
enum Turn {
    /// Bytes went in or out.
    Moved,
    /// The host said more than is heard in one turn.
    Flooded,
    /// The host closed both streams.
    Ended,
    /// All was heard that was to be heard.
    Enough,
}

/// What a conversation came to.
enum Heard {
    /// The command ended.
    Ended(ExecEnd),
    /// Whoever listens has heard all; the command may go on.
    Enough(Channel),
}

/// What becomes of a command's standard input when everything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// It ends.
    Ends,
    /// More may come another time.
    StaysOpen,
}

/// The state of one command's streams.
struct Pump<F> {
    /// What is still to be sent; gone when it is, because the conversation may last.
    stdin: Option<F>,
    input: Input,
    /// Whether all was heard that was to be heard.
    enough: bool,
    /// Why standard input cannot be read on.
    unreadable: Option<io::Error>,
    eof_sent: bool,
    linger_until: Option<Instant>,
    moved: bool,
    /// What the channel held when everything was asked for the last time.
    held: Held,
}

impl<F: BufRead> Pump<F> {
    /// Moves what can be moved; "not now" only when nothing could.
    fn turn(
        &mut self,
        channel: &mut Channel,
        sink: &mut (impl FnMut(Stream, &[u8]) -> bool + Send),
    ) -> Result<Turn, ssh2::Error> {
        self.moved = false;
        self.feed(channel)?;
        let flooded = self.drain(channel, Stream::Out, sink)? | self.drain(channel, Stream::Err, sink)?;
        if self.enough {
            return Ok(Turn::Enough);
        }
        if channel.eof() {
            return Ok(Turn::Ended);
        }
        if flooded {
            return Ok(Turn::Flooded);
        }
        if self.linger_until.is_none() && has_ended(channel) {
            self.linger_until = Some(Instant::now() + LINGER);
            // Whoever waits is to wait no longer than that.
            self.moved = true;
        }
        let held_before = std::mem::replace(&mut self.held, Held::of(channel));
        if self.moved || self.held != held_before {
            Ok(Turn::Moved)
        } else {
            Err(ssh2::Error::from_errno(ErrorCode::Session(AGAIN)))
        }
    }

    fn feed(&mut self, channel: &mut Channel) -> Result<(), ssh2::Error> {
        let mut writes = 0;
        while let Some(stdin) = &mut self.stdin {
            let piece = match stdin.fill_buf() {
                Ok([]) => {
                    self.stdin = None;
                    break;
                }
                Ok(piece) => piece,
                Err(error) => {
                    self.unreadable = Some(error);
                    return Err(broken());
                }
            };
            if writes == TURN_BLOCKS {
                return Ok(());
            }
            writes = writes.saturating_add(1);
            match channel.write(&piece[..piece.len().min(WRITE_BYTES_MAX)]) {
                Ok(count) => {
                    stdin.consume(count);
                    self.moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The command does not read any more; how it ended will tell.
                Err(_) if channel.eof() => break,
                Err(_) => return Err(broken()),
            }
        }
        if !self.eof_sent && self.input == Input::Ends {
            match channel.send_eof() {
                Ok(()) => self.eof_sent = true,
                Err(error) if error.code() == ErrorCode::Session(AGAIN) => {}
                Err(_) if channel.eof() => self.eof_sent = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands on what there is of a stream; returns whether there may be more.
    fn drain(
        &mut self,
        channel: &mut Channel,
        stream: Stream,
        sink: &mut (impl FnMut(Stream, &[u8]) -> bool + Send),
    ) -> Result<bool, ssh2::Error> {
        let number = match stream {
            Stream::Out => 0,
            Stream::Err => ssh2::EXTENDED_DATA_STDERR,
        };
        // Not kept from turn to turn: thousands of hosts wait.
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..TURN_BLOCKS {
            match channel.stream(number).read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.moved = true;
                    self.enough |= sink(stream, &buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(broken()),
            }
        }
        Ok(true)
    }
}

/// The error of a stream that broke, in the library's words.
fn broken() -> ssh2::Error {
    const SOCKET_RECV: i32 = -43;
    ssh2::Error::new(ErrorCode::Session(SOCKET_RECV), "the stream broke")
}

/// Whether the host has said how the command ended. An exit status of 0 cannot be told from none yet, so only
/// other ends begin the wait for lingering streams early.
fn has_ended(channel: &Channel) -> bool {
    channel.exit_status().is_ok_and(|code| code != 0)
        || channel.exit_signal().is_ok_and(|signal| signal.exit_signal.is_some())
}
