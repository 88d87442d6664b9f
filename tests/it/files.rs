//! Steps that carry files, over a real sshd: what is put in a place is what was approved, whole or not at all.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use spoolgate::base::digest::Digest;
use spoolgate::domain::file_step::{BRING, INSTALL};
use spoolgate::domain::runner::answer::Verdict;

use crate::patience::InTime as _;
use crate::relay::Relay;
use crate::runner::{SHELLS, each_shell, step_with_file};
use crate::sshd::Sshd;
use crate::world::{ALICE, BOB, World, wait_for};

/// A world with a template of these steps, and a directory that stands for what is on its hosts.
fn world(sshd: &Sshd, port: u16, steps: &str) -> (World, PathBuf) {
    let mut world = World::new(&[], Some(sshd));
    let host =
        |name: &str| format!("[host.{name}]\naddress = \"127.0.0.1\"\nport = {port}\nvars = {{ tier = \"{name}\" }}\n");
    world.write_etc("inventory/hosts.toml", &(host("web1") + &host("web2")));
    let known = sshd.known_hosts().replace("[127.*]:", &format!("[127.*]:{port},[127.*]:"));
    world.write_etc("known_hosts", &known);
    let params =
        "[[param]]\nname = \"DIR\"\ntype = \"path\"\nrequired = true\n[[param]]\nname = \"V\"\ndefault = \"1\"\n";
    std::fs::create_dir_all(world.etc().join("files/tree/deep")).unwrap();
    world.write_etc("files/app-1.bin", "one");
    world.write_etc("files/tree/a", "A");
    world.write_etc("files/tree/deep/b", "B");
    std::fs::create_dir_all(world.etc().join("templates/conf/d")).unwrap();
    world.write_etc("templates/conf/app.ini.j2", "host = {{ host.name }}\nv = {{ V }}\n");
    world.write_etc("templates/conf/d/tier", "{% if host.vars.tier == 'web1' %}\nfirst\n{% endif %}\n");
    let head = "id = 80\nname = \"files\"\ntitle = \"t\"\n";
    world.write_etc("templates/files.toml", &format!("{head}{params}{steps}"));
    world.start();
    let there = world.state().parent().unwrap().join("there");
    std::fs::create_dir(&there).unwrap();
    (world, there)
}

fn task(name: &str, there: &Path, hosts: &[&str], more: &[(&str, &str)]) -> Vec<u8> {
    let mut args = json!({"DIR": there});
    for (name, value) in more {
        args[*name] = json!(value);
    }
    json!({"task_name": name, "temp_id": 80, "hosts": {"1": hosts}, "args": args}).to_string().into_bytes()
}

fn run(world: &World, name: &str, there: &Path, more: &[(&str, &str)]) -> (u64, Value) {
    world.drop_file("ready", &format!("{name}.json"), &task(name, there, &["web1"], more), 0);
    let id = world.task_of(name);
    (id, world.record(id))
}

fn output(world: &World, id: u64, name: &str) -> PathBuf {
    world.state().join(format!("runs/{id}/output/web1/{name}"))
}

fn log(world: &World, id: u64, step: &str) -> String {
    std::fs::read_to_string(output(world, id, &format!("{step}.log"))).unwrap_or_default()
}

#[track_caller]
fn holds(path: &Path, text: &str, mode: u32) {
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "{}", path.display());
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode, "{}", path.display());
}

const COPIES: &str = r#"
[[step]]
name = "package"
copy = "app-{V}.bin"
to = "{DIR}/new folder/app.bin"
mode = "0750"
owner = "nobody:nogroup"
[[step]]
name = "tree"
copy = "tree"
to = "{DIR}/tree"
[[step]]
name = "twice"
copy = "app-{V}.bin"
to = "{DIR}/again.bin"
"#;

