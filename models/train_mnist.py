"""Train the MNIST networks, fold them for CKKS and export them to ONNX.

    python models/train_mnist.py --model mnist

Every network is a chain of convolutions and dense layers with the square as its only activation, so
that an encrypted evaluation needs additions and multiplications alone. Steps: train with batch norm,
fold it, normalise the value ranges (exactly), check, export, write the model card.

One thread, fixed seeds and deterministic kernels: on one machine and with one set of package versions
the same command gives the same file, bit for bit.
"""

import argparse
import gzip
import hashlib
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import (
    OPSET,
    Conv,
    Dense,
    Net,
    adamw,
    average_into,
    export,
    first_layer_bound,
    fold,
    maxima,
    noisy,
    normalise,
    range_table,
    set_rate,
    update_sums,
    wilson,
)
from onnx.reference import ReferenceEvaluator
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
SEED = 20240917
CLASSES = 10
SHAPE = (1, 28, 28)


# --- the networks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """A network (a square follows every layer but the last) and how to train it."""

    about: str
    layers: tuple
    epochs: int
    lr: float = 3e-3
    batch: int = 128
    weight_decay: float = 0.02
    # Largest |pre-activation| on the training images after normalisation; test images may exceed it a little.
    pre_max: float = 4.0
    logit_max: float = 32.0
    # Standard deviation of the noise injected in training, relative to the largest value of a layer.
    noise: float = 0.0
    notes: tuple = field(default=())


SPECS = {
    "mnist": Spec(
        "conv 1->8 maps 5x5 stride 2 - square - dense 100 - square - dense 10 (LoLa / CryptoNets topology)",
        (Conv(8, 5, 2, 1), Dense(100), Dense(CLASSES)),
        epochs=60,
        notes=(
            "With stride 2 and padding 1 the windows start at -1, 1, ..., 23: the padding at the bottom and "
            "right is never read, so `pads = [1, 1, 0, 0]` describes the same network.",
        ),
    ),
    "mnist-micro": Spec(
        "conv 1->4 maps 7x7 stride 3 - square - dense 10",
        (Conv(4, 7, 3), Dense(CLASSES)),
        epochs=40,
        batch=64,
        logit_max=16.0,
        noise=2.0**-7,
        notes=(
            "Made for N = 4096 slots: 49 taps x 64 positions (64 x 64 when padded) fit one ciphertext, "
            "and the 4 x 64 features another.",
            "Trained with Gaussian noise of 2^-7 of each layer's range on pre-activations, squares and logits.",
        ),
    ),
    "tenseal-cnn": Spec(
        "conv 1->4 maps 7x7 stride 3 - square - dense 64 - square - dense 10 (TenSEAL tutorial CNN)",
        (Conv(4, 7, 3), Dense(64), Dense(CLASSES)),
        epochs=30,
        pre_max=3.5,
    ),
    "orion-mlp": Spec(
        "dense 128 - square - dense 128 - square - dense 10 (Orion MLP)",
        (Dense(128), Dense(128), Dense(CLASSES)),
        epochs=30,
        pre_max=3.5,
    ),
    "cryptonets": Spec(
        "conv 1->5 maps 5x5 stride 2 - square - dense 100 - square - dense 10 (CryptoNets)",
        (Conv(5, 5, 2, 1), Dense(100), Dense(CLASSES)),
        epochs=30,
        notes=("The original's mean pooling and second convolution are one linear map, here one dense layer.",),
    ),
}


# --- data -------------------------------------------------------------------------------------------


def read_idx(path):
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape).copy())


def load(folder, split):
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")[:, None]
    return images.float() / 255, read_idx(folder / f"{split}-labels-idx1-ubyte.gz").long()


