//! Memory, known before flashing: budgets that steer the compiler, and constants that are what really is taken.

use cipherlens::client::argmax;
use cipherlens::compile::simulate::simulate;
use cipherlens::compile::{Budget, CompileError, CompileOptions, Compiled, Needs, OverBudget, compile};
use cipherlens::contract::{Contract, identifier};
use cipherlens::datasets::{Dataset, Digits};
use cipherlens::models;
use cipherlens::targets;
use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::{MappedKeys, StreamedKeys};
use cipherlens_kernel::program::Program;
use std::path::Path;
use std::process::Command;

const MODEL: &str = "mnist-micro";
/// Of plans that take nearly the same time the smallest is taken where there is no budget.
const NEAR: f64 = 1.03;

fn under(budget: Budget, target: Option<&str>) -> Result<Compiled, Box<OverBudget>> {
    let target = target.map(|name| targets::by_name(name).expect("a measured target"));
    let options = CompileOptions { budget, target, ..Default::default() };
    compile(&models::by_name(MODEL).expect(MODEL).graph(), &options).map_err(|error| match error {
        CompileError::Budget(over) => over,
        other => panic!("{other}"),
    })
}

fn ram(bytes: usize) -> Budget {
    Budget { ram: Some(bytes), flash: None }
}

fn flash(bytes: usize) -> Budget {
    Budget { ram: None, flash: Some(bytes) }
}

fn needs(compiled: &Compiled) -> Needs {
    let r = &compiled.report;
    Needs { ms: r.predicted_ms, ram: r.arena_bytes, flash: r.program_bytes + r.key_bytes }
}

/// The slot program computes what the network computes.
fn is_exact(compiled: &Compiled) {
    let graph = models::by_name(MODEL).expect(MODEL).graph();
    for index in 0..3 {
        let image = Digits::drawn().image(index).expect("a digit");
        let clear = graph.evaluate(&image).expect("the shapes fit");
        let input = image.iter().map(|&x| f64::from(x)).collect();
        let scores = &simulate(&compiled.lowered.program, &[input])[0];
        let size = clear.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        assert!(scores.iter().zip(&clear).all(|(&s, &c)| (s - f64::from(c)).abs() < 1e-4 * f64::from(size)));
        assert_eq!(argmax(scores), argmax(&clear.iter().map(|&c| f64::from(c)).collect::<Vec<_>>()));
    }
}

#[test]
fn a_budget_that_just_suffices_changes_nothing() {
    let free = under(Budget::default(), None).unwrap();
    let n = needs(&free);
    for budget in [ram(n.ram), flash(n.flash), Budget { ram: Some(n.ram), flash: Some(n.flash) }] {
        assert_eq!(under(budget, None).unwrap().bytes, free.bytes, "{budget}");
    }
    // The target's stack, code and constants count.
    let target = &targets::all()[0];
    let (others, name) = (target.text_bytes + target.rodata_bytes, Some(target.target.as_str()));
    let exact = Budget { ram: Some(n.ram + target.stack_bytes), flash: Some(n.flash + others) };
    assert_eq!(under(exact, name).unwrap().bytes, free.bytes);
    let less = under(flash(n.flash + others - 1), name).unwrap();
    assert!(needs(&less).flash < n.flash);
    let image = &less.report.targets[0];
    assert_eq!(image.ram_bytes, less.report.arena_bytes + target.stack_bytes);
    assert_eq!(image.flash_bytes, needs(&less).flash + others);
}

#[test]
fn a_byte_less_gives_the_next_plan_and_at_last_advice() {
    let mut last = under(Budget::default(), None).unwrap();
    let mut plans = 1;
    let over = loop {
        is_exact(&last);
        let budget = flash(needs(&last).flash - 1);
        match under(budget, None) {
            Ok(next) => {
                assert!(budget.admits(&needs(&next)));
                assert!(next.report.predicted_ms * NEAR >= last.report.predicted_ms, "less flash is no faster");
                assert!(next.report.precision_bits >= 7.25);
                let taken: Vec<_> = next.report.candidates.iter().filter(|c| c.rejected.is_none()).collect();
                assert_eq!((taken.len(), taken[0].key_bytes), (1, next.report.key_bytes));
                last = next;
                plans += 1;
            }
            Err(over) => break over,
        }
    };
    assert!(plans >= 3, "{plans} plans between speed and flash");
    // Nothing smaller was found than what the last budget gave, and what the error advises does.
    let least = over.enough.iter().map(|(_, needs)| needs.flash).min();
    assert_eq!(least, Some(needs(&last).flash));
    for (what, advised) in &over.enough {
        let found = under(Budget { ram: Some(advised.ram), flash: Some(advised.flash) }, None).expect(what);
        assert!(found.report.predicted_ms <= advised.ms + 1e-9, "{what}");
    }
}

