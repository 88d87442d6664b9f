//! The templates that come with the product: each parses and takes the parameters it is meant for, and its scripts
//! do what they say, run with `sh` in a scratch directory. Needs git, rsync, tar and gzip.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use spoolgate::domain::submission::TemplateRef;
use spoolgate::domain::template::{Catalogue, Template};

use crate::patience::InTime as _;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates")
}

/// The texts of the shipped files with an ending, by name.
fn shipped(ending: &str) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == ending));
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

fn catalogue() -> Catalogue {
    let scripts = shipped("sh");
    let parse = |(name, text): (&String, &String)| {
        Template::parse(name, text, &scripts).unwrap_or_else(|problems| panic!("{problems:#?}"))
    };
    Catalogue::assemble(shipped("toml").iter().map(parse).collect()).unwrap()
}

/// Binds parameters to a shipped template; `NAME=value` a word, the problems when they do not fit.
#[track_caller]
fn check_bind(id: u32, given: &[(&str, &str)], want: &str) {
    let catalogue = catalogue();
    let template = catalogue.find(&TemplateRef::Id(id)).unwrap();
    let given = given.iter().map(|(name, value)| (name.parse().unwrap(), (*value).to_owned())).collect();
    let shown: Vec<String> = match template.bind(&given) {
        Ok(bound) => bound.values.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(shown.join(" "), want);
}

#[test]
fn the_catalogue_is_whole() {
    let catalogue = catalogue();
    let found: Vec<(u32, &str)> = catalogue.iter().map(|template| (template.id, template.name.as_str())).collect();
    assert_eq!(found, [(40, "backup"), (32, "git-publish"), (1, "hello"), (2, "run-script")]);
    let used: BTreeSet<&str> = catalogue.iter().flat_map(|t| &t.steps).map(|step| step.work.script.as_str()).collect();
    for (name, text) in shipped("sh") {
        assert!(used.contains(text.as_str()), "{name} is used by no template");
        assert!(text.starts_with("#!/bin/sh\n") && text.contains("\nset -eu\n"), "{name}");
    }
    let publish = catalogue.find(&TemplateRef::Id(32)).unwrap();
    let steps: Vec<&str> = publish.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["clone", "fetch", "checkout", "rsync", "backup", "publish"]);
}

#[test]
fn shipped_templates_take_the_parameters_of_the_seeds() {
    check_bind(1, &[("VERSION", "v1")], "VERSION=v1");
    check_bind(
        1,
        &[("TAG", "codo-beta0.3"), ("GIT_URL", "git@g:x/x.git"), ("APP_NAME", "Web"), ("arg02", "")],
        "APP_NAME=Web GIT_URL=git@g:x/x.git TAG=codo-beta0.3 arg02=",
    );
    check_bind(2, &[("SCRIPT", "/bin/true"), ("ARG1", "a b")], "ARG1=a b DIR=/ SCRIPT=/bin/true SHA256=");
    check_bind(
        32,
        &[("TAG", "release-dbtt-1"), ("GIT_URL", "git@g:x/x.git"), ("APP_NAME", "DBTT")],
        "APP_NAME=DBTT DEPLOY_DIR=/srv/apps GIT_URL=git@g:x/x.git KEEP=5 TAG=release-dbtt-1 WORK_DIR=/var/tmp/git-publish",
    );
    check_bind(
        32,
        &[("TAG", "v1"), ("GIT_URL", "u")],
        "/args/APP_NAME: found nothing; wanted text without NUL for application",
    );
    check_bind(40, &[("SOURCE", "/etc")], "KEEP=7 NAME=backup SOURCE=/etc TARGET=/var/backups/spoolgate");
    check_bind(40, &[("SOURCE", "/etc"), ("KEEP", "many")], "/args/KEEP: found many; wanted a whole number");
}

