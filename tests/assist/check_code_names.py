#!/usr/bin/env python3
"""ICD-10-CM lookup against names as a language model writes them in a differential: code_names.txt and code_names_*.txt.

A line is `name | prefixes of the codes that are right`; `-`: nothing names a condition, so no match is right. Counted: the three-character
category is right, is wrong, or nothing is found; and the whole code is one of those given. A wrong category is what may not happen, so its
bar is the strict one. Each list was written before the lookup saw it; docs/triage.md has what it gave at first sight.
`check_code_names.py -v` lists what is not right. Ends with 'N passed, N failed'."""
import os
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_codes  # noqa: E402
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
# List, half by the CRC of the name (None: the whole list), least share of right categories, most share of wrong ones.
SETS = [("code_names.txt", 0, 0.97, 0.01), ("code_names.txt", 1, 0.97, 0.01), ("code_names_fresh.txt", None, 0.97, 0.01),
        ("code_names_third.txt", None, 0.93, 0.01), ("code_names_fourth.txt", None, 0.95, 0.01),
        ("code_names_cases.txt", None, 0.90, 0.01)]


def read_names(path):
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if line and not line.startswith("#"):
            name, codes = line.rsplit("|", 1)
            yield name.strip(), codes.split()


def judge(code, gold):
    """right, inexact (the category is right, the code says something else), wrong or none."""
    if gold == ["-"]:
        return "wrong" if code else "right"
    if not code:
        return "none"
    if code[:3] not in {g[:3] for g in gold}:
        return "wrong"
    return "right" if any(code.startswith(g) for g in gold) else "inexact"


def main():
    path = check_codes.table_file()
    if not path:
        return 0
    table, official = check_codes.Table(path), check_codes.read_codes(path)
    t = Tally()
    for file, half, least, most in SETS:
        names = [(n, g) for n, g in read_names(os.path.join(HERE, file)) if half is None or zlib.crc32(n.encode()) & 1 == half]
        counts = {"right": 0, "inexact": 0, "wrong": 0, "none": 0}
        for name, gold in names:
            for g in gold:
                t.named(f"{file}: {name}: {g} is not in the table", g == "-" or any(c.startswith(g) for c in official))
            code, title, score = table.find(name)
            verdict = judge(code, gold)
            counts[verdict] += 1
            t.named(f"{name}: {code} is not in the table", not code or official.get(code) == title)
            if verdict != "right" and "-v" in sys.argv:
                print(f"  {verdict}: {name}: {code or 'no match'} {title} ({score:.2f}), expected {' '.join(gold)}")
        n, n_right = len(names), counts["right"] + counts["inexact"]
        what = f"{file}{'' if half is None else f', half {half + 1}'}"
        print(f"{what}: {n} names: category right {n_right} ({n_right / n:.1%}), wrong {counts['wrong']} ({counts['wrong'] / n:.1%}), "
              f"no match {counts['none']} ({counts['none'] / n:.1%}); the code itself right {counts['right']} ({counts['right'] / n:.1%})")
        t.named(f"{what}: right categories >= {least:.0%}", n_right >= least * n)
        t.named(f"{what}: wrong categories <= {most:.0%}", counts["wrong"] <= most * n)
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
