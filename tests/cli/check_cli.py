"""The program from outside: what a person, a pipe or a script sees of it. Needs no Python package.

GALEN names the binary. Models are made by `galen synth`; nothing is downloaded. Ends with 'N passed, N failed'."""
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from process import catches, has_read, until  # noqa: E402
from tally import Tally  # noqa: E402

T = Tally()
check = T.check

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GALEN = os.path.abspath(os.environ.get("GALEN") or os.path.join(ROOT, "build/galen"))
WORK = tempfile.mkdtemp(prefix="galen-cli-")
MODEL = os.path.join(WORK, "tiny.gguf")
HOME = os.path.join(WORK, "home")
DATA = os.path.join(WORK, "data")
SYMPTOMS = "persistent cough, fever and chest pain for 3 days"
DIAGNOSE = ["diagnose", "-m", MODEL, "--chat-format", "plain"]


def env(**more):
    e = {"PATH": os.environ["PATH"], "HOME": HOME, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
        if name in os.environ:
            e[name] = os.environ[name]
    e.update(more)
    return {k: v for k, v in e.items() if v is not None}


def run(*args, stdin=b"", e=None, timeout=300):
    return subprocess.run([GALEN, *map(str, args)], input=stdin, capture_output=True, env=e or env(), timeout=timeout)


def text(b):
    return b.decode("utf-8", "replace")


def expect(rc, says, *args, stdin=b"", e=None):
    """The exit code, and what standard error says (a list of parts); standard output stays empty when it fails."""
    p = run(*args, stdin=stdin, e=e)
    line = "galen " + " ".join(str(a)[:60] for a in args)
    check(p.returncode == rc, f"{line}: ended with {p.returncode}, not {rc}: {text(p.stderr)[-300:]}")
    for part in [says] if isinstance(says, str) else says:
        check(part in text(p.stderr), f"{line}: does not say {part!r}: {text(p.stderr)[-300:]}")
    if rc:
        check(p.stdout == b"", f"{line}: failed and wrote {p.stdout[:80]!r}")
    return p


def answer(*args, **kw):
    p = run(*args, **kw)
    check(p.returncode == 0, f"galen {args[:1]}: ended with {p.returncode}: {text(p.stderr)[-300:]}")
    return p.stdout


# ---------------------------------------------------------------- wrong usage, and models that are not there
def test_usage():
    expect(2, ["no verb 'diagnoze'", "'diagnose'"], "diagnoze")
    expect(2, ["--tmep", "--temp"], "complete", "--tmep", "1")
    expect(2, ["--temp", "'hot'"], "complete", "--temp", "hot")
    expect(2, "two models", "show", MODEL, "-m", MODEL)
    expect(2, "name is empty", "show", "")
    expect(2, "--tokens is missing", "logits", MODEL, "-o", "x.npy")
    expect(2, "--out is missing", "logits", MODEL, "--tokens", "1")
    expect(2, "'x' at byte 2", "logits", MODEL, "--tokens", "1,x", "-o", "x.npy")
    expect(2, "'2147483648' at byte 0", "logits", MODEL, "--tokens", "2147483648", "-o", "x.npy")
    expect(2, "token 99999 (number 2)", "logits", MODEL, "--tokens", "1,99999", "-o", os.path.join(WORK, "x.npy"))
    expect(2, "--shape is missing", "synth", os.path.join(WORK, "x.gguf"))
    expect(2, "'huge'", "synth", "--shape", "huge", os.path.join(WORK, "x.gguf"))
    expect(2, "q9_9", "synth", "--shape", "tiny", "--type", "q9_9", os.path.join(WORK, "x.gguf"))
    expect(2, "file to write is missing", "synth", "--shape", "tiny")
    expect(2, "--stop", "complete", MODEL, "-p", "a", "--stop", "")
    expect(2, "'5=x'", "complete", MODEL, "-p", "a", "--logit-bias", "5=x")
    expect(2, "token 99999", "complete", MODEL, "-p", "a", "--logit-bias", "99999=1")
    expect(2, "--logprobs needs --json", "complete", MODEL, "-p", "a", "--logprobs", "1")
    expect(2, "'klingon' is not one of", *DIAGNOSE[:3], "--chat-format", "klingon", SYMPTOMS)
    expect(2, "as an argument and by --file", "diagnose", MODEL, SYMPTOMS, "--file", "a")
    expect(2, "No such file", *DIAGNOSE, "--file", os.path.join(WORK, "nothing"))
    expect(2, "for which shell? bash, zsh or fish", "completions", "ksh")
    check(run("show", "\x1b[31m.gguf").stderr.count(b"\x1b") == 0, "a name with an escape sequence reached the terminal")
    for full in ("show", "tokenize", "help"):
        with open("/dev/full", "wb") as f:
            p = subprocess.run([GALEN, full] + ([MODEL] if full != "help" else []), stdout=f, stderr=subprocess.PIPE, env=env(), input=b"a")
        check(p.returncode == 1 and b"No space left" in p.stderr, f"{full} to a full disk: {p.returncode} {p.stderr[-100:]!r}")


def test_missing_model():
    models = os.path.join(HOME, ".local/share/galen/models")
    expect(3, ["no model 'nothing'", "  nothing\n", models + "/nothing\n", models + "/nothing.gguf\n", "make demo"], "show", "nothing")
    expect(3, ["GALEN_MODEL is not set", models + "/smollm2-135m-instruct-q4_1.gguf", "make demo"], "show")
    expect(3, ["no model 'gone' (from GALEN_MODEL)"], "show", e=env(GALEN_MODEL="gone"))
    expect(3, [DATA + "/galen/models/nothing"], "show", "nothing", e=env(XDG_DATA_HOME=DATA))
    expect(3, [models], "show", "nothing", e=env(XDG_DATA_HOME="relative"))  # by the standard, ignored
    expect(3, "no model './nothing'", "show", "./nothing")
    expect(3, "nowhere", "show", e=env(HOME=None))
    expect(3, ["no model 'fever'", "in quotes"], "diagnose", "fever", "cough")
    expect(3, WORK, "show", WORK)  # a folder
    empty = os.path.join(WORK, "empty.gguf")
    open(empty, "w").close()
    expect(3, "empty.gguf", "show", empty)
    with open(MODEL, "rb") as f:
        head = f.read(5000)
    with open(empty, "wb") as f:
        f.write(head)
    expect(3, "empty.gguf", "complete", empty, "-p", "a")


def test_names():
    """By path, in the data folder with and without the ending, by GALEN_MODEL, and the demo's name."""
    folder = os.path.join(DATA, "galen/models")
    os.makedirs(folder)
    shutil.copy(MODEL, os.path.join(folder, "little.gguf"))
    e = env(XDG_DATA_HOME=DATA)
    for name in ("little", "little.gguf", MODEL):
        check(json.loads(answer("show", name, "--json", e=e))["model"]["architecture"] == "llama", f"model by the name {name}")
    check(b"little.gguf" in answer("show", e=env(XDG_DATA_HOME=DATA, GALEN_MODEL="little")), "GALEN_MODEL by name")
    check(b"tiny.gguf" in answer("show", e=env(XDG_DATA_HOME=DATA, GALEN_MODEL=MODEL)), "GALEN_MODEL by path")
    shutil.copy(MODEL, os.path.join(folder, "smollm2-135m-instruct-q4_1.gguf"))
    check(b"smollm2" in answer("show", e=e), "the demo model when nothing is named")


# ---------------------------------------------------------------- tokenize, logits, show, help
def test_tokenize():
    rng = random.Random(1)
    texts = [b"", b"Hello world", "naïve 咳嗽 🤒\n".encode(), bytes(range(256)), b"a\0b", rng.randbytes(5000), b"x" * 100000]
    for t in texts:
        ids = json.loads(answer("tokenize", MODEL, "--no-bos", "--ids", stdin=t))
        whole = json.loads(answer("tokenize", MODEL, "--no-bos", "--json", stdin=t))
        check(ids == [x["id"] for x in whole["tokens"]] and whole["n_tokens"] == len(ids), f"ids agree for {t[:20]!r}")
        check(b"".join(bytes(x["bytes"]) for x in whole["tokens"]) == t, f"the pieces joined are the text {t[:20]!r}")
    with_bos = json.loads(answer("tokenize", MODEL, "--ids", stdin=b"a"))
    check(json.loads(answer("tokenize", MODEL, "--ids", "--no-bos", stdin=b"a")) == with_bos[-1:], "--no-bos")
    table = text(answer("tokenize", MODEL, "--no-bos", stdin=b"a\x1b[31m\n"))
    check("\x1b" not in table and "\\x1B" in table and '"\\n"' in table, "the table shows control bytes as text")
    path = os.path.join(WORK, "text")
    with open(path, "wb") as f:
        f.write(texts[3])
    check(answer("tokenize", MODEL, "--ids", "-f", path) == answer("tokenize", MODEL, "--ids", stdin=texts[3]), "--file")


def read_npy(path):
    with open(path, "rb") as f:
        b = f.read()
    length = struct.unpack("<H", b[8:10])[0]
    header = b[10:10 + length].decode("latin-1")
    check(b[:8] == b"\x93NUMPY\x01\0" and (10 + length) % 64 == 0 and header.endswith("\n"), ".npy header")
    rows, columns = map(int, re.search(r"'descr': '<f4', 'fortran_order': False, 'shape': \((\d+), (\d+)\)", header).groups())
    values = struct.unpack(f"<{rows * columns}f", b[10 + length:])
    return rows, columns, values


def test_logits():
    out = os.path.join(WORK, "out.npy")
    n_vocab = json.loads(answer("show", MODEL, "--json"))["shape"]["n_vocab"]
    ids = [random.Random(2).randrange(n_vocab) for _ in range(130)]  # over the rows evaluated at once
    answer("logits", MODEL, "--tokens", ",".join(map(str, ids)), "-o", out, "--kv-type", "f32")
    rows, columns, cpu = read_npy(out)
    check((rows, columns) == (130, n_vocab), "shape of the logits")
    first = open(out, "rb").read()
    p = run("logits", MODEL, "--tokens", "-", "--out", out, "--kv-type", "f32", "--threads", "1", "--json", stdin=json.dumps(ids).encode())
    check(json.loads(p.stdout)["shape"] == [130, n_vocab], "logits --json")
    check(open(out, "rb").read() == first, "the same bytes with one thread, ids from standard input")
    answer("logits", MODEL, "--tokens", ",".join(map(str, ids[:9])), "-o", out, "--device", "ref", "--kv-type", "f32")
    ref = read_npy(out)[2]
    head = cpu[:len(ref)]
    error = sum((a - b) ** 2 for a, b in zip(head, ref)) / sum(b * b for b in ref)
    check(error < 1e-3, f"cpu against ref: NMSE {error:.2e}")
    check(not os.path.exists(out + ".part"), "no .part is left")
    expect(1, "No such file", "logits", MODEL, "--tokens", "1", "-o", os.path.join(WORK, "no/where.npy"))
    expect(7, ["130 tokens", "64"], "logits", MODEL, "--tokens", ",".join(map(str, ids)), "-o", out, "--ctx", "64")
    with open("/dev/full", "wb"):
        expect(1, "No space left", "logits", MODEL, "--tokens", "1,2,3", "-o", "/dev/full")


def test_show_and_help():
    plain = text(answer("show", MODEL, "--meta", "--tensors"))
    for part in ("architecture   llama", "memory need", "tokenizer.ggml.model", "token_embd.weight"):
        check(part in plain, f"show says {part}")
    whole = json.loads(answer("show", MODEL, "--json", "--ctx", "1k"))
    m = whole["memory"]
    check(m["n_ctx"] == 1024 and m["total_bytes"] == m["weight_bytes"] + m["kv_bytes"] + m["work_bytes"], "show --json memory")
    check(len(whole["tensors"]) > 10 and whole["tensors"][0]["dims"], "show --json tensors")
    half = json.loads(answer("show", MODEL, "--json", "--ctx", "1k", "--kv-type", "q8_0"))["memory"]
    check(0 < half["kv_bytes"] < m["kv_bytes"], "--kv-type in show")
    check(answer("version").startswith(b"galen 0."), "version")
    check(answer("--version") == answer("version"), "--version")
    check(answer() == answer("help") == answer("--help"), "no verb, help and --help are one")
    verbs = re.findall(r"^  ([a-z]+)  ", text(answer("help")), re.M)
    check({"diagnose", "complete", "chat", "show", "tokenize", "logits", "synth", "version", "help"} <= set(verbs), "verbs in help")
    man, bash, zsh, fish = text(answer("help", "--man")), *(text(answer("completions", shell)) for shell in ("bash", "zsh", "fish"))
    for shell, script in (("bash", bash), ("zsh", zsh), ("fish", fish)):  # parsed where the shell is
        if shutil.which(shell):
            p = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
            check(p.returncode == 0 and not p.stderr, f"completions {shell}: {p.stderr}")
    for v in verbs:
        page = text(answer("help", v))
        check(page == text(answer(v, "--help")), f"galen {v} --help")
        check(f"\\fB{v}\\fR" in man and f"    {v})" in bash and f"\n  {v})" in zsh and f" -a {v} -d" in fish, f"{v} in the man page and the completions")
        for option in re.findall(r"--([a-z-]+)", page.split("Options")[1]):
            check("\\-\\-" + option.replace("-", "\\-") in man, f"--{option} in the man page")
            check(f"--{option} " in bash and f"--{option}[" in zsh.replace("}'", "") and f" -l {option} " in fish, f"--{option} in the completions")
    script = bash + '\nCOMP_WORDS=(galen complete --kv-type ""); COMP_CWORD=3; _galen; echo "${COMPREPLY[*]}"\n' \
        'COMP_WORDS=(galen dia); COMP_CWORD=1; _galen; echo "${COMPREPLY[*]}"\nCOMP_WORDS=(galen show --te); COMP_CWORD=2; _galen; echo "${COMPREPLY[*]}"\n'
    got = subprocess.run(["bash", "-c", script], capture_output=True, env=env()).stdout.split(b"\n")
    check(got[:3] == [b"f16 f32 q8_0", b"diagnose", b"--tensors"], f"bash completes: {got}")


def test_json():
    """Every verb's --json is one object with schema_version."""
    for args in (["show", MODEL], ["tokenize", MODEL], ["complete", MODEL, "-p", "a", "-n", "2"], ["version"],
                 ["synth", "--shape", "tiny", os.path.join(WORK, "again.gguf")],
                 ["logits", MODEL, "--tokens", "1", "-o", os.path.join(WORK, "o.npy")], [*DIAGNOSE, SYMPTOMS],
                 ["chat", MODEL, "--chat-format", "plain", "-n", "2"]):
        p = run(*args, "--json", stdin=b"hi")
        try:
            check(json.loads(p.stdout)["schema_version"] == 1, f"{args[0]} --json")
        except ValueError:
            check(False, f"{args[0]} --json: {p.stdout[:200]!r} {p.stderr[-200:]!r}")
    with open(MODEL, "rb") as a, open(os.path.join(WORK, "again.gguf"), "rb") as b:
        check(a.read() == b.read(), "synth: the same options, the same bytes")


# ---------------------------------------------------------------- complete
def complete(*args, **kw):
    return answer("complete", MODEL, "-p", "Once upon", *args, **kw)


def test_complete():
    base = complete("-n", "40", "--seed", "7", "--temp", "1.5")
    check(base == complete("-n", "40", "--seed", "7", "--temp", "1.5", "--threads", "1", "--batch", "1"), "any threads, any batch, the same bytes")
    check(base != complete("-n", "40", "--seed", "8", "--temp", "1.5"), "another seed, another text")
    whole = json.loads(complete("-n", "40", "--seed", "7", "--temp", "1.5", "--json", "--logprobs", "3"))
    check(whole["text"].encode() == base, "the text of --json is the text")
    check(len(whole["tokens"]) == whole["timings"]["n_generated"] == 40 and whole["finish_reason"] == "length", "40 tokens")
    for t in whole["tokens"]:
        top = [x["logprob"] for x in t["top"]]
        check(len(top) == 3 and top == sorted(top, reverse=True) and top[0] >= t["logprob"] - 1e-6 and top[0] <= 0, "log-probabilities")
    check(complete("-n", "0") == b"", "-n 0")
    greedy = [x["id"] for x in json.loads(complete("-n", "5", "--temp", "0", "--json", "--logprobs", "0"))["tokens"]]
    other = [x["id"] for x in json.loads(complete("-n", "5", "--temp", "0", "--json", "--logprobs", "0", "--logit-bias", f"{greedy[0]}=-inf"))["tokens"]]
    check(greedy[0] not in other, "a forbidden token does not come")
    cut = base.decode()[3:6]
    stopped = text(complete("-n", "40", "--seed", "7", "--temp", "1.5", "--stop", "\x01never", "--stop", cut))
    check(base.decode().startswith(stopped) and cut not in stopped, "--stop")
    for seed in range(12):
        out = complete("-n", "30", "--seed", seed, "--temp", "3", "--top-k", "0", "--top-p", "1", "--min-p", "0")
        try:
            out.decode("utf-8")
            check(True, "")
        except UnicodeDecodeError:
            check(False, f"seed {seed}: not UTF-8: {out!r}")
    check(answer("complete", MODEL, "-n", "3", "--temp", "0", stdin=b"Once upon") == complete("-n", "3", "--temp", "0"), "prompt by pipe")
    answer("complete", MODEL, "-n", "3", stdin=b"\xff\xfe\0bad \x80 bytes")
    expect(7, [" 64"], "complete", MODEL, "--ctx", "64", stdin=b"word " * 400)
    p = run("complete", MODEL, "-p", "a", "--ctx", "32", "-n", "-1", "--logit-bias", "0=0")
    check(p.returncode == 0 and (b"is full" in p.stderr or p.stdout == b""), "a full context is said")
    p = run("complete", MODEL, "-p", "a", "-n", "2", "--quiet")
    check(p.stderr == b"", "--quiet is quiet")


def start(*args, stdin=subprocess.DEVNULL):
    return subprocess.Popen([GALEN, *map(str, args)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env())


def test_signals():
    ends = json.loads(answer("tokenize", MODEL, "--ids", "--no-bos", "--parse-special", stdin=b"<|end_of_text|><|eom_id|><|eot_id|>"))
    check(len(ends) == 3, f"tokens that end a text: {ends}")
    slow = ["complete", MODEL, "-p", "a", "-n", "1900", "--device", "ref", "--temp", "2", "--top-k", "0", *[f"--logit-bias={i}=-inf" for i in ends]]
    for sig, rc in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        p = start(*slow)
        first = os.read(p.stdout.fileno(), 1)
        p.send_signal(sig)
        began = time.monotonic()
        out, err = p.communicate(timeout=60)
        check(p.returncode == rc and first and out.endswith(b"\n"), f"signal {sig}: ended with {p.returncode}, {out[-20:]!r} {err[-200:]!r}")
        check(time.monotonic() - began < 10, f"signal {sig}: at once")
    p = start(*slow)
    os.read(p.stdout.fileno(), 1)
    p.stdout.close()
    err = p.stderr.read()
    p.wait(timeout=60)
    check(p.returncode == -signal.SIGPIPE and b"standard output" not in err, f"a closed pipe ends it quietly: {p.returncode} {err[-200:]!r}")
    p.stderr.close()
    copy = os.path.join(WORK, "cut.gguf")
    shutil.copy(MODEL, copy)
    p = start("complete", copy, *slow[2:])
    os.read(p.stdout.fileno(), 1)
    os.truncate(copy, 100)
    out, err = p.communicate(timeout=60)
    check(p.returncode == 3 and b"cut.gguf" in err, f"a model cut while in use: {p.returncode} {err[-300:]!r}")
    p = start(*DIAGNOSE, SYMPTOMS, "--device", "ref")
    until(lambda: catches(p))
    time.sleep(0.3)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    check(p.returncode in (0, 130) and (not out or out.endswith(b"\n")), f"diagnose interrupted: {p.returncode}")
    p = start("tokenize", MODEL, stdin=subprocess.PIPE)
    p.stdin.write(b"a word")
    p.stdin.flush()
    check(until(lambda: has_read(p.stdin)), "tokenize reads")
    p.send_signal(signal.SIGINT)  # while it waits for more
    check(p.wait(timeout=30) == 130, "interrupted while reading")
    p.communicate()


# ---------------------------------------------------------------- diagnose
def unknown_template():
    """The model with a chat template that nobody knows: the same length, other words."""
    path = os.path.join(WORK, "strange.gguf")
    with open(MODEL, "rb") as f:
        b = f.read()
    at = b.find(b"tokenizer.chat_template")
    check(at > 0 and b"<|start_header_id|>" in b[at:at + 500], "the synthetic model has a template to spoil")
    with open(path, "wb") as f:
        f.write(b[:at] + b[at:at + 500].replace(b"_header_id|>", b"_strange__|>").replace(b"<|eot_id|>", b"<|xyz_id|>") + b[at + 500:])
    return path


FORM = re.compile(r"\AFor licensed professionals, education and research\.[^\n]*does not diagnose[^\n]*emergencies\.\n\n"
                  r"(?:[^\n]+\n(?:[!?] [^\n]+\n|  \"[^\n]*\"\n)*\n)?"  # red flags
                  r"Possible conditions \(confidence: model probability, uncalibrated\)\n"
                  r"(?:\n- diagnosis: [^\n]+\n- confidence: [01]\.\d\d\n){5}\nFollow-up questions\n\n"
                  r"1\. [^\n]+\n2\. [^\n]+\n3\. [^\n]+\n4\. [^\n]+\n5\. [^\n]+\n\Z")


def test_diagnose():
    for seed in range(10):
        out = text(answer(*DIAGNOSE, SYMPTOMS, "--seed", seed))
        names = [n.lower() for n in re.findall(r"^- diagnosis: (.*)$", out, re.M)]
        confidence = [float(x) for x in re.findall(r"^- confidence: (.*)$", out, re.M)]
        check(FORM.match(out), f"seed {seed}: the form: {out!r}")
        check(len(set(names)) == 5, f"seed {seed}: five distinct names: {names}")
        check(confidence == sorted(confidence, reverse=True) and 0 < sum(confidence) < 1.03, f"seed {seed}: {confidence}")
    check(out == text(answer(*DIAGNOSE, SYMPTOMS, "--seed", 9, "--threads", 1)), "the same seed, the same bytes")
    check(out == text(answer(*DIAGNOSE, "--seed", 9, stdin=SYMPTOMS.encode() + b"\n")), "symptoms by pipe")
    path = os.path.join(WORK, "symptoms")
    with open(path, "w", encoding="utf-8") as f:
        f.write(SYMPTOMS)
    check(out == text(answer(*DIAGNOSE, "--seed", 9, "-f", path)), "symptoms by --file")
    check(out == text(answer("diagnose", MODEL, SYMPTOMS, "--chat-format", "plain", "--seed", 9)), "the model as an argument")
    whole = json.loads(answer(*DIAGNOSE, SYMPTOMS, "--seed", 9, "--json"))
    check([c["name"] for c in whole["conditions"]] == re.findall(r"^- diagnosis: (.*)$", out, re.M), "--json has the same names")
    check(abs(sum(c["confidence"] for c in whole["conditions"]) + whole["other"] - 1) < 1e-6, "confidences and other sum to 1")
    check(whole["triage"]["level"] and [q["number"] for q in whole["questions"]] == [1, 2, 3, 4, 5], "red flags and numbers")
    check(whole["confidence_meaning"] == "model probability, uncalibrated" and whole["device"] and "load_s" in whole["timings"], "--json fields")
    check("does not diagnose" in whole["intended_use"] and len(whole["questions"]) == 5, "--json fields")
    for refused in (b"", b" \n\t", b"12 3.5 ?!", b"\xff\xfe"):
        expect(8, "say what is felt", *DIAGNOSE, stdin=refused)
    expect(8, "say what is felt", "diagnose", "-m", "no such model", "...")  # needs no model
    expect(7, ["tokens", "512"], *DIAGNOSE, "--ctx", "512", stdin=b"cough and fever " * 300)
    expect(3, ["--chat-format", "llama-3", "plain"], "diagnose", "-m", unknown_template(), "dry skin on one hand")  # no red flag, no banner
    answer(*DIAGNOSE, stdin=b"f\xe8vre et toux \xff\0 depuis 3 jours")


# ---------------------------------------------------------------- chat, terminals
def test_chat():
    chat = ["chat", MODEL, "--chat-format", "plain", "-n", "6", "--temp", "0"]
    p = run(*chat, stdin=b"hello there\n\nand now?\n/quit\nnot read\n")
    check(p.returncode == 0 and p.stdout.count(b"\n") >= 2 and b"> " not in p.stdout, f"two lines by pipe: {p.stdout!r}")
    lines = run(*chat, "--json", stdin=b"hello there\nand now?").stdout.splitlines()
    check(len(lines) == 2 and all(json.loads(x)["schema_version"] == 1 for x in lines), "chat --json: one object a line")
    check(lines and text(p.stdout).startswith(json.loads(lines[0])["text"]), "chat --json has the same text")
    again = run(*chat, "--json", stdin=b"hello there\n/clear\nhello there\n").stdout.splitlines()
    check(len(again) == 2 and json.loads(again[0])["text"] == json.loads(again[1])["text"], "/clear starts anew")
    p = run(*chat, "--ctx", "96", stdin=b"hello there, how are you\n" * 12)
    check(p.returncode == 0 and b"are forgotten" in p.stderr, "old turns are dropped aloud")
    expect(7, "64", *chat, "--ctx", "64", stdin=b"word " * 200)
    expect(3, ["--chat-format", "llama-3", "plain"], "chat", unknown_template(), stdin=b"hi\n")
    expect(0, "", *chat, stdin=b"")


def on_terminal(args, keys=(), columns=80, e=None, timeout=60):
    """(exit code, everything the terminal showed). keys: (text to wait for, bytes to type, seconds between)."""
    import fcntl
    import termios
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))  # before it can ask
        os.execve(GALEN, [GALEN, *map(str, args)], e or env())
    shown, seen, keys, end = b"", 0, list(keys), time.monotonic() + timeout
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                got = os.read(fd, 4096)
            except OSError:
                break
            if not got:
                break
            shown += got
        at = shown.find(keys[0][0], seen) if keys else -1
        if at >= 0:
            wait, typed, *delay = keys.pop(0)
            seen = at + len(wait)
            time.sleep(*delay or [0])
            os.write(fd, typed)
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), shown


