//! The importer and the clear evaluator against tract, an independent ONNX runtime; and the compiled programs,
//! simulated on slots, against both.

use cipherlens::compile::declutter::declutter;
use cipherlens::compile::simulate::simulate;
use cipherlens::compile::{ModelGraph, load};
use cipherlens_tests::Lcg;
use cipherlens_tests::fixtures::{MODELS, compiled, digits, model, root};
use std::path::{Path, PathBuf};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

/// Both sides compute in f32 and sum in different orders.
const TOLERANCE: f32 = 1e-4;

/// All outputs of the model at `path`, by tract. `shapes` are those of the inputs without the batch dimension.
fn reference(path: &Path, shapes: &[Vec<usize>], inputs: &[Vec<f32>]) -> TractResult<Vec<Vec<f32>>> {
    let mut model = tract_onnx::onnx().model_for_path(path)?;
    let mut tensors = TVec::new();
    for (i, (shape, values)) in shapes.iter().zip(inputs).enumerate() {
        let rank = model.input_fact(i)?.shape.rank().concretize().map_or(shape.len() + 1, |r| r as usize);
        let mut full = vec![1; rank.saturating_sub(shape.len())];
        full.extend(shape);
        tensors.push(Tensor::from_shape(&full, values)?.into_tvalue());
        model.set_input_fact(i, f32::fact(&full).into())?;
    }
    let outputs = model.into_optimized()?.into_runnable()?.run(tensors)?;
    outputs.iter().map(|t| Ok(t.to_plain_array_view::<f32>()?.iter().copied().collect())).collect()
}

fn onnx_files() -> Vec<PathBuf> {
    let folders = ["models", "fixtures/onnx"].map(|f| root().join(f));
    let entries = folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap()).map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    files.sort();
    assert!(files.len() > 20);
    files
}

/// Largest difference, relative to the largest value.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs())) / size
}

fn shapes(model: &ModelGraph) -> Vec<Vec<usize>> {
    model.inputs.iter().map(|&i| model.tensors[i].shape.clone()).collect()
}

fn random_inputs(model: &ModelGraph, seed: u64) -> Vec<Vec<f32>> {
    let mut lcg = Lcg::new(seed);
    model.inputs.iter().map(|&i| (0..model.tensors[i].len()).map(|_| lcg.unit() as f32).collect()).collect()
}

/// Layer by layer in f32, and after all rewrites in f64.
#[test]
fn clear_evaluation_matches_tract() {
    for path in onnx_files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let model = load(&path, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let network = declutter(&model);
        for seed in 0..2 {
            let inputs = random_inputs(&model, seed);
            let expected =
                reference(&path, &shapes(&model), &inputs).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let values = model.evaluate_all(&inputs).unwrap();
            assert_eq!(expected.len(), model.outputs.len(), "{name}");
            for (&output, expected) in model.outputs.iter().zip(&expected) {
                let error = distance(&values[output], expected);
                assert!(error <= TOLERANCE, "{name}: {error:e}");
            }
            let Ok(network) = &network else { continue };
            let inputs: Vec<Vec<f64>> = inputs.iter().map(|x| x.iter().map(|&v| v.into()).collect()).collect();
            let values = network.evaluate(&inputs).unwrap();
            for (&output, expected) in network.outputs.iter().zip(&expected) {
                let found: Vec<f32> = values[output].iter().map(|&v| v as f32).collect();
                let error = distance(&found, expected);
                assert!(error <= TOLERANCE, "{name}, decluttered: {error:e}");
            }
        }
    }
}

/// What the encrypted program computes on slots, without encryption.
#[test]
fn compiled_programs_match_tract() {
    for name in MODELS {
        let model = model(name);
        let program = compiled(&model).lowered.program;
        let path = root().join(format!("models/{name}.onnx"));
        for image in digits().images.into_iter().take(2) {
            let expected = reference(&path, &shapes(&model), std::slice::from_ref(&image)).unwrap();
            let slots = simulate(&program, &[image.iter().map(|&v| v.into()).collect()]);
            let found: Vec<f32> = slots[0].iter().map(|&v| v as f32).collect();
            let error = distance(&found, &expected[0]);
            assert!(error <= TOLERANCE, "{name}: {error:e}");
        }
    }
}
