//! The certificate, read again when its files change.
//!
//! **Invariant:** a certificate that cannot be read any more leaves the last good one in its place.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::adapters::http::error::HttpError;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    looked: Instant,
    changed: [Option<SystemTime>; 2],
}

impl Tls {
    pub(super) fn load(certificate: PathBuf, key: PathBuf) -> Result<Tls, HttpError> {
        let changed = changed(&certificate, &key);
        let acceptor = read(&certificate, &key)?;
        Ok(Tls { certificate, key, current: Mutex::new(Current { acceptor, looked: Instant::now(), changed }) })
    }

    /// Returns what shakes hands with the certificate as it is now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let changed = changed(&self.certificate, &self.key);
            if changed != current.changed {
                match read(&self.certificate, &self.key) {
                    Ok(acceptor) => (current.acceptor, current.changed) = (acceptor, changed),
                    Err(error) => tracing::error!("the old certificate stays: {error}"),
                }
            }
        }
        current.acceptor.clone()
    }
}

fn changed(certificate: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok())
}

fn read(certificate: &Path, key: &Path) -> Result<TlsAcceptor, HttpError> {
    let wrong = |path: &Path, why: String| HttpError::Certificate { path: path.to_owned(), why };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
