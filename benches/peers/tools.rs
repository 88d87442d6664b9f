//! How each tool is asked to do a job as fast as it can: its own connections kept, its own parallelism, no facts gathered.

use std::path::{Path, PathBuf};

use crate::measure::write_ssh_config;
use crate::sshd::Sshd;

/// What every host does.
pub(crate) struct Job<'a> {
    pub(crate) name: &'static str,
    pub(crate) steps: &'a [&'a str],
    pub(crate) addresses: Vec<String>,
    /// The tool that the others are compared with.
    pub(crate) base: &'static str,
}

/// Where a tool says how many hosts did it all.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// It exits with 0 when all of them did.
    Exit,
    /// Its last line is the number.
    LastLine,
    /// One line of its output for each host that did, which holds all of these words.
    Lines(&'static [&'static str]),
}

/// One command line.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) count: Count,
}

impl Tool {
    fn new(name: &'static str, argv: &[&str], env: &[(&str, &str)], count: Count) -> Tool {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Tool { name, argv: argv.iter().map(|word| (*word).to_owned()).collect(), env, count }
    }

    /// Whether it is installed.
    pub(crate) fn is_there(&self) -> bool {
        let name = Path::new(&self.argv[0]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(name).exists()) && self.needs().is_none_or(|file| file.exists())
    }

    /// A library of the tool's that may be missing although its program is there.
    fn needs(&self) -> Option<PathBuf> {
        match self.name {
            "parallel-ssh" => Some(site_packages()?.join("pssh")),
            "asyncssh" => Some(site_packages()?.join("asyncssh")),
            "mitogen" => Some(site_packages()?.join("ansible_mitogen")),
            _ => None,
        }
    }

    /// How many of `hosts` did it all.
    pub(crate) fn ok(&self, success: bool, said: &str, hosts: usize) -> usize {
        match self.count {
            Count::Exit => hosts * usize::from(success),
            Count::LastLine => said.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0),
            Count::Lines(words) => said.lines().filter(|line| words.iter().all(|word| line.contains(word))).count(),
        }
    }
}

/// Where `.ci/install-peers` puts what Debian does not have, or not new enough.
const VENV: &str = "/opt/spoolgate-tests/peers";

fn site_packages() -> Option<PathBuf> {
    let libraries = std::fs::read_dir(Path::new(VENV).join("lib")).ok()?;
    libraries.filter_map(Result::ok).map(|entry| entry.path().join("site-packages")).find(|path| path.exists())
}

/// The files that tools read.
pub(crate) struct Files<'a> {
    sshd: &'a Sshd,
    dir: PathBuf,
    at_once: String,
    config: String,
    addresses: String,
    /// Where connections that are kept have their sockets; another one for every run.
    control: String,
}

