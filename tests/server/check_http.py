"""Malformed requests, wrong parameters, clients that leave: each answered with the right status, and the server lives.

Rows are named as the reliability checklist has them: J JSON and HTTP, S parameters, C lifecycle. Raw sockets, no package."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from serving import (GALEN, Server, Tally, ask, build, connect, each, endless, events, finished, metric, raw, read_all, read_one, request, status_of,  # noqa: E402
                     together, wait_for)

T = Tally()
COMPLETE = "/v1/completions"
CHAT = "/v1/chat/completions"
HELLO = {"prompt": "hello", "max_tokens": 4, "seed": 1}
SECRET = "zzcanaryzz"  # what requests say and no log may
GONE_S = 60  # until nothing of a request runs any more, on a machine that has other things to do
LONG = {"prompt": "hello", "max_tokens": 100000, "seed": 1, "temperature": 0.9}  # and endless()'s logit_bias: it never ends by itself


def row(name, got, want, s=None):
    want = want if isinstance(want, tuple) else (want,)
    T.check(got in want, f"{name}: {got}, expected {' or '.join(map(str, want))}")
    if s is not None:
        T.check(s.p.poll() is None, f"{name}: the server ended with {s.p.poll()}")


def head(*lines):
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# ---------------------------------------------------------------- J: HTTP
def check_headers(s):
    """J1. 0: the connection is closed without an answer, which a client that sends no HTTP may expect."""
    get, host = "GET /livez HTTP/1.1", "Host: 127.0.0.1"
    row("J1 8 KiB + 1 of headers", raw(s, head(get, host, "X-A: " + "a" * (8193 - 40)))[0], (400, 413, 431), s)
    row("J1 a header of 4097 bytes", raw(s, head(get, host, "Connection: close", "X-A: " + "a" * 4097))[0], (400, 431), s)
    row("J1 101 headers", raw(s, head(get, host, *[f"X-{i}: a" for i in range(100)]))[0], (400, 431), s)
    row("J1 99 headers are fine", raw(s, head(get, host, "Connection: close", *[f"X-{i}: a" for i in range(97)]))[0], 200, s)
    row("J1 a header without a colon", raw(s, head(get, host, "nonsense"))[0], (400, 0), s)
    row("J1 NUL in a header", raw(s, head(get, host, "Connection: close", "X-A: a\0b"))[0], (400, 0), s)
    row("J1 NUL in a path", raw(s, b"GET /livez\0x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")[0], (400, 404, 0), s)
    row("J1 a control character in a header", raw(s, head(get, host, "Connection: close", "X-A: a\x01b"))[0], (400, 0), s)
    row("J1 bare CR in a header", raw(s, head(get, host, "Connection: close", "X-A: a\rb"))[0], (400, 0), s)
    row("J1 a space before the colon", raw(s, head(get, host, "Connection: close", "X-A : a"))[0], (400, 0), s)
    row("J1 two Hosts", raw(s, head(get, host, host, "Connection: close"))[0], 400, s)
    row("J1 no Host", raw(s, head(get, "Connection: close"))[0], 400, s)
    row("J1 a method of 5,000 bytes", raw(s, b"A" * 5000 + b" / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[0], (400, 405, 414, 431, 501, 0), s)
    row("J1 a path of 20,000 bytes", raw(s, b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[0], (400, 404, 414, 431, 0), s)
    # a gigabyte of headers: as much as the server takes before it hangs up
    c, sent = connect(s, 10), 0
    try:
        c.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        while sent < 1 << 30:
            c.sendall(b"X-A: " + b"a" * 1000 + b"\r\n")
            sent += 1007
    except (ConnectionError, socket.timeout):
        pass
    T.check(sent < 1 << 23, f"J1 a gigabyte of headers: {sent} bytes were taken")
    row("J1 a gigabyte of headers", status_of(read_all(c)), (400, 413, 431, 0), s)
    c.close()


def check_lengths(s):
    """J2, J3, J4."""
    post = [f"POST {COMPLETE} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    body = json.dumps(HELLO).encode()
    n = len(body)
    row("J2 negative length", raw(s, head(*post, "Content-Length: -1") + body)[0], (400, 0), s)
    row("J2 length 2^64", raw(s, head(*post, "Content-Length: 18446744073709551616") + body)[0], (400, 413, 0), s)
    row("J2 length 2^63", raw(s, head(*post, "Content-Length: 9223372036854775808") + body)[0], (400, 413, 0), s)
    row("J2 length 1x", raw(s, head(*post, "Content-Length: 1x") + body)[0], (400, 0), s)
    row("J2 two lengths", raw(s, head(*post, f"Content-Length: {n}", f"Content-Length: {n + 1}") + body)[0], 400, s)
    row("J2 length and chunked", raw(s, head(*post, f"Content-Length: {n}", "Transfer-Encoding: chunked") + body)[0], 400, s)
    row("J2 two encodings", raw(s, head(*post, "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + body)[0], (400, 0), s)
    row("J2 an unknown encoding", raw(s, head(*post, "Transfer-Encoding: gzip") + body)[0], (400, 411, 415, 501, 0), s)
    row("J2 no body", raw(s, head(*post, "Connection: close"))[0], 400, s)
    c = connect(s)
    c.sendall(head(*post, f"Content-Length: {n + 100}") + body)
    time.sleep(0.2)
    c.close()
    row("J2 a body that is smaller than its length", 1, 1, s)
    c = connect(s)
    c.sendall(head(*post, f"Content-Length: {n}") + body + b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    got = read_all(c)
    T.check(got.count(b"HTTP/1.1 200") == 2, "J2 what follows a body is the next request")
    c.close()
    chunked = head(*post, "Transfer-Encoding: chunked", "Connection: close")
    good = b"%x\r\n%s\r\n0\r\n\r\n" % (n, body)
    row("J3 chunks", raw(s, chunked + good)[0], 200, s)
    row("J3 a chunk of 2^64", raw(s, chunked + b"10000000000000000\r\n" + body)[0], (400, 413, 0), s)
    row("J3 a chunk of ffffffffffffffff", raw(s, chunked + b"ffffffffffffffff\r\n" + body, timeout=3)[0], (400, 413, 0), s)
    row("J3 a chunk size that is none", raw(s, chunked + b"zz\r\n" + body)[0], (400, 0), s)
    row("J3 no final chunk", raw(s, chunked + b"%x\r\n%s\r\n" % (n, body), timeout=3, half_close=True)[0], (400, 0), s)
    bomb = b"%x\r\n%s\r\n0\r\n" % (n, body) + b"".join(b"X-%d: a\r\n" % i for i in range(20000)) + b"\r\n"
    row("J3 a bomb of trailers", raw(s, chunked + bomb)[0], (200, 400, 413, 431, 0), s)
    limit = 4 << 20
    rss = s.rss()
    c = connect(s)
    c.sendall(head(*post, f"Content-Length: {limit + 1}", "Expect: 100-continue"))
    row("J4 one byte over the limit, before the body, which never comes", read_one(c)[0], 413, s)
    c.close()
    row("J4 a terabyte", raw(s, head(*post, f"Content-Length: {1 << 40}") + b"a" * 1000)[0], 413, s)
    row("J4 one byte over the limit, body and all", request(s, "POST", COMPLETE, b" " * (limit + 1))[0], 413, s)
    row("J4 the limit itself is read", raw(s, build("POST", COMPLETE, b" " * limit, ["Connection: close"]))[0], 400, s)
    big = chunked + b"".join(b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(66)) + b"0\r\n\r\n"
    row("J4 over the limit in chunks", raw(s, big)[0], 413, s)
    T.check(s.rss() - rss < 2 * limit + (8 << 20), f"J4 memory grew by {s.rss() - rss}")
    T.check(metric(s, "galen_http_requests_total") > 0, "figures count")


def check_json(s):
    """J5 to J8."""
    def post(name, body, want, path=COMPLETE):
        row(name, request(s, "POST", path, body)[0], want, s)
    post("J5 100,000 [", b"[" * 100000, 400)
    post("J5 100,000 {\"a\":", b'{"a":' * 100000, 400)
    post("J5 65 levels", b'{"prompt":' + b"[" * 65 + b"]" * 65 + b"}", 400)
    post("J5 a million keys", b'{' + b",".join(b'"%d":0' % i for i in range(400000)) + b'}', (400, 413))
    post("J5 a key twice", b'{"prompt":"a","prompt":"b"}', 400)
    post("J5 a string of 10 MiB", b'{"prompt":"' + b"a" * (10 << 20) + b'"}', 413)
    post("J5 1e999", b'{"prompt":"a","temperature":1e999}', 400)
    post("J5 -0", b'{"prompt":"a","temperature":-0,"max_tokens":1}', 200)
    post("J5 1e-400", b'{"prompt":"a","temperature":1e-400,"max_tokens":1}', (200, 400))
    post("J5 2^53+1", b'{"prompt":"a","seed":9007199254740993,"max_tokens":1}', 200)
    post("J5 2^64", b'{"prompt":"a","seed":18446744073709551616}', 400)
    for word in (b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b".5", b"1.", b"0x10"):
        post(f"J5 {word}", b'{"prompt":"a","temperature":' + word + b"}", 400)
    post("J5 not an object", b'["prompt"]', 400)
    post("J5 two values", b'{"prompt":"a"}{}', 400)
    post("J5 a comma too much", b'{"prompt":"a",}', 400)
    post("J5 a comment", b'{"prompt":"a"/**/}', 400)
    post("J6 a lone surrogate", b'{"prompt":"\\ud800","max_tokens":1}', 400)
    post("J6 a low surrogate first", b'{"prompt":"\\udc00\\ud800","max_tokens":1}', 400)
    post("J6 \\u0000", b'{"prompt":"a\\u0000b","max_tokens":1}', 400)
    post("J7 a BOM", b"\xef\xbb\xbf" + json.dumps(HELLO).encode(), 400)
    post("J7 UTF-16", json.dumps(HELLO).encode("utf-16"), 400)
    post("J7 GBK", '{"prompt":"\u54b3\u55fd"}'.encode("gbk"), 400)
    for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe2\x82"):
        post(f"J8 {bad}", b'{"prompt":"a' + bad + b'"}', 400)
        post(f"J8 {bad} in a message", b'{"messages":[{"role":"user","content":"a' + bad + b'"}]}', 400, CHAT)
        post(f"J8 {bad} in a key", b'{"pr' + bad + b'":"a"}', 400)


def check_output(s):
    """J9: whatever random weights write is valid UTF-8, streamed or not; J10: what is said must be something."""
    for seed in range(12):
        body = {"prompt": "caf\u00e9 \U0001f600", "max_tokens": 48, "seed": seed, "temperature": 2, "top_k": 0, "top_p": 1, "min_p": 0}
        status, whole = ask(s, COMPLETE, body)
        row("J9 random text", status, 200, s)
        text = whole["choices"][0]["text"]
        status, found, _ = events(s, COMPLETE, {**body, "stream": True})
        joined = "".join(d["choices"][0]["text"] for _, d in found if d != "[DONE]")
        T.check(joined == text, f"J9 seed {seed}: the stream's text is another: {joined!r} {text!r}")
        cut = [c for c in text if c != "\ufffd"][3:4]
        if cut:
            status, stopped = ask(s, COMPLETE, {**body, "stop": cut})
            T.check(status == 200 and cut[0] not in stopped["choices"][0]["text"], "J9 a stop string is not part of the text")
    for name, body, want in (
            ("empty prompt", {"prompt": ""}, (200, 400)), ("no prompt", {}, 400), ("null prompt", {"prompt": None}, 400),
            ("prompt 5", {"prompt": 5}, 400), ("prompt []", {"prompt": []}, 400), ("prompt [[]]", {"prompt": [[]]}, 400),
            ("two prompts", {"prompt": ["a", "b"]}, 400), ("ids", {"prompt": [1, 2, 3], "max_tokens": 1}, 200),
            ("id -1", {"prompt": [-1]}, 400), ("id 10^9", {"prompt": [10**9]}, 400), ("id 1.5", {"prompt": [1.5]}, 400)):
        row(f"J10 {name}", request(s, "POST", COMPLETE, body)[0], want, s)
    for name, messages, want in (
            ("no messages", [], 400), ("a string", "hello", 400), ("an unknown role", [{"role": "king", "content": "a"}], 400),
            ("no role", [{"content": "a"}], 400), ("null content", [{"role": "user", "content": None}], 400),
            ("content 5", [{"role": "user", "content": 5}], 400), ("not an object", ["a"], 400),
            ("an image", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}], 400),
            ("parts", [{"role": "user", "content": [{"type": "text", "text": "a"}]}], 200),
            ("a tool's result", [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "b"}], 200),
            ("100,000 messages", [{"role": "user", "content": "a"}] * 100000, (400, 413)),
            ("an empty text", [{"role": "user", "content": ""}], 200)):
        row(f"J10 {name}", request(s, "POST", CHAT, {"messages": messages, "max_tokens": 1})[0], want, s)


def check_paths(s):
    """J11 to J14."""
    for name, line, want in (
            ("an unknown path", "GET /v1/nothing HTTP/1.1", 404), ("another's path", "GET /../../etc/passwd HTTP/1.1", (400, 404)),
            ("/../ inside", "GET /v1/../v1/models HTTP/1.1", (400, 404)), ("%00", "GET /v1/models%00 HTTP/1.1", (400, 404)),
            ("%2e%2e", "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1", (400, 404)), ("//", "GET //v1//models HTTP/1.1", (400, 404)),
            ("absolute form", "GET http://evil.example/v1/models HTTP/1.1", (400, 404)), ("no slash", "GET v1/models HTTP/1.1", (400, 404)),
            ("*", "OPTIONS * HTTP/1.1", (400, 404, 405)), ("CONNECT", "CONNECT evil.example:80 HTTP/1.1", (400, 404, 405, 501)),
            ("TRACE", "TRACE /livez HTTP/1.1", (400, 405, 501)), ("HTTP/2.0", "GET /livez HTTP/2.0", (400, 505, 0)),
            ("HTTP/9", "GET /livez HTTP/9.9", (400, 505, 0)), ("no version", "GET /livez", (400, 505, 0)),
            ("HTTP/1.0", "GET /livez HTTP/1.0", 200), ("a GET that should be POST", f"GET {COMPLETE} HTTP/1.1", 405),
            ("an unknown method", "BREW /livez HTTP/1.1", (400, 405, 501))):
        row(f"J11 {name}", raw(s, head(line, "Host: 127.0.0.1", "Connection: close"))[0], want, s)
    row("J11 HTTP/2 preface", raw(s, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 64, timeout=3)[0], (400, 404, 405, 505, 0), s)
    row("J11 TLS hello", raw(s, bytes.fromhex("16030100a5010000a10303") + b"\x11" * 160, timeout=3, half_close=True)[0], (400, 0), s)
    row("J11 nothing but line ends", raw(s, b"\r\n" * 50, timeout=2, half_close=True)[0], (400, 0), s)
    status, headers, _ = request(s, "GET", COMPLETE)
    T.check(headers.get("allow") == "POST", f"J11 Allow of a wrong method: {headers.get('allow')}")
    for host, want in (("evil.example", 403), ("evil.example:8737", 403), ("127.0.0.1.evil.example", 403), ("localhost", 200),
                       ("LOCALHOST:1", 200), ("[::1]:80", 200), ("10.0.0.7", 200), ("", 403), ("127.0.0.1:99999999", 403), ("a b", 403),
                       ("clinic.example", 200)):
        row(f"J12 Host: {host}", request(s, "GET", "/livez", host=host)[0], want, s)
    for origin, want in (("null", 403), ("http://evil.example", 403), (f"http://127.0.0.1", 200), ("https://127.0.0.1", 403),
                         ("http://127.0.0.1:1", 403), ("https://page.example", 200), ("", 403), ("http://127.0.0.1.evil.example", 403)):
        status, headers, _ = request(s, "GET", "/v1/models", headers=[f"Origin: {origin}"])
        row(f"J12 Origin: {origin}", status, want, s)
        T.check(headers.get("access-control-allow-origin") == (origin if want == 200 else None), f"J12 the answer to Origin: {origin}")
    pre = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type"]
    status, headers, _ = request(s, "OPTIONS", COMPLETE, headers=["Origin: https://page.example", *pre])
    row("J12 preflight", status, 204, s)
    T.check(headers.get("access-control-allow-origin") == "https://page.example" and "*" not in str(headers), "J12 no wildcard")
    row("J12 preflight of a stranger", request(s, "OPTIONS", COMPLETE, headers=["Origin: http://evil.example", *pre])[0], 403, s)
    c = connect(s)
    c.sendall(build("GET", "/livez") * 20 + build("POST", COMPLETE, HELLO) + build("GET", "/livez", headers=["Connection: close"]))
    T.check(read_all(c).count(b"HTTP/1.1 200") == 22, "J13 pipelined requests, each answered in order")
    c.close()
    c = connect(s)
    c.sendall(build("POST", COMPLETE, HELLO, ["Expect: 100-continue", "Connection: close"]).split(b"\r\n\r\n")[0] + b"\r\n\r\n")
    T.check(b"100 Continue" in c.recv(100), "J13 100-continue")
    c.sendall(json.dumps(HELLO).encode())
    T.check(b" 200 " in read_all(c), "J13 and the answer")
    c.close()
    row("J14 gzip", request(s, "POST", COMPLETE, b"\x1f\x8b", ["Content-Encoding: gzip"])[0], 415, s)
    row("J14 a form", request(s, "POST", COMPLETE, b"a=b", ["Content-Type: application/x-www-form-urlencoded"])[0], 415, s)
    row("J14 text/plain", request(s, "POST", COMPLETE, HELLO, ["Content-Type: text/plain"])[0], 415, s)
    row("J14 json with a charset", request(s, "POST", COMPLETE, HELLO, ["Content-Type: application/json; charset=utf-8"])[0], 200, s)


# ---------------------------------------------------------------- S: parameters
INTS = {"max_tokens": (-1, 2**31 - 1), "n": (1, 16), "seed": (-1, 2**63 - 1), "top_k": (0, 2**31 - 1), "repeat_last_n": (-1, 2**31 - 1),
        "logprobs": (0, 20)}
REALS = {"temperature": (0, 2), "top_p": (0, 1), "min_p": (0, 1), "repeat_penalty": (0.01, 100), "presence_penalty": (-2, 2),
         "frequency_penalty": (-2, 2)}


def check_parameters(s):
    for name, (low, high) in INTS.items():
        for value in ("-9223372036854775808", "-1", "0", "1", str(high), str(high + 1), "2147483648", "9007199254740992", "1.5", '"1"',
                      "true", "[]", "{}", "null"):
            body = {"prompt": "a", "max_tokens": 1, "top_k": 1}
            body.pop(name, None)
            text = json.dumps(body)[:-1] + f', "{name}": {value}' + "}"
            is_int = value.lstrip("-").isdigit()
            ok = value == "null" or (is_int and low <= int(value) <= high and not (name == "max_tokens" and value == "0"))
            if name == "max_tokens" and ok:
                continue  # they would write until the context is full: see below
            row(f"S1 {name}={value}", request(s, "POST", COMPLETE, text.encode())[0], 200 if ok else 400, s)
    for name, (low, high) in REALS.items():
        for value in ("1e308", "-1e308", "0", "1e-45", "5e-324", "-1", '"1"', "true", "[]", "null", "0.5"):
            ok = value == "null" or (value not in ('"1"', "true", "[]") and low <= float(value) <= high)
            text = '{"prompt": "a", "max_tokens": 1, "%s": %s}' % (name, value)
            row(f"S1 {name}={value}", request(s, "POST", COMPLETE, text.encode())[0], 200 if ok else 400, s)
    for name, more, want in (
            ("n=10^6", {"n": 10**6}, 400), ("best_of", {"best_of": 5}, 400), ("best_of 1", {"best_of": 1}, 200),
            ("logit_bias id out of range", {"logit_bias": {"99999999": 1}}, 400), ("logit_bias -1", {"logit_bias": {"-1": 1}}, 400),
            ("logit_bias word", {"logit_bias": {"a": 1}}, 400), ("logit_bias 101", {"logit_bias": {"1": 101}}, 400),
            ("logit_bias text", {"logit_bias": {"1": "x"}}, 400), ("logit_bias list", {"logit_bias": [1]}, 400),
            ("logit_bias", {"logit_bias": {"1": -100, "2": 5.5}}, 200), ("logit_bias {}", {"logit_bias": {}}, 200),
            ("100,000 stops", {"stop": ["a"] * 100000}, 400), ("an empty stop", {"stop": [""]}, 400), ("stop \"\"", {"stop": ""}, 400),
            ("stop 5", {"stop": 5}, 400), ("stop", {"stop": "zzz"}, 200), ("16 stops", {"stop": ["zzz"] * 16}, 200),
            ("17 stops", {"stop": ["zzz"] * 17}, 400), ("max_tokens 0", {"max_tokens": 0}, 400), ("top_p 0", {"top_p": 0}, 200),
            ("suffix", {"suffix": "x"}, 400), ("typical_p", {"typical_p": 0.5}, 400), ("typical_p 1", {"typical_p": 1.0}, 200),
            ("mirostat", {"mirostat_mode": 2}, 400), ("a misspelt field", {"temprature": 1}, 400), ("user", {"user": "x"}, 200),
            ("no such model", {"model": "gpt-9"}, 404), ("model 5", {"model": 5}, 400), ("stream 1", {"stream": 1}, 400),
            ("stream_options without stream", {"stream_options": {}}, 400), ("echo 1", {"echo": 1}, 400)):
        row(f"S2 {name}", request(s, "POST", COMPLETE, {"prompt": "a", "max_tokens": 1, **more})[0], want, s)
    message = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    for name, more, want in (
            ("top_logprobs 10^6", {"logprobs": True, "top_logprobs": 10**6}, 400), ("top_logprobs alone", {"top_logprobs": 2}, 400),
            ("top_logprobs 20", {"logprobs": True, "top_logprobs": 20}, 200), ("logprobs 1", {"logprobs": 1}, 400),
            ("tools 5", {"tools": 5}, 400), ("tools [5]", {"tools": [5]}, 400), ("tool_choice x", {"tool_choice": "x"}, 400),
            ("tool_choice required alone", {"tool_choice": "required"}, 400), ("functions", {"functions": [{}]}, 400),
            ("chat_template", {"chat_template": "{{x}}"}, 400), ("chat_template_kwargs", {"chat_template_kwargs": {"a": 1}}, 400),
            ("response_format x", {"response_format": {"type": "x"}}, 400), ("response_format 5", {"response_format": 5}, 400),
            ("response_format text", {"response_format": {"type": "text"}}, 200), ("store", {"store": True}, 200),
            ("modalities audio", {"modalities": ["audio"]}, 400), ("modalities text", {"modalities": ["text"]}, 200),
            ("max_completion_tokens 0", {"max_completion_tokens": 0}, 400), ("max_completion_tokens", {"max_completion_tokens": 1}, 200)):
        row(f"S2 chat {name}", request(s, "POST", CHAT, {**message, **more})[0], want, s)


def check_schemas(s):
    """R: what cannot be enforced is refused, never half done."""
    message = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 64, "temperature": 0}
    def schema(value):
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}}
    for name, more, want in (
            ("R1 60,000 (", {"grammar": "root ::= " + "(" * 60000}, 400), ("R2 left recursion", {"grammar": 'root ::= root "a"'}, 400),
            ("R3 {0,2^31}", {"grammar": 'root ::= "a"{0,2147483648}'}, 400), ("R3 {5,2}", {"grammar": 'root ::= "a"{5,2}'}, 400),
            ("R3 ((a*)*)*", {"grammar": 'root ::= (("a"*)*)*'}, (200, 400)), ("R1 nothing", {"grammar": "nonsense"}, 400),
            ("R4 $ref to itself", schema({"$ref": "#"}), 400), ("R4 $ref to nowhere", schema({"$ref": "#/$defs/x"}), 400),
            ("R4 $ref to a file", schema({"$ref": "file:///etc/passwd"}), 400), ("R4 $ref to a URL", schema({"$ref": "http://evil.example/a"}), 400),
            ("R5 (?<=x)", schema({"type": "string", "pattern": "(?<=x)a"}), 400), ("R5 [z-a]", schema({"type": "string", "pattern": "[z-a]"}), 400),
            ("R6 type foo", schema({"type": "foo"}), 400), ("R6 type 5", schema({"type": 5}), 400), ("R6 enum []", schema({"enum": []}), 400),
            ("R6 minLength > maxLength", schema({"type": "string", "minLength": 5, "maxLength": 2}), 400), ("schema 5", schema(5), 400)):
        row(name, request(s, "POST", CHAT, {**message, **more})[0], want, s)
    shape = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
             "required": ["name", "age"], "additionalProperties": False}
    for seed in range(8):
        status, got = ask(s, CHAT, {**message, **schema(shape), "temperature": 1.5, "seed": seed, "max_tokens": 200})
        row("a schema", status, 200, s)
        if status == 200 and got["choices"][0]["finish_reason"] == "stop":
            value = json.loads(got["choices"][0]["message"]["content"])
            T.check(set(value) == {"name", "age"} and len(value["name"]) <= 8 and 0 <= value["age"] <= 99, f"a schema is kept: {value}")
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {
        "code": {"type": "string", "maxLength": 6}}, "required": ["code"], "additionalProperties": False}}}
    for choice in ("required", "auto", {"type": "function", "function": {"name": "look_up"}}):
        status, got = ask(s, CHAT, {**message, "tools": [tool], "tool_choice": choice, "max_tokens": 200, "seed": 3})
        row(f"tool_choice {choice}", status, 200, s)
        if status == 200 and choice != "auto" and got["choices"][0]["finish_reason"] == "tool_calls":
            call = got["choices"][0]["message"]["tool_calls"][0]["function"]
            T.check(call["name"] == "look_up" and set(json.loads(call["arguments"])) == {"code"}, f"a call keeps its schema: {call}")


def check_context(s):
    n_ctx = ask_get(s, "/v1/models")["data"][0]["meta"]["n_ctx"]
    status, got = ask(s, COMPLETE, {"prompt": [1] * n_ctx, "max_tokens": 1})
    row("a prompt as long as the context", status, 400, s)
    T.check(got["error"]["code"] == "context_length_exceeded" and str(n_ctx) in got["error"]["message"], f"both counts are told: {got}")
    status, got = ask(s, COMPLETE, {"prompt": [1] * (n_ctx - 2), "max_tokens": -1})
    row("a prompt that leaves room for two", status, 200, s)
    T.check(got["choices"][0]["finish_reason"] in ("length", "stop") and got["usage"]["prompt_tokens"] == n_ctx - 2, f"it is not cut: {got['usage']}")


def ask_get(s, path, **kw):
    return json.loads(request(s, "GET", path, **kw)[2])


# ---------------------------------------------------------------- C: lifecycle
def idle(s):
    return metric(s, "galen_requests_running") == 0 and metric(s, "galen_requests_waiting") == 0


def whole(s):
    """Answers that were written to their end, which LONG's are not while somebody cancels them."""
    return finished(s, "length") + finished(s, "stop")


