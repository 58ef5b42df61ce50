//! Keys, encryption and runs under one parameter set, from a fixed seed.

use cipherlens::decrypt::decrypt;
use cipherlens::encode::Encoder;
use cipherlens::encrypt::{EncryptionKey, Target, encrypt};
use cipherlens::keys::{PublicKey, SecretKey, evaluation_keys};
use cipherlens::pool::Pool;
use cipherlens::random::Random;
use cipherlens::ring::Ring;
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::engine::{Engine, EngineError};
use cipherlens_kernel::keys::{KeyRequest, KeySource, MappedKeys, RamKeys};
use cipherlens_kernel::math::{Backend, Detected};
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::{CiphertextHeader, Role};

/// A key holder.
pub struct Lab {
    /// Transforms.
    pub ring: Ring,
    /// Encoder.
    pub encoder: Encoder,
    /// The secret key.
    pub secret: SecretKey,
    /// Its public key.
    pub public: PublicKey,
    /// The generator behind everything.
    pub random: Random,
}

/// How much of the plaintext cache an engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// None of it.
    None,
    /// What half of it holds.
    Half,
    /// Every plaintext.
    All,
}

impl Cached {
    /// All of them.
    pub const WAYS: [Self; 3] = [Self::None, Self::Half, Self::All];

    /// Memory for a program's cache; none where it would not hold a plaintext.
    pub fn memory(self, program: &Program<'_>) -> Vec<u32> {
        arena(match self {
            Self::None => 0,
            Self::Half => program.cache_bytes_within(program.cache_bytes() / 2),
            Self::All => program.cache_bytes(),
        })
    }
}

/// Gives the engine a cache, if there is one.
pub fn set_cache<'m, K: KeySource, B: Backend>(engine: &mut Engine<'_, 'm, K, B>, cache: &'m mut [u32]) {
    if !cache.is_empty() {
        engine.set_cache(bytemuck::cast_slice_mut(cache)).expect("a plaintext fits");
    }
}

/// A way to run a program; all of them must give the same bits.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The limb passes.
    pub backend: Detected,
    /// The plaintext cache.
    pub cached: Cached,
    /// Keys expanded in RAM, else read from the file.
    pub expanded: bool,
    /// Threads.
    pub workers: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { backend: Detected::new(), cached: Cached::None, expanded: false, workers: 1 }
    }
}

impl Setup {
    /// Every way that this processor supports.
    pub fn all() -> Vec<Self> {
        let ways = [
            (Cached::None, false, 1),
            (Cached::Half, false, 1),
            (Cached::All, false, 1),
            (Cached::None, true, 1),
            (Cached::All, true, 1),
            (Cached::None, false, 3),
            (Cached::Half, false, 3),
            (Cached::All, true, 3),
        ];
        let ways = |backend| ways.map(|(cached, expanded, workers)| Self { backend, cached, expanded, workers });
        Detected::all().into_iter().flat_map(ways).collect()
    }
}

impl Lab {
    /// Keys for `set` from a seed of equal bytes.
    pub fn new(set: ParamSet, seed: u8) -> Self {
        let mut random = Random::from_seed([seed; 32]);
        let ring = Ring::new(set);
        let secret = SecretKey::generate(set, &mut random);
        let public = PublicKey::generate(&secret, &ring, &mut random);
        Self { ring, encoder: Encoder::new(set.log_n()), secret, public, random }
    }

    /// The parameter set.
    pub fn set(&self) -> ParamSet {
        *self.ring.set()
    }

    /// A key file for these requests.
    pub fn bundle(&mut self, requests: &[KeyRequest]) -> Vec<u8> {
        evaluation_keys(&self.secret, &self.ring, requests, &mut self.random, |_| ())
    }

    /// A key file for a program's manifest.
    pub fn keys(&mut self, program: &Program<'_>) -> Vec<u8> {
        self.bundle(&manifest(program))
    }

    /// A ciphertext for input `index` of a program, under the public key if asked.
    pub fn encrypt(&mut self, program: &Program<'_>, index: usize, values: &[f64], public: bool) -> Vec<u8> {
        let port = program.input(index).expect("the program has this input");
        let fingerprint = program.fingerprint();
        let target = Target { program: fingerprint, index: index as u32, limbs: port.limbs, scale: port.scale };
        let key = if public { EncryptionKey::Public(&self.public) } else { EncryptionKey::Secret(&self.secret) };
        encrypt(values, &target, key, &self.ring, &self.encoder, &mut self.random).expect("the values fit")
    }

    /// The slots of a ciphertext file.
    pub fn decrypt(&self, bytes: &[u8]) -> Vec<f64> {
        decrypt(bytes, &self.secret, &self.ring, &self.encoder).expect("a valid ciphertext").1.to_vec()
    }
}