#[test]
fn an_impossible_budget_names_what_would_do() {
    for budget in [ram(1 << 16), flash(1 << 16), Budget { ram: Some(1 << 16), flash: Some(1 << 16) }] {
        let over = under(budget, None).err().expect("nothing is that small");
        assert!(!over.enough.is_empty() && over.enough.iter().all(|e| !budget.admits(&e.1)));
        let text = over.to_string();
        for part in ["no plan fits", "65536 bytes", "the fastest needs", "least RAM: ", "KiB"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    // With one of two budgets within reach, the advice keeps to it.
    let free = needs(&under(Budget::default(), None).unwrap());
    let over = under(Budget { ram: Some(free.ram), flash: Some(1 << 16) }, None).err().expect("too little flash");
    let (what, advised) = over.enough[0];
    assert!(what == "least flash within that RAM" && advised.ram <= free.ram && advised.flash <= free.flash, "{over}");
}

#[test]
fn a_cache_counts_where_that_is_asked_for() {
    let graph = models::by_name(MODEL).expect(MODEL).graph();
    let free = under(Budget::default(), None).unwrap().report;
    let with = |bytes| compile(&graph, &CompileOptions { budget: ram(bytes), cache: true, ..Default::default() });
    assert_eq!(with(free.arena_bytes + free.cache_bytes).unwrap().report.fingerprint, free.fingerprint);
    match with(free.arena_bytes + free.cache_bytes - 1) {
        Ok(less) => assert!(less.report.arena_bytes + less.report.cache_bytes < free.arena_bytes + free.cache_bytes),
        Err(error) => assert!(matches!(error, CompileError::Budget(_))),
    }
}

/// Runs a command in `dir` and gives what it prints.
fn run(dir: &Path, command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).current_dir(dir).args(arguments).output().expect(command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Every size of the program in `dir`, as it turns out when all four parties have done their part.
fn measured(dir: &Path) -> Vec<(&'static str, usize)> {
    let file = |name: &str| std::fs::read(dir.join(name)).expect(name);
    let (bytes, keys, input, output) = (file("m.clp"), file("k/keys.clk"), file("in.clx"), file("out.clx"));
    let program = Program::verify(&bytes).unwrap();
    let mapped = || MappedKeys::verify(&keys).unwrap();
    // Aligned as an arena has to be.
    let mut words = vec![0u64; program.arena_bytes() / 8];
    let arena: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    let (_, short) = arena.split_at_mut(4);
    let need = match Engine::new(program, mapped(), short).err() {
        Some(EngineError::ArenaTooSmall { need, .. }) => need,
        other => panic!("{other:?}"),
    };
    let mut engine = Engine::new(program, mapped(), arena).unwrap();
    engine.set_input(&input).unwrap();
    let mut checkpoint = 0;
    while engine.step().unwrap() != Progress::Done {
        checkpoint = checkpoint.max(engine.checkpoint_bytes().unwrap());
    }
    let mut result = vec![0; engine.output_bytes(0).unwrap()];
    engine.write_output(0, &mut result).unwrap();
    assert!(result == output, "the same bits as by `cipherlens run`");
    // The cache holds all that the engine expands; a byte less does not.
    let all = program.cache_bytes();
    let expanded = |bytes: usize| {
        let mut cache = vec![0u64; bytes.div_ceil(8)];
        let mut arena = vec![0u64; need / 8];
        let mut engine = Engine::new(program, mapped(), bytemuck::cast_slice_mut(&mut arena)).unwrap();
        engine.set_cache(&mut bytemuck::cast_slice_mut(&mut cache)[..bytes]).unwrap();
        engine.set_input(&input).unwrap();
        engine.run().unwrap();
        engine.counts().plain_ntts
    };
    assert!(expanded(all) == 0 && expanded(all - 1) > 0);
    vec![
        ("ARENA_BYTES", need),
        ("CACHE_BYTES", all),
        ("PROGRAM_BYTES", bytes.len()),
        ("KEY_BYTES", keys.len()),
        ("KEY_DIRECTORY_BYTES", StreamedKeys::directory_bytes(&&keys[..]).unwrap()),
        ("CHECKPOINT_BYTES", checkpoint),
        ("INPUT_BYTES", input.len()),
        ("OUTPUT_BYTES", result.len()),
    ]
}

#[test]
fn constants_are_what_is_taken() {
    let dir = tempfile::TempDir::new().expect("a folder");
    let dir = dir.path();
    let cli = |arguments: &str| run(dir, env!("CARGO_BIN_EXE_cipherlens"), &arguments.split(' ').collect::<Vec<_>>());
    let report: serde_json::Value =
        serde_json::from_str(&cli(&format!("compile {MODEL} -o m.clp --rust contract.rs --header contract.h --json")))
            .expect("a report");
    cli("keygen --program m.clp --out k -q");
    cli("encrypt --program m.clp --key k/secret.cls --digit 3 -o in.clx -q");
    cli("run --program m.clp --keys k/keys.clk --input in.clx -o out.clx -q");

    let mut expected = measured(dir);
    for (name, bytes) in &expected {
        assert_eq!(report[name.to_lowercase()], *bytes, "{name}");
    }
    let mut rust = "#![deny(warnings)]\nmod contract;\nfn main() {\n".to_string();
    let mut c = "#include <stdio.h>\n#include \"contract.h\"\n#include \"contract.h\"\nint main(void) {\n".to_string();
    let mut say = |path: &str, macro_name: &str| {
        rust += &format!("println!(\"{{}}\", contract::{path});\n");
        c += &format!("printf(\"%u\\n\", CIPHERLENS_{macro_name});\n");
    };
    for (name, _) in &expected {
        say(name, name);
    }
    for (target, image) in targets::all().iter().zip(report["targets"].as_array().expect("targets")) {
        let module = identifier(&target.target);
        let arena = expected[0].1;
        let sizes = [
            ("STACK_BYTES", target.stack_bytes),
            ("TEXT_BYTES", target.text_bytes),
            ("RODATA_BYTES", target.rodata_bytes),
            ("RAM_BYTES", arena + target.stack_bytes),
            ("FLASH_BYTES", expected[2].1 + expected[3].1 + target.text_bytes + target.rodata_bytes),
        ];
        assert_eq!(image["target"], target.target.as_str());
        for (name, bytes) in sizes {
            assert_eq!(image[name.to_lowercase()], bytes, "{module} {name}");
            say(&format!("{module}::{name}"), &format!("{}_{name}", module.to_uppercase()));
            expected.push((name, bytes));
        }
    }
    let fingerprint = Program::verify(&std::fs::read(dir.join("m.clp")).expect("m.clp")).unwrap().fingerprint();
    rust += "println!(\"{:?}\", contract::PROGRAM_FINGERPRINT);\n}\n";
    c += "static const unsigned char f[16] = CIPHERLENS_PROGRAM_FINGERPRINT;\nprintf(\"[%u\", f[0]);\n";
    c += "for (int i = 1; i < 16; i++) printf(\", %u\", f[i]);\nprintf(\"]\\n\");\nreturn 0;\n}\n";
    let mut lines: Vec<String> = expected.iter().map(|e| e.1.to_string()).collect();
    lines.push(format!("{fingerprint:?}"));

    std::fs::write(dir.join("main.rs"), rust).expect("main.rs");
    run(dir, "rustc", &["--edition", "2024", "main.rs", "-o", "main-rust"]);
    assert_eq!(run(dir, "./main-rust", &[]).lines().collect::<Vec<_>>(), lines);
    std::fs::write(dir.join("main.c"), c).expect("main.c");
    run(dir, "cc", &["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "main.c", "-o", "main-c"]);
    assert_eq!(run(dir, "./main-c", &[]).lines().collect::<Vec<_>>(), lines);

    // The texts are those of the library, and can be included in a module.
    let written = std::fs::read_to_string(dir.join("contract.rs")).expect("contract.rs");
    let compiled = under(Budget::default(), None).unwrap();
    assert!(!written.contains("#![") && !written.contains("//!"));
    let names = |text: &str| text.lines().filter_map(|l| l.split_once(": usize").map(|p| p.0.to_string())).collect();
    let (ours, theirs): (Vec<String>, Vec<String>) = (names(&Contract::new(&compiled.report).rust()), names(&written));
    assert_eq!(ours, theirs);
}

#[test]
fn a_program_within_a_budget_classifies_as_the_clear_network() {
    let dir = tempfile::TempDir::new().expect("a folder");
    let dir = dir.path();
    let cli = |arguments: &str| run(dir, env!("CARGO_BIN_EXE_cipherlens"), &arguments.split(' ').collect::<Vec<_>>());
    cli(&format!("compile {MODEL} -o m.clp --flash 1800KiB --target thumbv7em-none-eabihf -q"));
    cli("keygen --program m.clp --out k -q");
    let size = |name: &str| std::fs::metadata(dir.join(name)).expect(name).len() as usize;
    let target = targets::by_name("thumbv7em-none-eabihf").expect("a measured target");
    assert!(size("m.clp") + size("k/keys.clk") + target.text_bytes + target.rodata_bytes <= 1800 << 10);
    for digit in [0, 3, 7] {
        let image = Digits::drawn().image(digit).expect("a digit");
        let clear = models::by_name(MODEL).expect(MODEL).graph().evaluate(&image).expect("the shapes fit");
        cli(&format!("encrypt --program m.clp --key k/secret.cls --digit {digit} -o in.clx -q"));
        cli("run --program m.clp --keys k/keys.clk --input in.clx -o out.clx -q");
        let class = cli("decrypt --program m.clp --key k/secret.cls --input out.clx");
        let clear = argmax(&clear.iter().map(|&c| f64::from(c)).collect::<Vec<_>>());
        assert_eq!(class.trim(), clear.to_string(), "digit {digit}");
    }
}
