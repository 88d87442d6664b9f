//! Who gets at the files of tasks: what the rules say of it, as numbers of groups. Floor 4.
//!
//! **Invariant:** decides nothing: [`Policy::readers`] does. A new task is never open for longer than it may be; those that are
//! there follow a change of the rules within seconds, the newest first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{Gid, getegid, geteuid, getgroups};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::gates::{self, Gate, Gates};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::reader;
use crate::adapters::users;
use crate::base::ids::{Actor, HostName, TaskId};
use crate::domain::plan::Plan;
use crate::domain::policy::{Policy, Readers};
use crate::domain::run::Accepted;

/// Sets the gates of tasks as the rules say.
pub(super) struct Sight {
    layout: Layout,
    rules: Option<Rules>,
    /// What is followed, as it is remembered.
    mark: Option<String>,
    /// Whether anything is followed yet.
    begun: bool,
    /// Which rules count, by their number: gates are set under this lock, so that older ones set none any more.
    newest: Arc<Mutex<u64>>,
}

/// Rules that say who sees what, and the groups that the system knows of those they name.
#[derive(Clone)]
struct Rules {
    policy: Policy,
    groups: BTreeMap<String, u32>,
    /// The group of the whole state.
    all: u32,
}

impl Rules {
    fn gates(&self, accepted: &Accepted, plan: &Plan) -> Gates {
        let reading = self.policy.readers(&groups_of(&accepted.by), &accepted.subject(plan, &self.policy));
        let gate = |readers: &Readers| match readers {
            Readers::Everybody => Gate::Group(self.all),
            Readers::Group(name) => self.groups.get(name).map_or(Gate::Closed, |group| Gate::Group(*group)),
            Readers::Nobody => Gate::Closed,
        };
        Gates { task: gate(&reading.task), output: gate(&reading.output) }
    }
}

/// Returns the groups of a task's submitter; a token is in none.
pub(super) fn groups_of(submitter: &Actor) -> BTreeSet<String> {
    if submitter.is_token() { BTreeSet::new() } else { users::groups(submitter.uid) }
}

impl Sight {
    pub(super) fn new(layout: Layout) -> Sight {
        Sight { layout, rules: None, mark: None, begun: false, newest: Arc::default() }
    }

    /// Whether rules say who sees what, and others can look at the state at all.
    pub(super) fn is_limited(&self) -> bool {
        self.rules.is_some()
    }

    /// Follows these rules from now on. `shared` is whether the state has a group: without one nobody else gets at anything.
    pub(super) fn follow(&mut self, policy: &Policy, shared: bool) -> Result<(), SpoolError> {
        let all = gates::group_of_all(&self.layout)?;
        let names = policy.groups_that_see().into_iter().map(str::to_owned);
        let found: BTreeMap<String, Option<u32>> = names.map(|name| (name.clone(), users::gid_of(&name))).collect();
        let mark = policy.digest_of_sight().filter(|_| shared).map(|digest| format!("{digest} {found:?} {all}\n"));
        if std::mem::replace(&mut self.begun, true) && mark == self.mark {
            return Ok(());
        }
        self.mark.clone_from(&mark);
        let own: BTreeSet<u32> =
            getgroups().unwrap_or_default().into_iter().chain([getegid()]).map(Gid::as_raw).collect();
        for (name, group) in found.iter().filter(|_| mark.is_some()) {
            let why = match group {
                None => "this system does not have it",
                Some(group) if !geteuid().is_root() && !own.contains(group) => {
                    "the daemon's user is not in it; add it to the group and start the daemon again"
                }
                Some(_) => continue,
            };
            tracing::warn!("the files of tasks cannot be given to the group {name} that policy.toml names: {why}");
        }
        let groups = found.into_iter().filter_map(|(name, group)| Some((name, group?))).collect();
        if mark.is_some() {
            gates::close_staging(&self.layout)?;
        }
        let known = mark == gates::remembered(&self.layout);
        self.rules = mark.as_ref().map(|_| Rules { policy: policy.clone(), groups, all });
        let number = {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            *newest = newest.saturating_add(1);
            *newest
        };
        if !known {
            // Whatever becomes of this, the next start knows that not every gate follows the same rules.
            gates::remember(&self.layout, Some("changing\n"))?;
            let sweep = Sweep {
                layout: self.layout.clone(),
                rules: self.rules.clone(),
                all,
                newest: Arc::clone(&self.newest),
                number,
            };
            std::thread::Builder::new().name("gates".to_owned()).spawn(move || sweep.run(mark.as_deref())).map_err(
                |source| SpoolError::Io { act: "begin to set the modes in", path: self.layout.runs(), source },
            )?;
        }
        Ok(())
    }

