//! Reads the configuration directory: settings, policy, inventory, templates, known hosts and hooks. Floor 3.
//!
//! **Invariant:** reads only, and all or nothing: with one problem in any file there is no configuration, and
//! every problem of every file is reported. Nothing is defaulted in a serde attribute; the defaults stand in
//! [`Settings::default`] and [`crate::base::limits`].

mod error;
mod inventory;
mod script;
pub mod ssh;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::base::ids::SecretName;
use crate::base::limits;
use crate::base::time::Zone;
use crate::domain::file_step::NoFiles;
use crate::domain::hook::Hooks;
use crate::domain::known_hosts::KnownHosts;
use crate::domain::library::{Defaults, Library};
use crate::domain::policy::Policy;
use crate::domain::problem::Problem;
use crate::domain::share::Shares;
use crate::domain::template::{Catalogue, Template};

pub use error::ConfigError;
use error::read_text;

/// A configuration directory, read.
#[derive(Clone, Debug)]
pub struct Config {
    /// What was read, and what would be if it were there.
    pub files: Vec<PathBuf>,
    /// What tasks are resolved against.
    pub library: Library,
    /// How the daemon works.
    pub settings: Settings,
    /// When an inventory script must be asked again.
    pub expires: Option<Instant>,
}

/// How the daemon works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Unix group whose members may drop files; the daemon's own group when `None`.
    pub group: Option<String>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a host may take to say the first word once it has what was sent.
    pub first_word: Duration,
    /// How often a silent connection is asked whether it lives.
    pub keepalive: Duration,
    /// Whether keys of the SSH agent are tried.
    pub agent: bool,
    /// Whether a spool on a network file system is tolerated.
    pub network_spool: bool,
    /// The socket of the system log that the audit's head is sent to, if any.
    pub audit_syslog: Option<PathBuf>,
    /// Where HTTP is answered; nowhere when `None`.
    pub http: Option<Http>,
    /// Where secrets are.
    pub secrets: SecretPlaces,
}

/// Where secrets are: the first place that has one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretPlaces {
    /// Directories with a file for each secret.
    pub directories: Vec<PathBuf>,
    /// A TOML file of `NAME = "value"`.
    pub file: Option<PathBuf>,
}

