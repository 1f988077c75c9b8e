"""Small Linux guests: scripts/guest-image.sh makes them, its init says what they do (see scripts/guest/init)."""

import os
import re
import select
import socket
import subprocess
import time

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


class Image:
    """Kernel and initrd of one architecture, readable by everybody."""

    def __init__(self, directory, arch="amd64"):
        subprocess.run([os.path.join(SOURCE, "scripts", "guest-image.sh"), "--arch", arch, directory], check=True)
        self.kernel = os.path.join(directory, arch, "vmlinuz")
        self.initrd = os.path.join(directory, arch, "initrd.gz")

    def extra(self, run=None, end=None, console="ttyS0", **more):
        """createDomain's extra for a guest that runs a shell command, then ends (poweroff, reboot, halt, panic)."""
        words = [f"console={console}", "quiet"]
        if run:
            words.append("dm.run=" + "".join(c if c.isalnum() and c.isascii() else "".join(f"%{b:02x}" for b in
                                                                                          c.encode()) for c in run))
        if end:
            words.append(f"dm.end={end}")
        return {"kernel": self.kernel, "initrd": self.initrd, "cmdline": " ".join(words), **more}


class Console:
    """The socket that Domain.OpenConsole gives. Reads until something is there, with a deadline."""

    def __init__(self, fd):
        self.socket = socket.socket(fileno=fd)
        self.text = ""
        self.ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read(self, timeout):
        """What comes next, at most timeout seconds from now; "" for nothing."""
        if self.ended or not select.select([self.socket], [], [], timeout)[0]:
            return ""
        data = self.socket.recv(65536)
        self.ended = not data
        text = data.decode(errors="replace")
        self.text += text
        return text

    def expect(self, pattern, timeout=60):
        """The match of a regular expression in all that has come so far; waits for it."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.text, re.MULTILINE)
            if match:
                return match
            left = deadline - time.monotonic()
            if left <= 0 or self.ended:
                why = "the console has ended" if self.ended else "time is up"
                raise AssertionError(f"{why} before {pattern!r}; it said:\n{self.text[-3000:]}")
            self.read(left)

    def send(self, text):
        self.socket.sendall(text.encode())


def read_all(fd):
    """The text of a descriptor that an answer gave; closes it."""
    with os.fdopen(fd, "rb") as f:
        return f.read().decode(errors="replace")


# A guest that serves the test: it runs the lines that come over its console, one after the other.
SERVE = ('exec 3</dev/console; stty -echo <&3; echo DM-SERVES; while read -r n line <&3; do '
         'eval "$line" </dev/null 2>&1; echo DM-DID $n $?; done')


class Guest:
    """A running domain with SERVE on its command line, seen by its owner."""

    def __init__(self, who, name):
        self.who = who
        self.name = name
        self.console = Console(who.domain(name, "OpenConsole"))
        self.host = self.address = None
        self._count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.console.socket.close()

    def ready(self, timeout=120):
        """Booted: its host name and address are what it got. Also after it has booted again."""
        self.host, self.address = self.console.expect(r"^DM-READY (\S+) (\S+)\s", timeout).groups()
        self.console.expect(r"^DM-SERVES\r\n", 20)
        self.console.text = ""
        return self

    def begin(self, command):
        """Let it start on a command, one line of shell; finish() gives the result."""
        self._count += 1
        self.console.text = ""
        self.console.send(f"{self._count} {command}\n")

    def finish(self, timeout=30):
        """(exit status, output) of the command that was begun."""
        match = self.console.expect(rf"DM-DID {self._count} (\d+)\r?\n", timeout)
        return int(match[1]), self.console.text[:match.start()].replace("\r", "")

    def try_(self, command, timeout=30):
        self.begin(command)
        return self.finish(timeout)

    def run(self, command, timeout=30):
        """The output of a command that has to succeed."""
        status, output = self.try_(command, timeout)
        assert status == 0, f"{self.name}: {command}: status {status}\n{output}"
        return output
