//! What `demo` and `run` report. Field names are stable.

use super::units::{bytes, duration, pairs, threads};
use cipherlens::compile::report::{key_bytes, moduli};
use cipherlens_kernel::engine::Counts;
use cipherlens_kernel::params::max_log_qp;
use cipherlens_kernel::program::Program;
use serde::Serialize;

/// Bits of security that every modulus in use reaches.
pub const SECURITY_BITS: u32 = 128;

/// One inference. What the evaluator cannot know is null in `run`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunReport {
    /// The model.
    pub model: String,
    /// Parameter set.
    pub set: String,
    /// Ring degree.
    pub n: usize,
    /// log2 of the largest modulus in use.
    pub log_qp: f64,
    /// Security level, in bits.
    pub security_bits: u32,
    /// Threads of the evaluation.
    pub threads: usize,
    /// `latency` or `batch`.
    pub mode: String,
    /// Compilation.
    pub compile_ms: Option<f64>,
    /// Key generation.
    pub keygen_ms: Option<f64>,
    /// Checking and expanding keys, transform tables, plaintext cache.
    pub prepare_ms: f64,
    /// Encryption of one image.
    pub encrypt_ms: Option<f64>,
    /// First inference; preparation not included.
    pub first_ms: Option<f64>,
    /// One inference with everything prepared; in `demo` the median of several, of tiles the mean.
    pub infer_ms: f64,
    /// Tiles that were evaluated, where these are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiles: Option<usize>,
    /// Decryption of one result.
    pub decrypt_ms: Option<f64>,
    /// Whether the encrypted and the clear network decide alike.
    pub agree: Option<bool>,
    /// Class by the clear network.
    pub clear: Option<usize>,
    /// Class by the encrypted network.
    pub encrypted: Option<usize>,
    /// The image's label.
    pub label: Option<usize>,
    /// What the classes are called, by index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Whether the encrypted network is right.
    pub correct: Option<bool>,
    /// Largest absolute difference of an output value from the clear network's.
    pub max_error: Option<f64>,
    /// Predicted standard deviation of that difference.
    pub predicted_error: Option<f64>,
    /// Evaluation-key file.
    pub key_bytes: usize,
    /// Evaluation keys expanded in memory; 0 where they are read in place.
    pub expanded_key_bytes: usize,
    /// Program file.
    pub program_bytes: usize,
    /// RAM of the engine.
    pub arena_bytes: usize,
    /// Most memory that the process has held, compiler and keys included, where the system tells.
    pub peak_rss_bytes: Option<usize>,
    /// Plaintext cache; 0 without one.
    pub cache_bytes: usize,
    /// Input ciphertexts.
    pub input_bytes: usize,
    /// Output ciphertexts.
    pub output_bytes: usize,
    /// Inner products with a key.
    pub key_switches: u32,
    /// Those that are rotations.
    pub rotations: u32,
    /// Transforms of one limb.
    pub ntts: u32,
    /// Levels consumed.
    pub levels: usize,
    /// Instruction set of the limb passes.
    pub backend: String,
}

impl RunReport {
    /// All that the program tells.
    pub fn new(model: &str, program: &Program<'_>, program_bytes: usize, threads: usize) -> Self {
        let least = (0..program.outputs()).filter_map(|i| program.output(i)).map(|port| port.limbs).min();
        Self {
            model: model.into(),
            set: program.set().name().into(),
            n: program.set().n(),
            log_qp: moduli(program).first().map_or(0.0, |m| m.log_qp),
            security_bits: SECURITY_BITS,
            threads,
            mode: "latency".into(),
            key_bytes: key_bytes(program),
            program_bytes,
            arena_bytes: program.arena_bytes_for(threads),
            levels: program.limbs() - least.unwrap_or(program.limbs()),
            ..Self::default()
        }
    }

    /// Adds the work that the engine counted.
    pub fn count(&mut self, counts: Counts, backend: &str) {
        self.key_switches = counts.key_switches;
        self.rotations = counts.rotations;
        self.ntts = counts.ntts;
        self.backend = backend.into();
    }

    /// What a class is called.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The lines that `demo` and `run` share.
    pub fn text(&self) -> String {
        let time = |name, ms: Option<f64>| ms.map(|ms| format!("{name} {}", duration(ms)));
        let keys = [time("compile", self.compile_ms), time("keys", self.keygen_ms), time("encrypt", self.encrypt_ms)];
        let each = self.tiles.map(|tiles| format!("{tiles} tiles {}", duration(self.infer_ms * tiles as f64)));
        let rest = [
            time("prepare", Some(self.prepare_ms)),
            time("first", self.first_ms),
            time("evaluate", Some(self.infer_ms)),
            each,
            time("decrypt", self.decrypt_ms),
        ];
        let expanded = match self.expanded_key_bytes {
            0 => String::new(),
            more => format!(" ({} expanded)", bytes(more)),
        };
        let peak = self.peak_rss_bytes.map_or_else(String::new, |peak| format!("; process {} at most", bytes(peak)));
        let sizes = [
            format!("input {}", bytes(self.input_bytes)),
            format!("output {}", bytes(self.output_bytes)),
            format!("program {}", bytes(self.program_bytes)),
            format!("evaluation keys {}{expanded}", bytes(self.key_bytes)),
        ];
        pairs(&[
            ("time", keys.into_iter().chain(rest).flatten().collect::<Vec<_>>().join(", ")),
            ("files", sizes.join(", ")),
            ("memory", format!("arena {}, plaintext cache {}{peak}", bytes(self.arena_bytes), bytes(self.cache_bytes))),
            (
                "work",
                format!(
                    "{} key switches ({} rotations), {} limb transforms, {} levels; {}, {}",
                    self.key_switches,
                    self.rotations,
                    self.ntts,
                    self.levels,
                    threads(self.threads),
                    self.backend
                ),
            ),
            ("security", security_line(&self.set, self.n, "QP", self.log_qp)),
        ])
    }
}

/// The primes of a set in a line.
pub fn primes_line(q: &[f64], p: &[f64], digit: usize) -> String {
    let bits = |sizes: &[f64]| sizes.iter().map(|b| format!("{b:.1}")).collect::<Vec<_>>().join(" ");
    format!("{} + {} bits (special), digits of {digit}", bits(q), bits(p))
}

/// Parameters and their bound in a line; `modulus` is `Q` or `QP`.
pub fn security_line(set: &str, n: usize, modulus: &str, log: f64) -> String {
    format!(
        "{set}: N = {n}, log2 {modulus} = {log:.1} of at most {} for {SECURITY_BITS} bits",
        max_log_qp(n.trailing_zeros())
    )
}
