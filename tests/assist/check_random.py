#!/usr/bin/env python3
"""Answers from random weights at temperature 2 (tests/assist/test_random.c), judged from outside: each against the published
schema, five names that no reader would take for the same, codes that stand in the official table, quotes that are the user's own
words, a sum of 1. GALEN_RANDOM_RUNS: how many; GALEN_BUILD the build folder. Ends with 'N passed, N failed'."""
import json
import os
import subprocess
import sys
import tempfile
import unicodedata

import jsonschema
import referencing

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/assist"))
from check_codes import read_codes, table_file  # noqa: E402

BUILD = os.environ.get("GALEN_BUILD", os.path.join(ROOT, "build"))


def validator():
    with open(os.path.join(ROOT, "docs/schema/turns.json"), encoding="utf-8") as f:
        turns = json.load(f)
    registry = referencing.Registry().with_resources([("turns.json", referencing.Resource.from_contents(turns))])
    return jsonschema.Draft202012Validator({"$ref": "turns.json#/$defs/differential"}, registry=registry)


def seen(name):
    """The words of a name as a reader sees them: case, accents, invisible characters and order do not count; the vowel signs of
    Indian scripts do."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(c for c in text if not (unicodedata.category(c) in ("Cf", "Cc") or (unicodedata.category(c) == "Mn" and ord(c) < 0x700)))
    return tuple(sorted(set("".join(c if c.isalnum() or unicodedata.category(c)[0] in "MC" else " " for c in text).split())))


def is_letter(c):
    """A letter, or what stands in a block of letters: a model that writes single bytes meets characters that Unicode has not given
    out, and vowel signs without their letter."""
    return c.isalpha() or unicodedata.category(c) in ("Cn", "Mc", "Mn", "Me", "Nl", "No", "Po", "So", "Lm") and ord(c) >= 0x370


def faults(line, schema, table):
    """What is wrong with an answer; empty when nothing is."""
    answer = json.loads(line)
    d, text = answer["differential"], answer["text"].encode()
    wrong = [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in schema.iter_errors(d)]
    names = [c["name"] for c in d["conditions"]]
    if len({seen(n) for n in names}) != 5:
        wrong.append(f"two look alike: {names}")
    wrong += [f"not printable: {n!r}" for n in names for c in n if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\u200c\u200d"]
    wrong += [f"nothing to read: {n!r}" for n in names if not any(is_letter(c) for c in n) or "\ufffd" in n]
    confidence = [c["confidence"] for c in d["conditions"]]
    if confidence != sorted(confidence, reverse=True) or abs(sum(confidence) + d["other"] - 1) > 1e-6:
        wrong.append(f"confidences {confidence} and {d['other']}")
    codes = [c for c in d["conditions"] if c["code"] is not None]
    wrong += [f"code {c['code']} {c['code_title']!r} is not in the table" for c in codes if table.get(c["code"]) != c["code_title"]]
    if len({c["code"] for c in codes}) != len(codes):
        wrong.append(f"a code twice: {[c['code'] for c in codes]}")
    # Text that was no UTF-8 has U+FFFD in the JSON; the offsets are of the bytes as they came.
    if "\ufffd" not in answer["text"]:
        quotes = [q for c in d["conditions"] for q in c["support"] + c["against"]]
        wrong += [f"quote {q}" for q in quotes if text[q["from"]:q["to"]].decode() != q["quote"]]
    return wrong, len(codes)


def main():
    path = table_file()
    table = read_codes(path) if path else {}
    env = {**os.environ, **({"GALEN_SHARE": os.path.dirname(path)} if path else {})}
    with tempfile.TemporaryDirectory(prefix="galen-random-") as folder:
        env["GALEN_RANDOM_OUT"] = os.path.join(folder, "answers.jsonl")
        p = subprocess.run([os.path.join(BUILD, "tests/assist/test_random")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        print(p.stdout.decode("utf-8", "replace"), end="")
        if p.returncode:
            print("0 passed, 1 failed")
            return 1
        schema, passed, failed, coded = validator(), 0, 0, 0
        for line in open(env["GALEN_RANDOM_OUT"], encoding="utf-8"):
            wrong, n = faults(line, schema, table)
            coded += n
            passed += not wrong
            failed += bool(wrong)
            if wrong and failed <= 20:
                print(f"FAILED model {json.loads(line)['model']} seed {json.loads(line)['differential']['seed']}: {wrong[:3]}")
    print(f"{coded} names with a code, each in the table")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
