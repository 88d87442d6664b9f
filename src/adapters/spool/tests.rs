//! The store, by failing each of its operations in turn and by what crashes leave.

mod chain;

use std::collections::BTreeSet;
use std::fs;

use super::layout::Layout;
use super::load::Loaded;
use super::store::{NewFiles, Store};
use super::{SpoolError, audit, fault, reader};
use crate::base::digest::Digest;
use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::audit::Entry;
use crate::domain::run::TaskState;
use crate::engine::DropBox;

fn layout(dir: &tempfile::TempDir) -> Layout {
    let layout = Layout::new(dir.path().join("state"));
    layout.create(None, true).unwrap();
    layout
}

/// A task as it was found, with its plan.
struct Whole {
    id: TaskId,
    plan: Vec<u8>,
    events: Vec<u8>,
    standing: Vec<TaskState>,
}

/// Everything that a start finds.
fn load(store: &mut Store) -> (Vec<Whole>, Loaded) {
    let mut found = Vec::new();
    let loaded = store.load(|task| {
        found.push(Whole { id: task.id, plan: task.plan.read()?, events: task.events, standing: task.standing });
        Ok(())
    });
    (found, loaded.unwrap())
}

fn task(id: u64) -> NewFiles {
    NewFiles {
        id: TaskId(id),
        plan: b"{\"plan\":1}".to_vec(),
        events: b"{\"event\":\"accepted\"}\n".to_vec(),
        state: TaskState::New,
        view: format!("{{\"id\":{id},\"digest\":\"d\",\"admission\":{{}}}}").into_bytes(),
        gates: None,
    }
}

/// A whole life of three tasks: made, voted on, started, ended.
fn live(store: &mut Store) -> Result<(), SpoolError> {
    let tasks = [task(1), task(2), task(3)];
    store.write(&tasks, Vec::new(), Vec::new())?;
    store.publish_views(&tasks)?;
    for (event, from, to) in
        [("approved", TaskState::New, TaskState::Ready), ("started", TaskState::Ready, TaskState::Running)]
    {
        let line = format!("{{\"event\":\"{event}\"}}\n").into_bytes();
        let audit = [1, 2].map(|n| Entry::of_daemon(Timestamp(n), event, None)).to_vec();
        store.write(&[], vec![(TaskId(1), line.clone()), (TaskId(2), line)], audit)?;
        store.move_task(TaskId(1), from, to)?;
        store.move_task(TaskId(2), from, to)?;
    }
    store.write(&[], vec![(TaskId(1), b"{\"event\":\"closed\"}\n".to_vec())], Vec::new())?;
    store.finish(TaskId(1), TaskState::Running, b"{\"record\":1}", b"{\"id\":1}\n")?;
    store.settle()?;
    store.replan(TaskId(3), 2, b"{\"plan\":2}", &task(3).view)?;
    store.reopen(TaskId(1), &task(1).view)?;
    store.write(&[], vec![(TaskId(1), b"{\"event\":\"retried\"}\n".to_vec())], Vec::new())?;
    store.finish(TaskId(1), TaskState::Running, b"{\"record\":1}", b"{\"id\":1}\n")?;
    store.settle()
}

#[test]
fn a_failure_at_any_operation_leaves_before_or_after() {
    for count in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        let mut store = Store::open(layout.clone()).unwrap();
        fault::after(Some(count));
        let lived = live(&mut store);
        fault::after(None);
        drop(store);
        let (unfinished, loaded) = load(&mut Store::open(layout.clone()).unwrap());
        for found in &unfinished {
            assert_eq!(found.plan, task(1).plan, "after {count} operations");
            assert!(found.events.starts_with(&task(1).events), "after {count} operations");
            let reopening = found.standing == [TaskState::Running, TaskState::Done];
            assert!(found.standing.len() <= 1 || reopening, "after {count} operations: {:?}", found.standing);
        }
        let verified = audit::verify(&layout, None).unwrap();
        assert_eq!(verified.broken, None, "after {count} operations");
        if lived.is_ok() {
            assert_eq!(verified.head.seq, 4);
            assert_eq!(fs::read(layout.later_plan(TaskId(3), 2)).unwrap(), b"{\"plan\":2}");
            assert!(count > 20, "the life has more operations than {count}");
            assert_eq!(unfinished.len(), 2, "task 1 is done and is not read");
            assert_eq!(loaded.history, b"{\"id\":1}\n{\"id\":1,\"reopened\":true}\n{\"id\":1}\n");
            assert_eq!(loaded.next_id, 4);
            assert_eq!(fs::read(layout.task_file(TaskState::Done, TaskId(1))).unwrap(), b"{\"record\":1}");
            return;
        }
    }
}

