"""Train the U-Nets, fold them for CKKS and export them to ONNX.

    python models/train_unet.py --model unet-lesion

Three levels down (64, 32, 16 pixels), skip connections by concatenation, the square as the only activation: six linear
maps and five squares, depth 11. A transposed convolution and the convolution after it have nothing between them and are
one linear map. Steps: train with batch norm on a part of the training images, measure on the rest (validation), train
again on all of them, fold, normalise the value ranges (exactly), check, export, write the model card.

Choices are made on the validation split. The test split is read once, for the card.
One thread, fixed seeds: on one machine and with one set of package versions the same file, bit for bit.
"""

import argparse
import hashlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from common import OPSET, adamw, average_into, set_rate, update_sums
from onnx.reference import ReferenceEvaluator
from PIL import Image
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
SEED = 20240917
SIDE = 128


@dataclass(frozen=True)
class Spec:
    folder: str
    channels: int
    epochs: int
    # Maps of c1, c2, c3, u1, m1, u2, m2.
    maps: tuple = (16, 32, 32, 16, 16, 8, 8)
    lr: float = 3e-3
    batch: int = 16
    weight_decay: float = 0.02
    # Largest |pre-activation| and |logit| on the training images after normalisation; test images may exceed them a little.
    pre_max: float = 4.0
    logit_max: float = 16.0
    # Standard deviation of the noise injected in training, relative to the largest value of a layer.
    noise: float = 2.0**-8
    # Weight of the penalty on pre-activations beyond four standard deviations: it keeps the tails short.
    tails: float = 0.01
    # Share of the Dice loss; the rest is cross entropy.
    dice: float = 0.5
    # Augmentation: scale, change of aspect, brightness and contrast, tint.
    scale: tuple = (0.7, 1.4)
    aspect: float = 0.12
    light: float = 0.2
    tint: float = 0.0
    # Share of views that are not resampled.
    still: float = 0.25
    # Every image's contrast stretched (`stretch`).
    stretch: bool = False
    # Train again on all images after the validation run.
    refit: bool = True


SPECS = {
    "unet-lesion": Spec("isic2016_lesion", 3, epochs=160, tint=0.06),
    "unet-nuclei": Spec(
        "dsb2018_nuclei", 1, epochs=320, batch=8, noise=2.0**-12, light=0.05, still=0.8, stretch=True, refit=False
    ),
    "unet-em": Spec("isbi2012_em", 1, epochs=60, light=0.15),
}


# --- the network ------------------------------------------------------------------------------------


class UNet(nn.Module):
    """With `norm`, batch norm precedes every square (the form that is trained)."""

    def __init__(self, channels, maps, norm):
        super().__init__()
        a, b, c, u1, m1, u2, m2 = maps
        bias = not norm
        self.c1 = nn.Conv2d(channels, a, 4, 2, 1, bias=bias)
        self.c2 = nn.Conv2d(a, b, 3, 2, 1, bias=bias)
        self.c3 = nn.Conv2d(b, c, 3, 2, 1, bias=bias)
        self.u1 = nn.ConvTranspose2d(c, u1, 2, 2, bias=False)
        self.m1 = nn.Conv2d(u1 + b, m1, 3, 1, 1, bias=bias)
        self.u2 = nn.ConvTranspose2d(m1, u2, 2, 2, bias=False)
        self.m2 = nn.Conv2d(u2 + a, m2, 3, 1, 1, bias=bias)
        self.u3 = nn.ConvTranspose2d(m2, 1, 2, 2)
        self.squared = (self.c1, self.c2, self.c3, self.m1, self.m2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) if norm else nn.Identity() for n in (a, b, c, m1, m2))
        if norm:
            # Half of the maps start as energies x^2, half nearly linear, (1 + x/2)^2: a chain of pure squares learns nothing.
            with torch.no_grad():
                for n in self.norms:
                    n.weight[::2], n.bias[::2] = 0.7, 0.0
                    n.weight[1::2], n.bias[1::2] = 0.5, 1.0
                self.u3.weight.normal_(std=0.05)
        self.noise, self.table = 0.0, None

    def forward(self, x, trace=None, disturb=None):
        """`trace` collects the value after every step; `disturb` is applied to it."""

        def seen(y):
            if disturb:
                y = disturb(y)
            elif self.training and self.noise:
                # A random piece of a long table: drawing the noise anew takes a third of the training time.
                at = int(torch.randint(len(self.table) - y.numel(), ()))
                peak = float(y.detach().abs().amax())
                y = torch.add(y, self.table[at : at + y.numel()].view_as(y), alpha=self.noise * peak)
            if trace is not None:
                trace.append(y)
            return y

        def square(i, y):
            y = seen(self.norms[i](self.squared[i](y)))
            return seen(y * y)

        e1 = square(0, x)
        e2 = square(1, e1)
        e3 = square(2, e2)
        d1 = square(3, torch.cat((seen(self.u1(e3)), e2), 1))
        d2 = square(4, torch.cat((seen(self.u2(d1)), e1), 1))
        return seen(self.u3(d2))


