//! The program blob: instructions, weights, memory plan and key manifest in one read-only file.

pub mod format;
mod instruction;
mod plan;
mod sections;
mod verify;
mod view;

pub use format::Section;
pub use instruction::{Giant, Instruction, Operation, PlainForm, Plaintext, Transform};
pub use plan::{BABY_GROUP, Scratch, table_rows};
pub(crate) use sections::{Sections, read_set};
pub use verify::{MAX_BUFFERS, ProgramError};
pub use view::{Buffer, Port, Program};
