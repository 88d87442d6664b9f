//! How the runner learns that a script has ended, and what of it lives on.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use spoolgate::domain::runner::Offsets;
use spoolgate::domain::runner::answer::Verdict;

use crate::patience::{InTime as _, end_of};
use crate::runner::{Account, SHELLS, check, each_shell, living, plan, wait_until};

#[test]
fn a_code_is_a_signal_only_when_the_kernel_says_so() {
    each_shell(|account| {
        for code in [1, 126, 127, 128, 129, 130, 131, 137, 141, 143, 193, 255] {
            check(&account.run(&plan(&format!("exit {code}"), 30)), Verdict::Exit(code), "", "");
        }
        for (name, number) in
            [("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("SEGV", 11), ("PIPE", 13), ("TERM", 15)]
        {
            let heard = account.run(&plan(&format!("kill -s {name} $$"), 30));
            assert_eq!(heard.ended.map(|ended| ended.0), Some(Verdict::Signal(number)), "{name}");
            // Of a child of the script's, its shell makes a code: that is what the script ended with.
            let heard = account.run(&plan(&format!("sh -c 'kill -s {name} $$'; exit $?"), 30));
            assert_eq!(heard.ended.map(|ended| ended.0), Some(Verdict::Exit(128 + number)), "{name}");
        }
    });
}

#[test]
fn a_script_begins_with_the_signals_of_a_shell_in_the_foreground() {
    each_shell(|account| {
        let ignored = account.run(&plan("grep SigIgn /proc/self/status", 30));
        let ignored = String::from_utf8(ignored.out).unwrap();
        let set = u64::from_str_radix(ignored.trim_start_matches("SigIgn:").trim(), 16).unwrap();
        // Beyond the first 31 are those that a C library keeps for itself.
        assert_eq!(set & 0x7fff_ffff, 0, "{ignored}");
        let trapped = "trap 'echo int' INT; trap 'echo quit' QUIT; kill -INT $$; kill -QUIT $$; echo on";
        check(&account.run(&plan(trapped, 30)), Verdict::Exit(0), "int\nquit\non\n", "");
        check(&account.run(&plan("#!/usr/bin/env bash\nkill -INT $$; sleep 5", 30)), Verdict::Signal(2), "", "");
    });
}

#[test]
fn an_end_that_no_runner_saw_is_still_with_the_kernel() {
    each_shell(|account| {
        for (how, verdict) in [("exit 130", Verdict::Exit(130)), ("kill -INT $$", Verdict::Signal(2))] {
            let step = plan(&format!("echo on; sleep 0.3; echo off; {how}"), 30);
            let mut child = account.start(&step.text(Offsets::default(), "n1"));
            wait_until("it runs", || account.knows(&step, "session "));
            child.kill().unwrap();
            end_of(child, "the runner");
            wait_until("its end", || account.has_ended(&step));
            check(&account.run(&step), verdict, "on\noff\n", "");
        }
    });
}

#[test]
fn what_left_the_session_is_ended_and_counted() {
    each_shell(|account| {
        let word = format!("SG_AWAY={}-{}", std::process::id(), account.shell()[0]);
        let script = format!(
            "export {word}; setsid sh -c 'trap \"\" TERM; sleep 9998 & sleep 9997; :' & echo on; exec sleep 9996"
        );
        let step = plan(&script, 0);
        let child = account.start(&step.text(Offsets::default(), "n1"));
        wait_until("all of it stands", || living(&word) >= 4);
        assert_eq!(account.kill(&step).ended.unwrap().0, Verdict::Cancelled { left: false });
        assert_eq!(living(&word), 0);
        drop(Account::hear(child, "n1", (&step.id, Offsets::default())));
        // What a script that ends by itself leaves behind is what it wanted to leave.
        let nap = format!("sleep 995{}", account.shell().concat().bytes().map(u32::from).sum::<u32>());
        let step = plan(&format!("{word} setsid {nap} >/dev/null 2>&1 & echo on"), 30);
        check(&account.run(&step), Verdict::Exit(0), "on\n", "");
        assert_eq!(living(&word), 1);
        let kill = Command::new("pkill").args(["-9", "-f", &nap]).status_in_time().unwrap();
        assert!(kill.success());
    });
}

/// A scope as a host's systemd makes one of a login.
struct Scope(std::path::PathBuf);

impl Scope {
    fn make(name: &str) -> Scope {
        let places = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"];
        let made =
            places.iter().map(|place| Path::new(place).join(name)).find(|path| std::fs::create_dir(path).is_ok());
        Scope(made.unwrap_or_else(|| {
            panic!("no control group can be made in {places:?}: run this as root with CAP_SYS_ADMIN")
        }))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn what_hides_from_its_session_is_found_by_the_scope_of_its_login() {
    let scope = Scope::make(&format!("session-{}.scope", std::process::id()));
    let enter = format!("echo $$ >{}/cgroup.procs; export SSH_CONNECTION=test; exec dash", scope.0.display());
    let words: Vec<&'static str> = vec!["sh", "-c", Box::leak(enter.into_boxed_str())];
    let account = Account::new(Box::leak(words.into_boxed_slice()));
    // It has no mark in its environment any more, and no session that anybody knows.
    let hidden = format!("98{}", std::process::id());
    let step = plan(&format!("env -i setsid sleep {hidden} & echo on; exec sleep 9996"), 0);
    let child = account.start(&step.text(Offsets::default(), "n1"));
    let is_there = || running(&format!("sleep {hidden}"));
    wait_until("it hides", is_there);
    let killed = account.kill(&step);
    assert_eq!(killed.ended.unwrap().0, Verdict::Cancelled { left: false }, "{}", killed.noise);
    assert!(!is_there());
    drop(Account::hear(child, "n1", (&step.id, Offsets::default())));
    wait_until("the scope is empty", || std::fs::read_to_string(scope.0.join("cgroup.procs")).unwrap().is_empty());
}

#[test]
fn what_cannot_be_ended_is_said_to_live_on_until_it_is_gone() {
    let scope = Scope::make(&format!("session-{}.scope", std::process::id()));
    let enter = format!(
        "echo $$ >{}/cgroup.procs; export SSH_CONNECTION=test; exec setpriv --reuid 65534 --regid 65534 --clear-groups dash",
        scope.0.display()
    );
    let words: Vec<&'static str> = vec!["sh", "-c", Box::leak(enter.into_boxed_str())];
    let account = Account::new(Box::leak(words.into_boxed_slice()));
    std::os::unix::fs::chown(account.home.path(), Some(65534), Some(65534)).unwrap();
    let step = plan("echo on; exec sleep 9996", 0);
    let child = account.start(&step.text(Offsets::default(), "n1"));
    wait_until("it runs", || account.knows(&step, "session "));
    // Something of root's, as `sudo` would have started it.
    let mut of_root = Command::new("sleep").arg("9994").spawn().unwrap();
    std::fs::write(scope.0.join("cgroup.procs"), of_root.id().to_string()).unwrap();
    assert_eq!(account.kill(&step).ended.unwrap().0, Verdict::Cancelled { left: true });
    drop(Account::hear(child, "n1", (&step.id, Offsets::default())));
    assert_eq!(account.kill(&step).ended.unwrap().0, Verdict::Cancelled { left: true }, "asked again");
    of_root.kill().unwrap();
    end_of(of_root, "what was root's");
    assert_eq!(account.kill(&step).ended.unwrap().0, Verdict::Cancelled { left: false });
    assert_eq!(account.run(&step).ended.unwrap().0, Verdict::Cancelled { left: false });
}

/// Whether a process with this command line runs.
fn running(command: &str) -> bool {
    let wanted: Vec<u8> = command.bytes().map(|byte| if byte == b' ' { 0 } else { byte }).chain([0]).collect();
    let procs = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    procs.map(|entry| entry.path().join("cmdline")).any(|path| std::fs::read(path).is_ok_and(|line| line == wanted))
}

#[test]
fn what_an_earlier_version_left_is_read() {
    each_shell(|account| {
        let step = plan("echo new", 30);
        let dir = account.home.path().join(".spoolgate");
        std::fs::create_dir(&dir).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let state = format!(
            "run 999999 {} 42 end\naudit x end\n\nsession 999998 43 end\n\ncode 143 signal end\n\nboth end\n\nexit signal 15 - 0 - 0 end\n",
            boot.trim()
        );
        std::fs::write(account.file(&step, "state"), state).unwrap();
        let both = format!("out\nno line feedspoolgate-err {}\nbad\n", step.id.as_str());
        std::fs::write(account.file(&step, "both"), both).unwrap();
        check(&account.run(&step), Verdict::Signal(15), "out\nno line feed", "bad\n");
        // One that its runner had not recorded yet.
        let text = std::fs::read_to_string(account.file(&step, "state")).unwrap();
        std::fs::write(account.file(&step, "state"), text.replace("exit signal 15 - 0 - 0 end\n", "")).unwrap();
        check(&account.run(&step), Verdict::Signal(15), "out\nno line feed", "bad\n");
    });
}

#[test]
fn how_long_ago_a_step_ended_is_said() {
    let account = Account::new(SHELLS[0]);
    let step = plan("true", 30);
    assert!(account.run(&step).ms_ago < 1000);
    let begin = std::time::Instant::now();
    wait_until("a second has passed", || begin.elapsed() > Duration::from_millis(1200));
    let again = account.run(&step);
    assert!((1200..30_000).contains(&again.ms_ago), "{}", again.ms_ago);
}

/// An account of somebody who is not root.
fn of_nobody(shell: &[&str]) -> Account {
    let words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"].iter().chain(shell);
    let words: Vec<&'static str> = words.map(|word| &*Box::leak((*word).to_owned().into_boxed_str())).collect();
    let account = Account::new(Box::leak(words.into_boxed_slice()));
    std::os::unix::fs::chown(account.home.path(), Some(65534), Some(65534)).unwrap();
    account
}

/// The kernel says "0" of what its reader may not look into, whatever it ended with.
#[test]
fn the_end_of_what_runs_with_other_rights_is_its_own() {
    for shell in SHELLS {
        let account = of_nobody(shell);
        let program = account.home.path().join("sgid");
        std::fs::copy("/usr/bin/dash", &program).unwrap();
        std::os::unix::fs::chown(&program, Some(0), Some(42)).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o2755)).unwrap();
        for (code, nap) in [(7, "0"), (0, "0"), (3, "0.4")] {
            let step = plan(&format!("exec {} -c 'sleep {nap}; exit {code}'", program.display()), 30);
            check(&account.run(&step), Verdict::Exit(code), "", "");
        }
    }
}

#[test]
fn nobody_elses_process_is_ended_for_having_the_number_of_a_step() {
    each_shell(|account| {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let nap = format!("994{}", account.shell().concat().bytes().map(u32::from).sum::<u32>());
        let mut victim = Command::new("setsid").args(["sleep", &nap]).spawn().unwrap();
        wait_until("it leads a session", || running(&format!("sleep {nap}")));
        std::fs::create_dir(account.home.path().join(".spoolgate")).unwrap();
        for (boot, end) in [(boot.trim(), ""), ("another-boot", "\nexit cancelled left - 0 - 0 5 end\n")] {
            let step = plan("echo never", 30);
            let state = format!("run 4194000 {boot} 100 end\naudit x end\n\nsession {} 5 end\n{end}", victim.id());
            std::fs::write(account.file(&step, "state"), state).unwrap();
            let left = account.kill(&step).ended.unwrap().0;
            assert!(matches!(left, Verdict::Cancelled { left: false }), "{left:?}");
            assert!(victim.try_wait().unwrap().is_none(), "the victim lives");
        }
        victim.kill().unwrap();
        end_of(victim, "the victim");
    });
}

#[test]
fn what_a_runner_was_about_to_end_is_not_said_to_have_been_hit_by_a_signal() {
    each_shell(|account| {
        let step = plan("trap '' TERM; echo on; while :; do sleep 0.1; done", 1);
        let mut child = account.start(&step.text(Offsets::default(), "n1"));
        wait_until("it is being ended", || account.knows(&step, "stop timed_out"));
        child.kill().unwrap();
        end_of(child, "the runner");
        let heard = account.run(&step);
        assert_eq!(heard.ended.map(|ended| ended.0), Some(Verdict::TimedOut { left: false }), "{}", heard.noise);
    });
}
