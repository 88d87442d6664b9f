//! OpenSSH's `known_hosts`: which keys a host may answer with. Floor 1.
//!
//! **Invariant:** pure, and never more trusting than OpenSSH: a revoked key is in no answer, a certificate
//! authority is no host key, and a line that cannot be read gives no key.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::domain::problem::Problem;

/// A host's public key, as people compare it: `ssh-ed25519 SHA256:…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey {
    /// The type of the key, such as `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:` and the digest of the key in base64 without padding, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

/// Text that is not a host key as [`HostKey`] is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host key: wanted a key type, a space and SHA256: with 43 characters of base64")]
pub struct BadHostKey;

impl HostKey {
    /// Makes the key of a public key in SSH's wire form (what stands in base64 in a `.pub` file, and what a server
    /// sends).
    ///
    /// # Errors
    /// [`BadHostKey`] when the bytes do not begin with the name of a key type.
    pub fn of_blob(blob: &[u8]) -> Result<HostKey, BadHostKey> {
        let (length, rest) = blob.split_first_chunk::<4>().ok_or(BadHostKey)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| BadHostKey)?;
        let name = rest.get(..length).filter(|_| rest.len() > length).ok_or(BadHostKey)?;
        let algorithm = str::from_utf8(name).ok().filter(|name| is_algorithm(name)).ok_or(BadHostKey)?;
        let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)));
        Ok(HostKey { algorithm: algorithm.to_owned(), fingerprint })
    }
}

fn is_algorithm(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'@' | b'_');
    !name.is_empty() && name.len() <= 100 && name.bytes().all(allowed)
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.fingerprint)
    }
}

impl FromStr for HostKey {
    type Err = BadHostKey;

    fn from_str(text: &str) -> Result<HostKey, BadHostKey> {
        let (algorithm, fingerprint) = text.split_once(' ').ok_or(BadHostKey)?;
        let digest = fingerprint.strip_prefix("SHA256:").ok_or(BadHostKey)?;
        let decoded = STANDARD_NO_PAD.decode(digest).map_err(|_| BadHostKey)?;
        if decoded.len() != 32 || !is_algorithm(algorithm) {
            return Err(BadHostKey);
        }
        Ok(HostKey { algorithm: algorithm.to_owned(), fingerprint: fingerprint.to_owned() })
    }
}

impl Serialize for HostKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HostKey, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The lines of one or more `known_hosts` files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownHosts {
    entries: Vec<Entry>,
    /// The lines that name a host as it is; most lines name one alone.
    named: HashMap<String, Vec<usize>>,
    /// The lines with patterns, which are tried one by one.
    patterns: Vec<usize>,
    /// The lines with hashed names.
    hashed: Vec<usize>,
    /// Whether one of those revokes a key.
    hashed_revoked: bool,
    found: Found,
    notes: Vec<Problem>,
}

/// What was found out about hashed names so far. A line is the hash of one name under a salt of its own, so each name
/// costs a hash for every line that no name fits yet: that is paid once for a name, and not again for lines that have theirs.
///
/// It says nothing that the lines do not, so files are equal whatever was asked of them.
#[derive(Clone, Debug, Default)]
struct Found(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    /// The lines of each name that was asked for.
    asked: HashMap<String, Vec<usize>>,
    /// The lines whose name is known.
    fitted: BTreeSet<usize>,
}

impl PartialEq for Found {
    fn eq(&self, _: &Found) -> bool {
        true
    }
}

impl Eq for Found {}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    names: Names,
    key: HostKey,
    revoked: bool,
}

/// Which hosts a line speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// Patterns with `*` and `?`, in lower case; those in `not` take hosts out again.
    Patterns { any: Vec<String>, not: Vec<String> },
    /// One name that the file keeps only the HMAC of.
    Hashed { salt: Vec<u8>, mac: Vec<u8> },
}

