//! The daemon: watches, asks the engine, performs what it says. Floor 4.
//!
//! **Invariant:** decides nothing. Every fact goes to [`Engine::handle`] as a value and every effect is performed
//! in order; a durable effect that fails ends the daemon, because a restart repairs and guessing does not.

mod carry;
mod host;
mod link;
mod log_sync;
mod perform;
mod progress;
mod reported;
mod spool_inbox;
mod talk;
mod web;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memchr::memmem;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::adapters::callback_key;
use crate::adapters::config::{Config, ConfigError, Http};
use crate::adapters::http::{HttpError, Listen, Server};
use crate::adapters::repo;
use crate::adapters::service;
use crate::adapters::sources::Sources;
use crate::adapters::spool::SpoolError;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::Store;
use crate::adapters::ssh::descriptors;
use crate::adapters::tokens::TokensOnDisk;
use crate::adapters::users;
use crate::adapters::watch::{Notice, SpoolWatch};
use crate::base::digest::Digest;
use crate::base::ids::is_token_uid;
use crate::base::limits;
use crate::domain::callback::{Attempt, CallbackKey};
use crate::domain::plan::Library;
use crate::domain::policy::{Person, Policy};
use crate::domain::run::{DropKey, Event, Recorded};
use crate::domain::wire::{Wish, read_wish};
use crate::engine::{DropBox, Dropped, Effect, Engine, Input, Moved};
use crate::shells::ask_ssh;
use crate::shells::clock::{moment, now, unique};
use crate::shells::{Configuration, Dirs, read_configuration};

use link::LinkSettings;
use perform::Performer;
use spool_inbox::SpoolInbox;
use web::{Post, Posted, Serving, Web};

/// How many facts are taken in before their effects are performed together, which costs one sync for all of them.
const INPUTS_PER_TURN: usize = 512;
/// How long the daemon sleeps at most: a clock that was set is noticed within this time.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// What every file of a git hook holds.
const PUSH_MARK: &[u8] = b"git_push";
/// How long threads that wait for others may hold up the end.
const THREADS_LIMIT: Duration = Duration::from_secs(2);
/// How long a start waits for orders that may still be written.
const HEAR_ORDERS: Duration = Duration::from_secs(3);
/// How soon the system is asked about people again for tasks that only wait: it may be a directory far away.
const PEOPLE_EVERY: Duration = Duration::from_millis(500);

/// Why the daemon did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The spool could not be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The runtime could not be set up.
    #[error("cannot set up the event loop: {0}")]
    Runtime(#[from] std::io::Error),
    /// HTTP is configured and cannot be answered.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The configuration names a group that the system does not have.
    #[error("spoolgate.toml names the group {0}, which this system does not have; create it or name another")]
    NoGroup(String),
    /// Without its policy everything would be allowed to the owner of the state.
    #[error("policy.toml is missing, and this state was under a policy; put it back, or remove {mark} to go on in personal mode", mark = mark.display())]
    PolicyGone {
        /// What remembers the policy.
        mark: std::path::PathBuf,
    },
}

/// Runs the daemon until it is told to stop (TERM or INT).
///
/// # Errors
/// When it cannot start, or when a durable write failed: then it must not go on.
pub fn run(dirs: &Dirs) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(serve(dirs));
    // A name server or an agent that does not answer holds nobody up who wants to stop.
    runtime.shutdown_timeout(THREADS_LIMIT);
    ended
}

