//! Whole inferences on emulated boards, without an operating system: the bits of this machine after every instruction,
//! and figures within `fixtures/budgets.toml`; on streamed keys, over losses of power, and with all that can go wrong.
//!
//! `tests/firmware/board` is built for each board and run in QEMU, which loads program, keys and input into external
//! memory and counts instructions (`-icount shift=0`). `CIPHERLENS_BLESS=1` writes the figures as the new budgets.

#[path = "boards/budgets.rs"]
mod budgets;
#[path = "boards/emulator.rs"]
mod emulator;
#[path = "boards/faults.rs"]
mod faults;
#[path = "boards/job.rs"]
mod job;
#[path = "boards/power.rs"]
mod power;
#[path = "boards/wasm.rs"]
mod wasm;

use budgets::{
    ALLOCATION, BUDGETS, Budget, Budgets, Figures, PANIC, check_absent, measure, over_budget, period, reserved,
};
use cipherlens_tests::fixtures::bless;
use emulator::{AARCH64, Board, CORTEX_M7, CORTEX_M55, CORTEX_M55_DDR, RISCV64};
use job::{Job, MICRO, files, whole};
use std::time::Instant;

/// What is measured: boards, and whether keys are streamed.
const RUNS: [(Board, bool); 7] = [
    (CORTEX_M7, false),
    (CORTEX_M7, true),
    (CORTEX_M55, false),
    (CORTEX_M55_DDR, false),
    (CORTEX_M55_DDR, true),
    (AARCH64, false),
    (RISCV64, false),
];

const TABLE_HEAD: &str = "
Sizes in KiB. Instructions in millions (in wasm32: wasmi's fuel), the longest step in thousands.

| board | model | keys | RAM | flash | self-test | verify | run | longest step | output |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// A row of the table.
fn row(name: &str, model: &str, figures: &Figures, output: &str) -> String {
    let kib = |figure: &str| format!("{:.0}", figures[figure] as f64 / 1024.0);
    let list =
        |names: &[&str]| names.iter().map(|name| format!("{} {name}", kib(name))).collect::<Vec<_>>().join(" + ");
    let millions = |figure: &str| format!("{:.1}", figures[figure] as f64 / 1e6);
    let keys = if let Some(reads) = figures.get("key-reads") {
        format!("{} streamed: {reads} reads, {} in all, {} at most", kib("keys"), kib("key-bytes"), kib("key-read-max"))
    } else {
        format!("{} mapped", kib("keys"))
    };
    let (ram, flash) = if figures.contains_key("memory") {
        (list(&["memory"]), list(&["text", "program"]))
    } else if figures.contains_key("directory") {
        (list(&["arena", "directory", "stack"]), list(&["text", "rodata", "program"]))
    } else {
        (list(&["arena", "stack"]), list(&["text", "rodata", "program", "keys"]))
    };
    format!(
        "| {name} | {model} | {keys} | {ram} | {flash} | {} | {} | {} | {:.0} | {} |",
        millions("selftest"),
        millions("verify"),
        millions("run"),
        figures["longest"] as f64 / 1e3,
        &output[..16],
    )
}

#[test]
fn every_board_gives_the_bits_of_this_machine() {
    let mut found = Budgets::new();
    let (mut differences, mut table) = (Vec::new(), Vec::new());
    for (board, streamed) in &RUNS {
        let name = format!("{}{}", board.name, if *streamed { "-streamed" } else { "" });
        let image = board.image();
        let (files, here) = (files(board.model), whole(board.model));
        let job = Job { streamed: *streamed, ..Job::new(files, period(&name)) };
        let run = board.run(if *streamed { "streamed" } else { "mapped" }, &job);
        println!("{name}: ran in {:.1} s", run.seconds);
        assert_eq!(run.status, Some(0), "{name}: {:#?}", run.log);
        differences
            .extend(run.digests.difference(&here.digests, &files.program()).map(|what| format!("{name}: {what}")));
        assert!(run.output.starts_with(&here.output), "{name}: another output is in memory than in the log");
        let mut figures = run.figures;
        measure(&image, &mut figures);
        check_absent(&image, &[&ALLOCATION[..], &[PANIC]].concat());
        assert!(!streamed || reserved(&image) < files.keys.len() as u64, "{name}: the keys would fit");
        figures.insert("program".into(), files.program.len() as u64);
        figures.insert("keys".into(), files.keys.len() as u64);
        table.push(row(board.name, board.model, &figures, &run.digests.output));
        found.insert(name, Budget { target: board.target.into(), figures });
    }
    let start = Instant::now();
    let (figures, output) = wasm::run(&MICRO);
    println!("wasm32: built and ran in {:.1} s", start.elapsed().as_secs_f64());
    if output != whole("mnist-micro").digests.output {
        differences.push(format!("wasm32: output {output}"));
    }
    table.push(row("wasm32", "mnist-micro", &figures, &output));
    found.insert("wasm32".into(), Budget { target: wasm::TARGET.into(), figures });

    let none = Budget::default();
    let over = |(name, found): (&String, &Budget)| {
        over_budget(name, &found.figures, &BUDGETS.get(name).unwrap_or(&none).figures)
    };
    let over: Vec<String> = found.iter().flat_map(over).collect();
    println!("{TABLE_HEAD}\n{}", table.join("\n"));
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    if bless() {
        return budgets::write(&found);
    }
    assert!(over.is_empty(), "\n{}", over.join("\n"));
}

/// The comparison can fail: it names the first instruction that differs, or the output.
#[test]
fn a_difference_is_named() {
    let program = MICRO.program();
    let expected = &whole("mnist-micro").digests;
    assert_eq!(expected.difference(expected, &program), None);
    let mut other = expected.clone();
    other.instructions.iter_mut().skip(2).for_each(|(_, digest)| *digest = "0".into());
    let layer = program.layer_name(program.instruction(2).unwrap().layer);
    let complaint = format!("instruction 2, layer {layer}: 0 is not {}", expected.instructions[&2]);
    assert_eq!(other.difference(expected, &program), Some(complaint));
    other.instructions.retain(|i, _| *i < 2);
    assert!(other.difference(expected, &program).unwrap().contains("nothing is not"));
    let other = job::Digests { output: "0".into(), ..expected.clone() };
    assert_eq!(other.difference(expected, &program), Some(format!("output: 0 is not {}", expected.output)));
}
