#!/usr/bin/env python3
"""Random schemas, random logits: every text that ends is JSON and valid for an independent validator.

The count comes from GALEN_SCHEMAS (300 unless told). A schema that Galen refuses must be refused for a stated reason, and most
must not be. Then the program itself: the demo model under a schema, and the command line's errors."""
import datetime
import ipaddress
import json
import os
import random
import re
import subprocess
import sys
import uuid

import jsonschema

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../golden"))
from galen import DATA, ROOT, Checks, run  # noqa: E402

BUILD = os.environ.get("GALEN_BUILD") or os.path.join(ROOT, "build")
N = int(os.environ.get("GALEN_SCHEMAS", "300"))
WORDS = ["a", "b", "ab", "name", "x y", "é", "quote\"d", "back\\slash", "", "very long property name", "rank", "a/b~c", "🤒"]
PATTERNS = ["^[A-Z][0-9]{2}$", "ab+", "^(yes|no)$", "^\\d{1,3}(\\.\\d+)?$", "^[^a-z]{2,5}$", "x|^y", "^.{3,7}$", "\\s", "^\\w+ \\w+$",
            "^[\"\\\\/]*$", "^(?:a{2}|b?c)*$", "\\S\\D", "^$", "^[\\u00e9-\\u00ff]{2}$"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "email"]
c = Checks()

# jsonschema's own checks of time and date-time need packages that are not here, or mean draft 3.
formats = jsonschema.FormatChecker(formats=())


def judge(name, test):
    def is_valid(text):
        try:
            return not isinstance(text, str) or bool(test(text))
        except ValueError:
            return False
    formats.checks(name)(is_valid)


judge("date", lambda t: datetime.date.fromisoformat(t) and len(t) == 10)
judge("time", lambda t: datetime.datetime.fromisoformat("2000-01-01T" + t).tzinfo)
judge("date-time", lambda t: datetime.datetime.fromisoformat(t).tzinfo and t[10] == "T")
judge("uuid", lambda t: uuid.UUID(t) and re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", t))
judge("ipv4", ipaddress.IPv4Address)
judge("email", lambda t: re.fullmatch(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+", t) or len(t) > 64)


def number(r):
    return r.choice([r.randint(-20, 20), r.randint(-10**6, 10**6), round(r.uniform(-5, 5), r.randint(0, 4))])


def value(r, depth=2):
    kind = r.randrange(7 if depth else 5)
    if kind == 0:
        return None
    if kind == 1:
        return r.random() < 0.5
    if kind == 2:
        return number(r)
    if kind in (3, 4):
        return r.choice(WORDS) * r.randint(1, 2)
    if kind == 5:
        return [value(r, depth - 1) for _ in range(r.randrange(3))]
    return {r.choice(WORDS): value(r, depth - 1) for _ in range(r.randrange(3))}


def scalar(r):
    kind = r.randrange(9)
    if kind == 0:
        return {"type": r.choice(["null", "boolean", "integer", "number", "string"])}
    if kind == 1:
        lo = r.randint(-1000, 1000)
        return {"type": "integer", r.choice(["minimum", "exclusiveMinimum"]): lo,
                r.choice(["maximum", "exclusiveMaximum"]): lo + r.randint(2, 5000)}
    if kind == 2:
        return {"type": "integer", r.choice(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]): number(r)}
    if kind == 3:
        lo = number(r)
        return {"type": "number", r.choice(["minimum", "exclusiveMinimum"]): lo,
                r.choice(["maximum", "exclusiveMaximum"]): lo + r.choice([0.5, 1, 20, 1234.5])}
    if kind == 4:
        lo = r.randrange(6)
        return {"type": "string", "minLength": lo, "maxLength": lo + r.choice([0, 1, 5, 40])}
    if kind == 5:
        return {"type": "string", "pattern": r.choice(PATTERNS)}
    if kind == 6:
        return {"type": "string", "format": r.choice(FORMATS)}
    if kind == 7:
        return {"enum": [value(r) for _ in range(r.randint(1, 5))]}
    return {"const": value(r)}


def schema(r, depth, defs):
    kind = r.randrange(10 if depth else 4)
    if kind < 4:
        return scalar(r)
    if kind in (4, 5):
        names = r.sample(WORDS, r.randint(0, 5))
        s = {"type": "object", "properties": {n: schema(r, depth - 1, defs) for n in names}}
        s["required"] = [n for n in names if r.random() < 0.6]
        more = r.randrange(4)
        if more == 0:
            s["additionalProperties"] = False
        if more == 1:
            s["additionalProperties"] = schema(r, 0, defs)
        if r.random() < 0.1:
            s["required"].append("not described")
        return s
    if kind == 6:
        s = {"type": "array", "items": schema(r, depth - 1, defs)}
        if r.random() < 0.5:
            s["prefixItems"] = [schema(r, 0, defs) for _ in range(r.randint(1, 3))]
        lo = r.randrange(4)
        s["minItems"] = lo
        s["maxItems"] = lo + r.randrange(4)
        return s
    if kind == 7:
        return {r.choice(["anyOf", "anyOf", "oneOf"]): [schema(r, depth - 1, defs) for _ in range(r.randint(1, 4))]}
    if kind == 8 and defs:
        return {"$ref": "#/$defs/" + r.choice(defs)}
    return {"allOf": [{"type": "object", "properties": {"a": scalar(r)}}, {"properties": {"b": schema(r, depth - 1, defs)}, "required": ["b"]}]}


def whole_schema(r):
    defs = ["d%d" % i for i in range(r.randrange(3))]
    s = schema(r, 3, defs)
    if defs:
        s = dict(s)
        s["$defs"] = {d: schema(r, 2, defs) for d in defs}
    return s


def check_random():
    r = random.Random(20261124)
    schemas = [whole_schema(r) for _ in range(N)]
    model = os.path.join(DATA, "vocab/ggml-vocab-gpt-2.gguf")
    lines = "".join(json.dumps(s, ensure_ascii=r.random() < 0.5) + "\n" for s in schemas)
    p = subprocess.run([os.path.join(BUILD, "tests/tools/grammar_random"), model, "1"], input=lines.encode(), capture_output=True,
                       timeout=14400)
    answers = p.stdout.decode().split("\n")
    c.check(p.returncode == 0 and len(answers) == N + 1, f"{N} schemas, {len(answers) - 1} answers, exit {p.returncode}: {p.stdout[:200]}")
    n_refused = n_whole = 0
    reasons = {}
    for s, line in zip(schemas, answers):
        a = json.loads(line)
        what = json.dumps(s) + "\n    " + line[:600]
        if a["status"] < 0:
            n_refused += 1
            reason = a["error"].split(": ", 1)[-1][:60]
            reasons[reason] = reasons.get(reason, 0) + 1
            c.check(a["status"] in (-4, -9) and a["error"].startswith(("#", "rule \"#")), what)
            continue
        if not c.check(a["status"] == 0, "did not end: " + what):
            continue
        n_whole += 1
        try:
            jsonschema.Draft202012Validator(s, format_checker=formats).validate(json.loads(a["text"]))
            ok = True
        except (ValueError, RecursionError, jsonschema.ValidationError) as e:
            ok, what = False, f"{what}\n    {str(e)[:300]}"
        c.check(ok, what)
    print(f"{N} random schemas: {n_whole} texts valid or reported above, {n_refused} refused: {reasons}")
    c.check(n_refused < N * 0.35, f"{n_refused} of {N} refused")


SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
                                           "sex": {"enum": ["female", "male"]}, "symptoms": {"type": "array", "items": {"type": "string", "maxLength": 40}, "minItems": 1, "maxItems": 3}},
          "required": ["name", "age", "sex", "symptoms"]}


