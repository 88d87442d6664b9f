//! What arguments for `ssh` say of the way to a host (`ansible_ssh_common_args` and its like). Floor 1.
//!
//! **Invariant:** pure. An option that would change which host is reached, as which user or with which key is refused, and
//! the refusal names where that is said instead; the short form of an option means what its keyword means.

use super::ini_words::split_words;
use super::jump::Jump;
use super::proxy_command;

/// `ssh_config` keywords that do not change which host is reached, as which user and with which key; they may stand
/// in `ansible_ssh_common_args` and its like, and have no effect. Host keys are checked whatever they say.
const HARMLESS: &[&str] = &[
    "addkeystoagent",
    "addressfamily",
    "batchmode",
    "checkhostip",
    "clearallforwardings",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "escapechar",
    "exitonforwardfailure",
    "forwardagent",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "globalknownhostsfile",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "hashknownhosts",
    "identitiesonly",
    "ipqos",
    "kbdinteractiveauthentication",
    "loglevel",
    "numberofpasswordprompts",
    "passwordauthentication",
    "preferredauthentications",
    "pubkeyauthentication",
    "rekeylimit",
    "requesttty",
    "serveralivecountmax",
    "serveraliveinterval",
    "stdinnull",
    "stricthostkeychecking",
    "tcpkeepalive",
    "updatehostkeys",
    "userknownhostsfile",
    "verifyhostkeydns",
    "visualhostkey",
];

/// Short options that mean one of those keywords: without a word behind them, and with one.
const HARMLESS_FLAGS: &str = "46aACkKMnqtTvxXyY";
const HARMLESS_WITH_WORD: &str = "eES";

/// Where something is said that arguments for `ssh` may not say: the keyword, its short option, the place.
const INSTEAD: &[(&str, char, &str)] = &[
    ("identityfile", 'i', "ansible_private_key_file with the path of the key"),
    ("user", 'l', "ansible_user with the login name"),
    ("port", 'p', "ansible_port with the port"),
    ("hostname", ' ', "ansible_host with the address"),
    ("hostkeyalias", ' ', "the host's key under its own name or address in known_hosts"),
    ("identityagent", ' ', "agent = true in [ssh] of spoolgate.toml: the agent of the daemon's environment"),
    ("include", 'F', "these options in the files that the daemon's OpenSSH reads, with ssh_config in spoolgate.toml"),
    ("localforward", 'L', "no forwarding: steps run on the host itself"),
    ("remoteforward", 'R', "no forwarding: steps run on the host itself"),
    ("dynamicforward", 'D', "no forwarding: steps run on the host itself"),
    ("forwardstdio", 'W', "-J with the hops, or ProxyCommand"),
    ("ciphers", 'c', "no list of ciphers: spoolgate offers its own"),
    ("macs", 'm', "no list of MACs: spoolgate offers its own"),
];

/// What may stand in the arguments for `ssh`.
const WANTED: &str = "ProxyJump, -J, ProxyCommand with %h, %p, %r and %n, or options that change nothing";

/// What is refused, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) found: String,
    pub(super) wanted: &'static str,
}

/// Refuses something of which only its name is shown: what stands behind it may be secret.
fn refused(found: impl Into<String>) -> Refused {
    Refused { found: found.into(), wanted: WANTED }
}

fn refused_flag(flag: char) -> Refused {
    let instead = INSTEAD.iter().find(|(_, short, _)| *short == flag).map(|(_, _, wanted)| *wanted);
    Refused { found: format!("-{flag}"), wanted: instead.unwrap_or(WANTED) }
}

fn refused_keyword(keyword: &str) -> Refused {
    let known = |(name, ..): &&(&str, char, &str)| name.eq_ignore_ascii_case(keyword);
    let found = if keyword.is_empty() { "-o without an option".to_owned() } else { keyword.to_owned() };
    Refused { found, wanted: INSTEAD.iter().find(known).map_or(WANTED, |(_, _, wanted)| *wanted) }
}

/// How arguments for `ssh` lead to a host.
#[derive(Default)]
pub(super) struct Way {
    pub(super) jump: Vec<Jump>,
    pub(super) commands: Vec<String>,
    /// Whether they say anything about it, be it that there is no proxy.
    pub(super) said: bool,
}

