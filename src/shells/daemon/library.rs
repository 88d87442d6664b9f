//! The configuration directory as the loop sees it: read again when it changed, complete for what is planned. Floor 4.
//!
//! **Invariant:** decides nothing. While the configuration cannot be read, what was read last stays, and the engine is told.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use tokio::time::Instant;

use crate::adapters::config::{ConfigError, Http};
use crate::adapters::sources::Sources;
use crate::adapters::spool::SpoolError;
use crate::adapters::{repo, users};
use crate::base::ids::is_token_uid;
use crate::domain::library::Library;
use crate::domain::policy::{Person, Policy};
use crate::domain::run::TaskState;
use crate::domain::wire::{Wish, read_wish};
use crate::engine::Engine;
use crate::engine::{Dropped, Input, Moved};
use crate::shells::Dirs;
use crate::shells::ask_ssh;
use crate::shells::clock::now;
use crate::shells::configuration::Configuration;
use crate::shells::configuration::read_trusted_configuration;
use crate::shells::daemon::perform::Performer;
use crate::shells::daemon::web::{Serving, Web};
use crate::shells::daemon::{fit_to_descriptors, say_notes, serving};

/// What every file of a git hook holds.
const PUSH_MARK: &[u8] = b"git_push";
/// How soon the system is asked about people again for tasks that only wait: it may be a directory far away.
const PEOPLE_EVERY: Duration = Duration::from_millis(500);

/// Whether the configuration on disk is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// When something is judged or started.
    IfNeeded,
    /// When a file of it changed.
    IfChanged,
    /// In any case.
    Now,
}

impl Look {
    /// Returns whether to look in a turn with these inputs: what is judged or started now is compared with what stands on disk
    /// now.
    pub(super) fn at<'i>(self, mut inputs: impl Iterator<Item = &'i Input>, engine: &Engine) -> Look {
        let judges = |input: &Input| matches!(input, Input::Dropped(_) | Input::Fetched(..));
        let needed = self == Look::IfNeeded && (inputs.any(judges) || engine.needs_library(now()));
        if needed { Look::IfChanged } else { self }
    }
}

/// The configuration directory, as it was read last.
pub(super) struct LibraryOnDisk<'a> {
    pub(super) dirs: &'a Dirs,
    pub(super) sources: Sources,
    pub(super) digests: String,
    /// What was read, with what OpenSSH's configuration says.
    pub(super) library: Arc<Library>,
    /// The files of host keys that it names.
    pub(super) more: Option<Sources>,
    pub(super) personal: bool,
    /// When the system was asked about people last.
    pub(super) people_asked: Option<Instant>,
    /// Answers from the same library.
    pub(super) web: Arc<Web>,
    /// Where it does.
    pub(super) http: Option<Http>,
}