/// A scratch directory in which shipped scripts run with nothing but the variables they are given.
struct Bench {
    dir: tempfile::TempDir,
    env: BTreeMap<&'static str, String>,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::Builder::new().prefix("spoolgate-templates.").tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let date = bin.join("date");
        fs::write(&date, "#!/bin/sh\nprintf '%s\\n' \"$FAKE_DATE\"\n").unwrap();
        fs::set_permissions(&date, PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let env = BTreeMap::from([("PATH", path), ("HOME", dir.path().display().to_string())]);
        let bench = Bench { dir, env };
        bench.at("20260101T000000Z")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Bench {
        self.env.insert(name, value.into());
        self
    }

    /// Sets what `date` says.
    fn at(self, stamp: &str) -> Bench {
        self.with("FAKE_DATE", stamp)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The names in a directory that are not hidden, sorted.
    fn list(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn run(&self, script: &str, args: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.arg(folder().join(script)).args(args).current_dir(self.dir.path()).env_clear().envs(&self.env);
        command.output_in_time().unwrap()
    }

    /// Runs a script that must succeed and returns what it said.
    #[track_caller]
    fn good(&self, script: &str, args: &[&str]) -> String {
        let output = self.run(script, args);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{script} {args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Runs a script that must fail and say `why`.
    #[track_caller]
    fn bad(&self, script: &str, args: &[&str], why: &str) {
        let output = self.run(script, args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{script} {args:?}: {said}");
    }

    fn git(&self, args: &[&str]) {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.path("origin")).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args);
        let output = command.env_clear().envs(&self.env).output_in_time().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Commits the text as `file` and `dir with space/x`, and tags it.
    fn tag(&self, tag: &str, text: &str) {
        self.write("origin/file", text);
        self.write("origin/dir with space/x", text);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", text]);
        self.git(&["tag", "--force", tag]);
    }

    fn publish(&self) {
        for step in ["clone", "fetch", "checkout", "rsync", "backup", "publish"] {
            self.good("git-publish.sh", &[step]);
        }
    }
}

fn git_bench() -> Bench {
    let bench = Bench::new().with("APP_NAME", "web").with("TAG", "v1").with("KEEP", "2");
    let (url, work, deploy) = (bench.text("origin"), bench.text("work"), bench.text("deploy dir"));
    let bench = bench.with("GIT_URL", url).with("WORK_DIR", work).with("DEPLOY_DIR", deploy);
    fs::create_dir(bench.path("origin")).unwrap();
    bench.git(&["init", "--quiet"]);
    bench.tag("v1", "one");
    bench
}

#[test]
fn git_publish_publishes_keeps_backups_and_goes_back() {
    let mut bench = git_bench();
    bench.publish();
    assert_eq!(bench.read("deploy dir/web/current/file"), "one");
    assert_eq!(bench.read("deploy dir/web/current/dir with space/x"), "one");
    assert!(!bench.path("deploy dir/web/current/.git").exists());
    assert!(!bench.path("deploy dir/web/backups").exists(), "nothing was there to back up");

    fs::remove_file(bench.path("origin/file")).unwrap();
    bench.tag("feature/v2", "two");
    bench = bench.with("TAG", "feature/v2").at("20260102T000000Z");
    bench.publish();
    assert_eq!(bench.read("deploy dir/web/current/file"), "two");
    let backups = bench.list("deploy dir/web/backups");
    assert_eq!(backups.len(), 2, "{backups:?}");
    assert!(backups[0].starts_with("20260102T000000Z-v1-") && backups[1].ends_with(".tar.gz.sha256"), "{backups:?}");

    // A moved tag is another release.
    bench.tag("v1", "one, moved");
    bench = bench.with("TAG", "v1").at("20260103T000000Z");
    bench.publish();
    assert_eq!(bench.read("deploy dir/web/current/file"), "one, moved");

    bench = bench.with("TAG", "feature/v2").at("20260104T000000Z");
    bench.publish();
    assert_eq!(bench.read("deploy dir/web/current/file"), "two");
    let archives = bench.list("deploy dir/web/backups");
    assert_eq!(archives.len(), 4, "two archives are kept, each with its sum: {archives:?}");
    assert!(archives[0].starts_with("20260103T"), "{archives:?}");
    let releases = bench.list("deploy dir/web/releases");
    assert!((2..=3).contains(&releases.len()), "{releases:?}");
}

#[test]
fn git_publish_can_be_repeated_and_refuses_what_it_cannot_do() {
    let mut bench = git_bench();
    bench.publish();
    bench = bench.at("20260102T000000Z");
    bench.publish();
    assert_eq!(bench.list("deploy dir/web/releases").len(), 1);
    assert_eq!(bench.read("deploy dir/web/current/file"), "one");

    // A checkout that somebody else moved is not what is published.
    bench.tag("v2", "two");
    bench = bench.with("TAG", "v2");
    bench.good("git-publish.sh", &["fetch"]);
    bench.bad("git-publish.sh", &["rsync"], "the clone stands at");
    bench.bad("git-publish.sh", &["publish"], "run the rsync step first");
    assert_eq!(bench.read("deploy dir/web/current/file"), "one");

    bench.git(&["tag", "--delete", "v2"]);
    bench.bad("git-publish.sh", &["fetch"], "the repository has no tag v2");
    bench.bad("git-publish.sh", &["what"], "the step is what; wanted clone");
    bench.bad("git-publish.sh", &[], "the step is missing; wanted clone");
    for (name, value) in [
        ("APP_NAME", "../web"),
        ("APP_NAME", ".."),
        ("APP_NAME", ""),
        ("TAG", "--upload-pack=x"),
        ("TAG", "a..b"),
        ("TAG", "$(touch pwned)"),
        ("GIT_URL", "ext::sh -c id"),
        ("GIT_URL", "--upload-pack=x"),
        ("DEPLOY_DIR", "relative"),
        ("KEEP", "-1"),
        ("KEEP", "08"),
    ] {
        let mut env = bench.env.clone();
        env.insert(name, value.to_owned());
        let output = Command::new("sh")
            .arg(folder().join("git-publish.sh"))
            .arg("fetch")
            .env_clear()
            .envs(&env)
            .output_in_time();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(&format!("{name} is")), "{name}={value}: {said}");
    }
    assert!(!bench.path("pwned").exists());
}

#[test]
fn git_publish_never_replaces_what_is_not_its_own() {
    let bench = git_bench();
    bench.write("deploy dir/web/current/file", "somebody's");
    for step in ["clone", "fetch", "checkout", "rsync", "backup"] {
        bench.good("git-publish.sh", &[step]);
    }
    bench.bad("git-publish.sh", &["publish"], "is not a link; move it away");
    assert_eq!(bench.read("deploy dir/web/current/file"), "somebody's");

    let bench = git_bench();
    bench.write("work/web/file", "somebody's");
    bench.bad("git-publish.sh", &["clone"], "is no clone; move it away");
}

fn backup_bench() -> Bench {
    let bench = Bench::new().with("NAME", "data").with("KEEP", "2");
    bench.write("data/a file", "alpha");
    bench.write("data/deep/b", "beta");
    bench.write("etc/*", "star");
    let (paths, dest) = (format!("{}:{}", bench.text("data"), bench.text("etc/*")), bench.text("dest"));
    bench.with("SOURCE", paths).with("TARGET", dest)
}

#[test]
fn backup_packs_verifies_and_keeps_the_newest() {
    let mut bench = backup_bench();
    let said = bench.good("backup.sh", &[]);
    assert!(said.contains("entries: 5"), "{said}");
    assert_eq!(bench.list("dest"), ["data-20260101T000000Z.tar.gz", "data-20260101T000000Z.tar.gz.sha256"]);
    let mut check = Command::new("sha256sum");
    check.args(["-c", "--status", "data-20260101T000000Z.tar.gz.sha256"]).current_dir(bench.path("dest"));
    assert!(check.status_in_time().unwrap().success());
    fs::create_dir(bench.path("out")).unwrap();
    let archive = bench.path("dest/data-20260101T000000Z.tar.gz");
    let unpacked =
        Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(bench.path("out")).status_in_time().unwrap();
    assert!(unpacked.success());
    let inside = format!("out{}", bench.text("data/a file"));
    assert_eq!(bench.read(&inside), "alpha");

    // Another name is not counted, a third archive pushes out the first.
    bench.write("dest/data-other-20250101T000000Z.tar.gz", "not ours");
    for stamp in ["20260102T000000Z", "20260103T000000Z"] {
        bench = bench.at(stamp);
        bench.good("backup.sh", &[]);
    }
    let left: Vec<String> = bench.list("dest").into_iter().filter(|name| name.ends_with("gz")).collect();
    let want = ["data-20260102T000000Z.tar.gz", "data-20260103T000000Z.tar.gz", "data-other-20250101T000000Z.tar.gz"];
    assert_eq!(left, want);
}

#[test]
fn backup_refuses_and_leaves_nothing_half_done() {
    let bench = backup_bench();
    bench.good("backup.sh", &[]);
    let before = bench.read("dest/data-20260101T000000Z.tar.gz.sha256");
    bench.bad("backup.sh", &[], "is there already; it is left as it is");
    assert_eq!(bench.read("dest/data-20260101T000000Z.tar.gz.sha256"), before);

    let missing = bench.text("missing");
    let root = bench.dir.path().display().to_string();
    let bench = bench.at("20260102T000000Z").with("SOURCE", missing);
    bench.bad("backup.sh", &[], "is not there");
    let bench = bench.with("SOURCE", "data");
    bench.bad("backup.sh", &[], "SOURCE holds 'data'; wanted absolute paths");
    let bench = bench.with("SOURCE", root);
    bench.bad("backup.sh", &[], "wanted it outside of what is packed");
    let bench = bench.with("SOURCE", "/");
    bench.bad("backup.sh", &[], "wanted it outside of what is packed");
    let bench = bench.with("SOURCE", "");
    bench.bad("backup.sh", &[], "SOURCE is empty");
    let bench = bench.with("NAME", "../x");
    bench.bad("backup.sh", &[], "NAME is ../x");
    assert_eq!(bench.list("dest").len(), 2, "{:?}", bench.list("dest"));
}

#[test]
fn backup_keeps_no_archive_when_packing_fails() {
    let bench = backup_bench();
    let tar = bench.path("bin/tar");
    fs::write(&tar, "#!/bin/sh\ncase $1 in -c*) printf half >\"$2\"; exit 1 ;; esac\n").unwrap();
    fs::set_permissions(&tar, PermissionsExt::from_mode(0o755)).unwrap();
    bench.bad("backup.sh", &[], "no archive is kept");
    assert!(bench.list("dest").is_empty(), "{:?}", bench.list("dest"));
}

#[test]
fn hello_shows_the_parameters_and_evaluates_nothing() {
    let bench = Bench::new().with("VERSION", "`touch pwned` $(id) {x}").with("SPOOLGATE_HOST", "web1");
    let said = bench.good("hello.sh", &[]);
    assert!(said.contains("VERSION: `touch pwned` $(id) {x}\n") && said.contains("inventory: web1\n"), "{said}");
    assert!(!bench.path("pwned").exists() && !said.contains("TAG:"), "{said}");
    let said = bench.with("SPOOLGATE_PARAMS", "other").with("other", "shown").good("hello.sh", &[]);
    assert!(said.contains("other: shown") && !said.contains("VERSION"), "{said}");
}

#[test]
fn run_script_runs_exactly_the_script() {
    let bench = Bench::new();
    bench.write("own script", "#!/bin/sh\nprintf '%s|' \"$#\" \"$@\" \"$PWD\"\nexit 7\n");
    let (script, dir) = (bench.text("own script"), bench.dir.path().canonicalize().unwrap());
    let bench =
        bench.with("SCRIPT", script).with("DIR", dir.display().to_string()).with("ARG1", "a b").with("ARG2", "");
    bench.bad("run-script.sh", &[], "is not executable");
    fs::set_permissions(bench.path("own script"), PermissionsExt::from_mode(0o777)).unwrap();
    bench.bad("run-script.sh", &[], "may be written by anybody");
    fs::set_permissions(bench.path("own script"), PermissionsExt::from_mode(0o755)).unwrap();
    let output = bench.run("run-script.sh", &[]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("2|a b||{}|", dir.display()));
    let bench = bench.with("SHA256", "00");
    bench.bad("run-script.sh", &[], "wanted 00");
    let bench = bench.with("SCRIPT", "own script");
    bench.bad("run-script.sh", &[], "wanted an absolute path");
}
