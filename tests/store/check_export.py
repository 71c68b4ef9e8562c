"""Exports: FHIR validates with fhir.resources, JSON with its published schema, HTML and Markdown keep untrusted text inside.

Cases are random, many with hostile text; they go through the program: an SQLite database is filled, `galen history export` writes.
GALEN names the binary; GALEN_CASES how many cases (default 60). Ends with 'N passed, N failed'."""
import html.parser
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import jsonschema
from fhir.resources.R4B import get_fhir_model_class

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

T = Tally(30)
check = T.check

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GALEN = os.path.abspath(os.environ.get("GALEN") or os.path.join(ROOT, "build/galen"))
N = int(os.environ.get("GALEN_CASES", "60"))
WORK = tempfile.mkdtemp(prefix="galen-export-")
DB = os.path.join(WORK, "galen.db")

HOSTILE = [
    "<script>alert(1)</script>", "</bdi></td><img src=x onerror=alert(1)>", "\"><svg/onload=1>", "' onmouseover='x", "&lt;b&gt; &amp; &#x3c;",
    "]]>", "<!-- -->", "--> <script>", "javascript:alert(1)", "{{7*7}} ${7*7}", "'; DROP TABLE cases; --", "%s%n%x", "\\\" \\n \\u0000",
    "# heading\n## more", "- item\n* item\n1. item", "[link](http://evil.example)", "![img](http://evil.example/x.png)", "`code` ```", "> quote",
    "| a | b |\n|---|---|", "***bold***", "<http://evil.example>", "\u202egnitirw desrever\u202c", "\u0000nul", "\u0007bell \u001b[31mred", "\u0085\u2028\u2029",
    "  leading and trailing  ", "", " ", "\ufeff", "\U0001f912 \u00e9\u00df \u4e2d\u6587 \u0639\u0631\u0628\u064a", "a" * 5000, "\n\n\n", "\\", "~~x~~", "***", "===", "---", "1) x", "+ x",
    "https://evil.example/?q=1", "data:text/html,<script>1</script>", "</style><script>1</script>", "</title><script>1</script>",
]


def run(*args):
    e = {"PATH": os.environ["PATH"], "HOME": WORK, "LC_ALL": "C.UTF-8", "GALEN_DB": DB}
    e.update({k: v for k, v in os.environ.items() if k in ("ASAN_OPTIONS", "UBSAN_OPTIONS")})
    return subprocess.run([GALEN, *map(str, args)], capture_output=True, env=e, timeout=60)


# ---------------------------------------------------------------- cases
def words(r):
    if r.random() < 0.5:
        return r.choice(HOSTILE)
    return " ".join(r.choice(["fever", "cough", "pain", "3 days", "left arm", r.choice(HOSTILE)[:60]]) for _ in range(r.randint(1, 8)))


def quotes(r):
    return [{"quote": words(r), "from": r.randint(0, 9), "to": r.randint(0, 99)} for _ in range(r.randint(0, 3))]


def differential(r):
    p = sorted((r.random() for _ in range(5)), reverse=True)
    total = sum(p) + r.random()
    codes = [("J18.9", "Pneumonia, unspecified organism"), ("I20.0", "Unstable angina"), (None, None), ("R07.9", words(r)), ("bad code", "x"), ("A00", "Cholera"),
             ("<A1>", "y"), ("J18.", "z"), ("S72.001A", "fracture")]
    conditions = []
    for i in range(5):
        code, title = r.choice(codes)
        conditions.append({"rank": i + 1, "name": words(r), "confidence": p[i] / total, "code": code, "code_title": title, "support": quotes(r),
                           "against": quotes(r), "missing": [words(r) for _ in range(r.randint(0, 2))]})
    return {"conditions": conditions, "other": 1 - sum(c["confidence"] for c in conditions), "confidence_meaning": words(r), "is_calibrated": False,
            "agreement": r.random(), "code_year": r.choice([2026, "2026", None]), "model": {"name": words(r), "sha256": "ab" * 32}, "device": words(r),
            "seed": r.randint(0, 2**53), "prompt_version": "1", "timings": {"prefill_s": 0.1}}


def turns(r):
    out = [("symptoms", {"text": words(r)})]
    if r.random() < 0.8:
        level = r.choice(["self_care", "consultation", "consultation_24", "emergency", "emergency_ambulance"])
        flags = [{"id": words(r), "message": words(r), "source": words(r), "quote": words(r), "from": 0, "to": 3} for _ in range(r.randint(0, 3))]
        out.append(("triage", {"level": level, "flags": flags, "asks": []}))
    if r.random() < 0.9:
        out.append(("differential", differential(r)))
    for n in range(1, r.randint(1, 7)):
        out.append(("question", {"number": n, "text": words(r), "reason": "entropy", "bits": 0.5}))
        if r.random() < 0.8:
            kind = r.choice(["yes", "no", "unknown", "text"])
            out.append(("answer", {"number": n, "kind": kind, "text": words(r) if kind == "text" else None}))
            if r.random() < 0.3:
                out.append(("differential", differential(r)))
    if r.random() < 0.5:
        out.append(("closed", {"reason": "user"}))
    return out


