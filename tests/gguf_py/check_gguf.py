#!/usr/bin/env python3
"""Our GGUF reader and writer against the Python package gguf, both ways.

Files that our writer made are read by gguf.GGUFReader, files that gguf.GGUFWriter made (random metadata of every type, any
alignment, split sets) are read by ours, and the reference files in $GALEN_DATA by both: the same keys, types, values, tensors,
shapes and offsets.

    check_gguf.py [--seed N] [FILE ...]       the tool is $GALEN_BUILD/tests/tools/gguf_dump
Ends with 'N passed, N failed'."""
import argparse
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

T = Tally()
report = T.named

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(os.environ.get("GALEN_BUILD") or os.path.join(ROOT, "build/test/gcc"), "tests/tools/gguf_dump")
DATA = os.environ.get("GALEN_DATA") or os.path.join(ROOT, "../shared/data")
ARRAY, STRING = int(GGUFValueType.ARRAY), int(GGUFValueType.STRING)


def unhex(s):
    return b"" if s == "-" else bytes.fromhex(s)


def ours(path):
    """(version, n_files, bytes), {key: (type, elem, [value bytes])}, [(name, type, ne, part, offset, n_bytes)]"""
    out = subprocess.run([TOOL, path], capture_output=True, check=False)
    if out.returncode:
        raise RuntimeError(out.stderr.decode("utf-8", "replace").strip())
    head, kv, tensors = None, {}, []
    for line in out.stdout.decode("ascii").splitlines():
        f = line.split(" ")
        if f[0] == "file":
            head = tuple(int(x) for x in f[1:])
        elif f[0] == "kv":
            assert int(f[4]) == len(f) - 5 or int(f[3]) != STRING
            kv[unhex(f[1]).decode()] = (int(f[2]), int(f[3]), [unhex(x) for x in f[5:]])
        else:
            ne = [int(x) for x in f[4:4 + int(f[3])]]
            tensors.append((unhex(f[1]).decode(), int(f[2]), ne, int(f[8]), int(f[9]), int(f[10])))
    return head, kv, tensors


def theirs(path):
    """The same of gguf.GGUFReader."""
    r = GGUFReader(path)
    kv = {}
    for name, field in r.fields.items():
        if name.startswith("GGUF."):
            continue
        types = [int(t) for t in field.types]
        elem = types[-1] if field.data or len(types) > 1 else types[0]
        values = [np.asarray(field.parts[i]).tobytes() for i in field.data]
        if types[0] == ARRAY and len(types) == 1:  # an empty array: the reader keeps no element type
            elem = None
        kv[name] = (types[0], elem, values if elem == STRING else [b"".join(values)])
    tensors = [(t.name, int(t.tensor_type), [int(x) for x in t.shape], int(t.data_offset), int(t.n_bytes)) for t in r.tensors]
    version = int(r.fields["GGUF.version"].parts[-1][0])
    return version, kv, tensors


def same_kv(a, b):
    """Empty when equal, else the first difference."""
    if list(a) != list(b):
        return f"keys {list(a)} and {list(b)}"
    for key in a:
        (t1, e1, v1), (t2, e2, v2) = a[key], b[key]
        if e2 is None:
            e2, v2 = e1, [] if e1 == STRING else [b""]
        if (t1, e1, v1) != (t2, e2, v2):
            return f"{key}: {t1, e1, v1[:4]} and {t2, e2, v2[:4]}"
    return ""


def compare(path, what):
    try:
        head, kv, tensors = ours(path)
    except RuntimeError as e:
        report(what, False, e)
        return
    version, kv2, tensors2 = theirs(path)
    why = same_kv(kv, kv2)
    report(what + ": metadata", not why, why)
    mine = [(name, t, ne, offset, n) for name, t, ne, _, offset, n in tensors]
    diff = next(((a, b) for a, b in zip(mine, tensors2) if a != b), (len(mine), len(tensors2)))
    report(what + ": tensors", mine == tensors2, diff)
    report(what + ": version and size", head == (version, 1, os.path.getsize(path)), (head, version))


def random_text(rng):
    alphabet = ["a", "B", " ", "0", "\n", "\x00", "\u00e9", "\u4e2d", "\U0001f912"]
    return "".join(rng.choice(alphabet, rng.integers(0, 20)))


NUMBERS = {GGUFValueType.UINT8: np.uint8, GGUFValueType.INT8: np.int8, GGUFValueType.UINT16: np.uint16,
           GGUFValueType.INT16: np.int16, GGUFValueType.UINT32: np.uint32, GGUFValueType.INT32: np.int32,
           GGUFValueType.UINT64: np.uint64, GGUFValueType.INT64: np.int64}


def random_value(rng, t):
    if t in NUMBERS:
        info = np.iinfo(NUMBERS[t])
        edge = rng.integers(0, 3)
        return int(info.min if edge == 0 else info.max if edge == 1 else rng.integers(info.min, info.max, dtype=NUMBERS[t]))
    if t == GGUFValueType.FLOAT32:
        return float(np.float32(rng.normal()))
    if t == GGUFValueType.FLOAT64:
        return float(rng.normal())
    return bool(rng.integers(0, 2)) if t == GGUFValueType.BOOL else random_text(rng)


