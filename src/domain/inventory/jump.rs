//! Hosts on the way to a host, as people write them: `gw`, `ops@gw:2222`. Floor 1.
//!
//! **Invariant:** pure. A hop is a name or an address, never an option or a command.

use super::address::{check_address, check_user};

/// One host on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The user to log in as there; as the inventory says when `None`.
    pub user: Option<String>,
    /// The name or address of a host of the inventory, or an address that it does not hold.
    pub host: String,
    /// The port; as the inventory says when `None`.
    pub port: Option<u16>,
}

impl Jump {
    /// Reads `[user@]host[:port]`.
    ///
    /// # Errors
    /// What would have been right.
    pub(super) fn parse(text: &str) -> Result<Jump, String> {
        let text = text.trim();
        let text = text.strip_prefix("ssh://").unwrap_or(text);
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, text),
        };
        let (host, port) = match place.rsplit_once(':') {
            // `::1` has colons of its own.
            Some((host, port)) if !host.contains(':') => {
                let wanted = || "a port from 1 to 65535 after the colon".to_owned();
                (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(wanted)?))
            }
            _ => (place, None),
        };
        check_address(host)?;
        user.as_deref().map_or(Ok(()), check_user)?;
        Ok(Jump { user, host: host.to_owned(), port })
    }

    /// Reads hops in the order they are passed, with commas between them, as `ssh -J` takes them.
    pub(in crate::domain) fn parse_list(text: &str) -> Result<Vec<Jump>, String> {
        text.split(',').map(Jump::parse).collect()
    }

    /// Reads the one kind of `ProxyCommand` that is a hop: `ssh -W %h:%p [-p PORT] [-l USER] [USER@]HOST`.
    pub(super) fn of_proxy_command(words: &[String]) -> Option<Jump> {
        let mut words = words.iter().map(String::as_str);
        let program = words.next()?;
        if program != "ssh" && !program.ends_with("/ssh") {
            return None;
        }
        let (mut forwards, mut hop, mut port, mut user) = (false, None, None, None);
        while let Some(word) = words.next() {
            match word {
                "-W" => forwards = matches!(words.next()?, "%h:%p" | "[%h]:%p"),
                "-p" => port = Some(words.next()?.parse().ok().filter(|port: &u16| *port > 0)?),
                "-l" => user = Some(words.next()?.to_owned()),
                "-q" | "-T" | "-x" => {}
                // What else is said about the hop's connection changes who or what is reached.
                word if word.starts_with('-') || hop.is_some() => return None,
                word => hop = Some(Jump::parse(word).ok()?),
            }
        }
        let hop = hop.filter(|_| forwards)?;
        Some(Jump { user: hop.user.or(user), port: hop.port.or(port), host: hop.host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(jump: &Jump) -> String {
        let user = jump.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = jump.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{user}{}{port}", jump.host)
    }

    #[test]
    fn hops_are_read_as_people_write_them() {
        for good in ["gw", "ops@gw", "gw:2222", "ops@10.0.0.1:22", "::1"] {
            assert_eq!(Jump::parse(good).map(|jump| shown(&jump)).as_deref(), Ok(good));
        }
        for bad in ["", "-oProxyCommand=x", "gw:0", "gw:x", "@gw", "-x@gw", "a b", "gw;id"] {
            assert!(Jump::parse(bad).is_err(), "{bad}");
        }
        let list: Vec<String> = Jump::parse_list("a,ops@b:23").unwrap().iter().map(shown).collect();
        assert_eq!(list, ["a", "ops@b:23"]);
    }

    #[test]
    fn only_a_plain_forward_is_a_hop() {
        let read = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            Jump::of_proxy_command(&words).map(|jump| shown(&jump))
        };
        assert_eq!(read("ssh -W %h:%p user@gw -p 51006").as_deref(), Some("user@gw:51006"));
        assert_eq!(read("/usr/bin/ssh -q -l ops -W %h:%p gw").as_deref(), Some("ops@gw"));
        for other in ["nc -x proxy %h %p", "ssh gw nc %h %p", "ssh -W other:22 gw", "ssh -W %h:%p -i key gw", "ssh gw"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
