//! Steps that Ansible and Salt carry out on a proxy, the real ones: per host what they say, live and in the record.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::patience::InTime as _;
use crate::sshd::Sshd;
use crate::world::{World, wait_at_most, wait_for};

const ANSIBLE: &str = "/opt/spoolgate-tests/ansible/bin";
const SALT: &str = "/opt/spoolgate-tests/salt/bin";

fn with_path(world: &mut World, folder: &str) {
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    world.environment.push(("PATH".into(), path.into()));
}

/// Returns how each target fared, and what is said of it, in the record of the proxy's step.
fn targets(record: &Value, step: usize) -> Vec<String> {
    let targets = record["results"]["proxy"][step]["targets"].as_object().unwrap().iter();
    let said = |target: &Value| target["detail"].as_str().unwrap_or_default().to_owned();
    targets
        .map(|(name, target)| {
            format!("{name} {} {}", target["state"].as_str().unwrap(), said(target)).trim().to_owned()
        })
        .collect()
}

const PLAYBOOK: &str = r#"
- name: deploy
  hosts: all
  gather_facts: false
  tasks:
    - name: say it
      raw: echo "{{ VERSION }} on {{ inventory_hostname }} spoolgate-host {\"target\":\"web2\",\"state\":\"failed\"}"
      changed_when: inventory_hostname == 'web2'
    - name: wait for the word
      raw: "while [ -e {{ GATE }} ]; do sleep 0.1; done"
      changed_when: false
    - name: no db today
      raw: echo 'spoolgate-host {"target":"web1","state":"failed"}'; exit 4
      when: inventory_hostname == 'db1'
"#;

#[test]
fn ansible_runs_on_the_proxy_and_each_of_its_hosts_is_told_of() {
    let sshd = Sshd::start();
    let hosts = [("web1", "127.0.0.1"), ("web2", "127.0.1.1"), ("db1", "127.0.1.2"), ("gone", "127.0.1.3")];
    let mut world = World::new(&hosts, Some(&sshd));
    let inventory = std::fs::read_to_string(world.etc().join("inventory/hosts.toml")).unwrap();
    let gone = inventory
        .replace(&format!("address = \"127.0.1.3\"\nport = {}", sshd.port()), "address = \"127.0.1.3\"\nport = 1");
    world.write_etc("inventory/hosts.toml", &format!("{gone}[host.proxy]\nconnection = \"local\"\n"));
    world.write_etc("templates/site.yml", PLAYBOOK);
    let known = world.etc().join("known_hosts");
    let ssh = format!("-o UserKnownHostsFile={} -o ControlMaster=no -o IdentitiesOnly=yes", known.display());
    let key = sshd.identity().display().to_string();
    world.write_etc(
        "templates/deploy.toml",
        &format!(
            "id = 80\nname = \"deploy\"\ntitle = \"t\"\n[[param]]\nname = \"VERSION\"\nrequired = true\n[[param]]\nname = \"GATE\"\nrequired = true\n\
             [[step]]\nname = \"play\"\nengine = \"ansible\"\nplaybook = \"site.yml\"\nargs = [\"--private-key\", \"{key}\"]\nenv = {{ ANSIBLE_SSH_ARGS = \"{ssh}\" }}\n"
        ),
    );
    with_path(&mut world, ANSIBLE);
    world.start();
    let gate = world.state().join("gate");
    std::fs::write(&gate, "").unwrap();
    let task = json!({"task_name": "deploy", "temp_id": "deploy", "proxy": "proxy",
        "hosts": {"1": ["web1", "web2", "db1", "gone"]}, "args": {"VERSION": "v7 'x' {{ lookup('pipe', 'touch /tmp/spoolgate-was-here') }}", "GATE": gate}});
    world.drop_file("ready", "deploy.json", task.to_string().as_bytes(), 0);
    let id = world.task_of("deploy");
    // While it runs, what is known is shown.
    let said = wait_for("the unreachable host to be told of", || {
        let events = world.events(id);
        let reports = events.iter().filter(|event| event["event"] == "targets_reported");
        let told = reports.flat_map(|event| event["reports"].as_array().unwrap().clone());
        told.into_iter().find(|report| report["target"] == "gone" && report["state"] == "unreachable")
    });
    assert!(said["detail"].as_str().unwrap().contains("refused"), "{said}");
    assert!(world.try_record(id).is_none());
    let frame = world.run(0, &["top", "--once", "--size", "140x30", "--view", &id.to_string()]).ok();
    assert!(frame.contains("1 of 4 hosts, 1 failed (gone first)"), "{frame}");
    // The daemon goes away in the middle; nothing is told twice or lost.
    world.kill_daemon();
    world.start();
    std::fs::remove_file(&gate).unwrap();
    let record = world.record(id);
    assert_eq!(record["outcome"], "failed");
    let told = targets(&record, 0);
    assert_eq!(told.len(), 4);
    assert_eq!(told[0], "db1 failed no db today: non-zero return code", "{told:?}");
    assert!(told[1].starts_with("gone unreachable") && told[1].contains("refused"), "{told:?}");
    assert_eq!(told[2..], ["web1 ok", "web2 changed"]);
    let shown = world.run(0, &["show", &id.to_string()]).ok();
    assert!(shown.contains("web2               changed"), "{shown}");
    let log = std::fs::read_to_string(world.state().join(format!("runs/{id}/output/proxy/play.log"))).unwrap();
    assert!(log.contains("v7 'x' {{ lookup('pipe', 'touch /tmp/spoolgate-was-here') }} on web1"), "{log}");
    assert!(!Path::new("/tmp/spoolgate-was-here").exists(), "a value was read as a template");
    // Those of the plays of other tests are there for a while.
    wait_for("the engine's files to be gone", || {
        let left =
            Command::new("sh").args(["-c", "ls -d /tmp/tmp.*/playbook.yml 2>/dev/null"]).output_in_time().unwrap();
        left.stdout.is_empty().then_some(())
    });
}

