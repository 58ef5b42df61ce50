//! Keys in storage that cannot be mapped: the host's file `keys` stands for an SD card or a serial flash.

use crate::job::Fault;
use crate::machine::File;
use cipherlens_kernel::keys::{KeyError, KeyReader, ReadError};
use core::cell::Cell;

/// The device's number for a job's [`Fault::Read`].
const FAILED: u32 = 5;
/// For a file that the host does not open or read.
const HOST: u32 = 1;

/// The file, and what was read of it.
pub struct Storage {
    file: File,
    bytes: u64,
    failing: u32,
    reads: Cell<u32>,
    read_bytes: Cell<u64>,
    largest: Cell<usize>,
}

impl Storage {
    pub fn open(fault: Fault) -> Result<Self, KeyError> {
        let failed = KeyError::Read { offset: 0, code: HOST };
        let file = File::open(c"keys").ok_or(failed)?;
        let bytes = file.len().ok_or(failed)? as u64;
        let failing = if let Fault::Read(number) = fault { number } else { 0 };
        Ok(Self { file, bytes, failing, reads: Cell::new(0), read_bytes: Cell::new(0), largest: Cell::new(0) })
    }

    /// Logs what was read, the directory included.
    pub fn log(&self) {
        defmt::info!("key-reads {=u32}", self.reads.get());
        defmt::info!("key-bytes {=u64}", self.read_bytes.get());
        defmt::info!("key-read-max {=usize}", self.largest.get());
    }
}

impl KeyReader for Storage {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        let len = out.len();
        self.reads.set(self.reads.get().wrapping_add(1));
        self.read_bytes.set(self.read_bytes.get().wrapping_add(len as u64));
        self.largest.set(self.largest.get().max(len));
        if self.reads.get() == self.failing {
            return Err(ReadError::Device { code: FAILED });
        }
        if offset.checked_add(len as u64).is_none_or(|end| end > self.bytes) {
            return Err(ReadError::End { have: self.bytes });
        }
        self.file.read(offset as usize, out).ok_or(ReadError::Device { code: HOST })
    }
}
