//! What befalls the runner on a host: a disk that is full, a home that is not there, what is old, a process that is killed.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use spoolgate::domain::runner::Offsets;
use spoolgate::domain::runner::answer::Verdict;

use crate::patience::InTime as _;
use crate::runner::{Account, check, each_shell, plan, wait_until};

#[test]
fn a_disk_that_fills_up_hides_no_end() {
    each_shell(|account| {
        let disk = account.home.path().join(".spoolgate");
        std::fs::create_dir(&disk).unwrap();
        let mount = |program: &str, words: &[&str]| {
            assert!(Command::new(program).args(words).arg(&disk).status_in_time().unwrap().success());
        };
        mount("mount", &["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"]);
        for (n, nap) in ["", "sleep 1; "].into_iter().enumerate() {
            let step = plan(&format!("cat /dev/zero >\"$HOME/.spoolgate/filler\"; {nap}exit 7"), 30);
            let heard = account.run(&step);
            assert_eq!(heard.ended.map(|ended| ended.0), Some(Verdict::Exit(7)), "{n}: {}", heard.noise);
            std::fs::remove_file(disk.join("filler")).unwrap();
        }
        mount("umount", &["-l"]);
    });
}

#[test]
fn a_home_that_cannot_be_written_is_no_obstacle_and_a_trap_is_not_used() {
    each_shell(|account| {
        let account = Account { home: tempfile::tempdir().unwrap(), shell: account.shell, user: Some("65534") };
        // The home belongs to root, so nobody's files go elsewhere.
        let step = plan(&format!("id -un # {} {}", std::process::id(), account.shell[0]), 30);
        check(&account.run(&step), Verdict::Exit(0), "nobody\n", "");
        assert!(!account.file(&step, "state").exists());
        let used: Vec<PathBuf> = ["/var/tmp", "/tmp"]
            .iter()
            .map(|dir| Path::new(dir).join(".spoolgate-65534").join(format!("{}.state", step.id.as_str())))
            .filter(|file| file.exists())
            .collect();
        assert_eq!(used.len(), 1, "{used:?}");
        for file in std::fs::read_dir(used[0].parent().unwrap()).unwrap().map(Result::unwrap) {
            if file.file_name().to_string_lossy().starts_with(step.id.as_str()) {
                std::fs::remove_file(file.path()).unwrap();
            }
        }
    });
}

#[test]
fn what_began_elsewhere_is_found_there_and_not_started_again() {
    each_shell(|account| {
        let home = tempfile::tempdir().unwrap();
        let account = Account { home, shell: account.shell, user: Some("65534") };
        let own = |path: &Path| std::os::unix::fs::chown(path, Some(65534), None).unwrap();
        // Its home could not be written; now it can.
        let step = plan(&format!("echo $$ # {} {}", std::process::id(), account.shell[0]), 30);
        let first = account.run(&step);
        own(account.home.path());
        let second = account.resend(&step, false, Some(1));
        assert_eq!(second.out, first.out);
        assert!(!account.file(&step, "state").exists());
        let elsewhere = ["/var/tmp", "/tmp"].map(|dir| Path::new(dir).join(".spoolgate-65534"));
        for file in elsewhere.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten()).map(Result::unwrap) {
            if file.file_name().to_string_lossy().starts_with(step.id.as_str()) {
                std::fs::remove_file(file.path()).unwrap();
            }
        }
        // It could be written, and cannot be now.
        let step = plan(&format!("echo $$; : {}", account.shell[0]), 30);
        let first = account.run(&step);
        assert!(account.file(&step, "state").exists());
        let dir = account.home.path().join(".spoolgate");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o500)).unwrap();
        assert_eq!(account.resend(&step, false, Some(1)).out, first.out);
    });
}

