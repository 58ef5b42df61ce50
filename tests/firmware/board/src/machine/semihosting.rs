//! What the machine asks of the host that it is attached to: console, files and the end of the run.

use super::processor::semihost;
use core::ffi::CStr;

/// An operation with a block of parameters.
///
/// # Safety
/// The parameters are what the operation expects.
unsafe fn call<const N: usize>(operation: usize, block: [usize; N]) -> usize {
    // SAFETY: these operations take the address of their parameters; the caller answers for the rest.
    unsafe { semihost(operation, (&raw const block).expose_provenance()) }
}

/// Prints bytes on the host's console.
pub fn print(bytes: &[u8]) {
    for byte in bytes {
        // SAFETY: SYS_WRITEC reads one byte there.
        unsafe { semihost(0x03, (&raw const *byte).expose_provenance()) };
    }
}

/// Ends the emulation with a status.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: SYS_EXIT_EXTENDED reads two words: ADP_Stopped_ApplicationExit and the status.
        unsafe { call(0x20, [0x20026, status.into()]) };
    }
}

/// A file of the host, open to the end of the run.
pub struct File(usize);

impl File {
    /// A file that exists.
    pub fn open(name: &CStr) -> Option<Self> {
        Self::with_mode(name, 1)
    }

    /// An empty file.
    pub fn create(name: &CStr) -> Option<Self> {
        Self::with_mode(name, 5)
    }

    /// As C's `rb` (1) or `wb` (5).
    fn with_mode(name: &CStr, mode: usize) -> Option<Self> {
        let name = name.to_bytes();
        // SAFETY: SYS_OPEN reads the name, whose zero byte follows it.
        let file = unsafe { call(0x01, [name.as_ptr().expose_provenance(), mode, name.len()]) };
        (file != usize::MAX).then_some(Self(file))
    }

    /// Its bytes.
    pub fn len(&self) -> Option<usize> {
        // SAFETY: SYS_FLEN takes the file.
        let len = unsafe { call(0x0C, [self.0]) };
        (len != usize::MAX).then_some(len)
    }

    /// Fills `out` with the bytes from `offset` on.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Option<()> {
        // SAFETY: SYS_SEEK takes file and offset, SYS_READ writes to `out` and returns how many bytes are missing.
        let missing = unsafe {
            if call(0x0A, [self.0, offset]) != 0 {
                return None;
            }
            call(0x06, [self.0, out.as_mut_ptr().expose_provenance(), out.len()])
        };
        (missing == 0).then_some(())
    }

    /// Appends bytes.
    pub fn write(&self, bytes: &[u8]) -> Option<()> {
        // SAFETY: SYS_WRITE reads `bytes` and returns how many it has not written.
        let missing = unsafe { call(0x05, [self.0, bytes.as_ptr().expose_provenance(), bytes.len()]) };
        (missing == 0).then_some(())
    }
}
