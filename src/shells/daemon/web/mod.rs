//! HTTP as CODO, open-devops and a monitor speak it. Floor 4.
//!
//! **Invariant:** decides nothing about tasks: what is posted goes to the loop like a dropped file, and the answer is sent
//! after what became of it is on disk. Nothing here approves. No secret is printed, kept or logged.

mod csrf;
mod results;
mod routes;
mod submit;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::adapters::http::names::{Names, machine_of};
use crate::adapters::http::{Answer, Request};
use crate::adapters::spool::audit;
use crate::adapters::spool::layout::Layout;
use crate::adapters::tokens::TokensOnDisk;
use crate::base::ids::{Actor, TaskId};
use crate::base::text::visible;
use crate::base::time::Timestamp;
use crate::domain::callback::{Attempt, CallbackKey};
use crate::domain::library::Library;
use crate::domain::problem::Problem;
use crate::domain::token::{Allowance, Scope, Token, Verb};
use crate::engine::DropBox;
use crate::shells::clock::{moment, now};

use csrf::OneTimeKeys;

/// How many requests without a good token one address may make a minute.
const STRANGERS_PER_MINUTE: u32 = 60;
/// How many addresses are remembered for that.
const STRANGERS_MAX: usize = 10_000;
/// How many posts wait for the loop at once; more wait in their connections.
const POSTS_WAITING: usize = 1024;
/// How many requests read tasks from the disk at once; the others wait in their connections.
const READERS: usize = 4;
/// For how long the loop may not have turned before it counts as stuck: it sleeps for half of that.
const STUCK_MS: i64 = 60_000;

/// Something that was posted, on its way to the loop.
pub(in crate::shells::daemon) enum Post {
    /// A task or an order.
    Dropped(Posted),
    /// How far a script is; the answer is whether that was taken.
    Said(Attempt, String, oneshot::Sender<bool>),
}

/// A task or an order that was posted.
pub(in crate::shells::daemon) struct Posted {
    pub(in crate::shells::daemon) drop_box: DropBox,
    pub(in crate::shells::daemon) actor: Actor,
    pub(in crate::shells::daemon) bytes: Vec<u8>,
    /// What limits it beside policy.
    pub(in crate::shells::daemon) scope: Scope,
    pub(in crate::shells::daemon) reply: oneshot::Sender<PostAnswer>,
}

/// What became of it: the task it made or was about, or everything wrong with it.
pub(in crate::shells::daemon) type PostAnswer = Result<Option<TaskId>, Vec<Problem>>;

/// What requests are answered from; replaced whole when the configuration is read again.
pub(in crate::shells::daemon) struct Serving {
    pub(in crate::shells::daemon) library: Arc<Library>,
    /// Why the configuration cannot be read, if so.
    pub(in crate::shells::daemon) broken: Option<String>,
}

/// Counts since the daemon started.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    unauthorized: AtomicU64,
    limited: AtomicU64,
}

