//! What the daemon and a host's runner say to each other about one attempt at one step. Floor 4.
//!
//! **Invariant:** the same program goes over every connection, and the host starts the step at most once. Until a runner on the
//! host says a word a failure is "not sent"; from then on only the host's own word ends the attempt, or the end of patience. A
//! program whose conversation is over begins nothing: the runner ends when nobody is left to hear its first word.

mod began;
mod ending;
mod reach;
mod reply;
mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout};

use crate::adapters::output_log::{self, OutputLog, OutputLogError};
use crate::adapters::random;
use crate::adapters::spool::layout::log_name;
use crate::base::digest::Digest;
use crate::base::ids::ParamName;
use crate::base::limits;
use crate::base::text::Secret;
use crate::domain::delegate::{Report, Reports, last_words, not_done};
use crate::domain::mask::{Masked, Masker};
use crate::domain::outcome::{Ending, OutputFacts};
use crate::domain::output::{ExecEnd, Stream};
use crate::domain::plan::{PlannedHost, PlannedStep};
use crate::domain::runner::answer::{Answer, Shown, Verdict};
use crate::domain::runner::told::Told;
use crate::domain::runner::{
    Call, Offsets, Program, RunnerId, forget_program, kill_program, run_program, take_program, want_program,
};
use crate::engine::Input;
use crate::engine::Start;
use crate::shells::clock::now;
use crate::shells::daemon::carry::{self, NotCarried};
use crate::shells::daemon::link::{Link, LinkError, LinkSettings};
use crate::shells::daemon::progress::Progress;
use crate::shells::daemon::reported::Reported;
pub(super) use ending::Ended;
use ending::{ToldEnd, ending};
use reach::Reach;
use reply::{Begun, NoReply, Reply};

/// How long after the first failure a host is tried again; each time twice as long.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
pub(super) const BACKOFF_LAST: Duration = Duration::from_secs(30);

/// How often files are brought again over another connection, when the one before broke.
const BRING_AGAIN: u32 = 5;
/// How long whoever wants a step's end waits for what it printed, the proof of its end included; what does not come is counted.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How long it may take in any case, once the end is proved.
const LAST_OUTPUT_LEAST: Duration = Duration::from_millis(500);
/// How much two clocks may differ over the time for which a host is gone back to.
const CLOCK_SLACK_S: u64 = 5;
/// For longer than that no host runs.
const LONG_AGO_S: u64 = 1 << 30;

/// One attempt, over as many connections as it takes.
pub(super) struct RunnerClient<'a> {
    start: &'a Start,
    host: &'a PlannedHost,
    step: &'a PlannedStep,
    settings: LinkSettings,
    clean: bool,
    id: RunnerId,
    /// Whether the host may have got the program.
    sent: bool,
    begun: Begun,
    /// How often bringing the step's files may still break off; nothing once the host has them.
    to_bring: Option<u32>,
    log: Option<OutputLog>,
    told: ToldEnd,
    /// The values of the step's secrets.
    secrets: BTreeMap<ParamName, Secret>,
    /// What hides all of the task's.
    masker: Masker,
    /// Where reports of another engine go.
    inputs: UnboundedSender<Input>,
    log_path: PathBuf,
    /// When this process first had to do with it.
    known_since: Instant,
    /// When this process sent it first.
    sent_at: Option<Instant>,
    /// How far the conversation is.
    progress: Arc<Progress>,
    /// Whether a connection was lost over which a runner may have spoken.
    lost: bool,
}

