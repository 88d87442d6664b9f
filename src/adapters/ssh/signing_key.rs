//! Opening private keys, and signing with them. Floor 3.
//!
//! **Invariant:** private keys live in this process alone, never in one that reads what hosts send; nothing of one is shown. The
//! arithmetic is OpenSSL's. Forms: OpenSSH's own (<https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key>), and
//! PEM, which OpenSSL reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use openssl::symm::{Cipher, Crypter, Mode, decrypt_aead};

use crate::adapters::ssh::key_file::{OpenSsh, string};

/// The most rounds that make a key of a passphrase: above it, opening would take minutes.
const ROUNDS_MAX: u32 = 20_000;
/// What an agent's request says of the digest to sign with (draft-ietf-sshm-ssh-agent, section 3.6.1).
const SHA2_256: u32 = 2;
const SHA2_512: u32 = 4;

/// Why a key file cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotOpened {
    /// What was given is not its passphrase.
    Passphrase,
    /// It is damaged, or of a kind that cannot be used.
    Unusable(String),
}

fn unusable(why: impl Into<String>) -> NotOpened {
    NotOpened::Unusable(why.into())
}

impl From<ErrorStack> for NotOpened {
    fn from(errors: ErrorStack) -> NotOpened {
        unusable(said(&errors))
    }
}

/// Returns what OpenSSL says.
fn said(errors: &ErrorStack) -> String {
    errors.errors().first().and_then(openssl::error::Error::reason).unwrap_or("OpenSSL does not take it").to_owned()
}

/// A private key that is open.
pub(super) struct SigningKey {
    key: PKey<Private>,
    public: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Opens the text of a key file.
    ///
    /// # Errors
    /// When it is damaged, of no kind that can be used, or `passphrase` is not its own.
    pub(super) fn open(text: &str, passphrase: &str, encrypted: bool) -> Result<SigningKey, NotOpened> {
        let text = text.replace("\r\n", "\n");
        let key = match text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----") {
            Some((_, body)) => {
                let body = body.split_once("-----END").map_or(body, |(body, _)| body);
                let bytes = STANDARD.decode(body.split_ascii_whitespace().collect::<String>());
                of_openssh(&bytes.map_err(|_| unusable("it is damaged"))?, passphrase)?
            }
            None => PKey::private_key_from_pem_passphrase(text.as_bytes(), passphrase.as_bytes())
                .map_err(|errors| if encrypted { NotOpened::Passphrase } else { NotOpened::from(errors) })?,
        };
        let public = public_of(&key)?;
        Ok(SigningKey { key, public })
    }

    /// Returns its public half, as the protocol sends it.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Signs, as the protocol sends it: the name of the algorithm and the signature. `flags` choose the digest of RSA keys.
    ///
    /// # Errors
    /// What OpenSSL says.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Result<Vec<u8>, String> {
        self.signature(data, flags).map_err(|error| match error {
            NotOpened::Unusable(why) => why,
            NotOpened::Passphrase => String::new(),
        })
    }

    fn signature(&self, data: &[u8], flags: u32) -> Result<Vec<u8>, NotOpened> {
        let (name, signature) = match self.key.id() {
            Id::ED25519 => {
                ("ssh-ed25519".to_owned(), Signer::new_without_digest(&self.key)?.sign_oneshot_to_vec(data)?)
            }
            Id::RSA => {
                let (name, digest) = if flags & SHA2_512 != 0 {
                    ("rsa-sha2-512", MessageDigest::sha512())
                } else if flags & SHA2_256 != 0 {
                    ("rsa-sha2-256", MessageDigest::sha256())
                } else {
                    ("ssh-rsa", MessageDigest::sha1())
                };
                (name.to_owned(), Signer::new(digest, &self.key)?.sign_oneshot_to_vec(data)?)
            }
            _ => {
                let curve = Curve::of(&self.key)?;
                let signature = Signer::new(curve.digest(), &self.key)?.sign_oneshot_to_vec(data)?;
                let signature = EcdsaSig::from_der(&signature)?;
                let mut pair = Vec::new();
                for number in [signature.r(), signature.s()] {
                    put(&mut pair, &positive(&number.to_vec()));
                }
                (format!("ecdsa-sha2-{}", curve.name), pair)
            }
        };
        let mut bytes = Vec::new();
        put(&mut bytes, name.as_bytes());
        put(&mut bytes, &signature);
        Ok(bytes)
    }
}