# Turns of a wrong form: missing members, other types.
ODD = [{}, [], "x", 5, None, {"text": 5}, {"conditions": "x"}, {"conditions": [1, None, {}]}, {"conditions": [{"name": 5, "confidence": "x", "support": "y"}] * 7},
       {"flags": {}, "level": 3}, {"flags": [None, 1]}, {"number": "1"}, {"number": -5, "text": "q"}, {"number": 2**62, "kind": 7}, {"model": []}, {"reason": 1},
       {"conditions": [{"confidence": 7, "code": "J18.9"}, {"confidence": -1}], "other": "x", "code_year": [], "device": {}, "seed": "s"}]


def fill():
    """Every case's turns, as SQLite itself takes them: past the program's own checks."""
    run("history", "list")  # makes the database
    db = sqlite3.connect(DB)
    cases = {}
    for i in range(1, N + 1):
        r = random.Random(i)
        t = turns(r)
        if i % 4 == 0:
            for _ in range(4):
                t.insert(r.randrange(len(t) + 1), (r.choice(["symptoms", "triage", "differential", "question", "answer", "closed", "other"]), r.choice(ODD)))
        cases[i] = t
        begun = r.choice([0, 1700000000000, 1800000000123, -5, 253402300799999, 2**62])
        db.execute("INSERT INTO cases (id, created_ms, changed_ms, n_turns, n_bytes, params, salt, parent, parent_turns) VALUES (?,?,?,?,?,?,x'00',?,?)",
                   (i, begun, begun, len(t), 0, r.choice([None, '{"seed":1}']), i // 2 * (i % 3 == 0), 1))
        for k, (kind, content) in enumerate(t, 1):
            db.execute("INSERT INTO turns (case_id, seq, kind, time_ms, content) VALUES (?,?,?,?,?)", (i, k, kind, begun, json.dumps(content)))
    db.commit()
    db.close()
    return cases


def export(i, form):
    p = run("history", "export", i, "--to", form, "-q")
    check(p.returncode == 0, f"case {i} as {form}: ended with {p.returncode}: {p.stderr[-200:]!r}")
    return p.stdout.decode("utf-8", "strict")


# ---------------------------------------------------------------- formats
def check_fhir(i, case):
    text = export(i, "fhir")
    try:
        bundle = get_fhir_model_class("Bundle").model_validate_json(text)
    except Exception as e:  # whatever the validator says
        return check(False, f"case {i}: not FHIR R4: {str(e)[:600]}")
    b = json.loads(text)
    urls = {e["fullUrl"] for e in b["entry"]}
    references = set(re.findall(r'"reference": "([^"]*)"', text))
    check(len(urls) == len(b["entry"]) and references <= urls, f"case {i}: references that lead nowhere: {references - urls}")
    kinds = [e["resource"]["resourceType"] for e in b["entry"]]
    last = [c for k, c in case if k == "differential"][-1:]
    regular = bool(last) and isinstance(last[0], dict) and isinstance(last[0].get("conditions"), list) and len(last[0]["conditions"]) == 5
    if regular:
        check(kinds.count("Condition") == 5 and kinds.count("RiskAssessment") == 1, f"case {i}: {kinds}")
        risk = next(e["resource"] for e in b["entry"] if e["resource"]["resourceType"] == "RiskAssessment")
        want = [c["confidence"] for c in last[0]["conditions"]]
        check(all(abs(p["probabilityDecimal"] - w) < 1e-12 for p, w in zip(risk["prediction"], want)), f"case {i}: other probabilities")
    for e in b["entry"]:
        r = e["resource"]
        if r["resourceType"] == "Condition":
            check(r["verificationStatus"]["coding"][0]["code"] == "differential", f"case {i}: {r['verificationStatus']}")
            for coding in r["code"].get("coding", []):
                check(re.fullmatch(r"[A-Z][0-9A-Z]{2}(\.[0-9A-Z]{1,4})?", coding["code"]), f"case {i}: code {coding['code']!r}")
        if r["resourceType"] == "Patient":
            check(set(r) == {"resourceType", "identifier"}, f"case {i}: the patient has {set(r)}")
    check(bundle.type == "collection" and text == export(i, "fhir"), f"case {i}: another bundle the second time")


class Page(html.parser.HTMLParser):
    ALLOWED = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "span", "bdi", "ul", "li", "table", "tr", "th", "td", "blockquote"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.bad, self.open, self.text, self.in_bdi, self.policy = [], [], "", 0, None

    def handle_starttag(self, tag, attrs):
        names = {k for k, _ in attrs}
        if tag not in self.ALLOWED or names - {"class", "lang", "charset", "http-equiv", "content", "name"}:
            self.bad.append((tag, attrs))
        if tag == "meta":
            self.policy = self.policy or dict(attrs).get("content")
            return
        self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.bad.append(("end", tag))

    def handle_data(self, data):
        if self.open and self.open[-1] == "bdi":
            self.text += data + "\n"

    def handle_comment(self, data):
        self.bad.append(("comment", data))


def shown(text):
    return "".join("\ufffd" if (ord(c) < 32 and c not in "\n\t\r") or 0x7F <= ord(c) < 0xA0 else c for c in text)


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for k, v in value.items():
            if k in ("text", "name", "quote", "message", "missing", "conditions", "flags", "support", "against"):
                yield from texts(v)
    elif isinstance(value, list):
        for v in value:
            yield from texts(v)


def check_html(i, case):
    text = export(i, "html")
    page = Page()
    page.feed(text)
    page.close()
    check(not page.bad and not page.open, f"case {i}: HTML with {page.bad[:3]} {page.open}")
    check(text.startswith("<!DOCTYPE html>") and "default-src 'none'" in text.split("<style>")[0], f"case {i}: no policy")
    outside = re.sub(r"<bdi>.*?</bdi>", "", text, flags=re.S)
    check("//" not in outside and "url(" not in outside and "@import" not in outside, f"case {i}: an address outside the case's words")
    check(text.index("Red flags") < text.index("Symptoms") and "Not for emergencies" in text, f"case {i}: order")
    if i % 4:
        symptoms = case[0][1]["text"]
        check(shown(symptoms).replace("\r", "") in page.text.replace("\r", ""), f"case {i}: the symptoms are not in the page: {symptoms[:50]!r}")


def plain_of(markdown_line):
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown_line)


def check_markdown(i, case):
    text = export(i, "markdown")
    lines = text.split("\n")
    headings = [x for x in lines if x.startswith("#")]
    check(headings[:4] == [f"# Case {i}", "## Red flags", "## Symptoms", "## Possible conditions"], f"case {i}: headings {headings}")
    for line in lines:
        bare = re.sub(r"\\.", "", line)
        check(not re.search(r"[<`\[\]|~]", bare), f"case {i}: unescaped in {line[:80]!r}")
        check(not re.match(r"(> |\d+\. |- |   - \w[\w ]*: )(#|>|[-+*] |\d+[.)] |=+$|-+$)", line), f"case {i}: a block in {line[:80]!r}")
    check(not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text), f"case {i}: control characters")


