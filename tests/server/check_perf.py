"""What a server generates is in the performance log, beside the request's path: galen stats reads what requests did."""
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from serving import GALEN, Server, Tally, ask, build, connect, endless, events, metric, together, wait_for  # noqa: E402

T = Tally()
QUEUE = 1024  # rows that wait for the store: N_ROWS of src/server/perf.c


def stats(s):
    out = subprocess.run([GALEN, "stats", "--json", "--days", "0"], env=s.env(), capture_output=True, text=True)
    return json.loads(out.stdout) if out.returncode == 0 else {"groups": [], "n_dropped": -1, "why": out.stderr}


def rows(s):
    db = sqlite3.connect(os.path.join(s.home, "galen.db"), timeout=10)
    try:
        db.row_factory = sqlite3.Row
        return [dict(r) for r in db.execute("SELECT * FROM perf ORDER BY id")]
    finally:
        db.close()


def check_kinds(s):
    """Each kind of generation, with its figures; one row a choice."""
    T.check(ask(s, "/v1/completions", {"prompt": "the patient zzcanaryzz", "max_tokens": 8, "n": 2, "seed": 1})[0] == 200, "a completion")
    T.check(events(s, "/v1/chat/completions", {"messages": [{"role": "user", "content": "zzcanaryzz"}], "max_tokens": 6, "stream": True})[0] == 200, "a chat")
    T.check(ask(s, "/v1/cases", {"symptoms": "I have a mild cough since Monday, zzcanaryzz", "stream": False})[0] == 200, "a case")
    T.check(wait_for(lambda: len(rows(s)) >= 4), "four rows")
    got = rows(s)
    T.check(sorted(r["verb"] for r in got) == ["serve.cases", "serve.chat", "serve.completions", "serve.completions"], [r["verb"] for r in got])
    T.check(all(r["device"] and r["device"].startswith("CPU") and "layers" in r["placement"] for r in got), "each says where it ran")
    T.check(all(r["prefill_s"] > 0 and r["decode_s"] > 0 and r["first_s"] > 0 and r["error"] == 0 for r in got), f"and its times: {got}")
    T.check(sum(r["n_generated"] for r in got if r["verb"] == "serve.completions") == 16, "tokens are counted")
    T.check(sum(r["load_s"] > 0 for r in got) == 1, "the load is the first run's after it, once")
    T.check(all(r["first_s"] <= 60 and abs(r["time_ms"] / 1000 - time.time()) < 120 for r in got), "in seconds, at this time")
    T.check("zzcanaryzz" not in json.dumps(got), "no word of a request")
    doc = stats(s)
    served = [g for g in doc["groups"] if g["is_served"]]
    T.check(len(served) == 1 and served[0]["n_runs"] == 4 and served[0]["n_failed"] == 0, f"galen stats: {doc}")
    T.check(served[0]["median_decode_tokens_per_s"] > 0 and served[0]["median_first_token_s"] > 0 and served[0]["median_load_s"] > 0, "medians")
    T.check(doc["n_dropped"] == 0, "nothing was dropped")


def check_beside_alone(s):
    """A lone run of the same model is another group: its speed is not a server's."""
    done = subprocess.run([GALEN, "complete", s.model, "-p", "x", "-n", "4", "-q"], env=s.env(), capture_output=True)
    T.check(done.returncode == 0, done.stderr)
    doc = stats(s)
    T.check(sorted(g["is_served"] for g in doc["groups"]) == [False, True], f"two groups: {doc['groups']}")
    text = subprocess.run([GALEN, "stats", "--days", "0"], env=s.env(), capture_output=True, text=True).stdout
    T.check(", served" in text and "first token" in text and max(map(len, text.split("\n"))) <= 80, text)


def check_trend(s):
    for k in range(8):
        ask(s, "/v1/completions", {"prompt": f"{k}", "max_tokens": 4})
    T.check(wait_for(lambda: [g for g in stats(s)["groups"] if g["is_served"]][0]["n_runs"] == 12), "twelve runs")
    g = [g for g in stats(s)["groups"] if g["is_served"]][0]
    T.check(g["decode_trend"] is not None and g["first_token_trend"] is not None and len(g["decode_series"]) == 12, f"trends: {g}")


