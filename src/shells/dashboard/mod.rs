//! The dashboard: every task and every host, live, and the place where people approve. Floor 4.
//!
//! Keys, files and the clock become messages; [`update`](update::update) changes the model; [`draw`](view::draw) paints it.
//! Only `files` reads files, only `terminal` touches the terminal, and only this file does what commands ask for.
//!
//! **Invariant:** opens the state for reading only. What people decide here is dropped as the same small files that
//! everybody drops, and the daemon checks it again; ending the dashboard at any moment changes nothing.

mod can;
mod completion;
mod consequences;
mod context;
mod dialog;
mod drafts;
mod edit;
mod editor;
mod eta;
mod files;
mod filter;
mod form;
mod host_state;
pub(crate) mod input;
mod keys;
mod layout;
mod list;
mod log_keys;
mod log_parts;
mod look;
mod message;
mod model;
mod pace;
mod paint;
mod phrases;
mod prompt;
mod refused;
mod requests;
mod screen;
mod table;
pub(super) mod terminal;
mod ui;
mod update;
mod view;
mod words;
mod world;

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::adapters::spool::drop_file;
use crate::adapters::{config, users};
use crate::base::ids::TaskId;
use crate::base::time::{Timestamp, Zone};
use crate::domain::policy::Person;
use crate::engine::DropBox;
use crate::shells::Dirs;
use crate::shells::clock::{now, unique};

use dialog::Dialog;
use files::Files;
use input::Arrived;
use layout::ScreenSize;
use look::{Look, Theme};
use message::{Command, Message};
use model::Model;
use pace::Pace;
use screen::TaskScreen;
use screen::table::views;
use terminal::Terminal;
use words::Lang;
use world::NEWS_MS;

/// How long to wait for a key while something moves, and while nothing does.
const WAIT_BUSY: Duration = Duration::from_millis(100);
const WAIT_IDLE: Duration = Duration::from_millis(250);
/// The least time between two frames.
const FRAME: Duration = Duration::from_millis(16);
/// The least time between two rings.
const RING_EVERY: Duration = Duration::from_mins(1);

/// How the dashboard is to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) readonly: bool,
    pub(super) ascii: bool,
    pub(super) theme: Option<String>,
    pub(super) lang: Option<String>,
    /// Which view comes first: `board`, `hosts`, `history`, `audit`, `templates`, or a task's number.
    pub(super) view: Option<String>,
    /// Columns and rows of a single frame.
    pub(super) size: Option<(u16, u16)>,
}

/// Why the dashboard could not be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum DashboardError {
    /// The terminal failed.
    #[error("the terminal failed: {0}; if it stays odd, try: spoolgate reset-tty")]
    Terminal(#[from] io::Error),
    /// There is no such state directory.
    #[error("there is no state in {path}: {source}", path = path.display())]
    State {
        /// Which directory was looked at.
        path: PathBuf,
        /// Why it could not be read.
        source: io::Error,
    },
    /// A task that is not there.
    #[error("there is no task {0}")]
    NoTask(TaskId),
    /// A word that means nothing.
    #[error("{what} {word}: wanted {wanted}")]
    Word {
        /// What it was to be.
        what: &'static str,
        /// The word.
        word: String,
        /// What would do.
        wanted: String,
    },
}

/// Shows the dashboard until somebody quits.
pub(super) fn run(dirs: &Dirs, options: &Options) -> Result<(), DashboardError> {
    let mut model = model(dirs, options, crossterm::terminal::size()?)?;
    let mut terminal = Terminal::take()?;
    if !model.ui.look.ascii {
        model.ui.look.ascii = !terminal.draws_narrow_lines();
    }
    Dashboard::new(dirs, model).serve(&mut terminal)
}