def check_lifecycle(s):
    many = {**LONG, "n": 8}  # for seconds, so that whoever leaves does so while it is written

    def leaves(name, when, stream=True, body=many):
        before = whole(s)
        c = connect(s)
        c.sendall(build("POST", COMPLETE, {**body, "stream": stream}))
        when(c)
        c.close()
        T.check(wait_for(lambda: idle(s), GONE_S) and (body is HELLO or whole(s) == before), f"{name}: the request runs on")
        row(name, 1, 1, s)
    n_ctx = ask_get(s, "/v1/models")["data"][0]["meta"]["n_ctx"]
    half = {**many, "prompt": [5] * (n_ctx // 2)}
    leaves("C1 disconnect before the first byte", lambda c: None)
    leaves("C1 disconnect before the first byte, no stream", lambda c: None, stream=False)
    leaves("C1 disconnect in prefill", lambda c: wait_for(lambda: not idle(s)), body=half)
    leaves("C1 disconnect in prefill, no stream", lambda c: wait_for(lambda: not idle(s)), stream=False, body={**half, "prompt": [6] * (n_ctx // 2)})
    leaves("C1 disconnect mid-stream", lambda c: [c.recv(200) for _ in range(3)])
    leaves("C1 disconnect after the last token", lambda c: read_one(c), body=HELLO)
    # C2: one waits behind another
    n, before = 40, whole(s)
    streams = []
    for _ in range(n):
        c = connect(s)
        c.sendall(build("POST", COMPLETE, {**LONG, "stream": True}))
        streams.append(c)
    wait_for(lambda: metric(s, "galen_requests_running") > 0)
    for c in streams[1:]:
        c.close()
    T.check(wait_for(lambda: metric(s, "galen_requests_waiting") == 0 and metric(s, "galen_requests_running") <= 1, GONE_S), "C2 cancelled while another decodes")
    T.check(whole(s) <= before + 1, f"C2 cancelled, not ended: {whole(s) - before}")
    T.check(streams[0].recv(100) != b"", "C2 the other goes on")
    streams[0].close()
    T.check(wait_for(lambda: idle(s), GONE_S), "C2 all ended")
    # C3
    got = raw(s, build("GET", "/livez", headers=["Connection: close"]), half_close=True)
    row("C3 half-close, short answer", got[0], 200, s)
    got = raw(s, build("POST", COMPLETE, {**HELLO, "max_tokens": 50, "stream": True}, ["Connection: close"]), half_close=True)
    T.check(got[0] == 200 and b"[DONE]" in got[1], "C3 half-close of a stream's client: it still gets all of it")
    before = whole(s)
    got = raw(s, build("POST", COMPLETE, many, ["Connection: close"]), half_close=True)
    # Nothing at all (0) when the end of the client's side is seen before the request is under way.
    row("C3 half-close without a stream counts as leaving", got[0], (0, 200, 499), s)
    T.check(wait_for(lambda: idle(s), GONE_S) and whole(s) == before, "C3 and is cancelled")
    # C5: a reader that does not read is bounded, then dropped (the bound is a megabyte, the time 30 s: the load test waits for it)
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    c.connect((s.host, s.port))
    c.sendall(build("POST", COMPLETE, {**LONG, "stream": True, "logprobs": 20}))
    T.check(wait_for(lambda: metric(s, "galen_requests_running") == 1), "C5 it runs")
    c.close()
    T.check(wait_for(lambda: idle(s), GONE_S), "C5 and ends")


def is_refused(s):
    try:
        connect(s, 2).close()
        return False
    except OSError:
        return True


def check_reload():
    """C4: signals while requests run; a model unloaded and loaded again under load."""
    s = Server("--drain", "120", "--keep-alive", "1")
    try:
        results = []
        def one(i):
            for _ in range(6):
                results.append(request(s, "POST", COMPLETE, {**HELLO, "max_tokens": 20, "stream": i % 2 == 0})[0])
                if i == 0:
                    time.sleep(0.9)
        def hup(_):
            for _ in range(20):
                s.p.send_signal(signal.SIGHUP)
                time.sleep(0.05)
        together(7, lambda i: hup(i) if i == 6 else one(i))
        T.check(results.count(200) == 36, f"C4 SIGHUP and unloading under load: {sorted(set(results))}")
        T.check(wait_for(lambda: metric(s, "galen_model_unloads_total") >= 1, 30), "C4 an idle model is unloaded")
        T.check(ask_get(s, "/readyz") == {"status": "ok"} and not ask_get(s, "/v1/models")["data"][0]["loaded"], "C4 probes wake no model")
        row("C4 the next request loads it again", request(s, "POST", COMPLETE, HELLO)[0], 200, s)
        c = connect(s)
        c.sendall(build("POST", COMPLETE, {**HELLO, "max_tokens": 1500, "stream": True, "logit_bias": LONG["logit_bias"]}))
        c.recv(10)
        s.p.send_signal(signal.SIGTERM)
        T.check(wait_for(lambda: is_refused(s)), "C4 SIGTERM: new connections are taken")
        c.setblocking(False)
        so_far = read_all(c)
        T.check(not so_far.endswith(b"0\r\n\r\n"), "C4 SIGTERM: new connections are refused, but only after the stream")
        c.settimeout(60)
        T.check((so_far + read_all(c)).endswith(b"0\r\n\r\n"), "C4 SIGTERM lets a stream end")
        c.close()
        row("C4 exit status after a drain", s.p.wait(60), 0)
    finally:
        s.close()


def check_queue():
    s = Server("--parallel", "1", "--queue", "2", "--drain", "1")
    try:
        streams = []
        for _ in range(3):
            c = connect(s)
            c.sendall(build("POST", COMPLETE, {**LONG, "stream": True}))
            streams.append(c)
            T.check(wait_for(lambda: metric(s, "galen_requests_running") + metric(s, "galen_requests_waiting") == len(streams)), "it runs or waits")
        status, headers, body = request(s, "POST", COMPLETE, HELLO)
        row("a full queue", status, 429, s)
        T.check(int(headers.get("retry-after", "0")) >= 1 and json.loads(body)["error"]["type"] == "rate_limit_error", "429 says when to come again")
        row("SIGTERM with streams that do not end", s.stop(), 0)
        T.check(any(b"[DONE]" not in read_all(c) for c in streams), "cut after --drain")
        for c in streams:
            c.close()
    finally:
        s.close()


# ---------------------------------------------------------------- keys, addresses, TLS
def check_keys():
    s = Server()
    home = s.home
    keys = os.path.join(home, "keys")
    names = {"clinician": "c" * 20, "auditor": "a" * 20, "admin": "d" * 20}
    with open(keys, "w") as f:
        f.write("# keys of the test\n" + "".join(f"{r}1 {r} {k}\n" for r, k in names.items()))
    model = s.model
    s.stop()
    k = Server("--api-keys", keys, home=home, model=model)
    try:
        def bearer(key):
            return [f"Authorization: Bearer {key}"]
        row("no key", request(k, "POST", COMPLETE, HELLO)[0], 401, k)
        for bad in ("", "x", "c" * 19, "c" * 21, "c" * 19 + "d", "C" * 20, "c" * 200):
            row(f"a wrong key of {len(bad)}", request(k, "POST", COMPLETE, HELLO, bearer(bad))[0], 401, k)
        row("Basic", request(k, "POST", COMPLETE, HELLO, ["Authorization: Basic " + "c" * 20])[0], 401, k)
        for role, want in (("clinician", 200), ("auditor", 403), ("admin", 200)):
            row(f"{role} asks", request(k, "POST", COMPLETE, HELLO, bearer(names[role]))[0], want, k)
        row("probes need none", request(k, "GET", "/readyz")[0], 200, k)
        row("figures do", request(k, "GET", "/metrics")[0], 401, k)
        row("an auditor's figures", request(k, "GET", "/metrics", headers=bearer(names["auditor"]))[0], 200, k)
        row("a role is known before a body is read", request(k, "POST", COMPLETE, b"x" * 100, bearer(names["auditor"]))[0], 403, k)
        said = k.said()
        T.check(not any(key in said for key in names.values()), "no key in the log")
        with open(keys, "w") as f:
            f.write("eve clinician " + "e" * 20 + "\n")
        k.p.send_signal(signal.SIGHUP)
        T.check(wait_for(lambda: request(k, "POST", COMPLETE, HELLO, bearer("e" * 20))[0] == 200, 30), "SIGHUP reads new keys")
        row("and forgets old ones", request(k, "POST", COMPLETE, HELLO, bearer(names["admin"]))[0], 401, k)
        with open(keys, "w") as f:
            f.write("eve clinician short\n")
        k.p.send_signal(signal.SIGHUP)
        T.check(wait_for(lambda: "keys_not_reloaded" in k.said(), 30), "a bad file is told")
        row("and the old keys stay", request(k, "POST", COMPLETE, HELLO, bearer("e" * 20))[0], 200, k)
        # starting
        def starts(*options):
            return subprocess.run([GALEN, "serve", model, *options], env=k.env(), capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        p = starts("--port", str(k.port))
        T.check(p.returncode == 6 and b"in use" in p.stderr, f"an address in use: {p.returncode} {p.stderr}")
        p = starts("--host", "0.0.0.0", "--port", "0")
        T.check(p.returncode == 2 and b"--api-keys" in p.stderr, f"a bind beyond loopback without keys: {p.returncode} {p.stderr}")
        p = starts("--host", "evil.example", "--port", "0")
        T.check(p.returncode == 2, f"a name as host: {p.returncode} {p.stderr}")
        p = starts("--api-keys", keys, "--port", "0")
        T.check(p.returncode == 2 and b"line 1" in p.stderr and b"short" not in p.stderr, f"a bad key file: {p.returncode} {p.stderr}")
        p = starts("--api-keys", os.path.join(home, "none"), "--port", "0")
        T.check(p.returncode == 2, f"no key file: {p.returncode} {p.stderr}")
        p = starts("--tls-cert", keys, "--port", "0")
        T.check(p.returncode == 2, f"a certificate without a key: {p.returncode} {p.stderr}")
        p = subprocess.run([GALEN, "serve", os.path.join(home, "none.gguf")], env=k.env(), capture_output=True, timeout=60)
        T.check(p.returncode == 3, f"no model: {p.returncode}")
        p = starts("--also", keys, "--host", "127.0.0.1", "--port", "0", "--max-models", "0")
        T.check(p.returncode == 2, "max-models 0")
    finally:
        k.close()
        s.close()


def check_models():
    """Several models by name; the least recently used makes room."""
    s = Server()
    other = Server.tiny(os.path.join(s.home, "other.gguf"), 2)
    s.stop()
    m = Server("--also", other, home=s.home, model=s.model)
    try:
        T.check([d["id"] for d in ask_get(m, "/v1/models")["data"]] == ["tiny", "other"], "two models are listed")
        row("GET one", request(m, "GET", "/v1/models/other")[0], 200, m)
        row("GET none", request(m, "GET", "/v1/models/none")[0], 404, m)
        texts = {}
        for name in ("tiny", "other", "tiny", "other"):
            status, got = ask(m, COMPLETE, {**HELLO, "model": name})
            row(f"model {name}", status, 200, m)
            T.check(got["model"] == name and texts.setdefault(name, got["choices"][0]["text"]) == got["choices"][0]["text"], "the same again")
        T.check(texts["tiny"] != texts["other"], "two models, two texts")
        T.check(metric(m, "galen_model_unloads_total") == 3 and metric(m, "galen_model_loads_total") == 4, "one at a time is in memory")
        results = []
        together(8, lambda i: results.append(ask(m, COMPLETE, {**HELLO, "model": ("tiny", "other")[i % 2]})))
        T.check(all(status == 200 and got["choices"][0]["text"] == texts[got["model"]] for status, got in results), "both at once, in turns")
    finally:
        m.close()
        s.close()


def main():
    s = Server("--allow-host", "clinic.example", "--allow-origin", "https://page.example")
    try:
        LONG["logit_bias"] = endless(s)
        for check in (check_headers, check_lengths, check_json, check_output, check_paths, check_parameters, check_schemas, check_context,
                      check_lifecycle):
            t0 = time.monotonic()
            check(s)
            if os.environ.get("GALEN_TIMES"):
                print(f"    {check.__name__} {time.monotonic() - t0:.1f} s", flush=True)
        T.check(s.alive(), "the server lives")
        ask(s, CHAT, {"messages": [{"role": "user", "content": SECRET}], "user": SECRET, SECRET: 1})
        ask(s, CHAT, {"messages": [{"role": SECRET, "content": SECRET}], "model": SECRET})
        got = [raw(s, head(f"GET /{SECRET} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"))[1],
               request(s, "POST", COMPLETE, b'{"prompt": "' + SECRET.encode())[2], request(s, "POST", COMPLETE, {"prompt": "a", SECRET: 1})[2]]
        T.check(not any(SECRET.encode() in g for g in got), "no text in an error")
        T.check(SECRET not in s.said() and SECRET not in request(s, "GET", "/metrics")[2].decode(), "no text in the log and the figures")
        row("exit status", s.stop(), 0)
    finally:
        s.close()
    each(check_reload, check_queue, check_keys, check_models)
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
