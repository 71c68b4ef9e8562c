#!/usr/bin/env python3
"""When a user sees what, and that a stored case says the same again: the banner 50 ms after the program starts, with the demo model and
without any; the demo model's first condition within 3 s; stored cases replayed to identical bytes (GALEN_REPLAYS, or 5; every third with
a loop of answers). Times are the least of several tries, without what the program waited while others had the processor. Ends with
'N passed, N failed'."""
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden"))
import galen  # pylint: disable=wrong-import-position

RED = "62-year-old man, crushing chest pain spreading to the left arm, sweating"
TEXT = "Patient has persistent cough, fever, and chest pain for 3 days"
BANNER_S, FIRST_S, TRIES = 0.050, 3.0, 12
REPLAYS = int(os.environ.get("GALEN_REPLAYS", "5"))
c = galen.Checks()


def environment(folder):
    env = {**os.environ, "HOME": folder, "XDG_DATA_HOME": folder + "/data", "XDG_CACHE_HOME": folder + "/cache", "NO_COLOR": "1"}
    for name in ("GALEN_MODEL", "GALEN_DB", "GALEN_PROMPTS"):
        env.pop(name, None)
    return env


def schedule_s(pid):
    """Seconds that a process's first thread ran, and that it was ready while another had the processor. 0, 0 where the kernel does not count."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as f:
            ran, waited, _ = f.read().split()
        return int(ran) * 1e-9, int(waited) * 1e-9
    except (OSError, ValueError):
        return 0.0, 0.0


def banner_s(model, env):
    """Seconds until the warning is out: of the wall, and those less what the program waited for the processor."""
    began = time.monotonic()
    p = subprocess.Popen([galen.GALEN, "diagnose", "-m", model, "--no-history", RED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    out = b""
    while b"EMERGENCY" not in out:
        more = os.read(p.stdout.fileno(), 65536)
        if not more:
            break
        out += more
    wall = time.monotonic() - began
    _, waited = schedule_s(p.pid)  # it may have ended, and is there until somebody asks
    p.kill()
    p.wait()
    p.stdout.close()
    c.check(b"EMERGENCY" in out and b"- diagnosis" not in out, f"{model}: the warning is first: {out[:200]!r}")
    return wall, wall - waited


def test_banner(model, what, env):
    tries = [banner_s(model, env) for _ in range(TRIES)]
    wall, own = min(t[0] for t in tries), min(t[1] for t in tries)
    print(f"banner, {what}: {1e3 * wall:.1f} ms of {TRIES} tries, {1e3 * own:.1f} ms of them not for want of the processor")
    # whoever waits longer than it runs comes back to cold caches: twice the time
    c.check(any(t[1] <= BANNER_S * (2 if t[0] > 2 * t[1] else 1) for t in tries), f"the banner, {what}: {1e3 * wall:.1f} ms, {1e3 * own:.1f} ms of them its own")


def test_first(model, env):
    first = []
    for _ in range(3):
        p = subprocess.Popen([galen.GALEN, "diagnose", "-m", model, "--no-history", "--threads", "2", "--json", TEXT], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, env=env)
        out = p.stdout.read()
        os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
        ran, waited = schedule_s(p.pid)
        c.check(p.wait() == 0, f"diagnose: {p.returncode}")
        p.stdout.close()
        timings = json.loads(out)["timings"]
        # where others want the cores too, each gives that much less
        share = max(1, os.getloadavg()[0] / (os.cpu_count() or 1), 1 + waited / ran if ran else 1)
        first.append((timings["load_s"] + timings["conditions"]["first_condition_s"], share))
        if first[-1][0] < FIRST_S:
            break
    best, share = min(first, key=lambda f: f[0] / f[1])
    print(f"first condition with the demo model, loading counted: {best:.2f} s; {share:.1f} programs wanted each core")
    c.check(best <= FIRST_S * share, f"first condition: {best:.2f} s, the bar is {FIRST_S} s where nobody else wants the cores: {first}")


def texts():
    with open(os.path.join(galen.DATA, "agentclinic", "cases.jsonl"), encoding="utf-8") as f:
        for line in f:
            presented = json.loads(line)["OSCE_Examination"]["Patient_Actor"]
            yield f"{presented.get('Demographics', '')}. {presented.get('History', '')}"[:400]


def stored(env, *args, stdin=b""):
    return subprocess.run([galen.GALEN, *map(str, args)], input=stdin, capture_output=True, env=env, timeout=600, check=False)


def test_replays(model, env):
    for i, text in zip(range(REPLAYS), texts()):
        options = ["-m", model, "--seed", i] + ([] if os.environ.get("GALEN_REPLAY_MODEL") else ["--chat-format", "plain"])
        if i % 3 == 2:
            p = stored(env, "diagnose", *options, "-i", "--max-questions", 3, text, stdin=b"yes\nno, never\nonly at night\n")
        else:
            p = stored(env, "diagnose", *options, text)
        c.check(p.returncode == 0, f"case {i}: {p.returncode}: {p.stderr[-200:]!r}")
    cases = [row["id"] for row in json.loads(stored(env, "history", "list", "--json", "--limit", 2 * REPLAYS).stdout)["cases"]]
    c.check(len(cases) == REPLAYS, f"{len(cases)} cases of {REPLAYS} are stored")
    same = 0
    for case in cases:
        p = stored(env, "history", "replay", case)
        same += c.check(p.returncode == 0 and b"identical" in p.stdout, f"case {case}: {p.stdout!r} {p.stderr[-200:]!r}")
    print(f"{same} of {REPLAYS} stored cases replayed to identical bytes")


def main():
    with tempfile.TemporaryDirectory(prefix="galen-times-") as folder:
        env = environment(folder)
        tiny = os.path.join(folder, "tiny.gguf")
        galen.run("synth", tiny, "--shape", "tiny", "--type", "q8_0", "--quiet")
        demo = subprocess.run([os.path.join(galen.ROOT, "tools/fetch-model")], check=True, capture_output=True, text=True).stdout.strip()
        test_banner(os.path.join(folder, "none.gguf"), "no model", env)
        test_banner(demo, "the demo model", env)
        test_first(demo, env)
        test_replays(os.environ.get("GALEN_REPLAY_MODEL", tiny), env)
    c.finish()


if __name__ == "__main__":
    main()
