"""A forward pass in numpy, float64, written from the papers and the transformers sources, not from Galen: the reference for models
whose weights are drawn anew in each test run. It is itself held against transformers' logits (check_transformers.py)."""
import math

import numpy as np
import tiny_models as tm


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def frequencies(d, base, scaling, n_tokens):
    """(inverse frequencies, magnitude). Sources: arXiv 2306.15595 (linear), 2309.00071 (YaRN), transformers (llama3, longrope)."""
    n = d["n_rot"]
    f = base ** (-np.arange(0, n, 2) / n)
    if not scaling:
        return f, 1.0
    kind = scaling["kind"]
    if kind == "linear":
        return f / scaling["factor"], 1.0
    if kind == "llama3":
        return f / tm.llama3_factors(d), 1.0
    if kind == "longrope":
        which = "long" if n_tokens > scaling["orig"] else "short"
        return f / tm.longrope_factors(d, which), tm.longrope_magnitude(d)

    def pair(turns):
        return n * math.log(scaling["orig"] / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(pair(32)), 0), min(math.ceil(pair(1)), n - 1)
    ramp = np.clip((np.arange(n // 2) - low) / max(high - low, 0.001), 0, 1)
    return f / scaling["factor"] * ramp + f * (1 - ramp), 0.1 * math.log(scaling["factor"]) + 1


def rotate(x, freq, magnitude, is_pairs):
    """x [tokens][heads][d_head]; the first 2 len(freq) dimensions turn."""
    angle = np.arange(len(x))[:, None, None] * freq
    cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude
    n = 2 * len(freq)
    out = x.copy()
    a, b = (x[..., 0:n:2], x[..., 1:n:2]) if is_pairs else (x[..., :n // 2], x[..., n // 2:n])
    ra, rb = a * cos - b * sin, a * sin + b * cos
    if is_pairs:
        out[..., 0:n:2], out[..., 1:n:2] = ra, rb
    else:
        out[..., :n // 2], out[..., n // 2:n] = ra, rb
    return out


def attention(d, w, b, x, freq, magnitude, window):
    n, h, kv, dh = len(x), d["n_head"], d["n_head_kv"], d["d_head"]
    if d["arch"] == "phi3":
        q, k, v = np.split(x @ w[b + "attn_qkv.weight"].T, [h * dh, (h + kv) * dh], axis=1)
    else:
        q, k, v = (x @ w[b + f"attn_{p}.weight"].T + w.get(b + f"attn_{p}.bias", 0) for p in "qkv")
    q, k, v = q.reshape(n, h, dh), k.reshape(n, kv, dh), v.reshape(n, kv, dh)
    if b + "attn_q_norm.weight" in w:
        q, k = rms_norm(q, w[b + "attn_q_norm.weight"], d["eps"]), rms_norm(k, w[b + "attn_k_norm.weight"], d["eps"])
    q, k = (rotate(t, freq, magnitude, d["arch"] == "llama") for t in (q, k))
    k, v = np.repeat(k, h // kv, axis=1), np.repeat(v, h // kv, axis=1)
    scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(dh)
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    scores = np.where((j > i) | ((i - j >= window) if window else False), -np.inf, scores)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    out = np.einsum("hij,jhd->ihd", scores, v).reshape(n, h * dh)
    return out @ w[b + "attn_output.weight"].T + w.get(b + "attn_output.bias", 0)


def feed_forward(d, w, b, x):
    if d["arch"] == "phi3":
        gate, up = np.split(x @ w[b + "ffn_up.weight"].T, 2, axis=1)
    else:
        gate, up = x @ w[b + "ffn_gate.weight"].T, x @ w[b + "ffn_up.weight"].T
    act = gelu_tanh if d["arch"] == "gemma3" else silu
    return (act(gate) * up) @ w[b + "ffn_down.weight"].T


def logits(d, weights, ids):
    """float64 [len(ids)][N_VOCAB]."""
    w = {name: values for name, (_, _, values) in weights.items()}
    is_gemma = d["arch"] == "gemma3"
    x = w["token_embd.weight"][ids] * (math.sqrt(d["n_embd"]) if is_gemma else 1.0)
    for i in range(d["n_layer"]):
        b = f"blk.{i}."
        is_local = is_gemma and i % 6 != 5
        freq, magnitude = frequencies(d, 10000.0 if is_local else d["base"], None if is_local else d["scaling"], len(ids))
        y = attention(d, w, b, rms_norm(x, w[b + "attn_norm.weight"], d["eps"]), freq, magnitude, d["window"] if is_local else 0)
        x = x + (rms_norm(y, w[b + "post_attention_norm.weight"], d["eps"]) if is_gemma else y)
        y = feed_forward(d, w, b, rms_norm(x, w[b + "ffn_norm.weight"], d["eps"]))
        x = x + (rms_norm(y, w[b + "post_ffw_norm.weight"], d["eps"]) if is_gemma else y)
    x = rms_norm(x, w["output_norm.weight"], d["eps"])
    return x @ w.get("output.weight", w["token_embd.weight"]).T
