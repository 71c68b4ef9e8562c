#!/usr/bin/env python3
"""Every weight type in a whole model, weights drawn anew in each run, against reference.py in float64 on the dequantised weights
(dequantised by the Python package gguf). The seed is printed; `check_quants.py SEED` repeats a run."""
import os
import sys
import tempfile
import time

import galen
import reference
import tiny_models as tm
from gguf import GGMLQuantizationType as Q

TYPES = [Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL, Q.IQ4_XS]
SHAPE = dict(n_embd=256, n_head=4, n_head_kv=2, d_head=64, n_ff=512, n_layer=2, n_tokens=21)
ARCHS = ["llama-mha", "qwen2", "qwen3", "phi3"]

seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time()) % 1000000
print("seed", seed)
c = galen.Checks()


def check(name, d, types, folder, is_quantised):
    weights, ids = tm.make_weights(d, seed, types), tm.tokens(d, seed)
    path = os.path.join(folder, "model.gguf")
    tm.write_gguf(path, d, weights)
    want = reference.logits(d, weights, ids)
    line = f"{name:18} {d['arch']:6}"
    for label, options in galen.devices():
        bound = 1e-11 if label == "ref" else 3e-7 if is_quantised else 1e-10
        try:
            got = tm.nmse(galen.logits(path, ids, "--kv-type", "f32", *options), want)
        except (RuntimeError, ValueError) as e:
            print(e)
            got = float("inf")
        line += f"  {label} {got:.1e}"
        c.check(got <= bound, f"{name} in {d['arch']} on {label}: NMSE {got:.2e}, bound {bound:.0e} (seed {seed})")
    print(line, flush=True)


with tempfile.TemporaryDirectory() as folder:
    for i, qtype in enumerate(TYPES):
        d = tm.describe(ARCHS[(seed + i) % len(ARCHS)], **SHAPE, is_tied=bool((seed + i) % 2))
        check(qtype.name, d, lambda name, t=qtype: t, folder, qtype not in (Q.F32, Q.F16, Q.BF16))
    # Each tensor another type, as real mixes have.
    for k in range(3):
        d = tm.describe(ARCHS[(seed + k) % len(ARCHS)], **SHAPE)
        order = iter(range(10**6))
        check(f"mixed {k}", d, lambda name, k=k, order=order: TYPES[(seed + k * 7 + next(order) * 4) % len(TYPES)], folder, True)
c.finish()
