//! The units that come with the product: what systemd's own tools say of them, and what the daemon tells the service
//! manager.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::patience::InTime as _;
use crate::world::{GROUP_ID, World, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_spoolgate");
/// Who the locked-up daemon runs as; in no group of the tests.
const DAEMON: u32 = 61_020;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The units, with this binary in the place of the installed one, and an instance of those that need a name.
fn units(dir: &Path) -> Vec<PathBuf> {
    let mut units = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !matches!(path.extension().and_then(|end| end.to_str()), Some("service" | "timer")) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap().replace("/usr/bin/spoolgate", BINARY);
        fs::write(dir.join(&name), &text).unwrap();
        let instance = name.replace('@', "@nightly");
        fs::write(dir.join(&instance), text).unwrap();
        units.push(dir.join(instance));
    }
    units.sort();
    units
}

fn analyze(words: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze").args(words).arg(unit).env("SYSTEMD_COLORS", "0").output_in_time().unwrap()
}

#[test]
fn systemds_own_tools_find_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let units = units(dir.path());
    assert_eq!(units.len(), 6, "{units:?}");
    for unit in &units {
        let verified = analyze(&["verify"], unit);
        assert!(verified.status.success() && said(&verified).is_empty(), "{unit:?}: {}", said(&verified));
        let text = fs::read_to_string(unit).unwrap();
        if unit.extension().is_some_and(|end| end == "service") {
            let level = analyze(&["security", "--offline=yes", "--threshold=17"], unit);
            assert!(level.status.success(), "{unit:?}: {}", said(&level));
        }
        for when in text.lines().filter_map(|line| line.strip_prefix("OnCalendar=")) {
            let calendar = analyze(&["calendar", "--iterations=2"], Path::new(when));
            assert!(
                calendar.status.success() && said(&calendar).contains("Next elapse"),
                "{when}: {}",
                said(&calendar)
            );
        }
    }
    // A unit that is wrong is found: the tools look.
    fs::write(dir.path().join("bad.service"), "[Service]\nExecStart=/nowhere/at/all\n").unwrap();
    assert!(!analyze(&["verify"], &dir.path().join("bad.service")).status.success());
}

/// The rules for systemd-tmpfiles, as `make install` installs them.
fn tmpfiles() -> String {
    let mut make = Command::new("make");
    make.args(["--silent", "tmpfiles"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let made = make.env_remove("MAKEFLAGS").output_in_time().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    String::from_utf8(made.stdout).unwrap()
}

#[test]
fn users_and_directories_are_made_as_the_units_want_them() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let option = format!("--root={}", root.path().display());
    for (tool, words, file) in [
        ("systemd-sysusers", vec![option.as_str()], "spoolgate.sysusers"),
        ("systemd-tmpfiles", vec![option.as_str(), "--create"], "spoolgate.tmpfiles"),
    ] {
        let copy = root.path().join(format!("{file}.conf"));
        match file {
            "spoolgate.tmpfiles" => fs::write(&copy, tmpfiles()).unwrap(),
            file => drop(fs::copy(folder().join(file), &copy).unwrap()),
        }
        let made = Command::new(tool).args(words).arg(&copy).output_in_time().unwrap();
        assert!(made.status.success(), "{tool}: {}", said(&made));
    }
    let entries = |file: &str| fs::read_to_string(root.path().join("etc").join(file)).unwrap();
    let number = |text: &str, name: &str, field: usize| -> u32 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap().to_owned();
        line.split(':').nth(field).unwrap().parse().unwrap()
    };
    let (users, groups) = (entries("passwd"), entries("group"));
    let (daemon, group) = (number(&users, "spoolgate", 2), number(&groups, "spoolgate-submit", 2));
    let members = groups.lines().find(|line| line.starts_with("spoolgate-submit:")).unwrap();
    assert!(members.ends_with(":spoolgate,spoolgate-timer"), "{members}");
    let new = fs::metadata(root.path().join("var/lib/spoolgate/spool/new")).unwrap();
    assert_eq!((new.mode() & 0o7777, new.uid(), new.gid()), (0o3730, daemon, group));
    for unit in ["spoolgate.service", "spoolgate-gc.service", "spoolgate-submit@.service"] {
        let text = fs::read_to_string(folder().join(unit)).unwrap();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
        assert!(
            users.contains(&format!("{}:", value("User="))) && groups.contains(&format!("{}:", value("Group="))),
            "{unit}"
        );
    }
}