impl<'a> RunnerClient<'a> {
    pub(super) fn new(
        start: &'a Start,
        host: &'a PlannedHost,
        step: &'a PlannedStep,
        settings: LinkSettings,
        clean: bool,
        output: &Path,
        inputs: UnboundedSender<Input>,
    ) -> RunnerClient<'a> {
        let id = RunnerId::new(&start.run_key, start.task, start.group, &start.host, step, start.attempt);
        let log_path = output.join(log_name(&start.step, start.attempt));
        let (secrets, masker) = (BTreeMap::new(), Masker::default());
        RunnerClient {
            start,
            host,
            step,
            settings,
            clean,
            id,
            sent: start.resume,
            begun: if start.late { Begun::NeverIfNotYet } else { Begun::Perhaps },
            to_bring: bring_again(step),
            log: None,
            told: ToldEnd::default(),
            secrets,
            masker,
            inputs,
            log_path,
            known_since: Instant::now(),
            sent_at: None,
            progress: Arc::new(Progress::new()),
            lost: false,
        }
    }

    /// Returns what is known of how far the conversation is.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Whether a runner may have been there.
    fn may_have_begun(&self) -> bool {
        self.start.resume || self.lost || self.progress.has_ever_spoken()
    }

    /// Opens the log where it ends, if it is not open.
    ///
    /// # Errors
    /// When it cannot be read: then nothing is to be heard yet.
    pub(super) fn open_log(&mut self) -> Result<(), OutputLogError> {
        if self.log.is_none() {
            let hides = self.start.approved.plan().secret_names().next().is_some();
            let log = OutputLog::open(self.log_path.clone(), hides)?;
            // Only a host that ran it can have sent output.
            if log.offsets() != Offsets::default() {
                self.begun = Begun::Yes;
            }
            self.log = Some(log);
        }
        Ok(())
    }

    /// Removes from the host what the step printed, once its end is on record: it may hold secrets.
    pub(super) async fn forget(&mut self, link: &mut Link) {
        let nonce = random::nonce();
        // It is looked for wherever it may be.
        self.sent = true;
        let call = self.call(&nonce, Offsets::default());
        let program = forget_program(self.step, &call);
        let mut answer = Answer::new(&nonce, &self.id, Offsets::default());
        if let Err(error) = link.ask(&program, self.settings.first_word, &mut answer, &mut |_, _: &[u8]| {}).await {
            tracing::info!(task = %self.start.task, host = %self.start.host, "its output stays on the host: {}", error.why);
        }
    }

    fn call<'c>(&'c self, nonce: &'c str, offsets: Offsets) -> Call<'c> {
        let (clean, begun, audit) = (false, self.begun == Begun::Yes, self.start.audit);
        let ago_s = match self.sent_at {
            Some(at) if !self.start.resume => at.elapsed().as_secs(),
            // A clock that shows a time before it was sent tells nothing: it may be as long ago as can be.
            _ if now() < self.start.since => LONG_AGO_S,
            _ => Duration::from_millis(self.start.elapsed_ms(now())).max(self.known_since.elapsed()).as_secs(),
        };
        let sent_s = self.sent.then(|| ago_s.saturating_add(CLOCK_SLACK_S));
        Call { id: &self.id, nonce, offsets, clean, begun, sent_s, audit }
    }

    /// Goes on until the host says how the step ended.
    pub(super) async fn run(&mut self, link: &mut Option<Link>) -> Ended {
        let mut backoff = BACKOFF_FIRST;
        let mut silent_since: Option<Instant> = None;
        let mut reach = Reach::new(self.start, self.inputs.clone());
        loop {
            let kept = link.is_some();
            let heard = match link.take() {
                Some(open) => Ok(open),
                None => Link::open(self.host, &self.settings).await,
            };
            let (heard, open) = match heard {
                Ok(mut open) => {
                    reach.stands();
                    let before = self.offsets();
                    let heard = self.converse(&mut open).await;
                    if self.offsets() != before {
                        (silent_since, backoff) = (None, BACKOFF_FIRST);
                    }
                    (heard, Some(open))
                }
                Err(error) => (Reply::Broken(error), None),
            };
            let why = match heard {
                Reply::Over(ending) => {
                    *link = open;
                    return self.ended(ending);
                }
                Reply::Ended(verdict) => {
                    *link = open;
                    let ending = self.last_words(ending(verdict));
                    return self.ended(ending);
                }
                Reply::Refused(why) if !self.sent => {
                    *link = open;
                    return self.ended(Ending::NotSent(why));
                }
                Reply::Silent(why) => {
                    if let Some(open) = open {
                        open.close().await;
                    }
                    return self.without_a_word(why).await;
                }
                Reply::Broken(error) if !self.sent && open.is_some() && self.to_bring.is_some_and(|left| left > 0) => {
                    self.to_bring = self.to_bring.map(|left| left.saturating_sub(1));
                    error.why
                }
                // A connection that was kept from the last step may have died since; nothing was sent over it.
                Reply::Broken(error) if !self.sent && kept && error.never_sent => {
                    // Nor is it known what became of the files that the host has got.
                    self.to_bring = bring_again(self.step);
                    continue;
                }
                Reply::Broken(error) if !self.sent => {
                    let made = if error.unreachable { Ending::Unreachable } else { Ending::NotSent };
                    return self.ended(made(error.why));
                }
                Reply::Refused(why) | Reply::Broken(LinkError { why, .. }) => why,
            };
            let since = *silent_since.get_or_insert_with(Instant::now);
            match open {
                Some(open) => open.close().await,
                None => reach.fails(since.elapsed(), self.masker.text(&why)),
            }
            if since.elapsed() >= Duration::from_secs(limits::REATTACH_S) {
                return self.ended(Ending::Lost(why));
            }
            tracing::info!(task = %self.start.task, host = %self.start.host, "connection lost; retrying: {why}");
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    /// Ends the step over a connection of its own and takes what it still printed. A host whose shell never said a word, and says
    /// none now, has not begun it: the connection over which it was sent is closed.
    ///
    /// # Errors
    /// Why nobody knows whether it is gone.
    pub(super) async fn kill(&mut self) -> Result<Ended, String> {
        if !self.sent {
            return Ok(self.ended(Ending::Cancelled));
        }
        let begin = Instant::now();
        let mut link = Link::open(self.host, &self.settings).await.map_err(|error| error.why)?;
        let verdict = match self.end(&mut link).await {
            Ok(verdict) => verdict,
            Err(error) if error.silent && !self.may_have_begun() => {
                link.close().await;
                return Ok(self.ended(Ending::Cancelled));
            }
            Err(error) => return Err(error.why),
        };
        let verdict = match verdict {
            Verdict::Never | Verdict::Forgotten => verdict,
            known => {
                self.begun = Begun::Yes;
                let left = LAST_OUTPUT.saturating_sub(begin.elapsed()).max(LAST_OUTPUT_LEAST);
                match timeout(left, self.tell(&mut link)).await {
                    Ok(Ok(Reply::Ended(verdict))) => verdict,
                    _ => known,
                }
            }
        };
        // Nobody waits for the goodbye.
        tokio::spawn(link.close());
        let ending = match ending(verdict) {
            // What it fetched is not here.
            Ending::Exit(0) if self.step.fetch.is_some() => Ending::Cancelled,
            ending => self.last_words(ending),
        };
        Ok(self.ended(ending))
    }

    /// Has the host end the step, or never start it; says how it ended.
    async fn end(&mut self, link: &mut Link) -> Result<Verdict, LinkError> {
        let nonce = random::nonce();
        let program = kill_program(self.step, &self.call(&nonce, Offsets::default()));
        let mut answer = Answer::new(&nonce, &self.id, Offsets::default());
        let ended = link.ask(&program, self.settings.first_word, &mut answer, &mut |_, _: &[u8]| {}).await;
        let (verdict, out, err) = answer.ended.take().ok_or_else(|| {
            let why = match (ended, answer.refused.take()) {
                (Err(error), None) => return error,
                (_, Some(why)) => why,
                (Ok(_), None) => format!("the host answered with something else: {}", answer.noise()),
            };
            // Whatever answered, it was no runner.
            LinkError { silent: !answer.here, ..LinkError::broken(self.masker.text(&why)) }
        })?;
        // What was printed and does not come any more is counted.
        self.heard_end(out, err, &mut answer);
        Ok(verdict)
    }

    /// Keeps what the host said of an end beside the verdict.
    fn heard_end(&mut self, out: Shown, err: Shown, answer: &mut Answer) {
        let full = answer.full.take();
        if let Some(place) = &full {
            tracing::warn!(task = %self.start.task, host = %self.start.host, "no room on the host for some of its output: {place}");
        }
        let ago = Duration::from_millis(answer.ended_ms_ago.get());
        self.told = ToldEnd { out, err, full: full.is_some(), ago, proved_by: answer.proved_by };
    }

    /// Reports how each target fared in the end, if the step was handed to another engine: from the whole log, since earlier
    /// conversations may have heard a part of it. An engine that ended well has done so only if every target is done.
    fn last_words(&self, ending: Ending) -> Ending {
        let Some(engine) = self.step.engine else { return ending };
        let targets = self.start.approved.plan().group(self.start.group).map_or(&[][..], |group| &group.targets);
        match output_log::piece(Stream::Out, &self.log_path, Some(0), u64::MAX) {
            Ok(output) => {
                self.report(last_words(engine, &output.bytes, targets));
                match (&ending, not_done(engine, &output.bytes, targets)) {
                    (Ending::Exit(0), Some(why)) => Ending::NotAllDone(why),
                    _ => ending,
                }
            }
            Err(error) => {
                tracing::error!(task = %self.start.task, host = %self.start.host, "cannot read its log: {error}");
                match ending {
                    Ending::Exit(0) => Ending::NotAllDone(format!("its log cannot be read: {error}")),
                    other => other,
                }
            }
        }
    }

    fn report(&self, reports: Vec<Report>) {
        // A daemon that stops hears nothing more; the next one reads the log.
        let _ = self.inputs.send(Input::Reported(self.start.attempt_name(), reports));
    }

    /// Returns the end of the attempt.
    pub(super) fn ended(&mut self, ending: Ending) -> Ended {
        Ended { ending, output: self.facts(), ago: self.told.ago, proved_by: self.told.proved_by }
    }

    /// Returns what is known of the output.
    fn facts(&mut self) -> OutputFacts {
        let ToldEnd { out, err, full, .. } = self.told;
        if let Err(error) = self.open_log() {
            tracing::error!(task = %self.start.task, host = %self.start.host, "{error}");
        }
        let facts = self.log.take().map_or_else(|| output_log::nothing_kept(out, err), |log| log.finish(out, err));
        OutputFacts { host_full: full, ..facts }
    }

    fn offsets(&self) -> Offsets {
        self.log.as_ref().map(OutputLog::offsets).unwrap_or_default()
    }

    /// Brings the step's files, has the host show the step to its end, and takes what it fetched.
    async fn converse(&mut self, link: &mut Link) -> Reply {
        let heard = if self.begun == Begun::NeverIfNotYet {
            self.only_if_begun(link).await
        } else {
            match self.bring(link).await {
                Ok(()) => self.show(link).await,
                Err(heard) => heard,
            }
        };
        let (Some(fetch), Reply::Ended(Verdict::Exit(0))) = (&self.step.fetch, &heard) else { return heard };
        let nonce = random::nonce();
        let take = take_program(self.step, &self.call(&nonce, Offsets::default()));
        let place = self.log_path.with_extension("fetched");
        match carry::take(
            link,
            self.settings.first_word,
            (&take, &nonce, &self.id),
            &self.masker,
            (&place, fetch.most_bytes),
        )
        .await
        {
            Ok(()) => {}
            Err(NotCarried::Refused(why)) => return Reply::Over(Ending::NotAllDone(why)),
            Err(NotCarried::Broken(error)) => return Reply::Broken(error),
        }
        heard
    }

    /// Brings the step's files, if the host does not have them.
    ///
    /// # Errors
    /// What the conversation came to.
    async fn bring(&mut self, link: &mut Link) -> Result<(), Reply> {
        let plan = self.start.approved.plan();
        if self.to_bring.is_some() {
            let nonce = random::nonce();
            let want = want_program(self.step, &self.start.host, &self.call(&nonce, Offsets::default()));
            let of = (&**plan, self.step, &self.start.host);
            match carry::bring(link, &self.settings, of, (&want, &nonce, &self.id)).await {
                Ok(()) => {}
                // To bring them until they are taken could last for ever. That it did not begin before, the host must say.
                Err(NotCarried::Refused(why)) if self.sent && self.to_bring == Some(0) => {
                    return Err(match self.end(link).await {
                        Ok(Verdict::Never) => Reply::Over(Ending::NotSent(why)),
                        Ok(verdict) => Reply::Ended(verdict),
                        Err(_) => Reply::Refused(why),
                    });
                }
                Err(NotCarried::Refused(why)) if self.sent => {
                    self.to_bring = self.to_bring.map(|left| left.saturating_sub(1));
                    return Err(Reply::Refused(why));
                }
                Err(why) => return Err(why.into()),
            }
            self.to_bring = None;
        }
        Ok(())
    }

    /// Has the host start the step, or show what it started, from where the log ends.
    async fn show(&mut self, link: &mut Link) -> Reply {
        match self.tell(link).await {
            Ok(heard) => heard,
            Err(silence) => self.after_silence(link, silence).await,
        }
    }

    /// Says to the host what is to be done, and hears what becomes of it.
    ///
    /// # Errors
    /// When the runner says nothing.
    async fn tell(&mut self, link: &mut Link) -> Result<Reply, NoReply> {
        if let Err(error) = self.open_log() {
            return Ok(Reply::Refused(error.to_string()));
        }
        let nonce = random::nonce();
        let call = Call { clean: self.clean, begun: self.begun != Begun::Perhaps, ..self.call(&nonce, self.offsets()) };
        let program = if call.begun { self.shows(&call) } else { self.starts(&call, self.step, &self.secrets) };
        let mut answer = Answer::new(&nonce, &self.id, self.offsets());
        // Whoever stops waiting for what follows must not take it for unsent.
        let sent_before = std::mem::replace(&mut self.sent, true);
        self.sent_at.get_or_insert_with(Instant::now);
        let ended = self.exec(link, &program, &mut answer).await;
        if answer.running {
            self.begun = Begun::Yes;
        }
        self.sent = sent_before || answer.running || ended.as_ref().is_err_and(|error| !error.never_sent);
        if let Some((verdict, out, err)) = answer.ended.take() {
            self.heard_end(out, err, &mut answer);
            return Ok(Reply::Ended(verdict));
        }
        if let Some(why) = answer.refused.take() {
            return Ok(Reply::Refused(self.masker.text(&why)));
        }
        match ended {
            Err(error) if error.silent && !sent_before => Ok(Reply::Silent(error.why)),
            Err(error) => {
                self.lost |= !error.silent && !error.never_sent;
                Ok(Reply::Broken(error))
            }
            Ok(_) if answer.running => Ok(Reply::Broken(LinkError::broken("the host's runner ended without a word"))),
            Ok(end) => {
                let silence = NoReply::new(end.as_ref(), &self.masker.text(&answer.noise()));
                if answer.here { Err(silence) } else { Ok(silence.into_refused()) }
            }
        }
    }

    /// Returns the program that starts the step, or shows what was started.
    fn starts(&self, call: &Call<'_>, step: &PlannedStep, secrets: &BTreeMap<ParamName, Secret>) -> Program {
        let (start, plan) = (self.start, self.start.approved.plan());
        let (attempt, batch, earlier) = (start.attempt, start.batch, &start.earlier);
        let told = Told { attempt, batch, earlier, callback: start.callback.as_ref(), secrets };
        run_program(plan, start.task, &start.host, start.group, step, call, &told)
    }

    /// Returns the program that shows a step which is not to be started: what only a start needs is not sent.
    fn shows(&self, call: &Call<'_>) -> Program {
        let (script, cpu_percent, memory_mib) = (Digest::of(b""), 0, 0);
        let (args, files, env) = (Vec::new(), Vec::new(), BTreeMap::new());
        let bare = PlannedStep { args, cpu_percent, env, files, memory_mib, script, ..self.step.clone() };
        self.starts(call, &bare, &BTreeMap::new())
    }

    async fn exec(
        &mut self,
        link: &mut Link,
        program: &Program,
        answer: &mut Answer,
    ) -> Result<Option<ExecEnd>, LinkError> {
        let mut heard = self.step.engine.map(|engine| Reports::new(engine, self.offsets().out == 0));
        let reported = Reported::new(self.inputs.clone(), self.start.attempt_name());
        let (log, masker) = (&mut self.log, &self.masker);
        let (mut out, mut err) = (Masked::default(), Masked::default());
        // What cannot be kept need not be heard.
        let (mut broken, enough) = (None, Notify::new());
        let mut keep = |stream, bytes: &[u8]| {
            if let (Some(heard), Stream::Out) = (&mut heard, stream) {
                reported.waiting().extend(heard.take(bytes));
            }
            if let Some(log) = log
                && broken.is_none()
            {
                broken = log.write(stream, bytes, now()).err();
                if broken.is_some() {
                    enough.notify_one();
                }
            }
        };
        let progress = &self.progress;
        let mut hear = |stream, bytes: &[u8]| {
            answer.take(stream, bytes, |stream, bytes| {
                let masked = if stream == Stream::Out { &mut out } else { &mut err };
                masked.push(masker, bytes, |bytes| keep(stream, bytes));
            });
            if answer.spoke() {
                progress.spoke();
            }
            answer.ended.is_some()
        };
        let ended = tokio::select! {
            ended = link.tell(program, self.settings.first_word, progress, &mut hear) => ended,
            () = enough.notified() => Ok(None),
            never = reported.pass_on_often() => match never {},
        };
        answer.finish();
        // Of a conversation that broke off, what was held back comes again: it is in no log yet.
        if answer.ended.is_some() {
            out.finish(|bytes| keep(Stream::Out, bytes));
            err.finish(|bytes| keep(Stream::Err, bytes));
        } else {
            out.break_off(|bytes| keep(Stream::Out, bytes));
            err.break_off(|bytes| keep(Stream::Err, bytes));
        }
        reported.pass_on();
        let Some(error) = broken else { return ended };
        // The host keeps what could not be written here: its end is heard when there is room for what comes before.
        tracing::error!(task = %self.start.task, host = %self.start.host, "its output waits on the host: {error}");
        answer.ended = None;
        self.log = None;
        Err(LinkError::broken(error.to_string()))
    }
}

/// Returns how often bringing a step's files may break off, if it has any.
fn bring_again(step: &PlannedStep) -> Option<u32> {
    (!step.files.is_empty()).then_some(BRING_AGAIN)
}
