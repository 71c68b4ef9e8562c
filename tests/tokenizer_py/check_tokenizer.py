#!/usr/bin/env python3
"""Our ids against llama.cpp's and Hugging Face tokenizers' on tens of thousands of strings in any script.

Every vocabulary of $GALEN_DATA/vocab as it is, and GPT-2's with tokenizer.ggml.pre rewritten to each name we know. Where
llama.cpp is known not to follow the published expression (EXPLAINED), Hugging Face tokenizers with that expression decides.

    check_tokenizer.py [--seed N] [--strings N]     the tool is $GALEN_BUILD/tests/tools/tokenize
Ends with 'N passed, N failed', counted in strings."""
import argparse
import ctypes as C
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/peer"))
import llamacpp  # noqa: E402

TOOL = os.path.join(os.environ.get("GALEN_BUILD") or os.path.join(ROOT, "build/test/gcc"), "tests/tools/tokenize")
DATA = os.path.join(os.environ.get("GALEN_DATA") or os.path.join(ROOT, "../shared/data"), "vocab")
VOCABS = ["llama-spm", "phi-3", "gpt-2", "llama-bpe", "qwen2", "falcon"]
PRE_NAMES = ["default", "llama-bpe", "dbrx", "chatglm-bpe", "qwen2", "stablelm2", "megrez", "qwen35", "ufakzeka", "laguna", "minicpm5",
             "seed-coder", "bailingmoe", "exaone-moe", "jais-2", "gpt-4o", "tekken", "youtu", "deepseek-llm", "deepseek-coder",
             "deepseek-v3", "spark2_5", "falcon", "mpt", "olmo", "jais", "smollm", "starcoder", "refact", "command-r", "codeshell",
             "exaone", "minerva-7b", "bloom", "poro-chat", "viking", "chameleon", "smaug-bpe"]
passed = failed = 0


# ---------------------------------------------------------------- strings

BLOCKS = [(0x20, 0x7E)] * 8 + [
    (0xA0, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF),
    (0xB80, 0xBFF), (0xE00, 0xE7F), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
    (0x13A0, 0x13FF), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x20CF), (0x2100, 0x214F),
    (0x2190, 0x22FF), (0x2460, 0x24FF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x300, 0x36F),
    (0xA000, 0xA4CF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF), (0x10330, 0x1034F), (0x11F00, 0x11F59), (0x1D400, 0x1D7FF),
    (0x1F300, 0x1F9FF), (0x20000, 0x2A6DF), (0x31350, 0x323AF)]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2003", "\x0b", "\x0c", "\x85", "\u2028", "\u180e", " \n", " \n ", "\n "]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Re", "\u2019s", "'", "''"]
EMOJI = ["\U0001F468\u200D\U0001F469\u200D\U0001F467", "\U0001F44D\U0001F3FD", "\u2764\uFE0F", "\U0001F1E9\U0001F1EA", "3\uFE0F\u20E3"]
SPECIAL = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|user|>", "<|end|>", "[INST]", "<0x0A>", ">>TITLE<<"]
CODE = ["for (int i = 0; i < n; i++) {\n\tx[i] += 1;\n}\n", "def f(x):\n    return x ** 2 # \u00e4\n", "SELECT * FROM t WHERE a >= 3;", "https://a.b/c?d=%20&e=f#g",
        "$x = \"\\n\"; // ok", "{\"k\": [1, 2.5e-3, null]}", "<a href='x'>y</a>", "~/.config/app --flag=1 | grep -v '^#'"]


def run_of(rng, a, b, most):
    return "".join(chr(rng.randint(a, b)) for _ in range(rng.randint(1, most)))


def part(rng):
    r = rng.random()
    if r < 0.22:
        return rng.choice(SPACES)
    if r < 0.30:
        return rng.choice(CONTRACTIONS)
    if r < 0.39:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 9)))
    if r < 0.48:
        return "".join(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(rng.randint(1, 5)))
    if r < 0.62:
        return "".join(chr(rng.randint(97, 122) - (32 if rng.random() < 0.3 else 0)) for _ in range(rng.randint(1, 8)))
    if r < 0.90:
        return run_of(rng, *rng.choice(BLOCKS), 5)
    if r < 0.92:
        return rng.choice(EMOJI)
    if r < 0.94:
        return rng.choice(SPECIAL)
    if r < 0.96:
        return rng.choice(CODE)
    return chr(rng.choice([rng.randint(0, 0xD7FF), rng.randint(0xE000, 0x10FFFF)]))


