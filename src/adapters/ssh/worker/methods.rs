//! The methods of the protocol that the two sides have, and what they have not in common. Floor 3.
//!
//! **Invariant:** what a host offers is asked only after the library found no common ground, over one connection of its own on
//! which nothing but our name is said; it costs so many bytes and so long, whatever the host sends.

use std::time::Duration;

use ssh2::{MethodType, Session as Ssh2};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::adapters::ssh::workers::Destination;
use crate::base::text::visible;

/// The best first: those with ML-KEM, which whoever records a session today cannot read with a computer of tomorrow; then those
/// that cost least.
const KEX: &[&str] = &[
    "mlkem768x25519-sha256",
    "mlkem768nistp256-sha256",
    "mlkem1024nistp384-sha384",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group-exchange-sha256",
];
const CIPHERS: &[&str] = &[
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
    "aes192-ctr",
];
const MACS: &[&str] =
    &["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"];

/// How long a host may take to say what it offers.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How much it may say before its name, and how long that may be (RFC 4253, section 4.2 allows 255 bytes).
const GREETING_BYTES_MAX: usize = 8 << 10;
/// The largest packet of a host that is read (RFC 4253, section 6.1).
const PACKET_BYTES_MAX: usize = 35_000;
/// The number of the packet that holds the lists (`SSH_MSG_KEXINIT`).
const KEXINIT: u8 = 20;
/// How much of a list is shown, in characters.
const LIST_CHARS_MAX: usize = 400;

/// The methods of one side, the best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Methods {
    kex: Vec<String>,
    host_keys: Vec<String>,
    ciphers: Vec<String>,
    macs: Vec<String>,
}

impl Methods {
    /// Returns ours: of what the library can, what we want; host keys of the kinds that the host is known by.
    pub(super) fn ours(ssh: &Ssh2, to: &Destination) -> Result<Methods, ssh2::Error> {
        let known: Vec<&str> = kinds(to).into_iter().flat_map(signatures).collect();
        let of = |kind, wanted: &[&str]| -> Result<Vec<String>, ssh2::Error> {
            let supported = ssh.supported_algs(kind)?;
            Ok(wanted.iter().filter(|name| supported.contains(name)).map(ToString::to_string).collect())
        };
        Ok(Methods {
            kex: of(MethodType::Kex, KEX)?,
            host_keys: of(MethodType::HostKey, &known)?,
            ciphers: of(MethodType::CryptCs, CIPHERS)?,
            macs: of(MethodType::MacCs, MACS)?,
        })
    }

    /// Has the library offer them.
    pub(super) fn prefer(&self, ssh: &Ssh2) -> Result<(), ssh2::Error> {
        ssh.method_pref(MethodType::Kex, &self.kex.join(","))?;
        for kind in [MethodType::CryptCs, MethodType::CryptSc] {
            ssh.method_pref(kind, &self.ciphers.join(","))?;
        }
        for kind in [MethodType::MacCs, MethodType::MacSc] {
            ssh.method_pref(kind, &self.macs.join(","))?;
        }
        if self.host_keys.is_empty() { Ok(()) } else { ssh.method_pref(MethodType::HostKey, &self.host_keys.join(",")) }
    }

    /// Reads them out of the packet in which a host offers them.
    fn parse(packet: &[u8]) -> Option<Methods> {
        // Behind its number stand sixteen random bytes.
        let mut rest = packet.strip_prefix(&[KEXINIT])?.get(16..)?;
        let mut list = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (names, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            rest = after;
            let names = String::from_utf8_lossy(names);
            Some(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>())
        };
        let (kex, host_keys) = (list()?, list()?);
        let (ciphers, ciphers_back) = (list()?, list()?);
        let (macs, macs_back) = (list()?, list()?);
        Some(Methods { kex, host_keys, ciphers: both(ciphers, &ciphers_back), macs: both(macs, &macs_back) })
    }