#[test]
fn files_and_folders_arrive_whole_and_what_is_there_is_not_touched() {
    let sshd = Sshd::start();
    let (world, there) = world(&sshd, sshd.port(), COPIES);
    std::fs::write(there.join("again.bin"), "something older").unwrap();
    let (id, record) = run(&world, "first", &there, &[]);
    assert_eq!(record["outcome"], "ok", "{record:#} {}", log(&world, id, "package"));
    let app = there.join("new folder/app.bin");
    holds(&app, "one", 0o750);
    let meta = std::fs::metadata(&app).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&meta), 65534);
    let folder = std::fs::metadata(there.join("new folder")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&folder), 65534, "what is made on the way gets the owner");
    holds(&there.join("again.bin"), "one", 0o644);
    holds(&there.join("tree/deep/b"), "B", 0o644);
    assert_eq!(log(&world, id, "tree"), format!("changed {0}/tree/a\nchanged {0}/tree/deep/b\n", there.display()));
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(&app);
    let (id, record) = run(&world, "second", &there, &[]);
    assert_eq!(record["outcome"], "ok");
    assert_eq!(log(&world, id, "package"), format!("unchanged {}\n", app.display()));
    assert_eq!(inode(&app), before);
    // Another mode, another name of the same file, a link to it: each is replaced, and what it led to stays as it was.
    std::fs::set_permissions(&app, PermissionsExt::from_mode(0o600)).unwrap();
    let elsewhere = there.join("elsewhere");
    std::fs::write(&elsewhere, "one").unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::remove_file(there.join("again.bin")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, there.join("again.bin")).unwrap();
    let (id, record) = run(&world, "dressed", &there, &[]);
    assert_eq!(record["outcome"], "ok", "{}", log(&world, id, "twice"));
    assert_eq!(log(&world, id, "package"), format!("changed {}\n", app.display()));
    holds(&app, "one", 0o750);
    holds(&elsewhere, "one", 0o600);
    assert!(there.join("again.bin").symlink_metadata().unwrap().is_file());
    holds(&there.join("again.bin"), "one", 0o644);
    assert!(app.metadata().unwrap().modified().unwrap().elapsed().unwrap().as_secs() < 600, "a file of today");
    // What the host keeps of it is nothing but what every step leaves.
    assert!(!std::fs::read_dir(there.join("new folder")).unwrap().any(|e| e.unwrap().file_name() != "app.bin"));
    world.write_etc("files/app-2.bin", "two");
    let (_, record) = run(&world, "third", &there, &[("V", "2")]);
    assert_eq!(record["outcome"], "ok");
    holds(&app, "two", 0o750);
}

#[test]
fn what_is_changed_after_the_approval_is_not_put_anywhere() {
    let sshd = Sshd::start();
    let (world, there) = world(&sshd, sshd.port(), COPIES);
    world.drop_file("new", "held.json", &task("held", &there, &["web1"], &[]), ALICE);
    let id = world.task_of("held");
    let plan = world.run(BOB, &["plan", &id.to_string()]).ok();
    let line =
        format!("app-1.bin -> {}/new folder/app.bin (0750 nobody:nogroup) {}", there.display(), Digest::of(b"one"));
    assert!(plan.contains(&line), "{plan}");
    world.write_etc("files/app-1.bin", "another");
    assert_ne!(world.approve(BOB, id).code, 0, "the plan is another one now");
    wait_for("the task to have another plan", || {
        world.events(id).iter().any(|event| event["event"] == "stale").then_some(())
    });
    assert!(!there.join("again.bin").exists());
    for (args, wanted) in [(("V", "../x"), "without /"), (("V", "9"), "app-9.bin"), (("DIR", "relative"), "/args/DIR")]
    {
        let name = format!("bad{}", args.1.len());
        world.drop_file("ready", &format!("{name}.json"), &task(&name, &there, &["web1"], &[args]), 0);
        let why = wait_for("the file to be refused", || world.why(&name)).to_string();
        assert!(why.contains(wanted), "{why}");
    }
}

const RENDERS: &str = r#"
[[step]]
name = "config"
render = "conf/app.ini.j2"
to = "{DIR}/app.ini"
mode = "600"
[[step]]
name = "rest"
render = "conf/d"
to = "{DIR}/d"
"#;