# The steps in the order of `trace`, with the layer whose weights act there.
STEPS = (
    ("c1", "c1: conv 4x4 stride 2"),
    (None, "square 1"),
    ("c2", "c2: conv 3x3 stride 2"),
    (None, "square 2"),
    ("c3", "c3: conv 3x3 stride 2"),
    (None, "square 3"),
    ("u1", "u1: up 2x2"),
    ("m1", "m1: conv 3x3 on u1, square 2"),
    (None, "square 4"),
    ("u2", "u2: up 2x2"),
    ("m2", "m2: conv 3x3 on u2, square 1"),
    (None, "square 5"),
    ("u3", "u3: up 2x2 (logits)"),
)


def macs(spec):
    a, b, c, u1, m1, u2, m2 = spec.maps
    h = (SIDE // 2) ** 2
    return {
        "c1": 16 * spec.channels * a * h,
        "c2": 9 * a * b * h // 4,
        "c3": 9 * b * c * h // 16,
        "u1": 4 * c * u1 * h // 16,
        "m1": 9 * (u1 + b) * m1 * h // 4,
        "u2": 4 * m1 * u2 * h // 4,
        "m2": 9 * (u2 + a) * m2 * h,
        "u3": 4 * m2 * h,
    }


# --- data -------------------------------------------------------------------------------------------


@dataclass
class Images:
    pixels: torch.Tensor  # uint8, N x channels x height x width
    masks: torch.Tensor  # uint8, N x 1 x height x width, 1 = foreground
    ids: list

    def pick(self, index):
        return Images(self.pixels[index], self.masks[index], [self.ids[i] for i in index])


def half(x):
    """256 -> 128: the mean of 2x2 pixels, rounded to 8 bits (halves up)."""
    return (F.avg_pool2d(x.float(), 2) + 0.5).floor().to(torch.uint8)


def stretch(x, top=0.998):
    """Contrast of one image: its smallest value becomes 0, the one that 99.8 % of its pixels do not exceed 1; the square
    root of that, rounded to 8 bits (halves up)."""
    flat = x.double().flatten(1).sort(1).values
    low, high = flat[:, 0], flat[:, math.ceil(top * flat.shape[1]) - 1]
    share = (x.double() - low.view(-1, 1, 1, 1)) / (high - low).clamp_min(1).view(-1, 1, 1, 1)
    return (share.clamp(0, 1).sqrt() * 255 + 0.5).floor().to(torch.uint8)


def load(spec, data, split):
    folder = data / "segmentation" / spec.folder / split
    files = sorted((folder / "images").iterdir())
    mode = "RGB" if spec.channels == 3 else "L"
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(f).convert(mode))) for f in files])
    pixels = pixels.permute(0, 3, 1, 2) if spec.channels == 3 else pixels[:, None]
    masks = [torch.from_numpy(np.array(Image.open(folder / "masks" / f"{f.stem}.png").convert("L"))) for f in files]
    masks = torch.stack(masks)[:, None]
    if spec.folder == "isic2016_lesion":
        pixels, masks = half(pixels), half(masks)
    if spec.stretch:
        pixels = stretch(pixels)
    return Images(pixels.contiguous(), (masks >= 128).to(torch.uint8), [f.stem for f in files])


