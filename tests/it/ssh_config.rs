//! What OpenSSH's own configuration says of hosts, against a real `ssh -G` and a real sshd.

use crate::relay::Relay;
use crate::sshd::Sshd;
use crate::world::{ALICE, BOB, World, wait_for};

/// A world whose inventory says nothing but names, and whose `ssh_config` includes everything in `conf.d`.
fn world(inventory: &str, config: &str) -> World {
    let world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", inventory);
    world.write_etc("spoolgate.toml", "group = \"users\"\n[ssh]\nagent = false\nconfig = \"ssh_config\"\n");
    std::fs::create_dir(world.etc().join("conf.d")).unwrap();
    world.write_etc("ssh_config", &format!("Include {}/conf.d/*.conf\n", world.etc().display()));
    world.write_etc("conf.d/50.conf", config);
    world
}

fn task(name: &str, hosts: &str) -> Vec<u8> {
    format!(r#"{{"task_name":"{name}","script":"echo hi","hosts":{{"1":[{hosts}]}}}}"#).into_bytes()
}

fn plan(world: &World, id: u64) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(world.state().join(format!("runs/{id}/plan.json"))).unwrap()).unwrap()
}

fn known(world: &World, sshd: &Sshd) -> String {
    world.write_etc("ssh_known", &sshd.known_hosts());
    world.etc().join("ssh_known").display().to_string()
}

