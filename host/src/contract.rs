//! The memory contract of a program: every size that a firmware has to provide for, as constants in Rust and C.
//!
//! Sizes of the program are exact. Those of an image are as measured on the images of this repository
//! ([`crate::targets`]), with a margin for the stack.

use crate::compile::Report;
use crate::compile::report::TargetReport;
use std::fmt::Write;

/// The constants of a compiled program.
#[derive(Debug, Clone, Copy)]
pub struct Contract<'r> {
    report: &'r Report,
}

/// Name, value and meaning of a size.
type Size = (&'static str, usize, &'static str);

impl<'r> Contract<'r> {
    /// The contract of the program that `report` is about.
    pub fn new(report: &'r Report) -> Self {
        Self { report }
    }

    fn sizes(&self) -> [Size; 8] {
        let r = self.report;
        [
            ("ARENA_BYTES", r.arena_bytes, "RAM of the engine, one worker."),
            ("CACHE_BYTES", r.cache_bytes, "Optional RAM of the plaintext cache."),
            ("PROGRAM_BYTES", r.program_bytes, "The program file, read in place."),
            ("KEY_BYTES", r.key_bytes, "The evaluation-key file, read in place or streamed."),
            ("KEY_DIRECTORY_BYTES", r.key_directory_bytes, "RAM for the directory of streamed keys."),
            ("CHECKPOINT_BYTES", r.checkpoint_bytes, "The largest checkpoint."),
            ("INPUT_BYTES", r.input_bytes, "All input ciphertexts of one inference, seeded."),
            ("OUTPUT_BYTES", r.output_bytes, "All output ciphertexts of one inference."),
        ]
    }

    fn image_sizes(target: &TargetReport) -> [Size; 5] {
        let t = &target.target;
        [
            ("STACK_BYTES", t.stack_bytes, "Stack to set aside: the measured high-water mark and a quarter."),
            ("TEXT_BYTES", t.text_bytes, "Code of the measured image."),
            ("RODATA_BYTES", t.rodata_bytes, "Constants of the measured image."),
            ("RAM_BYTES", target.ram_bytes, "Arena and stack."),
            ("FLASH_BYTES", target.flash_bytes, "Program, evaluation keys, code and constants."),
        ]
    }

    fn head(&self) -> String {
        let Report { model, set, fingerprint, .. } = self.report;
        format!("Memory of the Cipherlens program {fingerprint} ({model}, {set}), in bytes")
    }

    /// The bytes of the fingerprint, as literals.
    fn fingerprint(&self) -> String {
        let digits = self.report.fingerprint.as_bytes().chunks(2);
        let bytes = digits.map(|pair| format!("0x{}", pair.iter().map(|&c| char::from(c)).collect::<String>()));
        bytes.collect::<Vec<_>>().join(", ")
    }

    /// A Rust module, for `include!` in a `mod` or as a file of its own: a constant for each size, and a module for each
    /// target with those of an image.
    pub fn rust(&self) -> String {
        // Inner attributes and documentation are no part of it: `include!` would refuse them.
        let mut text = format!("// {}. Written by `cipherlens compile --rust`.\n\n", self.head());
        let constant = |text: &mut String, indent: &str, (name, bytes, doc): Size| {
            writeln!(text, "{indent}/// {doc}\n{indent}pub const {name}: usize = {};", grouped(bytes)).expect("text");
        };
        for size in self.sizes() {
            text += "#[allow(dead_code)]\n";
            constant(&mut text, "", size);
        }
        text += "#[allow(dead_code)]\n/// What `Program::fingerprint` tells of the program.\n";
        writeln!(text, "#[rustfmt::skip]\npub const PROGRAM_FINGERPRINT: [u8; 16] = [{}];", self.fingerprint())
            .expect("text");
        for target in &self.report.targets {
            let name = &target.target.target;
            write!(text, "\n/// An image for {name}.\n#[allow(dead_code)]\npub mod {} {{\n", identifier(name))
                .expect("text");
            for size in Self::image_sizes(target) {
                constant(&mut text, "    ", size);
            }
            text += "}\n";
        }
        text
    }

    /// A C header (C99): the same constants as macros with the prefix `CIPHERLENS_`, those of an image with the target's
    /// name before theirs.
    pub fn c_header(&self) -> String {
        let guard = "CIPHERLENS_CONTRACT_H";
        let mut text = format!("/* {}. Written by `cipherlens compile --header`. */\n", self.head());
        write!(text, "#ifndef {guard}\n#define {guard}\n\n").expect("text");
        let define = |text: &mut String, prefix: &str, (name, bytes, doc): Size| {
            writeln!(text, "/* {doc} */\n#define CIPHERLENS_{prefix}{name} {bytes}u").expect("text");
        };
        for size in self.sizes() {
            define(&mut text, "", size);
        }
        text += "/* What the program's fingerprint is: an initialiser of 16 bytes. */\n";
        writeln!(text, "#define CIPHERLENS_PROGRAM_FINGERPRINT {{ {} }}", self.fingerprint()).expect("text");
        for target in &self.report.targets {
            let name = &target.target.target;
            writeln!(text, "\n/* An image for {name}. */").expect("text");
            for size in Self::image_sizes(target) {
                define(&mut text, &format!("{}_", identifier(name).to_uppercase()), size);
            }
        }
        text + "\n#endif\n"
    }
}

/// A target's triple as an identifier: `thumbv8m.main-none-eabihf` is `thumbv8m_main_none_eabihf`.
pub fn identifier(triple: &str) -> String {
    triple.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// A number with an underscore before every three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let (head, tail) = digits.split_at(digits.len() % 3);
    let groups = std::iter::once(head).filter(|h| !h.is_empty()).map(String::from);
    let tail = tail.as_bytes().chunks(3).map(|c| c.iter().map(|&c| char::from(c)).collect());
    groups.chain(tail).collect::<Vec<String>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1_000");
        assert_eq!(grouped(933_888), "933_888");
        assert_eq!(grouped(10_854_912), "10_854_912");
    }

    #[test]
    fn a_triple_is_an_identifier() {
        assert_eq!(identifier("thumbv8m.main-none-eabihf"), "thumbv8m_main_none_eabihf");
    }
}
