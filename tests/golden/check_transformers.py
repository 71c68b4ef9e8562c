#!/usr/bin/env python3
"""Every architecture row against transformers: random tiny models, logits kept in transformers.npz (make_transformers.py). The same
fixture holds reference.py to account, the reference of models drawn anew."""
import os
import tempfile

import galen
import numpy as np
import reference
import tiny_models as tm

c = galen.Checks()
kept = np.load(os.path.join(os.path.dirname(os.path.abspath(__file__)), "transformers.npz"))
print("reference:", kept["versions"])
with tempfile.TemporaryDirectory() as folder:
    for name, row in tm.MODELS.items():
        d = tm.describe(name)
        weights, ids, at, want = tm.make_weights(d), tm.tokens(d), tm.positions(d), kept[name]
        path = os.path.join(folder, name + ".gguf")
        tm.write_gguf(path, d, weights)
        own = tm.nmse(reference.logits(d, weights, ids)[at], want)
        c.check(own <= 1e-11, f"reference.py, {name}: NMSE {own:.1e}")
        line = f"{name:16}"
        for label, options in galen.devices():
            # No activation of F32, F16 or BF16 weights is rounded to int8: only float32 rounding remains (measured: 1e-13).
            bound = 1e-11 if label == "ref" else 1e-10
            try:
                got = tm.nmse(galen.logits(path, ids, "--kv-type", "f32", *options)[at], want)
            except RuntimeError as e:
                print(e)
                got = float("inf")
            line += f"  {label} {got:.1e}"
            c.check(got <= bound, f"{name} ({row['why']}) on {label}: NMSE {got:.2e}, bound {bound:.0e}")
        got = tm.nmse(galen.logits(path, ids)[at], want)
        line += f"  f16 KV {got:.1e}"
        c.check(got <= 1e-5, f"{name} with an F16 cache: NMSE {got:.2e}")
        print(line, flush=True)
c.finish()
