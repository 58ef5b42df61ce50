"""HElayers: networks from our ONNX files, as its own optimiser packs them for one image."""

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pyhelayers as he
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import digits

PEER = {"version": he.VERSION, "threads": int(os.environ["OMP_NUM_THREADS"])}


def channel_last(path, maps, folder, name="linear.1.weight"):
    """A copy of a network whose first dense layer takes its inputs position by position, not channel by channel."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            weight = numpy_helper.to_array(tensor)
            weight = weight.reshape(len(weight), maps, -1).transpose(0, 2, 1).reshape(weight.shape)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight), tensor.name))
    copy = Path(folder) / "channel_last.onnx"
    onnx.save(model, copy)
    return copy


class Session:
    """A network from a file, encoded for one encrypted image; it owns all that HElayers only borrows."""

    def __init__(self, path, pixels, slots=4096, integer_bits=5):
        self.plain = he.PlainModel.create(he.PlainModelHyperParams(), [str(path)])
        request = he.HeRunRequirements()
        request.set_he_context_options([he.SealCkksContext()])
        request.optimize_for_batch_size(1)
        request.set_fractional_part_precision(26)
        request.set_integer_part_precision(integer_bits)
        request.set_fixed_num_slots(slots)
        request.set_model_encrypted(False)
        self.profile = he.HeModel.compile(self.plain, request)
        assert self.profile is not None, f"no profile for N = {2 * slots} and 26 bits"
        self.context = he.HeModel.create_context(self.profile)
        self.model = self.plain.get_empty_he_model(self.context)
        self.model.encode(self.plain, self.profile)
        self.client = self.model.create_model_io_encoder()
        self.image, self.result = he.EncryptedData(self.context), he.EncryptedData(self.context)
        self.client.encode_encrypt(self.image, [pixels])

    def evaluate(self):
        self.model.predict(self.result, self.image)

    def decrypt(self):
        return self.client.decrypt_decode_output(self.result)[0]


def network(name, repetitions):
    path, layers, stride, pad = digits.network(name)
    pixels = digits.image()
    want = digits.clear(layers, stride, pad, pixels)
    with tempfile.TemporaryDirectory() as folder:
        # One of its packings flattens channel last whatever the ONNX file says; it is then given the same
        # network in that order.
        orders = {"": path, ", dense weights reordered": channel_last(path, len(layers[0][0]), folder)}
        for about, file in orders.items():
            session = Session(file, pixels[None, None])
            session.evaluate()
            got = session.decrypt()
            if np.abs(got - want).max() < 0.2 and got.argmax() == want.argmax():
                break
        else:
            raise SystemExit(f"{name} decrypts to {got.round(2)}, the clear network says {want.round(2)}")
    digits.row(
        **PEER,
        name=name,
        n=8192,
        about=f"evaluation only, SEAL, 26-bit primes, log2 QP 218{about}",
        error=float(np.abs(got - want).max()),
        **digits.measure(repetitions, session.evaluate),
    )


def melanoma(repetitions):
    """The skin-lesion network on random pixels; half its ring's coefficients are slots, so that N is twice ours."""
    path = digits.ROOT / "models/melanoma.onnx"
    pixels = np.random.default_rng(1).random((1, 3, 128, 128))
    want = ReferenceEvaluator(str(path)).run(None, {"image": pixels.astype(np.float32)})[0].ravel()
    with tempfile.TemporaryDirectory() as folder:
        for about, file in {"": path, ", dense weights reordered": channel_last(path, 64, folder, "linear.3.weight")}.items():
            session = Session(file, pixels, slots=16384, integer_bits=10)
            session.evaluate()
            got = session.decrypt().ravel()
            if np.abs(got - want).max() < 0.2:
                break
        else:
            raise SystemExit(f"melanoma decrypts to {got.round(2)}, the clear network says {want.round(2)}")
    digits.row(
        **PEER,
        name="melanoma",
        n=32768,
        about=f"evaluation only, SEAL, 26-bit primes{about}",
        error=float(np.abs(got - want).max()),
        **digits.measure(repetitions, session.evaluate),
    )


network("tenseal-cnn", 15)
network("cryptonets", 15)
melanoma(3)
