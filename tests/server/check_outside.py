"""What stands around the server: TLS, the page's policy, systemd's readiness and watchdog, no connection out, no core dump, HAProxy with
two replicas. openssl, strace and haproxy are used where they are there; what is skipped is said."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from serving import GALEN, ROOT, Server, Tally, ask, connect, each, metric, request, wait_for  # noqa: E402

T = Tally()
HELLO = {"prompt": "hello", "max_tokens": 4}


def check_page(s):
    status, headers, body = request(s, "GET", "/")
    policy = headers.get("content-security-policy", "")
    if not os.path.exists(os.path.join(ROOT, "web/index.html")):
        print("SKIP the page: web/ is empty")
        return
    T.check(status == 200 and headers["content-type"].startswith("text/html"), f"the page: {status}")
    T.check("default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy and "http" not in policy, f"its policy: {policy}")
    T.check(headers.get("x-frame-options") == "DENY" and headers.get("x-content-type-options") == "nosniff", "and headers")
    text = body.decode()
    T.check(not re.search(r"<script(?![^>]*src=)|\son\w+=|style=\"|https?://(?!www\.w3\.org)", text), "no inline script or style, no other origin")
    for name in re.findall(r'(?:src|href)="([\w./-]+)"', text):
        status, headers, _ = request(s, "GET", "/" + name.lstrip("./"))
        T.check(status == 200 and headers["content-type"].split(";")[0] != "application/octet-stream", f"the page's file {name}: {status}")
    T.check(request(s, "GET", "/nothing.js")[0] == 404, "a file that is none")


def check_tls():
    if not shutil.which("openssl"):
        print("SKIP TLS: no openssl")
        return
    h = Server()
    h.stop()
    cert, key = os.path.join(h.home, "cert.pem"), os.path.join(h.home, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True)
    s = Server("--tls-cert", cert, "--tls-key", key, home=h.home, model=h.model)
    try:
        context = ssl.create_default_context(cafile=cert)
        c = http.client.HTTPSConnection(s.host, s.port, context=context, timeout=30)
        for _ in range(3):
            c.request("POST", "/v1/completions", json.dumps(HELLO), {"Content-Type": "application/json"})
            r = c.getresponse()
            T.check(r.status == 200 and json.loads(r.read())["choices"], f"over TLS: {r.status}")
        T.check(c.sock.version() in ("TLSv1.2", "TLSv1.3"), f"{c.sock.version()}")
        c.request("POST", "/v1/completions", json.dumps({**HELLO, "stream": True, "max_tokens": 60}), {"Content-Type": "application/json"})
        T.check(c.getresponse().read().endswith(b"data: [DONE]\n\n"), "a stream over TLS")
        c.close()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        try:
            old.set_ciphers("ALL:@SECLEVEL=0")
            old.wrap_socket(socket.create_connection((s.host, s.port)), server_hostname="localhost")
            T.check(False, "TLS 1.1 is taken")
        except (ssl.SSLError, OSError, ValueError):
            T.check(True, "")
        plain = connect(s, 3)
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            T.check(b"200" not in plain.recv(100), "plain HTTP on the TLS port is not answered")
        except OSError:
            T.check(True, "")
        plain.close()
        T.check(s.p.poll() is None, "the server lives")
    finally:
        T.check(s.close() == 0, "it ends well")
        h.close()


def check_notify():
    """READY=1 once the model is loaded, WATCHDOG=1 while it lives, STOPPING=1 at the end."""
    h = Server()
    h.stop()
    path = os.path.join(h.home, "notify")
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.bind(path)
    inbox.settimeout(60)
    p = subprocess.Popen([GALEN, "serve", h.model, "--port", "0", "--log", "none"], env={**h.env(), "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "800000"},
                         stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        said = [inbox.recv(200).decode() for _ in range(4)]
        p.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in said[-1]:
            said.append(inbox.recv(200).decode())
        T.check(any(x.startswith("READY=1") for x in said) and sum("WATCHDOG=1" in x for x in said) >= 2, f"notify: {said}")
        T.check(p.wait(60) == 0, "it ends well")
    except socket.timeout:
        T.check(False, "notify: nothing came")
    finally:
        p.kill()
        inbox.close()
        h.close()


def check_curtains(s):
    limits = open(f"/proc/{s.p.pid}/limits").read()
    T.check(re.search(r"Max core file size\s+0\s+0", limits), "no core dump")
    left = [n for n in os.listdir(s.home) if n not in ("galen.db", "galen.db-wal", "galen.db-shm", "galen.db.key", "galen.db.links", "tiny.gguf", "log", ".cache")]
    T.check(not left, f"files of its own beside its database: {left}")
    T.check(oct(os.stat(os.path.join(s.home, "galen.db.links")).st_mode & 0o777) == "0o600", "the key of links is the owner's")


def check_no_way_out():
    """Every connect(2) and sendto(2) with an address of a whole case under strace: none leaves this machine."""
    if not shutil.which("strace") or subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode:
        print("SKIP no way out: strace cannot trace here")
        return
    h = Server()
    h.stop()
    log = os.path.join(h.home, "calls")
    p = subprocess.Popen(["strace", "-f", "-q", "-e", "trace=socket,connect,sendto,sendmsg", "-o", log, GALEN, "serve", h.model, "--port", "0", "--chat-format", "plain"],
                         env=h.env(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in p.stderr:
            found = re.search(r"http://127.0.0.1:(\d+)", line)
            if found:
                break
        h.port, h.host = int(found.group(1)), "127.0.0.1"
        threading.Thread(target=p.stderr.read, daemon=True).start()
        T.check(ask(h, "/v1/completions", HELLO)[0] == 200, "under strace")
        T.check(ask(h, "/v1/cases", {"symptoms": "cough and fever for three days", "stream": False})[0] == 200, "a case under strace")
        T.check(request(h, "GET", "/v1/cases")[0] == 200, "and the list")
    finally:
        subprocess.run(["pkill", "-TERM", "-P", str(p.pid)])
        p.wait(60)
    calls = [line for line in open(log, errors="replace") if re.search(r"connect\(|sa_family=AF_INET|AF_NETLINK", line)]
    T.check(not calls, f"calls that go out: {calls[:3]}")
    h.close()


def haproxy(a, b):
    """(process, its lines, where it listens), once it answers or has ended. Its ports cannot be any free ones; these are free a moment before."""
    ports = {}
    for name in ("GALEN_FRONT_PORT", "GALEN_STATS_PORT"):
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        ports[name] = str(probe.getsockname()[1])
        probe.close()
    e = {**os.environ, **ports, "GALEN_A_PORT": str(a.port), "GALEN_B_PORT": str(b.port)}
    p = subprocess.Popen(["haproxy", "-db", "-f", os.path.join(ROOT, "packaging/haproxy/haproxy.cfg")], env=e, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(p.stdout), daemon=True)
    reader.start()

    class Front:
        host, port = "127.0.0.1", int(ports["GALEN_FRONT_PORT"])

    def is_up():
        try:
            return request(Front, "GET", "/readyz")[0] == 200
        except OSError:
            return False
    wait_for(lambda: p.poll() is not None or is_up(), 60)
    if p.poll() is not None:
        reader.join(10)
    return p, lines, Front


def check_haproxy():
    if not shutil.which("haproxy"):
        print("SKIP HAProxy: it is not here")
        return
    a = Server()
    b = Server("--metrics-compat", "vllm", model=a.model)
    p, lines, Front = haproxy(a, b)
    for _ in range(4):  # another program may have taken a port meanwhile
        if p.poll() is not None and "cannot bind" in "".join(lines):
            p, lines, Front = haproxy(a, b)
    try:
        if not T.check(p.poll() is None, f"HAProxy answers: {lines[-3:]}"):
            return
        time.sleep(2)
        got = [request(Front, "POST", "/v1/completions", HELLO, [f"X-Session-Token: s{i}"])[0] for i in range(24)]
        T.check(got == [200] * 24, f"24 sessions: {got}")
        def n(s):
            return metric(s, "galen_finished_total")
        T.check(n(a) + n(b) == 24 and min(n(a), n(b)) >= 3, f"both replicas work: {n(a)}, {n(b)}")
        before = (n(a), n(b))
        for _ in range(6):
            request(Front, "POST", "/v1/completions", HELLO, ["X-Session-Token: one"])
        T.check(sorted((n(a) - before[0], n(b) - before[1])) == [0, 6], "a session stays with its replica")
        status, _, body = request(Front, "POST", "/v1/completions", {**HELLO, "stream": True, "max_tokens": 50})
        T.check(status == 200 and body.endswith(b"data: [DONE]\n\n"), "a stream through HAProxy")
        T.check(request(Front, "GET", "/metrics")[0] == 404, "figures stay inside")
        T.check(b"vllm:num_requests_waiting{" in request(b, "GET", "/metrics")[2], "vLLM's names, for routers")
        a.p.send_signal(signal.SIGTERM)  # one replica drains while work goes on
        end, got = time.monotonic() + 5, []
        while time.monotonic() < end:
            got.append(request(Front, "POST", "/v1/completions", HELLO, [f"X-Session-Token: s{len(got)}"])[0])
        T.check(set(got) == {200}, f"a replica goes, nobody notices: {[(c, got.count(c)) for c in set(got)]}")
        a.p.wait(60)
        a.start()  # on another port: only this test's trouble
        T.check("zzz" not in "".join(lines), "HAProxy's log")
    finally:
        p.terminate()
        p.wait(60)
        b.close()
        a.close()


def main():
    s = Server()
    try:
        check_page(s)
        check_curtains(s)
    finally:
        s.close()
    each(check_tls, check_notify, check_no_way_out, check_haproxy)
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
