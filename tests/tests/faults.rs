//! Bad input: every kind gives its own error, never a wrong answer and never a panic.

#[path = "faults/batch.rs"]
mod batch;
#[path = "faults/checkpoint.rs"]
mod checkpoint;
#[path = "faults/contracts.rs"]
mod contracts;
#[path = "faults/engine.rs"]
mod engine;
#[path = "faults/files.rs"]
mod files;
#[path = "faults/mutation.rs"]
mod mutation;
#[path = "faults/programs.rs"]
mod programs;
#[path = "faults/signed.rs"]
mod signed;
#[path = "faults/streamed.rs"]
mod streamed;
#[path = "faults/wire.rs"]
mod wire;

use cipherlens_tests::assemble::tiny;