def split(spec, images):
    """Indices to learn from and to validate on: every fifth image; of a stack of slices the last sixth."""
    n = len(images.ids)
    held = torch.arange(n) >= n - n // 6 if spec.folder == "isbi2012_em" else torch.arange(n) % 5 == 4
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def unit(pixels):
    return pixels.float() / 255


def tiles(x):
    """N x C x H x W -> all 128x128 tiles, row by row."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // SIDE, SIDE, w // SIDE, SIDE).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(-1, c, SIDE, SIDE)


def untile(x, h, w):
    x = x.reshape(-1, h // SIDE, w // SIDE, x.shape[1], SIDE, SIDE).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(-1, x.shape[1], h, w)


def augment(spec, pixels, masks, rng):
    """A 128x128 view: any rotation, flip, scale, aspect and (of larger images) place; brightness, contrast, gamma, tint."""
    n, _, height, width = pixels.shape

    def uniform(low, high):
        return torch.rand(n, generator=rng) * (high - low) + low

    angle = uniform(0, 2 * math.pi)
    sx = torch.exp(uniform(math.log(spec.scale[0]), math.log(spec.scale[1])))
    sy = sx * torch.exp(uniform(-spec.aspect, spec.aspect))
    flip = (torch.rand(n, generator=rng) < 0.5).float() * 2 - 1
    # A window of 128 pixels of the image, anywhere in it.
    wx, wy = SIDE / width, SIDE / height
    tx, ty = uniform(-1, 1) * (1 - wx + 0.1 * wx), uniform(-1, 1) * (1 - wy + 0.1 * wy)
    # Some keep to the eight symmetries, whole pixels and the scale 1: resampling blurs.
    still = torch.rand(n, generator=rng) < spec.still
    angle = torch.where(still, (angle / (math.pi / 2)).floor() * (math.pi / 2), angle)
    sx, sy = torch.where(still, 1.0, sx), torch.where(still, 1.0, sy)
    tx = torch.where(still, (tx.clamp(wx - 1, 1 - wx) * width / 2).round() * 2 / width, tx)
    ty = torch.where(still, (ty.clamp(wy - 1, 1 - wy) * height / 2).round() * 2 / height, ty)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = (
        torch.stack((cos * sx * flip * wx, -sin * sy * wx, tx), 1),
        torch.stack((sin * sx * flip * wy, cos * sy * wy, ty), 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), [n, 1, SIDE, SIDE], align_corners=False)
    both = torch.cat((unit(pixels), masks.float()), 1)
    both = F.grid_sample(both, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    v, m = both[:, :-1], both[:, -1:]

    def each(low, high, channels=1):
        return torch.rand(n, channels, 1, 1, generator=rng) * (high - low) + low

    if spec.light:
        v = v.clamp_min(1e-4) ** torch.exp(each(-spec.light, spec.light))
        mean = v.mean((1, 2, 3), keepdim=True)
        v = (v - mean) * each(1 - spec.light, 1 + spec.light) + mean * each(1 - spec.light, 1 + spec.light)
    if spec.tint:
        grey = v.mean(1, keepdim=True)
        v = grey + (v - grey) * each(1 - 4 * spec.tint, 1 + 4 * spec.tint) + each(-spec.tint, spec.tint, 3)
    return v.clamp(0, 1), m


# --- training ---------------------------------------------------------------------------------------


def segmentation_loss(spec, z, m):
    # The bound keeps one far pixel from moving the whole network.
    z = 10 * torch.tanh(z / 10)
    p = torch.sigmoid(z)
    overlap = 2 * (p * m).sum((1, 2, 3)) + 1
    dice = 1 - overlap / (p.sum((1, 2, 3)) + m.sum((1, 2, 3)) + 1)
    return spec.dice * dice.mean() + (1 - spec.dice) * F.binary_cross_entropy_with_logits(z, m)


def train(spec, images, epochs, watch=None):
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    net, mean = (UNet(spec.channels, spec.maps, True) for _ in range(2))
    mean.load_state_dict(net.state_dict())
    net.noise, net.table = spec.noise, torch.randn(2**22)
    tails = []
    for norm in net.norms:
        norm.register_forward_hook(lambda _m, _i, z: tails.append(F.relu(z.abs() - 4).square().mean()))
    optimiser = adamw(net, spec.lr, spec.weight_decay)
    # An epoch shows as many pixels as the images have.
    repeats = images.pixels.shape[2] * images.pixels.shape[3] // SIDE**2
    count = len(images.ids)
    steps = repeats * count // spec.batch
    done, start = 0, time.process_time()
    for epoch in range(epochs):
        net.train()
        if epoch >= epochs * 0.6:
            # Squares have heavy tails, and a long training learns to lean on the statistics of its own batch.
            # With these frozen, what is trained is what will be folded.
            net.norms.eval()
        order = torch.cat([torch.randperm(count, generator=rng) for _ in range(repeats)])
        total = 0.0
        for s in range(steps):
            set_rate(optimiser, spec.lr, done, 100, epochs * steps)
            pick = order[s * spec.batch : (s + 1) * spec.batch]
            v, m = augment(spec, images.pixels[pick], images.masks[pick], rng)
            tails.clear()
            value = segmentation_loss(spec, net(v), m)
            optimiser.zero_grad(set_to_none=True)
            (value + spec.tails * sum(tails)).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            done += 1
            total += value.item()
            average_into(mean, net, done)
        if (epoch + 1) % max(1, epochs // 12) == 0 or epoch + 1 == epochs:
            note = f", validation {overlaps(mean, watch)['dice'].mean():.4f}" if watch else ""
            print(f"  epoch {epoch + 1}/{epochs} loss {total / steps:.4f}{note} {time.process_time() - start:.0f} s", flush=True)
    return mean.eval()


def logits(net, pixels, batch=64, disturb=None):
    """Logits of whole images, tile by tile."""
    net.eval()
    with torch.no_grad():
        parts = [net(unit(p), disturb=disturb) for p in tiles(pixels).split(batch)]
    return untile(torch.cat(parts), *pixels.shape[2:])


def scores_of(said, truth):
    """Dice and IoU of every image, of foreground (`dice`, `iou`) and background."""
    found = {}
    for name, a, b in (("", said, truth), ("background ", ~said, ~truth)):
        both = (a & b).sum((1, 2, 3)).double()
        sizes = (a.sum((1, 2, 3)) + b.sum((1, 2, 3))).double()
        found[name + "dice"] = torch.where(sizes > 0, 2 * both / sizes.clamp_min(1), 1.0).numpy()
        found[name + "iou"] = torch.where(sizes > 0, both / (sizes - both).clamp_min(1), 1.0).numpy()
    found["accuracy"] = (said == truth).double().mean((1, 2, 3)).numpy()
    return found


def overlaps(net, images, threshold=0.0):
    return scores_of(logits(net, images.pixels) > threshold, images.masks == 1)


# --- folding and ranges -----------------------------------------------------------------------------


def fold(spec, trained):
    """The same function without batch norm: w' = w g / sqrt(v + eps), b' = beta - m g / sqrt(v + eps)."""
    net = UNet(spec.channels, spec.maps, False)
    with torch.no_grad():
        for plain, linear, norm in zip(net.squared, trained.squared, trained.norms):
            gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
            plain.weight.copy_(linear.weight.double() * gain.view(-1, 1, 1, 1))
            plain.bias.copy_(norm.bias.double() - norm.running_mean.double() * gain)
        for name in ("u1", "u2", "u3"):
            getattr(net, name).load_state_dict(getattr(trained, name).state_dict())
    return net.eval()


def maxima(net, images, per_channel=False, batch=64):
    """Largest |value| after every step of `STEPS`, whole or per channel."""
    best = None
    with torch.no_grad():
        for part in tiles(images.pixels).split(batch):
            trace = []
            net(unit(part), trace)
            now = [t.abs().amax((0, 2, 3)) for t in trace]
            best = now if best is None else [torch.maximum(a, b) for a, b in zip(best, now)]
    return best if per_channel else [b.max().item() for b in best]


def normalise(spec, net, images):
    """Give every map the same range on `images`. Exact: z -> z / s before a square is undone by s^2 in the weights
    that read it (both readers of a skip connection), and the factors are powers of two."""
    a, b, _, u1, _, u2, _ = spec.maps
    weight = {name: getattr(net, name).weight for name, _ in STEPS if name}
    readers = {
        "c1": [weight["c2"], weight["m2"][:, u2:]],
        "c2": [weight["c3"], weight["m1"][:, u1:]],
        "c3": [weight["u1"].transpose(0, 1)],
        "u1": [weight["m1"][:, :u1]],
        "m1": [weight["u2"].transpose(0, 1)],
        "u2": [weight["m2"][:, :u2]],
        "m2": [weight["u3"].transpose(0, 1)],
    }
    # One pass is enough: dividing a map changes none of the values after it.
    peaks = maxima(net, images, per_channel=True)
    with torch.no_grad():
        for (name, _), peak in zip(STEPS[:-1], peaks):
            if name is None:
                continue
            # A map that hardly moves is not blown up by more than 2^3 against its layer.
            peak = peak.clamp_min(peak.max() / 8)
            s = torch.exp2(torch.ceil(torch.log2(peak / spec.pre_max)))
            if name in ("u1", "u2"):
                weight[name].div_(s.view(1, -1, 1, 1))
                factor = s
            else:
                weight[name].div_(s.view(-1, 1, 1, 1))
                getattr(net, name).bias.div_(s)
                factor = s * s
            for reader in readers[name]:
                reader.mul_(factor.view(1, -1, 1, 1))
        s = 2.0 ** math.ceil(math.log2(peaks[-1].max().item() / spec.logit_max))
        net.u3.weight.div_(s)
        net.u3.bias.div_(s)
    return s


# --- export -----------------------------------------------------------------------------------------


def export(spec, net, path):
    torch.onnx.export(
        net,
        (torch.zeros(1, spec.channels, SIDE, SIDE),),
        str(path),
        opset_version=OPSET,
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
    )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    ops = [n.op_type for n in model.graph.node]
    unknown = set(ops) - {"Conv", "ConvTranspose", "Mul", "Concat"}
    if unknown:
        raise SystemExit(f"{path.name}: unexpected operators {sorted(unknown)}")
    return model, ops


# --- report -----------------------------------------------------------------------------------------


def bootstrap(values, rounds=10000):
    """95 % interval of the mean over images."""
    picks = np.random.default_rng(SEED).integers(0, len(values), (rounds, len(values)))
    return np.quantile(values[picks].mean(1), (0.025, 0.975))


def first_layer_bound(net):
    """The largest |pre-activation| of the first layer over all images in [0, 1]."""
    w, b = net.c1.weight.flatten(1), net.c1.bias
    return torch.maximum(w.clamp_min(0).sum(1) + b, w.clamp_max(0).sum(1).neg() - b).max().item()


def otsu(images, dark):
    """Dice of every image cut at the threshold that separates its grey levels best (N. Otsu, 1979)."""
    said = []
    for x in images.pixels:
        grey = x.float().mean(0).round().long()
        share = torch.bincount(grey.flatten(), minlength=256).double() / grey.numel()
        below, moment = share.cumsum(0), (share * torch.arange(256)).cumsum(0)
        between = (moment[-1] * below - moment) ** 2 / (below * (1 - below)).clamp_min(1e-9)
        said.append(((grey <= between.argmax()) if dark else (grey > between.argmax()))[None])
    return scores_of(torch.stack(said), images.masks == 1)


@dataclass(frozen=True)
class Text:
    task: str
    view: str
    positive: str
    rows: tuple
    caveat: str
    terms: str
    data: str
    limits: str
    dark: bool = False
    # How often the test split has been read for models of this name.
    reads: str = "The test split was read once, to write\nthis card."


TEXTS = {
    "unet-lesion": Text(
        "the lesion in a dermoscopic image",
        "RGB / 255 in [0, 1] (a 256x256 image: means of 2x2 pixels, rounded to 8 bits)",
        "lesion",
        (("Dice", "dice"), ("IoU", "iou"), ("right pixels", "accuracy")),
        """Measured at 128x128, against the 256x256 masks halved in the same way. Half of the test images are whole photographs