#[test]
fn what_the_inventory_does_not_say_comes_from_ssh_config_and_is_part_of_the_plan() {
    let sshd = Sshd::start();
    let mut world = world("[host.web1]\n[host.web2]\naddress = \"127.0.1.2\"\nuser = \"root\"\n", "");
    let config = format!(
        "Host web1\n HostName 127.0.1.1\nHost web2\n HostName 192.0.2.1\n User nobody\nHost web*\n Port {}\n User root\n \
         IdentityFile {}\n UserKnownHostsFile {} /dev/null\n",
        sshd.port(),
        sshd.identity().display(),
        known(&world, &sshd)
    );
    world.write_etc("conf.d/50.conf", &config);
    world.start();
    world.drop_file("ready", "a.json", &task("a", r#""web1","web2""#), 0);
    let id = world.task_of("a");
    let record = world.record(id);
    assert_eq!(record["outcome"], "ok", "{record:#}");
    let hosts = &plan(&world, id)["hosts"];
    for (host, address) in [("web1", "127.0.1.1"), ("web2", "127.0.1.2")] {
        let host = &hosts[host];
        assert_eq!((host["address"].as_str(), host["user"].as_str()), (Some(address), Some("root")), "{hosts:#}");
        assert_eq!((host["port"].as_u64(), host["key"].as_str()), (Some(sshd.port().into()), sshd.identity().to_str()));
        assert_eq!(host["host_keys"][0], sshd.host_key());
        assert_eq!(host["env"]["SPOOLGATE_ADDRESS"], address);
    }
    // The command line plans the same.
    std::fs::write(world.etc().join("a.json"), task("a", r#""web1","web2""#)).unwrap();
    let said = world.run(0, &["check", world.etc().join("a.json").to_str().unwrap()]).ok();
    assert!(said.contains(&world.digest(id)), "{said}");
    // A file that comes into the included directory is drift like any other change.
    world.drop_file("new", "b.json", &task("b", r#""web1""#), ALICE);
    let id = world.task_of("b");
    let digest = world.digest(id);
    world.write_etc("conf.d/10.conf", "Host web1\n HostName 127.0.1.7\n");
    let said = world.run(BOB, &["approve", "b", "--digest", &digest]);
    assert_ne!(said.code, 0, "{said:?}");
    wait_for("the plan to be another one", || {
        let stale = world.events(id).into_iter().find(|event| event["event"] == "stale")?;
        assert!(stale["differences"].to_string().contains("127.0.1.7"), "{stale:#}");
        Some(())
    });
    // What was approved is still compared after a restart.
    world.kill_daemon();
    world.start();
    let _ = world.approve(BOB, id).ok();
    let record = world.record(id);
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert_eq!(record["results"]["web1"][0]["outcome"], "ok");
    // An ended task is planned anew before it is taken again.
    world.write_etc("conf.d/10.conf", "Host web1\n HostName 127.0.1.8\n");
    let said = world.run(0, &["retry", "b", "--again"]);
    assert!(said.code != 0, "{said:?}");
}

#[test]
fn hosts_on_the_way_and_commands_come_from_ssh_config_too() {
    let (sshd, bastion) = (Sshd::start(), Sshd::start());
    bastion.let_in(&sshd);
    let relay = Relay::start(bastion.port(), 0);
    let mut world = world("[host.inner]\n[host.far]\n", "");
    let key = bastion.known_hosts();
    world.write_etc("known_hosts", &format!("[127.0.0.1]:{} {}", relay.port(), key.split_once(' ').unwrap().1));
    let config = format!(
        "Host inner far\n HostName 127.0.1.1\n Port {}\nHost inner\n ProxyJump gw\nHost far\n \
         ProxyCommand bash -c 'exec 3<>/dev/tcp/$0/$1; cat <&3 & cat >&3' %h %p\n\
         Host gw\n HostName 127.0.0.1\n Port {}\nHost *\n User root\n IdentityFile {}\n UserKnownHostsFile {}\n",
        sshd.port(),
        relay.port(),
        sshd.identity().display(),
        known(&world, &sshd)
    );
    world.write_etc("conf.d/50.conf", &config);
    world.start();
    world.drop_file("ready", "a.json", &task("a", r#""inner","far""#), 0);
    let id = world.task_of("a");
    let record = world.record(id);
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert_eq!(relay.links(), 1, "a way over gw");
    let hosts = &plan(&world, id)["hosts"];
    let hop = &hosts["inner"]["jump"][0];
    assert_eq!((hop["address"].as_str(), hop["port"].as_u64()), (Some("127.0.0.1"), Some(relay.port().into())));
    let command = hosts["far"]["proxy_command"].as_str().unwrap();
    assert!(command.ends_with(&format!("127.0.1.1 {}", sshd.port())), "{command}");
}

#[test]
fn only_hosts_that_a_task_needs_are_asked_about() {
    let inventory: String = (1..=3000).map(|n| format!("[host.h{n}]\n")).collect();
    let world = world(&inventory, "");
    let asked = world.etc().join("asked");
    let config = format!("Match exec \"echo %n >>{}\"\n Port 2222\n", asked.display());
    world.write_etc("conf.d/50.conf", &config);
    std::fs::write(world.etc().join("a.json"), task("a", r#""h1","h2""#)).unwrap();
    let file = world.etc().join("a.json");
    let said = world.run(0, &["plan", "--json", file.to_str().unwrap()]).ok();
    let plan: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(plan["plan"]["hosts"]["h2"]["port"], 2222, "{said}");
    let text = std::fs::read_to_string(asked).unwrap();
    let mut names: Vec<&str> = text.lines().filter(|name| name.starts_with('h')).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["h1", "h2"]);
}

#[test]
fn a_configuration_that_is_wrong_or_that_others_can_write_is_a_problem() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = world("[host.web1]\n", "Host *\n Potr 22\n");
    let file = world.etc().join("a.json");
    std::fs::write(&file, task("a", r#""web1""#)).unwrap();
    let check = || world.run(0, &["check", file.to_str().unwrap()]);
    let included = world.etc().join("conf.d/50.conf");
    let said = check();
    assert!(said.code != 0 && said.err.contains("Bad configuration option: potr"), "{said:?}");
    world.write_etc("conf.d/50.conf", "Host *\n Port 22\n");
    std::fs::set_permissions(&included, std::fs::Permissions::from_mode(0o666)).unwrap();
    let said = check();
    assert!(said.code != 0 && said.err.contains("Bad owner or permissions on"), "{said:?}");
    std::fs::set_permissions(&included, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _ = check().ok();
    // What is said of one host alone is that task's trouble.
    world.write_etc("conf.d/50.conf", "Host web1\n ProxyUseFdpass yes\n");
    let said = check();
    assert!(said.code != 0 && said.err.contains("ProxyUseFdpass"), "{said:?}");
    world.write_etc("spoolgate.toml", "group = \"users\"\n[ssh]\nconfig = \"nowhere\"\n");
    let said = check();
    assert!(said.code != 0 && said.err.contains("an ssh_config file"), "{said:?}");
}
