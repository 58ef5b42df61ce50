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
import onnx
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
SEED = 20240917
OPSET = 17
CLASSES = 10


# --- the networks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv:
    maps: int
    kernel: int
    stride: int
    pad: int = 0


@dataclass(frozen=True)
class Dense:
    units: int


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


class Net(nn.Module):
    """The chain of a `Spec`. With `norm`, batch norm precedes every square (the form that is trained)."""

    def __init__(self, spec, norm):
        super().__init__()
        self.linear = nn.ModuleList()
        self.norms = nn.ModuleList()
        shape = (1, 28, 28)
        for i, layer in enumerate(spec.layers):
            last = i == len(spec.layers) - 1
            if isinstance(layer, Conv):
                self.linear.append(
                    nn.Conv2d(shape[0], layer.maps, layer.kernel, layer.stride, layer.pad, bias=not norm)
                )
                side = (shape[1] + 2 * layer.pad - layer.kernel) // layer.stride + 1
                shape = (layer.maps, side, side)
                self.norms.append(nn.BatchNorm2d(layer.maps) if norm else nn.Identity())
            else:
                self.linear.append(nn.Linear(math.prod(shape), layer.units, bias=last or not norm))
                shape = (layer.units,)
                self.norms.append(nn.BatchNorm1d(layer.units) if norm and not last else nn.Identity())
        self.noise = 0.0

    def perturb(self, x):
        if self.training and self.noise:
            x = x + torch.randn_like(x) * (self.noise * x.detach().abs().amax())
        return x

    def forward(self, x, trace=None):
        for i, (linear, norm) in enumerate(zip(self.linear, self.norms)):
            if i:
                x = self.perturb(x * x)
                if trace is not None:
                    trace.append(x)
            if isinstance(linear, nn.Linear) and x.dim() > 2:
                x = torch.flatten(x, 1)
            x = self.perturb(norm(linear(x)))
            if trace is not None:
                trace.append(x)
        return x


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
    net, mean = Net(spec, norm=True), Net(spec, norm=True)
    mean.load_state_dict(net.state_dict())
    net.noise = spec.noise
    # Decay acts on weights only: scales and biases of the batch norm set the working point of the square.
    decayed = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() == 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}], lr=spec.lr
    )
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
            rate = min(1.0, (done + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * done / total))
            for group in optimiser.param_groups:
                group["lr"] = spec.lr * rate
            pick = order[s * spec.batch : (s + 1) * spec.batch]
            logits = net(augment(images[pick], rng))
            loss = F.cross_entropy(logits, labels[pick])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            done += 1
            loss_sum += loss.item()
            keep = min(0.999, done / (done + 10))
            with torch.no_grad():
                for a, b in zip(mean.state_dict().values(), net.state_dict().values()):
                    if a.is_floating_point():
                        a.lerp_(b, 1 - keep)
                    else:
                        a.copy_(b)
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            print(f"  epoch {epoch + 1}/{epochs} loss {loss_sum / steps:.4f} {time.process_time() - start:.0f} s", flush=True)
    return mean.eval()


# --- folding and ranges -----------------------------------------------------------------------------


def fold(spec, trained):
    """The same function without batch norm: w' = w g / sqrt(v + eps), b' = beta - m g / sqrt(v + eps)."""
    net = Net(spec, norm=False)
    with torch.no_grad():
        for plain, linear, norm in zip(net.linear, trained.linear, trained.norms):
            weight, bias = linear.weight.double(), torch.zeros(linear.weight.shape[0], dtype=torch.double)
            if linear.bias is not None:
                bias = linear.bias.double()
            if not isinstance(norm, nn.Identity):
                gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
                weight = weight * gain.view(-1, *[1] * (weight.dim() - 1))
                bias = norm.bias.double() + (bias - norm.running_mean.double()) * gain
            plain.weight.copy_(weight)
            plain.bias.copy_(bias)
    return net.eval()


def maxima(net, images, per_channel=False, batch=1000):
    """Largest |value| after every step (pre-activation, square, ...), whole or per channel."""
    best = None
    with torch.no_grad():
        for part in images.split(batch):
            trace = []
            net(part, trace)
            now = [t.abs().flatten(2).amax((0, 2)) if t.dim() > 2 else t.abs().amax(0) for t in trace]
            best = now if best is None else [torch.maximum(a, b) for a, b in zip(best, now)]
    return best if per_channel else [b.max().item() for b in best]


