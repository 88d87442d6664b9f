//! Commands that connections go through, as `ssh_config` writes them: `nc -X connect -x proxy:3128 %h %p`. Floor 1.
//!
//! **Invariant:** pure. A command stands in configuration and never in a task; what is put into it is made of characters that
//! no shell reads as more than a word.

use crate::base::text::is_hidden;

/// How long a command may be, in bytes.
const COMMAND_BYTES_MAX: usize = 4096;

/// What stands for `%h`, `%p`, `%r` and `%n`.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The address to connect to.
    pub address: &'a str,
    /// The port.
    pub port: u16,
    /// The user to log in as.
    pub user: &'a str,
    /// What the host is called.
    pub name: &'a str,
}

/// Checks a command before it is filled in.
///
/// # Errors
/// What would have been right.
pub fn check(command: &str) -> Result<(), String> {
    if command.trim().is_empty() || command.len() > COMMAND_BYTES_MAX || command.contains(is_hidden) {
        return Err(format!("a command of one line, at most {COMMAND_BYTES_MAX} bytes, without control characters"));
    }
    let none = Values { address: "h", port: 22, user: "u", name: "h" };
    fill(command, &none).map(|_| ())
}

/// Fills a command in for one host.
///
/// # Errors
/// What would have been right.
pub fn fill(command: &str, values: &Values<'_>) -> Result<String, String> {
    let mut filled = String::with_capacity(command.len().saturating_add(32));
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            filled.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => filled.push('%'),
            Some('h') => filled.push_str(word(values.address)?),
            Some('n') => filled.push_str(word(values.name)?),
            Some('r') => filled.push_str(word(values.user)?),
            Some('p') => filled.push_str(&values.port.to_string()),
            _ => return Err("%h, %p, %r, %n and %% alone behind a % of a ProxyCommand".to_owned()),
        }
    }
    Ok(filled)
}

/// Lets a value pass that is one word to every shell and no option, inside of quotes and outside.
fn word(value: &str) -> Result<&str, String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | ':' | '-' | '@');
    if value.is_empty() || value.starts_with('-') || !value.chars().all(plain) {
        return Err(format!("letters, digits and . _ : - @ in what a ProxyCommand is given, not {value}"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn filled(command: &str, user: &str, want: &str) {
        let values = Values { address: "10.0.0.1", port: 2222, user, name: "web1" };
        let shown = fill(command, &values).unwrap_or_else(|wanted| format!("wanted {wanted}"));
        assert_eq!(shown, want, "{command}");
    }

    #[test]
    fn what_is_put_into_a_command_is_one_word() {
        filled("nc -x p:1080 %h %p", "ops", "nc -x p:1080 10.0.0.1 2222");
        filled("a '%r' \"%n\" 100%%", "ops@corp", "a 'ops@corp' \"web1\" 100%");
        for user in ["$(id)", "a b", "a;b", "-oX", "a'b", "d\\u", ""] {
            filled(
                "a %r",
                user,
                &format!("wanted letters, digits and . _ : - @ in what a ProxyCommand is given, not {user}"),
            );
            filled("a %h", user, "a 10.0.0.1");
        }
        for bad in ["a %C", "a %", "a %%%"] {
            filled(bad, "ops", "wanted %h, %p, %r, %n and %% alone behind a % of a ProxyCommand");
        }
    }

    #[test]
    fn a_command_is_one_line() {
        assert!(check("corkscrew proxy 3128 %h %p").is_ok());
        for bad in ["", " ", "a\nb", "a\0", "a %T", &"x".repeat(5000)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
