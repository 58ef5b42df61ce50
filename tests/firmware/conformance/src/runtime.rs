//! What compiled code refers to, where neither a C library nor the compiler's own brings it.

use core::ffi::c_int;

/// Copies `len` bytes between regions that do not overlap.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    for i in 0..len {
        // SAFETY: the caller promises `len` bytes in both.
        unsafe { *to.add(i) = *from.add(i) };
    }
    to
}

/// Copies `len` bytes between regions that may overlap.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    let up = to.addr() < from.addr();
    for i in 0..len {
        let i = if up { i } else { len - 1 - i };
        // SAFETY: the caller promises `len` bytes in both; the order never reads what was written.
        unsafe { *to.add(i) = *from.add(i) };
    }
    to
}

/// Fills `len` bytes.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: c_int, len: usize) -> *mut u8 {
    for i in 0..len {
        // SAFETY: the caller promises `len` bytes.
        unsafe { *to.add(i) = byte as u8 };
    }
    to
}

/// Compares `len` bytes.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> c_int {
    for i in 0..len {
        // SAFETY: the caller promises `len` bytes in both.
        let (a, b) = unsafe { (*a.add(i), *b.add(i)) };
        if a != b {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

/// Whether `len` bytes differ.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> c_int {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, len) }
}

/// Named in the unwind tables of the core library; nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