async fn serve(dirs: &Dirs) -> Result<(), DaemonError> {
    raise_file_limit();
    let Configuration { mut config, sources, notes, digests } = read_configuration(dirs)?;
    say_notes(&notes);
    fit_to_descriptors(&mut config);
    let group = match &config.settings.group {
        Some(name) => Some(users::gid_of(name).ok_or_else(|| DaemonError::NoGroup(name.clone()))?),
        None => None,
    };
    let layout = Layout::new(dirs.state.clone());
    layout.create(group, config.settings.network_spool)?;
    let mut store = Store::open(layout.clone())?;
    let personal = matches!(config.library.policy, Policy::Personal { .. });
    if personal && store.is_ruled() {
        return Err(DaemonError::PolicyGone { mark: layout.ruled() });
    }
    if !personal {
        store.note_ruled()?;
    }
    let boxes = [DropBox::New, DropBox::Ready, DropBox::Orders].map(|drop_box| (drop_box, layout.drop_box(drop_box)));
    let watch = SpoolWatch::start(&boxes);
    let (mut engine, repairs, broken) = perform::recover(&mut store, Arc::new(config.library.clone()), moment())?;
    let (ended_sender, ended) = mpsc::unbounded_channel();
    let key = callback_key::read_or_make(&layout.callback_key())?;
    let mut settings = LinkSettings::of(&config.settings, &dirs.config);
    settings.secrets = settings.secrets.sealed_with(key.clone());
    let mut performer = Performer::new(layout.clone(), store, settings, ended_sender);
    performer.set_syslog(config.settings.audit_syslog.clone());
    performer.audit("daemon_started", Some(format!("version {}", env!("CARGO_PKG_VERSION"))));
    performer.audit("configuration_read", Some(digests.clone()));
    for (id, why) in broken {
        tracing::error!(task = %id, "the task is left alone: {why}");
        performer.audit("left_alone", Some(format!("task {id}: {why}")));
    }
    performer.perform(repairs, false)?;
    performer.note_seen();
    if personal {
        tracing::warn!("personal mode: there is no policy.toml, so the owner of the state may do everything");
    }
    let key = config.settings.http.as_ref().map(|_| key);
    let (web, posts) = Web::new(layout.clone(), TokensOnDisk::new(dirs.config.clone()), key.clone(), serving(&config));
    performer.set_callback(callback(&config, key.as_ref()));
    let server = listen(&config, group, &web).await?;
    let inbox = SpoolInbox::new(layout, personal)?;
    let (library, more) = (Arc::new(config.library), None);
    let http = config.settings.http;
    let library = LibraryOnDisk { dirs, sources, digests, library, more, personal, people_asked: None, web, http };
    tracing::info!(pid = std::process::id(), state = %dirs.state.display(), "ready");
    service::ready();
    let ended = turn(library, &mut engine, &mut performer, Ears { inbox, watch, ended, posts }).await;
    if let Some(server) = server {
        server.finish().await;
    }
    ended
}

/// Listens for HTTP where the configuration says so.
async fn listen(config: &Config, group: Option<u32>, web: &Arc<Web>) -> Result<Option<Server>, HttpError> {
    let Some(http) = &config.settings.http else { return Ok(None) };
    let listen = Listen {
        addresses: http.listen.clone(),
        socket: http.socket.clone().map(|path| (path, group)),
        tls: http.tls.clone(),
        connections: http.connections,
        connections_per_peer: http.connections_per_peer,
    };
    let server = Server::start(listen, Arc::clone(web)).await?;
    for address in &server.addresses {
        tracing::info!(%address, tls = http.tls.is_some(), "HTTP");
    }
    Ok(Some(server))
}

/// Returns where scripts may say how far they are.
fn callback(config: &Config, key: Option<&CallbackKey>) -> Option<(String, CallbackKey)> {
    config.settings.http.as_ref()?.callback.clone().zip(key.cloned())
}

/// Returns what HTTP requests are answered from.
fn serving(config: &Config) -> Serving {
    Serving { library: Arc::new(config.library.clone()), broken: None }
}

/// Everything that the loop listens to.
struct Ears {
    inbox: SpoolInbox,
    watch: SpoolWatch,
    ended: mpsc::UnboundedReceiver<Input>,
    posts: mpsc::Receiver<Post>,
}

/// Tells the engine what a script says, and the script whether that was taken.
fn take_word(
    engine: &mut Engine,
    performer: &Performer,
    attempt: Attempt,
    text: &str,
    reply: oneshot::Sender<bool>,
) -> Vec<Effect> {
    let effects = engine.handle(moment(), Input::Said(attempt, performer.masker().text(text)));
    // The script may have gone.
    let _ = reply.send(!effects.is_empty());
    effects
}

/// Makes a post what a dropped file is: where it came from, and what it says.
fn dropped(post: Posted, performer: &mut Performer) -> Dropped {
    static POSTS: AtomicU64 = AtomicU64::new(0);
    let number = POSTS.fetch_add(1, Ordering::Relaxed);
    let key = DropKey {
        name: format!("{}-{number}.json", unique("http")),
        uid: post.actor.uid,
        dev: 0,
        ino: number,
        // No file has this time: nothing is ever taken for the same post.
        born_ns: "0".to_owned(),
        mtime_ns: (i128::from(now().0) * 1_000_000).to_string(),
        digest: Digest::of(&post.bytes),
    };
    performer.await_answer(key.clone(), post.reply);
    let owner = Person { actor: post.actor, groups: BTreeSet::new() };
    Dropped {
        drop_box: post.drop_box,
        key,
        owner,
        bytes: post.bytes,
        may_grow: false,
        scope: Some(post.scope),
        moved: Moved::Yes,
    }
}

