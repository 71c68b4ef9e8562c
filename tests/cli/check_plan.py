"""galen plan and the placement options from outside, with the fake GPU of tests/fake as the plugin. Ends with 'N passed, N failed'."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

T = Tally()
check = T.check

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GALEN = os.path.abspath(os.environ.get("GALEN") or os.path.join(ROOT, "build/galen"))
BUILD = os.path.abspath(os.environ.get("GALEN_BUILD") or os.path.join(ROOT, "build"))
WORK = tempfile.mkdtemp(prefix="galen-plan-")
MODEL = os.path.join(WORK, "tiny.gguf")
MARGIN = 256 << 20


def run(*args, fake=None, **more):
    e = {"PATH": os.environ["PATH"], "HOME": WORK, "LC_ALL": "C.UTF-8"}
    if fake is not None:
        e.update(GALEN_PLUGIN_DIR=os.path.join(BUILD, "tests/fake"), GALEN_FAKE=fake)
    else:
        e.update(GALEN_PLUGIN_DIR=WORK)  # an empty folder: no plugin
    e.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
    e.update(more)
    return subprocess.run([GALEN, *args], stdin=subprocess.DEVNULL, capture_output=True, env=e, text=True, timeout=120)


def plan(*args, fake=None):
    r = run("plan", MODEL, "--json", *args, fake=fake)
    return json.loads(r.stdout) if r.returncode == 0 else None


def check_plans():
    r = run("plan", MODEL)
    check(r.returncode == 0 and "CPU 4 layers" in r.stdout and "GPU           none" in r.stdout, "a plan without a GPU")
    p = plan(fake="memory=2G")
    check(p and p["schema_version"] == 1 and p["n_gpu_layers"] == p["n_layer"] == 4 and p["gpu"]["has_head"], "all of it on the GPU")
    check(p and p["is_exact"] and p["why"] == "all of it fits the GPU", "and why")
    check(p and p["gpu"]["total_bytes"] == sum(p["gpu"][k] for k in ("weight_bytes", "kv_bytes", "buffer_bytes")), "the total is the sum")
    t = plan("--tensors", fake="memory=2G")
    check(t and sum(x["bytes"] for x in t["tensors"] if x["where"] == "gpu") == t["gpu"]["weight_bytes"], "tensors add up to the weights")
    for n in range(5):
        p = plan("--gpu-layers", str(n), fake="memory=2G")
        check(p and p["n_gpu_layers"] == n and p["gpu"]["n_attention"] == n, f"--gpu-layers {n}")
    p = plan("--gpu-layers", "2", "--no-kv-offload", fake="memory=2G")
    check(p and p["gpu"]["n_attention"] == 0 and p["gpu"]["n_feed_forward"] == 2 and p["gpu"]["kv_bytes"] == 0, "--no-kv-offload")
    p = plan("--gpu-layers", "2", "--stream-layers", "1", fake="memory=2G")
    check(p and p["n_streamed"] == 1 and "1 feed-forward streamed" in p["line"], "--stream-layers")
    none = plan("--gpu-layers", "2", "--stream-layers", "0", fake="memory=2G")
    check(none and none["n_streamed"] == 0 and "feed-forward" not in none["line"] and p and p["gpu"] == none["gpu"], "--stream-layers 0, and the same bytes")
    p = plan("--vram-limit", str(MARGIN + (9 << 20)), fake="memory=2G")
    check(p and 0 < p["gpu"]["peak_bytes"] <= 9 << 20 and p["gpu"]["available_bytes"] == MARGIN + (9 << 20), "--vram-limit and its margin")
    half = plan("--ctx", "512", fake="memory=2G")["gpu"]["kv_bytes"]
    check(plan("--ctx", "1024", fake="memory=2G")["gpu"]["kv_bytes"] == 2 * half, "KV grows with the context")
    check(plan("--ctx", "512", "--kv-type", "q8_0", fake="memory=2G")["gpu"]["kv_bytes"] < half, "a smaller KV type")
    check(plan("--ctx", "512", "--parallel", "3", fake="memory=2G")["gpu"]["kv_bytes"] == 3 * half, "--parallel")
    check(plan("--ubatch", "64", fake="memory=2G")["n_batch"] == 64 and plan("--ubatch", "64", "--batch", "32")["n_batch"] == 32, "--ubatch")
    p = plan("--as-card", "rtx3050-laptop")
    check(p and "not here" in p["gpu_name"] and p["n_gpu_layers"] == 4 and not p["is_exact"], "--as-card without a plugin")
    p = plan("--as-card", "192", "--vram-limit", "300M")
    check(p and p["gpu"]["available_bytes"] == 300 << 20, "--as-card by bandwidth")
    check({c["what"] for c in plan("--ctx", "1024", fake="memory=2G")["choices"]} >= {"context 2048", "context 512", "KV type q8_0"}, "choices")


def check_refusals():
    r = run("plan", MODEL, "--gpu-layers", "4", fake="memory=10M")
    check(r.returncode == 5 and "are free" in r.stderr and r.stderr.count(" --") == 3, "a plan that cannot fit: exit 5 and choices")
    for args, what in ((["--gpu-layers", "-3"], "gpu-layers"), (["--gpu-layers", "some"], "gpu-layers"), (["--vram-limit", "4 parsecs"], "vram-limit"),
                       (["--vram-limit", "0"], "vram-limit"), (["--as-card", "voodoo2"], "voodoo2"), (["--as-card", "192"], "--vram-limit"),
                       (["--main-gpu", "-1"], "main-gpu")):
        r = run("plan", MODEL, *args)
        check(r.returncode == 2 and what in r.stderr, f"usage: {args}")
    check(run("plan", os.path.join(WORK, "nothing.gguf")).returncode == 3, "no such model")


def complete(*args, fake=None):
    return run("complete", MODEL, "-p", "hello", "-n", "6", "--temp", "0", *args, fake=fake)


def check_falling_back():
    want = complete("--device", "cpu").stdout
    r = complete(fake="memory=2G")
    check(r.returncode == 0 and r.stdout == want and "GPU 4/4 layers" in r.stderr and "warning" not in r.stderr, "the GPU by itself")
    for args in (["--gpu-layers", "2"], ["--gpu-layers", "all"], ["--stream-layers", "2"]):  # asked for on a machine without a GPU: never in silence
        r = complete(*args, "-q")
        check(r.returncode == 0 and "warning: the GPU is not used" in r.stderr, f"{args} without a GPU: {r.stderr}")
        check(complete(*args, "--strict").returncode == 4, f"{args} --strict without a GPU")
    check("warning" not in complete("--gpu-layers", "0").stderr, "no layers asked for: nothing to warn of")
    r = complete("--gpu-layers", "2", fake="memory=2G")
    check(r.returncode == 0 and r.stdout == want and "GPU 2/4 layers and the head" in r.stderr and "KV on both" in r.stderr, "a split model")
    for fake, part in (("memory=2G,step_fail=9", "failed while it computed"), ("memory=2G,load_fail=1", "failed while the model was loaded"),
                       ("memory=2G,alloc_fail=2", "memory ran out"), ("memory=2G,steal=2047M", "memory ran out"), ("memory=2G,compute=61", "capability 6.1")):
        r = complete(fake=fake)
        check(r.returncode == 0 and r.stdout == want and r.stderr.count("warning:") == 1 and part in r.stderr, f"falls back loudly: {fake}")
        quiet = complete("--quiet", fake=fake)
        check(quiet.stdout == want and part in quiet.stderr, f"also with --quiet: {fake}")
        code = 5 if "alloc" in fake or "steal" in fake else 4
        r = complete("--require-gpu", fake=fake)
        check(r.returncode == code and r.stdout == "", f"--require-gpu: exit {code}: {fake}")
        r = complete("--strict", fake=fake)
        check(r.returncode == code, f"--strict: exit {code}: {fake}")
    for fake in ("driver=11080", "driver=0", "devices=0", "bad_layout=1"):
        r = complete("--require-gpu", fake=fake)
        check(r.returncode == 4 and len(r.stderr) > 60, f"--require-gpu: {fake}")
        check(complete("--device", "cuda", fake=fake).returncode == 4, f"--device cuda: {fake}")
        check(complete(fake=fake).stdout == want, f"auto: {fake}")
    check(complete("--require-gpu").returncode == 4, "--require-gpu without a plugin")
    check(complete("--require-gpu", "--device", "cpu").returncode == 2, "--require-gpu with --device cpu")
    r = complete("--gpu-layers", "all", "--vram-limit", "3M", fake="memory=2G")
    check(r.returncode == 0 and r.stdout == want and "the layers asked for do not fit" in r.stderr, "more layers than fit: planned again")
    check(complete("--gpu-layers", "all", "--vram-limit", "3M", "--strict", fake="memory=2G").returncode == 5, "and with --strict refused")


try:
    subprocess.run([GALEN, "synth", MODEL, "--shape", "tiny", "--type", "q8_0", "--quiet"], check=True)
    check_plans()
    check_refusals()
    check_falling_back()
finally:
    shutil.rmtree(WORK, ignore_errors=True)
sys.exit(T.end())