    /// Says what these and a host's have not in common, and where that is changed; nothing where they fit.
    pub(super) fn misfits(&self, host: &Methods, to: &Destination) -> Option<String> {
        let mut misfits = Vec::new();
        if common(&self.kex, &host.kex).is_none() {
            misfits.push(misfit("key exchange", &host.kex, &self.kex, "KexAlgorithms"));
        }
        if !self.host_keys.is_empty() && common(&self.host_keys, &host.host_keys).is_none() {
            misfits.push(if host.host_keys.iter().any(|name| name == "ssh-rsa") && kinds(to).contains(&"ssh-rsa") {
                "it signs with its RSA key by SHA-1 alone (ssh-rsa), which nobody should believe any more; update its sshd, \
                 or give it an ed25519 key and put that into known_hosts"
                    .to_owned()
            } else {
                format!(
                "it is known by {}, and offers only {}; if its keys were replaced rightly, put a new one into known_hosts \
                 (ssh-keyscan -p {} {}) and approve again",
                kinds(to).join(" or "),
                list(&host.host_keys),
                to.port,
                to.address
                )
            });
        }
        match common(&self.ciphers, &host.ciphers) {
            None => misfits.push(misfit("cipher", &host.ciphers, &self.ciphers, "Ciphers")),
            // The others bring their own.
            Some(cipher) if cipher.ends_with("-ctr") && common(&self.macs, &host.macs).is_none() => {
                misfits.push(misfit("MAC", &host.macs, &self.macs, "MACs"));
            }
            Some(_) => {}
        }
        (!misfits.is_empty()).then(|| misfits.join("; "))
    }
}

/// Returns the kinds of keys that a host is known by, each once.
fn kinds(to: &Destination) -> Vec<&str> {
    let mut kinds: Vec<&str> = to.host_keys.iter().filter_map(|key| key.split(' ').next()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Returns the signature algorithms that a kind of host key can answer with: RSA keys sign with SHA-2 nowadays.
fn signatures(algorithm: &str) -> Vec<&str> {
    match algorithm {
        "ssh-rsa" => vec!["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"],
        other => vec![other],
    }
}

/// Returns what a host has for both directions.
fn both(there: Vec<String>, back: &[String]) -> Vec<String> {
    there.into_iter().filter(|name| back.contains(name)).collect()
}

fn common<'a>(ours: &'a [String], theirs: &[String]) -> Option<&'a str> {
    ours.iter().find(|name| theirs.contains(name)).map(String::as_str)
}

fn misfit(what: &str, theirs: &[String], ours: &[String], setting: &str) -> String {
    format!(
        "no {what} in common: it offers {}; spoolgate has {}; allow one of these there ({setting} in its sshd_config)",
        list(theirs),
        list(ours)
    )
}

/// Writes names for people; those that say what a side understands beside its methods are none.
fn list(names: &[String]) -> String {
    let extension = |name: &&String| name.starts_with("ext-info-") || name.starts_with("kex-strict-");
    let names: Vec<&str> = names.iter().filter(|name| !extension(name)).map(String::as_str).collect();
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let shown = visible(&names.join(", "));
    match shown.char_indices().nth(LIST_CHARS_MAX) {
        Some((end, _)) => format!("{} …", &shown[..end]),
        None => shown,
    }
}

/// What a host answers when it is asked what it offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Its lists.
    Lists(Methods),
    /// It said its name, and hung up.
    Nothing,
}

/// Asks a host over a fresh connection what it offers; nothing when it does not say so in time.
pub(super) async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<Offer> {
    let asked = async {
        greet(&mut stream).await?;
        let length = match stream.read_u32().await {
            Ok(length) => usize::try_from(length).ok()?,
            Err(_) => return Some(Offer::Nothing),
        };
        let padding = usize::from(stream.read_u8().await.ok()?);
        let mut packet = vec![0; length.checked_sub(1).filter(|length| *length < PACKET_BYTES_MAX)?];
        stream.read_exact(&mut packet).await.ok()?;
        packet.truncate(packet.len().checked_sub(padding)?);
        Methods::parse(&packet).map(Offer::Lists)
    };
    timeout(ASK_LIMIT, asked).await.ok().flatten()
}