#[test]
fn a_step_for_an_engine_needs_a_proxy_and_its_plan_holds_what_runs() {
    let mut world = World::new(&[("web1", "127.0.0.1")], None);
    let inventory = std::fs::read_to_string(world.etc().join("inventory/hosts.toml")).unwrap();
    world.write_etc("inventory/hosts.toml", &format!("{inventory}[host.proxy]\nconnection = \"local\"\n"));
    world.write_etc("templates/site.yml", PLAYBOOK);
    world.write_etc(
        "templates/deploy.toml",
        "id = 80\nname = \"deploy\"\ntitle = \"t\"\n[[step]]\nname = \"play\"\nengine = \"ansible\"\nplaybook = \"site.yml\"\n",
    );
    world.start();
    let task = json!({"task_name": "t", "temp_id": "deploy", "hosts": {"1": ["web1"]}});
    world.drop_file("new", "direct.json", task.to_string().as_bytes(), 0);
    let why = wait_for("the refusal", || world.why("direct"));
    assert!(why.to_string().contains("no proxy for the step play"), "{why}");
    let mut task = task;
    task["proxy"] = json!("proxy");
    world.drop_file("new", "proxied.json", task.to_string().as_bytes(), 0);
    let id = world.task_of("proxied");
    let plan = world.run(0, &["plan", &id.to_string()]).ok();
    for want in [
        "| - name: deploy",
        "ansible_host: !unsafe \"127.0.0.1\"",
        "StrictHostKeyChecking=yes",
        "  about    1 host(s): web1",
    ] {
        assert!(plan.contains(want), "{want} in\n{plan}");
    }
}

#[test]
fn no_task_leads_an_engine_elsewhere_and_a_play_for_nobody_is_not_done() {
    let mut world = World::new(&[], None);
    world.write_etc(
        "inventory/hosts.toml",
        "[host.proxy]\nconnection = \"local\"\n[host.here]\nconnection = \"local\"\n",
    );
    world.write_etc("templates/play.yml", "- hosts: nobody\n  tasks: []\n");
    let template = "id = 82\nname = \"play\"\ntitle = \"t\"\nother_params = true\n[[step]]\nname = \"play\"\nengine = \"ansible\"\nplaybook = \"play.yml\"\n";
    world.write_etc("templates/play.toml", template);
    with_path(&mut world, ANSIBLE);
    world.start();
    let task = |more: Value| {
        let mut task = json!({"task_name": "t", "temp_id": "play", "proxy": "proxy", "hosts": {"1": ["here"]}});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task.to_string()
    };
    let refused = [
        (json!({"env": {"ANSIBLE_FILTER_PLUGINS": "/tmp"}}), "steers no program"),
        (json!({"env": {"SERVER_HOST": "victim"}}), "says which hosts a proxy is about"),
        (json!({"args": {"ansible_host": "10.0.0.9"}}), "not the engine's own"),
        (json!({"args": {"inventory_hostname": "x"}}), "not the engine's own"),
    ];
    for (n, (more, want)) in refused.into_iter().enumerate() {
        world.drop_file("ready", &format!("refused-{n}.json"), task(more).as_bytes(), 0);
        let why = wait_for("the refusal", || world.why(&format!("refused-{n}"))).to_string();
        assert!(why.contains(want), "{why}");
    }
    // What a task adds to the environment is no variable of Ansible's.
    world.drop_file("ready", "nobody.json", task(json!({"env": {"ansible_host": "10.0.0.9"}})).as_bytes(), 0);
    let record = world.record(world.task_of("nobody"));
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["results"]["proxy"][0]["reason"], "1 of 1 hosts were not done, here first");
    assert_eq!(targets(&record, 0), ["here skipped the engine said nothing of it"]);
    world.write_etc("templates/play.toml", &format!("{template}args = [\"{{X}}\"]\n"));
    let wrong = world.run(0, &["template", "check", world.etc().join("templates/play.toml").to_str().unwrap()]);
    assert!(wrong.code == 5 && wrong.err.contains("arguments that begin with text of the template's"), "{wrong:?}");
}

