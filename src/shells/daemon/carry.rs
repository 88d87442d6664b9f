//! Brings files to a host before a step that puts them in their places, and takes away what a step fetched. Floor 4.
//!
//! **Invariant:** what is brought lies in a private directory of the attempt until the step's own script, which starts at most
//! once, moves it. Its digest was compared there: by that script, or on arrival where the name says so. To bring or to take twice
//! changes nothing. A file that was taken appears here whole, or not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use crate::adapters::archive::Archive;
use crate::adapters::fetched_file::FetchedFile;
use crate::base::digest::Digest;
use crate::base::ids::HostName;
use crate::domain::file_step::{INSTALL, PlannedFile};
use crate::domain::mask::Masker;
use crate::domain::output::{ExecEnd, Stream};
use crate::domain::plan::{Plan, PlannedStep};
use crate::domain::runner::answer::{Answer, Verdict};
use crate::domain::runner::{Offsets, Program, RunnerId, bring_command, bring_whole_command};
use crate::shells::daemon::link::{Link, LinkError, LinkSettings};

/// How much of an answer about files is looked at: a name and a digest for each.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// From how many bytes on a file goes by itself, to be compared while it comes; others share an archive.
const LARGE_BYTES: u64 = 4 << 20;
/// How much of a large file is read at once.
const PIECE_BYTES: usize = 256 << 10;
/// How much of what a command complained about is told.
const NOISE_BYTES_MAX: usize = 2 << 10;

/// Why files are not where they should be.
pub(super) enum NotCarried {
    /// The host would not take or give them, or they are not to be had here.
    Refused(String),
    /// The conversation broke off.
    Broken(LinkError),
}

impl From<LinkError> for NotCarried {
    fn from(error: LinkError) -> NotCarried {
        NotCarried::Broken(error)
    }
}

/// Brings to a host those of a step's files that it does not have; `want` asks which.
pub(super) async fn bring(
    link: &mut Link,
    settings: &LinkSettings,
    (plan, step, host): (&Plan, &PlannedStep, &HostName),
    (want, nonce, id): (&Program, &str, &RunnerId),
) -> Result<(), NotCarried> {
    let answer = ask(link, settings.first_word, want, nonce, id).await?;
    // What has begun has had its files.
    if answer.is_empty() {
        return Ok(());
    }
    let mut lines = answer.lines();
    let directory = lines.next().filter(|line| line.starts_with('/') && !line.contains(char::is_control));
    let Some(directory) = directory else {
        return Err(NotCarried::Refused("the host does not say where files are to be brought".to_owned()));
    };
    let known: BTreeMap<Digest, &PlannedFile> =
        step.files.iter().filter_map(|file| Some((file.digest_on(host)?, file))).collect();
    // Each once, and nothing else: what a host asks for may be anything.
    let wanted: BTreeSet<Digest> = lines.filter_map(|line| format!("sha256:{line}").parse().ok()).collect();
    // A plan that was made before there were such files has a script that does not look for them.
    let alone = step.script == Digest::of(INSTALL.as_bytes());
    let mut archive = Archive::default();
    for (digest, file) in known.iter().filter(|(digest, _)| wanted.contains(digest)) {
        if let Some(text) = plan.texts.get(digest) {
            archive.add_text(*digest, text);
        } else {
            let (folder, name) = (settings.files.clone(), file.from.clone());
            let open = move || folder.open(&name).map_err(|error| io::Error::other(format!("files/{name}: {error}")));
            let unreadable = |error: io::Error| NotCarried::Refused(error.to_string());
            let content = open().map_err(unreadable)?;
            let length = content.metadata().map_err(unreadable)?.len();
            if !alone || length < LARGE_BYTES {
                archive.add_file(*digest, open);
                continue;
            }
            let content = BufReader::with_capacity(PIECE_BYTES, content.take(length));
            let command = bring_whole_command(step, (directory, nonce), digest, length);
            feed(link, &command, content, &format!("files/{}", file.from)).await?;
        }
    }
    if archive.is_empty() { Ok(()) } else { feed(link, &bring_command(step, directory), archive, "the files").await }
}

/// Has a host take `what` on a command's standard input.
async fn feed(link: &mut Link, command: &[String], content: impl BufRead + Send, what: &str) -> Result<(), NotCarried> {
    let mut noise = Vec::new();
    let mut keep = |_, bytes: &[u8]| {
        let room = NOISE_BYTES_MAX.saturating_sub(noise.len());
        noise.extend_from_slice(&bytes[..bytes.len().min(room)]);
    };
    match link.feed(command, content, &mut keep).await? {
        ExecEnd::Exit(0) => Ok(()),
        _ => Err(NotCarried::Refused(format!(
            "the host did not take {what}: {}",
            String::from_utf8_lossy(&noise).trim()
        ))),
    }
}

/// Asks a host's runner something that it answers with text.
async fn ask(
    link: &mut Link,
    first_word: Duration,
    program: &Program,
    nonce: &str,
    id: &RunnerId,
) -> Result<String, NotCarried> {
    let (mut answer, mut said) = (Answer::new(nonce, id, Offsets::default()), Vec::new());
    let ended = link
        .ask(program, first_word, &mut answer, &mut |stream, bytes: &[u8]| {
            let room = if stream == Stream::Out { ANSWER_BYTES_MAX.saturating_sub(said.len()) } else { 0 };
            said.extend_from_slice(&bytes[..bytes.len().min(room)]);
        })
        .await;
    if let Some(why) = answer.refused.take() {
        return Err(NotCarried::Refused(why));
    }
    match answer.ended {
        Some((Verdict::Exit(0), ..)) => Ok(String::from_utf8_lossy(&said).into_owned()),
        Some(_) => Err(NotCarried::Refused("the host has no place for the files".to_owned())),
        None => match ended {
            // Nothing was to begin by it.
            Err(error) if error.silent => Err(NotCarried::Refused(error.why)),
            Err(error) => Err(NotCarried::Broken(error)),
            Ok(_) => Err(NotCarried::Refused(format!("the host ran no shell for it: {}", answer.noise()))),
        },
    }
}

/// Takes what a step fetched to `place`; an archive gets `.tar` behind its name. What is secret in it is hidden.
pub(super) async fn take(
    link: &mut Link,
    first_word: Duration,
    (program, nonce, id): (&Program, &str, &RunnerId),
    masker: &Masker,
    (place, most_bytes): (&Path, u64),
) -> Result<(), NotCarried> {
    let unkept = |error: io::Error| NotCarried::Refused(format!("cannot keep {}: {error}", place.display()));
    let mut file = FetchedFile::create(place.to_owned(), most_bytes, masker).map_err(unkept)?;
    let mut answer = Answer::new(nonce, id, Offsets::default());
    let ended = link
        .ask(program, first_word, &mut answer, &mut |stream, bytes: &[u8]| {
            if stream == Stream::Out {
                file.push(bytes);
            }
        })
        .await;
    let whole = file.finish().map_err(unkept)?;
    match (whole, answer.ended, ended) {
        (true, Some((Verdict::Exit(0), ..)), _) => Ok(()),
        (_, None, Err(error)) => Err(NotCarried::Broken(error)),
        _ => Err(NotCarried::Refused(format!(
            "what was fetched did not arrive whole: {}",
            answer.refused.take().unwrap_or_else(|| answer.noise())
        ))),
    }
}