/// A curve of ECDSA keys (RFC 5656, section 10.1).
struct Curve {
    name: &'static str,
    nid: Nid,
}

const CURVES: [Curve; 3] = [
    Curve { name: "nistp256", nid: Nid::X9_62_PRIME256V1 },
    Curve { name: "nistp384", nid: Nid::SECP384R1 },
    Curve { name: "nistp521", nid: Nid::SECP521R1 },
];

impl Curve {
    fn of(key: &PKey<Private>) -> Result<&'static Curve, NotOpened> {
        let nid = key.ec_key().map_err(|_| unusable("it is of a kind that SSH does not have"))?.group().curve_name();
        let found = CURVES.iter().find(|curve| Some(curve.nid) == nid);
        found.ok_or_else(|| unusable("it is of a curve that SSH does not have"))
    }

    fn digest(&self) -> MessageDigest {
        match self.nid {
            Nid::SECP384R1 => MessageDigest::sha384(),
            Nid::SECP521R1 => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        }
    }
}

/// Returns the public half of a key, as the protocol sends it.
fn public_of(key: &PKey<Private>) -> Result<Vec<u8>, NotOpened> {
    let mut bytes = Vec::new();
    match key.id() {
        Id::ED25519 => {
            put(&mut bytes, b"ssh-ed25519");
            put(&mut bytes, &key.raw_public_key()?);
        }
        Id::RSA => {
            let rsa = key.rsa()?;
            put(&mut bytes, b"ssh-rsa");
            put(&mut bytes, &positive(&rsa.e().to_vec()));
            put(&mut bytes, &positive(&rsa.n().to_vec()));
        }
        _ => {
            let (curve, ec) = (Curve::of(key)?, key.ec_key()?);
            let mut context = BigNumContext::new()?;
            put(&mut bytes, format!("ecdsa-sha2-{}", curve.name).as_bytes());
            put(&mut bytes, curve.name.as_bytes());
            let form = PointConversionForm::UNCOMPRESSED;
            put(&mut bytes, &ec.public_key().to_bytes(ec.group(), form, &mut context)?);
        }
    }
    Ok(bytes)
}

