//! Running one command on an open connection, for somebody at the other end of a wire. Floor 3.
//!
//! **Invariant:** stdin is fed while output is read, so neither side can block the other; memory is some buffers,
//! whatever the command prints and however slowly it is taken; the end is known only after the host said so. Whatever goes on,
//! what the other side says is heard: it may stop waiting at any time.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use ssh2::{BlockDirections, Channel, ErrorCode};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::adapters::ssh::error::SshError;
use crate::adapters::ssh::frame::{Frame, Order, Report, Wire};
use crate::adapters::ssh::worker::connection::Connection;
use crate::adapters::ssh::worker::socket::{AGAIN, Held, is_again};
use crate::domain::output::{ExecEnd, Stream};

/// The end of the wire at which the host is.
pub(super) type Caller = Wire<Order, Report>;

/// One write to a channel moves at most this much (libssh2's packet).
const WRITE_BYTES_MAX: usize = 32_700;
/// How much is read at once.
const BUFFER_BYTES: usize = 16 << 10;
/// How many blocks are moved one way before others have their turn.
const TURN_BLOCKS: u32 = 8;
/// How much may wait for the other side before no more is read from the host.
const QUEUED_BYTES_MAX: usize = 128 << 10;
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

/// What is to go into a command, and whether somebody waits for it.
#[derive(Default)]
pub(super) struct Input {
    /// What was not taken yet, and how much of it was.
    bytes: Vec<u8>,
    taken: usize,
    /// Whether nothing more comes.
    ended: bool,
    /// What the other side wants.
    wish: Wish,
}

/// What somebody wants who waits for a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    /// To hear everything.
    #[default]
    All,
    /// Nothing more: all was heard that was to be heard.
    Enough,
    /// The command to be left alone.
    Leave,
    /// Nothing: it is gone, or said what it should not.
    Gone,
}

impl Input {
    /// Takes in what the other side says.
    fn hear(&mut self, frame: io::Result<Option<Frame<Order>>>) {
        match frame {
            // One piece at a time.
            Ok(Some(Frame::Bytes(bytes))) if self.rest().is_empty() => {
                self.bytes = bytes;
                self.taken = 0;
            }
            Ok(Some(Frame::Said(Order::InputEnds))) => self.ended = true,
            Ok(Some(Frame::Said(Order::Enough))) => self.wish = Wish::Enough,
            Ok(Some(Frame::Said(Order::Leave))) => self.wish = Wish::Leave,
            _ => self.wish = Wish::Gone,
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    fn is_over(&self) -> bool {
        matches!(self.wish, Wish::Leave | Wish::Gone)
    }

    /// Takes in what was said already; returns what the conversation comes to with it, if it does.
    fn look(&mut self, caller: &mut Caller) -> Option<CommandEnd> {
        while let Some(frame) = caller.ready().transpose() {
            self.hear(frame.map(Some));
        }
        if caller.is_over() {
            self.wish = Wish::Gone;
        }
        match self.wish {
            Wish::All => None,
            Wish::Enough => Some(CommandEnd::Enough),
            Wish::Leave | Wish::Gone => Some(CommandEnd::Left),
        }
    }

    /// Does `work` while listening; nothing when nobody waits for it any more.
    async fn while_listening<T>(&mut self, caller: &mut Caller, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                frame = caller.next() => self.hear(frame),
            }
            if self.is_over() {
                return None;
            }
        }
    }
}

/// What a conversation came to.
enum CommandEnd {
    /// The command ended.
    Ended,
    /// Whoever listens has heard all; the command may go on.
    Enough,
    /// Nobody waits for it any more.
    Left,
}

/// Whether the other side may want something more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It may.
    More,
    /// It is gone.
    Gone,
}

impl Connection {
    /// Runs a command, or goes on with the shell that was kept (`None`), and tells the other side how that ends.
    pub(super) async fn run(&mut self, caller: &mut Caller, command: Option<&str>, stays_open: bool) -> After {
        let mut input = Input::default();
        let ended = self.conversation(caller, &mut input, command, stays_open).await;
        if input.wish == Wish::Gone {
            return After::Gone;
        }
        match ended {
            Ok(Some(report)) => caller.say(&report),
            Ok(None) => caller.say(&Report::Left),
            Err(error) => {
                caller.say(&Report::Failed(error));
                // It was asked to leave while it failed: somebody waits for the answer to that.
                if input.wish == Wish::Leave {
                    caller.say(&Report::Left);
                }
            }
        }
        After::More
    }