def check_program(folder):
    file = os.path.join(folder, "schema.json")
    with open(file, "w", encoding="utf-8") as f:
        json.dump(SCHEMA, f)
    bad = os.path.join(folder, "bad.gbnf")
    with open(bad, "w", encoding="utf-8") as f:
        f.write("root ::= \"a\" nothing")
    model = os.path.join(folder, "tiny.gguf")
    run("synth", model, "--shape", "tiny")
    for seed in range(4):
        p = run("complete", model, "-p", "A", "--json-schema", file, "-s", seed, "-t", 2, "-n", 900, "--json", check=False)
        text = json.loads(p.stdout)["text"] if p.returncode == 0 else ""
        try:
            jsonschema.validate(json.loads(text), SCHEMA)
            ok = True
        except (ValueError, jsonschema.ValidationError):
            ok = False
        c.check(ok, f"random weights, seed {seed}: exit {p.returncode}, {text[:300]} {p.stderr[-200:]}")
    p = run("complete", model, "-p", "A", "--json-object", "-n", 40, check=False)
    c.check(p.returncode == 0 and p.stdout.startswith(b"{"), f"--json-object: {p.returncode} {p.stdout[:80]}")
    rows = [(["--grammar", bad, "--json-object"], "exclude each other"), (["--grammar", bad], "rule \"nothing\" is used and never defined"),
            (["--json-schema", "-"], "#/type: known types"), (["--json-schema", os.path.join(folder, "absent")], "No such file")]
    for options, says in rows:
        p = run("complete", model, "-p", "A", *options, stdin=b'{"type":"foo"}', check=False)
        c.check(p.returncode == 2 and says.encode() in p.stderr, f"{options}: exit {p.returncode}, {p.stderr[-300:]}")
    p = run("complete", model, "--json-schema", "-", stdin=b"{}", check=False)
    c.check(p.returncode == 2 and b"both the prompt and the schema" in p.stderr, f"stdin twice: {p.stderr[-200:]}")
    p = run("complete", model, "-p", "A", "--json-schema", file, "-n", 3, check=False)
    c.check(p.returncode == 0 and b"before the text was whole" in p.stderr, f"a cut text is said to be: {p.stderr[-300:]}")


def check_demo_model(folder):
    """The real model, if it is there or can be had."""
    p = subprocess.run([os.path.join(ROOT, "tools/fetch-model")], capture_output=True, timeout=600)
    if p.returncode:
        print("SKIP the demo model: it could not be fetched")
        return
    model, file = p.stdout.decode().strip(), os.path.join(folder, "schema.json")
    for seed in range(3):
        out = run("complete", model, "-p", "A patient as a JSON record:\n", "--json-schema", file, "-s", seed, "-n", 200, "-q").stdout
        try:
            jsonschema.validate(json.loads(out), SCHEMA)
            ok = True
        except (ValueError, jsonschema.ValidationError):
            ok = False
        c.check(ok, f"SmolLM2, seed {seed}: {out[:400]}")


if __name__ == "__main__":
    import tempfile
    check_random()
    with tempfile.TemporaryDirectory() as work:
        check_program(work)
        check_demo_model(work)
    c.finish()
