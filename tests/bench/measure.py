"""Small instruments: samples and their median, the memory of processes, a child that answers line by line."""

import os
import statistics
import subprocess
import time

REST_SECONDS, RISING_KIB = 15, 1024


class Failed(Exception):
    """What was to be measured did not work; the text says what and why."""


class Samples(list):
    """Milliseconds, or KiB."""

    @property
    def median(self):
        return statistics.median(self) if self else None

    def quantile(self, q):
        return sorted(self)[min(len(self) - 1, int(q * len(self)))] if self else None

    def summary(self):
        if not self:
            return {"n": 0}
        return {"n": len(self), "median": self.median, "min": min(self), "p90": self.quantile(0.9), "max": max(self)}


def memory(pid):
    """Resident and proportional memory of a process, in KiB."""
    found = {}
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            key, *rest = line.split()
            if key in ("Rss:", "Pss:"):
                found[key] = int(rest[0])
    return found["Rss:"], found["Pss:"]


def available():
    """What the kernel has left to give, in KiB: shows what it needs itself, too."""
    with open("/proc/meminfo") as meminfo:
        return next(int(line.split()[1]) for line in meminfo if line.startswith("MemAvailable:"))


def available_at_rest():
    """The same once it rises no more, or hardly: what has been destroyed the kernel takes apart in the background. A host
    that gives back more and more for other reasons is not waited for."""
    before, now, end = 0, available(), time.monotonic() + REST_SECONDS
    while now >= before + RISING_KIB and time.monotonic() < end:
        time.sleep(1)
        before, now = now, available()
    return now


def pss(pids):
    """Of them together; one that has just ended counts for nothing."""
    total = 0
    for pid in pids:
        try:
            total += memory(pid)[1]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def processes(program):
    """The pids of those that run a program of this name (of its file, not of its command line)."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")).split(" ")[0] == program:
                found.append(int(pid))
        except OSError:
            pass
    return found


class Asked:
    """A child that answers each line with a line: "ok WORD...", "error TEXT", words between tabs."""

    def __init__(self, command, **options):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)

    def ask(self, *words):
        self.child.stdin.write("\t".join(map(str, words)) + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().rstrip("\n").split("\t")
        if answer[0] != "ok":
            raise Failed(f"{words[0]}: {' '.join(answer[1:]) or 'no answer'}")
        return answer[1:]

    def stop(self):
        self.child.stdin.close()
        self.child.wait()
