//! What is wrong ends a run with the status for it, and without an output.

use crate::budgets::period;
use crate::emulator::{AARCH64, Board, CORTEX_M7, CORTEX_M55, CORTEX_M55_DDR, RISCV64, Run};
use crate::job::{Fault, Files, Job, MICRO, MNIST};
use cipherlens_kernel::keys::{KeySource, MappedKeys};
use cipherlens_kernel::layers::KeyAccess;

/// A status, and a log of nothing but digests and the reason.
fn check(board: &Board, case: &str, run: &Run, status: i32, message: &str) {
    println!("{}, {case}: {:?}, {:?}, {:.1} s", board.name, run.status, run.log.last(), run.seconds);
    assert_eq!(run.status, Some(status), "{}, {case}: {:?}", board.name, run.log);
    let reasons: Vec<_> = run.log.iter().filter(|line| !line.starts_with("instruction ")).collect();
    if message.is_empty() {
        assert!(reasons.is_empty(), "{case}: {reasons:?}");
    } else {
        let [reason] = reasons[..] else { panic!("{case}: {reasons:?}") };
        assert!(reason.starts_with(message), "{case}: {reason}");
    }
    assert!(run.output.len() >= 1 << 20 && run.output.iter().all(|byte| *byte == 0), "{case}: there is an output");
}

#[test]
fn faults_have_a_status() {
    let whole = Job::new(&MICRO, period(CORTEX_M7.name));
    let with_files = |change: &dyn Fn(&mut Files)| {
        let mut job = whole.clone();
        change(&mut job.files);
        job
    };
    let with_fault = |fault| Job { fault, ..whole.clone() };
    let flip = |file: &mut Vec<u8>, at: usize| file[at] ^= 1;
    let cases = [
        ("damaged-program", with_files(&|f| flip(&mut f.program, 9000)), 2, "Program("),
        ("cut-keys", with_files(&|f| f.keys.truncate(f.keys.len() / 2)), 3, "Keys(File(Truncated {"),
        ("damaged-key", with_files(&|f| flip(&mut f.keys, 1 << 20)), 3, "Keys(File(Digest {"),
        // More RAM than the board's image sets aside.
        ("small-arena", with_files(&|f| f.program = MNIST.program.clone()), 4, "Engine(ArenaTooSmall { need: "),
        ("damaged-input", with_files(&|f| flip(&mut f.input, 40)), 5, "Input("),
        ("self-test", with_fault(Fault::SelfTest(1)), 8, "SelfTest(Answer)"),
        ("self-test-last", with_fault(Fault::SelfTest(56)), 8, "SelfTest(Answer)"),
        ("hang", with_fault(Fault::Hang(100)), 103, ""),
        ("hang-at-once", with_fault(Fault::Hang(1)), 103, ""),
        // A period that is too short for the longest step.
        ("slow", Job { period: period(CORTEX_M7.name) / 8, ..whole.clone() }, 103, ""),
        ("recursion", with_fault(Fault::Recursion), 104, ""),
    ];
    for (case, job, status, message) in cases {
        check(&CORTEX_M7, case, &CORTEX_M7.run(case, &job), status, message);
    }
    // An image knows which program it was built for.
    let other = Files { contract: MNIST.contract.clone(), ..MICRO.clone() };
    let other = Job::new(&other, period(CORTEX_M55_DDR.name));
    check(&CORTEX_M55_DDR, "other-program", &CORTEX_M55_DDR.run("other-program", &other), 13, "Contract");
    let unknown = |at: usize| {
        let mut bytes = whole.bytes();
        bytes[4 * at] ^= 64;
        bytes
    };
    let cases = [
        ("no-job", vec![0; 64]),
        // Longer than the memory that it is in.
        ("cut-job", [b"CLJB".to_vec(), vec![0xFF; 16], vec![0; 44]].concat()),
        ("unknown-source", unknown(5)),
        ("unknown-fault", unknown(9)),
        ("unknown-word", unknown(15)),
    ];
    for (case, job) in cases {
        check(&CORTEX_M7, case, &CORTEX_M7.run_bytes(case, &job, None), 1, "Job");
    }
}

/// Keys that cannot be read, or not as they were written.
#[test]
fn storage_that_fails_ends_the_run() {
    let name = "mps2-an500-streamed";
    let whole = Job { streamed: true, ..Job::new(&MICRO, period(name)) };
    let reads = CORTEX_M7.run("streamed-reads", &whole).figures["key-reads"] as u32;
    // Opening takes four reads: the header, what is left of the front, the directory, the last byte.
    for (number, status, message) in [
        (1, 3, "Keys(Read {"),
        (4, 3, "Keys(Read {"),
        (5, 11, "Engine(Key(Read {"),
        (reads / 2, 11, "Engine(Key(Read {"),
        (reads, 11, "Engine(Key(Read {"),
    ] {
        let case = format!("read-{number}");
        let job = Job { fault: Fault::Read(number), ..whole.clone() };
        check(&CORTEX_M7, &case, &CORTEX_M7.run(&case, &job), status, message);
    }
    let keys = &MICRO.keys;
    for cut in [0, 63, 100, 1000, keys.len() / 2, keys.len() - 1] {
        let case = format!("cut-to-{cut}");
        let cut = keys[..cut].to_vec();
        let run = CORTEX_M7.run_bytes(&case, &whole.bytes(), Some(&cut));
        check(&CORTEX_M7, &case, &run, 3, "Keys(File(Truncated {");
    }
    let run = CORTEX_M7.run_bytes("no-file", &whole.bytes(), None);
    check(&CORTEX_M7, "no-file", &run, 3, "Keys(Read { offset: 0, code: 1 })");

    // One bit of the block whose first use is the last, at its start and at its end; and one of the directory.
    let mapped = MappedKeys::verify(keys).unwrap();
    let place = |access: &KeyAccess| {
        let key = mapped.find(access.kind, access.limbs).unwrap();
        let entry = mapped.bundle().entry(key.index).unwrap();
        mapped.bundle().directory().place(&entry, access.block(&key)).unwrap()
    };
    let uses: Vec<_> = MICRO.program().key_accesses().map(|access| (access.instruction, place(&access))).collect();
    let is_first = |i: &usize| uses[..*i].iter().all(|(_, place)| *place != uses[*i].1);
    let (instruction, (start, len)) = uses[(0..uses.len()).rev().find(is_first).unwrap()];
    let late = "Engine(Key(Damaged {";
    for (at, status, message) in [(start, 11, late), (start + len - 1, 11, late), (500, 3, "Keys(File(")] {
        let case = format!("flipped-{at}");
        let mut keys = keys.clone();
        keys[at] ^= 0x10;
        let run = CORTEX_M7.run_bytes(&case, &whole.bytes(), Some(&keys));
        check(&CORTEX_M7, &case, &run, status, message);
        assert_eq!(run.digests.instructions.len(), if status == 3 { 0 } else { instruction }, "{case}");
    }
}

/// The self-test, and the stack's end, on the other processors; the watchdog on the other that has one.
#[test]
fn other_boards_find_their_faults() {
    for board in [&CORTEX_M55, &AARCH64, &RISCV64] {
        let job = Job::new(&MICRO, period(board.name));
        let faults = [
            ("self-test", Fault::SelfTest(20), 8, "SelfTest(Answer)"),
            ("recursion", Fault::Recursion, 104, ""),
            ("hang", Fault::Hang(150), 103, ""),
        ];
        for (case, fault, status, message) in faults {
            if status != 103 || board.target.starts_with("thumb") {
                check(board, case, &board.run(case, &Job { fault, ..job.clone() }), status, message);
            }
        }
    }
}
