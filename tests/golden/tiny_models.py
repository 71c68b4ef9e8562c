"""Tiny random models in real architectures: one description, from which a GGUF file, a transformers model and a numpy forward
pass are made, all holding the same weights.

Weights come from a counter-based hash (splitmix64), so that they are the same with any version of numpy and the reference logits
can be kept as a small fixture. A description uses the GGUF conventions: names, RoPE pairs of llama, gemma's norms stored as 1 + w."""
import math
import sys
import zlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

BYTE_TOKENS = 256
N_VOCAB = 3 + BYTE_TOKENS + 5

# Everything a model may vary in; a row below names what differs.
BASE = dict(arch="llama", n_layer=2, n_embd=64, n_head=4, n_head_kv=2, d_head=16, n_ff=96, n_ctx=512, eps=1e-5, base=10000.0,
            is_tied=False, has_bias=False, has_out_bias=False, n_rot=None, window=0, scaling=None, n_tokens=80, weights=Q.F16)

LONG_FACTORS = {"short": [1.0, 1.1, 1.25, 1.5, 1.7, 2.0, 2.2, 2.5], "long": [1.0, 1.3, 2.0, 3.0, 4.5, 6.0, 7.0, 8.0]}

MODELS = {
    "llama-mha": dict(n_head_kv=4, why="every head has its own K and V"),
    "llama-gqa-tied": dict(is_tied=True, d_head=32, weights=Q.F32, why="tied head, heads wider than n_embd / n_head"),
    "llama-llama3": dict(base=500000.0, scaling=dict(kind="llama3", factor=8.0, low=1.0, high=4.0, orig=32), why="Llama 3.1's frequencies"),
    "llama-linear": dict(weights=Q.BF16, scaling=dict(kind="linear", factor=4.0), why="positions divided by 4"),
    "llama-yarn": dict(scaling=dict(kind="yarn", factor=4.0, orig=32), why="YaRN, magnitude 1 + 0.1 ln 4"),
    "llama-bias": dict(has_bias=True, has_out_bias=True, n_layer=1, why="biases, permuted like their rows"),
    "llama-mqa": dict(n_head_kv=1, n_head=8, d_head=8, n_layer=3, why="one KV head for eight"),
    "qwen2": dict(arch="qwen2", has_bias=True, is_tied=True, base=1000000.0, why="biases on Q, K, V; halves"),
    "qwen2-yarn": dict(arch="qwen2", has_bias=True, scaling=dict(kind="yarn", factor=8.0, orig=16), why="YaRN on halves"),
    "qwen3": dict(arch="qwen3", d_head=32, base=1000000.0, why="norms on Q and K"),
    "gemma3": dict(arch="gemma3", n_layer=7, window=16, base=1000000.0, is_tied=True, eps=1e-6, why="window of 16, one full layer of six"),
    "gemma3-linear": dict(arch="gemma3", n_layer=6, window=8, base=1000000.0, is_tied=True, eps=1e-6, n_head_kv=1,
                          scaling=dict(kind="linear", factor=8.0), why="full layers scaled by 8, local ones not"),
    "phi3": dict(arch="phi3", n_head_kv=4, why="fused Q|K|V and gate|up"),
    "phi3-partial": dict(arch="phi3", n_rot=12, why="three quarters of a head rotate"),
    "phi3-long": dict(arch="phi3", scaling=dict(kind="longrope", orig=32), why="longrope beyond the original context"),
    "phi3-short": dict(arch="phi3", n_tokens=24, scaling=dict(kind="longrope", orig=32), why="longrope inside the original context"),
}
POSITIONS = [0, 1, 2, 15, 16, 17, 40, 79]  # whose logits are kept; those past the end are dropped


def describe(name, **changes):
    d = {**BASE, **MODELS.get(name, {}), **changes, "name": name}
    d["n_rot"] = d["n_rot"] or d["d_head"]
    return d


def positions(d):
    return [p for p in POSITIONS if p < d["n_tokens"]]