impl Files<'_> {
    /// Writes the files of a job into `dir`.
    pub(crate) fn write<'a>(sshd: &'a Sshd, dir: &Path, job: &Job, at_once: usize, run: usize) -> Files<'a> {
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        std::fs::write(dir.join("known_hosts"), sshd.known_hosts()).unwrap();
        // Not every library knows patterns with a port.
        let key = sshd.known_hosts();
        let (_, key) = key.split_once(' ').unwrap();
        let known = |address: &String| format!("[{address}]:{} {key}", sshd.port());
        std::fs::write(dir.join("known_hosts.all"), job.addresses.iter().map(known).collect::<String>()).unwrap();
        write_ssh_config(&dir.join("ssh_config"), &dir.join("known_hosts"), sshd);
        std::fs::write(dir.join("addresses"), job.addresses.join("\n") + "\n").unwrap();
        let control = path(&format!("cm{run}"));
        std::fs::create_dir_all(&control).unwrap();
        Files {
            sshd,
            dir: dir.to_owned(),
            at_once: at_once.to_string(),
            config: path("ssh_config"),
            addresses: path("addresses"),
            control,
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn identity(&self) -> String {
        self.sshd.identity().to_str().unwrap().to_owned()
    }

    /// Returns every tool that can do the job.
    pub(crate) fn tools(&self, job: &Job) -> Vec<Tool> {
        let mut tools = if job.steps.len() == 1 { self.one_command(job.steps[0]) } else { self.several(job.steps) };
        tools.extend(self.libraries(job.steps));
        tools.extend(self.ansible(job));
        tools
    }

    fn xargs(&self, name: &'static str, command: &[&str]) -> Tool {
        let argv = ["xargs", "-a", &self.addresses, "-P", &self.at_once, "-I{}"];
        Tool::new(name, &[&argv, command].concat(), &[], Count::Exit)
    }

    fn one_command(&self, command: &str) -> Vec<Tool> {
        let (config, fan) = (format!("-F {}", self.config), self.at_once.as_str());
        let list = format!("^{}", self.addresses);
        vec![
            self.xargs("ssh-xargs", &["ssh", "-F", &self.config, "{}", command]),
            Tool::new(
                "pssh",
                &["parallel-ssh", "-h", &self.addresses, "-p", fan, "-t", "0", "-x", &config, command],
                &[],
                Count::Exit,
            ),
            Tool::new(
                "pdsh",
                &["pdsh", "-R", "ssh", "-S", "-f", fan, "-w", &list, command],
                &[("PDSH_SSH_ARGS_APPEND", &config)],
                Count::Exit,
            ),
            Tool::new(
                "clush",
                &["clush", "-S", "-f", fan, "-o", &config, "--hostfile", &self.addresses, command],
                &[],
                Count::Exit,
            ),
        ]
    }

    fn several(&self, steps: &[&str]) -> Vec<Tool> {
        let (words, script) = (steps.join(" "), steps.join(" && "));
        let mux = format!(
            "for step in {words}; do ssh -F {} -o ControlMaster=auto -o ControlPersist=10 -o ControlPath={}/%h {{}} $step || exit; done",
            self.config, self.control
        );
        vec![
            self.xargs("ssh-mux", &["sh", "-c", &mux]),
            // What nobody can be faster than who looks at no step's result.
            self.xargs("ssh-script", &["ssh", "-F", &self.config, "{}", &script]),
        ]
    }

    fn libraries(&self, steps: &[&str]) -> Vec<Tool> {
        let (port, key, fan) = (self.sshd.port().to_string(), self.identity(), self.at_once.as_str());
        let (python, pyinfra) = (format!("{VENV}/bin/python"), format!("{VENV}/bin/pyinfra"));
        let script = |name: &str| format!("{}/benches/peers/{name}", env!("CARGO_MANIFEST_DIR"));
        let (parallel_ssh, asyncssh) = (script("parallel_ssh.py"), script("async_ssh.py"));
        let known = self.dir.join("known_hosts.all").to_str().unwrap().to_owned();
        let hosts = std::fs::read_to_string(&self.addresses).unwrap();
        let hosts: Vec<String> = hosts.lines().map(|host| format!("{host:?}")).collect();
        let inventory = format!(
            "hosts = ([{}], {{\"ssh_port\": {port}, \"ssh_user\": \"root\", \"ssh_key\": {key:?}, \"ssh_strict_host_key_checking\": \"off\"}})\n",
            hosts.join(", ")
        );
        let inventory = self.file("inventory.py", &inventory);
        let deploy =
            steps.iter().enumerate().map(|(n, step)| format!("server.shell(name=\"step {n}\", commands=[{step:?}])\n"));
        let deploy = "from pyinfra.operations import server\n".to_owned() + &deploy.collect::<String>();
        let deploy = self.file("deploy.py", &deploy);
        let mut with_pyinfra = vec![pyinfra.as_str(), "-y", "--parallel", fan, &inventory];
        match steps {
            [step] => with_pyinfra.extend(["exec", "--", step]),
            _ => with_pyinfra.push(&deploy),
        }
        let home = self.dir.to_str().unwrap();
        vec![
            Tool::new(
                "parallel-ssh",
                &[&[python.as_str(), &parallel_ssh, &port, &key, fan, &self.addresses], steps].concat(),
                &[],
                Count::LastLine,
            ),
            Tool::new(
                "asyncssh",
                &[&[python.as_str(), &asyncssh, &port, &key, &known, fan, &self.addresses], steps].concat(),
                &[],
                Count::LastLine,
            ),
            Tool::new("pyinfra", &with_pyinfra, &[("HOME", home), ("LC_ALL", "C.UTF-8")], Count::Exit),
        ]
    }

    fn ansible(&self, job: &Job) -> Vec<Tool> {
        let inventory = job.addresses.join("\n")
            + &format!(
                "\n[all:vars]\nansible_port={}\nansible_user=root\nansible_ssh_private_key_file={}\n\
                 ansible_ssh_common_args=-F {}\nansible_python_interpreter=/usr/bin/python3\n",
                self.sshd.port(),
                self.identity(),
                self.config
            );
        let inventory = self.file("inventory.ini", &inventory);
        let tasks: String = job.steps.iter().map(|step| format!("    - ansible.builtin.command: {step:?}\n")).collect();
        let play = self.file("play.yml", &format!("- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}"));
        let config = self.file("ansible.cfg", "[defaults]\n");
        let args = format!("-F {} -o ControlMaster=auto -o ControlPersist=60s", self.config);
        let (home, strategies) = (self.dir.to_str().unwrap(), site_packages().unwrap_or_default());
        let strategies = strategies.join("ansible_mitogen/plugins/strategy").to_str().unwrap().to_owned();
        let plain = vec![
            ("ANSIBLE_CONFIG", config.as_str()),
            ("ANSIBLE_FORKS", &self.at_once),
            ("ANSIBLE_PIPELINING", "True"),
            ("ANSIBLE_SSH_ARGS", &args),
            ("ANSIBLE_SSH_CONTROL_PATH_DIR", &self.control),
            ("ANSIBLE_NOCOLOR", "1"),
            ("HOME", home),
            ("LC_ALL", "C.UTF-8"),
        ];
        let mitogen = vec![
            ("ANSIBLE_STRATEGY_PLUGINS", strategies.as_str()),
            ("ANSIBLE_STRATEGY", "mitogen_linear"),
            ("MITOGEN_POOL_SIZE", &self.at_once),
        ];
        let (ansible, playbook) = (format!("{VENV}/bin/ansible"), format!("{VENV}/bin/ansible-playbook"));
        let recap = Count::Lines(&[" ok=", "unreachable=0 ", "failed=0 "]);
        let mut tools = Vec::new();
        if let [step] = job.steps {
            let argv = [&ansible, "-i", &inventory, "all", "-m", "raw", "-a", step];
            tools.push(Tool::new("ansible-raw", &argv, &plain, Count::Lines(&["| rc=0 "])));
        }
        let argv = [playbook.as_str(), "-i", &inventory, &play];
        tools.push(Tool::new("ansible", &argv, &plain, recap));
        tools.push(Tool::new("mitogen", &argv, &[plain, mitogen].concat(), recap));
        tools
    }
}
