//! Merging: which neighbouring affine maps become one, by price.
//!
//! Multiplied maps take a level less and often more diagonals. Every choice of a few seams is lowered and priced in the
//! ring that its depth asks for; of many seams one at a time is changed from what
//! [`worth_merging`](super::declutter::worth_merging) would do, while that helps.

use super::declutter::{DeclutterError, Stages};
use super::graph::{LayoutKind, Network, TensorId};
use super::lower::{LowerOptions, lower, needed_limbs};
use cipherlens_kernel::params::{MAX_SPECIAL, ParamSet, SECURITY_TABLE};
use serde::Serialize;

/// Two layers that may be merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seam {
    /// Their names.
    pub layers: String,
    /// Whether they are.
    pub merged: bool,
}

/// Seams of which every choice is tried.
const FEW: usize = 3;
/// Bits of a prime in a usual set.
const USUAL_BITS: usize = 24;
/// Special primes of a usual set.
const USUAL_SPECIAL: usize = 2;

/// Predicted microseconds of a network, in `set` or in the least ring that holds its depth; infinite where there
/// is none.
fn price(network: &Network, set: Option<&ParamSet>) -> f64 {
    let limbs = needed_limbs(network);
    let options: Vec<LowerOptions> = match set {
        Some(set) if limbs > set.limbs() => Vec::new(),
        Some(set) => vec![LowerOptions::new(set.n(), set.digit(), set.special())],
        None => SECURITY_TABLE
            .iter()
            .filter(|&&(_, bits)| (limbs + USUAL_SPECIAL) * USUAL_BITS <= bits as usize)
            .map(|&(log_n, _)| LowerOptions::new(1 << log_n, MAX_SPECIAL.min(limbs), USUAL_SPECIAL))
            .collect(),
    };
    options.iter().find_map(|o| lower(network, o).ok()).map_or(f64::INFINITY, |lowered| lowered.predicted.us)
}

/// The network, for `images` images that share ciphertexts, with the seams closed for which it is predicted to be
/// fastest.
///
/// # Errors
/// Folded weights that overflow.
pub fn merge(
    stages: &Stages,
    set: Option<&ParamSet>,
    images: usize,
    layout: LayoutKind,
) -> Result<(Network, Vec<Seam>), DeclutterError> {
    let merged = |closed: &[TensorId]| Ok::<_, DeclutterError>(Network { images, layout, ..stages.merged(closed)? });
    if layout == LayoutKind::VolleyRevolver {
        // Layer by layer, as it is described.
        return Ok((merged(&[])?, Vec::new()));
    }
    let seams = stages.seams();
    let mut closed = stages.usual();
    let mut best = merged(&closed)?;
    if !seams.is_empty() {
        let mut least = price(&best, set);
        let mut attempt = |choice: Vec<TensorId>, closed: &mut Vec<TensorId>| -> Result<(), DeclutterError> {
            let network = merged(&choice)?;
            let us = price(&network, set);
            if us < least {
                (least, best, *closed) = (us, network, choice);
            }
            Ok(())
        };
        if seams.len() <= FEW {
            for choice in 0..1usize << seams.len() {
                let choice = seams.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1).map(|(_, &t)| t).collect();
                if choice != closed {
                    attempt(choice, &mut closed)?;
                }
            }
        } else {
            for &seam in &seams {
                let mut choice = closed.clone();
                match choice.iter().position(|&t| t == seam) {
                    Some(place) => drop(choice.remove(place)),
                    None => choice.push(seam),
                }
                attempt(choice, &mut closed)?;
            }
        }
    }
    let report = seams.iter().map(|&t| Seam { layers: stages.layers(t), merged: closed.contains(&t) });
    Ok((best, report.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::import::import;
    use crate::compile::onnx::testing::{Builder, ints};
    use std::path::Path;

    fn stages(b: &Builder) -> Stages {
        Stages::new(&import(&b.0, Path::new("."), None).unwrap()).unwrap()
    }

    #[test]
    fn the_cheapest_choice_is_taken() {
        // conv - pool - conv - pool - square - dense: a pool without overlap always joins the map before it, so one
        // seam is between the convolutions; a window that overlaps leaves another.
        let mut b = Builder::new(&[1, 1, 16, 16]);
        let w: Vec<f32> = (0..640).map(|i| ((i * 37) % 19) as f32 / 19.0 - 0.5).collect();
        b.floats("v", &[2, 1, 3, 3], &w[..18]).floats("w", &[2, 2, 3, 3], &w[..36]).floats("f", &[5, 128], &w);
        let (pool, same) = ([ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])], [ints("pads", &[1, 1, 1, 1])]);
        b.node("Conv", &["x", "v"], "c", &same).node("AveragePool", &["c"], "p", &pool);
        let overlap = [ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])];
        b.node("Conv", &["p", "w"], "d", &same).node("AveragePool", &["d"], "q", &overlap);
        b.node("Mul", &["q", "q"], "s", &[]).node("Flatten", &["s"], "t", &[]);
        b.node("Gemm", &["t", "f"], "y", &[crate::compile::onnx::testing::int("transB", 1)]).output("y");
        let stages = stages(&b);
        let seams = stages.seams();
        assert_eq!(seams.len(), 2);
        let (network, report) = merge(&stages, None, 1, LayoutKind::Search).unwrap();
        let least = (0..4).map(|choice| {
            let closed: Vec<_> = (0..2).filter(|i| choice >> i & 1 == 1).map(|i| seams[i]).collect();
            price(&stages.merged(&closed).unwrap(), None)
        });
        assert_eq!(price(&network, None), least.fold(f64::INFINITY, f64::min));
        let merged = report.iter().filter(|s| s.merged).count();
        assert_eq!(network.stages.len(), 5 - merged, "{report:?}");
        assert!(report.iter().all(|s| s.layers.contains(" + ")), "{report:?}");
    }

    #[test]
    fn products_far_too_large_are_no_seams() {
        let bottleneck = |n: usize| {
            let mut b = Builder::new(&[1, n as i64]);
            b.floats("u", &[n as i64, 1], &vec![0.5; n]).floats("v", &[1, n as i64], &vec![0.25; n]);
            b.node("MatMul", &["x", "u"], "h", &[]).node("MatMul", &["h", "v"], "y", &[]).output("y");
            stages(&b).seams().len()
        };
        assert_eq!((bottleneck(64), bottleneck(4096)), (1, 0));
    }
}
