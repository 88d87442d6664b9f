//! Files that somebody still writes: whatever they hold meanwhile, they are read when their writer lets go of them.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::world::{World, wait_for};

fn text(title: &str) -> String {
    json!({"task_name": title, "temp_id": 1, "hosts": {"1": ["web1"]}}).to_string()
}

fn world() -> World {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    world
}

fn create(world: &World, name: &str, bytes: &[u8]) -> File {
    let mut file = File::create(world.box_dir("new").join(format!("{name}.json"))).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    file
}

/// Lets the writer pause for longer than a file must have been quiet that nobody holds: time has to pass.
fn pause(world: &World, name: &str) {
    std::thread::park_timeout(Duration::from_millis(3_500));
    assert!(world.box_dir("new").join(format!("{name}.json")).exists(), "{name} was taken away: {:?}", world.why(name));
    assert!(world.tasks().is_empty(), "{name} was read while it was written");
}

fn title_of(world: &World, name: &str) -> Value {
    let id = world.task_of(name);
    assert_eq!(world.tasks().len(), 1);
    let submission = world.events(id)[0]["submission"].as_str().unwrap().to_owned();
    serde_json::from_str::<Value>(&submission).unwrap()["task_name"].clone()
}

#[test]
fn a_text_that_is_complete_and_still_held_is_not_a_task_yet() {
    let world = world();
    let mut file = create(&world, "grows", text("small").as_bytes());
    pause(&world, "grows");
    file.rewind().unwrap();
    file.write_all(text("much longer than what stood here before").as_bytes()).unwrap();
    pause(&world, "grows");
    drop(file);
    assert_eq!(title_of(&world, "grows"), "much longer than what stood here before");
}

#[test]
fn room_that_was_made_for_a_text_is_not_read_as_one() {
    let mut world = world();
    let mut file = create(&world, "room", b"");
    file.set_len(4096).unwrap();
    pause(&world, "room");
    // A daemon that did not see it being opened finds out as well.
    world.kill_daemon();
    world.start();
    pause(&world, "room");
    let text = text("t");
    file.write_all(text.as_bytes()).unwrap();
    file.set_len(text.len() as u64).unwrap();
    drop(file);
    assert_eq!(title_of(&world, "room"), "t");
}

#[test]
fn a_file_closed_by_one_of_two_writers_waits_for_the_other() {
    let world = world();
    let first = create(&world, "two", b"");
    let path = world.box_dir("new").join("two.json");
    File::options().append(true).open(&path).unwrap().write_all(text("of the second").as_bytes()).unwrap();
    pause(&world, "two");
    drop(first);
    assert_eq!(title_of(&world, "two"), "of the second");
}

#[test]
fn a_file_that_is_linked_in_is_whole() {
    let world = world();
    let hidden = world.box_dir("new").join(".hidden");
    std::fs::write(&hidden, text("linked")).unwrap();
    std::fs::hard_link(&hidden, world.box_dir("new").join("linked.json")).unwrap();
    std::fs::remove_file(&hidden).unwrap();
    assert_eq!(title_of(&world, "linked"), "linked");
}

#[test]
fn what_is_written_after_a_file_was_renamed_in_is_kept_and_said() {
    let mut world = world();
    let hidden = world.box_dir("new").join(".late");
    let mut file = File::create(&hidden).unwrap();
    file.write_all(text("first").as_bytes()).unwrap();
    std::fs::rename(&hidden, world.box_dir("new").join("late.json")).unwrap();
    assert_eq!(title_of(&world, "late"), "first", "a rename says that it is whole");
    file.write_all(b" and more").unwrap();
    drop(file);
    kill(Pid::from_raw(i32::try_from(world.daemon_pid()).unwrap()), Signal::SIGTERM).unwrap();
    let why = wait_for("the rest to be in bad/", || world.why("late"));
    assert!(why["problems"][0]["found"].as_str().unwrap().contains("written after the file had been read"), "{why:#}");
    let kept = std::fs::read_to_string(world.box_dir("bad").join("late.json")).unwrap();
    assert_eq!(kept, text("first") + " and more");
    world.kill_daemon();
}

#[test]
fn what_was_refused_can_be_dropped_again() {
    let world = world();
    drop(create(&world, "again", b"{\"task_name\": "));
    wait_for("the refusal", || world.why("again"));
    let bad = world.box_dir("bad").join("again.json");
    // The same file goes back as it is, and is refused again; completed, it is a task.
    std::fs::rename(&bad, world.box_dir("new").join("again.json")).unwrap();
    wait_for("the second refusal", || std::fs::read(world.box_dir("bad").join("again.1.why")).ok());
    let second = world.box_dir("bad").join("again.1.json");
    std::fs::write(&second, text("whole")).unwrap();
    std::fs::rename(&second, world.box_dir("new").join("whole.json")).unwrap();
    assert_eq!(title_of(&world, "whole"), "whole");
}
