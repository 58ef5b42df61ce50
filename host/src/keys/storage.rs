//! Evaluation keys read from their file while they are used.

use cipherlens_kernel::keys::{KeyReader, ReadError};
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// A key file that stays on disk: reads at any place, from any thread.
#[derive(Debug)]
pub struct KeyFile {
    file: File,
    bytes: u64,
}

impl KeyFile {
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    /// Length when the file was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    #[cfg(unix)]
    fn read_some(&self, out: &mut [u8], offset: u64) -> Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, out, offset)
    }

    #[cfg(windows)]
    fn read_some(&self, out: &mut [u8], offset: u64) -> Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, out, offset)
    }
}

impl KeyReader for KeyFile {
    fn read(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), ReadError> {
        let device = |error: Error| ReadError::Device { code: error.raw_os_error().unwrap_or(0) as u32 };
        let mut done = 0;
        while done < out.len() {
            match self.read_some(&mut out[done..], offset + done as u64) {
                Ok(0) => return Err(ReadError::End { have: self.file.metadata().map_err(device)?.len() }),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(device(error)),
            }
        }
        Ok(())
    }
}
