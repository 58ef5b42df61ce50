//! Operators against values worked out by hand, refusals, damaged files, and the fixtures of a reference evaluator.

use super::*;
use crate::compile::onnx::AttributeProto;
use crate::compile::onnx::testing::{Builder, float, int, ints, string};

fn imported(b: &Builder) -> Result<ModelGraph, ImportError> {
    import(&b.0, Path::new("."), None)
}

/// The outputs of a model for an input of 0, 1, 2, ...
fn run(b: &Builder) -> Vec<f32> {
    let model = imported(b).unwrap();
    let n = model.tensors[model.inputs[0]].len();
    model.evaluate(&(0..n).map(|v| v as f32).collect::<Vec<_>>()).unwrap()
}

fn fails(b: &Builder) -> String {
    imported(b).unwrap_err().to_string()
}

#[test]
fn gemm_and_matmul() {
    let mut b = Builder::new(&[1, 2]);
    b.floats("w", &[3, 2], &[1., 2., 3., 4., 5., 6.]).floats("c", &[3], &[1., 1., 2.]);
    let attributes = [int("transB", 1), float("alpha", 2.0), float("beta", 0.5)];
    b.node("Gemm", &["x", "w", "c"], "y", &attributes).output("y");
    assert_eq!(run(&b), [4.5, 8.5, 13.0]);
    let mut b = Builder::new(&[1, 2, 2]);
    b.floats("w", &[2, 1], &[1., 10.]).node("MatMul", &["x", "w"], "y", &[]).output("y");
    assert_eq!(run(&b), [10., 32.]);
}

#[test]
fn convolution_geometry() {
    let geometry = |attributes: &[AttributeProto]| {
        let mut b = Builder::new(&[1, 1, 5, 6]);
        b.floats("w", &[1, 1, 3, 2], &[1.0; 6]).node("Conv", &["x", "w"], "y", attributes).output("y");
        let model = imported(&b).unwrap();
        let Layer::Conv(c) = &model.nodes[0].layer else { panic!("a convolution") };
        (c.window.pad, c.output)
    };
    assert_eq!(geometry(&[]), ([0, 0], [1, 3, 5]));
    assert_eq!(geometry(&[ints("pads", &[1, 0, 2, 3]), ints("strides", &[2, 3])]), ([1, 0], [1, 3, 3]));
    assert_eq!(geometry(&[string("auto_pad", "SAME_UPPER")]), ([1, 0], [1, 5, 6]));
    assert_eq!(geometry(&[string("auto_pad", "SAME_LOWER")]), ([1, 1], [1, 5, 6]));
    assert_eq!(geometry(&[string("auto_pad", "VALID"), ints("dilations", &[2, 5])]), ([0, 0], [1, 1, 1]));
}

#[test]
fn scaling_shifting_and_products() {
    let mut b = Builder::new(&[1, 2, 1, 2]);
    b.floats("a", &[2, 1, 1], &[2., 3.]).floats("c", &[], &[1.]);
    b.node("Mul", &["a", "x"], "ax", &[]).node("Sub", &["c", "ax"], "s", &[]);
    b.node("Div", &["s", "a"], "d", &[]).node("Neg", &["d"], "n", &[]).output("n");
    assert_eq!(run(&b), [-0.5, 0.5, 1.6666667, 2.6666667]);
    let mut b = Builder::new(&[1, 3]);
    b.ints("five", &[], &[5]).node("Pow", &["x", "five"], "p", &[]);
    b.node("Mul", &["p", "x"], "m", &[]).node("Sum", &["m", "x", "x"], "y", &[]).output("y");
    assert_eq!(run(&b), [0., 3., 68.]);
}

