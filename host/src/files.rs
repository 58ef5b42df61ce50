//! Reading and writing files so that nothing is lost and every error names the file.

use cipherlens_kernel::params::{ParamSet, named};
use cipherlens_kernel::wire::WireError;
use std::io::Write;
use std::path::Path;

/// Why the content of a file is refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum FileError {
    /// The format.
    #[error("{0}")]
    Wire(WireError),
    /// Made with a parameter set that this release does not know.
    #[error("unknown parameter set {}; name the program it belongs to", hex(.0))]
    UnknownSet([u8; 16]),
}

impl From<WireError> for FileError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// The named set, or `custom`, with this fingerprint.
///
/// # Errors
/// [`FileError::UnknownSet`] if there is none.
pub fn set_by_fingerprint(fingerprint: &[u8; 16], custom: Option<&ParamSet>) -> Result<ParamSet, FileError> {
    named::ALL
        .iter()
        .chain(custom)
        .find(|set| set.fingerprint() == *fingerprint)
        .copied()
        .ok_or(FileError::UnknownSet(*fingerprint))
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes a file by way of a temporary one beside it, so that a full disk or a crash leaves the old file as it
/// was. Secret files get mode 0600 from the start. What is there and is no regular file (a device, a pipe) is
/// written to as it is; a link is followed.
///
/// # Errors
/// Any error of the file system, with the path.
pub fn write_atomic(path: &Path, bytes: &[u8], secret: bool) -> anyhow::Result<()> {
    use anyhow::Context;
    replace(path, bytes, secret).with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, bytes: &[u8], secret: bool) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidFilename)?;
    let temporary = path.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
    let attempt = || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if secret {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    attempt().inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

/// Reads a whole file.
///
/// # Errors
/// Any error of the file system, with the path.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    use anyhow::Context;
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
