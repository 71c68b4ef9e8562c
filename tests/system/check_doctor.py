#!/usr/bin/env python3
"""galen doctor, explain, ps and monitor as a user meets them, on machines made up by a folder (GALEN_DOCTOR_ROOT), a stand-in for
NVIDIA's library (GALEN_NVML, FAKE_NVML) and an empty PATH. Prints 'N passed, N failed'."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

T = Tally()
check = T.named

GALEN, BUILD = os.environ["GALEN"], os.environ["GALEN_BUILD"]
CARD = "count=1 name=RTX3050 driver=580.1 cuda=13000 total=4096 used=100 util=7 temp=50 power=35000 limit=60000 sm=1200 smmax=2100 throttle=1 compute=86"


def run(*args, env=None, timeout=60):
    base = {k: v for k, v in os.environ.items() if not k.startswith(("GALEN_MODEL", "CUDA_VISIBLE", "GALEN_DEVICE"))}
    p = subprocess.run([GALEN, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**base, **(env or {})}, timeout=timeout)
    return p.returncode, p.stdout, p.stderr


def findings(*args, env=None):
    rc, out, err = run("doctor", "--json", *args, env=env)
    doc = json.loads(out)
    return rc, {c["id"]: c for c in doc["checks"]}, doc


def put(root, path, text=""):
    full = root + path
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as f:
        f.write(text)


def machine(folder, card=True, nodes=True, driver="580.1"):
    """A made-up machine with or without a card."""
    put(folder, "/proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n")
    put(folder, "/proc/cpuinfo", "model name\t: Ryzen 7 5800H\n")
    if card:
        put(folder, "/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
        put(folder, "/sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
        if driver:
            put(folder, "/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Tue Mar\n")
        for n in ("nvidia0", "nvidiactl", "nvidia-uvm") if nodes else ():
            put(folder, "/dev/" + n)
    return folder


def tiny(folder):
    path = os.path.join(folder, "tiny.gguf")
    rc, _, err = run("synth", "--shape", "tiny", "--type", "q8_0", path)
    check("synth", rc == 0, err)
    return path


def troubles(tmp, model):
    fake = {"GALEN_NVML": BUILD + "/tests/system/fake_nvml.so"}
    none = {"GALEN_NVML": "/nonexistent/libnvidia-ml.so.1"}
    bare = machine(os.path.join(tmp, "bare"), card=False)
    card = machine(os.path.join(tmp, "card"))
    no_nodes = machine(os.path.join(tmp, "no-nodes"), nodes=False)
    put(no_nodes, "/.dockerenv")
    no_driver = machine(os.path.join(tmp, "no-driver"), nodes=False, driver="")
    empty = os.path.join(tmp, "empty")
    os.makedirs(empty)
    cut = os.path.join(tmp, "cut.gguf")
    with open(model, "rb") as src, open(cut, "wb") as dst:
        whole = src.read()
        dst.write(whole[:len(whole) * 2 // 3])
    text = os.path.join(tmp, "text.gguf")
    put(text, "", "this is no model\n")
    wrong = os.path.join(tmp, "wrong.gguf")
    os.link(model, wrong)
    put(wrong + ".sha256", "", "0" * 64 + "  wrong.gguf\n")
    rows = [  # name, environment, arguments, check, severity, why
        ("plain machine", {**none, "GALEN_DOCTOR_ROOT": bare}, [model], "gpu.present", "skip"),
        ("card, no plugin", {**fake, "FAKE_NVML": CARD, "GALEN_DOCTOR_ROOT": card}, [model], "gpu.present", "ok"),
        ("driver updated", {**fake, "FAKE_NVML": "init=18", "GALEN_DOCTOR_ROOT": card}, [model], "gpu.mismatch", "fail"),
        ("versions differ", {**fake, "FAKE_NVML": CARD.replace("580.1", "570.9"), "GALEN_DOCTOR_ROOT": card}, [model], "gpu.mismatch", "fail"),
        ("container", {**none, "GALEN_DOCTOR_ROOT": no_nodes}, [model], "gpu.nodes", "fail"),
        ("no driver", {**none, "GALEN_DOCTOR_ROOT": no_driver}, [model], "gpu.driver", "fail"),
        ("hidden cards", {**fake, "FAKE_NVML": CARD, "GALEN_DOCTOR_ROOT": card, "CUDA_VISIBLE_DEVICES": ""}, [model], "gpu.visible", "fail"),
        ("memory taken", {**fake, "FAKE_NVML": CARD.replace("used=100", "used=3900") + " procs=1", "GALEN_DOCTOR_ROOT": card}, [model], "gpu.memory", "warn"),
        ("hot", {**fake, "FAKE_NVML": CARD.replace("throttle=1", "throttle=64"), "GALEN_DOCTOR_ROOT": card}, [model], "gpu.clocks", "warn"),
        ("no tools", {**none, "GALEN_DOCTOR_ROOT": bare, "PATH": empty}, [model], "build.compiler", "warn"),
        ("hidden nvcc, no plugin to load", {**fake, "FAKE_NVML": CARD, "GALEN_DOCTOR_ROOT": card, "PATH": empty}, [model], "build.nvcc", ("fail", "skip")),
        ("no such model", none, [tmp + "/none.gguf"], "model.file", "fail"),
        ("cut model", none, [cut], "model.whole", "fail"),
        ("no model at all", none, [text], "model.whole", "fail"),
        ("a folder", none, [tmp], "model.file", "fail"),
        ("damaged", none, [wrong, "--hash"], "model.hash", "fail"),
        ("kept off", {**fake, "FAKE_NVML": CARD, "GALEN_DOCTOR_ROOT": card, "GALEN_DEVICE": "cpu"}, [model], "gpu.used", "fail"),
    ]
    for name, env, args, what, severity in rows:
        rc, by_id, doc = findings(*args, env=env)
        got = by_id[what]["severity"]
        wanted = severity if isinstance(severity, tuple) else (severity,)
        check(f"{name}: {what}", got in wanted, f"{got}: {by_id[what]['what']}")
        check(f"{name}: exit code", rc == (1 if doc["failures"] else 0), rc)
        for c in by_id.values():
            if c["severity"] == "fail":
                check(f"{name}: {c['id']} has a remedy", c["remedy"], c)


def quickest(*args, env=None):
    """findings, and the seconds of the quickest of three tries."""
    took = []
    for _ in range(3):
        t0 = time.monotonic()
        got = findings(*args, env=env)
        took.append(time.monotonic() - t0)
    return (*got, min(took))


def healthy(model):
    rc, by_id, doc, took = quickest(model, env={"GALEN_NVML": "/nonexistent/libnvidia-ml.so.1"})
    check("healthy: under two seconds", took < 2, took)
    bad = [c for c in by_id.values() if c["severity"] == "fail"]
    check("healthy: nothing fails", rc == 0 and not bad, bad)
    rc, by_id, doc, took = quickest(model, "--token")
    check("token test: under five seconds", took < 5, took)
    check("token test: a token", by_id["token.cpu"]["severity"] == "ok", by_id["token.cpu"])
    rc, out, _ = run("doctor", model, "--report")
    check("report is a table", rc == 0 and out.startswith("# galen doctor") and out.count("|") > 60, out[:200])
    check("report names no home", os.path.expanduser("~") + "/" not in out or os.path.expanduser("~") == "/", out)


def explain():
    rc, out, _ = run("explain")
    ids = [line.split()[0] for line in out.splitlines()]
    _, by_id, _ = findings()
    check("explain lists what doctor checks", rc == 0 and sorted(ids) == sorted(by_id), ids)
    for i in ids:
        rc, out, _ = run("explain", i)
        check("explain " + i, rc == 0 and len(out) > 60, out)
    page = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/gpu.md"), encoding="utf-8").read()
    troubles = [line for line in page.split("## The ten troubles")[1].split("\n") if re.match(r"\| \d+\. ", line)]
    named = [set(re.findall(r"`([a-z]+\.[a-z]+)`", line)) for line in troubles]
    check("docs/gpu.md: ten troubles, each with a check that is there", len(troubles) == 10 and all(n and n <= set(ids) for n in named), named)
    rc, _, err = run("explain", "gpu.memroy")
    check("explain: a near miss", rc == 2 and "gpu.memory" in err, err)


def watching(tmp):
    env = {"XDG_RUNTIME_DIR": tmp}
    rc, out, err = run("ps", env=env)
    check("ps: none", rc == 0 and out == "" and "no engine" in err, err)
    rc, out, _ = run("ps", "--json", env=env)
    check("ps: json", rc == 0 and json.loads(out)["engines"] == [], out)
    fake = {**env, "GALEN_NVML": BUILD + "/tests/system/fake_nvml.so", "FAKE_NVML": CARD}
    rc, out, _ = run("monitor", "--once", "--json", env=fake)
    doc = json.loads(out)
    check("monitor: card", rc == 0 and doc["gpus"][0]["name"] == "RTX3050" and doc["gpus"][0]["temp_c"] == 50, out)
    check("monitor: not told is null", doc["gpus"][0]["fan_percent"] is None, out)
    rc, out, _ = run("monitor", "--once", env={**env, "GALEN_NVML": "/nonexistent.so"})
    check("monitor: no card", rc == 0 and "GPU  none" in out, out)
    p = subprocess.Popen([GALEN, "monitor", "--json", "--interval", "0.2"], stdout=subprocess.PIPE, env={**os.environ, **fake}, text=True)
    lines = [p.stdout.readline() for _ in range(3)]
    p.send_signal(signal.SIGINT)
    check("monitor: a line each look", all(json.loads(x)["schema_version"] == 1 for x in lines), lines)
    check("monitor: Ctrl-C", p.wait(60) == 130, p.returncode)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        model = tiny(tmp)
        troubles(tmp, model)
        healthy(model)
        watching(tmp)
    explain()
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