/// Returns one frame as text.
pub(super) fn once(dirs: &Dirs, options: &Options) -> Result<String, DashboardError> {
    let size = options.size.unwrap_or_else(|| crossterm::terminal::size().unwrap_or((80, 24)));
    if ScreenSize::new(size.0, size.1).is_too_small() {
        return Err(wrong("--size", &format!("{}x{}", size.0, size.1), "60x15 or larger"));
    }
    let mut model = model(dirs, options, size)?;
    // A frame is text; nobody sits before it.
    model.ui.bell = false;
    let mut dashboard = Dashboard::new(dirs, model);
    dashboard.look();
    if let Some(view) = &options.view {
        dashboard.open(view)?;
        dashboard.look();
        if let Ok(id) = view.parse()
            && dashboard.model.ui.depth() == 0
        {
            return Err(DashboardError::NoTask(TaskId(id)));
        }
    }
    Ok(view::as_text(&dashboard.model))
}

fn model(dirs: &Dirs, options: &Options, size: (u16, u16)) -> Result<Model, DashboardError> {
    let spool = dirs.state.join("spool");
    std::fs::metadata(&spool).map_err(|source| DashboardError::State { path: spool, source })?;
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG")).unwrap_or_default();
    let lang = match &options.lang {
        Some(word) => Lang::parse(word).ok_or_else(|| wrong("--lang", word, "en or zh"))?,
        None => Lang::parse(&locale).unwrap_or(Lang::En),
    };
    let theme = match &options.theme {
        Some(word) => Theme::parse(word).ok_or_else(|| wrong("--theme", word, "dark, light, mono or safe"))?,
        None if set("NO_COLOR").is_some() => Theme::Mono,
        None => Theme::Dark,
    };
    let utf8 = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default().to_lowercase();
    let ascii = options.ascii || !(utf8.contains("utf-8") || utf8.contains("utf8"));
    let uid = users::current_uid();
    let me = Person { actor: users::actor(uid), groups: users::groups(uid) };
    let look = Look { theme, ascii, words: lang.words() };
    // A clock that is right does not wait until the rest of the configuration is.
    let zone = config::time_zone(&dirs.config).unwrap_or_else(Zone::system);
    let mut model = Model::new(me, zone, look, lang, now(), size);
    model.ui.readonly = options.readonly;
    Ok(model)
}

fn wrong(what: &'static str, word: &str, wanted: &str) -> DashboardError {
    DashboardError::Word { what, word: word.to_owned(), wanted: wanted.to_owned() }
}

struct Dashboard {
    files: Files,
    model: Model,
    rang: Option<Instant>,
    /// How fast keys come.
    pace: Pace,
    /// What came and was not dealt with yet.
    arrived: VecDeque<Message>,
}

impl Dashboard {
    fn new(dirs: &Dirs, model: Model) -> Dashboard {
        let files = Files::new(dirs.clone());
        Dashboard { files, model, rang: None, pace: Pace::default(), arrived: VecDeque::new() }
    }

    fn serve(&mut self, terminal: &mut Terminal) -> Result<(), DashboardError> {
        let mut painted: Option<Instant> = None;
        let mut dirty = true;
        loop {
            dirty |= terminal.obey_signals()?;
            dirty |= self.look();
            dirty |= self.fit()?;
            if dirty && painted.is_none_or(|at| at.elapsed() >= FRAME) {
                self.paint(terminal)?;
                (painted, dirty) = (Some(Instant::now()), false);
            }
            let wait = if dirty {
                FRAME
            } else if self.is_busy() {
                WAIT_BUSY
            } else {
                WAIT_IDLE
            };
            if terminal.is_ended() {
                return Ok(());
            }
            if self.arrived.is_empty() && !terminal.wait(wait)? {
                continue;
            }
            // What waits is taken before the next frame: many keys are one frame.
            let begun = Instant::now();
            while begun.elapsed() < FRAME * 2 && self.has_arrived(terminal)? {
                let Some(message) = self.arrived.pop_front() else { continue };
                dirty = true;
                if self.take(terminal, message)? {
                    return Ok(());
                }
            }
        }
    }