/// Appends a string as the protocol sends it.
pub(super) fn put(bytes: &mut Vec<u8>, string: &[u8]) {
    bytes.extend(u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(string);
}

/// Returns the bytes of a number that must not be taken for a negative one (RFC 4251, section 5).
fn positive(number: &[u8]) -> Vec<u8> {
    let zero = number.first().is_some_and(|first| first & 0x80 != 0);
    std::iter::repeat_n(0, usize::from(zero)).chain(number.iter().copied()).collect()
}

/// Opens a key in OpenSSH's own form.
fn of_openssh(bytes: &[u8], passphrase: &str) -> Result<PKey<Private>, NotOpened> {
    let damaged = || unusable("it is damaged");
    let file = OpenSsh::parse(bytes).ok_or_else(damaged)?;
    let opened = decrypted(&file, passphrase)?;
    let (first, rest) = opened.split_first_chunk::<4>().ok_or_else(damaged)?;
    let (second, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    if first != second {
        return Err(if file.cipher == b"none" { damaged() } else { NotOpened::Passphrase });
    }
    private_of(rest).ok_or_else(damaged)?
}

/// A way of encrypting a key file: its name, OpenSSL's cipher, and how long its key, its start and its proof are.
struct FileCipher {
    name: &'static [u8],
    cipher: fn() -> Cipher,
    key: usize,
    start: usize,
    tag: usize,
}

const FILE_CIPHERS: [FileCipher; 8] = [
    FileCipher { name: b"aes256-ctr", cipher: Cipher::aes_256_ctr, key: 32, start: 16, tag: 0 },
    FileCipher { name: b"aes192-ctr", cipher: Cipher::aes_192_ctr, key: 24, start: 16, tag: 0 },
    FileCipher { name: b"aes128-ctr", cipher: Cipher::aes_128_ctr, key: 16, start: 16, tag: 0 },
    FileCipher { name: b"aes256-cbc", cipher: Cipher::aes_256_cbc, key: 32, start: 16, tag: 0 },
    FileCipher { name: b"aes192-cbc", cipher: Cipher::aes_192_cbc, key: 24, start: 16, tag: 0 },
    FileCipher { name: b"aes128-cbc", cipher: Cipher::aes_128_cbc, key: 16, start: 16, tag: 0 },
    FileCipher { name: b"aes256-gcm@openssh.com", cipher: Cipher::aes_256_gcm, key: 32, start: 12, tag: 16 },
    FileCipher { name: b"aes128-gcm@openssh.com", cipher: Cipher::aes_128_gcm, key: 16, start: 12, tag: 16 },
];

/// Decrypts the private part of a key in OpenSSH's own form.
fn decrypted(file: &OpenSsh<'_>, passphrase: &str) -> Result<Vec<u8>, NotOpened> {
    let name = || String::from_utf8_lossy(file.cipher).into_owned();
    if file.cipher == b"none" {
        return Ok(file.private.to_vec());
    }
    let Some(way) = FILE_CIPHERS.iter().find(|way| way.name == file.cipher) else {
        return Err(unusable(format!(
            "it is encrypted with {}, which is not read; encrypt it anew: ssh-keygen -p -Z aes256-ctr -f FILE",
            name()
        )));
    };
    let options = (file.derivation == b"bcrypt").then(|| string(file.options)).flatten();
    let rounds = options.and_then(|(salt, rest)| Some((salt, u32::from_be_bytes(rest.try_into().ok()?))));
    let (salt, rounds) = rounds.ok_or_else(|| unusable("how its passphrase becomes a key is not known"))?;
    if rounds > ROUNDS_MAX {
        return Err(unusable(format!("its passphrase takes {rounds} rounds, at most {ROUNDS_MAX} are done")));
    }
    let mut derived = vec![0; way.key.saturating_add(way.start)];
    bcrypt_pbkdf::bcrypt_pbkdf(passphrase, salt, rounds, &mut derived)
        .map_err(|error| unusable(format!("its passphrase does not become a key: {error}")))?;
    let (key, start) = derived.split_at(way.key);
    if way.tag > 0 {
        let tag = file.behind.get(..way.tag).ok_or_else(|| unusable("it is damaged"))?;
        return decrypt_aead((way.cipher)(), key, Some(start), &[], file.private, tag)
            .map_err(|_| NotOpened::Passphrase);
    }
    let mut crypter = Crypter::new((way.cipher)(), Mode::Decrypt, key, Some(start))?;
    // What fills the last block is the form's own.
    crypter.pad(false);
    let mut opened = vec![0; file.private.len().saturating_add(32)];
    let count = crypter.update(file.private, &mut opened)?;
    let rest = crypter.finalize(opened.get_mut(count..).unwrap_or_default())?;
    opened.truncate(count.saturating_add(rest));
    Ok(opened)
}

/// Reads the private part of a key; nothing where it is cut.
fn private_of(bytes: &[u8]) -> Option<Result<PKey<Private>, NotOpened>> {
    let (kind, rest) = string(bytes)?;
    match kind {
        b"ssh-ed25519" => {
            let (_public, rest) = string(rest)?;
            let (pair, _) = string(rest)?;
            let seed = pair.get(..32)?;
            Some(PKey::private_key_from_raw_bytes(seed, Id::ED25519).map_err(NotOpened::from))
        }
        b"ssh-rsa" => {
            let mut rest = rest;
            let mut next = || {
                let (number, after) = string(rest)?;
                rest = after;
                Some(number)
            };
            let numbers = [next()?, next()?, next()?, next()?, next()?, next()?];
            Some(rsa(numbers).map_err(NotOpened::from))
        }
        _ if kind.starts_with(b"ecdsa-sha2-") => {
            let (curve, rest) = string(rest)?;
            let (point, rest) = string(rest)?;
            let (number, _) = string(rest)?;
            let curve = CURVES.iter().find(|known| known.name.as_bytes() == curve)?;
            Some(ecdsa(curve, point, number).map_err(NotOpened::from))
        }
        other => Some(Err(unusable(format!("it is a {} key", String::from_utf8_lossy(other))))),
    }
}

/// Makes an RSA key of its numbers in their order in the file: n, e, d, the inverse of q, p, q.
fn rsa(numbers: [&[u8]; 6]) -> Result<PKey<Private>, ErrorStack> {
    let [modulus, public, private, inverse, first, second] = numbers.map(BigNum::from_slice);
    let (private, first, second) = (private?, first?, second?);
    let (mut context, one) = (BigNumContext::new()?, BigNum::from_u32(1)?);
    let mut left = |prime: &BigNum| -> Result<BigNum, ErrorStack> {
        let (mut less, mut rest) = (BigNum::new()?, BigNum::new()?);
        less.checked_sub(prime, &one)?;
        rest.nnmod(&private, &less, &mut context)?;
        Ok(rest)
    };
    let rests = (left(&first)?, left(&second)?);
    let key = Rsa::from_private_components(modulus?, public?, private, first, second, rests.0, rests.1, inverse?);
    PKey::from_rsa(key?)
}

fn ecdsa(curve: &Curve, point: &[u8], number: &[u8]) -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(curve.nid)?;
    let mut context = BigNumContext::new()?;
    let point = EcPoint::from_bytes(&group, point, &mut context)?;
    let number = BigNum::from_slice(number)?;
    let key = EcKey::from_private_components(&group, &number, &point)?;
    key.check_key()?;
    PKey::from_ec_key(key)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::adapters::ssh::key_file;

    fn keygen(path: &Path, options: &[&str], passphrase: &str) {
        let mut command = std::process::Command::new("ssh-keygen");
        let made = command.args(["-q", "-C", "", "-N", passphrase]).args(options).arg("-f").arg(path).status();
        assert!(made.unwrap().success(), "{options:?}");
    }

    #[test]
    fn keys_of_every_form_and_cipher_open_and_are_the_ones_that_ssh_keygen_made() {
        let dir = tempfile::tempdir().unwrap();
        let kinds: [(&str, &[&str]); 13] = [
            ("ed25519", &["-t", "ed25519"]),
            ("rsa", &["-t", "rsa", "-b", "2048"]),
            ("p256", &["-t", "ecdsa", "-b", "256"]),
            ("p384", &["-t", "ecdsa", "-b", "384"]),
            ("p521", &["-t", "ecdsa", "-b", "521"]),
            ("rsa-pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
            ("rsa-pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]),
            ("p256-pem", &["-t", "ecdsa", "-m", "PEM"]),
            ("ctr", &["-t", "ed25519", "-Z", "aes128-ctr"]),
            ("cbc", &["-t", "ed25519", "-Z", "aes256-cbc"]),
            ("gcm", &["-t", "ed25519", "-Z", "aes256-gcm@openssh.com"]),
            ("gcm128", &["-t", "rsa", "-b", "2048", "-Z", "aes128-gcm@openssh.com"]),
            ("rounds", &["-t", "ed25519", "-a", "40"]),
        ];
        for (name, options) in kinds {
            for passphrase in ["", "a p\u{e9}ssphrase"] {
                let path = dir.path().join(format!("{name}{}", passphrase.len()));
                keygen(&path, options, passphrase);
                let file = key_file::read(&path).unwrap();
                let key = SigningKey::open(&file.text, passphrase, file.encrypted).unwrap();
                let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
                assert_eq!(Some(key.public().to_vec()), key_file::blob(&public), "{name}");
                for flags in [0, SHA2_256, SHA2_512] {
                    let signature = key.sign(b"data", flags).unwrap();
                    assert!(string(&signature).is_some_and(|(_, rest)| string(rest).is_some()), "{name}");
                }
                if !passphrase.is_empty() {
                    let wrong = SigningKey::open(&file.text, "another", true);
                    assert_eq!(wrong.err(), Some(NotOpened::Passphrase), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_key_that_is_cut_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        keygen(&path, &["-t", "ed25519"], "");
        let text = std::fs::read_to_string(&path).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = STANDARD.decode(body).unwrap();
        for length in 0..bytes.len().saturating_sub(24) {
            assert!(of_openssh(&bytes[..length], "").is_err(), "{length}");
        }
    }
}