#[test]
fn templates_are_filled_in_for_each_host_and_stand_in_the_plan() {
    let sshd = Sshd::start();
    let (world, there) = world(&sshd, sshd.port(), RENDERS);
    let (_, record) = run(&world, "one", &there, &[("V", "7")]);
    assert_eq!(record["outcome"], "ok", "{record:#}");
    holds(&there.join("app.ini"), "host = web1\nv = 7\n", 0o600);
    holds(&there.join("d/tier"), "first\n", 0o644);
    world.drop_file("new", "both.json", &task("both", &there, &["web1", "web2"], &[]), ALICE);
    let id = world.task_of("both");
    let plan = world.run(BOB, &["plan", &id.to_string()]).ok();
    for line in ["| host = web1", "| host = web2", "on web2", "| first"] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    world.write_etc("templates/conf/app.ini.j2", "{{ NOPE }}");
    world.drop_file("ready", "nope.json", &task("nope", &there, &["web1"], &[]), 0);
    let why = wait_for("the file to be refused", || world.why("nope")).to_string();
    assert!(
        why.contains("undefined") && why.contains("NOPE") && why.contains("conf/app.ini.j2 asks for, on web1"),
        "{why}"
    );
}

#[test]
fn what_a_step_fetches_stands_beside_its_log() {
    let sshd = Sshd::start();
    let steps = "[[step]]\nname = \"file\"\nfetch = \"{DIR}/a b.bin\"\nmost_bytes = \"2MiB\"\n\
                 [[step]]\nname = \"folder\"\nfetch = \"{DIR}\"\nmost_bytes = \"4MiB\"\n\
                 [[step]]\nname = \"much\"\nfetch = \"{DIR}/a b.bin\"\nmost_bytes = 1000\n";
    let (world, there) = world(&sshd, sshd.port(), steps);
    let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).take(1_500_000).collect();
    std::fs::write(there.join("a b.bin"), &bytes).unwrap();
    let (id, record) = run(&world, "fetch", &there, &[]);
    assert_eq!(record["outcome"], "failed", "{record:#}");
    assert!(log(&world, id, "much").contains("more than 1000 bytes"), "{}", log(&world, id, "much"));
    assert_eq!(std::fs::read(output(&world, id, "file.fetched")).unwrap(), bytes);
    assert_eq!(log(&world, id, "file"), format!("{}/a b.bin: 1500000 bytes\n", there.display()));
    let tar = std::process::Command::new("tar")
        .arg("-tf")
        .arg(output(&world, id, "folder.fetched.tar"))
        .output_in_time()
        .unwrap();
    assert!(String::from_utf8_lossy(&tar.stdout).contains("./a b.bin"), "{tar:?}");
    let outcomes: Vec<&str> =
        record["results"]["web1"].as_array().unwrap().iter().map(|step| step["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ok", "ok", "failed"]);
}

/// The upload is cut at many places, and once the daemon is killed in its middle: what lies there in the end is whole, and the
/// step was started once.
#[test]
fn an_upload_that_breaks_off_is_taken_up_again() {
    let sshd = Sshd::start();
    // In an archive, and by itself.
    let cuts = [(20_000, 2_000_000), (300_000, 2_000_000), (700_000, 2_000_000), (300_000, 6_000_000_u32)];
    let relays: Vec<(Relay, u32)> = cuts.map(|(cut, length)| (Relay::start(sshd.port(), cut), length)).into();
    for (n, (relay, length)) in relays.iter().enumerate() {
        let (world, there) = world(&sshd, relay.port(), COPIES);
        let bytes: Vec<u8> = (0..*length).map(|n| (n % 251) as u8).collect();
        std::fs::write(world.etc().join("files/app-1.bin"), &bytes).unwrap();
        let (id, record) = run(&world, &format!("cut{n}"), &there, &[]);
        assert_eq!(record["outcome"], "ok", "{record:#}");
        assert_eq!(record["results"]["web1"][0]["attempts"], 1);
        assert_eq!(std::fs::read(there.join("again.bin")).unwrap(), bytes);
        assert_eq!(log(&world, id, "package"), format!("changed {}/new folder/app.bin\n", there.display()));
        assert!(relay.links() > 1, "the relay cut nothing");
    }
}

