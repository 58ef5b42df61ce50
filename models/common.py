"""What the training scripts share: chains of convolutions and dense layers with squares between them."""

import math
from dataclasses import dataclass

import onnx
import torch
import torch.nn.functional as F
from torch import nn

OPSET = 17


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
class Radial:
    """A dense layer over square maps that gives one weight to all places which flips and quarter turns exchange."""

    units: int


class RadialLinear(nn.Module):
    """The trained form of `Radial`: per map the means over the orbits of its places, then dense."""

    def __init__(self, maps, side, units, bias):
        super().__init__()
        place = torch.arange(side)
        depth = torch.minimum(place, side - 1 - place)
        low = torch.minimum(depth[:, None], depth[None, :])
        key = low * side + torch.maximum(depth[:, None], depth[None, :])
        orbits = F.one_hot(torch.unique(key, return_inverse=True)[1].flatten()).float()
        self.register_buffer("means", orbits / orbits.sum(0), persistent=False)
        self.linear = nn.Linear(maps * orbits.shape[1], units, bias=bias)

    @property
    def bias(self):
        return self.linear.bias

    @property
    def weight(self):
        """The weight of the dense layer this is."""
        units, orbits = len(self.linear.weight), self.means.shape[1]
        return (self.linear.weight.view(units, -1, orbits) @ self.means.T).flatten(1)

    def forward(self, x):
        return self.linear((x.flatten(2) @ self.means).flatten(1))


class Net(nn.Module):
    """A chain of layers, a square after every one but the last. With `norm`, batch norm precedes every square
    and `offset` is taken off the input (the form that is trained; `fold` gives the one that is exported)."""

    def __init__(self, layers, shape, norm, offset=0.0):
        super().__init__()
        self.linear = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.offset = offset if norm else 0.0
        self.macs = []
        for i, layer in enumerate(layers):
            last = i == len(layers) - 1
            if isinstance(layer, Conv):
                self.linear.append(
                    nn.Conv2d(shape[0], layer.maps, layer.kernel, layer.stride, layer.pad, bias=not norm)
                )
                side = (shape[1] + 2 * layer.pad - layer.kernel) // layer.stride + 1
                self.macs.append(shape[0] * layer.kernel**2 * layer.maps * side**2)
                shape = (layer.maps, side, side)
                self.norms.append(nn.BatchNorm2d(layer.maps) if norm else nn.Identity())
            else:
                bias = last or not norm
                if isinstance(layer, Radial) and norm:
                    self.linear.append(RadialLinear(shape[0], shape[1], layer.units, bias))
                else:
                    self.linear.append(nn.Linear(math.prod(shape), layer.units, bias=bias))
                self.macs.append(math.prod(shape) * layer.units)
                shape = (layer.units,)
                self.norms.append(nn.BatchNorm1d(layer.units) if norm and not last else nn.Identity())
        self.noise = 0.0

    def perturb(self, x):
        if self.training and self.noise:
            x = x + torch.randn_like(x) * (self.noise * x.detach().abs().amax())
        return x

    def forward(self, x, trace=None):
        if self.offset:
            x = x - self.offset
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


# --- training ---------------------------------------------------------------------------------------


def adamw(net, lr, decay):
    """Decay acts on weights only: scales and biases of the batch norm set the working point of the square."""
    decayed = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() == 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}], lr=lr
    )


def set_rate(optimiser, lr, done, warmup, total):
    """A linear warm-up, then a cosine down to 0."""
    rate = min(1.0, (done + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * done / total))
    for group in optimiser.param_groups:
        group["lr"] = lr * rate


def average_into(mean, net, done):
    """One step of the running average of the weights."""
    keep = min(0.999, done / (done + 10))
    with torch.no_grad():
        for a, b in zip(mean.state_dict().values(), net.state_dict().values()):
            if a.is_floating_point():
                a.lerp_(b, 1 - keep)
            else:
                a.copy_(b)


# --- folding and ranges -----------------------------------------------------------------------------


