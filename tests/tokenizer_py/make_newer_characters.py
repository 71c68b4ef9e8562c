"""Write src/tokenizer/newer_characters.c: characters that Unicode gained after the version PCRE2 10.42 knows (14.0).

Each is mapped to a character of Unicode 14.0 with the same general category and the same number of UTF-8 bytes, inside the
same explicitly written ranges of src/tokenizer/pretokenizers.c, so that every expression treats the two alike.
Usage: make_newer_characters.py > src/tokenizer/newer_characters.c    (Python 3.11, whose unicodedata is 14.0; unicodedata2)
"""
import pathlib
import re
import sys
import unicodedata

import unicodedata2

assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src/tokenizer/pretokenizers.c"


def explicit_ranges():
    text = SOURCE.read_text()
    for m in re.finditer(r"\\x\{([0-9A-F]+)\}(?:-\\\\x\{([0-9A-F]+)\})?", text):
        yield int(m[1], 16), int(m[2] or m[1], 16)


RANGES = sorted(set(explicit_ranges()))


def membership(cp):
    return tuple(a <= cp <= b for a, b in RANGES)


def utf8_len(cp):
    return 1 if cp < 0x80 else 2 if cp < 0x800 else 3 if cp < 0x10000 else 4


def main():
    old = [unicodedata.category(chr(c)) for c in range(0x110000)]
    new = [unicodedata2.category(chr(c)) for c in range(0x110000)]
    known = {}
    for cp, cat in enumerate(old):
        if cat == new[cp] and cat not in ("Cn", "Cs"):
            known.setdefault((cat, utf8_len(cp)), []).append(cp)
    rows = []
    for cp in range(0x110000):
        if old[cp] == new[cp] or new[cp][0] == old[cp][0] == "M":
            continue
        key = (new[cp], utf8_len(cp), membership(cp))
        if rows and rows[-1][1] == cp - 1 and rows[-1][2] == key:
            rows[-1][1] = cp
        else:
            rows.append([cp, cp, key])
    print("/* Made by tests/tokenizer_py/make_newer_characters.py from Unicode %s; PCRE2 10.42 knows 14.0.\n"
          " * Only the category and the length of the last column count. */" % unicodedata2.unidata_version)
    print('#include "tokenizer/neutral.h"\n\nconst newer_characters newer_table[] = {')
    cells = []
    for first, last, (cat, length, member) in rows:
        like = min((c for c in known[(cat, length)] if membership(c) == member), key=lambda c: abs(c - first))
        cells.append("{0x%X, 0x%X, 0x%X}," % (first, last, like))
    for i in range(0, len(cells), 4):
        print("    " + " ".join(cells[i:i + 4]))
    print("};\nconst size_t newer_table_n = sizeof newer_table / sizeof *newer_table;")
    print(len(cells), "rows", file=sys.stderr)


main()
