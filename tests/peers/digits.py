"""What the Python peers share: our networks in numpy, the first drawn digit, timing, and the lines they print."""

import gzip
import json
import statistics
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parent.parent.parent


def image():
    """The first drawn digit, 28x28 in [0, 1]."""
    pixels = gzip.decompress((ROOT / "fixtures/digits/images.idx3-ubyte.gz").read_bytes())
    return np.frombuffer(pixels, np.uint8, count=28 * 28, offset=16).reshape(28, 28) / 255.0


def network(name):
    """The file of a network of one convolution and two dense layers, their weights, and the stride and padding."""
    path = ROOT / "models" / f"{name}.onnx"
    graph = onnx.load(path).graph
    weights = {tensor.name: numpy_helper.to_array(tensor).astype(float) for tensor in graph.initializer}
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in graph.node[0].attribute}
    layers = [(weights[f"linear.{i}.weight"], weights[f"linear.{i}.bias"]) for i in range(3)]
    return path, layers, attributes["strides"][0], attributes["pads"][0]


def clear(layers, stride, pad, pixels):
    """Scores of the network in the clear."""
    (kernel, bias), *dense = layers
    side = kernel.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(pixels, pad), (side, side))[::stride, ::stride]
    x = (np.einsum("ijab,cab->cij", windows, kernel[:, 0]) + bias[:, None, None]).ravel()
    for weight, bias in dense:
        x = weight @ (x * x) + bias
    return x


def measure(repetitions, step):
    """Median and least time of `step` in microseconds, after a call that warms up."""
    step()
    samples = []
    for _ in range(repetitions):
        start = time.perf_counter()
        step()
        samples.append((time.perf_counter() - start) * 1e6)
    return {"median_us": statistics.median(samples), "min_us": min(samples), "repetitions": repetitions}


def row(**fields):
    """Prints one result for `cargo xtask peers`."""
    print(json.dumps(fields), flush=True)