#[test]
fn a_journal_cut_at_any_byte_keeps_its_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    store.write(&[task(1)], Vec::new(), Vec::new()).unwrap();
    store.publish_views(&[task(1)]).unwrap();
    let journal = layout.events(TaskId(1));
    let lines = b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n";
    for end in 0..=lines.len() {
        fs::write(&journal, &lines[..end]).unwrap();
        let found = load(&mut store).0.remove(0);
        let whole = lines[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert_eq!(found.events, &lines[..whole]);
        assert_eq!(fs::read(&journal).unwrap(), &lines[..whole], "the torn line is cut off");
        if whole < end {
            assert!(fs::read(journal.with_extension("jsonl.torn")).unwrap().ends_with(&lines[whole..end]));
        }
    }
}

#[test]
fn a_dropped_file_with_a_tasks_number_makes_room_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    let dropped = layout.task_file(TaskState::New, TaskId(1));
    fs::write(&dropped, b"somebody's task").unwrap();
    assert!(!store.is_own(DropBox::New, "1.json"));
    store.write(&[task(1)], Vec::new(), Vec::new()).unwrap();
    store.publish_views(&[task(1)]).unwrap();
    assert!(store.is_own(DropBox::New, "1.json"));
    assert_eq!(fs::read(&dropped).unwrap(), task(1).view);
    assert_eq!(fs::read(dropped.with_extension("dropped-0.json")).unwrap(), b"somebody's task");
    // A start tells the two apart again, and takes no name for a number that is not written like ours.
    fs::write(layout.drop_box(DropBox::New).join("001.json"), b"another task").unwrap();
    drop(store);
    let mut store = Store::open(layout).unwrap();
    load(&mut store);
    assert!(store.is_own(DropBox::New, "1.json") && !store.is_own(DropBox::New, "1.dropped-0.json"));
}

#[test]
fn a_second_store_is_refused_with_the_first_ones_pid() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let _first = Store::open(layout.clone()).unwrap();
    let refused = Store::open(layout).unwrap_err();
    assert!(matches!(&refused, SpoolError::Locked { pid, .. } if *pid == std::process::id().to_string()), "{refused}");
}

#[test]
fn a_view_that_somebody_took_away_is_noted_and_what_stands_in_its_place_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    let tasks = [task(1), task(2)];
    store.write(&tasks, Vec::new(), Vec::new()).unwrap();
    store.publish_views(&tasks).unwrap();
    for id in [TaskId(1), TaskId(2)] {
        let path = layout.task_file(TaskState::New, id);
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"somebody's task").unwrap();
        assert!(!store.is_own(DropBox::New, &format!("{id}.json")), "it may have the same inode number");
    }
    store.move_task(TaskId(1), TaskState::New, TaskState::Running).unwrap();
    assert_eq!(store.take_lost_views(), [TaskId(1)]);
    store.restore_view(TaskId(1), TaskState::Running, b"view").unwrap();
    store.finish(TaskId(2), TaskState::New, b"record", b"{\"id\":2}\n").unwrap();
    store.settle().unwrap();
    assert_eq!(fs::read(layout.task_file(TaskState::Running, TaskId(1))).unwrap(), b"view");
    assert_eq!(fs::read(layout.task_file(TaskState::Done, TaskId(2))).unwrap(), b"record");
    for id in [TaskId(1), TaskId(2)] {
        assert_eq!(fs::read(layout.task_file(TaskState::New, id)).unwrap(), b"somebody's task");
    }
}

#[test]
fn what_a_power_cut_left_without_contents_was_never_announced() {
    for (plan, events) in [(&b""[..], &b"{}\n"[..]), (b"{\"plan\":", b"{}\n"), (b"{}", b"{\"event"), (b"\0\0", b"\0\0")]
    {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        let mut store = Store::open(layout.clone()).unwrap();
        store.write(&[task(1), task(2)], Vec::new(), Vec::new()).unwrap();
        fs::write(layout.plan(TaskId(2)), plan).unwrap();
        fs::write(layout.events(TaskId(2)), events).unwrap();
        let (unfinished, loaded) = load(&mut store);
        assert_eq!(unfinished.iter().map(|found| found.id).collect::<Vec<_>>(), [TaskId(1)]);
        assert_eq!(loaded.next_id, 3, "its number is not given again");
        assert_eq!(fs::read(layout.bad().join("run-2.json/plan.json")).unwrap(), plan, "its bytes are kept");
        // One that has a file in a state was announced, whatever became of it since.
        fs::write(layout.plan(TaskId(1)), plan).unwrap();
        fs::write(layout.task_file(TaskState::Running, TaskId(1)), b"view").unwrap();
        assert_eq!(load(&mut store).0.len(), 1);
    }
}