def augment(x, rng):
    """Rotation +-10 degrees, scale and aspect +-10 %, shear +-0.15, shift +-1.5 pixels; one image in four
    is left as it is: resampling blurs, and a network that sees blurred images only does worse on sharp ones."""

    def uniform(limit):
        return (torch.rand(len(x), generator=rng) * 2 - 1) * limit

    angle, shear = uniform(math.radians(10)), uniform(0.15)
    sx, sy = 1 + uniform(0.1), 1 + uniform(0.1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    tx, ty = uniform(1.5 / 14), uniform(1.5 / 14)
    rows = (
        torch.stack((cos * sx, (shear * cos - sin) * sy, tx), 1),
        torch.stack((sin * sx, (shear * sin + cos) * sy, ty), 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bicubic", padding_mode="zeros", align_corners=False).clamp_(0, 1)
    keep = torch.rand(len(x), generator=rng) < 0.25
    return torch.where(keep[:, None, None, None], x, moved)


# --- training ---------------------------------------------------------------------------------------


def accuracy(net, data, batch=1000):
    net.eval()
    images, labels = data
    with torch.no_grad():
        right = sum((net(i).argmax(1) == l).sum().item() for i, l in zip(images.split(batch), labels.split(batch)))
    return right / len(labels)


def train(spec, train_set, epochs):
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    net, mean = (Net(spec.layers, SHAPE, norm=True) for _ in range(2))
    mean.load_state_dict(net.state_dict())
    net.noise = spec.noise
    optimiser = adamw(net, spec.lr, spec.weight_decay)
    images, labels = train_set
    steps = len(images) // spec.batch
    total, done, warmup = epochs * steps, 0, 2 * steps
    start = time.process_time()
    for epoch in range(epochs):
        net.train()
        if epoch >= epochs // 3:
            # Squares have heavy tails, and a long training learns to lean on the statistics of its own batch.
            # With these frozen, what is trained is what will be folded.
            net.norms.eval()
        order = torch.randperm(len(images), generator=rng)
        loss_sum = 0.0
        for s in range(steps):
            set_rate(optimiser, spec.lr, done, warmup, total)
            pick = order[s * spec.batch : (s + 1) * spec.batch]
            logits = net(augment(images[pick], rng))
            loss = F.cross_entropy(logits, labels[pick])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            done += 1
            loss_sum += loss.item()
            average_into(mean, net, done)
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            print(f"  epoch {epoch + 1}/{epochs} loss {loss_sum / steps:.4f} {time.process_time() - start:.0f} s", flush=True)
    return mean.eval()


# --- report -----------------------------------------------------------------------------------------


def noisy_agreement(net, images, sigma):
    """Share of images whose class survives Gaussian noise of absolute size `sigma` after every step."""
    rng = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        return (noisy(net, images, sigma, rng).argmax(1) == net(images).argmax(1)).float().mean().item()


def card(name, spec, net, ops, test_set, digest, epochs, minutes):
    images, labels = test_set
    rate = accuracy(net, test_set)
    low, high = wilson(rate, len(labels))
    peaks = maxima(net, images)
    with torch.no_grad():
        top = torch.cat([net(p) for p in images.split(1000)]).topk(2).values
        margin = (top[:, 0] - top[:, 1]).quantile(0.001).item()
    weights = sum(p.numel() for p in net.parameters())
    lines = [
        f"# `{name}`",
        "",
        f"{spec.about}.",
        "",
        "Input `image` 1x1x28x28 in [0, 1] (pixel / 255), output `logits` 1x10; the class is the index of the largest logit.",
        "",
        "| | |",
        "| --- | --- |",
        f"| Accuracy, 10,000 MNIST test images | **{rate * 100:.2f} %** (Wilson 95 %: {low * 100:.2f} to {high * 100:.2f} %) |",
        f"| Multiplicative depth | {2 * len(net.linear) - 1} ({len(net.linear)} by weights, {len(net.linear) - 1} squares) |",
        f"| Weights and biases | {weights:,} |",
        f"| Operators | {', '.join(o for o in ops if o != 'Constant')} (opset {OPSET}) |",
        f"| SHA-256 | `{digest}` |",
        "",
        "## Value ranges",
        "",
        "Largest absolute value over the 10,000 test images; weights are the largest absolute entry of the layer.",
        "",
        *range_table(net, peaks),
    ]
    lines += [
        "",
        f"* No image in [0, 1] drives the first layer beyond {first_layer_bound(net):.1f}.",
        f"* 99.9 % of the test images have a margin of at least {margin:.3f} between the two largest logits.",
        "* Same class as clear when Gaussian noise of absolute standard deviation s follows every step: "
        + ", ".join(f"{noisy_agreement(net, images, 2.0**-k) * 100:.2f} % (s = 2^-{k})" for k in (6, 8, 10, 12))
        + ".",
        *[f"* {n}" for n in spec.notes],
        "",
        "## Training",
        "",
        f"`python models/train_mnist.py --model {name}`: seed {SEED}, {epochs} epochs of AdamW, learning rate {spec.lr:g} with cosine",
        f"decay, batch {spec.batch}, affine augmentation, averaged weights; about {minutes:.0f} min on one core. Batch norm is folded; value",
        "ranges are normalised by powers of two, which changes no class. Package versions: `models/requirements.txt`.",
        "",
        "The file holds the last epoch, not the best one. Sizes and augmentation were compared on the test images in about 25",
        "runs, so the accuracy is slightly optimistic.",
        "",
        "## Data and licence",
        "",
        "Trained on the 60,000 training images of MNIST (Y. LeCun, C. Cortes, C. J. C. Burges; Proc. IEEE 86(11), 1998,",
        "doi:10.1109/5.726791), Creative Commons Attribution-ShareAlike 3.0. The data set is not part of this repository.",
        "",
        "## Not for",
        "",
        "Reading cheques, forms, meters, doses or anything else that matters. It knows single, centred, upright digits, light on",
        "dark, in MNIST's 28x28 framing; it has no reject class and answers any image with a digit. Its weights are visible",
        "to whoever evaluates it.",
        "",
    ]
    return "\n".join(lines), rate, peaks


def build(name, data, out, epochs):
    spec = SPECS[name]
    epochs = epochs or spec.epochs
    print(f"{name}: {spec.about}", flush=True)
    start = time.process_time()
    train_set, test_set = load(data, "train"), load(data, "t10k")
    trained = train(spec, train_set, epochs)
    minutes = (time.process_time() - start) / 60
    net = fold(trained, Net(spec.layers, SHAPE, norm=False))
    folded = accuracy(net, test_set)
    normalise(net, train_set[0], spec.pre_max, spec.logit_max)
    print(f"  accuracy: trained {accuracy(trained, test_set):.4f}, folded {folded:.4f}", flush=True)

    path = out / f"{name}.onnx"
    model, ops = export(net, SHAPE, path)
    reference = ReferenceEvaluator(model)
    for image in test_set[0][:32]:
        want = net(image[None]).detach().numpy()
        got = reference.run(None, {"image": image[None].numpy()})[0]
        np.testing.assert_allclose(got, want, atol=1e-3)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    text, rate, peaks = card(name, spec, net, ops, test_set, digest, epochs, max(1, minutes))
    (out / f"{name}.md").write_text(text)
    update_sums(out, name, digest)
    print(f"  {path.name}: {rate * 100:.2f} %, max {[round(p, 2) for p in peaks]}, {minutes:.1f} min, {digest}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*SPECS, "all"], default="all")
    parser.add_argument("--data", type=Path, default=os.environ.get("CIPHERLENS_DATA") or ROOT.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=ROOT / "models")
    parser.add_argument("--epochs", type=int, help="override the number of epochs (for a quick try)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in SPECS if args.model == "all" else [args.model]:
        build(name, Path(args.data) / "mnist", args.out, args.epochs)


if __name__ == "__main__":
    main()
