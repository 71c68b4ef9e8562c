#!/usr/bin/env python3
"""Golden logits: models quantised by llama.cpp, logits computed by it in float32 on the dequantised weights ($GALEN_DATA/golden), on
the reference device and on every instruction set. Bounds: docs/design.md, "Correctness bars"."""
import glob
import os

import galen
import numpy as np
import tiny_models as tm

c = galen.Checks()
files = sorted(glob.glob(os.path.join(galen.DATA, "golden", "*.gguf")))
for path in files:
    stem = path[:-5]
    ids, want = np.load(stem + ".tokens.npy"), np.load(stem + ".logits.npy")
    bound = 1e-6 if stem.endswith(("F16", "F32")) else 3e-7  # 2.6e-8 measured
    for label, options in galen.devices():
        got = galen.logits(path, ids, "--kv-type", "f32", *options)
        # Positions agree one by one: a fault at the end of a batch must not drown in the sum.
        worst = max(tm.nmse(got[i], want[i]) for i in range(len(ids))) if got.shape == want.shape else float("inf")
        total = tm.nmse(got, want) if got.shape == want.shape else float("inf")
        limit = 1e-6 if label == "ref" else bound  # ref rounds no activation: it is exact on the quantised file
        print(f"{os.path.basename(stem):20} {label:8} NMSE {total:.1e}, worst position {worst:.1e}")
        c.check(total <= limit and worst <= 5 * limit, f"{stem} on {label}: NMSE {total:.2e} (worst position {worst:.2e}), bound {limit:.0e}")
    got = galen.logits(path, ids)
    for options in (["--threads", "1"], ["--threads", "3"], ["--batch", "1"], ["--batch", "7"]):
        c.check(np.array_equal(got, galen.logits(path, ids, *options)), f"{stem} {' '.join(options)}: not the same bits")
if not files:
    print(f"SKIP: no golden models in {galen.DATA}/golden (set GALEN_DATA)")
c.finish()