def fold(trained, net):
    """Write the trained function into `net`, which has no batch norm: w' = w g / sqrt(v + eps),
    b' = beta - m g / sqrt(v + eps); the input's offset goes into the first bias."""
    with torch.no_grad():
        for i, (plain, linear, norm) in enumerate(zip(net.linear, trained.linear, trained.norms)):
            weight = linear.weight.double()
            bias = torch.zeros(len(weight), dtype=torch.double)
            if linear.bias is not None:
                bias = linear.bias.double()
            if i == 0 and trained.offset:
                assert not any(getattr(linear, "padding", ())), "padding is zero before the offset, not after"
                bias = bias - trained.offset * weight.flatten(1).sum(1)
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


def normalise(net, images, pre_max, logit_max, batch=1000):
    """Give every map and unit the same range on `images`. Exact: z -> z / s before a square is undone by
    s^2 in the next layer's weights, and the factors are powers of two."""
    with torch.no_grad():
        for i in range(len(net.linear) - 1):
            here, after = net.linear[i], net.linear[i + 1]
            peak = maxima(net, images, per_channel=True, batch=batch)[2 * i]
            # A unit that hardly moves is not blown up by more than 2^3 against its layer.
            peak = peak.clamp_min(peak.max() / 8)
            s = torch.exp2(torch.ceil(torch.log2(peak / pre_max)))
            here.weight.div_(s.view(-1, *[1] * (here.weight.dim() - 1)))
            here.bias.div_(s)
            spread = (s * s).repeat_interleave(after.weight.shape[1] // len(s))
            after.weight.mul_(spread.view(1, -1, *[1] * (after.weight.dim() - 2)))
        last = net.linear[-1]
        if len(last.bias) > 1:
            # A constant over the classes changes no class; taking the mean out makes the logits smaller.
            last.weight.copy_(last.weight.double() - last.weight.double().mean(0, keepdim=True))
            last.bias.copy_(last.bias.double() - last.bias.double().mean())
        peak = maxima(net, images, batch=batch)[-1]
        if peak > logit_max:
            s = 2.0 ** math.ceil(math.log2(peak / logit_max))
            last.weight.div_(s)
            last.bias.div_(s)


def noisy(net, images, sigma, rng):
    """Logits with Gaussian noise of absolute size `sigma` after every step."""

    def noise(x):
        return x + torch.randn(x.shape, generator=rng) * sigma

    with torch.no_grad():
        x = images
        for i, linear in enumerate(net.linear):
            if i:
                x = noise(x * x)
            if isinstance(linear, nn.Linear):
                x = torch.flatten(x, 1)
            x = noise(linear(x))
    return x


# --- export and report ------------------------------------------------------------------------------


def export(net, shape, path, output="logits"):
    torch.onnx.export(
        net,
        (torch.zeros(1, *shape),),
        str(path),
        opset_version=OPSET,
        dynamo=False,
        input_names=["image"],
        output_names=[output],
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


def step_names(net):
    """Layers and squares in the order of `maxima`."""
    names = []
    for i, linear in enumerate(net.linear):
        kind = "conv" if isinstance(linear, nn.Conv2d) else "dense"
        if i:
            names.append(f"square {i}")
        names.append(f"{kind} {i + 1}" + (" (logits)" if i == len(net.linear) - 1 else ""))
    return names


def range_table(net, peaks):
    lines = ["| step | values | weights | bias |", "| --- | --- | --- | --- |"]
    for i, (step, peak) in enumerate(zip(step_names(net), peaks)):
        if i % 2 == 0:
            layer = net.linear[i // 2]
            weight, bias = layer.weight.abs().max().item(), layer.bias.abs().max().item()
            lines.append(f"| {step} | {peak:.2f} | {weight:.3f} | {bias:.3f} |")
        else:
            lines.append(f"| {step} | {peak:.2f} | | |")
    return lines


def first_layer_bound(net):
    """The largest |pre-activation| of the first layer over all images in [0, 1]."""
    w, b = net.linear[0].weight.flatten(1), net.linear[0].bias
    return torch.maximum(w.clamp_min(0).sum(1) + b, w.clamp_max(0).sum(1).neg() - b).max().item()


def update_sums(out, name, digest):
    path = out / "SHA256SUMS"
    sums = dict(reversed(line.split()) for line in path.read_text().splitlines()) if path.exists() else {}
    sums[f"{name}.onnx"] = digest
    path.write_text("".join(f"{sums[k]}  {k}\n" for k in sorted(sums)))
