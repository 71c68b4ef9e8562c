"""What a check script counts: `T = Tally()`, `T.check(ok, "what must hold")`, and at the end `sys.exit(T.end())`."""


class Tally:
    def __init__(self, most=200):
        """most: failures that are told one by one."""
        self.passed = self.failed = 0
        self.most = most

    def check(self, ok, what, detail=""):
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok)
        if not ok and self.failed <= self.most:
            print("FAILED", what + f": {str(detail)[:600]}" if detail != "" else what, flush=True)
        return bool(ok)

    def named(self, what, ok, detail=""):
        """The same, what comes first."""
        return self.check(ok, what, detail)

    def end(self):
        """The last line, and the exit code: nothing checked is a failure."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0