#[test]
fn what_ran_is_shown_though_its_disk_cannot_be_written_any_more() {
    each_shell(|account| {
        let disk = account.home.path().join(".spoolgate");
        std::fs::create_dir(&disk).unwrap();
        // A last nap may hold a file for a moment.
        let mount = |program: &str, words: &[&str]| {
            wait_until(program, || Command::new(program).args(words).arg(&disk).status_in_time().unwrap().success());
        };
        mount("mount", &["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]);
        let steps = ["echo soon", "sleep 0.5; echo later; echo late >&2; exit 3"].map(|script| plan(script, 30));
        let before = steps.each_ref().map(|step| account.run(step).ended.unwrap().0);
        mount("mount", &["-o", "remount,ro"]);
        let after = steps.each_ref().map(|step| account.resend(step, true, Some(1)));
        mount("umount", &["-l"]);
        check(&after[0], before[0], "soon\n", "");
        check(&after[1], Verdict::Exit(3), "later\n", "late\n");
    });
}

/// Whether a host has what a step needs is asked before it begins, and no more when it has ended.
#[test]
fn what_ended_is_told_though_the_host_lacks_what_it_needed() {
    each_shell(|account| {
        let mut step = plan("exit 3", 30);
        check(&account.run(&step), Verdict::Exit(3), "", "");
        step.limit_memory();
        check(&account.resend(&step, false, Some(1)), Verdict::Exit(3), "", "");
    });
}

/// What was written of a step may be lost with the power of its host, and its script may have run.
#[test]
fn what_a_host_may_have_lost_when_it_was_restarted_is_not_started_again() {
    const SINCE_THE_LAST_START_AND_LONGER: Option<u64> = Some(1_000_000_000);
    each_shell(|account| {
        let step = plan("echo started >>\"$HOME/journal\"", 30);
        let forgotten = |heard: crate::runner::Heard| assert_eq!(heard.ended.unwrap().0, Verdict::Forgotten);
        forgotten(account.resend(&step, false, SINCE_THE_LAST_START_AND_LONGER));
        // A file system may have kept the name alone.
        let state = account.file(&step, "state");
        std::fs::write(&state, "").unwrap();
        forgotten(account.resend(&step, false, SINCE_THE_LAST_START_AND_LONGER));
        forgotten(account.run(&step));
        std::fs::remove_file(state).unwrap();
        forgotten(account.kill_sent(&step, SINCE_THE_LAST_START_AND_LONGER));
        assert!(!account.home.path().join("journal").exists());
        // What was said holds: neither what was under way then starts it, nor whoever asks later.
        forgotten(account.run(&step));
        forgotten(account.resend(&step, false, Some(1)));
        assert!(!account.home.path().join("journal").exists());
        // A host that runs for longer than that would know of it.
        let step = plan("echo started >>\"$HOME/journal\"; :", 30);
        check(&account.resend(&step, false, Some(1)), Verdict::Exit(0), "", "");
        check(&account.resend(&step, false, SINCE_THE_LAST_START_AND_LONGER), Verdict::Exit(0), "", "");
        assert_eq!(std::fs::read_to_string(account.home.path().join("journal")).unwrap(), "started\n");
    });
}

#[test]
fn what_ended_long_ago_is_cleaned_away_and_nothing_else() {
    each_shell(|account| {
        check(&account.run(&plan("true", 30)), Verdict::Exit(0), "", "");
        let dir = account.home.path().join(".spoolgate");
        let month_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_hours(24);
        for (name, text, old) in [
            ("1-1-old-1-a.state", "run 1 b 2 end\n\nexit exit 0 - 0 - 0 end\n", true),
            ("1-1-old-1-a.out.tail", "", true),
            ("1-1-runs-1-b.state", "run 1 b 2 end\n", true),
            ("1-1-new-1-c.state", "void end\n\nexit never end\n", false),
            ("1-1-new-1-c.out", "", true),
        ] {
            let mut file = std::fs::File::create(dir.join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            if old {
                file.set_modified(month_ago).unwrap();
            }
        }
        check(&account.run(&plan("true # again", 30)), Verdict::Exit(0), "", "");
        let left = |name: &str| dir.join(name).exists();
        wait_until("the old one to go", || !left("1-1-old-1-a.state"));
        assert!(!left("1-1-old-1-a.out.tail"), "all of it");
        assert!(left("1-1-runs-1-b.state"), "what has not ended stays, however old");
        assert!(left("1-1-new-1-c.state") && left("1-1-new-1-c.out"), "what ended lately stays");
    });
}

/// Whoever waits for the script may be killed for want of memory: then its end is somebody else's, and may be taken before the
/// runner has seen it.
#[test]
fn a_script_whose_waiter_was_killed_is_shown_to_its_end() {
    each_shell(|account| {
        for nap in ["0.1", "1"] {
            let step = plan(&format!("echo on; sleep {nap}; echo off >&2; exit 4"), 30);
            let child = account.start(&step.text(Offsets::default(), "n1"));
            wait_until("it runs", || account.knows(&step, "session "));
            let state = std::fs::read_to_string(account.file(&step, "state")).unwrap();
            let leader = state.split_once("session ").unwrap().1.split(' ').next().unwrap();
            let stat = std::fs::read_to_string(format!("/proc/{leader}/stat")).unwrap();
            let waiter = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
            let waiter = nix::unistd::Pid::from_raw(waiter);
            nix::sys::signal::kill(waiter, nix::sys::signal::Signal::SIGKILL).unwrap();
            let heard = Account::hear(child, "n1", (&step.id, Offsets::default()));
            let ended = heard.ended.map(|ended| ended.0);
            assert!(
                matches!(ended, Some(Verdict::Died { left: false } | Verdict::Exit(4))),
                "{ended:?} {}",
                heard.noise
            );
            assert_eq!(heard.out, b"on\n");
        }
    });
}

#[test]
fn a_script_whose_readers_were_killed_is_shown_to_its_end() {
    each_shell(|account| {
        let waits = account.home.path().join("waits");
        let script =
            format!("echo on; : >{0}; while [ -e {0} ]; do sleep 0.1; done; echo off >&2; exit 4", waits.display());
        let step = plan(&script, 30);
        let child = account.start(&step.text(Offsets::default(), "n1"));
        wait_until("it runs", || waits.exists());
        for (reader, _) in children(child.id()).into_iter().filter(|(_, name)| name != "sleep") {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(reader), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        std::fs::remove_file(&waits).unwrap();
        check(&Account::hear(child, "n1", (&step.id, Offsets::default())), Verdict::Exit(4), "on\n", "off\n");
    });
}

/// Returns the numbers and names of a process's children.
fn children(parent: u32) -> Vec<(i32, String)> {
    let stats = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let text = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (head, rest) = text.rsplit_once(") ")?;
        let (pid, name) = head.split_once(" (")?;
        let of: u32 = rest.split(' ').nth(1)?.parse().ok()?;
        (of == parent).then_some((pid.parse().ok()?, name.to_owned()))
    });
    stats.collect()
}
