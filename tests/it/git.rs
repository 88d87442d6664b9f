//! The git hook in real repositories: what a push becomes, that no trouble of ours refuses one, and that what a ref is
//! called does nothing.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::patience::{InTime as _, end_of};
use crate::repository::Repository;
use crate::world::{World, wait_for};

const RULES: &str = r#"
[[git]]
repository = "ops/web"
tag = 'release-[\w.-]+'
template = "hello"
hosts = { 1 = "here" }
args = { TAG = "{tag}", COMMIT = "{commit}" }
[[git]]
repository = "ops/*"
prefix = "qa-"
path = "ETC/web1.git"
template = "hello"
into = "ready"
hosts = { 1 = "here" }
args = { TAG = "{tag}" }
"#;

fn world() -> World {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.write_etc("hooks.toml", &RULES.replace("ETC", world.etc().to_str().unwrap()));
    world.start();
    world
}

/// A repository whose hook tells the daemon of this world.
fn repository(world: &World, name: &str, format: &str, update: bool) -> Repository {
    let bin = world.etc().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    if !bin.join("spoolgate").exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_spoolgate"), bin.join("spoolgate")).unwrap();
    }
    let repository = Repository::new(&world.etc(), name, format!("{}:/usr/bin:/bin", bin.display()), format);
    let bare = repository.bare.to_str().unwrap();
    repository.git(&repository.bare, &["config", "spoolgate.repository", "ops/web"]);
    repository.git(&repository.bare, &["config", "spoolgate.state", world.state().to_str().unwrap()]);
    let mut words = vec!["hook", "install", bare];
    words.extend(update.then_some("--update"));
    let placed = world.run(0, &words).ok();
    let hook = if update { "hooks/update" } else { "hooks/post-receive" };
    assert_eq!(placed.trim(), format!("{bare}/{hook}"));
    repository
}

fn names(world: &World) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let task = |(_, events): (u64, Vec<Value>)| {
        let task: Value = serde_json::from_str(events[0]["submission"].as_str().unwrap()).unwrap();
        (text(&task["args"]["TAG"]), text(&events[0]["admission"]["state"]))
    };
    world.tasks().into_iter().map(task).collect()
}

fn settled(world: &World) {
    wait_for("every file to be taken", || {
        let own = world.own_dir("new", 0);
        let mut files = std::fs::read_dir(own).unwrap().map(|entry| entry.unwrap().file_name());
        files.all(|name| !name.to_string_lossy().contains("git-")).then_some(())
    });
}

#[test]
fn a_pushed_tag_becomes_the_task_that_the_rules_say_and_only_once() {
    let world = world();
    for (n, (format, update)) in [("sha1", false), ("sha1", true), ("sha256", false)].into_iter().enumerate() {
        let repository = repository(&world, &format!("web{n}"), format, update);
        let known = names(&world).len();
        for tag in [format!("release-{n}"), format!("qa-{n}"), format!("other-{n}"), format!("a/release-{n}")] {
            let (said, _) = repository.push_tag(&tag);
            assert!(!said.contains("spoolgate: "), "{said}");
        }
        settled(&world);
        wait_for("both tasks", || (names(&world).len() == known + 2).then_some(()));
        let found = names(&world);
        assert!(found.contains(&(format!("release-{n}"), "new".to_owned())), "{found:?}");
        assert!(found.contains(&(format!("qa-{n}"), "ready".to_owned())), "{found:?}");
        // An annotated tag comes to its commit, which is what the task says.
        let annotated = format!("release-{n}.annotated");
        repository.git(&repository.clone, &["tag", "-a", "-m", "said", &annotated]);
        repository.git(&repository.clone, &["push", "-q", "origin", &annotated]);
        let head = repository.git(&repository.clone, &["rev-parse", "HEAD"]).trim().to_owned();
        let task = wait_for("the annotated tag's task", || {
            let tasks =
                world.tasks().into_iter().map(|(_, events)| events[0]["submission"].as_str().unwrap().to_owned());
            tasks
                .map(|text| serde_json::from_str::<Value>(&text).unwrap())
                .find(|task| task["args"]["TAG"] == *annotated)
        });
        assert_eq!(task["args"]["COMMIT"], head, "{task}");
        // A branch, a deletion and a tag that is pushed again say nothing new; a moved one does, back and forth.
        settled(&world);
        let known = names(&world).len();
        repository.git(&repository.clone, &["push", "-q", "origin", "HEAD:refs/heads/release-9"]);
        repository.git(&repository.clone, &["push", "-q", "origin", &format!("refs/tags/release-{n}")]);
        repository.git(&repository.clone, &["push", "-q", "origin", "--delete", &format!("qa-{n}")]);
        repository.git(&repository.clone, &["commit", "-q", "--allow-empty", "-m", "more"]);
        repository.git(&repository.clone, &["tag", "-f", &format!("release-{n}")]);
        repository.git(&repository.clone, &["push", "-q", "-f", "origin", &format!("refs/tags/release-{n}")]);
        wait_for("the moved tag's task", || (names(&world).len() == known + 1).then_some(()));
        repository.git(&repository.clone, &["tag", "-f", &format!("release-{n}"), &head]);
        repository.git(&repository.clone, &["push", "-q", "-f", "origin", &format!("refs/tags/release-{n}")]);
        wait_for("the task of the tag that was moved back", || (names(&world).len() == known + 2).then_some(()));
        let (id, events) = world.tasks().pop().unwrap();
        assert!(events[0]["details"].as_str().unwrap().contains("moved from"), "task {id}: {events:?}");
    }
    assert!(std::fs::read_dir(world.box_dir("bad")).unwrap().next().is_none(), "something was refused");
    let tested = world.run(0, &["hook", "test", "ops/web", "release-1"]).ok();
    assert!(tested.contains("hooks.toml:2") && tested.contains("\"TAG\":\"release-1\""), "{tested}");
    assert_eq!(world.run(0, &["hook", "test", "ops/web", "my-release-1"]).code, 3);
}

