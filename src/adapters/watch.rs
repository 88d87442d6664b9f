//! Tells where to look: inotify on the drop boxes. Floor 3.
//!
//! **Invariant:** a hint, never a fact. Lost, merged or missing notices cost at most the time to the next rescan.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::domain::drop_name::{DropName, is_directory_name, is_drop_name};
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
        /// In which box.
        drop_box: DropBox,
        /// Where there.
        name: DropName,
        /// What happened to it.
        what: Happened,
    },
    /// A directory appeared in a box.
    Directory {
        /// In which box.
        drop_box: DropBox,
        /// Its name.
        name: String,
        /// Whether it was renamed in, with what is in it.
        moved: bool,
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
    /// It was renamed in.
    Whole,
    /// It was made, and is no file.
    MadeOther,
    /// Its mode or owner was changed: a directory may be somebody's own only then.
    Given,
}

/// The directories that are watched: a box, or somebody's own directory in it.
type Watched = Arc<Mutex<HashMap<PathBuf, (DropBox, Option<String>)>>>;

/// A running watch on the drop boxes.
#[derive(Debug)]
pub struct SpoolWatch {
    /// Dropping it ends the watch.
    watcher: Option<RecommendedWatcher>,
    watched: Watched,
    notices: UnboundedReceiver<Notice>,
    /// Kept so that the channel stays open where there is no inotify.
    _sender: UnboundedSender<Notice>,
}

impl SpoolWatch {
    /// Begins to watch directories. Where the system has no watches left, only rescans find files: it says so.
    #[must_use]
    pub fn start(boxes: &[(DropBox, PathBuf)]) -> SpoolWatch {
        let (sender, notices) = unbounded_channel();
        let all = boxes.iter().map(|(drop_box, path)| (path.clone(), (*drop_box, None))).collect();
        let watched: Watched = Arc::new(Mutex::new(all));
        let watcher = begin(boxes, Arc::clone(&watched), sender.clone())
            .inspect_err(|error| {
                tracing::warn!("cannot watch the drop boxes, files are found every 30 s only: {error}");
            })
            .ok();
        SpoolWatch { watcher, watched, notices, _sender: sender }
    }

    /// Watches somebody's own directory in a box, too. Where that does not work rescans find what is put there.
    pub fn add(&mut self, drop_box: DropBox, box_path: &Path, directory: String) {
        let Some(watcher) = &mut self.watcher else { return };
        let path = box_path.join(&directory);
        if let Err(error) = watcher.watch(&path, RecursiveMode::NonRecursive) {
            tracing::debug!("cannot watch {}: {error}", path.display());
        }
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.insert(path, (drop_box, Some(directory)));
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
    boxes: &[(DropBox, PathBuf)],
    watched: Watched,
    sender: UnboundedSender<Notice>,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let found = notices(event, &watched);
        for notice in found {
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
fn notices(event: notify::Result<Event>, watched: &Watched) -> Vec<Notice> {
    let Ok(event) = event else { return vec![Notice::Lost] };
    if event.need_rescan() {
        return vec![Notice::Lost];
    }
    let what = match event.kind {
        EventKind::Create(CreateKind::File | CreateKind::Any) => Happened::Made,
        EventKind::Access(AccessKind::Open(_)) => Happened::Opened,
        EventKind::Modify(ModifyKind::Data(_)) => Happened::Changed,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Happened::Closed,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Happened::Whole,
        // A directory, a FIFO or a link that appears under the name of a file is for `bad/` as it is.
        EventKind::Create(_) => Happened::MadeOther,
        EventKind::Modify(ModifyKind::Metadata(_)) => Happened::Given,
        _ => return Vec::new(),
    };
    event.paths.iter().filter_map(|path| notice(path, what, watched)).collect()
}

fn notice(path: &Path, what: Happened, watched: &Watched) -> Option<Notice> {
    let name = path.file_name()?.to_str()?;
    let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    let (drop_box, directory) = watched.get(path.parent()?)?.clone();
    match directory {
        _ if what == Happened::Given && is_drop_name(name) => None,
        None if is_drop_name(name) => Some(Notice::File { drop_box, name: name.into(), what }),
        Some(directory) if is_drop_name(name) => {
            Some(Notice::File { drop_box, name: DropName::within(&directory, name), what })
        }
        None if matches!(what, Happened::Whole | Happened::MadeOther | Happened::Given) && is_directory_name(name) => {
            Some(Notice::Directory { drop_box, name: name.to_owned(), moved: what == Happened::Whole })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_without_a_path_asks_for_a_rescan() {
        let event = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        let none = Watched::default();
        assert_eq!(notices(Ok(event), &none), [Notice::Lost]);
        assert_eq!(notices(Err(notify::Error::generic("lost")), &none), [Notice::Lost]);
    }

    #[tokio::test]
    async fn files_are_seen_when_they_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = SpoolWatch::start(&[(DropBox::New, dir.path().to_owned())]);
        std::fs::write(dir.path().join("a.json"), "{}").unwrap();
        std::fs::write(dir.path().join(".b"), "{}").unwrap();
        std::fs::rename(dir.path().join(".b"), dir.path().join("b.json")).unwrap();
        std::fs::create_dir(dir.path().join("alice")).unwrap();
        watch.add(DropBox::New, dir.path(), "alice".to_owned());
        std::fs::write(dir.path().join("alice/.c"), "{}").unwrap();
        std::fs::rename(dir.path().join("alice/.c"), dir.path().join("alice/c.json")).unwrap();
        let (mut seen, mut directories) = (Vec::new(), Vec::new());
        while seen.last().is_none_or(|(name, _): &(DropName, _)| name.as_str() != "alice/c.json") {
            match watch.next().await {
                Notice::File { name, what, .. } => seen.push((name, what)),
                Notice::Directory { name, .. } => directories.push(name),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(directories, ["alice"]);
        let of = |name: &str| {
            seen.iter().filter(|(seen, _)| seen.as_str() == name).map(|(_, what)| *what).collect::<Vec<_>>()
        };
        assert_eq!(of("a.json"), [Happened::Made, Happened::Opened, Happened::Changed, Happened::Closed]);
        assert_eq!(of("b.json"), [Happened::Whole]);
        assert_eq!(of("alice/c.json"), [Happened::Whole]);
    }
}