#[test]
fn batch_normalisation_and_pools() {
    let mut b = Builder::new(&[1, 2, 2, 2]);
    b.floats("g", &[2], &[2., 1.]).floats("b", &[2], &[1., 0.]);
    b.floats("m", &[2], &[1., 0.]).floats("v", &[2], &[3., 0.]);
    b.node("BatchNormalization", &["x", "g", "b", "m", "v"], "n", &[float("epsilon", 1.0)]);
    b.node("GlobalAveragePool", &["n"], "p", &[]).node("Flatten", &["p"], "y", &[]).output("y");
    assert_eq!(run(&b), [1.5, 5.5]);
    let mut b = Builder::new(&[1, 2, 1, 2]);
    b.node("ReduceMean", &["x"], "y", &[ints("axes", &[-1, 2]), int("keepdims", 0)]).output("y");
    assert_eq!(run(&b), [0.5, 2.5]);
    assert_eq!(imported(&b).unwrap().tensors[1].shape, [2]);
}

#[test]
fn moving_elements() {
    let mut b = Builder::new(&[1, 2, 3]);
    b.ints("s", &[2], &[i64::MAX, 0]).ints("e", &[2], &[i64::MIN, 3]).ints("ax", &[2], &[2, 1]);
    b.ints("st", &[2], &[-2, 1]).ints("pads", &[6], &[0, 0, 1, 0, 0, 0]);
    b.node("Slice", &["x", "s", "e", "ax", "st"], "a", &[]);
    b.node("Transpose", &["a"], "t", &[ints("perm", &[0, 2, 1])]).node("Pad", &["t", "pads"], "p", &[]);
    b.node("Concat", &["p", "p"], "y", &[int("axis", 2)]).output("y");
    assert_eq!(run(&b), [0., 2., 5., 0., 2., 5., 0., 0., 3., 0., 0., 3.]);
    let mut b = Builder::new(&[1, 2, 2]);
    b.ints("i", &[2], &[-1, 0]).ints("shape", &[4], &[2, 1, 1, 1]);
    b.node("Gather", &["x", "i"], "g", &[int("axis", 2)]).node("Expand", &["g", "shape"], "y", &[]).output("y");
    assert_eq!(run(&b), [1., 0., 3., 2., 1., 0., 3., 2.]);
}

#[test]
fn shapes_computed_from_shapes_fold() {
    let mut b = Builder::new(&[-1, 2, 3]);
    b.ints("zero", &[], &[0]).ints("minus", &[1], &[-1]).ints("axes", &[1], &[0]);
    b.node("Shape", &["x"], "s", &[]).node("Gather", &["s", "zero"], "n", &[]);
    b.node("Unsqueeze", &["n", "axes"], "u", &[]).node("Concat", &["u", "minus"], "r", &[int("axis", 0)]);
    b.node("Cast", &["r"], "c", &[int("to", 7)]).node("Reshape", &["x", "c"], "f", &[]);
    b.node("Dropout", &["f"], "d", &[]).node("Mul", &["d", "d"], "y", &[]).output("y");
    let model = imported(&b).unwrap();
    assert_eq!(model.nodes.len(), 1);
    assert_eq!(model.tensors[1].shape, [6]);
}

#[test]
fn dynamic_inputs_need_a_shape() {
    let mut b = Builder::new(&[-1, 1, -1, 4]);
    b.node("Mul", &["x", "x"], "y", &[]).output("y");
    assert!(fails(&b).contains("dynamic dimension \"n\" at axis 2; state it with --input-shape"));
    let given = |shape: &[usize]| import(&b.0, Path::new("."), Some(shape));
    assert_eq!(given(&[1, 3, 4]).unwrap().tensors[0].shape, [1, 3, 4]);
    assert_eq!(given(&[1, 1, 3, 4]).unwrap().tensors[1].shape, [1, 3, 4]);
    let error = |shape| given(shape).unwrap_err().to_string();
    assert!(error(&[1, 3, 5]).contains("size 4 along axis 3"));
    assert!(error(&[2, 1, 3, 4]).contains("must be 1"));
    assert!(error(&[3, 4]).contains("has 4 dimensions"));
    assert!(error(&[1, 0, 4]).contains("empty"));
    let mut b = Builder::new(&[2, 4]);
    b.node("Mul", &["x", "x"], "y", &[]).output("y");
    assert!(fails(&b).contains("batch size 2"));
}