#[test]
fn the_service_manager_hears_that_the_loop_turns() {
    let mut world = World::new(&[], None);
    let path = world.etc().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    world.environment.push(("NOTIFY_SOCKET".into(), path.into()));
    world.environment.push(("WATCHDOG_USEC".into(), "1200000".into()));
    world.start();
    let mut heard = Vec::new();
    let mut next = |wanted: &str| {
        let mut bytes = [0; 4096];
        while !heard.iter().any(|text: &String| text.contains(wanted)) {
            let count = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{error}, no {wanted}: {heard:?}"));
            heard.push(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
        heard.clear();
    };
    next("READY=1");
    // Nothing happens, and it is said all the same.
    for _ in 0..3 {
        next("WATCHDOG=1");
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(world.daemon_pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    next("STOPPING=1");
}

#[test]
fn a_daemon_that_may_change_no_owner_and_no_group_bit_finds_its_directories_made() {
    let mut world = World::new(&[], None);
    let tmpfiles = tmpfiles();
    let mut made = Vec::new();
    for line in tmpfiles.lines().filter(|line| line.starts_with("d ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let path = world.state().join(words[1].strip_prefix("/var/lib/spoolgate").unwrap().trim_start_matches('/'));
        fs::create_dir(&path).unwrap();
        chown(&path, Some(DAEMON), Some(GROUP_ID)).unwrap();
        let mode = u32::from_str_radix(words[2], 8).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        made.push((path, mode));
    }
    // Not in the group: were a directory given to it, or its group bit set, the system would refuse or clear it.
    let log = world.etc().join("daemon.log");
    let mut daemon = Command::new("setpriv")
        .args(["--reuid", &DAEMON.to_string(), "--regid", &DAEMON.to_string(), "--clear-groups", "--no-new-privs"])
        .args(["--bounding-set=-all", BINARY, "daemon"])
        .env("SPOOLGATE_CONFIG", world.etc())
        .env("SPOOLGATE_STATE", world.state())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    wait_for("the daemon", || {
        let text = fs::read_to_string(&log).unwrap();
        assert!(daemon.try_wait().unwrap().is_none(), "{text}");
        text.contains("ready").then_some(())
    });
    for (path, mode) in made {
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (mode, GROUP_ID), "{}", path.display());
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    world.kill_daemon();
}

#[test]
fn the_backup_timers_command_makes_a_task_that_backs_up() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.db1]\nconnection = \"local\"\n");
    world.start();
    let timers = world.etc().join("timers");
    fs::create_dir_all(&timers).unwrap();
    let target = world.etc().join("archives");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/timers/nightly-backup.json");
    let mut task: serde_json::Value = serde_json::from_slice(&fs::read(shipped).unwrap()).unwrap();
    task["args"]["SOURCE"] = world.etc().join("templates").to_str().unwrap().into();
    task["args"]["TARGET"] = target.to_str().unwrap().into();
    fs::write(timers.join("nightly-backup.json"), task.to_string()).unwrap();
    let unit = fs::read_to_string(folder().join("spoolgate-submit@.service")).unwrap().replace("%i", "nightly-backup");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/spoolgate ")).unwrap();
    let start = start.replace("/etc/spoolgate", world.etc().to_str().unwrap()).replace("$SUBMIT_OPTIONS", "--ready");
    let said = world.run(0, &start.split(' ').collect::<Vec<_>>()).ok();
    let record = world.record(said.trim().parse().unwrap());
    assert_eq!(
        (record["outcome"].as_str(), record["name"].as_str()),
        (Some("ok"), Some("nightly-backup")),
        "{record:#}"
    );
    let archives = fs::read_dir(&target).unwrap().count();
    assert!(archives >= 2, "an archive and its digest");
    // Without a daemon the file waits, and the unit says so with the code that it takes for success.
    world.kill_daemon();
    let queued = world.run(0, &start.split(' ').collect::<Vec<_>>());
    assert!(unit.contains(&format!("\nSuccessExitStatus={}\n", queued.code)), "{queued:?}");
}

#[test]
fn old_output_is_removed_and_the_record_stays() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let task = serde_json::json!({"task_name": "t", "script": "echo said", "hosts": {"1": ["here"]}});
    for name in ["old", "young"] {
        world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
    }
    let (old, young) = (world.task_of("old"), world.task_of("young"));
    world.record(old);
    world.record(young);
    world.kill_daemon();
    let history = world.state().join("history.jsonl");
    let text = fs::read_to_string(&history).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["id"] == old {
            line["ended"] = "2001-01-01T00:00:00.000Z".into();
        }
        format!("{line}\n")
    });
    let lines: String = lines.collect();
    fs::write(&history, lines).unwrap();
    let output = |id: u64| world.state().join(format!("runs/{id}/output")).is_dir();
    let dry = world.run(0, &["gc", "--older-than", "365d", "--dry-run"]).ok();
    assert!(dry.contains("would remove the output of 1 task(s)") && output(old), "{dry}");
    world.run(0, &["gc", "--older-than", "365d"]).ok();
    assert!(!output(old) && output(young));
    let help = world.run(0, &["gc", "--help"]).ok();
    assert!(help.contains("bad/"), "{help}");
    assert!(world.state().join(format!("runs/{old}/events.jsonl")).is_file() && world.try_record(old).is_some());
    assert_eq!(world.run(0, &["gc", "--older-than", "0d"]).code, 2);
}