def test_closed():
    """Standard descriptors that are closed are not taken by other files, and nothing waits for them."""
    for closed, args, rc, said in (("<&-", ["complete", MODEL], 1, "standard input"), ("<&-", ["diagnose", MODEL], 1, "standard input"), ("<&-", ["triage"], 1, "standard input"),
                                   (">&-", [*DIAGNOSE, SYMPTOMS], 1, "standard output"), (">&-", ["version"], 1, "standard output"), ("<&- 2>&-", ["version"], 0, "")):
        p = subprocess.run(["bash", "-c", f'exec "$0" "$@" {closed}', GALEN, *args], capture_output=True, text=True, env=env(), timeout=60, check=False)
        check(p.returncode == rc and said in p.stderr, f"{args} {closed}: {p.returncode} {p.stderr}")


def test_terminal():
    rc, shown = on_terminal([*DIAGNOSE, SYMPTOMS], columns=40)
    check(rc == 0 and b"\x1b[1m" in shown, "bold on a terminal")
    for line in re.split(rb"\r\n|\r|\n", shown):
        bare = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", line).decode("utf-8", "replace")
        if bare.startswith(("loading", "considering", "reading")):
            check(len(bare) < 40, f"a progress line wider than the terminal: {bare!r}")
    head = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", shown).replace(b"\r", b"").split(b"Possible conditions")[0]
    head = head.split(b"loading")[0].split(b"galen: ")[0]  # what standard error says on the same terminal
    check(b"Lists possible" in head.replace(b"\n", b" ") and max(map(len, head[head.find(b"For licensed"):].split(b"\n"))) <= 40, "the header is wrapped")
    for e, args in ((env(NO_COLOR="1"), []), (env(), ["--no-color"]), (env(TERM="dumb"), [])):
        rc, shown = on_terminal([*DIAGNOSE, SYMPTOMS, *args], e=e)
        check(rc == 0 and b"\x1b[1m" not in shown, "no colours when they are not wanted")
    rc, shown = on_terminal(["complete", MODEL])
    check(rc == 2 and b"no prompt" in shown, "complete without a prompt on a terminal does not hang")
    rc, shown = on_terminal(["diagnose"], [(b"> ", b"\x04")])
    check(rc == 8 and b"describe the symptoms" in shown and b"description is empty" in shown, f"diagnose asks for the symptoms: {rc} {shown[-300:]!r}")
    rc, shown = on_terminal(["diagnose", "-i", *DIAGNOSE[1:]], [(b"> ", b"\r"), (b"> ", b"Chest pain since this morning, 54\r"), (b"none of these", b"/quit\r")])
    check(rc == 0 and b"EMERGENCY" in shown and b"No more questions" in shown, f"diagnose -i asks for the symptoms: {rc} {shown[-300:]!r}")
    chat = ["chat", MODEL, "--chat-format", "plain", "-n", "4"]
    rc, shown = on_terminal(chat, [(b"> ", b"hello\r"), (b"tokens/s", b""), (b"> ", b"\x04")])
    check(rc == 0 and shown.count(b"tokens/s)") >= 2, f"chat: an answer, then Ctrl-D: {rc} {shown[-200:]!r}")
    rc, shown = on_terminal(chat, [(b"> ", b"\x03"), (b"ends the chat", b""), (b"> ", b"/quit\r")])
    check(rc == 0, f"chat: Ctrl-C at the prompt, then /quit: {rc} {shown[-200:]!r}")
    rc, shown = on_terminal(chat, [(b"> ", b"/claer\r"), (b"no such command", b""), (b"> ", b"/quit\r")])
    check(rc == 0 and b"tokens/s" not in shown, f"chat: a slip is no message: {rc} {shown[-200:]!r}")
    slow = ["chat", MODEL, "--chat-format", "plain", "-n", "1500", "--device", "ref", "--temp", "2", "--top-k", "0"]
    rc, shown = on_terminal(slow, [(b"> ", b"hello\r"), (b"hello\r\n", b"\x03", 0.5), (b"tokens/s", b""), (b"> ", b"/quit\r")])
    check(rc == 0, f"chat: Ctrl-C stops an answer, the chat goes on: {rc} {shown[-200:]!r}")


