//! Hosts whose login files or forced commands stand between sshd and the runner: they read the input, echo it, swallow it, or wait.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sshd::Sshd;
use crate::world::{World, wait_for};

/// A host whose every command goes through a script of its own, which gets the command in `SSH_ORIGINAL_COMMAND`.
struct Forced {
    _sshd: Sshd,
    world: World,
    script: PathBuf,
    traces: PathBuf,
}

const LINES: usize = 22;

impl Forced {
    fn new(first_word_s: u64) -> Forced {
        let place = tempfile::Builder::new().prefix("spoolgate-forced.").tempdir().unwrap().keep();
        let script = place.join("forced");
        let sshd = Sshd::start_with(&format!("ForceCommand /bin/sh {}", script.display()));
        let world = World::new(&[("web1", "127.0.0.1")], Some(&sshd));
        let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
        world.write_etc("spoolgate.toml", &format!("{settings}first_word_s = {first_word_s}\n"));
        Forced { _sshd: sshd, world, script, traces: place.join("traces") }
    }

    /// Has commands go through this from now on.
    fn force(&self, text: &str) {
        std::fs::write(&self.script, text).unwrap();
    }

    /// Drops a task whose every line leaves a trace, and returns its number.
    fn submit(&self, name: &str) -> u64 {
        let traces = self.traces.display();
        let lines: String = (0..LINES).map(|n| format!("echo {n} >>{traces}\n")).collect();
        let task =
            serde_json::json!({"task_name": name, "hosts": {"1": ["web1"]}, "schedule": "ready", "script": lines});
        self.world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
        self.world.task_of(name)
    }

    fn traces(&self) -> usize {
        std::fs::read_to_string(&self.traces).unwrap_or_default().lines().count()
    }

    /// The outcome of the step, as it stands in the record.
    fn reason(record: &Value) -> String {
        record["results"].to_string()
    }
}

impl Drop for Forced {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.traces.parent().unwrap());
    }
}

/// Takes the first `count` bytes or lines of the input, then goes on as if nothing had been.
fn eats(what: &str, count: usize) -> String {
    let eater = match what {
        "bytes" => format!("dd bs=1 count={count} >/dev/null 2>&1"),
        _ => format!("n=0; while [ $n -lt {count} ]; do read -r x || break; n=$((n + 1)); done"),
    };
    format!("{eater}\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n")
}

#[test]
fn a_host_that_eats_a_part_of_the_input_runs_nothing_and_a_retry_is_safe() {
    let mut forced = Forced::new(5);
    forced.force("exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n");
    forced.world.start();
    let cases = [("bytes", 1), ("bytes", 20), ("bytes", 45), ("bytes", 3000), ("lines", 1), ("lines", 2)];
    for (n, (what, count)) in cases.into_iter().enumerate() {
        forced.force(&eats(what, count));
        let begin = Instant::now();
        let id = forced.submit(&format!("eaten-{what}-{count}"));
        let record = forced.world.record(id);
        assert!(begin.elapsed() < Duration::from_secs(25), "{what} {count}: {:?}", begin.elapsed());
        let reason = Forced::reason(&record);
        // Whoever takes all of it leaves nothing to compare.
        assert!(reason.contains("login files"), "{what} {count}: {reason}");
        assert!(reason.contains("nothing was started"), "{what} {count}: {reason}");
        assert_eq!(forced.traces(), n * LINES, "{what} {count}: a part of the script ran");
        forced.force("exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n");
        let _ = forced.world.run(0, &["retry", &id.to_string()]).ok();
        wait_for("the retry to end well", || {
            forced.world.try_record(id).filter(|record| record["outcome"] == "ok").map(|_| ())
        });
        assert_eq!(forced.traces(), (n + 1) * LINES, "{what} {count}: not exactly once");
    }
}

#[test]
fn a_host_that_says_no_word_has_an_outcome_and_its_place_is_free() {
    let mut forced = Forced::new(3);
    forced.force("exec cat\n");
    forced.world.start();
    for (n, text) in ["exec cat\n", "exec cat >/dev/null\n", "exec sleep 1000\n", "exec sh\n"].into_iter().enumerate() {
        forced.force(text);
        let begin = Instant::now();
        let id = forced.submit(&format!("silent-{n}"));
        let record = forced.world.record(id);
        assert!(begin.elapsed() < Duration::from_secs(30), "{text}: {:?}", begin.elapsed());
        let reason = Forced::reason(&record);
        assert!(reason.contains("nothing was started") && !reason.contains("H4sI"), "{text}: {reason}");
        assert_eq!(forced.traces(), n * LINES, "{text}");
        // The next task has the host at once.
        forced.force("exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n");
        let next = forced.submit(&format!("after-{n}"));
        assert_eq!(forced.world.record(next)["outcome"], "ok", "{text}");
        assert_eq!(forced.traces(), (n + 1) * LINES, "{text}");
    }
}

#[test]
fn what_comes_after_its_time_begins_nothing() {
    let mut forced = Forced::new(2);
    let late = forced.traces.with_file_name("late");
    // It waits until it is let go, long after the outcome, and obeys then.
    forced.force(&format!(
        "until [ -e {0}.go ]; do sleep 0.1; done\n/bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\necho over >>{0}\n",
        late.display()
    ));
    forced.world.start();
    let id = forced.submit("late");
    assert!(Forced::reason(&forced.world.record(id)).contains("nothing was started"));
    std::fs::write(late.with_extension("go"), "").unwrap();
    wait_for("the host to be done with it", || late.exists().then_some(()));
    assert_eq!(forced.traces(), 0, "it began after its outcome");
}

#[test]
fn a_cancel_of_a_step_whose_host_says_no_word_is_confirmed() {
    let mut forced = Forced::new(4);
    forced.force("exec cat >/dev/null\n");
    forced.world.start();
    let id = forced.submit("cancelled");
    wait_for("the step to be sent", || {
        forced.world.events(id).iter().any(|e| e["event"] == "step_started").then_some(())
    });
    let _ = forced.world.run(0, &["cancel", &id.to_string(), "--reason", "it says nothing"]).ok();
    let record = forced.world.record(id);
    assert_eq!(record["outcome"], "cancelled", "{}", record["results"]);
    assert_eq!(forced.traces(), 0);
}
