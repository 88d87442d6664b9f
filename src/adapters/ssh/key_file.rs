//! What a private key file is, before the library sees it. Floor 3.
//!
//! **Invariant:** reads only, and says what stands in the way before any host is asked: the library tells one bad file from
//! another in no words, and asks the terminal for the passphrase of a key that it was given none for.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// How much of a key file is read; keys are a few kilobytes.
const KEY_BYTES_MAX: u64 = 64 << 10;
/// How a file in OpenSSH's own form begins, decoded.
const OPENSSH: &[u8] = b"openssh-key-v1\0";
/// The forms of private keys, as the line before them calls them, and whether the library reads them.
const FORMS: &[(&str, bool)] = &[
    ("OPENSSH PRIVATE KEY", true),
    ("RSA PRIVATE KEY", true),
    ("EC PRIVATE KEY", true),
    ("PRIVATE KEY", true),
    ("ENCRYPTED PRIVATE KEY", true),
    ("DSA PRIVATE KEY", false),
];

/// What a private key file holds.
pub struct KeyFile {
    /// Its text.
    pub(super) text: String,
    /// Whether it wants a passphrase.
    pub encrypted: bool,
    /// The public key, as in a `.pub` file, where it stands beside the private one in the clear.
    pub(super) public: Option<String>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing of a private key is ever shown.
        f.debug_struct("KeyFile").field("encrypted", &self.encrypted).finish_non_exhaustive()
    }
}

/// Why a file is no private key that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// There is none.
    #[error("there is no such file")]
    Missing,
    /// It is there, and this process may not read it.
    #[error("this account cannot read it ({0}); make it readable for the account that spoolgate runs as")]
    Unreadable(std::io::Error),
    /// It holds something else.
    #[error("it is {found}; wanted {wanted}")]
    Wrong {
        /// What it holds.
        found: String,
        /// What it should hold.
        wanted: String,
    },
}

impl Unfit {
    fn wrong(found: impl Into<String>, wanted: impl Into<String>) -> Unfit {
        Unfit::Wrong { found: found.into(), wanted: wanted.into() }
    }
}

/// Reads a private key file.
///
/// # Errors
/// When it cannot be read, or holds no private key that the library could use.
pub fn read(path: &Path) -> Result<KeyFile, Unfit> {
    let bytes = bytes_of(path)?;
    let text = text_of(bytes)?;
    judge(path, &text)?;
    Ok(KeyFile { encrypted: wants_passphrase(&text), public: public_of(&text), text })
}

/// Reads a certificate of a user's key, as the protocol sends it.
///
/// # Errors
/// As [`read`].
pub fn certificate(path: &Path) -> Result<Vec<u8>, Unfit> {
    let text = text_of(bytes_of(path)?)?;
    let kind = text.split_ascii_whitespace().next().unwrap_or_default();
    let wanted = "a certificate as ssh-keygen -s writes it (…-cert.pub)";
    if kind.ends_with("-cert-v01@openssh.com") && text.starts_with(kind) {
        return blob(&text).ok_or_else(|| Unfit::wrong("a certificate that is damaged", wanted));
    }
    let found = if text.contains("PRIVATE KEY") { "a private key" } else { "no certificate" };
    Err(Unfit::wrong(found, wanted))
}

/// Returns the public half that stands beside a key file, as the protocol sends it.
pub(super) fn public_beside(key: &Path) -> Option<Vec<u8>> {
    let text = text_of(bytes_of(&beside(key, ".pub")).ok()?).ok()?;
    blob(&text)
}

/// Returns the path of what belongs to a key file.
#[must_use]
pub fn beside(key: &Path, ending: &str) -> PathBuf {
    key.with_file_name(format!("{}{ending}", key.file_name().unwrap_or_default().to_string_lossy()))
}

/// Returns a public key out of the text of a `.pub` file, as the protocol sends it.
pub(super) fn blob(public: &str) -> Option<Vec<u8>> {
    STANDARD.decode(public.split_ascii_whitespace().nth(1)?).ok()
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Unfit> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Unfit::Missing,
        _ => Unfit::Unreadable(error),
    };
    // Nobody writes into a pipe or a device that stands in a key's place.
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        let found = if meta.is_dir() { "a directory" } else { "no plain file" };
        return Err(Unfit::wrong(found, "a private key file"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(KEY_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > KEY_BYTES_MAX {
        return Err(Unfit::wrong("larger than 64 KiB", "a private key file, which has some kilobytes"));
    }
    Ok(bytes)
}

/// Returns the text of a file, where it is one that programs of the field read.
pub(crate) fn text_of(bytes: Vec<u8>) -> Result<String, Unfit> {
    let again = "the file as ssh-keygen wrote it: save it as plain text (UTF-8) without a byte order mark";
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(Unfit::wrong("text behind a byte order mark (BOM)", again));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Unfit::wrong("text in UTF-16", again));
    }
    if bytes.trim_ascii().is_empty() {
        return Err(Unfit::wrong("empty", "a private key"));
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(Unfit::wrong("no text", "a private key in OpenSSH's form or PEM")),
    }
}

