//! What an image takes besides the program's own memory, by target: as measured on the images of
//! `tests/firmware/board`, which `fixtures/budgets.toml` records.
//!
//! A compiler of networks cannot know the code of a firmware. These are the figures of one that verifies a program and its
//! keys, runs it and logs; the kernel is all but a few kilobytes of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const BUDGETS: &str = include_str!("../../fixtures/budgets.toml");

/// A target and the image for it. Where several boards have the target, the larger of their figures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its triple.
    pub target: String,
    /// Stack to set aside, in bytes: [`stack_bound`] of the high-water mark of a whole inference.
    pub stack_bytes: usize,
    /// Code, in bytes.
    pub text_bytes: usize,
    /// Constants and the first values of variables, in bytes.
    pub rodata_bytes: usize,
}

/// A board of `fixtures/budgets.toml`; it has more figures. A WebAssembly module has no stack and sections of its own.
#[derive(Deserialize)]
struct Board {
    target: String,
    stack: Option<usize>,
    text: usize,
    #[serde(default)]
    rodata: usize,
}

/// The stack to set aside where `measured` bytes were used: a quarter more, rounded up to a whole KiB.
///
/// The kernel does not recurse and keeps nothing on the stack whose size depends on a program, so that the high-water mark
/// of an inference stands for others; the quarter is for another compiler.
pub const fn stack_bound(measured: usize) -> usize {
    (measured + measured.div_ceil(4)).next_multiple_of(1024)
}

/// All targets with measured images, by triple.
pub fn all() -> &'static [Target] {
    static ALL: LazyLock<Vec<Target>> = LazyLock::new(|| {
        let boards: BTreeMap<String, Board> = toml::from_str(BUDGETS).expect("fixtures/budgets.toml");
        let mut targets: BTreeMap<String, Target> = BTreeMap::new();
        for board in boards.into_values() {
            let Some(stack) = board.stack else { continue };
            let name = board.target.clone();
            let none = Target { target: board.target, stack_bytes: 0, text_bytes: 0, rodata_bytes: 0 };
            let target = targets.entry(name).or_insert(none);
            target.stack_bytes = target.stack_bytes.max(stack_bound(stack));
            target.text_bytes = target.text_bytes.max(board.text);
            target.rodata_bytes = target.rodata_bytes.max(board.rodata);
        }
        targets.into_values().collect()
    });
    &ALL
}

/// The target with this triple.
pub fn by_name(triple: &str) -> Option<&'static Target> {
    all().iter().find(|t| t.target == triple)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_bound_has_a_quarter_to_spare() {
        assert_eq!(stack_bound(0), 0);
        assert_eq!(stack_bound(1), 1024);
        assert_eq!(stack_bound(4 * 1024), 5 * 1024);
        assert_eq!(stack_bound(4 * 1024 + 1), 6 * 1024);
    }

    #[test]
    fn every_board_has_its_target() {
        let boards: BTreeMap<String, Board> = toml::from_str(BUDGETS).unwrap();
        assert!(all().len() >= 4);
        for board in boards.values() {
            let Some(stack) = board.stack else { continue };
            let target = by_name(&board.target).unwrap();
            assert!(target.stack_bytes >= stack + stack / 4);
            assert!(target.stack_bytes.is_multiple_of(1024));
            assert!(target.text_bytes >= board.text && target.rodata_bytes >= board.rodata && board.text > 0);
        }
        assert_eq!(by_name("z80"), None);
    }
}