with their aspect ratio lost, half are centre crops of larger ones; the split is the data folder's own, not the challenge's,
so the figures are not comparable with the challenge's. 44 images: mind the interval.""",
        "For research only, not for diagnosis.",
        """Trained on the 177 train images of `segmentation/isic2016_lesion`: ISIC 2016 challenge, part 1 (D. Gutman et al.,
arXiv:1605.01397), CC0 as listed for the challenge. The weights carry no further terms than this repository's.""",
        """Diagnosis, triage, measuring or following a lesion, choosing a margin, or any decision about a person. It knows
dermoscopic images of one lesion that fills much of the frame, mostly on light skin; hair, rulers, dark corners, coloured
patches and faint borders mislead it, and it outlines something on any image.""",
        dark=True,
    ),
    "unet-nuclei": Text(
        "cell nuclei in a fluorescence microscopy image",
        "grey in [0, 1] after a stretch of the contrast (below)",
        "nucleus",
        (("Dice", "dice"), ("IoU", "iou"), ("right pixels", "accuracy")),
        """**Input.** The images are dark (half of them have a maximum below 128 of 255), so whoever encrypts stretches the contrast of the
whole image first: with `low` its smallest value and `high` the smallest value that at least 99.8 % of its pixels do not exceed,
`image = sqrt(clamp((grey - low) / (high - low), 0, 1))`, rounded to multiples of 1/255. Fed grey / 255 as it is, this network's
validation Dice falls to 0.22; one trained on grey / 255 was not tried.

A 256x256 image is cut into four 128x128 tiles after that, each segmented on its own; Dice and IoU are those of the whole image,
averaged over the images. Touching nuclei are not told apart: it finds pixels, it does
not count. The split is the data folder's own (every fifth image), so both sides may hold images of one experiment, and an unseen
microscope may do worse. It does worst on large bright blurs, which it fills, and on dim nuclei beside bright ones, which it misses.""",
        "For research only.",
        """Trained on 344 of the 429 train images of `segmentation/dsb2018_nuclei` (every fifth is for validation): Data Science Bowl
2018, stage 1 (BBBC038, Broad Institute; J. C. Caicedo et al., Nature Methods 16:1247, 2019, doi:10.1038/s41592-019-0612-7), CC0.
The weights carry no further terms than this repository's.""",
        """Counting or measuring cells for a clinical or safety purpose, diagnosis, or any decision about a person. It knows bright
nuclei on a dark ground, fluorescence, at this magnification; not stained tissue, not bright field.""",
        reads="""The test split was read twice:
for a first version (60 epochs, more noise and resampling, Dice 0.9283), and for this one, whose settings the validation images chose.""",
    ),
    "unet-em": Text(
        "cell interior against membrane in an electron micrograph",
        "grey / 255 in [0, 1]",
        "cell interior, as in the data's masks; logit <= 0 means membrane",
        (
            ("Dice, membrane", "background dice"),
            ("IoU, membrane", "background iou"),
            ("Dice, interior", "dice"),
            ("IoU, interior", "iou"),
            ("right pixels", "accuracy"),
        ),
        """A 512x512 slice is cut into sixteen 128x128 tiles, each segmented on its own; Dice and IoU are those of the whole slice,
averaged over the slices. The membrane class is the one to look at: calling everything interior gives an interior Dice of 0.89.
Six neighbouring slices of one stack, next to the ones it learnt from: the interval says how the slices differ, not how another
stack would do. The Dice of the noise table below is the interior's.""",
        "**For research only. Trained on data for non-commercial use: the weights are non-commercial too.**",
        """Trained on slices 0 to 23 of `segmentation/isbi2012_em`: ISBI 2012 challenge (A. Cardona et al., PLoS Biology 8(10):e1000502,
2010, doi:10.1371/journal.pbio.1000502; I. Arganda-Carreras et al., Front. Neuroanat. 9:142, 2015, doi:10.3389/fnana.2015.00142).
The challenge allowed use for non-commercial image segmentation software, with citation: **these weights are non-commercial too**.""",
        """Any commercial use; reconstruction of neurons (one broken membrane merges two cells). It knows one animal, one tissue, one
microscope and one resolution.""",
        dark=False,
    ),
}


