"""What a check must know of a program that runs before it acts: how long it takes to get there depends on what else the machine does."""
import fcntl
import os
import signal
import struct
import termios
import time


def until(fn, seconds=60.0):
    """Whether fn() becomes true in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if fn():
            return True
        time.sleep(0.01)
    return bool(fn())


def catches(p, sig=signal.SIGINT):
    """Whether the process has a handler for a signal: before, it would be killed by it."""
    with open(f"/proc/{p.pid}/status", encoding="utf-8") as f:
        caught = next(int(line.split()[1], 16) for line in f if line.startswith("SigCgt:"))
    return bool(caught >> (sig - 1) & 1)


def has_read(pipe):
    """Whether all that was written into a pipe has been read."""
    return struct.unpack("i", fcntl.ioctl(pipe.fileno(), termios.FIONREAD, b"\0" * 4))[0] == 0


def cpu_s(p):
    """Seconds of the processor that a process has had, all its threads."""
    with open(f"/proc/{p.pid}/stat", encoding="utf-8", errors="replace") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