/// Where and how HTTP is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The addresses; what is not loopback needs a certificate.
    pub listen: Vec<SocketAddr>,
    /// A UNIX socket, for the group that may drop files.
    pub socket: Option<PathBuf>,
    /// The files of the certificate chain and of its private key, in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How many connections there may be at once.
    pub connections: usize,
    /// How many of them from one address.
    pub connections_per_peer: usize,
    /// What it is called, beside `localhost` and its addresses.
    pub names: Vec<String>,
    /// The address that scripts on hosts reach this at; without it they are not told of it.
    pub callback: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            group: None,
            connect_timeout: Duration::from_secs(limits::CONNECT_TIMEOUT_S),
            first_word: Duration::from_secs(limits::FIRST_WORD_S),
            keepalive: Duration::from_secs(limits::KEEPALIVE_S),
            agent: true,
            network_spool: false,
            audit_syslog: None,
            http: None,
            secrets: SecretPlaces::default(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    time_zone: Option<String>,
    group: Option<String>,
    network_spool: Option<bool>,
    ssh: Option<SshTable>,
    limits: Option<LimitsTable>,
    audit: Option<AuditTable>,
    secrets: Option<SecretsTable>,
    http: Option<HttpTable>,
    inventory: Option<inventory::InventoryTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpTable {
    listen: Option<Vec<String>>,
    socket: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    connections: Option<usize>,
    connections_per_peer: Option<usize>,
    names: Option<Vec<String>>,
    callback: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsTable {
    dir: Option<PathBuf>,
    file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditTable {
    syslog: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SshTable {
    user: Option<String>,
    key: Option<String>,
    key_passphrase: Option<SecretName>,
    config: Option<String>,
    known_hosts: Option<PathBuf>,
    agent: Option<bool>,
    connect_timeout_s: Option<u64>,
    first_word_s: Option<u64>,
    keepalive_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    hosts_in_flight: Option<usize>,
    hosts_per_group: Option<usize>,
    late_after_s: Option<u32>,
    waiting_tasks: Option<usize>,
    waiting_bytes: Option<u64>,
    files_per_minute: Option<u32>,
}

/// What the configuration falls back to: facts about who runs the daemon, handed in by the caller.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The user to log in as when nothing names one.
    pub user: String,
    /// The home directory, for `~/.ssh/known_hosts` and keys that begin with `~/`.
    pub home: PathBuf,
    /// The owner of the state directory, who may do everything without a policy file.
    pub owner: u32,
}

/// Reads the configuration directory `dir`. What is not there has its default: no policy file is personal mode,
/// no `known_hosts` is `~/.ssh/known_hosts`. The tags of git repositories and the files to copy are not looked up here.
///
/// # Errors
/// When something that is there cannot be read, or with every problem of every file.
pub fn load(dir: &Path, surroundings: &Surroundings) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let file = read_settings(dir, &mut problems)?;
    let (ssh, bounds) = (file.ssh.unwrap_or_default(), file.limits.unwrap_or_default());
    let zone = read_zone(file.time_zone.as_deref(), &mut problems);
    let policy = read_policy(dir, surroundings.owner, &zone, &mut problems)?;
    let mut found = inventory::read(&dir.join("inventory"), file.inventory.unwrap_or_default(), &mut problems)?;
    for key in found.inventory.hosts.values_mut().filter_map(|host| host.key.as_mut()) {
        *key = expand_home(key, &surroundings.home);
    }
    let catalogue = read_catalogue(dir, &mut problems)?;
    let hooks = read_hooks(dir, &mut problems)?;
    let http = file.http.map(|table| read_http(table, &mut problems));
    let known_hosts = read_known_hosts(dir, ssh.known_hosts.as_deref(), &surroundings.home)?;
    let asked = ask_ssh(dir, &ssh, surroundings, &mut problems);
    let connect_timeout = read_limit("connect_timeout_s", ssh.connect_timeout_s, &mut problems);
    let first_word = read_limit("first_word_s", ssh.first_word_s, &mut problems);
    let keepalive = read_limit("keepalive_s", ssh.keepalive_s, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError::Wrong { dir: dir.to_owned(), problems });
    }
    let defaults = Settings::default();
    let settings = Settings {
        group: file.group,
        connect_timeout: connect_timeout.unwrap_or(defaults.connect_timeout),
        first_word: first_word.unwrap_or(defaults.first_word),
        keepalive: keepalive.unwrap_or(defaults.keepalive),
        agent: ssh.agent.unwrap_or(defaults.agent),
        network_spool: file.network_spool.unwrap_or(defaults.network_spool),
        audit_syslog: file.audit.unwrap_or_default().syslog,
        http,
        secrets: secret_places(dir, file.secrets.unwrap_or_default()),
    };
    let library = Library {
        catalogue,
        inventory: found.inventory,
        known_hosts,
        ssh: asked.as_ref().map(|(answers, _, _)| answers.clone()),
        policy,
        defaults: Defaults {
            user: ssh.user.unwrap_or_else(|| surroundings.user.clone()),
            key: ssh.key.map(|key| expand_home(&key, &surroundings.home)),
            key_passphrase: ssh.key_passphrase,
            hosts_per_group: bounds.hosts_per_group.unwrap_or(limits::HOSTS_PER_GROUP),
            hosts_in_flight: bounds.hosts_in_flight.unwrap_or(limits::HOSTS_IN_FLIGHT).max(1),
            late_after_ms: i64::from(bounds.late_after_s.unwrap_or(limits::LATE_AFTER_S)).saturating_mul(1000),
        },
        tags: BTreeMap::new(),
        files: Arc::new(NoFiles),
        zone,
        hooks,
        shares: Shares {
            waiting_tasks: bounds.waiting_tasks.unwrap_or(limits::WAITING_TASKS),
            waiting_bytes: bounds.waiting_bytes.unwrap_or(limits::WAITING_BYTES),
            files_per_minute: bounds.files_per_minute.unwrap_or(limits::FILES_PER_MINUTE).max(1),
            exempt: BTreeSet::from([0, surroundings.owner]),
        },
    };
    let mut files = vec![dir.to_owned(), dir.join("inventory"), dir.join("templates")];
    files.extend(folders_in(&dir.join("templates")));
    files.extend(ssh.known_hosts);
    files.push(surroundings.home.join(".ssh/known_hosts"));
    files.extend(found.dirs);
    let mut expires = found.expires;
    if let Some((_, watched, again)) = asked {
        files.extend(watched);
        expires = expires.into_iter().chain(again).min();
    }
    Ok(Config { files, library, settings, expires })
}

/// Looks at OpenSSH's configuration, where it is to be asked about hosts.
fn ask_ssh(dir: &Path, table: &SshTable, around: &Surroundings, problems: &mut Vec<Problem>) -> Option<ssh::Found> {
    let named = table.config.as_ref()?;
    let config = match named.as_str() {
        "user" => named.clone(),
        path => dir.join(expand_home(path, &around.home)).to_string_lossy().into_owned(),
    };
    let wish = ssh::Wish {
        config: &config,
        user: table.user.clone(),
        key: table.key.as_ref().map(|key| expand_home(key, &around.home)),
        home: &around.home,
        local_user: &around.user,
    };
    ssh::look(wish).map_err(|problem| problems.push(problem)).ok()
}

/// Returns where secrets are: systemd's credentials first, then what the settings name, or their places beside them.
fn secret_places(dir: &Path, table: SecretsTable) -> SecretPlaces {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let own = table.dir.unwrap_or_else(|| dir.join("secrets"));
    SecretPlaces {
        directories: credentials.into_iter().chain([own]).collect(),
        file: Some(table.file.unwrap_or_else(|| dir.join("secrets.toml"))),
    }
}

fn expand_home(path: &str, home: &Path) -> String {
    path.strip_prefix("~/").map_or_else(|| path.to_owned(), |rest| home.join(rest).to_string_lossy().into_owned())
}

fn read_settings(dir: &Path, problems: &mut Vec<Problem>) -> Result<SettingsFile, ConfigError> {
    let Some(text) = read_optional(&dir.join("spoolgate.toml"))? else { return Ok(SettingsFile::default()) };
    Ok(toml::from_str(&text).unwrap_or_else(|error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count().saturating_add(1));
        let wanted = "settings as in docs/configuration.md";
        problems.push(Problem::new(format!("spoolgate.toml:{line}"), error.message(), wanted));
        SettingsFile::default()
    }))
}