/// The keys that a program asks for.
pub fn manifest(program: &Program<'_>) -> Vec<KeyRequest> {
    (0..program.keys()).filter_map(|i| program.key(i)).collect()
}

/// A well-formed ciphertext of arbitrary residues for input `index` of a program.
pub fn any_input(
    set: &ParamSet,
    program: [u8; 16],
    key_id: [u8; 16],
    index: usize,
    limbs: usize,
    scale: Scale,
) -> Vec<u8> {
    let header = CiphertextHeader {
        set: set.fingerprint(),
        key_id,
        program,
        role: Role::Input,
        index: index as u32,
        limbs,
        log_n: set.log_n(),
        scale,
        seed: None,
    };
    let mut bytes = vec![0; header.file_bytes()];
    let fill = |row: &mut [u8]| {
        for (i, word) in row.as_chunks_mut().0.iter_mut().enumerate() {
            *word = (i as u32 * 7919 % 147_457).to_le_bytes();
        }
    };
    let filled = header.write(&mut bytes, |c0, c1| {
        fill(c0);
        fill(c1);
    });
    filled.expect("the buffer holds the file");
    bytes
}

/// An arena of `bytes` bytes, aligned.
pub fn arena(bytes: usize) -> Vec<u32> {
    vec![0; bytes.div_ceil(4)]
}

/// Runs a program on input files and returns the output files.
///
/// # Errors
/// As the engine.
pub fn run(program: Program<'_>, keys: &[u8], inputs: &[Vec<u8>], setup: Setup) -> Result<Vec<Vec<u8>>, EngineError> {
    let mapped = MappedKeys::verify(keys).expect("a valid key file");
    if !setup.expanded {
        return drive(program, mapped, inputs, setup);
    }
    let mut words = vec![0; RamKeys::words(mapped.bundle())];
    drive(program, RamKeys::expand(keys, program.set(), &mut words)?, inputs, setup)
}

fn drive<K: KeySource + Sync>(
    program: Program<'_>,
    keys: K,
    inputs: &[Vec<u8>],
    setup: Setup,
) -> Result<Vec<Vec<u8>>, EngineError> {
    let Setup { backend, workers, .. } = setup;
    let (mut memory, mut cache) = (arena(program.arena_bytes_for(workers)), setup.cached.memory(&program));
    let mut engine = Engine::with_workers(program, keys, bytemuck::cast_slice_mut(&mut memory), backend, workers)?;
    set_cache(&mut engine, &mut cache);
    for input in inputs {
        engine.set_input(input)?;
    }
    if workers == 1 {
        engine.run()?;
    } else {
        engine.run_on(&Pool::new(workers).expect("the system has threads"), |_| ())?;
    }
    outputs(&engine)
}

/// A program with keys, inputs and outputs.
pub struct Run {
    /// The program file.
    pub program: Vec<u8>,
    /// The key file.
    pub keys: Vec<u8>,
    /// Input files.
    pub inputs: Vec<Vec<u8>>,
    /// What an engine makes of them.
    pub outputs: Vec<Vec<u8>>,
}

impl Run {
    /// Keys, and inputs of small random values, from seeds.
    pub fn new(bytes: Vec<u8>, seed: u8) -> Self {
        let (keys, inputs, outputs);
        {
            let program = Program::verify(&bytes).expect("a valid program");
            let (mut lab, mut lcg) = (Lab::new(*program.set(), seed), crate::Lcg::new(seed.into()));
            keys = lab.keys(&program);
            let mut values = || lcg.units(program.set().n());
            inputs = (0..program.inputs()).map(|i| lab.encrypt(&program, i, &values(), false)).collect::<Vec<_>>();
            outputs = run(program, &keys, &inputs, Setup::default()).expect("the program runs");
        }
        Self { program: bytes, keys, inputs, outputs }
    }

    /// The program.
    pub fn program(&self) -> Program<'_> {
        Program::verify(&self.program).expect("a valid program")
    }

    /// The keys, mapped.
    pub fn mapped(&self) -> MappedKeys<'_> {
        MappedKeys::verify(&self.keys).expect("a valid key file")
    }
}

/// All output files of an engine that is done.
///
/// # Errors
/// As the engine.
pub fn outputs<K: KeySource, B: cipherlens_kernel::math::Backend>(
    engine: &Engine<'_, '_, K, B>,
) -> Result<Vec<Vec<u8>>, EngineError> {
    (0..engine.program().outputs())
        .map(|i| {
            let mut bytes = vec![0; engine.output_bytes(i)?];
            engine.write_output(i, &mut bytes)?;
            Ok(bytes)
        })
        .collect()
}
