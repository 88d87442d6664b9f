//! One host's work for one task: its connection and its steps, one after the other. Floor 4.
//!
//! **Invariant:** one owner task per host and run; every wait has a limit of our own. A lost connection loses nothing: the
//! host keeps the step, and the owner goes back to it. What is reported is what the host's runner says; where it cannot be
//! asked any more the step is lost, never guessed at.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, timeout};

use crate::adapters::spool::layout::log_name;
use crate::adapters::ssh::descriptors::wait_if_short;
use crate::base::ids::{GroupNo, HostName, TaskId};
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::domain::outcome::{Ending, StepResult};
use crate::engine::Input;
use crate::engine::Start;
use crate::shells::clock::now;
use crate::shells::daemon::link::{DESCRIPTORS_LIMIT, Link, LinkSettings};
use crate::shells::daemon::log_sync::LogSync;
use crate::shells::daemon::runner_client::{BACKOFF_FIRST, BACKOFF_LAST, Ended, RunnerClient};

/// How long a host may take to say what became of a step that was to be ended, beyond the grace of its processes.
const KILL_ANSWER_S: u64 = 60;
/// How long after a step's limit its host may still be ending it.
const LATE_S: u64 = 2 * limits::KILL_GRACE_S + 60;

/// How long a first word can be on its way, once all is sent: without it the host is asked, which costs it a login.
const WORD_ON_ITS_WAY: Duration = Duration::from_secs(1);

/// What the daemon tells a host's owner.
#[derive(Debug)]
pub(super) enum Command {
    /// Run a step.
    Run(Box<Start>),
    /// End the step that runs.
    Stop,
    /// Close the connection; nothing more comes.
    Release,
}

/// Why a step is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Somebody wants it ended.
    Cancel,
    /// It should have ended by itself long ago.
    TooLong,
    /// The daemon stops; the step goes on at its host, and the next daemon goes on with it.
    Leave,
}

/// The owner of one host's connection.
pub(super) struct HostOwner {
    pub(super) task: TaskId,
    pub(super) group: GroupNo,
    pub(super) host: HostName,
    pub(super) output: PathBuf,
    pub(super) settings: LinkSettings,
    /// Whether to remove what earlier tasks left on the host long ago.
    pub(super) clean: bool,
    pub(super) commands: UnboundedReceiver<Command>,
    pub(super) inputs: UnboundedSender<Input>,
    /// What brings logs to the disk.
    pub(super) logs: LogSync,
}

