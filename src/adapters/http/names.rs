//! Which names this server answers to, and who counts as one machine. Floor 3.
//!
//! **Invariant:** a page in somebody's browser reaches this server only under a name that its owner chose for it: any other name may
//! be one of the page's own that points here (DNS rebinding).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The names of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    names: BTreeSet<String>,
    addresses: Vec<IpAddr>,
}

impl Names {
    /// Returns the names of a server that listens on these addresses, and is called this.
    #[must_use]
    pub fn new(listen: &[SocketAddr], names: &[String]) -> Names {
        let names = names.iter().map(|name| plain(name).to_lowercase()).collect();
        Names { names, addresses: listen.iter().map(SocketAddr::ip).collect() }
    }

    /// Whether a request for this host (`name`, `name:port`, `[::1]:port`) is for this server.
    #[must_use]
    pub fn hold(&self, host: &str) -> bool {
        let name = plain(host).to_lowercase();
        let Ok(address) = name.parse::<IpAddr>() else { return name == "localhost" || self.names.contains(&name) };
        let address = address.to_canonical();
        let is_own = |own: &IpAddr| own.is_unspecified() || own.to_canonical() == address;
        address.is_loopback() || self.addresses.iter().any(is_own) || self.names.contains(&name)
    }
}

/// Returns a host without its port, brackets and last dot.
fn plain(host: &str) -> &str {
    let host = host.trim();
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    let name = match host.split_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// Returns who somebody at an address counts as: one machine is one, however many addresses it has.
#[must_use]
pub fn machine_of(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    let IpAddr::V6(long) = address else {
        return if address.is_loopback() { Ipv4Addr::LOCALHOST.into() } else { address };
    };
    match long.segments() {
        _ if long.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        [a, b, c, d, ..] => Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_to_its_own_names_and_addresses() {
        let listen = ["192.0.2.7:8443".parse().unwrap(), "[2001:db8::7]:8443".parse().unwrap()];
        let names = Names::new(&listen, &["Ops.example.com".to_owned(), "box:8443".to_owned()]);
        for own in [
            "localhost",
            "LOCALHOST:8082",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8082",
            "::1",
            "192.0.2.7",
            "192.0.2.7:8443",
            "[2001:db8::7]",
            "ops.example.com",
            "OPS.example.com.:8443",
            "box",
        ] {
            assert!(names.hold(own), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.8",
            "[2001:db8::8]:1",
            "ops.example.com.evil.example",
            "x@localhost",
            "localhost:80:80",
            "127.0.0.1:a",
            "ops.example.com/",
        ] {
            assert!(!names.hold(other), "{other}");
        }
        let any = Names::new(&["0.0.0.0:8443".parse().unwrap()], &[]);
        assert!(any.hold("192.0.2.9") && !any.hold("evil.example"));
    }

    #[test]
    fn a_machine_is_one_guesser() {
        for (address, want) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.255.3.9", "127.0.0.1"),
            ("::1", "127.0.0.1"),
            ("::ffff:127.0.0.9", "127.0.0.1"),
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("2001:db8:1:3::", "2001:db8:1:3::"),
        ] {
            assert_eq!(machine_of(address.parse().unwrap()).to_string(), want, "{address}");
        }
    }
}