#[test]
fn an_update_hook_sees_a_tag_before_it_is_there_and_the_task_comes_when_it_is() {
    let mut world = world();
    world.kill_daemon();
    let repository = repository(&world, "web", "sha1", true);
    let template = format!(
        "id = 905\nname = \"deploy\"\ntitle = \"t\"\n[[param]]\nname = \"TAG\"\ntype = \"tag\"\nrepository = {:?}\nrequired = true\n\
         [[step]]\nname = \"s\"\nscript = \"echo $TAG\"\n",
        repository.bare.to_str().unwrap()
    );
    world.write_etc("templates/deploy.toml", &template);
    world.write_etc(
        "hooks.toml",
        &RULES
            .replace("ETC", world.etc().to_str().unwrap())
            .replace("template = \"hello\"", "template = \"deploy\"")
            .replace(", COMMIT = \"{commit}\"", ""),
    );
    world.start();
    let begin = std::time::Instant::now();
    repository.push_tag("release-1");
    wait_for("the task", || (names(&world).len() == 1).then_some(()));
    assert!(begin.elapsed() < Duration::from_secs(15), "not only by the next rescan: {:?}", begin.elapsed());
    let head = repository.git(&repository.clone, &["rev-parse", "HEAD"]).trim().to_owned();
    let (id, _) = world.tasks().pop().unwrap();
    let plan = std::fs::read_to_string(world.state().join(format!("runs/{id}/plan.json"))).unwrap();
    assert!(plan.contains(&head), "the plan holds the commit: {plan}");
}

#[test]
fn two_hooks_of_one_repository_make_one_task() {
    let world = world();
    let repository = repository(&world, "web", "sha1", false);
    world.run(0, &["hook", "install", repository.bare.to_str().unwrap(), "--update"]).ok();
    repository.push_tag("release-1");
    settled(&world);
    wait_for("the task", || (!names(&world).is_empty()).then_some(()));
    repository.push_tag("qa-1");
    settled(&world);
    wait_for("the other", || (names(&world).len() > 1).then_some(()));
    assert_eq!(names(&world).len(), 2);
    // The update hook was first, and nobody could look whether git moved the tag.
    let (id, events) = world.tasks().pop().unwrap();
    assert_eq!(events[0]["admission"]["state"], "new", "task {id}");
    let note = events[0]["admission"]["note"].as_str().unwrap();
    assert!(note.contains("its hook ran before git moved the ref"), "{note}");
}