    /// Returns what to report; nothing when nobody waits any more.
    async fn conversation(
        &mut self,
        caller: &mut Caller,
        input: &mut Input,
        command: Option<&str>,
        stays_open: bool,
    ) -> Result<Option<Report>, SshError> {
        let deadline = Instant::now() + self.keepalive.saturating_mul(UNANSWERED_MAX);
        let channel = match command {
            Some(_) => match input.while_listening(caller, timeout_at(deadline, self.room())).await {
                None => return Ok(None),
                Some(Err(_)) => return Err(self.lost("no answer to the command")),
                Some(Ok(channel)) => channel?,
            },
            None => self.kept.take().ok_or_else(|| self.lost("no shell was kept"))?,
        };
        // From here on the channel is among the abandoned ones, whatever happens.
        self.abandoned.push(channel);
        let starts = command.map(|command| (command.to_owned(), deadline));
        let heard = self.pump(caller, input, starts, stays_open).await?;
        match heard {
            CommandEnd::Left => Ok(None),
            CommandEnd::Enough => {
                self.kept = self.abandoned.pop();
                Ok(Some(Report::Kept))
            }
            CommandEnd::Ended => {
                let Some(channel) = self.abandoned.pop() else { return Err(self.lost("its channel is gone")) };
                let end = input.while_listening(caller, self.finish(channel)).await;
                end.transpose().map(|end| end.map(Report::Ended))
            }
        }
    }

    /// Ends the shell that waits for more, if there is one.
    pub(super) async fn part(&mut self) {
        let Some(mut channel) = self.kept.take() else { return };
        let ssh = self.ssh.clone();
        let closing = self.readiness.retry(|| ssh.block_directions(), || channel.close());
        if timeout(CLOSE_LIMIT, closing).await.is_err() {
            self.abandoned.push(channel);
        }
    }

