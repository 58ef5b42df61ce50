//! The exact rung: quantised layers on integers under TFHE, a scheme that shares nothing with ours, where every result is
//! exact. Whole affine layers are linear combinations of LWE ciphertexts; a small one with a square runs on the
//! high-level integers. Both must be equal to the integer reference bit for bit, and our layer must lie within the bound of
//! the quantisation around it.

use super::taps::encrypted;
use super::{CrosscheckError, Ladder, widen};
use crate::compile::graph::{AffineTerm, Op, Stage};
use serde::Serialize;
use std::time::Instant;
use tfhe::core_crypto::algorithms::slice_algorithms::slice_wrapping_add_scalar_mul_assign;
use tfhe::core_crypto::prelude::*;
use tfhe::prelude::*;
use tfhe::shortint::parameters::PARAM_MESSAGE_2_CARRY_2;
use tfhe::{ConfigBuilder, FheInt16, generate_keys, set_server_key};

/// Bits of a quantised weight or value, with its sign.
const BITS: i32 = 9;
/// Non-zero weights of a layer, at most: each is a product of a ciphertext.
const MAX_WEIGHTS: usize = 8_000_000;
/// Inputs of a layer, at most: each is a ciphertext of 16 KiB.
const MAX_INPUTS: usize = 100_000;
/// Standard deviations of our layer's noise beside the quantisation's bound.
const DEVIATIONS: f64 = 8.0;

/// What one layer gave.
#[derive(Debug, Clone, Serialize)]
pub struct Exact {
    /// The layer.
    pub layer: String,
    /// Its outputs.
    pub elements: usize,
    /// Products of a ciphertext with a weight, and squares.
    pub products: usize,
    /// Bits of the largest possible result, with its sign.
    pub integer_bits: u32,
    /// Results under TFHE that are not those of the integer reference.
    pub unequal: usize,
    /// Our layer against the exact one: the largest difference as a part of the bound that it has to keep; none for the
    /// small layer.
    pub of_bound: Option<f64>,
    /// The same difference in value.
    pub max_difference: Option<f64>,
    /// Seconds under TFHE, keys and encryption included.
    pub seconds: f64,
}

impl Exact {
    /// Whether the integers are equal and our layer is within the bound.
    pub fn holds(&self) -> bool {
        self.unequal == 0 && self.of_bound.is_none_or(|part| part <= 1.0)
    }

    /// The outcome in a line.
    pub fn text(&self) -> String {
        let ours = match (self.of_bound, self.max_difference) {
            (Some(part), Some(difference)) => {
                format!("; ours differs by {difference:.1e} at most, {part:.2} of the quantisation's bound")
            }
            _ => String::new(),
        };
        format!(
            "  exact {}: {} results of {} products, {} bits, {} unequal to the integer reference{ours} ({:.1} s)",
            self.layer, self.elements, self.products, self.integer_bits, self.unequal, self.seconds
        )
    }
}

/// An affine stage as one matrix on all its inputs, one after the other.
struct Layer<'a> {
    terms: &'a [AffineTerm],
    bias: &'a [f64],
}

impl<'a> Layer<'a> {
    /// Of a stage that is not too large.
    fn of(stage: &'a Stage) -> Option<Self> {
        let Op::Affine { terms, bias } = &stage.op else { return None };
        let total = |f: fn(&AffineTerm) -> usize| terms.iter().map(f).sum::<usize>();
        let fits = total(|t| t.matrix.nnz()) <= MAX_WEIGHTS && total(|t| t.matrix.cols) <= MAX_INPUTS;
        fits.then_some(Self { terms, bias })
    }

    fn inputs(&self, tensors: &[Vec<f64>]) -> Vec<f64> {
        self.terms.iter().flat_map(|t| &tensors[t.input]).copied().collect()
    }

    /// The weights of result `r`, by input.
    fn row(&self, r: usize) -> impl Iterator<Item = (usize, f64)> {
        let first = self.terms.iter().scan(0, |next, t| {
            let first = *next;
            *next += t.matrix.cols;
            Some(first)
        });
        self.terms.iter().zip(first).flat_map(move |(t, first)| t.matrix.row(r).map(move |(c, w)| (first + c, w)))
    }

    fn rows(&self) -> usize {
        self.bias.len()
    }
}

/// A layer in integers: `y = W x + b`, with one scale for the weights and one for the values.
struct Quantised {
    rows: Vec<Vec<(usize, i64)>>,
    bias: Vec<i64>,
    values: Vec<i64>,
    weight_scale: f64,
    value_scale: f64,
    /// How far each result may be from the real one, by rounding.
    bound: Vec<f64>,
}

