"""1,000 planted identifiers go through diagnose, history and every error path; none is found outside the case itself.

Looked at: standard error of every run, standard output of those that fail and of audit, stats, list settings; every file below HOME,
TMPDIR and the working folder but the database; the database's tables of trail, measures, settings; what killed runs left in XDG_RUNTIME_DIR;
with strace, for every third run, the name of every
file that is opened for writing. GALEN names the binary; GALEN_IDENTIFIERS how many (default 1000). Ends with 'N passed, N failed'."""
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

T = Tally(30)
check = T.check

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GALEN = os.path.abspath(os.environ.get("GALEN") or os.path.join(ROOT, "build/galen"))
N = int(os.environ.get("GALEN_IDENTIFIERS", "1000"))
A_RUN = 40  # identifiers in one text
WORK = tempfile.mkdtemp(prefix="galen-privacy-")
HOME, TMP, INPUT, RUNTIME = (os.path.join(WORK, d) for d in ("home", "tmp", "input", "run"))
MODEL, DB = os.path.join(WORK, "model.gguf"), os.path.join(HOME, "data/galen.db")
n_runs = 0
written = set()


def identifiers():
    r = random.Random(20261124)
    syllables = ["zor", "vex", "quil", "jax", "wub", "pyx", "kro", "fyn", "gho", "myz"]

    def word():
        return "".join(r.choice(syllables) for _ in range(3))
    makers = [lambda: f"{word().capitalize()} {word().capitalize()}son", lambda: f"MRN{r.randrange(10**9, 10**10)}",
              lambda: f"{r.randrange(1000, 9999)}-{r.randrange(10, 99)}-{r.randrange(10**6, 10**7)}",
              lambda: f"{r.randrange(1, 28)}.{r.randrange(1, 12)}.19{r.randrange(20, 99)} at {r.randrange(10**5, 10**6)}",
              lambda: f"{word()}.{word()}@{word()}.example", lambda: f"+{r.randrange(10, 99)} {r.randrange(10**8, 10**9)} {r.randrange(10**3, 10**4)}"]
    found = []
    while len(found) < N:
        i = makers[len(found) % len(makers)]()
        if i not in found:
            found.append(i)
    return found


PLANTED = identifiers()
NEEDLES = re.compile("|".join(re.escape(i) for i in PLANTED).encode())
# Parts of an identifier that identify by themselves: surnames, numbers of six digits and more. A number stands alone: six digits inside a time, a
# duration or a digest are one of these by chance now and then.
PARTS = re.compile("|".join(sorted({rf"(?<![0-9a-f]){p}(?![0-9a-f])" if p.isdigit() else re.escape(p)
                                    for i in PLANTED for p in re.findall(r"[A-Z][a-z]{6,}son|MRN\d+|\d{6,}|[\w.]+@[\w.]+", i)})).encode())
NUMBER = re.search(r"at (\d{6})", " ".join(PLANTED)).group(1)
assert all(PARTS.search(text.encode()) for text in (f"seen {NUMBER}, again", f'{{"id":"{NUMBER}"}}', f"={NUMBER}\n")), "a number alone is found"
assert not PARTS.search(f"0.00{NUMBER}1".encode())


def expect_none(data, where):
    hit = NEEDLES.search(data) or PARTS.search(data)
    return check(not hit, f"{where}: {hit and hit.group(0)!r}")


HAS_STRACE = shutil.which("strace") and subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


def run(what, *args, stdin=b"", is_result=False, e=None, kill_after=None):
    """is_result: standard output may hold the case's own words."""
    global n_runs
    n_runs += 1
    env = {"PATH": os.environ["PATH"], "HOME": HOME, "TMPDIR": TMP, "LC_ALL": "C.UTF-8", "GALEN_DB": DB, "SQLITE_TMPDIR": TMP,
           "XDG_RUNTIME_DIR": RUNTIME}
    env.update({k: v for k, v in os.environ.items() if k in ("ASAN_OPTIONS", "UBSAN_OPTIONS")})
    env.update(e or {})
    command = [GALEN, *map(str, args)]
    trace = os.path.join(WORK, "trace")
    is_traced = HAS_STRACE and kill_after is None and n_runs % 3 == 1  # it costs as much as the run
    if is_traced:
        command = ["strace", "-f", "-qq", "-s", "0", "-o", trace, "-e", "trace=openat,open,creat,memfd_create,socket,connect", *command]
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=WORK)
    if kill_after is not None:
        time.sleep(kill_after)
        p.send_signal(signal.SIGKILL)
    out, err = p.communicate(stdin, timeout=120)
    expect_none(err, f"{what}: standard error")
    if not is_result:
        expect_none(out, f"{what}: standard output")
    if is_traced:
        with open(trace, encoding="utf-8", errors="replace") as f:
            note_files(what, f.read())
    return p.returncode, out, err


def note_files(what, trace):
    for line in trace.split("\n"):
        m = re.search(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]*)"(?:\.\.\.)?, ([A-Z_|]+)', line)
        if m and ("O_WRONLY" in m.group(2) or "O_RDWR" in m.group(2) or "O_CREAT" in m.group(2)):
            written.add(m.group(1))
        check("AF_INET" not in line, f"{what}: a socket: {line[:100]}")
        check("memfd_create" not in line, f"{what}: {line[:100]}")


def look_at_files(when):
    for folder, _, names in os.walk(WORK):
        for name in names:
            path = os.path.join(folder, name)
            if path.startswith((INPUT, DB)) or path == MODEL:
                continue
            with open(path, "rb") as f:
                expect_none(f.read(), f"{when}: {os.path.relpath(path, WORK)}")
    check(not os.listdir(TMP), f"{when}: temporary files {os.listdir(TMP)}")


