//! More output than anybody wants, from many hosts at once: kept to the byte, in little memory, and in nobody's way.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use spoolgate::adapters::output_log;
use spoolgate::domain::output::Stream;

use crate::patience::InTime as _;
use crate::remote::{from_env, log, task};
use crate::sshd::Sshd;
use crate::world::{ALICE, BOB, World, wait_at_most, wait_for};

/// What is kept of a stream: the head and the tail.
const KEPT: u64 = 16 << 20;

/// `FLOOD_HOSTS=20 FLOOD_MIB=1024 FLOOD_FIRST_MS=250` for the long campaign.
#[test]
fn a_flood_is_kept_to_the_byte_and_holds_nobody_up() {
    let (floods, bytes) = (from_env("FLOOD_HOSTS", 2), from_env("FLOOD_MIB", 64) << 20);
    let (sshd, far) = (Sshd::start(), Sshd::start());
    far.let_in(&sshd);
    // They stand for machines of their own, and share this one's processors with the daemon and the quiet host.
    far.step_back();
    let named: Vec<(String, String)> = (1..=floods).map(|n| (format!("web{n}"), format!("127.0.1.{n}"))).collect();
    let mut world = World::new(&[("quiet", "127.0.2.1")], Some(&sshd));
    let entry = |(name, address): &(String, String)| {
        format!("[host.\"{name}\"]\naddress = \"{address}\"\nport = {}\n", far.port())
    };
    world.write_etc("inventory/far.toml", &named.iter().map(entry).collect::<String>());
    world.write_etc("known_hosts", &(sshd.known_hosts() + &far.known_hosts()));
    world.start();
    // One line without an end, and lines of 107 bytes: ten million of them are a gibibyte.
    let flood = format!(
        "n=${{SPOOLGATE_HOST#web}}; if [ $((n % 2)) = 0 ]; then tr '\\0' x </dev/zero; else yes {}; fi | head -c {bytes}; echo >&2 end",
        "0123456789".repeat(10) + "012345"
    );
    let hosts: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    world.drop_file("ready", "flood.json", &task("flood", &flood, &hosts, 3600), 0);
    let id = world.task_of("flood");
    let shown = |host: &String| !log_is_empty(&world, id, host);
    wait_at_most(Duration::from_mins(1), "a flood", || hosts.iter().any(shown).then_some(()));
    let (first, whole) = quiet(&world);
    let flooding = world.try_record(id).is_none();
    eprintln!(
        "in the flood: first byte in the log after {first:.0?}, another task {whole:.1?}; still flooding: {flooding}"
    );
    assert!(first <= Duration::from_millis(from_env("FLOOD_FIRST_MS", 20_000)), "the first byte took {first:?}");
    let begin = Instant::now();
    let record = wait_at_most(Duration::from_mins(30), "the record", || world.try_record(id));
    for host in &hosts {
        check(&world, id, host, &record["results"][host][0], bytes);
    }
    let peak = peak_kb(world.daemon_pid());
    eprintln!(
        "{floods} hosts printed {bytes} bytes each; {:.0?} more; the daemon took {peak} kB at most",
        begin.elapsed()
    );
    assert!(peak < 100_000, "the daemon took {peak} kB");
}

fn log_is_empty(world: &World, id: u64, host: &str) -> bool {
    let path = world.state().join(format!("runs/{id}/output/{host}/script.log"));
    path.metadata().map_or(true, |file| file.len() == 0)
}

/// Runs a task of another host; how long its first byte was on the way from the host to the log, and how long it took.
fn quiet(world: &World) -> (Duration, Duration) {
    let fifo = world.etc().with_file_name("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for both, so that the script need not wait for a reader.
    let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let (sender, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = std::io::Read::read(&mut pipe, &mut [0; 8]);
        let _ = sender.send(Instant::now());
    });
    let script = format!("echo x >{}; echo hi; sleep 1; echo end", fifo.display());
    let begin = Instant::now();
    world.drop_file("ready", "quiet.json", &task("quiet", &script, &["quiet".to_owned()], 60), 0);
    let id = world.task_of("quiet");
    let said = wait_for("its script to run", || {
        assert!(world.try_record(id).is_none(), "it never ran: {:#}", world.try_record(id).unwrap());
        said.try_recv().ok()
    });
    let first = wait_for("its first byte", || (!log_is_empty(world, id, "quiet")).then(|| said.elapsed()));
    let record = world.record(id);
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert_eq!(log(world, id, "quiet"), "hi\nend\n");
    (first, begin.elapsed())
}

/// What was printed is counted whole, and what is kept of it is exactly the cap and the four bytes on standard error.
fn check(world: &World, id: u64, host: &str, step: &Value, bytes: u64) {
    let dropped = bytes.saturating_sub(KEPT);
    assert_eq!((step["out_bytes"].as_u64(), step["dropped_bytes"].as_u64()), (Some(bytes), Some(dropped)), "{step:#}");
    let path = world.state().join(format!("runs/{id}/output/{host}/script.log"));
    assert_eq!(path.metadata().unwrap().len(), bytes - dropped + 4, "{host}");
}

/// The most memory that a process ever had, in kB.
fn peak_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A disk that is full here keeps the host's output there: it comes when there is room again, to the byte.
#[test]
fn a_full_disk_of_ours_loses_no_output() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("web1", "127.0.1.1")], Some(&sshd));
    world.start();
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo \"out $i\"; echo \"error $i\" >&2; done";
    world.drop_file("new", "full.json", &task("full", script, &["web1".to_owned()], 60), ALICE);
    let id = world.task_of("full");
    world.stands(id, "new");
    let output = world.state().join(format!("runs/{id}/output"));
    std::fs::create_dir_all(&output).unwrap();
    let disk = SmallDisk::mount(&output, "24k");
    world.approve(BOB, id).ok();
    wait_for("the full disk to be said", || world.daemon_log().contains("check the disk").then_some(()));
    assert!(world.try_record(id).is_none());
    disk.grow("8m");
    let record = world.record(id);
    let log = output.join("web1/script.log");
    let stream = |stream| output_log::piece(stream, &log, Some(0), u64::MAX).unwrap().bytes;
    let (out, err) = (stream(Stream::Out), stream(Stream::Err));
    drop(disk);
    assert_eq!(record["outcome"], "ok", "{record:#}");
    let lines = |word: &str| (1..=3000).map(|n| format!("{word} {n}\n")).collect::<String>();
    assert!(out == lines("out").as_bytes() && err == lines("error").as_bytes(), "{} and {}", out.len(), err.len());
    let step = &record["results"]["web1"][0];
    assert_eq!((step["out_bytes"].as_u64(), step["attempts"].as_u64()), (Some(out.len() as u64), Some(1)), "{step:#}");
}

/// A file system of its own; gone with the test, however that ends.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(place: &'a Path, size: &str) -> SmallDisk<'a> {
        let disk = SmallDisk(place);
        disk.run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        disk
    }

    fn grow(&self, size: &str) {
        self.run("mount", &["-o", &format!("remount,size={size}")]);
    }

    fn run(&self, program: &str, words: &[&str]) {
        assert!(
            Command::new(program).args(words).arg(self.0).status_in_time().unwrap().success(),
            "{program} {words:?}"
        );
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status_in_time();
    }
}