def normalise(spec, net, images):
    """Give every map and unit the same range on `images`. Exact: z -> z / s before a square is undone by
    s^2 in the next layer's weights, and the factors are powers of two."""
    with torch.no_grad():
        for i in range(len(net.linear) - 1):
            here, after = net.linear[i], net.linear[i + 1]
            peak = maxima(net, images, per_channel=True)[2 * i]
            # A unit that hardly moves is not blown up by more than 2^3 against its layer.
            peak = peak.clamp_min(peak.max() / 8)
            s = torch.exp2(torch.ceil(torch.log2(peak / spec.pre_max)))
            here.weight.div_(s.view(-1, *[1] * (here.weight.dim() - 1)))
            here.bias.div_(s)
            spread = (s * s).repeat_interleave(after.weight.shape[1] // len(s))
            after.weight.mul_(spread.view(1, -1, *[1] * (after.weight.dim() - 2)))
        # A constant over the classes changes no class; taking the mean out makes the logits smaller.
        last = net.linear[-1]
        last.weight.copy_(last.weight.double() - last.weight.double().mean(0, keepdim=True))
        last.bias.copy_(last.bias.double() - last.bias.double().mean())
        peak = maxima(net, images)[-1]
        if peak > spec.logit_max:
            s = 2.0 ** math.ceil(math.log2(peak / spec.logit_max))
            last.weight.div_(s)
            last.bias.div_(s)


# --- export and report ------------------------------------------------------------------------------


def export(net, path):
    torch.onnx.export(
        net,
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        opset_version=OPSET,
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
    )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    ops = [n.op_type for n in model.graph.node]
    unknown = set(ops) - {"Conv", "Mul", "Gemm", "Flatten", "Reshape", "Constant"}
    if unknown:
        raise SystemExit(f"{path.name}: unexpected operators {sorted(unknown)}")
    return model, ops


def wilson(rate, n, z=1.959964):
    mid, half = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (mid - half) / (1 + z * z / n), (mid + half) / (1 + z * z / n)


def noisy_agreement(net, images, sigma):
    """Share of images whose class survives Gaussian noise of absolute size `sigma` after every step."""
    rng = torch.Generator().manual_seed(SEED)

    def noise(x):
        return x + torch.randn(x.shape, generator=rng) * sigma

    with torch.no_grad():
        clear = net(images).argmax(1)
        x = images
        for i, linear in enumerate(net.linear):
            if i:
                x = noise(x * x)
            if isinstance(linear, nn.Linear):
                x = torch.flatten(x, 1)
            x = noise(linear(x))
    return (x.argmax(1) == clear).float().mean().item()


def card(name, spec, net, ops, test_set, digest, epochs, minutes):
    images, labels = test_set
    rate = accuracy(net, test_set)
    low, high = wilson(rate, len(labels))
    peaks = maxima(net, images)
    steps = []
    for i in range(len(net.linear)):
        kind = "conv" if isinstance(net.linear[i], nn.Conv2d) else "dense"
        if i:
            steps.append(f"square {i}")
        steps.append(f"{kind} {i + 1}" + (" (logits)" if i == len(net.linear) - 1 else ""))
    with torch.no_grad():
        first = net.linear[0]
        w, b = first.weight.flatten(1), first.bias
        bound = torch.maximum(w.clamp_min(0).sum(1) + b, w.clamp_max(0).sum(1).neg() - b).max().item()
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
        "| step | values | weights | bias |",
        "| --- | --- | --- | --- |",
    ]
    for i, (step, peak) in enumerate(zip(steps, peaks)):
        if i % 2 == 0:
            layer = net.linear[i // 2]
            lines.append(
                f"| {step} | {peak:.2f} | {layer.weight.abs().max().item():.3f} | {layer.bias.abs().max().item():.3f} |"
            )
        else:
            lines.append(f"| {step} | {peak:.2f} | | |")
    lines += [
        "",
        f"* No image in [0, 1] drives the first layer beyond {bound:.1f}.",
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


def update_sums(out, name, digest):
    path = out / "SHA256SUMS"
    sums = dict(reversed(line.split()) for line in path.read_text().splitlines()) if path.exists() else {}
    sums[f"{name}.onnx"] = digest
    path.write_text("".join(f"{sums[k]}  {k}\n" for k in sorted(sums)))


def build(name, data, out, epochs):
    spec = SPECS[name]
    epochs = epochs or spec.epochs
    print(f"{name}: {spec.about}", flush=True)
    start = time.process_time()
    train_set, test_set = load(data, "train"), load(data, "t10k")
    trained = train(spec, train_set, epochs)
    minutes = (time.process_time() - start) / 60
    net = fold(spec, trained)
    folded = accuracy(net, test_set)
    normalise(spec, net, train_set[0])
    print(f"  accuracy: trained {accuracy(trained, test_set):.4f}, folded {folded:.4f}", flush=True)

    path = out / f"{name}.onnx"
    model, ops = export(net, path)
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
