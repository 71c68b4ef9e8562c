"""Seconds from the start of a process to its first byte of output and to its end, and its memory at the first byte.

    first_token.py galen complete MODEL -n 1 -p "The patient"
"""
import os
import subprocess
import sys
import time


def main(command):
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    out = process.stdout.fileno()
    first = os.read(out, 1)
    at_first = time.monotonic()
    kib = {}
    if first:
        with open(f"/proc/{process.pid}/status") as status:
            kib = {line.split(":")[0]: int(line.split()[1]) for line in status if line.startswith(("VmRSS", "RssAnon", "RssFile"))}
    while os.read(out, 65536):
        pass
    code = process.wait()
    print(f"first byte {at_first - start:.3f} s, end {time.monotonic() - start:.3f} s, KiB {kib}", file=sys.stderr)
    return code if first else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