#[test]
fn a_daemon_that_is_killed_during_an_upload_goes_on_with_it() {
    let sshd = Sshd::start();
    let (mut world, there) = world(&sshd, sshd.port(), COPIES);
    let bytes = vec![3; 60_000_000];
    std::fs::write(world.etc().join("files/app-1.bin"), &bytes).unwrap();
    world.drop_file("ready", "big.json", &task("big", &there, &["web1"], &[]), 0);
    let id = world.task_of("big");
    wait_for("the step to be claimed", || {
        world.events(id).iter().any(|event| event["event"] == "step_started").then_some(())
    });
    world.kill_daemon();
    world.start();
    let record = world.record(id);
    assert_eq!(record["outcome"], "ok", "{record:#} {}", log(&world, id, "package"));
    assert!(std::fs::read(there.join("again.bin")).unwrap() == bytes);
    // The step itself is on its way when the next one is killed.
    std::fs::remove_file(there.join("again.bin")).unwrap();
    std::fs::remove_file(there.join("new folder/app.bin")).unwrap();
    world.drop_file("ready", "began.json", &task("began", &there, &["web1"], &[]), 0);
    let id = world.task_of("began");
    let begins = format!("{id}-1-package-");
    wait_for("the step to begin", || {
        let mut files = std::fs::read_dir(sshd.home().join(".spoolgate")).ok()?.map(|file| file.unwrap().path());
        let is_state = |path: &Path| path.extension().is_some_and(|extension| extension == "state");
        let named = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begins));
        files.any(|path| is_state(&path) && named(&path)).then_some(())
    });
    world.kill_daemon();
    world.start();
    let record = world.record(id);
    assert_eq!(record["outcome"], "ok", "{record:#} {}", log(&world, id, "package"));
    assert_eq!(log(&world, id, "package"), format!("changed {}/new folder/app.bin\n", there.display()));
}

/// Has a shell take a large file into `dir`; `path` is where it finds programs, and no file may be longer than `kib`.
fn bring(shell: &[&str], dir: &Path, path: &str, kib: u32, digest: &Digest, length: usize, bytes: &[u8]) -> Output {
    std::fs::write(dir.join("bring.sh"), BRING).unwrap();
    let stdin = dir.join("stdin");
    std::fs::write(&stdin, bytes).unwrap();
    // A shell that is told of a file that is too long by a signal would end by it.
    let line = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &line, "sh"]).args(shell).arg(dir.join("bring.sh")).arg(dir);
    command.args([digest.hex(), length.to_string()]).env("PATH", path).stdin(std::fs::File::open(stdin).unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output_in_time().unwrap()
}

#[test]
fn a_large_file_is_there_when_it_was_compared_and_never_before() {
    let path = std::env::var("PATH").unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&bytes);
    for shell in SHELLS {
        let bare = tempfile::tempdir().unwrap();
        for program in ["sha256sum", "tee", "wc", "rm", "mv"] {
            let place = path.split(':').map(|dir| Path::new(dir).join(program)).find(|place| place.exists()).unwrap();
            std::os::unix::fs::symlink(place, bare.path().join(program)).unwrap();
        }
        // A program of this name that knows no SHA-256, beside busybox's others; and none at all.
        let odd = tempfile::tempdir().unwrap();
        for (name, program) in [("openssl", "true"), ("tee", "busybox"), ("wc", "busybox"), ("sha256sum", "busybox")] {
            std::os::unix::fs::symlink(Path::new("/bin").join(program), odd.path().join(name)).unwrap();
        }
        let interpreter =
            path.split(':').map(|dir| Path::new(dir).join(shell[0])).find(|place| place.exists()).unwrap();
        let shell = [&[interpreter.to_str().unwrap()], &shell[1..]].concat();
        for path in [path.clone(), bare.path().display().to_string(), format!("{}:{path}", odd.path().display())] {
            let dir = tempfile::tempdir().unwrap();
            let whole = dir.path().join(format!("{}.whole", digest.hex()));
            for (kib, length, bytes) in [
                (1000, 300_000, &bytes[..299_999]),
                (1000, 300_000, &[&bytes[..], b"!"].concat()[..]),
                (1000, 300_000, &b""[..]),
                (1000, 299_999, &bytes[..]),
                (200, 300_000, &bytes[..]),
            ] {
                let output = bring(&shell, dir.path(), &path, kib, &digest, length, bytes);
                assert!(!output.status.success(), "{shell:?} {path} {kib} {length} {output:?}");
                assert!(!output.stderr.is_empty(), "{shell:?} {path} {kib} {length}");
                let left = std::fs::read_dir(dir.path()).unwrap().count();
                assert_eq!(left, 2, "{shell:?} {path} {kib} {length}: beside what the test wrote");
            }
            let output = bring(&shell, dir.path(), &path, 1000, &digest, 300_000, &bytes);
            assert!(output.status.success(), "{shell:?} {path} {output:?}");
            assert!(std::fs::read(&whole).unwrap() == bytes);
        }
    }
}

