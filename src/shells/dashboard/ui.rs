//! What is on the screen: the stack of screens, the dialog and the prompt over it, and how all of it looks.
//!
//! **Invariant:** pure; knows no fact. The stack is never empty: the board is below everything else.

use crate::base::ids::TaskId;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::drafts::Drafts;
use crate::shells::dashboard::layout::ScreenSize;
use crate::shells::dashboard::look::{Look, Tone};
use crate::shells::dashboard::prompt::{Prompt, TypedCommands};
use crate::shells::dashboard::screen::{BoardScreen, Screen, ScreenEvent};
use crate::shells::dashboard::words::Lang;
use crate::shells::dashboard::world::World;

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Ui {
    pub(super) size: ScreenSize,
    pub(super) look: Look,
    pub(super) lang: Lang,
    pub(super) readonly: bool,
    pub(super) mouse: bool,
    pub(super) bell: bool,
    /// The screen below all others, and those over it.
    below: Box<dyn Screen>,
    over: Vec<Box<dyn Screen>>,
    pub(super) dialog: Option<Dialog>,
    pub(super) prompt: Option<Prompt>,
    pub(super) said: Option<(String, Tone)>,
    /// Tasks whose approvals wait for their turn.
    pub(super) queue: Vec<TaskId>,
    /// New tasks on their way.
    pub(super) drafts: Drafts,
    pub(super) typed_commands: TypedCommands,
}

impl Ui {
    pub(super) fn new(look: Look, lang: Lang, size: ScreenSize) -> Ui {
        Ui {
            size,
            look,
            lang,
            readonly: false,
            mouse: false,
            bell: true,
            below: Box::new(BoardScreen::default()),
            over: Vec::new(),
            dialog: None,
            prompt: None,
            said: None,
            queue: Vec::new(),
            drafts: Drafts::default(),
            typed_commands: TypedCommands::default(),
        }
    }

    /// What screens and dialogs are computed from.
    pub(super) fn context<'a>(&self, world: &'a World) -> Context<'a> {
        Context { world, size: self.size, words: self.look.words, readonly: self.readonly }
    }

    /// The screen that is seen.
    pub(super) fn screen(&self) -> &dyn Screen {
        self.over.last().unwrap_or(&self.below).as_ref()
    }

    pub(super) fn screen_mut(&mut self) -> &mut dyn Screen {
        self.over.last_mut().unwrap_or(&mut self.below).as_mut()
    }

    /// The name of the view that is shown, whatever was opened over it.
    pub(super) fn view(&self) -> &'static str {
        self.over.first().unwrap_or(&self.below).view()
    }

    /// Every screen of the stack.
    pub(super) fn screens_mut(&mut self) -> impl Iterator<Item = &mut dyn Screen> {
        std::iter::once(&mut self.below).chain(&mut self.over).map(AsMut::as_mut)
    }

    /// How many screens are over the one below all others.
    pub(super) fn depth(&self) -> usize {
        self.over.len()
    }

    /// Shows a screen over the one that is seen.
    pub(super) fn push(&mut self, world: &World, screen: Box<dyn Screen>) {
        let cx = self.context(world);
        self.screen_mut().on_event(cx, &ScreenEvent::Covered);
        self.over.push(screen);
    }

    /// Leaves the screen that is seen, unless it is the one below all others.
    pub(super) fn pop(&mut self) {
        self.over.pop();
    }

    /// Leaves all screens but the one below all others, and shows another one over that.
    pub(super) fn show_view(&mut self, world: &World, screen: Box<dyn Screen>) {
        self.pop_all();
        if !screen.is_like(self.below.as_ref()) {
            self.push(world, screen);
        }
    }

    /// Leaves all screens but the one below all others.
    pub(super) fn pop_all(&mut self) {
        self.over.clear();
    }

    pub(super) fn say(&mut self, text: impl Into<String>, tone: Tone) {
        self.said = Some((text.into(), tone));
    }
}
