"""Running the binary under test, and counting checks, for the Python checks."""
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GALEN = os.environ.get("GALEN") or os.path.join(ROOT, "build/galen")
DATA = os.environ.get("GALEN_DATA") or os.path.join(ROOT, "../shared/data")
CACHE = os.environ.get("GALEN_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "galen")


class Checks(Tally):
    def finish(self):
        sys.exit(self.end())


def run(*args, stdin=b"", check=True, timeout=600):
    p = subprocess.run([GALEN, *[str(a) for a in args]], input=stdin, capture_output=True, timeout=timeout)
    if check and p.returncode:
        raise RuntimeError(f"galen {' '.join(map(str, args))}: ended with {p.returncode}: {p.stderr.decode('utf-8', 'replace')[-600:]}")
    return p


def logits(model, ids, *options):
    """float32 [len(ids)][n_vocab]"""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.npy")
        run("logits", model, "--tokens", "-", "-o", out, "--quiet", *options, stdin=",".join(str(int(i)) for i in ids).encode())
        return np.load(out)


def isas():
    """The instruction sets that this processor has and Galen has code for."""
    found = ["generic"]
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            flags = set(next((line for line in f if line.startswith(("flags", "Features"))), "").split())
    except OSError:
        return found
    if {"avx2", "fma", "f16c"} <= flags:
        found.append("avx2")
    if {"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"} <= flags:
        found.append("avx512")
    if {"asimd", "asimddp"} <= flags:
        found.append("neon")
    return found


def devices():
    """(label, options) of every way this machine can compute."""
    return [("ref", ["--device", "ref"])] + [(isa, ["--isa", isa]) for isa in isas()]