#[test]
fn refusals_name_the_node_the_reason_and_a_rewrite() {
    let refusal = |op: &str, attributes: &[AttributeProto]| {
        let mut b = Builder::new(&[1, 1, 4, 4]);
        b.node(op, &["x"], "act1", attributes).output("act1");
        fails(&b)
    };
    let relu = refusal("Relu", &[]);
    assert!(relu.starts_with("node \"act1\" (Relu) is not supported"), "{relu}");
    assert!(relu.contains("a*x^2 + b*x + c"), "{relu}");
    assert!(refusal("MaxPool", &[]).contains("use AveragePool"));
    assert!(refusal("Softmax", &[]).contains("apply it after decryption"));
    assert!(refusal("LayerNormalization", &[]).contains("use BatchNormalization"));
    assert!(refusal("Resize", &[]).contains("ConvTranspose2d"));
    assert!(refusal("Whatever", &[]).contains("does not know"));
    let pool = [ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), int("ceil_mode", 1)];
    assert!(refusal("AveragePool", &pool).contains("ceil_mode"));
    let mut b = Builder::new(&[1, 4]);
    b.node("Div", &["x", "x"], "y", &[]).output("y");
    assert!(fails(&b).contains("divides by encrypted values"));
    let mut b = Builder::new(&[1, 4]);
    b.floats("e", &[], &[0.5]).node("Pow", &["x", "e"], "y", &[]).output("y");
    assert!(fails(&b).contains("exponent is 0.5"));
    let mut b = Builder::new(&[1, 4, 4]);
    b.node("MatMul", &["x", "x"], "y", &[]).output("y");
    assert!(fails(&b).contains("two encrypted matrices"));
}

#[test]
fn malformed_models_are_errors() {
    assert!(import(&ModelProto::default(), Path::new("."), None).unwrap_err().to_string().contains("no graph"));
    let mut b = Builder::new(&[1, 4]);
    b.node("Mul", &["x", "w"], "y", &[]).output("y");
    assert!(fails(&b).contains("\"w\" is neither an initialiser"));
    let mut b = Builder::new(&[1, 4]);
    b.floats("w", &[4, 1], &[1., f32::NAN, 1., 1.]).node("MatMul", &["x", "w"], "y", &[]).output("y");
    assert_eq!(
        fails(&b),
        "node \"y\" (MatMul): its weights hold NaN or infinite values; train or export the model again"
    );
    let mut b = Builder::new(&[1, 4]);
    b.floats("w", &[3, 1], &[1.; 3]).node("MatMul", &["x", "w"], "y", &[]).output("y");
    assert!(fails(&b).contains("a matrix for 3 features"));
    let mut b = Builder::new(&[1, 4]);
    b.floats("w", &[3], &[1.; 3]).node("Add", &["x", "w"], "y", &[]).output("y");
    assert!(fails(&b).contains("combines the shapes [1, 4] and [3]"));
    let mut b = Builder::new(&[1, 4]);
    b.output("x");
    assert!(fails(&b).contains("the input itself"));
    let mut b = Builder::new(&[1, 4]);
    b.floats("w", &[2, 2, 1, 1], &[1.; 4]).node("Conv", &["x", "w"], "y", &[]).output("y");
    assert!(fails(&b).contains("[1, C, H, W] is expected"));
    for (op, list) in [("strides", [0, 1]), ("strides", [1 << 40, 1]), ("dilations", [-1, 1])] {
        let mut b = Builder::new(&[1, 1, 4, 4]);
        b.floats("w", &[1, 1, 1, 1], &[1.]).node("Conv", &["x", "w"], "y", &[ints(op, &list)]).output("y");
        assert!(fails(&b).contains(op));
    }
    let mut b = Builder::new(&[1, 1, 4, 4]);
    b.floats("w", &[1, 1, 9, 9], &[1.; 81]).node("Conv", &["x", "w"], "y", &[]).output("y");
    assert!(fails(&b).contains("kernel of extent 9"));
}