impl Way {
    /// Reads arguments for `ssh`.
    ///
    /// # Errors
    /// The argument that would change how or whether the host is reached in another way.
    pub(super) fn read(&mut self, args: &str) -> Result<(), Refused> {
        let words = split_words(args).map_err(|wanted| refused(format!("quotes that lack {wanted}")))?;
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let Some(flags) = word.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
                return Err(refused("a word that is no option"));
            };
            for (at, flag) in flags.char_indices() {
                if HARMLESS_FLAGS.contains(flag) {
                    continue;
                }
                let rest = &flags[at.saturating_add(flag.len_utf8())..];
                // Whatever is left of the word belongs to an option that takes one, or the next word does.
                let mut value = || if rest.is_empty() { words.next().unwrap_or_default() } else { rest };
                match flag {
                    'J' => self.jump_through(value(), "-J")?,
                    'o' => self.read_option(value())?,
                    known if HARMLESS_WITH_WORD.contains(known) => drop(value()),
                    _ => return Err(refused_flag(flag)),
                }
                break;
            }
        }
        Ok(())
    }

    fn jump_through(&mut self, hops: &str, option: &str) -> Result<(), Refused> {
        self.said = true;
        self.jump.extend(Jump::parse_list(hops).map_err(|_| refused(format!("hops that are none behind {option}")))?);
        Ok(())
    }

    /// Reads what stands behind `-o`.
    fn read_option(&mut self, option: &str) -> Result<(), Refused> {
        let option = option.trim_start();
        let end = option.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(option.len());
        let (keyword, value) =
            (option[..end].trim(), option[end..].trim_start_matches(|c: char| c == '=' || c.is_whitespace()));
        match keyword.to_ascii_lowercase().as_str() {
            "proxyjump" | "proxycommand" if value.eq_ignore_ascii_case("none") => self.said = true,
            "proxyjump" => self.jump_through(value, "ProxyJump")?,
            "proxycommand" => {
                self.said = true;
                if let Some(hop) = Jump::of_proxy_command(&split_words(value).unwrap_or_default()) {
                    self.jump.push(hop);
                } else {
                    proxy_command::check(value).map_err(|_| refused("a ProxyCommand that cannot be filled in"))?;
                    self.commands.push(value.to_owned());
                }
            }
            known if HARMLESS.contains(&known) => {}
            _ => return Err(refused_keyword(keyword)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &str, want: &str) {
        let mut way = Way::default();
        let read = way.read(args);
        let mut shown = Vec::new();
        for hop in &way.jump {
            let user = hop.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
            let port = hop.port.map(|port| format!(":{port}")).unwrap_or_default();
            shown.push(format!("via {user}{}{port}", hop.host));
        }
        shown.extend(way.commands.iter().map(|command| format!("through [{command}]")));
        shown.extend(read.err().map(|refused| format!("| {}", refused.found)));
        assert_eq!(shown.join(" "), want, "{args}");
    }

    #[test]
    fn a_proxy_is_never_dropped_in_silence() {
        check("-o 'ProxyCommand ssh -W %h:%p user@gw -p 51006'", "via user@gw:51006");
        check("-o ProxyCommand=\"ssh -q -W %h:%p gw\"", "via gw");
        check("-oproxyjump=gw", "via gw");
        check("-J a,ops@b:23", "via a via ops@b:23");
        check("-Jgw -qJother", "via gw via other");
        check("-o ProxyJump=none", "");
        check("-o 'ProxyCommand nc -x proxy %h %p'", "through [nc -x proxy %h %p]");
        check("-o ProxyCommand='ssh -i key -W %h:%p gw'", "through [ssh -i key -W %h:%p gw]");
        check("-o ProxyCommand=none", "");
        check("-o 'ProxyCommand nc %X'", "| a ProxyCommand that cannot be filled in");
        check("-J gw -o 'ProxyCommand nc %h %p'", "via gw through [nc %h %p]");
        check("-J 'a b'", "| hops that are none behind -J");
        check("-o Port=23 -C", "| Port");
        check("-o 'x", "| quotes that lack a closing '");
        check("-o", "| -o without an option");
        check("secret", "| a word that is no option");
        check("-C -o ControlMaster=auto -o 'ControlPersist 60s' -oStrictHostKeyChecking=no", "");
    }

    #[test]
    fn a_short_option_is_taken_as_its_keyword_is() {
        for (short, keyword) in [
            ("-4", "AddressFamily=inet"),
            ("-6", "AddressFamily=inet6"),
            ("-A", "ForwardAgent=yes"),
            ("-a", "ForwardAgent=no"),
            ("-C", "Compression=yes"),
            ("-M", "ControlMaster=yes"),
            ("-S /tmp/x", "ControlPath=/tmp/x"),
            ("-e none", "EscapeChar=none"),
            ("-K", "GSSAPIDelegateCredentials=yes"),
            ("-n", "StdinNull=yes"),
            ("-q", "LogLevel=QUIET"),
            ("-tt", "RequestTTY=force"),
            ("-X", "ForwardX11=yes"),
            ("-Y", "ForwardX11Trusted=yes"),
        ] {
            check(short, "");
            check(&format!("-o {keyword}"), "");
        }
        for (short, keyword) in [
            ("-i /secret", "IdentityFile=/secret"),
            ("-l secret", "User=secret"),
            ("-lsecret", "User=secret"),
            ("-Ai/secret", "IdentityFile /secret"),
            ("-p 2222", "Port=2222"),
            ("-L 1:secret:2", "LocalForward=1 secret:2"),
            ("-D 1", "DynamicForward=1"),
            ("-c secret", "Ciphers=secret"),
        ] {
            let of = |args: &str| Way::default().read(args).expect_err(args);
            let (flag, word) = (of(short), of(&format!("-o '{keyword}'")));
            assert_eq!(flag.wanted, word.wanted, "{short}");
            assert_ne!(flag.wanted, WANTED, "{short} names a way out");
            assert!(!format!("{flag:?} {word:?}").contains("secret"), "{flag:?} {word:?}");
        }
        assert!(refused_flag('i').wanted.contains("ansible_private_key_file"));
        assert_eq!(refused_keyword("BindAddress").wanted, WANTED);
    }
}
