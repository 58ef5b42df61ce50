//! The key holder's preparations, for commands that are all parties in one process.

use super::context::Context;
use super::demo::since;
use anyhow::Result;
use cipherlens::client::Client;
use cipherlens::evaluate::cache_within;
use cipherlens::keys::{SecretKey, evaluation_keys};
use cipherlens::random::Random;
use cipherlens_kernel::keys::RamKeys;
use cipherlens_kernel::wire::KeyBundle;
use std::time::Instant;

/// Fresh keys for one program.
pub struct Holder {
    pub secret: SecretKey,
    /// The evaluation-key file.
    pub keys: Vec<u8>,
    /// Words of the keys, expanded.
    pub words: usize,
    pub random: Random,
    pub keygen_ms: f64,
}

impl Holder {
    /// Makes all keys, with a progress bar.
    pub fn new(client: &Client<'_>, context: &Context) -> Result<Self> {
        let start = Instant::now();
        let mut random = Random::from_os()?;
        let secret = SecretKey::generate(*client.set(), &mut random);
        let requests = client.requests();
        let bar = context.bar("keys", requests.len());
        let keys =
            evaluation_keys(&secret, client.ring(), &requests, &mut random, |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        let words = RamKeys::words(&KeyBundle::new_checked(&keys)?);
        Ok(Self { secret, keys, words, random, keygen_ms: since(start) })
    }

    /// Bytes of the weights that can be kept ready for use within `memory` bytes.
    pub fn cache_within(&self, memory: usize, client: &Client<'_>, program_bytes: usize, workers: usize) -> usize {
        cache_within(memory, client.program(), workers, program_bytes + self.keys.len() + self.words * 4)
    }
}