/// The loop. Everything that can happen to the daemon is one arm.
async fn turn(
    mut library: LibraryOnDisk<'_>,
    engine: &mut Engine,
    performer: &mut Performer,
    ears: Ears,
) -> Result<(), DaemonError> {
    let Ears { mut inbox, mut watch, mut ended, mut posts } = ears;
    let every = Duration::from_secs(limits::RESCAN_S);
    let mut rescan = interval_at(Instant::now(), every);
    rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let mut pulse = Pulse { every: service::watchdog(), told: Instant::now() };
    // What was to start while no daemon ran starts after the orders were heard that came meanwhile.
    let mut waited = vec![Input::Tick];
    // And the engine does not know yet which groups the people of the tasks it found are in.
    let mut look = Look::Now;
    let (begun, mut files, mut hearing) = (Instant::now(), Vec::new(), false);
    let (mut come, mut said) = (Vec::new(), Vec::new());
    loop {
        let mut inputs = std::mem::take(&mut waited);
        tokio::select! {
            notice = watch.next() => inbox.note(notice),
            input = ended.recv() => inputs.extend(input),
            Some(post) = posts.recv() => come.push(post),
            () = sleep(rest(engine.rest_ms(moment())).min(pulse.rest())), if !hearing => inputs.push(Input::Tick),
            () = sleep(inbox.look_again_in()) => {}
            _ = rescan.tick() => {
                performer.sweep(inbox.writers())?;
                inbox.note(Notice::Rescan);
                look = if engine.library_is_broken() { Look::Now } else { Look::IfChanged };
            }
            _ = hangup.recv() => look = Look::Now,
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
        std::iter::from_fn(|| watch.try_next()).for_each(|notice| inbox.note(notice));
        let room = INPUTS_PER_TURN.saturating_sub(inputs.len());
        inputs.extend(std::iter::from_fn(|| ended.try_recv().ok()).take(room));
        let room = INPUTS_PER_TURN.saturating_sub(come.len());
        come.extend(std::iter::from_fn(|| posts.try_recv().ok()).take(room));
        for post in come.drain(..) {
            match post {
                Post::Dropped(post) => files.push(dropped(post, performer)),
                Post::Said(attempt, text, reply) => said.extend(take_word(engine, performer, attempt, &text, reply)),
            }
        }
        if let Some(Input::Dropped(found)) = inbox.look(performer.store_mut(), now())? {
            files.extend(found);
        }
        // An order that was dropped a moment before the start is heard before anything starts, too.
        hearing = begun.elapsed() < HEAR_ORDERS && inbox.order_waits();
        if hearing {
            waited = inputs;
            continue;
        }
        let new = library.dropped(std::mem::take(&mut files));
        look = look.at(new.iter().chain(&inputs), engine);
        // Who left a group since is not in it any more, whether a file of the configuration changed or not.
        let people = library.people(look, new.is_some(), engine, &inputs);
        let read = library.look(look, new.iter().chain(&inputs), engine, performer)?;
        // People come first: nothing starts that somebody has just stopped.
        let then = read.is_some().then_some(Input::Tick);
        let mut effects = std::mem::take(&mut said);
        for input in read.into_iter().chain(people).chain(new).chain(inputs).chain(then) {
            effects.extend(engine.handle(moment(), input));
        }
        look = Look::IfNeeded;
        inbox.set_personal(library.personal);
        performer.perform(effects, !posts.is_empty())?;
        performer.take_again().into_iter().for_each(|(drop_box, name)| inbox.look_again(drop_box, name));
        pulse.turned(engine, &library.web);
    }
    service::stopping();
    tracing::info!(hosts_in_flight = engine.hosts_in_flight(), "stopping");
    performer.audit("daemon_stopped", None);
    performer.sweep(inbox.writers())?;
    Ok(performer.perform(Vec::new(), false)?)
}

/// What tells others that the loop turns.
struct Pulse {
    /// How often the service manager wants to hear of it.
    every: Option<Duration>,
    told: Instant,
}

impl Pulse {
    /// Returns how long the loop may rest: whoever watches is told in time, whatever there is to do.
    fn rest(&self) -> Duration {
        self.every.map_or(SLEEP_MAX, |every| SLEEP_MAX.min(every / 3))
    }

    fn turned(&mut self, engine: &Engine, web: &Web) {
        let (unfinished, hosts) = (engine.unfinished(), engine.hosts_in_flight());
        web.turned(unfinished, hosts);
        if self.every.is_some_and(|every| self.told.elapsed() >= every / 4) {
            service::alive(unfinished, hosts);
            self.told = Instant::now();
        }
    }
}

/// Returns how long to sleep when the engine wants to be asked in `ms`.
fn rest(ms: Option<i64>) -> Duration {
    Duration::from_millis(u64::try_from(ms.unwrap_or(i64::MAX)).unwrap_or(0)).min(SLEEP_MAX)
}

/// Whether the configuration on disk is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
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
    fn at<'i>(self, mut inputs: impl Iterator<Item = &'i Input>, engine: &Engine) -> Look {
        let judges = |input: &Input| matches!(input, Input::Dropped(_) | Input::Fetched(..));
        let needed = self == Look::IfNeeded && (inputs.any(judges) || engine.needs_library(now()));
        if needed { Look::IfChanged } else { self }
    }
}

