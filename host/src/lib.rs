//! The host side of Cipherlens: keys, the ONNX compiler, encryption, decryption and reports.
//!
//! The evaluation itself is the kernel's ([`cipherlens_kernel`]); this crate runs the very same code.
//!
//! | module | holds |
//! | --- | --- |
//! | [`compile`] | ONNX to program, one pass per file |
//! | [`contract`], [`targets`] | the memory of a program and of an image, for firmware |
//! | [`keys`], [`encrypt`], [`decrypt`] | what only the key holder does |
//! | [`release`] | noise on scores that leave the key holder, and the count of queries |
//! | [`signing`] | signatures of programs |
//! | [`client`] | those steps for the tensors of a program |
//! | [`encode`] | real vectors to ring elements and back |
//! | [`evaluate`], [`pool`] | memory and threads for an engine on this machine |
//! | [`noise`] | predicted variance of every operation |
//! | [`clear`] | the network on clear data |
//! | [`crosscheck`] | clear, simulated, noisy and encrypted side by side, layer by layer |
//! | [`models`], [`datasets`] | embedded models and images, MNIST, folders of images with classes or masks |
//! | [`view`], [`mask`] | pictures of any size to inputs, and logits of pixels to masks |
//! | [`security`] | the level of a modulus, estimated without the table |
//! | [`statistics`] | figures of merit with intervals |
//! | [`mod@bench`], [`roofline`], [`study`] | measurements: operations, what the machine can do, strategies side by side |

pub mod batch;
pub mod bench;
pub mod clear;
pub mod client;
pub mod compile;
pub mod contract;
pub mod crosscheck;
pub mod datasets;
pub mod decrypt;
pub mod encode;
pub mod encrypt;
pub mod evaluate;
pub mod files;
pub mod keys;
pub mod mask;
pub mod meta;
pub mod models;
pub mod noise;
pub mod pool;
pub mod random;
pub mod release;
pub mod ring;
pub mod roofline;
pub mod security;
pub mod signing;
pub mod statistics;
pub mod study;
pub mod targets;
pub mod view;
