//! The compiler's report: parameters, security, levels, costs, memory, keys, precision.

use super::import::ModelGraph;
use super::lower::Lowered;
use super::merging::Seam;
use super::parameters::Trial;
use super::schedule::Schedule;
use crate::targets::{self, Target};
use cipherlens_kernel::keys::KeyRequest;
use cipherlens_kernel::params::{ParamSet, max_log_qp};
use cipherlens_kernel::program::Program;
use cipherlens_kernel::wire::BundleShape;
use serde::Serialize;

/// Everything there is to know about a compiled model. Field names are stable.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// `latency` or `batch`.
    pub mode: String,
    /// Images that share each ciphertext, evaluated in one run.
    pub images: usize,
    /// Parameter set.
    pub set: String,
    /// Ring degree, also the number of slots.
    pub n: usize,
    /// Bits of each ciphertext prime.
    pub prime_bits: Vec<f64>,
    /// Bits of each special prime.
    pub special_bits: Vec<f64>,
    /// Primes per key-switching digit.
    pub digit: usize,
    /// log2 of the largest modulus in use.
    pub log_qp: f64,
    /// Its bound for 128 bits of security.
    pub max_log_qp: u32,
    /// Security level that every modulus in use reaches, in bits.
    pub security_bits: u32,
    /// Every modulus in use.
    pub moduli: Vec<ModulusReport>,
    /// Limbs of a fresh input.
    pub input_limbs: usize,
    /// Levels consumed.
    pub levels: usize,
    /// By layer.
    pub layers: Vec<LayerReport>,
    /// Predicted operation counts.
    pub key_switches: usize,
    /// Rotations among them.
    pub rotations: usize,
    /// Transforms of one limb, plaintexts not included.
    pub ntts: usize,
    /// Products with plaintexts.
    pub plain_products: usize,
    /// Predicted time of one inference, one core, everything prepared.
    pub predicted_ms: f64,
    /// Program file.
    pub program_bytes: usize,
    /// Evaluation-key file.
    pub key_bytes: usize,
    /// RAM of the engine.
    pub arena_bytes: usize,
    /// Optional RAM for expanded plaintexts.
    pub cache_bytes: usize,
    /// RAM for the directory of keys that are streamed.
    pub key_directory_bytes: usize,
    /// The largest checkpoint.
    pub checkpoint_bytes: usize,
    /// All input ciphertexts, seeded.
    pub input_bytes: usize,
    /// All output ciphertexts.
    pub output_bytes: usize,
    /// What an image for each target takes.
    pub targets: Vec<TargetReport>,
    /// Evaluation keys.
    pub keys: Vec<KeyReport>,
    /// Predicted standard deviation of the error of an output value.
    pub output_error: Vec<f64>,
    /// log2 of the outputs' root mean square over their error.
    pub precision_bits: f64,
    /// Neighbouring affine layers, and whether they were merged.
    pub seams: Vec<Seam>,
    /// The parameter sets that were looked at; none where the user named one.
    pub candidates: Vec<Trial>,
    /// Fingerprint of the program.
    pub fingerprint: String,
}

/// What an image for a target takes with this program.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    /// Stack, code and constants.
    #[serde(flatten)]
    pub target: Target,
    /// Arena and stack.
    pub ram_bytes: usize,
    /// Program, evaluation keys, code and constants.
    pub flash_bytes: usize,
}

impl TargetReport {
    fn new(target: &Target, ram: usize, flash: usize) -> Self {
        Self {
            ram_bytes: ram + target.stack_bytes,
            flash_bytes: flash + target.text_bytes + target.rodata_bytes,
            target: target.clone(),
        }
    }
}

/// A modulus in use.
#[derive(Debug, Clone, Serialize)]
pub struct ModulusReport {
    /// What uses it.
    pub used_by: String,
    /// Ciphertext primes in it.
    pub limbs: usize,
    /// Its size in bits, special primes included.
    pub log_qp: f64,
}

/// One instruction of a layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// The layer.
    pub layer: String,
    /// The operation.
    pub operation: String,
    /// Limbs of its operands.
    pub limbs: usize,
    /// log2 of the scale of its result.
    pub log_scale: f64,
    /// log2 of the scale of its weights, if it has any.
    pub log_plain_scale: Option<f64>,
    /// Predicted standard deviation of the error of a slot.
    pub error: f64,
    /// Predicted time.
    pub predicted_us: f64,
}

/// One evaluation key.
#[derive(Debug, Clone, Serialize)]
pub struct KeyReport {
    /// Rotation to the left; 0 for the relinearisation key.
    pub rotation: u32,
    /// Limbs.
    pub limbs: usize,
    /// Bytes, seeded.
    pub bytes: usize,
}

/// Every modulus that a program's keys and ciphertexts use, largest first.
pub fn moduli(program: &Program<'_>) -> Vec<ModulusReport> {
    let set = program.set();
    let mut list: Vec<ModulusReport> = Vec::new();
    for key in (0..program.keys()).filter_map(|i| program.key(i)) {
        match list.iter_mut().find(|m| m.limbs == key.limbs) {
            Some(entry) => entry.used_by = format!("{}, {}", entry.used_by, key.kind.code()),
            None => list.push(ModulusReport {
                used_by: format!("keys {}", key.kind.code()),
                limbs: key.limbs,
                log_qp: set.log_modulus(key.limbs, true),
            }),
        }
    }
    list.push(ModulusReport {
        used_by: "ciphertexts".into(),
        limbs: program.limbs(),
        log_qp: set.log_modulus(program.limbs(), false),
    });
    list.sort_by(|a, b| b.log_qp.total_cmp(&a.log_qp));
    list
}

