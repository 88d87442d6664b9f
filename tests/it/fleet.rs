//! A real daemon over hundreds or thousands of hosts inside the process, which answer as runners and start nothing.

use std::sync::Arc;

use serde_json::json;

use crate::fake_ssh::{Behaviour, FakeSsh, Steps, write_client_key};
use crate::world::World;

pub(crate) struct Fleet {
    pub(crate) world: World,
    names: Vec<String>,
    // Before the runtime, on which it runs.
    _server: FakeSsh,
    _runtime: tokio::runtime::Runtime,
}

impl Fleet {
    /// Starts a daemon that knows `hosts` hosts and works on `in_flight` of them at once.
    pub(crate) fn start(hosts: usize, in_flight: usize, steps: &Arc<Steps>) -> Fleet {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut world = World::new(&[], None);
        let key = world.etc().join("id_ed25519");
        let client = write_client_key(&key);
        let steps = Arc::clone(steps);
        let server = runtime.block_on(FakeSsh::start(&client, move |_| Behaviour::Runner(Arc::clone(&steps))));
        let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
        let more = format!(
            "key = \"{}\"\n[limits]\nhosts_in_flight = {in_flight}\nhosts_per_group = {hosts}\n",
            key.display()
        );
        world.write_etc("spoolgate.toml", &(config + &more));
        world.write_etc("known_hosts", &server.known_hosts());
        let names: Vec<String> = (0..hosts).map(|n| format!("h{n:05}")).collect();
        let line = |(n, name): (usize, &String)| {
            format!("{name} ansible_host=127.0.{}.{} ansible_port={}\n", 1 + n / 250, 1 + n % 250, server.port)
        };
        world.write_etc("inventory/hosts.ini", &names.iter().enumerate().map(line).collect::<String>());
        world.start();
        Fleet { world, names, _server: server, _runtime: runtime }
    }

    /// A task for all of them.
    pub(crate) fn task(&self) -> String {
        json!({"task_name": "true", "script": "true", "hosts": {"1": self.names}}).to_string()
    }

    /// How many hosts of a task ended well.
    pub(crate) fn ok(&self, id: u64) -> usize {
        let record = self.world.try_record(id).unwrap();
        record["outcomes"].as_object().unwrap().values().filter(|outcome| *outcome == "ok").count()
    }
}
