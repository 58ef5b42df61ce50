//! Power that goes during a run.

use crate::budgets::period;
use crate::emulator::{AARCH64, Board, CORTEX_M7, CORTEX_M55, CORTEX_M55_DDR, RISCV64, Run};
use crate::job::{Job, MICRO, MNIST, files, whole};
use cipherlens_tests::sha256;

/// The end of a run that went on from a checkpoint: the digests of a whole one.
fn check(model: &str, what: &str, run: &Run) {
    assert_eq!(run.status, Some(0), "{what}: {:?}", run.log);
    let first = run.digests.instructions.keys().next().copied().unwrap_or(usize::MAX);
    let expected = whole(model).digests.from(first);
    assert_eq!(run.digests.difference(&expected, &files(model).program()), None, "{what}");
}

fn job(board: &Board) -> Job {
    Job::new(&MICRO, period(board.name))
}

/// A run is cut on one machine and goes on with the same bits on any, on mapped or on streamed keys.
#[test]
fn a_run_goes_on_after_a_power_cut_on_any_machine() {
    let whole = whole("mnist-micro");
    // While tables are built, before the first pass, in the middle, before the last step, after it.
    for steps in [1, 9, 60, 143, 222, whole.steps - 1, whole.steps] {
        let here = MICRO.run_here(&[], Some(steps));
        let cut = CORTEX_M7.run(&format!("cut-{steps}"), &Job { power: (steps, u32::MAX), ..job(&CORTEX_M7) });
        assert_eq!(cut.status, Some(10), "{:?}", cut.log);
        assert!(cut.checkpoint == here.checkpoint, "after step {steps}, the checkpoint differs from this machine's");
        assert_eq!(cut.digests.instructions, here.digests.instructions, "after step {steps}");
        println!(
            "after step {steps}: {} bytes, {} instructions",
            cut.checkpoint.len(),
            here.digests.instructions.len()
        );

        for (i, board) in [&CORTEX_M7, &CORTEX_M55, &AARCH64, &RISCV64].into_iter().enumerate() {
            let streamed = (steps as usize + i) % 2 == 1;
            let resumed = Job { checkpoint: cut.checkpoint.clone(), streamed, ..job(board) };
            let run = board.run(&format!("resumed-{steps}"), &resumed);
            let what = format!("{} from step {steps}, streamed: {streamed}", board.name);
            check("mnist-micro", &what, &run);
            // The run that was cut may not have come to the digest of an instruction that it ended with; no more is missing.
            let first = run.digests.instructions.keys().next().copied().unwrap_or(whole.digests.instructions.len());
            let before = here.digests.instructions.len();
            assert!(first <= before + 1, "{what}: goes on with {first} after {before}");
        }
        assert_eq!(MICRO.run_here(&cut.checkpoint, None).digests.output, whole.digests.output);
    }
}

/// The larger network, on streamed keys, from a microcontroller to a gateway.
#[test]
fn a_larger_run_goes_on_elsewhere() {
    let job = Job { streamed: true, ..Job::new(&MNIST, period("mps3-an547-ddr-streamed")) };
    let cut = CORTEX_M55_DDR.run("cut", &Job { power: (700, u32::MAX), ..job.clone() });
    assert_eq!(cut.status, Some(10), "{:?}", cut.log);
    assert!(cut.checkpoint == MNIST.run_here(&[], Some(700)).checkpoint);
    println!("{} bytes", cut.checkpoint.len());
    let run = AARCH64.run("resumed-mnist", &Job { checkpoint: cut.checkpoint, ..job });
    check("mnist", "virt-aarch64", &run);
}

/// The other processors write the same file.
#[test]
fn a_checkpoint_is_the_same_file_on_every_machine() {
    let here = MICRO.run_here(&[], Some(130)).checkpoint;
    for board in [&CORTEX_M55, &AARCH64, &RISCV64] {
        let cut = board.run("cut", &Job { power: (130, u32::MAX), streamed: true, ..job(board) });
        assert_eq!(cut.status, Some(10), "{}: {:?}", board.name, cut.log);
        assert_eq!(sha256(&cut.checkpoint), sha256(&here), "{}", board.name);
    }
}

/// The power goes while the checkpoint is written, or the flash that it is in forgets: it is refused, nothing is
/// written, and the run can start again.
#[test]
fn a_torn_or_damaged_checkpoint_is_refused() {
    let checkpoint = MICRO.run_here(&[], Some(100)).checkpoint;
    let refused = |case: &str, checkpoint: Vec<u8>| {
        let run = CORTEX_M7.run(case, &Job { checkpoint, ..job(&CORTEX_M7) });
        assert_eq!(run.status, Some(9), "{case}: {:?}", run.log);
        assert!(matches!(&run.log[..], [reason] if reason.starts_with("Checkpoint(")), "{case}: {:?}", run.log);
        assert!(run.output.iter().all(|byte| *byte == 0), "{case}: there is an output");
    };
    let len = checkpoint.len() as u32;
    for written in [1, 63, 64, 200, len / 2, len - 1] {
        let cut = CORTEX_M7.run("tearing", &Job { power: (100, written), ..job(&CORTEX_M7) });
        assert_eq!((cut.status, cut.checkpoint.len()), (Some(10), written as usize), "{:?}", cut.log);
        refused(&format!("torn-{written}"), cut.checkpoint);
    }
    for at in [0, 20, 100, 115, checkpoint.len() / 2, checkpoint.len() - 1] {
        let mut damaged = checkpoint.clone();
        damaged[at] ^= 4;
        refused(&format!("damaged-{at}"), damaged);
    }
    let run = CORTEX_M7.run("again", &job(&CORTEX_M7));
    check("mnist-micro", "from the start", &run);
    assert_eq!(run.digests, whole("mnist-micro").digests);
}
