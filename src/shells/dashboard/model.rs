//! What is known and what is on the screen, together.
//!
//! **Invariant:** pure. Everything here came by a message; what a screen shows is computed from it when it is painted, and
//! only for the rows that are seen.

use crate::base::time::{Timestamp, Zone};
use crate::domain::policy::Person;
use crate::domain::run::TaskState;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::layout::ScreenSize;
use crate::shells::dashboard::look::Look;
use crate::shells::dashboard::message::Wants;
use crate::shells::dashboard::requests::Answer;
use crate::shells::dashboard::screen::{Screen, ScreenEvent, Targets};
use crate::shells::dashboard::ui::Ui;
use crate::shells::dashboard::words::Lang;
use crate::shells::dashboard::world::World;

/// How many running tasks are followed though no screen shows them.
const FOLLOWED_MAX: usize = 64;

/// The facts, and what is shown of them.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) world: World,
    pub(super) ui: Ui,
}

impl Model {
    pub(super) fn new(me: Person, zone: Zone, look: Look, lang: Lang, now: Timestamp, size: (u16, u16)) -> Model {
        Model { world: World::new(me, zone, now), ui: Ui::new(look, lang, ScreenSize::new(size.0, size.1)) }
    }

    /// What screens and dialogs are computed from.
    pub(super) fn context(&self) -> Context<'_> {
        self.ui.context(&self.world)
    }

    /// What acts are about on the screen that is seen.
    pub(super) fn targets(&self) -> Targets {
        self.ui.screen().targets(self.context())
    }

    /// Does something on the screen that is seen.
    pub(super) fn on_screen<R>(&mut self, what: impl FnOnce(&mut dyn Screen, Context<'_>) -> R) -> R {
        let cx = self.ui.context(&self.world);
        what(self.ui.screen_mut(), cx)
    }

    /// Tells every screen what happened.
    pub(super) fn notify_screens(&mut self, news: &ScreenEvent<'_>) {
        let cx = self.ui.context(&self.world);
        self.ui.screens_mut().for_each(|screen| screen.on_event(cx, news));
    }

    /// What the screens that are seen need to know.
    pub(super) fn wants(&self) -> Wants {
        let (world, mut wants) = (&self.world, Wants::default());
        let running = world.tasks().values().filter(|task| task.state == TaskState::Running).map(|task| task.view.id);
        wants.follow.extend(running.take(FOLLOWED_MAX));
        self.ui.screen().wants(self.context(), &mut wants);
        if let Some(dialog) = &self.ui.dialog {
            wants.follow.extend(dialog.tasks());
            if let Dialog::Approve(approval) = dialog {
                let work = world.run(approval.id).map(|run| run.plan.work_name().to_owned());
                wants.previous = work.filter(|work| work != "script").map(|work| (approval.id, work));
            }
        }
        let answered =
            world.requests().numbered().filter(|(_, one)| !matches!(one.answer, Answer::Writing | Answer::Waits(_)));
        wants.answered = answered.map(|(number, _)| number).collect();
        wants.follow.extend(world.requests().waiting().filter_map(|request| request.task));
        wants
    }
}