/// Bytes of the seeded key file for a program.
pub fn key_bytes(program: &Program<'_>) -> usize {
    let requests: Vec<_> = (0..program.keys()).filter_map(|i| program.key(i)).collect();
    key_file_bytes(program.set(), &requests)
}

/// Bytes of a seeded key file that holds these keys.
pub fn key_file_bytes(set: &ParamSet, requests: &[KeyRequest]) -> usize {
    shape(set, requests).file_bytes()
}

fn shape<'r>(set: &ParamSet, requests: &'r [KeyRequest]) -> BundleShape<'r> {
    BundleShape { log_n: set.log_n(), special: set.special(), digit: set.digit(), requests }
}

impl Report {
    pub(super) fn new(
        model: &ModelGraph,
        images: usize,
        bytes: &[u8],
        lowered: &Lowered,
        schedule: &Schedule,
        seams: Vec<Seam>,
    ) -> Self {
        let program = Program::verify(bytes).expect("the compiler's output was verified");
        let set = program.set();
        let moduli = moduli(&program);
        let row = set.n() * 4;
        let requests: Vec<_> = (0..program.keys()).filter_map(|i| program.key(i)).collect();
        let keys = requests
            .iter()
            .map(|r| KeyReport {
                rotation: r.kind.code(),
                limbs: r.limbs,
                bytes: (r.limbs + set.special()) * shape(set, &requests).block_bytes(r.limbs),
            })
            .collect();
        let ports = |count: usize, port: &dyn Fn(usize) -> Option<cipherlens_kernel::program::Port>, polys: usize| {
            (0..count).filter_map(port).map(|p| 160 + polys * p.limbs * row).sum()
        };
        let layers = lowered
            .program
            .ops
            .iter()
            .zip(&schedule.ops)
            .zip(&lowered.predicted.ops)
            .map(|((op, s), cost)| LayerReport {
                layer: op.layer.clone(),
                operation: operation(&op.kind),
                limbs: s.limbs,
                log_scale: s.scale.log2(),
                log_plain_scale: s.plain.first().map(|p| p.log2()),
                error: s.estimate.variance.sqrt(),
                predicted_us: cost.us,
            })
            .collect();
        let counts = &lowered.predicted.counts;
        let (arena_bytes, key_bytes) = (program.arena_bytes(), key_bytes(&program));
        let flash_bytes = bytes.len() + key_bytes;
        Self {
            model: model.name.clone(),
            mode: "latency".into(),
            images,
            set: set.name().into(),
            n: set.n(),
            prime_bits: bits(set.q()),
            special_bits: bits(set.p()),
            digit: set.digit(),
            log_qp: moduli.first().map_or(0.0, |m| m.log_qp),
            max_log_qp: max_log_qp(set.log_n()),
            security_bits: 128,
            moduli,
            input_limbs: program.limbs(),
            levels: program.limbs()
                - (0..program.outputs()).filter_map(|i| program.output(i)).map(|p| p.limbs).min().unwrap_or(0),
            layers,
            key_switches: counts.key_switch,
            rotations: counts.rotation,
            ntts: counts.ntt,
            plain_products: counts.plain_product,
            predicted_ms: lowered.predicted.us / 1000.0,
            program_bytes: bytes.len(),
            key_bytes,
            arena_bytes,
            cache_bytes: program.cache_bytes(),
            key_directory_bytes: program.key_directory_bytes(),
            checkpoint_bytes: program.checkpoint_bytes(),
            input_bytes: ports(program.inputs(), &|i| program.input(i), 1),
            output_bytes: ports(program.outputs(), &|i| program.output(i), 2),
            targets: targets::all().iter().map(|t| TargetReport::new(t, arena_bytes, flash_bytes)).collect(),
            keys,
            output_error: schedule.output_error.clone(),
            precision_bits: schedule.precision,
            seams,
            candidates: Vec::new(),
            fingerprint: crate::files::hex(&program.fingerprint()),
        }
    }
}

/// Sizes of primes, in bits.
pub fn bits(primes: &[u32]) -> Vec<f64> {
    primes.iter().map(|&p| libm::log2(f64::from(p))).collect()
}

fn operation(kind: &super::slots::SlotOpKind) -> String {
    use super::slots::SlotOpKind::*;
    match kind {
        LinearTransform { sources, diagonals, .. } => {
            let count = |f: fn(&super::slots::Diagonal) -> (usize, u32)| {
                diagonals.iter().map(f).collect::<std::collections::BTreeSet<_>>().len()
            };
            let of = |count: usize| if count > 1 { format!(", {count} sources") } else { String::new() };
            let (babies, giants) = (count(|d| (d.source, d.baby)), count(|d| (d.result, d.giant)));
            format!("{} diagonals, {babies} baby x {giants} giant steps{}", diagonals.len(), of(sources.len()))
        }
        RotateSum { steps, .. } => format!("sum of {} rotations", steps.len() + 1),
        AddPlain { .. } => "bias".into(),
        Add { .. } => "sum".into(),
        Mul { a, b, .. } if a == b => "square".into(),
        Mul { .. } => "product".into(),
    }
}