/// A few bytes ask for any shape: nothing of the kind is computed.
#[test]
fn shapes_beyond_reason_are_refused() {
    let huge = 1 << 25;
    let cases: [&dyn Fn(&mut Builder); 4] = [
        &|b| {
            b.ints("shape", &[2], &[huge, 3]).node("Expand", &["x", "shape"], "y", &[]);
        },
        &|b| {
            b.ints("shape", &[2], &[huge, 3]).floats("c", &[1, 3], &[1., 2., 3.]);
            b.node("Expand", &["c", "shape"], "wide", &[]).node("Add", &["x", "wide"], "y", &[]);
        },
        &|b| {
            b.ints("pick", &[2, 3], &[0, 1, 2, 0, 1, 2]);
            let mut last = "x".to_owned();
            for i in 0..24 {
                let next = format!("g{i}");
                b.node("Gather", &[&last, "pick"], &next, &[int("axis", 1 + i)]);
                last = next;
            }
            b.node("Neg", &[&last], "y", &[]);
        },
        &|b| {
            let mut last = "x".to_owned();
            for i in 0..30 {
                let next = format!("c{i}");
                b.node("Concat", &[&last, &last], &next, &[int("axis", 1)]);
                last = next;
            }
            b.node("Neg", &[&last], "y", &[]);
        },
    ];
    for (i, case) in cases.iter().enumerate() {
        let mut b = Builder::new(&[1, 3]);
        case(&mut b);
        b.output("y");
        let error = fails(&b);
        assert!(error.contains("the most that are computed"), "{i}: {error}");
    }
}

#[test]
fn cut_files_are_errors() {
    let mut b = Builder::new(&[1, 4]);
    b.floats("w", &[4, 1], &[1.0; 4]).node("MatMul", &["x", "w"], "y", &[]).output("y");
    let bytes = b.0.encode_to_vec();
    let path = std::env::temp_dir().join(format!("cipherlens-cut-{}.onnx", std::process::id()));
    let mut imported = 0;
    for n in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..n]).unwrap();
        imported += usize::from(load(&path, None).is_ok());
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(imported, 1);
    let missing = load(&path, None).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read"), "{missing}");
}

#[test]
fn damaged_files_never_panic() {
    let mut b = Builder::new(&[1, 1, 4, 4]);
    b.floats("w", &[1, 1, 2, 2], &[1.0; 4]).node("Conv", &["x", "w"], "c", &[ints("pads", &[1, 1, 0, 0])]);
    b.ints("shape", &[2], &[1, -1]).node("Reshape", &["c", "shape"], "y", &[]).output("y");
    let bytes = b.0.encode_to_vec();
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(model) = ModelProto::decode(damaged.as_slice()) {
            let _ = import(&model, Path::new("."), None);
        }
    }
}

#[test]
fn fixtures_match_the_reference_evaluator() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/onnx");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        let file = ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
        let numbers = |key: &str| -> Vec<f32> {
            let entry = file.metadata_props.iter().find(|p| p.key == key).unwrap();
            entry.value.split(' ').map(|v| v.parse().unwrap()).collect()
        };
        let model = load(&path, None).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (output, expected) = (model.evaluate(&numbers("input")).unwrap(), numbers("expected"));
        assert_eq!(output.len(), expected.len(), "{}", path.display());
        for (a, b) in output.iter().zip(&expected) {
            assert!((a - b).abs() <= 2e-6 * b.abs().max(1.0), "{}: {a}, not {b}", path.display());
        }
        checked += 1;
    }
    assert!(checked >= 21);
}