def test_widths():
    """No line of a verb is wider than the terminal, but for a word that is (a path)."""
    answer("complete", MODEL, "-p", "x", "-n", "3")  # a row for stats
    short = ["--n-prompt", "8", "--n-gen", "2", "--depth", "0", "--parallel", "0", "--repeats", "1", "--no-history"]
    verbs = (["plan", MODEL], ["plan", MODEL, "--as-card", "rtx3050-laptop"], ["plan", MODEL, "--as-card", "90", "--vram-limit", "258M"], ["doctor", MODEL, "--all"],
             ["show", MODEL], ["bench", MODEL, *short], ["tune", MODEL, "--quick", "--no-history"], ["stats", "--days", "0"], ["monitor", "--once"], ["ps"],
             ["explain"], ["explain", "gpu.used"], ["help"], ["help", "bench"], ["history", "settings"], ["version"])
    for columns in (40, 80):
        for args in verbs:
            rc, shown = on_terminal([*args, "-q"] if args[0] in ("bench", "tune") else args, columns=columns)
            rows = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", row) for row in re.sub(r"[^\n]*\r\x1b\[K", "", text(shown)).replace("\r", "").split("\n")]
            wide = [row for row in rows if len(row) > columns and max(map(len, row.split())) <= columns - 22]
            check(rc in (0, 1) and len(rows) > 1 and not wide, f"{args[0]} at {columns} columns: {rc} {wide[:3]}")


def main():
    os.makedirs(HOME)
    try:
        answer("synth", "--shape", "tiny", "--type", "q8_0", MODEL)
        for name, test in sorted(globals().items()):
            if name.startswith("test_") and (len(sys.argv) == 1 or name in sys.argv[1:]):
                test()
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
