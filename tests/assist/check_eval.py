#!/usr/bin/env python3
"""galen eval as a user meets it: figures counted here too, the published schema, bad input, going on after Ctrl-C, narrow terminals.
A tiny model of random weights; what it writes is asked of galen diagnose first, so that ranks are known. GALEN names the binary.
Ends with 'N passed, N failed'."""
import fcntl
import json
import os
import pty
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import xml.dom.minidom

import jsonschema

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GALEN = os.environ.get("GALEN", os.path.join(ROOT, "build/galen"))
DATA = os.environ.get("GALEN_DATA", os.path.join(ROOT, "../shared/data"))
WORK = tempfile.mkdtemp(prefix="galen-eval-")
ENV = {**os.environ, "XDG_DATA_HOME": WORK + "/data", "XDG_CACHE_HOME": WORK + "/cache", "HOME": WORK, "NO_COLOR": "1", "TERM": "xterm"}
for name in ("GALEN_MODEL", "GALEN_DB", "GALEN_PROMPTS"):
    ENV.pop(name, None)
MODEL = os.path.join(WORK, "tiny.gguf")
ASK = ["-m", MODEL, "--chat-format", "plain", "--questions", 2]
TEXT = "55-year-old man with a persistent cough and a fever of 38.5 C for 3 days."
PASSED = FAILED = 0
with open(os.path.join(ROOT, "docs/schema/eval.json"), encoding="utf-8") as f:
    SCHEMA = json.load(f)


def check(ok, what):
    global PASSED, FAILED
    PASSED += bool(ok)
    FAILED += not ok
    if not ok:
        print(f"FAILED {what}", flush=True)


def run(*args, stdin=b""):
    p = subprocess.run([GALEN, *map(str, args)], input=stdin, capture_output=True, env=ENV, timeout=300)
    return p.returncode, p.stdout, p.stderr


def path(name):
    return os.path.join(WORK, name)


def write(name, content):
    with open(path(name), "wb") as f:
        f.write(content if isinstance(content, bytes) else b"".join(json.dumps(c).encode() + b"\n" for c in content))
    return path(name)


def valid(document, ref, what):
    v = jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], "$ref": ref} if ref else SCHEMA)
    errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in v.iter_errors(document)]
    check(not errors, f"{what}: {errors[:3]}")


def evaluate(*args):
    rc, out, err = run("eval", *args, "--json")
    check(rc == 0, f"eval {args}: {rc} {err[-300:]!r}")
    d = json.loads(out)
    valid(d, None, f"eval {args[-2:]}")
    return d, err