    /// Returns the gates of a new task; `None` where no rule says who sees what.
    pub(super) fn gates(&self, accepted: &Accepted, plan: &Plan) -> Option<Gates> {
        self.rules.as_ref().map(|rules| rules.gates(accepted, plan))
    }

    /// Sets the gates of a task anew, since it has another plan or prints again.
    pub(super) fn set_again(&self, id: TaskId) -> Result<(), SpoolError> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let gates = reader::beginning(&self.layout, id).map_or(SHUT, |(accepted, plan)| rules.gates(&accepted, &plan));
        gates::set(&self.layout, id, gates).map(drop)
    }

    /// Makes the directory of a host's logs behind the gates.
    pub(super) fn make_host(&self, id: TaskId, host: &HostName) {
        if self.is_limited()
            && let Err(error) = gates::make_host(&self.layout, id, host)
        {
            // Whoever writes there makes it, and says what is wrong.
            tracing::warn!("{error}");
        }
    }
}

const SHUT: Gates = Gates { task: Gate::Closed, output: Gate::Closed };

/// Sets the gates of every task that is there.
struct Sweep {
    layout: Layout,
    rules: Option<Rules>,
    all: u32,
    newest: Arc<Mutex<u64>>,
    number: u64,
}

impl Sweep {
    fn run(self, mark: Option<&str>) {
        match self.set_all() {
            Ok(Some((tasks, 0))) => {
                let done = self.if_newest(|| gates::remember(&self.layout, mark));
                match done {
                    Some(Ok(())) => tracing::info!(tasks, "the files of tasks are as open as policy.toml says"),
                    Some(Err(error)) => tracing::warn!("{error}; the next start sets the modes again"),
                    None => {}
                }
            }
            Ok(Some((tasks, closed))) => tracing::warn!(
                tasks,
                closed,
                "the files of some tasks stay closed: the system does not let the daemon give them to a group that policy.toml names"
            ),
            Ok(None) => {}
            Err(error) => {
                tracing::error!("{error}; the files of older tasks may be open as before: start the daemon again");
            }
        }
    }

    /// Returns how many tasks there are, and how many of them stay closed; `None` when newer rules count.
    fn set_all(&self) -> Result<Option<(usize, usize)>, SpoolError> {
        let (mut tasks, mut closed) = (0_usize, 0_usize);
        for id in reader::task_ids(&self.layout)?.into_iter().rev() {
            let gates = match &self.rules {
                None => Gates { task: Gate::Group(self.all), output: Gate::Group(self.all) },
                // What nobody can read is for nobody.
                Some(rules) => {
                    reader::beginning(&self.layout, id).map_or(SHUT, |(accepted, plan)| rules.gates(&accepted, &plan))
                }
            };
            let Some(given) = self.if_newest(|| gates::set(&self.layout, id, gates)) else { return Ok(None) };
            tasks = tasks.saturating_add(1);
            closed = closed.saturating_add(usize::from(!given?));
        }
        Ok(Some((tasks, closed)))
    }

    fn if_newest<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        (*newest == self.number).then(act)
    }
}