impl HostOwner {
    /// Obeys commands until the host is released.
    pub(super) async fn run(mut self) {
        let mut link: Option<Link> = None;
        let mut printed = Vec::new();
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Run(start) => {
                    let Some(Ended { ending, output, ago, proved_by }) = self.step(&start, &mut link).await else {
                        break;
                    };
                    self.clean = false;
                    // Where the end was learned late, the host's word says when it was.
                    let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(0);
                    let ended = Timestamp(now().0.saturating_sub(ago_ms).max(start.since.0));
                    let attempt = start.attempt;
                    let result = StepResult { attempt, ending, started: start.since, ended, output, proved_by };
                    if result.output.sha256.is_some() {
                        self.logs.sync(self.output.join(log_name(&start.step, start.attempt))).await;
                    }
                    let (task, group, host) = (self.task, self.group, self.host.clone());
                    let input = Input::StepEnded { task, group, host, step: start.step.clone(), result };
                    if self.inputs.send(input).is_err() {
                        break;
                    }
                    if leaves_something(&start) {
                        printed.push(start);
                    }
                }
                // The step ended while the wish to end it was on its way.
                Command::Stop => {}
                // It follows the record of the last step's end.
                Command::Release => {
                    for start in &printed {
                        self.forget(start, &mut link).await;
                    }
                    break;
                }
            }
        }
        if let Some(link) = link {
            link.close().await;
        }
    }

    /// Has the host forget what a step printed.
    async fn forget(&self, start: &Start, link: &mut Option<Link>) {
        let plan = start.approved.plan();
        let planned = plan.group(start.group).and_then(|g| g.steps.iter().find(|step| step.name == start.step));
        let (Some(host), Some(step)) = (plan.hosts.get(&start.host), planned) else { return };
        let forgotten = async {
            if link.is_none() {
                *link = Link::open(host, &self.settings).await.ok();
            }
            let Some(open) = link else { return };
            let mut client =
                RunnerClient::new(start, host, step, self.settings.clone(), false, &self.output, self.inputs.clone());
            client.forget(open).await;
        };
        // A host that hangs now is left alone: what is old is removed from it later.
        let _ = timeout(Duration::from_secs(KILL_ANSWER_S), forgotten).await;
    }

    /// Runs a step to its end; `None` when the daemon stops before that.
    async fn step(&mut self, start: &Start, link: &mut Option<Link>) -> Option<Ended> {
        let plan = start.approved.plan();
        let planned = plan.group(start.group).and_then(|g| g.steps.iter().find(|step| step.name == start.step));
        let (Some(host), Some(step)) = (plan.hosts.get(&start.host), planned) else {
            return Some(Ended::silent(Ending::NotSent("the plan does not hold this step".to_owned())));
        };
        if !start.resume {
            // Nothing of it was sent, and its log and secrets are files.
            tokio::select! {
                _ = wait_if_short(DESCRIPTORS_LIMIT) => {}
                wish = stop_wished(&mut self.commands) => {
                    return (wish == Wish::Cancel).then(|| Ended::silent(Ending::Cancelled));
                }
            }
        }
        let mut client =
            RunnerClient::new(start, host, step, self.settings.clone(), self.clean, &self.output, self.inputs.clone());
        if let Err(error) = client.open_log() {
            tracing::error!(task = %self.task, host = %self.host, "{error}");
        }
        if let Err(error) = client.read_secrets() {
            return Some(Ended::silent(Ending::NotSent(error.to_string())));
        }
        // Counted from here, also when an earlier daemon sent it: a clock that was set meanwhile would end a healthy step.
        // The host keeps the limit itself.
        let late = match step.timeout_s {
            0 => None,
            limit => Some(Duration::from_secs(limit.saturating_add(LATE_S))),
        };
        let progress = client.progress();
        let wish = {
            let mut running = pin!(client.run(link));
            let ended = tokio::select! {
                ended = &mut running => Ok(ended),
                wish = stop_wished(&mut self.commands) => Err(wish),
                () = sleep(late.unwrap_or(Duration::MAX)), if late.is_some() => Err(Wish::TooLong),
            };
            let ended = match ended {
                Err(Wish::Leave) | Ok(_) => ended,
                // A first word that is on its way tells whether there is anything to end.
                Err(wish) => tokio::select! {
                    ended = &mut running => Ok(ended),
                    () = progress.word_or_silence(WORD_ON_ITS_WAY) => Err(wish),
                },
            };
            match ended {
                // The host is free for others when all of it is gone.
                Ok(ended) if ended.lives_on().is_some() => Wish::Cancel,
                Ok(ended) => return Some(ended),
                Err(wish) => wish,
            }
        };
        if wish == Wish::Leave {
            return None;
        }
        // The connection may be what is wrong, and something of ours may still be under way on it.
        if let Some(link) = link.take() {
            link.close().await;
        }
        self.stop(start, &mut client, wish).await
    }

    /// Ends a step and proves it, however often the host must be asked.
    async fn stop(&mut self, start: &Start, client: &mut RunnerClient<'_>, wish: Wish) -> Option<Ended> {
        let begin = Instant::now();
        let mut backoff = BACKOFF_FIRST;
        let mut told = false;
        loop {
            let limit = Duration::from_secs(2 * limits::KILL_GRACE_S + KILL_ANSWER_S);
            let why = match timeout(limit, client.kill()).await {
                Ok(Ok(ended)) if ended.lives_on().is_some() => ended.lives_on().unwrap_or_default().to_owned(),
                Ok(Ok(mut ended)) => {
                    ended.ending = match (ended.ending, wish) {
                        (Ending::Cancelled, Wish::TooLong) => Ending::TimedOut,
                        (Ending::NotSent(_), Wish::Cancel) => Ending::Cancelled,
                        (ending, _) => ending,
                    };
                    return Some(ended);
                }
                Ok(Err(why)) => why,
                Err(_) => "the host did not say whether it is gone".to_owned(),
            };
            let patience = if wish == Wish::TooLong { limits::REATTACH_S } else { limits::KILL_CONFIRM_S };
            if begin.elapsed() >= Duration::from_secs(patience) {
                let ending = if wish == Wish::TooLong { Ending::Lost(why) } else { Ending::KillUnconfirmed(why) };
                return Some(client.ended(ending));
            }
            if !told {
                told = true;
                let (task, group, host, step) = (self.task, self.group, self.host.clone(), start.step.clone());
                self.inputs.send(Input::KillUnconfirmed { task, group, host, step, why }).ok()?;
            }
            let mut waiting = pin!(sleep(backoff));
            loop {
                tokio::select! {
                    () = &mut waiting => break,
                    wish = stop_wished(&mut self.commands) => if wish == Wish::Leave { return None },
                }
            }
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }
}

/// Whether its host is to be rid of what a step left there: secrets in what it printed, files on their way.
fn leaves_something(start: &Start) -> bool {
    let plan = start.approved.plan();
    let planned = plan.group(start.group).and_then(|g| g.steps.iter().find(|step| step.name == start.step));
    let carries = planned.is_some_and(|step| step.fetch.is_some() || !step.files.is_empty());
    carries || plan.secret_names().next().is_some()
}

/// Waits until the step is to be ended. Also when the daemon stops: then nobody is left to be told anything.
async fn stop_wished(commands: &mut UnboundedReceiver<Command>) -> Wish {
    loop {
        match commands.recv().await {
            Some(Command::Stop) => return Wish::Cancel,
            None => return Wish::Leave,
            Some(Command::Run(_) | Command::Release) => {}
        }
    }
}