/// Returns the time zone that the settings name, whatever else is wrong; `None` where they name none that can be read.
#[must_use]
pub fn time_zone(dir: &Path) -> Option<Zone> {
    let text = read_optional(&dir.join("spoolgate.toml")).ok()??;
    let name = text.parse::<toml::Table>().ok()?.get("time_zone")?.as_str()?.to_owned();
    Zone::named(&name).ok()
}

fn read_zone(name: Option<&str>, problems: &mut Vec<Problem>) -> Zone {
    let Some(name) = name else { return Zone::system() };
    Zone::named(name).unwrap_or_else(|error| {
        problems.push(Problem::new("spoolgate.toml: time_zone", name, error.to_string()));
        Zone::utc()
    })
}

/// Reads a limit of connections, in seconds.
fn read_limit(name: &str, value: Option<u64>, problems: &mut Vec<Problem>) -> Option<Duration> {
    let seconds = value?;
    if !(1..=limits::SSH_LIMIT_S_MAX).contains(&seconds) {
        let wanted = format!("1 to {} seconds", limits::SSH_LIMIT_S_MAX);
        problems.push(Problem::new(format!("spoolgate.toml: ssh.{name}"), seconds.to_string(), wanted));
        return None;
    }
    Some(Duration::from_secs(seconds))
}

fn read_policy(dir: &Path, owner: u32, zone: &Zone, problems: &mut Vec<Problem>) -> Result<Policy, ConfigError> {
    let personal = Policy::Personal { owner };
    let Some(text) = read_optional(&dir.join("policy.toml"))? else { return Ok(personal) };
    Ok(Policy::parse("policy.toml", &text, zone).unwrap_or_else(|found| {
        problems.extend(found);
        personal
    }))
}

fn read_hooks(dir: &Path, problems: &mut Vec<Problem>) -> Result<Hooks, ConfigError> {
    let Some(text) = read_optional(&dir.join("hooks.toml"))? else { return Ok(Hooks::default()) };
    Ok(Hooks::parse("hooks.toml", &text).unwrap_or_else(|found| {
        problems.extend(found);
        Hooks::default()
    }))
}

/// Reads where HTTP is answered. A plain listener that others can reach is refused: it would show tokens to whoever
/// listens on the way.
fn read_http(table: HttpTable, problems: &mut Vec<Problem>) -> Http {
    let mut problem = |field: &str, found: &str, wanted: &str| {
        problems.push(Problem::new(format!("spoolgate.toml: [http] {field}"), found, wanted));
    };
    let tls = match (table.certificate, table.key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            problem("certificate", "one of certificate and key", "both, or none");
            None
        }
    };
    let mut listen = Vec::new();
    for word in table.listen.unwrap_or_default() {
        match word.parse::<SocketAddr>() {
            Ok(address) if !address.ip().is_loopback() && tls.is_none() => {
                problem("listen", &word, "an address of this machine alone (127.0.0.1:8082), or certificate and key");
            }
            Ok(address) => listen.push(address),
            Err(_) => problem("listen", &word, "an address and a port, such as 127.0.0.1:8082"),
        }
    }
    if listen.is_empty() && table.socket.is_none() {
        problem(
            "listen",
            "nowhere to listen",
            "listen = [\"127.0.0.1:8082\"] or socket = \"/run/spoolgate/http.sock\"",
        );
    }
    if let Some(url) =
        table.callback.as_ref().filter(|url| !["http://", "https://"].iter().any(|begin| url.starts_with(begin)))
    {
        problem("callback", url, "the address that hosts reach this at: https://ops.example.com:8443");
    }
    let (all, each) = (table.connections.unwrap_or(limits::CONNECTIONS), table.connections_per_peer);
    let each = each.unwrap_or(limits::CONNECTIONS_PER_PEER);
    for (field, count) in [("connections", all), ("connections_per_peer", each)] {
        if !(1..=limits::CONNECTIONS_MAX).contains(&count) {
            problem(field, &count.to_string(), "a number from 1 to 10000");
        }
    }
    let names =
        table.names.unwrap_or_default().into_iter().chain(table.callback.as_deref().and_then(host_of)).collect();
    let (socket, callback) = (table.socket, table.callback);
    Http { listen, socket, tls, connections: all, connections_per_peer: each, names, callback }
}

