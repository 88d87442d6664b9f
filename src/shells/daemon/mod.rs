//! The daemon: watches, asks the engine, performs what it says. Floor 4.
//!
//! **Invariant:** decides nothing. Every fact goes to [`Engine::handle`] as a value and every effect is performed
//! in order. After a durable effect that failed nothing is guessed: for want of room the daemon waits and begins again from
//! what stands on the disk, for any other reason it ends.

mod at_limits;
mod carry;
mod error;
mod host;
mod lack;
mod library;
mod link;
mod log_sync;
mod observers;
mod perform;
mod progress;
mod reported;
mod runner_client;
mod settings;
mod sight;
mod spool_inbox;
mod stop;
mod sweeper;
mod watched;
mod web;
mod written;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::adapters::config::Config;
use crate::adapters::http::{HttpError, Listen, Server};
use crate::adapters::spool::SpoolError;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::lock::Lock;
use crate::adapters::spool::store::Store;
use crate::adapters::ssh::Workers;
use crate::adapters::tokens::TokensOnDisk;
use crate::adapters::watch::{Notice, SpoolWatch};
use crate::adapters::{callback_key, service, strict_modes, users};
use crate::base::digest::Digest;
use crate::base::limits;
use crate::domain::callback::{Attempt, CallbackKey};
use crate::domain::policy::{Person, Policy};
use crate::domain::problem::Problem;
use crate::domain::run::DropKey;
use crate::engine::Engine;
use crate::engine::Turn;
use crate::engine::{DropBox, Dropped, Input, Moved};
use crate::shells::Dirs;
use crate::shells::clock::{moment, now, unique};
use crate::shells::configuration::Configuration;
use crate::shells::configuration::read_trusted_configuration;

use at_limits::AtLimits;
pub use error::DaemonError;
use lack::{Kept, KeptHttp, Waited};
use library::{LibraryOnDisk, Look};
use link::LinkSettings;
use observers::Observers;
use perform::Performer;
use settings::{callback, fit_to_descriptors, group_of, names, say_notes, serving};
use spool_inbox::SpoolInbox;
use stop::Stop;
use sweeper::Sweeper;
use web::{Post, Posted, Web};

/// How many facts are taken in before their effects are performed together, which costs one sync for all of them.
const INPUTS_PER_TURN: usize = 512;
/// How long the daemon sleeps at most: a clock that was set is noticed within this time.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// How long a start waits for orders that may still be written.
const HEAR_ORDERS: Duration = Duration::from_secs(3);
/// How long requests that are being answered are waited for at the end.
const HTTP_GRACE: Duration = Duration::from_secs(2);

/// Runs the daemon until it is told to stop (TERM or INT).
///
/// # Errors
/// When it cannot start, or when a durable write failed for another reason than want of room: then it must not go on.
pub fn run(dirs: &Dirs) -> Result<(), DaemonError> {
    let dirs = dirs.clone();
    stop::until_told(move |stop| serve(dirs, stop))
}