    /// Reads what waits, unless something waits that was read; `true` when there may be more.
    fn has_arrived(&mut self, terminal: &mut Terminal) -> io::Result<bool> {
        if !self.arrived.is_empty() {
            return Ok(true);
        }
        if !terminal.wait(Duration::ZERO)? {
            return Ok(false);
        }
        let read = terminal.read()?;
        self.arrived = messages(&mut self.pace, read).into();
        Ok(true)
    }

    /// Takes the size that the terminal has now, since a change is not always told; `true` when it is another.
    fn fit(&mut self) -> io::Result<bool> {
        let size = crossterm::terminal::size()?;
        let ScreenSize { width, height } = self.model.ui.size;
        let changed = size != (width, height);
        if changed {
            update::update(&mut self.model, Message::Resize(size.0, size.1));
        }
        Ok(changed)
    }

    /// Applies a message and does what it asks for; `true` to end.
    fn take(&mut self, terminal: &mut Terminal, message: Message) -> io::Result<bool> {
        // A key means what it means on the screen that its presser has.
        self.fit()?;
        update::update(&mut self.model, Message::Tick(now()));
        for command in update::update(&mut self.model, message) {
            if self.obey(terminal, command)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether something moves that is looked at often.
    fn is_busy(&self) -> bool {
        let Model { world, ui } = &self.model;
        let waits = world.requests().waiting().next().is_some();
        let approves = matches!(ui.dialog, Some(Dialog::Approve(_)));
        world.moves() || waits || ui.screen().is_live() || self.files.is_busy() || approves
    }

    /// Reads what the screen wants until it has it; `true` when something changed that can be seen.
    fn look(&mut self) -> bool {
        let before = self.model.world.now();
        let at = now();
        update::update(&mut self.model, Message::Tick(at));
        let counts = self.model.ui.screen().times_counted();
        let mut changed = seen_time(&self.model, before, at);
        // Each answer may make a screen want more; a few rounds are enough, and the next turn goes on.
        for _ in 0..6 {
            let wants = self.model.wants();
            let messages = self.files.look(&wants, at);
            if messages.is_empty() {
                break;
            }
            changed = true;
            if update::update_all(&mut self.model, messages).contains(&Command::Bell) {
                self.ring();
            }
        }
        changed || self.model.ui.screen().times_counted() != counts
    }

    fn paint(&mut self, terminal: &mut Terminal) -> io::Result<()> {
        let ScreenSize { width, height } = self.model.ui.size;
        let mut frame = Buffer::empty(Rect { x: 0, y: 0, width, height });
        let cursor = view::draw(&self.model, &mut frame);
        terminal.paint(frame, cursor)
    }

    fn ring(&mut self) {
        if self.rang.is_none_or(|rang| rang.elapsed() >= RING_EVERY) {
            self.rang = Some(Instant::now());
            // A bell that cannot be rung is not worth a word.
            let _ = Terminal::ring();
        }
    }

    /// Shows the view that a word names.
    fn open(&mut self, word: &str) -> Result<(), DashboardError> {
        if let Some(n) = views().position(|(named, _)| named.word == word) {
            let digit = char::from_digit(u32::try_from(n.saturating_add(1)).unwrap_or(1), 10).unwrap_or('1');
            let key = KeyEvent::new(KeyCode::Char(digit), KeyModifiers::NONE);
            update::update(&mut self.model, Message::Key(key));
            return Ok(());
        }
        let names: Vec<&str> = views().map(|(named, _)| named.word).collect();
        let wanted = format!("{} or a task's number", names.join(", "));
        let id = word.parse().map_err(|_| wrong("--view", word, &wanted))?;
        let Model { world, ui } = &mut self.model;
        ui.push(world, Box::new(TaskScreen::of(TaskId(id))));
        Ok(())
    }

    /// Does what a command asks for; `true` to end.
    fn obey(&mut self, terminal: &mut Terminal, command: Command) -> io::Result<bool> {
        let answer = match command {
            Command::Quit => return Ok(true),
            Command::Drop { request, drop_box, stem, bytes } => Some(self.put(request, drop_box, &stem, &bytes)),
            Command::Copy(text) => {
                Terminal::copy(&text)?;
                None
            }
            Command::Export { name, text } => Some(Message::Exported(export(Path::new(&name), &text))),
            Command::Suspend => {
                terminal.suspend()?;
                None
            }
            Command::Edit(text) => {
                let set = |name: &str| std::env::var(name).ok();
                Some(Message::Edited(terminal.lend(|| editor::edit(&text, &std::env::temp_dir(), set))?))
            }
            Command::Mouse(wanted) => {
                terminal.mouse(wanted)?;
                None
            }
            Command::Redraw => {
                terminal.forget();
                None
            }
            Command::Bell => {
                self.ring();
                None
            }
            Command::LogBack { of, from, lines, keep } => self.files.logs.back(&of, from, lines, &keep),
            Command::LogFind { of, from, needle, forward } => self.files.logs.find(&of, from, &needle, forward),
            Command::LogMove { of, from, to } => self.files.logs.other(&of, from, to),
        };
        if let Some(message) = answer {
            update::update(&mut self.model, message);
        }
        Ok(false)
    }

    /// Puts a file into a box, like everybody.
    fn put(&mut self, request: usize, drop_box: DropBox, stem: &str, bytes: &[u8]) -> Message {
        let since = now().0;
        let me = users::actor(users::current_uid());
        match drop_file::put(self.files.layout(), drop_box, &me, (&unique(stem), &unique("dashboard")), bytes) {
            Ok(put) => {
                let name = put.name.to_string();
                self.files.await_answer(request, drop_box, put, since);
                Message::Dropped(request, Ok(name))
            }
            Err(error) => Message::Dropped(request, Err(error.to_string())),
        }
    }
}

/// Whether the time that a screen shows has changed.
fn seen_time(model: &Model, before: Timestamp, at: Timestamp) -> bool {
    let second = matches!(model.ui.dialog, Some(Dialog::Approve(_))) || model.world.moves();
    let step = if second { 1_000 } else { 60_000 };
    let news = model.world.tasks().values().any(|task| {
        let age = |time: Timestamp| time.0.saturating_sub(task.since.0) < NEWS_MS;
        age(before) != age(at)
    });
    let opens = match &model.ui.dialog {
        Some(Dialog::Approve(approval)) => approval.is_shut(before) && !approval.is_shut(at),
        _ => false,
    };
    news || opens || before.0.checked_div(step) != at.0.checked_div(step)
}

/// Says of everything that came with one look at the terminal what it is.
fn messages(pace: &mut Pace, arrived: Vec<(Arrived, Duration)>) -> Vec<Message> {
    let key = |(one, at): &(Arrived, Duration)| match one {
        Arrived::Key(key) => Some((*key, *at)),
        _ => None,
    };
    let keys: Vec<(KeyEvent, Duration)> = arrived.iter().filter_map(key).collect();
    let mut bursts = pace.judge(&keys).into_iter();
    let message = |(one, _)| match one {
        Arrived::Key(key) if bursts.next().unwrap_or(true) => Some(Message::Burst(key)),
        Arrived::Key(key) => Some(Message::Key(key)),
        Arrived::Paste(text) => Some(Message::Paste(text)),
        Arrived::Mouse(mouse) => Some(Message::Mouse(mouse)),
        Arrived::Column(_) => None,
    };
    arrived.into_iter().filter_map(message).collect()
}

/// Writes a text into a new file; returns where it stands.
fn export(path: &Path, text: &str) -> Result<String, String> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let made = std::fs::OpenOptions::new().create_new(true).write(true).open(&path);
    made.and_then(|mut file| file.write_all(text.as_bytes()))
        .map(|()| path.display().to_string())
        .map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