/// The configuration directory, as it was read last.
struct LibraryOnDisk<'a> {
    dirs: &'a Dirs,
    sources: Sources,
    digests: String,
    /// What was read, with what OpenSSH's configuration says.
    library: Arc<Library>,
    /// The files of host keys that it names.
    more: Option<Sources>,
    personal: bool,
    /// When the system was asked about people last.
    people_asked: Option<Instant>,
    /// Answers from the same library.
    web: Arc<Web>,
    /// Where it does.
    http: Option<Http>,
}

impl LibraryOnDisk<'_> {
    /// Asks which groups people are in, where something is judged or started; of what only waits for its turn not all the time.
    fn people(&mut self, look: Look, judged: bool, engine: &Engine, inputs: &[Input]) -> Option<Input> {
        let judged = judged || inputs.iter().any(|input| matches!(input, Input::Fetched(..)));
        let rests = self.people_asked.is_some_and(|at| at.elapsed() < PEOPLE_EVERY);
        if look == Look::IfNeeded || (rests && !judged) {
            return None;
        }
        self.people_asked = Some(Instant::now());
        Some(Input::People(people_of(engine, inputs)))
    }

    /// Makes an input of dropped files, if there are any; looks where the refs stand that update hooks reported.
    fn dropped(&self, mut files: Vec<Dropped>) -> Option<Input> {
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
    fn look<'i>(
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
        Ok(self.complete(read, inputs, engine))
    }

    /// Reads the configuration again; what runs keeps its plan.
    fn read(&mut self, engine: &Engine, performer: &mut Performer) -> Result<Input, SpoolError> {
        let error = match read_configuration(self.dirs) {
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
                performer.set_link_settings(&LinkSettings::of(&config.settings, &self.dirs.config));
                performer.set_syslog(config.settings.audit_syslog.clone());
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
    fn complete<'i>(
        &mut self,
        read: Option<Input>,
        inputs: impl Iterator<Item = &'i Input>,
        engine: &Engine,
    ) -> Option<Input> {
        if self.library.ssh.is_none() || matches!(read, Some(Input::LibraryBroken(_))) {
            return read;
        }
        let new: Vec<&[u8]> = inputs.flat_map(task_files).collect();
        if read.is_none() && new.is_empty() {
            return read;
        }
        let mut library = (*self.library).clone();
        if let Some(answers) = &mut library.ssh {
            answers.said.retain(|_, said| said.is_ok());
        }
        let waiting = engine.runs().map(|run| run.accepted.submission.as_bytes());
        let waiting = ask_ssh::tasks_in(waiting.filter(|_| read.is_some()), &library);
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
        let people = match read {
            Some(Input::Reloaded(_, people)) => people,
            _ => people_of(engine, &[]),
        };
        Some(Input::Reloaded(Arc::clone(&self.library), people))
    }
}

/// Returns the task files that an input may have planned.
fn task_files(input: &Input) -> Vec<&[u8]> {
    match input {
        Input::Dropped(files) => files.iter().map(|file| file.bytes.as_slice()).collect(),
        Input::Fetched(_, Some(found)) => {
            let accepted = found.events.iter().find_map(|recorded| match &recorded.event {
                Event::Accepted(accepted) => Some(accepted.submission.as_bytes()),
                _ => None,
            });
            accepted.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the people whose rights unfinished tasks depend on, and ended ones that are looked at, with the groups that the
/// system knows.
fn people_of(engine: &Engine, inputs: &[Input]) -> HashMap<u32, Person> {
    let fetched = inputs.iter().filter_map(|input| match input {
        Input::Fetched(_, found) => found.as_ref(),
        _ => None,
    });
    let of_event = |recorded: &Recorded| match &recorded.event {
        Event::Accepted(accepted) => Some(accepted.by.uid),
        Event::Approved { approval, .. } => Some(approval.by.uid),
        _ => None,
    };
    let fetched = fetched.flat_map(|found| found.events.iter().filter_map(of_event)).filter(|uid| !is_token_uid(*uid));
    // Whom the system does not answer for is not there: who they were last counts.
    let person = |uid: u32| users::person(uid).map(|person| (uid, person));
    engine.people().into_iter().chain(fetched).filter_map(person).collect()
}

fn say_notes(notes: &[String]) {
    for note in notes {
        tracing::warn!("{note}");
    }
}

/// Lets as many hosts be at work at once as this process may open ways to; the others wait for their turn.
fn fit_to_descriptors(config: &mut Config) {
    let (wanted, most) = (&mut config.library.defaults.hosts_in_flight, descriptors::ways());
    if *wanted > most {
        tracing::warn!(
            "this process may open too few files for {wanted} hosts at once: {most} (LimitNOFILE in its unit)"
        );
        *wanted = most;
    }
}

/// Allows as many open files as the system lets this process have: one connection is one of them.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}
