//! Where secrets are: systemd's credentials, a directory with a file for each, one TOML file. Floor 3.
//!
//! **Invariant:** reads only, and only what nobody but root or this program's own account can read or change. A value is read
//! anew for each step, kept only to hide it, and never printed: [`Secret`] cannot be.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use nix::fcntl::OFlag;

use crate::base::ids::SecretName;
use crate::base::text::Secret;
use crate::domain::callback::CallbackKey;
use crate::domain::mask::{Masker, SECRET_BYTES_MIN};

/// How large a secret may be, in bytes; the TOML file may be sixteen times that.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nothing has it.
    #[error("no secret {name}: neither a credential nor {places} has it; add it there, with mode 0600")]
    Unknown {
        /// Which.
        name: SecretName,
        /// Where it was looked for.
        places: String,
    },
    /// It is there, and others could have read or changed it.
    #[error("{path} can be read or changed by others; give it to root or to this program's account, with mode 0600", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is there and cannot be a secret.
    #[error("the secret {name} in {path} is {found}; wanted text of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes without NUL", path = path.display())]
    Unusable {
        /// Which.
        name: SecretName,
        /// Which file.
        path: PathBuf,
        /// What it is, without showing it.
        found: &'static str,
    },
}

/// The places of secrets, and what was read from them so far.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    directories: Vec<PathBuf>,
    file: Option<PathBuf>,
    known: Arc<RwLock<Known>>,
    /// What tells a secret from another without showing either.
    key: Option<Arc<CallbackKey>>,
}

/// What was read, to be hidden wherever it turns up.
#[derive(Debug, Default)]
struct Known {
    values: BTreeMap<SecretName, Vec<Secret>>,
    masker: Arc<Masker>,
}

impl Secrets {
    /// Looks in `directories`, the first one that has a name counts, and then in the TOML file.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>, file: Option<PathBuf>) -> Secrets {
        Secrets { directories, file, known: Arc::default(), key: None }
    }

    /// Returns the same places as `other`, with what was read here.
    #[must_use]
    pub fn moved_to(&self, other: &Secrets) -> Secrets {
        Secrets { known: Arc::clone(&self.known), key: self.key.clone(), ..other.clone() }
    }

    /// Seals with this key.
    #[must_use]
    pub fn sealed_with(self, key: CallbackKey) -> Secrets {
        Secrets { key: Some(Arc::new(key)), ..self }
    }

    /// Notes in a file which secrets a step is sent with: a seal, and nothing of them. It is durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, path: &Path, secrets: &BTreeMap<SecretName, Secret>) -> std::io::Result<()> {
        use std::io::Write as _;
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut file = std::fs::File::create(path)?;
        file.write_all(self.seal(secrets).unwrap_or_default().as_bytes())?;
        file.sync_all()?;
        // A file whose name a power cut takes away was never there.
        path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
    }

    /// Whether a step was sent with exactly these secrets; not when nobody noted it.
    #[must_use]
    pub fn are_noted(&self, path: &Path, secrets: &BTreeMap<SecretName, Secret>) -> bool {
        let noted = std::fs::read_to_string(path).ok();
        self.seal(secrets).is_some_and(|seal| noted.as_deref() == Some(&seal))
    }

    fn seal(&self, secrets: &BTreeMap<SecretName, Secret>) -> Option<String> {
        self.key.as_ref().map(|key| key.seal(secrets.iter()))
    }

    /// Reads a secret.
    ///
    /// # Errors
    /// When nothing has it, when others could have read it, or when it cannot be one.
    pub fn read(&self, name: &SecretName) -> Result<Secret, SecretError> {
        let (path, text) = self.find(name)?;
        let found = match text.len() {
            0..SECRET_BYTES_MIN => Some("too short"),
            _ if text.contains('\0') => Some("text with NUL"),
            _ => None,
        };
        if let Some(found) = found {
            return Err(SecretError::Unusable { name: name.clone(), path, found });
        }
        let secret = Secret::new(text);
        self.remember(name, &secret);
        Ok(secret)
    }

    /// Returns what hides every secret that was read since the start.
    #[must_use]
    pub fn masker(&self) -> Arc<Masker> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner).masker)
    }

    fn remember(&self, name: &SecretName, secret: &Secret) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let values = known.values.entry(name.clone()).or_default();
        if !values.contains(secret) {
            values.push(secret.clone());
            known.masker = Arc::new(Masker::new(known.values.values().flatten()));
        }
    }

    fn find(&self, name: &SecretName) -> Result<(PathBuf, String), SecretError> {
        for directory in &self.directories {
            let path = directory.join(name.as_str());
            if let Some(mut text) = read_private(&path, SECRET_BYTES_MAX)? {
                // Whoever writes a file with an editor or echo ends it with a line feed.
                if text.ends_with('\n') {
                    text.pop();
                }
                return Ok((path, text));
            }
        }
        if let Some(path) = &self.file
            && let Some(text) = read_private(path, SECRET_BYTES_MAX * 16)?
        {
            let table: BTreeMap<String, String> = toml::from_str(&text).map_err(|error| SecretError::Unreadable {
                path: path.clone(),
                // The error's own text would show the line.
                source: std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!("no table of NAME = \"value\" at byte {}", error.span().map_or(0, |span| span.start)),
                ),
            })?;
            if let Some(value) = table.get(name.as_str()) {
                return Ok((path.clone(), value.clone()));
            }
        }
        let places = self.directories.iter().chain(&self.file).map(|path| path.display().to_string());
        Err(SecretError::Unknown { name: name.clone(), places: places.collect::<Vec<_>>().join(", ") })
    }
}

/// Reads a file that only root or this account can read or change; none when there is no file.
fn read_private(path: &Path, most: u64) -> Result<Option<String>, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let mut options = std::fs::OpenOptions::new();
    // What is opened is what is checked and read; a pipe does not stop us.
    let file = match options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    let meta = file.metadata().map_err(unreadable)?;
    let ours = meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw();
    if !ours || meta.mode() & 0o077 != 0 || !meta.is_file() {
        return Err(SecretError::Exposed { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(most.saturating_add(1)).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > most {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, format!("more than {most} bytes"));
        return Err(unreadable(source));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[track_caller]
    fn check(secrets: &Secrets, name: &str, want: &str) {
        let shown = match secrets.read(&name.parse().unwrap()) {
            Ok(secret) => secret.reveal().to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(want), "{name}: {shown}");
    }

    #[test]
    fn secrets_are_read_from_private_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (files, toml) = (dir.path().join("secrets"), dir.path().join("secrets.toml"));
        std::fs::create_dir(&files).unwrap();
        write(&files.join("db"), "hunter22\n", 0o600);
        write(&files.join("open"), "hunter22", 0o640);
        write(&files.join("short"), "abc\n", 0o600);
        write(&toml, "api = \"from toml\"\ndb = \"never\"\n", 0o600);
        let secrets = Secrets::new(vec![dir.path().join("none"), files.clone()], Some(toml.clone()));
        check(&secrets, "db", "hunter22");
        check(&secrets, "api", "from toml");
        check(&secrets, "open", "can be read or changed by others");
        check(&secrets, "short", "too short");
        check(&secrets, "other", "no secret other");
        write(&toml, "api = \"from toml\"\noops: hunter22\n", 0o600);
        check(&secrets, "api", "no table of NAME");
        write(&toml, "api = \"from toml\"\n", 0o644);
        check(&secrets, "api", "can be read or changed by others");
        assert_eq!(secrets.masker().text("a hunter22 b"), "a ******** b");
    }
}
