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

/// What a private key file holds.
pub(super) struct KeyFile {
    /// Its text.
    pub(super) text: String,
    /// Whether it wants a passphrase.
    pub(super) encrypted: bool,
    /// The public key, as in a `.pub` file, where it stands beside the private one in the clear: to make it from that costs
    /// the library as much as to sign.
    pub(super) public: Option<String>,
}

/// Reads a private key file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(path: &Path) -> std::io::Result<KeyFile> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(KEY_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(KeyFile { encrypted: wants_passphrase(&text), public: public_of(&text), text })
}

/// Returns the public key of a file in OpenSSH's own form: a magic word; the names of cipher and key derivation, its options;
/// the number of keys; the public key, which begins with its kind.
/// (<https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key>)
fn public_of(text: &str) -> Option<String> {
    let body = text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----")?.1.split_once("-----END")?.0;
    let bytes = STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()?;
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    for _ in ["cipher", "derivation", "options"] {
        rest = string(rest)?.1;
    }
    let rest = rest.strip_prefix(&1_u32.to_be_bytes())?;
    let public = string(rest)?.0;
    let kind = std::str::from_utf8(string(public)?.0).ok()?;
    Some(format!("{kind} {}", STANDARD.encode(public)))
}

/// Takes a string off the front: its length, then its bytes.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
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
    fn the_public_key_is_the_one_that_ssh_keygen_wrote() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, passphrase) in [("ed25519", ""), ("ed25519", "secret"), ("rsa", ""), ("ecdsa", "secret")] {
            let path = dir.path().join(format!("{kind}{passphrase}"));
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-C", "", "-t", kind, "-N", passphrase, "-f"])
                .arg(&path)
                .status();
            assert!(made.unwrap().success());
            let key = read(&path).unwrap();
            let want = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            assert_eq!((key.public.as_deref(), key.encrypted), (Some(want.trim()), !passphrase.is_empty()), "{kind}");
            for length in 0..key.text.len() - 40 {
                assert_eq!(public_of(&key.text[..length]), None, "{length}");
            }
        }
    }

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
