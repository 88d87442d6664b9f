//! The terminal: taken, painted, given back as it was.
//!
//! **Invariant:** whatever ends the dashboard, a panic and a signal too, leaves the terminal as it was found; bytes are
//! written only where a cell or the cursor changed.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Stdout, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture};
use crossterm::style::ResetColor;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Position, Rect};
use signal_hook::low_level::pipe;

use crate::shells::dashboard::input::{Arrived, Input};
use crate::shells::dashboard::paint::{Stroke, strokes};

/// How much is given to the terminal's clipboard at most; many terminals drop more.
const CLIPBOARD_BYTES_MAX: usize = 74_994;

/// How long the dashboard may take to end after a signal.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How much is read at once, and how much before what was read is dealt with.
const READ_BYTES: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// How long a terminal may take to say where its cursor stands.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A terminal that the dashboard has.
pub(super) struct Terminal {
    backend: CrosstermBackend<BufWriter<Stdout>>,
    before: Buffer,
    cursor: Option<Position>,
    mouse: bool,
    /// What was typed, unbuffered.
    typed: File,
    input: Input,
    /// When something was read last.
    read_at: Instant,
    /// When the terminal was taken: the times of keys are counted from here.
    taken_at: Instant,
    /// What came while something else was waited for.
    early: Vec<(Arrived, Duration)>,
    signals: Signals,
}

/// What signals asked for, and the pipe that wakes whoever waits for keys.
struct Signals {
    woken: UnixStream,
    /// To end.
    ended: Arc<AtomicBool>,
    /// To stop until the shell continues this process.
    stopped: Arc<AtomicBool>,
    /// That somebody stopped and continued it, and may have used the terminal meanwhile.
    continued: Arc<AtomicBool>,
    /// Whether another program has the terminal: whoever stops that one stops this process as usual.
    lent: Arc<AtomicBool>,
}

impl Signals {
    fn watch() -> io::Result<Signals> {
        use nix::libc::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
        let (woken, wakes) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let [ended, stopped, continued, lent] = [(); 4].map(|()| Arc::new(AtomicBool::new(false)));
        let flags = [(SIGTERM, &ended), (SIGHUP, &ended), (SIGINT, &ended), (SIGTSTP, &stopped), (SIGCONT, &continued)];
        for (signal, flag) in flags {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        signal_hook::flag::register_conditional_default(SIGTSTP, Arc::clone(&lent))?;
        // The flags are set first.
        for signal in [SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT, SIGWINCH] {
            pipe::register(signal, wakes.try_clone()?)?;
        }
        let mut last = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP])?;
        std::thread::spawn(move || {
            for signal in last.forever() {
                std::thread::park_timeout(LAST_WORDS);
                leave(signal);
            }
        });
        Ok(Signals { woken, ended, stopped, continued, lent })
    }
}