/// Says what is wrong with the text of a key file.
pub(crate) fn judge(path: &Path, text: &str) -> Result<(), Unfit> {
    const BEGIN: &str = "-----BEGIN ";
    let text = &text.replace("\r\n", "\n");
    if let Some(found) = something_else(text) {
        return Err(other_half(path, found));
    }
    let Some(at) = text.find(BEGIN) else {
        return Err(Unfit::wrong("no private key", "a file with a line -----BEGIN … PRIVATE KEY-----"));
    };
    let before = text[..at].rsplit('\n').next().unwrap_or_default();
    if !before.is_empty() {
        let found =
            if before.trim().is_empty() { "a key with indented lines" } else { "a key that begins within a line" };
        return Err(Unfit::wrong(found, "each of its lines at the beginning of the line, as ssh-keygen wrote it"));
    }
    let (head, body) = text[at..].split_once('\n').unwrap_or((&text[at..], ""));
    let Some(form) = head.strip_prefix(BEGIN).and_then(|head| head.strip_suffix("-----")) else {
        return Err(Unfit::wrong(
            "a key whose first line does not end with five dashes",
            "the line as ssh-keygen wrote it, with nothing behind it",
        ));
    };
    match FORMS.iter().find(|(name, _)| *name == form) {
        Some((_, true)) => {}
        Some((_, false)) => {
            return Err(Unfit::wrong("a DSA key, which no sshd takes any more", "an ed25519 or RSA key"));
        }
        None if form.contains("PUBLIC KEY") => return Err(other_half(path, "a public key")),
        None => return Err(Unfit::wrong(format!("a {form}"), "a private key (-----BEGIN … PRIVATE KEY-----)")),
    }
    let cut = || Unfit::wrong("a key whose end is missing", "the whole file: it ends with -----END … PRIVATE KEY-----");
    let (body, _) = body.split_once(&format!("-----END {form}-----")).ok_or_else(cut)?;
    if body.lines().any(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty()) {
        return Err(Unfit::wrong("a key with indented lines", "each of its lines at the beginning of the line"));
    }
    judge_body(form, body)
}

/// Says what else than a private key a text is.
fn something_else(text: &str) -> Option<&'static str> {
    let kind = text.split_ascii_whitespace().next().unwrap_or_default();
    if kind.ends_with("-cert-v01@openssh.com") {
        return Some("a certificate");
    }
    let public = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|begin| kind.starts_with(begin));
    if public || text.starts_with("---- BEGIN SSH2 PUBLIC KEY") {
        return Some("a public key");
    }
    if kind.starts_with("PuTTY-User-Key-File") {
        return Some("a key in PuTTY's form");
    }
    text.starts_with("SSH PRIVATE KEY FILE FORMAT 1.1").then_some("a key of the first version of SSH")
}

/// Names what should have been given in the place of another file.
fn other_half(path: &Path, found: &str) -> Unfit {
    let wanted =
        match (found, path.to_string_lossy().strip_suffix("-cert.pub").or(path.to_string_lossy().strip_suffix(".pub")))
        {
            ("a key in PuTTY's form", _) => "OpenSSH's form: puttygen FILE -O private-openssh -o NEW".to_owned(),
            ("a key of the first version of SSH", _) => "an ed25519 or RSA key".to_owned(),
            (_, Some(private)) => format!("the private key, probably {private}"),
            _ => "the private key".to_owned(),
        };
    Unfit::wrong(found, wanted)
}