def uniform(seed, label, n):
    """n doubles in [-1, 1), a function of seed and label alone."""
    with np.errstate(over="ignore"):
        start = np.uint64((zlib.crc32(label.encode()) << 24) + seed * 0x9E3779B9 & 0xFFFFFFFFFFFFFFFF)
        z = start + (np.arange(1, n + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0


def tokens(d, seed=1):
    ids = (uniform(seed, d["name"] + ".tokens", d["n_tokens"]) + 1) / 2 * (N_VOCAB - 3) + 3
    ids = ids.astype(np.int32)
    ids[0] = 1  # BOS
    return ids


def shapes(d):
    """name -> (rows, columns) of matrices, (n,) of vectors, in the order of the file."""
    q, kv, e, f = d["n_head"] * d["d_head"], d["n_head_kv"] * d["d_head"], d["n_embd"], d["n_ff"]
    out = {"token_embd.weight": (N_VOCAB, e)}
    for i in range(d["n_layer"]):
        b = f"blk.{i}."
        out[b + "attn_norm.weight"] = (e,)
        if d["arch"] == "phi3":
            out[b + "attn_qkv.weight"] = (q + 2 * kv, e)
        else:
            for x, n in (("q", q), ("k", kv), ("v", kv)):
                out[b + f"attn_{x}.weight"] = (n, e)
                if d["has_bias"]:
                    out[b + f"attn_{x}.bias"] = (n,)
        if d["arch"] in ("qwen3", "gemma3"):
            out[b + "attn_q_norm.weight"] = out[b + "attn_k_norm.weight"] = (d["d_head"],)
        out[b + "attn_output.weight"] = (e, q)
        if d["has_out_bias"]:
            out[b + "attn_output.bias"] = (e,)
        if d["arch"] == "gemma3":
            out[b + "post_attention_norm.weight"] = (e,)
        out[b + "ffn_norm.weight"] = (e,)
        if d["arch"] == "phi3":
            out[b + "ffn_up.weight"] = (2 * f, e)
        else:
            out[b + "ffn_gate.weight"] = out[b + "ffn_up.weight"] = (f, e)
        out[b + "ffn_down.weight"] = (e, f)
        if d["arch"] == "gemma3":
            out[b + "post_ffw_norm.weight"] = (e,)
    out["output_norm.weight"] = (e,)
    if not d["is_tied"]:
        out["output.weight"] = (N_VOCAB, e)
    return out


# Where a block's binary16 scales stand, for random blocks.
HALVES = {Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2],
          Q.Q5_K: [0, 2], Q.Q6_K: [208], Q.IQ4_NL: [0], Q.IQ4_XS: [0]}


def random_blocks(seed, label, rows, cols, qtype, spread):
    """Raw bytes of random blocks whose values have about the standard deviation asked for."""
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    n = rows * cols // block
    raw = ((uniform(seed, label, n * size) + 1) * 128).astype(np.uint8).reshape(n, size)
    for at in HALVES[qtype]:
        raw[:, at:at + 2] = np.full((n, 1), 1e-2, np.float16).view(np.uint8)
    if len(HALVES[qtype]) == 2:  # a minimum is subtracted (K types) or added: centre the values
        lo, hi = HALVES[qtype]
        ratio = {Q.Q4_1: -7.5, Q.Q5_1: -15.5, Q.Q2_K: 1.5, Q.Q4_K: 7.5, Q.Q5_K: 15.5}[qtype]
        raw[:, hi:hi + 2] = np.full((n, 1), 1e-2 * ratio, np.float16).view(np.uint8)
    std = gguf.quants.dequantize(raw.reshape(-1), qtype).std()
    for at in HALVES[qtype]:
        h = raw[:, at:at + 2].copy().view(np.float16).astype(np.float64) * (spread / std)
        h *= 1 + 0.3 * uniform(seed, label + str(at), n).reshape(n, 1)
        raw[:, at:at + 2] = h.astype(np.float16).view(np.uint8)
    return raw.reshape(rows, cols // block * size)


def make_weights(d, seed=1, types=None):
    """name -> (array as stored, type, values as float64). types(name) gives the type of a matrix, else d['weights']."""
    out = {}
    for name, shape in shapes(d).items():
        label = d["name"] + "." + name
        if len(shape) == 1:
            v = uniform(seed, label, shape[0])
            v = (1 + 0.25 * v if "norm" in name else 0.3 * v).astype(np.float32)
            out[name] = (v, Q.F32, v.astype(np.float64))
            continue
        rows, cols = shape
        qtype = types(name) if types else d["weights"]
        gain = {"token_embd.weight": 1.0 / math.sqrt(cols) if d["arch"] == "gemma3" else 1.0, "output.weight": 3.0 / math.sqrt(cols)}
        std = gain.get(name, 1.4 / math.sqrt(cols))
        if qtype in HALVES:
            raw = random_blocks(seed, label, rows, cols, qtype, std)
            out[name] = (raw, qtype, gguf.quants.dequantize(raw, qtype).astype(np.float64).reshape(shape))
            continue
        v = (uniform(seed, label, rows * cols) * std * math.sqrt(3)).astype(np.float32).reshape(shape)
        raw = v if qtype == Q.F32 else v.astype(np.float16) if qtype == Q.F16 else gguf.quants.quantize(v, qtype)
        back = raw if qtype in (Q.F32, Q.F16) else gguf.quants.dequantize(raw, qtype)
        out[name] = (raw, qtype, back.astype(np.float64).reshape(shape))
    return out


def llama3_factors(d):
    """Divisors of the inverse frequencies. Source: transformers modeling_rope_utils.py, llama3."""
    s, n = d["scaling"], d["n_rot"]
    freq = d["base"] ** (-np.arange(0, n, 2) / n)
    wave = 2 * math.pi / freq
    smooth = (s["orig"] / wave - s["low"]) / (s["high"] - s["low"])
    mid = 1 / ((1 - smooth) / s["factor"] + smooth)
    return np.where(wave < s["orig"] / s["high"], 1.0, np.where(wave > s["orig"] / s["low"], s["factor"], mid)).astype(np.float32)


def longrope_factors(d, which):
    return np.interp(np.linspace(0, 7, d["n_rot"] // 2), np.arange(8), LONG_FACTORS[which]).astype(np.float32)


def longrope_magnitude(d):
    """Source: transformers modeling_rope_utils.py, longrope without an explicit attention factor."""
    factor = d["n_ctx"] / d["scaling"]["orig"]
    return math.sqrt(1 + math.log(factor) / math.log(d["scaling"]["orig"]))


def add_scaling(w, d):
    s = d["scaling"]
    if not s:
        return
    if s["kind"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(d))
        return
    w.add_rope_scaling_type(gguf.RopeScalingType(s["kind"]))
    if "factor" in s:
        w.add_rope_scaling_factor(s["factor"])
    if "orig" in s:
        w.add_rope_scaling_orig_ctx_len(s["orig"])
    if s["kind"] == "longrope":
        w.add_rope_scaling_attn_factors(longrope_magnitude(d))
        w.add_tensor("rope_factors_long.weight", longrope_factors(d, "long"))
        w.add_tensor("rope_factors_short.weight", longrope_factors(d, "short"))


def add_vocabulary(w):
    """A SentencePiece vocabulary of bytes and five words: enough for any text."""
    texts = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(BYTE_TOKENS)] + ["\u2581", "a", "e", "\u2581a", "\u2581e"]
    types = [2, 3, 3] + [6] * BYTE_TOKENS + [1] * 5
    w.add_tokenizer_model("llama")
    w.add_token_list(texts)
    w.add_token_scores([0.0] * (3 + BYTE_TOKENS) + [-1.0, -2.0, -3.0, -0.5, -0.7])
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)


def write_gguf(path, d, weights):
    w = gguf.GGUFWriter(path, d["arch"])
    w.add_name("tiny")  # a name with "phi3" would make llama.cpp ask for special tokens that are not there
    w.add_block_count(d["n_layer"])
    w.add_context_length(d["n_ctx"])
    w.add_embedding_length(d["n_embd"])
    w.add_feed_forward_length(d["n_ff"])
    w.add_head_count(d["n_head"])
    w.add_head_count_kv(d["n_head_kv"])
    w.add_layer_norm_rms_eps(d["eps"])
    w.add_rope_freq_base(d["base"])
    w.add_rope_dimension_count(d["n_rot"])
    w.add_vocab_size(N_VOCAB)
    if d["d_head"] * d["n_head"] != d["n_embd"] or d["arch"] in ("qwen3", "gemma3"):
        w.add_key_length(d["d_head"])
        w.add_value_length(d["d_head"])
    if d["window"]:
        w.add_sliding_window(d["window"])
    add_vocabulary(w)
    add_scaling(w, d)
    for name, (raw, qtype, values) in weights.items():
        if qtype in (Q.F32, Q.F16):
            w.add_tensor(name, raw)
        else:
            w.add_tensor(name, raw, raw_dtype=qtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def nmse(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(((a - b) ** 2).sum() / (b**2).sum())


if __name__ == "__main__":  # tiny_models.py NAME OUT.gguf ...: model files for tests in other languages
    for row, out in zip(sys.argv[1::2], sys.argv[2::2]):
        write_gguf(out, describe(row), make_weights(describe(row)))
