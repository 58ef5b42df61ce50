//! Operators that CKKS cannot evaluate, and what to use instead.

use super::error::{Fault, unsupported};

/// The error for an operator that cannot be evaluated.
pub(super) fn refuse<T>(op: &str) -> Result<T, Fault> {
    const POLYNOMIAL: &str = "replace it by a square, or by a polynomial a*x^2 + b*x + c fitted to it on the layer's input range, and train again";
    let (reason, rewrite) = match op {
        "Relu" | "LeakyRelu" | "PRelu" | "Elu" | "Selu" | "Celu" | "Gelu" | "HardSwish" | "HardSigmoid" | "Sigmoid"
        | "Tanh" | "Softplus" | "Softsign" | "Mish" | "Swish" | "ThresholdedRelu" | "Clip" | "Abs" | "Erf" | "Sign" => {
            ("CKKS evaluates additions and products only, and this activation is not a polynomial", POLYNOMIAL)
        }
        "Exp" | "Log" | "Sqrt" | "Reciprocal" | "Sin" | "Cos" => {
            ("CKKS evaluates additions and products only, and this function is not a polynomial", POLYNOMIAL)
        }
        "Div" => (
            "it divides by encrypted values",
            "divide by a constant, or replace the reciprocal by a polynomial fitted on the divisor's range",
        ),
        "MaxPool" | "GlobalMaxPool" => {
            ("a maximum needs comparisons, which CKKS does not have", "use AveragePool (nn.AvgPool2d) and train again")
        }
        "Max" | "Min" | "ReduceMax" | "ReduceMin" | "Greater" | "Less" | "Where" | "Equal" => {
            ("it needs comparisons, which CKKS does not have", "use sums, averages and polynomials instead")
        }
        "Softmax" | "LogSoftmax" | "ArgMax" | "ArgMin" | "TopK" | "Hardmax" => (
            "it needs exponentials or comparisons, which CKKS does not have",
            "drop it from the end of the model and apply it after decryption; the largest logit is the same class",
        ),
        "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LpNormalization"
        | "LRN"
        | "MeanVarianceNormalization"
        | "RMSNormalization" => (
            "it divides by a statistic of the encrypted data",
            "use BatchNormalization, whose statistics are constants after training",
        ),
        "Resize" | "Upsample" => (
            "interpolation is not implemented",
            "use a transposed convolution with kernel 2 and stride 2 (nn.ConvTranspose2d)",
        ),
        "LSTM" | "GRU" | "RNN" | "Loop" | "Scan" | "If" => {
            ("recurrence and control flow are not implemented", "export a feed-forward model with fixed shapes")
        }
        "QuantizeLinear" | "DequantizeLinear" | "QLinearConv" | "QLinearMatMul" | "ConvInteger" | "MatMulInteger" => {
            ("quantised operators round, which CKKS cannot", "export the float32 model")
        }
        "Split" => ("it has several outputs", "use Slice, once for each part"),
        "Einsum" => ("general contractions are not implemented", "use MatMul or Gemm with a constant matrix"),
        _ => (
            "the importer does not know this operator",
            "use Conv, ConvTranspose, Gemm, MatMul, AveragePool, BatchNormalization, Add, Sub, Mul, Concat, Pad and reshapes",
        ),
    };
    unsupported(reason, rewrite)
}