/// Serves, and waits where room is lacking, until the end.
async fn serve(dirs: Dirs, mut stop: Stop) -> Result<(), DaemonError> {
    raise_file_limit();
    let (layout, mut kept) = (Layout::new(dirs.state.clone()), Kept::default());
    let ended = loop {
        let began = Instant::now();
        let Err(error) = serve_once(&dirs, &layout, &mut kept, &mut stop).await else { break Ok(()) };
        // Whatever failed, this is why.
        if let Some(Err(replaced)) = kept.lock.as_ref().map(|lock| lock.check()) {
            break Err(replaced.into());
        }
        match kept.wait(error, began, &layout, &mut stop).await {
            Ok(Waited::GoOn) => {}
            Ok(Waited::Stop) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if let Some(server) = kept.http.and_then(|http| http.server) {
        // Who is still answered then, asks again.
        let _ = timeout(HTTP_GRACE, server.finish()).await;
    }
    ended
}

/// Begins from what stands on the disk, and goes on until the daemon is to stop or something fails.
async fn serve_once(dirs: &Dirs, layout: &Layout, kept: &mut Kept, stop: &mut Stop) -> Result<(), DaemonError> {
    let Configuration { mut config, sources, notes, digests } = read_trusted_configuration(dirs)?;
    say_notes(&notes);
    fit_to_descriptors(&mut config);
    let group = group_of(&config)?;
    check_above(&dirs.state)?;
    layout.create(group, config.settings.network_spool)?;
    let again = kept.lock.is_some();
    let lock = match &kept.lock {
        Some(lock) => Arc::clone(lock),
        None => Arc::clone(kept.lock.insert(Arc::new(Lock::take(layout)?))),
    };
    let mut store = Store::with(layout.clone(), lock)?;
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
    let mut settings = LinkSettings::of(&config.settings, &dirs.config, Workers::of_this_program(layout.ssh()));
    settings.secrets = settings.secrets.sealed_with(key.clone());
    let observers = Observers::start(layout, &config.settings, store.audit_head().seq);
    let mut performer = Performer::new(
        layout.clone(),
        store,
        settings,
        ended_sender,
        (Sweeper::new(layout.clone(), layout.is_remote()?), observers),
    );
    performer.set_sight(&config.library.policy, group.is_some())?;
    let act = if again { "daemon_went_on" } else { "daemon_started" };
    performer.audit(act, Some(format!("version {}", env!("CARGO_PKG_VERSION"))));
    performer.audit("configuration_read", Some(digests.clone()));
    for (id, why) in broken {
        tracing::error!(task = %id, "the task is left alone: {why}");
        performer.audit("left_alone", Some(format!("task {id}: {why}")));
    }
    if personal {
        tracing::warn!("personal mode: there is no policy.toml, so the owner of the state may do everything");
    }
    let key = config.settings.http.as_ref().map(|_| key);
    performer.set_callback(callback(&config, key.as_ref()));
    let ended = async {
        performer.perform(repairs, false)?;
        performer.note_seen();
        if kept.http.is_none() {
            kept.http = Some(answer_http(dirs, layout, key, &config, group).await?);
        }
        let Some(KeptHttp { web, posts, .. }) = &mut kept.http else { return Ok(()) };
        web.serve(serving(&config));
        let (web, http) = (Arc::clone(web), config.settings.http);
        let (library, more, people_asked) = (Arc::new(config.library), None, None);
        let library = LibraryOnDisk { dirs, sources, digests, library, more, personal, people_asked, web, http };
        tracing::info!(pid = std::process::id(), state = %dirs.state.display(), "ready");
        service::ready();
        let inbox = SpoolInbox::new(layout.clone(), Arc::clone(&library.library))?;
        turn(library, &mut engine, &mut performer, Sources { inbox, watch, ended, posts, stop }).await
    };
    let ended = ended.await;
    if ended.is_err() {
        performer.let_go().await;
    }
    ended
}

/// Checks that nobody else can put another state in the place of ours, or a link into it while it is made.
fn check_above(state: &Path) -> Result<(), DaemonError> {
    let above = std::path::absolute(state)?.parent().map(Path::to_owned);
    let weak = above.into_iter().flat_map(|above| strict_modes::weaknesses_above(&above, users::current_uid())).next();
    match weak {
        Some(Problem { pointer, found, wanted, .. }) => {
            let why = format!("{found}; wanted {wanted}, or another --state");
            Err(SpoolError::Unsuitable { path: pointer.into(), why }.into())
        }
        None => Ok(()),
    }
}

/// Makes what answers HTTP, and listens where the configuration says so.
async fn answer_http(
    dirs: &Dirs,
    layout: &Layout,
    key: Option<CallbackKey>,
    config: &Config,
    group: Option<u32>,
) -> Result<KeptHttp, HttpError> {
    let tokens = TokensOnDisk::new(dirs.config.clone());
    let (web, posts) = Web::new(layout.clone(), tokens, key, serving(config), names(config));
    let server = listen(config, group, &web).await?;
    Ok(KeptHttp { web, posts, server })
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

/// Everything that the loop listens to.
struct Sources<'a> {
    inbox: SpoolInbox,
    watch: SpoolWatch,
    ended: mpsc::UnboundedReceiver<Input>,
    posts: &'a mut mpsc::Receiver<Post>,
    stop: &'a mut Stop,
}

/// Tells the engine what a script says, and the script whether that was taken.
fn take_word(
    engine: &mut Engine,
    performer: &Performer,
    attempt: Attempt,
    text: &str,
    reply: oneshot::Sender<bool>,
) -> Turn {
    let turn = engine.handle(moment(), Input::Said(attempt, performer.masker().text(text)));
    // The script may have gone.
    let _ = reply.send(!turn.is_empty());
    turn
}

/// Makes a post what a dropped file is: where it came from, and what it says.
fn dropped(post: Posted, performer: &mut Performer) -> Dropped {
    static POSTS: AtomicU64 = AtomicU64::new(0);
    let number = POSTS.fetch_add(1, Ordering::Relaxed);
    let key = DropKey {
        name: format!("{}-{number}.json", unique("http")).into(),
        uid: post.actor.uid,
        dev: 0,
        ino: number,
        // No file has this time: nothing is ever taken for the same post.
        born_ns: "0".to_owned(),
        mtime_ns: i128::from(now().0).saturating_mul(1_000_000).to_string(),
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
    sources: Sources<'_>,
) -> Result<(), DaemonError> {
    let Sources { mut inbox, mut watch, mut ended, posts, stop } = sources;
    let every = Duration::from_secs(limits::RESCAN_S);
    let mut rescan = interval_at(Instant::now(), every);
    rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hangup = signal(SignalKind::hangup())?;
    let mut pulse = Pulse::start();
    // What was to start while no daemon ran starts after the orders were heard that came meanwhile.
    let mut waited = vec![Input::Tick];
    // And the engine does not know yet which groups the people of the tasks it found are in.
    let mut look = Look::Now;
    let (begun, mut files, mut hearing) = (Instant::now(), Vec::new(), true);
    let (mut come, mut said) = (Vec::new(), Turn::default());
    loop {
        let mut inputs = std::mem::take(&mut waited);
        tokio::select! {
            notice = watch.next() => inbox.note(notice),
            input = ended.recv() => inputs.extend(input),
            Some(post) = posts.recv() => come.push(post),
            () = sleep(rest(engine.rest_ms(moment())).min(pulse.rest())), if !hearing => inputs.push(Input::Tick),
            () = sleep(inbox.look_again_in().min(performer.sweeps_in())) => {}
            _ = rescan.tick() => {
                performer.look_around()?;
                inbox.note(Notice::Rescan);
                look = if engine.library_is_broken() { Look::Now } else { Look::IfChanged };
            }
            _ = hangup.recv() => look = Look::Now,
            () = stop.asked() => break,
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
        inbox.have_watched(&mut watch);
        if let Some(Input::Dropped(found)) = inbox.look(performer.store_mut(), now())? {
            files.extend(found);
        }
        // An order that was dropped a moment before the start is heard before anything starts, too.
        // What is dropped later has no claim to that: it may stand in its box until its task was read.
        hearing = hearing && begun.elapsed() < HEAR_ORDERS && inbox.order_waits();
        if hearing {
            waited = inputs;
            pulse.turned(engine, &library.web);
            continue;
        }
        let new = library.dropped(std::mem::take(&mut files));
        look = look.at(new.iter().chain(&inputs), engine);
        // Who left a group since is not in it any more, whether a file of the configuration changed or not.
        let people = library.people(look, new.is_some(), engine, &inputs);
        let read = library.look(look, new.iter().chain(&inputs), engine, performer)?;
        // People come first: nothing starts that somebody has just stopped.
        let then = read.is_some().then_some(Input::Tick);
        let mut wanted = std::mem::take(&mut said);
        for input in read.into_iter().chain(people).chain(new).chain(inputs).chain(then) {
            wanted.extend(engine.handle(moment(), input));
        }
        look = Look::IfNeeded;
        performer.set_downtime_over(engine.is_settled());
        performer.perform(wanted, !posts.is_empty())?;
        inbox.take_answers(performer, &library.library);
        pulse.limits.look(engine, &mut inbox, performer, &library.web);
        pulse.turned(engine, &library.web);
    }
    end(engine, performer).await
}

/// Ends the loop: says so, and writes what is not written yet.
async fn end(engine: &Engine, performer: &mut Performer) -> Result<(), DaemonError> {
    service::stopping();
    tracing::info!(hosts_in_flight = engine.hosts_in_flight(), "stopping");
    performer.audit("daemon_stopped", None);
    performer.look_around()?;
    performer.perform(Turn::default(), false)?;
    performer.finish_telling().await;
    Ok(())
}

/// What tells others that the loop turns, and that the threads do that talk to hosts.
struct Pulse {
    /// How often the service manager wants to hear of it.
    every: Option<Duration>,
    told: Instant,
    /// Ends when one of those threads takes up what it is given.
    answer: JoinHandle<()>,
    limits: AtLimits,
}

impl Pulse {
    fn start() -> Pulse {
        let (every, told, answer) = (service::watchdog(), Instant::now(), tokio::spawn(async {}));
        Pulse { every, told, answer, limits: AtLimits::default() }
    }

    /// Returns how long the loop may rest: whoever watches is told in time, whatever there is to do.
    fn rest(&self) -> Duration {
        self.every.map_or(SLEEP_MAX, |every| SLEEP_MAX.min(every / 3))
    }

    fn turned(&mut self, engine: &Engine, web: &Web) {
        let (unfinished, hosts) = (engine.unfinished(), engine.hosts_in_flight());
        web.turned(unfinished, hosts);
        if self.every.is_some_and(|every| self.told.elapsed() >= every / 4) && self.answer.is_finished() {
            service::alive(unfinished, hosts);
            self.told = Instant::now();
            self.answer = tokio::spawn(async {});
        }
    }
}

/// Returns how long to sleep when the engine wants to be asked in `ms`.
fn rest(ms: Option<i64>) -> Duration {
    Duration::from_millis(u64::try_from(ms.unwrap_or(i64::MAX)).unwrap_or(0)).min(SLEEP_MAX)
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