def quality(text, test, validation, base):
    count = len(test["dice"])
    lines = [f"| | test ({count} images) | validation ({len(validation['dice'])} images) | Otsu's threshold, test |"]
    lines.append("| --- | --- | --- | --- |")
    for label, key in text.rows:
        low, high = bootstrap(test[key])
        lines.append(
            f"| {label} | **{test[key].mean():.4f}** (95 %: {low:.4f} to {high:.4f}) | {validation[key].mean():.4f} "
            f"| {base[key].mean():.4f} |"
        )
    return lines


def under_noise(net, images, clear):
    """Per size of noise: pixels with the clear decision, mean and largest change of an image's Dice."""
    truth, said = images.masks == 1, clear > 0
    before, lines = scores_of(said, truth), []
    for k in (4, 5, 6, 7, 8, 10):
        rng = torch.Generator().manual_seed(SEED)
        now = logits(net, images.pixels, disturb=lambda y, k=k: y + torch.randn(y.shape, generator=rng) * 2.0**-k) > 0
        after = scores_of(now, truth)
        change = {key: np.abs(after[key] - before[key]).max() for key in ("dice", "background dice")}
        lines.append(
            f"| 2^-{k} | {100 * (now == said).double().mean():.3f} % | {after['dice'].mean() - before['dice'].mean():+.5f} "
            f"| {change['dice']:.5f} |"
        )
    return lines