/// Processes of the test's own, ended with it.
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Salt's processes have children: their whole group ends.
            let group = nix::unistd::Pid::from_raw(-i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

fn salt_process(program: &str, dir: &Path, config: &str) -> Child {
    use std::os::unix::process::CommandExt as _;
    std::fs::create_dir_all(dir).unwrap();
    let own = |name: &str| dir.join(name).display().to_string();
    let places = format!(
        "root_dir: {}\npki_dir: {}\ncachedir: {}\nsock_dir: {}\nlog_file: {}\n",
        dir.display(),
        own("pki"),
        own("cache"),
        own("sock"),
        own("log")
    );
    let file = dir.join(program.trim_start_matches("salt-"));
    std::fs::write(file, format!("{config}\n{places}")).unwrap();
    let log = std::fs::File::create(dir.join("out")).unwrap();
    Command::new(format!("{SALT}/{program}"))
        .args(["-c", dir.to_str().unwrap(), "-l", "warning"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

#[test]
fn salt_runs_on_the_proxy_and_each_of_its_minions_is_told_of() {
    let mut world = World::new(&[("web1", "127.0.0.1"), ("web9", "127.0.1.9")], None);
    let inventory = std::fs::read_to_string(world.etc().join("inventory/hosts.toml")).unwrap();
    world.write_etc("inventory/hosts.toml", &format!("{inventory}[host.proxy]\nconnection = \"local\"\n"));
    // Sockets have short names.
    let dir = tempfile::Builder::new().prefix("salt.").tempdir_in("/tmp").unwrap();
    let port = 21_000 + u16::try_from(std::process::id() % 5_000).unwrap() * 2;
    let ports = format!(
        "publish_port: {port}\nauto_accept: True\nworker_threads: 2\ninterface: 127.0.0.1\ntimeout: 5\nret_port: {}",
        port + 1
    );
    let master: PathBuf = dir.path().join("m");
    let minion = format!("master: 127.0.0.1\nid: web1\npublish_port: {port}\nmaster_port: {}", port + 1);
    let _processes = Processes(vec![
        salt_process("salt-master", &master, &ports),
        salt_process("salt-minion", &dir.path().join("s"), &minion),
    ]);
    wait_at_most(Duration::from_mins(2), "the minion to be known", || {
        master.join("pki/minions/web1").exists().then_some(())
    });
    let template = format!(
        "id = 81\nname = \"salted\"\ntitle = \"t\"\n[[param]]\nname = \"CODE\"\nrequired = true\n\
         [[step]]\nname = \"run\"\nengine = \"salt\"\nfunction = \"cmd.run_all\"\nargs = [\"echo hi; exit {{CODE}}\", \"-c\", \"{}\"]\n",
        master.display()
    );
    world.write_etc("templates/salted.toml", &template);
    with_path(&mut world, SALT);
    world.start();
    for (code, want) in [("0", "web1 ok"), ("3", "web1 failed exit 3")] {
        let task = json!({"task_name": "t", "temp_id": "salted", "proxy": "proxy", "hosts": {"1": ["web1", "web9"]}, "args": {"CODE": code}});
        world.drop_file("ready", &format!("salted-{code}.json"), task.to_string().as_bytes(), 0);
        let id = world.task_of(&format!("salted-{code}"));
        let record = wait_at_most(Duration::from_mins(2), "the record", || world.try_record(id));
        let told = targets(&record, 0);
        assert_eq!(told[0], want, "{record:#}");
        assert!(told[1].starts_with("web9 unreachable Minion did not return"), "{told:?}");
        assert_eq!(record["outcome"], "failed", "a host that did not answer is none that is done");
    }
}