impl Terminal {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Terminal> {
        let signals = Signals::watch()?;
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            usual(panic);
        }));
        remember_modes();
        let mut terminal = Terminal {
            backend: CrosstermBackend::new(BufWriter::with_capacity(64 << 10, io::stdout())),
            before: Buffer::empty(Rect::ZERO),
            cursor: None,
            mouse: false,
            typed: File::from(io::stdin().as_fd().try_clone_to_owned()?),
            input: Input::default(),
            read_at: Instant::now(),
            taken_at: Instant::now(),
            early: Vec::new(),
            signals,
        };
        terminal.enter()?;
        Ok(terminal)
    }

    fn enter(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide, Clear(ClearType::All))?;
        if self.mouse {
            execute!(io::stdout(), EnableMouseCapture)?;
        }
        self.forget();
        Ok(())
    }

    /// Whether a signal asked to end.
    pub(super) fn is_ended(&self) -> bool {
        self.signals.ended.load(Ordering::Relaxed)
    }

    /// Does what signals asked for: stops like every program, and takes the terminal anew after a stop; `true` when
    /// everything is to be painted.
    pub(super) fn obey_signals(&mut self) -> io::Result<bool> {
        let stopped = self.signals.stopped.swap(false, Ordering::Relaxed);
        if stopped {
            self.suspend()?;
        }
        let continued = self.signals.continued.swap(false, Ordering::Relaxed);
        if continued {
            // Whoever had it in between left it as the shell likes it.
            disable_raw_mode()?;
            self.enter()?;
        }
        Ok(stopped || continued)
    }

    /// Waits for something to read; `false` when nothing came in time.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn wait(&self, limit: Duration) -> io::Result<bool> {
        if !self.early.is_empty() {
            return Ok(true);
        }
        // What has begun is given up after a while.
        let rest = self.input.patience().map(|patience| patience.saturating_sub(self.read_at.elapsed()));
        let limit = rest.map_or(limit, |rest| rest.min(limit));
        let mut polled = [
            PollFd::new(self.typed.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.woken.as_fd(), PollFlags::POLLIN),
        ];
        // Rounded up: what is waited for has come then.
        let limit = PollTimeout::try_from(limit.saturating_add(Duration::from_micros(999))).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, limit) {
            Err(nix::errno::Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let events = polled.map(|polled| polled.revents().unwrap_or(PollFlags::empty()));
        if events[1].contains(PollFlags::POLLIN) {
            // How often it was woken does not matter.
            let _ = (&self.signals.woken).read(&mut [0; 64]);
        }
        if events[0].intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed"));
        }
        Ok(events[0].contains(PollFlags::POLLIN) || rest.is_some_and(|rest| rest.is_zero()))
    }

    /// Reads everything that is there, each with the time at which it was read, counted from when the terminal was taken.
    pub(super) fn read(&mut self) -> io::Result<Vec<(Arrived, Duration)>> {
        let mut arrived = std::mem::take(&mut self.early);
        let mut taken = 0;
        let mut buffer = [0; READ_BYTES];
        while taken < READ_BYTES_MAX && self.is_readable()? {
            let count = self.typed.read(&mut buffer)?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed"));
            }
            taken = taken.saturating_add(count);
            self.read_at = Instant::now();
            let at = self.read_at.saturating_duration_since(self.taken_at);
            arrived.extend(self.input.feed(&buffer[..count]).into_iter().map(|one| (one, at)));
        }
        if self.input.patience().is_some_and(|patience| self.read_at.elapsed() >= patience) {
            let at = self.taken_at.elapsed();
            arrived.extend(self.input.give_up().map(|one| (one, at)));
        }
        Ok(arrived)
    }

    fn is_readable(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(self.typed.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::ZERO) {
            Ok(count) => Ok(count > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether lines are drawn in one cell here: terminals for Chinese, Japanese and Korean may draw them in two (UAX #11,
    /// ambiguous width). A terminal that does not answer is taken for a plain one.
    pub(super) fn draws_narrow_lines(&mut self) -> bool {
        let column = self.column_after("─").unwrap_or(None);
        column == Some(1)
    }

    /// Writes a text at the beginning of the screen and asks where the cursor stands then.
    fn column_after(&mut self, text: &str) -> io::Result<Option<u16>> {
        execute!(io::stdout(), MoveTo(0, 0))?;
        write!(io::stdout(), "{text}\x1b[6n")?;
        io::stdout().flush()?;
        let begin = Instant::now();
        let mut found = None;
        let mut early = Vec::new();
        while found.is_none() && begin.elapsed() < ANSWER_LIMIT && !self.is_ended() {
            if !self.wait(ANSWER_LIMIT.saturating_sub(begin.elapsed()))? {
                continue;
            }
            for one in self.read()? {
                match one {
                    (Arrived::Column(column), _) => found = found.or(Some(column)),
                    // What was typed meanwhile was typed.
                    other => early.push(other),
                }
            }
        }
        self.early = early;
        execute!(io::stdout(), Clear(ClearType::All))?;
        Ok(found)
    }

    /// Everything is painted the next time.
    pub(super) fn forget(&mut self) {
        self.before = Buffer::empty(Rect::ZERO);
        self.cursor = None;
    }

    /// Paints what changed since the last frame.
    pub(super) fn paint(&mut self, frame: Buffer, cursor: Option<Position>) -> io::Result<()> {
        let anew = self.before.area != frame.area;
        if anew {
            self.before = Buffer::empty(frame.area);
        } else if self.before == frame && self.cursor == cursor {
            return Ok(());
        }
        queue!(self.backend, BeginSynchronizedUpdate, Hide)?;
        if anew {
            queue!(self.backend, ResetColor, Clear(ClearType::All))?;
        }
        for stroke in strokes(&self.before, &frame) {
            match stroke {
                Stroke::Plain(cells) => self.backend.draw(cells.into_iter())?,
                Stroke::Careful(x, y, cell, wide) => {
                    let blank = Cell::from(' ').set_style(cell.style()).clone();
                    self.backend.draw((x..x.saturating_add(wide)).map(|x| (x, y, &blank)))?;
                    self.backend.draw(std::iter::once((x, y, cell)))?;
                }
            }
        }
        if let Some(at) = cursor {
            queue!(self.backend, MoveTo(at.x, at.y), Show)?;
        }
        queue!(self.backend, EndSynchronizedUpdate)?;
        std::io::Write::flush(&mut self.backend)?;
        self.before = frame;
        self.cursor = cursor;
        Ok(())
    }

    /// Takes the mouse's clicks, or leaves them.
    pub(super) fn mouse(&mut self, wanted: bool) -> io::Result<()> {
        self.mouse = wanted;
        if wanted { execute!(io::stdout(), EnableMouseCapture) } else { execute!(io::stdout(), DisableMouseCapture) }
    }

    /// Rings.
    pub(super) fn ring() -> io::Result<()> {
        io::stdout().write_all(b"\x07").and_then(|()| io::stdout().flush())
    }

    /// Gives a text to the clipboard of whoever looks (OSC 52).
    pub(super) fn copy(text: &str) -> io::Result<()> {
        let end = (0..=text.len().min(CLIPBOARD_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let encoded = base64::engine::general_purpose::STANDARD.encode(&text[..end]);
        write!(io::stdout(), "\x1b]52;c;{encoded}\x07")?;
        io::stdout().flush()
    }

    /// Gives the terminal back, stops until the shell continues this process, and takes it again.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).map_err(io::Error::from)?;
        self.signals.continued.store(false, Ordering::Relaxed);
        self.enter()
    }

    /// Gives the terminal to another program for a while.
    pub(super) fn lend<T>(&mut self, program: impl FnOnce() -> T) -> io::Result<T> {
        give_back();
        self.signals.lent.store(true, Ordering::Relaxed);
        let result = program();
        self.signals.lent.store(false, Ordering::Relaxed);
        self.enter()?;
        // Ctrl-C and Ctrl-Z were the other program's.
        for flag in [&self.signals.ended, &self.signals.stopped, &self.signals.continued] {
            flag.store(false, Ordering::Relaxed);
        }
        Ok(result)
    }
}

/// Ends a dashboard that does not answer any more, as it does when its terminal is gone.
#[expect(clippy::exit, reason = "the loop that would end does not turn any more")]
fn leave(signal: i32) {
    give_back();
    std::process::exit(signal.saturating_add(128));
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
        if let Some(path) = modes_file() {
            // It may never have been written.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The file that remembers how this terminal was found, for whoever comes after a `kill -9`.
fn modes_file() -> Option<PathBuf> {
    let terminal = std::fs::read_link("/proc/self/fd/0").ok()?;
    let name = terminal.to_str()?.strip_prefix("/dev/")?.replace('/', "-");
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("XDG_RUNTIME_DIR").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(dir.join("spoolgate").join(name))
}

/// Writes down the modes that the terminal has now; a terminal whose modes nobody knows is made sane later.
fn remember_modes() {
    let Some(path) = modes_file() else { return };
    let modes = std::process::Command::new("stty").arg("-g").stdin(std::process::Stdio::inherit()).output();
    if let (Ok(modes), Some(dir)) = (modes, path.parent()) {
        let _ = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, modes.stdout));
    }
}

/// Returns the modes that a killed dashboard found this terminal in.
pub(in crate::shells) fn remembered_modes() -> Option<String> {
    let path = modes_file()?;
    let modes = std::fs::read_to_string(&path).ok()?;
    let modes = modes.trim().to_owned();
    let plain = !modes.is_empty() && modes.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    // They are given back once; what was found there later is somebody else's.
    let _ = std::fs::remove_file(path);
    plain.then_some(modes)
}

/// Gives the terminal back. There is nobody to tell when that fails.
pub(in crate::shells) fn give_back() {
    let _ = execute!(
        io::stdout(),
        EndSynchronizedUpdate,
        DisableMouseCapture,
        DisableBracketedPaste,
        ResetColor,
        Show,
        LeaveAlternateScreen
    );
    let _ = disable_raw_mode();
}