/// Exchanges names.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<()> {
    stream.write_all(b"SSH-2.0-spoolgate\r\n").await.ok()?;
    let mut line = Vec::new();
    for _ in 0..GREETING_BYTES_MAX {
        match stream.read_u8().await.ok()? {
            b'\n' if line.starts_with(b"SSH-") => return Some(()),
            // It may say something else before.
            b'\n' => line.clear(),
            byte => line.push(byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &str) -> Vec<String> {
        words.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn methods(kex: &str, host_keys: &str, ciphers: &str, macs: &str) -> Methods {
        Methods { kex: names(kex), host_keys: names(host_keys), ciphers: names(ciphers), macs: names(macs) }
    }

    fn destination(keys: &[&str]) -> Destination {
        Destination {
            place: "db1:2222".to_owned(),
            address: "db1".to_owned(),
            port: 2222,
            host_keys: keys.iter().map(|kind| format!("{kind} SHA256:x")).collect(),
            left_ms: 1000,
            limit_ms: 1000,
            keepalive_ms: 1000,
            tcp: true,
        }
    }

    #[test]
    fn what_is_not_in_common_is_named_with_both_sides_and_the_setting() {
        let ours = methods("a b", "ssh-ed25519", "x-gcm y-ctr", "m");
        let known = destination(&["ssh-ed25519"]);
        for (host, want) in [
            (methods("c b kex-strict-s-v00@openssh.com", "ssh-ed25519", "x-gcm", ""), None),
            (
                methods("c kex-strict-s-v00@openssh.com", "ssh-ed25519", "x-gcm", "m"),
                Some(
                    "no key exchange in common: it offers c; spoolgate has a, b; allow one of these there (KexAlgorithms in its sshd_config)",
                ),
            ),
            (
                methods("a", "rsa-sha2-512 ecdsa-sha2-nistp256", "x-gcm", "m"),
                Some(
                    "it is known by ssh-ed25519, and offers only rsa-sha2-512, ecdsa-sha2-nistp256; if its keys were replaced rightly, put a new one into known_hosts (ssh-keyscan -p 2222 db1) and approve again",
                ),
            ),
            (
                methods("a", "ssh-ed25519", "z-cbc", "m"),
                Some(
                    "no cipher in common: it offers z-cbc; spoolgate has x-gcm, y-ctr; allow one of these there (Ciphers in its sshd_config)",
                ),
            ),
            (
                methods("a", "ssh-ed25519", "y-ctr", "md5"),
                Some(
                    "no MAC in common: it offers md5; spoolgate has m; allow one of these there (MACs in its sshd_config)",
                ),
            ),
            (
                methods("", "ssh-ed25519", "", "m"),
                Some(
                    "no key exchange in common: it offers nothing; spoolgate has a, b; allow one of these there (KexAlgorithms in its sshd_config); no cipher in common: it offers nothing; spoolgate has x-gcm, y-ctr; allow one of these there (Ciphers in its sshd_config)",
                ),
            ),
        ] {
            assert_eq!(ours.misfits(&host, &known).as_deref(), want, "{host:?}");
        }
        let sha1 = methods("a", "ssh-rsa", "x-gcm", "m");
        let said = methods("a", "rsa-sha2-256", "x-gcm", "m").misfits(&sha1, &destination(&["ssh-rsa"])).unwrap();
        assert!(said.starts_with("it signs with its RSA key by SHA-1 alone"), "{said}");
        let twice = destination(&["ssh-rsa", "ssh-ed25519", "ssh-rsa"]);
        assert_eq!(kinds(&twice), ["ssh-ed25519", "ssh-rsa"]);
    }

    /// A host's greeting and lists.
    fn offer(lists: &[&str; 10]) -> Vec<u8> {
        let mut packet = vec![KEXINIT];
        packet.extend([7; 16]);
        for names in lists {
            packet.extend(u32::try_from(names.len()).unwrap().to_be_bytes());
            packet.extend(names.as_bytes());
        }
        packet.extend([0; 5]);
        packet
    }

    #[tokio::test]
    async fn what_a_host_says_is_read_and_nothing_of_it_is_trusted() {
        let packet = offer(&["k1,k2", "h1", "c1,c2", "c2,c3", "m1", "m1", "none", "none", "", ""]);
        assert_eq!(Methods::parse(&packet), Some(methods("k1 k2", "h1", "c2", "m1")));
        for length in 0..packet.len() - 25 {
            // Cut anywhere it is read as far as it goes, or not at all.
            let _ = Methods::parse(&packet[..length]);
        }
        assert_eq!(Methods::parse(&packet[..40]), None);
        let framed = |packet: &[u8], claimed: usize| {
            let mut bytes = b"Welcome\r\nSSH-2.0-x\r\n".to_vec();
            bytes.extend(u32::try_from(claimed).unwrap().to_be_bytes());
            bytes.push(4);
            bytes.extend(packet);
            bytes.extend([0; 4]);
            bytes
        };
        let lists = Methods::parse(&packet).map(Offer::Lists);
        for (bytes, read) in [
            (framed(&packet, packet.len() + 5), &lists),
            (framed(&packet, usize::try_from(u32::MAX).unwrap()), &None),
            (framed(&packet, 0), &None),
            (framed(&packet, 3), &None),
            (b"SSH-2.0-x\r\n".to_vec(), &Some(Offer::Nothing)),
            (b"SSH-2.0-x".to_vec(), &None),
            (vec![b'x'; 100_000], &None),
            (Vec::new(), &None),
        ] {
            let (near, mut far) = tokio::io::duplex(200_000);
            far.write_all(&bytes).await.unwrap();
            far.shutdown().await.unwrap();
            assert_eq!(&ask(near).await, read, "{} bytes", bytes.len());
        }
    }
}
