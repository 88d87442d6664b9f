//! The audit's chain, by what crashes and people leave of it.

use std::fs;
use std::path::PathBuf;

use super::super::audit::{self, LastKnown};
use super::super::fault;
use super::super::store::Store;
use super::{layout, task};
use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::audit::Entry;

/// A line about an event that is not there would accuse somebody of having removed it.
#[test]
fn the_audit_says_nothing_of_what_is_not_on_the_disk_yet() {
    let mut failed_syncs = 0;
    for count in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        let mut store = Store::open(layout.clone()).unwrap();
        store.write(&[task(1)], Vec::new(), Vec::new()).unwrap();
        fault::after(Some(count));
        let lines = vec![(TaskId(1), b"{}\n".to_vec())];
        let written = store.write(&[task(2)], lines, vec![Entry::of_daemon(Timestamp(0), "test", None)]);
        fault::after(None);
        let lines = audit::verify(&layout, None).unwrap().head.seq;
        match written {
            Ok(()) => {
                assert_eq!(lines, 1);
                break;
            }
            Err(error) if error.to_string().contains("/runs/") && error.to_string().contains("cannot sync") => {
                failed_syncs += 1;
                assert_eq!(lines, 0, "{error}");
            }
            Err(_) => {}
        }
    }
    assert_eq!(failed_syncs, 1);
}

#[test]
fn a_damaged_audit_says_what_to_do_and_that_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let entries = (0..3).map(|n| Entry::of_daemon(Timestamp(n), "test", None)).collect();
    Store::open(layout.clone()).unwrap().write(&[], Vec::new(), entries).unwrap();
    let path = audit::files(&layout).unwrap().remove(0);
    let whole = fs::read_to_string(&path).unwrap();
    let begin = whole[..whole.len() - 1].rfind('\n').unwrap() + 1;
    for damaged in [whole.replace("\"seq\":3", "\"seq\":x"), format!("{}\n\n", &whole[..begin + 20])] {
        fs::write(&path, &damaged).unwrap();
        let error = Store::open(layout.clone()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("line 3 of {} is damaged: ", path.display())), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged, "nothing was changed");
        let (_, command) = error.split_once("if there is none: ").unwrap();
        let (command, _) = command.split_once(", and start").unwrap();
        assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
        assert_eq!(fs::read_to_string(&path).unwrap(), whole[..begin]);
        assert_eq!(Store::open(layout.clone()).unwrap().audit_head().seq, 2);
        fs::remove_file(format!("{}.damaged", path.display())).unwrap();
    }
}

#[test]
fn an_audit_cut_at_any_byte_goes_on_from_its_last_whole_line() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let entries = |from: i64| (from..from + 3).map(|n| Entry::of_daemon(Timestamp(n), "test", None)).collect();
    Store::open(layout.clone()).unwrap().write(&[], Vec::new(), entries(0)).unwrap();
    let path = audit::files(&layout).unwrap().remove(0);
    let whole = fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let mut store = Store::open(layout.clone()).unwrap();
        let kept = whole[..length].split(|byte| *byte == b'\n').count() as u64 - 1;
        assert_eq!(store.audit_head().seq, kept, "cut at byte {length}");
        store.write(&[], Vec::new(), entries(10)).unwrap();
        let verified = audit::verify(&layout, None).unwrap();
        let torn = !whole[..length].is_empty() && whole[length - 1] != b'\n';
        // The end that is remembered was never in this chain, or is not in it any more.
        let lines = kept + 3 + u64::from(torn) + 1;
        assert_eq!((verified.broken, verified.head.seq), (None, lines), "cut at byte {length}");
        assert!(verified.last == LastKnown::Passes && !verified.unfinished, "cut at byte {length}");
        assert_eq!(verified.cuts.len(), 1, "cut at byte {length}");
    }
    assert!(layout.audit().join("torn").exists(), "what was cut off is kept aside");
}

#[test]
fn the_audit_goes_on_over_months_and_never_back() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    let month_ms = 31 * 86_400_000;
    for n in [0, 1, 2, 1, 0, 2, 3] {
        store.write(&[], Vec::new(), vec![Entry::of_daemon(Timestamp(n * month_ms), "test", None)]).unwrap();
    }
    drop(store);
    Store::open(layout.clone())
        .unwrap()
        .write(&[], Vec::new(), vec![Entry::of_daemon(Timestamp(0), "t", None)])
        .unwrap();
    let names: Vec<String> =
        audit::files(&layout).unwrap().iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["1970-01.jsonl", "1970-02.jsonl", "1970-03.jsonl", "1970-04.jsonl"]);
    let verified = audit::verify(&layout, None).unwrap();
    assert_eq!((verified.broken, verified.head.seq), (None, 8));
}

/// Numbers from a seed (`splitmix64`).
fn roll(state: &mut u64, sides: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
}

/// `AUDIT_EDITS=10000` makes it the long campaign; every edit is drawn from its own number, which a failure names.
#[test]
fn every_edit_of_the_audit_is_found_and_the_first_wrong_line_named() {
    let edits: u64 = std::env::var("AUDIT_EDITS").map_or(1_000, |count| count.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    let entry = |n: i64| Entry::of_daemon(Timestamp(n * 86_400_000), "test", Some(format!("act {n}")));
    store.write(&[], Vec::new(), (0..90).map(entry).collect()).unwrap();
    let head = store.audit_head();
    drop(store);
    let files: Vec<(PathBuf, Vec<u8>)> =
        audit::files(&layout).unwrap().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert_eq!(audit::verify(&layout, Some(head)).unwrap().broken, None);
    for edit in 0..edits {
        let mut dice = edit;
        let (path, whole) = &files[roll(&mut dice, files.len())];
        let mut lines: Vec<Vec<u8>> = whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let at = roll(&mut dice, lines.len());
        match roll(&mut dice, 4) {
            0 => {
                let byte = roll(&mut dice, lines[at].len());
                lines[at][byte] ^= 1 << roll(&mut dice, 7);
            }
            1 => drop(lines.remove(at)),
            2 if lines.len() > 1 => {
                let other = (at + 1 + roll(&mut dice, lines.len() - 1)) % lines.len();
                lines.swap(at, other);
            }
            _ => lines.truncate(at),
        }
        fs::write(path, lines.concat()).unwrap();
        let verified = audit::verify(&layout, Some(head)).unwrap();
        assert!(
            verified.broken.is_some() || !verified.passes,
            "edit {edit} of {} line {at} was not found",
            path.display()
        );
        if let Some((_, number, _)) = verified.broken {
            assert!(number >= 1 && verified.head.seq < 90, "edit {edit}");
        }
        fs::write(path, whole).unwrap();
    }
    assert!(audit::verify(&layout, Some(head)).unwrap().passes, "and the right one still holds");
}