impl KnownHosts {
    /// Reads the text of a `known_hosts` file. Like OpenSSH it skips lines that it cannot read; [`KnownHosts::notes`]
    /// lists them.
    #[must_use]
    pub fn parse(text: &str) -> KnownHosts {
        let mut known = KnownHosts::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line) {
                Ok(entry) => known.add(entry),
                Err((found, wanted)) => {
                    known.notes.push(Problem::new(format!("known_hosts:{}", number.saturating_add(1)), found, wanted));
                }
            }
        }
        known
    }

    fn add(&mut self, entry: Entry) {
        let n = self.entries.len();
        match &entry.names {
            Names::Patterns { any, .. } if !any.iter().any(|pattern| pattern.contains(['*', '?'])) => {
                for name in any {
                    self.named.entry(name.clone()).or_default().push(n);
                }
            }
            Names::Patterns { .. } => self.patterns.push(n),
            Names::Hashed { .. } => {
                self.hashed.push(n);
                self.hashed_revoked |= entry.revoked;
            }
        }
        self.entries.push(entry);
    }

    /// Returns the lines that give no key, with the reason: broken ones, and `@cert-authority`, which is not
    /// supported and never taken for a host key.
    #[must_use]
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    /// Returns the keys that the host at `address` and `port` may answer with; with none it must be refused.
    ///
    /// As in OpenSSH a host on another port than 22 is known as `[address]:port` only. A key revoked for the
    /// address is revoked for every port of it.
    #[must_use]
    pub fn keys_for(&self, address: &str, port: u16) -> Vec<HostKey> {
        let bare = address.to_lowercase();
        let name = if port == 22 { bare.clone() } else { format!("[{bare}]:{port}") };
        let named = |name: &str| self.named.get(name).into_iter().flatten();
        let mut hashed = self.hashed_as(&name);
        if self.hashed_revoked && name != bare {
            hashed.extend(self.hashed_as(&bare));
        }
        let lines: BTreeSet<usize> =
            named(&name).chain(named(&bare)).chain(&self.patterns).chain(&hashed).copied().collect();
        let of = |revoked: bool| lines.iter().map(|n| &self.entries[*n]).filter(move |entry| entry.revoked == revoked);
        let gone: BTreeSet<&HostKey> =
            of(true).filter(|e| e.names.covers(&name) || e.names.covers(&bare)).map(|entry| &entry.key).collect();
        let keys: BTreeSet<&HostKey> = of(false).filter(|e| e.names.covers(&name)).map(|entry| &entry.key).collect();
        keys.difference(&gone).map(|key| (*key).clone()).collect()
    }

    /// Whether a key is revoked for the host at `address`, on any port.
    #[must_use]
    pub fn revokes(&self, address: &str, port: u16, key: &HostKey) -> bool {
        let bare = address.to_lowercase();
        let name = format!("[{bare}]:{port}");
        let mut revoked = self.entries.iter().filter(|entry| entry.revoked && entry.key == *key);
        revoked.any(|entry| entry.names.covers(&bare) || entry.names.covers(&name))
    }

    /// Returns the lines that hold the hash of a name.
    fn hashed_as(&self, name: &str) -> Vec<usize> {
        if self.hashed.is_empty() {
            return Vec::new();
        }
        let mut found = self.found.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = found.asked.get(name) {
            return lines.clone();
        }
        let open = self.hashed.iter().copied().filter(|line| !found.fitted.contains(line));
        let lines: Vec<usize> = open.filter(|line| self.entries[*line].names.covers(name)).collect();
        found.fitted.extend(&lines);
        found.asked.insert(name.to_owned(), lines.clone());
        lines
    }
}

/// Reads one line; the error says what was found and what was wanted.
fn parse_line(line: &str) -> Result<Entry, (String, &'static str)> {
    let mut words = line.split_ascii_whitespace();
    let mut next = || words.next().unwrap_or_default();
    let mut names = next();
    let mut revoked = false;
    if let Some(marker) = names.strip_prefix('@') {
        match marker {
            "revoked" => revoked = true,
            "cert-authority" => {
                let wanted =
                    "the hosts' own keys (ssh-keyscan): certificates of hosts are not checked, so the line is ignored";
                return Err((format!("@cert-authority for {}", next()), wanted));
            }
            _ => return Err((names.to_owned(), "@revoked or @cert-authority as marker")),
        }
        names = next();
    }
    let (algorithm, blob) = (next(), next());
    let wanted = "names, a key type and a key in base64";
    let bytes = STANDARD.decode(blob).map_err(|_| (line.to_owned(), wanted))?;
    let key = HostKey::of_blob(&bytes).map_err(|_| (line.to_owned(), wanted))?;
    if key.algorithm != algorithm {
        return Err((
            format!("{algorithm} with a key of type {}", key.algorithm),
            "the type that the key itself names",
        ));
    }
    let names = Names::parse(names).ok_or((names.to_owned(), "host names, or |1|salt|hash in base64"))?;
    Ok(Entry { names, key, revoked })
}