#[test]
fn a_tag_that_is_pushed_again_is_a_new_push_once_its_task_has_ended() {
    let mut world = world();
    let repository = repository(&world, "web1", "sha1", true);
    world.run(0, &["hook", "install", repository.bare.to_str().unwrap()]).ok();
    let again = |tag: &str| {
        repository.git(&repository.clone, &["push", "-q", "origin", "--delete", tag]);
        repository.git(&repository.clone, &["push", "-q", "origin", &format!("refs/tags/{tag}")]);
        settled(&world);
    };
    repository.push_tag("release-1");
    repository.push_tag("qa-1");
    wait_for("both tasks", || (names(&world).len() == 2).then_some(()));
    let first = world.tasks().pop().unwrap().0;
    assert_eq!(world.record(first)["outcome"], "ok");
    again("release-1");
    assert_eq!(names(&world).len(), 2, "its task waits still, and says the same");
    again("qa-1");
    wait_for("the second task of the tag", || (names(&world).len() == 3).then_some(()));
    let second = world.tasks().pop().unwrap().0;
    assert_eq!(world.record(second)["outcome"], "ok");
    world.kill_daemon();
    world.start();
    repository.git(&repository.clone, &["push", "-q", "origin", "--delete", "qa-1"]);
    repository.git(&repository.clone, &["push", "-q", "origin", "refs/tags/qa-1"]);
    settled(&world);
    wait_for("the task after a restart", || (names(&world).len() == 4).then_some(()));
}

#[test]
fn a_tag_of_no_commit_is_refused_where_the_rule_asks_for_one() {
    let world = world();
    let repository = repository(&world, "web", "sha1", false);
    for (tag, object, kind, words) in [
        ("release-tree", "HEAD^{tree}", "tree", &["tag"][..]),
        ("release-tree2", "HEAD^{tree}", "tree", &["tag", "-a", "-m", "said"]),
        ("release-blob", "HEAD:README.md", "blob", &["tag"]),
    ] {
        repository.git(&repository.clone, &[words, &[tag, object]].concat());
        repository.git(&repository.clone, &["push", "-q", "origin", &format!("refs/tags/{tag}")]);
        let why = wait_for("the refusal", || {
            let files = std::fs::read_dir(world.box_dir("bad")).unwrap().map(|entry| entry.unwrap().path());
            let whys = files.filter(|path| path.extension().is_some_and(|end| end == "why"));
            whys.filter_map(|path| std::fs::read_to_string(path).ok()).find(|text| text.contains(&format!("{tag} ")))
        });
        assert!(why.contains(&format!("refs/tags/{tag} comes to a {kind}, not to a commit")), "{why}");
    }
    assert!(names(&world).is_empty());
}

#[test]
fn a_tag_that_git_refused_after_its_update_hook_makes_no_task() {
    let mut world = world();
    let repository = repository(&world, "web1", "sha1", true);
    repository.git(&repository.clone, &["tag", "qa-1"]);
    repository.git(&repository.clone, &["tag", "zz"]);
    world.kill_daemon();
    // Somebody else is at the second ref, so that neither of them is moved.
    let lock = repository.bare.join("refs/tags/zz.lock");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, "").unwrap();
    let words = ["push", "--atomic", "origin", "refs/tags/qa-1", "refs/tags/zz"];
    let refused = repository.git_says(&repository.clone, &words);
    assert!(!refused.status.success(), "{refused:?}");
    std::fs::remove_file(lock).unwrap();
    let files = std::fs::read_dir(world.own_dir("new", 0)).unwrap().map(|entry| entry.unwrap().path());
    let dropped: Vec<_> =
        files.filter(|path| std::fs::read_to_string(path).unwrap().contains("refs/tags/qa-1")).collect();
    assert_eq!(dropped.len(), 1, "the hook was asked before: {dropped:?}");
    // As long ago as a ref may take to move.
    let file = std::fs::File::options().write(true).open(&dropped[0]).unwrap();
    let long_ago = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(40);
    file.set_modified(long_ago).unwrap();
    drop(file);
    world.start();
    let why = wait_for("the refusal", || world.why(dropped[0].file_stem().unwrap().to_str().unwrap()));
    assert!(why["problems"][0]["found"].as_str().unwrap().starts_with("refs/tags/qa-1 does not point at "), "{why}");
    assert!(why["problems"][0]["wanted"].as_str().unwrap().contains("--atomic"), "{why}");
    assert!(names(&world).is_empty());
    // Pushed alone, it moves, and is a task that needs nobody.
    repository.git(&repository.clone, &["push", "-q", "origin", "refs/tags/qa-1"]);
    wait_for("the task", || (names(&world) == [("qa-1".to_owned(), "ready".to_owned())]).then_some(()));
}

