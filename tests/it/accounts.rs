//! Accounts that change between an approval and the start: it counts for the number and the name that gave it.

use serde_json::json;

use crate::approval::{event, in_seconds};
use crate::world::{ALICE, World};

/// A number that the daemon's view of the accounts gives to different people.
const SHARED: u32 = 61_050;

/// A world whose daemon sees accounts and groups of its own, and how they are set.
fn world() -> (World, impl Fn(&str)) {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.write_etc(
        "policy.toml",
        "[[submit]]\nwho = [\"uid-61001\"]\ntemplates = [\"*\"]\ninto = [\"new\"]\n\
         [[submit]]\nwho = [\"@leads\"]\ntemplates = [\"*\"]\ninto = [\"new\", \"ready\"]\n\
         [[approve]]\nwho = [\"@leads\"]\ntemplates = [\"*\"]\n[[control]]\nwho = [\"root\"]\ntemplates = [\"*\"]\n",
    );
    let files = ["passwd", "group"].map(|name| world.etc().with_file_name(name));
    let known = ["passwd", "group"].map(|name| std::fs::read_to_string(format!("/etc/{name}")).unwrap());
    let paths = files.clone();
    let set = move |name: &str| {
        let account = if name.is_empty() {
            String::new()
        } else {
            format!("{name}:x:{SHARED}:100::/nonexistent:/usr/sbin/nologin\n")
        };
        std::fs::write(&files[0], known[0].clone() + &account).unwrap();
        std::fs::write(&files[1], format!("{}leads:x:64999:ann,anna,ben\n", known[1])).unwrap();
    };
    set("ann");
    let [passwd, group] = paths.map(|path| path.display().to_string());
    let bind = format!("mount --bind {passwd} /etc/passwd && mount --bind {group} /etc/group && exec \"$@\"");
    world.through = ["unshare", "--mount", "sh", "-c", &bind, "sh"].map(str::to_owned).to_vec();
    world.start();
    (world, set)
}

#[test]
fn an_approval_ends_with_the_account_that_gave_it() {
    let (world, set) = world();
    for (name, then, why) in [
        ("deleted", "", "has no account any more (ann, uid 61050)"),
        ("reused", "ben", "was ann, and uid 61050 is ben now"),
        ("renamed", "anna", "was ann, and uid 61050 is anna now"),
    ] {
        set("ann");
        let task = json!({"task_name": name, "script": "true", "hosts": {"1": ["here"]}}).to_string();
        world.drop_file("new", &format!("{name}.json"), task.as_bytes(), ALICE);
        let id = world.task_of(name);
        let digest = world.digest(id);
        world.run(SHARED, &["approve", &id.to_string(), "--digest", &digest, "--start", &in_seconds(3)]).ok();
        assert_eq!(event(&world, id, "approved")["by"], json!({"uid": SHARED, "user": "ann"}));
        set(then);
        let lapsed = event(&world, id, "lapsed");
        assert!(lapsed["why"].as_str().unwrap().contains(why), "{lapsed}");
        world.stands(id, "new");
        // What has lapsed does not come back with the account.
        set("ann");
        world.run(0, &["hold", &id.to_string(), "--reason", "look"]).ok();
        world.stands(id, "new");
    }
    let task = json!({"task_name": "t", "script": "true", "hosts": {"1": ["here"]}, "exec_time": in_seconds(3)});
    world.drop_file("ready", "exempt.json", task.to_string().as_bytes(), SHARED);
    let id = world.task_of("exempt");
    world.stands(id, "ready");
    set("ben");
    let changed = event(&world, id, "readmitted");
    assert!(changed["why"].as_str().unwrap().contains("who submitted it was ann"), "{changed}");
    world.stands(id, "new");
}
