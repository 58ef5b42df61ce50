//! Entry point, standard input and output: system calls of Linux, or imports of a WebAssembly module.

#[cfg(not(target_arch = "wasm32"))]
pub use linux::{exit, read, write};
#[cfg(target_arch = "wasm32")]
pub use wasm::{exit, read, write};

#[cfg(not(target_arch = "wasm32"))]
mod linux {
    use core::arch::asm;

    /// Numbers of the system calls `read`, `write` and `exit`.
    #[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
    const NUMBERS: [usize; 3] = [63, 64, 93];
    #[cfg(any(target_arch = "arm", target_arch = "s390x"))]
    const NUMBERS: [usize; 3] = [3, 4, 1];
    #[cfg(target_arch = "x86_64")]
    const NUMBERS: [usize; 3] = [0, 1, 60];

    /// A system call.
    ///
    /// # Safety
    /// As the call.
    unsafe fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
        let result: isize;
        // SAFETY: the registers are those of Linux; the caller answers for the rest.
        unsafe {
            #[cfg(target_arch = "aarch64")]
            asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, options(nostack));
            #[cfg(target_arch = "riscv64")]
            asm!("ecall", in("a7") number, inlateout("a0") a => result, in("a1") b, in("a2") c, options(nostack));
            // r7 is the frame pointer of Thumb code.
            #[cfg(target_arch = "arm")]
            asm!("push {{r7}}", "mov r7, {number}", "svc 0", "pop {{r7}}", number = in(reg) number,
                inlateout("r0") a => result, in("r1") b, in("r2") c);
            #[cfg(target_arch = "s390x")]
            asm!("svc 0", in("r1") number, inlateout("r2") a => result, in("r3") b, in("r4") c, options(nostack));
            #[cfg(target_arch = "x86_64")]
            asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result
    }

    /// Reads some bytes; 0 at the end.
    pub fn read(bytes: &mut [u8]) -> usize {
        // SAFETY: the kernel writes into the slice.
        let count = unsafe { call(NUMBERS[0], 0, bytes.as_mut_ptr().addr(), bytes.len()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Writes all bytes.
    pub fn write(mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // SAFETY: the kernel reads the slice.
            let count = unsafe { call(NUMBERS[1], 1, bytes.as_ptr().addr(), bytes.len()) };
            let Some(rest) = usize::try_from(count).ok().filter(|&n| n > 0).and_then(|n| bytes.get(n..)) else {
                return;
            };
            bytes = rest;
        }
    }

    /// Ends the process.
    pub fn exit(code: u8) -> ! {
        loop {
            // SAFETY: the process ends here.
            unsafe { call(NUMBERS[2], code.into(), 0, 0) };
        }
    }

    // The stack pointer as the kernel leaves it is not what these ABIs expect inside a function.
    #[cfg(target_arch = "x86_64")]
    core::arch::global_asm!(".globl _start", "_start:", "and rsp, -16", "call {start}", start = sym start);
    #[cfg(target_arch = "s390x")]
    core::arch::global_asm!(".globl _start", "_start:", "aghi %r15, -160", "brasl %r14, {start}", start = sym start);

    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "s390x")), unsafe(export_name = "_start"))]
    extern "C" fn start() -> ! {
        crate::main();
        exit(0)
    }
}

#[cfg(target_arch = "wasm32")]
mod wasm {
    #[link(wasm_import_module = "host")]
    unsafe extern "C" {
        #[link_name = "read"]
        fn host_read(bytes: *mut u8, len: usize) -> usize;
        #[link_name = "write"]
        fn host_write(bytes: *const u8, len: usize);
    }

    /// Reads some bytes; 0 at the end.
    pub fn read(bytes: &mut [u8]) -> usize {
        // SAFETY: the host writes into the slice.
        unsafe { host_read(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Writes all bytes.
    pub fn write(bytes: &[u8]) {
        // SAFETY: the host reads the slice.
        unsafe { host_write(bytes.as_ptr(), bytes.len()) }
    }

    /// Traps.
    pub fn exit(_: u8) -> ! {
        core::arch::wasm32::unreachable()
    }

    #[unsafe(no_mangle)]
    extern "C" fn _start() {
        crate::main();
    }
}
