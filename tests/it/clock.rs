//! Clocks that jump, on a real daemon whose wall clock is faked (libfaketime): whatever they do, a task starts once or says
//! why it waits.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::world::{World, wait_at_most};

/// One with a half-hour summer time, one whose clocks change at midnight, both halves of the earth.
const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/Santiago",
    "Pacific/Auckland",
    "Australia/Lord_Howe",
];

/// A world whose clock can be set, with one host that keeps a mark of every run.
struct Clockwork {
    world: World,
    marks: PathBuf,
    nudges: u32,
}

impl Clockwork {
    fn start() -> Clockwork {
        let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
            .map(|dir| PathBuf::from(dir).join("faketime/libfaketimeMT.so.1"));
        let library = library.into_iter().find(|path| path.exists()).expect("faketime is installed (.ci/install)");
        let mut world = World::new(&[], None);
        world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
        let marks = world.etc().join("marks");
        std::fs::create_dir(&marks).unwrap();
        let clock = marks.join("clock");
        std::fs::write(&clock, "+0").unwrap();
        world.environment = vec![
            ("LD_PRELOAD".into(), library.into()),
            ("FAKETIME_TIMESTAMP_FILE".into(), clock.into()),
            ("FAKETIME_NO_CACHE".into(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
            ("NO_FAKE_STAT".into(), "1".into()),
        ];
        world.start();
        Clockwork { world, marks, nudges: 0 }
    }

    fn set_zone(&self, zone: &str) {
        let settings = std::fs::read_to_string(self.world.etc().join("spoolgate.toml")).unwrap();
        let (first, rest) = settings.split_once('\n').unwrap();
        assert!(first.starts_with("time_zone"), "{first}");
        self.world.write_etc("spoolgate.toml", &format!("time_zone = \"{zone}\"\n{rest}"));
    }

    /// Sets the daemon's clock and makes it look.
    fn set(&mut self, time: Timestamp) {
        let ahead = time.as_second() - now().as_second();
        std::fs::write(self.marks.join("clock"), format!("{ahead:+}")).unwrap();
        self.nudges += 1;
        let name = format!("nudge-{}", self.nudges);
        self.world.drop_file("orders", &format!("{name}.json"), br#"{"order":"hold","task":"none","reason":"x"}"#, 0);
        wait_at_most(Duration::from_secs(20), "the daemon to look", || self.world.why(&name));
    }

    /// Drops a task that needs no approval.
    fn drop_task(&self, name: &str, exec_time: &str) -> Option<u64> {
        let script = format!("echo ran >> {}/\"$SPOOLGATE_TASK\"", self.marks.display());
        let task = json!({"task_name": name, "hosts": {"1": ["here"]}, "script": script, "exec_time": exec_time});
        self.world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
        wait_at_most(Duration::from_secs(20), name, || {
            if self.world.why(name).is_some() {
                return Some(None);
            }
            let found = self.world.tasks().into_iter().find(|(_, events)| events[0]["name"] == name);
            found.map(|(id, _)| Some(id))
        })
    }

    fn runs(&self, id: u64) -> usize {
        std::fs::read_to_string(self.marks.join(id.to_string())).map_or(0, |text| text.lines().count())
    }

    #[track_caller]
    fn ran_once(&self, id: u64, what: &str) {
        wait_at_most(Duration::from_secs(20), what, || self.world.try_record(id));
        assert_eq!(self.runs(id), 1, "{what}");
    }
}

fn now() -> Timestamp {
    Timestamp::from_millisecond(spoolgate::shells::clock::now().0).unwrap()
}

/// The next time clocks go forward, and the next time they go back, each with how far, in seconds.
fn edges(zone: &TimeZone) -> [(Timestamp, i32); 2] {
    let start: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    let edge = |forward: bool| {
        let mut before = zone.to_offset(start);
        zone.following(start)
            .find_map(|transition| {
                let by = transition.offset().seconds() - before.seconds();
                before = transition.offset();
                (by != 0 && (by > 0) == forward).then(|| (transition.timestamp(), by.abs()))
            })
            .expect("clocks change there")
    };
    [edge(true), edge(false)]
}

#[test]
fn at_both_edges_of_summer_time_in_six_zones_tasks_start_once() {
    let mut clockwork = Clockwork::start();
    for zone_name in ZONES {
        let zone = TimeZone::get(zone_name).unwrap();
        let short = zone_name.replace('/', "-");
        let wall = |time: Timestamp| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let [(forward, gap), (back, fold)] = edges(&zone);
        clockwork.set_zone(zone_name);
        // Forward: a time in the gap never comes, and one just after it comes once.
        clockwork.set(forward - 40.seconds());
        let in_gap = forward.to_zoned(zone.clone()).datetime() - i64::from(gap / 2).seconds();
        let refused = clockwork.drop_task(&format!("gap-{short}"), &in_gap.strftime("%Y-%m-%d %H:%M:%S").to_string());
        assert_eq!(refused, None, "{zone_name}: {in_gap} does not exist");
        let after = clockwork.drop_task(&format!("after-{short}"), &wall(forward + 10.seconds())).unwrap();
        let before = clockwork.drop_task(&format!("before-{short}"), &wall(forward - 10.seconds())).unwrap();
        clockwork.set(forward - 9.seconds());
        clockwork.ran_once(before, "before the gap");
        assert_eq!(clockwork.runs(after), 0, "{zone_name}: it is not its time yet");
        clockwork.set(forward + 11.seconds());
        clockwork.ran_once(after, "after the gap");
        // Back: a time that comes twice is meant the first time, and comes once.
        let half = i64::from(fold / 2).seconds();
        clockwork.set(back - i64::from(fold).seconds());
        let twice = clockwork.drop_task(&format!("fold-{short}"), &wall(back - half)).unwrap();
        clockwork.set(back - half - 2.seconds());
        assert_eq!(clockwork.runs(twice), 0, "{zone_name}: it is not its time yet");
        clockwork.set(back - half + 1.seconds());
        clockwork.ran_once(twice, "the first of two");
        clockwork.set(back + half + 1.seconds());
        assert_eq!(clockwork.runs(twice), 1, "{zone_name}: the second of two");
    }
}

#[test]
fn jumps_of_a_second_to_ten_years_start_nothing_twice_and_skip_nothing_silently() {
    let mut clockwork = Clockwork::start();
    let base = now();
    for (n, jump) in [1, 2, 60, 3_600, 86_400, 31 * 86_400, 366 * 86_400, 3_653 * 86_400].into_iter().enumerate() {
        // Back, and forward again to its time.
        clockwork.set(base);
        let due = base + 600.seconds();
        let back = clockwork.drop_task(&format!("back-{n}"), &due.to_string()).unwrap();
        clockwork.set(due - jump.seconds() - 1.seconds());
        assert_eq!(clockwork.runs(back), 0, "{jump} s back");
        clockwork.set(due + 1.seconds());
        clockwork.ran_once(back, "after a jump back");
        // Back after it ran: it does not come again.
        clockwork.set(due - jump.seconds());
        clockwork.set(due + 1.seconds());
        assert_eq!(clockwork.runs(back), 1, "{jump} s back after it ran");
        // Forward over its time: in time when the jump is short, held with the reason when it is long.
        clockwork.set(base);
        let over = clockwork.drop_task(&format!("over-{n}"), &(base + 600.seconds()).to_string()).unwrap();
        clockwork.set(base + 600.seconds() + jump.seconds());
        if jump <= 60 {
            clockwork.ran_once(over, "over its time");
        } else {
            let held = wait_at_most(Duration::from_secs(20), "the task to be held", || {
                clockwork.world.events(over).into_iter().find(|event| event["event"] == "held")
            });
            assert!(held["why"].as_str().unwrap().contains("passed while it could not start"), "{held}");
            let at: Timestamp = held["at"].as_str().unwrap().parse().unwrap();
            assert!(at >= base + 599.seconds() + jump.seconds(), "the daemon's clock is the faked one: {held}");
            assert_eq!(clockwork.runs(over), 0, "{jump} s forward");
            let order = json!({"order": "release", "task": over}).to_string();
            clockwork.world.drop_file("orders", &format!("release-{n}.json"), order.as_bytes(), 0);
            clockwork.ran_once(over, "released");
        }
    }
    let verified = clockwork.world.run(0, &["audit", "verify"]).ok();
    assert!(verified.contains("every link holds"), "{verified}");
}

#[test]
fn a_clock_that_is_set_lengthens_no_wait_and_ends_no_healthy_step() {
    let mut clockwork = Clockwork::start();
    let base = now();
    let drop = |clockwork: &Clockwork, name: &str, task: serde_json::Value| {
        clockwork.world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
        clockwork.world.task_of(name)
    };
    clockwork.world.write_etc(
        "inventory/hosts.toml",
        "[host.here]\nconnection = \"local\"\n[host.there]\nconnection = \"local\"\n",
    );
    let template = "id = 81\nname = \"again\"\ntitle = \"t\"\n[[step]]\nname = \"s\"\nretries = 1\nretry_delay = 4\n\
                    script = \"[ $SPOOLGATE_ATTEMPT -gt 1 ]\"\n";
    clockwork.world.write_etc("templates/again.toml", template);
    let batches = drop(
        &clockwork,
        "batches",
        json!({"task_name": "t", "script": "true", "hosts": {"1": ["here", "there"]}, "batches": ["1", "1"], "batch_interval": 4}),
    );
    let retry = drop(&clockwork, "retry", json!({"task_name": "t", "temp_id": "again", "hosts": {"1": ["here"]}}));
    let seen = |id: u64, word: &str| {
        wait_at_most(Duration::from_secs(20), word, || {
            clockwork.world.events(id).into_iter().find(|event| event["event"] == word)
        })
    };
    seen(batches, "batch_waits");
    seen(retry, "step_ended");
    // A day back while both wait: they wait no longer than they were to.
    clockwork.set(base - 86_400.seconds());
    for id in [batches, retry] {
        let record = wait_at_most(Duration::from_secs(20), "the end of the wait", || clockwork.world.try_record(id));
        assert_eq!(record["outcome"], "ok", "{record:#}");
    }
    // An hour forward over a restart, while a step runs whose limit is a minute.
    clockwork.set(base);
    let begun = clockwork.marks.join("begun");
    let script = format!("touch {}; sleep 6; echo done", begun.display());
    let task = json!({"task_name": "t", "script": script, "hosts": {"1": ["here"]}, "timeout": "60s"});
    let long = drop(&clockwork, "long", task);
    // Of one that has not begun the host could know nothing.
    wait_at_most(Duration::from_secs(20), "the step to run", || begun.exists().then_some(()));
    clockwork.world.kill_daemon();
    std::fs::write(clockwork.marks.join("clock"), "+3600").unwrap();
    clockwork.world.start();
    let record = wait_at_most(Duration::from_secs(30), "the end of the step", || clockwork.world.try_record(long));
    assert_eq!(record["outcome"], "ok", "{record:#}");
}
