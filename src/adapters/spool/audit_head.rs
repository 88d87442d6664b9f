//! `audit/head`: where the chain ended last, and which cuts nobody took note of. Floor 3.
//!
//! **Invariant:** written only after the lines it speaks of are durable, so it may lag behind the chain and is never ahead of
//! it. It fills one sector, is written over itself and never changes its length: whatever stops the daemon, or cuts the power, it
//! holds an end that the chain had.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::FILE_MODE;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::{SpoolError, fault_point};
use crate::domain::audit::{Head, LastEnd};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What is remembered of the end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// This.
    Of(LastEnd),
    /// Nothing: the file is not there, or is none of ours.
    Lost,
}

/// Reads what is remembered.
pub(super) fn read(layout: &Layout) -> Result<Memory, SpoolError> {
    let path = layout.audit_head();
    match fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim_end().parse().map_or(Memory::Lost, Memory::Of)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Memory::Lost),
        Err(error) => Err(SpoolError::io("read", &path, error)),
    }
}

/// The file, as the daemon writes it.
#[derive(Debug)]
pub(super) struct HeadFile {
    path: PathBuf,
    aside: PathBuf,
    /// Open where it can be written over itself.
    file: Option<File>,
    known: LastEnd,
}

impl HeadFile {
    /// Goes on from what is remembered. A file that is not there is made when the next end is written.
    pub(super) fn new(layout: &Layout, memory: Memory) -> HeadFile {
        let known = match memory {
            Memory::Of(known) => known,
            Memory::Lost => LastEnd::default(),
        };
        HeadFile { path: layout.audit_head(), aside: layout.staging().join("head"), file: None, known }
    }

    /// Returns what is remembered.
    pub(super) fn known(&self) -> &LastEnd {
        &self.known
    }

    /// Remembers another end. The first time, and where a cut is added or taken away, it is durable when it returns.
    pub(super) fn write(&mut self, head: Head, change: impl FnOnce(&mut LastEnd)) -> Result<(), SpoolError> {
        let mut known = LastEnd { head, ..self.known.clone() };
        change(&mut known);
        let durable = self.file.is_none() || known.cuts != self.known.cuts;
        fault_point("write", &self.path)?;
        self.put(&known, durable).map_err(|e| SpoolError::io("write", &self.path, e))?;
        self.known = known;
        Ok(())
    }

    fn put(&mut self, known: &LastEnd, durable: bool) -> io::Result<()> {
        let text = padded(known);
        let fits = text.len() == SECTOR;
        if fits && self.file.is_none() {
            self.file = open_sector(&self.path)?;
        }
        if let Some(file) = self.file.as_ref().filter(|_| fits) {
            file.write_all_at(text.as_bytes(), 0)?;
            return if durable { file.sync_all() } else { Ok(()) };
        }
        // A file that changed its length might be there after a power cut with its new length and its old bytes.
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(FILE_MODE).open(&self.aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&self.aside, &self.path)?;
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
        self.file = fits.then_some(file);
        Ok(())
    }
}

/// Returns the text that fills whole sectors: one, but for a great many cuts.
fn padded(known: &LastEnd) -> String {
    let mut text = known.to_string();
    let room = text.len().saturating_add(1).next_multiple_of(SECTOR).saturating_sub(text.len()).saturating_sub(1);
    text.extend(std::iter::repeat_n(' ', room));
    text.push('\n');
    text
}