#[test]
fn no_trouble_of_ours_refuses_a_push_and_nothing_that_was_said_is_lost() {
    let mut world = world();
    let repository = repository(&world, "web", "sha1", false);
    let config = |value: &str| repository.git(&repository.bare, &["config", "spoolgate.state", value]);
    let mut slowest = Duration::ZERO;
    let mut push = |tag: &str| {
        let (said, took) = repository.push_tag(tag);
        slowest = slowest.max(took);
        said.lines().filter(|line| line.contains("spoolgate: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    world.kill_daemon();
    assert_eq!(push("release-stopped"), Vec::<String>::new(), "the spool takes it");
    world.start();
    wait_for("the task of the push while no daemon ran", || (names(&world).len() == 1).then_some(()));

    let good = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", "nonsense = [");
    assert_eq!(push("release-broken"), Vec::<String>::new());
    world.write_etc("spoolgate.toml", &good);
    wait_for("the task of the push with a broken configuration", || (names(&world).len() == 2).then_some(()));

    config("/nowhere/at/all");
    assert_eq!(push("release-missing").len(), 1, "one line");
    let full = world.etc().join("full");
    std::fs::create_dir_all(&full).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "none"])
        .arg(&full)
        .status_in_time()
        .unwrap()
        .success();
    std::fs::create_dir_all(full.join("spool/new")).unwrap();
    if mounted {
        // It fills it.
        let _ = std::fs::write(full.join("filler"), vec![0; 64 << 10]);
    } else {
        // A container may not mount; a box that takes no file is as full.
        println!("no file system to fill: a box that is a file stands for it");
        std::fs::remove_dir(full.join("spool/new")).unwrap();
        std::fs::write(full.join("spool/new"), "").unwrap();
    }
    config(full.to_str().unwrap());
    let said = push("release-full");
    assert!(!mounted || Command::new("umount").arg(&full).status_in_time().unwrap().success());
    assert_eq!(said.len(), 1, "{said:?}");
    std::fs::remove_file(world.etc().join("bin/spoolgate")).unwrap();
    assert_eq!(push("release-nobody").len(), 1, "one line");
    println!("the slowest push took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert_eq!(names(&world).len(), 2);

    // Who asked for it may have pushes refused.
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_spoolgate"), world.etc().join("bin/spoolgate")).unwrap();
    world.run(0, &["hook", "install", repository.bare.to_str().unwrap(), "--update"]).ok();
    std::fs::remove_file(repository.bare.join("hooks/post-receive")).unwrap();
    config("/nowhere/at/all");
    repository.git(&repository.bare, &["config", "spoolgate.strict", "true"]);
    repository.git(&repository.clone, &["tag", "release-strict"]);
    let refused = repository.git_says(&repository.clone, &["push", "origin", "refs/tags/release-strict"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("GL-HOOK-ERR: spoolgate: "), "{text}");
}

#[test]
fn a_repository_leads_its_installer_nowhere_that_its_owner_could_not_go() {
    let world = world();
    let repository = repository(&world, "web", "sha1", false);
    let victim = world.etc().join("victim");
    std::fs::create_dir(&victim).unwrap();
    let bare = repository.bare.to_str().unwrap();
    let chown = Command::new("chown").args(["-R", "61001:61001", bare]).status_in_time().unwrap();
    assert!(chown.success());
    let config = format!("[core]\n\trepositoryformatversion = 0\n\tbare = true\n\thooksPath = {}\n", victim.display());
    std::fs::write(repository.bare.join("config"), config).unwrap();
    let refused = world.run(0, &["hook", "install", bare]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let meta = std::fs::metadata(&victim).unwrap();
    assert_eq!((meta.uid(), std::fs::read_dir(&victim).unwrap().count()), (0, 0));
    let config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
    std::fs::write(repository.bare.join("config"), config).unwrap();
    world.run(0, &["hook", "install", bare]).ok();
    assert_eq!(std::fs::metadata(repository.bare.join("hooks/post-receive")).unwrap().uid(), 61_001);
}

#[test]
fn what_hangs_holds_no_push_and_a_strict_repository_stays_strict_over_http() {
    let world = world();
    let repository = repository(&world, "web", "sha256", true);
    // A git that never answers is asked for nothing longer than our patience.
    let bin = world.etc().join("bin");
    let zeros = "0".repeat(64);
    let ask = |tag: &str| {
        let begin = std::time::Instant::now();
        let output = Command::new(repository.bare.join("hooks/update"))
            .args([&format!("refs/tags/{tag}"), &zeros, &"a".repeat(64)])
            .current_dir(&repository.bare)
            .env("GIT_DIR", ".")
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .output_in_time()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), begin.elapsed())
    };
    let slow = "#!/bin/sh\ncase $1 in config) exec /usr/bin/git \"$@\";; esac\nsleep 20\n";
    std::fs::write(bin.join("git"), slow).unwrap();
    std::fs::set_permissions(bin.join("git"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (code, said, took) = ask("release-1");
    assert!(code == Some(0) && said.lines().count() == 1 && took < Duration::from_secs(8), "{code:?} {took:?} {said}");
    std::fs::remove_file(bin.join("git")).unwrap();
    // Somebody listens and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/task", listener.local_addr().unwrap().port());
    repository.git(&repository.bare, &["config", "spoolgate.url", &url]);
    let headers = world.etc().join("headers");
    std::fs::write(&headers, "Authorization: Bearer x\n").unwrap();
    repository.git(&repository.bare, &["config", "spoolgate.headers", headers.to_str().unwrap()]);
    let (code, said, took) = ask("release-2");
    assert!(code == Some(0) && took < Duration::from_secs(8), "{code:?} {took:?} {said}");
    repository.git(&repository.bare, &["config", "spoolgate.strict", "true"]);
    let (code, said, _) = ask("release-3");
    assert!(code == Some(1) && said.contains("GL-HOOK-ERR"), "{code:?} {said}");
}

/// A name that git takes for a tag, and that a shell, a path or a pattern would misread.
fn hostile(n: usize) -> String {
    const PARTS: [&str; 24] = [
        "release-",
        "qa-",
        ";id",
        "$(touch pwned)",
        "`touch pwned`",
        "&&touch pwned".split_at(7).0,
        "|sh",
        "'",
        "\"",
        "<x",
        ">pwned",
        "--",
        "-rf",
        "{tag}",
        "%s",
        "发布",
        "\u{202e}",
        "#",
        "!",
        "a/b",
        "=",
        "(",
        ")",
        "release-1.0",
    ];
    let mut seed = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % bound as u64).unwrap()
    };
    let count = next(4) + 1;
    let begin = ["release-", "qa-", "", ""][next(4)];
    let name: String = (0..count).map(|_| PARTS[next(PARTS.len())]).collect();
    format!("{begin}{}{n}", name.replace(' ', "_"))
}

/// What the rules mean, said another way.
fn expected(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.starts_with("qa-")
        || name.strip_prefix("release-").is_some_and(|rest| !rest.is_empty() && rest.chars().all(word))
}

#[test]
fn what_a_ref_is_called_does_nothing_and_matches_nothing_else() {
    const NAMES: usize = 2_000;
    let world = world();
    let repository = repository(&world, "web", "sha1", false);
    let head = repository.git(&repository.clone, &["rev-parse", "HEAD"]).trim().to_owned();
    let all: Vec<String> = (0..NAMES).map(hostile).collect();
    for names in all.chunks(200) {
        let lines: String = names.iter().map(|name| format!("{} {head} refs/tags/{name}\n", "0".repeat(40))).collect();
        let mut hook = Command::new("/bin/sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks/spoolgate-git-hook"))
            .current_dir(&repository.bare)
            .env("GIT_DIR", ".")
            .env("PATH", format!("{}:/usr/bin:/bin", world.etc().join("bin").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        hook.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = end_of(hook, "the hook");
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
    let wanted: Vec<String> = all.iter().filter(|name| expected(name)).cloned().collect();
    assert!(wanted.len() > 200 && wanted.len() < NAMES - 200, "{}", wanted.len());
    settled(&world);
    let refused = std::fs::read_dir(world.box_dir("bad")).unwrap().map(|entry| entry.unwrap().path());
    let refused: Vec<String> = refused.take(4).map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert_eq!(refused, Vec::<String>::new(), "git takes these names, and so do we");
    let found: BTreeSet<String> = names(&world).into_iter().map(|(tag, _)| tag).collect();
    let wanted: BTreeSet<String> = wanted.into_iter().collect();
    let differ: Vec<&String> = found.symmetric_difference(&wanted).collect();
    assert_eq!(differ, Vec::<&String>::new());
    assert_eq!(names(&world).len(), wanted.len(), "each once");
    let pwned =
        Command::new("find").arg(world.etc()).arg(world.state()).args(["-name", "*pwned*"]).output_in_time().unwrap();
    assert!(pwned.stdout.is_empty(), "{}", String::from_utf8_lossy(&pwned.stdout));
}