def report(name, spec, net, ops, digest, validation, test, epochs, minutes):
    """The model card and the scores on `test`."""
    text, weights = TEXTS[name], sum(p.numel() for p in net.parameters())
    z = logits(net, test.pixels)
    found = scores_of(z > 0, test.masks == 1)
    counts, peaks = macs(spec), maxima(net, test)
    a, b, c, u1, m1, u2, m2 = spec.maps
    near = [np.quantile(z.abs().numpy(), q) for q in (0.01, 0.1)]
    lines = [
        f"# `{name}`",
        "",
        f"U-Net that marks {text.task}; the square is its only activation.",
        "",
        text.terms,
        "",
        f"Input `image` 1x{spec.channels}x128x128, {text.view}; output `logits` 1x1x128x128.",
        f"**logit > 0 means {text.positive}.**",
        "",
        *quality(text, found, validation, otsu(test, text.dark)),
        "",
        f"Means over images, with 95 % intervals by bootstrap over images (10,000 rounds). {text.reads}",
        *(
            (
                "The validation figures are those of a network trained in the same way without these images; the one shipped has then",
                "learnt from all.",
            )
            if spec.refit
            else ("The validation images chose the settings; the weights have not learnt from them.",)
        ),
        "",
        text.caveat,
        "",
        "| | |",
        "| --- | --- |",
        "| Multiplicative depth | 11 (6 by weights, 5 squares), a transposed convolution merged with the convolution after it |",
        f"| Multiply-accumulates | {sum(counts.values()):,} ({', '.join(f'{k} {v:,}' for k, v in counts.items())}) |",
        f"| Maps | e1 {a}x64x64, e2 {b}x32x32, e3 {c}x16x16, u1 {u1}x32x32, m1 {m1}x32x32, u2 {u2}x64x64, m2 {m2}x64x64 |",
        f"| Weights and biases | {weights:,} |",
        f"| Operators | {', '.join(ops)} (opset {OPSET}) |",
        f"| SHA-256 | `{digest}` |",
        "",
        "## Topology",
        "",
        "```",
        f"e1 = square(c1(image))           c1: conv {spec.channels} -> {a}, 4x4, stride 2, pad 1",
        f"e2 = square(c2(e1))              c2: conv {a} -> {b}, 3x3, stride 2, pad 1",
        f"e3 = square(c3(e2))              c3: conv {b} -> {c}, 3x3, stride 2, pad 1",
        f"d1 = square(m1([u1(e3), e2]))    u1: up {c} -> {u1}, m1: conv {u1 + b} -> {m1}, 3x3, pad 1",
        f"d2 = square(m2([u2(d1), e1]))    u2: up {m1} -> {u2}, m2: conv {u2 + a} -> {m2}, 3x3, pad 1",
        f"logits = u3(d2)                  u3: up {m2} -> 1",
        "```",
        "",
        "`up` is a transposed convolution, kernel 2, stride 2; u1 and u2 have no bias. [,] is concatenation of maps.",
        "",
        "## Value ranges",
        "",
        "Largest absolute value over the test images; weights are the largest absolute entry of the layer. On the training images no",
        f"map goes beyond {spec.pre_max:g} before a square, no logit beyond {spec.logit_max:g}.",
        "",
        "| step | values | weights | bias |",
        "| --- | --- | --- | --- |",
    ]
    for (layer, step), peak in zip(STEPS, peaks):
        if layer is None:
            lines.append(f"| {step} | {peak:.2f} | | |")
            continue
        part = getattr(net, layer)
        bias = "" if part.bias is None else f"{part.bias.abs().max().item():.3f}"
        lines.append(f"| {step} | {peak:.2f} | {part.weight.abs().max().item():.3f} | {bias} |")
    lines += [
        "",
        f"* No image in [0, 1] drives the first layer beyond {first_layer_bound(net):.1f}.",
        f"* 1 % of the test pixels have |logit| below {near[0]:.4f}, 10 % below {near[1]:.3f}.",
        f"* Trained with Gaussian noise of 2^{math.log2(spec.noise):.0f} of each step's range on every step.",
        "",
        "Gaussian noise of absolute standard deviation s after every step, on the test images:",
        "",
        "| s | pixels decided as in clear | change of the mean Dice | largest change of an image's |",
        "| --- | --- | --- | --- |",
        *under_noise(net, test, z),
        "",
        "## Training",
        "",
        f"`python models/train_unet.py --model {name}`: seed {SEED}, {epochs} epochs of AdamW, learning rate {spec.lr:g} with",
        f"cosine decay, batch {spec.batch}, Dice and cross-entropy loss, averaged weights; flips, rotations, scale, aspect, brightness,",
        f"contrast{', gamma and tint' if spec.tint else ' and gamma'} vary. About {minutes:.0f} min of one core{', validation run included' if spec.refit else ''}. Batch norm is folded; value",
        "ranges are normalised by powers of two, which changes no pixel. Package versions: `models/requirements.txt`.",
        "",
        "## Data and licence",
        "",
        text.data,
        "The data are not part of this repository.",
        "",
        "## Not for",
        "",
        text.limits,
        "Its weights are visible to whoever evaluates it.",
        "",
    ]
    return "\n".join(lines), found


