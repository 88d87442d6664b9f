//! What the engine is told. Floor 2.
//!
//! **Invariant:** values only; whatever stands in them came from outside.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::domain::callback::Attempt;
use crate::domain::delegate::Report;
use crate::domain::library::Library;
use crate::domain::outcome::StepResult;
use crate::domain::policy::Person;
use crate::domain::run::{DropKey, Run};
use crate::domain::token::Scope;

/// A drop box of the spool. Orders come first: a cancellation must not stand in line behind new tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropBox {
    /// `orders/`: acts on tasks.
    Orders,
    /// `new/`: tasks that wait for approval.
    New,
    /// `ready/`: tasks that wish to skip it.
    Ready,
}

impl DropBox {
    /// Returns the name of its directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropBox::Orders => "orders",
            DropBox::New => "new",
            DropBox::Ready => "ready",
        }
    }
}

/// A file that stands in a drop box, as it was read.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// Where it stands.
    pub drop_box: DropBox,
    /// Which file it is.
    pub key: DropKey,
    /// Its owner.
    pub owner: Person,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it may still be written, so that a text that ends too early is left alone.
    pub may_grow: bool,
    /// What limits it beside policy, where it came with a token.
    pub scope: Option<Scope>,
    /// Of a ref that an update hook reported: whether it stands where the hook said that it would.
    pub moved: Moved,
}

/// Whether a ref stands where a hook said that it would; git asks an update hook before it moves a ref, and may still not
/// move it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Moved {
    /// It does, or nobody reported it before.
    #[default]
    Yes,
    /// It does not.
    No,
    /// Nobody can look, for this reason.
    Unknown(String),
}

/// What the engine is told.
#[derive(Debug)]
pub enum Input {
    /// Files stood in a drop box.
    Dropped(Vec<Dropped>),
    /// A step that [`Act::RunStep`](crate::engine::Act::RunStep) began has ended.
    StepEnded {
        /// The task.
        task: TaskId,
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// How.
        result: StepResult,
    },
    /// A step that was to be ended may live on: its host could not be asked yet. Its end will come in
    /// [`Input::StepEnded`].
    KillUnconfirmed {
        /// The task.
        task: TaskId,
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// What stands in the way.
        why: String,
    },
    /// The script of an attempt said how far it is.
    Said(Attempt, String),
    /// The engine that an attempt handed its targets to said how they fare.
    Reported(Attempt, Vec<Report>),
    /// A task's file did not stand where it belongs: somebody took it away.
    ViewLost(TaskId),
    /// Configuration, templates, inventory or policy were read again; with the groups that the system knows now for
    /// [`Engine::people`](crate::engine::Engine::people).
    Reloaded(Arc<Library>, HashMap<u32, Person>),
    /// Whether the host of a step that runs can be asked how it fares, and if not, why.
    Reach(Attempt, Option<String>),
    /// Which groups the people are in now whom judgements depend on, asked before something is judged or started.
    People(HashMap<u32, Person>),
    /// They changed and cannot be read: until they can, nothing is approved and nothing starts.
    LibraryBroken(String),
    /// OpenSSH's configuration was asked about more hosts; what it said before still holds.
    Asked(Arc<Library>),
    /// What [`Stage::Fetch`](crate::engine::Stage::Fetch) of a turn asked for; `None` when it cannot be read.
    Fetched(Vec<(TaskId, Option<Box<Run>>)>),
    /// Time passed.
    Tick,
}

impl Input {
    /// Whether something may begin because of it.
    pub(super) fn may_start_something(&self) -> bool {
        let only_tells = matches!(
            self,
            Input::Said(..)
                | Input::Reach(..)
                | Input::Reported(..)
                | Input::Reloaded(..)
                | Input::Asked(_)
                | Input::People(_)
                | Input::LibraryBroken(_)
        );
        !only_tells
    }
}