impl LibraryOnDisk<'_> {
    /// Asks which groups people are in, where something is judged or started; of what only waits for its turn not all the time.
    pub(super) fn people(&mut self, look: Look, judged: bool, engine: &Engine, inputs: &[Input]) -> Option<Input> {
        let judged = judged || inputs.iter().any(|input| matches!(input, Input::Fetched(..)));
        let rests = self.people_asked.is_some_and(|at| at.elapsed() < PEOPLE_EVERY);
        if look == Look::IfNeeded || (rests && !judged) {
            return None;
        }
        self.people_asked = Some(Instant::now());
        Some(Input::People(people_of(engine, inputs)))
    }

    /// Makes an input of dropped files, if there are any; looks where the refs stand that update hooks reported.
    pub(super) fn dropped(&self, mut files: Vec<Dropped>) -> Option<Input> {
        for file in files.iter_mut().filter(|file| memmem::find(&file.bytes, PUSH_MARK).is_some()) {
            let Ok(Wish::Push(push)) = read_wish(&file.bytes, &self.library.zone) else { continue };
            if push.hook != "update" {
                continue;
            }
            let path = self.library.hooks.path_of(&push);
            file.moved = match path.map(|path| repo::points_at(&path, &push.reference)) {
                // Who posts waits for the answer, and git waits for them.
                _ if file.key.is_posted() => Moved::Unknown("it came over HTTP".to_owned()),
                Some(Ok(target)) if target.as_ref() == Some(&push.new) => Moved::Yes,
                Some(Ok(_)) => Moved::No,
                Some(Err(error)) => Moved::Unknown(error.to_string()),
                None => {
                    Moved::Unknown("its rule in hooks.toml has no path, where the repository stands here".to_owned())
                }
            };
        }
        (!files.is_empty()).then_some(Input::Dropped(files))
    }

    /// Looks whether the configuration changed, and has it complete for what is planned in this turn.
    pub(super) fn look<'i>(
        &mut self,
        look: Look,
        inputs: impl Iterator<Item = &'i Input>,
        engine: &Engine,
        performer: &mut Performer,
    ) -> Result<Option<Input>, SpoolError> {
        let wanted = match look {
            Look::IfNeeded => false,
            Look::IfChanged => self.sources.changed() || self.more.as_ref().is_some_and(Sources::changed),
            Look::Now => true,
        };
        let read = if wanted { Some(self.read(engine, performer)?) } else { None };
        Ok(self.complete(read, inputs))
    }

    /// Reads the configuration again; what runs keeps its plan.
    pub(super) fn read(&mut self, engine: &Engine, performer: &mut Performer) -> Result<Input, SpoolError> {
        let error = match read_trusted_configuration(self.dirs) {
            // An editor that replaces a file takes it away for an instant; that makes nobody an owner of everything.
            Ok(read) if !self.personal && matches!(read.config.library.policy, Policy::Personal { .. }) => {
                self.sources = read.sources;
                "policy.toml is gone".to_owned()
            }
            Ok(Configuration { mut config, sources, notes, digests }) => {
                fit_to_descriptors(&mut config);
                self.sources = sources;
                self.personal = matches!(config.library.policy, Policy::Personal { .. });
                if !self.personal {
                    performer.store_mut().note_ruled()?;
                }
                say_notes(&notes);
                performer.set_settings(&config.settings, &self.dirs.config);
                performer.set_sight(&config.library.policy, config.settings.group.is_some())?;
                self.web.serve(serving(&config));
                if self.http != config.settings.http {
                    tracing::warn!("a change of [http] in spoolgate.toml takes a restart");
                    self.http.clone_from(&config.settings.http);
                }
                if self.digests != digests {
                    tracing::info!("configuration read again: {digests}");
                    performer.audit("configuration_read", Some(digests.clone()));
                    self.digests = digests;
                }
                let people = people_of(engine, &[]);
                self.library = Arc::new(config.library);
                self.more = None;
                return Ok(Input::Reloaded(Arc::clone(&self.library), people));
            }
            Err(error) => {
                if let ConfigError::Wrong { problems, .. } = &error {
                    for problem in problems {
                        tracing::error!("{problem}");
                    }
                }
                self.sources = self.sources.again(now());
                error.to_string()
            }
        };
        tracing::error!("nothing is approved or started until the configuration can be read: {error}");
        self.web.set_broken(&error);
        Ok(Input::LibraryBroken(error))
    }

    /// Has OpenSSH's configuration asked about the hosts of tasks that are planned in this turn, and returns what the engine
    /// is to be told of the library before. When there is no answer for a task that waits, nothing goes on: it is not the
    /// task that is wrong.
    pub(super) fn complete<'i>(
        &mut self,
        read: Option<Input>,
        inputs: impl Iterator<Item = &'i Input>,
    ) -> Option<Input> {
        let Some(answers) = self.library.ssh.as_ref().filter(|_| !matches!(read, Some(Input::LibraryBroken(_)))) else {
            return read;
        };
        let (mut new, mut waiting) = (Vec::new(), Vec::new());
        inputs.for_each(|input| task_files(input, &mut new, &mut waiting));
        let waiting = ask_ssh::tasks_in(waiting.into_iter(), &self.library);
        // What nobody has answered yet may be answered now.
        let unanswered = answers.said.values().any(Result::is_err);
        if new.is_empty() && (waiting.is_empty() || !unanswered && !ask_ssh::asks(&self.library, &waiting)) {
            return read;
        }
        let mut library = (*self.library).clone();
        if let Some(answers) = &mut library.ssh {
            answers.said.retain(|_, said| said.is_ok());
        }
        let begun = now();
        let mut asked = ask_ssh::complete(&mut library, &waiting);
        let failed = library.ssh.as_ref().and_then(|ssh| ssh.said.values().find_map(|said| said.clone().err()));
        let new = ask_ssh::tasks_in(new.into_iter(), &library);
        asked |= ask_ssh::complete(&mut library, &new);
        if !asked {
            return read;
        }
        let files = library.ssh.iter().flat_map(|ssh| ssh.known_hosts.keys().map(PathBuf::from)).collect();
        self.more = Some(Sources::look(files, Vec::new(), begun));
        self.library = Arc::new(library);
        self.web.serve(Serving { library: Arc::clone(&self.library), broken: failed.clone() });
        if let Some(why) = failed {
            tracing::error!("nothing is approved or started until ssh_config says how hosts are reached: {why}");
            return Some(Input::LibraryBroken(why));
        }
        let library = Arc::clone(&self.library);
        Some(match read {
            Some(Input::Reloaded(_, people)) => Input::Reloaded(library, people),
            // What was planned stays as it is.
            _ => Input::Asked(library),
        })
    }
}

/// Adds the task files that an input may have planned: those of new tasks and of ended ones, and those of tasks that wait.
fn task_files<'i>(input: &'i Input, new: &mut Vec<&'i [u8]>, waiting: &mut Vec<&'i [u8]>) {
    match input {
        Input::Dropped(files) => new.extend(files.iter().map(|file| file.bytes.as_slice())),
        Input::Fetched(found) => {
            for run in found.iter().filter_map(|(_, run)| run.as_deref()) {
                let files = if run.state() == TaskState::Done { &mut *new } else { &mut *waiting };
                files.push(run.accepted.submission.as_bytes());
            }
        }
        _ => {}
    }
}

/// Returns the people whose rights unfinished tasks depend on, and ended ones that are looked at, with the groups that the
/// system knows.
fn people_of(engine: &Engine, inputs: &[Input]) -> HashMap<u32, Person> {
    let fetched = inputs.iter().flat_map(|input| match input {
        Input::Fetched(found) => found.as_slice(),
        _ => &[],
    });
    let fetched = fetched.filter_map(|(_, run)| run.as_deref()).flat_map(|run| {
        let voters = run.approvals.iter().map(|(_, vote)| vote.by.uid);
        voters.chain([run.accepted.by.uid]).filter(|uid| !is_token_uid(*uid))
    });
    // Whom the system does not answer for is not there: who they were last counts.
    let person = |uid: u32| users::person(uid).map(|person| (uid, person));
    engine.people().into_iter().chain(fetched).collect::<BTreeSet<u32>>().into_iter().filter_map(person).collect()
}