def lines_of(name):
    with open(path(name), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    for row in rows:
        valid(row, f"#/$defs/{row['kind']}", f"a line of {name}")
    return rows


def without_times(row):
    row = json.loads(json.dumps(row))
    for part in ("rules", "model", "questions"):
        for key in ("seconds", "first_s", "ranked_s"):
            row[part].pop(key, None)
    return row


# ------------------------------------------------------------ without a model

RULES = [  # text, label, what the rules say
    ("Crushing chest pain spreading to the left arm, sweating.", {"tier": "critical"}, "emergency"),
    ("Runny nose and sneezing since yesterday, no fever.", {"tier": "routine"}, "routine"),
    ("Sudden weakness of the left arm and slurred speech for an hour.", {"tier": "urgent"}, "emergency"),
    ("Itchy toe.", {"tier": "critical"}, "missed"),
    ("Crushing chest pain spreading to the jaw.", {"level": "self_care"}, "emergency"),
    ("I have a cold.", {}, "none"),
]


def test_rules():
    cases = write("rules.jsonl", [{"text": t, "id": str(i), **label} for i, (t, label, _) in enumerate(RULES)])
    d, err = evaluate(cases, "--no-model")
    check(d["counts"]["cases"] == 6 and d["counts"]["with_level"] == 5 and d["counts"]["unlabelled"] == 1, f"counts: {d['counts']}")
    t = d["triage_rules"]
    check(t["sensitivity"]["hits"] == 2 and t["sensitivity"]["n"] == 3, f"two of three escalated: {t['sensitivity']}")
    check(t["false_alarms"]["hits"] == 1 and t["false_alarms"]["n"] == 2, f"one of two false: {t['false_alarms']}")
    check(t["under_triage"]["hits"] == 1 and t["over_triage"]["hits"] >= 1 and t["under_triage"]["n"] == 5, f"under, over: {t}")
    check(d["accuracy"] is None and d["triage_with_model"] is None and d["questions"] is None and d["run"]["model_name"] is None, "no model, no list")
    rc, out, err = run("eval", cases)  # no demo model here either
    check(rc == 0 and b"no model: only red flags and codes" in err and b"No model" in out, f"without any model: {rc} {err!r}")
    rc, out, err = run("eval", cases, "-m", "nothing")
    check(rc == 3 and not out, f"a model that was named must be there: {rc}")
    d2, _ = evaluate(cases, "--no-model", "--skip", 1, "--limit", 2)
    check(d2["counts"]["cases"] == 2 and d2["input"]["is_limited"] and d2["input"]["n_skipped"] == 1, f"--skip, --limit: {d2['input']}")
    folder = os.path.join(DATA, "vignettes")
    if os.path.isdir(folder):
        files = [os.path.join(folder, n) for n in ("vignettes.jsonl", "vignettes_extended.jsonl", "vignettes_adversarial.jsonl")]
        d, _ = evaluate(*files, "--no-model")
        t, labels = d["triage_rules"], {x["label"]: x for x in d["triage_rules"]["labels"]}
        check(d["counts"]["cases"] == 150 and labels["critical"]["n"] == 51, f"150 vignettes: {d['counts']}")
        check(labels["critical"]["reached"]["value"] == 1 and t["sensitivity"]["value"] >= 0.98 and t["false_alarms"]["value"] <= 0.3, f"the bars of check_triage.py: {t['sensitivity']}")


# ------------------------------------------------------------ with a model

def names_of(text):
    rc, out, err = run("diagnose", "-m", MODEL, "--chat-format", "plain", "--samples", 0, "--no-history", "--json", text)
    check(rc == 0, f"diagnose: {rc} {err[-300:]!r}")
    return [c["name"] for c in json.loads(out)["conditions"]], json.loads(out)


def test_ranks():
    texts = [TEXT, TEXT.replace("55", "35"), TEXT.replace("cough", "headache")]
    ranks, cases = [1, 4, 0], []
    known = [names_of(t) for t in texts]
    for text, rank, (names, _) in zip(texts, ranks, known):
        cases.append({"text": text, "diagnosis": names[rank - 1] if rank else "Xylophagous quaternary febricula", "facts": ["Denies vomiting."]})
    file = write("ranks.jsonl", cases + [{"text": "hi", "diagnosis": "Gout"}])
    d, err = evaluate(file, *ASK, "--out", path("ranks.out"), "--svg", path("plot.svg"))
    rows = lines_of("ranks.out")
    check([r["kind"] for r in rows] == ["head"] + ["case"] * 4, "a head, then a line for each case")
    check([r["model"].get("name_rank") for r in rows[1:]] == [1, 4, 0, None], f"ranks as diagnose has them: {[r['model'].get('name_rank') for r in rows[1:]]}")
    check(rows[4]["model"] == {"status": "refused"} and d["counts"]["refused"] == 1, "too little text is refused, and counted")
    for row, (names, whole) in zip(rows[1:4], known):
        check([c["name"] for c in row["model"]["conditions"]] == names, f"the same list: {names}")
        check(all(abs(a["confidence"] - b["confidence"]) < 1e-6 for a, b in zip(row["model"]["conditions"], whole["conditions"])), "the same confidences")
    tops = d["accuracy"]["name"]
    check([tops[k]["hits"] for k in ("top1", "top3", "top5")] == [1, 1, 2] and tops["top1"]["n"] == 3, f"top 1, 3, 5: {tops}")
    check(d["calibration"]["n"] == 3 and sum(b["n"] for b in d["calibration"]["shown"]["bins"]) == 15 and not d["calibration"]["is_calibrated"], "15 confidences in bins")
    q = d["questions"]
    check(q["n"] == 3 and q["answers"]["asked"] == sum(q["answers"][k] for k in ("yes", "no", "unknown")) <= 6, f"the loop: {q}")
    svg = xml.dom.minidom.parse(path("plot.svg")).documentElement
    check(svg.tagName == "svg" and len(svg.getElementsByTagName("circle")) == sum(b["n"] > 0 for b in d["calibration"]["shown"]["bins"]), "a point for each bin that is not empty")
    again, _ = evaluate("--from", path("ranks.out"))
    for part in ("counts", "accuracy", "calibration", "triage_rules", "triage_with_model", "questions", "seconds"):
        check(again[part] == d[part], f"--from says the same: {part}")
    return file, rows


def test_resume(file, rows):
    rc, _, err = run("eval", file, *ASK, "--out", path("part.out"), "--limit", 2)
    check(rc == 0 and len(lines_of("part.out")) == 3, f"--limit 2: {rc} {err[-200:]!r}")
    with open(path("part.out"), "ab") as f:
        f.write(b'{"kind":"case","key":"0123')  # a kill while a line was written
    before = os.path.getsize(path("part.out"))
    rc, out, err = run("eval", file, *ASK, "--out", path("part.out"), "--json")
    whole = lines_of("part.out")
    check(rc == 0 and b"2 of 4 cases are in" in err and os.path.getsize(path("part.out")) > before, f"it goes on: {rc} {err[-300:]!r}")
    check([without_times(r) for r in whole[1:]] == [without_times(r) for r in rows[1:]], "in parts as at once, to the bit")
    rc, out, err = run("eval", file, *ASK, "--out", path("part.out"), "--seed", 5)
    check(rc == 2 and b"its seed differs" in err, f"another seed is another file: {rc} {err!r}")
    rc, out, err = run("eval", file, *ASK, "--out", file)
    with open(file, "rb") as f:
        check(rc == 2 and b"no line of a results file" in err and f.read().count(b"\n") == 4, f"cases are not written over: {rc} {err!r}")
    rc, out, err = run("eval", file, "--no-model", "--out", "/dev/null")
    check(rc == 1 and b"no regular file" in err, f"--out /dev/null: {rc} {err!r}")
    d, _ = evaluate("--from", path("part.out"), "--against", path("part.out"))
    pairs = {p["what"]: p for p in d["comparison"]["pairs"]}
    check(d["comparison"]["other"] == d["run"], "and of the same model")
    check(d["comparison"]["cases"] == 4 and all(p["difference"]["value"] == 0 and p["mcnemar_p"] == 1 for p in pairs.values()), "a run is like itself")
    check(pairs["name, first"]["both"] == 1 and pairs["name, first"]["neither"] == 2, f"pairs: {pairs['name, first']}")
    bad = write("bad.out", b"\n".join(open(path("part.out"), "rb").read().split(b"\n")[:2]) + b'\n{"kind":"case","secret":1}\nx\n')
    rc, out, err = run("eval", "--from", bad)
    check(rc == 2 and b":" in err and b"line 3" in err and b"secret" not in err, f"a broken result is named: {rc} {err!r}")


def test_calibrated(file):
    """With a calibration file the figures are there with and without it."""
    rows = lines_of("part.out")
    sha, prompts = rows[0]["model_sha256"], rows[0]["prompt_version"]
    folder = os.path.join(WORK, "data/galen/calibration")
    os.makedirs(folder, exist_ok=True)
    measure = {"value": 0.1, "low": 0, "high": 1}
    with open(os.path.join(folder, sha + ".json"), "w", encoding="utf-8") as f:
        json.dump({"schema_version": 1, "model_sha256": sha, "prompt_version": prompts, "temperature": 3.0, "name_weight": 0.2, "text_weight": 0.5,
                   "other_bias": 1.0, "held_out": {"n_cases": 40, "ece": measure, "brier": measure, "auroc": measure}}, f)
    d, _ = evaluate(file, *ASK[:-1], 0, "--out", path("fitted.out"))
    plain, _ = evaluate("--from", path("part.out"))
    check(d["calibration"]["is_calibrated"] and d["run"]["calibration"]["temperature"] == 3, "the file is used")
    check(d["calibration"]["uncalibrated"] == plain["calibration"]["shown"], "without it: as before")
    check(d["calibration"]["shown"]["ece"] != plain["calibration"]["shown"]["ece"] and d["questions"] is None, "with it: not as before")
    mean = sum(c["confidence"] for r in lines_of("fitted.out")[1:4] for c in r["model"]["conditions"])
    check(abs(mean - sum(b["n"] * (b["mean_confidence"] or 0) for b in d["calibration"]["shown"]["bins"])) < 1e-6, "the bins hold what was shown")
    rc, out, err = run("eval", file, *ASK, "--out", path("part.out"))
    check(rc == 2 and b"its calibration differs" in err, f"results without it are another run's: {rc} {err!r}")
    os.remove(os.path.join(folder, sha + ".json"))


def test_interrupt(file):
    p = subprocess.Popen([GALEN, "eval", file, *map(str, ASK), "--out", path("cut.out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
    end = time.monotonic() + 60
    while time.monotonic() < end and p.poll() is None:
        if os.path.exists(path("cut.out")) and open(path("cut.out"), "rb").read().count(b"\n") >= 2:
            break
        time.sleep(0.005)
    second = subprocess.run([GALEN, "eval", file, "--no-model", "--out", path("cut.out")], capture_output=True, env=ENV, timeout=60)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    done = len(lines_of("cut.out")) - 1
    if done < 4:  # else it was quicker than the signal
        check(p.returncode == 130 and f"{done} case".encode() in out and b"are not done" in err, f"Ctrl-C: {p.returncode} {err[-300:]!r}")
        check(second.returncode == 1 and b"another run is writing it" in second.stderr, f"two runs, one file: {second.returncode} {second.stderr!r}")
    rc, _, err = run("eval", file, *ASK, "--out", path("cut.out"))
    check(rc == 0 and len(lines_of("cut.out")) == 5, f"and on from there: {rc} {err[-200:]!r}")


# ------------------------------------------------------------ what is no case

CANARY = "Mirabelle Quackenbush 555-0199"
BAD = [("empty", b"", "no case in it"), ("blank", b"\n \n\r\n", "no case in it"), ("not JSON", b"chest pain " + CANARY.encode(), ":1: not one JSON object"),
       ("a list", b"[1]", ":1: no case"), ("cut", b'\n{"text":"' + CANARY.encode(), ":2: not one JSON object"), ("a NUL", b'{"text":"a\0"}', "NUL byte"),
       ("no UTF-8", b'{"text":"\xff\xfe"}', "not one JSON object"), ("no text", json.dumps({"diagnosis": CANARY}).encode(), "no case: neither"),
       ("an unknown tier", json.dumps({"text": CANARY, "tier": CANARY}).encode(), '"tier" is not'), ("a long line", b'{"text":"' + b"x" * (5 << 20) + b'"}', "longer than 4 MiB")]


def test_bad():
    for what, content, words in BAD:
        rc, out, err = run("eval", write("bad.jsonl", content), "--no-model")
        check(rc == 2 and words.encode() in err and not out, f"{what}: {rc} {err[-300:]!r}")
        check(CANARY.encode()[:9] not in err, f"{what}: nothing of the line is quoted")
    good = json.dumps({"text": f"cough, {CANARY}", "id": CANARY, "tier": "routine"}).encode()
    file = write("mixed.jsonl", b"\xef\xbb\xbf" + good + b"\nbroken " + CANARY.encode() + b"\n" + good + b"\n" + good.replace(b"cough", b"fever"))
    rc, out, err = run("eval", file, "--no-model", "--json", "--out", path("mixed.out"))
    d = json.loads(out)
    check(rc == 0 and d["counts"]["cases"] == 1 and d["input"]["n_broken"] == 1 and d["input"]["n_twice"] == 2, f"one good line of four: {d['input']}")
    check([p["line"] for p in d["input"]["problems"]] == [2, 3, 4] and b":2: " in err and b":4: its id" in err, f"each is named: {err!r}")
    with open(path("mixed.out"), encoding="utf-8") as f:
        check("cough" not in f.read(), "no text of a case in --out")
    check(CANARY.encode() not in out + err, "nor in the report or in messages")
    for args, code, words in ((["nothing.jsonl"], 2, b"No such file"), ([WORK], 1, b"directory"), ([], 2, b"no FILE"), ([file, "--from", file], 2, b"takes no cases"),
                              ([file, "--no-model", "-m", "x"], 2, b"both"), ([file, "--no-model", "--svg", "x"], 2, b"--svg"), ([file, "--no-model", "--skip", 9], 2, b"leaves no case"),
                              (["--from", file], 2, b"no line of a results file"), ([file, "--no-model", "--questions", 65], 2, b"between 0 and 64"),
                              ([file, "-m", MODEL, "--svg", "/nowhere/x.svg"], 1, b"cannot be written")):
        rc, out, err = run("eval", *args)
        check(rc == code and words in err and not out, f"eval {args}: {rc} {err[-200:]!r}")
    rc, out, err = run("eval", file, "-m", "nothing", "--svg", path("none.svg"))
    check(rc == 3 and not os.path.exists(path("none.svg")), f"a plot that is not made leaves no file: {rc}")
    feed = "head -c 300000000 /dev/zero | tr '\\0' x; echo; echo '{\"text\":\"cough\"}'"  # not held here either: a child's peak counts its parent's
    p = subprocess.run(["bash", "-c", f"({feed}) | \"$0\" eval - --no-model", GALEN], capture_output=True, env=ENV, timeout=120)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    check(p.returncode == 0 and b"1 case:" in p.stdout and b":1: it is longer" in p.stderr, f"300 MB in a line: {p.returncode} {p.stderr!r}")
    check(peak < 220 << 10 or "asan" in GALEN or "fuzz" in GALEN, f"and it is not held: {peak} KiB")


def on_terminal(columns, *args):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    p = subprocess.Popen([GALEN, "eval", *map(str, args)], stdout=slave, stderr=slave, env=ENV)
    os.close(slave)
    text = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    p.wait(timeout=60)
    os.close(master)
    return p.returncode, text.decode()


def test_narrow():
    long = write("long.jsonl", [{"text": "cough", "level": level} for level in ("emergency_ambulance", "consultation_24")] +
                 [{"input": {"chief_complaint": "cough"}, "labels": {"gold_risk_tier": "urgent", "gold_red_flag_categories": ["c" * 31]}}])
    for columns in (40, 80):
        for args, words in ((["--from", path("part.out"), "--against", path("part.out")], "Questions to a simulated"), ([long, "--no-model"], "ccccc")):
            rc, text = on_terminal(columns, *args)
            widest = max(text.split("\r\n"), key=len)
            check(rc == 0 and len(widest) <= columns and words in text, f"{args[0]}, {columns} columns: {rc} {len(widest)} {widest!r}")


def main():
    rc, _, err = run("synth", MODEL, "--shape", "tiny")
    check(rc == 0, f"synth: {err!r}")
    test_rules()
    file, rows = test_ranks()
    test_resume(file, rows)
    test_calibrated(file)
    test_interrupt(file)
    test_bad()
    test_narrow()
    print(f"{PASSED} passed, {FAILED} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
