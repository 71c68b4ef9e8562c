#!/usr/bin/env python3
"""The scalar conversions against the Python package gguf: bit-exact dequantising of every type, bit-exact quantising where
gguf quantises. With --ggml LIB (libggml-base.so of a llama.cpp build) also the error of the searched types against
llama.cpp's own quantiser.

    check_dequantise.py TOOL [--seed N] [--ggml LIB]       TOOL is the built tests/tools/dequantise.c
Ends with "N passed, N failed"."""
import argparse
import ctypes
import os
import subprocess
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

# byte offsets of the half floats in a block
HALVES = {
    "F16": [0], "BF16": [], "F32": [], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
}
EXACT = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
SEARCHED = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
tally = Tally()
report = tally.check


def tool(args, data):
    return subprocess.run([opts.tool, *args], input=data.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def same(a, b):
    """Equal bits, or both NaN."""
    return np.array_equal(np.where(np.isnan(a), np.uint32(0x7FC00000), a.view(np.uint32)),
                          np.where(np.isnan(b), np.uint32(0x7FC00000), b.view(np.uint32)))


def blocks(rng, name, n, scales):
    """n random blocks; their half floats sane, tiny (subnormal), of any bits, or zero and infinity."""
    raw = rng.integers(0, 256, (n, GGML_QUANT_SIZES[T[name]][1]), dtype=np.uint8)
    for at in HALVES[name]:
        if scales == "sane":
            h = rng.uniform(-0.1, 0.1, n).astype(np.float16)
        elif scales == "subnormal":
            h = rng.integers(0, 1024, n).astype(np.uint16).view(np.float16)
        elif scales == "edges":
            h = rng.choice(np.array([0, 0x8000, 0x7C00, 0xFC00, 0x7BFF, 1, 0x3FF, 0x400, 0x7E00], np.uint16), n).view(np.float16)
        else:
            continue
        raw[:, at:at + 2] = h.view(np.uint8).reshape(n, 2)
    return raw


def check_dequantise(rng, name):
    for scales in ["sane", "subnormal", "edges", "any bits"]:
        raw = blocks(rng, name, 2000, scales)
        got = np.frombuffer(tool([name], raw), np.float32)
        with np.errstate(all="ignore"):
            want = quants.dequantize(raw, T[name]).ravel()
        report(same(got, want), f"{name}: dequantise, {scales} scales")


def inputs(rng):
    yield "gaussian", rng.standard_normal(64000)
    yield "small", rng.standard_normal(64000) * 1e-4
    yield "wide", rng.standard_normal(64000) * 10.0 ** rng.uniform(-6, 3, 64000)
    yield "ties", rng.integers(-127, 128, 64000) / 2.0
    x = np.zeros(64000)
    x[::97] = rng.standard_normal(len(x[::97]))
    yield "sparse", x
    yield "all zero", np.zeros(64000)
    yield "one sign", -np.abs(rng.standard_normal(64000)) - 1
    yield "equal", np.full(64000, 0.37)
    yield "scale overflows binary16", rng.standard_normal(64000) * 1e9


def check_quantise(rng, name):
    for what, x in inputs(rng):
        x = np.ascontiguousarray(x.astype(np.float32).reshape(-1, 256))
        with np.errstate(all="ignore"):
            want = quants.quantize(x, T[name]).tobytes()
        report(tool([name, "quantise"], x) == want, f"{name}: quantise, {what}")


def check_every_half(name):
    """All 2^16 patterns to f32, and back again; with values between neighbours for the rounding."""
    raw = np.arange(65536, dtype=np.uint16)
    got = np.frombuffer(tool([name], raw), np.float32)
    want = raw.view(np.float16).astype(np.float32) if name == "F16" else (raw.astype(np.uint32) << 16).view(np.float32)
    report(same(got, want), f"{name}: every pattern to f32")
    bits = np.arange(0, 2**32, 1021, dtype=np.uint64).astype(np.uint32)
    with np.errstate(all="ignore"):
        f = np.concatenate([bits.view(np.float32), ((want[1:].astype(np.float64) + want[:-1]) / 2).astype(np.float32)])
    got = np.frombuffer(tool([name, "quantise"], f), np.uint16)
    with np.errstate(all="ignore"):
        if name == "F16":
            ref = f.astype(np.float16).view(np.uint16)
        else:
            ref = quants.quantize(f.reshape(1, -1), T.BF16).view(np.uint16).ravel()
    nan = np.isnan(f)
    report(np.array_equal(got[~nan], ref[~nan]), f"{name}: f32 rounded to nearest even")
    back = np.frombuffer(tool([name], got), np.float32)
    report(np.isnan(back[nan]).all(), f"{name}: NaN stays NaN")


def check_against_ggml(rng, lib, name):
    """Squared error within 2 % of llama.cpp's search, without importance weights on either side."""
    fn = lib.ggml_quantize_chunk
    fn.restype = ctypes.c_size_t
    fn.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    for what, x in [("gaussian", rng.standard_normal(256 * 200)), ("laplace", rng.laplace(size=256 * 200)),
                    ("shifted", rng.standard_normal(256 * 200) + 0.5)]:
        x = x.astype(np.float32)
        theirs = np.zeros(x.size // GGML_QUANT_SIZES[T[name]][0] * GGML_QUANT_SIZES[T[name]][1], np.uint8)
        fn(int(T[name]), x.ctypes.data, theirs.ctypes.data, 0, 200, 256, None)
        ours = np.frombuffer(tool([name, "quantise"], x), np.uint8)
        row = GGML_QUANT_SIZES[T[name]][1] * 256 // GGML_QUANT_SIZES[T[name]][0]
        err = [np.sqrt(np.mean((quants.dequantize(q.reshape(-1, row), T[name]).ravel().astype(np.float64) - x) ** 2)) / x.std()
               for q in (ours, theirs)]
        if opts.verbose:
            print(f"{name:7} {what:9} rmse / sigma: ours {err[0]:.5f}  llama.cpp {err[1]:.5f}  ratio {err[0] / err[1]:.3f}")
        report(err[0] <= err[1] * 1.02, f"{name}: {what} rmse {err[0]:.5f}, llama.cpp {err[1]:.5f}")


p = argparse.ArgumentParser()
p.add_argument("tool")
p.add_argument("--seed", type=int, default=1)
p.add_argument("--ggml")
p.add_argument("--verbose", action="store_true")
opts = p.parse_args()
rng = np.random.default_rng(opts.seed)
listing = subprocess.run([opts.tool, "list"], stdout=subprocess.PIPE, check=True, text=True).stdout
listed = [line.split() for line in listing.splitlines()]
report({row[0] for row in listed} == set(HALVES), "the types that the tool lists are those checked here")
for type_name, number, n_weights, n_bytes in listed:
    report((T[type_name].value, *GGML_QUANT_SIZES[T[type_name]]) == (int(number), int(n_weights), int(n_bytes)),
           f"{type_name}: id {number}, {n_weights} weights in {n_bytes} bytes")
    check_dequantise(rng, type_name)
for type_name in EXACT:
    check_quantise(rng, type_name)
for type_name in ["F16", "BF16"]:
    check_every_half(type_name)
if opts.ggml:
    for type_name in SEARCHED:
        check_against_ggml(rng, ctypes.CDLL(opts.ggml), type_name)
sys.exit(tally.end())
