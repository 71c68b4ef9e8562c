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

# llama.cpp rounds the other factor of a product to f16, to bf16 or to 8 bits, Galen to none or to 8 bits: the squares of two
# independent errors of at most 1e-3 (the design page's bar against exact logits) add up.
BOUNDS = {"f32": 1e-6, "f16": 1e-5, "bf16": 1e-3}
QUANTISED = 2e-3
TYPES = "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs q4_k_m q5_k_m".split()
TEXTS = ["The patient has persistent cough, fever, and chest pain for 3 days", "  etaoin\n\n\tshrdlu ", "39.5 °C — 日本語 🩺", "",
         "<|eot_id|> stays text", "a" * 300, "\x00\x7f", "don't WON'T it's 12345678"]


def ids_of(model, text):
    return json.loads(galen.run("tokenize", model, "--ids", stdin=text.encode()).stdout)


def check(c, peer, kind, folder):
    path = os.path.join(folder, kind + ".gguf")
    galen.run("synth", "--shape", "tiny", "--type", kind, path)
    with llamacpp.Model(peer, path, n_ctx=128, kv=llamacpp.F32) as m:
        ids = m.tokenize(TEXTS[0])
        theirs = m.eval(ids, want_all=True).astype(np.float64)
        if kind == "q8_0":
            for text in TEXTS:
                c.check(ids_of(path, text) == m.tokenize(text), f"ids of {text[:40]!r}")
    ours = galen.logits(path, ids, "--kv-type", "f32").astype(np.float64)
    nmse = np.sum((ours - theirs) ** 2) / np.sum(theirs ** 2)
    print(f"{kind:7} logits deviate by {theirs.std():.2f}; NMSE against llama.cpp {nmse:.1e}", flush=True)
    c.check(np.isfinite(ours).all() and 0.5 < ours.std() < 2, f"{kind}: logits of spread {ours.std():.2f}, expected about 1")
    c.check(nmse <= BOUNDS.get(kind, QUANTISED), f"{kind}: NMSE {nmse:.2e}")


checks, the_peer = galen.Checks(), llamacpp.Peer("prebuilt")
with tempfile.TemporaryDirectory() as work:
    for type_name in TYPES:
        check(checks, the_peer, type_name, work)
checks.finish()