def check_gone(s):
    """Whoever hangs up: cancelled, no failure."""
    before = len(rows(s))
    c = connect(s)
    c.sendall(build("POST", "/v1/completions", {"prompt": "x", "max_tokens": 2000, "n": 8, "stream": True, "logit_bias": endless(s)}))
    c.recv(64)
    c.close()
    T.check(wait_for(lambda: any(g["n_cancelled"] for g in stats(s)["groups"])), "a cancelled run")
    T.check(not any(g["n_failed"] for g in stats(s)["groups"]), "is no failed one")
    T.check(wait_for(lambda: len(rows(s)) == before + 8), f"each choice has a row: {len(rows(s)) - before}")


def check_too_long_a_lock(s):
    """Another program holds the database: requests are answered as ever, rows wait, the queue's end drops and counts them."""
    before = len(rows(s))
    db = sqlite3.connect(os.path.join(s.home, "galen.db"), timeout=10, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    n, slow = QUEUE // 16 + 10, []

    def one(k):
        t0 = time.monotonic()
        ok = ask(s, "/v1/completions", {"prompt": f"p {k}", "max_tokens": 1, "n": 16})[0] == 200
        slow.append(time.monotonic() - t0 if ok else 1e9)
    for at in range(0, n, 2):
        together(2, one)
    T.check(max(slow) < 1e9, "each is answered")
    # one that waited would wait for BUSY_MS of src/server/perf.c at least; of two at once one may wait for the machine
    T.check(statistics.median(slow) < 1, f"no request waits for the database: {statistics.median(slow):.2f} s in the middle, {max(slow):.2f} s at most")
    dropped = metric(s, "galen_perf_rows_dropped_total")
    T.check(0 < dropped <= 16 * (n + 1) - QUEUE, f"rows beyond the queue: {dropped}")
    T.check(wait_for(lambda: "perf_not_kept" in s.said()), "the log says that rows wait")
    time.sleep(3)  # two more tries
    T.check(s.said().count("perf_not_kept") == 1, "once")
    db.execute("ROLLBACK")
    db.close()
    T.check(wait_for(lambda: len(rows(s)) >= before + QUEUE), f"those that waited are there: {len(rows(s)) - before}")
    T.check(wait_for(lambda: "perf_kept_again" in s.said()), "and the log says so")
    T.check(ask(s, "/v1/completions", {"prompt": "after", "max_tokens": 1})[0] == 200, "a row after it")
    T.check(wait_for(lambda: stats(s)["n_dropped"] == dropped), f"galen stats tells how many are missing: {stats(s)['n_dropped']}, {dropped}")
    text = subprocess.run([GALEN, "stats"], env=s.env(), capture_output=True, text=True)
    T.check(f"{dropped:.0f} runs of a server are missing" in text.stderr, text.stderr)


def check_replicas(s):
    """Two servers on one database: every row of both is there, once."""
    twin = Server(home=s.home, model=s.model)
    before = len(rows(s))
    together(8, lambda i: ask(twin if i % 2 else s, "/v1/completions", {"prompt": f"r {i}", "max_tokens": 3, "n": 4}))
    twin.stop()
    T.check(wait_for(lambda: len(rows(s)) == before + 32), f"{len(rows(s)) - before} rows of 32")
    twin.log.close()


def check_end(s):
    """The last rows are written when the server ends; retention is held when the database is opened."""
    before = len(rows(s))
    ask(s, "/v1/completions", {"prompt": "last", "max_tokens": 2})
    T.check(s.stop() == 0, "it ends")
    T.check(len(rows(s)) == before + 1, "with its last row written")
    db = sqlite3.connect(os.path.join(s.home, "galen.db"), isolation_level=None)
    db.execute("UPDATE perf SET time_ms = time_ms - 400 * 86400000 WHERE id % 2")
    db.close()
    stats(s)
    T.check(len(rows(s)) == (before + 1) // 2, "a year is kept")


def check_load_failure():
    """A model that does not open is a row too."""
    s = Server()
    bad = os.path.join(s.home, "cut.gguf")
    with open(s.model, "rb") as f:
        whole = f.read()
    with open(bad, "wb") as f:
        f.write(whole[: len(whole) // 2])
    s.stop()
    p = subprocess.run([GALEN, "serve", bad, "--port", "0"], env=s.env(), capture_output=True, timeout=60)
    T.check(p.returncode == 3, p.stderr)
    T.check(any(r["verb"] == "serve.load" and r["error"] != 0 for r in rows(s)), f"its error: {rows(s)}")
    s.close()


def main():
    s = Server()
    check_kinds(s)
    check_beside_alone(s)
    check_trend(s)
    check_gone(s)
    check_replicas(s)
    check_too_long_a_lock(s)
    check_end(s)
    s.close()
    check_load_failure()
    return T.end()


sys.exit(main())
