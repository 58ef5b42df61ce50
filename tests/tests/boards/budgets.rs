//! What an image and a run take, and what they may.

use cipherlens_tests::fixtures::root;
use object::{Object, ObjectSection, ObjectSymbol};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

/// Figures by name.
pub type Figures = BTreeMap<String, u64>;

/// What a run on a board takes.
#[derive(Default, Clone)]
pub struct Budget {
    /// The target that the image is built for.
    pub target: String,
    pub figures: Figures,
}

/// By board, and `-streamed` for a run on streamed keys: `[board]`, then `target = "name"` and `name = number`.
pub type Budgets = BTreeMap<String, Budget>;

const PATH: &str = "fixtures/budgets.toml";

const HEAD: &str = "\
# What an inference takes on each board of tests/firmware/board and in WebAssembly, as tests/tests/boards.rs measures it.
#
# Bytes: arena, keys, program; text, rodata (with the first content of variables) and variables (.data and .bss) of the
# image; stack used; directory of streamed keys, and key-bytes read of them, key-read-max at once; memory of a WebAssembly
# module. Instructions (in WebAssembly: wasmi's fuel): selftest at boot; verify, of program and keys once; run, an
# inference with its transform tables; longest, the longest of its steps, which a watchdog has to wait for. Numbers:
# steps, key-reads.
#
# A figure that exceeds its budget by more than 5 % fails. CIPHERLENS_BLESS=1 writes what is measured.
";

/// A figure may exceed its budget by one part in this many: another compiler gives other code.
const MARGIN: u64 = 20;

/// The stored budgets.
pub static BUDGETS: LazyLock<Budgets> = LazyLock::new(read);

fn read() -> Budgets {
    let text = std::fs::read_to_string(root().join(PATH)).unwrap_or_default();
    let mut budgets = Budgets::new();
    let mut board = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            board = name.into();
        } else if let Some((name, value)) = line.split_once(" = ") {
            let budget = budgets.entry(board.clone()).or_default();
            if name == "target" {
                budget.target = value.trim_matches('"').into();
            } else {
                let figure = value.parse().unwrap_or_else(|_| panic!("{PATH}: {line}"));
                budget.figures.insert(name.into(), figure);
            }
        }
    }
    budgets
}

pub fn write(budgets: &Budgets) {
    let mut text = HEAD.to_string();
    for (board, Budget { target, figures }) in budgets {
        write!(text, "\n[{board}]\ntarget = \"{target}\"\n").unwrap();
        for (name, figure) in figures {
            writeln!(text, "{name} = {figure}").unwrap();
        }
    }
    std::fs::write(root().join(PATH), text).unwrap();
}

/// The watchdog's period for a board, in instructions: four times its longest step.
pub fn period(board: &str) -> u32 {
    let longest = BUDGETS.get(board).and_then(|budget| budget.figures.get("longest"));
    longest.map_or(u32::MAX, |longest| u32::try_from(4 * longest).unwrap())
}

/// Prints what differs from the budget and returns what exceeds it.
pub fn over_budget(board: &str, found: &Figures, budget: &Figures) -> Vec<String> {
    let mut over = Vec::new();
    for (name, &figure) in found {
        let line = match budget.get(name) {
            Some(&allowed) if figure == allowed => continue,
            Some(&allowed) => format!("{board}: {name} {figure}, budget {allowed}"),
            None => format!("{board}: {name} {figure} has no budget"),
        };
        println!("{line}");
        if budget.get(name).is_none_or(|allowed| figure > allowed + allowed / MARGIN) {
            over.push(line);
        }
    }
    over
}

/// Marks of a reachable panic, and of an allocation.
pub const PANIC: &str = "cipherlens_panic_is_reachable";
pub const ALLOCATION: [&str; 4] = ["__rust_alloc", "__rust_realloc", "__rg_", "malloc"];

/// Fails if a function of the image has one of these in its name.
pub fn check_absent(image: &Path, marks: &[&str]) {
    let bytes = std::fs::read(image).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let names: Vec<_> = file.symbols().filter_map(|s| s.name().ok()).collect();
    assert!(names.iter().any(|name| name.contains("Engine")), "{} has no symbols", image.display());
    let found = names.iter().find(|name| marks.iter().any(|mark| name.contains(mark)));
    assert_eq!(found, None, "in {}", image.display());
}

/// Memory that an image sets aside for itself: arena, directory of streamed keys, stack and variables.
pub fn reserved(image: &Path) -> u64 {
    let elf = std::fs::read(image).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let names = [".arena", ".directory", ".stack", ".data", ".bss"];
    file.sections().filter(|section| names.contains(&section.name().unwrap())).map(|section| section.size()).sum()
}

/// Sizes of an image.
pub fn measure(image: &Path, figures: &mut Figures) {
    let elf = std::fs::read(image).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let size = |names: &[&str]| file.sections().filter(|s| names.contains(&s.name().unwrap())).map(|s| s.size()).sum();
    figures.insert("text".into(), size(&[".start", ".boot", ".text"]));
    figures.insert("rodata".into(), size(&[".rodata", ".data"]));
    figures.insert("variables".into(), size(&[".data", ".bss"]));
}
