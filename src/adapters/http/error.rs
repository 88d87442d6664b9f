//! Why HTTP cannot be answered. Floor 3.
//!
//! **Invariant:** every variant names the address or the file.

use std::io;
use std::path::PathBuf;

/// Why HTTP cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another program there, or does it need another port?")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A certificate or its key cannot be used.
    #[error("cannot use the certificate {path}: {why}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}