def fill(rng, w):
    """Random metadata; returns what ours must read."""
    expected = {}
    formats = {"UINT8": "<u1", "INT8": "<i1", "UINT16": "<u2", "INT16": "<i2", "UINT32": "<u4", "INT32": "<i4", "UINT64": "<u8",
               "INT64": "<i8", "FLOAT32": "<f4", "FLOAT64": "<f8", "BOOL": "<u1"}
    scalars = [t for t in GGUFValueType if t != GGUFValueType.ARRAY]
    for i in range(40):
        t = scalars[i % len(scalars)]
        key = f"key.{i}.{t.name}"
        is_array = i >= 2 * len(scalars) or rng.integers(0, 2)
        values = [random_value(rng, t) for _ in range(rng.integers(1, 9) if is_array else 1)]
        if is_array:
            w.add_key_value(key, values, GGUFValueType.ARRAY, sub_type=t)
        else:
            w.add_key_value(key, values[0], t)
        raw = [v.encode() for v in values] if t == GGUFValueType.STRING else [np.array(values, formats[t.name]).tobytes()]
        expected[key] = (ARRAY if is_array else int(t), int(t), raw)
    return expected


def add_tensors(rng, w, n):
    expected = []
    for i in range(n):
        kind = [(np.float32, None), (np.float16, None), (np.uint8, GGMLQuantizationType.Q8_0), (np.uint8, GGMLQuantizationType.Q4_K)][i % 4]
        shape = [int(x) for x in rng.integers(1, 6, rng.integers(1, 4))]
        width, ne0 = {2: (34 * 3, 96), 3: (144 * 2, 512)}.get(i % 4, (shape[-1], shape[-1]))
        data = rng.integers(0, 100, shape[:-1] + [width]).astype(kind[0])
        w.add_tensor(f"t.{i}", data, raw_dtype=kind[1])
        expected.append((f"t.{i}", {0: 0, 1: 1, 2: 8, 3: 12}[i % 4], [ne0] + shape[:-1][::-1], data.tobytes()))
    return expected


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def check_tensors(what, tensors, expected, paths):
    """Names, types, shapes, and the data where ours says that it lies."""
    ok = len(tensors) == len(expected)
    for (name, t, ne, part, offset, n), (name2, t2, ne2, data) in zip(tensors, expected):
        with open(paths[part], "rb") as f:
            f.seek(offset)
            ok = ok and (name, t, ne) == (name2, t2, ne2) and f.read(n) == data
    report(what, ok, "name, type, shape or data")


def check_written_by_gguf(rng, folder, alignment):
    path = os.path.join(folder, "theirs.gguf")
    w = GGUFWriter(path, "llama")
    if alignment != 32:
        w.add_custom_alignment(alignment)
    expected = fill(rng, w)
    tensors = add_tensors(rng, w, 9)
    finish(w)
    compare(path, f"gguf's, alignment {alignment}")
    head, kv, found = ours(path)
    got = {k: v for k, v in kv.items() if k.startswith("key.")}
    why = same_kv(got, expected)
    report(f"gguf's values, alignment {alignment}", not why, why)
    check_tensors(f"gguf's data, alignment {alignment}", found, tensors, [path])


def check_split_by_gguf(rng, folder):
    path = os.path.join(folder, "set.gguf")
    w = GGUFWriter(path, "llama", split_max_tensors=2)
    tensors = add_tensors(rng, w, 7)
    finish(w)
    paths = sorted(glob.glob(os.path.join(folder, "set-*.gguf")))
    report("a split set has 4 parts", len(paths) == 4, paths)
    head, kv, found = ours(paths[0])
    report("a split set's size", head[1:] == (4, sum(os.path.getsize(p) for p in paths)), head)
    check_tensors("a split set's tensors", found, tensors, paths)
    out = subprocess.run([TOOL, paths[2]], capture_output=True, text=True, check=False)
    report("the third part names the first", out.returncode == 1 and paths[0] in out.stderr, out.stderr)


def check_written_by_us(folder):
    path = os.path.join(folder, "ours.gguf")
    for what in ["all", "model"]:
        for version, alignment in [(3, 32), (2, 32), (3, 8), (3, 64), (2, 4096)]:
            subprocess.run([TOOL, "--write", what, str(version), str(alignment), path], check=True)
            compare(path, f"ours, {what}, version {version}, alignment {alignment}")
            data = GGUFReader(path).tensors
            ok = all(np.array_equal(t.data.reshape(-1).view(np.uint8), (np.arange(t.n_bytes) + 7 * i).astype(np.uint8))
                     for i, t in enumerate(data))
            report(f"ours, {what}, version {version}, alignment {alignment}: data", ok)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    p.add_argument("files", nargs="*")
    opts = p.parse_args()
    rng = np.random.default_rng(opts.seed)
    print(f"seed {opts.seed}")
    with tempfile.TemporaryDirectory() as folder:
        check_written_by_us(folder)
        for alignment in [32, 8, 64, 256]:
            check_written_by_gguf(rng, folder, alignment)
        check_split_by_gguf(rng, folder)
    reference = sorted(glob.glob(os.path.join(DATA, "golden/*.gguf")) + glob.glob(os.path.join(DATA, "vocab/*.gguf")))
    if not reference:
        print("skipped: no reference files in $GALEN_DATA")
    for path in reference + opts.files:
        compare(path, os.path.basename(path))
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