/// Answers HTTP.
pub(in crate::shells::daemon) struct Web {
    serving: RwLock<Arc<Serving>>,
    tokens: Mutex<TokensOnDisk>,
    posts: mpsc::Sender<Post>,
    layout: Layout,
    /// What it is called.
    names: Names,
    keys: Mutex<OneTimeKeys>,
    allowances: Mutex<HashMap<u32, Allowance>>,
    strangers: Mutex<HashMap<Option<IpAddr>, Allowance>>,
    counters: Counters,
    /// What tokens of running scripts are signed with.
    callback: Option<CallbackKey>,
    /// How many requests may read tasks at once.
    readers: Semaphore,
    /// What the daemon waits for, when it takes nothing.
    waits_for: Mutex<Option<&'static str>>,
    /// When the loop turned last, by the clock that nobody sets.
    turned: AtomicI64,
    hosts_in_flight: AtomicU64,
    unfinished: AtomicU64,
    /// How many people are at a limit, and how many files wait in their boxes because of one.
    limited: [AtomicU64; 2],
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Web {
    /// Returns what answers, and where posts come out.
    pub(in crate::shells::daemon) fn new(
        layout: Layout,
        tokens: TokensOnDisk,
        callback: Option<CallbackKey>,
        serving: Serving,
        names: Names,
    ) -> (Arc<Web>, mpsc::Receiver<Post>) {
        let (posts, come) = mpsc::channel(POSTS_WAITING);
        let web = Web {
            serving: RwLock::new(Arc::new(serving)),
            tokens: Mutex::new(tokens),
            posts,
            layout,
            names,
            keys: Mutex::default(),
            allowances: Mutex::default(),
            strangers: Mutex::default(),
            counters: Counters::default(),
            callback,
            readers: Semaphore::new(READERS),
            waits_for: Mutex::default(),
            turned: AtomicI64::new(moment().steady_ms),
            hosts_in_flight: AtomicU64::new(0),
            unfinished: AtomicU64::new(0),
            limited: Default::default(),
        };
        (Arc::new(web), come)
    }

    /// Answers from another configuration from now on.
    pub(in crate::shells::daemon) fn serve(&self, serving: Serving) {
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(serving);
    }

    /// Notes that the configuration cannot be read; what was read last goes on to answer.
    pub(in crate::shells::daemon) fn set_broken(&self, why: &str) {
        let library = Arc::clone(&self.serving().library);
        self.serve(Serving { library, broken: Some(why.to_owned()) });
    }

    /// Notes what the daemon waits for before it takes anything again; nothing when it takes everything.
    pub(in crate::shells::daemon) fn set_waiting(&self, waits_for: Option<&'static str>) {
        *locked(&self.waits_for) = waits_for;
    }

    /// Notes that the loop turned, and what it has to do.
    pub(in crate::shells::daemon) fn turned(&self, unfinished: usize, hosts_in_flight: usize) {
        self.turned.store(moment().steady_ms, Ordering::Relaxed);
        self.unfinished.store(unfinished as u64, Ordering::Relaxed);
        self.hosts_in_flight.store(hosts_in_flight as u64, Ordering::Relaxed);
    }

    /// Notes how many people are at a limit, and how many files wait in their boxes because of one.
    pub(in crate::shells::daemon) fn set_limited(&self, people: usize, files: usize) {
        for (noted, now) in self.limited.iter().zip([people, files]) {
            noted.store(now as u64, Ordering::Relaxed);
        }
    }

    fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives something to the loop and waits for what became of it.
    async fn post(&self, drop_box: DropBox, token: &Token, bytes: Vec<u8>) -> Result<PostAnswer, Answer> {
        if let Some(waits_for) = *locked(&self.waits_for) {
            let why =
                format!("the daemon has no {waits_for} and has not taken it; it goes on by itself; try again then");
            return Err(later(error(503, &why)));
        }
        let (reply, answer) = oneshot::channel();
        let post = Posted { drop_box, actor: token.actor(), bytes, scope: token.scope(), reply };
        let sent = self.posts.send(Post::Dropped(post)).await;
        sent.map_err(|_| error(503, "the daemon is stopping and has not taken it; try again"))?;
        let unknown = "the daemon stops or waits, and nobody knows whether it has taken it; look, or try again with the same \
                       idempotency_key";
        let answer = answer.await.map_err(|_| error(503, unknown))?;
        match &answer {
            Ok(_) => self.counters.accepted.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.counters.refused.fetch_add(1, Ordering::Relaxed),
        };
        Ok(answer)
    }

    /// Returns the token of a request, if it is good for a verb.
    fn entitled(&self, request: &Request, verb: Verb) -> Result<Token, Answer> {
        let now = now();
        let cookie = request.cookie("auth_key").filter(|_| request.bearer.is_none());
        let secret = request.bearer.as_deref().or(cookie).or(request.argument("auth_key"));
        let (tokens, problem) = locked(&self.tokens).look(&self.serving().library.zone);
        if let Some(problem) = problem {
            tracing::error!("no token is good until this is put right: {problem}");
        }
        let Some(token) = tokens.find(secret.unwrap_or_default(), now) else {
            return Err(self.stranger(request, now));
        };
        let mut allowances = locked(&self.allowances);
        let allowance = allowances.entry(token.number).or_insert_with(|| Allowance::full(token.per_minute, now));
        if !allowance.take(token.per_minute, now) {
            self.counters.limited.fetch_add(1, Ordering::Relaxed);
            let why = format!("token {} may ask {} times a minute; wait a little", token.name, token.per_minute);
            return Err(later(error(429, &why)));
        }
        if !token.verbs.contains(&verb) {
            let why = format!("token {} is not for {}", token.name, verb.word());
            return Err(forbidden(&why));
        }
        // A cookie goes along whoever made the browser post; the key shows that the sender could read our answer.
        let by_cookie = cookie.is_some() && !request.sdk_method;
        if by_cookie && request.method == "POST" && !self.take_key(request, token.number, now) {
            return Err(no_key());
        }
        Ok(token.clone())
    }

    /// Takes the one-time key of a request; `false` when it has none that is good.
    fn take_key(&self, request: &Request, token: u32, now: Timestamp) -> bool {
        let key = request.cookie("csrf_key").or(request.argument("csrf_key")).unwrap_or_default();
        locked(&self.keys).take(token, key, now)
    }

    /// Answers who has no good token. Guessing is made slow, and nothing of the guess is kept.
    fn stranger(&self, request: &Request, now: Timestamp) -> Answer {
        self.counters.unauthorized.fetch_add(1, Ordering::Relaxed);
        let mut strangers = locked(&self.strangers);
        if strangers.len() >= STRANGERS_MAX {
            strangers.clear();
        }
        let peer = request.peer.map(|peer| machine_of(peer.ip()));
        let allowance = strangers.entry(peer).or_insert_with(|| Allowance::full(STRANGERS_PER_MINUTE, now));
        if allowance.take(STRANGERS_PER_MINUTE, now) {
            let mut answer = error(401, "你没有登录: no good token; make one with: spoolgate token create");
            answer.headers.push(("www-authenticate", "Bearer".to_owned()));
            answer
        } else {
            self.counters.limited.fetch_add(1, Ordering::Relaxed);
            later(error(429, "too many requests without a good token; wait a minute"))
        }
    }

    /// Answers what was asked of another name than this server's. Whoever reaches a UNIX socket was let in by its mode.
    fn misdirected(&self, request: &Request) -> Option<Answer> {
        let host = request.host.as_deref().filter(|host| request.peer.is_some() && !self.names.hold(host))?;
        let why = format!(
            "this is not {}: it answers to localhost, to its addresses and to [http] names in spoolgate.toml; add the name \
             there, or ask for one of those",
            visible(host)
        );
        Some(error(421, &why))
    }

    fn health(&self) -> Answer {
        let silent = moment().steady_ms.saturating_sub(self.turned.load(Ordering::Relaxed));
        let broken = self.serving().broken.is_some();
        let (code, status) = match *locked(&self.waits_for) {
            Some(waits_for) => (503, format!("no {waits_for}; the daemon waits")),
            None if silent > STUCK_MS => (503, "stuck".to_owned()),
            None => (200, "ok".to_owned()),
        };
        let configuration = if broken { "cannot be read; nothing starts" } else { "ok" };
        json_answer(code, &json!({"status": status, "configuration": configuration}))
    }

    fn cuts(&self) -> u64 {
        audit::open_cuts(&self.layout).map_or(0, |cuts| cuts.len() as u64)
    }

    /// Counts for Prometheus; no names.
    fn metrics(&self) -> Answer {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rows: [(&str, &str, &str, u64); 11] = [
            ("http_requests_total", "counter", "requests answered", count(&self.counters.requests)),
            ("http_accepted_total", "counter", "posts that were obeyed", count(&self.counters.accepted)),
            ("http_refused_total", "counter", "posts that were refused", count(&self.counters.refused)),
            ("http_unauthorized_total", "counter", "requests without a good token", count(&self.counters.unauthorized)),
            ("http_limited_total", "counter", "requests over a rate limit", count(&self.counters.limited)),
            ("tasks_unfinished", "gauge", "tasks that have not ended", count(&self.unfinished)),
            ("hosts_in_flight", "gauge", "hosts that a task works on", count(&self.hosts_in_flight)),
            ("people_at_limit", "gauge", "people of whom no more is taken now", count(&self.limited[0])),
            ("files_kept_back", "gauge", "files that wait because their owner dropped many", count(&self.limited[1])),
            ("audit_cuts", "gauge", "cuts of the audit that nobody took note of", self.cuts()),
            (
                "configuration_broken",
                "gauge",
                "1 while the configuration cannot be read",
                u64::from(self.serving().broken.is_some()),
            ),
        ];
        let text: String = rows
            .iter()
            .map(|(name, kind, help, value)| {
                format!("# HELP spoolgate_{name} {help}\n# TYPE spoolgate_{name} {kind}\nspoolgate_{name} {value}\n")
            })
            .collect();
        Answer {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            headers: Vec::new(),
            body: text.into_bytes(),
        }
    }
}

/// Makes an answer of JSON.
fn json_answer(status: u16, value: &Value) -> Answer {
    let body = value.to_string().into_bytes();
    Answer { status, content_type: "application/json; charset=utf-8", headers: Vec::new(), body }
}

/// Makes an answer that says why not. Clients of CODO look at `code`, those of open-devops at `error`.
fn error(status: u16, why: &str) -> Answer {
    json_answer(status, &json!({"code": status, "msg": why, "error": why}))
}

fn no_key() -> Answer {
    error(402, "csrf error: ask for a csrf_key with GET right before; each is good once")
}

fn forbidden(why: &str) -> Answer {
    error(403, &format!("Sorry, you have no permission. Please contact the administrator: {why}"))
}

fn later(answer: Answer) -> Answer {
    let headers = vec![("retry-after", "60".to_owned())];
    Answer { headers, ..answer }
}

fn wrong_method(allowed: &str) -> Answer {
    let headers = vec![("allow", allowed.to_owned())];
    Answer { headers, ..error(405, &format!("this is for {allowed}")) }
}

/// Answers with everything that is wrong.
fn refused(status: u16, problems: &[Problem]) -> Answer {
    let why = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    json_answer(status, &json!({"code": status, "msg": why, "error": why, "problems": problems}))
}