/// The scale that brings the largest of these to [`BITS`].
fn scale(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.fold(0.0, |most: f64, v| most.max(v.abs())).max(f64::MIN_POSITIVE);
    f64::from((1 << (BITS - 1)) - 1) / largest
}

impl Quantised {
    fn new(layer: &Layer<'_>, x: &[f64]) -> Self {
        let weight_scale = scale(layer.terms.iter().flat_map(|t| &t.matrix.value).copied());
        let value_scale = scale(x.iter().copied());
        let (half_w, half_x) = (0.5 / weight_scale, 0.5 / value_scale);
        let row = |r: usize| layer.row(r).map(|(c, w)| (c, (w * weight_scale).round() as i64)).collect();
        let bound = |r: usize| {
            let each = layer.row(r).map(|(c, w)| x[c].abs() * half_w + w.abs() * half_x + half_w * half_x);
            each.sum::<f64>() + 0.5 / (weight_scale * value_scale)
        };
        Self {
            rows: (0..layer.rows()).map(row).collect(),
            bias: layer.bias.iter().map(|b| (b * weight_scale * value_scale).round() as i64).collect(),
            values: x.iter().map(|v| (v * value_scale).round() as i64).collect(),
            bound: (0..layer.rows()).map(bound).collect(),
            weight_scale,
            value_scale,
        }
    }

    /// The reference: plain integers.
    fn reference(&self) -> Vec<i64> {
        let row = |(row, b): (&Vec<(usize, i64)>, &i64)| b + row.iter().map(|&(c, w)| w * self.values[c]).sum::<i64>();
        self.rows.iter().zip(&self.bias).map(row).collect()
    }

    /// Bits that hold every result, with its sign, whatever the values are.
    fn integer_bits(&self) -> u32 {
        let most = i64::from((1 << (BITS - 1)) - 1);
        let row =
            |(row, b): (&Vec<(usize, i64)>, &i64)| b.abs() + row.iter().map(|&(_, w)| w.abs() * most).sum::<i64>();
        let largest = self.rows.iter().zip(&self.bias).map(row).max().unwrap_or(0);
        65 - largest.leading_zeros()
    }

    /// Every result by sums and products of LWE ciphertexts modulo 2^64, under the key that TFHE bootstraps to: a dimension
    /// of 2048, and noise far below the step between integers.
    fn homomorphic(&self) -> Vec<i64> {
        let parameters = PARAM_MESSAGE_2_CARRY_2;
        let dimension = parameters.glwe_dimension.to_equivalent_lwe_dimension(parameters.polynomial_size);
        let noise = parameters.glwe_noise_distribution;
        let modulus = CiphertextModulus::<u64>::new_native();
        let step = 64 - self.integer_bits();
        let mut seeder = new_seeder();
        let seeder = seeder.as_mut();
        let mut secrets = SecretRandomGenerator::<DefaultRandomGenerator>::new(seeder.seed());
        let mut encryption = EncryptionRandomGenerator::<DefaultRandomGenerator>::new(seeder.seed(), seeder);
        let key = allocate_and_generate_new_binary_lwe_secret_key::<u64, _>(dimension, &mut secrets);
        let encrypt = |&value: &i64| {
            let plaintext = Plaintext((value << step) as u64);
            allocate_and_encrypt_new_lwe_ciphertext(&key, plaintext, noise, modulus, &mut encryption)
        };
        let inputs: Vec<LweCiphertextOwned<u64>> = self.values.iter().map(encrypt).collect();
        let row = |(row, b): (&Vec<(usize, i64)>, &i64)| {
            let mut sum = LweCiphertext::new(0u64, dimension.to_lwe_size(), modulus);
            for &(c, w) in row.iter().filter(|entry| entry.1 != 0) {
                slice_wrapping_add_scalar_mul_assign(sum.as_mut(), inputs[c].as_ref(), w as u64);
            }
            lwe_ciphertext_plaintext_add_assign(&mut sum, Plaintext((b << step) as u64));
            let decrypted = decrypt_lwe_ciphertext(&key, &sum).0;
            (decrypted.wrapping_add(1 << (step - 1)) as i64) >> step
        };
        self.rows.iter().zip(&self.bias).map(row).collect()
    }
}