/// Returns the host of an address such as `https://ops.example.com:8443/`.
fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?', '#']).next().map(str::to_owned)
}

fn read_catalogue(dir: &Path, problems: &mut Vec<Problem>) -> Result<Catalogue, ConfigError> {
    let folder = dir.join("templates");
    let files = read_dir(&folder, &["toml"])?;
    let scripts = texts_beside(&folder)?;
    let mut templates = Vec::new();
    for (name, text) in &files {
        match Template::parse(name, text, &scripts) {
            Ok(template) => templates.push(template),
            Err(found) => problems.extend(found),
        }
    }
    Ok(Catalogue::assemble(templates).unwrap_or_else(|found| {
        problems.extend(found);
        Catalogue::default()
    }))
}

/// Reads what the templates of a folder may name: the scripts and templates of files in it, and every text in its folders.
///
/// # Errors
/// When a folder, or a file beside the templates, cannot be read.
pub fn texts_beside(folder: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut texts = read_dir(folder, &["sh", "py", "pl", "rb", "bash", "yml", "yaml", "j2"])?;
    for inner in folders_in(folder) {
        for entry in inner.read_dir().into_iter().flatten().filter_map(Result::ok) {
            let (path, hidden) = (entry.path(), entry.file_name().as_encoded_bytes().starts_with(b"."));
            let name = path.strip_prefix(folder).ok().and_then(Path::to_str).map(str::to_owned);
            let small =
                path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= limits::STRING_BYTES_MAX as u64);
            // What is no text is named by nobody.
            if let (Some(name), true, Ok(text)) = (name, small && !hidden, std::fs::read_to_string(&path)) {
                texts.insert(name, text);
            }
        }
    }
    Ok(texts)
}

/// Returns the folders beneath a folder; links are not followed.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let inner = |folder: &Path| {
        let entries = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut all = inner(folder);
    let mut next = 0;
    while let Some(found) = all.get(next) {
        let deeper = inner(found);
        all.extend(deeper);
        next = next.saturating_add(1);
    }
    all
}

fn read_known_hosts(dir: &Path, named: Option<&Path>, home: &Path) -> Result<KnownHosts, ConfigError> {
    let own = dir.join("known_hosts");
    let text = match named {
        Some(path) => Some(read_text(path)?),
        None => match read_optional(&own)? {
            Some(text) => Some(text),
            None => read_optional(&home.join(".ssh/known_hosts"))?,
        },
    };
    Ok(text.map_or_else(KnownHosts::default, |text| parse_known_hosts(&text)))
}

/// Reads host keys, or returns those of the last time if they are the same: which hashed names they hold was paid for then.
fn parse_known_hosts(text: &str) -> KnownHosts {
    static LAST: Mutex<Option<(String, KnownHosts)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((same, known)) if *same == text => known.clone(),
        _ => last.insert((text.to_owned(), KnownHosts::parse(text))).1.clone(),
    }
}

/// Reads the files of a folder with one of the endings, by name; none when there is no folder.
fn read_dir(dir: &Path, endings: &[&str]) -> Result<BTreeMap<String, String>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let name = path.file_name().and_then(|name| name.to_str());
        if let (Some(ending), Some(name)) = (ending, name)
            && endings.contains(&ending)
            && !name.starts_with('.')
        {
            files.insert(name.to_owned(), read_text(&path)?);
        }
    }
    Ok(files)
}

fn read_optional(path: &Path) -> Result<Option<String>, ConfigError> {
    match read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_zone_is_known_though_the_rest_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(time_zone(dir.path()), None);
        for (text, want) in [
            ("time_zone = \"Asia/Shanghai\"\nhost_in_flight = 3\n", Some("Asia/Shanghai")),
            ("time_zone = \"Mars/Olympus\"\n", None),
            ("time_zone = \n", None),
        ] {
            std::fs::write(dir.path().join("spoolgate.toml"), text).unwrap();
            assert_eq!(time_zone(dir.path()).as_ref().map(Zone::name), want, "{text}");
        }
    }
}