/// Says what is wrong with what stands between the first and the last line.
fn judge_body(form: &str, body: &str) -> Result<(), Unfit> {
    // The older PEM has headers, and says there that what follows is encrypted.
    let (headers, encoded) =
        if body.contains(':') { body.split_once("\n\n").unwrap_or((body, "")) } else { ("", body) };
    let encoded: String = encoded.split_ascii_whitespace().collect();
    let damaged = || {
        let wanted = "the file as ssh-keygen wrote it: copy it again";
        Unfit::wrong("a key that is damaged or was cut", wanted)
    };
    let bytes = STANDARD.decode(&encoded).or_else(|_| STANDARD_NO_PAD.decode(&encoded)).map_err(|_| damaged())?;
    let whole = match form {
        "OPENSSH PRIVATE KEY" => {
            let kind = openssh_kind(&bytes).ok_or_else(damaged)?;
            if kind.starts_with("sk-") {
                return Err(Unfit::wrong(
                    "a key that lives in a hardware token",
                    "that key in the agent (ssh-add), or a key that a program can use alone",
                ));
            }
            true
        }
        _ if headers.contains("ENCRYPTED") => !bytes.is_empty(),
        _ => is_one_value(&bytes),
    };
    if whole { Ok(()) } else { Err(damaged()) }
}

/// Whether bytes are one value of ASN.1 (a sequence), from its first to its last byte.
fn is_one_value(bytes: &[u8]) -> bool {
    let Some(([0x30, first], rest)) = bytes.split_first_chunk::<2>() else { return false };
    let length = match first {
        short @ 0..=0x7f => Some((usize::from(*short), rest)),
        0x81..=0x84 => rest
            .split_at_checked(usize::from(first.saturating_sub(0x80)))
            .map(|(length, rest)| (length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)), rest)),
        _ => None,
    };
    length.is_some_and(|(length, rest)| rest.len() == length)
}

/// What OpenSSH's own form holds: a magic word; the names of cipher and key derivation, its options; the number of keys; the
/// public key, which begins with its kind; the private one; behind it what authenticates it, with some ciphers.
/// (<https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key>)
pub(super) struct OpenSsh<'a> {
    pub(super) cipher: &'a [u8],
    /// How a passphrase becomes a key.
    pub(super) derivation: &'a [u8],
    /// What that wants to know.
    pub(super) options: &'a [u8],
    public: &'a [u8],
    pub(super) private: &'a [u8],
    /// What is left behind the private part.
    pub(super) behind: &'a [u8],
}

impl OpenSsh<'_> {
    pub(super) fn parse(bytes: &[u8]) -> Option<OpenSsh<'_>> {
        let (cipher, rest) = string(bytes.strip_prefix(OPENSSH)?)?;
        let (derivation, rest) = string(rest)?;
        let (options, rest) = string(rest)?;
        let rest = rest.strip_prefix(&1_u32.to_be_bytes())?;
        let (public, rest) = string(rest)?;
        let (private, behind) = string(rest)?;
        (!private.is_empty()).then_some(OpenSsh { cipher, derivation, options, public, private, behind })
    }
}

/// Returns the kind of key in a whole file of OpenSSH's own form.
fn openssh_kind(bytes: &[u8]) -> Option<String> {
    let file = OpenSsh::parse(bytes)?;
    // The authentication tag of AEAD ciphers has sixteen bytes.
    let aead = [&b"aes128-gcm@openssh.com"[..], b"aes256-gcm@openssh.com", b"chacha20-poly1305@openssh.com"];
    let tag = if aead.contains(&file.cipher) { 16 } else { 0 };
    let kind = string(file.public)?.0;
    (file.behind.len() == tag).then(|| String::from_utf8_lossy(kind).into_owned())
}

/// Returns the public key of a file in OpenSSH's own form.
fn public_of(text: &str) -> Option<String> {
    let body = text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----")?.1.split_once("-----END")?.0;
    let bytes = STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()?;
    let public = OpenSsh::parse(&bytes)?.public;
    let kind = std::str::from_utf8(string(public)?.0).ok()?;
    Some(format!("{kind} {}", STANDARD.encode(public)))
}

