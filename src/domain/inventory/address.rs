//! What may be connected to, and as whom. Floor 1.
//!
//! **Invariant:** pure. What passes is never taken for an option, a path or a user's part of an address.

use crate::base::ids::HostName;

/// Checks what would be connected to; an address is never a command-line option or a path.
pub(in crate::domain) fn check_address(address: &str) -> Result<(), String> {
    let rule = "an address: letters, digits and . _ - only, first a letter or digit, or an IPv6 address";
    // An address may be `::1`, which begins like no name.
    if address.parse::<core::net::Ipv6Addr>().is_ok() {
        return Ok(());
    }
    // What a name may hold that stands for a host without a port.
    match address.split_once(':') {
        None if address.parse::<HostName>().is_ok() => Ok(()),
        Some((host, port)) if !host.is_empty() && !port.is_empty() && !port.contains(':') => {
            Err("an address without a port: the port has a place of its own".to_owned())
        }
        _ => Err(rule.to_owned()),
    }
}

/// Checks a login name; directory services allow more in it than `useradd`.
pub(in crate::domain) fn check_user(user: &str) -> Result<(), String> {
    let odd = |c: char| c.is_whitespace() || crate::base::text::is_hidden(c) || matches!(c, '/' | ':');
    if user.is_empty() || user.starts_with('-') || user.contains(odd) {
        Err("a login name without spaces, / and :, not beginning with -".to_owned())
    } else {
        Ok(())
    }
}