impl Names {
    fn parse(text: &str) -> Option<Names> {
        if let Some(hashed) = text.strip_prefix('|') {
            let (salt, mac) = hashed.strip_prefix("1|")?.split_once('|')?;
            return Some(Names::Hashed { salt: STANDARD.decode(salt).ok()?, mac: STANDARD.decode(mac).ok()? });
        }
        let lower = text.to_lowercase();
        let (not, any): (Vec<&str>, Vec<&str>) = lower.split(',').partition(|pattern| pattern.starts_with('!'));
        let any = any.into_iter().map(str::to_owned).collect();
        let not = not.into_iter().map(|pattern| pattern[1..].to_owned()).collect();
        Some(Names::Patterns { any, not })
    }

    fn covers(&self, name: &str) -> bool {
        match self {
            Names::Patterns { any, not } => {
                let hit = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
                hit(any) && !hit(not)
            }
            Names::Hashed { salt, mac } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|hmac| hmac.chain_update(name.as_bytes()).verify_slice(mac).is_ok()),
        }
    }
}

/// Whether `name` fits a pattern in which `*` stands for anything and `?` for one byte.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on when the text after the latest star does not fit: behind the star, one byte later.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p = p.saturating_add(1);
                retry = Some((p, n));
            }
            Some(&byte) if byte == b'?' || byte == name[n] => (p, n) = (p.saturating_add(1), n.saturating_add(1)),
            _ => match &mut retry {
                Some((after, from)) => {
                    *from = from.saturating_add(1);
                    (p, n) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    // Throw-away public keys and the lines that OpenSSH 9.2 made of them with `ssh-keygen -H`.
    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ/k3uTuN2tHDvcf9dD4aX90HmglmF7JC1SK26SePpi0";
    const ED_SHOWN: &str = "ssh-ed25519 SHA256:w20dl/yNzLl/SCU0Ph+dQp6muVrRgr/a9RfCW+Rj234";
    const ED2: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFnUjL+UjhUD/z7c2rF2QphDt9LS6pFVoiNbgwhHCb3B";
    const ED2_SHOWN: &str = "ssh-ed25519 SHA256:M5b3BHRmAGb1OSi2i4Nu6A1nSebi1D8Jo0NZYNvZ8fc";
    const EC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBIxtEltSd+5WS0OX1DxnQLrxp78m/5K0CsicSm5ZSXNR8q6Z6h1u761Pz1Gzrf3ALZ/nVn/dXf+GwY5XBpMJLOY=";
    const EC_SHOWN: &str = "ecdsa-sha2-nistp256 SHA256:k5yjwybAVHYUgTksaEbkVPPR+4rV8we5Evy4boVBuL4";
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCXk4gi7EGm5jlDPOOekmhBe8bdDYzXHKfr9qjH69pg0dBvYQWTLBHRBRwCJHdKDmdSUwFGv38uCMHuhuQpIz1uidg+46dvrGkbF70VFWxROoTrXWi0Dqpbrp0hc7ZtMyQaepSb6q+c3QJE4AONrnI4QbJc79oDbSqbU5VXL7vB3lExg3vLEMKwgdsLxyLSLFThhi7Qz0mDzF6KHvqvHFOcBZTYRQq6jY2I6pDTR+QQ3iYT0FeNYb5Ar/owUYniseiDrUyGNJz34K/qNtpKB5bA2Bw3ELINXKP4Xoplry9pVerblwwm8AB7xQx8ZKN4s+32D1lmUagqtEtTbdd/074f";
    const RSA_SHOWN: &str = "ssh-rsa SHA256:ic1iIFOnd9QlUB7AOhgg/X0PGN/lNuSYK+z6l6NtplA";
    const HASHED: [&str; 3] = [
        "|1|5zo1PC9eE4JymibABNG0Ee1zpBw=|OWy8OaVGwNZc798w2TrlSd16LOo=",
        "|1|eVH9Qgb+IA3Lft9L3Cjy4Iylkmw=|W+0mQmBCVC22ZZmyQ0gDTQaB8hk=",
        "|1|aWcYzcwHTYS1q7+U4dWr+/9JCHk=|TmPeka41sQR81fxCG/yb3wFVstY=",
    ];

    #[track_caller]
    fn check(text: &str, address: &str, port: u16, want: &[&str]) {
        let keys: Vec<String> =
            KnownHosts::parse(text).keys_for(address, port).iter().map(ToString::to_string).collect();
        assert_eq!(keys, want, "{address} {port}");
    }

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        check(&format!("h {ED}\nh {EC} a comment\nh {RSA}\nh {ED}\n"), "h", 22, &[EC_SHOWN, ED_SHOWN, RSA_SHOWN]);
    }

    #[test]
    fn hashed_names_are_found() {
        let text = format!("{} {ED}\n{} {EC}\n{} {ED2}\n", HASHED[0], HASHED[1], HASHED[2]);
        check(&text, "web1", 22, &[ED_SHOWN]);
        check(&text, "WEB1", 22, &[ED_SHOWN]);
        check(&text, "web1", 2222, &[]);
        check(&text, "web2", 2222, &[EC_SHOWN]);
        check(&text, "web2", 22, &[]);
        check(&text, "10.0.0.1", 22, &[ED2_SHOWN]);
        check(&text, "web3", 22, &[]);
        // What was found once is what is found again, in any order.
        let known = KnownHosts::parse(&text);
        for _ in 0..2 {
            for (name, port, count) in [("web1", 2222, 0), ("web1", 22, 1), ("web2", 22, 0), ("web2", 2222, 1)] {
                assert_eq!(known.keys_for(name, port).len(), count, "{name} {port}");
            }
        }
        assert_eq!(known.found.0.lock().unwrap().fitted.len(), 2);
    }

    #[test]
    fn patterns_lists_and_ports() {
        let text = format!(
            "# comment\n\na,B,c {ED}\n*.example.com,!bad.example.com {ED2}\n[d]:2222,[e.*]:* {EC}\n10.0.?.1 {RSA}\n!x {ED}\n"
        );
        for name in ["a", "b", "C"] {
            check(&text, name, 22, &[ED_SHOWN]);
        }
        check(&text, "x.example.com", 22, &[ED2_SHOWN]);
        check(&text, "X.Example.Com", 22, &[ED2_SHOWN]);
        check(&text, "x.example.com", 2222, &[]);
        check(&text, "bad.example.com", 22, &[]);
        check(&text, "example.com", 22, &[]);
        check(&text, "d", 2222, &[EC_SHOWN]);
        check(&text, "d", 22, &[]);
        check(&text, "e.x", 99, &[EC_SHOWN]);
        check(&text, "10.0.7.1", 22, &[RSA_SHOWN]);
        check(&text, "10.0.77.1", 22, &[]);
        check(&text, "x", 22, &[]);
        check(&text, "y", 22, &[]);
    }

    #[test]
    fn revoked_keys_and_authorities_are_never_answers() {
        let text = format!("* {ED}\n[h]:23 {ED}\nh {EC}\n@revoked h {ED}\n@cert-authority * {ED2}\n");
        check(&text, "h", 22, &[EC_SHOWN]);
        check(&text, "h", 23, &[]);
        check(&text, "other", 22, &[ED_SHOWN]);
        check(&format!("@revoked * {ED}\nh {ED}\n"), "h", 22, &[]);
        check(&format!("@revoked {} {ED}\nweb1 {ED}\n", HASHED[0]), "web1", 22, &[]);
        let notes: Vec<String> = KnownHosts::parse(&text).notes().iter().map(ToString::to_string).collect();
        assert_eq!(
            notes,
            [
                "known_hosts:5: found @cert-authority for *; wanted the hosts' own keys (ssh-keyscan): certificates of hosts are not checked, so the line is ignored"
            ]
        );
    }

    #[test]
    fn lines_that_cannot_be_read_give_notes_and_no_keys() {
        let swapped = ED.replace("ssh-ed25519", "ssh-rsa");
        for bad in ["h", "h ssh-ed25519", "h ssh-ed25519 AAAA", "h ssh-ed25519 ****", "@what h ssh-ed25519 AAAA"] {
            let known = KnownHosts::parse(bad);
            assert_eq!((known.notes().len(), known.entries.len()), (1, 0), "{bad}");
        }
        let text = format!("h {swapped}\n|1|x {ED}\n|2|AA==|AA== {ED}\n");
        check(&text, "h", 22, &[]);
        assert_eq!(KnownHosts::parse(&text).notes().len(), 3);
    }

    #[test]
    fn a_host_key_is_one_string() {
        let key: HostKey = ED_SHOWN.parse().unwrap();
        assert_eq!(key.to_string(), ED_SHOWN);
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{ED_SHOWN}\""));
        assert_eq!(serde_json::from_str::<HostKey>(&json).unwrap(), key);
        let padded = format!("{ED_SHOWN}=");
        for bad in ["", "ssh-ed25519", "ssh-ed25519 MD5:00", "ssh-ed25519 SHA256:AAAA", "a b SHA256:AAAA", &padded] {
            assert_eq!(bad.parse::<HostKey>(), Err(BadHostKey), "{bad}");
        }
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, want) in [
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("?", "", false),
            ("a?", "ab", true),
            ("*ab", "aab", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
