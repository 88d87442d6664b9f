//! Scripts that run as another account than the one that was logged in to: what they, and others of their account, can do to
//! what is told of them.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use spoolgate::domain::outcome::ProvedBy;
use spoolgate::domain::runner::answer::Verdict;
use spoolgate::domain::runner::{Offsets, Program};

use crate::patience::InTime as _;
use crate::runner::{Account, Heard, Step, check, living, plan, step_with, wait_until};
use crate::sshd::Sshd;
use crate::world::World;

const NONCE: &str = "00112233445566778899aabbccddeeff";
/// The accounts of these hosts, and their numbers: one to log in to, one for scripts, and one for those that signal everybody.
const ACCOUNTS: [(&str, u32); 3] = [("sgin", LOGIN), ("sgapp", APP), ("sgfoe", FOE)];
const LOGIN: u32 = 61_301;
const APP: u32 = 61_302;
const FOE: u32 = 61_303;

/// A host with accounts of its own, which nobody else sees.
struct Host {
    dir: tempfile::TempDir,
    /// The shell of every account, `/bin/sh`.
    shell: &'static str,
    /// Who logs in.
    login: u32,
    /// Whether processes of others are hidden.
    hides: bool,
    /// What sudo lets the login account do.
    sudoers: String,
}

impl Host {
    fn new(shell: &'static str, login: u32, hides: bool) -> Host {
        let dir = tempfile::Builder::new().prefix("spoolgate-host.").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let mut group = std::fs::read_to_string("/etc/group").unwrap();
        for (name, uid) in ACCOUNTS {
            let home = dir.path().join(name);
            std::fs::create_dir(&home).unwrap();
            std::fs::set_permissions(&home, PermissionsExt::from_mode(0o755)).unwrap();
            chown(&home, Some(uid), Some(uid)).unwrap();
            passwd += &format!("{name}:*:{uid}:{uid}::{}:/bin/sh\n", home.display());
            group += &format!("{name}:x:{uid}:\n");
        }
        std::fs::write(dir.path().join("passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("group"), group).unwrap();
        let sudoers = "root ALL=(ALL:ALL) NOPASSWD: ALL\nsgin ALL=(sgapp, sgfoe) NOPASSWD: /bin/sh\n".to_owned();
        Host { dir, shell, login, hides, sudoers }
    }

    fn home(&self) -> PathBuf {
        if self.login == 0 { self.dir.path().join("root") } else { self.dir.path().join("sgin") }
    }

    fn login_name(&self) -> &'static str {
        if self.login == 0 { "root" } else { "sgin" }
    }

    /// Starts a shell of the account that is logged in to, as sshd would, and has it take a program.
    fn start(&self, program: &Program) -> Child {
        // Others who start here at the same time never see a part of it.
        let sudoers = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        std::fs::write(sudoers.path(), &self.sudoers).unwrap();
        std::fs::set_permissions(sudoers.path(), PermissionsExt::from_mode(0o440)).unwrap();
        sudoers.persist(self.dir.path().join("sudoers")).unwrap();
        std::fs::create_dir_all(self.home()).unwrap();
        let mut script =
            "d=$1 sh=$2 uid=$3; shift 3; mount --bind $d/passwd /etc/passwd && mount --bind $d/group /etc/group && \
            mount --bind $d/sudoers /etc/sudoers && mount --bind $sh /bin/sh && "
                .to_owned();
        if self.hides {
            script += "mount -t proc -o hidepid=2 proc /proc && ";
        }
        script += "exec setpriv --reuid=$uid --regid=$uid --clear-groups -- \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "/bin/dash", "-c", &script, "dash"]).arg(self.dir.path()).arg(self.shell);
        command.arg(self.login.to_string()).args(program.command(NONCE));
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", self.home());
        command.current_dir(self.home()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, text) = (child.stdin.take().unwrap(), program.first(NONCE));
        std::thread::spawn(move || drop(stdin.write_all(&text)));
        child
    }

    fn ask(&self, step: &Step, nonce: &str) -> Heard {
        Account::hear(self.start(&step.program(Offsets::default(), nonce)), nonce, (&step.id, Offsets::default()))
    }

    fn run(&self, step: &Step) -> Heard {
        self.ask(step, "n1")
    }

    fn kill(&self, step: &Step) -> Heard {
        Account::hear(self.start(&step.end("n3")), "n3", (&step.id, Offsets::default()))
    }

    /// A file of a step's that an account keeps.
    fn file(&self, account: &str, step: &Step, name: &str) -> PathBuf {
        let home = if account == "root" { self.home() } else { self.dir.path().join(account) };
        home.join(format!(".spoolgate/{}.{name}", step.id.as_str()))
    }
}

/// A step of a script that runs as the account for scripts.
fn step(script: &str, timeout_s: u64) -> Step {
    let mut step = plan(script, timeout_s);
    step.run_by("sgapp");
    step
}

/// Runs a test on hosts of every kind, side by side.
fn each_host(test: impl Fn(&Host) + Sync) {
    let kinds = [
        ("/usr/bin/dash", 0, false),
        ("/usr/bin/dash", LOGIN, false),
        ("/bin/bash", LOGIN, false),
        ("/bin/busybox", LOGIN, false),
        ("/bin/bash", 0, false),
        ("/usr/bin/dash", LOGIN, true),
    ];
    std::thread::scope(|scope| {
        let all = kinds.map(|kind| {
            let test = &test;
            (kind, scope.spawn(move || test(&Host::new(kind.0, kind.1, kind.2))))
        });
        let bad: Vec<_> = all.into_iter().filter_map(|(kind, one)| one.join().is_err().then_some(kind)).collect();
        assert!(bad.is_empty(), "the test failed on {bad:?}");
    });
}

#[test]
fn a_script_of_another_account_is_run_and_told_of_as_every_other() {
    each_host(|host| {
        let script =
            "id -un; cat; echo err >&2; echo named >/dev/stderr; echo \"$1|$2\"; printf %s \"$GREETING\"; pwd; \
            case $0 in */sgapp/.spoolgate/*) echo own;; esac; kill -0 -$$ && echo leads; \
            for n in 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$n ] || echo open $n; done; \
            read -r n n <<E
$(grep SigIgn /proc/self/status)
E
[ $((0x$n & 0x7fffffff)) = 0 ] || echo ignores $n; exit 3";
        let heard = host.run(&step(script, 30));
        let want = format!("sgapp\none arg|it's\nit's \"here\"; $(id)\n{}\nown\nleads\n", host.home().display());
        check(&heard, Verdict::Exit(3), &want, "err\nnamed\n");
        assert_eq!(heard.proved_by, Some(ProvedBy::OtherAccount));
        for (how, verdict) in [
            ("exit 0", Verdict::Exit(0)),
            ("exit 125", Verdict::Exit(125)),
            ("exit 137", Verdict::Exit(137)),
            ("exit 255", Verdict::Exit(255)),
            ("kill -KILL $$", Verdict::Signal(9)),
            ("kill -TERM $$", Verdict::Signal(15)),
            ("kill -INT $$", Verdict::Signal(2)),
        ] {
            let asked = step(how, 30);
            check(&host.run(&asked), verdict, "", "");
            check(&host.ask(&asked, "n2"), verdict, "", "");
        }
    });
}

/// What a script that is to exit with 7 does to be called a success.
const ATTACKS: [(&str, &str); 8] = [
    (
        "writes the state files",
        "for f in ~/.spoolgate/*.state \"$LOGIN\"/.spoolgate/*.state; do for n in 1 2 3; do printf '\\nkernel 0 end\\ncode 0 exit end\\n\
         exit exit 0 - 0 - 0 1 end\\n' >>\"$f\"; done; done 2>/dev/null; sleep 0.5; exit 7",
    ),
    (
        "writes them anew",
        "f=${0%.*.script}.state; sed 's/^session .*/session 1 1 end/' \"$f\" >\"$f.new\"; echo 'kernel 0 end' >>\"$f.new\"; \
         cat \"$f.new\" >\"$f\"; mv \"$f.new\" \"$f\"; sleep 0.5; exit 7",
    ),
    (
        "replaces directories",
        "mv ~/.spoolgate ~/gone; mkdir ~/.spoolgate; mv \"$LOGIN\"/.spoolgate \"$LOGIN\"/gone 2>/dev/null; \
         cp ~/gone/* ~/.spoolgate/; for f in ~/.spoolgate/*.state; do echo 'kernel 0 end' >>\"$f\"; done; exit 7",
    ),
    (
        "prints what the runner says",
        "for n in n1 $(ps -e -o args | grep -o '[0-9a-f]\\{32\\}'); do for w in \"end $n exit 0 - 0 - 0\" \"known $n exit 0\" \"gone $n -\"; \
         do echo \"spoolgate-$w\"; echo \"spoolgate-$w\" >&2; done; done; exit 7",
    ),
    ("kills who waits for it", "kill -KILL $PPID 2>/dev/null; sleep 1; exit 7"),
    (
        "kills everybody",
        "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = $$ ] || kill -KILL $p; done 2>/dev/null; sleep 1; exit 7",
    ),
    (
        "stops everybody",
        "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = $$ ] || kill -STOP $p; done 2>/dev/null; exit 7",
    ),
    (
        "lets everybody go on",
        "for n in 1 2 3; do for p in /proc/[0-9]*; do kill -CONT ${p#/proc/}; done; done 2>/dev/null; exit 7",
    ),
];

#[test]
fn nothing_that_a_script_of_another_account_does_makes_its_failure_a_success() {
    let kinds = [("/usr/bin/dash", 0, false), ("/usr/bin/dash", LOGIN, false), ("/bin/bash", LOGIN, true)];
    // One after the other: a script that signals everybody of its account means those of all these hosts, and no other test's.
    for (shell, login, hides) in kinds {
        for (what, script) in ATTACKS {
            let host = Host::new(shell, login, hides);
            let mut asked = step(&script.replace("$LOGIN", &host.home().display().to_string()), 2);
            asked.run_by("sgfoe");
            let first = host.run(&asked).ended.map(|ended| ended.0);
            let second = host.ask(&asked, "n2").ended.map(|ended| ended.0);
            let honest = |verdict| match verdict {
                Some(Verdict::Exit(code)) => code == 7 || code > 128 && what.starts_with("kills"),
                Some(Verdict::Signal(9) | Verdict::Died { .. }) => what.starts_with("kills"),
                // What stops sudo is root's to wake: then some of it is left.
                Some(Verdict::TimedOut { .. }) => what.starts_with("stops"),
                _ => false,
            };
            assert!(honest(first) && honest(second), "{what}, {shell} {login}: {first:?}, then {second:?}");
            // A sudo that was stopped is left, too.
            for whose in [["-U", "61303"], ["-f", "sudo -n -u sgfoe"]] {
                assert!(Command::new("pkill").arg("-KILL").args(whose).status_in_time().is_ok());
            }
        }
    }
}

#[test]
fn a_script_of_another_account_is_ended_with_all_that_left_its_session() {
    each_host(|host| {
        let word = format!("SG_OTHER={}-{}-{}-{}", std::process::id(), &host.shell[5..], host.login, host.hides);
        let script = format!(
            "export {word}; setsid sh -c 'trap \"\" TERM; sleep 9998; sleep 9997' & env -i sleep 9996 & trap 'echo term' TERM; echo on; \
             sleep 9995; sleep 9994"
        );
        // Killed from another connection.
        let one = step(&script, 0);
        let child = host.start(&one.program(Offsets::default(), "n1"));
        wait_until("all of it stands", || living(&word) >= 3);
        let session = session(&host.file("sgapp", &one, "as.state"));
        assert!(in_session(session) >= 3);
        assert_eq!(host.kill(&one).ended.unwrap().0, Verdict::Cancelled { left: false });
        assert_eq!((living(&word), in_session(session)), (0, 0));
        let heard = Account::hear(child, "n1", (&one.id, Offsets::default()));
        ended(&heard, Verdict::Cancelled { left: false }, "on\nterm\n");
        // Ended for its time, and for its silence.
        let two = step(&script, 1);
        ended(&host.run(&two), Verdict::TimedOut { left: false }, "on\nterm\n");
        let mut three = step(&script, 0);
        three.limit_silence(1);
        ended(&host.run(&three), Verdict::Idle { left: false }, "on\nterm\n");
        // Its runner was killed.
        let four = step(&script, 0);
        let child = host.start(&four.program(Offsets::default(), "n1"));
        wait_until("all of it stands", || living(&word) >= 3);
        let state = std::fs::read_to_string(host.file(host.login_name(), &four, "state")).unwrap();
        let runner = state.split(' ').nth(1).unwrap();
        assert!(Command::new("kill").args(["-KILL", runner]).status_in_time().unwrap().success());
        drop(Account::hear(child, "n1", (&four.id, Offsets::default())));
        assert_eq!(host.ask(&four, "n2").ended.map(|ended| ended.0), Some(Verdict::Died { left: false }));
        assert_eq!(living(&word), 0);
        // What was to be killed before it began never begins.
        let never = step("echo on", 0);
        assert_eq!(host.kill(&never).ended.map(|ended| ended.0), Some(Verdict::Never));
        assert_eq!(host.run(&never).ended.map(|ended| ended.0), Some(Verdict::Never));
    });
}

/// What is on standard error may be a shell's word of a child.
#[track_caller]
fn ended(heard: &Heard, verdict: Verdict, out: &str) {
    assert_eq!(heard.ended.map(|ended| ended.0), Some(verdict), "{:?} {}", heard.refused, heard.noise);
    assert_eq!(String::from_utf8_lossy(&heard.out), out);
}

/// The session that a state file names.
fn session(state: &std::path::Path) -> u32 {
    let text = std::fs::read_to_string(state).unwrap();
    text.lines().find_map(|line| line.strip_prefix("session ")?.split(' ').next()?.parse().ok()).unwrap()
}

/// Counts the living processes of a session.
fn in_session(session: u32) -> usize {
    let stats = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let words = stats.filter_map(|stat| {
        let words: Vec<String> = stat.rsplit(") ").next()?.split(' ').map(str::to_owned).collect();
        Some((words.first()?.clone(), words.get(3)?.clone()))
    });
    words.filter(|(state, of)| state != "Z" && *of == session.to_string()).count()
}

#[test]
fn nobody_else_sees_what_a_script_of_another_account_gets() {
    each_host(|host| {
        let secret = format!("tell-{}-nobody-{}", std::process::id(), host.home().file_name().unwrap().display());
        // More than a pipe holds.
        let env = [("KEY".to_owned(), secret.clone()), ("LONG".to_owned(), "x".repeat(120_000))].into();
        let waits = host.dir.path().join("sgapp/waits");
        let script = format!(
            "echo \"${{#LONG}} ${{#KEY}}\"; : >{0}; while [ -e {0} ]; do sleep 0.1; done; exit 4",
            waits.display()
        );
        let mut asked = step_with(&script, vec!["it's".to_owned()], &env);
        asked.run_by("sgapp");
        let child = host.start(&asked.program(Offsets::default(), "n1"));
        wait_until("it runs", || waits.exists());
        let (mut seen, has) = (0, |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let path = entry.path();
            assert!(!std::fs::read(path.join("cmdline")).is_ok_and(|line| has(&line)), "on a command line: {path:?}");
            if std::fs::read(path.join("environ")).is_ok_and(|environ| has(&environ)) {
                // What ended meanwhile has none.
                let Ok(status) = std::fs::read_to_string(path.join("status")) else { continue };
                assert!(status.contains(&format!("Uid:\t{APP}\t{APP}\t{APP}")), "in an environment: {status}");
                seen += 1;
            }
        }
        assert!(seen > 0, "the script has it");
        std::fs::remove_file(&waits).unwrap();
        let heard = Account::hear(child, "n1", (&asked.id, Offsets::default()));
        check(&heard, Verdict::Exit(4), &format!("120000 {}\n", secret.len()), "");
        for account in [host.login_name(), "sgapp"] {
            let dir = host.file(account, &asked, "x").parent().unwrap().to_owned();
            assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
            for file in std::fs::read_dir(&dir).unwrap().filter_map(Result::ok) {
                assert!(!has(&std::fs::read(file.path()).unwrap()), "{:?}", file.path());
                let owner = std::os::unix::fs::MetadataExt::uid(&file.metadata().unwrap());
                assert_eq!(owner, if account == "sgapp" { APP } else { host.login }, "{:?}", file.path());
            }
        }
    });
}

#[test]
fn what_sudo_does_not_allow_is_not_started_and_says_why() {
    let mut host = Host::new("/usr/bin/dash", LOGIN, false);
    host.sudoers = "root ALL=(ALL:ALL) NOPASSWD: ALL\nsgin ALL=(sgapp) /bin/sh\n".to_owned();
    let heard = host.run(&step("echo on", 30));
    let why = heard.refused.unwrap();
    assert!(why.contains("sudo: a password is required; let sudoers(5) allow sgin to run /bin/sh as sgapp"), "{why}");
    assert!(heard.ended.is_none() && heard.out.is_empty());
    // An account that the host does not have.
    let mut nobodys = step("echo on", 30);
    nobodys.run_by("sgnobody");
    assert!(host.run(&nobodys).refused.unwrap().contains("sgnobody"));
    // Nobody passed the gate: once it is allowed, it runs.
    host.sudoers = "sgin ALL=(sgapp) NOPASSWD: /bin/sh\n".to_owned();
    check(&host.run(&step("echo on", 30)), Verdict::Exit(0), "on\n", "");
}

#[test]
fn what_sudo_keeps_a_record_of_is_run_and_ended_as_everything_else() {
    let mut host = Host::new("/usr/bin/dash", LOGIN, false);
    let place = host.dir.path().join("record");
    host.sudoers =
        format!("Defaults use_pty, log_output, iolog_dir={}\nsgin ALL=(sgapp) NOPASSWD: /bin/sh\n", place.display());
    let script = "echo out; echo named >/dev/stderr; head -c 300000 /dev/zero; exit 7";
    check(&host.run(&step(script, 30)), Verdict::Exit(7), &format!("out\n{}", "\0".repeat(300_000)), "named\n");
    check(&host.run(&step("kill -TERM $$", 30)), Verdict::Signal(15), "", "");
    check(&host.run(&step("echo on; sleep 30", 1)), Verdict::TimedOut { left: false }, "on\n", "");
    assert!(place.exists());
}

#[test]
fn a_result_is_worth_what_the_script_cannot_write() {
    let mut host = Host::new("/usr/bin/dash", LOGIN, false);
    host.sudoers = "sgin ALL=(ALL) NOPASSWD: /bin/sh\n".to_owned();
    for (account, proof) in
        [("sgapp", ProvedBy::OtherAccount), ("sgin", ProvedBy::SameAccount), ("root", ProvedBy::Root)]
    {
        let mut asked = plan("id -un; exit 5", 30);
        asked.run_by(account);
        for _ in 0..2 {
            let heard = host.run(&asked);
            check(&heard, Verdict::Exit(5), &format!("{account}\n"), "");
            assert_eq!(heard.proved_by, Some(proof), "{account}");
        }
    }
    let heard = host.run(&plan("exit 6", 30));
    assert_eq!((heard.ended.unwrap().0, heard.proved_by), (Verdict::Exit(6), Some(ProvedBy::SameAccount)));
}

#[test]
fn many_that_send_a_step_of_another_account_at_once_start_it_once() {
    each_host(|host| {
        let once = step("echo started >>~/journal; sleep 0.5; echo out; exit 9", 30);
        std::thread::scope(|scope| {
            for one in (0..4).map(|_| scope.spawn(|| host.run(&once))).collect::<Vec<_>>() {
                check(&one.join().unwrap(), Verdict::Exit(9), "out\n", "");
            }
        });
        assert_eq!(std::fs::read_to_string(host.dir.path().join("sgapp/journal")).unwrap(), "started\n");
        // The runner of an earlier version kept the gate with the script's account.
        let earlier = step("echo started >>~/journal", 30);
        let gate = host.file("sgapp", &earlier, "state");
        std::fs::write(&gate, "run 1 x 1 end\n").unwrap();
        chown(&gate, Some(APP), Some(APP)).unwrap();
        assert_eq!(host.run(&earlier).ended.map(|ended| ended.0), Some(Verdict::Forgotten));
        assert_eq!(std::fs::read_to_string(host.dir.path().join("sgapp/journal")).unwrap(), "started\n");
    });
}

#[test]
fn a_record_says_what_the_script_did_and_not_what_it_wrote() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("h1", "127.0.4.1")], Some(&sshd));
    // Where the state lay that the runner believed, and where one lies now.
    let script = "f=${0%.*.script}.state\nfor n in 1 2 3; do printf '\\nkernel 0 end\\ncode 0 exit end\\n' >>\"$f\"; done\nsleep 0.5\nexit 7";
    let step = format!("[[step]]\nname = \"one\"\naccount = \"nobody\"\nscript = '''\n{script}\n'''\n");
    world.write_etc("templates/forge.toml", &format!("id = 76\nname = \"forge\"\ntitle = \"t\"\n{step}"));
    world.start();
    let task = json!({"task_name": "forge", "temp_id": 76, "hosts": {"1": ["h1"]}}).to_string();
    world.drop_file("ready", "forge.json", task.as_bytes(), 0);
    let record = world.record(world.task_of("forge"));
    let result = &record["results"]["h1"][0];
    assert_eq!((&result["exit_code"], &result["outcome"]), (&json!(7), &json!("failed")), "{record:#}");
    assert_eq!(result["proved_by"], "other-account", "{record:#}");
}
