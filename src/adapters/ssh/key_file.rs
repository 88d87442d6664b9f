//! What a private key file is, before the library sees it. Floor 3.
//!
//! **Invariant:** reads only. Asked about first, because the library asks the terminal for the passphrase of a key that it was
//! given none for.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How much of a key file is read; keys are a few kilobytes.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// Says whether a key file wants a passphrase.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_encrypted(path: &Path) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(KEY_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(wants_passphrase(&String::from_utf8_lossy(&bytes)))
}

/// The kinds there are: PKCS #8 says it in its first line, the older PEM in a header, OpenSSH's own form by its cipher.
fn wants_passphrase(text: &str) -> bool {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return true;
    }
    let Some((_, body)) = text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----") else { return false };
    // The cipher's name stands in the first line.
    let start: String = body.chars().filter(|c| !c.is_ascii_whitespace()).take(64).collect();
    let Ok(bytes) = STANDARD.decode(start) else { return false };
    let cipher = bytes.strip_prefix(b"openssh-key-v1\0").and_then(|rest| rest.split_first_chunk::<4>());
    cipher.is_some_and(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        rest.get(..length).is_some_and(|name| name != b"none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_keys_are_told_apart() {
        // How ssh-keygen's files begin.
        let plain = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQ==\n";
        let locked = "b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDzGKTgxv\nQyNTUxOQ==\n";
        let openssh =
            |body: &str| format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}-----END OPENSSH PRIVATE KEY-----\n");
        assert!(!wants_passphrase(&openssh(plain)));
        assert!(wants_passphrase(&openssh(locked)));
        assert!(wants_passphrase("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIJ\n"));
        assert!(wants_passphrase(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n"
        ));
        for other in ["", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n", &openssh("****"), &openssh("AAAA")] {
            assert!(!wants_passphrase(other), "{other}");
        }
    }
}
