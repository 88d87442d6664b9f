//! One host's work for one task: its connection and its steps, one after the other. Floor 4.
//!
//! **Invariant:** one owner task per host and run; every wait has a limit of our own; what is reported is what
//! is known, and a process counts as ended only when its process group was looked for and not found.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::adapters::output_log::OutputLog;
use crate::base::ids::{GroupNo, HostName, TaskId};
use crate::base::limits;
use crate::domain::envelope::{envelope, kill_envelope};
use crate::domain::output::{ExecEnd, Stream};
use crate::domain::plan::PlannedStep;
use crate::domain::run::{Ending, OutputFacts, StepResult};
use crate::engine::{Input, Start};
use crate::shells::clock::now;
use crate::shells::daemon::link::{Link, LinkError, LinkSettings};
use crate::shells::daemon::start_mark::StartMark;

/// Longer than any wait: what stands for "no limit" where a duration is needed.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

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

/// The owner of one host's connection.
pub(super) struct HostOwner {
    pub(super) task: TaskId,
    pub(super) group: GroupNo,
    pub(super) host: HostName,
    pub(super) output: PathBuf,
    pub(super) settings: LinkSettings,
    pub(super) commands: UnboundedReceiver<Command>,
    pub(super) ended: UnboundedSender<Input>,
}

impl HostOwner {
    /// Obeys commands until the host is released.
    pub(super) async fn run(mut self) {
        let mut link: Option<Link> = None;
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Run(start) => {
                    let started = now();
                    let (ending, output) = self.step(&start, &mut link).await;
                    let result = StepResult { attempt: start.attempt, ending, started, ended: now(), output };
                    let (task, group, host) = (self.task, self.group, self.host.clone());
                    let input = Input::StepEnded { task, group, host, step: start.step.clone(), result };
                    if self.ended.send(input).is_err() {
                        break;
                    }
                }
                // The step ended while the wish to end it was on its way.
                Command::Stop => {}
                Command::Release => break,
            }
        }
        if let Some(link) = link {
            link.close().await;
        }
    }

    async fn step(&mut self, start: &Start, link: &mut Option<Link>) -> (Ending, OutputFacts) {
        let nothing = OutputFacts::default();
        let plan = start.approved.plan();
        let planned = plan.group(start.group).and_then(|g| g.steps.iter().find(|step| step.name == start.step));
        let (Some(host), Some(planned)) = (plan.hosts.get(&start.host), planned) else {
            return (Ending::NotSent("the plan does not hold this step".to_owned()), nothing);
        };
        if link.is_none() {
            let mut connecting = pin!(Link::open(host, self.settings));
            let opened = loop {
                tokio::select! {
                    opened = &mut connecting => break opened,
                    command = self.commands.recv() => match command {
                        Some(Command::Stop) | None => return (Ending::Cancelled, nothing),
                        Some(Command::Run(_) | Command::Release) => {}
                    },
                }
            };
            match opened {
                Ok(opened) => *link = Some(opened),
                Err(error) => return (Ending::NotSent(error.why), nothing),
            }
        }
        let mut open = link.take().expect("it was just opened");
        let (ending, facts, usable) = self.exec(start, planned, &mut open).await;
        if usable {
            *link = Some(open);
        } else {
            open.close().await;
        }
        (ending, facts)
    }

    /// Runs the step on an open link; the flag says whether the link can take another.
    async fn exec(&mut self, start: &Start, planned: &PlannedStep, link: &mut Link) -> (Ending, OutputFacts, bool) {
        let envelope = envelope(start.approved.plan(), self.task, self.group, &self.host, planned);
        let mut log = OutputLog::new(self.output.join(format!("{}.log", start.step)));
        let mut mark = StartMark::default();
        let mut broken_log = None;
        let limit = if planned.timeout_s == 0 { FOREVER } else { Duration::from_secs(planned.timeout_s) };
        let stopped = {
            let mut keep = |stream, bytes: &[u8]| {
                if broken_log.is_none() {
                    broken_log = log.write(stream, bytes, now()).err();
                }
            };
            let mut sink = |stream, bytes: &[u8]| match stream {
                Stream::Out => mark.filter(bytes, |bytes| keep(stream, bytes)),
                Stream::Err => keep(stream, bytes),
            };
            let ended = {
                let mut exec = pin!(tokio::time::timeout(limit, link.exec(&envelope, &mut sink)));
                loop {
                    tokio::select! {
                        ended = &mut exec => break ended.map_err(|_| Ending::TimedOut),
                        command = self.commands.recv() => match command {
                            Some(Command::Stop) | None => break Err(Ending::Cancelled),
                            Some(Command::Run(_) | Command::Release) => {}
                        },
                    }
                }
            };
            mark.finish(|bytes| keep(Stream::Out, bytes));
            ended
        };
        if let Some(error) = broken_log {
            tracing::error!(task = %self.task, host = %self.host, "{error}");
        }
        let facts = log.finish();
        match stopped {
            Ok(Ok(ExecEnd::Exit(code))) => (Ending::Exit(code), facts, true),
            Ok(Ok(ExecEnd::Signal(name))) => (Ending::Signal(name), facts, true),
            Ok(Err(LinkError { why, never_sent: true })) => (Ending::NotSent(why), facts, false),
            Ok(Err(LinkError { why, never_sent: false })) => (Ending::Lost(why), facts, false),
            Err(wished) => match kill(link, planned, mark.process_group()).await {
                Ok(()) => (wished, facts, true),
                Err(why) => (Ending::KillUnconfirmed(why), facts, false),
            },
        }
    }
}

/// Ends a step's process group and looks whether it is gone.
async fn kill(link: &mut Link, step: &PlannedStep, group: Option<u32>) -> Result<(), String> {
    let Some(group) = group else {
        return Err("the host never said which process it started, so it cannot be ended".to_owned());
    };
    let limit = Duration::from_secs(limits::KILL_GRACE_S * 2 + limits::CONNECT_TIMEOUT_S);
    let envelope = kill_envelope(step, group, limits::KILL_GRACE_S);
    match tokio::time::timeout(limit, link.exec(&envelope, &mut |_, _: &[u8]| {})).await {
        Ok(Ok(ExecEnd::Exit(0))) => Ok(()),
        Ok(Ok(_)) => Err(format!("process group {group} is still there after KILL")),
        Ok(Err(error)) => Err(error.why),
        Err(_) => Err(format!("the host did not answer whether process group {group} is gone")),
    }
}