def build(name, data, out, epochs, dry):
    spec = SPECS[name]
    epochs = epochs or spec.epochs
    print(f"{name}: maps {spec.maps}, {sum(macs(spec).values()):,} multiply-accumulates", flush=True)
    start = time.process_time()
    images = load(spec, data, "train")
    keep, held = (images.pick(i) for i in split(spec, images))
    trained = train(spec, keep, epochs, held)
    validation = overlaps(trained, held)
    print("  validation: " + ", ".join(f"{k} {v.mean():.4f}" for k, v in validation.items()), flush=True)
    if dry:
        return
    if spec.refit:
        trained = train(spec, images, epochs)
    minutes = (time.process_time() - start) / 60
    net = fold(spec, trained)
    scale = normalise(spec, net, images)
    torch.testing.assert_close(
        logits(net, held.pixels) * scale, logits(trained, held.pixels), atol=1e-3 * scale, rtol=1e-3
    )
    path = out / f"{name}.onnx"
    model, ops = export(spec, net, path)
    reference = ReferenceEvaluator(model)
    for tile in unit(tiles(held.pixels)[:8]):
        want = net(tile[None]).detach().numpy()
        np.testing.assert_allclose(reference.run(None, {"image": tile[None].numpy()})[0], want, atol=1e-3)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # Here, and only here, the test split is read.
    text, found = report(
        name, spec, net, ops, digest, validation, load(spec, data, "test"), epochs, max(1, minutes)
    )
    (out / f"{name}.md").write_text(text)
    update_sums(out, name, digest)
    print("  test: " + ", ".join(f"{k} {v.mean():.4f}" for k, v in found.items()) + f", {digest}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*SPECS, "all"], default="all")
    parser.add_argument("--data", type=Path, default=os.environ.get("CIPHERLENS_DATA") or ROOT.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=ROOT / "models")
    parser.add_argument("--epochs", type=int, help="override the number of epochs (for a quick try)")
    parser.add_argument("--validate", action="store_true", help="stop before the test split is read; write no file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in SPECS if args.model == "all" else [args.model]:
        build(name, Path(args.data), args.out, args.epochs, args.validate)


if __name__ == "__main__":
    main()
