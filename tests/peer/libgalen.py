"""libgalen.so through ctypes: what a program of another language sees of galen.h."""
import ctypes as C
import os

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("GALEN_BUILD") or os.path.join(ROOT, "build")


class Error(C.Structure):
    _fields_ = [("code", C.c_int), ("offset", C.c_uint64), ("msg", C.c_char * 512)]


class ModelOpts(C.Structure):
    _fields_ = [("size", C.c_size_t), ("device", C.c_char_p), ("isa", C.c_char_p), ("n_threads", C.c_int32), ("is_vocab_only", C.c_bool),
                ("chat_format", C.c_char_p), ("progress", C.c_void_p), ("progress_user", C.c_void_p), ("n_ctx", C.c_int32), ("n_batch", C.c_int32),
                ("n_seqs", C.c_int32), ("kv_type", C.c_char_p), ("gpu_layers", C.c_int32), ("vram_limit", C.c_uint64), ("main_gpu", C.c_int32),
                ("is_kv_on_host", C.c_bool), ("is_gpu_required", C.c_bool), ("is_strict", C.c_bool), ("cache_dir", C.c_char_p),
                ("notice", C.c_void_p), ("notice_user", C.c_void_p), ("stream_layers", C.c_int32)]


class SessionOpts(C.Structure):
    _fields_ = [("size", C.c_size_t), ("n_ctx", C.c_int32), ("n_batch", C.c_int32), ("kv_type", C.c_char_p), ("batcher", C.c_void_p),
                ("client", C.c_char_p), ("salt", C.c_char_p)]


class Tokens(C.Structure):
    _fields_ = [("ids", C.POINTER(C.c_int32)), ("n", C.c_size_t)]


class ModelInfo(C.Structure):
    _fields_ = [(n, C.c_char_p) for n in ("path", "arch", "name", "type_name", "chat_format", "device", "placement", "fell_back")] + \
               [("n_gpu_layers", C.c_int32), ("gpu_percent", C.c_int32), ("gpu_bytes", C.c_uint64), ("gpu_all_bytes", C.c_uint64)] + \
               [(n, C.c_int32) for n in ("n_layer", "n_embd", "n_head", "n_head_kv", "n_ff", "n_vocab", "n_ctx_train")] + \
               [(n, C.c_uint64) for n in ("n_params", "weight_bytes", "file_bytes")] + [("n_files", C.c_int32), ("n_streamed", C.c_int32)]


def load():
    lib = C.CDLL(os.path.join(BUILD, "libgalen.so"))
    handle, err, ints, floats = C.c_void_p, C.POINTER(Error), C.POINTER(C.c_int32), C.POINTER(C.c_float)
    for name, result, arguments in (
            ("galen_version", C.c_char_p, []), ("galen_model_default_opts", ModelOpts, []), ("galen_session_default_opts", SessionOpts, []),
            ("galen_model_open", C.c_int, [C.POINTER(handle), C.c_char_p, C.POINTER(ModelOpts), err]), ("galen_model_close", None, [handle]),
            ("galen_model_get_info", ModelInfo, [handle]),
            ("galen_session_open", C.c_int, [C.POINTER(handle), handle, C.POINTER(SessionOpts), err]), ("galen_session_close", None, [handle]),
            ("galen_session_eval", C.c_int, [handle, ints, C.c_int32, floats, err]),
            ("galen_session_eval_all", C.c_int, [handle, ints, C.c_int32, floats, err]),
            ("galen_session_rewind", C.c_int, [handle, C.c_int32, err]),
            ("galen_tokenize", C.c_int, [handle, C.c_char_p, C.c_size_t, C.c_bool, C.c_bool, C.POINTER(Tokens), err]),
            ("galen_tokens_free", None, [C.POINTER(Tokens)]), ("galen_token_bytes", C.c_int32, [handle, C.c_int32, C.c_bool, C.c_char_p, C.c_size_t]),
            ("galen_token_is_end", C.c_bool, [handle, C.c_int32])):
        f = getattr(lib, name)
        f.restype, f.argtypes = result, arguments
    return lib


class Model:
    def __init__(self, path, n_ctx=512, n_threads=2, kv_type="f16", isa=None):
        self.lib, self.err = load(), Error()
        self.model, self.session = C.c_void_p(), C.c_void_p()
        mo, so = self.lib.galen_model_default_opts(), self.lib.galen_session_default_opts()
        if (mo.size, so.size) != (C.sizeof(ModelOpts), C.sizeof(SessionOpts)):
            raise RuntimeError(f"galen.h has grown: options of {mo.size} and {so.size} bytes, here {C.sizeof(ModelOpts)} and {C.sizeof(SessionOpts)}")
        mo.device = b"cpu"
        mo.n_threads, mo.isa, so.n_ctx, so.kv_type = n_threads, isa and isa.encode(), n_ctx, kv_type.encode()
        self.do(self.lib.galen_model_open(C.byref(self.model), os.fsencode(path), C.byref(mo), C.byref(self.err)))
        self.info = self.lib.galen_model_get_info(self.model)
        self.n_vocab = self.info.n_vocab
        self.do(self.lib.galen_session_open(C.byref(self.session), self.model, C.byref(so), C.byref(self.err)))

    def do(self, status):
        if status:
            raise RuntimeError(f"galen: {status}: {self.err.msg.decode('utf-8', 'replace')}")

    def close(self):
        self.lib.galen_session_close(self.session)
        self.lib.galen_model_close(self.model)
        self.session, self.model = C.c_void_p(), C.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def clear(self):
        self.do(self.lib.galen_session_rewind(self.session, 0, C.byref(self.err)))

    def eval(self, ids, want_all=False):
        ids = np.ascontiguousarray(ids, np.int32)
        out = np.empty((len(ids), self.n_vocab) if want_all else self.n_vocab, np.float32)
        f = self.lib.galen_session_eval_all if want_all else self.lib.galen_session_eval
        self.do(f(self.session, ids.ctypes.data_as(C.POINTER(C.c_int32)), len(ids), out.ctypes.data_as(C.POINTER(C.c_float)), C.byref(self.err)))
        return out

    def tokenize(self, text, add_special=True, parse_special=False):
        raw, t = text.encode() if isinstance(text, str) else text, Tokens()
        self.do(self.lib.galen_tokenize(self.model, raw, len(raw), add_special, parse_special, C.byref(t), C.byref(self.err)))
        ids = t.ids[:t.n]
        self.lib.galen_tokens_free(C.byref(t))
        return ids

    def is_end(self, i):
        return self.lib.galen_token_is_end(self.model, int(i))

    def text(self, ids):
        buf, out = C.create_string_buffer(4096), b""
        for i in ids:
            n = self.lib.galen_token_bytes(self.model, int(i), False, buf, 4096)
            out += buf.raw[:n]
        return out
