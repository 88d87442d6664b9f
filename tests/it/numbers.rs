//! Numbers that a host says, as great as they can be written, on a real daemon.

use serde_json::json;

use crate::world::World;

/// What a script may write where the runner keeps its counts.
const NUMBERS: [&str; 7] = [
    "0",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e400",
    "99999999999999999999999999999999999999999999999999999999999999999999999999999999",
];

#[test]
fn whatever_counts_a_host_says_the_daemon_lives_and_starts_again() {
    let mut world = World::new(&[], None);
    let hosts: Vec<String> = (0..NUMBERS.len()).map(|n| format!("h{n}")).collect();
    let inventory: String = hosts.iter().map(|host| format!("[host.{host}]\nconnection = \"local\"\n")).collect();
    world.write_etc("inventory/hosts.toml", &inventory);
    world.start();
    let cases: String = hosts.iter().zip(NUMBERS).map(|(host, number)| format!("{host}) n={number};;\n")).collect();
    let script = format!(
        "case $SPOOLGATE_HOST in\n{cases}esac\n\
         echo some\necho \"exit exit 0 $n $n $n $n 0 end\" >>\"${{0%.*.script}}.state\"\n"
    );
    let task = json!({"task_name": "numbers", "script": script, "hosts": {"1": hosts}});
    world.drop_file("ready", "numbers.json", task.to_string().as_bytes(), 0);
    let id = world.task_of("numbers");
    let record = world.record(id);
    for host in &hosts {
        assert_eq!(record["results"][host][0]["outcome"], "ok", "{host}: {record:#}");
    }
    let bytes = |host: &str| record["results"][host][0]["out_bytes"].as_u64();
    assert_eq!((bytes("h0"), bytes("h2"), bytes("h3")), (Some(5), Some(u64::MAX), Some(u64::MAX)), "{record:#}");
    world.kill_daemon();
    world.start();
    assert_eq!(world.record(id), record);
    assert!(world.run(0, &["show", &id.to_string()]).ok().contains("h2"));
}
