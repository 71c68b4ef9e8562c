#!/usr/bin/env python3
"""Write tests/golden/transformers.npz: reference logits of every row of tiny_models.MODELS, computed by transformers in float64.

Run by hand when a row is added (needs torch and transformers, which `make test` does not):
    python3 tests/golden/make_transformers.py
The file names the versions that computed it. At most 300 KB."""
import os
import sys

import numpy as np
import torch
import transformers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_models as tm  # noqa: E402

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "transformers.npz")


def rope_parameters(d):
    s = d["scaling"]
    p = {"rope_type": "default", "rope_theta": d["base"]}
    if d["n_rot"] != d["d_head"]:
        p["partial_rotary_factor"] = d["n_rot"] / d["d_head"]
    if not s:
        return p
    p["rope_type"] = s["kind"]
    if "factor" in s:
        p["factor"] = s["factor"]
    if "orig" in s:
        p["original_max_position_embeddings"] = s["orig"]
    if s["kind"] == "llama3":
        p.update(low_freq_factor=s["low"], high_freq_factor=s["high"])
    if s["kind"] == "longrope":
        p.update(short_factor=[float(x) for x in tm.longrope_factors(d, "short")],
                 long_factor=[float(x) for x in tm.longrope_factors(d, "long")], factor=d["n_ctx"] / s["orig"])
    return p


def configure(d):
    common = dict(vocab_size=tm.N_VOCAB, hidden_size=d["n_embd"], intermediate_size=d["n_ff"], num_hidden_layers=d["n_layer"],
                  num_attention_heads=d["n_head"], num_key_value_heads=d["n_head_kv"], max_position_embeddings=d["n_ctx"],
                  rms_norm_eps=d["eps"], tie_word_embeddings=d["is_tied"], rope_parameters=rope_parameters(d),
                  pad_token_id=0, bos_token_id=1, eos_token_id=2, attn_implementation="eager")
    if d["arch"] == "llama":
        return transformers.LlamaConfig(**common, head_dim=d["d_head"], attention_bias=d["has_bias"])
    if d["arch"] == "qwen2":
        return transformers.Qwen2Config(**common)
    if d["arch"] == "qwen3":
        return transformers.Qwen3Config(**common, head_dim=d["d_head"])
    if d["arch"] == "phi3":
        if d["scaling"]:
            common["original_max_position_embeddings"] = d["scaling"]["orig"]
        return transformers.Phi3Config(**common, sliding_window=None)
    common["rope_parameters"] = {"full_attention": rope_parameters(d), "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    kinds = ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(d["n_layer"])]
    return transformers.Gemma3TextConfig(**common, head_dim=d["d_head"], query_pre_attn_scalar=d["d_head"], sliding_window=d["window"],
                                         layer_types=kinds, hidden_activation="gelu_pytorch_tanh")


def unpermute(rows, n_head):
    """GGUF's llama rotates neighbours, transformers rotates halves: rows (head, pair, 2) back to (head, 2, pair)."""
    return rows.reshape(n_head, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_qkv": "self_attn.qkv_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def state_dict(d, weights):
    out = {}
    for name, (_, _, v) in weights.items():
        part = name.split(".")
        if d["arch"] == "llama" and part[-2] in ("attn_q", "attn_k"):
            v = unpermute(v, d["n_head"] if part[-2] == "attn_q" else d["n_head_kv"])
        if d["arch"] == "gemma3" and "norm" in name:
            v = v - 1.0
        if part[0] != "blk":
            key = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}[part[0]] + ".weight"
        else:
            inner = dict(NAMES)
            inner["ffn_norm"] = "pre_feedforward_layernorm" if d["arch"] == "gemma3" else "post_attention_layernorm"
            inner["post_attention_norm"], inner["post_ffw_norm"] = "post_attention_layernorm", "post_feedforward_layernorm"
            if d["arch"] == "phi3" and part[2] == "ffn_up":
                inner["ffn_up"] = "mlp.gate_up_proj"
            key = f"model.layers.{part[1]}.{inner[part[2]]}.{part[3]}"
        out[key] = torch.tensor(v, dtype=torch.float64)
    return out


def logits(name):
    d = tm.describe(name)
    torch.set_default_dtype(torch.float64)
    config = configure(d)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    missing, unexpected = model.load_state_dict(state_dict(d, tm.make_weights(d)), strict=False)
    assert not unexpected, unexpected
    assert set(missing) <= {"lm_head.weight"} and (not missing or d["is_tied"]), missing
    model.tie_weights()
    with torch.no_grad():
        out = model(torch.tensor(tm.tokens(d)[None, :], dtype=torch.long), use_cache=False).logits[0]
    return out.numpy()[tm.positions(d)].astype(np.float32)


def main():
    out = {name: logits(name) for name in tm.MODELS}
    for name, x in out.items():
        print(f"{name:16} {x.shape} std {x.std():.3f}")
    out["versions"] = np.array(f"transformers {transformers.__version__}, torch {torch.__version__}")
    np.savez_compressed(OUT, **out)
    print(OUT, os.path.getsize(OUT))


if __name__ == "__main__":
    main()
