#!/usr/bin/env python3
"""The peer's side of vs-peer: peer_bench.py KIND MODEL THREADS PREFILL DECODE. The same work as galen_bench.c, through llama.h."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/peer"))
import llamacpp  # noqa: E402

kind, path = sys.argv[1:3]
n_threads, n_prefill, n_decode = map(int, sys.argv[3:6])
peer = llamacpp.Peer(kind)
with llamacpp.Model(peer, path, n_ctx=max(n_prefill, n_decode), n_threads=n_threads) as m:
    ids = [(i * 2654435761 % 2**32 >> 8) % m.n_vocab for i in range(max(n_prefill, n_decode))]

    def decode(n):
        m.clear()
        for t in ids[:n]:
            m.run([t])

    m.run(ids[:16])
    decode(2)
    m.clear()
    t0 = time.perf_counter()
    m.run(ids[:n_prefill])
    t1 = time.perf_counter()
    decode(n_decode)
    t2 = time.perf_counter()
with open("/proc/self/status", encoding="ascii") as f:
    peak = next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
print(json.dumps({"prefill": n_prefill / (t1 - t0), "decode": n_decode / (t2 - t1), "peak_bytes": peak, "package": peer.package, "system": peer.system}))
