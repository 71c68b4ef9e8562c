#!/usr/bin/env python3
"""The checkers checked: each rule of tools/check-deps must fire on a breach and stay silent without one, and tests/run must count
what a program says, also when it says nothing. Needs no module beyond Python's own."""
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True

LONG = "int f(void)\n{\n" + "    g();\n" * 121 + "}\n"
DEPS = [  # file, text, a part of the message ("" = no breach), why
    ("src/base/a.c", '#include "base/error.h"\nint f(void) {\n    return 1;\n}\n', "", "own module"),
    ("src/base/a.c", '#include "gguf/gguf.h"\n', "base may not include gguf", "upwards"),
    ("src/cli/a.c", '#include "gguf/gguf.h"\n', "cli may not include gguf", "past the public header"),
    ("src/cli/a.c", '#include "galen/assist.h"\nint f(void) {\n    return printf("x");\n}\n', "", "the CLI prints"),
    ("src/assist/a.c", '#include "runtime/x.h"\n', "assist may not include runtime", "past the public header"),
    ("src/backend/cpu/a.c", '#include "backend/cuda/x.h"\n', "may not include backend/cuda", "one backend in another"),
    ("src/gguf/a.c", "void f(void) {\n    printf(\"x\");\n}\n", "never prints", "output in the library"),
    ("src/gguf/a.c", "void f(void) {\n    abort();\n}\n", "never prints", "abort in the library"),
    ("src/gguf/a.c", "/* printf(abort) */\nconst char *s = \"exit(1)\";\nvoid f(void) {\n    snprintf(a, 1, \"x\");\n}\n", "",
     "words in comments and strings"),
    ("src/gguf/a.c", "GALEN_API int f(void);\n", "include/galen only", "an export elsewhere"),
    ("src/assist/a.c", 'const char *q = "SELECT x FROM y";\n', "src/store", "SQL outside store"),
    ("src/store/a.c", 'const char *q = "SELECT x FROM y";\n', "", "SQL in store"),
    ("src/model/a.c", "#include <pcre2.h>\n", "only tokenizer may", "a library where it does not belong"),
    ("src/base/a.c", LONG, "f has 123 lines", "a long function"),
    ("src/base/a.c", "int f(void) {\n" + "    g();\n" * 121 + "}\n", "f has 123 lines", "a long function, brace on its line"),
    ("src/base/a.c", "static const int x[] = {\n" + "    1,\n" * 200 + "};\n", "", "a long table is no function"),
    ("src/base/a.c", "int x;\n" * 1501, "1501 lines", "a long file"),
    ("src/new/a.c", "int x;\n", "no row for", "an unknown module"),
    ("docs/a.md", "see " + "/wor" + "k/main\n", "a path of one machine", "a developer's path"),
]
COUNTS = [  # output, rc, passed, failed, why
    ("[==========] Running 2 test(s).\n[       OK ] a\n[       OK ] b\n", 0, 2, 0, "cmocka, all passed"),
    ("[==========] Running 3 test(s).\n[       OK ] a\n", 139, 1, 2, "cmocka, died in the second"),
    ("[==========] Running 2 test(s).\n[       OK ] a\n[  FAILED  ] b\n[  FAILED  ] b\n", 1, 1, 1, "cmocka names a failure twice"),
    ("[==========] Running 1 test(s).\n[       OK ] a\n[==========] Running 1 test(s).\n[       OK ] b\n", 0, 2, 0, "two groups"),
    ("x\n12 passed, 0 failed\n", 0, 12, 0, "a tool's line"),
    ("12 passed, 0 failed\n", 1, 12, 1, "a bad end beside a good line"),
    ("12 passed, 3 failed\n", 1, 12, 3, "failures counted once"),
    ("", 0, 0, 1, "silence is a failure"),
    ("[==========] Running 1 test(s).\n[       OK ] a\n==1==ERROR: LeakSanitizer\n", 23, 1, 1, "a leak after the last test"),
    ("SKIP: no data\n", 0, 0, 0, "a skip is said, not counted"),
]


def breaches(path, text):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        for name, content in (("src/base/ok.c", "int ok;\n"), (path, text)):
            full = os.path.join(folder, name)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as f:
                f.write(content)
        p = subprocess.run([sys.executable, os.path.join(ROOT, "tools/check-deps"), folder], capture_output=True, text=True)
        return p.returncode, p.stdout


def main():
    passed = failed = 0
    for path, text, part, why in DEPS:
        rc, out = breaches(path, text)
        good = (rc == 1 and part in out) if part else rc == 0
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"check-deps: {why}: {path}: ended with {rc}:\n{out}")
    loader = importlib.machinery.SourceFileLoader("runner", os.path.join(ROOT, "tests/run"))
    runner = importlib.util.module_from_spec(importlib.util.spec_from_loader("runner", loader))
    loader.exec_module(runner)
    for out, rc, n_passed, n_failed, why in COUNTS:
        t = runner.count(out, rc)
        good = (t.passed, t.failed) == (n_passed, n_failed)
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"tests/run: {why}: counted {t.passed} and {t.failed}, not {n_passed} and {n_failed}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
