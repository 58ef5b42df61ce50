//! The same inference in WebAssembly: `tests/firmware/conformance` in an interpreter that counts what it executes.

use crate::budgets::{ALLOCATION, Figures, check_absent};
use crate::job::Files;
use cipherlens_tests::firmware::Firmware;
use wasmi::{Caller, Config, Engine, Linker, Memory, Module, Store};

pub const TARGET: &str = "wasm32-unknown-unknown";

/// What the module gets and gives.
struct Host {
    job: Vec<u8>,
    read: usize,
    /// Lines, with the fuel that was left when they came.
    lines: Vec<(String, u64)>,
    line: String,
}

fn memory(caller: &Caller<'_, Host>) -> Memory {
    caller.get_export("memory").unwrap().into_memory().unwrap()
}

/// As `tests/firmware/conformance/src/job.rs` reads it.
fn job(files: &Files) -> Vec<u8> {
    let files = [&files.program, &files.keys, &files.input];
    let [program, keys, input] = files.map(|file| u32::try_from(file.len()).unwrap());
    let mut bytes: Vec<u8> = [0, 0, program, keys, input, 1].into_iter().flat_map(u32::to_le_bytes).collect();
    for file in files {
        bytes.extend(file);
        bytes.resize(bytes.len() + file.len().next_multiple_of(16) - file.len(), 0);
    }
    bytes
}

/// Runs one inference and returns figures and the output's digest.
pub fn run(files: &Files) -> (Figures, String) {
    // The build of `tests/tests/cross_target.rs`.
    let image =
        Firmware { name: "conformance", target: TARGET, variant: "default" }.build(env!("CARGO_TARGET_TMPDIR"), |_| ());
    check_absent(&image, &ALLOCATION);
    let bytes = std::fs::read(image).unwrap();
    let engine = Engine::new(Config::default().consume_fuel(true));
    let module = Module::new(&engine, &bytes).unwrap();
    let host = Host { job: job(files), read: 0, lines: Vec::new(), line: String::new() };
    let mut store = Store::new(&engine, host);
    store.set_fuel(u64::MAX).unwrap();
    let mut linker = Linker::new(&engine);
    let read = |mut caller: Caller<'_, Host>, at: u32, len: u32| -> u32 {
        let (bytes, host) = memory(&caller).data_and_store_mut(&mut caller);
        let count = (host.job.len() - host.read).min(len as usize);
        bytes[at as usize..][..count].copy_from_slice(&host.job[host.read..][..count]);
        host.read += count;
        count as u32
    };
    let write = |mut caller: Caller<'_, Host>, at: u32, len: u32| {
        let fuel = caller.get_fuel().unwrap();
        let (bytes, host) = memory(&caller).data_and_store_mut(&mut caller);
        host.line.push_str(std::str::from_utf8(&bytes[at as usize..][..len as usize]).unwrap());
        if let Some(line) = host.line.strip_suffix('\n') {
            host.lines.push((line.into(), fuel));
            host.line.clear();
        }
    };
    linker.func_wrap("host", "read", read).unwrap();
    linker.func_wrap("host", "write", write).unwrap();
    let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
    let start = instance.get_typed_func::<(), ()>(&store, "_start").unwrap();
    start.call(&mut store, ()).unwrap();
    let memory = instance.get_memory(&store, "memory").unwrap().data_size(&store);
    let lines = store.into_data().lines;
    let Some(output) = lines.last().and_then(|(line, _)| line.strip_prefix("output ")) else {
        panic!("{:?}", lines.last());
    };
    let mut figures = Figures::from([
        ("memory".into(), memory as u64),
        ("text".into(), bytes.len() as u64),
        ("program".into(), files.program.len() as u64),
        ("keys".into(), files.keys.len() as u64),
        ("arena".into(), files.program().arena_bytes() as u64),
    ]);
    for pair in lines.windows(2) {
        let [(_, before), (part, after)] = pair else { unreachable!() };
        let taken = before - after;
        match part.as_str() {
            "step" => {
                *figures.entry("steps".into()).or_default() += 1;
                *figures.entry("run".into()).or_default() += taken;
                let longest = figures.entry("longest".into()).or_default();
                *longest = taken.max(*longest);
            }
            "selftest" | "verify" => {
                figures.insert(part.clone(), taken);
            }
            _ => {}
        }
    }
    (figures, output.into())
}
