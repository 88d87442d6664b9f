//! Tells where to look: inotify on the drop boxes. Floor 3.
//!
//! **Invariant:** a hint, never a fact. Lost, merged or missing notices cost at most the time to the next rescan.

use std::path::Path;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::engine::DropBox;

/// What the watcher has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Look at everything.
    Rescan,
    /// Look at everything: notices were lost.
    Lost,
    /// Look at this file.
    File {
        /// Where it stands.
        drop_box: DropBox,
        /// Its name.
        name: String,
        /// What happened to it.
        what: Happened,
    },
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Its name appeared: it was made, or linked in.
    Made,
    /// Somebody opened it, to read or to write.
    Opened,
    /// It was written to.
    Changed,
    /// Somebody closed it after writing.
    Closed,
    /// It was renamed in, or is no file at all.
    Whole,
}

/// A running watch on the drop boxes.
#[derive(Debug)]
pub struct SpoolWatch {
    /// Dropping it ends the watch.
    _watcher: Option<RecommendedWatcher>,
    notices: UnboundedReceiver<Notice>,
    /// Kept so that the channel stays open where there is no inotify.
    _sender: UnboundedSender<Notice>,
}

impl SpoolWatch {
    /// Begins to watch directories. Where the system has no watches left, only rescans find files: it says so.
    #[must_use]
    pub fn start(boxes: &[(DropBox, std::path::PathBuf)]) -> SpoolWatch {
        let (sender, notices) = unbounded_channel();
        let watcher = begin(boxes, sender.clone())
            .inspect_err(|error| {
                tracing::warn!("cannot watch the drop boxes, files are found every 30 s only: {error}");
            })
            .ok();
        SpoolWatch { _watcher: watcher, notices, _sender: sender }
    }

    /// Waits for the next notice.
    pub async fn next(&mut self) -> Notice {
        // The sender is held above, so the channel never closes.
        self.notices.recv().await.unwrap_or(Notice::Rescan)
    }

    /// Returns a notice that has come already.
    pub fn try_next(&mut self) -> Option<Notice> {
        self.notices.try_recv().ok()
    }
}

fn begin(
    boxes: &[(DropBox, std::path::PathBuf)],
    sender: UnboundedSender<Notice>,
) -> notify::Result<RecommendedWatcher> {
    let watched = boxes.to_vec();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        for notice in notices(event, &watched) {
            // The daemon that no longer listens is stopping.
            let _ = sender.send(notice);
        }
    })?;
    for (_, path) in boxes {
        watcher.watch(path, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Translates one event. An overflow may come without any path, so it is looked for first.
fn notices(event: notify::Result<Event>, boxes: &[(DropBox, std::path::PathBuf)]) -> Vec<Notice> {
    let Ok(event) = event else { return vec![Notice::Lost] };
    if event.need_rescan() {
        return vec![Notice::Lost];
    }
    let what = match event.kind {
        EventKind::Create(CreateKind::File | CreateKind::Any) => Happened::Made,
        EventKind::Access(AccessKind::Open(_)) => Happened::Opened,
        EventKind::Modify(ModifyKind::Data(_)) => Happened::Changed,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Happened::Closed,
        // A directory, a FIFO or a link that appears is for `bad/` as it is.
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) | EventKind::Create(_) => Happened::Whole,
        _ => return Vec::new(),
    };
    event.paths.iter().filter_map(|path| notice(path, what, boxes)).collect()
}

fn notice(path: &Path, what: Happened, boxes: &[(DropBox, std::path::PathBuf)]) -> Option<Notice> {
    let name = path
        .file_name()?
        .to_str()
        .filter(|name| !name.starts_with('.') && Path::new(name).extension().is_some_and(|ending| ending == "json"))?;
    let (drop_box, _) = boxes.iter().find(|(_, dir)| Some(dir.as_path()) == path.parent())?;
    Some(Notice::File { drop_box: *drop_box, name: name.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_without_a_path_asks_for_a_rescan() {
        let event = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert_eq!(notices(Ok(event), &[]), [Notice::Lost]);
        assert_eq!(notices(Err(notify::Error::generic("lost")), &[]), [Notice::Lost]);
    }

    #[tokio::test]
    async fn files_are_seen_when_they_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = SpoolWatch::start(&[(DropBox::New, dir.path().to_owned())]);
        std::fs::write(dir.path().join("a.json"), "{}").unwrap();
        std::fs::write(dir.path().join(".b"), "{}").unwrap();
        std::fs::rename(dir.path().join(".b"), dir.path().join("b.json")).unwrap();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|(_, what)| *what != Happened::Whole) {
            if let Notice::File { name, what, .. } = watch.next().await {
                seen.push((name, what));
            }
        }
        let of = |name: &str| seen.iter().filter(|(seen, _)| seen == name).map(|(_, what)| *what).collect::<Vec<_>>();
        assert_eq!(of("a.json"), [Happened::Made, Happened::Opened, Happened::Changed, Happened::Closed]);
        assert_eq!(of("b.json"), [Happened::Whole]);
    }
}
