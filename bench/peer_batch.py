#!/usr/bin/env python3
"""The peer's side of batch_bench: peer_batch.py KIND MODEL THREADS CLIENTS PROMPT TOKENS ROUNDS. llama.cpp's batched decode the way its server
drives it: a step takes one token of every sequence that generates, and prompts fill what is left of n_batch. Greedy choice by numpy
(cheaper than the server's samplers). Every client's next request comes when its last has ended."""
import ctypes as C
import json
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/peer"))
import llamacpp  # noqa: E402

kind, path = sys.argv[1:3]
n_threads, n_clients, n_prompt, n_tokens, n_rounds = map(int, sys.argv[3:8])
N_BATCH = 512
lib = (peer := llamacpp.Peer(kind)).lib
lib.llama_memory_seq_rm.restype = C.c_bool
lib.llama_memory_seq_rm.argtypes = [C.c_void_p, C.c_int32, C.c_int32, C.c_int32]
model = lib.llama_model_load_from_file(os.fsencode(path), lib.llama_model_default_params())
p = lib.llama_context_default_params()
p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max = (n_prompt + n_tokens + 64) * n_clients, N_BATCH, N_BATCH, n_clients
p.n_threads = p.n_threads_batch = n_threads
ctx = lib.llama_init_from_model(model, p)
n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
memory = lib.llama_get_memory(ctx)
batch = lib.llama_batch_init(N_BATCH, 0, 1)


class Client:
    def __init__(self, number):
        self.number, self.round = number, 0
        self.begin()

    def begin(self):
        self.pending = [(((i + 1) * 2654435761 + (self.number * 977 + self.round * 131) * 40503) % 2**32 >> 7) % n_vocab for i in range(n_prompt)]
        self.n_past = self.n_made = 0
        self.sent = time.perf_counter()
        lib.llama_memory_seq_rm(memory, self.number, -1, -1)


clients = [Client(i) for i in range(n_clients)]
first, n_made = [], 0
t0 = time.perf_counter()
while clients:
    rows, heads, room = 0, [], N_BATCH
    for c in sorted(clients, key=lambda c: len(c.pending)):
        k = min(len(c.pending), room)
        for i in range(k):
            batch.token[rows], batch.pos[rows] = c.pending[i], c.n_past + i
            batch.n_seq_id[rows], batch.seq_id[rows][0] = 1, c.number
            batch.logits[rows] = i == len(c.pending) - 1
            rows += 1
        if k == len(c.pending) and k:
            heads.append((c, rows - 1))
        c.n_past += k
        c.pending = c.pending[k:]
        room -= k
    batch.n_tokens = rows
    if lib.llama_decode(ctx, batch):
        raise SystemExit("llama_decode failed")
    for c, row in heads:
        token = int(np.argmax(np.ctypeslib.as_array(lib.llama_get_logits_ith(ctx, row), (n_vocab,))))
        if c.n_made == 0 and c.round > 0:
            first.append(time.perf_counter() - c.sent)
        c.n_made += 1
        n_made += 1
        c.pending = [token]
        if c.n_made == n_tokens:
            c.round += 1
            if c.round == n_rounds:
                clients.remove(c)
            else:
                c.begin()
seconds = time.perf_counter() - t0
first.sort()
pick = lambda q: round(first[int(q * (len(first) - 1))], 4) if first else 0  # noqa: E731
print(json.dumps({"tokens_per_s": round(n_made / seconds, 2), "first_p50": pick(0.5), "first_p95": pick(0.95), "seconds": round(seconds, 3),
                  "package": peer.package}))