/// Opens the file if it is one sector; nothing where it is not, or is not there.
fn open_sector(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Ok((file.metadata()?.len() == SECTOR as u64).then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::adapters::spool::audit::{self, LastKnown};
    use crate::adapters::spool::store::Store;
    use crate::base::ids::Actor;
    use crate::base::time::Timestamp;
    use crate::domain::audit::{CUT, Entry};

    const NOW: Timestamp = Timestamp(1_000);

    /// A state whose audit has so many lines, and the file that holds them.
    fn chain(lines: i64) -> (tempfile::TempDir, Layout, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        let mut store = Store::open(layout.clone()).unwrap();
        for n in 0..lines {
            store.write(&[], Vec::new(), vec![Entry::of_daemon(Timestamp(n), "test", None)]).unwrap();
        }
        let file = layout.audit().join("1970-01.jsonl");
        (dir, layout, file)
    }

    fn lines_of(text: &str, count: usize) -> String {
        text.split_inclusive('\n').take(count).collect()
    }

    /// Opens the store as a daemon does, and returns what it says of cuts.
    fn start(layout: &Layout) -> (Store, Vec<String>) {
        let mut store = Store::open(layout.clone()).unwrap();
        store.say_cut(NOW).unwrap();
        let verified = audit::verify(layout, None).unwrap();
        assert_eq!((verified.broken, verified.last), (None, LastKnown::Passes));
        let said = verified.cuts.iter().map(|cut| cut.line.entry.detail.clone().unwrap()).collect();
        assert!(verified.cuts.iter().all(|cut| cut.line.entry.act == CUT));
        (store, said)
    }

    #[test]
    fn whatever_is_removed_at_the_end_is_said_by_the_next_daemon() {
        let (_dir, layout, file) = chain(9);
        let (whole, head) = (fs::read_to_string(&file).unwrap(), fs::read(layout.audit_head()).unwrap());
        let forged = || {
            let mut store = Store::open(layout.clone()).unwrap();
            for n in 0..9 {
                store.write(&[], Vec::new(), vec![Entry::of_daemon(Timestamp(n), "forged", None)]).unwrap();
            }
        };
        let torn = lines_of(&whole, 8) + "{\"seq\":9,\"pr";
        let cases: [(&str, &dyn Fn(), &str); 8] = [
            ("nothing", &|| {}, ""),
            (
                "a line",
                &|| fs::write(&file, lines_of(&whole, 8)).unwrap(),
                "1 line(s) were removed: the chain ended at line 9",
            ),
            (
                "seven",
                &|| fs::write(&file, lines_of(&whole, 2)).unwrap(),
                "7 line(s) were removed: the chain ended at line 9",
            ),
            ("all", &|| fs::write(&file, "").unwrap(), "9 line(s) were removed: the chain ended at line 9"),
            ("the file", &|| fs::remove_file(&file).unwrap(), "9 line(s) were removed"),
            ("half a line", &|| fs::write(&file, &torn).unwrap(), "1 line(s) were removed"),
            ("the memory", &|| fs::remove_file(layout.audit_head()).unwrap(), "audit/head, which remembers where"),
            (
                "what was written anew",
                &|| {
                    fs::write(&file, lines_of(&whole, 4)).unwrap();
                    forged();
                    fs::write(layout.audit_head(), &head).unwrap();
                },
                "written anew: its line 9",
            ),
        ];
        for (what, remove, wanted) in cases {
            fs::write(&file, &whole).unwrap();
            fs::write(layout.audit_head(), &head).unwrap();
            remove();
            let (store, said) = start(&layout);
            let said = said.last().cloned().unwrap_or_default();
            assert!(said.starts_with(wanted) || said.contains(wanted), "{what}: {said}");
            assert_eq!(store.open_cuts().is_empty(), wanted.is_empty(), "{what}");
        }
    }

    #[test]
    fn a_cut_is_said_until_somebody_took_note_of_it() {
        let (_dir, layout, file) = chain(5);
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, lines_of(&whole, 3)).unwrap();
        assert_eq!(audit::open_cuts(&layout).unwrap().len(), 0);
        let (mut store, _) = start(&layout);
        assert_eq!(audit::open_cuts(&layout).unwrap(), [4].into());
        store.write(&[], Vec::new(), vec![Entry::of_daemon(NOW, "test", None)]).unwrap();
        drop(store);
        let (mut store, said) = start(&layout);
        assert_eq!((said.len(), store.open_cuts()), (1, &[4].into()), "it is said once, and remembered");
        let by = Actor { uid: 7, user: "olga".to_owned() };
        for line in [5, 4] {
            let noted = Entry::of_acknowledged(NOW, by.clone(), line, "a disk was restored".to_owned());
            store.write(&[], Vec::new(), vec![noted]).unwrap();
        }
        assert!(audit::open_cuts(&layout).unwrap().is_empty());
        drop(store);
        assert!(start(&layout).0.open_cuts().is_empty());
        let verified = audit::verify(&layout, None).unwrap();
        let noted = verified.cuts[0].acknowledged.as_ref().unwrap();
        assert_eq!((noted.seq, noted.entry.by.as_ref()), (7, Some(&by)));
    }

    #[test]
    fn a_memory_that_lags_behind_is_what_a_crash_leaves() {
        let (_dir, layout, _) = chain(4);
        let early = fs::read(layout.audit_head()).unwrap();
        let mut store = Store::open(layout.clone()).unwrap();
        for n in 0..3 {
            store.write(&[], Vec::new(), vec![Entry::of_daemon(Timestamp(n << 32), "test", None)]).unwrap();
        }
        drop(store);
        // The lines since stand in another month's file.
        fs::write(layout.audit_head(), early).unwrap();
        assert_eq!(start(&layout).1, [""; 0]);
    }

    #[test]
    fn a_file_that_is_changed_below_the_daemon_ends_it() {
        let (_dir, layout, file) = chain(0);
        let mut store = Store::open(layout.clone()).unwrap();
        let mut add = || store.write(&[], Vec::new(), vec![Entry::of_daemon(NOW, "test", None)]);
        add().unwrap();
        add().unwrap();
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, lines_of(&whole, 1)).unwrap();
        let why = add().unwrap_err().to_string();
        assert!(why.contains("somebody else changed it"), "{why}");
        fs::write(&file, &whole).unwrap();
        add().unwrap();
        fs::rename(&file, file.with_extension("old")).unwrap();
        let why = add().unwrap_err().to_string();
        assert!(why.contains("replaced or removed"), "{why}");
    }

    /// Of a file that got longer or shorter a power cut may leave the new length with the old bytes.
    #[test]
    fn what_is_remembered_always_fills_one_sector_of_one_file() {
        use std::os::unix::fs::MetadataExt as _;
        let (_dir, layout, _) = chain(0);
        let stands = || fs::metadata(layout.audit_head()).map(|meta| (meta.ino(), meta.len())).unwrap();
        let first = stands();
        assert_eq!(first.1, 512);
        for n in 0..12 {
            let mut store = Store::open(layout.clone()).unwrap();
            store.write(&[], Vec::new(), vec![Entry::of_daemon(Timestamp(n), "test", None)]).unwrap();
            store.write(&[], Vec::new(), vec![Entry::of_daemon(Timestamp(n), CUT, None)]).unwrap();
            assert_eq!(stands(), first);
        }
        let known = LastEnd { head: Head::default(), cuts: (0..200).collect() };
        let mut file = HeadFile::new(&layout, Memory::Lost);
        for known in [known, LastEnd::default()] {
            file.write(known.head, |end| *end = known.clone()).unwrap();
            assert_eq!(read(&layout).unwrap(), Memory::Of(known));
            assert_eq!(stands().1 % 512, 0);
        }
        assert_eq!(stands().1, 512);
    }

    #[test]
    fn tasks_without_any_audit_had_one() {
        let (_dir, layout, file) = chain(3);
        fs::create_dir(layout.run(crate::base::ids::TaskId(1))).unwrap();
        fs::remove_file(&file).unwrap();
        fs::remove_file(layout.audit_head()).unwrap();
        assert_eq!(start(&layout).1, ["the whole audit is gone, and there are tasks"]);
    }
}
