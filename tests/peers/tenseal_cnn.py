"""TenSEAL: the encrypted network of its tutorial with our weights, and the operations of the SEAL that it carries."""

import os

import numpy as np
import tenseal as ts
import tenseal.sealapi as seal

import digits

THREADS = int(os.environ["OMP_NUM_THREADS"])
PEER = {"version": ts.__version__, "threads": THREADS}


def network():
    """Tutorial 4: N = 8192, scale 2^26, one ciphertext of windows, one channel at a time."""
    _, layers, stride, pad = digits.network("tenseal-cnn")
    pixels = digits.image()
    context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, -1, [31, 26, 26, 26, 26, 26, 26, 31], n_threads=THREADS)
    context.global_scale = 2**26
    context.generate_galois_keys()
    (kernel, channel_bias), *dense = layers
    side = kernel.shape[-1]
    image, windows = ts.im2col_encoding(context, np.pad(pixels, pad).tolist(), side, side, stride)
    kernels = kernel[:, 0].tolist()
    biases = channel_bias.tolist()
    dense = [(weight.T.tolist(), bias.tolist()) for weight, bias in dense]

    def evaluate():
        channels = [image.conv2d_im2col(k, windows) + b for k, b in zip(kernels, biases)]
        x = ts.CKKSVector.pack_vectors(channels)
        for weight, bias in dense:
            x.square_()
            x = x.mm(weight) + bias
        return x

    want = digits.clear(layers, stride, pad, pixels)
    got = np.array(evaluate().decrypt())
    assert got.argmax() == want.argmax(), f"decrypts to {got.round(2)}, the clear network says {want.round(2)}"
    digits.row(
        **PEER,
        name="tenseal-cnn",
        n=8192,
        about="evaluation only, 26-bit primes, log2 QP 218",
        error=float(abs(got - want).max()),
        **digits.measure(7, evaluate),
    )


def operations(n, primes, special, scale_bits):
    """SEAL's own evaluator, keys and plaintexts prepared; the product includes relinearisation and rescaling."""
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(n)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(n, primes + [special]))
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    generator = seal.KeyGenerator(context)
    relin, galois = seal.RelinKeys(), seal.GaloisKeys()
    generator.create_relin_keys(relin)
    generator.create_galois_keys([3], galois)  # the element of a rotation by one
    encoder, evaluator = seal.CKKSEncoder(context), seal.Evaluator(context)
    encryptor = seal.Encryptor(context, generator.secret_key())
    decryptor = seal.Decryptor(context, generator.secret_key())
    values = (np.arange(n // 2) % 7 / 7).tolist()

    def encrypt():
        plain, cipher = seal.Plaintext(), seal.Ciphertext()
        encoder.encode(values, 2.0**scale_bits, plain)
        encryptor.encrypt_symmetric(plain, cipher)
        return cipher

    cipher = encrypt()

    def rotate():
        out = seal.Ciphertext()
        evaluator.rotate_vector(cipher, 1, galois, out)
        return out

    def multiply():
        out = seal.Ciphertext()
        evaluator.multiply(cipher, cipher, out)
        evaluator.relinearize_inplace(out, relin)
        evaluator.rescale_to_next_inplace(out)
        return out

    square = [v * v for v in values]
    checks = {"encrypt_secret": values, "rotate": values[1:] + values[:1], "mul_relinearize_rescale": square}
    for name, step in {"rotate": rotate, "mul_relinearize_rescale": multiply, "encrypt_secret": encrypt}.items():
        plain = seal.Plaintext()
        decryptor.decrypt(step(), plain)
        error = float(np.abs(np.array(encoder.decode_double(plain)) - checks[name]).max())
        assert error < 1e-3, f"{name}: error {error}"
        about = f"SEAL inside TenSEAL, {len(primes)} primes, {sum(primes)} bits"
        digits.row(**PEER, name=name, n=n, about=about, error=error, **digits.measure(30, step))


network()
operations(8192, [40] * 4, 58, 40)
operations(16384, [42] * 8, 60, 42)
