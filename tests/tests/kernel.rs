//! The kernel against the definitions: homomorphism laws, noise, known answers.

#[path = "kernel/checkpoint.rs"]
mod checkpoint;
#[path = "kernel/homomorphism.rs"]
mod homomorphism;
#[path = "kernel/known_answers.rs"]
mod known_answers;
#[path = "kernel/noise.rs"]
mod noise;
#[path = "kernel/slot_programs.rs"]
mod slot_programs;
#[path = "kernel/streamed.rs"]
mod streamed;