    /// Opens a channel; a host may allow one session at a time.
    async fn room(&mut self) -> Result<Channel, SshError> {
        self.part().await;
        self.open().await
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

    /// Feeds stdin and drains both streams until the host has closed them, or nobody listens any more.
    async fn pump(
        &mut self,
        caller: &mut Caller,
        input: &mut Input,
        starts: Option<(String, Instant)>,
        stays_open: bool,
    ) -> Result<CommandEnd, SshError> {
        let mut pump = Pump { starts, stays_open, ..Pump::default() };
        let mut quiet_since = Instant::now();
        let mut unanswered = 0_u32;
        loop {
            if let Some(heard) = input.look(caller) {
                return Ok(heard);
            }
            if caller.queued() > QUEUED_BYTES_MAX {
                // The other side takes it in its own time; whatever the host says meanwhile waits there.
                caller.exchange().await;
                quiet_since = Instant::now();
                continue;
            }
            let keepalive = quiet_since + self.keepalive;
            let until = pump.until().map_or(keepalive, |until| until.min(keepalive));
            let ssh = self.ssh.clone();
            let channel = self.abandoned.last_mut().expect("the channel was put there");
            pump.moved = false;
            let turn = {
                let directions = || ssh.block_directions();
                let turn = self.readiness.retry(directions, || pump.turn(channel, input, directions));
                tokio::select! {
                    biased;
                    turn = timeout_at(until, turn) => Some(turn),
                    // What was heard is looked at first thing in the next round.
                    () = caller.exchange() => None,
                }
            };
            pump.report(caller);
            match turn {
                None => {}
                Some(Ok(Ok(Turn::Ended))) => return Ok(CommandEnd::Ended),
                Some(Ok(Ok(Turn::Moved))) => {
                    quiet_since = Instant::now();
                    // A host that never stops talking leaves other hosts their turn.
                    tokio::task::yield_now().await;
                }
                Some(Ok(Err(error))) => return Err(self.lost(error.message())),
                Some(Err(_)) if pump.until().is_some_and(|until| until <= Instant::now()) => {
                    if pump.starts.is_some() {
                        return Err(self.lost("no answer to the command"));
                    }
                    return Ok(CommandEnd::Ended);
                }
                Some(Err(_)) => {
                    quiet_since = Instant::now();
                    if self.readiness.heard_since() {
                        unanswered = 0;
                    }
                    if unanswered >= UNANSWERED_MAX {
                        return Err(
                            self.lost(format!("nothing was heard for {:?}", self.keepalive.saturating_mul(unanswered)))
                        );
                    }
                    match input.while_listening(caller, self.ask_whether_it_lives()).await {
                        None => return Ok(CommandEnd::Left),
                        Some(asked) => asked?,
                    }
                    unanswered = unanswered.saturating_add(1);
                }
            }
        }
    }

    /// Sends a keepalive, which the host answers.
    async fn ask_whether_it_lives(&self) -> Result<(), SshError> {
        let ssh = &self.ssh;
        let asked = self.readiness.retry(|| ssh.block_directions(), || ssh.keepalive_send());
        match timeout(self.keepalive, asked).await {
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
        let closed = timeout(CLOSE_LIMIT, closing).await;
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
    /// The host closed both streams.
    Ended,
}

/// The state of one command's streams.
#[derive(Default)]
struct Pump {
    /// The command that the host has not said yet that it started, and until when it may.
    starts: Option<(String, Instant)>,
    /// Whether standard input stays open when everything was sent.
    stays_open: bool,
    eof_sent: bool,
    linger_until: Option<Instant>,
    moved: bool,
    /// How many bytes of standard input were taken since the last report.
    taken: usize,
    /// What the command wrote since the last report.
    said: Vec<(Stream, Vec<u8>)>,
    /// What the channel held when everything was asked for the last time.
    held: Held,
}

impl Pump {
    /// Tells the other side what moved.
    fn report(&mut self, caller: &mut Caller) {
        for (stream, bytes) in self.said.drain(..) {
            caller.send(&bytes, stream == Stream::Err);
        }
        if self.taken > 0 {
            caller.say(&Report::Taken(self.taken));
            self.taken = 0;
        }
    }

    /// Until when to wait at most for what is waited for.
    fn until(&self) -> Option<Instant> {
        self.starts.as_ref().map(|(_, until)| *until).or(self.linger_until)
    }

    /// Moves what can be moved; "not now" only when nothing could.
    fn turn(
        &mut self,
        channel: &mut Channel,
        input: &mut Input,
        directions: impl Fn() -> BlockDirections,
    ) -> Result<Turn, ssh2::Error> {
        self.moved = false;
        if let Some((command, _)) = &self.starts {
            match channel.exec(command) {
                Ok(()) => self.starts = None,
                // The request is on its way and whole: what the command reads need not wait for the answer, where the host has
                // room for it. OpenSSH's sshd gives none before it has started the command. One that refuses it drops
                // what follows.
                Err(error) if is_again(&error) && directions() == BlockDirections::Inbound => {
                    self.feed(channel, input)?;
                    return if self.moved { Ok(Turn::Moved) } else { Err(error) };
                }
                Err(error) => return Err(error),
            }
        }
        self.feed(channel, input)?;
        let more = self.drain(channel, Stream::Out)? | self.drain(channel, Stream::Err)?;
        if channel.eof() {
            return Ok(Turn::Ended);
        }
        if more {
            return Ok(Turn::Moved);
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

    fn feed(&mut self, channel: &mut Channel, input: &mut Input) -> Result<(), ssh2::Error> {
        while !input.rest().is_empty() {
            let piece = input.rest();
            match channel.write(&piece[..piece.len().min(WRITE_BYTES_MAX)]) {
                Ok(count) => {
                    input.taken = input.taken.saturating_add(count);
                    self.taken = self.taken.saturating_add(count);
                    self.moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The command does not read any more; how it ended will tell.
                Err(_) if channel.eof() => return Ok(()),
                Err(_) => return Err(broken()),
            }
        }
        if !self.eof_sent && input.ended && !self.stays_open {
            match channel.send_eof() {
                Ok(()) => self.eof_sent = true,
                Err(error) if error.code() == ErrorCode::Session(AGAIN) => {}
                Err(_) if channel.eof() => self.eof_sent = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what there is of a stream; returns whether there may be more.
    fn drain(&mut self, channel: &mut Channel, stream: Stream) -> Result<bool, ssh2::Error> {
        let number = match stream {
            Stream::Out => 0,
            Stream::Err => ssh2::EXTENDED_DATA_STDERR,
        };
        // Not kept from turn to turn: hosts wait.
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..TURN_BLOCKS {
            match channel.stream(number).read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.moved = true;
                    self.said.push((stream, buffer[..count].to_vec()));
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