#[test]
fn zeros_at_a_journals_end_are_kept_aside_and_whole_lines_after_them_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    store.write(&[task(1)], Vec::new(), Vec::new()).unwrap();
    fs::write(layout.events(TaskId(1)), b"{\"a\":1}\n{\"b\"\0\0\0\0\n\0").unwrap();
    assert_eq!(load(&mut store).0[0].events, b"{\"a\":1}\n");
    let torn = fs::read(layout.events(TaskId(1)).with_extension("jsonl.torn")).unwrap();
    assert_eq!(torn, b"{\"b\"\0\0\0\0\n\0");
    let damaged = b"{\"a\":1}\n{\"b\"\0\0\0\0\n{\"c\":3}\n";
    fs::write(layout.events(TaskId(1)), damaged).unwrap();
    assert_eq!(load(&mut store).0[0].events, damaged);
    assert_eq!(fs::read(layout.events(TaskId(1))).unwrap(), damaged, "nothing was cut off");
}

#[test]
fn a_journal_that_was_replaced_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    store.write(&[task(1)], Vec::new(), Vec::new()).unwrap();
    let journal = layout.events(TaskId(1));
    store.write(&[], vec![(TaskId(1), b"{}\n".to_vec())], Vec::new()).unwrap();
    fs::copy(&journal, journal.with_extension("new")).unwrap();
    fs::rename(journal.with_extension("new"), &journal).unwrap();
    assert!(store.write(&[], vec![(TaskId(1), b"{}\n".to_vec())], Vec::new()).is_err());
    fs::remove_file(&journal).unwrap();
    assert!(store.write(&[], vec![(TaskId(1), b"{}\n".to_vec())], Vec::new()).is_err());
}

#[test]
fn a_file_that_was_held_in_a_crash_is_nobodys_to_delete() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    fs::write(layout.staging().join("held-12-a.json"), b"somebody's task").unwrap();
    fs::write(layout.staging().join("taken-12-a.json"), b"a task of ours").unwrap();
    fs::write(layout.staging().join("held-new-12-0-b-c.json"), b"somebody's other task").unwrap();
    fs::write(layout.drop_box(DropBox::New).join("b-c.json"), b"a third one").unwrap();
    let rewritten = format!("taken-1000_{}_d.json", Digest::of(b"read").short());
    fs::write(layout.staging().join(&rewritten), b"what was written later").unwrap();
    load(&mut store);
    let left = fs::read_dir(layout.staging()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.collect::<BTreeSet<_>>(), ["taken-12-a.json".to_owned(), rewritten].into(), "a sweep sees to both");
    assert_eq!(fs::read(layout.bad().join("held.json")).unwrap(), b"somebody's task");
    let dropped = |name: &str| fs::read(layout.drop_box(DropBox::New).join(name)).unwrap();
    assert_eq!(dropped("b-c.json"), b"somebody's other task", "it is back in its box");
    assert_eq!(dropped("b-c.dropped-0.json"), b"a third one");
}

#[test]
fn a_finished_task_that_the_history_forgot_is_finished_again() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    let tasks = [task(1), task(2)];
    store.write(&tasks, Vec::new(), Vec::new()).unwrap();
    store.publish_views(&tasks).unwrap();
    for id in [1, 2] {
        let line = format!("{{\"id\":{id}}}\n");
        store.finish(TaskId(id), TaskState::New, b"{}", line.as_bytes()).unwrap();
    }
    store.settle().unwrap();
    assert!(load(&mut store).0.is_empty());
    let torn = fs::read(layout.history()).unwrap();
    fs::write(layout.history(), &torn[..torn.len() - 3]).unwrap();
    let (unfinished, _) = load(&mut store);
    assert_eq!(unfinished.iter().map(|found| found.id).collect::<Vec<_>>(), [TaskId(2)]);
    assert_eq!(unfinished[0].standing, [TaskState::Done]);
    store.finish(TaskId(2), TaskState::Done, b"{}", b"{\"id\":2}\n").unwrap();
    store.settle().unwrap();
    assert_eq!(fs::read(layout.history()).unwrap(), b"{\"id\":1}\n{\"id\":2}\n");
}

#[test]
fn a_state_file_is_the_old_one_or_the_new_one_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    let tasks = [task(1)];
    store.write(&tasks, Vec::new(), Vec::new()).unwrap();
    store.publish_views(&tasks).unwrap();
    let mut change = |n: i64| {
        store.note_seen(Timestamp(n)).unwrap();
        store.replan(TaskId(1), 2, format!("{{\"plan\":{n}}}").as_bytes(), &task(1).view).unwrap();
    };
    change(1);
    for path in [layout.seen(), layout.later_plan(TaskId(1), 2)] {
        let before = fs::read_to_string(&path).unwrap();
        let mut reading = fs::File::open(&path).unwrap();
        change(1_000_000);
        let mut read = String::new();
        std::io::Read::read_to_string(&mut reading, &mut read).unwrap();
        assert_eq!(read, before, "{} was written in place", path.display());
        assert!(!fs::read_to_string(&path).unwrap().is_empty());
    }
}