/// Runs every affine layer of the model that is not too large, and a small one with a square.
///
/// # Errors
/// As [`Ladder::run`], and where the high-level integers cannot be set up.
pub fn run(ladder: &Ladder<'_>, image: &[f32]) -> Result<Vec<Exact>, CrosscheckError> {
    let compiled = ladder.compiled();
    let network = &compiled.network;
    let clear = network.evaluate(&[widen(image)])?;
    let mut registers = Vec::new();
    encrypted(compiled, &ladder.set, &ladder.encoder, &[image.to_vec()], |_, decrypted| {
        registers = decrypted;
        true
    })?;
    let mut found = Vec::new();
    for (index, stage) in network.stages.iter().enumerate() {
        let Some(layer) = Layer::of(stage) else { continue };
        let start = Instant::now();
        let layer = Quantised::new(&layer, &layer.inputs(&clear));
        let results = layer.homomorphic();
        let unequal = layer.reference().iter().zip(&results).filter(|(a, b)| a != b).count();
        let noise = DEVIATIONS * ladder.of_stage(index, &ladder.predicted);
        let (mut of_bound, mut max_difference) = (0f64, 0f64);
        for held in compiled.lowered.held.iter().filter(|h| h.tensor == stage.output) {
            for (i, &slot) in held.slot.iter().enumerate() {
                let element = held.first + i;
                let exact = results[element] as f64 / (layer.weight_scale * layer.value_scale);
                let difference = (registers[held.register][slot as usize] - exact).abs();
                of_bound = of_bound.max(difference / (layer.bound[element] + noise));
                max_difference = max_difference.max(difference);
            }
        }
        found.push(Exact {
            layer: stage.name.clone(),
            elements: results.len(),
            products: layer.rows.iter().map(Vec::len).sum(),
            integer_bits: layer.integer_bits(),
            unequal,
            of_bound: Some(of_bound),
            max_difference: Some(max_difference),
            seconds: start.elapsed().as_secs_f64(),
        });
    }
    found.extend(small(&found, network.stages.first(), &clear)?);
    Ok(found)
}

/// `(W x + b)^2` of one row of the first layer on integers of 16 bits: products with weights, sums and a square, each
/// with its carries.
fn small(found: &[Exact], first: Option<&Stage>, clear: &[Vec<f64>]) -> Result<Option<Exact>, CrosscheckError> {
    const TAPS: usize = 6;
    let Some(layer) = first.and_then(Layer::of).filter(|_| !found.is_empty()) else { return Ok(None) };
    let start = Instant::now();
    let x = layer.inputs(clear);
    // Of the row that sees most of the image, the taps with the largest values: 3 bits each.
    let bright = |row: usize| layer.row(row).map(|(c, w)| (x[c] * w).abs()).sum::<f64>();
    let Some(row) = (0..layer.rows()).max_by(|&a, &b| bright(a).total_cmp(&bright(b))) else { return Ok(None) };
    let mut taps: Vec<(f64, f64)> = layer.row(row).map(|(c, w)| (x[c], w)).collect();
    taps.sort_by(|a, b| (b.0 * b.1).abs().total_cmp(&(a.0 * a.1).abs()));
    taps.truncate(TAPS);
    let largest = |f: fn(&(f64, f64)) -> f64| taps.iter().map(|t| f(t).abs()).fold(f64::MIN_POSITIVE, f64::max);
    let (value, weight) = (largest(|t| t.0), largest(|t| t.1));
    let quantised = |t: &(f64, f64)| ((7.0 * t.0 / value).round() as i16, (3.0 * t.1 / weight).round() as i16);
    let taps: Vec<(i16, i16)> = taps.iter().map(quantised).collect();
    let reference = taps.iter().map(|(x, w)| x * w).sum::<i16>().pow(2);

    let (client, server) = generate_keys(ConfigBuilder::default().build());
    set_server_key(server);
    let mut sum: Option<FheInt16> = None;
    for &(x, w) in &taps {
        let x = FheInt16::try_encrypt(x, &client).map_err(|e| CrosscheckError::Unsupported(e.to_string()))?;
        let product = x * w;
        sum = Some(match sum {
            Some(sum) => sum + product,
            None => product,
        });
    }
    let Some(sum) = sum else { return Ok(None) };
    let square: i16 = (&sum * &sum).decrypt(&client);
    Ok(Some(Exact {
        layer: format!("{} and a square", found[0].layer),
        elements: 1,
        products: taps.len() + 1,
        integer_bits: 16,
        unequal: usize::from(square != reference),
        of_bound: None,
        max_difference: None,
        seconds: start.elapsed().as_secs_f64(),
    }))
}