def make_strings(rng, n):
    return ["".join(part(rng) for _ in range(rng.randint(1, 12))) for _ in range(n)]


def every_character(step):
    """Each assigned character between letters, digits and punctuation, several to a string."""
    known = [c for c in range(0x80, 0x32000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Co"]
    return [" ".join(f"a{c}b 1{c}2 .{c}, {c}" for c in map(chr, known[i:i + 3])) for i in range(0, len(known), 3 * step)]


# ---------------------------------------------------------------- the three programs

def ours(path, texts, *options):
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    r = subprocess.run([TOOL, path, *options], input=data, capture_output=True, check=False)
    if r.returncode:
        raise SystemExit(f"{path}: {r.stderr.decode()}")
    out, at = [], 0
    for _ in texts:
        (n,) = struct.unpack_from("<I", r.stdout, at)
        if n == 0xFFFFFFFF:
            out.append(None)
            at += 4
            continue
        out.append(list(struct.unpack_from(f"<{n}i", r.stdout, at + 4)))
        at += 4 + 4 * n
    return out


class Peer:
    def __init__(self):
        self.peer = llamacpp.Peer()
        self.lib = self.peer.lib
        self.buf = (C.c_int32 * 65536)()

    def ids(self, path, texts, add_special=False, parse_special=False):
        params = self.lib.llama_model_default_params()
        params.vocab_only = True
        model = self.lib.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            return None
        vocab = self.lib.llama_model_get_vocab(model)
        out = []
        for t in texts:
            n = self.lib.llama_tokenize(vocab, t, len(t), self.buf, len(self.buf), add_special, parse_special)
            out.append(list(self.buf[:n]))
        self.lib.llama_model_free(model)
        return out


CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
LATIN = ("[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
         "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
         "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4"
         "\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d"
         "\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f"
         "\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
         "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]")
REST = r"%s| ?[^\s\p{L}\p{N}]+[\r\n%s]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The published pre_tokenizer of each: what stands in the model's tokenizer.json, as Split steps.
PUBLISHED = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|" + REST % (r"\p{N}{1,3}", "")],
    "qwen2": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|" + REST % (r"\p{N}", "")],
    "deepseek-llm": ["[\r\n]", r"\s?" + LATIN + "+", r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", CJK, r"\p{N}+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", KANA,
                    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "gpt-4o": [WORDS % (CONTRACTION + "?", CONTRACTION + "?") + REST % (r"\p{N}{1,3}", "/")],
    "tekken": [WORDS % ("", "") + REST % (r"\p{N}", "/")],
    "youtu": ["[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" + KANA,
              WORDS % (CONTRACTION + "?", CONTRACTION + "?") + REST % (r"\p{N}", "/")],
}
IGNORES_MERGES = {"llama-bpe", "tekken", "youtu"}


def hugging_face(reader, pre):
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    t = Tokenizer(models.BPE({w: i for i, w in enumerate(tokens)}, merges, ignore_merges=pre in IGNORES_MERGES))
    steps = [pre_tokenizers.Split(Regex(r), "isolated") for r in PUBLISHED[pre]]
    t.pre_tokenizer = pre_tokenizers.Sequence(steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t


# ---------------------------------------------------------------- what is known to differ, and why

ODD_SPACES = re.compile("[\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
BEYOND_ASCII_LETTER = re.compile("[^\x00-\x7f]")
# llama.cpp matches on a copy of the text in which other things stand. Each predicate says which texts may differ.
EXPLAINED = {
    "deepseek-llm": (ODD_SPACES, "llama.cpp sees every white space beyond ASCII as U+000B, which is outside the CJK range"),
    "deepseek-coder": (ODD_SPACES, "as deepseek-llm"),
    "gpt-4o": (BEYOND_ASCII_LETTER, "llama.cpp writes case as [^a-z] and [^A-Z] and leaves \\p{M} out of words"),
    "tekken": (BEYOND_ASCII_LETTER, "as gpt-4o"),
    "youtu": (BEYOND_ASCII_LETTER, "as gpt-4o"),
    "qwen2, special tokens parsed": (re.compile("</s>"), "</s> is a normal token there, which llama.cpp makes a control token; Hugging Face does not"),
}


def newer_than_15_1(text):
    """Hugging Face's tables are of Unicode 16, ours and llama.cpp's of 15.1. Python 3.11's are of 14."""
    return any(unicodedata.category(c) == "Cn" for c in text)


def compare(what, texts, got, expected, explain=None, why=""):  # explain: which texts may differ
    global passed, failed
    n_explained = 0
    shown = 0
    for t, g, e in zip(texts, got, expected):
        if g == e:
            passed += 1
        elif explain and explain.search(t):
            n_explained += 1
        else:
            failed += 1
            shown += 1
            if shown <= 3:
                print(f"FAILED {what}: {ascii(t)[:200]}\n  ours      {str(g)[:200]}\n  reference {str(e)[:200]}")
    print(f"  {what}: {len(texts)} strings, {len(texts) - n_explained - shown} equal" + (f", {n_explained} explained: {why}" if n_explained else ""))


def rewrite_pre(folder, pre):
    """A copy of GPT-2's file with another tokenizer.ggml.pre. It has no tensors, so nothing needs its old place."""
    with open(os.path.join(DATA, "ggml-vocab-gpt-2.gguf"), "rb") as f:
        b = f.read()
    key = b"tokenizer.ggml.pre"
    at = b.index(struct.pack("<Q", len(key)) + key) + 8 + len(key) + 4
    (n,) = struct.unpack_from("<Q", b, at)
    path = os.path.join(folder, pre + ".gguf")
    with open(path, "wb") as f:
        f.write(b[:at] + struct.pack("<Q", len(pre)) + pre.encode() + b[at + 8 + n:])
    return path


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--seed", type=int, default=20)
    args.add_argument("--strings", type=int, default=900, help="a vocabulary; pre-tokenizers get a third each")
    args = args.parse_args()
    if not os.path.isdir(DATA):
        print(f"SKIP: no vocabularies in {DATA} (set GALEN_DATA)\n0 passed, 0 failed")
        return 0
    rng, peer, begin = random.Random(args.seed), Peer(), time.time()
    for name in VOCABS:
        path = os.path.join(DATA, f"ggml-vocab-{name}.gguf")
        texts = make_strings(rng, args.strings)
        data = [t.encode() for t in texts]
        compare(name, texts, ours(path, data), peer.ids(path, data))
        texts = ["".join(rng.choice([part(rng), rng.choice(SPECIAL)]) for _ in range(rng.randint(1, 8))) for _ in range(args.strings // 3)]
        data = [t.encode() for t in texts]
        what = name + ", special tokens parsed"
        compare(what, texts, ours(path, data, "--trusted"), peer.ids(path, data, parse_special=True), *EXPLAINED.get(what, (None, "")))
    reader = GGUFReader(os.path.join(DATA, "ggml-vocab-gpt-2.gguf"))
    with tempfile.TemporaryDirectory() as folder:
        for pre in PRE_NAMES:
            path = rewrite_pre(folder, pre)
            texts = make_strings(rng, args.strings // 3) + (every_character(20) if pre in ("mpt", "llama-bpe", "qwen2") else [])
            data = [t.encode() for t in texts]
            got = ours(path, data)
            explain, why = EXPLAINED.get(pre, (None, ""))
            compare(pre, texts, got, peer.ids(path, data), explain, why)
        for pre in PUBLISHED:
            path = rewrite_pre(folder, pre)
            texts = [t for t in make_strings(rng, args.strings) + every_character(60) if not newer_than_15_1(t)]
            t = hugging_face(reader, pre)
            compare(pre + ", published", texts, ours(path, [x.encode() for x in texts]), [e.ids for e in t.encode_batch(texts)])
    print(f"{time.time() - begin:.0f} s, seed {args.seed}, peer {peer.peer.package}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