def look_at_tables():
    db = sqlite3.connect(DB)
    for table in ("audit", "audit_head", "perf", "models", "bench", "tune", "settings"):
        for row in db.execute(f"SELECT * FROM {table}"):
            expect_none(repr(row).encode() + b"".join(v for v in row if isinstance(v, bytes)), f"table {table}")
    n = db.execute("SELECT count(*) FROM turns").fetchone()[0]
    db.close()
    check(n > 0, "no turn was kept: nothing was tested")


def text_of(k, n=A_RUN):
    ids = PLANTED[k:k + n]
    return "Patient has had fever, a cough and chest pain for 3 days. " + ". ".join(f"Seen with {i} and headache" for i in ids) + "."


def diagnose_all():
    base = ["diagnose", "-m", MODEL, "--chat-format", "plain", "-c", "2k", "--samples", "0"]
    for k in range(0, N, A_RUN):
        text, how = text_of(k), k // A_RUN % 4
        if how == 0:
            rc, _, err = run("diagnose by argument", *base, text, is_result=True)
        elif how == 1:
            rc, _, err = run("diagnose by pipe", *base, "--json", stdin=text.encode(), is_result=True)
        elif how == 2:
            path = os.path.join(INPUT, "symptoms.txt")
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            rc, _, err = run("diagnose by file", *base, "--file", path, is_result=True)
        else:
            rc, _, err = run("diagnose, nothing kept", *base, "--no-history", text, is_result=True)
        check(rc == 0, f"diagnose {k}: ended with {rc}: {err[-200:]!r}")


def fail_everywhere():
    """Errors whose input is the person's text. Each text meets some of the ways, each way some of the texts."""
    base, broken = ["diagnose", "-m", MODEL, "--chat-format", "plain", "--samples", "0"], os.path.join(INPUT, "broken")
    with open(broken, "wb") as f:
        f.write(b"GGUF" + bytes(600))
    for k in range(0, N, A_RUN):
        text, ids = text_of(k + k // A_RUN % (A_RUN - 5), 5), PLANTED[k:k + A_RUN]
        ways = [
            lambda: run("over the context", *base, "-c", "64", text),
            lambda: run("no model", "diagnose", "-m", os.path.join(WORK, "nothing.gguf"), text),
            lambda: run("broken model", "diagnose", "-m", broken, text),
            lambda: run("no chat format", "diagnose", "-m", MODEL, text, is_result=True),
            lambda: run("bytes that are no UTF-8", *base, stdin=" ".join(ids).encode()[:200] + b"\xff\xfe\x00" + text.encode(), is_result=True),
            lambda: run("identifiers alone", *base, ", ".join(ids), is_result=True),
            lambda: run("arguments too many", *base, text, *ids[:3]),
            lambda: run("a wrong option", *base, "--tempo", text),
            lambda: run("a full disk", *base, text, e={"GALEN_DB": "/dev/full"}, is_result=True),
            lambda: run("a database that is none", *base, text, e={"GALEN_DB": broken}, is_result=True),
            lambda: run("no folder", *base, text, e={"GALEN_DB": "/proc/none/galen.db"}, is_result=True),
            lambda: run("search", "history", "search", *ids[:12], is_result=True),
            lambda: run("show by name", "history", "show", ids[0]),
            lambda: run("export by name", "history", "export", ids[1]),
            lambda: run("erase by name", "history", "erase", "--yes", ids[2]),
            lambda: run("branch by name", "history", "branch", ids[3]),
            lambda: run("a setting of that value", "history", "settings", "retention_days", ids[4]),
            lambda: run("killed", *base, text, is_result=True, kill_after=0.02 * (k // A_RUN % 10)),
        ]
        for i in range(2):
            ways[(k // A_RUN * 2 + i) % len(ways)]()


def main():
    for d in (HOME, TMP, INPUT, RUNTIME):
        os.mkdir(d, 0o700)
    rc, _, err = run("synth", "synth", "--shape", "tiny", MODEL)
    check(rc == 0, f"synth: {err!r}")
    with open(os.path.join(INPUT, "symptoms.txt"), "w", encoding="utf-8") as f:
        f.write(text_of(0))
    diagnose_all()
    look_at_files("after diagnose")
    fail_everywhere()
    for verb in (["audit"], ["audit", "--json"], ["audit", "--verify"], ["stats"], ["stats", "--json"], ["history", "settings"]):
        rc, _, err = run(" ".join(verb), *verb)
        check(rc == 0, f"{verb}: ended with {rc}: {err!r}")
    rc, out, _ = run("show", "history", "show", "1", is_result=True)
    check(rc == 0 and PLANTED[0].encode() in out, "the case does not hold its own words: nothing was tested")
    look_at_tables()
    look_at_files("in the end")
    for path in written:
        check(path.startswith((DB, RUNTIME, INPUT, MODEL, "/dev/", "/proc/self")), f"written: {path}")
    check(len(written) > 2 or not HAS_STRACE, f"strace saw {written}")
    rc, out, _ = run("erase", "history", "erase", "all", "--yes")
    check(rc == 0, "erase all")
    for name in os.listdir(os.path.dirname(DB)):
        with open(os.path.join(os.path.dirname(DB), name), "rb") as f:
            data = f.read()
        check(not NEEDLES.search(data) and not PARTS.search(data), f"after erasing: {name}")
    shutil.rmtree(WORK)
    if not HAS_STRACE:
        print("SKIP: files opened for writing were not traced (no strace that works)")
    print(f"{N} identifiers, {n_runs} runs, files opened for writing: {len(written)}")
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