#[test]
fn a_time_that_a_power_cut_emptied_is_about_when_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    assert_eq!(load(&mut store).1.seen, None);
    store.note_seen(Timestamp(5_000)).unwrap();
    assert_eq!(load(&mut store).1.seen, Some(Timestamp(5_000)));
    for torn in ["", "1970-01-01T00:0", "\0\0\0"] {
        fs::write(layout.seen(), torn).unwrap();
        let changed = std::time::UNIX_EPOCH + std::time::Duration::from_millis(77_123);
        fs::File::options().write(true).open(layout.seen()).unwrap().set_modified(changed).unwrap();
        assert_eq!(load(&mut store).1.seen, Some(Timestamp(77_123)), "{torn:?}");
    }
    fs::remove_file(layout.seen()).unwrap();
    fs::create_dir(layout.seen()).unwrap();
    assert_eq!(load(&mut store).1.seen, None);
}

#[test]
fn what_cannot_be_read_of_one_task_is_no_other_tasks_affair() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    let tasks = [1, 2, 3, 4].map(task);
    store.write(&tasks, Vec::new(), Vec::new()).unwrap();
    store.publish_views(&tasks).unwrap();
    fs::remove_file(layout.events(TaskId(2))).unwrap();
    fs::create_dir(layout.events(TaskId(2))).unwrap();
    fs::remove_file(layout.plan(TaskId(3))).unwrap();
    fs::create_dir(layout.plan(TaskId(3))).unwrap();
    fs::write(layout.run(TaskId(7)), "a stray file").unwrap();
    std::os::unix::fs::symlink("8", layout.run(TaskId(8))).unwrap();
    fs::write(layout.runs().join("notes"), "another").unwrap();
    fs::create_dir(layout.runs().join(u64::MAX.to_string())).unwrap();
    let (unfinished, loaded) = load(&mut store);
    assert_eq!(unfinished.iter().map(|found| found.id.0).collect::<Vec<_>>(), [1, 4]);
    let why: Vec<(u64, &str)> = loaded.unreadable.iter().map(|(id, why)| (id.0, why.as_str())).collect();
    assert_eq!(why.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3, 7, 8]);
    assert!(why[0].1.contains("runs/2/events.jsonl: Is a directory"), "{why:?}");
    assert!(why[2].1.contains("runs/7: it is no task's directory; move it away"), "{why:?}");
    assert_eq!(loaded.next_id, 9, "their numbers are not given again");
    assert!(layout.run(TaskId(7)).is_file() && layout.events(TaskId(2)).is_dir(), "they are left alone");
}

#[test]
fn a_view_that_a_power_cut_emptied_is_nobodys_drop() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    let mut store = Store::open(layout.clone()).unwrap();
    let tasks = [task(1), task(2)];
    store.write(&tasks, Vec::new(), Vec::new()).unwrap();
    store.publish_views(&tasks).unwrap();
    let view = "{\n  \"id\": 1,\n  \"name\": \"a\"\n}";
    for state in [TaskState::New, TaskState::Ready, TaskState::Running] {
        let path = layout.task_file(state, TaskId(1));
        for left in ["", "\0\0\0\0", "{\n  \"id\": 1", "{\n  \"id\": 1,\n  \"na", "{\n  \"id\": 1,\n\0\0"] {
            fs::write(&path, left).unwrap();
            let standing = load(&mut store).0.remove(0).standing;
            assert!(!standing.contains(&state) && !path.exists(), "{left:?} in {}", state.word());
        }
        // What somebody drops under a number is his, and what a task of another number says is, too.
        for theirs in ["{\"task_name\": \"t\"", "{\n  \"id\": 11,\n", view] {
            fs::write(&path, theirs).unwrap();
            load(&mut store);
            assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
        }
        fs::remove_file(&path).unwrap();
    }
    let view = task(1).view;
    store.restore_view(TaskId(1), TaskState::New, &view).unwrap();
    assert_eq!(fs::read(layout.task_file(TaskState::New, TaskId(1))).unwrap(), view);
}

#[test]
fn a_look_at_the_lock_does_not_keep_a_daemon_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&dir);
    drop(Store::open(layout.clone()).unwrap());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    reader::daemon(&layout).unwrap();
                    std::thread::yield_now();
                }
            });
        }
        let opened: Vec<_> = (0..20).map(|_| Store::open(layout.clone()).map(drop)).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    });
}
