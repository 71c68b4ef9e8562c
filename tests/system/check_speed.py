#!/usr/bin/env python3
"""galen bench, tune, ps and doctor with a model, on the CPU and on the fake GPU (tests/fake). Figures of speed are not judged
here, only what is done with them. Prints 'N passed, N failed'."""
import csv
import io
import json
import os
import signal
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import xml.dom.minidom

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from process import cpu_s, until  # noqa: E402
from tally import Tally  # noqa: E402

T = Tally()
check = T.named

GALEN, BUILD = os.environ["GALEN"], os.environ["GALEN_BUILD"]
FAKE_DIR = BUILD + "/tests/fake"


class Box:
    """A home of its own, so that nothing of the person's is touched."""

    def __init__(self, folder, fake=None):
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("GALEN_MODEL", "GALEN_DB", "CUDA_VISIBLE"))}
        self.env.update(HOME=folder, XDG_DATA_HOME=folder + "/data", XDG_CACHE_HOME=folder + "/cache", XDG_RUNTIME_DIR=folder,
                        GALEN_NVML="/nonexistent/libnvidia-ml.so.1", GALEN_PLUGIN_DIR=FAKE_DIR if fake else "/nonexistent")
        if fake:
            self.env["GALEN_FAKE"] = fake

    def run(self, *args, timeout=240):
        p = subprocess.run([GALEN, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.env, timeout=timeout)
        return p.returncode, p.stdout, p.stderr

    def json(self, *args):
        rc, out, err = self.run(*args, "--json")
        try:
            return rc, json.loads(out), err
        except ValueError:
            check("JSON of " + " ".join(args), False, out + err)
            return rc, {}, err


SHORT = ["--n-prompt", "32", "--n-gen", "4", "--depth", "16", "--parallel", "2", "--repeats", "3"]


def bench(tmp, model):
    box = Box(tmp)
    rc, doc, err = box.json("bench", model, *SHORT)
    rows = {r["name"]: r for r in doc["runs"][0]["rows"]}
    check("bench: its rows", rc == 0 and set(rows) == {"prefill 32", "decode 4", "decode 4 at 16", "2 in parallel", "load", "first token"}, rows)
    for r in rows.values():
        check("bench: " + r["name"], r["n"] == 3 and 0 < r["low"] <= r["median"] <= r["high"], r)
    check("bench: hash", len(doc["sha256"] or "") == 64, doc["sha256"])
    check("bench: no earlier run", doc["before"] is None)
    rc, doc, err = box.json("bench", model, *SHORT, "--compare")
    check("bench: compared", doc["before"] and rc == (1 if doc["slower"] else 0), doc.get("slower"))
    # A run before that was impossibly fast: everything is slower now, beyond any noise.
    db = box.env["XDG_DATA_HOME"] + "/galen/galen.db"
    sql = "import sqlite3,sys,json\nc=sqlite3.connect(sys.argv[1])\ni,t=c.execute('select id,result from bench order by id desc limit 1').fetchone()\n" \
          "d=json.loads(t)\nfor r in d['rows']:\n  k=1e-6 if r['unit']=='s' else 1e6\n  r.update(median=r['median']*k,low=r['low']*k,high=r['high']*k)\n" \
          "c.execute('update bench set result=? where id=?',(json.dumps(d),i)); c.commit()"
    subprocess.run([sys.executable, "-c", sql, db], check=True)
    rc, out, err = box.run("bench", model, *SHORT, "--compare", "--no-history")
    check("bench: a slow-down is named", rc == 1 and out.count("SLOWER") == 6 and "slower" in err, out + err)
    rc, out, err = box.run("bench", model, *SHORT, "--format", "csv", "--no-history")
    table = list(csv.DictReader(io.StringIO(out)))
    check("bench: csv", rc == 0 and len(table) == 6 and float(table[0]["median"]) > 0, out)
    svg = tmp + "/b.svg"
    rc, out, err = box.run("bench", model, *SHORT, "--no-history", "--svg", svg)
    check("bench: svg is XML", xml.dom.minidom.parse(svg).documentElement.tagName == "svg" and out.startswith("|"), out)
    rc, _, err = box.run("bench", model, *SHORT, "--svg", tmp + "/no/such/folder.svg")
    check("bench: svg cannot be written", rc == 1 and "cannot be written" in err, err)
    rc, _, err = box.run("bench", tmp + "/none.gguf")
    check("bench: no model", rc == 3, err)
    rc, _, err = box.run("bench", model, "--repeats", "26")
    check("bench: repeats out of range", rc == 2, err)


def bench_gpu(tmp, model):
    rc, doc, err = Box(tmp, "memory=4G").json("bench", model, *SHORT, "--no-history", "--gpu-layers", "all")
    check("bench on a GPU measures the CPU too", rc == 0 and len(doc["runs"]) == 2 and "CPU" in doc["runs"][1]["device"], err)
    check("bench: the speedup's line", "times the CPU alone" in err, err)
    rc, doc, _ = Box(tmp, "memory=4G").json("bench", model, *SHORT, "--no-history", "--gpu-layers", "all", "--no-cpu")
    check("bench: --no-cpu", rc == 0 and len(doc["runs"]) == 1)


def has_run_off(doc):
    """The best were measured again, the untuned with them; unless nothing came within a tenth of the untuned, which is best then."""
    first, looks = doc["tries"][0], max(t["looks"] for t in doc["tries"])
    alone = all(t["seconds"] is None or t["seconds"] > 1.1 * first["seconds"] for t in doc["tries"][1:])
    return first["looks"] == looks and (1 < looks <= 4 or (looks == 1 and alone))


def tune(tmp, model):
    box = Box(tmp + "/tune-cpu")
    os.makedirs(tmp + "/tune-cpu")
    rc, doc, err = box.json("tune", model, "--quick")
    looks = max(t["looks"] for t in doc["tries"])
    best = min((t for t in doc["tries"] if t["seconds"] and t["looks"] == looks), key=lambda t: t["seconds"])
    check("tune: the best were measured again, in turns", has_run_off(doc), doc["tries"])
    check("tune: chosen is a try", rc == 0 and any(t["seconds"] == doc["chosen"]["seconds"] for t in doc["tries"]), doc)
    check("tune: chosen is the best, or the first for noise", doc["chosen"]["seconds"] in (best["seconds"], doc["tries"][0]["seconds"]), doc)
    rc, _, err = box.run("complete", model, "-p", "x", "-n", "1")
    check("tune: used by itself, and said", rc == 0 and "tuned: " in err, err)
    for verb in (["stats"], ["audit"], ["history", "list"]):  # reading a database that is not there makes none
        rc, _, err = box.run(*verb, "--db", tmp + "/slip/of.db")
        check(f"{verb}: --db names nothing", rc == 2 and "No such file" in err and not os.path.exists(tmp + "/slip"), err)
    rc, doc, _ = box.json("stats")
    check("a generation is in the performance log", rc == 0 and doc["groups"][0]["n_runs"] >= 1, doc)
    rc, _, err = box.run("complete", model, "-p", "x", "-n", "1", "--no-tune")
    check("tune: --no-tune", rc == 0 and "tuned: " not in err, err)
    os.unlink(model)
    box.run("synth", "--shape", "tiny", "--type", "q8_0", "--seed", "1", model)  # another file: another hash
    rc, _, err = box.run("complete", model, "-p", "x", "-n", "1")
    check("tune: not for a model that changed", rc == 0 and "tuned: " not in err, err)


def tune_gpu(tmp, model):
    folder = tmp + "/tune-gpu"
    os.makedirs(folder)
    box = Box(folder, "memory=4G")
    svg = folder + "/t.svg"
    rc, doc, err = box.json("tune", model, "--quick", "--svg", svg)
    layers = {t["gpu_layers"] for t in doc["tries"]}
    check("tune: a run-off beside the untuned", has_run_off(doc), doc["tries"])
    check("tune: none, all and the plan's own", rc == 0 and {-1, 0, 2} <= layers, layers)
    check("tune: svg", xml.dom.minidom.parse(svg).documentElement.tagName == "svg")
    rc, _, err = box.run("complete", model, "-p", "x", "-n", "1")
    check("tune on a GPU: used", "tuned: " in err, err)
    other = Box(folder, "memory=3G")
    rc, _, err = other.run("complete", model, "-p", "x", "-n", "1")
    check("tune: not on another card, which is said", rc == 0 and "tuned: " not in err and "was tuned for another card" in err, err)
    rc, _, err = box.run("complete", model, "-p", "x", "-n", "1", "--vram-limit", "1G")
    check("tune: not under another limit", rc == 0 and "tuned: " not in err, err)
    small = Box(folder, "memory=600K")
    rc, doc, err = small.json("tune", model, "--quick", "--no-history", "--vram-limit", "600K")
    check("tune: what does not fit is not tried", rc == 0 and all(t["gpu_layers"] <= 0 for t in doc["tries"]), doc.get("tries"))


def choose(box, key, layers):
    """As if tune had chosen so many layers."""
    sql = "import sqlite3,sys,json\nc=sqlite3.connect(sys.argv[1])\nt,=c.execute('select choice from tune').fetchone()\nd=json.loads(t)\n" \
          "d.update(gpu_layers=int(sys.argv[2]),is_default_fit=False)\nc.execute('update tune set choice=?',(json.dumps(d),)); c.commit()"
    subprocess.run([sys.executable, "-c", sql, key, str(layers)], check=True)


def tune_room(tmp, model):
    """Layers tuned for a short context do not fit beside a long one's memory: placed anew, nobody is told of layers "asked for". Also: --db, plan, serve."""
    folder = tmp + "/tune-room"
    os.makedirs(folder)
    box = Box(folder, "memory=12M")
    db = folder + "/own.db"
    rc, doc, err = box.json("tune", model, "--quick", "--db", db)
    most = max(t["gpu_layers"] for t in doc["tries"])
    fits = box.json("plan", model, "--gpu-layers", str(most), "--no-tune")[0] == 0
    more = box.run("plan", model, "--gpu-layers", str(most + 1), "--no-tune")[0] == 0
    check(f"tune: for the context that is used by default, {most} layers", 0 < most < 4 and fits and not more, doc["tries"])
    check("tune: --db", rc == 0 and os.path.exists(db) and not os.path.exists(folder + "/data/galen/galen.db"), err)
    choose(box, db, 4)
    rc, _, err = box.run("complete", model, "-p", "x", "-n", "1", "--ctx", "128", "--db", db)
    check("tune: room beside a short context", rc == 0 and "tuned: 4 layers" in err and "warning" not in err, err)
    for more in ([], ["--ctx", "2048"]):
        rc, _, err = box.run("complete", model, "-p", "x", "-n", "1", "--db", db, *more)
        check(f"tune: no room beside a long one {more}", rc == 0 and "4 layers that were tuned do not fit" in err and "asked for do not fit" not in err, err)
    rc, _, err = box.run("complete", model, "-p", "x", "-n", "1", "--ctx", "128")
    check("tune: in that database alone", rc == 0 and "tuned" not in err, err)
    box.env["GALEN_DB"] = db
    rc, doc, err = box.json("plan", model, "--ctx", "128")
    check("plan shows what would be used", rc == 0 and doc["n_gpu_layers"] == 4 and "tuned: 4 layers" in err, err)
    rc, doc, err = box.json("plan", model, "--ctx", "128", "--no-tune")
    check("plan --no-tune", rc == 0 and "tuned" not in err, err)
    p = subprocess.Popen([GALEN, "serve", model, "--port", "0", "--ctx", "64", "--chat-format", "chatml"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, env=box.env, text=True)
    said = ""
    while "serving at" not in said and p.poll() is None:
        said += p.stderr.readline()
    p.terminate()
    check("serve uses what was tuned", "tuned: 4 layers" in said and "GPU 4/4 layers" in said, said)
    check("serve ends", p.wait(60) == 0)
    p.stderr.close()


def listing(tmp, model):
    folder = tmp + "/ps"
    os.makedirs(folder)
    for fake, args, where in ((None, [], "100 % CPU"), ("memory=4G", ["--gpu-layers", "all"], "100 % GPU"),
                              ("memory=4G", ["--gpu-layers", "1"], "% CPU / GPU")):
        box = Box(folder, fake)
        p = subprocess.Popen([GALEN, "chat", model, "--chat-format", "chatml", *args], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env=box.env)
        until(lambda: box.json("ps")[1]["engines"])
        _, doc, _ = box.json("ps")
        e = doc["engines"][0] if doc["engines"] else {}
        check(f"ps: {where}", where in e.get("processor", "") and e.get("pid") == p.pid and e.get("verb") == "chat", doc)
        _, out, _ = box.run("ps")
        check(f"ps: text, {where}", where in out, out)
        p.stdin.close()
        p.wait(60)
        _, doc, _ = box.json("ps")
        check("ps: taken down", doc["engines"] == [], doc)


def serving(tmp, model):
    """galen serve lists itself, and tells the page of the card."""
    folder = tmp + "/serve"
    os.makedirs(folder)
    box = Box(folder)
    box.env.update(GALEN_NVML=BUILD + "/tests/system/fake_nvml.so", FAKE_NVML="count=1 name=RTX total=4096 used=1024 util=7")
    with open(folder + "/log", "wb") as log:
        p = subprocess.Popen([GALEN, "serve", model, "--port", "0", "--chat-format", "chatml"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=log, env=box.env)

    def base():
        with open(folder + "/log", encoding="utf-8") as log:
            return re.search(r"serving at (http://127\.0\.0\.1:\d+) ", log.read())
    check("serve begins", until(base), open(folder + "/log", encoding="utf-8").read())
    status, doc = {}, {}
    for _ in range(200):
        try:
            with urllib.request.urlopen(base().group(1) + "/v1/status", timeout=5) as r:
                status = json.load(r)
            if status.get("gpu"):
                break
        except OSError:
            pass
        time.sleep(0.1)
    until(lambda: box.json("ps")[1].get("engines"))  # every two seconds, once the model is there
    _, doc, _ = box.json("ps")
    e = doc["engines"][0] if doc.get("engines") else {}
    check("serve is listed", e.get("verb") == "serve" and e.get("pid") == p.pid and e.get("ctx_size", 0) > 0, doc)
    check("serve tells of the card", (status.get("gpu") or {}).get("memory_used") == 1024 << 20, status)
    p.terminate()
    check("serve ends", p.wait(60) == 0, p.returncode)
    _, doc, _ = box.json("ps")
    check("serve is taken down", doc["engines"] == [], doc)


def interrupted(tmp):
    """Ctrl-C does not wait for a pass: the scalar definition takes a minute for this prompt, and half a second to be told on a quiet machine."""
    slow = tmp + "/slow.gguf"
    box = Box(tmp)
    box.run("synth", "--shape", "tiny", "--type", "q8_0", slow)
    for args, said, shown in ((["bench", slow, "--device", "ref", "--n-prompt", "2047", "--batch", "2048", "--n-gen", "0"], "nothing was measured", ""),
                              (["bench", slow, "--device", "ref", "--n-prompt", "2", "--n-gen", "1", "--depth", "2040", "--batch", "2048", "--repeats", "1"], "not kept", "prefill 2"),
                              (["tune", slow, "--device", "ref"], "nothing is kept", "")):
        p = subprocess.Popen([GALEN, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=box.env)
        until(lambda: cpu_s(p) > 3, 120)
        start = time.monotonic()
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        took = time.monotonic() - start
        check(f"{args[0]}: Ctrl-C ends it in {took:.2f} s", p.returncode == 130 and took < 15 and said in err and shown in out, f"{p.returncode} {out}{err}")
    check("ended like that, nothing runs", box.json("ps")[1]["engines"] == [])


def wrong_plans(model, box):
    for args in (["--n-gen", "0", "--parallel", "2"], ["--n-gen", "0", "--depth", "8"], ["--quick", "--n-gen", "0", "--n-prompt", "0"]):
        rc, out, err = box.run("bench", model, *args)
        check(f"bench {args} is refused", rc == 2 and not out and "--n-gen 0" in err, out + err)
    rc, doc, err = box.json("bench", model, "--quick", "--n-prompt", "0", "--parallel", "1", "--no-history")
    check("bench --n-prompt 0", rc == 0 and [r["name"] for r in doc["runs"][0]["rows"]] == ["decode 16", "1 in parallel"], doc)
    for option in ("--strict", "--require-gpu"):
        rc, _, err = box.run("tune", model, "--quick", "--gpu-layers", "3", option, "--no-history")
        check("tune %s without a GPU: exit 4" % option, rc == 4 and "GPU is not used" in err, (rc, err))
    rc, _, err = box.run("tune", model, "--ctx", "306")
    check("tune: a context too short for it", rc == 2 and "307" in err, err)


def doctor_gpu(tmp, model):
    rows = [  # fake, arguments, check, severity
        ("memory=4G", [], "gpu.used", "ok"),
        ("memory=4G", ["--token"], "token.agree", "ok"),
        ("memory=4G", ["--gpu-layers", "1"], "model.fits", "warn"),
        ("memory=4G,driver=0", [], "gpu.used", "fail"),
        ("memory=4G,compute=61", [], "gpu.used", "fail"),
        ("memory=4G,bad_layout=1", [], "plugin.version", "fail"),
        ("memory=4G,load_fail=1", ["--token"], "token.gpu", "fail"),
    ]
    card = tmp + "/card"
    for path, text in (("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n"), ("/sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n"),
                       ("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.1  Tue\n"),
                       ("/dev/nvidia0", ""), ("/dev/nvidiactl", ""), ("/dev/nvidia-uvm", "")):
        os.makedirs(os.path.dirname(card + path), exist_ok=True)
        with open(card + path, "w", encoding="utf-8") as f:
            f.write(text)
    for fake, args, what, severity in rows:
        box = Box(tmp, fake)
        box.env["GALEN_DOCTOR_ROOT"] = card
        _, doc, err = box.json("doctor", model, *args)
        by_id = {c["id"]: c for c in doc.get("checks", [])}
        got = by_id.get(what, {})
        check(f"doctor: {fake} {args}: {what}", got.get("severity") == severity, got or err)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        model = tmp + "/tiny.gguf"
        rc = subprocess.run([GALEN, "synth", "--shape", "tiny", "--type", "q8_0", model], stderr=subprocess.DEVNULL, check=False).returncode
        check("synth", rc == 0)
        bench(tmp, model)
        bench_gpu(tmp, model)
        wrong_plans(model, Box(tmp))
        interrupted(tmp)
        doctor_gpu(tmp, model)
        listing(tmp, model)
        serving(tmp, model)
        tune_gpu(tmp, model)
        tune_room(tmp, model)
        tune(tmp, model)
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
