#!/usr/bin/env python3
"""galen synth against llama.cpp: in every type the peer loads the file, cuts the same tokens from text, and gives the logits that
Galen gives. The weights are random bits, so every level, sub-block scale and minimum that a format can hold takes part."""
import json
import os
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../golden"), os.path.join(HERE, "../peer")]
import galen  # noqa: E402
import llamacpp  # noqa: E402

# What llama.cpp does to the other factor of a product decides: f32 keeps it, f16 and bf16 round it to 11 and 8 bits, quantised
# types to 8 bits with one scale for 32 or, in the K family, 256 values. Measured: 3e-13, 5e-7, 3e-5, at most 1.7e-3.
BOUNDS = {"f32": 1e-10, "f16": 2e-6, "bf16": 2e-4}
QUANTISED = 4e-3
OWN = {"f32": 1e-10, "f16": 1e-10, "bf16": 1e-10}  # the default device against ref; else 15-bit activations: 3e-8 measured
TYPES = "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs q4_k_m q5_k_m".split()
TEXTS = ["The patient has persistent cough, fever, and chest pain for 3 days", "  etaoin\n\n\tshrdlu ", "39.5 °C — 日本語 🩺", "",
         "<|eot_id|> stays text", "a" * 300, "\x00\x7f", "don't WON'T it's 12345678"]


def ids_of(model, text):
    return json.loads(galen.run("tokenize", model, "--ids", stdin=text.encode()).stdout)


def check(c, peer, kind, folder):
    path = os.path.join(folder, kind + ".gguf")
    galen.run("synth", "--shape", "tiny", "--type", kind, path)
    with llamacpp.Model(peer, path, n_ctx=128, kv=llamacpp.F32, flash=False) as m:
        ids = m.tokenize(TEXTS[0])
        theirs = m.eval(ids, want_all=True).astype(np.float64)
        if kind == "q8_0":
            for text in TEXTS:
                c.check(ids_of(path, text) == m.tokenize(text), f"ids of {text[:40]!r}")
    ours = galen.logits(path, ids, "--kv-type", "f32").astype(np.float64)
    ref = galen.logits(path, ids, "--kv-type", "f32", "--device", "ref").astype(np.float64)
    nmse, own = np.sum((ours - theirs) ** 2) / np.sum(theirs ** 2), np.sum((ours - ref) ** 2) / np.sum(ref ** 2)
    print(f"{kind:7} logits deviate by {theirs.std():.2f}; NMSE against llama.cpp {nmse:.1e}, against ref {own:.1e}", flush=True)
    c.check(np.isfinite(ours).all() and 0.5 < ours.std() < 2, f"{kind}: logits of spread {ours.std():.2f}, expected about 1")
    c.check(nmse <= BOUNDS.get(kind, QUANTISED), f"{kind}: NMSE against llama.cpp {nmse:.2e}")
    c.check(own <= OWN.get(kind, 3e-7), f"{kind}: NMSE against ref {own:.2e}")


checks, the_peer = galen.Checks(), llamacpp.Peer("prebuilt")
with tempfile.TemporaryDirectory() as work:
    for type_name in TYPES:
        check(checks, the_peer, type_name, work)
checks.finish()