/// Takes a string off the front: its length, then its bytes.
pub(super) fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
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
    let cipher = bytes.strip_prefix(OPENSSH).and_then(|rest| rest.split_first_chunk::<4>());
    cipher.is_some_and(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        rest.get(..length).is_some_and(|name| name != b"none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keygen(path: &Path, options: &[&str], passphrase: &str) {
        let mut command = std::process::Command::new("ssh-keygen");
        let made = command.args(["-q", "-C", "", "-N", passphrase]).args(options).arg("-f").arg(path).status();
        assert!(made.unwrap().success(), "{options:?}");
    }

    #[test]
    fn the_public_key_is_the_one_that_ssh_keygen_wrote() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, passphrase) in [("ed25519", ""), ("ed25519", "secret"), ("rsa", ""), ("ecdsa", "secret")] {
            let path = dir.path().join(format!("{kind}{passphrase}"));
            keygen(&path, &["-t", kind], passphrase);
            let key = read(&path).unwrap();
            let want = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            assert_eq!((key.public.as_deref(), key.encrypted), (Some(want.trim()), !passphrase.is_empty()), "{kind}");
            assert_eq!(public_beside(&path), key.public.as_deref().and_then(blob));
            for length in 0..key.text.len() - 40 {
                assert_eq!(public_of(&key.text[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn whole_keys_of_every_form_are_taken_and_none_that_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let forms: &[&[&str]] = &[
            &["-t", "ed25519"],
            &["-t", "ecdsa", "-b", "384"],
            &["-t", "rsa", "-b", "2048"],
            &["-t", "rsa", "-b", "2048", "-m", "PEM"],
            &["-t", "ecdsa", "-m", "PEM"],
            &["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
            &["-t", "ed25519", "-Z", "aes256-gcm@openssh.com"],
        ];
        for (n, form) in forms.iter().enumerate() {
            for passphrase in ["", "a passphrase"] {
                let path = dir.path().join(format!("key{n}{}", passphrase.len()));
                keygen(&path, form, passphrase);
                let key = read(&path).unwrap_or_else(|error| panic!("{form:?} {passphrase}: {error}"));
                assert_eq!(key.encrypted, !passphrase.is_empty(), "{form:?}");
                // The older PEM says nothing of how long what it encrypts is.
                let blind = !passphrase.is_empty() && form.contains(&"PEM");
                let lines: Vec<&str> = key.text.lines().collect();
                for gone in 0..lines.len() {
                    let rest = lines.iter().enumerate().filter(|(n, _)| *n != gone).map(|(_, line)| *line);
                    let rest = rest.collect::<Vec<_>>().join("\n");
                    assert!(judge(&path, &rest).is_err() || blind, "{form:?} without line {gone}");
                }
                for length in (0..key.text.len() - 2).step_by(7) {
                    assert!(judge(&path, &key.text[..length]).is_err(), "{form:?} cut at {length}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_private_key_is_called_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        keygen(&path, &["-t", "ed25519"], "");
        let good = std::fs::read_to_string(&path).unwrap();
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        let indented: String = good.lines().map(|line| format!("  {line}\n")).collect();
        let inside = good.lines().enumerate().map(|(n, line)| format!("{}{line}\n", if n == 2 { " " } else { "" }));
        let utf16: Vec<u8> = [0xfeff].into_iter().chain(good.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let with = |text: &str| text.as_bytes().to_vec();
        for (bytes, want) in [
            (Vec::new(), "it is empty; wanted a private key"),
            (with(" \n\n"), "it is empty"),
            ([&b"\xef\xbb\xbf"[..], good.as_bytes()].concat(), "it is text behind a byte order mark (BOM)"),
            (utf16, "it is text in UTF-16"),
            (with(&indented), "it is a key with indented lines; wanted each of its lines at the beginning"),
            (with(&inside.collect::<String>()), "it is a key with indented lines"),
            (with(&public), "it is a public key; wanted the private key"),
            (with("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n"), "it is a public key"),
            (with("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "it is a public key"),
            (with("ssh-ed25519-cert-v01@openssh.com AAAA x\n"), "it is a certificate; wanted the private key"),
            (with(&good[..good.len() / 2]), "it is a key whose end is missing"),
            (with(&good.replacen("AAA", "A*A", 1)), "it is a key that is damaged or was cut"),
            (
                with("PuTTY-User-Key-File-3: ssh-ed25519\n"),
                "it is a key in PuTTY's form; wanted OpenSSH's form: puttygen",
            ),
            (
                with("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "it is a CERTIFICATE; wanted a private",
            ),
            (with("hello\n"), "it is no private key; wanted a file with a line -----BEGIN"),
            (with("\0\0\0"), "it is no text"),
            (vec![b'x'; 100_000], "it is larger than 64 KiB"),
        ] {
            let other = dir.path().join("other");
            std::fs::write(&other, &bytes).unwrap();
            let said = read(&other).map(|_| ()).unwrap_err().to_string();
            assert!(said.starts_with(want), "{said}; wanted {want}");
        }
        let said = read(&path.with_extension("pub")).unwrap_err().to_string();
        assert_eq!(said, format!("it is a public key; wanted the private key, probably {}", path.display()));
        assert_eq!(read(dir.path()).unwrap_err().to_string(), "it is a directory; wanted a private key file");
        assert_eq!(read(&dir.path().join("none")).unwrap_err().to_string(), "there is no such file");
        assert!(read(Path::new("/dev/zero")).is_err());
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
