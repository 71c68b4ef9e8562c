"""A galen serve to test against, and raw HTTP to test it with. Needs no Python package."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from process import until as wait_for  # noqa: E402,F401
from tally import Tally  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GALEN = os.path.abspath(os.environ.get("GALEN") or os.path.join(ROOT, "build/galen"))
BUILD = os.environ.get("GALEN_BUILD") or os.path.dirname(GALEN)


class Server:
    """Started on a free port with a home of its own; the model is random weights unless GALEN_TEST_MODEL names one."""

    def __init__(self, *options, home=None, model=None, more=None):
        self.home = home or tempfile.mkdtemp(prefix="galen-serve-")
        self.is_own_home = home is None
        self.more = more or {}  # environment
        self.model = model or os.environ.get("GALEN_TEST_MODEL") or self.tiny(os.path.join(self.home, "tiny.gguf"))
        self.log_path = os.path.join(self.home, "log")
        self.log = open(self.log_path, "ab")
        self.options = options
        self.start()

    @staticmethod
    def tiny(path, seed=1):
        if not os.path.exists(path):
            subprocess.run([GALEN, "synth", path, "--shape", "tiny", "--type", "q8_0", "--seed", str(seed), "-q"], check=True)
        return path

    def env(self):
        e = {"PATH": os.environ["PATH"], "HOME": self.home, "GALEN_DB": os.path.join(self.home, "galen.db"), "LC_ALL": "C.UTF-8"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            if name in os.environ:
                e[name] = os.environ[name]
        return {**e, **self.more}

    def start(self):
        at = os.path.getsize(self.log_path)
        command = [GALEN, "serve", self.model, "--port", "0", "--log", "json", "--chat-format", "chatml", *self.options]
        self.p = subprocess.Popen(command, env=self.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)
        deadline = time.monotonic() + 120
        while True:
            said = open(self.log_path, encoding="utf-8", errors="replace").read()[at:]
            found = re.search(r"serving at https?://\[?([^\s\]]+?)\]?:(\d+) ", said)
            if found:
                break
            if self.p.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"galen serve did not start ({self.p.poll()}): {said[-2000:]}")
            time.sleep(0.01)
        self.host, self.port = found.group(1), int(found.group(2))

    @property
    def base(self):
        return f"http://{self.host}:{self.port}"

    def said(self):
        return open(self.log_path, encoding="utf-8", errors="replace").read()

    def alive(self):
        return self.p.poll() is None and request(self, "GET", "/livez")[0] == 200

    def stop(self, how=signal.SIGTERM, timeout=60):
        if self.p.poll() is None:
            self.p.send_signal(how)
        try:
            rc = self.p.wait(timeout)
        except subprocess.TimeoutExpired:
            self.p.kill()
            rc = self.p.wait()
            rc = f"did not end in {timeout} s"
        return rc

    def close(self):
        rc = self.stop()
        self.log.close()
        if self.is_own_home:
            shutil.rmtree(self.home, ignore_errors=True)
        return rc

    def fds(self):
        """0 where only root may look: the server is not dumpable."""
        try:
            return len(os.listdir(f"/proc/{self.p.pid}/fd"))
        except PermissionError:
            return 0

    def rss(self):
        for line in open(f"/proc/{self.p.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0


def connect(s, timeout=30):
    c = socket.create_connection((s.host, s.port), timeout=timeout)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return c


def read_all(c, limit=1 << 24):
    data = b""
    try:
        while len(data) < limit:
            piece = c.recv(65536)
            if not piece:
                break
            data += piece
    except (ConnectionError, socket.timeout, BlockingIOError):
        pass
    return data


def status_of(data):
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", data)
    return int(found.group(1)) if found else 0


def raw(s, data, timeout=10, half_close=False):
    """Bytes out, all that comes back until the server closes. (status of the last answer begun, bytes)."""
    c = connect(s, timeout)
    try:
        try:
            c.sendall(data)
            if half_close:
                c.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # refused in the middle: the answer may be there all the same
        got = read_all(c)
    finally:
        c.close()
    return status_of(got), got


def read_one(c, head_only=False):
    """One answer on a connection that stays open: (status, headers, body)."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = c.recv(65536)
        if not piece:
            return 0, {}, data
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if ": " in line)}
    if head_only:
        return status_of(data), headers, body
    if headers.get("transfer-encoding") == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            piece = c.recv(65536)
            if not piece:
                break
            body += piece
        out, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            n = int(size or b"0", 16)
            if not n:
                break
            out, rest = out + rest[:n], rest[n + 2:]
        body = out
    else:
        while len(body) < int(headers.get("content-length", 0)):
            piece = c.recv(65536)
            if not piece:
                break
            body += piece
    return status_of(data), headers, body


def build(method, path, body=None, headers=(), host="127.0.0.1"):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines += [f"Content-Length: {len(body)}"]
        if not any(h.lower().startswith("content-type") for h in headers):
            lines += ["Content-Type: application/json"]
    lines += list(headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def request(s, method, path, body=None, headers=(), timeout=60, host="127.0.0.1"):
    """(status, headers, body) of one request on a connection of its own."""
    c = connect(s, timeout)
    try:
        c.sendall(build(method, path, body, headers, host))
        return read_one(c)
    except ConnectionError:
        return 0, {}, b""
    finally:
        c.close()


def ask(s, path, body, **kw):
    """(status, JSON)."""
    status, _, data = request(s, "POST", path, body, **kw)
    try:
        return status, json.loads(data)
    except ValueError:
        return status, None


def events(s, path, body, headers=(), timeout=120):
    """A whole stream: (status, [(name or None, data)], comments)."""
    status, _, data = request(s, "POST", path, body, headers, timeout)
    found, comments = [], 0
    for block in data.decode("utf-8", "strict").split("\n\n"):
        name = None
        for line in block.split("\n"):
            if line.startswith(":"):
                comments += 1
            elif line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                found.append((name, line[6:] if line[6:] == "[DONE]" else json.loads(line[6:])))
    return status, found, comments


def endless(s):
    """The logit_bias under which no answer ends by itself: the tokens that would end it are forbidden."""
    _, got = ask(s, "/v1/tokenize", {"content": "<|end_of_text|><|eom_id|><|eot_id|>", "parse_special": True})
    return {str(i): -100 for i in got["tokens"]}


def metric(s, name):
    """Sum of a metric over its labels."""
    text = request(s, "GET", "/metrics")[2].decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.split("\n") if re.match(re.escape(name) + r"[{ ]", line))


def finished(s, how):
    """How many generations ended so: stop, length, abort, error."""
    text = request(s, "GET", "/metrics")[2].decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.split("\n") if line.startswith("galen_finished_total{") and f'finished_reason="{how}"' in line)


def each(*checks):
    """Checks that start servers of their own, one after the other; GALEN_TIMES says what each takes."""
    for check in checks:
        t0 = time.monotonic()
        check()
        if os.environ.get("GALEN_TIMES"):
            print(f"    {check.__name__} {time.monotonic() - t0:.1f} s", flush=True)


def together(n, fn):
    """fn(i) in n threads."""
    threads = [threading.Thread(target=fn, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
