//! The scripts and requests that the seeds print, run as they were printed but for URL and token.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::http::{ACCEPT, Web, said};
use crate::patience::InTime as _;
use crate::repository::Repository;
use crate::world::World;

/// A script of the seeds with this URL and this token in the places of its own.
fn seed_script(name: &str, url: &str, token: &str) -> String {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/seeds").join(name)).unwrap();
    let quoted = |line: &str, value: &str| {
        let quote = if line.contains('"') { '"' } else { '\'' };
        let (before, rest) = line.split_once(quote).unwrap();
        let after = rest.split_once(quote).unwrap().1;
        format!("{before}{quote}{value}{quote}{after}")
    };
    let mut changed = 0;
    let lines = text.trim_start().lines().map(|line| {
        let word = line.trim_start();
        let value = if word.starts_with("accept_task_url = ") {
            url
        } else if word.starts_with("auth_key = ") {
            token
        } else {
            return format!("{line}\n");
        };
        changed += 1;
        quoted(line, value) + "\n"
    });
    let script = lines.collect();
    assert_eq!(changed, 2, "{name}: a URL and a token");
    script
}

/// A directory in which `python` is Debian's Python 3, which has `requests`.
fn python_path(world: &World) -> String {
    let dir = world.etc().join("bin");
    std::fs::create_dir_all(&dir).unwrap();
    let link = dir.join("python");
    if !link.exists() {
        std::os::unix::fs::symlink("/usr/bin/python3", link).unwrap();
    }
    format!("{}:/usr/bin:/bin", dir.display())
}

fn write_script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_scripts_of_the_seeds_run_as_they_were_printed() {
    let web = Web::start(None);
    let path = python_path(&web.world);
    let script = web.world.etc().join("codo_post_task.py");
    write_script(&script, &seed_script("000_codo_post_task.py", &web.url(ACCEPT), &web.token));
    let output = Command::new(&script).env("PATH", &path).output_in_time().unwrap();
    assert!(output.status.success() && said(&output).contains("submitted successfully"), "{}", said(&output));
    let (id, events) = web.world.tasks().pop().unwrap();
    web.world.stands(id, "new");
    let accepted = &events[0];
    assert_eq!(
        (accepted["by"]["user"].as_str(), accepted["claims"]["submitter"].as_str()),
        (Some("token:ci"), Some("yanghongfei"))
    );
    let view: Value =
        serde_json::from_slice(&std::fs::read(web.world.box_dir("new").join(format!("{id}.json"))).unwrap()).unwrap();
    assert_eq!(view["task_name"], "脚本任务");

    // (script, tag, the state that its task goes into)
    let pushes = [
        ("000_git_tag_post_task.py", "qa-yanghongfei_1", Some("ready")),
        ("000_git_tag_post_task.py", "release-yanghongfei-v1", Some("new")),
        ("000_git_tag_post_task.py", "v1.0", None),
        ("001_new_hook_for_update.py", "qa-dbtt-1", Some("ready")),
        ("001_new_hook_for_update.py", "release-dbtt-server-20190320-02", Some("ready")),
        ("001_new_hook_for_update.py", "other", None),
    ];
    let mut repositories: BTreeMap<&str, Repository> = BTreeMap::new();
    for (script, tag, state) in pushes {
        let repository = repositories.entry(script).or_insert_with(|| {
            let repository = Repository::new(&web.world.etc(), script.split('.').next().unwrap(), path.clone(), "sha1");
            write_script(&repository.bare.join("hooks/update"), &seed_script(script, &web.url(ACCEPT), &web.token));
            repository
        });
        let known = web.world.tasks().len();
        let (said, _) = repository.push_tag(tag);
        let tasks = web.world.tasks();
        assert_eq!(tasks.len() - known, usize::from(state.is_some()), "{script} {tag}: {said}");
        let Some(state) = state else { continue };
        assert!(said.contains("Asynchronous task has been submitted successfully!!!"), "{said}");
        let (id, events) = tasks.last().unwrap();
        assert_eq!(events[0]["admission"]["state"], state, "{script} {tag}");
        let submission: Value = serde_json::from_str(events[0]["submission"].as_str().unwrap()).unwrap();
        assert!(submission["args"].as_str().unwrap().contains(tag), "task {id}: {submission}");
    }
}

#[test]
fn the_requests_of_the_fourth_seed_run_as_they_were_printed() {
    let web = Web::start(None);
    let seed = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/seeds").join(name);
        let url = format!("{}?auth_key={}", web.url("/api/v1/task"), web.token);
        std::fs::read_to_string(path).unwrap().replace("http://localhost:8082/api/v1/task", &url)
    };
    // What the seed's file has above and below the two functions.
    let script = format!(
        "import json, requests\nJSON_H = {{'Content-Type': 'application/json'}}\nclass curlify:\n    to_curl = staticmethod(lambda request: request.method)\n{}\n{}\ntask_add()\ntask_query()\n",
        seed("004_task_add.py"),
        seed("004_task_query.py")
    );
    let path = web.world.etc().join("task.py");
    std::fs::write(&path, script).unwrap();
    let output = Command::new("/usr/bin/python3").arg(&path).output_in_time().unwrap();
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1..4], ["POST", "200", "1"], "{text}");
    let listed: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    let task = &listed[0];
    assert_eq!(
        (task["id"].as_u64(), task["title"].as_str(), task["timeout"].as_u64()),
        (Some(1), Some("test01"), Some(5))
    );
    assert_eq!(task["hosts_raw"], "[\"192.168.3.200\",\"192.168.3.201\"]");
    assert_eq!((task["account"].as_str(), task["creator"].as_str()), (Some("root"), Some("xiaoyi")));
    assert_eq!(task["script"], "#!/bin/bash\nss -ntlp");
    let record = web.world.record(1);
    assert_eq!(record["outcomes"].as_object().unwrap().len(), 2, "both hosts have a result of their own: {record:#}");
}
