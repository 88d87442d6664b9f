//! The terminal: taken, painted, given back as it was.
//!
//! **Invariant:** whatever ends the dashboard, a panic and a signal too, leaves the terminal as it was found; bytes are
//! written only where a cell or the cursor changed.

use std::io::{self, BufWriter, Stdout, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

/// How much is given to the terminal's clipboard at most; many terminals drop more.
const CLIPBOARD_BYTES_MAX: usize = 74_994;

/// How long the dashboard may take to end after a signal.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A terminal that the dashboard has.
pub(super) struct Terminal {
    backend: CrosstermBackend<BufWriter<Stdout>>,
    before: Buffer,
    cursor: Option<Position>,
    mouse: bool,
    /// Signals that end the dashboard.
    ended: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Terminal> {
        let ended = Arc::new(AtomicBool::new(false));
        let mut signals =
            signal_hook::iterator::Signals::new([nix::libc::SIGTERM, nix::libc::SIGHUP, nix::libc::SIGINT])?;
        let told = Arc::clone(&ended);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                told.store(true, Ordering::Relaxed);
                if signal != nix::libc::SIGINT {
                    std::thread::park_timeout(LAST_WORDS);
                    leave(signal);
                }
            }
        });
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
            ended,
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
        self.ended.load(Ordering::Relaxed)
    }

    /// Waits for keys; `false` when none came in time.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn wait(limit: Duration) -> io::Result<bool> {
        let stdin = io::stdin();
        let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, limit) {
            // A signal: the size may be another.
            Err(nix::errno::Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        if polled[0].revents().is_some_and(|events| events.intersects(gone)) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed"));
        }
        crossterm::event::poll(Duration::ZERO)
    }

    /// Whether lines are drawn in one cell here: terminals for Chinese, Japanese and Korean may draw them in two (UAX #11,
    /// ambiguous width).
    pub(super) fn draws_narrow_lines() -> bool {
        let probe = || -> io::Result<bool> {
            execute!(io::stdout(), MoveTo(0, 0))?;
            write!(io::stdout(), "─")?;
            io::stdout().flush()?;
            let (column, _) = crossterm::cursor::position()?;
            execute!(io::stdout(), Clear(ClearType::All))?;
            Ok(column == 1)
        };
        // A terminal that does not answer is taken for a plain one.
        probe().unwrap_or(false)
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
        self.backend.draw(self.before.diff(&frame).into_iter())?;
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
        self.enter()
    }

    /// Gives the terminal to another program for a while.
    pub(super) fn lend<T>(&mut self, program: impl FnOnce() -> T) -> io::Result<T> {
        give_back();
        let result = program();
        self.enter()?;
        // Ctrl-C was the other program's.
        self.ended.store(false, Ordering::Relaxed);
        Ok(result)
    }
}

/// Ends a dashboard that does not answer any more, as it does when its terminal is gone.
#[expect(clippy::exit, reason = "the loop that would end does not turn any more")]
fn leave(signal: i32) {
    give_back();
    std::process::exit(128 + signal);
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
