//! Secret, public and evaluation keys.

mod evaluation;
mod public;
pub mod sealed;
mod secret;
mod storage;

pub use evaluation::evaluation_keys;
pub use public::PublicKey;
pub use secret::SecretKey;
pub use storage::KeyFile;