/// Two places want the same large file, and there is no room for it twice: what was not copied whole is put nowhere.
#[test]
fn a_copy_that_ends_early_is_put_nowhere() {
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&bytes).hex();
    for shell in SHELLS {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("files");
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join(format!("{digest}.whole")), &bytes).unwrap();
        let script = dir.path().join("install.sh");
        std::fs::write(&script, INSTALL).unwrap();
        let places = ["a", "b"].map(|name| dir.path().join(name));
        let mut command = Command::new("/bin/bash");
        command.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "sh"]).args(shell).arg(&script);
        for place in &places {
            command.args([digest.as_str(), "0644", "-"]).arg(place);
        }
        let output = command.env("SPOOLGATE_FILES", &files).env("SPOOLGATE_TASK", "7").output_in_time().unwrap();
        assert!(!output.status.success(), "{shell:?} {output:?}");
        let said = format!("{}: what arrived is not what was approved", places[0].display());
        assert!(String::from_utf8_lossy(&output.stderr).contains(&said), "{shell:?} {output:?}");
        assert!(!places[0].exists(), "{shell:?}");
        assert!(std::fs::read(&places[1]).unwrap() == bytes, "{shell:?}");
    }
}

#[test]
fn what_came_whole_is_asked_for_again_when_it_is_not() {
    each_shell(|account| {
        let bytes = [7; 1000];
        let digest = Digest::of(&bytes);
        let step = step_with_file(&digest, &account.home.path().join("place"));
        let asked = |sent_s| {
            let heard = account.want(&step, sent_s);
            assert!(matches!(heard.ended, Some((Verdict::Exit(0), ..))), "{:?} {}", heard.ended, heard.noise);
            String::from_utf8(heard.out).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let files = account.file(&step, "files");
        let whole = files.join(format!("{}.whole", digest.hex()));
        let both = vec![files.display().to_string(), digest.hex()];
        assert_eq!(asked(None), both);
        std::fs::write(&whole, bytes).unwrap();
        assert_eq!(asked(Some(1)), both[..1]);
        std::fs::write(&whole, &bytes[..999]).unwrap();
        assert_eq!(asked(Some(1)), both);
        assert!(!whole.exists());
        // What has begun, or may have, needs nothing any more.
        assert!(asked(Some(1_000_000_000)).is_empty());
        assert!(matches!(account.run(&step).ended, Some((Verdict::Forgotten, ..))));
    });
}

#[test]
fn files_go_there_and_back_as_another_account() {
    let sshd = Sshd::start();
    let steps = "[[step]]\nname = \"put\"\naccount = \"nobody\"\ncopy = \"app-{V}.bin\"\nto = \"{DIR}/app\"\n\
                 [[step]]\nname = \"get\"\naccount = \"nobody\"\nfetch = \"{DIR}/app\"\n";
    let (world, there) = world(&sshd, sshd.port(), steps);
    std::fs::set_permissions(&there, PermissionsExt::from_mode(0o777)).unwrap();
    let large: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).take(5 << 20).collect();
    std::fs::write(world.etc().join("files/app-2.bin"), &large).unwrap();
    for (version, bytes) in [("1", &b"one"[..]), ("2", &large[..])] {
        let (id, record) = run(&world, &format!("v{version}"), &there, &[("V", version)]);
        assert_eq!(record["outcome"], "ok", "{record:#} {} {}", log(&world, id, "put"), log(&world, id, "get"));
        assert_eq!(std::fs::read(there.join("app")).unwrap(), bytes);
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(there.join("app")).unwrap()), 65534);
        assert_eq!(std::fs::read(output(&world, id, "get.fetched")).unwrap(), bytes);
        // What was brought or fetched does not stay.
        let place = Path::new("/var/tmp/.spoolgate-65534");
        wait_for("an empty place", || {
            let left = std::fs::read_dir(place).unwrap().filter_map(Result::ok).map(|file| file.file_name());
            let of_it = |name: &str| name.starts_with(&format!("{id}-1-")) && name.contains(".files");
            (!left.into_iter().any(|name| of_it(&name.to_string_lossy()))).then_some(())
        });
    }
}