def check_json(i, case, schema):
    j = json.loads(export(i, "json"))
    try:
        jsonschema.validate(j, schema)
        ok = True
    except jsonschema.ValidationError as e:
        ok = check(False, f"case {i}: against its schema: {e.message[:200]}")
    check(ok and [t["content"] for t in j["turns"]] == [c for _, c in case], f"case {i}: other turns")


def check_text(i):
    p = run("history", "show", i)
    check(p.returncode == 0 and b"Red flags" in p.stdout, f"case {i}: show")


def main():
    cases = fill()
    with open(os.path.join(ROOT, "docs/schema/case.json"), encoding="utf-8") as f:
        schema = json.load(f)
    jsonschema.Draft202012Validator.check_schema(schema)
    for i, case in cases.items():
        check_fhir(i, case)
        check_html(i, case)
        check_markdown(i, case)
        check_json(i, case, schema)
        check_text(i)
    # One that is no JSON to the reader: an error that names the turn, for every format.
    db = sqlite3.connect(DB)
    db.execute("INSERT INTO turns (case_id, seq, kind, time_ms, content) VALUES (1, 99, 'answer', 0, '{\"a\":\"secret')")
    db.execute("UPDATE cases SET n_turns = n_turns + 1 WHERE id = 1")
    db.commit()
    db.close()
    for form in ("fhir", "html", "markdown", "json", "text"):
        p = run("history", "export", 1, "--to", form)
        check(p.returncode == 1 and b"is not JSON" in p.stderr and b"secret" not in p.stderr and not p.stdout, f"a broken turn as {form}: {p.stderr!r}")
    shutil.rmtree(WORK)
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
