//! The report on a batch program.

use super::levels::Levels;
use super::parameters::price;
use super::stream::Stream;
use super::values::{Node, Values};
use crate::compile::import::ModelGraph;
use cipherlens_kernel::batch::{BatchProgram, Operation};
use cipherlens_kernel::keys::KeyRequest;
use cipherlens_kernel::params::max_log_qp;
use cipherlens_kernel::wire::{BundleShape, CiphertextHeader, Role};
use serde::Serialize;

/// Everything there is to know about a batch program. Field names are stable.
#[derive(Debug, Clone, Serialize)]
pub struct BatchReport {
    /// The model's name.
    pub model: String,
    /// `batch`.
    pub mode: String,
    /// Parameter set.
    pub set: String,
    /// Most images of a batch.
    pub images: usize,
    /// log2 of the largest modulus in use.
    pub log_qp: f64,
    /// Its bound for 128 bits of security.
    pub max_log_qp: u32,
    /// Bits of each ciphertext prime.
    pub prime_bits: Vec<f64>,
    /// Bits of each special prime.
    pub special_bits: Vec<f64>,
    /// Bits of the largest weight of a layer.
    pub weight_bits: f64,
    /// By layer.
    pub layers: Vec<BatchLayer>,
    /// Instructions.
    pub instructions: usize,
    /// Products of a word with a weight.
    pub products: u64,
    /// Products of two ciphertexts.
    pub multiplications: usize,
    /// Relinearisations.
    pub key_switches: usize,
    /// Input ciphertexts.
    pub inputs: usize,
    /// Output ciphertexts.
    pub outputs: usize,
    /// All input files under the secret key.
    pub input_bytes: usize,
    /// All output files.
    pub output_bytes: usize,
    /// Program file.
    pub program_bytes: usize,
    /// Evaluation-key file.
    pub key_bytes: usize,
    /// Arena of one worker.
    pub arena_bytes: usize,
    /// Predicted time of a full batch on one core.
    pub predicted_ms: f64,
    /// Predicted images per second on one core.
    pub predicted_images_per_s: f64,
    /// log2 of an output's root mean square over its predicted error, least of all outputs.
    pub precision_bits: f64,
}

/// A value of the program.
#[derive(Debug, Clone, Serialize)]
pub struct BatchLayer {
    /// The layer's name.
    pub layer: String,
    /// What is computed.
    pub operation: String,
    /// Ciphertexts of the whole tensor.
    pub ciphertexts: usize,
    /// Limbs.
    pub limbs: usize,
    /// Polynomials.
    pub polys: usize,
    /// log2 of the scale.
    pub log_scale: f64,
    /// Predicted error of an element.
    pub error: f64,
    /// Largest absolute value on the calibration samples.
    pub largest: f64,
}

impl BatchReport {
    pub(super) fn new(model: &ModelGraph, values: &Values<'_>, levels: &Levels, stream: &Stream, bytes: &[u8]) -> Self {
        let set = &levels.set;
        let program = BatchProgram::verify(bytes).expect("the program was verified when it was written");
        let bits = |primes: &[u32]| primes.iter().map(|&p| f64::from(p).log2()).collect();
        let layers = values.list.iter().enumerate().map(|(id, value)| BatchLayer {
            layer: value.layer.clone(),
            operation: match &value.node {
                Node::Input => "input".into(),
                Node::Linear { terms, .. } => {
                    let entries: usize = terms.iter().map(|t| t.matrix.nnz()).sum();
                    format!("linear, {entries} weights")
                }
                Node::Mul(a, b) if a == b => "square".into(),
                Node::Mul(..) => "product".into(),
                Node::Divide { rescale: true, .. } => "relinearise, rescale".into(),
                Node::Divide { .. } => "relinearise".into(),
            },
            ciphertexts: value.len(),
            limbs: levels.of(values, id),
            polys: value.polys,
            log_scale: levels.scales[id].log2(),
            error: levels.errors[id],
            largest: value.largest,
        });
        let layers = layers.collect();
        let mut report = Self {
            model: model.name.clone(),
            mode: "batch".into(),
            set: set.name().into(),
            images: set.n(),
            log_qp: set.log_modulus(levels.limbs[0], true),
            max_log_qp: max_log_qp(set.log_n()),
            prime_bits: bits(set.q()),
            special_bits: bits(set.p()),
            weight_bits: levels.choice.weight_bits,
            layers,
            instructions: stream.steps.len(),
            products: 0,
            multiplications: 0,
            key_switches: 0,
            inputs: program.inputs(),
            outputs: program.outputs(),
            input_bytes: 0,
            output_bytes: 0,
            program_bytes: bytes.len(),
            key_bytes: 0,
            arena_bytes: program.arena_bytes(1),
            predicted_ms: price(values, levels) * set.n() as f64 / 1000.0,
            predicted_images_per_s: 1e6 / price(values, levels),
            precision_bits: levels.precision,
        };
        let file = |limbs: usize, role: Role| {
            let scale = cipherlens_kernel::ckks::Scale::new(1.0).expect("1 is a scale");
            let seed = (role == Role::Input).then_some([0; 32]);
            let (zero, log_n) = ([0; 16], set.log_n());
            CiphertextHeader { set: zero, key_id: zero, program: zero, role, index: 0, limbs, log_n, scale, seed }
                .file_bytes()
        };
        for instruction in (0..program.instructions()).filter_map(|i| program.instruction(i)) {
            let count = instruction.count;
            match instruction.operation {
                Operation::Load { .. } => report.input_bytes += count * file(instruction.limbs, Role::Input),
                Operation::Store { .. } => report.output_bytes += count * file(instruction.limbs, Role::Output),
                Operation::Mul { .. } => report.multiplications += count,
                Operation::Divide { from, .. } if from.polys == 3 => report.key_switches += count,
                Operation::Linear { groups: (first, number), from, .. } => {
                    let groups = (first..first + number).filter_map(|g| program.group(g));
                    let weights: usize = groups.map(|g| g.weights.len()).sum();
                    report.products += (weights * instruction.limbs * from.polys * set.n()) as u64;
                }
                Operation::Divide { .. } => {}
            }
        }
        let requests: Vec<KeyRequest> = (0..program.keys()).filter_map(|i| program.key(i)).collect();
        let shape = BundleShape { log_n: set.log_n(), special: set.special(), digit: set.digit(), requests: &requests };
        report.key_bytes = shape.file_bytes();
        report
    }
}
